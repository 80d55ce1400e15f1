"""Random policies and network sets of projectcalico.org/v3, as far as network-config-analyzer knows them.

It knows one tier, no staged kinds, no service accounts and no Services. The addresses of pods lie in none of the nets, for it
never looks them up there. A case has either network sets, or rules with nets beside a selector, or `notNets` alone, which it
does not take for what Calico means (see the driver), and which cannot be rewritten where sets are about.

Source: projectcalico/calico api/pkg/apis/projectcalico/v3/{networkpolicy,globalnetworkpolicy,networkset}.go.
"""

import random
from typing import Any

from tests.oracles.worlds import KEYS, NAMES, PROTOCOLS, VALUES, World, labels

NETS = (
    ("203.0.113.0/24", ("203.0.113.8/29", "203.0.113.128/25")),
    ("203.0.112.0/20", ("203.0.113.0/24",)),
    ("198.51.100.0/24", ("198.51.100.7/32",)),
    ("8.0.0.0/7", ("8.8.0.0/16",)),
    ("203.0.113.7/32", ()),
    ("128.0.0.0/1", ("203.0.113.0/24",)),
)
SET_NETS = ("203.0.113.0/25", "203.0.113.128/25", "198.51.100.0/24", "8.8.0.0/16", "9.0.0.0/8")
"""Nets of network sets: apart, for network-config-analyzer keeps sets as peers of their own."""
PORTS = (80, 81, 443, 5432, 8080, "8000:9000", "80:443", "5432:5432")

NUMBERED: dict[Any, str] = {6: "TCP", 17: "UDP", 132: "SCTP"}
"""Protocols that a policy may give by number."""

Json = dict[str, Any]


