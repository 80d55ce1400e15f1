"""What the written policies allow, judged by network-config-analyzer, is what was accepted and nothing else."""

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generator import generate, render
from generator.policy import PolicySet
from generator.targets import TARGETS
from learner.patterns import Pattern
from tests.generator.worlds import World, load, pod_of, world
from tests.judge import Verdicts, judge

CASES = sorted(path.parent.name for path in Path(__file__).parent.glob("golden/*/case.yaml"))
OUTSIDE = (
    "8.8.8.8",
    "198.51.100.7",
    "203.0.113.10",
    "203.0.113.11",
    "10.0.3.4",
    "10.244.1.1",
    "2001:db8::1",
    "2001:db9::1",
)


@pytest.mark.parametrize("case", CASES)
def test_accepted_is_allowed_and_nothing_else(case: str, tmp_path: Path) -> None:
    """Every pair of pods and every address outside gets exactly its accepted patterns, in each dialect."""
    _check(load(Path(__file__).parent / "golden" / case / "case.yaml"), tmp_path)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw up to six workloads in up to three namespaces and patterns between any of them and addresses outside."""
    places = draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=2, max_size=6))
    workloads: dict[str, dict[str, Any]] = {}
    for number, namespace in enumerate(places):
        labels = {"app": f"app-{number}", "tier": draw(st.sampled_from(["front", "back"]))}
        shape = draw(st.sampled_from(["labels", "app", "in", "none"]))
        entry: dict[str, Any] = {"labels": labels}
        if shape == "app":
            entry["selector"] = {"matchLabels": {"app": labels["app"]}}
        elif shape == "in":
            terms = [{"key": "app", "operator": "In", "values": ["other", labels["app"]]}]
            terms.append({"key": "canary", "operator": "NotIn", "values": ["true"]})
            entry["selector"] = {"matchExpressions": terms}
        elif shape == "none" and number:
            entry["selector"] = "none"
        workloads[f"{namespace}/deployment/app-{number}"] = entry
    ends = st.sampled_from([*workloads, "203.0.113.10/32", "198.51.100.0/24", "0.0.0.0/0", "2001:db8::/32"])
    needs = st.sampled_from(["tcp/80", "tcp/443", "udp/53", "tcp/8000-8003", "sctp/9", "icmp/8", "tcp/7-400"])
    decisions = st.sampled_from(["accept", "accept", "accept", "queue", "reject"])
    lines = draw(
        st.lists(st.tuples(decisions, ends, ends, needs), max_size=12, unique_by=lambda row: row[1:]).map(
            lambda rows: [f"{row[0]} {row[1]} -> {row[2]} {row[3]}" for row in rows if "deployment" in row[1] + row[2]]
        )
    )
    options = {
        "default_deny": draw(st.booleans()),
        "direction": draw(st.sampled_from(["both", "both", "ingress", "egress"])),
    }
    return world(workloads, lines, options, ["10.244.0.0/16"])


@given(one=worlds())
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_worlds_are_allowed_exactly(one: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same holds for any small world, any decisions and any phase."""
    _check(one, tmp_path_factory.mktemp("world"))


def _check(one: World, folder: Path) -> None:
    policysets = {target: generate(one.learned, target=target, **one.options) for target in TARGETS}
    rendered = {target: render(policyset, one.learned, target) for target, policyset in policysets.items()}
    if not any(policyset.policies for policyset in policysets.values()):
        return
    sets = {target: files for target, files in rendered.items() if policysets[target].policies}
    for target, verdicts in judge(folder, one.topology(), sets).items():
        policyset = policysets[target]
        assert verdicts.policies == len(policyset.policies) + len(policyset.default_deny)
        _compare(one, policyset, verdicts)


def _compare(one: World, policyset: PolicySet, verdicts: Verdicts) -> None:
    pods = sorted(
        f"{entry['metadata']['namespace']}/{entry['metadata']['name']}"
        for entry in one.topology()
        if entry["kind"] == "Pod"
    )
    for source in pods:
        for destination in pods:
            if source != destination:
                wanted = _meet(
                    _half(one, policyset, source, "egress", destination),
                    _half(one, policyset, destination, "ingress", source),
                )
                assert verdicts.allowed.get((source, destination), frozenset()) == wanted, (source, destination)
        for address in OUTSIDE:
            for direction in ("ingress", "egress"):
                wanted = _half(one, policyset, source, direction, address)
                found = verdicts.outside(source, address, ingress=direction == "ingress")
                assert found == wanted, (source, address, direction)


def _meet(one: frozenset[tuple[str, int]] | None, other: frozenset[tuple[str, int]] | None) -> Any:
    return other if one is None else one if other is None else one & other


def _half(one: World, policyset: PolicySet, pod: str, direction: str, other: str) -> frozenset[tuple[str, int]] | None:
    """Return what one end allows by the patterns alone; None where it is not isolated."""
    policies = {pod_of(policy.workload): policy for policy in policyset.policies}
    directions = policies[pod].directions if pod in policies else ()
    if pod.partition("/")[0] in policyset.default_deny:
        directions = policyset.policies[0].directions
    if direction not in directions:
        return None
    skipped = {(entry.pattern, entry.reason.split(" ")[0]) for entry in policyset.skipped}
    found: set[tuple[str, int]] = set()
    for pattern in one.learned.patterns:
        mine, peer = pattern.source, pattern.destination
        if direction == "ingress":
            mine, peer = peer, mine
        written = pattern.decision == "accept" and (pattern.id, direction) not in skipped and pod in policies
        if written and _is(mine, pod) and _is(peer, other):
            found |= _connections(pattern)
    return frozenset(found)


def _is(end: str, place: str) -> bool:
    if end.count("/") == 2:
        return pod_of(end) == place
    if not (set(".:") & set(end)) or "/" in place:
        return False
    address, network = ip_address(place), ip_network(end)
    return address in network and not (network.prefixlen == 0 and address in ip_network("10.244.0.0/16"))


def _connections(pattern: Pattern) -> set[tuple[str, int]]:
    if pattern.icmp_type is not None:
        return {(pattern.protocol, pattern.icmp_type)}
    assert pattern.port is not None
    return {(pattern.protocol, number) for number in range(pattern.port, (pattern.end_port or pattern.port) + 1)}
