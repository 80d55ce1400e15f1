"""`podfence evaluate`: one verdict, with what decides it and an exit code that scripts can ask."""

import json
from pathlib import Path

import pytest

from deploy.reports.wording import REASONS
from deploy.semantics import deciding
from podfence.__main__ import run
from tests.podfence.expected import CASES, conforms, expect

ASKED = ["--policies", "new", "--inventory", "inventory.yaml"]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run beside the cases, so that files have short names."""
    monkeypatch.chdir(CASES)


def ask(source: str, destination: str, port: str, *more: str) -> int:
    """Return the exit code of a question about the new policies."""
    return run(["evaluate", *ASKED, "--from", source, "--to", destination, "--port", port, *more])


@pytest.mark.parametrize(("form", "ending"), [("table", "txt"), ("markdown", "md"), ("json", "json")])
def test_pods_of_a_workload_that_fare_differently_are_told_apart(
    capsys: pytest.CaptureFixture[str], form: str, ending: str
) -> None:
    """Both halves of each, with the rule that decides and the one that comes nearest."""
    assert ask("shop/statefulset/web", "shop/statefulset/db", "5432", "--profile", "npm,calico", "-o", form) == 1
    captured = capsys.readouterr()
    expect(f"evaluate.{ending}", captured.out)
    ends = "--from shop/statefulset/web --to shop/statefulset/db --port 5432"
    assert captured.err.splitlines() == [
        "denied: shop/statefulset/web -> shop/statefulset/db 5432/tcp, judged as npm,calico (calico, npm)",
        f"next: podfence explain {' '.join(ASKED)} --profile npm,calico {ends}",
    ]
    if form == "json":
        conforms("evaluate", captured.out)


@pytest.mark.parametrize(
    ("source", "destination", "port", "more", "code"),
    [
        ("shop/web-1", "shop/db-0", "5432/tcp", [], 0),
        ("shop/web-0", "shop/db-0", "5432/tcp", [], 1),
        ("203.0.113.9", "shop/statefulset/web", "8080", [], 0),
        ("203.0.113.9", "shop/statefulset/web", "8080/udp", [], 1),
        ("shop/web-1", "shop/db-0", "5432/sctp", [], 1),
        ("node/node-a", "shop/db-0", "icmp/8", ["--profile", "npm"], 0),
    ],
)
def test_the_exit_code_is_the_verdict(
    capsys: pytest.CaptureFixture[str], source: str, destination: str, port: str, more: list[str], code: int
) -> None:
    """0 is allowed, 1 denied or undetermined; names may be pods, workloads, nodes and addresses."""
    assert ask(source, destination, port, *more, "-o", "json") == code
    assert (conforms("evaluate", capsys.readouterr().out)["outcome"] == "allowed") == (code == 0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("shop/deployment/wep", "shop/db-0", "80"), "'shop/deployment/wep' is no pod or workload"),
        (("shop/web-0", "shop/db-0", "70000"), "--port '70000'"),
        (("shop/web-0", "shop/db-0", "pg"), "--port 'pg'"),
        (("shop/web-0", "shop/db-0", "80", "--profile", "iptables"), "profile 'iptables' is not known"),
        (("shop/web-0", "shop/db-0", "80", "-o", "sarif"), "'sarif' is not one of"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    """Exit code 2, and nothing on stdout."""
    assert ask(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err
    assert len(captured.err.splitlines()) == 1


def test_every_reason_has_its_words() -> None:
    """No reader meets a code where a sentence should be."""
    assert set(REASONS) == {*deciding.REASONS, "service-backends"}


def test_the_api_server_is_asked_about_by_its_addresses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its addresses are the endpoints of `default/kubernetes`; without them there is nothing to judge."""
    assert ask("shop/statefulset/web", "apiserver", "443") == 2
    assert "tells no address of the API server" in capsys.readouterr().err
    slices = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "uid": "k",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.10"]}],
        "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
    }
    (tmp_path / "inventory.yaml").write_text(Path("inventory.yaml").read_text() + "---\n" + json.dumps(slices))
    words = ["--policies", "new", "--inventory", str(tmp_path / "inventory.yaml"), "-o", "json"]
    run(["evaluate", *words, "--from", "shop/statefulset/web", "--to", "apiserver", "--port", "6443"])
    pairs = conforms("evaluate", capsys.readouterr().out)["pairs"]
    assert {pair["destination"] for pair in pairs} == {"apiserver/192.0.2.10"}
