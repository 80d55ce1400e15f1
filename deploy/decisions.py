"""What was learned about an edge: the decision on the narrowest pattern that it falls under."""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable

from deploy.semantics.traffic import Connection
from learner.patterns import Learned, Pattern

Key = tuple[str, str, str, int | None, str | None]
"""Source, destination, protocol, port and ICMP type/code: an edge between workloads."""


class Decisions:
    """What was decided about patterns, found by an edge's names; generalised prefixes and port ranges included."""

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._exact: dict[Key, Pattern] = {}
        self._wide: dict[tuple[str, str], list[Pattern]] = defaultdict(list)
        for pattern in patterns:
            self._exact[pattern.source, pattern.destination, pattern.protocol, pattern.port, icmp_of(pattern)] = pattern
            if pattern.end_port is not None or "external" in (pattern.source_kind, pattern.destination_kind):
                pod_side = pattern.destination if pattern.source_kind == "external" else pattern.source
                self._wide[pod_side, pattern.protocol].append(pattern)

    @classmethod
    def of(cls, learned: Learned | None) -> "Decisions":
        """Return the decisions of a learned model, or none."""
        return cls(learned.patterns if learned else ())

    def about(self, key: Key) -> tuple[str | None, tuple[str, ...]]:
        """Return (decision, reasons) of the narrowest pattern that an edge falls under; None when there is none."""
        found = self._exact.get(key) or self._widest(key)
        return (found.decision, tuple(found.reasons)) if found else (None, ())

    def _widest(self, key: Key) -> Pattern | None:
        source, destination, protocol, port, icmp = key
        candidates = [
            pattern
            for pattern in (*self._wide.get((source, protocol), ()), *self._wide.get((destination, protocol), ()))
            if _within(source, pattern.source)
            and _within(destination, pattern.destination)
            and _in_range(port, pattern.port, pattern.end_port)
            and icmp == icmp_of(pattern)
        ]
        return max(candidates, key=lambda one: (_length(one.source) + _length(one.destination), one.id), default=None)


def icmp_of(one: Connection | Pattern) -> str | None:
    """Return `type/code` of an ICMP message, None for anything else."""
    return None if one.icmp_type is None else f"{one.icmp_type}/{one.icmp_code or 0}"


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _within(name: str, pattern: str) -> bool:
    if name == pattern:
        return True
    inner, outer = _network(name), _network(pattern)
    if inner is None or outer is None or inner.version != outer.version:
        return False
    return outer.network_address <= inner.network_address and inner.broadcast_address <= outer.broadcast_address  # type: ignore[operator]


def _length(name: str) -> int:
    network = _network(name)
    return network.prefixlen if network else 0


def _in_range(port: int | None, first: int | None, last: int | None) -> bool:
    if port is None or first is None:
        return port == first
    return first <= port <= (last if last is not None else first)
