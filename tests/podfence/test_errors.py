"""Bad input: one line that says what and where, exit code 2, and nothing half-written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from podfence.__main__ import run
from recorder import import_pcap

SHOP = Path(__file__).parents[2] / "examples" / "shop"
NODE_1, EVENTS = SHOP / "node-1.pcap", SHOP / "events.jsonl"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a recording of the shop."""
    place = tmp_path_factory.mktemp("errors") / "recording"
    import_pcap([NODE_1], inventory=EVENTS, out=place, window=10)
    return place


def told(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Return the one line that a failing command prints."""
    code = run([str(word) for word in words])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("podfence: ")
    return lines[0]


def import_of(capsys: pytest.CaptureFixture[str], out: Path, *files: Path, inventory: Path = EVENTS) -> str:
    """Return what a failing import prints, after checking that it left nothing."""
    line = told(capsys, "import", "pcap", *files, "--inventory", inventory, "--out", out)
    assert not out.exists()
    return line


def test_a_missing_capture_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path is in the line."""
    assert "nowhere.pcap" in import_of(capsys, tmp_path / "out", tmp_path / "nowhere.pcap")


def test_a_file_that_is_no_capture_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text file is told from a capture."""
    assert "events.jsonl: " in import_of(capsys, tmp_path / "out", EVENTS)


def test_a_truncated_capture_is_refused_with_the_offset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file cut off in the middle of a packet says at which byte, though whole files came before it."""
    cut = tmp_path / "cut.pcap"
    cut.write_bytes((SHOP / "node-2.pcap").read_bytes()[:-5])
    line = import_of(capsys, tmp_path / "out", NODE_1, cut)
    assert "cut.pcap" in line
    assert any(word.strip(",:;").isdigit() for word in line.split())


def test_an_inventory_without_kubernetes_objects_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """YAML that holds something else is not an empty cluster."""
    other = tmp_path / "other.yaml"
    other.write_text("hello: world\n")
    assert "other.yaml" in import_of(capsys, tmp_path / "out", NODE_1, inventory=other)


def test_a_missing_inventory_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path is in the line."""
    assert "gone.yaml" in import_of(capsys, tmp_path / "out", NODE_1, inventory=tmp_path / "gone.yaml")


def test_a_failed_import_leaves_an_older_recording_as_it_was(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is added when a later file cannot be read."""
    place = tmp_path / "recording"
    shutil.copytree(shop, place)
    before = sorted(place.rglob("*"))
    told(
        capsys, "import", "pcap", SHOP / "node-2.pcap", EVENTS, "--inventory", EVENTS, "--out", place, "--window", "10s"
    )
    assert sorted(place.rglob("*")) == before


def test_a_recording_of_another_cluster_is_not_added_to(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One recording is one cluster."""
    line = told(
        capsys,
        *("import", "pcap", SHOP / "node-2.pcap", "--inventory", EVENTS, "--out", shop, "--cluster", "other"),
    )
    assert "'other'" in line


def test_the_same_import_twice_adds_nothing(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names hold a digest of the content."""
    before = {file: file.read_bytes() for file in shop.rglob("*.parquet")}
    assert run(["import", "pcap", str(NODE_1), "--inventory", str(EVENTS), "--out", str(shop), "--window", "10s"]) == 0
    assert "nothing added" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in shop.rglob("*.parquet")} == before


def test_a_file_given_twice_is_added_once(shop: Path, tmp_path: Path) -> None:
    """Tables of equal content are one file, also within one import."""
    import_pcap([NODE_1, NODE_1], inventory=EVENTS, out=tmp_path, window=10)
    names = [{file.relative_to(place) for file in place.rglob("*") if file.is_file()} for place in (shop, tmp_path)]
    assert names[0] == names[1]


def test_a_node_that_the_inventory_lacks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip in its name would otherwise make a recording of nothing that vouches for silence."""
    line = told(
        capsys, *("import", "pcap", NODE_1, "--inventory", EVENTS, "--out", tmp_path / "out", "--node", "node-11")
    )
    assert "'node-11'" in line
    assert not (tmp_path / "out").exists()


def test_a_capture_that_spans_decades_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One packet of 1970 is not filled up with windows until today."""
    whole = NODE_1.read_bytes()
    odd = tmp_path / "odd.pcap"
    odd.write_bytes(whole + bytes(4) + whole[28 : 40 + int.from_bytes(whole[32:36], "little")])
    line = import_of(capsys, tmp_path / "out", odd)
    assert f"{odd}: " in line
    assert "1970-01-01" in line


@pytest.mark.parametrize("verb", [("learn", "--out", "new"), ("replay", "--policies", str(SHOP))])
def test_a_recording_of_a_newer_schema_is_refused(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: tuple[str, ...]
) -> None:
    """A later version's file is not read as if it were ours."""
    place = tmp_path / "recording"
    shutil.copytree(shop, place)
    file = next((place / "flows").rglob("*.parquet"))
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.replace_schema_metadata({"schema_version": "99"}), file)
    os.chdir(tmp_path)
    assert "schema version 99" in told(capsys, verb[0], place, *verb[1:])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["missing", "no recording", "no flows"])
