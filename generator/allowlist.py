"""Turns what was learned into allow lists: one per workload, from accepted patterns and nothing else.

A pattern is two permissions, the source's egress and the destination's ingress; each goes to the policy of its own
workload. What cannot be written is listed with its reason, so that a missing permission is never a silent one.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from generator.metadata import object_name
from generator.namespaces import is_protected
from generator.peers import Peers, Unselectable, selector_of
from generator.policy import CidrPeer, Peer, Policy, PolicySet, Port, Rule, Skipped
from generator.targets import Target, target_named
from learner.patterns import Learned, Pattern, Subject, port_text
from recorder.errors import InputError

_DIRECTIONS = {"both": ("ingress", "egress"), "ingress": ("ingress",), "egress": ("egress",)}


def generate(
    learned: Learned,
    *,
    target: str = "kubernetes",
    default_deny: bool = False,
    direction: str = "both",
    namespaces: Collection[str] = (),
    include_namespaces: Collection[str] = (),
) -> PolicySet:
    """Return one policy for each workload with accepted patterns, with all that it may do.

    `direction` is `ingress`, `egress` or `both`: what is isolated and allowed; names stay the same. `namespaces` limits
    the policies to those given, `include_namespaces` names protected ones that get policies all the same. Raises
    InputError for an unknown option or namespace, and for subjects or peers that cannot exist.
    """
    if direction not in _DIRECTIONS:
        raise InputError(f"unknown direction {direction!r}; known: {', '.join(sorted(_DIRECTIONS))}")
    peers = Peers.of(learned)
    known = {subject.namespace for subject in learned.subjects}
    for name in (*namespaces, *include_namespaces):
        if name not in known:
            raise InputError(f"no workload in namespace {name!r}; there are some in: {', '.join(sorted(known))}")
    draft = _Draft(target_named(target), peers, _DIRECTIONS[direction])
    wanted = [subject for subject in learned.subjects if not namespaces or subject.namespace in namespaces]
    subjects = draft.admit(wanted, frozenset(include_namespaces))
    for pattern in learned.patterns:
        if pattern.decision == "accept":
            draft.add(pattern)
    policies = draft.policies(subjects)
    denied = draft.deniable(policies) if default_deny else ()
    return PolicySet(policies, denied, tuple(sorted(draft.skipped)))


def port_of(pattern: Pattern) -> Port:
    """Return the port that a pattern needs."""
    return Port(pattern.protocol, pattern.port, pattern.end_port, pattern.icmp_type, pattern.icmp_code)


def pattern_text(pattern: Pattern) -> str:
    """Return a pattern in one line: `source -> destination protocol/port`."""
    port = port_text(pattern)
    return f"{pattern.source} -> {pattern.destination} {pattern.protocol}{'/' if port else ''}{port}"


@dataclass(slots=True)
class _Draft:
    """The allow lists as they grow.

    Rules of both directions are kept even where only one is written, so that a workload has the same objects in every
    phase: the first phase is the last one less a direction.
    """

    target: Target
    peers: Peers
    directions: tuple[str, ...]
    rules: dict[tuple[str, str], dict[Peer, dict[Port, set[str]]]] = field(default_factory=dict)
    admitted: set[str] = field(default_factory=set)
    accepted: set[tuple[str, str]] = field(default_factory=set)
    without_policy: list[Subject] = field(default_factory=list)
    skipped: set[Skipped] = field(default_factory=set)

    def admit(self, subjects: Iterable[Subject], included: frozenset[str]) -> list[Subject]:
        """Return the subjects that may get a policy; list the others."""
        found = []
        for subject in subjects:
            selector = selector_of(subject)
            if is_protected(subject.namespace) and subject.namespace not in included:
                self.skipped.add(Skipped(subject.namespace, "protected namespace; include it by name to get policies"))
            elif isinstance(selector, Unselectable):
                self.skipped.add(Skipped(subject.workload, selector.reason))
                if not subject.host_network:
                    self.without_policy.append(subject)
            else:
                found.append(subject)
                self.admitted.add(subject.workload)
        return found

    def add(self, pattern: Pattern) -> None:
        """Add both permissions of a pattern to the policies that they belong to."""
        source = (pattern.source, pattern.source_kind)
        destination = (pattern.destination, pattern.destination_kind)
        for direction, (workload, kind), other in (("egress", source, destination), ("ingress", destination, source)):
            if kind != "workload":
                continue
            self.accepted.add((workload, direction))
            if workload in self.admitted:
                self._allow(workload, direction, other, pattern)

    def policies(self, subjects: Iterable[Subject]) -> tuple[Policy, ...]:
        """Return the policies in order; list the subjects that get none."""
        found: dict[tuple[str, str], Policy] = {}
        for subject in subjects:
            selector = selector_of(subject)
            written = {direction: self._rules(subject.workload, direction) for direction in _DIRECTIONS["both"]}
            if isinstance(selector, Unselectable) or not any(written.values()):
                has_accepted = any((subject.workload, direction) in self.accepted for direction in written)
                reason = "none of its accepted patterns can be written" if has_accepted else "no accepted pattern"
                self.skipped.add(Skipped(subject.workload, reason))
                self.without_policy.append(subject)
                continue
            name = object_name(subject.workload, subject.kind, subject.name)
            if (subject.namespace, name) in found:
                raise InputError(f"{subject.workload}: its policy would have the name of another one, {name}")
            ingress, egress = (rules if direction in self.directions else () for direction, rules in written.items())
            found[subject.namespace, name] = Policy(
                subject.workload, subject.namespace, name, selector, self.directions, ingress, egress
            )
        return tuple(found[key] for key in sorted(found))

    def deniable(self, policies: Iterable[Policy]) -> tuple[str, ...]:
        """Return the namespaces with policies in which a default-deny cuts off nothing that was accepted."""
        found = []
        for namespace in sorted({policy.namespace for policy in policies}):
            stranded = sorted(
                subject.workload
                for subject in self.without_policy
                if subject.namespace == namespace
                and any((subject.workload, direction) in self.accepted for direction in self.directions)
            )
            if stranded:
                reason = f"it would cut off {', '.join(stranded)}, whose accepted patterns no policy allows"
                self.skipped.add(Skipped(f"{namespace}/default-deny", reason))
            else:
                found.append(namespace)
        return tuple(found)

    def _allow(self, workload: str, direction: str, other: tuple[str, str], pattern: Pattern) -> None:
        peer = self.peers.find(*other)
        port = port_of(pattern)
        obstacle = self.target.obstacle(port)
        if isinstance(peer, Unselectable):
            obstacle = peer.reason
        elif obstacle is None:
            self.rules.setdefault((workload, direction), {}).setdefault(peer, {}).setdefault(port, set()).add(
                pattern.id
            )
        if obstacle is not None and direction in self.directions:
            reason = f"{direction} of {workload} not allowed: {obstacle}"
            self.skipped.add(Skipped(pattern_text(pattern), reason, pattern.id, workload))

    def _rules(self, workload: str, direction: str) -> tuple[Rule, ...]:
        peers = self.rules.get((workload, direction), {})
        return tuple(
            Rule(peer, tuple(sorted(ports, key=_port_order)), tuple(sorted(set().union(*ports.values()))))
            for peer, ports in sorted(peers.items(), key=lambda item: _peer_order(item[0]))
        )


def _port_order(port: Port) -> tuple[str, int, int, int, int]:
    numbers = (port.port, port.end_port, port.icmp_type, port.icmp_code)
    first, last, kind, code = (-1 if number is None else number for number in numbers)
    return port.protocol, first, last, kind, code


def _peer_order(peer: Peer) -> tuple[int, str]:
    return (1, peer.cidr) if isinstance(peer, CidrPeer) else (0, peer.workload)
