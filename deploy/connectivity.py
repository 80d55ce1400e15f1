"""Which connections a set of policies allows between workloads, and what two sets allow differently.

Pods that no policy can tell apart are one class. Pairs of classes come from what rules select rather than from trying all with
all, so the work grows with what is allowed; every pair is then put to the judge for each range of ports that its rules tell apart.
What an engine lets pass whatever the rules say (kubelet probes, some ICMP) is no connection of the policies and is not listed.
"""

import ipaddress
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from deploy.policies import PolicySource, engines_for, read_policies
from deploy.population import Pod, Population
from deploy.ports import FIRST, LAST, Ports, less, text, union
from deploy.semantics import deciding
from deploy.semantics.deciding import Rules
from deploy.semantics.ends import EXTERNAL, POD, Codes, Endpoint, Ends, Lens
from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import Profile
from deploy.semantics.programs import Program, first_of_runs
from deploy.semantics.reading.manifests import judge_objects
from deploy.semantics.rules import DIRECTIONS, PORT_PROTOCOLS, Range, Rule, Traffic
from deploy.semantics.selectors import Truth
from deploy.semantics.traffic import Connection, Connections
from deploy.semantics.verdicts import Court
from recorder.errors import InputError

SCHEMA_VERSION = 1
BY = ("workload", "pod")
_ICMP = ("icmp", "icmpv6")
_PROTOCOLS = (*PORT_PROTOCOLS, *_ICMP)


