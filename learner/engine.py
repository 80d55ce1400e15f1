"""Runs the learner's SQL. Everything that grows with traffic happens here; what comes out are patterns, not flows.

Each file in `sql/` is one SELECT whose result takes the file's name, in the subset of SQL that DuckDB and Spark share.
What differs between engines (reading Parquet, times as integers, lists) stays in this module.
"""

import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from typing import Any, Protocol

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray
from pyarrow import fs as pafs

from recorder.errors import RecordingError, UnsupportedError
from recorder.records import SCHEMAS
from recorder.store import Recording

VIEWS = frozenset({"identified"})
"""Results that are read once or twice and as large as the recording: not kept."""

FIRST = ("holders", "routes", "identified", "clean", "added", "ends", "peers", "resolved")
THEN = ("sided", "moments", "pairs", "replicas", "gaps", "observed", "contacts", "names")
EXPOSED = ("runs", "watched", "exposure", "watched_pods")
STEPS = FIRST + THEN + EXPOSED
"""The order in which the files run; each reads only what came before it, the recording and the registered tables."""

FLOWS = """
SELECT
    epoch_us(window_start) AS window_start,
    epoch_us(window_end) AS window_end,
    epoch_us(first_seen) AS first_seen,
    epoch_us(last_seen) AS last_seen,
    node, reporter, src_ip, src_kind, src_id, dst_ip, dst_kind, dst_id, protocol,
    dst_port, icmp_type, icmp_code, dialled_ip, dialled_port, service, snat_ip, backend,
    CAST(COALESCE(attempts, 0) AS BIGINT) AS attempts,
    CAST(COALESCE(answered, 0) AS BIGINT) AS answered,
    CAST(COALESCE(refused, 0) AS BIGINT) AS refused,
    CAST(COALESCE(denied, 0) AS BIGINT) AS denied,
    CAST(COALESCE(unanswered, 0) AS BIGINT) AS unanswered,
    CAST(COALESCE("open", 0) AS BIGINT) AS established,
    dns_names,
    CASE WHEN len(dns_names) > 0 THEN 1 ELSE 0 END AS dns
FROM {table}
"""
COVERAGE = """
SELECT
    node, backend, ring,
    epoch_us(window_start) AS window_start,
    epoch_us(window_end) AS window_end,
    CAST(packets AS BIGINT) AS packets,
    CAST(dropped AS BIGINT) AS dropped,
    CAST(unresolved AS BIGINT) AS unresolved,
    CAST(ambiguous AS BIGINT) AS ambiguous,
    watch_lag_seconds,
    CASE WHEN gap THEN 1 ELSE 0 END AS gap,
    CASE WHEN scope = 'node' THEN 0 ELSE 1 END AS partial
FROM {table}
"""


class Engine(Protocol):
    """Something that runs the learner's SQL over a recording."""

    @abstractmethod
    def register(self, name: str, table: pa.Table) -> None:
        """Make a small table known by name."""

    @abstractmethod
    def run(self) -> None:
        """Run every step over the recording and the registered tables."""

    @abstractmethod
    def query(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a small result."""


class DuckEngine:
    """DuckDB inside this process, within `memory`; what does not fit is spilled to a temporary folder."""

    def __init__(self, recording: Recording, *, memory: str, threads: int | None, spill: str) -> None:
        settings: dict[str, Any] = {
            "memory_limit": memory,
            "temp_directory": spill,
            "preserve_insertion_order": False,
        }
        if threads is not None:
            settings["threads"] = threads
        self._base = duckdb.connect(config=settings)
        # Progress is the command line's to show; DuckDB would draw its own bar wherever a query takes long.
        self._base.execute("SET enable_progress_bar = false")
        for table, select in (("flows", FLOWS), ("coverage", COVERAGE)):
            self._base.execute(f"CREATE VIEW {table} AS {select.format(table=self._source(recording, table))}")

    def _source(self, recording: Recording, table: str) -> str:
        """Return what to select a table of the recording from, and make it known where a path is not enough."""
        files = recording.files(table)
        local = isinstance(recording.filesystem, pafs.LocalFileSystem)
        if local and files and self._complete(files, table):
            listed = ", ".join("'" + path.replace("'", "''") + "'" for path in files)
            return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
        name = f"recorded_{table}"
        data: Any = SCHEMAS[table].empty_table()
        if files:
            data = ds.dataset(files, format="parquet", filesystem=recording.filesystem, schema=SCHEMAS[table])
        self._base.register(name, data)
        return name

    def _complete(self, files: list[str], table: str) -> bool:
        """Tell whether the files have all columns of the contract; where not, missing ones are read as null."""
        found = self._base.execute(
            "SELECT column_name FROM (DESCRIBE SELECT * FROM read_parquet(?, union_by_name = true,"
            " hive_partitioning = false))",
            [files],
        ).fetchall()
        return set(SCHEMAS[table].names) <= {name for (name,) in found}

    def register(self, name: str, table: pa.Table) -> None:
        """Make a small table known by name."""
        self._base.register(name, table)

    def run(self) -> None:
        """Run every step over the recording and the registered tables."""
        for name in STEPS:
            self.create("VIEW" if name in VIEWS else "TABLE", name, statement(name))

    def create(self, kind: str, name: str, sql: str) -> None:
        """Make a `TABLE` or `VIEW` of a SELECT."""
        self._base.execute(f"CREATE {kind} {name} AS {sql}")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a small result as tuples."""
        return self._base.execute(sql).fetchall()

    def columns(self, sql: str) -> dict[str, NDArray[Any]]:
        """Return a result without nulls as numpy columns."""
        return self._base.execute(sql).fetchnumpy()

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a small result."""
        table: Any = self._base.sql(sql).to_arrow_table()
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    def close(self) -> None:
        """Let go of memory and files."""
        self._base.close()


@contextmanager
def duck(recording: Recording, *, memory: str = "1500MB", threads: int | None = None) -> Iterator[DuckEngine]:
    """Open DuckDB over a recording.

    Raises RecordingError when a file of it cannot be read, UnsupportedError when memory and disk do not suffice.
    """
    with tempfile.TemporaryDirectory(prefix="podfence-") as spill:
        try:
            engine = DuckEngine(recording, memory=memory, threads=threads, spill=spill)
            try:
                yield engine
            finally:
                engine.close()
        except duckdb.OutOfMemoryException as error:
            raise UnsupportedError(
                f"{recording.uri}: bringing it down to patterns or edges needs more than {memory} of memory and the disk space of {spill}; allow more"
            ) from error
        except (duckdb.ProgrammingError, duckdb.InternalError):
            raise  # a mistake in the SQL is no fault of the recording's
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise RecordingError(f"{recording.uri}: cannot be read: {str(error).splitlines()[0]}") from error


def statement(name: str) -> str:
    """Return the SELECT of a step."""
    return resources.files("learner").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def settings_table(values: Mapping[str, float]) -> pa.Table:
    """Return the one-row table `settings` that the SQL reads its thresholds from."""
    return pa.table({key: [value] for key, value in sorted(values.items())})
