"""The map finds what rules open instead of trying all with all; trying all with all comes to the same."""

import ipaddress
import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from deploy import connectivity, diff
from deploy.connectivity import Allowed
from deploy.places import living
from deploy.policies import engines_for
from deploy.population import Population
from deploy.ports import ALL_PORTS, Ports, less, text, union
from deploy.semantics import deciding
from deploy.semantics.ends import Endpoint, Ends, Lens
from deploy.semantics.policyset import PolicySet
from deploy.semantics.rules import DIRECTIONS
from deploy.semantics.traffic import Connection, Connections
from deploy.semantics.verdicts import Court
from recorder.records import SCHEMAS
from tests.deploy.world import policies
from tests.oracles.cases import case
from tests.oracles.podfence_side import read
from tests.recordings import Story

CASES = 20
OUTSIDE = ("203.0.113.1", "203.0.113.9", "203.0.113.200", "198.51.100.7", "8.8.8.8", "2001:db8::1")
PORTS = (
    1,
    2,
    52,
    53,
    54,
    79,
    80,
    81,
    82,
    442,
    443,
    444,
    5431,
    5432,
    5433,
    7999,
    8000,
    8001,
    8079,
    8080,
    8081,
    8999,
    9000,
    9001,
    65535,
)
TYPES = (0, 3, 8, 11, 129)
Truths = tuple[set[tuple[str, str, str, int]], set[tuple[str, str, str, int]]]


class Tables:
    """A story's tables as a population reads them."""

    def __init__(self, story: Story) -> None:
        self._tables = story.tables()

    def read(self, table: str) -> pa.Table:
        """Return a table."""
        return self._tables.get(table, SCHEMAS[table].empty_table())


def population(namespaces: dict[str, dict[str, str]], pods: list[dict[str, Any]]) -> Population:
    """Return pods alive now, each a workload of its own unless it names an owner."""
    story = Story()
    for name, labels in namespaces.items():
        story.add("Namespace", name, {"metadata": {"labels": labels}})
    for pod in pods:
        ips = pod.pop("ips", None)
        identity = story.pod(**pod)
        if ips:
            story.identities[story.identities.index(identity)] = replace(identity, ips=list(ips))
    return Population.of(Tables(story))


def outcomes(court: Court, ends: Ends, left: int, right: int, connections: int) -> tuple[bool, ...]:
    """Return, for each connection, (allowed, denied) as rows."""
    numbers = np.arange(connections)
    source, target, itself = ends.pairs(np.full(connections, left), np.full(connections, right))
    found = [court.judge(one, source, target, numbers, itself).outcome for one in DIRECTIONS]
    allowed = (found[0] == deciding.ALLOWED) & (found[1] == deciding.ALLOWED)
    denied = (found[0] == deciding.DENIED) | (found[1] == deciding.DENIED)
    return tuple(np.where(allowed, 1, np.where(denied, 0, 2)).tolist())


def everything(given: PolicySet, people: Population, profile: str) -> Truths:
    """Return (source, destination, protocol, port or type) of what is allowed, and of what is undetermined: all with all."""
    engines = engines_for(profile, [given])
    pods = [(f"{pod.namespace}/{pod.name}", people.now(pod, ip)) for pod in living(people) for ip in pod.ips]
    places = [*pods, *((ip, Endpoint("external", ip=ip)) for ip in OUTSIDE)]
    ends = Ends([one for _, one in places], Lens.of([given]))
    asked = [Connection(protocol, port) for protocol in ("tcp", "udp", "sctp") for port in PORTS]
    asked += [Connection(protocol, None, kind) for protocol in ("icmp", "icmpv6") for kind in TYPES]
    court = Court(given, engines, ends, Connections(asked), people.known_services)
    sure: set[tuple[str, str, str, int]] = set()
    unsure: set[tuple[str, str, str, int]] = set()
    for left, (source, _) in enumerate(places):
        for right, (target, _) in enumerate(places):
            if left == right or (left >= len(pods) and right >= len(pods)):
                continue
            for one, outcome in zip(asked, outcomes(court, ends, left, right, len(asked)), strict=True):
                number = one.port if one.port is not None else one.icmp_type
                versions = {4 if "." in str(end.ip) else 6 for _, end in (places[left], places[right])}
                if len(versions) > 1 or {"icmp": 6, "icmpv6": 4}.get(one.protocol) in versions or number is None:
                    continue
                if outcome:
                    (sure if outcome == 1 else unsure).add((source, target, one.protocol, number))
    return sure, unsure


