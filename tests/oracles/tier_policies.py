"""Random tiers with policies of three APIs in them, and random Cilium policies beside those of Kubernetes.

Sources: projectcalico/calico api/pkg/apis/projectcalico/v3 (tier.go, networkpolicy.go, staged*.go); kubernetes-sigs/network-policy-api
apis/v1alpha2/clusternetworkpolicy_types.go; cilium/cilium pkg/policy/api (rule.go, ingress.go, egress.go, l4.go, icmp.go).
"""

import random
from typing import Any

from tests.oracles.calico_policies import Calico
from tests.oracles.kubernetes_policies import SIDES, Kubernetes
from tests.oracles.matching import Asked
from tests.oracles.worlds import NAMES, NUMBERS, World

Json = dict[str, Any]
TYPES = (0, 3, 8)
NETS = ("203.0.113.0/24", "198.51.100.0/24", "10.0.1.0/24", "0.0.0.0/0", "8.0.0.0/7")


class Mixed:
    """Writes what a cluster with Calico may hold."""

    def __init__(self, dice: random.Random, world: World) -> None:
        self.dice = dice
        self.world = world
        self.calico = Calico(dice, world)
        self.kubernetes = Kubernetes(dice, world, (4,), odd=False)
        self.tiers: list[str] = []

    def objects(self) -> list[Json]:
        """Return tiers and policies, some of them staged."""
        dice = self.dice
        found: list[Json] = []
        for name in ("first", "second", "last")[: dice.randint(0, 3)]:
            spec: Json = {"order": dice.choice((500, 500, 999_999, 2_000_000, 20_000_000))}
            if dice.random() < 0.6:
                spec["defaultAction"] = dice.choice(("Pass", "Pass", "Deny"))
            if dice.random() < 0.2:
                del spec["order"]
            self.tiers.append(name)
            found.append(
                {"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": name}, "spec": spec}
            )
        kinds = dice.choice(
            ((self.ordered,), (self.ordered, self.plain), (self.ordered, self.plain, *[self.cluster] * 3))
        )
        policies = [dice.choice(kinds)(f"np{number}") for number in range(dice.randint(2, 6))]
        may_be_staged = [one for one in policies if one["kind"] != "ClusterNetworkPolicy"]
        return [*found, *policies, *(self.staged(one) for one in may_be_staged if dice.random() < 0.25)]

    def plain(self, name: str) -> Json:
        """Return a NetworkPolicy of Kubernetes."""
        return self.kubernetes.policy(name.replace("np", self.dice.choice(("a", "kz", "np"))))

    def ordered(self, name: str) -> Json:
        """Return a Calico policy in any tier, of an order that others may have, too."""
        dice = self.dice
        found = self.calico.policy(name)
        spec = found["spec"]
        spec.pop("order", None)
        if dice.random() < 0.8:
            spec["order"] = dice.choice((10, 20, 1000, 1000, 1000, 2000))
        if self.tiers and dice.random() < 0.6:
            spec["tier"] = dice.choice(self.tiers)
        for direction in SIDES:
            for rule in spec.get(direction) or []:
                if rule.get("protocol") == "ICMP" and dice.random() < 0.7:
                    message: Json = {"type": dice.choice(TYPES)} | (
                        {"code": dice.choice((0, 1))} if dice.random() < 0.3 else {}
                    )
                    rule[dice.choice(("icmp", "icmp", "notICMP"))] = message
        return found

    def cluster(self, name: str) -> Json:
        """Return a ClusterNetworkPolicy; priorities repeat."""
        dice = self.dice
        subject = {"namespaces": self.kubernetes.selector()} if dice.random() < 0.5 else self.pods()
        spec: Json = {
            "tier": dice.choice(("Admin", "Admin", "Baseline")),
            "priority": dice.choice((1, 2)),
            "subject": subject,
        }
        for direction, side in SIDES.items():
            if dice.random() < 0.7:
                spec[direction] = [self.cluster_rule(side) for _ in range(dice.randint(1, 3))]
        metadata = {"name": name}
        version = "policy.networking.k8s.io/v1alpha2"
        return {"apiVersion": version, "kind": "ClusterNetworkPolicy", "metadata": metadata, "spec": spec}

    def pods(self) -> Json:
        """Return pods by their labels and those of their namespaces."""
        return {
            "pods": {
                "namespaceSelector": self.kubernetes.namespace_selector(),
                "podSelector": self.kubernetes.selector(),
            }
        }

    def cluster_rule(self, side: str) -> Json:
        """Return a rule of a ClusterNetworkPolicy."""
        dice = self.dice
        peers = [
            {"networks": dice.sample(NETS, dice.randint(1, 2))}
            if side == "to" and dice.random() < 0.3
            else dice.choice(({"namespaces": self.kubernetes.namespace_selector()}, self.pods()))
            for _ in range(dice.randint(1, 2))
        ]
        found: Json = {"action": dice.choice(("Accept", "Deny", "Pass")), side: peers}
        if dice.random() < 0.5:
            found["protocols"] = [self.cluster_port(named=not any("networks" in peer for peer in peers)) for _ in "ab"]
        return found

    def cluster_port(self, *, named: bool) -> Json:
        """Return a port of a ClusterNetworkPolicy."""
        dice = self.dice
        if named and dice.random() < 0.25:
            return {"destinationNamedPort": dice.choice(NAMES)}
        first, last = sorted(dice.sample(NUMBERS, 2))
        port = dice.choice(({"number": first}, {"range": {"start": first, "end": last}}))
        return {dice.choice(("tcp", "tcp", "udp", "sctp")): {"destinationPort": port}}

    def staged(self, one: Json) -> Json:
        """Return what would become of a policy: another one in its place, none, or nothing at all."""
        dice = self.dice
        calico = one["apiVersion"] == "projectcalico.org/v3"
        kind = f"Staged{one['kind']}" if calico else "StagedKubernetesNetworkPolicy"
        action = dice.choice(("Set", "Set", "Delete", "Ignore", "Learn", None))
        if action == "Delete":
            spec: Json = {"tier": one["spec"]["tier"]} if calico and "tier" in one["spec"] else {}
        else:
            spec = self.calico.policy("np0")["spec"] if calico else self.kubernetes.policy("np0")["spec"]
            if calico and one["kind"] == "NetworkPolicy":
                spec.pop("namespaceSelector", None)
            spec |= {"tier": one["spec"]["tier"]} if calico and "tier" in one["spec"] else {}
        spec |= {} if action is None else {"stagedAction": action}
        metadata = dict(one["metadata"])
        return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


def questions(dice: random.Random, world: World) -> list[Asked]:
    """Return connections at declared ports, ports that policies name, their neighbours, and ICMP messages."""
    numbers = {*NUMBERS, *(port.number for port in world.pods[0].ports), 8001, 79}
    chosen = dice.sample(sorted(numbers), 4)
    found = [Asked(protocol, number) for protocol in ("tcp", "udp") for number in chosen]
    return [*found, Asked("sctp", chosen[0]), Asked("icmp", 8), Asked("icmp", 3, 1)]
