"""netpol-analyzer 1.4.4 as an oracle for Kubernetes policies, through `go/netpol-analyzer`.

What it does wrong or not at all, and what is done about it (each has a test that shows it still does):
- `ipBlock` never matches a pod (pkg/netpol/eval/internal/k8s/netpol.go): compared with a judge told the same.
- A named port towards an address is refused (the same file): such rules are split, names for pods, the rest for addresses.
- A pod's port name has one protocol (pod.go, `ConvertPodNamedPort`): where a name has several, each gets its own name.
- IPv6 addresses are nobody, even where everybody is meant: only pairs of IPv4 are compared. The block `::/0` matches every IPv4
  address: it is taken out.
- What it lists as a connection holds the ports that are blocked, too: the Go program asks each range.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from tests.oracles.cases import Case
from tests.oracles.kubernetes_policies import SIDES, Json, rules, types
from tests.oracles.lines import Program, Verdicts
from tests.oracles.worlds import Port, World

ANY_POD: Json = {"namespaceSelector": {}}


def verdicts(program: Program, one: Case) -> Verdicts:
    """Return the verdicts on the pairs of `judged`; `ipBlock` matches addresses outside only."""
    return program.verdicts(suited(one))


def judged(one: Case) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return, for each pair of a case, whether it is compared."""
    return np.array([one.world.ends[left].family == 4 for left, _ in one.world.pairs], np.bool_)


def suited(one: Case) -> Case:
    """Return the case, changed where netpol-analyzer would go wrong."""
    world = one.world
    if one.dual:
        pods = tuple(replace(pod, addresses=pod.addresses[:1]) for pod in world.pods)
        world = World(
            world.namespaces, pods, tuple(end.address for end in world.ends if end.pod < 0 and end.family == 4)
        )
        one = replace(one, world=world, policies=tuple(map(_without_all_of_ipv6, one.policies)))
    clashing = {port.name for pod in world.pods for port in pod.ports if _protocols(pod.ports, port.name) > 1}
    if clashing:
        pods = tuple(replace(pod, ports=tuple(_renamed(port, clashing) for port in pod.ports)) for pod in world.pods)
        one = replace(one, world=replace(world, pods=pods))
    policies = []
    for policy in one.policies:
        spec = dict(policy["spec"])
        for direction in SIDES:
            if spec.get(direction):
                given = [_with_names(rule, clashing) for rule in spec[direction]]
                spec[direction] = [part for rule in given for part in _split(rule, direction)]
        if not spec.get("egress"):
            # Taking the last rule out must not take the isolation out.
            spec["policyTypes"] = types(policy)
        policies.append(policy | {"spec": spec})
    return replace(one, policies=tuple(policies))


def _protocols(ports: tuple[Port, ...], name: str) -> int:
    return len({port.protocol for port in ports if port.name == name})


def _renamed(port: Port, names: set[str]) -> Port:
    return replace(port, name=f"{port.name}-{port.protocol.lower()}") if port.name in names else port


def _with_names(rule: Json, names: set[str]) -> Json:
    if not rule.get("ports"):
        return rule
    renamed = [
        port | {"port": f"{port['port']}-{port.get('protocol', 'TCP').lower()}"} if port.get("port") in names else port
        for port in rule["ports"]
    ]
    return rule | {"ports": renamed}


def _split(rule: Json, direction: str) -> list[Json]:
    """Return an egress rule with named ports as rules that ask them of pods only; any other as it is."""
    ports = rule.get("ports") or []
    if direction == "ingress" or not any(isinstance(port.get("port"), str) for port in ports):
        return [rule]
    peers = rule.get("to") or []
    pods = [peer for peer in peers if "ipBlock" not in peer] if peers else [ANY_POD]
    addresses = [peer for peer in peers if "ipBlock" in peer]
    plain = [port for port in ports if not isinstance(port.get("port"), str)]
    found: list[Json] = [{"to": pods, "ports": ports}] if pods else []
    if plain and (addresses or not peers):
        found.append({"to": addresses, "ports": plain})
    return found


def _without_all_of_ipv6(policy: Json) -> Json:
    """Return the policy without blocks `::/0`, and without rules that have nothing else."""
    spec = dict(policy["spec"])
    for direction, side in SIDES.items():
        kept = []
        for rule in [rule for found, rule in rules(policy) if found == direction]:
            peers = [peer for peer in rule.get(side) or [] if peer.get("ipBlock", {}).get("cidr") != "::/0"]
            if peers or not rule.get(side):
                kept.append(rule | ({side: peers} if side in rule else {}))
        if spec.get(direction):
            spec[direction] = kept
    return policy | {"spec": spec | {"policyTypes": types(policy)}}
