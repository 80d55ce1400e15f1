"""The verb `learn`: a recording in, patterns and subjects out."""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pyarrow as pa

from learner.convergence import Interval, converge, not_seen, wilson
from learner.decisions import Decision, Key, in_force, read_decisions
from learner.engine import Engine, duck, settings_table
from learner.evidence import Evidence, Thresholds, Verdict, carried_by_dns, judge
from learner.inventory import (
    Inventory,
    PodVersion,
    addresses_table,
    backends_table,
    declared_ports,
    lives_table,
    pods_table,
    read_pods,
)
from learner.patterns import Learned, Pattern, Subject, pattern_id, port_text, selector_json
from learner.scanners import Walk, scanners
from learner.selectors import pods_digest, select
from recorder.errors import RecordingError
from recorder.records import DEFAULT_WINDOW_SECONDS, SECOND
from recorder.store import Recording

Row = Mapping[str, Any]
Edge = tuple[str, str, str, int, int, int]
"""Source, destination, protocol, port, ICMP type and code, as the SQL has them (-1 for none)."""

DAY = 86400 * SECOND
COUNTED = (
    "attempts",
    "answered",
    "refused",
    "denied",
    "unanswered",
    "established",
    "first_seen",
    "last_seen",
    "windows_seen",
    "days",
)


def learn(
    recording: Recording | str | os.PathLike[str],
    *,
    decisions: str | os.PathLike[str] | None = None,
    thresholds: Thresholds | None = None,
    memory: str = "1500MB",
    threads: int | None = None,
) -> Learned:
    """Return what a recording shows: its patterns, each with a decision, and the workloads they are about.

    `decisions` is a `decisions.yaml`; `memory` and `threads` bound the engine and change nothing in the result.

    Raises RecordingError when there is no recording, it is empty or damaged, NewerSchemaError when it is of a later
    version, InputError for a mistake in the decisions.
    """
    place = Recording.open(recording.uri if isinstance(recording, Recording) else recording)
    limits = thresholds or Thresholds()
    given = read_decisions(decisions) if decisions is not None else ()
    try:
        inventory = Inventory.of(place)
        pods = read_pods(place, inventory)
    except (pa.ArrowException, OSError) as error:
        raise RecordingError(f"{place.uri}: cannot be read: {str(error).splitlines()[0]}") from error
    with duck(place, memory=memory, threads=threads) as engine:
        frames = _run(engine, place, inventory, pods, limits)
    patterns = _patterns(frames, inventory, pods, given, limits)
    return Learned(
        cluster=frames.cluster,
        subjects=_subjects(frames, inventory, pods, patterns, limits),
        patterns=patterns,
        cluster_ranges=inventory.cluster_ranges(),
        thresholds=asdict(limits),
        coverage=_coverage(frames, inventory, pods),
        input_digest=_digest(frames, inventory, pods),
    )


def summary(learned: Learned) -> dict[str, Any]:
    """Return what `learn -o json` prints."""
    counted = Counter(pattern.decision for pattern in learned.patterns)
    return {
        "schema_version": 1,
        "patterns": {decision: counted[decision] for decision in ("accept", "queue", "reject")},
        "subjects": [
            {
                "workload": subject.workload,
                "selector": None if subject.selector is None else selector_json(subject.selector),
                "rung": subject.rung,
                "state": subject.convergence.state,
                "bound": subject.convergence.bound,
            }
            for subject in sorted(learned.subjects, key=lambda one: one.workload)
        ],
        "coverage": dict(sorted(learned.coverage.items())),
    }


@dataclass(frozen=True, slots=True)
class _Frames:
    """Results of the SQL, small enough for memory; times in µs, `grid` the shortest window."""

    cluster: str
    grid: int
    windows: tuple[int, ...]
    observed: Sequence[Row]
    contacts: Sequence[Row]
    names: Sequence[Row]
    exposure: Mapping[tuple[str, str], Sequence[Interval]]
    watched: Mapping[tuple[str, str], int]
    nodes: frozenset[str]
    totals: Row


