"""Brings a recording down to its distinct edges, so that each is judged once however often it was seen.

Which windows of a node are clean, and who held an address, is for the learner's SQL to say: one rule for both.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from deploy.population import Population
from learner.engine import COVERAGE, FLOWS, settings_table, statement
from learner.evidence import Thresholds
from recorder.errors import RecordingError
from recorder.records import SCHEMAS
from recorder.store import Recording


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


@contextmanager
def reading(recording: Recording) -> Iterator[None]:
    """Raise RecordingError where a file of the recording turns out to be damaged while it is read."""
    try:
        yield
    except (duckdb.InvalidInputException, duckdb.IOException, pa.ArrowException, OSError) as error:
        raise RecordingError(f"{recording.uri}: cannot be read: {str(error).splitlines()[0]}") from error


def edges(recording: Recording, population: Population) -> Iterator[Edge]:
    """Yield the distinct edges of a recording, in the order of their ends."""
    with duckdb.connect() as connection:
        # Progress bars belong to the command line.
        connection.execute("SET enable_progress_bar = false")
        files = recording.files("flows")
        flows = ds.dataset(files, schema=SCHEMAS["flows"], filesystem=recording.filesystem, format="parquet")
        connection.register("recorded_flows", flows)
        connection.register("recorded_coverage", recording.read("coverage"))
        connection.register("pods", _pods(population))
        connection.register("addresses", _addresses(population))
        connection.register("settings", settings_table(asdict(Thresholds())))
        connection.execute(f"CREATE TEMP VIEW flows AS {FLOWS.format(table='recorded_flows')}")
        connection.execute(f"CREATE TEMP VIEW coverage AS {COVERAGE.format(table='recorded_coverage')}")
        connection.execute(f"CREATE TEMP TABLE holders AS {statement('holders')}")
        connection.execute(f"CREATE TEMP VIEW identified AS {_own('identified')}")
        connection.execute(f"CREATE TEMP TABLE clean AS {statement('clean')}")
        found = connection.execute(_own("recorded"))
        while rows := found.fetchmany(10_000):
            for row in rows:
                yield _edge(row)


def _own(name: str) -> str:
    return resources.files("deploy").joinpath(f"{name}.sql").read_text(encoding="utf-8")


def _edge(row: tuple[Any, ...]) -> Edge:
    return Edge(End(*row[0:3]), End(*row[3:6]), *row[6:])


def _pods(population: Population) -> pa.Table:
    return _table(("id", "node"), (), ((pod.id, pod.node) for pod in population.pods.values()))


def _addresses(population: Population) -> pa.Table:
    return _table(("ip", "kind", "id", "holder"), ("held_from", "held_until"), population.addresses())


def _table(texts: tuple[str, ...], numbers: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> pa.Table:
    kinds: list[tuple[str, pa.DataType]] = [(name, pa.string()) for name in texts]
    kinds += [(name, pa.int64()) for name in numbers]
    names = [name for name, _ in kinds]
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=pa.schema(kinds))
