"""network-config-analyzer 2.1.0 as an oracle for Kubernetes and Calico policies, through `nca_runner.py`.

What it does wrong or not at all, and what is done about it (each has a test that shows it still does):
- `ipBlock` never matches a pod: compared with a judge told the same. Calico nets never hold pods in these cases, so that
  `notNets` beside a selector says nothing and is left out, and `notNets` alone means the pods, too, and gets a rule for them.
- `Exists` and `DoesNotExist` of pods beside a namespaceSelector stay in the policy's namespace (K8sPolicyYamlParser.py):
  written as `In` and `NotIn` of all values there are.
- Absent types beside an empty list of egress rules isolate egress: the empty list is left out, as the API leaves it out.
- A file is refused for rules of a direction that is not among the types, for `policyTypes: [Egress, Ingress]` and for an absent
  podSelector: the rules are left out, the types sorted, the selector written `{}`.
- A Kubernetes podSelector matches network sets of the namespace: cases with sets hold Calico policies only.
- A scalar that Python reads as a number becomes one, quoted or not (GenericTreeScanner.py), and a label that is a number is
  refused; an empty label value of a namespace matches where the key is absent: such values get names.
- A pod's port name has one number and protocol (Peer.py): where a name has several, each protocol gets its own name.
- `notSelector` alone in a namespaced Calico policy is not kept to the policy's namespace, as Calico keeps it
  (libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go): `selector: all()` is written beside it.
- `notProtocol` beside `protocol` makes a rule match nothing (CalicoPolicyYamlParser.py): it says nothing unless both are the
  same, and is left out; a rule with both the same matches nothing, and is left out whole.
- An `order` with a fraction is text: orders become whole numbers on the same side of 1000, where Kubernetes policies are.
A file that it cannot read is dropped with exit code 0: what was read is counted, and what is complained of is looked at.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tests.oracles.calico_policies import NUMBERED
from tests.oracles.cases import Case, relabelled
from tests.oracles.connectivity_map import Map
from tests.oracles.kubernetes_policies import SIDES, Json, types, with_selectors
from tests.oracles.lines import Program, Verdicts
from tests.oracles.worlds import Port, World

RUNNER = Path(__file__).with_name("nca_runner.py")
KUBERNETES = "networking.k8s.io/v1"
HARMLESS = re.compile(
    r"(?:\S+:\d+:\d+: )?Warning: .*"
    r"(selects? no|selects all|policyTypes is missing|types is missing|redundant|better|Better|Mixing ip-based|"
    r"no traffic will be matched|has no effect)"
)
"""Warnings about the style of policies that were read."""


def program() -> Program:
    """Return network-config-analyzer, waiting for questions."""
    return Program([sys.executable, "-W", "ignore", str(RUNNER)])


def verdicts(running: Program, one: Case) -> Verdicts:
    """Return the verdicts on a case; `ipBlock` and nets match addresses outside only."""
    return told(running, suited(one))


def told(running: Program, one: Case) -> Verdicts:
    """Return the verdicts on a case as it is; raises AssertionError when something was not read."""
    answer = running.ask({"topology": topology(one), "policies": written(one.policies)})
    complaints = [line for line in answer["complaints"] if not HARMLESS.match(line)]
    assert not complaints, (one.name, complaints)
    assert answer["policies"] == len(one.policies), (one.name, answer)
    assert answer["pods"] == len(one.world.pods), (one.name, answer)
    return Map(one, answer["lines"]).verdicts


def written(objects: tuple[Json, ...]) -> str:
    """Return objects as YAML documents."""
    text: str = yaml.dump_all(objects, Dumper=_Plain, sort_keys=False)
    return text


class _Plain(yaml.CSafeDumper):
    """Writes no anchors."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Return that everything is written out."""
        return True


def topology(one: Case) -> str:
    """Return namespaces, pods and network sets as YAML."""
    objects: list[Json] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}
        for name, labels in one.world.namespaces.items()
    ]
    for pod in one.world.pods:
        ports = [{"name": port.name, "containerPort": port.number, "protocol": port.protocol} for port in pod.ports]
        metadata = {"name": pod.name, "namespace": pod.namespace, "labels": dict(pod.labels)}
        status = {"podIP": pod.addresses[0], "hostIP": "192.168.0.1"}
        spec = {"containers": [{"name": "c", "ports": ports}]}
        objects.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
    return written((*objects, *one.sets))


def suited(one: Case) -> Case:
    """Return the case, changed where network-config-analyzer would go wrong."""
    one = relabelled(one, _no_number)
    clashing = {port.name for pod in one.world.pods for port in pod.ports if _protocols(pod.ports, port.name) > 1}
    if clashing:
        one = _with_protocols_in_names(one, clashing)
    whole = _whole_orders(one.policies)
    changed = [
        _kubernetes(policy, one.world) if policy["apiVersion"] == KUBERNETES else _calico(policy, whole)
        for policy in one.policies
    ]
    return replace(one, policies=tuple(changed))


def _no_number(value: str) -> str:
    """Return a label value, named where it is empty or Python reads it as a number."""
    try:
        return f"number-{int(value)}-of-{len(value)}"
    except ValueError:
        return value or "value-is-empty"