def _run(
    engine: Engine, recording: Recording, inventory: Inventory, pods: Sequence[PodVersion], limits: Thresholds
) -> _Frames:
    head = engine.query(
        "SELECT MIN(window_end - window_start) AS grid FROM"
        " (SELECT window_start, window_end FROM flows UNION ALL SELECT window_start, window_end FROM coverage) AS spans"
    )[0]
    grid = int(head["grid"] or DEFAULT_WINDOW_SECONDS * SECOND)
    dialled = engine.query(
        "SELECT DISTINCT dst_id AS name FROM flows WHERE dst_kind = 'service' AND dst_id IS NOT NULL"
    )
    engine.register("pods", pods_table(pods))
    engine.register("lives", lives_table(pods))
    engine.register("addresses", addresses_table(pods, inventory))
    engine.register("backends", backends_table(pods, inventory, [row["name"] for row in dialled]))
    engine.register(
        "settings",
        settings_table(
            {
                "windows": limits.windows,
                "apart": limits.apart_seconds * SECOND,
                "dropped_share": limits.dropped_share,
                "unknown_share": limits.unknown_share,
                "lag_seconds": limits.lag_seconds,
                "unit": limits.convergence_seconds * SECOND,
                "day": DAY,
                "grid": grid,
            }
        ),
    )
    engine.run()
    exposure: defaultdict[tuple[str, str], list[Interval]] = defaultdict(list)
    for row in engine.query("SELECT * FROM exposure ORDER BY workload, ring, exposed_from"):
        exposure[row["workload"], row["ring"]].append((row["exposed_from"], row["exposed_until"]))
    windows = engine.query("SELECT window_start FROM flows UNION SELECT window_start FROM coverage ORDER BY 1")
    totals = engine.query(
        "SELECT COALESCE(SUM(dropped), 0) AS dropped, COALESCE(SUM(unresolved), 0) AS unresolved,"
        " COALESCE(SUM(ambiguous), 0) AS ambiguous,"
        " (SELECT COALESCE(SUM(answered), 0) FROM identified WHERE lost = 1) AS lost,"
        " (SELECT COUNT(*) FROM clean WHERE ring = 'all') AS clean,"
        " (SELECT COUNT(*) FROM (SELECT node, window_start FROM coverage GROUP BY node, window_start HAVING MIN(gap) = 0)"
        " AS held) AS held FROM coverage"
    )[0]
    return _Frames(
        cluster=_cluster(recording),
        grid=grid,
        windows=tuple(int(row["window_start"]) for row in windows),
        observed=engine.query(
            "SELECT * FROM observed ORDER BY source, destination, protocol, port, icmp_type, icmp_code"
        ),
        contacts=engine.query("SELECT * FROM contacts ORDER BY source, first_seen, destination, protocol, port"),
        names=engine.query("SELECT * FROM names"),
        exposure=exposure,
        watched={
            (row["workload"], row["ring"]): int(row["pods"]) for row in engine.query("SELECT * FROM watched_pods")
        },
        nodes=frozenset(row["node"] for row in engine.query("SELECT DISTINCT node FROM coverage")),
        totals=totals,
    )


def _cluster(recording: Recording) -> str:
    found = recording.cluster()
    if found is None:
        raise RecordingError(f"{recording.uri}: the recording is empty: it holds no rows")
    return found


def _patterns(
    frames: _Frames,
    inventory: Inventory,
    pods: Sequence[PodVersion],
    given: Iterable[Decision],
    limits: Thresholds,
) -> tuple[Pattern, ...]:
    """Return all patterns with their decisions, in order."""
    declared = declared_ports(pods, inventory)
    probes = {(pod.workload, port) for pod in pods for port in pod.probe_ports}
    dns, services = _led(frames.names)
    walk = Walk(limits.scan_benign, limits.scan_hostile, limits.scan_false_alarm, limits.scan_detection)
    flagged = scanners(((row["source"], bool(row["answered"])) for row in frames.contacts), walk)
    judged = []
    for row in frames.observed:
        by = declared.get((row["destination"], row["protocol"], row["port"]), ())
        probed = row["protocol"] == "tcp" and (row["destination"], row["port"]) in probes
        evidence = _evidence(row, declared=bool(by), probed=probed, dns_names=tuple(dns[_edge(row)]))
        judged.append((evidence, judge(evidence, flagged=row["source"] in flagged, thresholds=limits)))
    verdicts = carried_by_dns(judged)
    found = [
        _pattern(
            row,
            verdict,
            frames,
            declared_by=declared.get((row["destination"], row["protocol"], row["port"]), ()),
            services=services[_edge(row)],
            dns_names=dns[_edge(row)],
        )
        for row, verdict in zip(frames.observed, verdicts, strict=True)
    ]
    return _decided(found, given, at=max(frames.windows))


