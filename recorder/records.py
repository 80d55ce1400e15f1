"""The contract of a recording: what each table holds, as dataclasses and, derived from them, Arrow schemas.

A recording is Parquet, so anybody's tool may read or make one; this module is the only place that says what the columns
are. Times are microseconds since the epoch (UTC) as `int` in the dataclasses and `timestamp[us, UTC]` in the files.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

import pyarrow as pa

SCHEMA_VERSION = 1
DEFAULT_WINDOW_SECONDS = 60

SECOND = 1_000_000
"""Microseconds in a second; every time inside podfence is an integer number of microseconds."""

TIME = pa.timestamp("us", tz="UTC")
TEXT = pa.string()
COUNT = pa.int64()
NUMBER = pa.int32()
PORTS = pa.list_(
    pa.struct([("name", TEXT), ("number", NUMBER), ("protocol", TEXT), ("host_port", NUMBER)]),
)
EPHEMERAL = pa.list_(pa.struct([("name", TEXT), ("start", TIME)]))

ENDPOINT_KINDS = (
    "pod",
    "node",
    "apiserver",
    "service",
    "external",
    "multicast",
    "deferred",
    "unresolved",
    "ambiguous",
    "overflow",
)
REPORTERS = ("src", "dst", "unknown")
DIRECTION_BASES = ("handshake", "first-packet", "port", "snapshot")
START_BASES = ("interface", "annotation", "created", "event", "list", "carried")
RINGS = ("tcp", "udp", "dns")


@dataclass(frozen=True, slots=True)
class Column:
    """The Arrow type of a column, its meaning, and whether rows of equal value in all such columns add up."""

    type: pa.DataType
    meaning: str
    key: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """One edge in one window as one reporter saw it; never a packet. At least one side is a pod."""

    window_start: Annotated[int, Column(TIME, "start of the window", key=True)]
    window_end: Annotated[int, Column(TIME, "end of the window, exclusive")]
    first_seen: Annotated[int, Column(TIME, "first packet of the edge in the window")]
    last_seen: Annotated[int, Column(TIME, "last packet of the edge in the window")]
    cluster: Annotated[str, Column(TEXT, "cluster the recording belongs to", key=True)]
    node: Annotated[str, Column(TEXT, "node that saw the edge", key=True)]
    reporter: Annotated[
        str,
        Column(
            TEXT,
            "`src`: seen at the initiator's node, `dst`: at the responder's, `unknown`: a capture that cannot tell",
            key=True,
        ),
    ]
    src_ip: Annotated[str, Column(TEXT, "initiator's address, canonical text, or a prefix when folded", key=True)]
    src_kind: Annotated[str, Column(TEXT, "what held that address then (see endpoint kinds)", key=True)]
    src_id: Annotated[
        str | None,
        Column(TEXT, "`pod`: key into identities; `node`: its name; `service`: namespace/name; else null", key=True),
    ]
    dst_ip: Annotated[str, Column(TEXT, "responder's address; the real backend (after DNAT) when known", key=True)]
    dst_kind: Annotated[str, Column(TEXT, "what held that address then", key=True)]
    dst_id: Annotated[str | None, Column(TEXT, "as `src_id`", key=True)]
    protocol: Annotated[str, Column(TEXT, "`tcp`, `udp`, `sctp`, `icmp`, `icmpv6`, or a number as text", key=True)]
    dst_port: Annotated[int | None, Column(NUMBER, "responder's port; null where there is none", key=True)]
    icmp_type: Annotated[int | None, Column(NUMBER, "ICMP type", key=True)] = None
    icmp_code: Annotated[int | None, Column(NUMBER, "ICMP code", key=True)] = None
    dialled_ip: Annotated[
        str | None,
        Column(TEXT, "address the client dialled, when that is a Service, NodePort or load balancer", key=True),
    ] = None
    dialled_port: Annotated[int | None, Column(NUMBER, "port the client dialled, likewise", key=True)] = None
    service: Annotated[str | None, Column(TEXT, "namespace/name of the Service dialled")] = None
    snat_ip: Annotated[str | None, Column(TEXT, "source address as translated on the way, when seen")] = None
    attempts: Annotated[int, Column(COUNT, "connections tried: answered + refused + denied + unanswered")] = 0
    answered: Annotated[int, Column(COUNT, "attempts the responder accepted (TCP: SYN-ACK; UDP: a reply)")] = 0
    refused: Annotated[
        int, Column(COUNT, "attempts reset or answered by an ICMP error, by the responder or for want of endpoints")
    ] = 0
    denied: Annotated[
        int | None,
        Column(COUNT, "attempts that a policy stopped; null where the data path hides it"),
    ] = None
    unanswered: Annotated[int, Column(COUNT, "attempts that nothing answered")] = 0
    open: Annotated[
        int | None,
        Column(COUNT, "connections established here without an attempt in the window; null when unknown"),
    ] = None
    denied_by: Annotated[str | None, Column(TEXT, "policy or rule that an imported log names")] = None
    packets: Annotated[int | None, Column(COUNT, "packets; null when not counted")] = None
    bytes: Annotated[int | None, Column(COUNT, "bytes; null when not counted")] = None
    folded: Annotated[int | None, Column(COUNT, "addresses behind a folded prefix")] = None
    dns_names: Annotated[
        list[str] | None,
        Column(
            pa.list_(TEXT),
            "names whose answers this pod received for the dialled address before it connected; sorted",
        ),
    ] = None
    direction_basis: Annotated[
        str,
        Column(TEXT, "how the initiator is known: `handshake`, `first-packet`, `port`, `snapshot`", key=True),
    ] = "handshake"
    backend: Annotated[str, Column(TEXT, "what captured it: `ring`, `ebpf`, `pcap`, `hubble`, …", key=True)] = "ring"
    sampling: Annotated[float, Column(pa.float64(), "share of packets captured; 1.0 is all")] = 1.0


@dataclass(frozen=True, slots=True)
class Identity:
    """One pod with one version of its labels, and the time in which it held its addresses."""

    cluster: Annotated[str, Column(TEXT, "cluster the recording belongs to")]
    id: Annotated[str, Column(TEXT, "`uid/` + first 12 hex digits of SHA-256 of the labels (see `identity_id`)")]
    uid: Annotated[str, Column(TEXT, "the pod's uid")]
    namespace: Annotated[str, Column(TEXT, "the pod's namespace")]
    pod: Annotated[str, Column(TEXT, "the pod's name")]
    node: Annotated[str | None, Column(TEXT, "node it ran on")]
    service_account: Annotated[str | None, Column(TEXT, "its ServiceAccount")]
    ips: Annotated[list[str], Column(pa.list_(TEXT), "its addresses, canonical text, sorted")]
    owner_kind: Annotated[str, Column(TEXT, "kind of the top controller; `Pod` for a bare pod")]
    owner_name: Annotated[str, Column(TEXT, "name of the top controller, or of the bare pod")]
    owner_uid: Annotated[str, Column(TEXT, "uid of the top controller, or of the bare pod")]
    labels: Annotated[dict[str, str], Column(pa.map_(TEXT, TEXT), "labels in this version, sorted by key")]
    ports: Annotated[
        list[dict[str, Any]], Column(PORTS, "ports its containers declare: name, number, protocol, host_port")
    ]
    probe_ports: Annotated[list[int], Column(pa.list_(NUMBER), "ports the kubelet probes")]
    ephemeral: Annotated[list[dict[str, Any]], Column(EPHEMERAL, "ephemeral containers: name, start")]
    host_network: Annotated[bool, Column(pa.bool_(), "the pod shares its node's addresses")]
    start: Annotated[int, Column(TIME, "earliest proof that the pod held the addresses with these labels")]
    end: Annotated[int | None, Column(TIME, "when that ended; null while it lasts")]
    observed_until: Annotated[int, Column(TIME, "last event of any kind; past it, an open interval is a guess")]
    start_basis: Annotated[str, Column(TEXT, "what proves `start`")]


@dataclass(frozen=True, slots=True)
class InventoryObject:
    """One version of one Kubernetes object, so that things can be asked for as of a time."""

    cluster: Annotated[str, Column(TEXT, "cluster the recording belongs to")]
    kind: Annotated[str, Column(TEXT, "the object's kind")]
    namespace: Annotated[str | None, Column(TEXT, "its namespace; null for cluster-scoped kinds")]
    name: Annotated[str, Column(TEXT, "its name")]
    uid: Annotated[str, Column(TEXT, "its uid")]
    start: Annotated[int, Column(TIME, "from when this version held")]
    end: Annotated[int | None, Column(TIME, "until when; null while it lasts")]
    object: Annotated[str, Column(TEXT, "slim JSON as the API has it; never env, args or secrets")]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one backend on one node can vouch for in one window: without it, 'no edge' does not mean 'no traffic'."""

    cluster: Annotated[str, Column(TEXT, "cluster the recording belongs to")]
    node: Annotated[str, Column(TEXT, "node that recorded")]
    backend: Annotated[str, Column(TEXT, "what captured")]
    ring: Annotated[str, Column(TEXT, "`tcp`, `udp` or `dns`")]
    scope: Annotated[str, Column(TEXT, "`node`: everything on the node; `partial`: only what the capture happened on")]
    window_start: Annotated[int, Column(TIME, "start of the window")]
    window_end: Annotated[int, Column(TIME, "end of the window, exclusive")]
    covered_from: Annotated[int, Column(TIME, "from when capture ran in this window")]
    covered_to: Annotated[int, Column(TIME, "until when")]
    packets: Annotated[int, Column(COUNT, "packets seen after the kernel's filter")]
    dropped: Annotated[int, Column(COUNT, "packets the kernel dropped for want of room")]
    overflowed: Annotated[int, Column(COUNT, "edges folded for want of room")]
    unresolved: Annotated[int, Column(COUNT, "answered connections with an end that nobody held")]
    ambiguous: Annotated[int, Column(COUNT, "answered connections with an end that two pods held")]
    watch_lag_seconds: Annotated[float | None, Column(pa.float64(), "how far behind identities were; null: unknown")]
    gap: Annotated[bool, Column(pa.bool_(), "the recorder did not run, or lost what it had")]


