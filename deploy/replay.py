"""Says what policies would have done to recorded traffic: which needed connections they would have blocked."""

import ipaddress
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.population import Pod, Population
from deploy.recorded import Edge, End, edges, reading
from deploy.semantics import manifests
from deploy.semantics.profiles import profile as profile_named
from deploy.semantics.rules import Connection, Policy
from deploy.semantics.verdicts import ALLOWED, DENIED, UNDETERMINED, Endpoint, Policies, Verdict
from learner.patterns import Learned, Pattern
from recorder.errors import InputError
from recorder.records import SECOND
from recorder.store import Recording

SCHEMA_VERSION = 1
EXPECTED = "expected"
OUTCOMES = (ALLOWED, DENIED, EXPECTED, UNDETERMINED)
FAIL_ON = ("denied", "undetermined", "never")

_WORST_FIRST = (DENIED, UNDETERMINED, EXPECTED, ALLOWED)


@dataclass(frozen=True, slots=True)
class Finding:
    """One half of an edge between workloads that is not simply allowed.

    `half` is `egress` or `ingress`; `by` the object and rule that decide, or the first object that isolates; `labels` tells
    under which labels: those of `then`, those of `now`, or `both`; `decision` and `reasons` are what was learned about it.
    `connections` counts answered ones; times are microseconds since the epoch.
    """

    source: str
    destination: str
    protocol: str
    port: int | None
    icmp: str | None
    half: str
    by: str | None
    reason: str
    labels: str
    decision: str | None
    reasons: tuple[str, ...]
    connections: int
    attempts: int
    first_seen: int
    last_seen: int

    def json(self) -> dict[str, Any]:
        """Return it as it stands in the JSON."""
        found: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("source", "destination", "protocol", "port", "half", "by", "reason", "labels", "decision")
        }
        if self.icmp is not None:
            found["icmp"] = self.icmp
        return found | {
            "reasons": list(self.reasons),
            "connections": self.connections,
            "attempts": self.attempts,
            "first_seen": _rfc3339(self.first_seen),
            "last_seen": _rfc3339(self.last_seen),
        }


