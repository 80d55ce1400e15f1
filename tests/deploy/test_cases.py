"""Edges judged in columns come to what judging them one by one does: every end, time, backend and way in plain loops."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.cases import LABELS, Cases
from deploy.policies import engines_for
from deploy.population import Population
from deploy.recorded import Dialled, Edges, End, edges
from deploy.semantics.deciding import OUTCOMES
from deploy.semantics.ends import Endpoint, Lens
from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import Profile
from deploy.semantics.rules import DIRECTIONS
from deploy.semantics.traffic import Connection
from deploy.semantics.verdicts import Court, judge_half
from recorder.store import Recording
from tests.deploy.world import calico, kubernetes, policies
from tests.recordings import Story, moment

ROUNDS = 12
SEVERITY = ("allowed", "undetermined", "denied")


def story(dice: random.Random) -> Story:
    """Return a small cluster in which much changes while pods talk."""
    found = Story()
    for namespace in ("shop", "mon"):
        found.add("Namespace", namespace, {"metadata": {"labels": {"zone": "old"}}}, end=150)
        found.add("Namespace", namespace, {"metadata": {"labels": {"zone": dice.choice(("old", "new"))}}}, start=150)
    names = []
    for number in range(6):
        name = f"{dice.choice(('shop', 'mon'))}/p{number}"
        end = dice.choice((None, None, 200))
        found.pod(
            name,
            owner=f"Deployment/{dice.choice(('web', 'db'))}",
            labels={"app": dice.choice("ab"), "tier": dice.choice("xy")},
            ports=[("main", 80, "TCP")],
            node=dice.choice(("node-a", "node-b")),
            host_network=dice.random() < 0.1,
            end=end,
        )
        if end is None and dice.random() < 0.4:
            identity = found.pods[name]
            found.pod(
                name,
                owner=f"{identity.owner_kind}/{identity.owner_name}",
                labels={"app": dice.choice("ab")},
                ports=[("main", 80, "TCP")],
                node=str(identity.node),
                start=120,
            )
        names.append(name)
    for number, namespace in enumerate(("shop", "mon")):
        for start, end in ((0, 140), (140, None)):
            backends = [name for name in names if name.startswith(namespace) and dice.random() < 0.6]
            selector = {"app": dice.choice("ab")}
            found.service(
                f"{namespace}/svc",
                port=80 + number,
                target=80,
                selector=selector,
                backends=backends,
                start=start,
                end=end,
            )
    for _ in range(25):
        source, target = dice.choice(names), dice.choice(names)
        kind = dice.randrange(9)
        other = {
            0: "203.0.113.7",
            1: "203.0.113.0/25",
            2: "node/node-a",
            3: "service/shop/svc",
            4: "unresolved/10.0.9.9",
        }.get(kind, target)
        more: dict[str, Any] = {"service": "shop/svc"} if kind == 5 else {}
        if kind == 6:
            more = {"snat_ip": "192.168.0.1"}
        if kind == 7:
            source, other = "node/node-b", target
        at = sorted(dice.choice((5, 65, 125, 185, 245)) for _ in range(dice.randint(1, 2)))
        sides = ["src"] if kind in (3, 5) else dice.choice((["src", "dst"], ["src"], ["dst"]))
        protocol = dice.choice(("tcp", "tcp", "udp", "icmp"))
        port = None if protocol == "icmp" else dice.choice((80, 81))
        icmp = (8, 0) if protocol == "icmp" else None
        if kind == 3:
            protocol, port, icmp = "tcp", 80, None
        found.talk(source, other, port, at=at, protocol=protocol, icmp=icmp, sides=sides, **more)
    return found


def rules(dice: random.Random) -> PolicySet:
    """Return a few policies of two dialects that look at labels, namespaces, blocks and port names."""
    text = ""
    for number in range(dice.randint(1, 3)):
        namespace = dice.choice(("shop", "mon"))
        peer = dice.choice(
            (
                "{podSelector: {matchLabels: {app: a}}}",
                "{namespaceSelector: {matchLabels: {zone: old}}}",
                "{namespaceSelector: {}, podSelector: {matchLabels: {tier: x}}}",
                "{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.64/26]}}",
                "{ipBlock: {cidr: 10.0.0.0/8}}",
            )
        )
        ports = dice.choice(("", ", ports: [{port: 80}]", ", ports: [{port: main}]"))
        direction, side = dice.choice((("ingress", "from"), ("egress", "to")))
        selector = dice.choice(("{}", "{matchLabels: {app: b}}"))
        text += kubernetes(
            f"podSelector: {selector}\npolicyTypes: [{direction.title()}]\n{direction}: [{{{side}: [{peer}]{ports}}}]",
            f"k{number}",
            namespace,
        )
    if dice.random() < 0.3:
        text += calico(
            "selector: app == 'a'\norder: 10\ningress: [{action: Deny, source: {selector: tier == 'y'}}, {action: Pass}]"
        )
    return policies(text).enforced("enforced")


class Plain:
    """Judges one edge at a time."""

    def __init__(self, given: PolicySet, profiles: tuple[Profile, ...], population: Population) -> None:
        self.given = given
        self.profiles = profiles
        self.population = population

    def ends(self, end: End, first: int, last: int) -> tuple[list[Endpoint], Endpoint]:
        """Return everybody an end was between two times, and who it is now."""
        pod = self.population.pods.get(end.id or "") if end.kind == "pod" else None
        if pod is not None:
            then = [one.endpoint for one in self.population.then(pod, end.ip) if one.start <= last and one.stop > first]
            return then, self.population.now(pod, end.ip)
        kind = end.kind if end.kind in ("node", "external", "apiserver") else "unknown"
        ip = None if end.kind == "service" else end.ip
        found = Endpoint(kind, ip=ip, name=(end.id or "") if kind == "node" else "")
        return [found], found

    def targets(self, found: Edges, row: int) -> list[tuple[End, Connection]]:
        """Return what an edge may have reached."""
        end, asked = found.ends[found.destination[row]], found.connections[found.connection[row]]
        if end.kind != "service":
            return [(end, asked)]
        first, last = int(found.first_seen[row]), int(found.last_seen[row])
        reached = {
            (one.address, one.port): (End(one.kind, one.address, one.id), replace(asked, port=one.port))
            for one in self.population.backends(end.id or "", asked.port, asked.protocol)
            if one.start <= last and one.stop > first
        }
        return list(reached.values()) or [(end, replace(asked, port=None))]

    def half(self, found: Edges, row: int, direction: str) -> tuple[str, str, bool]:
        """Return (outcome, labels, whether backends differ) of one half of an edge."""
        first, last = int(found.first_seen[row]), int(found.last_seen[row])
        lefts, left_now = self.ends(found.ends[found.source[row]], first, last)
        targets = self.targets(found, row)
        then, now = [], []
        for end, asked in targets:
            rights, right_now = self.ends(end, first, last)
            for way in self.ways(found, row):
                then += [self.one(found, row, direction, one, other, asked, way) for one in lefts for other in rights]
                now.append(self.one(found, row, direction, left_now, right_now, asked, way))
        results = []
        for outcomes in (then, now):
            split = len(targets) > 1 and len(set(outcomes)) > 1
            results.append(("undetermined" if split else max(outcomes, key=SEVERITY.index), split))
        (one, split), (other, split_now) = results
        if one == other:
            return one, "both", split
        worse_then = SEVERITY.index(one) > SEVERITY.index(other)
        return (one, "then", split) if worse_then else (other, "now", split_now)

    def ways(self, found: Edges, row: int) -> Iterator[Dialled | None]:
        """Yield what was dialled on the way."""
        addresses, edge, number = found.dialled
        numbers = number[edge == row].tolist() or [-1]
        yield from (None if one < 0 else addresses[one] for one in numbers)

    def one(
        self,
        found: Edges,
        row: int,
        direction: str,
        source: Endpoint,
        target: Endpoint,
        asked: Connection,
        way: Dialled | None,
    ) -> str:
        """Return one verdict."""
        if direction == "ingress" and found.translated[row]:
            source = replace(source, translated=True)
        if way is None or direction == "ingress" or not any(one.before_dnat for one in self.profiles):
            return judge_half(self.given, self.profiles, direction, source, target, asked).outcome
        address = Endpoint("external", ip=way.ip)
        as_address = judge_half(
            self.given, self.profiles, direction, source, address, replace(asked, port=way.port)
        ).outcome
        selector = self.population.selector(way.service, way.ip)
        if selector is None:
            return as_address
        namespace = str(way.service).partition("/")[0]
        service = Endpoint(
            "pod",
            "",
            namespace=namespace,
            labels=selector,
            namespace_labels=self.population.namespace_labels(namespace),
            ports=target.ports,
        )
        as_service = judge_half(self.given, self.profiles, direction, source, service, asked).outcome
        outcome = min((as_service, as_address), key=SEVERITY.index)
        # A pod that comes back to itself is the engine's business, whatever it dialled.
        return "undetermined" if outcome == "denied" and source.name == target.name else outcome


@pytest.mark.parametrize("profile", ["calico", "npm", "aws", "kube-router", "cilium"])
def test_columns_come_to_what_plain_loops_do(tmp_path: Path, profile: str) -> None:
    """Every half of every edge has the same outcome under the same labels; all outcomes occur, and labels that differ."""
    seen: set[tuple[str, str]] = set()
    compared = 0
    for number in range(ROUNDS):
        dice = random.Random(f"{profile} {number}")  # noqa: S311 - a seed, no secret
        recording = Recording.open(story(dice).write(tmp_path / str(number)))
        given = rules(dice)
        if "calico" in given.dialects() and profile != "calico":
            given = replace(given, policies=tuple(one for one in given.policies if one.dialect != "calico"))
        engines = engines_for(profile, [given])
        population = Population.of(recording)
        found = edges(recording, population, dialled=True)
        cases = Cases(found, population, Lens.of([given]))
        court = Court(given, engines, cases.ends, cases.connections, cases.known_services)
        plain = Plain(given, engines, population)
        for direction in DIRECTIONS:
            halves = cases.halves(court, direction)
            for row in range(len(found)):
                mine = (OUTCOMES[halves.outcome[row]], LABELS[halves.labels[row]], bool(halves.split[row]))
                assert mine == plain.half(found, row, direction), (number, direction, row)
                seen.add(mine[:2])
                compared += 1
    assert compared > 250
    assert {("allowed", "both"), ("denied", "both")} < seen
    assert {outcome for outcome, _ in seen} == set(SEVERITY)


def test_an_edge_is_judged_with_the_labels_of_all_its_time(tmp_path: Path) -> None:
    """Seen before and after its namespace changed, an edge is allowed only when both labels allow it."""
    found = Story()
    found.add("Namespace", "shop", {"metadata": {"labels": {"zone": "old"}}}, end=100)
    found.add("Namespace", "shop", {"metadata": {"labels": {"zone": "new"}}}, start=100)
    found.pod("shop/web-1", labels={"app": "web"})
    found.pod("shop/db-1", labels={"app": "db"})
    found.talk("shop/web-1", "shop/db-1", 80, at=[1, 121])
    recording = Recording.open(found.write(tmp_path / "r"))
    given = policies(kubernetes("ingress: [{from: [{namespaceSelector: {matchLabels: {zone: new}}}]}]"))
    population = Population.of(recording)
    some = edges(recording, population)
    assert (some.first_seen.tolist(), some.last_seen.tolist()) == ([moment(1)], [moment(121)])
    cases = Cases(some, population, Lens.of([given]))
    court = Court(given, engines_for("calico", [given]), cases.ends, cases.connections)
    halves = cases.halves(court, "ingress")
    assert (OUTCOMES[halves.outcome[0]], LABELS[halves.labels[0]]) == ("denied", "then")
    assert len(cases) == len(np.unique(np.stack([cases.left, cases.right, cases.connection]), axis=1).T)
