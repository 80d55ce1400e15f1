"""Who gets a policy, what goes into it, and what is listed as left out."""

import dataclasses
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generator import generate, render
from generator.policy import CidrPeer, Policy, PolicySet
from generator.targets import TARGETS
from recorder.errors import InputError
from tests.generator.test_verdicts import worlds
from tests.generator.worlds import World, pattern, world

WEB, DB, DNS = "shop/deployment/web", "shop/statefulset/db", "kube-system/deployment/coredns"
WORKLOADS: dict[str, dict[str, Any]] = {
    WEB: {"labels": {"app": "web"}},
    DB: {"labels": {"app": "db"}},
    DNS: {"labels": {"k8s-app": "kube-dns"}},
}
fast = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def _generate(patterns: list[str], **options: Any) -> PolicySet:
    return generate(world(WORKLOADS, patterns).learned, **options)


def _reasons(policyset: PolicySet) -> dict[str, str]:
    return {entry.name: entry.reason for entry in policyset.skipped}


def _policies(one: World, target: str) -> dict[str, str]:
    files = render(generate(one.learned, target=target, **one.options), one.learned, target)
    return {name: text for name, text in files.items() if not name.startswith(".")}


def test_a_pattern_is_the_egress_of_one_and_the_ingress_of_the_other() -> None:
    """Both ends get a policy of both types, each with its half, resting on the same pattern."""
    web, db = _generate([f"accept {WEB} -> {DB} tcp/5432"]).policies
    assert (web.name, db.name) == ("deployment-web", "statefulset-db")
    assert web.directions == db.directions == ("ingress", "egress")
    assert not web.ingress
    assert not db.egress
    assert web.egress[0].patterns == db.ingress[0].patterns == (pattern(f"accept {WEB} -> {DB} tcp/5432").id,)


def test_ports_with_one_peer_are_one_rule() -> None:
    """All ports with a peer stand in one rule, in the order of protocol and number."""
    lines = [f"accept {WEB} -> {DB} {port}" for port in ("udp/9", "tcp/443", "tcp/80")]
    policy = next(one for one in _generate(lines).policies if one.workload == WEB)
    assert [(port.protocol, port.port) for rule in policy.egress for port in rule.ports] == [
        ("tcp", 80),
        ("tcp", 443),
        ("udp", 9),
    ]
    assert len(policy.egress) == 1


def test_who_has_nothing_accepted_gets_no_policy() -> None:
    """Queued and rejected patterns make no object; the workload is listed."""
    policyset = _generate([f"queue {WEB} -> {DB} tcp/5432", f"reject {DB} -> {WEB} tcp/80"])
    assert policyset.policies == ()
    assert _reasons(policyset)[WEB] == "no accepted pattern"


@pytest.mark.parametrize("namespace", ["kube-system", "calico-apiserver", "cilium-secrets", "argocd", "podfence"])
def test_protected_namespaces_get_nothing_unless_named(namespace: str) -> None:
    """Neither policy nor default-deny in them, listed once; named, they get both."""
    server = f"{namespace}/deployment/server"
    one = world(
        {WEB: {"labels": {"app": "web"}}, server: {"labels": {"app": "s"}}}, [f"accept {WEB} -> {server} tcp/1"]
    )
    policyset = generate(one.learned, default_deny=True)
    assert [policy.workload for policy in policyset.policies] == [WEB]
    assert policyset.default_deny == ("shop",)
    assert "protected" in _reasons(policyset)[namespace]
    named = generate(one.learned, default_deny=True, include_namespaces=[namespace])
    assert {policy.workload for policy in named.policies} == {WEB, server}
    assert set(named.default_deny) == {"shop", namespace}


def test_namespaces_limit_the_policies() -> None:
    """Only the namespaces given get policies; peers outside them stay peers."""
    lines = [f"accept {WEB} -> {DNS} udp/53"]
    policyset = _generate(lines, namespaces=["shop"])
    assert [policy.workload for policy in policyset.policies] == [WEB]
    assert "kube-system" not in _reasons(policyset)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("node/worker", "no selector selects a node"),
        ("unresolved/10.1.2.3", "nobody held the address"),
        ("shop/deployment/gone", "not among the subjects"),
        ("0.0.0.0/0", "ranges are not known"),
    ],
)
def test_ends_that_nothing_selects_are_listed(source: str, words: str) -> None:
    """Such a pattern is in no policy; it is listed under its id with the reason."""
    line = f"accept {source} -> {DB} tcp/80"
    policyset = _generate([line, f"accept {WEB} -> {DB} tcp/5432"])
    entry = next(entry for entry in policyset.skipped if entry.pattern == pattern(line).id)
    assert words in entry.reason
    assert all(pattern(line).id not in rule.patterns for one in policyset.policies for rule in one.ingress)


def test_a_host_network_workload_is_neither_subject_nor_peer() -> None:
    """Policies see its node, so that it gets none and stands in none."""
    agent = "shop/daemonset/agent"
    one = world(
        WORKLOADS | {agent: {"labels": {"app": "agent"}, "host_network": True}},
        [f"accept {agent} -> {WEB} tcp/80", f"accept {WEB} -> {DB} tcp/5432"],
    )
    policyset = generate(one.learned, default_deny=True)
    assert {policy.workload for policy in policyset.policies} == {WEB, DB}
    assert "host network" in _reasons(policyset)[agent]
    assert policyset.default_deny == ("shop",)


def test_a_default_deny_that_would_cut_somebody_off_is_withheld() -> None:
    """A workload that no selector tells apart keeps its accepted traffic; the namespace is listed."""
    twin = "shop/deployment/twin"
    one = world(
        WORKLOADS | {twin: {"labels": {"app": "twin"}, "selector": "none"}},
        [f"accept {twin} -> {DNS} udp/53", f"accept {WEB} -> {DB} tcp/5432"],
    )
    policyset = generate(one.learned, default_deny=True)
    assert policyset.default_deny == ()
    assert twin in _reasons(policyset)["shop/default-deny"]


