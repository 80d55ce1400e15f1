"""The map finds what rules open instead of trying all with all; trying all with all comes to the same."""

import ipaddress
import os
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from deploy import connectivity, diff
from deploy.connectivity import Allowed
from deploy.policies import engines_for
from deploy.population import Population
from deploy.ports import ALL_PORTS, Ports, less, text, union
from deploy.semantics.deciding import OUTCOMES
from deploy.semantics.ends import Endpoint, Ends, Lens
from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import Profile
from deploy.semantics.rules import DIRECTIONS
from deploy.semantics.traffic import Connection, Connections
from deploy.semantics.verdicts import Court
from recorder.records import SCHEMAS
from tests.deploy.world import policies
from tests.oracles.cases import KINDS, case
from tests.oracles.cilium_policies import Cilium
from tests.oracles.podfence_side import read
from tests.oracles.tier_policies import Mixed
from tests.oracles.worlds import world as random_world
from tests.recordings import Story

CASES = int(os.environ.get("PODFENCE_MAP_CASES", "8"))
"""How many random cases of each kind are mapped; an environment variable asks for more."""
OUTSIDE = ("203.0.113.1", "203.0.113.9", "203.0.113.200", "198.51.100.7", "8.8.8.8", "2001:db8::1")
TYPES = (0, 3, 8, 11, 129)
Cell = tuple[str, str, str, int]
"""Source, destination, protocol, and port or ICMP type."""


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


@dataclass(frozen=True)
class Asked:
    """Policies over a population, and all ports worth asking about: those that anything names, and their neighbours."""

    given: PolicySet
    people: Population
    ports: tuple[int, ...]

    @classmethod
    def of(cls, given: PolicySet, people: Population, *told: Any) -> "Asked":
        """Return what to ask where these things name ports."""
        declared = {port.number for pod in people.pods.values() for port in pod.ports}
        named = {1, 80, *declared, *(port for one in told for port in numbers(one))}
        near = {port + step for port in named for step in (-1, 0, 1, 2)}
        return cls(given, people, (*sorted(port for port in near if 0 < port < 65535), 65535))

    def connections(self) -> list[Connection]:
        """Return every connection that is asked of each pair."""
        found = [Connection(protocol, port) for protocol in ("tcp", "udp", "sctp") for port in self.ports]
        return found + [Connection(protocol, None, kind) for protocol in ("icmp", "icmpv6") for kind in TYPES]

    def ends(self) -> list[tuple[str, Endpoint]]:
        """Return every address of a living pod, by its name, and addresses outside."""
        pods = [pod for pod in self.people.pods.values() if pod.end is None and not pod.host_network]
        found = [(f"{pod.namespace}/{pod.name}", self.people.now(pod, ip)) for pod in pods for ip in pod.ips]
        return found + [(ip, Endpoint("external", ip=ip)) for ip in OUTSIDE]


def numbers(value: Any) -> set[int]:
    """Return every number in an object or a text that may be a port."""
    return {int(one) for one in re.findall(r"\d+", str(value)) if 0 < int(one) < 65536}


def engines(profile: str, *sets: PolicySet) -> tuple[Profile, ...]:
    """Return the engines, without the messages that they let pass whatever policies say."""
    return tuple(replace(one, icmp_always_allowed=(), icmpv6_always_allowed=()) for one in engines_for(profile, sets))


def everything(asked: Asked, profiles: tuple[Profile, ...]) -> dict[Cell, dict[tuple[str, str], str]]:
    """Return the outcome of all with all: by names and connection, the outcome for each pair of addresses.

    Each pair has a court of its own, in which nobody else is, unless port names or network sets mean what others tell.
    """
    people, kinds = asked.ends(), asked.connections()
    alone = all(one.ambiguous_named_ports is True for one in profiles) and not asked.given.sets
    known, lens = asked.people.known_services, Lens.of([asked.given])
    whole = Court(asked.given, profiles, Ends([one for _, one in people], lens), Connections(kinds), known)
    found: dict[Cell, dict[tuple[str, str], str]] = defaultdict(dict)
    for (left, (source, one)), (right, (target, other)) in permutations(enumerate(people), 2):
        if (one.kind == other.kind == "external") or ("." in str(one.ip)) != ("." in str(other.ip)):
            continue
        court, pair = whole, (left, right)
        if alone:
            court = Court(asked.given, profiles, Ends([one, other], lens), Connections(kinds), known)
            pair = (0, 1)
        silent = "icmpv6" if "." in str(one.ip) else "icmp"
        for kind, outcome in zip(kinds, outcomes(court, pair, len(kinds)), strict=True):
            number = kind.port if kind.icmp_type is None else kind.icmp_type
            if kind.protocol != silent and number is not None:
                found[source, target, kind.protocol, number][str(one.ip), str(other.ip)] = outcome
    return found


