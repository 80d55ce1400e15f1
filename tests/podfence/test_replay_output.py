"""What `podfence replay` prints, in every format: whole, in the words of its reader, and safe against what others named."""

import json
from dataclasses import replace as changed
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from deploy import Replay
from deploy.findings import Change, Finding, Isolated, Unjudged
from deploy.propose.markdown import code
from deploy.reports import markdown
from deploy.reports.junit import junit
from deploy.reports.sarif import sarif
from deploy.semantics.policyset import PolicySet
from podfence.__main__ import run
from podfence.replay import _ends, beside, sentence, show
from tests.deploy.world import kubernetes, policies
from tests.podfence.expected import conforms, expect
from tests.recordings import Story

WEB, DB, CART, BOX = "shop/deployment/web", "shop/statefulset/db", "shop/deployment/cart", "shop/pod/toolbox"
ENGINES = (("calico", "denied"), ("npm", "allowed"))


def finding(source: str, destination: str, port: int | None, half: str, by: str | None, **columns: Any) -> Finding:
    """Return a finding that was seen twelve times, answered seven times."""
    given: dict[str, Any] = {
        "protocol": "tcp",
        "icmp": None,
        "reason": "isolation",
        "labels": "both",
        "decision": None,
        "reasons": (),
        "connections": 7,
        "attempts": 12,
        "first_seen": 1_772_409_600_000_000,
        "last_seen": 1_772_413_200_000_000,
    }
    return Finding(source, destination, port=port, half=half, by=by, **given | columns)


def verdict() -> Replay:
    """Return a replay with something of every kind."""
    deny = {"file": "policies/shop/default-deny.yaml", "line": 1}
    denied = (
        finding(
            *(WEB, DB, 5432, "ingress", "NetworkPolicy shop/default-deny"),
            nearest="NetworkPolicy shop/db ingress[0]",
            misses="traffic",
            decision="accept",
            reasons=("declared-recurs",),
            **deny,
        ),
        finding(CART, DB, 5432, "egress", "NetworkPolicy shop/default-deny", labels="now", **deny),
        finding(CART, DB, 5432, "ingress", "NetworkPolicy shop/default-deny", labels="now", **deny),
        finding(
            *(CART, "203.0.113.0/24", 443, "egress", "Calico GlobalNetworkPolicy no-world egress[2]"),
            reason="rule",
            file="policies/_cluster/no-world.yaml",
            line=14,
        ),
    )
    undetermined = (
        finding(WEB, CART, None, "egress", None, protocol="icmp", icmp="8/0", reason="engines", engines=ENGINES),
        finding("unresolved/10.0.9.9", CART, 80, "ingress", None, reason="unresolved"),
    )
    expected = tuple(
        finding(
            *(BOX, DB, 22, half, "NetworkPolicy shop/default-deny"),
            decision="reject",
            reasons=("flagged-source", "never-answered"),
            connections=0,
            nearest="NetworkPolicy shop/db ingress[1]" if half == "ingress" else None,
            misses="peer" if half == "ingress" else None,
            **deny,
        )
        for half in ("egress", "ingress")
    )
    return Replay(
        profile="calico,npm",
        engines=("calico", "npm"),
        policies=3,
        edges={"allowed": 20, "denied": 3, "expected": 1, "undetermined": 2},
        connections={"allowed": 1317, "denied": 28, "expected": 0, "undetermined": 14},
        denied=denied,
        expected=expected,
        undetermined=undetermined,
        isolated=(Isolated("shop/deployment/idle", ("ingress", "egress"), ("NetworkPolicy shop/default-deny",)),),
        borrowed=(finding(WEB, CART, 7070, "egress", "NetworkPolicy shop/old egress[0]", reason="rule"),),
        changes=(
            Change(
                *(WEB, DB, "tcp", 5432, None, "ingress", "allowed", "denied"),
                *("NetworkPolicy shop/db ingress[0]", "NetworkPolicy shop/default-deny", 7, 12),
            ),
        ),
        unjudged=(Unjudged("NetworkPolicy shop/db", None, "npm skips it: sctp"),),
    )


def given() -> PolicySet:
    """Return the policies of `verdict`, as far as it looks them up."""
    return policies("# nothing\n\n" + kubernetes("{}", "default-deny") + kubernetes("{}", "db"))