@dataclass(frozen=True, slots=True, order=True)
class Isolated:
    """A workload that policies isolate though the recording holds nothing of it: default-deny by silence."""

    workload: str
    directions: tuple[str, ...]
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """The verdict on a recording; plain data, rendered by the command line and the pull request."""

    profile: str
    policies: int
    edges: Mapping[str, int]
    connections: Mapping[str, int]
    denied: tuple[Finding, ...]
    expected: tuple[Finding, ...]
    undetermined: tuple[Finding, ...]
    isolated: tuple[Isolated, ...]
    fail_on: str = "denied"

    @property
    def failed(self) -> bool:
        """Tell whether this is a finding, by what was asked to be one."""
        if self.fail_on == "never":
            return False
        return bool(self.denied) or (self.fail_on == "undetermined" and bool(self.undetermined))

    def json(self) -> dict[str, Any]:
        """Return what `replay -o json` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "profile": self.profile,
            "policies": self.policies,
            "summary": {"edges": dict(self.edges), "connections": dict(self.connections)},
            "denied": [finding.json() for finding in self.denied],
            "expected": [finding.json() for finding in self.expected],
            "undetermined": [finding.json() for finding in self.undetermined],
            "isolated": [
                {"workload": one.workload, "directions": list(one.directions), "by": list(one.by)}
                for one in self.isolated
            ],
        }


def replay(
    recording: Recording | str | os.PathLike[str],
    policies: Iterable[str | os.PathLike[str] | Policy],
    *,
    profile: str = "strict",
    existing: bool = False,
    learned: Learned | str | os.PathLike[str] | None = None,
    fail_on: str = "denied",
) -> Replay:
    """Judge every recorded half under the policies, with labels as of then and as of now.

    `policies` are files, folders, `-`, or policies already read. `existing` adds the recording's own policies as they stood
    at its end; one that is given replaces its namesake. With `learned`, denied edges that were rejected or queued are
    expected; never-answered ones always are, unless accepted.

    Raises InputError (with all broken rules) or RecordingError.
    """
    if fail_on not in FAIL_ON:
        raise InputError(f"--fail-on {fail_on!r} is none of {', '.join(FAIL_ON)}")
    engine = profile_named(profile)
    opened = recording if isinstance(recording, Recording) else Recording.open(recording)
    given = _read(policies)
    with reading(opened):
        population = Population.of(opened)
    if existing:
        own = {policy.title: policy for policy in manifests.judge_objects(population.policies())}
        given = tuple((own | {policy.title: policy for policy in given}).values())
    book = learned if isinstance(learned, Learned) or learned is None else Learned.read(learned)
    court = _Court(Policies(given, engine), population)
    with reading(opened):
        for edge in edges(opened, population):
            court.hear(edge)
    return court.close(engine.name, Decisions.of(book), fail_on)


def _read(policies: Iterable[str | os.PathLike[str] | Policy]) -> tuple[Policy, ...]:
    listed = [policies] if isinstance(policies, str | Path) else list(policies)
    paths = [one for one in listed if not isinstance(one, Policy)]
    return (*(one for one in listed if isinstance(one, Policy)), *manifests.read(paths))


Key = tuple[str, str, str, int | None, str | None]
"""Source, destination, protocol, port and ICMP type/code: an edge between workloads."""


@dataclass(slots=True)
class _Tally:
    """What is known of one edge between workloads; `pairs` holds (outcome, connections) of its pairs of pods."""

    lively: bool = False
    outcome: str = ALLOWED
    pairs: list[tuple[str, int]] = field(default_factory=list)
    halves: dict[tuple[str, str | None, str, str], "_Half"] = field(default_factory=dict)


@dataclass(slots=True)
class _Half:
    """Pairs of pods whose half met the same end for the same reason."""

    outcome: str
    one_sided: bool = True
    connections: int = 0
    attempts: int = 0
    first_seen: int = 1 << 62
    last_seen: int = 0


@dataclass(frozen=True, slots=True)
class _Party:
    """One end, named and as it was then (several when labels of its namespace changed meanwhile) and is now."""

    name: str
    then: tuple[Endpoint, ...]
    now: Endpoint


class _Court:
    """Takes edges one by one; holds the tally."""

    def __init__(self, policies: Policies, population: Population) -> None:
        self.policies = policies
        self.population = population
        self.tallies: dict[Key, _Tally] = defaultdict(_Tally)
        self.heard: set[str] = set()
        self._parties: dict[tuple[End, int, int], _Party] = {}

    def hear(self, edge: Edge) -> None:
        """Judge an edge's halves and add it to the tally of its workloads."""
        source = self._party(edge.source, edge)
        targets = self._targets(edge)
        name, port = self._named(edge, targets)
        icmp = _icmp(edge)
        tally = self.tallies[source.name, name, edge.protocol, port, icmp]
        tally.lively |= edge.lively
        self.heard |= {source.name, name}
        outcome = ALLOWED
        for half, recorded, seen in (
            ("egress", edge.egress, edge.egress_seen),
            ("ingress", edge.ingress, edge.ingress_seen),
        ):
            if not recorded:
                continue
            result, labels, verdict = self._half(half, edge, source, targets)
            if result != ALLOWED:
                entry = tally.halves.setdefault((half, verdict.by, labels, verdict.reason), _Half(result))
                entry.one_sided &= not seen
                entry.connections += edge.connections
                entry.attempts += edge.attempts
                entry.first_seen = min(entry.first_seen, edge.first_seen)
                entry.last_seen = max(entry.last_seen, edge.last_seen)
            outcome = min(outcome, result, key=_WORST_FIRST.index)
        tally.outcome = min(tally.outcome, outcome, key=_WORST_FIRST.index)
        tally.pairs.append((outcome, edge.connections))

    def _half(
        self, half: str, edge: Edge, source: _Party, targets: list[tuple[_Party, int | None]]
    ) -> tuple[str, str, Verdict]:
        """Return the outcome of a half, the labels it holds under, and a verdict that shows why."""
        then, now = [], []
        for target, port in targets:
            connection = Connection(edge.protocol, port, edge.icmp_type, edge.icmp_code)
            then += [self._judge(half, one, other, connection, edge) for one in source.then for other in target.then]
            now.append(self._judge(half, source.now, target.now, connection, edge))
        verdicts = {"then": _settled(then, len(targets)), "now": _settled(now, len(targets))}
        worst = min((verdict.outcome for verdict in verdicts.values()), key=_WORST_FIRST.index)
        under = [labels for labels, verdict in verdicts.items() if verdict.outcome == worst]
        return worst, "both" if len(under) == 2 else under[0], verdicts[under[0]]

    def _judge(self, half: str, source: Endpoint, target: Endpoint, connection: Connection, edge: Edge) -> Verdict:
        if half == "ingress" and edge.translated:
            source = replace(source, translated=True)
        return self.policies.judge(half, source, target, connection)

    def _party(self, end: End, edge: Edge) -> _Party:
        pod = self.population.pods.get(end.id or "") if end.kind == "pod" else None
        timeless = pod is None or self.population.constant(pod)
        key = (end, 0, 0) if timeless else (end, edge.first_seen, edge.last_seen)
        if key not in self._parties:
            self._parties[key] = self._introduced(end, pod, edge.first_seen, edge.last_seen)
        return self._parties[key]

    def _introduced(self, end: End, pod: Pod | None, first: int, last: int) -> _Party:
        if pod is not None:
            return _Party(
                pod.workload, self.population.then(pod, end.ip, first, last), self.population.now(pod, end.ip)
            )
        endpoint = {
            "node": Endpoint("node", ip=end.ip, name=end.id or ""),
            "apiserver": Endpoint("external", ip=end.ip),
            "external": Endpoint("external", ip=end.ip),
            "multicast": Endpoint("external", ip=end.ip),
        }.get(end.kind, Endpoint("unknown", ip=None if end.kind == "service" else end.ip))
        return _Party(_name(end), (endpoint,), endpoint)

    def _targets(self, edge: Edge) -> list[tuple[_Party, int | None]]:
        """Return the responder, or what stood behind the Service when only that was seen."""
        if edge.destination.kind != "service":
            return [(self._party(edge.destination, edge), edge.port)]
        backends = self.population.backends(
            edge.destination.id or "", edge.port, edge.protocol, edge.first_seen, edge.last_seen
        )
        ends = [End(backend.kind, backend.address, backend.pod.id if backend.pod else None) for backend in backends]
        found = [(self._party(end, edge), backend.port) for end, backend in zip(ends, backends, strict=True)]
        return list(found) or [(self._party(edge.destination, edge), None)]

    def _named(self, edge: Edge, targets: list[tuple[_Party, int | None]]) -> tuple[str, int | None]:
        """Return the destination's name and port; a Service with one workload behind it is that workload."""
        names = {(target.name, port) for target, port in targets}
        if edge.destination.kind != "service":
            return targets[0][0].name, edge.port
        if len(names) == 1 and targets[0][1] is not None:
            return next(iter(names))
        return _name(edge.destination), edge.port

    def close(self, profile: str, decisions: "Decisions", fail_on: str) -> Replay:
        """Return the verdict on everything heard."""
        edge_counts, connection_counts = dict.fromkeys(OUTCOMES, 0), dict.fromkeys(OUTCOMES, 0)
        lists: dict[str, list[Finding]] = {DENIED: [], EXPECTED: [], UNDETERMINED: []}
        for key in sorted(self.tallies, key=_order):
            tally = self.tallies[key]
            decision, reasons = decisions.about(key)
            excused = decision in ("queue", "reject") or (decision is None and not tally.lively)
            if decision is None and not tally.lively:
                reasons = ("never-answered",)
            instead = EXPECTED if excused else DENIED
            edge_counts[instead if tally.outcome == DENIED else tally.outcome] += 1
            for outcome, count in tally.pairs:
                connection_counts[instead if outcome == DENIED else outcome] += count
            for (half, by, labels, reason), entry in sorted(tally.halves.items(), key=lambda item: str(item[0])):
                into = instead if entry.outcome == DENIED else entry.outcome
                sided = ("one-sided",) if entry.one_sided else ()
                lists[into].append(
                    Finding(
                        *key,
                        half=half,
                        by=by,
                        reason=reason,
                        labels=labels,
                        decision=decision,
                        reasons=tuple(sorted({*reasons, *sided})),
                        connections=entry.connections,
                        attempts=entry.attempts,
                        first_seen=entry.first_seen,
                        last_seen=entry.last_seen,
                    )
                )
        return Replay(
            profile=profile,
            policies=len(self.policies.policies),
            edges=edge_counts,
            connections=connection_counts,
            denied=tuple(lists[DENIED]),
            expected=tuple(lists[EXPECTED]),
            undetermined=tuple(lists[UNDETERMINED]),
            isolated=tuple(self._isolated()),
            fail_on=fail_on,
        )

    def _isolated(self) -> list[Isolated]:
        """Return living workloads that are isolated though nothing was recorded of them."""
        found = []
        for workload, pods in sorted(self.population.by_workload.items()):
            if workload in self.heard or all(pod.end is not None for pod in pods) or pods[-1].host_network:
                continue
            now = self.population.now(pods[-1], pods[-1].ips[0] if pods[-1].ips else "")
            by = {direction: self.policies.selecting(now, direction) for direction in ("ingress", "egress")}
            directions = tuple(direction for direction, selected in by.items() if selected)
            if directions:
                titles = sorted({policy.title for selected in by.values() for policy in selected})
                found.append(Isolated(workload, directions, tuple(titles)))
        return found


