"""Reads the rules of Calico's policies: actions, protocols, ports, ICMP; `calico_peers` reads the ends.

Fields and limits: projectcalico/calico api/pkg/apis/projectcalico/v3/policy_common.go (also its validation rules) and
libcalico-go/lib/validator/v3/validator.go. Meaning: felix/calc/rule_scanner.go and felix/rules/policy.go.
"""

import re

from deploy.semantics.reading.calico_peers import Entity, entity, together
from deploy.semantics.reading.fields import Field
from deploy.semantics.reading.kubernetes import _PORT_NAME, number
from deploy.semantics.rules import PORT_PROTOCOLS, Family, IcmpMatch, Peer, PortMatch, Rule, Serves, Traffic

MAX_RULES = 1024
MAX_PORTS = 50
MAX_HTTP = 20

_ENDS = ("source", "destination")
_NUMBERS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_NAMES = ("TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite")
_UDP_LITE = "136"
_ICMP_VERSIONS = {"icmp": 4, "icmpv6": 6}
_DIGITS = re.compile(r"[0-9]{1,9}")
_RANGE = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")


def rules(field: Field, namespace: str | None) -> tuple[Rule, ...]:
    """Return the rules of one direction (`spec.ingress` or `spec.egress`) of a policy in this namespace (None: global)."""
    items = list(field.items())
    if len(items) > MAX_RULES:
        field.fail(f"has {len(items)} rules, Calico takes {MAX_RULES}")
    return tuple(_rule(item, field.step, namespace) for item in items if item.mapping())


def _rule(item: Field, direction: str, namespace: str | None) -> Rule:
    item.only(
        *("action", "protocol", "notProtocol", "ipVersion", "icmp", "notICMP", "source", "destination", "http"),
        "metadata",
    )
    if item["action"].absent:
        item.fail("`action` is missing")
    action = (item["action"].choice(("Allow", "Deny", "Log", "Pass")) or "Allow").lower()
    traffic = _traffic(item)
    source, destination = (entity(item[end], namespace) for end in _ENDS)
    peers = _peers(item, direction, (source, destination))
    _metadata(item["metadata"])
    return Rule(
        where=item.path.removeprefix("spec."),
        line=item.line,
        action=action,
        source=peers[0],
        destination=peers[1],
        traffic=traffic,
        service=destination.service if direction == "egress" else None,
        unjudged=_http(item, action, direction),
    )


def _peers(item: Field, direction: str, ends: tuple[Entity, Entity]) -> list[Peer]:
    """Return the conditions on both ends; the IP version is asked of the end that is not the policy's own pod."""
    version = _version(item, ends)
    other = "source" if direction == "ingress" else "destination"
    peers = []
    for name, one in zip(_ENDS, ends, strict=True):
        parts = [one.peer]
        if one.service is not None and name != other:
            item[name]["services"].fail(f"not allowed in the {name} of an {direction} rule")
        elif one.service is not None and name == "source":
            parts.append(Serves(one.service))
        elif one.service is not None:
            for key in ("ports", "notPorts"):
                if item[name][key].value:
                    item[name][key].fail("may not stand together with services in a destination")
        if version is not None and name == other:
            parts.append(Family(version))
        peers.append(together(*parts))
    return peers


def _version(item: Field, ends: tuple[Entity, Entity]) -> int | None:
    """Return the IP version a rule asks for, None for any; note where its prefixes are of another, or of both."""
    version = item["ipVersion"].integer()
    if version not in (None, 4, 6):
        item["ipVersion"].fail(f"{version} is neither 4 nor 6")
    seen: set[int] = set()
    for field, families in (*ends[0].families, *ends[1].families):
        if version in (4, 6) and families != {version}:
            field.fail(f"holds prefixes of another IP version than ipVersion {version}")
        seen |= families
        if len(seen) > 1:
            field.fail("a rule may not hold both IPv4 and IPv6 prefixes")
            break
    return version


def _traffic(item: Field) -> Traffic:
    protocol, unwanted = _protocol(item["protocol"]), _protocol(item["notProtocol"])
    version = item["ipVersion"].value
    for one in (protocol, unwanted):
        if one in _ICMP_VERSIONS and version in (4, 6) and version != _ICMP_VERSIONS[one]:
            item["ipVersion"].fail(f"{one} needs ipVersion {_ICMP_VERSIONS[one]}")
    icmp, not_icmp = _icmp(item["icmp"], protocol), _icmp(item["notICMP"], protocol)
    source, destination = item["source"], item["destination"]
    return Traffic(
        protocol=protocol,
        not_protocol=unwanted,
        ports=_ports(destination["ports"], protocol),
        not_ports=_ports(destination["notPorts"], protocol),
        icmp=() if icmp is None else (icmp,),
        not_icmp=not_icmp,
        source_ports=bool(_ports(source["ports"], protocol) + _ports(source["notPorts"], protocol)),
    )


