"""What policies of several APIs say of ends, ports and labels, read from plain dictionaries one question at a time.

It shares no code with podfence's judge. Sources, by function: kubernetes/apimachinery pkg/apis/meta/v1/types.go (LabelSelector);
projectcalico/calico libcalico-go/lib/selector/parser/parser.go, lib/backend/syncersv1/updateprocessors/rules.go and
lib/backend/k8s/conversion (conversion.go, clusternetworkpolicy.go); kubernetes/api networking/v1/types.go;
kubernetes-sigs/network-policy-api apis/v1alpha2/clusternetworkpolicy_types.go.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.oracles.worlds import Pod, World

Json = dict[str, Any]
Labels = Mapping[str, str]
NUMBERED = {1: "icmp", 6: "tcp", 17: "udp", 132: "sctp"}

_ATOMS = re.compile(
    r"(?P<key>[\w./-]+) (?P<sign>==|!=|in|not in|contains|starts with|ends with) (?P<value>'[^']*'|\{[^}]*\})"
    r"|has\((?P<held>[\w./-]+)\)|(?P<all>all\(\))|(?P<join>&&|\|\||!)"
)
_SIGNS = {
    "contains": "{value} in {own}",
    "starts with": "{own}.startswith({value})",
    "ends with": "{own}.endswith({value})",
}
_JOINS = {"&&": " and ", "||": " or ", "!": " not "}


@dataclass(frozen=True)
class Asked:
    """One connection: the responder's port, or type and code of an ICMP message."""

    protocol: str
    number: int
    code: int = 0


@dataclass(frozen=True)
class Someone:
    """One end: an address, and the pod that has it, with the labels of its namespace."""

    address: str
    pod: Pod | None = None
    space: tuple[tuple[str, str], ...] = ()

    @property
    def labels(self) -> Labels:
        """Return the pod's labels."""
        return self.pod.labels if self.pod else {}

    def inside(self, *nets: str) -> bool:
        """Tell whether its address lies in one of these."""
        return any(_within(self.address, net) for net in nets)

    def declares(self, name: str, protocol: str, number: int) -> bool:
        """Tell whether the pod gives this name to this port of the protocol."""
        ports = self.pod.ports if self.pod else ()
        return any((port.name, port.protocol.lower(), port.number) == (name, protocol, number) for port in ports)


def everybody(world: World) -> list[Someone]:
    """Return the ends of a world."""
    found = []
    for end in world.ends:
        pod = world.pods[end.pod] if end.pod >= 0 else None
        space = world.namespaces[pod.namespace] if pod else {}
        found.append(Someone(end.address, pod, tuple(space.items())))
    return found


