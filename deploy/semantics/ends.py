"""The ends of connections, brought into classes that no policy can tell apart.

A policy looks at some labels, some address ranges, some port names. Ends that agree in these are one class, so what grows with
pods shrinks to what grows with workloads before anything is judged.
"""

import socket
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deploy.semantics.policyset import PolicySet
from deploy.semantics.rules import Addresses, Block, Members, Net, Peer, Pods, Range, Serves, address_range
from deploy.semantics.selectors import Labels, Truth

KINDS = ("pod", "own-node", "other-node", "apiserver", "external", "unknown")
"""What an end is to the pod at the other end; a host-network pod is its node."""

POD, OWN_NODE, OTHER_NODE, APISERVER, EXTERNAL, UNKNOWN = range(len(KINDS))

NOWHERE = (-1, 0, 0)
"""The range of an end that has no address at all (`ip` is empty): a Service as selectors see it."""

Pairs = tuple[tuple[str, str], ...]
Codes = NDArray[np.int64]

_CILIUM_NAMESPACE = "io.cilium.k8s.namespace.labels."
_LONG_ACCOUNT = 63
"""Names of service accounts from this length on are no label of Calico's."""


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A port that a container declares."""

    name: str
    number: int
    protocol: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection at one moment.

    `kind`: `pod`, `node`, `apiserver`, `external`, or `unknown` where nobody can say who held the address. `name` is the
    pod's uid or the node's name, `ip` an address or prefix, `node` the node the pod runs on. `services`: (Service
    `namespace/name`, protocol, port) that it is an endpoint of. `translated`: what arrives at the other end is another
    address than `ip`. `vague` names whose labels nobody knows: `namespace`, `account`.
    """

    kind: str
    ip: str | None = None
    name: str = ""
    namespace: str = ""
    labels: Pairs = ()
    namespace_labels: Pairs = ()
    ports: tuple[ContainerPort, ...] = ()
    service_account: str | None = None
    service_account_labels: Pairs = ()
    services: tuple[tuple[str, str, int], ...] = ()
    host_network: bool = False
    node: str | None = None
    translated: bool = False
    vague: frozenset[str] = frozenset()

    def scheme(self, name: str) -> dict[str, str]:
        """Return the labels that selectors of a scheme (see `rules.Pods`) look at."""
        own, space = dict(self.labels), self._namespace()
        account = self.service_account or "default"
        if name == "namespace":
            return space
        if name == "calico":
            # A pod's own labels hide those it inherits, not those that Calico sets (felix/labelindex/named_port_index.go,
            # libcalico-go/lib/backend/k8s/conversion/workload_endpoint_default.go).
            return {
                **{f"pcns.{key}": value for key, value in space.items()},
                **{f"pcsa.{key}": value for key, value in self.service_account_labels},
                "pcsa.projectcalico.org/name": account,
                **own,
                "projectcalico.org/namespace": self.namespace,
                "projectcalico.org/orchestrator": "k8s",
                **({"projectcalico.org/serviceaccount": account} if len(account) < _LONG_ACCOUNT else {}),
            }
        if name == "cilium":
            named = dict(self.namespace_labels) | {"kubernetes.io/metadata.name": self.namespace}
            return {
                **own,
                "io.kubernetes.pod.namespace": self.namespace,
                "io.cilium.k8s.policy.serviceaccount": account,
                **{f"{_CILIUM_NAMESPACE}{key}": value for key, value in named.items()},
            }
        return own

    def _namespace(self) -> dict[str, str]:
        name = {"kubernetes.io/metadata.name": self.namespace, "projectcalico.org/name": self.namespace}
        return dict(self.namespace_labels) | name


