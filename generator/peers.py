"""Finds what a policy can select the other end of a pattern by, or says why nothing can.

A peer is never approximated: where no selector and no address outside the cluster names it exactly, there is no peer.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from generator.policy import CidrPeer, Peer, WorkloadPeer
from learner.patterns import Learned, Selector, Subject
from recorder.errors import InputError

_Network = IPv4Network | IPv6Network
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1123 label

_UNSELECTABLE = {
    "node": "no selector selects a node",
    "apiserver": "no selector selects the API server and its addresses are not known",
    "service": "the pods behind the Service are not known",
    "multicast": "policies do not cover multicast",
    "unresolved": "nobody held the address",
    "ambiguous": "more than one could have held the address",
}


@dataclass(frozen=True, slots=True)
class Unselectable:
    """Why there is no peer."""

    reason: str


@dataclass(frozen=True, slots=True)
class Peers:
    """What was learned about who can be selected: workloads by name, and the cluster's own address ranges."""

    subjects: Mapping[str, Subject]
    cluster_ranges: tuple[_Network, ...]

    @classmethod
    def of(cls, learned: Learned) -> "Peers":
        """Index the subjects; raises InputError for what no cluster can hold."""
        subjects: dict[str, Subject] = {}
        for subject in learned.subjects:
            if subject.workload in subjects:
                raise InputError(f"{subject.workload}: more than one subject of this name")
            if not _NAMESPACE.fullmatch(subject.namespace):
                raise InputError(f"{subject.workload}: {subject.namespace!r} is no namespace name")
            subjects[subject.workload] = subject
        return cls(subjects, tuple(_network(text, "cluster range") for text in learned.cluster_ranges))

    def find(self, name: str, kind: str) -> Peer | Unselectable:
        """Return the peer that a pattern names."""
        if kind == "workload":
            subject = self.subjects.get(name)
            if subject is None:
                return Unselectable(f"{name} is not among the subjects")
            selector = selector_of(subject)
            if isinstance(selector, Unselectable):
                return Unselectable(f"{name}: {selector.reason}")
            return WorkloadPeer(name, subject.namespace, selector)
        if kind == "external":
            return self._outside(name)
        return Unselectable(f"{name}: {_UNSELECTABLE.get(kind, f'nothing selects a peer of kind {kind}')}")

    def _outside(self, name: str) -> Peer | Unselectable:
        network = _network(name, "external peer")
        own = [known for known in self.cluster_ranges if known.version == network.version]
        around = next((known for known in own if _within(network, known)), None)
        if around is not None:
            return Unselectable(f"{name} lies in the cluster's own range {around}, where addresses change hands")
        if network.prefixlen == 0 and not own:
            return Unselectable(f"{name} takes in the cluster itself, whose ranges are not known")
        return CidrPeer(str(network), tuple(str(known) for known in _outermost(own) if _within(known, network)))


def selector_of(subject: Subject) -> Selector | Unselectable:
    """Return the selector that selects a subject's pods and no others."""
    if subject.host_network:
        return Unselectable("runs on the host network, where policies see the node and not the pod")
    selector = subject.selector
    if selector is None:
        return Unselectable("no labels tell its pods from others (rung none); give them one of their own")
    if not selector.match_labels and not selector.match_expressions:
        return Unselectable("its selector is empty and would select every pod")
    return selector


def _network(text: str, what: str) -> _Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise InputError(f"{what} {text!r}: {error}") from error


def _within(inner: _Network, outer: _Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _outermost(networks: Iterable[_Network]) -> list[_Network]:
    distinct = sorted(set(networks), key=lambda one: (one.version, int(one.network_address), one.prefixlen))
    return [one for one in distinct if not any(one != other and _within(one, other) for other in distinct)]