@cache
def _within(address: str, net: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(net, strict=False)


@cache
def expression(text: str) -> Callable[[Labels], bool]:
    """Return what a Calico selector asks of labels."""

    def told(found: re.Match[str]) -> str:
        if found["join"]:
            return _JOINS[found["join"]]
        if found["all"]:
            return "True"
        if found["held"]:
            return f"({found['held']!r} in labels)"
        key, sign, value = found["key"], found["sign"], found["value"]
        if sign in _SIGNS:
            return f"({_SIGNS[sign].format(value=value, own=f'labels.get({key!r}, str())')})"
        return f"(labels.get({key!r}) {sign} {value})"

    code = compile(_ATOMS.sub(told, text).strip(), text, "eval")
    return lambda labels: bool(eval(code, {"labels": labels}))  # noqa: S307 - made of a selector's own words


def selects(selector: Json | None, labels: Labels) -> bool:
    """Tell whether a LabelSelector selects labels; one that is not there or empty selects all."""
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for one in (selector or {}).get("matchExpressions") or []:
        key, held = one["key"], one["key"] in labels
        if one["operator"] == "Exists" and not held:
            return False
        if one["operator"] == "DoesNotExist" and held:
            return False
        if one["operator"] == "In" and labels.get(key) not in one["values"]:
            return False
        if one["operator"] == "NotIn" and labels.get(key) in one["values"]:
            return False
    return True


def kubernetes_rule(rule: Json, side: str, namespace: str, end: Someone, responder: Someone, asked: Asked) -> bool:
    """Tell whether a rule of a NetworkPolicy allows a connection with that other end."""
    return any(_kubernetes_peer(peer, namespace, end) for peer in rule.get(side) or [{}]) and any(
        _kubernetes_port(port, responder, asked) for port in rule.get("ports") or [None]
    )


def _kubernetes_peer(peer: Json, namespace: str, end: Someone) -> bool:
    if not peer:
        return True
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return end.inside(block["cidr"]) and not end.inside(*block.get("except") or [])
    if end.pod is None:
        return False
    if "namespaceSelector" not in peer and end.pod.namespace != namespace:
        return False
    return selects(peer.get("namespaceSelector"), dict(end.space)) and selects(peer.get("podSelector"), end.labels)


def _kubernetes_port(port: Json | None, responder: Someone, asked: Asked) -> bool:
    if port is None:
        return True
    if port.get("protocol", "TCP").lower() != asked.protocol:
        return False
    number = port.get("port")
    if isinstance(number, str):
        return responder.declares(number, asked.protocol, asked.number)
    return number is None or number <= asked.number <= port.get("endPort", number)


def calico_rule(rule: Json, namespace: str | None, source: Someone, target: Someone, asked: Asked) -> bool:
    """Tell whether a rule of a Calico policy matches a connection."""
    protocol, other = (rule.get(key) for key in ("protocol", "notProtocol"))
    if protocol is not None and NUMBERED.get(protocol, str(protocol).lower()) != asked.protocol:
        return False
    if other is not None and NUMBERED.get(other, str(other).lower()) == asked.protocol:
        return False
    if "icmp" in rule and not _message(rule["icmp"], asked):
        return False
    if "notICMP" in rule and _message(rule["notICMP"], asked):
        return False
    ends = ((rule.get("source", {}), source), (rule.get("destination", {}), target))
    if not all(_entity(entity, namespace, end) for entity, end in ends):
        return False
    ports, excluded = (rule.get("destination", {}).get(key) for key in ("ports", "notPorts"))
    if ports and not any(_calico_port(port, target, asked) for port in ports):
        return False
    return not any(_calico_port(port, target, asked) for port in excluded or [])


def _message(wanted: Json, asked: Asked) -> bool:
    return asked.number == wanted["type"] and asked.code == wanted.get("code", asked.code)


def _entity(entity: Json, namespace: str | None, end: Someone) -> bool:
    if entity.get("nets") and not end.inside(*entity["nets"]):
        return False
    if end.inside(*entity.get("notNets") or []):
        return False
    if "notSelector" in entity and end.pod and expression(entity["notSelector"])(end.labels):
        return False
    spaces = entity.get("namespaceSelector")
    if "selector" not in entity and spaces is None and (namespace is None or "notSelector" not in entity):
        return True
    if end.pod is None or spaces == "global()":
        return False
    if spaces is not None and not expression(spaces)(dict(end.space)):
        return False
    if spaces is None and namespace not in (None, end.pod.namespace):
        return False
    return "selector" not in entity or expression(entity["selector"])(end.labels)


def _calico_port(port: int | str, responder: Someone, asked: Asked) -> bool:
    if isinstance(port, int):
        return asked.number == port
    if ":" in port:
        low, high = port.split(":")
        return int(low) <= asked.number <= int(high)
    return responder.declares(port, asked.protocol, asked.number)


def cluster_rule(rule: Json, side: str, end: Someone, responder: Someone, asked: Asked) -> bool:
    """Tell whether a rule of a ClusterNetworkPolicy matches a connection with that other end."""
    return any(_cluster_peer(peer, end) for peer in rule[side]) and any(
        _cluster_port(port, responder, asked) for port in rule.get("protocols") or [None]
    )


def _cluster_peer(peer: Json, end: Someone) -> bool:
    if "networks" in peer:
        return end.inside(*peer["networks"])
    return end.pod is not None and chosen(peer, end)


def chosen(peer: Json, end: Someone) -> bool:
    """Tell whether a subject or peer of a ClusterNetworkPolicy means a pod."""
    space = dict(end.space)
    if "namespaces" in peer:
        return selects(peer["namespaces"], space)
    pods = peer["pods"]
    return selects(pods.get("namespaceSelector"), space) and selects(pods["podSelector"], end.labels)


def _cluster_port(port: Json | None, responder: Someone, asked: Asked) -> bool:
    if port is None:
        return True
    if "destinationNamedPort" in port:
        return responder.declares(port["destinationNamedPort"], asked.protocol, asked.number)
    ((protocol, spec),) = port.items()
    if protocol != asked.protocol:
        return False
    wanted = spec.get("destinationPort")
    if wanted is None:
        return True
    if "number" in wanted:
        return bool(wanted["number"] == asked.number)
    return bool(wanted["range"]["start"] <= asked.number <= wanted["range"]["end"])
