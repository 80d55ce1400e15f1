"""The answers of the engines: each file is complete, each answer has its source, and no answer changes unseen."""

import re
from dataclasses import fields
from importlib import resources
from typing import Any

import pytest

from deploy.semantics import profiles
from deploy.semantics.profiles import STRICT, Profile, chosen, names, profile
from recorder.errors import InputError

ENGINES = ("aws", "calico", "cilium", "kube-network-policies", "kube-router", "npm", "npm-windows")
PORTABLE = ("aws", "calico", "cilium", "kube-network-policies", "kube-router", "npm")
ANSWERS = tuple(one.name for one in fields(Profile) if one.name not in ("name", "title", "portable", "sources"))
WORDS = {
    "own_node_ingress": {"allowed", "policed"},
    "own_node_egress": {"allowed", "policed"},
    "other_node_ingress": {"allowed", "policed"},
    "host_network": {"ignored", "policed"},
    "host_network_peers": {"ignored", "selected"},
    "itself": {"allowed", "policed"},
    "other_protocols": {"allowed", "denied"},
    "denies_with": {"drop", "reject"},
    "live_connections": {"kept", "rejudged"},
}
FEATURES = {"named-port", "port-range", "sctp", "ipv6", "except", "negative-selector"}
DIALECTS = {"kubernetes", "calico", "cilium", "cluster"}
SOURCE = re.compile(r"[\w-]+/[\w-]+ (v[\d.]+ )?[\w-]+[./][\w./-]+.*|[\w-]+(\.[\w-]+)+ /[\w-]+/\S+.*")

# In the order of ENGINES; "?" is unknown.
EXPECTED: dict[str, tuple[Any, ...]] = {
    "block_matches_pods": (True, True, False, True, True, True, True),
    "block_matches_nodes": (True, True, False, True, True, True, True),
    "own_node_ingress": ("allowed", "allowed", "allowed", "allowed", "allowed", "allowed", "allowed"),
    "own_node_egress": ("allowed", "policed", "policed", "policed", "policed", "allowed", "?"),
    "other_node_ingress": ("policed", "policed", "policed", "policed", "policed", "?", "?"),
    "host_network": ("ignored",) * 7,
    "itself": ("?", "?", "allowed", "policed", "?", "?", "?"),
    "other_protocols": ("denied",) * 7,
    "icmp_always_allowed": ((), (), (), (), (3, 8, 11), (), ()),
    "icmpv6_always_allowed": (
        tuple(range(256)),
        (130, 131, 132, 133, 135, 136),
        (135, 136),
        (133, 134, 135, 136, 137),
        (1, 3, 128, 129, 135, 136),
        (),
        (),
    ),
    "ambiguous_named_ports": ("?", True, False, True, True, True, False),
    "port_ranges": (True,) * 7,
    "sctp": (True, True, "option", True, True, True, "?"),
    "ipv6": (True, True, True, True, True, False, "?"),
    "before_dnat": (True, False, False, False, False, False, False),
    "negated_namespaces_match_outside": (False, False, False, False, False, True, False),
    "empty_rule_beside_others_ignored": (False, False, False, False, False, True, True),
    "skips": (
        set(),
        set(),
        set(),
        set(),
        set(),
        {"ipv6"},
        {"except", "ipv6", "named-port", "negative-selector", "sctp"},
    ),
    "denies_with": ("drop", "drop", "drop", "drop", "reject", "drop", "?"),
    "live_connections": ("?", "kept", "rejudged", "rejudged", "kept", "kept", "?"),
    "enforces": (
        {"kubernetes"},
        {"kubernetes", "calico", "cluster"},
        {"kubernetes", "cilium"},
        {"kubernetes", "cluster"},
        {"kubernetes"},
        {"kubernetes"},
        {"kubernetes"},
    ),
    "negated_namespace_values_alternate": (False, False, False, False, False, True, False),
    "directions_share_rules": (False, False, False, False, True, False, False),
    "unresolved_port_opens_all": (False, False, False, False, True, False, False),
    "except_overrules": (True, False, False, False, False, False, False),
    "host_network_peers": ("selected", *("ignored",) * 6),
    "any_policy_hides_baseline": (False, False, False, True, False, False, False),
}


def engines(text: str, *dialects: str) -> list[str]:
    """Return the names of the profiles that a name stands for."""
    return [one.name for one in chosen(text, frozenset(dialects))]


def told(text: str, *dialects: str) -> str:
    """Return the error that a name meets, which must be one line."""
    with pytest.raises(InputError) as caught:
        chosen(text, frozenset(dialects))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_all_engines_have_a_profile() -> None:
    """The profiles are `strict` and the engines, by their names."""
    assert names() == [STRICT, *ENGINES]


