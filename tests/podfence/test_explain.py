"""`podfence explain`: why a connection is allowed or not, and why a rule is there."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from deploy.explain import explain_rule
from generator import generate, render
from podfence.__main__ import run
from podfence.schema import schema as schema_verb
from recorder.errors import InputError
from tests.generator.worlds import World, world
from tests.podfence.expected import CASES, conforms, expect, schema

WEB, DB, DNS = "shop/deployment/web", "shop/statefulset/db", "kube-system/deployment/coredns"
ASKED = ["--policies", "new", "--inventory", "inventory.yaml"]


@pytest.fixture
def shop() -> World:
    """Give a shop with one queued and one rejected pattern, and one that no NetworkPolicy can allow."""
    return world(
        {
            WEB: {"labels": {"app": "web"}},
            DB: {"labels": {"app": "db"}},
            DNS: {"labels": {"k8s-app": "dns"}},
            "shop/job/idle": {"labels": {"app": "idle"}},
        },
        [
            f"accept {WEB} -> {DNS} udp/53",
            f"accept {WEB} -> {DNS} tcp/53",
            f"accept {WEB} -> {DB} tcp/5432",
            f"accept {WEB} -> 203.0.113.0/24 tcp/443",
            f"accept {WEB} -> apiserver tcp/443",
            f"queue {WEB} -> {DB} tcp/22",
            f"reject shop/job/idle -> {DB} tcp/23",
        ],
    )


def written(one: World, folder: Path, target: str = "kubernetes") -> Path:
    """Write the policies of a world, and what was learned beside them; return their folder."""
    place = folder / "policies"
    for name, text in render(generate(one.learned, target=target, default_deny=False), one.learned, target).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    one.learned.write(folder / "learned")
    return place


@pytest.mark.parametrize(("form", "ending"), [("table", "txt"), ("markdown", "md")])
def test_every_rule_that_was_asked_is_shown_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str, ending: str
) -> None:
    """With what it said of the peer and of the port, where it stands, and what the client sees."""
    monkeypatch.chdir(CASES)
    words = ["--from", "ops/pod/toolbox", "--to", "shop/db-0", "--port", "5435", "--profile", "kube-router,calico"]
    assert run(["explain", *ASKED, *words, "-o", form]) == 1
    captured = capsys.readouterr()
    expect(f"explain.{ending}", captured.out)
    assert (
        captured.err.splitlines()[-1] == "next: podfence replay RECORDING --policies new --profile kube-router,calico"
    )


def test_where_engines_differ_each_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An outcome that depends on the engine says which engine does what."""
    monkeypatch.chdir(CASES)
    words = ["--from", "shop/web-0", "--to", "shop/db-0", "--port", "icmpv6/128", "--profile", "aws,calico"]
    assert run(["explain", *ASKED, *words]) == 1
    assert "egress: undetermined" in (told := capsys.readouterr().out)
    assert "allowed by aws; denied by calico" in told
    assert "where it is denied, the client sees a time-out (calico)" in told


def test_of_a_connection_it_prints_the_json_of_evaluate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One schema for one thing."""
    monkeypatch.chdir(CASES)
    words = [*ASKED, "--from", "shop/web-1", "--to", "shop/db-0", "--port", "5432", "-o", "json"]
    assert run(["explain", *words]) == 0
    explained = capsys.readouterr().out
    assert run(["evaluate", *words]) == 0
    assert conforms("evaluate", explained) == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("form", "ending"), [("table", "txt"), ("markdown", "md"), ("json", "json")])
def test_a_workloads_rules_lead_back_to_patterns(
    shop: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
    ending: str,
) -> None:
    """Counts, reasons and over-permission of each rule; what was seen and is not allowed is there, too."""
    written(shop, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(["explain", "--policies", "policies", WEB, "--learned", "learned", "-o", form]) == 0
    captured = capsys.readouterr()
    expect(f"explain-rules.{ending}", captured.out)
    assert captured.err.splitlines()[0].endswith("4 patterns; 2 patterns seen and not allowed")
    if form == "json":
        conforms("explain", captured.out)


@pytest.mark.parametrize("target", ["kubernetes", "calico"])
def test_a_rule_stands_where_the_judge_says(shop: World, tmp_path: Path, target: str) -> None:
    """Calico writes a rule for each protocol, Kubernetes one for all; places and patterns follow the file."""
    place = written(shop, tmp_path, target)
    found = explain_rule(place, WEB)
    told = [(rule.where, rule.peer, [one.port for one in rule.grounds]) for rule in found.rules if rule.peer == DNS]
    wanted = {
        "kubernetes": [("egress[0]", DNS, ["53/tcp", "53/udp"])],
        "calico": [("egress[0]", DNS, ["53/tcp"]), ("egress[1]", DNS, ["53/udp"])],
    }
    assert told == wanted[target]
    lines = Path(found.file or "").read_text().splitlines()
    starts = {"kubernetes": "    - to:", "calico": "    - action: Allow"}
    assert {lines[(rule.line or 0) - 1] for rule in found.rules} == {starts[target]}


@pytest.mark.parametrize("target", ["kubernetes", "calico"])
def test_a_rule_is_asked_about_as_reports_name_it(shop: World, tmp_path: Path, target: str) -> None:
    """By its workload, or by its object as `by` has it."""
    place = written(shop, tmp_path, target)
    prefix = "Calico " if target == "calico" else ""
    one = explain_rule(place, f"{WEB} egress[1]")
    assert [rule.where for rule in one.rules] == ["egress[1]"]
    assert one.left_out == ()
    assert explain_rule(place, f"{prefix}NetworkPolicy shop/deployment-web egress[1]") == one


def test_a_workload_without_policy_says_why(shop: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was seen of it is listed with the decision."""
    assert run(["explain", "--policies", str(written(shop, tmp_path)), "--rule", "shop/job/idle"]) == 0
    captured = capsys.readouterr()
    assert "shop/job/idle: it has no policy: no accepted pattern" in captured.err
    assert "NOT ALLOWED" in captured.out
    assert "23/tcp" in captured.out