def test_an_empty_recording_is_refused(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Nothing to learn from is an error, not an empty result."""
    place = tmp_path / "recording"
    if kind == "no flows":
        shutil.copytree(shop, place)
        shutil.rmtree(place / "flows")
    elif kind == "no recording":
        place.mkdir()
    assert str(place) in told(capsys, "learn", place, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_learn_and_generate_refuse_a_folder_that_holds_something(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody's files are mixed with ours or overwritten."""
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").touch()
    assert "not an empty folder" in told(capsys, "learn", shop, "--out", full)
    learned = tmp_path / "learned"
    assert run(["learn", str(shop), "--out", str(learned), "-o", "json"]) == 0
    capsys.readouterr()
    assert "not an empty folder" in told(capsys, "generate", learned, "--out", full)
    assert [file.name for file in full.iterdir()] == ["mine"]


def test_an_unknown_entry_of_decisions_is_named_with_its_line(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A decision about nothing that was seen is a mistake somebody wants to know of."""
    file = tmp_path / "decisions.yaml"
    file.write_text(
        "# ours\n- {source: shop/deployment/nobody, destination: shop/deployment/cart, protocol: tcp, port: 1,\n"
        "   decision: accept, by: maria}\n"
    )
    line = told(capsys, "learn", shop, "--out", tmp_path / "out", "--decisions", file)
    assert f"{file}:2" in line or "line 2" in line
    assert not (tmp_path / "out").exists()


def test_live_capture_without_the_right_says_what_it_takes(tmp_path: Path) -> None:
    """CAP_NET_RAW is named; no recording is begun."""
    words = [sys.executable, "-m", "podfence", "record", "--out", str(tmp_path / "out"), "--identity", str(EVENTS)]
    command = [*words, "--node", "node-1", "--duration", "1s"]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv: apt-get install util-linux")
        command = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "CAP_NET_RAW" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("learn",), "Missing argument 'RECORDING'"),
        (("lern",), "No such command 'lern'"),
        (("generate", "nowhere", "--out", "x"), "nowhere"),
        (("generate", "nowhere", "--out", "x", "--target", "istio"), "istio"),
        (("replay", "nowhere", "--policies", "x"), "nowhere"),
        (("record", "--out", "x", "--identity", str(EVENTS), "--window", "7s"), "divide an hour"),
        (("record", "--out", "x", "--identity", str(EVENTS), "--window", "soon"), "'soon'"),
        (("record", "--out", "x", "--identity", str(EVENTS), "--window", "1.5s"), "1.5 s"),
        (("import", "pcap", str(NODE_1), "--inventory", str(EVENTS), "--out", "x", "--window", "1.5s"), "1.5 s"),
        (("record", "--out", "x", "--identity", str(EVENTS), "--node", "node-9"), "node-9"),
        (("propose", "--policies", "nowhere", "--repo", "."), "nowhere"),
    ],
)
def test_wrong_words_get_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    expected: str,
) -> None:
    """Usage errors too, without a page of help."""
    monkeypatch.chdir(tmp_path)
    assert expected in told(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """For those who report a fault."""
    assert run(["--debug", "learn", "nowhere", "--out", "x"]) == 2
    assert "Traceback" in capsys.readouterr().err