class Decisions:
    """What was decided about patterns, found by an edge's names; generalised prefixes and port ranges included."""

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._exact: dict[Key, Pattern] = {}
        self._wide: dict[tuple[str, str], list[Pattern]] = defaultdict(list)
        for pattern in patterns:
            self._exact[pattern.source, pattern.destination, pattern.protocol, pattern.port, _icmp(pattern)] = pattern
            if pattern.end_port is not None or "external" in (pattern.source_kind, pattern.destination_kind):
                pod_side = pattern.destination if pattern.source_kind == "external" else pattern.source
                self._wide[pod_side, pattern.protocol].append(pattern)

    @classmethod
    def of(cls, learned: Learned | None) -> "Decisions":
        """Return the decisions of a learned model, or none."""
        return cls(learned.patterns if learned else ())

    def about(self, key: Key) -> tuple[str | None, tuple[str, ...]]:
        """Return (decision, reasons) of the narrowest pattern that an edge falls under; None when there is none."""
        found = self._exact.get(key) or self._widest(key)
        return (found.decision, tuple(found.reasons)) if found else (None, ())

    def _widest(self, key: Key) -> Pattern | None:
        source, destination, protocol, port, icmp = key
        candidates = [
            pattern
            for pattern in (*self._wide.get((source, protocol), ()), *self._wide.get((destination, protocol), ()))
            if _within(source, pattern.source)
            and _within(destination, pattern.destination)
            and _in_range(port, pattern.port, pattern.end_port)
            and icmp == _icmp(pattern)
        ]
        return max(candidates, key=lambda one: (_length(one.source) + _length(one.destination), one.id), default=None)


