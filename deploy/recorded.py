"""Brings a recording down to its distinct edges, so that each is judged once however often it was seen."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from deploy.population import Population
from recorder.records import SCHEMAS
from recorder.store import Recording

GRACE_SECONDS = 30.0
"""A watch that lags further behind than this does not know who held an address when the recorder resolved it."""


@dataclass(frozen=True, slots=True)
class End:
    """One end as recorded."""

    kind: str
    ip: str
    id: str | None


@dataclass(frozen=True, slots=True)
class Edge:
    """Two ends, protocol and port, with the halves that the recording proves and what it counted.

    `egress_seen` and `ingress_seen` tell halves that a node saw itself from those a row of the other side stands for.
    `translated`: only ever seen with its source rewritten on the way. `lively`: answered at least once, or known open.
    Times are microseconds since the epoch.
    """

    source: End
    destination: End
    protocol: str
    port: int | None
    icmp_type: int | None
    icmp_code: int | None
    egress: bool
    ingress: bool
    egress_seen: bool
    ingress_seen: bool
    translated: bool
    connections: int
    attempts: int
    lively: bool
    first_seen: int
    last_seen: int


def edges(recording: Recording, population: Population) -> Iterator[Edge]:
    """Yield the distinct edges of a recording, in the order of their ends."""
    with duckdb.connect() as connection:
        # Progress bars belong to the command line.
        connection.execute("SET enable_progress_bar = false")
        files = recording.files("flows")
        flows = ds.dataset(files, schema=SCHEMAS["flows"], filesystem=recording.filesystem, format="parquet")
        connection.register("flows", flows)
        connection.register("pods", _pods(population))
        connection.register("addresses", _addresses(population))
        connection.register("raw_coverage", recording.read("coverage"))
        connection.execute(_COVERAGE, [GRACE_SECONDS])
        found = connection.execute(resources.files("deploy").joinpath("recorded.sql").read_text(encoding="utf-8"))
        while rows := found.fetchmany(10_000):
            for row in rows:
                yield _edge(row)


_COVERAGE = """
CREATE TEMP TABLE coverage AS
SELECT
    node,
    ring,
    backend,
    epoch_us(window_start) AS window_start,
    MAX(epoch_us(window_end)) AS window_end,
    NOT BOOL_OR(gap OR scope <> 'node' OR COALESCE(watch_lag_seconds, 0) > ?) AS whole,
    SUM(packets) AS packets,
    SUM(dropped) AS dropped,
    SUM(unresolved + ambiguous) AS unknown
FROM raw_coverage
WHERE ring IN ('tcp', 'udp')
GROUP BY node, ring, backend, epoch_us(raw_coverage.window_start)
"""


def _edge(row: tuple[Any, ...]) -> Edge:
    return Edge(End(*row[0:3]), End(*row[3:6]), *row[6:])


def _pods(population: Population) -> pa.Table:
    return _table(("id", "node"), (), ((pod.id, pod.node) for pod in population.pods.values()))


def _addresses(population: Population) -> pa.Table:
    return _table(("ip", "kind", "id", "holder"), ("start", "stop"), population.addresses())


def _table(texts: tuple[str, ...], numbers: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> pa.Table:
    kinds: list[tuple[str, pa.DataType]] = [(name, pa.string()) for name in texts]
    kinds += [(name, pa.int64()) for name in numbers]
    names = [name for name, _ in kinds]
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=pa.schema(kinds))