def test_the_tables_are_as_expected(capsys: pytest.CaptureFixture[str]) -> None:
    """What matters most comes first, halves that differ in nothing else are one row, and empty columns are left out."""
    show(verdict())
    expect("replay.txt", capsys.readouterr().out)
    assert [sentence(verdict()), *beside(verdict())] == [
        "3 policies over 26 edges: 20 allowed (1,317 connections), 3 denied, 1 denied as expected, 2 undetermined",
        "1 half would be denied by these policies alone, and passes because of others",
        "1 half fares differently than before",
        "1 workload isolated without a single recorded connection",
        "1 part of policies not judged",
    ]


def test_the_json_is_as_expected_and_as_its_schema_says() -> None:
    """Every kind of finding has its list; a field that the schema does not name does not exist."""
    text = json.dumps(verdict().json(), indent=2, ensure_ascii=False) + "\n"
    expect("replay.json", text)
    conforms("replay", text)
    conforms("replay", json.dumps(changed(verdict(), changes=None, denied=()).json()))


def test_the_markdown_is_as_expected() -> None:
    """A reviewer reads the verdict first."""
    expect("replay.md", markdown.replay(verdict()))


def test_the_markdown_fits_a_comment_and_says_what_is_missing() -> None:
    """Rows are left out until it fits, and counted."""
    many = tuple(changed(verdict().denied[0], source=f"shop/deployment/{number:05}") for number in range(3000))
    text = markdown.replay(changed(verdict(), denied=many))
    assert len(text) <= 65_536
    assert "… 2900 more rows left out" in text


def test_markdown_shows_texts_as_texts() -> None:
    """Names from the cluster can neither break a table nor mention anybody."""
    evil = "a|b`c\n@team"
    text = markdown.replay(changed(verdict(), denied=(changed(verdict().denied[0], source=evil, by=evil),)))
    assert f"| {code(evil)} |" in text
    assert "\n@team" not in text


def test_the_sarif_is_as_expected() -> None:
    """A result for each finding at the file and line of what decides, told in a sentence."""
    expect(
        "replay.sarif",
        sarif(verdict(), given()).replace(f'"version": "{version("podfence")}"', '"version": "0"') + "\n",
    )


def results(found: Replay) -> list[dict[str, Any]]:
    """Return the results of the log."""
    parsed: list[dict[str, Any]] = json.loads(sarif(found, given()))["runs"][0]["results"]
    return parsed


def test_fingerprints_outlive_counts_and_moved_lines_and_are_unique() -> None:
    """GitHub knows the finding again, and takes no two for one (docs.github.com, SARIF support for code scanning)."""
    name = "primaryLocationLineHash"
    before = [one["partialFingerprints"][name] for one in results(verdict())]
    later = changed(verdict(), denied=tuple(changed(one, attempts=99, last_seen=1, line=7) for one in verdict().denied))
    assert [one["partialFingerprints"][name] for one in results(later)] == before
    twice = changed(verdict(), denied=verdict().denied * 2)
    assert len({one["partialFingerprints"][name] for one in results(twice)}) == len(results(twice))


@pytest.mark.parametrize(
    ("file", "artifact"),
    [
        ("policies/a b.yaml", {"uri": "policies/a%20b.yaml", "uriBaseId": "%SRCROOT%"}),
        ("/etc/p.yaml", {"uri": "file:///etc/p.yaml"}),
        ("<stdin>", None),
        (None, None),
    ],
)
def test_files_below_the_root_have_relative_addresses(file: str | None, artifact: dict[str, str] | None) -> None:
    """And what is in no file has a name alone (SARIF 2.1.0, 3.4 artifactLocation, 3.33 logicalLocation)."""
    line = None if file is None else 3
    place = results(changed(verdict(), denied=(changed(verdict().denied[0], file=file, line=line),)))[0]["locations"][0]
    assert place["logicalLocations"][0]["fullyQualifiedName"] == "NetworkPolicy shop/default-deny"
    assert (place["physicalLocation"]["artifactLocation"] if artifact else place.get("physicalLocation")) == artifact


