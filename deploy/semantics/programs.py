"""Which rules decide over which class of pods, in which order: policies laid out in columns.

Order: tiers by order and name, policies by order and then name, namespace and kind (projectcalico/calico
felix/calc/policy_sorter.go). Cilium's denials come before all its permissions (Cilium documentation, "Policy Enforcement"). Where
policies of equal rank have no defined order they share a group, and what they disagree about is undetermined: ClusterNetworkPolicy
of one priority (network-policy-api apis/v1alpha2), and Kubernetes beside Calico policies of order 1000, whose names Calico
prefixed until version 3.32.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from deploy.semantics.ends import KINDS, Codes, Ends
from deploy.semantics.peers import MAYBE, YES, Answers, Peers
from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import Profile
from deploy.semantics.rules import (
    ANYTHING,
    EVERYONE,
    Addresses,
    AllOf,
    Block,
    Doubtful,
    Members,
    Net,
    Peer,
    Pods,
    Policy,
    PortMatch,
    Range,
    Rule,
    Serves,
    Tier,
    Traffic,
)
from deploy.semantics.traffic import Traffics

ACTIONS = ("allow", "deny", "pass", "log")
ALLOW, DENY, PASS, LOG = range(len(ACTIONS))


@dataclass(frozen=True, slots=True)
class Part:
    """Rules of one policy that stand together in the order of evaluation."""

    policy: int
    tier: int
    group: int
    chain: int
    rules: tuple[Rule, ...]


class Program:
    """The rules of one direction over the classes of ends, ready to be looked up.

    Parts of class `c` are `parts[starts[c]:starts[c + 1]]`, steps of part `p` are those from `first[p]` to `first[p + 1]`. The
    columns of steps are `source`, `destination` (numbers of conditions on ends), `traffic`, `action`, `part`; those of parts
    `tier`, `group`, `chain` (parts of one group that do have an order), `policy`. `isolated` (tiers x classes, int64) holds the first policy that isolates a class in a tier, -1 where
    none does; `denies` tells which tiers end in denial; `doubted` holds a policy that may or may not select a class, -1.
    `ending` tells which classes no later tier is asked about, `holes` numbers, for each part, the addresses its blocks leave out.
    """

    def __init__(
        self, direction: str, policies: PolicySet, profile: Profile, peers: Peers, traffics: Traffics, ends: Ends
    ) -> None:
        self.direction = direction
        self.policies = policies.policies
        self.tiers = _tiers(policies)
        self.laid: tuple[Part, ...] = tuple(_parts(direction, policies, self.tiers, profile))
        self.rules: list[tuple[int, Rule]] = []
        self._lay(peers, traffics)
        self._select(direction, peers, ends)
        self._quirks(profile, peers, ends)

    def _lay(self, peers: Peers, traffics: Traffics) -> None:
        columns: list[tuple[int, int, int, int, int]] = []
        first = [0]
        for number, part in enumerate(self.laid):
            for rule in part.rules:
                for source, destination, traffic in _steps(rule, peers):
                    columns.append(
                        (
                            peers.number(source),
                            peers.number(destination),
                            traffics.number(traffic),
                            ACTIONS.index(rule.action),
                            number,
                        )
                    )
                    self.rules.append((part.policy, rule))
            first.append(len(columns))
        table = np.array(columns, np.int64).reshape(-1, 5)
        self.source, self.destination, self.traffic, self.action, self.part = (table[:, one] for one in range(5))
        self.rule_policy = np.array([policy for policy, _ in self.rules], np.int64)
        self.first: Codes = np.array(first, np.int64)
        self.tier = np.array([part.tier for part in self.laid], np.int64)
        self.group = np.array([part.group for part in self.laid], np.int64)
        self.chain = np.array([part.chain for part in self.laid], np.int64)
        self.policy = np.array([part.policy for part in self.laid], np.int64)

    def _select(self, direction: str, peers: Peers, ends: Ends) -> None:
        self.denies = np.array([tier.default == "deny" for tier in self.tiers], np.bool_)
        self.isolated: Codes = np.full((len(self.tiers), ends.size), -1, np.int64)
        self.doubted: Codes = np.full(ends.size, -1, np.int64)
        known: dict[Peer, tuple[Codes, Answers]] = {}
        found: list[Codes] = []
        for part in self.laid:
            policy = self.policies[part.policy]
            if policy.subjects not in known:
                known[policy.subjects] = peers.subjects(policy.subjects)
            rows, answers = known[policy.subjects]
            sure, unsure = rows[answers == YES], rows[answers == MAYBE]
            found.append(sure)
            self.doubted[unsure[self.doubted[unsure] < 0]] = part.policy
            if direction in policy.isolates:
                open_to = sure[self.isolated[part.tier, sure] < 0]
                self.isolated[part.tier, open_to] = part.policy
        classes = np.concatenate(found) if found else np.zeros(0, np.int64)
        parts = np.repeat(np.arange(len(found)), [len(one) for one in found])
        order = np.argsort(classes, kind="stable")
        self.parts: Codes = parts[order]
        self.starts: Codes = np.searchsorted(classes[order], np.arange(ends.size + 1))

    def _quirks(self, profile: Profile, peers: Peers, ends: Ends) -> None:
        """Find what some engines do to pods beyond their rules (see `Profile`)."""
        self.ending: Codes = np.zeros(ends.size, np.int64)
        if profile.any_policy_hides_baseline:
            for policy in self.policies:
                if policy.dialect == "kubernetes":
                    rows, answers = peers.subjects(policy.subjects)
                    self.ending[rows[answers == YES]] = 1
        self.holes: Codes = np.full(len(self.laid), -1, np.int64)
        if profile.except_overrules:
            for number, part in enumerate(self.laid):
                found = tuple(dict.fromkeys(Net(hole) for rule in part.rules for hole in _holes(rule)))
                if found:
                    self.holes[number] = peers.number(Addresses(found))

    def selecting(self, number: int) -> tuple[int, ...]:
        """Return the policies that govern a class, in the order they are evaluated."""
        parts = self.parts[self.starts[number] : self.starts[number + 1]]
        return tuple(dict.fromkeys(int(one) for one in self.policy[parts]))

    def stops(self) -> bool:
        """Tell whether any policy isolates or denies anybody in this direction."""
        return any(
            self.direction in self.policies[part.policy].isolates or any(rule.action == "deny" for rule in part.rules)
            for part in self.laid
        )


def expand(starts: Codes, ends: Codes) -> tuple[Codes, Codes]:
    """Return (owner, place) for every place in the ranges `starts[i]:ends[i]`, in order."""
    counts = ends - starts
    owners = np.repeat(np.arange(len(starts)), counts)
    before = np.cumsum(counts) - counts
    return owners, np.arange(len(owners)) - before[owners] + starts[owners]


def _tiers(policies: PolicySet) -> tuple[Tier, ...]:
    names = {policy.tier for policy in policies.policies}
    return tuple(sorted((policies.tier(name) for name in names), key=lambda tier: (tier.order, tier.name)))


def _parts(direction: str, policies: PolicySet, tiers: Sequence[Tier], profile: Profile) -> Iterator[Part]:
    """Yield the parts in the order of evaluation."""
    ranks = {tier.name: rank for rank, tier in enumerate(tiers)}
    found: list[tuple[tuple[int, float], str, int, tuple[Rule, ...]]] = []
    for number, policy in enumerate(policies.policies):
        if direction not in policy.directions or (profile.skips and policy.features() & profile.skips):
            continue
        rules = _effective(policy, direction, profile)
        tie = f"{policy.name}/{policy.namespace or ''}/{policy.kind}"
        rank = ranks[policy.tier]
        if policy.dialect == "cilium":
            denials = tuple(rule for rule in rules if rule.action == "deny")
            rules = tuple(rule for rule in rules if rule.action != "deny")
            found.append(((rank, -np.inf), tie, number, denials))
        found.append(((rank, policy.order), tie, number, rules))
    found.sort(key=lambda one: one[:3])
    group = chain = 0
    for (rank, _), ranked in groupby(found, key=lambda one: one[0]):
        # Calico's own policies have an order among themselves whatever stands between them.
        level = sorted(ranked, key=lambda one: policies.policies[one[2]].dialect != "calico")
        dialects = {policies.policies[number].dialect for _, _, number, _ in level}
        unordered = len(dialects) > 1 or "cluster" in dialects or "cilium" in dialects
        for _, _, number, rules in level:
            chain += policies.policies[number].dialect != "calico"
            yield Part(number, rank, group, chain, rules)
            group += not unordered
        group += 1
        chain += 1


def _effective(policy: Policy, direction: str, profile: Profile) -> tuple[Rule, ...]:
    """Return the rules that the engine enforces."""
    rules = policy.rules(direction)
    if profile.directions_share_rules and policy.dialect == "kubernetes":
        rules += tuple(_shared(policy, direction))
    if profile.empty_rule_beside_others_ignored and policy.dialect == "kubernetes" and len(rules) > 1:
        return tuple(
            rule for rule in rules if (rule.source, rule.destination, rule.traffic) != (EVERYONE, EVERYONE, ANYTHING)
        )
    return rules


def _shared(policy: Policy, direction: str) -> Iterator[Rule]:
    """Yield the rules of the other direction as they count between pods that the policy selects."""
    for rule in policy.rules("ingress" if direction == "egress" else "egress"):
        if direction == "egress":
            yield replace(rule, destination=AllOf((rule.destination, policy.subjects)))
        else:
            yield replace(rule, source=AllOf((rule.source, policy.subjects)))


def _holes(rule: Rule) -> Iterator[Range]:
    for leaf in (*rule.source.leaves(), *rule.destination.leaves()):
        if isinstance(leaf, Block):
            yield from leaf.net.without


def _steps(rule: Rule, peers: Peers) -> Iterator[tuple[Peer, Peer, Traffic]]:
    """Yield (source, destination, traffic) of a rule: once, or for each port that its Service serves."""
    if rule.service is None:
        yield from _by_ports(rule)
        return
    if rule.service not in peers.known_services:
        yield rule.source, AllOf((rule.destination, Doubtful("service", frozenset(KINDS)))), rule.traffic
        return
    served = {
        (protocol, port)
        for number in range(peers.ends.size)
        for service, protocol, port in peers.ends.services(number)
        if service == rule.service
    }
    for protocol, port in sorted(served):
        traffic = replace(rule.traffic, protocol=protocol, ports=(PortMatch(protocol, port, port),))
        if rule.traffic.protocol in (None, protocol):
            yield rule.source, AllOf((rule.destination, Serves(rule.service, protocol, port))), traffic


def _by_ports(rule: Rule) -> Iterator[tuple[Peer, Peer, Traffic]]:
    """Yield (source, destination, traffic) of a rule: once, or for numbers and names of ports beside a Calico selector.

    A name is looked up among the pods that the selector means, not among addresses in its network sets
    (projectcalico/calico felix/calc/rule_scanner.go, ruleToParsedRule).
    """
    parts = rule.destination.parts if isinstance(rule.destination, AllOf) else (rule.destination,)
    chosen = [Pods(part.selector, scheme="calico") for part in parts if isinstance(part, Members)]
    names = tuple(port for port in rule.traffic.ports if port.name is not None)
    if not chosen or not names:
        yield rule.source, rule.destination, rule.traffic
        return
    if numbers := tuple(port for port in rule.traffic.ports if port.name is None):
        yield rule.source, rule.destination, replace(rule.traffic, ports=numbers)
    yield rule.source, AllOf((*parts, *chosen)), replace(rule.traffic, ports=names)


def first_of_runs(keys: Codes) -> NDArray[np.bool_]:
    """Tell which entries of a sorted column are the first of their kind."""
    found = np.ones(len(keys), np.bool_)
    found[1:] = keys[1:] != keys[:-1]
    return found
