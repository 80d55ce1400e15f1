"""What a court allows between classes of ends: pairs that rules open, ports that they tell apart, and names again."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np

from deploy.places import ICMP, Place, Places
from deploy.ports import FIRST, LAST, Ports, union
from deploy.semantics import deciding
from deploy.semantics.deciding import Rules
from deploy.semantics.ends import EXTERNAL, POD, Codes
from deploy.semantics.programs import Program, first_of_runs
from deploy.semantics.rules import DIRECTIONS, Rule
from deploy.semantics.selectors import Truth
from deploy.semantics.traffic import Connection
from deploy.semantics.verdicts import Court

Entry = tuple[Place, Place, str]
"""Source, destination, protocol."""
Entries = dict[Entry, tuple[Ports, bool]]
_Step = tuple[str, Rule, Codes]
"""Direction, a rule with its traffic, and the pairs of classes it may mean."""


class Reach:
    """What a court allows between the classes of places."""

    def __init__(self, places: Places, court: Court) -> None:
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
        mixed = any(one.ambiguous_named_ports is not True for one in self.court.profiles)
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
                cuts = np.array(places.cuts(step.traffic, int(number), mixed=mixed), np.int64)
                if len(cuts):
                    found.append((rows[declared == number][:, None] * count + cuts[None, :]).ravel())
        cells = np.unique(np.concatenate(found))
        return cells // count, cells % count

    def _ports(self, cell: Codes, connection: Codes, kept: Truth) -> dict[int, dict[str, Ports]]:
        """Return, by pair and protocol, the ports (or ICMP types) of the cells that are kept."""
        found: dict[int, dict[str, Ports]] = {}
        known: dict[bytes, dict[str, Ports]] = {}
        kinds = self.court.connections.all
        for start, stop in pairwise([*np.flatnonzero(first_of_runs(cell)), len(cell)]):
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
        if protocol in ICMP:
            types = {asked[row].icmp_type: kept[row] for row in places}
            ports = union(((one, one),) for one in range(256) if types.get(one, types[other]))
        else:
            starts = [asked[row].port or FIRST for row in places]
            stops = [*(start - 1 for start in starts[1:]), LAST]
            ports = union(((low, high),) for row, low, high in zip(places, starts, stops, strict=True) if kept[row])
        if ports:
            yield protocol, ports
