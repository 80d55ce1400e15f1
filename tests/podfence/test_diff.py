"""`podfence diff`: what two sets of policies allow differently, and an exit code as that of diff(1)."""

import io
import sys
from pathlib import Path

import pytest

from podfence.__main__ import run
from tests.podfence.expected import CASES, conforms, expect, schema

CLUSTER = ["--inventory", "inventory.yaml", "--profile", "npm,calico"]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run beside the cases, so that files have short names."""
    monkeypatch.chdir(CASES)


@pytest.mark.parametrize(("form", "ending"), [("table", "txt"), ("markdown", "md"), ("json", "json")])
def test_what_changes_is_told_in_connections(capsys: pytest.CaptureFixture[str], form: str, ending: str) -> None:
    """Denied first; the table has a row for each two ends, and the next verb replays both sets."""
    assert run(["diff", "old", "new", *CLUSTER, "--by", "pod", "-o", form]) == 1
    captured = capsys.readouterr()
    expect(f"diff.{ending}", captured.out)
    assert captured.err.splitlines() == [
        "newly denied between 1 pair of ends, newly allowed between 1 pair; judged as npm,calico (calico, npm)",
        "next: podfence replay RECORDING --policies new --against old --profile npm,calico",
    ]
    if form == "json":
        conforms("diff", captured.out)


def test_what_some_pods_still_may_is_no_change_of_the_workload(capsys: pytest.CaptureFixture[str]) -> None:
    """By workload, only what is newly allowed is left of it."""
    assert run(["diff", "old", "new", *CLUSTER, "-o", "json"]) == 1
    found = conforms("diff", capsys.readouterr().out)
    assert found["newly_denied"] == []
    assert [(one["source"], one["destination"]) for one in found["newly_allowed"]] == [
        ("ops/pod/toolbox", "shop/statefulset/db")
    ]


@pytest.mark.parametrize(
    ("form", "printed"), [("table", ""), ("markdown", "The same connections are allowed as before.")]
)
def test_other_lines_with_the_same_meaning_are_no_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, printed: str
) -> None:
    """A rule split in two changes nothing, and the exit code is 0."""
    text = Path("old/policies.yaml").read_text()
    rule = "    - from: [{podSelector: {matchLabels: {app: web}}}]\n      ports: [{protocol: TCP, port: pg}]\n"
    (tmp_path / "p.yaml").write_text(text.replace(rule, rule + rule.replace("port: pg", "port: 5432")))
    assert run(["diff", "old", str(tmp_path), *CLUSTER, "-o", form]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip().endswith(printed)
    assert captured.err.startswith("nothing changes;")


def test_one_of_the_two_may_come_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But not both: the second would be empty, and everything new."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("old/policies.yaml").read_bytes())))
    assert run(["diff", "-", "new", *CLUSTER]) == 1
    assert "--policies NEW --against OLD" in capsys.readouterr().err
    assert run(["diff", "-", "-", *CLUSTER]) == 2
    assert "only one of OLD and NEW can be `-`" in capsys.readouterr().err


def test_connections_read_alike_in_both_verbs() -> None:
    """`diff` and `connectivity` publish the same form of a connection."""
    assert schema("diff")["$defs"]["connection"] == schema("connectivity")["$defs"]["connection"]


def test_what_can_no_longer_be_told_is_a_change_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A block that only some engines take for pods leaves open what a selector allowed."""
    text = Path("old/policies.yaml").read_text()
    by_selector = "- from: [{podSelector: {matchLabels: {app: web}}}]"
    assert by_selector in text
    (tmp_path / "p.yaml").write_text(text.replace(by_selector, "- from: [{ipBlock: {cidr: 10.0.0.0/8}}]"))
    engines = ["--inventory", "inventory.yaml", "--profile", "calico,cilium"]
    assert run(["diff", "old", str(tmp_path), *engines, "-o", "json"]) == 1
    found = conforms("diff", capsys.readouterr().out)
    assert found["newly_denied"] == []
    assert "shop/statefulset/web" in {one["source"] for one in found["newly_undetermined"]}