def outcomes(court: Court, pair: tuple[int, int], count: int) -> list[str]:
    """Return what becomes of each connection between two ends: both halves together."""
    rows = np.arange(count)
    source, target, itself = court.ends.pairs(np.full(count, pair[0]), np.full(count, pair[1]))
    halves = [court.judge(one, source, target, rows, itself).outcome.tolist() for one in DIRECTIONS]
    worst = ("allowed", "undetermined", "denied")
    return [max((OUTCOMES[one] for one in both), key=worst.index) for both in zip(*halves, strict=True)]


def cells(found: dict[Cell, dict[tuple[str, str], str]], outcome: str) -> set[Cell]:
    """Return what at least one pair of addresses meets."""
    return {cell for cell, pairs in found.items() if outcome in pairs.values()}


def ranges(ports: str, protocol: str) -> Ports:
    """Return the ports, or ICMP types, of a text."""
    if ports == "all":
        return ((0, 255),) if protocol.startswith("icmp") else ALL_PORTS
    spans = [part.partition("-") for part in ports.split(",")]
    return tuple((int(low), int(high or low)) for low, _, high in spans)


def asked_of(entries: tuple[Allowed, ...], asked: Asked) -> set[Cell]:
    """Return what a map says of the ports, types and addresses that are asked."""
    found = set()
    for one in entries:
        numbers = TYPES if one.protocol.startswith("icmp") else asked.ports
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


def world(number: int, kind: str) -> Asked:
    """Return random policies over random pods, two to a workload."""
    if kind in KINDS:
        one = case(kind, number)
        place, objects = one.world, (*one.policies, *one.sets)
    else:
        dice = random.Random(f"map {kind} {number}")  # noqa: S311 - a seed, no secret
        place = random_world(dice)
        if kind == "cilium":
            objects = tuple(Cilium(dice, place).policy(f"np{count}") for count in range(dice.randint(1, 4)))
        else:
            objects = tuple(Mixed(dice, place).objects())
    pods = [
        {
            "name": f"{pod.namespace}/{pod.name}",
            "owner": f"Deployment/{count % 2}",
            "labels": pod.labels,
            "ips": pod.addresses,
            "ports": [(port.name, port.number, port.protocol) for port in pod.ports],
        }
        for count, pod in enumerate(place.pods)
    ]
    given = read(objects, f"{kind} {number}").enforced("enforced")
    return Asked.of(given, population(dict(place.namespaces), pods), objects)


@pytest.mark.parametrize(
    ("kind", "profile"),
    [
        *(("kubernetes", profile) for profile in ("calico", "kube-router", "cilium", "strict")),
        *(("calico", "calico"), ("both", "strict"), ("tiers", "calico"), ("cilium", "cilium")),
    ],
)
def test_the_map_is_what_trying_all_with_all_gives(kind: str, profile: str) -> None:
    """Of every pair of pods and addresses, every port asked is in the map when and only when the judge allows it."""
    compared = 0
    for number in range(CASES):
        asked = world(number, kind)
        tried = everything(asked, engines(profile, asked.given))
        found = connectivity(asked.given, asked.people, profile=profile, by="pod")
        assert asked_of(found.connections, asked) == cells(tried, "allowed"), number
        assert asked_of(found.undetermined, asked) == cells(tried, "undetermined"), number
        compared += len(cells(tried, "allowed"))
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
    asked = Asked.of(policies(given), people, given)
    tried = everything(asked, engines(profile, asked.given))
    found = connectivity(asked.given, people, profile=profile, by="pod")
    assert asked_of(found.connections, asked) == cells(tried, "allowed")
    assert asked_of(found.undetermined, asked) == cells(tried, "undetermined")
    assert len(cells(tried, "allowed")) > 50


