"""What the verbs print: whole though nobody reads on, readable by programs, and loud about what would be blocked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ruamel.yaml import YAML

from podfence.__main__ import run
from podfence.output import command, data
from tests.generator.worlds import world
from tests.recordings import Story

DENY_ALL = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a folder with a recording of one connection, and a policy that denies all."""
    story = Story()
    story.workload("shop/deployment/web")
    story.workload("shop/deployment/db", ports=[5432])
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    story.write(tmp_path / "recording")
    (tmp_path / "policy.yaml").write_text(DENY_ALL)
    return tmp_path


def program(place: Path, *words: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start the program."""
    return subprocess.Popen(
        [sys.executable, "-m", "podfence", *words],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment,
    )


@pytest.mark.parametrize(("fail_on", "code"), [("denied", 1), ("never", 0)])
def test_a_reader_that_went_away_does_not_change_the_verdict(place: Path, fail_on: str, code: int) -> None:
    """Piped to `head`, the exit code still says what was found, and stderr how it ended."""
    with program(place, "replay", "recording", "--policies", "policy.yaml", "--fail-on", fail_on) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        told = started.stderr.read().decode()
    assert (started.returncode, "1 policy over 1 edge" in told) == (code, True)


def test_help_that_nobody_reads_to_the_end_is_no_finding(place: Path) -> None:
    """Piped to `head`, help exits as it does without."""
    with program(place, "--help") as started:
        assert started.stdout is not None
        started.stdout.close()
        started.wait()
    assert started.returncode == 0


def test_letters_that_the_terminal_lacks_are_no_error(place: Path) -> None:
    """A stream that cannot show a letter gets its escape instead."""
    subprocess.run(["git", "init", "-q", "repo"], cwd=place, check=True)
    (place / "policies").mkdir()
    (place / "policy.yaml").rename(place / "policies" / "p.yaml")
    with program(place, "propose", "--policies", "policies", "--repo", "repo", PYTHONIOENCODING="latin-1") as started:
        out, told = started.communicate()
    assert (started.returncode, b"\\u2212" in out) == (0, True), told


def test_commands_that_are_named_can_be_copied() -> None:
    """A path with blanks is quoted."""
    assert command("podfence", "learn", "a b", "--out", "c") == "podfence learn 'a b' --out c"


def test_yaml_keeps_texts_texts(capsys: pytest.CaptureFixture[str]) -> None:
    """No reader of either version of YAML takes a text for a number or a truth value."""
    value = {
        "selector": {"a": "1e3", "b": "on", "c": "0x1F", "d": "1_000", "y": "~"},
        "bound": 1e-05,
        "share": 0.5,
        "none": None,
    }
    data(value, "yaml")
    text = capsys.readouterr().out
    assert yaml.safe_load(text) == value
    assert YAML(typ="safe").load(text) == value


def test_accepted_patterns_that_would_be_blocked_are_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Generate ends with how many accepted patterns its policies would block, and each of them."""
    web, db = "shop/deployment/web", "shop/deployment/db"
    one = world(
        {web: {"labels": {"app": "web"}}, db: {"labels": {"app": "db"}}},
        [f"accept {web} -> {db} tcp/5432", f"accept {web} -> apiserver tcp/443", f"accept node/n -> {db} tcp/5432"],
    )
    one.learned.write(tmp_path / "learned")
    assert run(["generate", str(tmp_path / "learned"), "--out", str(tmp_path / "policies")]) == 0
    told = capsys.readouterr().err
    assert "WOULD BE BLOCKED: 2 accepted patterns" in told
    assert f"  {web} -> apiserver tcp/443: egress" in told


def test_what_is_allowed_beyond_the_evidence_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Generate names each prefix that it allows as a whole."""
    web = "shop/deployment/web"
    one = world({web: {"labels": {"app": "web"}}}, [f"accept {web} -> 203.0.113.0/24 tcp/443"])
    one.learned.write(tmp_path / "learned")
    assert run(["generate", str(tmp_path / "learned"), "--out", str(tmp_path / "policies")]) == 0
    assert f"beyond what was seen: {web} egress 203.0.113.0/24" in capsys.readouterr().err