@dataclass(frozen=True, slots=True)
class Lens:
    """What the rules of some policies look at; `bounds` are the first addresses of ranges no net tells apart, by family."""

    keys: Mapping[str, frozenset[str]]
    bounds: Mapping[int, tuple[int, ...]]
    port_names: frozenset[str]
    services: frozenset[str]

    @classmethod
    def of(cls, sets: Iterable[PolicySet]) -> "Lens":
        """Return what any of these policy sets looks at."""
        keys: dict[str, set[str]] = {}
        bounds: dict[int, set[int]] = {4: {0}, 6: {0}}
        names: set[str] = set()
        services: set[str] = set()
        for policies in sets:
            for one in policies.sets:
                _mark(one.nets, bounds)
            for peer in _peers(policies):
                for leaf in peer.leaves():
                    _look(leaf, keys, bounds, services)
            for policy in policies.policies:
                for rule in (*policy.ingress, *policy.egress):
                    found = (*rule.traffic.ports, *rule.traffic.not_ports)
                    names.update(port.name for port in found if port.name is not None)
                    services.update([rule.service] if rule.service else [])
        return cls(
            keys={scheme: frozenset(found) for scheme, found in keys.items()},
            bounds={family: tuple(sorted(found)) for family, found in bounds.items()},
            port_names=frozenset(names),
            services=frozenset(services),
        )

    def slots(self, addresses: Range | None) -> tuple[int, int, int]:
        """Return (family, first, last): the ranges that addresses reach into; family 0 when they are not known."""
        if addresses is None:
            return 0, 0, -1
        if addresses == NOWHERE:
            return -1, 0, -1
        family, first, last = addresses
        bounds = self.bounds[family]
        return family, bisect_right(bounds, first) - 1, bisect_right(bounds, last) - 1

    def inside(self, nets: Sequence[Net], family: int) -> Truth:
        """Return, for each range of a family, whether it lies in one of the nets."""
        bounds = self.bounds[family]
        found = np.zeros(len(bounds), np.bool_)
        for net in nets:
            if net.range[0] != family:
                continue
            own = np.zeros(len(bounds), np.bool_)
            for where, value in ((net.range, True), *((hole, False) for hole in net.without)):
                own[bisect_right(bounds, where[1]) - 1 : bisect_right(bounds, where[2])] = value
            found |= own
        return found


def _peers(policies: PolicySet) -> Iterator[Peer]:
    for policy in policies.policies:
        yield policy.subjects
        for rule in (*policy.ingress, *policy.egress):
            yield rule.source
            yield rule.destination


def _look(leaf: Peer, keys: dict[str, set[str]], bounds: dict[int, set[int]], services: set[str]) -> None:
    """Add what a leaf looks at."""
    if isinstance(leaf, Pods):
        keys.setdefault(leaf.scheme, set()).update(leaf.pods.keys())
        keys.setdefault("namespace", set()).update(leaf.namespaces.keys())
    elif isinstance(leaf, Members):
        keys.setdefault("calico", set()).update(leaf.selector.keys())
    elif isinstance(leaf, Addresses):
        _mark(leaf.nets, bounds)
    elif isinstance(leaf, Block):
        _mark((leaf.net,), bounds)
    elif isinstance(leaf, Serves):
        services.add(leaf.service)


def _mark(nets: Iterable[Net], bounds: dict[int, set[int]]) -> None:
    for net in nets:
        for family, first, last in (net.range, *net.without):
            bounds[family].update((first, last + 1))


@dataclass(slots=True)
class _Row:
    """A class while it is made."""

    kind: int
    host: bool
    translated: bool
    endpoint: Endpoint
    slots: tuple[int, int, int]
    ports: tuple[ContainerPort, ...]
    services: frozenset[tuple[str, str, int]]
    labels: dict[str, dict[str, str]] = field(default_factory=dict)


