"""What a change of policies may do to verdicts, whatever the policies are: over the oracles' random cases, without an oracle.

Sources: kubernetes.io/docs/concepts/services-networking/network-policies (policies add up, rules allow only, an isolated pod
stays isolated); projectcalico/calico felix/calc/policy_sorter.go (policies go by their order, not by where they are written).
"""

import random
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from tests.oracles.cases import KINDS, Case, case, relabelled
from tests.oracles.kubernetes_policies import SIDES, rules, types, with_selectors
from tests.oracles.lines import Verdicts
from tests.oracles.podfence_side import mine
from tests.oracles.worlds import KEYS

CASES = 25
KUBERNETES = "networking.k8s.io/v1"

Json = dict[str, Any]


def judged(one: Case) -> Verdicts:
    """Return podfence's verdicts."""
    return mine(one, block_matches_pods=True)


def changes(kind: str, change: Callable[[Case], Case]) -> tuple[int, int, int]:
    """Return how many verdicts a change of cases lets alone, turns to allowed, and turns to denied."""
    same = gained = lost = 0
    for number in range(CASES):
        one = case(kind, number)
        before, after = judged(one), judged(change(one))
        same += int((before == after).sum())
        gained += int((after & ~before).sum())
        lost += int((before & ~after).sum())
    return same, gained, lost


def test_a_policy_more_for_isolated_pods_only_allows() -> None:
    """A policy that selects what another one selects, for the same directions, denies nothing that was allowed."""

    def change(one: Case) -> Case:
        first = one.policies[0]
        other = deepcopy(case("kubernetes", CASES + int(one.name.rpartition(" ")[2])).policies[0])
        spec = {name: part for name, part in other["spec"].items() if name in SIDES}
        spec |= {"podSelector": first["spec"].get("podSelector", {}), "policyTypes": types(first)}
        more = other | {"metadata": {**first["metadata"], "name": "more"}, "spec": spec}
        return replace(one, policies=(*one.policies, more))

    _, gained, lost = changes("kubernetes", change)
    assert lost == 0
    assert gained > 0


def split(policy: Json) -> Json:
    """Return a policy with a rule for each peer, or each net, of its rules."""
    found = deepcopy(policy)
    for direction, side in SIDES.items():
        if not found["spec"].get(direction):
            continue
        parts: list[Json] = []
        for rule in found["spec"][direction]:
            if policy["apiVersion"] == KUBERNETES:
                parts += [rule | {side: [peer]} for peer in rule.get(side) or []] or [rule]
            else:
                end = {"ingress": "source", "egress": "destination"}[direction]
                nets = rule.get(end, {}).get("nets", [])
                parts += [rule | {end: rule[end] | {"nets": [net]}} for net in nets] or [rule]
        found["spec"][direction] = parts
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_for_each_peer_says_the_same(kind: str) -> None:
    """The peers of a rule, or the nets of an entity, are alternatives: rules for each of them are the same."""
    before = sum(len(rules(policy)) for number in range(CASES) for policy in case(kind, number).policies)
    after = sum(len(rules(split(policy))) for number in range(CASES) for policy in case(kind, number).policies)
    assert after > before
    _, gained, lost = changes(kind, lambda one: replace(one, policies=tuple(map(split, one.policies))))
    assert (gained, lost) == (0, 0)


def with_other_keys(one: Case) -> Case:
    """Return the case with the keys of labels renamed wherever they are."""
    names = {key: f"x-{key}" for key in KEYS}

    def labels(known: Any) -> dict[str, str]:
        return {names.get(key, key): value for key, value in known.items()}

    def selector(known: Json, _of: str) -> Json:
        found = deepcopy(known)
        if "matchLabels" in found:
            found["matchLabels"] = labels(found["matchLabels"])
        for expression in found.get("matchExpressions", []):
            expression["key"] = names.get(expression["key"], expression["key"])
        return found

    world = replace(
        one.world,
        namespaces={name: labels(known) for name, known in one.world.namespaces.items()},
        pods=tuple(replace(pod, labels=labels(pod.labels)) for pod in one.world.pods),
    )
    policies = tuple(
        with_selectors(policy, selector) if policy["apiVersion"] == KUBERNETES else expressions_renamed(policy, names)
        for policy in one.policies
    )
    sets = tuple(
        each | {"metadata": each["metadata"] | {"labels": labels(each["metadata"]["labels"])}} for each in one.sets
    )
    return replace(one, world=world, policies=policies, sets=sets)


def expressions_renamed(value: Any, names: dict[str, str], field: str = "") -> Any:
    """Return a Calico policy with keys renamed in its selectors, outside of quotes."""
    if isinstance(value, dict):
        return {key: expressions_renamed(part, names, key) for key, part in value.items()}
    if isinstance(value, list):
        return [expressions_renamed(part, names, field) for part in value]
    if field.lower().endswith("selector"):
        return re.sub(r"'[^']*'|[\w./-]+", lambda word: names.get(word[0], word[0]), value)
    return value


@pytest.mark.parametrize("kind", KINDS)
def test_other_keys_say_the_same(kind: str) -> None:
    """What labels are called does not matter when all that names them is changed, too."""
    assert any("x-app" in str(with_other_keys(case(kind, number)).policies) for number in range(CASES))
    _, gained, lost = changes(kind, with_other_keys)
    assert (gained, lost) == (0, 0)


def test_other_values_say_the_same() -> None:
    """What values labels have does not matter when all that asks for them is changed, too."""

    def change(one: Case) -> Case:
        # The names of namespaces are labels as well, which nobody may change.
        return relabelled(one, lambda value: value if value in one.world.namespaces else f"{value}x")

    _, gained, lost = changes("kubernetes", change)
    assert (gained, lost) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_deny_all_only_denies(kind: str) -> None:
    """A policy that selects everything in a namespace and allows nothing denies more and allows nothing."""

    def change(one: Case) -> Case:
        metadata = {"name": "deny-all", "namespace": next(iter(one.world.namespaces))}
        spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        more = {"apiVersion": KUBERNETES, "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
        return replace(one, policies=(*one.policies, more))

    _, gained, lost = changes(kind, change)
    assert gained == 0
    assert lost > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_writing_does_not_matter(kind: str) -> None:
    """Policies may stand in any order, and so may the rules of Kubernetes policies, which only allow."""

    def change(one: Case) -> Case:
        dice = random.Random(one.name)  # noqa: S311 - a seed, no secret
        policies = []
        for policy in dice.sample(one.policies, len(one.policies)):
            found = deepcopy(policy)
            for direction in SIDES:
                if found["spec"].get(direction) and policy["apiVersion"] == KUBERNETES:
                    dice.shuffle(found["spec"][direction])
            policies.append(found)
        return replace(one, policies=tuple(policies))

    assert any(change(case(kind, number)) != case(kind, number) for number in range(CASES))
    _, gained, lost = changes(kind, change)
    assert (gained, lost) == (0, 0)


def test_rules_of_calico_policies_are_in_order() -> None:
    """Turning the rules of Calico policies round does change verdicts: the cases can tell order from none."""

    def change(one: Case) -> Case:
        turned = deepcopy(one.policies)
        for policy in turned:
            for direction in SIDES:
                policy["spec"].get(direction, []).reverse()
        return replace(one, policies=turned)

    same, gained, lost = changes("calico", change)
    assert min(gained, lost) > 0
    assert same > 0
