"""Edges judged in columns come to what judging them one by one does: every end, time, backend and way in plain loops."""

import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from deploy import Replay, replay
from deploy.cases import LABELS, Cases
from deploy.policies import engines_for
from deploy.population import Population
from deploy.recorded import edges
from deploy.semantics.deciding import OUTCOMES
from deploy.semantics.ends import Lens
from deploy.semantics.policyset import PolicySet
from deploy.semantics.rules import DIRECTIONS
from deploy.semantics.verdicts import Court
from learner.patterns import Learned
from recorder.store import Recording
from tests.deploy.edge_stories import Stories, written
from tests.deploy.plain_edges import SEVERITY, Half, Plain, named
from tests.deploy.test_replay import pattern
from tests.deploy.world import kubernetes, policies
from tests.recordings import Story, moment

ROUNDS = float(os.environ.get("PODFENCE_EDGE_ROUNDS", "1"))
"""How many times the usual number of random recordings is judged."""
Key = tuple[str, str, str, int | None, str | None]


def recorded(dice: random.Random, folder: Path, profile: str, existing: str = "") -> Recording:
    """Return a random recording, with policies in its inventory."""
    story = Stories(dice, varied=profile == "calico").tell()
    for one in yaml.safe_load_all(existing):
        if one is not None:
            metadata = one["metadata"]
            story.add(one["kind"], f"{metadata['namespace']}/{metadata['name']}", one)
    return Recording.open(story.write(folder))


def halves(recording: Recording, given: PolicySet, profile: str) -> tuple[Plain, list[dict[str, Half]]]:
    """Return what columns say of the halves of every edge, and who says it in plain loops."""
    engines = engines_for(profile, [given])
    population = Population.of(recording)
    found = edges(recording, population, dialled=True)
    cases = Cases(found, population, Lens.of([given]))
    court = Court(given, engines, cases.ends, cases.connections, cases.known_services)
    rows: list[dict[str, Half]] = [{} for _ in range(len(found))]
    for direction in DIRECTIONS:
        half = cases.halves(court, direction)
        for row, kept in enumerate(rows):
            outcome, labels = OUTCOMES[half.outcome[row]], LABELS[half.labels[row]]
            kept[direction] = Half(outcome, labels, bool(half.split[row]))
    return Plain(given, engines, population, found), rows


@pytest.mark.parametrize(
    ("profile", "rounds"), [("calico", 10), ("aws", 8), ("strict", 3), ("npm", 3), ("kube-router", 4), ("cilium", 4)]
)
def test_columns_come_to_what_plain_loops_do(tmp_path: Path, profile: str, rounds: int) -> None:
    """Every half of every edge has the same outcome under the same labels, split by the same Services; all of them occur."""
    seen = Counter[Half]()
    for number in range(int(rounds * ROUNDS)):
        dice = random.Random(f"{profile} {number}")  # noqa: S311 - a seed, no secret
        recording = recorded(dice, tmp_path / str(number), profile)
        given = policies(written(dice, dialects=2 if profile == "calico" else 1))
        plain, rows = halves(recording, given, profile)
        for row, columns in enumerate(rows):
            wanted = {direction: plain.half(row, direction) for direction in DIRECTIONS}
            assert columns == wanted, (number, row)
            seen.update(wanted.values())
    assert {one.outcome for one in seen} == set(SEVERITY)
    assert len({one.labels for one in seen}) > 1
    assert any(one.split for one in seen)
    assert sum(seen.values()) > 30 * rounds