def _decided(patterns: Sequence[Pattern], given: Iterable[Decision], *, at: int) -> tuple[Pattern, ...]:
    """Return the patterns with people's decisions applied; they outweigh everything else."""
    holding, over = in_force(given, at=at, known={_key(pattern) for pattern in patterns})
    found = []
    for pattern in patterns:
        key = _key(pattern)
        decision = holding.get(key)
        if decision is not None:
            reasons = sorted({*pattern.reasons, f"decided-by:{decision.by}"})
            chosen = "accept" if decision.accept else "reject"
            found.append(replace(pattern, decision=chosen, reasons=reasons, basis="human"))
        elif key in over:
            found.append(replace(pattern, reasons=sorted({*pattern.reasons, f"decision-expired:{over[key]}"})))
        else:
            found.append(pattern)
    return tuple(found)


def _pattern(
    row: Row,
    verdict: Verdict,
    frames: _Frames,
    *,
    declared_by: Sequence[str],
    services: Sequence[str],
    dns_names: Sequence[str],
) -> Pattern:
    ring = "udp" if row["protocol"] == "udp" else "tcp"
    watched = row["source"] if row["source_kind"] == "workload" else row["destination"]
    exposed = sum(end - start for start, end in frames.exposure.get((watched, ring), ())) // frames.grid
    halves = [half for half in ("egress", "ingress") if row[half] or row[f"lent_{half}"]]
    facts = [
        code
        for code, holds in (
            ("one-sided", any(row[f"lent_{half}"] and not row[half] for half in ("egress", "ingress"))),
            ("via-service", row["routed"]),
        )
        if holds
    ]
    pattern = Pattern(
        id="",
        source=row["source"],
        source_kind=row["source_kind"],
        destination=row["destination"],
        destination_kind=row["destination_kind"],
        protocol=row["protocol"],
        port=_known(row["port"]),
        end_port=None,
        icmp_type=_known(row["icmp_type"]),
        icmp_code=_known(row["icmp_code"]),
        attempts=int(row["attempts"]),
        answered=int(row["answered"]),
        refused=int(row["refused"]),
        denied=int(row["denied"]),
        unanswered=int(row["unanswered"]),
        open=int(row["established"]),
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        windows_seen=int(row["windows_seen"]),
        windows_exposed=exposed,
        days=int(row["days"]),
        replicas_seen=int(row["replicas_seen"]),
        replicas_exposed=frames.watched.get((row["source"], ring), 0),
        halves=halves,
        declared_by=list(declared_by),
        services=list(services),
        dns_names=list(dns_names),
        period=_period(row),
        recurrence=wilson(min(int(row["windows_seen"]), exposed), exposed),
        decision=verdict.decision,
        reasons=sorted({*verdict.reasons, *facts}),
        basis="observed",
    )
    return replace(pattern, id=pattern_id(*_key(pattern)))


def _period(row: Row) -> float | None:
    """Return the mean gap between a pattern's windows in seconds, where there are three at least and they are alike.

    Alike: their standard deviation is below a tenth of their mean. Exact integers in, so the order of rows is no matter.
    """
    count, total, squares = int(row["gaps"]), int(row["gaps_total"]), int(row["gaps_squares"])
    if count < 3 or (count * squares - total * total) * 100 >= total * total:
        return None
    return round(total / count, 3)


def _evidence(row: Row, *, declared: bool, probed: bool, dns_names: tuple[str, ...]) -> Evidence:
    given = {"port": _known(row["port"]), "declared": declared, "probed": probed, "dns_names": dns_names}
    plain: dict[str, Any] = {
        one.name: bool(row[one.name]) if one.type is bool else row[one.name]
        for one in fields(Evidence)
        if one.name not in given
    }
    return Evidence(**plain | given)


