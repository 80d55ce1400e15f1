"""The folder: whole or not at all, the same bytes for the same input, and the evidence beside the policies."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from generator import generate, render, write
from generator.metadata import object_name
from recorder.errors import InputError, OutputError
from tests.generator.worlds import load, pattern, world

SHOP = Path(__file__).parent / "golden" / "shop" / "case.yaml"
_RENDER = """
import hashlib, sys
from pathlib import Path
from generator import generate, render
from tests.generator.worlds import load
one = load(Path(sys.argv[1]))
for target in ("kubernetes", "calico"):
    files = render(generate(one.learned, target=target, **one.options), one.learned, target)
    print(hashlib.sha256(repr(files).encode()).hexdigest())
"""


def _contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("prepared", [False, True], ids=["absent", "empty"])
def test_the_folder_holds_what_was_rendered(prepared: bool, tmp_path: Path) -> None:
    """A folder that is absent or empty holds exactly the rendered files afterwards, and nothing lies beside it."""
    one = load(SHOP)
    policyset = generate(one.learned, **one.options)
    out = tmp_path / "policies"
    if prepared:
        out.mkdir()
    write(policyset, one.learned, "kubernetes", out)
    assert _contents(out) == render(policyset, one.learned, "kubernetes")
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    """It is an error, and what was there is still all that is there."""
    one = load(SHOP)
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    with pytest.raises(OutputError, match="not an empty folder"):
        write(generate(one.learned), one.learned, "kubernetes", tmp_path)
    assert _contents(tmp_path) == {"mine.yaml": "a: 1\n"}


def test_what_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in the middle leaves neither the folder nor its scraps."""
    one = load(SHOP)
    original, written = Path.write_text, []

    def full(self: Path, *given: Any, **named: Any) -> int:
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(self)
        return original(self, *given, **named)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        write(generate(one.learned), one.learned, "kubernetes", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_hash_seeds_do_not_show(tmp_path: Path) -> None:
    """Two interpreters with different hash seeds write the same bytes."""
    root = Path(__file__).parents[2]
    found = {
        subprocess.run(
            [sys.executable, "-c", _RENDER, str(SHOP)],
            cwd=root,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_the_kustomization_lists_each_object_once_and_default_denies_last() -> None:
    """Every object's file is a resource; a namespace is closed only after its workloads are allowed theirs."""
    one = load(SHOP)
    files = render(generate(one.learned, **one.options), one.learned)
    resources = yaml.safe_load(files["kustomization.yaml"])["resources"]
    assert sorted(resources) == sorted(name for name in files if "/" in name and not name.startswith("."))
    closing = [name.endswith("/default-deny.yaml") for name in resources]
    assert closing == sorted(closing)
    assert any(closing)


def test_evidence_leads_from_each_rule_to_its_patterns() -> None:
    """Every port of every rule names patterns that are listed as accepted; what is not allowed is listed too."""
    one = load(SHOP)
    files = render(generate(one.learned, **one.options), one.learned)
    evidence = json.loads(files[".podfence/evidence.json"])
    accepted = {entry["id"]: entry for entry in evidence["patterns"]["accept"]}
    for policy in evidence["policies"]:
        assert policy["file"] in files
        for direction, mine, other in (("ingress", "destination", "source"), ("egress", "source", "destination")):
            for rule in policy[direction]:
                assert rule["ports"]
                for port in rule["ports"]:
                    assert port["patterns"]
                    for entry in (accepted[name] for name in port["patterns"]):
                        assert (entry[mine], entry[other]) == (policy["workload"], rule["peer"])
                        assert port["port"] == f"{entry['protocol']}/{entry['port']}"
    assert [entry["reasons"] for entry in evidence["patterns"]["reject"]] == [["never-answered"]]
    assert len(evidence["patterns"]["queue"]) == 1
    assert [entry["peer"] for entry in evidence["over_permission"]] == ["0.0.0.0/0"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("deployment", "a.b"),
        ("deployment", "A"),
        ("default", "deny"),
        ("deployment", "x" * 253),
        ("a-b", "c"),
        ("x", "é"),
    ],
)
def test_names_that_need_it_are_cleaned_and_told_apart(kind: str, name: str) -> None:
    """A cleaned name is a DNS label or a longer one without dots, and differs from that of a like workload."""
    found = object_name(f"shop/{kind}/{name}", kind, name)
    assert found != object_name(f"shop/{kind}/{name}-", kind, name)
    assert found not in ("default-deny", f"{kind}-{name}")
    assert len(f"{found}.yaml") <= 255
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert found[0] != "-" != found[-1]


def test_plain_names_stay() -> None:
    """A workload's object is called by its kind and name."""
    assert object_name("shop/deployment/web", "deployment", "web") == "deployment-web"


WEB, DB = "shop/deployment/web", "shop/statefulset/db"


def _calico(workloads: dict[str, Any], patterns: list[str]) -> dict[str, Any]:
    one = world(workloads, patterns)
    files = render(generate(one.learned, target="calico"), one.learned, "calico")
    return {name: yaml.safe_load(text) for name, text in files.items() if name.startswith("shop/")}


def test_calico_rules_hold_fifty_ports() -> None:
    """More ports are split over rules, none lost, none twice."""
    numbers = list(range(1, 242, 2))
    documents = _calico(
        {WEB: {"labels": {"app": "web"}}, DB: {"labels": {"app": "db"}}},
        [f"accept {WEB} -> {DB} tcp/{number}" for number in numbers],
    )
    ports = [rule["destination"]["ports"] for rule in documents["shop/deployment-web.yaml"]["spec"]["egress"]]
    assert [len(entry) for entry in ports] == [50, 50, 21]
    assert [number for entry in ports for number in entry] == numbers


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"app": "a'b\"c"}, "both kinds of quotes"),
        ({"a b": "c"}, "cannot be written"),
        ({f"key-{number}": "v" * 60 for number in range(20)}, "Calico takes 1024"),
    ],
)
def test_what_calico_cannot_say_is_refused_by_name(labels: dict[str, str], words: str) -> None:
    """The error names the workload and the label."""
    with pytest.raises(InputError, match=words) as caught:
        _calico({WEB: {"labels": labels}, DB: {"labels": {"app": "db"}}}, [f"accept {WEB} -> {DB} tcp/1"])
    assert WEB in str(caught.value)