class Tables(Protocol):
    """Where tables come from: a recording, or a snapshot of a cluster."""

    def read(self, table: str) -> pa.Table:
        """Return a whole table with the contract's schema."""


Row = Flow | Identity | InventoryObject | Coverage

TABLES: Mapping[str, type[Row]] = {
    "flows": Flow,
    "identities": Identity,
    "inventory": InventoryObject,
    "coverage": Coverage,
}


def columns(row: type[Any]) -> dict[str, Column]:
    """Return the columns of a row type (a dataclass whose fields are annotated with `Column`) by name, in file order."""
    found: dict[str, Column] = {}
    for name, hint in get_type_hints(row, include_extras=True).items():
        assert get_origin(hint) is Annotated  # noqa: S101 - a field without a column is a mistake in this module
        found[name] = next(part for part in get_args(hint) if isinstance(part, Column))
    return found


def schema(table: str) -> pa.Schema:
    """Return the Arrow schema of a table, with `table` and `schema_version` in its metadata."""
    metadata: dict[bytes | str, bytes | str] = {"table": table, "schema_version": str(SCHEMA_VERSION)}
    return pa.schema([(name, column.type) for name, column in columns(TABLES[table]).items()], metadata=metadata)


SCHEMAS: Mapping[str, pa.Schema] = {table: schema(table) for table in TABLES}
FLOW_KEY: tuple[str, ...] = tuple(name for name, column in columns(Flow).items() if column.key)


def to_table(table: str, rows: Iterable[Row]) -> pa.Table:
    """Return rows as an Arrow table with the contract's schema, in the order given."""
    rows = list(rows)
    arrays = []
    for field in SCHEMAS[table]:
        values = [getattr(row, field.name) for row in rows]
        if pa.types.is_map(field.type):
            values = [sorted(value.items()) for value in values]
        arrays.append(pa.array(values, type=field.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMAS[table])


def identity_id(uid: str, labels: Mapping[str, str]) -> str:
    """Return the key of a pod's label version: `uid/` and 12 hex digits of SHA-256 of the labels as compact JSON."""
    text = json.dumps(dict(sorted(labels.items())), ensure_ascii=False, separators=(",", ":"))
    return f"{uid}/{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def window_of(time: int, seconds: int = DEFAULT_WINDOW_SECONDS) -> int:
    """Return the start of the window that holds `time`; windows begin at multiples of their length since the epoch."""
    length = seconds * SECOND
    return time - time % length
