"""Reads NetworkPolicy of networking.k8s.io/v1, all of it.

Rules and defaults: kubernetes/api networking/v1/types.go, kubernetes/kubernetes pkg/apis/networking/v1/defaults.go and
pkg/apis/networking/validation/validation.go.
"""

import re
from collections.abc import Callable, Mapping

from deploy.semantics.reading.fields import Field
from deploy.semantics.reading.label_selectors import label_selector
from deploy.semantics.rules import (
    EVERYONE,
    AnyOf,
    Block,
    Net,
    Peer,
    Pods,
    Policy,
    PortMatch,
    Range,
    Rule,
    Traffic,
    address_range,
)

API_VERSIONS = ("networking.k8s.io/v1",)
CLUSTER_SCOPED: frozenset[str] = frozenset()
HARMLESS = frozenset({"Ingress", "IngressClass", "IPAddress", "ServiceCIDR"})
"""Kinds of the API group that say nothing about which pods may talk."""

_PREFIX = re.compile(r"[0-9a-fA-F.:]+/(?:0|[1-9][0-9]{0,2})")
_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*")


def network_policy(root: Field, namespace: str | None, name: str) -> Policy:
    """Return a NetworkPolicy; what breaks a rule of the API is noted on the fields."""
    spec = root["spec"]
    if spec.mapping():
        spec.only("podSelector", "policyTypes", "ingress", "egress")
    namespace = namespace or "default"
    egress = _rules(spec["egress"], "to", namespace)
    directions = _directions(spec["policyTypes"], has_egress=bool(egress))
    return Policy(
        dialect="kubernetes",
        kind="NetworkPolicy",
        namespace=namespace,
        name=name,
        file=root.report.file,
        line=root.line,
        subjects=Pods(label_selector(spec["podSelector"]), namespace=namespace),
        directions=directions,
        isolates=directions,
        ingress=_rules(spec["ingress"], "from", namespace),
        egress=egress,
    )


READERS: Mapping[str, Callable[[Field, str | None, str], Policy]] = {"NetworkPolicy": network_policy}


def _directions(types: Field, *, has_egress: bool) -> frozenset[str]:
    """Return the isolated directions; absent types mean ingress, and egress only when the list is not empty."""
    found = {kind.lower() for item in types.items() if (kind := item.choice(("Ingress", "Egress")))}
    if isinstance(types.value, list) and len(types.value) > 2:
        types.fail("names more than two directions")
    if not types.value:
        found = {"ingress", "egress"} if has_egress else {"ingress"}
    return frozenset(found)


def _rules(field: Field, peers: str, namespace: str) -> tuple[Rule, ...]:
    return tuple(_rule(item, peers, namespace) for item in field.items() if item.mapping())


def _rule(item: Field, peers: str, namespace: str) -> Rule:
    item.only("ports", peers)
    found = tuple(_peer(peer, namespace) for peer in item[peers].items() if peer.mapping())
    other: Peer = EVERYONE if not found else found[0] if len(found) == 1 else AnyOf(found)
    return Rule(
        where=item.path.removeprefix("spec."),
        line=item.line,
        source=other if peers == "from" else EVERYONE,
        destination=other if peers == "to" else EVERYONE,
        traffic=Traffic(ports=tuple(_port(port) for port in item["ports"].items() if port.mapping())),
    )


def _peer(peer: Field, namespace: str) -> Peer:
    peer.only("podSelector", "namespaceSelector", "ipBlock")
    selects = "podSelector" in peer or "namespaceSelector" in peer
    if "ipBlock" in peer:
        if selects:
            peer.fail("ipBlock may not stand together with podSelector or namespaceSelector")
        return Block(_block(peer["ipBlock"]))
    if not selects:
        peer.fail("a peer needs podSelector, namespaceSelector or ipBlock")
    return Pods(
        pods=label_selector(peer["podSelector"]),
        namespaces=label_selector(peer["namespaceSelector"]),
        namespace=None if "namespaceSelector" in peer else namespace,
    )


def _block(block: Field) -> Net:
    if not block.mapping():
        return Net((4, 0, -1))
    block.only("cidr", "except")
    if block["cidr"].absent:
        block.fail("`cidr` is missing")
    whole = cidr(block["cidr"])
    holes = []
    for item in block["except"].items():
        hole = cidr(item)
        if whole is not None and hole is not None:
            if hole[0] != whole[0] or not whole[1] <= hole[1] <= hole[2] <= whole[2] or hole == whole:
                item.fail(f"{item.value} is no strict part of {block['cidr'].value}")
            holes.append(hole)
    return Net(whole or (4, 0, -1), tuple(holes))


def cidr(field: Field, *, bare: bool = False) -> Range | None:
    """Return the range of a prefix (`bare`: or address), None when absent or wrong (which is noted)."""
    text = field.text()
    if text is None:
        return None
    try:
        if _PREFIX.fullmatch(text) or (bare and "/" not in text):
            return address_range(text)
    except ValueError:
        pass
    field.fail(f"{text!r} is no prefix such as 10.0.0.0/8")
    return None


def _port(entry: Field) -> PortMatch:
    entry.only("protocol", "port", "endPort")
    protocol = (entry["protocol"].choice(("TCP", "UDP", "SCTP")) or "TCP").lower()
    port, end = entry["port"], entry["endPort"]
    last = number(end)
    if port.absent:
        if not end.absent:
            end.fail("endPort needs a port")
        return PortMatch(protocol)
    if isinstance(port.value, str):
        if not end.absent:
            end.fail("endPort needs a numeric port")
        return PortMatch(protocol, name=port_name(port))
    first = number(port)
    if first is not None and last is not None and last < first:
        end.fail(f"{last} is less than port {first}")
    return PortMatch(protocol, first or 0, last or first or 0)


def port_name(field: Field) -> str | None:
    """Return the name of a port, None when absent or no text; a wrong one is noted."""
    name = field.text()
    if name is not None and not _PORT_NAME.fullmatch(name):
        field.fail(f"{name!r} is no port name (numbers are written without quotes)")
    return name


def number(field: Field) -> int | None:
    """Return a port number, None when absent or wrong (which is noted)."""
    found = field.integer()
    if found is not None and not 1 <= found <= 65535:
        field.fail(f"{found} is outside 1-65535")
        return None
    return found
