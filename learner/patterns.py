"""The contract of what was learned: patterns (`patterns.parquet`) and subjects (`subjects.json`).

Names: a workload is `namespace/kind/name` with the kind in lower case, a Service `namespace/service/name`, a node
`node/name`, the API server `apiserver`, an address outside the cluster its prefix (`203.0.113.10/32`), an address that
nobody held `unresolved/ADDRESS`.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq

from recorder.errors import InputError, NewerSchemaError
from recorder.folders import appearing
from recorder.records import COUNT, NUMBER, TEXT, TIME, Column, columns

SCHEMA_VERSION = 1

DECISIONS = ("accept", "queue", "reject")
LEARNING, CONVERGING, STABLE = "LEARNING", "CONVERGING", "STABLE"
STATES = (LEARNING, CONVERGING, STABLE)
"""How much of a subject was seen: too little, enough time or a low enough bound, both."""
BASES = ("observed", "declared", "inferred", "human")
PEER_KINDS = ("workload", "external", "node", "apiserver", "service", "multicast", "unresolved", "ambiguous")

_TEXTS = pa.list_(TEXT)
_INTERVAL = pa.struct([("low", pa.float64()), ("high", pa.float64())])


@dataclass(frozen=True, slots=True)
class Pattern:
    """Who talks to whom on which port, how often that was seen, and what was decided about it and why."""

    id: Annotated[
        str, Column(TEXT, "first 12 hex digits of SHA-256 of source, destination, protocol, port (see `pattern_id`)")
    ]
    source: Annotated[str, Column(TEXT, "initiator: workload or peer")]
    source_kind: Annotated[str, Column(TEXT, "what the initiator is: `workload`, `external`, `node`, …")]
    destination: Annotated[str, Column(TEXT, "responder: workload or peer")]
    destination_kind: Annotated[str, Column(TEXT, "what the responder is")]
    protocol: Annotated[str, Column(TEXT, "`tcp`, `udp`, `sctp`, `icmp`, `icmpv6`, or a number as text")]
    port: Annotated[int | None, Column(NUMBER, "responder's port (container port); null where there is none")]
    end_port: Annotated[int | None, Column(NUMBER, "last port of a range; null for a single port")]
    icmp_type: Annotated[int | None, Column(NUMBER, "ICMP type")]
    icmp_code: Annotated[int | None, Column(NUMBER, "ICMP code")]
    attempts: Annotated[int, Column(COUNT, "connections tried")]
    answered: Annotated[int, Column(COUNT, "of these, accepted by the responder")]
    refused: Annotated[int, Column(COUNT, "of these, refused")]
    denied: Annotated[int, Column(COUNT, "of these, stopped by a policy")]
    unanswered: Annotated[int, Column(COUNT, "of these, never answered")]
    open: Annotated[int, Column(COUNT, "connection-windows of connections opened before their window")]
    first_seen: Annotated[int, Column(TIME, "first packet")]
    last_seen: Annotated[int, Column(TIME, "last packet")]
    windows_seen: Annotated[int, Column(COUNT, "windows with an answered or open connection")]
    windows_exposed: Annotated[
        int, Column(COUNT, "windows in which the source (or, from outside, the destination) was watched")
    ]
    days: Annotated[int, Column(COUNT, "distinct UTC days among the windows seen")]
    replicas_seen: Annotated[int, Column(COUNT, "pods of the source that showed it")]
    replicas_exposed: Annotated[int, Column(COUNT, "pods of the source that were watched")]
    halves: Annotated[list[str], Column(_TEXTS, "which halves were recorded: `egress`, `ingress`")]
    declared_by: Annotated[
        list[str], Column(_TEXTS, "what declares the port: `containerPort`, `service/namespace/name`")
    ]
    services: Annotated[list[str], Column(_TEXTS, "Services dialled, namespace/name")]
    dns_names: Annotated[list[str], Column(_TEXTS, "names whose answers led here")]
    period: Annotated[float | None, Column(pa.float64(), "seconds between recurrences; null: none found")]
    recurrence: Annotated[
        dict[str, float] | None, Column(_INTERVAL, "interval of the share of exposed windows that show it")
    ]
    decision: Annotated[str, Column(TEXT, "`accept`, `queue` or `reject`")]
    reasons: Annotated[list[str], Column(_TEXTS, "reason codes, sorted")]
    basis: Annotated[str, Column(TEXT, "`observed`, `declared`, `inferred` or `human`")]


PATTERN_SCHEMA = pa.schema(
    [(name, column.type) for name, column in columns(Pattern).items()],
    metadata={b"table": b"patterns", b"schema_version": str(SCHEMA_VERSION).encode()},
)


@dataclass(frozen=True, slots=True)
class Expression:
    """One `matchExpressions` term; operators as in Kubernetes (`In`, `NotIn`, `Exists`, `DoesNotExist`)."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selector:
    """A label selector: the conjunction of all its terms."""

    match_labels: tuple[tuple[str, str], ...] = ()
    match_expressions: tuple[Expression, ...] = ()

    @classmethod
    def of(cls, labels: Mapping[str, str], expressions: Iterable[Expression] = ()) -> "Selector":
        """Return a selector with its terms in canonical order."""
        return cls(
            tuple(sorted(labels.items())), tuple(sorted(expressions, key=lambda term: (term.key, term.operator)))
        )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a pod with these labels is selected; `NotIn` also matches where the key is absent."""
        if any(labels.get(key) != value for key, value in self.match_labels):
            return False
        for term in self.match_expressions:
            value = labels.get(term.key)
            found = {
                "In": value is not None and value in term.values,
                "NotIn": value is None or value not in term.values,
                "Exists": value is not None,
                "DoesNotExist": value is None,
            }[term.operator]
            if not found:
                return False
        return True


@dataclass(frozen=True, slots=True)
class Convergence:
    """How much of a subject's behaviour the recording can be said to have seen.

    `estimate` and `bound` are the probability that the next window holds something not seen before: the
    leave-one-window-out share and its exact 95 % upper bound (Clopper and Pearson, Biometrika 26, 1934).
    """

    windows_exposed: int
    estimate: float | None
    bound: float | None
    state: str
    not_seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """A workload that a policy can be about; `kind` is in lower case, `selector` None where none is exact (rung `none`)."""

    workload: str
    namespace: str
    kind: str
    name: str
    selector: Selector | None
    rung: str
    pods: int
    pods_digest: str
    host_network: bool
    convergence: Convergence
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Learned:
    """What `learn` writes and `generate` reads."""

    cluster: str
    subjects: tuple[Subject, ...]
    patterns: tuple[Pattern, ...]
    cluster_ranges: tuple[str, ...] = ()
    thresholds: Mapping[str, float | int | str] = field(default_factory=dict)
    coverage: Mapping[str, int | float] = field(default_factory=dict)
    input_digest: str = ""

    def write(self, out: str | os.PathLike[str]) -> None:
        """Write `patterns.parquet` and `subjects.json` into a folder that is new or empty; it appears whole or not at all.

        Raises OutputError when it is not empty or cannot be written.
        """
        with appearing(out) as folder:
            self._write(folder)

    def _write(self, folder: Path) -> None:
        rows = sorted(self.patterns, key=_order)
        arrays = [pa.array([getattr(row, name) for row in rows], type=kind) for name, kind in _fields()]
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=PATTERN_SCHEMA), folder / "patterns.parquet", compression="zstd"
        )
        head = {
            "schema_version": SCHEMA_VERSION,
            "cluster": self.cluster,
            "input_digest": self.input_digest,
            "cluster_ranges": list(self.cluster_ranges),
            "thresholds": dict(sorted(self.thresholds.items())),
            "coverage": dict(sorted(self.coverage.items())),
            "subjects": [subject_json(subject) for subject in sorted(self.subjects, key=lambda one: one.workload)],
        }
        text = json.dumps(head, indent=2, ensure_ascii=False) + "\n"
        (folder / "subjects.json").write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> "Learned":
        """Read a folder that `learn` wrote.

        Raises InputError when it is none or damaged, NewerSchemaError when a later version wrote it.
        """
        place = Path(folder)
        if not (place / "subjects.json").is_file() or not (place / "patterns.parquet").is_file():
            raise InputError(
                f"{place}: not what `podfence learn` writes (subjects.json and patterns.parquet are missing)"
            )
        try:
            head = json.loads((place / "subjects.json").read_text(encoding="utf-8"))
            version = int(head["schema_version"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{place / 'subjects.json'}: damaged: {error}") from error
        if version > SCHEMA_VERSION:
            raise NewerSchemaError(f"{place}: schema version {version}, this podfence reads up to {SCHEMA_VERSION}")
        try:
            table = pq.read_table(place / "patterns.parquet", schema=PATTERN_SCHEMA)
            times = {"first_seen", "last_seen"}
            for name in times:
                table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.int64()))
            return cls(
                cluster=head["cluster"],
                subjects=tuple(_subject(entry) for entry in head["subjects"]),
                patterns=tuple(Pattern(**row) for row in table.to_pylist()),
                cluster_ranges=tuple(head["cluster_ranges"]),
                thresholds=head["thresholds"],
                coverage=head["coverage"],
                input_digest=head["input_digest"],
            )
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError, OSError) as error:
            raise InputError(f"{place}: damaged: {str(error).splitlines()[0]}") from error


def pattern_id(source: str, destination: str, protocol: str, port: str) -> str:
    """Return a pattern's id; `port` is its text: `80`, `8000-8010`, an ICMP `type/code`, or empty."""
    return hashlib.sha256(f"{source}|{destination}|{protocol}|{port}".encode()).hexdigest()[:12]