def test_the_junit_report_is_as_expected() -> None:
    """A test for each half of an edge; counts add up."""
    text = junit(verdict())
    expect("replay.junit.xml", text + "\n")
    root = ET.fromstring(text)  # noqa: S314 - our own text
    suite = root[0]
    for element in (root, suite):
        assert {name: element.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
            "tests": str(len(suite.findall("testcase"))),
            "failures": str(len(suite.findall("testcase/failure"))),
            "errors": "0",
            "skipped": str(len(suite.findall("testcase/skipped"))),
        }


def test_tests_have_names_of_their_own() -> None:
    """GitLab ignores a second test of the same name (docs.gitlab.com, Unit test reports): findings of one half are one test."""
    one = verdict().denied[0]
    both = changed(verdict(), denied=(one, changed(one, labels="then")), undetermined=(changed(one, reason="port"),))
    cases = ET.fromstring(junit(both)).findall("*/testcase")  # noqa: S314 - our own text
    names = [(case.get("classname"), case.get("name")) for case in cases]
    assert len(set(names)) == len(names)
    test = cases[names.index((WEB, f"{DB} 5432/tcp ingress"))]
    failure = test.find("failure")
    assert failure is not None
    assert len((failure.text or "").splitlines()) == 3


@pytest.mark.parametrize(("fail_on", "failures"), [("denied", "4"), ("undetermined", "6"), ("never", "4")])
def test_what_is_undetermined_fails_where_that_was_asked(fail_on: str, failures: str) -> None:
    """What is denied is a failure whatever the exit code is to be."""
    assert f'failures="{failures}"' in junit(changed(verdict(), fail_on=fail_on))


def test_a_clean_replay_has_one_test_that_passes() -> None:
    """A report without tests is an error to some CI systems."""
    clean = changed(verdict(), denied=(), expected=(), undetermined=(), isolated=(), unjudged=())
    assert 'tests="1" failures="0" errors="0" skipped="0"' in junit(clean)


def test_the_junit_report_is_xml_whatever_things_are_called() -> None:
    """Characters that XML does not know are replaced, marks are escaped."""
    evil = 'a"<b>&\x00\x1b\ufffe\n'
    text = junit(changed(verdict(), denied=(changed(verdict().denied[0], source=evil, by=evil),)))
    names = [case.get("classname") or "" for case in ET.fromstring(text).findall("*/testcase")]  # noqa: S314 - our own text
    assert any(name.startswith('a"<b>&\N{REPLACEMENT CHARACTER}') for name in names)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with a recording of three edges, and two sets of policies; run there."""
    story = Story()
    story.workload(WEB, labels={"app": "web"})
    story.workload(CART, labels={"app": "cart"}, ports=[7070])
    story.workload(DB, labels={"app": "db"}, ports=[5432])
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[1])
    story.talk("shop/cart-1", "shop/db-1", 5432, at=[1, 61], answered=3)
    story.talk("shop/web-1", "shop/db-1", 22, at=[2], answered=0, unanswered=4)
    story.workload("shop/deployment/idle", labels={"app": "idle"})
    story.add(
        "NetworkPolicy",
        "shop/old",
        {
            "apiVersion": "networking.k8s.io/v1",
            "spec": {
                "podSelector": {"matchLabels": {"app": "cart"}},
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}],
            },
        },
    )
    story.write(tmp_path / "recording")
    allow = "podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {}}], ports: [{port: 5432}]}]"
    for name, text in {
        "good": kubernetes(allow, "db"),
        "bad": kubernetes(allow.replace("5432", "5433"), "db") + kubernetes("podSelector: {}", "deny"),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def replayed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, list[str]]:
    """Return exit code, stdout, and the lines on stderr."""
    code_ = run(["replay", "recording", "--profile", "npm,calico", *words])
    captured = capsys.readouterr()
    return code_, captured.out, captured.err.splitlines()


def test_a_denied_edge_is_a_finding_and_the_next_verb_explains_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With half, object and the rule that nearly allowed it; the command that is named runs."""
    exit_code, out, lines = replayed(capsys, "--policies", "bad")
    assert exit_code == 1
    row = next(line for line in out.splitlines() if line.startswith(CART))
    assert "5432/tcp   ingress   NetworkPolicy shop/d" in row
    assert "NetworkPolicy shop/db ingress[0], but for the port" in row
    assert row.endswith("6/6")
    assert "2 policies over 3 edges:" in lines[0]
    same = "--policies bad --recording recording --profile npm,calico"
    assert lines[-1] == f"next: podfence explain {same} --from {CART} --to {DB} --port 5432/tcp"
    assert run(lines[-1].split()[2:]) == 1