@pytest.mark.parametrize("name", ENGINES)
def test_every_answer_has_one_source(name: str) -> None:
    """Each answer of an engine has a source that names a repository and a file, or a page and its path."""
    sources = profile(name).sources
    assert sorted(field for field, _ in sources) == sorted(ANSWERS)
    assert [text for _, text in sources if not SOURCE.fullmatch(text)] == []


@pytest.mark.parametrize("name", ENGINES)
def test_answers_are_words_that_the_judge_knows(name: str) -> None:
    """An answer is one of the words its question offers, or none where it is unknown."""
    one = profile(name)
    strange = {
        field: getattr(one, field) for field, words in WORDS.items() if getattr(one, field) not in words | {None}
    }
    assert strange == {}
    assert one.skips <= FEATURES
    assert one.enforces <= DIALECTS
    assert all(0 <= number <= 255 for number in one.icmp_always_allowed + one.icmpv6_always_allowed)


@pytest.mark.parametrize("field", ANSWERS)
def test_answers_are_the_expected_ones(field: str) -> None:
    """Each answer of each engine is the one written down here, too, so that an edit is noticed."""
    found = {name: getattr(profile(name), field) for name in ENGINES}
    assert found == {
        name: None if value == "?" else value for name, value in zip(ENGINES, EXPECTED[field], strict=True)
    }


def test_unknown_is_none() -> None:
    """What an engine's sources do not settle is None, never the word itself."""
    assert profile("npm").other_node_ingress is None
    assert profile("npm-windows").sctp is None
    values = [getattr(profile(name), field) for name in ENGINES for field in ANSWERS]
    assert "unknown" not in [value for value in values if isinstance(value, str)]


@pytest.mark.parametrize(
    "field", ["before_dnat", "negated_namespaces_match_outside", "empty_rule_beside_others_ignored"]
)
def test_what_may_not_be_unknown_is_settled(field: str) -> None:
    """Questions whose answer is used without asking whether it is known have one for every engine."""
    assert {type(getattr(profile(name), field)) for name in ENGINES} == {bool}


@pytest.mark.parametrize(
    ("dialects", "expected"),
    [
        ((), PORTABLE),
        (("kubernetes",), PORTABLE),
        (("calico",), ("calico",)),
        (("kubernetes", "calico"), ("calico",)),
        (("cilium",), ("cilium",)),
        (("kubernetes", "cluster"), ("calico", "kube-network-policies")),
        (("calico", "cluster"), ("calico",)),
    ],
)
def test_strict_asks_the_engines_that_enforce_the_dialects(
    dialects: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """`strict` stands for all portable engines that enforce all the dialects together."""
    assert engines(STRICT, *dialects) == list(expected)


def test_windows_is_asked_only_by_name() -> None:
    """NPM on Windows fails open by design, so `strict` leaves it out and naming it brings it in."""
    assert "npm-windows" not in engines(STRICT, "kubernetes")
    assert engines("npm-windows", "kubernetes") == ["npm-windows"]
    assert engines("strict,npm-windows", "kubernetes") == sorted(ENGINES)


def test_several_names_are_asked_once_each() -> None:
    """Names with commas and blanks stand for those engines, in the order of their names."""
    assert engines(" npm , calico,npm", "kubernetes") == ["calico", "npm"]


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    """An unknown name is told in one line that names the known ones."""
    message = told("flannel", "kubernetes")
    assert message.startswith("profile 'flannel' is not known; there are strict, ")
    assert all(name in message for name in ENGINES)


def test_no_name_is_told() -> None:
    """An empty list of names is told."""
    assert told(" , ") == "--profile names no engine"


def test_a_dialect_that_an_engine_does_not_enforce_is_told() -> None:
    """Naming an engine that would ignore policies of a dialect is an error that says engine and dialect."""
    assert (
        told("npm", "kubernetes", "calico") == "profile npm: Azure NPM 1.5.0 on Linux does not enforce calico policies"
    )
    assert told("strict,aws", "calico") == "profile aws: Amazon VPC CNI does not enforce calico policies"


def test_dialects_that_nobody_enforces_together_are_told() -> None:
    """`strict` over dialects that no engine enforces together is an error that names them."""
    assert (
        told(STRICT, "calico", "cilium") == "no engine enforces policies of all these dialects together: calico, cilium"
    )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("[sctp]\n", "[sctp-too]\n"), KeyError),
        (("[skips]\n", "[surplus]\nvalue = 1\nsource = 'x'\n\n[skips]\n"), ValueError),
        (("source = ", "sauce = "), KeyError),
    ],
)
def test_a_question_without_answer_or_source_is_a_mistake(change: tuple[str, str], error: type[Exception]) -> None:
    """A file that leaves a question out, answers one that nobody asks or names no source is refused."""
    text = resources.files(profiles).joinpath("npm.toml").read_text(encoding="utf-8")
    assert change[0] in text
    with pytest.raises(error):
        profiles._read("npm", text.replace(*change, 1))
