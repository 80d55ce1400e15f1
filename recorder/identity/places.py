"""What an address is that no pod holds, as of a time: the API server, a node, a Service, or something outside.

State: an index over the inventory's versions, made anew when one that matters has changed. Between two such changes the
answers do not change, so they are kept.
"""

import ipaddress
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from recorder.identity import objects
from recorder.identity.index import Identities
from recorder.identity.inventory import Inventory, Version
from recorder.identity.objects import addresses
from recorder.records import SECOND

LAG = SECOND
"""How far apart a node's rules and the API may be about a Service's endpoints."""

_FOREVER = 2**63 - 1
_KEPT_ANSWERS = 1 << 20
_API_SERVER = "default/kubernetes"
_SERVICE_NAME = "kubernetes.io/service-name"
_NODE_ADDRESSES = ("InternalIP", "ExternalIP")
_NODE_ANNOTATIONS = (
    "projectcalico.org/IPv4Address",
    "projectcalico.org/IPv6Address",
    "projectcalico.org/IPv4IPIPTunnelAddr",
    "projectcalico.org/IPv4VXLANTunnelAddr",
    "projectcalico.org/IPv6VXLANTunnelAddr",
    "projectcalico.org/IPv4WireguardInterfaceAddr",
    "projectcalico.org/IPv6WireguardInterfaceAddr",
    "flannel.alpha.coreos.com/public-ip",
    "flannel.alpha.coreos.com/public-ipv6",
    "flannel.alpha.coreos.com/public-ip-overwrite",
    "network.cilium.io/ipv4-cilium-host",
    "network.cilium.io/ipv6-cilium-host",
    "io.cilium.network.ipv4-cilium-host",
    "io.cilium.network.ipv6-cilium-host",
)

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Place(NamedTuple):
    """What an address is: an endpoint kind, its id (a node's name, a Service's `namespace/name`), the Service dialled."""

    kind: str
    id: str | None = None
    service: str | None = None


class _Claim(NamedTuple):
    """Something that held from `start` to before `end`."""

    start: int
    end: int
    value: str


class _Port(NamedTuple):
    """A Service's port as of a time."""

    start: int
    end: int
    name: str
    protocol: str
    numbers: tuple[int, ...]


class _Slice(NamedTuple):
    """The usable endpoints of one version of an EndpointSlice, for one of its ports; no number stands for any."""

    start: int
    end: int
    name: str
    protocol: str
    number: int | None
    ips: tuple[str, ...]


class Places:
    """Answers for addresses; `ranges` are prefixes known to be the cluster's in addition to what its objects say."""

    def __init__(self, inventory: Inventory, identities: Identities, ranges: Iterable[str] = ()) -> None:
        self._inventory = inventory
        self._identities = identities
        self._ranges = tuple(ranges)
        self._index = _Index(inventory, identities, self._ranges)
        self._built = inventory.changes
        self._kinds: dict[tuple[str, int | None, str | None, int], Place] = {}
        self._backends: dict[tuple[str, int | None, str, int], frozenset[tuple[str, int]]] = {}

    def kind_of(self, ip: str, port: int | None, protocol: str | None, time: int) -> Place:
        """Return what `ip` (canonical text) was at `time` (µs) to somebody who dialled `port`; not asked of pods.

        `port` and `protocol` are None where there is none, as for a source. An address that a pod held at another time
        is `unresolved`, like all in the cluster's ranges that nobody holds.
        """
        index = self._current()
        key = (ip, port, protocol, index.epoch(time))
        found = self._kinds.get(key)
        if found is None:
            if len(self._kinds) >= _KEPT_ANSWERS:
                self._kinds.clear()
            found = self._kinds[key] = index.place(ip, port, protocol, time)
        if found.kind == "external" and self._identities.held(ip):
            return Place("unresolved")
        if found.kind == "node" and port is not None and protocol is not None:
            hosted = self._hosted(found.id, port, protocol, time)
            if hosted:
                return Place("service", min(hosted))
        return found

    def service(self, ip: str, port: int | None, protocol: str | None, time: int) -> str | None:
        """Return the `namespace/name` of the Service dialled, by its own address, a NodePort or a load balancer."""
        return self.kind_of(ip, port, protocol, time).service

    def backends(self, service: str, port: int | None, protocol: str, time: int) -> frozenset[tuple[str, int]]:
        """Return the (ip, port) that stood behind a Service's `port` (or NodePort) at `time`, `LAG` either way."""
        index = self._current()
        key = (service, port, protocol, index.endpoint_epoch(service, time))
        found = self._backends.get(key)
        if found is None:
            if len(self._backends) >= _KEPT_ANSWERS:
                self._backends.clear()
            found = self._backends[key] = index.backends(service, port, protocol, time)
        return found

    def host_backends(self, ip: str, port: int, protocol: str, time: int) -> frozenset[tuple[str, int]]:
        """Return the (ip, port) of pods behind a hostPort on a node's address at `time`."""
        place = self._current().place(ip, None, None, time)
        hosted = self._hosted(place.id, port, protocol, time) if place.kind == "node" else {}
        return frozenset(pair for pairs in hosted.values() for pair in pairs)

    def nodes(self) -> list[str]:
        """Return the names of all nodes ever seen, sorted."""
        return sorted({version.name for version in self._inventory.versions("Node")})

    def _hosted(self, node: str | None, port: int, protocol: str, time: int) -> dict[str, set[tuple[str, int]]]:
        """Return the pods that a node's port led to: `namespace/name` → (ip, port)."""
        found: dict[str, set[tuple[str, int]]] = {}
        for name, number, ip, start, end in self._identities.host_ports(node or "", port, protocol):
            if start <= time < end:
                found.setdefault(name, set()).add((ip, number))
        return found

    def _current(self) -> "_Index":
        if self._built != self._inventory.changes:
            self._built = self._inventory.changes
            self._index = _Index(self._inventory, self._identities, self._ranges)
            self._kinds.clear()
            self._backends.clear()
        return self._index