@pytest.mark.parametrize(("kind", "profile"), [("kubernetes", "calico"), ("kubernetes", "strict"), ("tiers", "calico")])
def test_a_diff_is_the_difference_of_two_maps(kind: str, profile: str) -> None:
    """Newly allowed, newly denied and newly undetermined are what one map has and the other has not."""
    seen = Counter[str]()
    for number in range(CASES):
        asked = world(number, kind)
        old = asked.given
        new = replace(old, policies=old.policies[1:])
        chosen = engines(profile, old, new)
        before, after = (everything(replace(asked, given=one), chosen) for one in (old, new))
        found = diff(old, new, asked.people, profile=profile, by="pod")
        gained = cells(after, "allowed") - cells(before, "allowed")
        lost = cells(before, "allowed") - cells(after, "allowed") - cells(after, "undetermined")
        doubtful = cells(after, "undetermined") - cells(before, "undetermined")
        assert asked_of(found.allowed, asked) == gained, number
        assert asked_of(found.denied, asked) == lost, number
        assert asked_of(found.undetermined, asked) == doubtful, number
        back = diff(new, old, asked.people, profile=profile, by="pod")
        closed = cells(after, "allowed") - cells(before, "allowed") - cells(before, "undetermined")
        assert asked_of(back.denied, asked) == closed, number
        assert asked_of(back.undetermined, asked) == cells(before, "undetermined") - cells(after, "undetermined"), (
            number
        )
        seen.update({"gained": len(gained), "lost": len(lost), "doubtful": len(asked_of(back.undetermined, asked))})
    assert seen["gained"] > 0
    assert seen["doubtful"] > 0 or profile == "calico"


@pytest.mark.parametrize(("kind", "profile"), [("kubernetes", "calico"), ("tiers", "calico"), ("kubernetes", "strict")])
def test_workloads_are_partial_where_their_pods_differ(kind: str, profile: str) -> None:
    """A workload may what one of its pods may, and is partial unless each pair of pods may all of it."""
    seen = Counter[bool]()
    for number in range(CASES):
        asked = world(number, kind)
        owner = {f"{pod.namespace}/{pod.name}": pod.workload for pod in asked.people.pods.values()}
        tried = everything(asked, engines(profile, asked.given))
        by_pair: dict[tuple[str, str, str], dict[tuple[str, str], set[int]]] = defaultdict(lambda: defaultdict(set))
        for (source, target, protocol, port), pairs in tried.items():
            for pair, outcome in pairs.items():
                held = by_pair[owner.get(source, source), owner.get(target, target), protocol][pair]
                held |= {port} if outcome == "allowed" else set()
        wanted = {}
        for key, ports in by_pair.items():
            whole = set().union(*ports.values())
            for port in whole:
                wanted[*key, port] = any(one != whole for one in ports.values())
        found = {
            cell: one.partial
            for one in connectivity(asked.given, asked.people, profile=profile).connections
            for cell in asked_of((one,), asked)
        }
        assert found == wanted, number
        seen.update(wanted.values())
    assert min(seen.values()) > 100


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


def test_where_nothing_is_open_the_map_is_empty() -> None:
    """A pod that may neither reach nor be reached has no line, and closing it is a difference from an open one."""
    people = population({"shop": {}}, [{"name": "shop/a", "labels": {"app": "a"}}])
    text_ = """
        apiVersion: networking.k8s.io/v1
        kind: NetworkPolicy
        metadata: {name: p, namespace: shop}
        spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
    """
    found = connectivity(policies(text_), people, profile="calico")
    assert (found.connections, found.undetermined) == ((), ())
    change = diff(PolicySet(), policies(text_), people, profile="calico")
    assert (change.allowed, change.undetermined, bool(change.denied)) == ((), (), True)


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
        assert all(low <= high for low, high in rest)
        both = union((left, right))
        assert {one for low, high in both for one in range(low, high + 1)} == numbers[0] | numbers[1]
        assert all(high + 1 < low for (_, high), (low, _) in pairwise(both))
    assert (text(ALL_PORTS), text(((80, 80), (443, 445)))) == ("all", "80,443-445")
