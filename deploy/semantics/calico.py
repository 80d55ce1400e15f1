"""Reads NetworkPolicy of projectcalico.org/v3 in the default tier; a field it does not judge is refused by name.

Sources: projectcalico/calico api/pkg/apis/projectcalico/v3/networkpolicy.go and globalnetworkpolicy.go (types),
felix/calc/policy_sorter.go (order), app-policy/checker (evaluation).
"""

import math
import re

from deploy.semantics.fields import Field
from deploy.semantics.kubernetes import cidr, number
from deploy.semantics.rules import PORT_PROTOCOLS, Entity, Net, Policy, PortMatch, Rule
from deploy.semantics.selectors import Selector, SelectorError, calico_selector

API_VERSIONS = ("projectcalico.org/v3", "crd.projectcalico.org/v1")

_NUMBERS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_NAMES = ("TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite")
_REFUSED_KEYS = ("pcns.", "pcsa.")
_PORT_RANGE = re.compile(r"(\d{1,5}):(\d{1,5})")
_PORT_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


def network_policy(root: Field, namespace: str, name: str) -> Policy:
    """Return a Calico NetworkPolicy; what breaks a rule, or is not judged, is noted on the fields."""
    spec = root["spec"]
    if spec.mapping():
        spec.only(
            *("selector", "types", "order", "tier", "ingress", "egress", "performanceHints"),
            refused=("serviceAccountSelector", "stagedAction", "doNotTrack", "preDNAT", "applyOnForward"),
        )
    tier = spec["tier"].text()
    if tier not in (None, "", "default"):
        spec["tier"].fail(f"podfence judges the default tier only, not {tier!r}")
    ingress, egress = _rules(spec["ingress"], namespace), _rules(spec["egress"], namespace)
    return Policy(
        kind="NetworkPolicy",
        namespace=namespace,
        name=name,
        file=root.report.file,
        line=root.line,
        engine="calico",
        directions=_directions(spec["types"], ingress, egress),
        selector=_selector(spec["selector"]) or calico_selector(""),
        order=_order(spec["order"]),
        ingress=ingress,
        egress=egress,
    )


def _directions(types: Field, ingress: tuple[Rule, ...], egress: tuple[Rule, ...]) -> frozenset[str]:
    """Return the isolated directions; absent types mean those with rules, and ingress when there are none."""
    found = {kind.lower() for item in types.items() if (kind := item.choice(("Ingress", "Egress")))}
    if not types.value:
        found = ({"ingress"} if ingress or not egress else set()) | ({"egress"} if egress else set())
    return frozenset(found)


def _order(field: Field) -> float:
    if field.absent:
        return math.inf
    if isinstance(field.value, int | float) and not isinstance(field.value, bool):
        return float(field.value)
    field.fail("expected a number")
    return math.inf


def _rules(field: Field, namespace: str) -> tuple[Rule, ...]:
    return tuple(_rule(item, namespace) for item in field.items() if item.mapping())


def _rule(item: Field, namespace: str) -> Rule:
    item.only(
        *("action", "protocol", "ipVersion", "icmp", "source", "destination", "metadata"),
        refused=("notProtocol", "notICMP", "http"),
    )
    if item["action"].absent:
        item.fail("`action` is missing")
    action = item["action"].choice(("Allow", "Deny", "Log", "Pass")) or "Allow"
    protocol = _protocol(item["protocol"])
    version = item["ipVersion"].integer()
    if version not in (None, 4, 6):
        item["ipVersion"].fail(f"{version} is neither 4 nor 6")
    icmp = item["icmp"]
    if icmp.mapping():
        icmp.only("type", "code")
    if not icmp.absent and protocol not in ("icmp", "icmpv6"):
        icmp.fail("needs protocol ICMP or ICMPv6")
    source = item["source"]
    return Rule(
        where=item.path.removeprefix("spec."),
        line=item.line,
        action=action.lower(),
        source=_entity(source, namespace),
        destination=_entity(item["destination"], namespace),
        ports=_ports(item["destination"]["ports"], protocol),
        not_ports=_ports(item["destination"]["notPorts"], protocol),
        protocol=protocol,
        version=version,
        icmp_type=_icmp(icmp["type"]),
        icmp_code=_icmp(icmp["code"]),
        source_ports=bool(_ports(source["ports"], protocol) or _ports(source["notPorts"], protocol)),
    )


def _icmp(field: Field) -> int | None:
    found = field.integer()
    if found is not None and not 0 <= found <= 255:
        field.fail(f"{found} is outside 0-255")
    return found


def _protocol(field: Field) -> str | None:
    if field.absent:
        return None
    if isinstance(field.value, int) and not isinstance(field.value, bool):
        if not 1 <= field.value <= 255:
            field.fail(f"{field.value} is outside 1-255")
        return _NUMBERS.get(field.value, str(field.value))
    name = field.text()
    if name is None:
        return None
    if name.isdigit() and 1 <= int(name) <= 255:
        return _NUMBERS.get(int(name), str(int(name)))
    found = field.choice(_NAMES)
    return "136" if found == "UDPLite" else found.lower() if found else None


def _entity(field: Field, namespace: str) -> tuple[Entity, ...]:
    if field.absent or not field.mapping():
        return ()
    field.only(
        *("nets", "notNets", "selector", "notSelector", "namespaceSelector", "ports", "notPorts"),
        refused=("serviceAccounts", "services"),
    )
    pods, absent = _selector(field["selector"]), _selector(field["notSelector"])
    namespaces = _selector(field["namespaceSelector"])
    entity = Entity(
        # Any selector without namespaceSelector stays inside the policy's namespace; nets alone do not.
        namespace=namespace if namespaces is None and (pods is not None or absent is not None) else None,
        namespaces=namespaces,
        pods=pods,
        not_pods=absent,
        nets=_nets(field["nets"]),
        not_nets=_nets(field["notNets"]),
    )
    asks = (entity.namespace, pods, absent, namespaces)
    return (entity,) if entity.nets or entity.not_nets or any(one is not None for one in asks) else ()


def _selector(field: Field) -> Selector | None:
    """Return a selector, None when absent or empty."""
    text = field.text()
    if not text:
        return None
    try:
        found = calico_selector(text)
    except SelectorError as error:
        field.fail(f"selector {text!r}: {error}")
        return None
    for key in found.keys():  # noqa: SIM118 - not a mapping
        if key.startswith(_REFUSED_KEYS):
            field.fail(f"podfence does not judge the label {key!r}")
    return found


def _nets(field: Field) -> tuple[Net, ...]:
    return tuple(Net(whole) for item in field.items() if (whole := cidr(item, bare=True)) is not None)


def _ports(field: Field, protocol: str | None) -> tuple[PortMatch, ...]:
    if field.value and protocol not in PORT_PROTOCOLS:
        field.fail("ports need protocol TCP, UDP or SCTP")
    return tuple(_port(item) for item in field.items())


def _port(item: Field) -> PortMatch:
    if not isinstance(item.value, str):
        first = number(item)
        return PortMatch(None, first or 0, first or 0)
    bounds = _PORT_RANGE.fullmatch(item.value)
    if bounds or item.value.isdigit():
        low, high = (int(bounds[1]), int(bounds[2])) if bounds else (int(item.value), int(item.value))
        if high < low:
            item.fail(f"{high} is less than {low}")
        if not (0 <= low <= 65535 and high <= 65535):
            item.fail(f"{item.value} is outside 0-65535")
        return PortMatch(None, low, high)
    if not _PORT_NAME.fullmatch(item.value):
        item.fail(f"{item.value!r} is no port")
    return PortMatch(None, name=item.value)