def port_text(pattern: Pattern) -> str:
    """Return a pattern's port as people write it: `80`, `8000-8010`, `8/0` for ICMP, or empty."""
    if pattern.icmp_type is not None:
        return f"{pattern.icmp_type}" if pattern.icmp_code is None else f"{pattern.icmp_type}/{pattern.icmp_code}"
    if pattern.port is None:
        return ""
    return str(pattern.port) if pattern.end_port is None else f"{pattern.port}-{pattern.end_port}"


def subject_json(subject: Subject) -> dict[str, Any]:
    """Return a subject as it stands in `subjects.json`."""
    entry = asdict(subject)
    if subject.selector is not None:
        entry["selector"] = selector_json(subject.selector)
    return entry


def selector_json(selector: Selector) -> dict[str, Any]:
    """Return a selector as Kubernetes writes it."""
    found: dict[str, Any] = {}
    if selector.match_labels:
        found["matchLabels"] = dict(selector.match_labels)
    if selector.match_expressions:
        found["matchExpressions"] = [
            {"key": term.key, "operator": term.operator} | ({"values": list(term.values)} if term.values else {})
            for term in selector.match_expressions
        ]
    return found


def _subject(entry: dict[str, Any]) -> Subject:
    raw = entry["selector"]
    selector = None
    if raw is not None:
        terms = [
            Expression(term["key"], term["operator"], tuple(term.get("values", ())))
            for term in raw.get("matchExpressions", ())
        ]
        selector = Selector.of(raw.get("matchLabels", {}), terms)
    convergence = Convergence(**entry["convergence"] | {"not_seen": tuple(entry["convergence"]["not_seen"])})
    return Subject(
        **entry | {"selector": selector, "convergence": convergence, "conflicts": tuple(entry["conflicts"])},
    )


def _fields() -> list[tuple[str, pa.DataType]]:
    return [(name.name, name.type) for name in PATTERN_SCHEMA]


def _order(pattern: Pattern) -> tuple[str, str, str, int, int, int]:
    return (
        pattern.source,
        pattern.destination,
        pattern.protocol,
        -1 if pattern.port is None else pattern.port,
        -1 if pattern.icmp_type is None else pattern.icmp_type,
        -1 if pattern.icmp_code is None else pattern.icmp_code,
    )