class Told:
    """What `replay` should tell, added up in plain loops."""

    def __init__(self, plain: Plain, learned: Learned) -> None:
        self.plain = plain
        self.edges = plain.edges
        self.rows = range(len(plain.edges))
        pods = {pod.id: pod for pod in plain.pods}
        self.keys = [self._key(row, pods) for row in self.rows]
        self.lively: dict[Key, bool] = defaultdict(bool)
        for row, key in enumerate(self.keys):
            self.lively[key] |= bool(self.edges.lively[row])
        self.decisions = {
            (one.source, one.destination, one.protocol, one.port, None): one.decision for one in learned.patterns
        }

    def _key(self, row: int, pods: dict[str, Any]) -> Key:
        """Return the names that an edge is told by: the one workload behind a Service, else the Service."""
        edges_ = self.edges
        asked = edges_.connections[edges_.connection[row]]
        target, port = named(edges_.ends[edges_.destination[row]], pods), asked.port
        behind = {(named(end, pods), one.port) for ends, one in self.plain.targets(row) for end in ends}
        if len(behind) == 1 and None not in next(iter(behind)):
            target, port = next(iter(behind))
        icmp = None if asked.icmp_type is None else f"{asked.icmp_type}/{asked.icmp_code}"
        return named(edges_.ends[edges_.source[row]], pods), target, asked.protocol, port, icmp

    def _excused(self, key: Key) -> bool:
        decision = self.decisions.get(key)
        return decision in ("queue", "reject") or (decision is None and not self.lively[key])

    def halves(self, plain: Plain) -> dict[tuple[int, str], Half]:
        """Return what becomes of the halves that were recorded."""
        return {
            (row, direction): plain.half(row, direction)
            for row in self.rows
            for direction in DIRECTIONS
            if getattr(self.edges, direction)[row]
        }

    def counts(self, found: dict[tuple[int, str], Half]) -> tuple[Counter[str], Counter[str]]:
        """Return how many edges between workloads, and how many connections, met which outcome."""
        worst = ["allowed" for _ in self.rows]
        for (row, _), half in found.items():
            worst[row] = max(worst[row], half.outcome, key=SEVERITY.index)
        by_key: dict[Key, str] = {}
        connections = Counter[str]()
        for row, key in enumerate(self.keys):
            by_key[key] = max(by_key.get(key, "allowed"), worst[row], key=SEVERITY.index)
            connections[self.named(worst[row], key)] += int(self.edges.answered[row])
        return Counter(self.named(outcome, key) for key, outcome in by_key.items()), connections

    def named(self, outcome: str, key: Key) -> str:
        """Return an outcome as it counts."""
        return "expected" if outcome == "denied" and self._excused(key) else outcome

    def findings(self, found: dict[tuple[int, str], Half]) -> dict[Any, list[int]]:
        """Return connections, attempts, first and last time of what is not allowed, by all that tells it apart."""
        return self.summed(
            (row, (self.named(half.outcome, key), key, direction, half.labels, half.split, self.decisions.get(key)))
            for (row, direction), half in found.items()
            if half.outcome != "allowed"
            for key in [self.keys[row]]
        )

    def summed(self, rows: Iterable[tuple[int, Any]]) -> dict[Any, list[int]]:
        """Add edges up."""
        found: dict[Any, list[int]] = {}
        for row, key in rows:
            answered, attempts, first, last = (
                int(getattr(self.edges, name)[row]) for name in ("answered", "attempts", "first_seen", "last_seen")
            )
            held = found.setdefault(key, [0, 0, first, last])
            held[:] = [held[0] + answered, held[1] + attempts, min(held[2], first), max(held[3], last)]
        return found


def told(result: Replay) -> dict[Any, list[int]]:
    """Return what a replay tells of all that is not allowed, as `Told.findings` does."""
    found: dict[Any, list[int]] = {}
    for name in ("denied", "expected", "undetermined"):
        for one in getattr(result, name):
            key = one.source, one.destination, one.protocol, one.port, one.icmp
            split = one.reason == "service-backends"
            held = found.setdefault(
                (name, key, one.half, one.labels, split, one.decision), [0, 0, one.first_seen, one.last_seen]
            )
            held[:] = [
                held[0] + one.connections,
                held[1] + one.attempts,
                min(held[2], one.first_seen),
                max(held[3], one.last_seen),
            ]
    return found


