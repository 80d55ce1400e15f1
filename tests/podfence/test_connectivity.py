"""`podfence connectivity`: a row for each two ends, JSON as its schema says, one source of the cluster's objects."""

from pathlib import Path

import pytest

from deploy.connectivity import Allowed
from deploy.reports.pairs import pairs
from podfence.__main__ import run
from tests.podfence.expected import CASES, conforms, expect
from tests.recordings import Story


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run beside the cases, so that files have short names."""
    monkeypatch.chdir(CASES)


@pytest.mark.parametrize(("form", "ending"), [("table", "txt"), ("markdown", "md"), ("json", "json"), ("yaml", "yaml")])
def test_every_allowed_connection_is_listed(capsys: pytest.CaptureFixture[str], form: str, ending: str) -> None:
    """Ranges outside are one row with what they lack, what only some pods may says so, and doubt has a column of its own."""
    assert run(["connectivity", "--policies", "new", "--inventory", "inventory.yaml", "-o", form]) == 0
    captured = capsys.readouterr()
    expect(f"connectivity.{ending}", captured.out)
    assert captured.err.splitlines()[-1].startswith("next: podfence evaluate --policies new --inventory inventory.yaml")
    if form == "json":
        conforms("connectivity", captured.out)


def test_pods_can_be_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """With `--by pod` ends are pods, and nothing is partial."""
    words = ["--policies", "new", "--inventory", "inventory.yaml", "--by", "pod", "--profile", "calico", "-o", "json"]
    assert run(["connectivity", *words]) == 0
    found = conforms("connectivity", capsys.readouterr().out)
    inside = [
        (one["source"], one["destination"], one["partial"]) for one in found["connections"] if one["ports"] == "5432"
    ]
    assert inside == [("ops/toolbox", "shop/db-0", False), ("shop/web-1", "shop/db-0", False)]


def test_a_recording_stands_in_for_the_inventory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The cluster at the end of a recording is asked about in the same words."""
    story = Story()
    story.workload("shop/deployment/web", labels={"app": "web"})
    story.workload("shop/deployment/db", labels={"app": "db"}, ports=[("pg", 5432)])
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    place = str(story.write(tmp_path / "recording"))
    assert run(["connectivity", "--policies", "old", "--recording", place, "--profile", "calico"]) == 0
    captured = capsys.readouterr()
    assert "shop/deployment/web            shop/deployment/db    tcp 5432" in captured.out
    assert f"--recording {place}" in captured.err


def test_policies_are_read_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-` is what another program writes."""
    import io
    import sys

    text = Path("old/policies.yaml").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert run(["connectivity", "--policies", "-", "--inventory", "inventory.yaml", "--profile", "calico"]) == 0
    assert "shop/statefulset/web           shop/statefulset/db" in capsys.readouterr().out


@pytest.mark.parametrize("given", [[], ["--inventory", "inventory.yaml", "--recording", "x"]])
@pytest.mark.parametrize(
    "verb",
    [
        ["connectivity", "--policies", "old"],
        ["diff", "old", "new"],
        ["evaluate", "--policies", "old", "--from", "a", "--to", "b", "--port", "1"],
        ["explain", "--policies", "old", "--from", "a", "--to", "b", "--port", "1"],
    ],
)
def test_the_cluster_has_one_source(capsys: pytest.CaptureFixture[str], verb: list[str], given: list[str]) -> None:
    """Both of inventory and recording, or neither, is a usage error in one line."""
    assert run([*verb, *given]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("podfence: give --inventory PATH or --recording URI")
    assert len(captured.err.splitlines()) == 1


def test_each_broken_rule_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with policies is told all at once, each with file and line, and nothing is judged."""
    (tmp_path / "bad.yaml").write_text(
        Path("old/policies.yaml").read_text().replace("app: web", "app: -").replace("8080", "0")
    )
    assert run(["connectivity", "--policies", str(tmp_path), "--inventory", "inventory.yaml"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) > 1
    assert all(line.startswith(f"podfence: {tmp_path}/bad.yaml:") for line in lines)


def test_protocols_with_the_same_ports_share_a_text() -> None:
    """All five protocols whole are `all`; what only some pods may is marked."""
    told = [Allowed("a", "b", protocol, "all", partial=False) for protocol in ("tcp", "udp", "sctp", "icmp", "icmpv6")]
    told += [Allowed("a", "c", "udp", "53", partial=False), Allowed("a", "c", "tcp", "53", partial=False)]
    told += [Allowed("a", "d", "tcp", "80,443", partial=True)]
    assert [(row.destination, row.allowed) for row in pairs(told)] == [
        ("b", "all"),
        ("c", "tcp+udp 53"),
        ("d", "tcp 80,443 (some pods)"),
    ]


@pytest.mark.parametrize(
    ("prefixes", "shown"),
    [
        (["10.0.0.0/9", "10.128.0.0/10", "10.192.0.0/11"], ["10.0.0.0/8 except 10.224.0.0/11"]),
        (["0.0.0.0/1", "128.0.0.0/1"], ["0.0.0.0/0"]),
        (["198.51.100.7/32", "203.0.113.0/24"], ["198.51.100.7/32", "203.0.113.0/24"]),
        (["2001:db8::/33", "2001:db8:8000::/34", "2001:db8:c000::/35"], ["2001:db8::/32 except 2001:db8:e000::/35"]),
    ],
)
def test_prefixes_that_fare_alike_are_told_by_what_they_lack_where_that_is_shorter(
    prefixes: list[str], shown: list[str]
) -> None:
    """A complement of few prefixes reads as the whole without them; single addresses stay themselves."""
    for told in (
        [Allowed("shop/web", prefix, "tcp", "443", partial=False) for prefix in prefixes],
        [Allowed(prefix, "shop/web", "tcp", "443", partial=False) for prefix in prefixes],
    ):
        assert [{row.source, row.destination} - {"shop/web"} for row in pairs(told)] == [{text} for text in shown]