@dataclass(frozen=True, slots=True, order=True)
class Allowed:
    """Connections of one protocol from one workload (pod, prefix) to another; `partial`: only some pods of the pair may.

    For ICMP, `ports` are types.
    """

    source: str
    destination: str
    protocol: str
    ports: str
    partial: bool

    def json(self) -> dict[str, Any]:
        """Return it as it stands in the JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Connectivity:
    """Every connection that policies allow, and what cannot be told."""

    profile: str
    engines: tuple[str, ...]
    connections: tuple[Allowed, ...]
    undetermined: tuple[Allowed, ...]

    def json(self) -> dict[str, Any]:
        """Return what `connectivity -o json` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "profile": self.profile,
            "engines": list(self.engines),
            "connections": [one.json() for one in self.connections],
            "undetermined": [one.json() for one in self.undetermined],
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """What a new set of policies allows that the old one does not, the other way round, and what can no longer be told."""

    profile: str
    engines: tuple[str, ...]
    allowed: tuple[Allowed, ...]
    denied: tuple[Allowed, ...]
    undetermined: tuple[Allowed, ...] = ()

    def json(self) -> dict[str, Any]:
        """Return what `diff -o json` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "profile": self.profile,
            "engines": list(self.engines),
            "newly_allowed": [one.json() for one in self.allowed],
            "newly_denied": [one.json() for one in self.denied],
            "newly_undetermined": [one.json() for one in self.undetermined],
        }


def connectivity(
    policies: PolicySource,
    population: Population,
    *,
    profile: str = "strict",
    by: str = "workload",
    existing: bool = False,
    staged: str = "enforced",
) -> Connectivity:
    """Return every allowed connection between the workloads (or pods) that live at the end of what is known of a cluster.

    Raises InputError.
    """
    given = read_policies(policies)
    chosen = acting(given, population, existing=existing, staged=staged)
    engines = _by_policies(engines_for(profile, [chosen]))
    places = _Places(population, by, Lens.of([chosen]))
    told = _Map(
        places, Court(chosen, engines, places.ends, Connections(places.kinds([chosen])), population.known_services)
    )
    allowed, open_ = told.entries()
    return Connectivity(profile, tuple(one.name for one in engines), tuple(_named(allowed)), tuple(_named(open_)))


def diff(
    old: PolicySource,
    new: PolicySource,
    population: Population,
    *,
    profile: str = "strict",
    by: str = "workload",
    existing: bool = False,
    staged: str = "enforced",
) -> Difference:
    """Return what is newly allowed and newly denied, not which lines changed; what some pods may counts as allowed.

    Raises InputError.
    """
    both = [acting(read_policies(one), population, existing=existing, staged=staged) for one in (old, new)]
    engines = _by_policies(engines_for(profile, both))
    places = _Places(population, by, Lens.of(both))
    connections = Connections(places.kinds(both))
    maps = []
    for policies in both:
        told = _Map(places, Court(policies, engines, places.ends, connections, population.known_services))
        maps.append(told.entries())
    (before, doubtful_before), (after, doubtful) = maps
    return Difference(
        profile,
        tuple(one.name for one in engines),
        tuple(_named(_less(after, before))),
        tuple(_named(_less(_less(before, after), doubtful))),
        tuple(_named(_less(doubtful, doubtful_before))),
    )


def _by_policies(engines: Iterable[Profile]) -> tuple[Profile, ...]:
    """Return the engines without the ICMP messages that they let pass whatever the policies say."""
    return tuple(replace(one, icmp_always_allowed=(), icmpv6_always_allowed=()) for one in engines)


def acting(given: PolicySet, population: Population, *, existing: bool, staged: str) -> PolicySet:
    """Return the policies that act: those given, and on demand those of the cluster beneath them."""
    if not existing:
        return given.enforced(staged)
    present = judge_objects(population.policies()).enforced("ignored")
    return present.merged(given if staged == "enforced" else given.enforced(staged))


Place = str | Range
"""A workload or pod by name, or a range of addresses outside."""
Entry = tuple[Place, Place, str]
"""Source, destination, protocol."""
Entries = dict[Entry, tuple[Ports, bool]]
_Step = tuple[str, Rule, Codes]
"""Direction, a rule with its traffic, and the pairs of classes it may mean."""


def _named(entries: Entries) -> Iterator[Allowed]:
    """Yield connections by name; ranges outside that fare alike become prefixes."""
    outside: dict[tuple[str, bool, str, Ports, bool], list[Range]] = defaultdict(list)
    found = []
    for (source, target, protocol), (ports, partial) in entries.items():
        if isinstance(source, str) and isinstance(target, str):
            found.append((source, target, protocol, ports, partial))
        elif isinstance(source, str):
            outside[source, True, protocol, ports, partial].append(target)  # type: ignore[arg-type]
        else:
            outside[str(target), False, protocol, ports, partial].append(source)
    for (name, outward, protocol, ports, partial), ranges in outside.items():
        for prefix in _prefixes(ranges):
            ends = (name, prefix) if outward else (prefix, name)
            found.append((*ends, protocol, ports, partial))
    for source, target, protocol, ports, partial in sorted(found):
        whole = protocol in _ICMP and ports == ((0, 255),)
        yield Allowed(source, target, protocol, "all" if whole else text(ports), partial)


def _prefixes(ranges: Iterable[Range]) -> Iterator[str]:
    joined: list[Range] = []
    for family, first, last in sorted(ranges):
        if joined and joined[-1][0] == family and joined[-1][2] + 1 == first:
            joined[-1] = family, joined[-1][1], last
        else:
            joined.append((family, first, last))
    for family, first, last in joined:
        kind = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
        yield from map(str, ipaddress.summarize_address_range(kind(first), kind(last)))


def _less(left: Entries, right: Entries) -> Entries:
    found: Entries = {}
    for key, (ports, partial) in left.items():
        rest = less(ports, right[key][0]) if key in right else ports
        if rest:
            found[key] = rest, partial
    return found


class _Places:
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
        found += [Connection(protocol, None, kind) for protocol in _ICMP for kind in sorted({*types, self.other_type})]
        self._numbers = {one: number for number, one in enumerate(found)}
        self.bases = np.array([self.number(protocol, self.base(protocol)) for protocol in _PROTOCOLS], np.int64)
        return found

    def base(self, protocol: str) -> int:
        """Return the port or type that is asked of every pair."""
        return self.other_type if protocol in _ICMP else FIRST

    def number(self, protocol: str, at: int) -> int:
        """Return the number of the connection that starts at a port, or has a type."""
        asked = Connection(protocol, None, at) if protocol in _ICMP else Connection(protocol, at)
        return self._numbers[asked]

    def cuts(self, traffic: Traffic, declared: int) -> list[int]:
        """Return the numbers of the connections at which a condition may change its answer, for a set of declared ports."""
        found = [self.number(protocol, at) for protocol, at in _numeric(traffic)]
        found += [self.number(protocol, kind) for protocol in _ICMP for kind in _types(traffic)]
        names = {port.name for port in (*traffic.ports, *traffic.not_ports) if port.name is not None}
        for port in self.ends.port_sets[declared]:
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


class _Map:
    """What a court allows between the classes of places."""

    def __init__(self, places: _Places, court: Court) -> None:
        self.places = places
        self.court = court
        self.size = places.ends.size
        self.here = np.zeros(self.size, np.bool_)
        for classes, _ in places.members.values():
            self.here[classes] = True
        self.here[places.ranges] = True
        self.present = np.flatnonzero(self.here)

    def entries(self) -> tuple[Entries, Entries]:
        """Return what is allowed, and what is undetermined, by names."""
        steps = [
            (direction, step, pairs)
            for direction in DIRECTIONS
            for one in self.court.readings()
            for step, pairs in self._by_step(one, one.programs[direction])
        ]
        pairs = self._pairs(steps)
        left, right = pairs // self.size, pairs % self.size
        cell, connection = self._cells(pairs, steps)
        itself = np.zeros(len(cell), np.bool_)
        outcomes = [
            self.court.judge(direction, left[cell], right[cell], connection, itself).outcome for direction in DIRECTIONS
        ]
        allowed = (outcomes[0] == deciding.ALLOWED) & (outcomes[1] == deciding.ALLOWED)
        denied = (outcomes[0] == deciding.DENIED) | (outcomes[1] == deciding.DENIED)
        found, open_ = (
            self._entries(left, right, self._ports(cell, connection, kept)) for kept in (allowed, ~allowed & ~denied)
        )
        return found, open_

    def _pairs(self, steps: Iterable["_Step"]) -> Codes:
        """Return the pairs of classes (packed) between which anything may be allowed: at least one end is a pod."""
        out, into = self._closed("egress"), self._closed("ingress")
        open_left, open_right = self.present[~out[self.present]], self.present[~into[self.present]]
        found = [(open_left[:, None] * self.size + open_right[None, :]).ravel()]
        for direction, step, pairs in steps:
            if step.action in ("deny", "log"):
                continue
            # Where the initiator is closed its own rules open pairs, elsewhere those of the responder.
            closed = out[pairs // self.size]
            found.append(pairs[closed if direction == "egress" else ~closed])
        pairs = np.unique(np.concatenate(found))
        outside = self.places.ends.kind == EXTERNAL
        left, right = pairs // self.size, pairs % self.size
        family = self.places.ends.family
        kept: Codes = pairs[~(outside[left] & outside[right]) & (family[left] == family[right])]
        return kept

    def _closed(self, direction: str) -> Truth:
        """Tell which classes every engine isolates, so that only rules open them."""
        closed: Truth = self.places.ends.kind == POD
        for one in self.court.readings():
            program = one.programs[direction]
            isolated = (program.isolated >= 0) & program.denies[:, None]
            closed &= isolated.any(axis=0) if len(program.tiers) else False
        return closed

    def _by_step(self, one: Rules, program: Program) -> Iterator[tuple[Rule, Codes]]:
        """Yield each step's action and traffic, with the pairs (packed) of present classes that it may mean."""
        order = np.argsort(program.parts, kind="stable")
        classes = np.repeat(np.arange(self.size), np.diff(program.starts))[order]
        bounds = np.searchsorted(program.parts[order], np.arange(len(program.laid) + 1))
        outward = program.direction == "egress"
        for step in range(len(program.part)):
            part = program.part[step]
            subjects = classes[bounds[part] : bounds[part + 1]]
            column = program.destination if outward else program.source
            meant = one.peers.meant(int(column[step]))
            peers, subjects = meant[self.here[meant]], subjects[self.here[subjects]]
            left, right = (subjects, peers) if outward else (peers, subjects)
            traffic = one.traffics.condition(int(program.traffic[step]))
            yield replace(program.rules[step][1], traffic=traffic), (left[:, None] * self.size + right[None, :]).ravel()

    def _cells(self, pairs: Codes, steps: Iterable["_Step"]) -> tuple[Codes, Codes]:
        """Return (pair, connection) for every range of ports that the rules of a pair tell apart, sorted."""
        places, count = self.places, len(self.court.connections)
        found = [(np.arange(len(pairs))[:, None] * count + places.bases[None, :]).ravel()]
        for _, step, meant in steps:
            rows = np.searchsorted(pairs, meant)
            rows = (
                rows[(rows < len(pairs)) & (pairs[np.minimum(rows, len(pairs) - 1)] == meant)]
                if len(pairs)
                else rows[:0]
            )
            declared = places.ends.ports[pairs[rows] % self.size]
            for number in np.unique(declared):
                cuts = np.array(places.cuts(step.traffic, int(number)), np.int64)
                if len(cuts):
                    found.append((rows[declared == number][:, None] * count + cuts[None, :]).ravel())
        cells = np.unique(np.concatenate(found))
        return cells // count, cells % count

    def _ports(self, cell: Codes, connection: Codes, kept: Truth) -> dict[int, dict[str, Ports]]:
        """Return, by pair and protocol, the ports (or ICMP types) of the cells that are kept."""
        found: dict[int, dict[str, Ports]] = {}
        known: dict[bytes, dict[str, Ports]] = {}
        kinds = self.court.connections.all
        firsts = np.flatnonzero(first_of_runs(cell)) if len(cell) else cell
        for start, stop in zip(firsts, [*firsts[1:], len(cell)], strict=True):
            if not kept[start:stop].any():
                continue
            key = connection[start:stop].tobytes() + kept[start:stop].tobytes()
            if key not in known:
                asked = [kinds[one] for one in connection[start:stop]]
                known[key] = dict(_spans(asked, kept[start:stop].tolist(), self.places.other_type))
            found[int(cell[start])] = known[key]
        return found

    def _entries(self, left: Codes, right: Codes, ports: Mapping[int, Mapping[str, Ports]]) -> Entries:
        """Return the connections by names and ranges, with whether all pods of both may."""
        places = self.places
        named: dict[int, list[tuple[Place, int]]] = defaultdict(list)
        sizes: dict[Place, Counter[int]] = {place: Counter({place[0]: 1}) for place in places.outside}
        for name, (classes, counts) in places.members.items():
            sizes[name] = Counter()
            for number, count in zip(classes.tolist(), counts.tolist(), strict=True):
                named[number].append((name, count))
                sizes[name][int(places.ends.family[number])] += count
        for place, number in zip(places.outside, places.ranges.tolist(), strict=True):
            named[number].append((place, 1))
        weights: dict[Entry, dict[Ports, int]] = defaultdict(lambda: defaultdict(int))
        for number, protocols in ports.items():
            one, other = int(left[number]), int(right[number])
            silent = {4: "icmpv6", 6: "icmp"}.get(int(places.ends.family[one]))
            for source, many in named[one]:
                for target, more in named[other]:
                    weight = many * (more - 1) if source == target and one == other else many * more
                    for protocol, spans in protocols.items() if weight else ():
                        if protocol != silent:
                            weights[source, target, protocol][spans] += weight
        found: Entries = {}
        for key, by_ports in weights.items():
            whole = union(by_ports)
            held, served = sizes[key[0]], sizes[key[1]]
            spoken = {"icmp": (4,), "icmpv6": (6,)}.get(key[2], (4, 6))
            total = sum(held[family] * (served[family] - (key[0] == key[1])) for family in spoken)
            found[key] = whole, by_ports.get(whole, 0) < total
        return found


def _spans(asked: list[Connection], kept: list[bool], other: int) -> Iterator[tuple[str, Ports]]:
    """Yield (protocol, ports or types) of what is kept of the connections asked of one pair, in order."""
    for protocol, rows in groupby(range(len(asked)), key=lambda row: asked[row].protocol):
        places = list(rows)
        if protocol in _ICMP:
            types = {asked[row].icmp_type: kept[row] for row in places}
            ports = union(((one, one),) for one in range(256) if types.get(one, types[other]))
        else:
            starts = [asked[row].port or FIRST for row in places]
            stops = [*(start - 1 for start in starts[1:]), LAST]
            ports = union(((low, high),) for row, low, high in zip(places, starts, stops, strict=True) if kept[row])
        if ports:
            yield protocol, ports
