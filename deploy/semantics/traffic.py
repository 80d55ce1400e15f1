"""Answers what rules say of protocols, ports and ICMP messages, for all distinct connections at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.semantics.ends import POD, UNKNOWN, Codes, ContainerPort, Ends
from deploy.semantics.peers import MAYBE, NO, YES, Answers
from deploy.semantics.profiles import Profile
from deploy.semantics.rules import PORT_PROTOCOLS, IcmpMatch, PortMatch, Traffic

_NO_POD, _UNKNOWN = -1, -2
"""Sets of declared ports of ends that declare none, and of ends whose ports nobody knows."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What is asked about: protocol (lower case, or a number as text), the responder's port, type and code where it is ICMP."""

    protocol: str
    port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


class Connections:
    """Distinct connections in columns (int64; -1 where there is no such thing, or it was not recorded)."""

    def __init__(self, found: Sequence[Connection]) -> None:
        self.all = tuple(found)
        self._protocols: dict[str, int] = {}
        for one in found:
            self._protocols.setdefault(one.protocol, len(self._protocols))
        self.protocol = np.array([self._protocols[one.protocol] for one in found], np.int64)
        self.port = _column(one.port for one in found)
        self.type = _column(one.icmp_type for one in found)
        self.code = _column(one.icmp_code for one in found)
        self.ported = self.any_of(PORT_PROTOCOLS)

    def __len__(self) -> int:
        return len(self.all)

    def any_of(self, protocols: Iterable[str]) -> NDArray[np.bool_]:
        """Tell which connections are of one of these protocols."""
        return np.isin(self.protocol, [self._protocols.get(one, -1) for one in protocols])


def _column(values: Iterable[int | None]) -> Codes:
    return np.array([-1 if value is None else value for value in values], np.int64)


class Traffics:
    """What the rules of one policy set say of connections, under one profile; `number` numbers, `answers` looks up."""

    def __init__(self, ends: Ends, connections: Connections, profile: Profile) -> None:
        self.connections = connections
        self.profile = profile
        self._sets = ends.port_sets
        policed = ends.kind == POD
        self._declared = np.where(policed, ends.ports, np.where((ends.kind == UNKNOWN) | ends.host, _UNKNOWN, _NO_POD))
        self._anywhere = _anywhere(ends.port_sets)
        self._numbers: dict[Traffic, int] = {}
        self._found: list[Traffic] = []
        self._places: dict[tuple[int, int], int] = {}
        self._rows: list[Answers] = []
        self._stacked: NDArray[np.int8] | None = None

    def number(self, traffic: Traffic) -> int:
        """Return the number of a condition."""
        found = self._numbers.setdefault(traffic, len(self._found))
        if found == len(self._found):
            self._found.append(traffic)
        return found

    def condition(self, number: int) -> Traffic:
        """Return the condition of a number."""
        return self._found[number]

    def answers(self, numbers: Codes, connections: Codes, responders: Codes) -> Answers:
        """Return the answer of each condition on each connection with a responder of a class (equally long arrays)."""
        if not len(numbers):
            return np.zeros(0, np.int8)
        named = np.array([any(one.name for one in (*t.ports, *t.not_ports)) for t in self._found], np.bool_)
        declared = np.where(named[numbers], self._declared[responders], _NO_POD)
        width = len(self._sets) + 2
        keys, inverse = np.unique(numbers * width + declared + 2, return_inverse=True)
        places = np.array([self._place(int(key) // width, int(key) % width - 2) for key in keys], np.int64)
        if self._stacked is None or len(self._stacked) != len(self._rows):
            self._stacked = np.stack(self._rows)
        found: Answers = self._stacked[places[inverse], connections]
        return found

    def _place(self, number: int, declared: int) -> int:
        found = self._places.get((number, declared))
        if found is None:
            found = self._places[number, declared] = len(self._rows)
            self._rows.append(self._row(self._found[number], declared))
        return found

    def _row(self, traffic: Traffic, declared: int) -> Answers:
        connections = self.connections
        found = np.full(len(connections), YES, np.int8)
        if traffic.protocol is not None:
            found[~connections.any_of([traffic.protocol])] = NO
        if traffic.not_protocol is not None:
            found[connections.any_of([traffic.not_protocol])] = NO
        if traffic.ports:
            found = np.minimum(found, self._any_port(traffic.ports, declared))
        if traffic.not_ports:
            found = np.minimum(found, YES - self._any_port(traffic.not_ports, declared))
        if traffic.icmp:
            found = np.minimum(found, np.maximum.reduce([self._icmp(one) for one in traffic.icmp]))
        if traffic.not_icmp is not None:
            found = np.minimum(found, YES - self._icmp(traffic.not_icmp))
        return np.minimum(found, MAYBE if traffic.source_ports else YES).astype(np.int8)

    def _any_port(self, ports: Iterable[PortMatch], declared: int) -> Answers:
        found: Answers = np.maximum.reduce([self._port(one, declared) for one in ports])
        return found

    def _port(self, match: PortMatch, declared: int) -> Answers:
        connections = self.connections
        found = np.full(len(connections), YES, np.int8)
        if match.low is not None or match.name is not None:
            found = self._ranged(match) if match.name is None else self._named(match, declared)
            found[connections.ported & (connections.port < 0)] = MAYBE
            found[~connections.ported] = NO
        if match.protocol is not None:
            found[~connections.any_of([match.protocol])] = NO
        return found

    def _ranged(self, match: PortMatch) -> Answers:
        port, low = self.connections.port, match.low or 0
        inside = (port >= low) & (port <= (low if match.high is None else match.high))
        found = np.where(inside, YES, NO).astype(np.int8)
        if match.high != low and self.profile.port_ranges is not True:
            found[inside & (port != low)] = NO if self.profile.port_ranges is False else MAYBE
        return found

    def _named(self, match: PortMatch, declared: int) -> Answers:
        if declared in (_NO_POD, _UNKNOWN):
            return np.full(len(self.connections), NO if declared == _NO_POD else MAYBE, np.int8)
        found = np.full(len(self.connections), MAYBE if self.profile.unresolved_port_opens_all else NO, np.int8)
        for own in self._sets[declared]:
            if own.name == match.name:
                found[self.connections.any_of([own.protocol]) & (self.connections.port == own.number)] = YES
        if self.profile.ambiguous_named_ports is not True:
            for (name, protocol), numbers in self._anywhere.items():
                if name == match.name:
                    meant = self.connections.any_of([protocol]) & np.isin(self.connections.port, list(numbers))
                    found[meant & ((found == NO) | (len(numbers) > 1))] = MAYBE
        return found

    def _icmp(self, match: IcmpMatch) -> Answers:
        connections = self.connections
        found = np.where(connections.any_of([match.protocol] if match.protocol else ["icmp", "icmpv6"]), YES, NO)
        for wanted, column in ((match.type, connections.type), (match.code, connections.code)):
            if wanted is not None:
                found = np.minimum(found, np.where(column < 0, MAYBE, np.where(column == wanted, YES, NO)))
        return found.astype(np.int8)


def _anywhere(sets: Iterable[tuple[ContainerPort, ...]]) -> dict[tuple[str, str], set[int]]:
    """Return the numbers that each (name, protocol) stands for on any pod."""
    found: dict[tuple[str, str], set[int]] = {}
    for ports in sets:
        for port in ports:
            found.setdefault((port.name, port.protocol), set()).add(port.number)
    return found
