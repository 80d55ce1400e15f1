"""Brings a recording down to its distinct edges, so that each is judged once however often it was seen.

Which windows of a node are clean, and who held an address, is for the learner's SQL to say: one rule for both.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa

from deploy.population import Population
from deploy.semantics.ends import Codes
from deploy.semantics.selectors import Truth
from deploy.semantics.traffic import Connection
from learner.engine import DuckEngine, duck, settings_table, statement
from learner.evidence import Thresholds
from recorder.errors import RecordingError
from recorder.store import Recording


@dataclass(frozen=True, slots=True)
class End:
    """One end as recorded."""

    kind: str
    ip: str
    id: str | None


_NONE: Codes = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Dialled:
    """The address of a Service, NodePort or load balancer that was dialled; `service` is `namespace/name` when known."""

    service: str | None
    ip: str
    port: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """The distinct edges of a recording in columns, in the order of their ends.

    `source` and `destination` (int64) number `ends`, `connection` (int64) numbers `connections`. `egress` and `ingress` are the
    halves that the recording proves; `egress_seen` and `ingress_seen` tell halves that a node saw itself from those a row of
    the other side stands for. `translated`: only ever seen with its source rewritten on the way. `lively`: answered at least
    once, or known open (all bool). `answered` and `attempts` count connections, times are microseconds since the epoch
    (int64). `dialled` gives, when it was asked for, the distinct addresses of Services dialled, and for edges that led
    through one the columns (edge, number of the address; -1: the responder itself).
    """

    ends: tuple[End, ...]
    connections: tuple[Connection, ...]
    source: Codes
    destination: Codes
    connection: Codes
    egress: Truth
    ingress: Truth
    egress_seen: Truth
    ingress_seen: Truth
    translated: Truth
    answered: Codes
    attempts: Codes
    lively: Truth
    first_seen: Codes
    last_seen: Codes
    dialled: tuple[tuple[Dialled, ...], Codes, Codes] = ((), _NONE, _NONE)

    def __len__(self) -> int:
        return len(self.source)


@contextmanager
def reading(recording: Recording) -> Iterator[None]:
    """Raise RecordingError where a file of the recording turns out to be damaged while it is read."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise RecordingError(f"{recording.uri}: cannot be read: {str(error).splitlines()[0]}") from error


def edges(recording: Recording, population: Population, *, dialled: bool = False) -> Edges:
    """Return the distinct edges of a recording; `dialled` asks for what was dialled, too.

    Raises RecordingError when a file of it cannot be read, UnsupportedError when memory and disk do not suffice.
    """
    with duck(recording) as engine:
        engine.register("pods", _pods(population))
        engine.register("addresses", _addresses(population))
        engine.register("settings", settings_table(asdict(Thresholds())))
        for kind, name, sql in (
            ("TABLE", "holders", statement("holders")),
            ("VIEW", "identified", _own("identified")),
            ("TABLE", "clean", statement("clean")),
            ("TABLE", "edges", _own("recorded")),
            ("TABLE", "ends", _own("recorded_ends")),
            ("TABLE", "connections", _own("recorded_connections")),
        ):
            engine.create(kind, name, sql)
        ends = engine.rows("SELECT kind, ip, id FROM ends ORDER BY number")
        kinds = engine.rows("SELECT protocol, dst_port, icmp_type, icmp_code FROM connections ORDER BY number")
        columns = engine.columns(_own("recorded_edges"))
        ways, asked = _asked(engine) if dialled else ([], {})
    columns["answered"] = columns.pop("connections")
    return Edges(
        ends=tuple(End(*row) for row in ends),
        connections=tuple(Connection(*row) for row in kinds),
        dialled=_dialled(columns, ways, asked),
        **{name: np.asarray(column) for name, column in columns.items()},
    )


def _asked(engine: DuckEngine) -> tuple[list[tuple[Any, ...]], Mapping[str, Codes]]:
    engine.create("TABLE", "asked", _own("recorded_dialled"))
    ways = engine.rows(
        "SELECT DISTINCT ON (way) service, dialled_ip, dialled_port FROM asked WHERE way >= 0 ORDER BY way"
    )
    columns = "source, destination, connection, way"
    return ways, engine.columns(f"SELECT {columns} FROM asked ORDER BY {columns}")  # noqa: S608 - names


def _dialled(
    columns: Mapping[str, Codes], ways: list[tuple[Any, ...]], asked: Mapping[str, Codes]
) -> tuple[tuple[Dialled, ...], Codes, Codes]:
    """Return what was dialled: the distinct addresses, and (edge, number of the address; -1: the responder) in columns."""
    if not ways:
        return (), _NONE, _NONE
    names = ("source", "destination", "connection")
    sizes = [int(columns[name].max()) + 1 for name in names]
    edge, seen = (
        (table["source"] * sizes[1] + table["destination"]) * sizes[2] + table["connection"]
        for table in (columns, asked)
    )
    return tuple(Dialled(*one) for one in ways), np.searchsorted(edge, seen), np.asarray(asked["way"])


def _own(name: str) -> str:
    return resources.files("deploy").joinpath(f"{name}.sql").read_text(encoding="utf-8")


def _pods(population: Population) -> pa.Table:
    return _table(("id", "node"), (), ((pod.id, pod.node) for pod in population.pods.values()))


def _addresses(population: Population) -> pa.Table:
    return _table(("ip", "kind", "id", "holder"), ("held_from", "held_until"), population.addresses())


def _table(texts: tuple[str, ...], numbers: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> pa.Table:
    kinds: list[tuple[str, pa.DataType]] = [(name, pa.string()) for name in texts]
    kinds += [(name, pa.int64()) for name in numbers]
    names = [name for name, _ in kinds]
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=pa.schema(kinds))
