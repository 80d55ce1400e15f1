"""Reads what a rule of Cilium says of ports, ICMP messages and the layers above: `toPorts` and `icmps`.

Fields: cilium/cilium pkg/policy/api/l4.go. Limits: pkg/policy/api/rule_validation.go. Meaning: pkg/policy/rule.go
(`mergeIngress`, `mergeEgress`), documentation "Layer 4 Policies". What HTTP, DNS or TLS rules ask for is not judged.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from deploy.semantics.reading.cilium_icmp import icmp
from deploy.semantics.reading.cilium_selectors import ANY_KIND, NO_POD
from deploy.semantics.reading.fields import Field
from deploy.semantics.rules import ANYTHING, EVERYONE, PORT_PROTOCOLS, Doubtful, Peer, PortMatch, Traffic

_MOST = 40
"""Ports of an entry."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,5}")
_NAME = re.compile(r"(?=.{1,15}\Z)(?:[a-zA-Z0-9]-?)*[a-zA-Z](?:-?[a-zA-Z0-9])*")
_EXTENDED = {"VRRP": "112", "IGMP": "2", "GRE": "47", "IPIP": "4", "IPV6": "41", "ESP": "50", "AH": "51"}
_PROTOCOLS = ("TCP", "UDP", "SCTP", "ANY", *_EXTENDED)

_L7 = ("http", "kafka", "dns", "l7proto", "l7")
_ABOVE = ("terminatingTLS", "originatingTLS", "serverNames", "listener", "rules")

_UNSETTLED = Doubtful("ports", ANY_KIND)
"""An entry without ports, and protocols that only some data paths know."""


@dataclass(frozen=True, slots=True)
class Part:
    """One way for a rule to match: this traffic, of those peers that `limit` leaves; `unjudged` as in `Rule`."""

    traffic: Traffic
    limit: Peer = EVERYONE
    unjudged: tuple[str, ...] = ()


def parts(item: Field, direction: str, *, deny: bool) -> tuple[Part, ...]:
    """Return the ways in which the ports and ICMP messages of a rule match; any traffic where it names none."""
    ports, messages = list(item["toPorts"].items()), list(item["icmps"].items())
    if ports and messages:
        item["icmps"].fail("may not stand together with toPorts")
    if not ports and not messages:
        return (Part(ANYTHING),)
    found = [part for entry in ports if entry.mapping() for part in _entry(entry, direction, deny=deny)]
    if messages:
        known, empty = icmp(item["icmps"])
        found += [Part(Traffic(icmp=known))] if known else []
        found += [Part(ANYTHING, _UNSETTLED)] if empty else []
    return tuple(found)


def _entry(entry: Field, direction: str, *, deny: bool) -> Iterator[Part]:
    """Yield the ways in which an entry of `toPorts` matches."""
    entry.only("ports", *(() if deny else _ABOVE))
    ports = [one for one in entry["ports"].items() if one.mapping()]
    if len(ports) > _MOST:
        entry["ports"].fail(f"has {len(ports)} ports, Cilium takes {_MOST}")
    found = [match for one in ports for match in _port(one)]
    above = () if deny else _above(entry, direction, ports)
    plain = tuple(one for one in found if one.protocol is None or one.protocol in PORT_PROTOCOLS)
    other = tuple(one for one in found if one not in plain)
    names = tuple(dict.fromkeys(one.protocol for one in plain if one.name is not None))
    if plain:
        yield Part(Traffic(ports=plain), unjudged=above)
    if other:
        yield Part(Traffic(ports=other), _UNSETTLED, above)
    if names and direction == "egress":
        # Cilium looks up the name among all pods, and so may mean the port of an end that is none.
        limit = Doubtful("named-port", NO_POD)
        yield Part(Traffic(ports=tuple(PortMatch(protocol, 1, 65535) for protocol in names)), limit, above)
    if not ports:
        yield Part(ANYTHING, _UNSETTLED, above)


def _port(one: Field) -> tuple[PortMatch, ...]:
    """Return what an entry of `ports` matches; `0` and a missing protocol are wildcards (of TCP, UDP and SCTP)."""
    one.only("port", "endPort", "protocol")
    protocol = one["protocol"].choice(_PROTOCOLS) or "ANY"
    text = one["port"].text()
    end = one["endPort"].integer()
    if end is not None and not 0 <= end <= 65535:
        one["endPort"].fail(f"{end} is outside 0-65535")
        end = None
    if protocol in _EXTENDED:
        if text not in (None, "", "0"):
            one["port"].fail(f"protocol {protocol} has no ports")
        return (PortMatch(_EXTENDED[protocol]),)
    single = None if protocol == "ANY" else protocol.lower()
    if one["port"].absent or text == "":
        one.fail("`port` is missing")
    if not text:
        return ()
    if _NUMBER.fullmatch(text) and int(text) <= 65535:
        low, high = int(text), max(int(text), end or 0)
        if low == 0 and high in (0, 65535):
            return (PortMatch(single),) if single else tuple(PortMatch(name) for name in PORT_PROTOCOLS)
        return (PortMatch(single, low, high),)
    if text.isdecimal() or not _NAME.fullmatch(text):
        one["port"].fail(f"{text!r} is neither a port from 0 to 65535 nor a port name")
        return ()
    names = (single,) if single else PORT_PROTOCOLS
    return tuple(PortMatch(name, name=text.lower()) for name in names)


def _above(entry: Field, direction: str, ports: list[Field]) -> tuple[str, ...]:
    """Return the names of what an entry asks for above ports, and note what Cilium does not take."""
    rules = entry["rules"]
    kinds = []
    if rules.mapping():
        rules.only(*_L7)
        kinds = [kind for kind in _L7 if rules[kind].value not in (None, [], "")]
    if len({"l7" if kind == "l7proto" else kind for kind in kinds}) > 1:
        rules.fail("may hold rules of one protocol only")
    if "l7" in kinds and "l7proto" not in kinds:
        rules["l7"].fail("needs l7proto")
    for name in ("terminatingTLS", "originatingTLS", "listener"):
        entry[name].mapping()
    if kinds:
        _check_ports(rules, kinds, direction, ports)
    if "listener" in entry:
        if direction == "ingress":
            entry["listener"].fail("not allowed in ingress rules")
        if kinds:
            entry["listener"].fail("may not stand together with rules")
    _server_names(entry, kinds)
    return (*kinds, *(name for name in _ABOVE[:-1] if entry[name].value not in (None, [])))


def _check_ports(rules: Field, kinds: list[str], direction: str, ports: list[Field]) -> None:
    """Note ports that do not fit rules above them."""
    dns = "dns" in kinds
    if dns and direction == "ingress":
        rules["dns"].fail("not allowed in ingress rules")
    if dns and not ports:
        rules["dns"].fail("needs ports")
    for one in ports:
        if one["port"].value == "0":
            one["port"].fail("0 may not stand together with rules")
        if dns and one["endPort"].value:
            one["endPort"].fail("may not stand together with DNS rules")
        if not dns and one["protocol"].value != "TCP":
            one.fail("rules other than DNS need protocol TCP")


def _server_names(entry: Field, kinds: list[str]) -> None:
    names = list(entry["serverNames"].items())
    if any(one.text() == "" for one in names):
        entry["serverNames"].fail("a name is empty")
    if names and kinds and "terminatingTLS" not in entry:
        entry["serverNames"].fail("with rules needs terminatingTLS")
