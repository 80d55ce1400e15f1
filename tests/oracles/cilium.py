"""Policies of Cilium beside those of Kubernetes, judged from dictionaries one verdict at a time.

It shares no code with podfence's judge. Sources: Cilium documentation, "Overview of Network Policy" (default deny), "Deny Policies",
"Layer 3 Policies" and "Layer 4 Policies"; cilium/cilium pkg/k8s/apis/cilium.io/utils/utils.go (namespaces of peers),
pkg/policy/l4_filter_test.go (`TestL3Wildcarding`: empty lists).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tests.oracles.kubernetes_policies import types
from tests.oracles.matching import Asked, Someone, kubernetes_rule, selects

Json = dict[str, Any]
KUBERNETES = "networking.k8s.io/v1"
NAMESPACE, SPACE_LABELS = "io.kubernetes.pod.namespace", "io.cilium.k8s.namespace.labels."
SIDES = {"ingress": "from", "egress": "to"}


def outcome(policies: Sequence[Json], direction: str, source: Someone, target: Someone, asked: Asked) -> str:
    """Return what becomes of a half: a denial wins, then any permission; else nothing passes where a policy closes."""
    subject, end = (source, target) if direction == "egress" else (target, source)
    if subject.pod is None:
        return "allowed"
    closed = allowed = False
    for one in policies:
        namespace = one["metadata"].get("namespace")
        if namespace not in (None, subject.pod.namespace):
            continue
        if one["apiVersion"] == KUBERNETES:
            if selects(one["spec"].get("podSelector"), subject.labels) and direction.capitalize() in types(one):
                closed = True
                allowed |= any(
                    _kubernetes(one, rule, direction, end, target, asked) for rule in one["spec"].get(direction) or []
                )
            continue
        if not selects(_plain(one["spec"]["endpointSelector"]), identity(subject)):
            continue
        permissions, denials = (one["spec"].get(f"{direction}{part}") or [] for part in ("", "Deny"))
        if any(_matches(rule, direction, namespace, end, asked) for rule in denials):
            return "denied"
        allowed |= any(_matches(rule, direction, namespace, end, asked) for rule in permissions)
        governs = bool(permissions or denials)
        closed |= governs and one["spec"].get("enableDefaultDeny", {}).get(direction, True)
    return "allowed" if allowed or not closed else "denied"


def _kubernetes(one: Json, rule: Json, direction: str, end: Someone, target: Someone, asked: Asked) -> bool:
    """Tell whether a rule of Kubernetes allows a connection: to Cilium, blocks never mean pods."""
    side = SIDES[direction]
    peers = rule.get(side) or []
    kept = [peer for peer in peers if end.pod is None or "ipBlock" not in peer]
    if peers and not kept:
        return False
    return kubernetes_rule(rule | {side: kept}, side, one["metadata"]["namespace"], end, target, asked)


def identity(end: Someone) -> dict[str, str]:
    """Return a pod's labels as selectors of Cilium see them."""
    namespace = {NAMESPACE: end.pod.namespace} if end.pod else {}
    return {**end.labels, **namespace, **{f"{SPACE_LABELS}{key}": value for key, value in end.space}}


def _plain(selector: Json) -> Json:
    """Return a selector with keys that name no source."""
    found: Json = {}
    if "matchLabels" in selector:
        found["matchLabels"] = {key.rpartition(":")[2]: value for key, value in selector["matchLabels"].items()}
    if "matchExpressions" in selector:
        found["matchExpressions"] = [
            one | {"key": one["key"].rpartition(":")[2]} for one in selector["matchExpressions"]
        ]
    return found


def _matches(rule: Json, direction: str, namespace: str | None, end: Someone, asked: Asked) -> bool:
    lists = [name for name in rule if name.startswith(SIDES[direction]) and name != "toPorts"]
    if not lists and not rule.get("toPorts") and not rule.get("icmps"):
        return False
    peers = [answer for name in lists for answer in _peers(name, rule[name], namespace, end)]
    return (not lists or any(peers)) and _traffic(rule, asked)


def _peers(name: str, items: list[Any], namespace: str | None, end: Someone) -> Iterator[bool]:
    """Yield, for each item of a list, whether it means an end."""
    kind = name.removeprefix("from").removeprefix("to")
    for one in items:
        if kind == "Endpoints":
            yield end.pod is not None and _endpoint(_plain(one), namespace, end)
        elif kind == "Entities":
            yield one in {"all", "cluster" if end.pod else "world"}
        elif kind == "CIDR":
            yield end.pod is None and end.inside(one)
        else:
            yield end.pod is None and end.inside(one["cidr"]) and not end.inside(*one.get("except", []))


def _endpoint(selector: Json, namespace: str | None, end: Someone) -> bool:
    asked = [*selector.get("matchLabels", {}), *(one["key"] for one in selector.get("matchExpressions", []))]
    elsewhere = any(key == NAMESPACE or key.startswith(SPACE_LABELS) for key in asked)
    here = namespace is None or elsewhere or (end.pod is not None and end.pod.namespace == namespace)
    return here and selects(selector, identity(end))


def _traffic(rule: Json, asked: Asked) -> bool:
    if rule.get("icmps"):
        fields = [field for one in rule["icmps"] for field in one["fields"]]
        return asked.protocol == "icmp" and any(
            field.get("family", "IPv4") == "IPv4" and field["type"] == asked.number for field in fields
        )
    ports = [port for entry in rule.get("toPorts") or [] for port in entry["ports"]]
    if not ports:
        return True
    return any(_port(port, asked) for port in ports)


def _port(port: Json, asked: Asked) -> bool:
    protocol, first = port.get("protocol", "ANY").lower(), int(port["port"])
    if asked.protocol not in (("tcp", "udp", "sctp") if protocol == "any" else (protocol,)):
        return False
    return first == 0 or first <= asked.number <= max(first, port.get("endPort", 0))