def _led(names: Iterable[Row]) -> tuple[defaultdict[Edge, list[str]], defaultdict[Edge, list[str]]]:
    """Return the DNS names and the Services of each edge, sorted."""
    dns: defaultdict[Edge, set[str]] = defaultdict(set)
    services: defaultdict[Edge, set[str]] = defaultdict(set)
    for row in names:
        dns[_edge(row)].update(row["dns_names"] or ())
        services[_edge(row)].update({row["service"]} - {None})
    return (
        defaultdict(list, {edge: sorted(found) for edge, found in dns.items()}),
        defaultdict(list, {edge: sorted(found) for edge, found in services.items()}),
    )


def _subjects(
    frames: _Frames,
    inventory: Inventory,
    pods: Sequence[PodVersion],
    patterns: Sequence[Pattern],
    limits: Thresholds,
) -> tuple[Subject, ...]:
    """Return every workload that had pods, in order."""
    members: defaultdict[str, list[PodVersion]] = defaultdict(list)
    for pod in pods:
        members[pod.workload].append(pod)
    lonely: defaultdict[str, set[int]] = defaultdict(set)
    for row, pattern in zip(frames.observed, patterns, strict=True):
        if pattern.decision != "reject" and int(row["units"]) == 1:
            lonely[pattern.source].add(row["first_unit"])
            lonely[pattern.destination].add(row["first_unit"])
    selected = select(pods, inventory)
    ran = frozenset(members)
    found = []
    for workload, versions in sorted(members.items()):
        exposed = frames.exposure.get((workload, "all"), ())
        missing = not_seen(versions, exposed, inventory, begin=frames.windows[0], ran=ran)
        choice = selected[workload]
        found.append(
            Subject(
                workload=workload,
                namespace=versions[0].namespace,
                kind=versions[0].owner_kind.lower(),
                name=versions[0].owner_name,
                selector=choice.selector,
                rung=choice.rung,
                pods=len({pod.uid for pod in versions}),
                pods_digest=pods_digest(versions),
                host_network=any(pod.host_network for pod in versions),
                convergence=converge(
                    exposed,
                    lonely[workload],
                    unit=limits.convergence_seconds * SECOND,
                    grid=frames.grid,
                    days=limits.exposed_days,
                    target=limits.bound,
                    confidence=limits.confidence,
                    not_seen=missing,
                ),
                conflicts=choice.conflicts,
            )
        )
    return tuple(found)


def _coverage(frames: _Frames, inventory: Inventory, pods: Sequence[PodVersion]) -> dict[str, int | float]:
    """Return how much of the cluster the recording can vouch for; a listed node without a row is a gap."""
    listed = {node.name for node in inventory.kind("Node")} | frames.nodes
    expected = len(listed) * len(frames.windows)
    return {
        "windows": len(frames.windows),
        "nodes": len(listed),
        "node_windows": expected,
        "node_windows_clean": int(frames.totals["clean"]),
        "node_windows_gap": expected - int(frames.totals["held"]),
        "packets_dropped": int(frames.totals["dropped"]),
        "connections_unresolved": int(frames.totals["unresolved"]) + int(frames.totals["lost"]),
        "connections_ambiguous": int(frames.totals["ambiguous"]),
        "identities_carried": sum(pod.carried for pod in pods),
    }


def _digest(frames: _Frames, inventory: Inventory, pods: Sequence[PodVersion]) -> str:
    """Return a digest of what the recording says: added-up rows, pods, objects and exposure, whatever the files."""
    digest = hashlib.sha256()
    parts: list[Any] = [frames.cluster, sorted(frames.exposure.items()), list(frames.windows)]
    parts += [[*_edge(row), *(int(row[name]) for name in COUNTED)] for row in frames.observed]
    parts += [sorted(led.items()) for led in _led(frames.names)]
    parts += [asdict(pod) for pod in pods]
    parts += [[one.kind, one.namespace, one.name, one.uid, one.start, one.end, one.text] for one in inventory.versions]
    for part in parts:
        digest.update(json.dumps(part, sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()


def _key(pattern: Pattern) -> Key:
    return pattern.source, pattern.destination, pattern.protocol, port_text(pattern)


def _edge(row: Row) -> Edge:
    return (
        row["source"],
        row["destination"],
        row["protocol"],
        row["port"],
        row["icmp_type"],
        row["icmp_code"],
    )


def _known(number: int) -> int | None:
    return None if number < 0 else int(number)