@pytest.mark.parametrize(
    ("columns", "port"),
    [
        ({}, "5432/tcp"),
        ({"protocol": "icmp", "port": None, "icmp": "8/0"}, "icmp/8"),
        ({"protocol": "udp"}, "5432/udp"),
    ],
)
def test_what_is_named_for_explaining_can_be_asked(columns: dict[str, Any], port: str) -> None:
    """Pods of jobs are gone, and an address that nobody held is no pod; the first of the others is named."""
    asked = changed(verdict().denied[0], **columns)
    others = [changed(asked, source=name) for name in ("shop/cronjob/report", "unresolved/10.0.9.9", "apiserver")]
    assert _ends([*others, asked]) == {"from": WEB, "to": DB, "port": port}
    assert _ends(others) == {"from": "NAME", "to": "NAME", "port": "PORT"}


def test_a_clean_replay_names_the_proposal(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the same recording, so that the proposal says what was found."""
    exit_code, _, lines = replayed(capsys, "--policies", "good")
    assert exit_code == 0
    wanted = "next: podfence propose --policies good --repo PATH --recording recording --profile npm,calico"
    assert lines[-1] == wanted


@pytest.mark.parametrize(
    "words", [["--policies", "good"], ["--policies", "bad", "--existing"], ["--policies", "bad", "--against", "good"]]
)
def test_real_verdicts_conform_to_the_schema(place: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """With and without what is there already, and compared with another set."""
    _, out, _ = replayed(capsys, *words, "-o", "json")
    found = conforms("replay", out)
    assert ("changes" in found) == (len(words) > 2)


def test_what_passes_only_because_of_another_policy_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--existing` lets the cluster's own policies act, and names what is owed to them."""
    exit_code, out, lines = replayed(capsys, "--policies", "bad", "--existing")
    assert exit_code == 1
    assert "BORROWED" in out
    assert any("NetworkPolicy shop/old ingress[0]" in line and line.startswith(WEB) for line in out.splitlines())
    assert "1 half would be denied by these policies alone, and passes because of others" in lines


def test_two_sets_are_compared_over_the_same_traffic(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--against` shows what fares differently, with the deciders of both."""
    _, out, lines = replayed(capsys, "--policies", "bad", "--against", "good")
    rows = out[out.index("CHANGES") :].splitlines()
    assert any("allowed   NetworkPolicy shop/db ingress[0]" in row and "denied" in row for row in rows)
    assert any(line.endswith("fare differently than before") for line in lines)
    _, _, same = replayed(capsys, "--policies", "good", "--against", "good")
    assert "0 halves fare differently than before" in same


@pytest.mark.parametrize(("fail_on", "exit_code"), [("denied", 1), ("undetermined", 1), ("never", 0)])
@pytest.mark.parametrize("form", ["table", "json", "yaml", "sarif", "junit", "markdown"])
def test_the_exit_code_does_not_depend_on_the_format(
    place: Path, capsys: pytest.CaptureFixture[str], form: str, fail_on: str, exit_code: int
) -> None:
    """Data on stdout, the sentence and the next verb on stderr."""
    found, out, lines = replayed(capsys, "--policies", "bad", "-o", form, "--fail-on", fail_on)
    assert found == exit_code
    assert CART in out
    assert lines[-1].startswith("next: ")


def test_places_in_sarif_are_those_of_the_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line of the object that isolates, or of the rule that decides."""
    _, out, _ = replayed(capsys, "--policies", "bad", "-o", "sarif")
    found = json.loads(out)["runs"][0]["results"]
    places = {
        one["message"]["text"].split(":")[0]: one["locations"][0]["physicalLocation"]
        for one in found
        if one["level"] != "note"
    }
    lines = Path("bad/p.yaml").read_text().splitlines()
    spot = places[f"{CART} -> {DB} 5432/tcp"]
    assert spot["artifactLocation"]["uri"] == "bad/p.yaml"
    assert lines[spot["region"]["startLine"] - 1].startswith("apiVersion")
    assert "shop/deployment/idle" in places