def _settled(verdicts: list[Verdict], targets: int) -> Verdict:
    """Return the worst of what may have happened; backends that disagree leave it open which one was meant."""
    worst = min(verdicts, key=lambda one: _WORST_FIRST.index(one.outcome))
    if targets > 1 and len({verdict.outcome for verdict in verdicts}) > 1:
        return replace(worst, outcome=UNDETERMINED, reason="service-backends")
    return worst


def _icmp(one: Edge | Pattern) -> str | None:
    return None if one.icmp_type is None else f"{one.icmp_type}/{one.icmp_code or 0}"


def _name(end: End) -> str:
    """Return the contract's name of an end that is no known pod."""
    if end.kind == "node":
        return f"node/{end.id or end.ip}"
    if end.kind == "apiserver":
        return "apiserver"
    if end.kind == "service" and end.id:
        namespace, _, name = end.id.partition("/")
        return f"{namespace}/service/{name}"
    if end.kind in ("external", "multicast"):
        return str(ipaddress.ip_network(end.ip, strict=False))
    return f"{'ambiguous' if end.kind in ('ambiguous', 'overflow') else 'unresolved'}/{end.ip}"


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _within(name: str, pattern: str) -> bool:
    if name == pattern:
        return True
    inner, outer = _network(name), _network(pattern)
    if inner is None or outer is None or inner.version != outer.version:
        return False
    return outer.network_address <= inner.network_address and inner.broadcast_address <= outer.broadcast_address  # type: ignore[operator]


def _length(name: str) -> int:
    network = _network(name)
    return network.prefixlen if network else 0


def _in_range(port: int | None, first: int | None, last: int | None) -> bool:
    if port is None or first is None:
        return port == first
    return first <= port <= (last if last is not None else first)


def _order(key: Key) -> tuple[str, str, str, int, str]:
    source, destination, protocol, port, icmp = key
    return source, destination, protocol, -1 if port is None else port, icmp or ""


def _rfc3339(time: int) -> str:
    return f"{datetime.fromtimestamp(time // SECOND, UTC):%Y-%m-%dT%H:%M:%S}.{time % SECOND:06d}Z"
