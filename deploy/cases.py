"""Brings recorded edges before the judge: who both ends were then and are now, as columns of distinct cases.

An edge is tried with everybody that its ends may have been while it was seen (labels of a namespace change, a Service has many
endpoints), and once more with the labels of today. What no policy can tell apart is one case, judged once.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deploy.population import EVER, FOREVER, Population, Stretch
from deploy.recorded import Dialled, Edges, End
from deploy.semantics import deciding
from deploy.semantics.ends import Codes, Endpoint, Ends, Lens
from deploy.semantics.programs import expand, first_of_runs
from deploy.semantics.rules import DIRECTIONS
from deploy.semantics.traffic import Connection, Connections
from deploy.semantics.verdicts import Court, Judgement, Ways

Truth = NDArray[np.bool_]

SEVERITY = np.array([0, 2, 1])
"""Of outcomes by their code: what is worse counts."""
_OUTCOME = np.array([deciding.ALLOWED, deciding.UNDETERMINED, deciding.DENIED])

BOTH, THEN, NOW = range(3)
LABELS = ("both", "then", "now")


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """What becomes of one half of every edge, in columns: outcome, the labels it holds under (index into LABELS).

    `case` is the case that shows why; `split`: the endpoints of the dialled Service fare differently.
    """

    outcome: Codes
    labels: Codes
    case: Codes
    split: Truth
    judged: Judgement


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """What is asked of the judge, in the order of edges: both ends, the connection and the way it took (0: straight)."""

    edge: Codes
    source: Codes
    target: Codes
    connection: Codes
    way: Codes | None

    def rows(self, owner: Codes) -> "_Asked":
        """Return these rows, in this order, as often as they are named."""
        way = None if self.way is None else self.way[owner]
        return _Asked(self.edge[owner], self.source[owner], self.target[owner], self.connection[owner], way)


class Parties:
    """The ends of edges with their names and everybody they were; grows while Services are looked up."""

    def __init__(self, ends: Sequence[End], population: Population) -> None:
        self.population = population
        self.names: list[str] = []
        self.endpoints: list[Endpoint] = []
        self._numbers: dict[Endpoint, int] = {}
        self._ends: dict[End, int] = {}
        self._stretches: list[tuple[tuple[int, int, int], ...]] = []
        self._now: list[int] = []
        for end in ends:
            self.number(end)

    def number(self, end: End) -> int:
        """Return the number of an end; those given first come first."""
        if end not in self._ends:
            name, then, now = self._introduced(end)
            self._ends[end] = len(self.names)
            self.names.append(name)
            self._stretches.append(tuple((one.start, one.stop, self._endpoint(one.endpoint)) for one in then))
            self._now.append(self._endpoint(now))
        return self._ends[end]

    def _endpoint(self, endpoint: Endpoint) -> int:
        number = self._numbers.setdefault(endpoint, len(self.endpoints))
        if number == len(self.endpoints):
            self.endpoints.append(endpoint)
        return number

    def _introduced(self, end: End) -> tuple[str, tuple[Stretch, ...], Endpoint]:
        pod = self.population.pods.get(end.id or "") if end.kind == "pod" else None
        if pod is not None:
            then = self.population.then(pod, end.ip)
            if len(then) == 1 and self.population.successor(pod) is pod:
                return pod.workload, then, then[0].endpoint
            return pod.workload, then, self.population.now(pod, end.ip)
        served = self.population.served.get(end.ip, ())
        endpoint = {
            "node": Endpoint("node", ip=end.ip, name=end.id or "", services=served),
            "apiserver": Endpoint("apiserver", ip=end.ip, services=served),
            "external": Endpoint("external", ip=end.ip, services=served),
            "multicast": Endpoint("external", ip=end.ip),
        }.get(end.kind, Endpoint("unknown", ip=None if end.kind == "service" else end.ip))
        return name_of(end), (Stretch(EVER, FOREVER, endpoint),), endpoint

    def service(self, dialled: Dialled, end: int) -> tuple[int, int]:
        """Return (a Service as selectors see it, its address) of what was dialled on the way to an end."""
        behind = self.endpoints[self._now[end]]
        address = self._endpoint(Endpoint("external", ip=dialled.ip))
        selector = self.population.selector(dialled.service, dialled.ip)
        if dialled.service is None or selector is None:
            return address, address
        namespace = dialled.service.partition("/")[0]
        labels = self.population.namespace_labels(namespace)
        seen = Endpoint("pod", "", namespace=namespace, labels=selector, namespace_labels=labels, ports=behind.ports)
        return self._endpoint(seen), address

    def twins(self, numbers: Sequence[int]) -> Codes:
        """Return, for endpoints, those that arrive instead when their address is rewritten on the way."""
        return np.array([self._endpoint(replace(self.endpoints[one], translated=True)) for one in numbers], np.int64)

    @cached_property
    def columns(self) -> tuple[Codes, Codes, Codes, Codes, Codes]:
        """Return (first stretch of each end and one more, starts, stops, endpoints; endpoint now of each end)."""
        counts = np.array([len(one) for one in self._stretches], np.int64)
        flat = np.array([one for stretches in self._stretches for one in stretches], np.int64).reshape(-1, 3)
        first = np.concatenate(([0], np.cumsum(counts)))
        return first, flat[:, 0], flat[:, 1], flat[:, 2], np.array(self._now, np.int64)


class Cases:
    """The distinct cases of some edges, seen through one lens; judge them with `halves`.

    `names` names each end's workload or place, `target` and `target_connection` what each edge is told to be: the one workload
    behind a dialled Service, else the Service.
    """

    def __init__(self, edges: Edges, population: Population, lens: Lens) -> None:
        self.edges = edges
        self.parties = Parties(edges.ends, population)
        self._kinds = list(edges.connections)
        self._numbers = {one: number for number, one in enumerate(self._kinds)}
        self._several = np.zeros(len(edges), np.bool_)
        asked = self._targets()
        straight = len(asked.edge) == len(edges) and asked.target is edges.destination
        self.names = self.parties.names
        self.target, self.target_connection = edges.destination, edges.connection
        if not straight:
            self._told(asked.edge, asked.target, asked.connection)
        self._ways: list[tuple[int, int, int]] = []
        asked = self._dialled(asked)
        self.ends, self._twins = self._seen(lens)
        self.connections = Connections(self._kinds)
        self._cells: dict[tuple[str, int], tuple[Codes, Codes]] = {}
        self._number(asked)
        self.known_services = population.known_services

    def _targets(self) -> _Asked:
        """Return every responder that an edge may have had; ends are not yet somebody."""
        edges = self.edges
        dialled = np.array([one.kind == "service" for one in edges.ends] or [False], np.bool_)
        if not dialled.any():
            return _Asked(np.arange(len(edges)), edges.source, edges.destination, edges.connection, None)
        service = dialled[edges.destination]
        rows = np.flatnonzero(~service)
        extra = [row for number in np.flatnonzero(service) for row in self._behind(int(number))]
        behind = np.array(extra, np.int64).reshape(-1, 3).T
        found = np.concatenate([np.stack([rows, edges.destination[rows], edges.connection[rows]]), behind], axis=1)
        edge, end, connection = found[:, np.argsort(found[0], kind="stable")]
        return _Asked(edge, edges.source[edge], end, connection, None)

    def _behind(self, number: int) -> Iterator[tuple[int, int, int]]:
        """Yield (edge, end, connection) of what stood behind the Service that an edge dialled."""
        edges = self.edges
        end, asked = edges.ends[edges.destination[number]], edges.connections[edges.connection[number]]
        first, last = edges.first_seen[number], edges.last_seen[number]
        backends = self.parties.population.backends(end.id or "", asked.port, asked.protocol)
        held = {(one.address, one.port, one.id): one for one in backends if one.start <= last and one.stop > first}
        # Versions of one pod are not several backends: they are who it was meanwhile.
        self._several[number] = len({(address, port) for address, port, _ in held}) > 1
        for one in held.values():
            behind = self.parties.number(End(one.kind, one.address, one.id))
            yield number, behind, self._connection(replace(asked, port=one.port))
        if not held:
            yield number, int(edges.destination[number]), self._connection(replace(asked, port=None))

    def _connection(self, one: Connection) -> int:
        number = self._numbers.setdefault(one, len(self._kinds))
        if number == len(self._kinds):
            self._kinds.append(one)
        return number

    def _told(self, edge: Codes, end: Codes, connection: Codes) -> None:
        """Settle what edges are told to be: a Service with one workload behind one port is that workload."""
        edges = self.edges
        self.target, self.target_connection = edges.destination.copy(), edges.connection.copy()
        numbers = {name: number for number, name in enumerate(dict.fromkeys(self.names))}
        named = np.array([numbers[name] for name in self.names], np.int64)[end]
        ports = np.array([one.port is not None for one in self._kinds], np.bool_)[connection]
        key = named * len(self._kinds) + connection
        firsts = np.flatnonzero(first_of_runs(edge))
        alone = np.minimum.reduceat(key, firsts) == np.maximum.reduceat(key, firsts)
        rows = firsts[alone & ports[firsts]]
        self.target[edge[rows]], self.target_connection[edge[rows]] = end[rows], connection[rows]

    def _dialled(self, asked: _Asked) -> _Asked:
        """Return what is asked once for each way that an edge took."""
        addresses, edge, number = self.edges.dialled
        if not len(edge):
            return asked
        first, last = np.searchsorted(edge, asked.edge), np.searchsorted(edge, asked.edge, side="right")
        owner, place = expand(first, np.maximum(last, first + 1))
        led = place < last[owner]
        way = np.where(led, number[np.minimum(place, len(number) - 1)], -1)
        found = asked.rows(owner)
        width = len(self._kinds)
        key = (way * len(self.names) + found.target) * width + found.connection
        distinct, ways = np.unique(np.where(way < 0, -1, key), return_inverse=True)
        numbers = []
        for one in distinct.tolist():
            rest, kind = divmod(one, width)
            address, end = divmod(rest, len(self.names))
            numbers.append(0 if one < 0 else self._way(addresses[address], end, kind))
        return replace(found, way=np.array(numbers, np.int64)[ways])

    def _way(self, dialled: Dialled, end: int, connection: int) -> int:
        """Return the number of a way: a Service as selectors see it, its address, and the connection to that."""
        straight = self._connection(replace(self._kinds[connection], port=dialled.port))
        self._ways.append((*self.parties.service(dialled, end), straight))
        return len(self._ways)

    def _then(self, asked: _Asked) -> _Asked:
        """Return everybody that edges may have been between."""
        edges = self.edges
        first, start, stop, endpoint, _ = self.parties.columns
        if len(endpoint) == len(first) - 1:
            if (endpoint == np.arange(len(endpoint))).all():
                return asked
            return replace(asked, source=endpoint[asked.source], target=endpoint[asked.target])
        for side in ("source", "target"):
            ends = getattr(asked, side)
            owner, place = expand(first[ends], first[ends + 1])
            seen = asked.edge[owner]
            held = (start[place] <= edges.last_seen[seen]) & (stop[place] > edges.first_seen[seen])
            asked = replace(asked.rows(owner[held]), **{side: endpoint[place[held]]})
        return asked

    def _now(self, asked: _Asked) -> _Asked:
        now = self.parties.columns[4]
        return replace(asked, source=now[asked.source], target=now[asked.target])

    def _seen(self, lens: Lens) -> tuple[Ends, Codes]:
        """Return the ends as policies see them, and for each end the one that arrives when its address is rewritten."""
        twins = np.arange(len(self.parties.endpoints))
        if self.edges.translated.any():
            first, _, _, endpoint, now = self.parties.columns
            sources = np.unique(self.edges.source[self.edges.translated])
            _, place = expand(first[sources], first[sources + 1])
            moved = np.unique(np.concatenate([endpoint[place], now[sources]]))
            twins[moved] = self.parties.twins(moved.tolist())
        return Ends(self.parties.endpoints, lens), twins

    def _number(self, asked: _Asked) -> None:
        """Give numbers to the distinct cases of both halves under both labels."""
        then = now = self._then(asked)
        keys, places = [self._keys(then)], [("egress", THEN), ("ingress", THEN)]
        if not self._same_now():
            now = self._now(asked)
            keys.append(self._keys(now))
            places += [("egress", NOW), ("ingress", NOW)]
        edges_of = [then.edge, now.edge]
        columns = [one for one in keys for _ in DIRECTIONS]
        if self.edges.translated.any():
            for number, one in list(enumerate((then, now)))[: len(keys)]:
                moved = np.where(self.edges.translated[one.edge], self._twins[one.source], one.source)
                columns[2 * number + 1] = self._keys(replace(one, source=moved))
        distinct = {id(one): one for one in columns}
        encoded = pa.array(np.concatenate(list(distinct.values()))).dictionary_encode()
        values = encoded.dictionary.to_numpy(zero_copy_only=False)
        order = np.argsort(values, kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        codes = rank[encoded.indices.to_numpy(zero_copy_only=False)]
        cuts = np.cumsum([len(one) for one in distinct.values()])[:-1]
        split = dict(zip(distinct, np.split(codes, cuts), strict=True))
        for number, (column, place) in enumerate(zip(columns, places, strict=True)):
            self._cells[place] = edges_of[number // 2], split[id(column)]
        if len(places) == 2:
            self._cells |= {(direction, NOW): self._cells[direction, THEN] for direction in DIRECTIONS}
        self._unpack(values[order])

    def _same_now(self) -> bool:
        """Tell whether everybody is to the policies what it was."""
        first, _, _, endpoint, now = self.parties.columns
        if len(endpoint) != len(first) - 1:
            return False
        ends = self.ends
        return all((column[endpoint] == column[now]).all() for column in (ends.far, ends.near, ends.node, ends.holder))

    def _keys(self, asked: _Asked) -> Codes:
        keys, right, itself = self.ends.pairs(asked.source, asked.target)
        way = 0 if asked.way is None else asked.way
        for factor, column in self._factors(right, asked.connection, itself, way):
            keys *= factor
            keys += column
        return keys

    def _factors(self, *columns: Codes | Truth | int) -> Iterator[tuple[int, Codes | Truth | int]]:
        return zip((self.ends.size, len(self._kinds), 2, len(self._ways) + 1), columns, strict=True)

    def _unpack(self, values: Codes) -> None:
        values, way = np.divmod(values, len(self._ways) + 1)
        values, itself = np.divmod(values, 2)
        values, self.connection = np.divmod(values, len(self._kinds))
        self.left, self.right = np.divmod(values, self.ends.size)
        self.itself = itself.astype(np.bool_)
        self.ways: Ways | None = None
        if self._ways:
            service, address, connection = np.array([(0, 0, 0), *self._ways], np.int64).T
            self.ways = Ways(way, self.ends.far[service], self.ends.far[address], connection)

    def __len__(self) -> int:
        return len(self.left)

    def halves(self, court: Court, direction: str) -> Halves:
        """Return what becomes of one half of every edge."""
        judged = court.judge(direction, self.left, self.right, self.connection, self.itself, self.ways)
        edge, case = self._cells[direction, THEN]
        if len(edge) == len(self.edges) and self._cells[direction, NOW][1] is case:
            plain = np.zeros(len(edge), np.int64)
            return Halves(judged.outcome[case], plain, case, plain.astype(np.bool_), judged)
        severity = SEVERITY[judged.outcome]
        then, split, shown = self._worst(direction, THEN, severity)
        now, split_now, shown_now = self._worst(direction, NOW, severity)
        first = then >= now
        return Halves(
            outcome=_OUTCOME[np.maximum(then, now)],
            labels=np.where(then == now, BOTH, np.where(first, THEN, NOW)),
            case=np.where(first, shown, shown_now),
            split=np.where(first, split, split_now),
            judged=judged,
        )

    def _worst(self, direction: str, when: int, severity: Codes) -> tuple[Codes, Truth, Codes]:
        """Return the severity for each edge, whether its responders differ, and the case that shows it."""
        edge, case = self._cells[direction, when]
        size, found = len(self.edges), severity[case]
        if len(edge) == size:
            return found, np.zeros(size, np.bool_), case
        firsts = np.flatnonzero(first_of_runs(edge))
        worst, least = np.maximum.reduceat(found, firsts), np.minimum.reduceat(found, firsts)
        shows = np.flatnonzero(found == worst[edge])
        shows = shows[first_of_runs(edge[shows])]
        split = self._several & (worst != least)
        return np.where(split, SEVERITY[deciding.UNDETERMINED], worst), split, case[shows]


def name_of(end: End) -> str:
    """Return the contract's name of an end that is no known pod."""
    if end.kind == "node":
        return f"node/{end.id or end.ip}"
    if end.kind == "apiserver":
        return "apiserver"
    if end.kind == "service" and end.id:
        namespace, _, name = end.id.partition("/")
        return f"{namespace}/service/{name}"
    if end.kind in ("external", "multicast"):
        return str(ipaddress.ip_network(end.ip, strict=False))
    return f"{'ambiguous' if end.kind in ('ambiguous', 'overflow') else 'unresolved'}/{end.ip}"
