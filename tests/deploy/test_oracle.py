"""Random policies over random pods, judged by podfence and by network-config-analyzer 2.1.0: no difference is allowed.

Left out, for the analyzer is wrong about them: peers with a namespaceSelector and `Exists`/`DoesNotExist` on pods, absent
policyTypes beside `egress: []`, and rules of a direction that is not among the types.
"""

import ipaddress
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.semantics import manifests
from deploy.semantics.profiles import profile
from deploy.semantics.rules import ContainerPort
from deploy.semantics.verdicts import Endpoint, Policies, judge_half

CASES = 60
RUNNER = Path(__file__).with_name("oracle_runner.py")
KEYS, VALUES = ("app", "env", "tier"), ("a", "b", "c")
ADDRESSES = ("203.0.113.1", "203.0.113.9", "203.0.113.200", "198.51.100.7", "8.8.8.8")
BLOCKS = (
    ("203.0.113.0/24", ("203.0.113.8/29", "203.0.113.128/25")),
    ("203.0.112.0/20", ("203.0.113.0/24",)),
    ("198.51.100.0/24", ()),
    ("8.0.0.0/7", ("8.8.0.0/16",)),
)
PORTS = (80, 81, 443, 8080, 9000)
HARMLESS = re.compile(r":\d+: Warning: .*(selects|policyTypes|redundant|contain|better|Better|range)")
"""Warnings of the analyzer about style in policies that it did read."""
ASKED = [(protocol, port) for protocol in ("tcp", "udp", "sctp") for port in (79, *PORTS, 9005)]


def labels(dice: random.Random) -> dict[str, str]:
    """Return random labels."""
    return {key: dice.choice(VALUES) for key in KEYS if dice.random() < 0.6}


def topology(dice: random.Random) -> list[dict[str, Any]]:
    """Return random namespaces with random pods."""
    found: list[dict[str, Any]] = []
    for namespace in ("one", "two", "three")[: dice.randint(1, 3)]:
        given = labels(dice) | {"kubernetes.io/metadata.name": namespace}
        found.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": given}})
        for number in range(dice.randint(1, 3)):
            ports = [
                {"name": name, "containerPort": dice.choice(PORTS), "protocol": protocol}
                for name, protocol in (("web", "TCP"), ("dns", "UDP"), ("alt", "TCP"))
                if dice.random() < 0.6
            ]
            found.append(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"p{number}", "namespace": namespace, "labels": labels(dice)},
                    "spec": {"containers": [{"name": "c", "ports": ports}]},
                    "status": {"podIP": f"10.0.{len(found)}.1", "hostIP": "192.168.0.1"},
                }
            )
    return found


def some(dice: random.Random, make: Any, low: int, high: int) -> list[Any]:
    """Return a random number of random things."""
    return [make(dice) for _ in range(dice.randint(low, high))]


def selector(
    dice: random.Random, operators: tuple[str, ...] = ("In", "NotIn", "Exists", "DoesNotExist")
) -> dict[str, Any]:
    """Return a random label selector."""
    found: dict[str, Any] = {}
    if dice.random() < 0.5:
        found["matchLabels"] = {dice.choice(KEYS): dice.choice(VALUES)}
    if dice.random() < 0.4:
        operator = dice.choice(operators)
        values = {"values": dice.sample(VALUES, dice.randint(1, 2))} if operator in ("In", "NotIn") else {}
        found["matchExpressions"] = [{"key": dice.choice(KEYS), "operator": operator} | values]
    return found


def peer(dice: random.Random) -> dict[str, Any]:
    """Return a random NetworkPolicy peer."""
    kind = dice.randrange(4)
    if kind == 0:
        return {"podSelector": selector(dice)}
    if kind == 1:
        return {"namespaceSelector": selector(dice)}
    if kind == 2:
        return {"namespaceSelector": selector(dice), "podSelector": selector(dice, ("In", "NotIn"))}
    cidr, holes = dice.choice(BLOCKS)
    kept = [hole for hole in holes if dice.random() < 0.5]
    return {"ipBlock": {"cidr": cidr} | ({"except": kept} if kept else {})}


def port(dice: random.Random) -> dict[str, Any]:
    """Return a random NetworkPolicy port."""
    protocol = dice.choice((None, "TCP", "UDP", "SCTP"))
    found: dict[str, Any] = {"protocol": protocol} if protocol else {}
    kind = dice.randrange(5)
    if kind == 1 and protocol != "SCTP":
        return found | {"port": dice.choice(("web", "alt") if protocol != "UDP" else ("dns",))}
    if kind == 2:
        return found | {"port": 8000, "endPort": dice.choice((8080, 9000))}
    return found | ({"port": dice.choice(PORTS)} if kind else {})