class Calico:
    """Writes random policies and network sets for a world."""

    def __init__(self, dice: random.Random, world: World) -> None:
        self.dice = dice
        self.namespaces = tuple(world.namespaces)
        self.declared = [port for pod in world.pods for port in pod.ports]
        self.with_sets = False
        self.with_global_sets = False

    def sets(self) -> tuple[Json, ...]:
        """Return network sets for a third of the cases; to be called before any policy is made."""
        dice = self.dice
        self.with_sets = dice.random() < 0.33
        nets = dice.sample(SET_NETS, len(SET_NETS))
        found: list[Json] = []
        for number in range(dice.randint(1, 3) if self.with_sets else 0):
            kind = dice.choice(("NetworkSet", "GlobalNetworkSet"))
            self.with_global_sets = self.with_global_sets or kind == "GlobalNetworkSet"
            metadata: Json = {"name": f"set{number}", "labels": labels(dice, VALUES) | {dice.choice(KEYS): VALUES[0]}}
            if kind == "NetworkSet":
                metadata["namespace"] = dice.choice(self.namespaces)
            spec: Json = {"nets": [nets.pop() for _ in range(dice.randint(1, 2)) if nets]}
            found.append({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec})
        return tuple(one for one in found if one["spec"]["nets"])

    def policy(self, name: str) -> Json:
        """Return a NetworkPolicy or GlobalNetworkPolicy; its order is its own, and only the first may have none."""
        dice = self.dice
        kind = dice.choice(("NetworkPolicy", "NetworkPolicy", "GlobalNetworkPolicy"))
        number = int(name.removeprefix("np"))
        spec: Json = {}
        if dice.random() < 0.9:
            spec["selector"] = dice.choice(("all()", self.expression()))
        if number or dice.random() < 0.7:
            spec["order"] = dice.choice((0, 900, 1800)) + number + dice.choice((0, 0, 0, 0.5))
        if kind == "GlobalNetworkPolicy" and dice.random() < 0.4:
            spec["namespaceSelector"] = self.namespace_expression(of_peers=False)
        types = dice.choice((None, None, ["Ingress"], ["Egress"], ["Ingress", "Egress"]))
        if types:
            spec["types"] = types
        for direction in ("ingress", "egress"):
            chance = dice.random()
            if chance < 0.75:
                spec[direction] = [self.rule(direction) for _ in range(dice.randint(1, 4))]
            elif chance < 0.85:
                spec[direction] = []
        metadata = {"name": name} | ({"namespace": dice.choice(self.namespaces)} if kind == "NetworkPolicy" else {})
        return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}

    def expression(self, depth: int = 2, keys: tuple[str, ...] = KEYS) -> str:
        """Return a selector; with a depth, one that may join others."""
        dice = self.dice
        key, value, other = dice.choice(keys), dice.choice(VALUES), dice.choice(VALUES)
        plain = (
            f"{key} == '{value}'",
            f"{key} != '{value}'",
            f"has({key})",
            f"!has({key})",
            f"{key} in {{'{value}', '{other}'}}",
            f"{key} not in {{'{value}', '{other}'}}",
            f"{key} contains '{value}'",
            f"{key} starts with '{value}'",
            f"{key} ends with '{value}'",
        )
        kind = dice.randrange(len(plain) + (4 if depth else 0))
        if kind < len(plain):
            return plain[kind]
        if kind == len(plain):
            return f"!({self.expression(depth - 1, keys)})"
        sign = dice.choice((" && ", " || "))
        joined = sign.join(self.expression(depth - 1, keys) for _ in range(dice.choice((2, 2, 3))))
        return joined if kind == len(plain) + 1 else f"({joined})"

    def namespace_expression(self, *, of_peers: bool = True) -> str:
        """Return a selector of namespaces; `of_peers`: of those of a rule, where it may be `global()`.

        Beside a GlobalNetworkSet only positive ones: Felix lets it match a negated one, having no namespace whose label could
        be refused, and network-config-analyzer does not.
        """
        dice = self.dice
        name = f"kubernetes.io/metadata.name == '{dice.choice(self.namespaces)}'"
        if not self.with_global_sets:
            return dice.choice((name, "all()", self.expression(1), self.expression(1)))
        key, value = dice.choice(KEYS), dice.choice(VALUES)
        found = (name, "all()", f"{key} == '{value}'", f"has({key})", *(["global()"] * 2 if of_peers else []))
        return dice.choice(found)

    def entity(self) -> Json:
        """Return whom a rule means: anybody, addresses, or what selectors say."""
        dice = self.dice
        kind = dice.randrange(6)
        if kind == 0:
            return {}
        if kind == 1:
            return self.nets()
        found: Json = {}
        if kind in (2, 3):
            found["selector"] = dice.choice(("all()", self.expression(), self.expression()))
        if kind in (3, 4):
            found["namespaceSelector"] = self.namespace_expression()
        if kind == 5 or dice.random() < 0.15:
            found["notSelector"] = self.expression(1)
        if not self.with_sets and dice.random() < 0.1:
            found |= self.nets()
        return found

    def nets(self) -> Json:
        """Return nets, nets less others, or all but some."""
        cidr, holes = self.dice.choice(NETS)
        kind = self.dice.randrange(4)
        if kind == 0 and not self.with_sets:
            return {"notNets": [cidr]}
        more = [self.dice.choice(NETS)[0]] if kind == 1 else []
        return {"nets": [cidr, *more]} | ({"notNets": list(holes)} if holes and kind > 1 else {})

    def rule(self, direction: str) -> Json:
        """Return a rule about the other end, the connection, and now and then the policy's own end."""
        dice = self.dice
        found: Json = {"action": dice.choice(("Allow", "Allow", "Allow", "Deny", "Deny", "Pass", "Log"))}
        sides = {"ingress": ("source", "destination"), "egress": ("destination", "source")}[direction]
        chosen = self.entity()
        if chosen:
            found[sides[0]] = chosen
        if dice.random() < 0.1:
            found[sides[1]] = {"selector": self.expression(1)}
        kind = dice.random()
        if kind < 0.65:
            found["protocol"] = dice.choice((*PROTOCOLS, *PROTOCOLS, 6, 17, "ICMP"))
        if 0.6 < kind < 0.75:
            found["notProtocol"] = dice.choice((*PROTOCOLS, 17, "ICMP"))
        if found.get("protocol", "ICMP") != "ICMP" and dice.random() < 0.7:
            field = dice.choice(("ports", "ports", "notPorts"))
            found["destination"] = found.get("destination", {}) | {field: self.ports(found["protocol"])}
        return found

    def ports(self, protocol: int | str) -> list[int | str]:
        """Return one to three ports: numbers, ranges, names, most of them declared for the protocol."""
        dice = self.dice
        names = [port.name for port in self.declared if port.protocol in (protocol, NUMBERED.get(protocol))] or list(
            NAMES
        )
        found: list[int | str] = []
        for _ in range(dice.choice((1, 1, 2, 3))):
            kind = dice.randrange(3)
            found.append(dice.choice(PORTS) if kind else dice.choice(names if dice.random() < 0.8 else NAMES))
        return found