class _Index:
    """What the inventory's versions say of addresses, by address."""

    def __init__(self, inventory: Inventory, identities: Identities, ranges: Iterable[str]) -> None:
        self.identities = identities
        self.api: dict[tuple[str, int, str], list[_Claim]] = defaultdict(list)
        self.nodes: dict[str, list[_Claim]] = defaultdict(list)
        self.vips: dict[str, list[_Claim]] = defaultdict(list)
        self.vip_ports: dict[tuple[str, int, str], list[_Claim]] = defaultdict(list)
        self.node_ports: dict[tuple[int, str], list[_Claim]] = defaultdict(list)
        self.ports: dict[str, list[_Port]] = defaultdict(list)
        self.slices: dict[str, list[Version]] = defaultdict(list)
        self.read_slices: dict[str, tuple[list[_Slice], list[int]]] = {}
        self.ranges: dict[tuple[int, int], dict[int, list[_Claim]]] = defaultdict(lambda: defaultdict(list))
        self._changes: set[int] = set()
        for text in ranges:
            self._range(0, _FOREVER, text)
        for version in inventory.versions("Node"):
            self._node(version)
        for version in inventory.versions("Service"):
            self._service(version)
        for kind in ("ServiceCIDR", "IPPool"):
            for version in inventory.versions(kind):
                spec = msgspec.json.decode(version.text, type=objects.Ranged).spec or objects.Ranges()
                for text in (spec.cidr, *(spec.cidrs or ())):
                    self._range(*self._interval(version), text)
        for version in inventory.versions("EndpointSlice"):
            self._endpoint_slice(version)
        for version in inventory.versions("Endpoints"):
            self._endpoints(version)
        self.epochs = sorted(self._changes)

    def epoch(self, time: int) -> int:
        """Return the number of the span of time, between two changes, that `time` lies in."""
        return bisect_right(self.epochs, time)

    def place(self, ip: str, port: int | None, protocol: str | None, time: int) -> Place:
        """Return what an address was."""
        if port is not None and protocol is not None:
            if _at(self.api.get((ip, port, protocol), ()), time) is not None:
                return Place("apiserver")
            service = _at(self.vip_ports.get((ip, port, protocol), ()), time)
            if service is not None:
                return Place("service", service, service)
        node = _at(self.nodes.get(ip, ()), time)
        if node is not None:
            if port is not None and protocol is not None:
                service = _at(self.node_ports.get((port, protocol), ()), time)
                if service is not None:
                    return Place("service", service, service)
            return Place("node", node)
        service = _at(self.vips.get(ip, ()), time)
        if service is not None:
            return Place("service", service, service)
        try:
            value = ipaddress.ip_address(ip)
        except ValueError:
            return Place("external")
        if value.is_multicast or ip == "255.255.255.255":
            return Place("multicast")
        return Place("unresolved" if self._inside(value, time) else "external")

    def backends(self, service: str, port: int | None, protocol: str, time: int) -> frozenset[tuple[str, int]]:
        """Return the endpoints behind a Service's port."""
        if port is None:
            return frozenset()
        names = {
            one.name
            for one in self.ports.get(service, ())
            if one.start - LAG <= time < one.end + LAG and one.protocol == protocol and port in one.numbers
        }
        return frozenset(
            (ip, port if one.number is None else one.number)
            for one in self._slices(service)[0]
            if one.start - LAG <= time < one.end + LAG and one.protocol == protocol and one.name in names
            for ip in one.ips
        )

    def endpoint_epoch(self, service: str, time: int) -> int:
        """Return the number of the span of time in which a Service's backends stay the same."""
        return bisect_right(self._slices(service)[1], time)

    def _slices(self, service: str) -> tuple[list[_Slice], list[int]]:
        found = self.read_slices.get(service)
        if found is None:
            slices = [one for version in self.slices.get(service, ()) for one in _read_slice(version)]
            known: list[_Slice | _Port] = [*slices, *self.ports.get(service, ())]
            marks = sorted({mark for one in known for mark in (one.start - LAG, one.end + LAG)})
            found = self.read_slices[service] = (slices, marks)
        return found

    def _interval(self, version: Version) -> tuple[int, int]:
        end = _FOREVER if version.end is None else version.end
        self._changes.update((version.start, end))
        return version.start, end

    def _range(self, start: int, end: int, text: str | None) -> None:
        network = _network(text)
        if network is not None:
            shift = network.max_prefixlen - network.prefixlen
            self.ranges[network.version, shift][int(network.network_address) >> shift].append(_Claim(start, end, ""))

    def _inside(self, value: _IP, time: int) -> bool:
        return any(
            _at(prefixes.get(int(value) >> shift, ()), time) is not None
            for (version, shift), prefixes in self.ranges.items()
            if version == value.version
        )

    def _node(self, version: Version) -> None:
        node = msgspec.json.decode(version.text, type=objects.Node)
        start, end = self._interval(version)
        listed = (node.status.addresses if node.status else None) or []
        written = node.metadata.annotations or {}
        ips = addresses(
            [
                *(one.address for one in listed if one.type in _NODE_ADDRESSES),
                *(written[key] for key in _NODE_ANNOTATIONS if key in written),
            ]
        )
        spec = node.spec or objects.NodeSpec()
        for text in dict.fromkeys([spec.podCIDR, *(spec.podCIDRs or ())]):
            network = _network(text)
            if network is not None:
                self._range(start, end, text)
                # The overlay's device takes the first address of the node's range, a bridge the second.
                ips += [network[0].compressed, *([network[1].compressed] if network.num_addresses > 2 else [])]
        for ip in dict.fromkeys(ips):
            self.nodes[ip].append(_Claim(start, end, version.name))

    def _service(self, version: Version) -> None:
        value = msgspec.json.decode(version.text, type=objects.Service)
        spec = value.spec or objects.ServiceSpec()
        name = f"{version.namespace or 'default'}/{version.name}"
        start, end = self._interval(version)
        claim = _Claim(start, end, name)
        balancer = value.status.loadBalancer if value.status else None
        ingress = [one.ip for one in (balancer.ingress if balancer else None) or ()]
        ips = addresses([spec.clusterIP, *(spec.clusterIPs or ()), *(spec.externalIPs or ()), *ingress])
        for ip in ips:
            self.vips[ip].append(claim)
        for port in spec.ports or ():
            protocol = (port.protocol or "TCP").lower()
            numbers = tuple(number for number in (port.port, port.nodePort) if number)
            self.ports[name].append(_Port(start, end, port.name or "", protocol, numbers))
            for ip in ips:
                self.vip_ports[ip, port.port, protocol].append(claim)
            if port.nodePort:
                self.node_ports[port.nodePort, protocol].append(claim)

    def _endpoint_slice(self, version: Version) -> None:
        head = msgspec.json.decode(version.text, type=objects.Meta)
        service = (head.metadata.labels or {}).get(_SERVICE_NAME)
        if service is None:
            return
        name = f"{version.namespace or 'default'}/{service}"
        self.slices[name].append(version)
        if name == _API_SERVER:
            start, end = self._interval(version)
            for one in _read_slice(version):
                self._serve(start, end, one.ips, one.number, one.protocol)

    def _endpoints(self, version: Version) -> None:
        start, end = self._interval(version)
        for subset in msgspec.json.decode(version.text, type=objects.Endpoints).subsets or ():
            ips = addresses(one.ip for one in subset.addresses or ())
            for port in subset.ports or ():
                self._serve(start, end, ips, port.port, (port.protocol or "TCP").lower())

    def _serve(self, start: int, end: int, ips: Iterable[str], port: int | None, protocol: str) -> None:
        for ip in ips:
            if port is not None:
                self.api[ip, port, protocol].append(_Claim(start, end, _API_SERVER))


def _read_slice(version: Version) -> Iterator[_Slice]:
    value = msgspec.json.decode(version.text, type=objects.EndpointSlice)
    ips = addresses(
        text
        for endpoint in value.endpoints or ()
        if endpoint.conditions is None or endpoint.conditions.ready is not False or endpoint.conditions.serving
        for text in endpoint.addresses or ()
    )
    end = _FOREVER if version.end is None else version.end
    for port in value.ports or ():
        yield _Slice(version.start, end, port.name or "", (port.protocol or "TCP").lower(), port.port, tuple(ips))


def _at(claims: Iterable[_Claim], time: int) -> str | None:
    """Return what held at a time; of several, the first by name, so that the answer does not depend on their order."""
    return min((claim.value for claim in claims if claim.start <= time < claim.end), default=None)


def _network(text: str | None) -> _Network | None:
    try:
        return ipaddress.ip_network(text, strict=False) if text else None
    except ValueError:
        return None