def rule(side: str) -> Any:
    """Return a maker of random rules."""

    def make(dice: random.Random) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if dice.random() < 0.85:
            found[side] = some(dice, peer, 1, 2)
        if dice.random() < 0.7:
            found["ports"] = some(dice, port, 1, 2)
        return found

    return make


def kubernetes_policy(dice: random.Random, name: str, namespace: str) -> dict[str, Any]:
    """Return a random NetworkPolicy."""
    types = dice.choice((None, ["Ingress"], ["Egress"], ["Ingress", "Egress"]))
    spec: dict[str, Any] = {"podSelector": selector(dice)} | ({"policyTypes": types} if types else {})
    for direction, side in (("Ingress", "from"), ("Egress", "to")):
        if (types is None or direction in types) and dice.random() < 0.8:
            rules = some(dice, rule(side), 0 if types else 1, 2)
            spec[direction.lower()] = rules
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def expression(dice: random.Random, depth: int = 2) -> str:
    """Return a random Calico selector."""
    key, value = dice.choice(KEYS), dice.choice(VALUES)
    kind = dice.randrange(8 if depth else 5)
    plain = (
        f"{key} == '{value}'",
        f"{key} != '{value}'",
        f"has({key})",
        f"{key} in {{'{value}', 'c'}}",
        f"{key} not in {{'{value}', 'c'}}",
    )
    if kind < len(plain):
        return plain[kind]
    if kind == 5:
        return f"!({expression(dice, depth - 1)})"
    sign = "&&" if kind == 6 else "||"
    return f"({expression(dice, depth - 1)} {sign} {expression(dice, depth - 1)})"


def entity(dice: random.Random) -> dict[str, Any]:
    """Return a random Calico entity rule."""
    kind = dice.randrange(5)
    if kind == 0:
        return {}
    if kind == 1:
        cidr, holes = dice.choice(BLOCKS)
        return {"nets": [cidr]} | ({"notNets": list(holes)} if holes and dice.random() < 0.5 else {})
    found = {"selector": expression(dice)} if kind != 3 else {}
    return found | ({"namespaceSelector": expression(dice, 1)} if kind >= 3 else {})


def calico_rule(direction: str) -> Any:
    """Return a maker of random Calico rules."""

    def make(dice: random.Random) -> dict[str, Any]:
        found: dict[str, Any] = {"action": dice.choice(("Allow", "Allow", "Deny"))}
        peers = {"ingress": "source", "egress": "destination"}[direction]
        chosen = entity(dice)
        if chosen:
            found[peers] = chosen
        if dice.random() < 0.7:
            found["protocol"] = dice.choice(("TCP", "UDP", "SCTP"))
            ports = dice.choice(([], [80], ["8000:9000", 443], [81, 8080]))
            if ports:
                kind = dice.choice(("ports", "ports", "notPorts"))
                found["destination"] = found.get("destination", {}) | {kind: ports}
        return found

    return make


def calico_policy(dice: random.Random, name: str, namespace: str) -> dict[str, Any]:
    """Return a random Calico NetworkPolicy."""
    types = dice.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
    spec: dict[str, Any] = {"selector": dice.choice(("all()", expression(dice))), "types": types}
    # The analyzer reads an order with a fraction as text; distinct ones keep ties out.
    spec["order"] = dice.choice((1, 2)) * 900 + int(name.removeprefix("np"))
    for direction in ("ingress", "egress"):
        if direction.capitalize() in types and dice.random() < 0.85:
            spec[direction] = some(dice, calico_rule(direction), 1, 3)
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def policies(dice: random.Random, kind: str, namespaces: list[str]) -> list[dict[str, Any]]:
    """Return random policies of a kind."""
    found = []
    for number in range(dice.randint(1, 4)):
        make = {"kubernetes": kubernetes_policy, "calico": calico_policy}.get(kind)
        make = make or dice.choice((kubernetes_policy, calico_policy))
        found.append(make(dice, f"np{number}", dice.choice(namespaces)))
    return found


