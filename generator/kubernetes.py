"""Writes policies as `networking.k8s.io/v1` NetworkPolicy, in the subset that every engine reads alike.

Ports are numbers, since a named port means whatever each destination calls so. Ranges are written port by port: an
engine without `endPort` enforces only the first port of a range and says nothing (the API's own warning).
"""

from collections.abc import Sequence
from typing import Any

from generator.metadata import metadata
from generator.policy import CidrPeer, Policy, Port, Rule
from learner.patterns import Selector, selector_json
from recorder.errors import InputError

_PROTOCOLS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP"}
_WIDEST_RANGE = 100


def obstacle(port: Port) -> str | None:
    """Return why NetworkPolicy cannot allow this port, or None when it can."""
    if port.protocol not in _PROTOCOLS:
        return f"a NetworkPolicy knows TCP, UDP and SCTP, not {port.protocol.upper()}"
    if port.port is not None and port.end_port is not None and port.end_port - port.port >= _WIDEST_RANGE:
        return f"a range of more than {_WIDEST_RANGE} ports needs endPort, which not every engine enforces"
    return None


def manifest(policy: Policy) -> dict[str, Any]:
    """Return one policy as the object that the API takes."""
    spec: dict[str, Any] = {
        "podSelector": _selector(policy.selector),
        "policyTypes": [direction.capitalize() for direction in policy.directions],
    }
    for direction, side, rules in (("ingress", "from", policy.ingress), ("egress", "to", policy.egress)):
        if rules:
            spec[direction] = [{side: [_peer(rule, policy.namespace)], "ports": _ports(rule)} for rule in rules]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(policy.name, policy.namespace, policy.workload),
        "spec": spec,
    }


def default_deny(namespace: str, directions: Sequence[str]) -> dict[str, Any]:
    """Return the object that isolates every pod of a namespace and allows nothing."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata("default-deny", namespace),
        "spec": {"podSelector": {}, "policyTypes": [direction.capitalize() for direction in directions]},
    }


def _peer(rule: Rule, namespace: str) -> dict[str, Any]:
    peer = rule.peer
    if isinstance(peer, CidrPeer):
        return {"ipBlock": {"cidr": peer.cidr} | ({"except": list(peer.without)} if peer.without else {})}
    pods = {"podSelector": _selector(peer.selector)}
    if peer.namespace == namespace:
        return pods
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": peer.namespace}}} | pods


def _selector(selector: Selector) -> dict[str, Any]:
    found = selector_json(selector)
    if not found:
        raise ValueError("an empty selector would select every pod")
    return found


def _ports(rule: Rule) -> list[dict[str, Any]]:
    if not rule.ports:
        raise ValueError("a rule without ports would allow every port")
    written: set[tuple[str, int | None]] = set()
    for port in rule.ports:
        reason = obstacle(port)
        if reason:
            raise InputError(f"{reason}; generate for this target to have it listed instead")
        if port.port is None:
            written.add((_PROTOCOLS[port.protocol], None))
        else:
            numbers = range(port.port, (port.end_port or port.port) + 1)
            written |= {(_PROTOCOLS[port.protocol], number) for number in numbers}
    order = sorted(written, key=lambda entry: (entry[0], entry[1] or 0))
    return [{"protocol": name} | ({} if number is None else {"port": number}) for name, number in order]