class Ends:
    """Ends in columns, each with the class it belongs to, all as seen through one lens.

    `far` and `near` (int64, one an end) are its class to pods elsewhere and to pods of its own node, which differ for nodes
    only. `node` and `holder` (int64, -1: none) number nodes and pods. The columns of classes are `kind` (index into KINDS),
    `vague` (whose labels are not known, by what), `host` (a host-network pod), `translated`, `namespace`, `family`, `first` and `last` (ranges of the lens), `ports`
    (number of a set of declared ports in `port_sets`).
    """

    def __init__(self, endpoints: Sequence[Endpoint], lens: Lens) -> None:
        self.lens = lens
        self.endpoints = tuple(endpoints)
        self._rows: list[_Row] = []
        self._known: dict[object, int] = {}
        self._ranges: dict[str, Range | None] = {}
        self._memo: dict[object, tuple[dict[str, dict[str, str]], int, tuple[ContainerPort, ...]]] = {}
        self._labels: dict[object, int] = {}
        size = len(self.endpoints)
        self.far, self.near = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self.node, self.holder = np.full(size, -1, np.int64), np.full(size, -1, np.int64)
        nodes: dict[str, int] = {}
        holders: dict[str, int] = {}
        for number, one in enumerate(self.endpoints):
            on = one.name if one.kind == "node" else one.node
            if on:
                self.node[number] = nodes.setdefault(on, len(nodes))
            if one.kind == "pod" and one.name and not one.translated:
                self.holder[number] = holders.setdefault(one.name, len(holders))
            self.far[number], self.near[number] = self._classes(one)
        self._columns()

    def _classes(self, one: Endpoint) -> tuple[int, int]:
        kind = UNKNOWN if one.translated else _KIND[one.kind]
        host = kind == POD and one.host_network
        if host:
            kind = OTHER_NODE
        far = self._class(one, kind, host=host)
        return far, self._class(one, OWN_NODE, host=host) if kind == OTHER_NODE else far

    def _class(self, one: Endpoint, kind: int, *, host: bool) -> int:
        slots = self.lens.slots(None if one.translated else self._range(one.ip))
        labels, told, ports = self._seen(one) if kind == POD or host else ({}, None, ())
        served = self.lens.services
        services = frozenset(entry for entry in one.services if entry[0] in served) if served else frozenset()
        key = (kind, host, one.translated, slots, told, ports, services, one.vague)
        number = self._known.setdefault(key, len(self._rows))
        if number == len(self._rows):
            self._rows.append(_Row(kind, host, one.translated, one, slots, ports, services, labels))
        return number

    def _seen(self, one: Endpoint) -> tuple[dict[str, dict[str, str]], int, tuple[ContainerPort, ...]]:
        """Return what the lens sees of a pod: labels by scheme, a number for them and its namespace, and named ports."""
        key = (
            one.namespace,
            one.labels,
            one.namespace_labels,
            one.service_account,
            one.service_account_labels,
            one.ports,
        )
        found = self._memo.get(key)
        if found is None:
            labels = {
                scheme: {name: value for name, value in one.scheme(scheme).items() if name in wanted}
                for scheme, wanted in self.lens.keys.items()
            }
            told = (one.namespace, *((scheme, *sorted(held.items())) for scheme, held in sorted(labels.items())))
            ports = tuple(sorted((port for port in one.ports if port.name in self.lens.port_names), key=_port_order))
            found = self._memo[key] = labels, self._labels.setdefault(told, len(self._labels)), ports
        return found

    def _range(self, ip: str | None) -> Range | None:
        if ip is None:
            return None
        if ip not in self._ranges:
            self._ranges[ip] = _range(ip)
        return self._ranges[ip]

    def _columns(self) -> None:
        rows = self._rows
        spaces: dict[str, int] = {}
        sets: dict[tuple[ContainerPort, ...], int] = {}
        self.size = len(rows)
        self.kind = np.array([row.kind for row in rows], np.int64)
        self.host = np.array([row.host for row in rows], np.bool_)
        self.translated = np.array([row.translated for row in rows], np.bool_)
        self.vague = {
            name: np.array([name in row.endpoint.vague for row in rows], np.bool_) for name in ("namespace", "account")
        }
        named = [row.endpoint.namespace if row.kind == POD or row.host else "" for row in rows]
        self.namespace = np.array([spaces.setdefault(name, len(spaces)) for name in named], np.int64)
        self.family, self.first, self.last = (
            np.array([row.slots[part] for row in rows], np.int64) for part in range(3)
        )
        self.ports = np.array([sets.setdefault(row.ports, len(sets)) for row in rows], np.int64)
        self.port_sets = tuple(sets)
        self._spaces = spaces
        self._tables: dict[str, Labels] = {}

    def representative(self, number: int) -> Endpoint:
        """Return an end of a class."""
        return self._rows[number].endpoint

    def services(self, number: int) -> frozenset[tuple[str, str, int]]:
        """Return what the ends of a class serve, of the Services that the lens looks at."""
        return self._rows[number].services

    def labels(self, scheme: str) -> Labels:
        """Return the labels of all classes by a scheme."""
        if scheme not in self._tables:
            self._tables[scheme] = Labels([row.labels.get(scheme, {}) for row in self._rows])
        return self._tables[scheme]

    def in_namespace(self, name: str) -> Codes:
        """Return the classes of pods of a namespace."""
        places, bounds = self._by_namespace
        code = self._spaces.get(name)
        return places[:0] if code is None else places[bounds[code] : bounds[code + 1]]

    def namespace_code(self, name: str) -> int:
        """Return the code of a namespace in the column, -1 when no pod is of it."""
        return self._spaces.get(name, -1)

    def namespace_labels(self, name: str) -> frozenset[Pairs]:
        """Return the labels that a namespace was seen with; none when it holds no pod, or one whose labels nobody knows."""
        return self._space_labels.get(name, frozenset())

    @cached_property
    def _space_labels(self) -> dict[str, frozenset[Pairs]]:
        found: dict[str, set[Pairs]] = {}
        for row in self._rows:
            if row.kind == POD or row.host:
                found.setdefault(row.endpoint.namespace, set()).add(row.endpoint.namespace_labels)
        vague = {row.endpoint.namespace for row in self._rows if "namespace" in row.endpoint.vague}
        return {name: frozenset(labels) for name, labels in found.items() if name not in vague}

    @cached_property
    def _by_namespace(self) -> tuple[Codes, Codes]:
        order = np.argsort(self.namespace, kind="stable")
        return order, np.searchsorted(self.namespace[order], np.arange(len(self._spaces) + 1))

    @cached_property
    def doubtful(self) -> Codes:
        """Return the classes that selectors may not settle: ends nobody knows, and host-network pods."""
        return np.flatnonzero((self.kind == UNKNOWN) | self.host)

    @cached_property
    def _lone(self) -> bool:
        """Tell whether every end is a pod, and no two are the same."""
        return bool((self.holder >= 0).all()) and len(np.unique(self.holder)) == len(self.holder)

    @cached_property
    def _relative(self) -> bool:
        return bool((self.near != self.far).any())

    def pairs(self, source: Codes, destination: Codes) -> tuple[Codes, Codes, Truth]:
        """Return, for connections between ends, the classes of both as they see each other, and who talks to itself."""
        left, right = self.far[source], self.far[destination]
        if self._relative:
            same = (self.node[source] == self.node[destination]) & (self.node[source] >= 0)
            left, right = np.where(same, self.near[source], left), np.where(same, self.near[destination], right)
        if self._lone:
            return left, right, source == destination
        holder = self.holder[source]
        return left, right, (holder == self.holder[destination]) & (holder >= 0)


def _range(ip: str) -> Range | None:
    if not ip:
        return NOWHERE
    try:
        first = int.from_bytes(socket.inet_pton(socket.AF_INET, ip), "big")
    except OSError:
        try:
            return address_range(ip)
        except ValueError:
            return None
    return 4, first, first


_KIND = {"pod": POD, "node": OTHER_NODE, "apiserver": APISERVER, "external": EXTERNAL, "unknown": UNKNOWN}


def _port_order(port: ContainerPort) -> tuple[str, str, int]:
    return port.name, port.protocol, port.number