def ranges(ports: str, protocol: str) -> Ports:
    """Return the ports, or ICMP types, of a text."""
    if ports == "all":
        return ((0, 255),) if protocol.startswith("icmp") else ALL_PORTS
    spans = [part.partition("-") for part in ports.split(",")]
    return tuple((int(low), int(high or low)) for low, _, high in spans)


def asked_of(entries: tuple[Allowed, ...]) -> set[tuple[str, str, str, int]]:
    """Return what a map says of the ports, types and addresses that are asked."""
    found = set()
    for one in entries:
        numbers = TYPES if one.protocol.startswith("icmp") else PORTS
        held = [
            number for number in numbers if any(low <= number <= high for low, high in ranges(one.ports, one.protocol))
        ]
        for source in _places(one.source):
            for target in _places(one.destination):
                found |= {(source, target, one.protocol, number) for number in held}
    return found


def _places(name: str) -> list[str]:
    try:
        network = ipaddress.ip_network(name)
    except ValueError:
        return [name]
    return [ip for ip in OUTSIDE if ipaddress.ip_address(ip) in network]


def world(number: int, kind: str) -> tuple[PolicySet, Population]:
    """Return random policies over random pods."""
    one = case(kind, number)
    pods = [
        {
            "name": f"{pod.namespace}/{pod.name}",
            "labels": pod.labels,
            "ips": pod.addresses,
            "ports": [(port.name, port.number, port.protocol) for port in pod.ports],
        }
        for pod in one.world.pods
    ]
    given = read((*one.policies, *one.sets), one.name).enforced("enforced")
    return given, population(dict(one.world.namespaces), pods)


@pytest.mark.parametrize("profile", ["calico", "strict"])
@pytest.mark.parametrize("kind", ["kubernetes", "calico", "both"])
def test_the_map_is_what_trying_all_with_all_gives(kind: str, profile: str) -> None:
    """Of every pair of pods and addresses, every port asked is in the map when and only when the judge allows it."""
    compared = 0
    for number in range(CASES):
        given, people = world(number, kind)
        sure, unsure = everything(given, people, profile)
        found = connectivity(given, people, profile=profile, by="pod")
        assert asked_of(found.connections) == sure, number
        if profile == "calico":
            assert asked_of(found.undetermined) == unsure, number
        compared += len(sure)
    assert compared > 1000


TIERS = """
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: first}
spec: {order: 1, defaultAction: Pass}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: first.a}
spec:
  tier: first
  selector: app == 'db'
  types: [Ingress, Egress]
  ingress:
  - {action: Deny, protocol: TCP, destination: {ports: ['8000:8080']}, source: {selector: tier == 'x'}}
  - {action: Pass, source: {selector: app == 'web'}}
  - {action: Allow, protocol: ICMP, icmp: {type: 8}}
  - {action: Allow, notProtocol: UDP, source: {nets: [203.0.113.0/24], notNets: [203.0.113.8/29]}}
  egress:
  - {action: Allow, protocol: UDP, destination: {notPorts: [53, '8000:9000']}}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: own, namespace: shop}
spec:
  selector: app == 'db'
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [main]}, source: {namespaceSelector: all()}}
  - {action: Log}
  egress:
  - {action: Allow, destination: {services: {name: svc, namespace: shop}}}
"""
ADMIN = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: admin}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  ingress:
  - {name: one, action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}], protocols: [{tcp: {destinationPort: {number: 443}}}]}
  - {name: two, action: Pass, from: [{namespaces: {}}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: np, namespace: shop}
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 443}, {port: 80, endPort: 82}]}]}
"""
CILIUM = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: c, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - {fromEndpoints: [{matchLabels: {app: web}}], toPorts: [{ports: [{port: '8000', endPort: 8080, protocol: TCP}]}]}
  - {fromCIDR: [203.0.113.0/24]}
  ingressDeny:
  - {fromEndpoints: [{}], toPorts: [{ports: [{port: '8001', protocol: TCP}]}]}
"""


