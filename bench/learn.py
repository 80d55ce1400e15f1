"""Learning from a million rows (`--large`: five), beside a bare GROUP BY of the same files by the recording's own key."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np

from bench.measure import Line, measured, ratio
from bench.recordings import Cluster, write
from learner.learned import learn
from recorder.records import FLOW_KEY
from recorder.store import Recording

ROWS = 1_000_000
CLUSTER = Cluster(workloads=300, replicas=3)
NEEDS = 5
"""Workloads that each workload talks to, all replicas to all replicas."""
MEMORY = "1500MB"


def run(folder: Path, *, large: bool) -> Iterator[Line]:
    """Measure a million rows, or five."""
    rows = 5 * ROWS if large else ROWS
    write_recording(folder / "recording", rows)
    bare = measured(group, folder / "recording", times=3)
    assert bare.result == rows
    yield Line(f"bare GROUP BY of {rows:,} rows", bare.wall, "s")
    yield Line("", bare.peak / 1e6, "MB resident")
    learned = measured(patterns, folder / "recording", times=1 if large else 2)
    assert learned.result == CLUSTER.workloads * NEEDS, "as many patterns as were put in, all accepted"
    yield Line(
        f"learner.learn: {learned.result:,} patterns, {CLUSTER.workloads} workloads",
        learned.wall,
        "s",
        ratio(learned.wall, bare.wall, "bare GROUP BY"),
        "<= 5 x",
    )
    yield Line("", learned.cpu, "s of CPU", ratio(learned.cpu, bare.cpu, "bare GROUP BY"))
    yield Line(
        "", learned.peak / 1e6, "MB resident", ratio(learned.peak, bare.peak, "bare GROUP BY"), "<= 2,147 (2 GiB)"
    )


def write_recording(folder: Path, rows: int) -> None:
    """Write as many rows: the same edges in one window after the other, the last one as far as it goes."""
    workload, need = (axis.ravel() for axis in np.indices((CLUSTER.workloads, NEEDS)))
    other = (workload + 1 + need * 7) % CLUSTER.workloads
    replica = np.indices((CLUSTER.replicas, CLUSTER.replicas)).reshape(2, -1)
    source = (workload[:, None] * CLUSTER.replicas + replica[0]).ravel()
    target = (other[:, None] * CLUSTER.replicas + replica[1]).ravel()
    number = np.arange(rows // 2)
    write(folder, CLUSTER, source[number % len(source)], target[number % len(source)], number // len(source))


def group(recording: Path) -> int:
    """Add up rows of equal key, as a reader of the recording must at least; return how many are left."""
    key = ", ".join(FLOW_KEY)
    files = Recording.at(recording).files("flows")
    with duckdb.connect(config={"memory_limit": MEMORY, "preserve_insertion_order": False}) as engine:
        engine.execute("SET enable_progress_bar = false")
        engine.execute(
            f"CREATE TEMP TABLE added AS SELECT {key}, MIN(first_seen) AS first_seen, MAX(last_seen) AS last_seen,"  # noqa: S608
            " SUM(attempts) AS attempts, SUM(answered) AS answered, SUM(refused) AS refused, SUM(denied) AS denied,"
            f" SUM(unanswered) AS unanswered FROM read_parquet(?, hive_partitioning = false) GROUP BY {key}",
            [files],
        )
        counted = engine.execute("SELECT COUNT(*) FROM added").fetchone()
    assert counted is not None
    return int(counted[0])


def patterns(recording: Path) -> int:
    """Learn; return how many patterns were accepted."""
    return sum(one.decision == "accept" for one in learn(recording, memory=MEMORY).patterns)
