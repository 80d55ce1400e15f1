"""Random NetworkPolicies of networking.k8s.io/v1: every form that the API accepts and gives a meaning of its own.

Source: kubernetes/api networking/v1/types.go; kubernetes/kubernetes pkg/apis/networking/v1/defaults.go.
"""

import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from tests.oracles.worlds import KEYS, NAMES, NUMBERS, ODD_VALUES, VALUES, World

BLOCKS = {
    4: (
        ("203.0.113.0/24", ("203.0.113.8/29", "203.0.113.128/25")),
        ("203.0.112.0/20", ("203.0.113.0/24",)),
        ("198.51.100.0/24", ("198.51.100.7/32",)),
        ("8.0.0.0/7", ("8.8.0.0/16",)),
        ("203.0.113.7/32", ()),
        ("10.0.0.0/8", ("10.0.1.0/24", "10.128.0.0/9")),
        ("10.0.2.0/24", ("10.0.2.1/32",)),
        ("0.0.0.0/0", ("10.0.0.0/8", "203.0.113.0/24", "128.0.0.0/1")),
    ),
    6: (
        ("2001:db8::/32", ("2001:db8:1::/48",)),
        ("fd00::/16", ("fd00::1:0/112",)),
        ("::/0", ("2001:db8::/32", "fd00::/8")),
    ),
}
"""Blocks with what may be taken out of them; some hold addresses of pods."""

Json = dict[str, Any]
SIDES = {"ingress": "from", "egress": "to"}


class Kubernetes:
    """Writes random policies for a world."""

    def __init__(self, dice: random.Random, world: World, families: tuple[int, ...], *, odd: bool) -> None:
        self.dice = dice
        self.namespaces = tuple(world.namespaces)
        self.declared = [port for pod in world.pods for port in pod.ports]
        self.families = families
        self.values = VALUES + (ODD_VALUES if odd else ())

    def policy(self, name: str) -> Json:
        """Return a policy in any of the namespaces."""
        dice = self.dice
        spec: Json = {"podSelector": self.selector()} if dice.random() < 0.9 else {}
        types = dice.choice((None, None, [], ["Ingress"], ["Egress"], ["Ingress", "Egress"], ["Egress", "Ingress"]))
        if types is not None:
            spec["policyTypes"] = types
        for direction, side in SIDES.items():
            kind = dice.random()
            if kind < 0.6:
                spec[direction] = [self.rule(side) for _ in range(dice.randint(1, 2))]
            elif kind < 0.8:
                spec[direction] = [] if kind < 0.7 else [{}]
        metadata = {"name": name, "namespace": dice.choice(self.namespaces)}
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}

    def selector(self, keys: tuple[str, ...] = KEYS) -> Json:
        """Return a label selector, empty now and then."""
        dice = self.dice
        found: Json = {}
        if dice.random() < 0.5:
            found["matchLabels"] = {
                key: dice.choice(self.values) for key in dice.sample(keys, dice.choice((1, 1, 1, 2)))
            }
        if dice.random() < 0.35:
            found["matchExpressions"] = [self.expression(keys) for _ in range(dice.choice((1, 1, 2)))]
        return found

    def expression(self, keys: tuple[str, ...]) -> Json:
        """Return one requirement of a label selector."""
        dice = self.dice
        operator = dice.choice(("In", "NotIn", "Exists", "DoesNotExist"))
        values = {"values": dice.sample(self.values, dice.randint(1, 2))} if operator in ("In", "NotIn") else {}
        return {"key": dice.choice(keys), "operator": operator} | values

    def namespace_selector(self) -> Json:
        """Return a selector of namespaces, by name half of the time."""
        if self.dice.random() < 0.5:
            return {"matchLabels": {"kubernetes.io/metadata.name": self.dice.choice(self.namespaces)}}
        return self.selector()

    def peer(self) -> Json:
        """Return a peer: pods here, whole namespaces, pods of namespaces, or a block."""
        kind = self.dice.randrange(4)
        if kind == 0:
            return {"podSelector": self.selector()}
        if kind == 1:
            return {"namespaceSelector": self.namespace_selector()}
        if kind == 2:
            return {"namespaceSelector": self.namespace_selector(), "podSelector": self.selector()}
        cidr, holes = self.dice.choice(BLOCKS[self.dice.choice(self.families)])
        kept = [hole for hole in holes if self.dice.random() < 0.5]
        return {"ipBlock": {"cidr": cidr} | ({"except": kept} if kept else {})}

    def port(self) -> Json:
        """Return a port: of a protocol or of none, by number, by range, by name, or all of them."""
        dice = self.dice
        protocol = dice.choice((None, "TCP", "UDP", "SCTP"))
        found: Json = {"protocol": protocol} if protocol else {}
        kind = dice.choice((0, 1, 1, 2, 3, 4))
        if kind == 0:
            return found or {"protocol": "TCP"}
        if kind == 1 and self.declared and dice.random() < 0.8:
            port = dice.choice(self.declared)
            return ({} if port.protocol == "TCP" and dice.random() < 0.5 else {"protocol": port.protocol}) | {
                "port": port.name
            }
        if kind == 1:
            return found | {"port": dice.choice(NAMES)}
        if kind == 2:
            first = dice.choice(NUMBERS)
            return found | {"port": first, "endPort": dice.choice([number for number in NUMBERS if number >= first])}
        return found | {"port": dice.choice(NUMBERS)}

    def rule(self, side: str) -> Json:
        """Return a rule; either of its lists may be absent or empty."""
        dice = self.dice
        found: Json = {}
        kind = dice.random()
        if kind < 0.9:
            found[side] = [self.peer() for _ in range(dice.choice((1, 1, 2, 3)))] if kind < 0.8 else []
        kind = dice.random()
        if kind < 0.8:
            found["ports"] = [self.port() for _ in range(dice.choice((1, 1, 2)))] if kind < 0.7 else []
        return found


def types(policy: Json) -> list[str]:
    """Return the directions that a policy isolates, as the API server defaults them."""
    spec = policy["spec"]
    return spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def rules(policy: Json) -> list[tuple[str, Json]]:
    """Return the rules of both directions, each with its direction."""
    return [(direction, rule) for direction in SIDES for rule in policy["spec"].get(direction) or []]


def with_selectors(policy: Json, change: Callable[[Json, str], Json]) -> Json:
    """Return the policy with its label selectors changed, each given with what it selects.

    That is `subjects`, `pods` (of the policy's namespace), `pods of namespaces`, or `namespaces`.
    """
    found = deepcopy(policy)
    if "podSelector" in found["spec"]:
        found["spec"]["podSelector"] = change(found["spec"]["podSelector"], "subjects")
    for direction, rule in rules(found):
        for peer in rule.get(SIDES[direction]) or []:
            if "podSelector" in peer:
                of = "pods of namespaces" if "namespaceSelector" in peer else "pods"
                peer["podSelector"] = change(peer["podSelector"], of)
            if "namespaceSelector" in peer:
                peer["namespaceSelector"] = change(peer["namespaceSelector"], "namespaces")
    return found


def with_values(selector: Json, change: Callable[[str], str]) -> Json:
    """Return a label selector with its values changed."""
    found = deepcopy(selector)
    if "matchLabels" in found:
        found["matchLabels"] = {key: change(value) for key, value in found["matchLabels"].items()}
    for expression in found.get("matchExpressions", []):
        if "values" in expression:
            expression["values"] = [change(value) for value in expression["values"]]
    return found