class Told:
    """The analyzer's connectivity map."""

    def __init__(self, lines: list[str]) -> None:
        self.map: dict[tuple[str, str], list[str]] = {}
        for line in lines:
            found = re.fullmatch(r"(\S+?)(?:\[Pod\])? => (\S+?)(?:\[Pod\])? : (.*)", line)
            if found:
                self.map.setdefault((found[1], found[2]), []).append(found[3])

    def allows(self, source: str, destination: str, protocol: str, number: int) -> bool:
        """Tell whether the map allows a connection."""
        return any(
            self.holds(cube, protocol.upper(), number)
            for (left, right), cubes in self.map.items()
            if self.means(left, source) and self.means(right, destination)
            for cube in cubes
        )

    @staticmethod
    def means(told: str, name: str) -> bool:
        """Tell whether an end of the map is, or holds, the one of this name."""
        first, dash, last = told.partition("-")
        if "/" in told or not (dash or "." in told):
            return told == name
        if "/" in name:
            return False
        address = ipaddress.ip_address(name)
        return ipaddress.ip_address(first) <= address <= ipaddress.ip_address(last or first)  # type: ignore[operator]

    @staticmethod
    def holds(cube: str, protocol: str, number: int) -> bool:
        """Tell whether a set of connections holds one."""
        if cube == "All connections":
            return True
        if cube.startswith("All but "):
            return not Told.holds(cube.removeprefix("All but "), protocol, number)
        for inner in re.findall(r"\{(.*?)\}", cube):
            fields = dict(re.findall(r"(\w+):(.*?)(?=,\w+:|$)", inner))
            assert set(fields) <= {"protocols", "dst_ports"}, cube
            if protocol in spread(fields.get("protocols", "TCP,UDP,SCTP")) and within(number, fields.get("dst_ports")):
                return True
        return False


def spread(text: str) -> set[str]:
    """Return the items of a list."""
    return {part.strip() for part in text.split(",")}


def within(number: int, text: str | None) -> bool:
    """Tell whether a port is in a list of ranges."""
    if text is None:
        return True
    spans = [part.strip().partition("-") for part in text.split(",")]
    return any(int(first) <= number <= int(last or first) for first, _, last in spans)


def ends(objects: list[dict[str, Any]]) -> dict[str, Endpoint]:
    """Return the ends that a topology and the addresses outside make."""
    names = {one["metadata"]["name"]: one["metadata"]["labels"] for one in objects if one["kind"] == "Namespace"}
    found: dict[str, Endpoint] = {ip: Endpoint("external", ip=ip) for ip in ADDRESSES}
    for one in objects:
        if one["kind"] == "Pod":
            metadata = one["metadata"]
            found[f"{metadata['namespace']}/{metadata['name']}"] = Endpoint(
                kind="pod",
                ip=one["status"]["podIP"],
                name=f"{metadata['namespace']}/{metadata['name']}",
                namespace=metadata["namespace"],
                labels=tuple(sorted(metadata["labels"].items())),
                namespace_labels=tuple(sorted(names[metadata["namespace"]].items())),
                ports=tuple(
                    ContainerPort(port["name"], port["containerPort"], port["protocol"].lower())
                    for port in one["spec"]["containers"][0]["ports"]
                ),
            )
    return found


@pytest.mark.parametrize("kind", ["kubernetes", "calico", "both"])
def test_the_judge_agrees_with_network_config_analyzer(tmp_path: Path, kind: str) -> None:
    """Over random pods and policies, both say the same of every pair, protocol and port."""
    worlds = []
    for number in range(CASES):
        dice = random.Random(f"{kind} {number}")  # noqa: S311 - a seed, no secret
        objects = topology(dice)
        namespaces = [one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"]
        folder = tmp_path / f"{number:03}"
        folder.mkdir()
        (folder / "topology.yaml").write_text(yaml.safe_dump_all(objects))
        written = policies(dice, kind, namespaces)
        (folder / "policies.yaml").write_text(yaml.safe_dump_all(written))
        worlds.append((folder, objects, len(written)))
    command = [sys.executable, "-W", "ignore", str(RUNNER), *(str(folder) for folder, _, _ in worlds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if not HARMLESS.search(line)]
    assert complaints == []
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == CASES
    compared = {True: 0, False: 0}
    for (folder, objects, count), answer in zip(worlds, answers, strict=True):
        assert (answer["policies"], answer["stderr"]) == (count, ""), folder
        told = Told(answer["lines"])
        judge = Policies(manifests.read([folder / "policies.yaml"]), profile("calico"))
        known = ends(objects)
        for left, source in known.items():
            for right, target in known.items():
                if left == right or "pod" not in (source.kind, target.kind):
                    continue
                for protocol, number in ASKED:
                    halves = [judge_half(judge, one, source, target, protocol, number) for one in ("egress", "ingress")]
                    assert {half.outcome for half in halves} <= {"allowed", "denied"}
                    mine = all(half.outcome == "allowed" for half in halves)
                    assert mine == told.allows(left, right, protocol, number), (
                        folder,
                        left,
                        right,
                        protocol,
                        number,
                        halves,
                    )
                    compared[mine] += 1
    # A comparison in which everything is allowed, or nothing, compares nothing.
    assert min(compared.values()) > 5000