def test_the_world_is_everything_but_the_cluster() -> None:
    """The cluster's own ranges of the same family are taken out of it, the widest ones once."""
    ranges = ["10.244.0.0/16", "10.244.3.0/24", "10.245.0.0/16", "fd00::/48"]
    one = world(WORKLOADS, [f"accept 0.0.0.0/0 -> {WEB} tcp/80"], cluster_ranges=ranges)
    assert generate(one.learned).policies[0].ingress[0].peer == CidrPeer(
        "0.0.0.0/0", ("10.244.0.0/16", "10.245.0.0/16")
    )


def test_phases_keep_the_objects() -> None:
    """A phase is the whole less a direction: the same names, only its types and rules."""
    lines = [f"accept {WEB} -> {DB} tcp/5432", f"accept {DB} -> {DNS} udp/53"]
    both = _generate(lines).policies
    for direction in ("ingress", "egress"):
        other = "egress" if direction == "ingress" else "ingress"
        less: Any = {"directions": (direction,), other: ()}
        assert _generate(lines, direction=direction).policies == tuple(dataclasses.replace(one, **less) for one in both)


@pytest.mark.parametrize(
    "options",
    [{"target": "iptables"}, {"direction": "up"}, {"namespaces": ["shp"]}, {"include_namespaces": ["kube-sytem"]}],
)
def test_what_does_not_exist_is_an_error(options: dict[str, Any]) -> None:
    """A misspelt option or namespace stops the run."""
    with pytest.raises(InputError):
        _generate([], **options)


@pytest.mark.parametrize("name", ["../etc", "Shop", "a.b", ""])
def test_a_namespace_that_cannot_exist_is_an_error(name: str) -> None:
    """Names of namespaces become folders; what is no DNS label never gets there."""
    learned = world({DB: WORKLOADS[DB]}, []).learned
    strange = dataclasses.replace(learned.subjects[0], namespace=name)
    with pytest.raises(InputError, match="no namespace name"):
        generate(dataclasses.replace(learned, subjects=(strange,)))


@given(one=worlds(), shuffle=st.randoms())
@fast
def test_order_does_not_matter(one: World, shuffle: Any) -> None:
    """Patterns and subjects in any order give the same bytes, evidence included."""
    patterns, subjects = list(one.learned.patterns), list(one.learned.subjects)
    shuffle.shuffle(patterns)
    shuffle.shuffle(subjects)
    other = dataclasses.replace(one.learned, patterns=tuple(patterns), subjects=tuple(subjects))
    for target in TARGETS:
        expected = render(generate(one.learned, target=target, **one.options), one.learned, target)
        assert render(generate(other, target=target, **one.options), other, target) == expected


@given(one=worlds())
@fast
def test_only_accepted_patterns_reach_the_yaml(one: World) -> None:
    """Without its queued and rejected patterns a world gives the same YAML."""
    accepted = tuple(entry for entry in one.learned.patterns if entry.decision == "accept")
    bare = dataclasses.replace(one, learned=dataclasses.replace(one.learned, patterns=accepted))
    for target in TARGETS:
        assert _policies(one, target) == _policies(bare, target)


@given(one=worlds())
@fast
def test_every_accepted_pattern_is_in_a_rule_or_listed(one: World) -> None:
    """Each half of each accepted pattern stands in the policy of its workload, or is listed, or its workload is."""
    for target in TARGETS:
        policyset = generate(one.learned, target=target, **one.options)
        policies = {policy.workload: policy for policy in policyset.policies}
        listed = {entry.name for entry in policyset.skipped} | {entry.pattern for entry in policyset.skipped}
        for entry in one.learned.patterns:
            if entry.decision != "accept":
                continue
            for workload, rules in ((entry.source, "egress"), (entry.destination, "ingress")):
                policy = policies.get(workload)
                if policy is None:
                    assert workload in listed or "deployment" not in workload
                elif rules in policy.directions:
                    assert entry.id in listed or entry.id in _rests_on(policy, rules)


@given(one=worlds())
@fast
def test_no_rule_is_wider_by_being_empty(one: World) -> None:
    """No peer, port list or selector is empty but the default-deny's, since empty means everything."""
    for target in TARGETS:
        for name, text in _policies(one, target).items():
            if "/" in name and not name.endswith("default-deny.yaml"):
                document = yaml.safe_load(text)
                assert _holes(document) == [], text
                for rule in [*document["spec"].get("ingress", ()), *document["spec"].get("egress", ())]:
                    wanted = {"ports"} if target == "kubernetes" else {"action", "protocol"}
                    assert wanted < set(rule), text


def _rests_on(policy: Policy, direction: str) -> set[str]:
    rules = policy.ingress if direction == "ingress" else policy.egress
    return {name for rule in rules for name in rule.patterns}


def _holes(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict | list) and not value:
        return [path]
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [hole for key, inner in entries for hole in _holes(inner, f"{path}/{key}")]


def test_accepted_patterns_that_a_policy_would_block_are_told_from_those_that_nothing_isolates() -> None:
    """What no rule can allow is blocked only where another rule makes the workload isolated."""
    one = world(
        WORKLOADS,
        [f"accept {WEB} -> apiserver tcp/443", f"accept {WEB} -> {DNS} udp/53", f"accept {DB} -> apiserver tcp/443"],
    )
    assert [entry.name for entry in generate(one.learned).blocked] == [f"{WEB} -> apiserver tcp/443"]
