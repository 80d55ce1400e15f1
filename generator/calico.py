"""Writes policies as `projectcalico.org/v3` NetworkPolicy in the default tier, which denies what no policy allowed.

Selectors are Calico expressions; `not in` also matches where the label is absent, as `NotIn` does, and string literals
know no escapes (libcalico-go/lib/selector). A rule holds one protocol and at most 50 ports, a direction 1,024 rules, a
selector 1,024 characters (the limits of Calico's API).
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from generator.metadata import metadata
from generator.policy import CidrPeer, Policy, Port, Rule
from learner.patterns import Expression, Selector
from recorder.errors import InputError

_PROTOCOLS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "icmp": "ICMP", "icmpv6": "ICMPv6"}
_WITH_PORTS = ("tcp", "udp", "sctp")
_LABEL = re.compile(r"[A-Za-z0-9_./-]+")
_PORTS_A_RULE = 50
_RULES_A_DIRECTION = 1024
_LONGEST_SELECTOR = 1024


def obstacle(port: Port) -> str | None:
    """Return why Calico cannot allow this port, or None when it can."""
    number = int(port.protocol) if port.protocol.isdecimal() else None
    if port.protocol not in _PROTOCOLS and (number is None or not 1 <= number <= 255):
        return f"Calico knows no protocol {port.protocol}"
    return None


def manifest(policy: Policy) -> dict[str, Any]:
    """Return one policy as the object that the API takes.

    Raises InputError when a label cannot be written as a Calico selector or one of Calico's limits is passed.
    """
    spec: dict[str, Any] = {
        "selector": _selector(policy.selector, policy.workload),
        "types": [direction.capitalize() for direction in policy.directions],
    }
    for direction, rules in (("ingress", policy.ingress), ("egress", policy.egress)):
        written = [entry for rule in rules for entry in _entries(rule, direction, policy)]
        if len(written) > _RULES_A_DIRECTION:
            raise InputError(
                f"{policy.workload}: {len(written)} {direction} rules, Calico takes {_RULES_A_DIRECTION} a policy"
            )
        if written:
            spec[direction] = written
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "NetworkPolicy",
        "metadata": metadata(policy.name, policy.namespace, policy.workload),
        "spec": spec,
    }


def default_deny(namespace: str, directions: Sequence[str]) -> dict[str, Any]:
    """Return the object that brings every pod of a namespace under the tier's final deny."""
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "NetworkPolicy",
        "metadata": metadata("default-deny", namespace),
        "spec": {"selector": "all()", "types": [direction.capitalize() for direction in directions]},
    }


def _entries(rule: Rule, direction: str, policy: Policy) -> Iterator[dict[str, Any]]:
    if not rule.ports:
        raise ValueError("a rule without ports would allow every port")
    peer = _peer(rule, policy.namespace)
    for match, ports in _matches(rule.ports):
        destination = {"ports": ports} if ports else {}
        if direction == "ingress":
            sides = {"source": peer} | ({"destination": destination} if ports else {})
        else:
            sides = {"destination": peer | destination}
        yield {"action": "Allow"} | match | sides


def _matches(ports: Sequence[Port]) -> Iterator[tuple[dict[str, Any], list[int | str]]]:
    """Yield protocol matches, each with at most as many ports as one rule takes; no ports are all ports."""
    for protocol in dict.fromkeys(port.protocol for port in ports):
        mine = [port for port in ports if port.protocol == protocol]
        match: dict[str, Any] = {"protocol": _PROTOCOLS.get(protocol) or int(protocol)}
        if protocol in _WITH_PORTS:
            numbers = [] if any(port.port is None for port in mine) else [_port(port) for port in mine]
            for start in range(0, max(len(numbers), 1), _PORTS_A_RULE):
                yield match, numbers[start : start + _PORTS_A_RULE]
        elif any(port.icmp_type is None for port in mine):
            yield match, []
        else:
            for port in mine:
                code = {} if port.icmp_code is None else {"code": port.icmp_code}
                yield match | {"icmp": {"type": port.icmp_type} | code}, []


def _port(port: Port) -> int | str:
    if port.port is None:
        raise ValueError("all ports have no number")
    return port.port if port.end_port is None else f"{port.port}:{port.end_port}"


def _peer(rule: Rule, namespace: str) -> dict[str, Any]:
    peer = rule.peer
    if isinstance(peer, CidrPeer):
        return {"nets": [peer.cidr]} | ({"notNets": list(peer.without)} if peer.without else {})
    pods = {"selector": _selector(peer.selector, peer.workload)}
    if peer.namespace == namespace:
        return pods
    return pods | {"namespaceSelector": f"kubernetes.io/metadata.name == {_quoted(peer.namespace, peer.workload)}"}


def _selector(selector: Selector, workload: str) -> str:
    terms = [f"{_label(key, workload)} == {_quoted(value, workload)}" for key, value in selector.match_labels]
    terms += [_expression(term, workload) for term in selector.match_expressions]
    text = " && ".join(terms)
    if not text:
        raise ValueError("an empty selector would select every pod")
    if len(text) > _LONGEST_SELECTOR:
        raise InputError(f"{workload}: a selector of {len(text)} characters, Calico takes {_LONGEST_SELECTOR}")
    return text


def _expression(term: Expression, workload: str) -> str:
    key = _label(term.key, workload)
    values = ", ".join(_quoted(value, workload) for value in term.values)
    return {
        "In": f"{key} in {{{values}}}",
        "NotIn": f"{key} not in {{{values}}}",
        "Exists": f"has({key})",
        "DoesNotExist": f"!has({key})",
    }[term.operator]


def _label(key: str, workload: str) -> str:
    if not _LABEL.fullmatch(key):
        raise InputError(f"{workload}: label {key!r} cannot be written in a Calico selector")
    return key


def _quoted(value: str, workload: str) -> str:
    for mark in "'\"":
        if mark not in value:
            return f"{mark}{value}{mark}"
    raise InputError(f"{workload}: label value {value!r} holds both kinds of quotes, which Calico cannot express")