def _protocol(field: Field) -> str | None:
    if field.absent:
        return None
    value = field.value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= 255:
            field.fail(f"{value} is outside 1-255")
        return _NUMBERS.get(value, str(value))
    found = field.choice(_NAMES)
    return _UDP_LITE if found == "UDPLite" else found.lower() if found else None


def _icmp(field: Field, protocol: str | None) -> IcmpMatch | None:
    """Return the messages asked for, None for all.

    The API asks for the protocol beside `icmp` only. Beside `notICMP` we do, too: without it no source says whether the rule
    matches other protocols.
    """
    if field.absent or not field.mapping():
        return None
    field.only("type", "code")
    if protocol not in _ICMP_VERSIONS:
        field.fail("needs protocol ICMP or ICMPv6")
    kind, code = field["type"].integer(), field["code"].integer()
    for key, found, last in (("type", kind, 254), ("code", code, 255)):
        if found is not None and not 0 <= found <= last:
            field[key].fail(f"{found} is outside 0-{last}")
    if kind is None and code is not None:
        field["code"].fail("needs a type")
    return None if kind is None else IcmpMatch(protocol, kind, code)


def _ports(field: Field, protocol: str | None) -> tuple[PortMatch, ...]:
    items = list(field.items())
    if len(items) > MAX_PORTS:
        field.fail(f"has {len(items)} ports, Calico takes {MAX_PORTS}")
    ports = tuple(_port(item, protocol) for item in items)
    if ports and protocol is not None and protocol not in PORT_PROTOCOLS:
        field.fail("ports need protocol TCP, UDP or SCTP")
    if protocol is None and any(port.name is None for port in ports):
        field.fail("ports need protocol TCP, UDP or SCTP (names may stand without)")
    return ports


def _port(item: Field, protocol: str | None) -> PortMatch:
    """Return a port, a range `low:high` or a name."""
    text = item.value
    if not isinstance(text, str):
        first = number(item) or 0
        return PortMatch(protocol, first, first)
    bounds = _RANGE.fullmatch(text)
    if bounds or _DIGITS.fullmatch(text):
        low, high = (int(bounds[1]), int(bounds[2])) if bounds else (int(text), int(text))
        if high < low:
            item.fail(f"{high} is less than {low}")
        if not 1 <= low <= 65535 or not 1 <= high <= 65535:
            item.fail(f"{text} is outside 1-65535")
        return PortMatch(protocol, low, high)
    if not _PORT_NAME.fullmatch(text):
        item.fail(f"{text!r} is no port, no range such as 80:90, and no port name")
    return PortMatch(protocol, name=text)


def _http(item: Field, action: str, direction: str) -> tuple[str, ...]:
    """Return `http` where a rule asks for HTTP, which Felix leaves to the application layer; its other parts are judged."""
    http = item["http"]
    if http.absent or not http.mapping():
        return ()
    http.only("methods", "paths")
    if action != "allow":
        http.fail("is valid only in rules that allow")
    if direction == "egress":
        http.fail("is not allowed in egress rules")
    if _protocol(item["protocol"]) not in (None, "tcp"):
        http.fail("needs protocol TCP, or none")
    methods, paths = ([*http[key].items()] for key in ("methods", "paths"))
    for key, found in (("methods", methods), ("paths", paths)):
        if len(found) > MAX_HTTP:
            http[key].fail(f"has {len(found)} entries, Calico takes {MAX_HTTP}")
    texts = [method.text() for method in methods]
    if len(set(texts)) < len(texts):
        http["methods"].fail("names a method twice")
    for path in paths:
        _http_path(path)
    return ("http",)


def _http_path(path: Field) -> None:
    if not path.mapping():
        return
    path.only("exact", "prefix")
    found = [text for key in ("exact", "prefix") if (text := path[key].text())]
    if len(found) != 1:
        path.fail("needs either exact or prefix")
    for text in found:
        if not text.startswith("/") or set(text) & set("? #"):
            path.fail(f"{text!r} does not start with / or holds a space, ? or #")


def _metadata(field: Field) -> None:
    if field.mapping():
        field.only("annotations")
        annotations = field["annotations"]
        if annotations.mapping():
            for key in annotations.keys():  # noqa: SIM118 - not a mapping
                annotations[key].text()
