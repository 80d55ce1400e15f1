"""Who connectivity is asked about: pods by workload or name, ranges of addresses outside, and the connections told apart."""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from deploy.population import Pod, Population
from deploy.ports import FIRST, LAST
from deploy.semantics.ends import Endpoint, Ends, Lens
from deploy.semantics.policyset import PolicySet
from deploy.semantics.rules import PORT_PROTOCOLS, Range, Traffic
from deploy.semantics.traffic import Connection
from recorder.errors import InputError

BY = ("workload", "pod")
ICMP = ("icmp", "icmpv6")
PROTOCOLS = (*PORT_PROTOCOLS, *ICMP)

Place = str | Range
"""A workload or pod by name, or a range of addresses outside."""


class Places:
    """The pods alive at the end, by workload or name, and the ranges outside that policies tell apart."""

    def __init__(self, population: Population, by: str, lens: Lens) -> None:
        if by not in BY:
            raise InputError(f"--by {by!r} is none of {', '.join(BY)}")
        self.population = population
        endpoints: list[Endpoint] = []
        self.groups: dict[str, list[int]] = defaultdict(list)
        for pod in living(population):
            name = pod.workload if by == "workload" else f"{pod.namespace}/{pod.name}"
            for ip in pod.ips:
                self.groups[name].append(len(endpoints))
                endpoints.append(population.now(pod, ip))
        self.outside: list[Range] = []
        pods = len(endpoints)
        for family, size in ((4, 32), (6, 128)):
            stops = (*lens.bounds[family][1:], 1 << size)
            for first, stop in zip(lens.bounds[family], stops, strict=True):
                if first < 1 << size:
                    self.outside.append((family, first, stop - 1))
                    address = ipaddress.IPv4Address(first) if family == 4 else ipaddress.IPv6Address(first)
                    endpoints.append(Endpoint("external", ip=str(address)))
        self.ends = Ends(endpoints, lens)
        self.ranges = self.ends.far[pods:]
        self.members = {name: np.unique(self.ends.far[rows], return_counts=True) for name, rows in self.groups.items()}
        self._numbers: dict[Connection, int] = {}

    def kinds(self, sets: Iterable[PolicySet]) -> list[Connection]:
        """Return a connection for the start of each range of ports, and for each type, that these rules tell apart."""
        starts: dict[str, set[int]] = {protocol: {FIRST} for protocol in PORT_PROTOCOLS}
        types: set[int] = set()
        rules = (rule for one in sets for policy in one.policies for rule in (*policy.ingress, *policy.egress))
        for traffic in {rule.traffic for rule in rules}:
            for protocol, at in _numeric(traffic):
                starts[protocol].add(at)
            types.update(_types(traffic))
        declared = {(port.protocol, port.number) for ports in self.ends.port_sets for port in ports}
        declared |= {(protocol, port) for row in range(self.ends.size) for _, protocol, port in self.ends.services(row)}
        for protocol, number in declared:
            if protocol in starts:
                starts[protocol].update(_edges(number, number))
        self.other_type = next(number for number in range(256) if number not in types)
        found = [Connection(protocol, at) for protocol, ports in starts.items() for at in sorted(ports)]
        found += [Connection(protocol, None, kind) for protocol in ICMP for kind in sorted({*types, self.other_type})]
        self._numbers = {one: number for number, one in enumerate(found)}
        self.bases = np.array([self.number(protocol, self.base(protocol)) for protocol in PROTOCOLS], np.int64)
        return found

    def base(self, protocol: str) -> int:
        """Return the port or type that is asked of every pair."""
        return self.other_type if protocol in ICMP else FIRST

    def number(self, protocol: str, at: int) -> int:
        """Return the number of the connection that starts at a port, or has a type."""
        asked = Connection(protocol, None, at) if protocol in ICMP else Connection(protocol, at)
        return self._numbers[asked]

    def cuts(self, traffic: Traffic, declared: int, *, mixed: bool) -> list[int]:
        """Return the numbers of the connections at which a condition may change its answer, for a set of declared ports.

        `mixed`: what a port name stands for on other pods counts, too.
        """
        found = [self.number(protocol, at) for protocol, at in _numeric(traffic)]
        found += [self.number(protocol, kind) for protocol in ICMP for kind in _types(traffic)]
        names = {port.name for port in (*traffic.ports, *traffic.not_ports) if port.name is not None}
        sets = self.ends.port_sets if mixed and names else (self.ends.port_sets[declared],)
        for port in {port for ports in sets for port in ports}:
            if port.name in names and port.protocol in PORT_PROTOCOLS:
                found += [self.number(port.protocol, at) for at in _edges(port.number, port.number)]
        return found


def living(population: Population) -> list[Pod]:
    """Return the latest version of each pod that has not ended and is no host's, in the order of names."""
    latest = [versions[-1] for versions in population.by_uid.values()]
    alive = [pod for pod in latest if pod.end is None and not pod.host_network]
    return sorted(alive, key=lambda pod: (pod.namespace, pod.name, pod.uid))


def _edges(low: int, high: int) -> list[int]:
    """Return the ports at which a range begins and ends, its second too: some engines know only its first."""
    return [at for at in sorted({low, low + 1, high + 1}) if FIRST <= at <= LAST]


def _numeric(traffic: Traffic) -> Iterator[tuple[str, int]]:
    """Yield (protocol, port) at which a condition on numbers may change its answer."""
    for port in (*traffic.ports, *traffic.not_ports):
        if port.low is not None:
            for protocol in PORT_PROTOCOLS:
                if port.protocol in (None, protocol) and traffic.protocol in (None, protocol):
                    for at in _edges(port.low, port.low if port.high is None else port.high):
                        yield protocol, at


def _types(traffic: Traffic) -> Iterator[int]:
    for one in (*traffic.icmp, traffic.not_icmp):
        if one is not None and one.type is not None:
            yield one.type
