"""Random policies over random pods, judged by podfence and by three judges that share no code with it: no difference is allowed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.oracles.cases import Case
from tests.oracles.comparison import (
    CYCLONUS,
    NETPOL_ANALYZER,
    NETWORK_CONFIG_ANALYZER,
    ORACLES,
    Oracle,
    compare,
)
from tests.oracles.kubernetes_policies import SIDES, rules
from tests.oracles.lines import Program

CASES = 100
FEWEST = 20_000
"""Verdicts of each outcome; a comparison in which everything is allowed, or nothing, compares nothing."""


@pytest.mark.parametrize(
    ("oracle", "kind"),
    [(oracle, kind) for oracle in ORACLES for kind in oracle.kinds],
    ids=lambda one: getattr(one, "name", one),
)
def test_the_judge_agrees(start: Callable[[Oracle], Program], oracle: Oracle, kind: str) -> None:
    """Podfence and the oracle say the same of every pair of ends, protocol and port."""
    found = compare(oracle, start(oracle), kind, range(CASES))
    print(f"{oracle.name}, {kind}: {found}")  # noqa: T201 - shown by `pytest -rP`
    assert found.different == 0, str(found)
    assert min(found.allowed, found.denied) >= FEWEST, str(found)


def _changed(one: Case, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Case:
    return replace(one, policies=tuple(change(policy) for policy in one.policies))


def _peers(policy: dict[str, Any], change: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> dict[str, Any]:
    spec = dict(policy["spec"])
    for direction, side in SIDES.items():
        if spec.get(direction):
            spec[direction] = [
                rule | ({side: [part for peer in rule[side] for part in change(peer)]} if rule.get(side) else {})
                for rule in spec[direction]
            ]
    return policy | {"spec": spec}


def without_except(one: Case) -> Case:
    """Return the case with whole blocks."""
    return _changed(
        one,
        lambda policy: _peers(
            policy, lambda peer: [{"ipBlock": {"cidr": peer["ipBlock"]["cidr"]}} if "ipBlock" in peer else peer]
        ),
    )


def either_selector(one: Case) -> Case:
    """Return the case with peers that need only one of their two selectors to match."""
    return _changed(one, lambda policy: _peers(policy, lambda peer: [{key: part} for key, part in peer.items()]))


def isolating_by_an_empty_list(one: Case) -> Case:
    """Return the case with absent types taken from the lists that are there."""

    def change(policy: dict[str, Any]) -> dict[str, Any]:
        spec = policy["spec"]
        if spec.get("policyTypes") or "egress" not in spec:
            return policy
        return policy | {"spec": spec | {"policyTypes": ["Ingress", "Egress"]}}

    return _changed(one, change)


def ports_of_another_pod(one: Case) -> Case:
    """Return the case with each pod's declared ports given to the next pod."""
    pods = one.world.pods
    turned = tuple(replace(pod, ports=other.ports) for pod, other in zip(pods, (*pods[1:], *pods[:1]), strict=True))
    return replace(one, world=replace(one.world, pods=turned))


def tcp_only(one: Case) -> Case:
    """Return the case with rules that ask for no port allowing TCP only."""

    def change(policy: dict[str, Any]) -> dict[str, Any]:
        spec = dict(policy["spec"])
        for direction in {direction for direction, _ in rules(policy)}:
            spec[direction] = [
                rule if rule.get("ports") else rule | {"ports": [{"protocol": "TCP"}]} for rule in spec[direction]
            ]
        return policy | {"spec": spec}

    return _changed(one, change)


@pytest.mark.parametrize("oracle", [CYCLONUS, NETPOL_ANALYZER, NETWORK_CONFIG_ANALYZER], ids=lambda one: one.name)
@pytest.mark.parametrize(
    "mistake", [without_except, either_selector, isolating_by_an_empty_list, ports_of_another_pod, tcp_only]
)
def test_a_mistake_is_noticed(
    start: Callable[[Oracle], Program], oracle: Oracle, mistake: Callable[[Case], Case]
) -> None:
    """A judge that misreads policies in a common manner differs from each oracle."""
    program = start(oracle)
    assert any(compare(oracle, program, "kubernetes", [number], mistake).different for number in range(CASES))