@pytest.mark.parametrize(("profile", "rounds"), [("calico", 6), ("aws", 5)])
def test_a_replay_adds_up_what_plain_loops_do(tmp_path: Path, profile: str, rounds: int) -> None:
    """Edges and connections by outcome, findings, what passes only by the cluster's own policies, and what changes."""
    seen = Counter[str]()
    for number in range(int(rounds * ROUNDS)):
        dice = random.Random(f"replay {profile} {number}")  # noqa: S311 - a seed, no secret
        dialects = 2 if profile == "calico" else 1
        own, text = written(dice, dialects=dialects, prefix="e"), written(dice, dialects=dialects)
        recording = recorded(dice, tmp_path / str(number), profile, own)
        present, given = policies(own), policies(text)
        both = PolicySet((*present.policies, *given.policies))
        population = Population.of(recording)
        engines = engines_for(profile, [both])
        found = edges(recording, population, dialled=True)
        plain, alone, before = (Plain(one, engines, population, found) for one in (both, given, present))
        keys = sorted(set(Told(plain, Learned("test", (), ())).keys), key=str)
        learned = Learned(
            "test", (), tuple(_decided(dice, key) for key in keys if key[4] is None and dice.random() < 0.4)
        )
        wanted = Told(plain, learned)
        result = replay(recording, given, profile=profile, existing=True, learned=learned)
        after, lone, earlier = (wanted.halves(one) for one in (plain, alone, before))
        counts = wanted.counts(after)
        assert (result.edges, result.connections) == tuple({kind: one[kind] for kind in result.edges} for one in counts)
        assert told(result) == wanted.findings(after)
        borrowed = wanted.summed(
            (row, (wanted.keys[row], direction))
            for (row, direction), half in after.items()
            if half.outcome == "allowed" and lone[row, direction].outcome == "denied"
        )
        assert _added(result.borrowed) == {key: sums[:2] for key, sums in borrowed.items()}
        changes = wanted.summed(
            (row, (wanted.keys[row], direction, earlier[row, direction].outcome, half.outcome))
            for (row, direction), half in after.items()
            if half.outcome != earlier[row, direction].outcome
        )
        assert _added(result.changes or (), "before", "after") == {key: sums[:2] for key, sums in changes.items()}
        seen.update(counts[0] + Counter({"borrowed": len(borrowed), "changes": len(changes)}))
    assert min(seen[one] for one in (*SEVERITY, "expected", "changes")) > 0
    assert seen["borrowed"] > 0 or profile != "calico"


def _decided(dice: random.Random, key: Key) -> Any:
    decision = dice.choice(("accept", "queue", "reject"))
    return replace(pattern(key[0], key[1], 80, decision, protocol=key[2]), port=key[3])


def _added(found: Iterable[Any], *more: str) -> dict[Any, list[int]]:
    """Return connections and attempts of findings or changes, by edge, half and more."""
    sums: dict[Any, list[int]] = {}
    for one in found:
        key = one.source, one.destination, one.protocol, one.port, one.icmp
        held = sums.setdefault((key, one.half, *(getattr(one, name) for name in more)), [0, 0])
        held[:] = [held[0] + one.connections, held[1] + one.attempts]
    return sums


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
    half = cases.halves(court, "ingress")
    assert (OUTCOMES[half.outcome[0]], LABELS[half.labels[0]]) == ("denied", "then")
    assert len(cases) == len(np.unique(np.stack([cases.left, cases.right, cases.connection]), axis=1).T)


@pytest.mark.parametrize(("at", "wanted"), [([5], "denied"), ([125], "allowed"), ([5, 125], "denied")])
def test_a_backend_has_the_labels_of_the_time(tmp_path: Path, at: list[int], wanted: str) -> None:
    """What a dialled Service led to is judged with the labels its pod had then, not with those of the end of its slice."""
    found = Story()
    found.namespace("shop")
    found.pod("shop/web", labels={"app": "web"})
    found.pod("shop/db", owner="Deployment/db", labels={"app": "db", "ready": "no"})
    found.service("shop/svc", port=80, backends=["shop/db"])
    found.talk("shop/web", "service/shop/svc", 80, at=at, sides=["src"])
    found.pod("shop/db", owner="Deployment/db", labels={"app": "db", "ready": "yes"}, start=100)
    given = policies(
        kubernetes("policyTypes: [Egress]\negress: [{to: [{podSelector: {matchLabels: {ready: 'yes'}}}]}]")
    )
    _, (half,) = halves(Recording.open(found.write(tmp_path / "r")), given, "calico")
    assert half["egress"] == Half(wanted, "both" if wanted == "allowed" else "then", split=False)
