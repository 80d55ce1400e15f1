"""Says what policies would have done to recorded traffic: which needed connections they would have blocked, and why."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from deploy.cases import LABELS, SEVERITY, Cases, Halves
from deploy.decisions import Decisions, Key, icmp_of
from deploy.findings import COUNTED, EXPECTED, FAIL_ON, Change, Finding, Isolated, Replay, Unjudged
from deploy.policies import PolicySource, engines_for, read_policies
from deploy.population import Population
from deploy.recorded import edges, reading
from deploy.semantics import deciding
from deploy.semantics.deciding import OUTCOMES, REASONS
from deploy.semantics.ends import Codes, Endpoint, Ends, Lens
from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import Profile
from deploy.semantics.reading.manifests import judge_objects
from deploy.semantics.rules import DIRECTIONS
from deploy.semantics.traffic import Connections
from deploy.semantics.trail import nearest
from deploy.semantics.verdicts import ALLOWED, DENIED, UNDETERMINED, Court
from learner.patterns import Learned
from recorder.errors import InputError
from recorder.store import Recording


def replay(
    recording: Recording | str | os.PathLike[str],
    policies: PolicySource,
    *,
    profile: str = "strict",
    existing: bool = False,
    against: PolicySource | None = None,
    learned: Learned | str | os.PathLike[str] | None = None,
    staged: str = "enforced",
    fail_on: str = "denied",
) -> Replay:
    """Judge every recorded half under the policies, with labels as of then and as of now.

    `policies` are files, folders, `-`, or policies already read. `existing` adds the recording's own policies as they stood
    at its end; one that is given replaces its namesake, a staged deletion removes it. `against` is another set, judged over
    the same traffic to tell what changes. `staged` tells whether staged kinds act as `enforced` or are `ignored`. With
    `learned`, denied edges that were rejected or queued are expected; never-answered ones always are, unless accepted.

    Raises InputError (with all broken rules) or RecordingError.
    """
    if fail_on not in FAIL_ON:
        raise InputError(f"--fail-on {fail_on!r} is none of {', '.join(FAIL_ON)}")
    opened = recording if isinstance(recording, Recording) else Recording.open(recording)
    raw = read_policies(policies)
    given = raw.enforced(staged)
    other = None if against is None else read_policies(against).enforced(staged)
    with reading(opened):
        population = Population.of(opened)
    present = judge_objects(population.policies()).enforced("ignored") if existing else PolicySet()
    after = present.merged(raw if staged == "enforced" else given) if existing else given
    before = present if existing else None
    if other is not None:
        before = present.merged(other)
    sets = [one for one in (after, given, before) if one is not None]
    engines = engines_for(profile, sets)
    book = learned if isinstance(learned, Learned) or learned is None else Learned.read(learned)
    found = edges(opened, population, dialled=any(one.before_dnat for one in engines))
    cases = Cases(found, population, Lens.of(sets))
    hearing = _Hearing(cases, engines, Decisions.of(book))
    return hearing.close(profile, after, given if existing else None, before, fail_on)


class _Hearing:
    """Adds up, by edge between workloads, what becomes of recorded edges under one policy set or another."""

    def __init__(self, cases: Cases, engines: Sequence[Profile], decisions: Decisions) -> None:
        self.cases = cases
        self.engines = tuple(engines)
        self.decisions = decisions
        self.keys, self.tally = _tallies(cases)
        self.lively = np.zeros(len(self.keys), np.bool_)
        np.logical_or.at(self.lively, self.tally, cases.edges.lively)
        self.told = [decisions.about(key) for key in self.keys]

    def court(self, policies: PolicySet) -> Court:
        """Return a court for a policy set."""
        cases = self.cases
        return Court(policies, self.engines, cases.ends, cases.connections, cases.known_services)

    def judged(self, court: Court) -> dict[str, Halves]:
        """Return what becomes of each half of every edge; a half that was not recorded is allowed."""
        return {direction: self.cases.halves(court, direction) for direction in DIRECTIONS}

    def close(
        self, profile: str, after: PolicySet, alone: PolicySet | None, before: PolicySet | None, fail_on: str
    ) -> Replay:
        """Return the verdict on everything."""
        court = self.court(after)
        halves = self.judged(court)
        edge_counts, connection_counts = self._counts(halves)
        lists: dict[str, list[Finding]] = {DENIED: [], EXPECTED: [], UNDETERMINED: []}
        wanted = {direction: halves[direction].outcome != deciding.ALLOWED for direction in DIRECTIONS}
        for outcome, finding in self._findings(court, halves, wanted):
            lists[self._instead(finding, outcome)].append(finding)
        borrowed: list[Finding] = []
        if alone is not None:
            lone = self.judged(self.court(alone))
            passes = {
                one: (halves[one].outcome == deciding.ALLOWED) & (lone[one].outcome == deciding.DENIED)
                for one in DIRECTIONS
            }
            borrowed = [finding for _, finding in self._findings(court, halves, passes)]
        return Replay(
            profile=profile,
            engines=tuple(one.name for one in self.engines),
            policies=len(after.policies),
            edges=edge_counts,
            connections=connection_counts,
            denied=tuple(lists[DENIED]),
            expected=tuple(lists[EXPECTED]),
            undetermined=tuple(lists[UNDETERMINED]),
            isolated=tuple(self._isolated(court)),
            borrowed=tuple(borrowed),
            changes=None if before is None else tuple(self._changes(court, halves, before)),
            unjudged=tuple(sorted(_unjudged(court))),
            fail_on=fail_on,
        )

    def _instead(self, finding: Finding, outcome: str) -> str:
        """Return the list that a finding belongs to."""
        return (
            EXPECTED
            if outcome == DENIED and self._excused(finding.decision, "never-answered" in finding.reasons)
            else outcome
        )

    @staticmethod
    def _excused(decision: str | None, silent: bool) -> bool:
        return decision in ("queue", "reject") or (decision is None and silent)

    def _counts(self, halves: Mapping[str, Halves]) -> tuple[dict[str, int], dict[str, int]]:
        """Return how many edges between workloads, and how many answered connections, met which outcome."""
        found = self.cases.edges
        worst = np.zeros(len(found), np.int64)
        for direction in DIRECTIONS:
            recorded = getattr(found, direction)
            worst = np.maximum(worst, np.where(recorded, SEVERITY[halves[direction].outcome], 0))
        by_tally = np.zeros(len(self.keys), np.int64)
        np.maximum.at(by_tally, self.tally, worst)
        excused = np.array(
            [self._excused(decision, not lively) for (decision, _), lively in zip(self.told, self.lively, strict=True)]
            or [False],
            np.bool_,
        )
        names = np.array([ALLOWED, UNDETERMINED, DENIED, EXPECTED], object)
        rows = (
            (by_tally, excused[: len(self.keys)], np.ones(len(self.keys), np.int64)),
            (worst, excused[self.tally], found.answered),
        )
        counts = []
        for severity, expected, amount in rows:
            kind = names[np.where((severity == 2) & expected, 3, severity)]
            counts.append({name: int(amount[kind == name].sum()) for name in COUNTED})
        return counts[0], counts[1]

    def _groups(
        self, court: Court, halves: Mapping[str, Halves], wanted: Mapping[str, Codes]
    ) -> Iterator[dict[str, Any]]:
        """Yield what belongs together of the wanted halves: one edge between workloads, one reason, one decider."""
        found = self.cases.edges
        for direction in DIRECTIONS:
            half = halves[direction]
            rows = np.flatnonzero(getattr(found, direction) & wanted[direction])
            case = half.case[rows]
            judged = half.judged.take(case)
            reason = np.where(half.split[rows], len(REASONS), judged.reason)
            table = pa.table(
                {
                    "tally": self.tally[rows],
                    "outcome": half.outcome[rows],
                    "labels": half.labels[rows],
                    "reason": reason,
                    "engine": judged.engine,
                    "policy": judged.policy,
                    "step": judged.step,
                    "case": case,
                    "connections": found.answered[rows],
                    "attempts": found.attempts[rows],
                    "first_seen": found.first_seen[rows],
                    "last_seen": found.last_seen[rows],
                    "seen": getattr(found, f"{direction}_seen")[rows],
                }
            )
            keys = ["tally", "outcome", "labels", "reason", "engine", "policy", "step"]
            sums = table.group_by(keys).aggregate(
                [
                    *((name, "sum") for name in ("connections", "attempts")),
                    *((name, "min") for name in ("case", "first_seen")),
                    *(("last_seen", "max"), ("seen", "any")),
                ]
            )
            for row in sums.to_pylist():
                object_, rule = court.named(direction, row["engine"], row["policy"], row["step"])
                yield row | {"half": direction, "object": object_, "rule": rule}

    def _findings(
        self, court: Court, halves: Mapping[str, Halves], wanted: Mapping[str, Codes]
    ) -> Iterator[tuple[str, Finding]]:
        """Yield (outcome, finding) of the wanted halves, in the order of their names."""
        found = []
        for row in self._groups(court, halves, wanted):
            decision, reasons = self.told[row["tally"]]
            if decision is None and not self.lively[row["tally"]]:
                reasons = ("never-answered",)
            sided = () if row["seen_any"] else ("one-sided",)
            half, case = row["half"], row["case_min"]
            near = self._nearest(court, half, case) if row["reason"] == REASONS.index("isolation") else None
            verdict = court.verdict(half, halves[half].judged, case)
            differ = len({outcome for _, outcome in verdict.engines}) > 1
            file, line = _written(court, half, row["engine"], row["policy"], row["step"])
            source, destination, protocol, port, icmp = self.keys[row["tally"]]
            finding = Finding(
                source=source,
                destination=destination,
                protocol=protocol,
                port=port,
                icmp=icmp,
                half=half,
                by=_by(row["object"], row["rule"]),
                reason="service-backends" if row["reason"] == len(REASONS) else REASONS[row["reason"]],
                labels=LABELS[row["labels"]],
                decision=decision,
                reasons=tuple(sorted({*reasons, *sided})),
                connections=row["connections_sum"],
                attempts=row["attempts_sum"],
                first_seen=row["first_seen_min"],
                last_seen=row["last_seen_max"],
                nearest=near[0] if near else None,
                misses=near[1] if near else None,
                engines=verdict.engines if differ else (),
                file=file,
                line=line,
            )
            found.append((OUTCOMES[row["outcome"]], finding))
        yield from sorted(found, key=lambda one: _order(one[1]))

    def _nearest(self, court: Court, half: str, case: int) -> tuple[str, str | None] | None:
        cases = self.cases
        step = nearest(
            court.engines[0].rules, half, int(cases.left[case]), int(cases.right[case]), int(cases.connection[case])
        )
        return (f"{step.policy} {step.where}", step.misses) if step else None

    def _changes(self, court: Court, halves: Mapping[str, Halves], before: PolicySet) -> Iterator[Change]:
        """Yield the halves that fare differently, by edge between workloads."""
        old = self.court(before)
        earlier = self.judged(old)
        wanted = {one: halves[one].outcome != earlier[one].outcome for one in DIRECTIONS}
        found: list[Change] = []
        edges_ = self.cases.edges
        for direction in DIRECTIONS:
            rows = np.flatnonzero(getattr(edges_, direction) & wanted[direction])
            columns: dict[str, Any] = {"tally": self.tally[rows]}
            for when, half in (("before", earlier[direction]), ("after", halves[direction])):
                judged = half.judged.take(half.case[rows])
                columns |= {f"{when}_{name}": getattr(judged, name) for name in ("engine", "policy", "step")}
                columns[when] = half.outcome[rows]
            keys = list(columns)
            columns |= {"connections": edges_.answered[rows], "attempts": edges_.attempts[rows]}
            sums = pa.table(columns).group_by(keys).aggregate([("connections", "sum"), ("attempts", "sum")])
            found += [self._change(direction, old, court, row) for row in sums.to_pylist()]
        yield from sorted(found, key=lambda one: (*_key_order(_key(one)), one.half, str(one)))

    def _change(self, direction: str, old: Court, new: Court, row: Mapping[str, Any]) -> Change:
        source, destination, protocol, port, icmp = self.keys[row["tally"]]
        by = {
            when: court.named(direction, row[f"{when}_engine"], row[f"{when}_policy"], row[f"{when}_step"])
            for when, court in (("before", old), ("after", new))
        }
        return Change(
            source=source,
            destination=destination,
            protocol=protocol,
            port=port,
            icmp=icmp,
            half=direction,
            before=OUTCOMES[row["before"]],
            after=OUTCOMES[row["after"]],
            before_by=_by(*by["before"]),
            after_by=_by(*by["after"]),
            connections=row["connections_sum"],
            attempts=row["attempts_sum"],
        )

    def _isolated(self, court: Court) -> Iterator[Isolated]:
        """Yield living workloads that are isolated though nothing was recorded of them."""
        cases, population = self.cases, self.cases.parties.population
        heard = {name for key in self.keys for name in key[:2]}
        silent = {
            workload: population.now(pods[-1], pods[-1].ips[0] if pods[-1].ips else None)
            for workload, pods in sorted(population.by_workload.items())
            if workload not in heard and any(pod.end is None for pod in pods) and not pods[-1].host_network
        }
        yield from isolated(court.policies, self.engines, silent, cases.ends.lens)


def _written(court: Court, half: str, engine_: int, policy: int, step: int) -> tuple[str | None, int | None]:
    """Return the file and line of what decides; what comes from the recording has none."""
    if policy < 0 or not court.policies.policies[policy].line:
        return None, None
    one = court.policies.policies[policy]
    return one.file, court.engines[engine_].rules.rule(half, step)[1].line if step >= 0 else one.line


def isolated(
    policies: PolicySet, engines: Sequence[Profile], workloads: Mapping[str, Endpoint], lens: Lens
) -> Iterator[Isolated]:
    """Yield which of these workloads (by name, each with one of its pods) the policies isolate."""
    ends = Ends(list(workloads.values()), lens)
    court = Court(policies, engines, ends, Connections([]))
    for number, workload in enumerate(workloads):
        by = {
            one: [policy for policy in court.selecting(one, int(ends.far[number])) if one in policy.isolates]
            for one in ("ingress", "egress")
        }
        directions = tuple(direction for direction, selected in by.items() if selected)
        if directions:
            titles = sorted({policy.title for selected in by.values() for policy in selected})
            yield Isolated(workload, directions, tuple(titles))


def _tallies(cases: Cases) -> tuple[list[Key], Codes]:
    """Return the edges between workloads, in order, and which of them each recorded edge belongs to."""
    found = cases.edges
    numbers = {name: number for number, name in enumerate(sorted(set(cases.names)))}
    named = np.array([numbers[name] for name in cases.names] or [0], np.int64)
    kinds = cases.connections.all
    size = max(1, len(kinds))
    packed = (named[found.source] * len(numbers) + named[cases.target]) * size + cases.target_connection
    distinct, tally = np.unique(packed, return_inverse=True)
    names = list(numbers)
    keys: list[Key] = []
    for one in distinct.tolist():
        pair, kind = divmod(one, size)
        source, target = divmod(pair, len(numbers))
        connection = kinds[kind]
        keys.append((names[source], names[target], connection.protocol, connection.port, icmp_of(connection)))
    return keys, tally


def _unjudged(court: Court) -> Iterator[Unjudged]:
    """Yield what does not count: objects that an engine skips whole, and parts of rules beyond L4."""
    for one in court.engines:
        for policy in one.skipped():
            features = ", ".join(sorted(policy.features() & one.profile.skips))
            yield Unjudged(policy.title, None, f"{one.profile.name} skips it: {features}")
    for policy in court.policies.policies:
        for rule in (*policy.rules("ingress"), *policy.rules("egress")):
            for part in rule.unjudged:
                yield Unjudged(policy.title, rule.where, part)


def _by(title: str | None, rule: str | None) -> str | None:
    return " ".join(part for part in (title, rule) if part) or None


def _key(one: Finding | Change) -> Key:
    return one.source, one.destination, one.protocol, one.port, one.icmp


def _key_order(key: Key) -> tuple[str, str, str, int, str]:
    source, destination, protocol, port, icmp = key
    return source, destination, protocol, -1 if port is None else port, icmp or ""


def _order(one: Finding) -> tuple[Any, ...]:
    return *_key_order(_key(one)), one.half, one.by or "", one.labels, one.reason