def _protocols(ports: tuple[Port, ...], name: str) -> int:
    return len({port.protocol for port in ports if port.name == name})


def _with_protocols_in_names(one: Case, names: set[str]) -> Case:
    """Return the case with the protocol in these port names."""

    def named(name: Any, protocol: Any) -> Any:
        return f"{name}-{NUMBERED.get(protocol, protocol).lower()}" if name in names else name

    def kubernetes(rule: Json) -> Json:
        ports = [
            port | {"port": named(port["port"], port.get("protocol", "TCP"))} if "port" in port else port
            for port in rule.get("ports") or []
        ]
        return rule | ({"ports": ports} if ports else {})

    def calico(rule: Json) -> Json:
        entity = dict(rule.get("destination", {}))
        for field in ("ports", "notPorts"):
            if field in entity:
                entity[field] = [named(port, rule["protocol"]) for port in entity[field]]
        return rule | ({"destination": entity} if entity else {})

    pods = tuple(
        replace(pod, ports=tuple(replace(port, name=named(port.name, port.protocol)) for port in pod.ports))
        for pod in one.world.pods
    )
    changed = []
    for policy in one.policies:
        spec, change = dict(policy["spec"]), kubernetes if policy["apiVersion"] == KUBERNETES else calico
        for direction in SIDES:
            if spec.get(direction):
                spec[direction] = [change(rule) for rule in spec[direction]]
        changed.append(policy | {"spec": spec})
    return replace(one, world=replace(one.world, pods=pods), policies=tuple(changed))


def _kubernetes(policy: Json, world: World) -> Json:
    spec = {"podSelector": {}} | policy["spec"]
    if spec.get("policyTypes"):
        spec["policyTypes"] = sorted(spec["policyTypes"], reverse=True)
    for direction in SIDES:
        if direction.capitalize() not in types(policy):
            spec.pop(direction, None)
    values = {
        key: sorted({pod.labels[key] for pod in world.pods if key in pod.labels}) or ["nobody-has-it"]
        for key in {key for pod in world.pods for key in pod.labels} | set(_asked_for(policy))
    }

    def change(selector: Json, of: str) -> Json:
        found = [
            {
                "key": one["key"],
                "operator": {"Exists": "In", "DoesNotExist": "NotIn"}[one["operator"]],
                "values": values[one["key"]],
            }
            if of == "pods of namespaces" and one["operator"] in ("Exists", "DoesNotExist")
            else one
            for one in selector.get("matchExpressions", [])
        ]
        return selector | ({"matchExpressions": found} if found else {})

    return with_selectors(policy | {"spec": spec}, change)


def _asked_for(policy: Json) -> list[str]:
    found: list[str] = []

    def note(selector: Json, _of: str) -> Json:
        found.extend(one["key"] for one in selector.get("matchExpressions", []))
        return selector

    with_selectors(policy, note)
    return found


def _whole_orders(policies: tuple[Json, ...]) -> Callable[[float], int]:
    """Return what gives each order its whole number; each its own where none has a fraction."""
    orders = sorted({policy["spec"]["order"] for policy in policies if "order" in policy["spec"]})
    if all(order == int(order) for order in orders):
        return int
    below = [order for order in orders if order < 1000]
    ranks = {order: rank for rank, order in enumerate(below)}
    ranks |= {order: 1001 + rank for rank, order in enumerate(order for order in orders if order > 1000)}
    return lambda order: ranks[order]


def _calico(policy: Json, whole: Callable[[float], int]) -> Json:
    spec = dict(policy["spec"])
    if "order" in spec:
        spec["order"] = whole(spec["order"])
    for direction in SIDES:
        if not spec.get(direction) or (spec.get("types") and direction.capitalize() not in spec["types"]):
            spec.pop(direction, None)
            continue
        spaced = "namespace" in policy["metadata"]
        spec[direction] = [part for rule in spec[direction] for part in _rules(rule, spaced=spaced)]
    return policy | {"spec": spec}


def _rules(rule: Json, *, spaced: bool) -> list[Json]:
    """Return a Calico rule as rules that it reads rightly; `spaced`: of a policy with a namespace."""
    found = dict(rule)
    if "protocol" in found and "notProtocol" in found:
        if _number(found["protocol"]) == _number(found["notProtocol"]):
            return []
        del found["notProtocol"]
    parts = [found]
    for side in ("source", "destination"):
        parts = [part | {side: entity} for part in parts for entity in _entities(part.get(side, {}), spaced=spaced)]
    return parts


def _number(protocol: Any) -> Any:
    return {name: number for number, name in NUMBERED.items()}.get(protocol, protocol)


def _entities(entity: Json, *, spaced: bool) -> list[Json]:
    """Return an entity rule as alternatives that it reads rightly."""
    found = dict(entity)
    if spaced and found.get("notSelector") and not (found.get("selector") or found.get("namespaceSelector")):
        found["selector"] = "all()"
    chosen = found.get("selector") or found.get("namespaceSelector")
    if found.get("notNets") and not found.get("nets"):
        without = {key: value for key, value in found.items() if key != "notNets"}
        return [without] if chosen else [found, without | {"namespaceSelector": "all()"}]
    return [found]
