"""The form every policy kind is brought into, and when one of its rules matches a connection.

Calico converts Kubernetes policies in the same manner (libcalico-go `conversion.go`): rules that allow, at order 1000 of the
default tier. Matching has three answers: yes, no, and None where the recording or the engines leave it open.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from deploy.semantics.profiles import Profile
from deploy.semantics.selectors import ALL, Selector

KUBERNETES_ORDER = 1000.0
PORT_PROTOCOLS = ("tcp", "udp", "sctp")

Range = tuple[int, int, int]
"""Address family and first and last address, as integers."""


def address_range(text: str) -> Range:
    """Return the range of an address or prefix; host bits are cut off, as the API does.

    Raises ValueError.
    """
    network = ipaddress.ip_network(text, strict=False)
    return network.version, int(network.network_address), int(network.broadcast_address)


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A port that a container declares."""

    name: str
    number: int
    protocol: str


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """An end of a connection as rules look at it.

    `kind`: `pod`, `host` (a host-network pod: no pod to selectors), `node`, `external`, or `unknown` (who held the address
    is not known, or what arrived is not the address recorded).
    """

    kind: str
    addresses: Range | None
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[ContainerPort, ...] = ()
    translated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Net:
    """A prefix less the prefixes taken out of it."""

    range: Range
    without: tuple[Range, ...] = ()

    def holds(self, addresses: Range | None) -> bool | None:
        """Tell whether all of the addresses are inside; None when only some are, or none is known."""
        if addresses is None:
            return None
        inside = _covers(self.range, addresses)
        for hole in self.without:
            if inside is False:
                return False
            covered = _covers(hole, addresses)
            if covered is not False:
                inside = False if covered else None
        return inside


def _covers(outer: Range, inner: Range) -> bool | None:
    if outer[0] != inner[0] or inner[2] < outer[1] or inner[1] > outer[2]:
        return False
    return True if outer[1] <= inner[1] and inner[2] <= outer[2] else None


@dataclass(frozen=True, slots=True, eq=False)
class Entity:
    """One peer: the conjunction of everything it asks for; asking for nothing, it is anybody.

    `by_profile`: whether its nets match pods and nodes is the engine's business (Kubernetes `ipBlock`); Calico's nets match
    any address.
    """

    namespace: str | None = None
    namespaces: Selector | None = None
    pods: Selector | None = None
    not_pods: Selector | None = None
    nets: tuple[Net, ...] = ()
    not_nets: tuple[Net, ...] = ()
    by_profile: bool = False

    def matches(self, view: View, profile: Profile) -> bool | None:
        """Tell whether this end of a connection is meant."""
        found: bool | None = True
        if self.pods is not None or self.namespaces is not None or self.namespace is not None:
            found = self._selects(view)
        if found is not False and self.not_pods is not None and view.kind in ("pod", "unknown"):
            found = _and(found, None if view.kind == "unknown" else not self.not_pods.matches(view.labels))
        if found is not False and self.nets:
            found = _and(found, self._blocks(view, profile))
        if found is not False and self.not_nets:
            found = _and(found, _not(_any(net.holds(view.addresses) for net in self.not_nets)))
        return found

    def _selects(self, view: View) -> bool | None:
        if view.kind == "unknown":
            return None
        if view.kind not in ("pod", "host"):
            return False
        selected = (
            (self.namespace is None or view.namespace == self.namespace)
            and (self.namespaces is None or self.namespaces.matches(view.namespace_labels))
            and (self.pods is None or self.pods.matches(view.labels))
        )
        return None if selected and view.kind == "host" else selected

    def _blocks(self, view: View, profile: Profile) -> bool | None:
        inside = _any(net.holds(view.addresses) for net in self.nets)
        if not self.by_profile or view.kind == "external" or inside is False:
            return inside
        if view.kind == "unknown":
            return None
        return _and(inside, profile.blocks_match_pods if view.kind == "pod" else profile.blocks_match_nodes)


@dataclass(frozen=True, slots=True, eq=False)
class PortMatch:
    """Ports of a protocol: a range, or a name that the destination resolves; neither means all of them."""

    protocol: str | None
    low: int | None = None
    high: int | None = None
    name: str | None = None

    def matches(self, protocol: str, port: int | None, destination: View) -> bool | None:
        """Tell whether the port of this protocol on that destination is meant."""
        if self.protocol is not None and protocol != self.protocol:
            return False
        if self.low is None and self.name is None:
            return True
        if protocol not in PORT_PROTOCOLS:
            return False
        if port is None:
            return None
        if self.name is None:
            return self.low is not None and self.high is not None and self.low <= port <= self.high
        if destination.kind in ("unknown", "host"):
            return None
        return any(
            (own.name, own.protocol, own.number) == (self.name, protocol, port)
            for own in (destination.ports if destination.kind == "pod" else ())
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """What is asked about: protocol, the responder's port, and type and code where it is ICMP."""

    protocol: str
    port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Who may (or may not) reach whom on what; an empty `source`, `destination` or `ports` asks for nothing.

    `where` is its place in the object, such as `ingress[0]`. Entities are alternatives, so are ports.
    """

    where: str
    line: int
    action: str = "allow"
    source: tuple[Entity, ...] = ()
    destination: tuple[Entity, ...] = ()
    ports: tuple[PortMatch, ...] = ()
    not_ports: tuple[PortMatch, ...] = ()
    protocol: str | None = None
    version: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    source_ports: bool = False

    def matches(self, source: View, destination: View, connection: Connection, profile: Profile) -> bool | None:
        """Tell whether this rule is about the connection."""
        found = self._protocol(connection, source, destination)
        if found is not False and self.ports:
            found = _and(
                found, _any(port.matches(connection.protocol, connection.port, destination) for port in self.ports)
            )
        if found is not False and self.not_ports:
            meant = _any(port.matches(connection.protocol, connection.port, destination) for port in self.not_ports)
            found = _and(found, _not(meant))
        for entities, view in ((self.source, source), (self.destination, destination)):
            if found is not False and entities:
                found = _and(found, _any(entity.matches(view, profile) for entity in entities))
        return _and(found, None) if self.source_ports else found

    def _protocol(self, connection: Connection, source: View, destination: View) -> bool | None:
        if self.protocol is not None and connection.protocol != self.protocol:
            return False
        if self.icmp_type is not None and connection.icmp_type != self.icmp_type:
            return None if connection.icmp_type is None else False
        if self.icmp_code is not None and connection.icmp_code != self.icmp_code:
            return None if connection.icmp_code is None else False
        if self.version is not None:
            known = source.addresses or destination.addresses
            return None if known is None else known[0] == self.version
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """An object that isolates the pods it selects in `directions`, with its rules in order."""

    kind: str
    namespace: str
    name: str
    file: str
    line: int
    engine: str
    directions: frozenset[str]
    selector: Selector = ALL
    order: float = KUBERNETES_ORDER
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()

    @property
    def title(self) -> str:
        """Return the object as reports name it: `NetworkPolicy shop/db`, `Calico NetworkPolicy shop/db`."""
        prefix = "Calico " if self.engine == "calico" else ""
        return f"{prefix}{self.kind} {self.namespace}/{self.name}"

    def rules(self, direction: str) -> tuple[Rule, ...]:
        """Return the rules of a direction; those of one that does not isolate have no effect."""
        return self.ingress if direction == "ingress" else self.egress


def _and(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _any(values: Iterable[bool | None]) -> bool | None:
    found: bool | None = False
    for value in values:
        if value:
            return True
        if value is None:
            found = None
    return found
