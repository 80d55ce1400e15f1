"""Tiers of Calico policies with Kubernetes and cluster network policies among them, judged from dictionaries one verdict at a time.

It shares no code with podfence's judge. Order of tiers and policies: projectcalico/calico felix/calc/policy_sorter.go; actions and
what ends a tier: Calico documentation, "Get started with tiered policies"; Kubernetes policies at order 1000 of the tier `default`:
libcalico-go/lib/backend/k8s/conversion/conversion.go; Admin and Baseline: clusternetworkpolicy.go beside it, and
kubernetes-sigs/network-policy-api apis/v1alpha2/clusternetworkpolicy_types.go (priorities that are alike have no order); staged
kinds: api/pkg/apis/projectcalico/v3/staged*.go.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tests.oracles.kubernetes_policies import SIDES, types
from tests.oracles.matching import (
    Asked,
    Someone,
    calico_rule,
    chosen,
    cluster_rule,
    expression,
    kubernetes_rule,
    selects,
)

Json = dict[str, Any]
Half = tuple[Someone, Someone, Asked]
BUILT_IN = {"kube-admin": (1_000.0, "Pass"), "default": (1_000_000.0, "Deny"), "kube-baseline": (10_000_000.0, "Pass")}
KUBERNETES, CALICO, CLUSTER = "networking.k8s.io/v1", "projectcalico.org/v3", "policy.networking.k8s.io/v1alpha2"
BECOMES = {
    "StagedNetworkPolicy": (CALICO, "NetworkPolicy"),
    "StagedGlobalNetworkPolicy": (CALICO, "GlobalNetworkPolicy"),
    "StagedKubernetesNetworkPolicy": (KUBERNETES, "NetworkPolicy"),
}
NO_ORDER = 1_000_000.0
"""Of a tier that names none (libcalico-go/lib/resources/tier.go)."""
WORDS = {"Accept": "Allow"}


def acting(objects: Sequence[Json], staged: str) -> list[Json]:
    """Return the policies in force, once staged ones are `enforced` or `ignored`."""
    found = [one for one in objects if not one["kind"].startswith("Staged") and one["kind"] != "Tier"]
    for one in objects:
        if one["kind"] not in BECOMES or staged == "ignored":
            continue
        version, kind = BECOMES[one["kind"]]
        action = one["spec"].get("stagedAction", "Set")
        if action in ("Set", "Delete"):
            found = [other for other in found if _identity(other) != (version, kind, *_place(one))]
        if action == "Set":
            found.append({**one, "apiVersion": version, "kind": kind})
    return found


def _place(one: Json) -> tuple[str, str]:
    return one["metadata"].get("namespace", ""), one["metadata"]["name"]


def _identity(one: Json) -> tuple[str, str, str, str]:
    return one["apiVersion"], one["kind"], *_place(one)


class Tiers:
    """Policies and tiers; asks each connection through them in order."""

    def __init__(self, objects: Sequence[Json], staged: str = "enforced") -> None:
        orders = dict(BUILT_IN)
        for one in objects:
            if one["kind"] == "Tier":
                spec = one["spec"]
                orders[one["metadata"]["name"]] = spec.get("order", NO_ORDER), spec.get("defaultAction", "Deny")
        self.policies: dict[str, list[Json]] = {}
        for one in acting(objects, staged):
            self.policies.setdefault(_tier(one), []).append(one)
        self.tiers = sorted(self.policies, key=lambda name: (orders[name][0], name))
        self.defaults = {name: orders[name][1] for name in self.tiers}

    def outcome(self, direction: str, source: Someone, target: Someone, asked: Asked) -> str:
        """Return `allowed`, `denied`, or `undetermined` where an order that nobody defines decides."""
        subject = source if direction == "egress" else target
        if subject.pod is None:
            return "allowed"
        found = self._from(0, direction, subject, (source, target, asked))
        return found.pop() if len(found) == 1 else "undetermined"

    def _from(self, rank: int, direction: str, subject: Someone, half: Half) -> set[str]:
        """Return the outcomes that are possible from a tier on."""
        if rank == len(self.tiers):
            return {"allowed"}
        tier = self.tiers[rank]
        mine = [one for one in self.policies[tier] if direction in directions(one) and governs(one, subject)]
        actions: set[str] = set()
        for level in _levels(mine):
            actions = {action for chain in level if (action := _first(chain, direction, half))}
            if actions:
                break
        if not actions:
            isolated = any(one["apiVersion"] != CLUSTER for one in mine)
            actions = {self.defaults[tier] if isolated else "Pass"}
        found: set[str] = set()
        for action in actions:
            if action == "Pass":
                found |= self._from(rank + 1, direction, subject, half)
            else:
                found.add("allowed" if action == "Allow" else "denied")
        return found


def _tier(one: Json) -> str:
    if one["apiVersion"] == CLUSTER:
        return f"kube-{one['spec']['tier'].lower()}"
    return str(one["spec"].get("tier", "default"))


def _levels(policies: list[Json]) -> Iterator[list[list[Json]]]:
    """Yield policies of one order after another: chains that have no order among them.

    Calico's own go by their names. Where those of Kubernetes stand among them changed with Calico 3.32, which took the prefix
    `knp.default.` off their names.
    """

    def order(one: Json) -> float:
        if one["apiVersion"] == CLUSTER:
            return float(one["spec"]["priority"])
        return 1000.0 if one["apiVersion"] == KUBERNETES else one["spec"].get("order", math.inf)

    for at in sorted({order(one) for one in policies}):
        level = [one for one in policies if order(one) == at]
        named = [one for one in level if one["apiVersion"] == CALICO]
        named.sort(key=lambda one: "/".join((*reversed(_place(one)), one["kind"])))
        yield [named, *([one] for one in level if one["apiVersion"] != CALICO)]


def directions(one: Json) -> list[str]:
    """Return the directions that a policy governs."""
    spec = one["spec"]
    if one["apiVersion"] == CLUSTER:
        return [direction for direction in SIDES if spec.get(direction)]
    if one["apiVersion"] == KUBERNETES:
        return [kind.lower() for kind in types(one)]
    given = [kind.lower() for kind in spec.get("types") or []]
    return given or [direction for direction in SIDES if spec.get(direction)] or ["ingress"]


def governs(one: Json, subject: Someone) -> bool:
    """Tell whether a policy selects a pod."""
    spec, space = one["spec"], dict(subject.space)
    if one["apiVersion"] == CLUSTER:
        return chosen(spec["subject"], subject)
    namespace = one["metadata"].get("namespace")
    if subject.pod is None or namespace not in (None, subject.pod.namespace):
        return False
    if one["apiVersion"] == KUBERNETES:
        return selects(spec.get("podSelector"), subject.labels)
    spaces = spec.get("namespaceSelector")
    return expression(spec.get("selector", "all()"))(subject.labels) and (not spaces or expression(spaces)(space))


def _first(chain: list[Json], direction: str, half: Half) -> str | None:
    """Return the action of the first rule that matches and decides."""
    source, target, asked = half
    end, side = (target, "to") if direction == "egress" else (source, "from")
    for one in chain:
        namespace = one["metadata"].get("namespace")
        for rule in one["spec"].get(direction) or []:
            if one["apiVersion"] == KUBERNETES:
                if kubernetes_rule(rule, side, namespace, end, target, asked):
                    return "Allow"
            elif one["apiVersion"] == CLUSTER:
                if cluster_rule(rule, side, end, target, asked):
                    return WORDS.get(rule["action"], str(rule["action"]))
            elif rule["action"] != "Log" and calico_rule(rule, namespace, source, target, asked):
                return str(rule["action"])
    return None