def test_a_file_that_people_changed_is_not_taken_for_the_generated_one(shop: World, tmp_path: Path) -> None:
    """The evidence is shown, places are not guessed, and a rule by its number is refused."""
    place = written(shop, tmp_path)
    file = place / "shop" / "deployment-web.yaml"
    file.write_text(file.read_text() + "    - ports:\n        - protocol: TCP\n          port: 1\n")
    found = explain_rule(place, WEB)
    assert found.note == "its file no longer has the rules that were generated"
    assert {rule.line for rule in found.rules} == {None}
    with pytest.raises(InputError, match="no longer has the rules"):
        explain_rule(place, f"{WEB} egress[1]")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("shop/deployment/nobody", "no workload (namespace/kind/name) or policy"),
        (f"{WEB} egress[7]", "has no rule egress[7]; there are egress[0]"),
        (f"{WEB} ingress[0]", "has no rule ingress[0]"),
        ("shop/job/idle egress[0]", "it has no policy: no accepted pattern"),
    ],
)
def test_what_is_not_there_is_one_line(
    shop: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, told: str
) -> None:
    """Exit code 2, with what there is instead."""
    assert run(["explain", "--policies", str(written(shop, tmp_path)), name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize(
    "evidence", [None, "{", "[]", "{}", '{"schema_version": 99}', '{"schema_version": 1, "policies": 3}']
)
def test_evidence_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], evidence: str | None
) -> None:
    """Missing, damaged or newer evidence is an error with its path."""
    (tmp_path / ".podfence").mkdir()
    if evidence is not None:
        (tmp_path / ".podfence" / "evidence.json").write_text(evidence)
    assert run(["explain", "--policies", str(tmp_path), WEB]) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path}/.podfence/evidence.json" in told
    assert len(told.splitlines()) == 1


def test_evidence_of_a_later_version_is_refused(shop: World, tmp_path: Path) -> None:
    """It may mean something else by the same names."""
    file = written(shop, tmp_path) / ".podfence" / "evidence.json"
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(InputError, match="schema version 2, this podfence reads 1"):
        explain_rule(tmp_path / "policies", WEB)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give --from, --to and --port, or the NAME"),
        (("a", "--rule", "b"), "not both"),
        (("a", "--from", "b"), "a NAME needs neither"),
        (("a", "--inventory", "b"), "a NAME needs neither"),
        (("a", "--policies", "other"), "needs one --policies"),
        (("--from", "b"), "--to and --port are missing"),
        (("--from", "b", "--to", "c", "--port", "1", "--learned", "d"), "--learned goes with a NAME"),
    ],
)
def test_the_two_uses_are_not_mixed(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str) -> None:
    """What does not go together is a usage error in one line."""
    assert run(["explain", "--policies", "policies", *words]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert len(captured.err.splitlines()) == 1


def test_each_schema_is_valid_and_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`podfence schema` offers exactly the schemas that are shipped."""
    shipped = {entry.name.removesuffix(".json") for entry in files("deploy").joinpath("schemas").iterdir()}
    assert set(schema_verb.params[0].type.choices) == shipped  # type: ignore[attr-defined]
    for verb in sorted(shipped):
        Draft202012Validator.check_schema(schema(verb))
        assert run(["schema", verb]) == 0
        assert json.loads(capsys.readouterr().out) == schema(verb)
