"""Random policies of Cilium, as far as a recording of connections settles what they mean.

Source: cilium/cilium pkg/policy/api (rule.go, ingress.go, egress.go, cidr.go, l4.go, icmp.go).
"""

import random
from typing import Any

from tests.oracles.cilium import NAMESPACE, SIDES, SPACE_LABELS
from tests.oracles.kubernetes_policies import BLOCKS, Kubernetes
from tests.oracles.worlds import KEYS, NUMBERS, VALUES, World

Json = dict[str, Any]


class Cilium:
    """Writes random policies for a world."""

    def __init__(self, dice: random.Random, world: World) -> None:
        self.dice = dice
        self.namespaces = tuple(world.namespaces)
        self.kubernetes = Kubernetes(dice, world, (4,), odd=False)

    def policy(self, name: str) -> Json:
        """Return a CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy with at least one rule."""
        dice = self.dice
        spec: Json = {"endpointSelector": self.selector()}
        sections = ("ingress", "egress", "ingressDeny", "egressDeny")
        for section in dice.sample(sections, dice.randint(1, 3)):
            direction = section.removesuffix("Deny")
            spec[section] = [self.rule(direction) for _ in range(dice.randint(1, 3))]
        if dice.random() < 0.3:
            spec["enableDefaultDeny"] = {dice.choice(tuple(SIDES)): dice.random() < 0.3}
        metadata: Json = {"name": name}
        kind = dice.choice(("CiliumNetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"))
        if kind == "CiliumNetworkPolicy":
            metadata["namespace"] = dice.choice(self.namespaces)
        return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec}

    def selector(self) -> Json:
        """Return a selector whose keys may name where a label comes from."""
        found = self.kubernetes.selector()
        source = self.dice.choice(("", "", "k8s:", "any:"))
        if "matchLabels" in found:
            found["matchLabels"] = {f"{source}{key}": value for key, value in found["matchLabels"].items()}
        for one in found.get("matchExpressions", []):
            one["key"] = f"{source}{one['key']}"
        return found

    def endpoint(self) -> Json:
        """Return a peer, of the policy's namespace, of another one, or of all that have a label."""
        dice = self.dice
        found = self.selector()
        kind = dice.randrange(4)
        if kind == 0:
            more = {f"k8s:{NAMESPACE}": dice.choice(self.namespaces)}
        elif kind == 1:
            more = {f"{SPACE_LABELS}{dice.choice(KEYS)}": dice.choice(VALUES)}
        else:
            return found
        return found | {"matchLabels": found.get("matchLabels", {}) | more}

    def rule(self, direction: str) -> Json:
        """Return a rule: whom it means, and which ports or messages."""
        dice, side = self.dice, SIDES[direction]
        kind = dice.randrange(7)
        found: Json = {}
        if kind < 3:
            found[f"{side}Endpoints"] = [self.endpoint() for _ in range(dice.choice((0, 1, 1, 2)))]
        elif kind == 3:
            found[f"{side}Entities"] = dice.sample(("all", "world", "cluster", "none"), dice.randint(1, 2))
        elif kind == 4:
            found[f"{side}CIDR"] = [dice.choice(BLOCKS[4])[0]]
        elif kind == 5:
            cidr, holes = dice.choice(BLOCKS[4])
            found[f"{side}CIDRSet"] = [{"cidr": cidr, "except": list(holes)} if holes else {"cidr": cidr}]
        kind = dice.randrange(5)
        if kind in (0, 1):
            found["toPorts"] = [{"ports": [self.port() for _ in range(dice.randint(1, 2))]}]
        elif kind == 2:
            found["icmps"] = [{"fields": [{"family": dice.choice(("IPv4", "IPv6")), "type": dice.choice((3, 8))}]}]
        return found

    def port(self) -> Json:
        """Return a port, a range, or all ports of a protocol."""
        dice = self.dice
        first, last = sorted(dice.sample(NUMBERS, 2))
        found: Json = {"port": str(dice.choice((first, first, first, 0)))}
        if found["port"] != "0" and dice.random() < 0.4:
            found["endPort"] = last
        if dice.random() < 0.8:
            found["protocol"] = dice.choice(("TCP", "UDP", "ANY"))
        return found