def test_more_rules_than_calico_takes_are_refused() -> None:
    """A policy that Calico would refuse is an error here, with the number."""
    lines = [f"accept {WEB} -> 198.51.{number // 256}.{number % 256}/32 tcp/443" for number in range(1025)]
    with pytest.raises(InputError, match="1025 egress rules"):
        _calico({WEB: {"labels": {"app": "web"}}}, lines)


def test_policies_for_calico_are_not_written_for_kubernetes() -> None:
    """What was generated for one dialect and cannot be said in another is an error, never dropped."""
    one = world({WEB: {"labels": {"app": "web"}}, DB: {"labels": {"app": "db"}}}, [f"accept {WEB} -> {DB} icmp/8"])
    with pytest.raises(InputError, match="ICMP"):
        render(generate(one.learned, target="calico"), one.learned, "kubernetes")


def test_a_prefix_is_listed_as_more_than_was_seen() -> None:
    """Of a prefix not every address was seen, so the rule that allows it all is told, with its patterns."""
    line = "accept shop/deployment/web -> 203.0.113.0/24 tcp/443"
    one = world({"shop/deployment/web": {"labels": {"app": "web"}}}, [line])
    evidence = json.loads(render(generate(one.learned), one.learned)[".podfence/evidence.json"])
    assert evidence["over_permission"] == [
        {
            "workload": "shop/deployment/web",
            "direction": "egress",
            "peer": "203.0.113.0/24",
            "reason": "the whole prefix is allowed, in which single addresses were seen",
            "patterns": [pattern(line).id],
        }
    ]