@pytest.mark.parametrize(
    ("given", "profile"), [(TIERS, "calico"), (ADMIN, "kube-network-policies"), (ADMIN, "calico"), (CILIUM, "cilium")]
)
def test_the_map_knows_every_dialect(given: str, profile: str) -> None:
    """Tiers, services, ICMP types, excluded ports, denials and permissions of all dialects come to the judge's own verdicts."""
    story = Story()
    for name in ("shop", "mon"):
        story.add("Namespace", name, {"metadata": {"labels": {"team": name}}})
    for name, labels in (
        ("shop/db", {"app": "db"}),
        ("shop/web", {"app": "web", "tier": "x"}),
        ("mon/web", {"app": "web"}),
    ):
        story.pod(name, labels=labels, ports=[("main", 443, "TCP")])
    story.pod("mon/db", labels={"app": "db"}, ports=[("main", 5432, "TCP")])
    story.service("shop/svc", port=80, target=8080, backends=["mon/db"])
    people = Population.of(Tables(story))
    chosen = policies(given)
    sure, unsure = everything(chosen, people, profile)
    found = connectivity(chosen, people, profile=profile, by="pod")
    assert asked_of(found.connections) == sure
    assert asked_of(found.undetermined) == unsure
    assert len(sure) > 50


@pytest.mark.parametrize("number", range(8))
def test_a_diff_is_the_difference_of_two_maps(number: int) -> None:
    """Newly allowed and newly denied are what one map has and the other has not."""
    old, people = world(number, "kubernetes")
    new = PolicySet(old.policies[1:] or old.policies, old.tiers, old.sets)
    before, after = (everything(one, people, "calico")[0] for one in (old, new))
    found = diff(old, new, people, profile="calico", by="pod")
    assert asked_of(found.allowed) == after - before
    assert asked_of(found.denied) == before - after


def test_a_workload_of_which_only_some_pods_may_is_partial() -> None:
    """The union of what its pods may is listed, and marked where not every pair of pods may all of it."""
    spaces = {"shop": {}}
    pods = [
        {"name": "shop/a1", "owner": "Deployment/a", "labels": {"app": "a"}},
        {"name": "shop/a2", "owner": "Deployment/a", "labels": {"app": "a", "new": "yes"}},
        {"name": "shop/b1", "owner": "Deployment/b", "labels": {"app": "b"}},
    ]
    text_ = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: p, namespace: shop}
        spec:
          podSelector: {matchLabels: {app: b}}
          ingress:
          - {from: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 80}]}
          - {from: [{podSelector: {matchLabels: {new: 'yes'}}}], ports: [{port: 81}]}
    """
    found = connectivity(policies(text_), population(spaces, pods), profile="calico")
    wanted = Allowed("shop/deployment/a", "shop/deployment/b", "tcp", "80-81", partial=True)
    assert wanted in found.connections


def test_addresses_of_two_families_do_not_meet() -> None:
    """A pod with both families may be reached on one only, which is part of what the pair may."""
    pods = [
        {"name": "shop/a", "labels": {"app": "a"}, "ips": ("10.0.0.1", "2001:db8::1")},
        {"name": "shop/b", "labels": {"app": "b"}, "ips": ("10.0.0.2", "2001:db8::2")},
        {"name": "shop/c", "labels": {"app": "c"}, "ips": ("10.0.0.3",)},
    ]
    text_ = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: p, namespace: shop}
        spec: {podSelector: {matchLabels: {app: b}}, ingress: [{from: [{ipBlock: {cidr: '2001:db8::/64'}}], ports: [{port: 80}]}]}
    """
    found = connectivity(policies(text_), population({"shop": {}}, pods), profile="calico", by="pod")
    assert Allowed("shop/a", "shop/b", "tcp", "80", partial=True) in found.connections
    assert not [one for one in found.connections if (one.source, one.destination) == ("shop/c", "shop/b")]
    assert not [one for one in found.connections if one.source == "::/0" and one.destination == "shop/c"]
    assert {one.protocol for one in found.connections if one.source == "shop/c"} == {"tcp", "udp", "sctp", "icmp"}


def test_sets_of_ports_are_sets() -> None:
    """Union and difference of ranges hold number by number, and texts are in order."""
    dice = random.Random(7)  # noqa: S311 - a seed, no secret
    for _ in range(300):
        left, right = (
            union(
                ((low, low + dice.randint(0, 4)),) for low in (dice.randint(1, 20) for _ in range(dice.randint(0, 4)))
            )
            for _ in range(2)
        )
        numbers = [{one for low, high in ports for one in range(low, high + 1)} for ports in (left, right)]
        rest = less(left, right)
        assert {one for low, high in rest for one in range(low, high + 1)} == numbers[0] - numbers[1]
        both = union((left, right))
        assert {one for low, high in both for one in range(low, high + 1)} == numbers[0] | numbers[1]
        assert all(high + 1 < low for (_, high), (low, _) in pairwise(both))
    assert (text(ALL_PORTS), text(((80, 80), (443, 445)))) == ("all", "80,443-445")
