"""The live recorder of one node: drains the rings on a timer, settles edges after their grace, writes windows.

One thread, no wake-up per packet. A window's files appear together once its grace is over; on the way out (a signal, or
the end of `duration`) the windows begun are written as far as they went.
"""

import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from recorder.capture.packets import concatenate
from recorder.capture.ring import Ring
from recorder.coverage import Watch
from recorder.edges.handshakes import GRACE
from recorder.errors import InputError, InventoryError
from recorder.identity import World
from recorder.imports import check_window, require_node
from recorder.records import DEFAULT_WINDOW_SECONDS, SECOND, Flow, Identity, InventoryObject, to_table
from recorder.store import Recording
from recorder.windows import Windows

DRAIN_SECONDS = 0.2
"""Period of the timer; the rings hold more than this much traffic at the rates their sizes are made for."""

SETTLE_SECONDS = 1.0

STEP = SECOND
"""A clock that gains or loses this much on the monotonic one between two drains was set, or the machine slept."""

RING_ORDER = ("dns", "tcp", "udp")
"""Answers and refusals are drained before datagrams, so that none is seen earlier than what it is about."""

_FOREVER = 1 << 62


def _clocks() -> tuple[int, int]:
    """Return the time and what the monotonic clock shows, in µs."""
    return time.time_ns() // 1000, time.monotonic_ns() // 1000


@dataclass(slots=True)
class Status:
    """What the recorder has done so far; handed to the progress callback about once a second."""

    seconds: float = 0.0
    packets: int = 0
    dropped: int = 0
    edges: int = 0
    windows: int = 0
    unresolved: int = 0
    ambiguous: int = 0


@dataclass(slots=True)
class _Agent:
    """The state of one run."""

    recording: Recording
    cluster: str
    windows: Windows
    watch: Watch
    world: World
    status: Status = field(default_factory=Status)
    written: dict[str, Identity | InventoryObject] = field(default_factory=dict)
    problem: InventoryError | None = None
    drained: tuple[int, int] = field(default_factory=_clocks)

    def drain(self, rings: Sequence[Ring]) -> int:
        """Take what the kernel has put into the rings, in the order given; return by when all packets are in."""
        now, steady = _clocks()
        since = self.drained[0]
        if abs((now - since) - (steady - self.drained[1])) >= STEP:
            self.watch.stepped(since, now)
            since = now
        self.drained = now, steady
        taken = []
        for ring in rings:
            packets = ring.drain()
            lost = ring.statistics().dropped
            self.watch.saw(ring.name, packets.time)
            self.watch.lost(ring.name, min(since, now), now, lost)
            self.status.packets += len(packets)
            self.status.dropped += lost
            taken.append(packets)
        packets = concatenate(taken)
        if len(packets):
            self.windows.feed(packets)
        return now

    def poll(self) -> None:
        """Take what was added to the event log; a `problem` with it ends the run, but not before all is written."""
        try:
            self.world.poll()
        except InventoryError as error:
            self.problem = error

    def settle(self, until: int, ended: int) -> None:
        """Write the windows that ended by `until`."""
        flows = self.windows.settle(until)
        length = self.windows.seconds * SECOND
        last = until if until < _FOREVER else ended - ended % length + length
        coverage = self.watch.rows(last, self.windows.tallies, None, ended)
        if not flows and not coverage:
            return
        node, backend = self.watch.node, self.watch.backend
        with self.recording.batch() as batch:
            self._write_identities(batch.add, flows, final=until == _FOREVER)
            batch.add("flows", to_table("flows", flows), node=node, backend=backend)
            batch.add("coverage", to_table("coverage", coverage), node=node, backend=backend)
        self.status.edges += len(flows)
        self.status.windows += len({row.window_start for row in coverage})
        self.status.unresolved += sum(row.unresolved for row in coverage)
        self.status.ambiguous += sum(row.ambiguous for row in coverage)
        self.world.forget(until)
        self.windows.forget()

    def _write_identities(self, add: Callable[..., int], flows: list[Flow], *, final: bool) -> None:
        """Add identities and objects that are new, have changed, or had traffic; at the end all, as last observed."""
        used = {row.src_id for row in flows} | {row.dst_id for row in flows}
        before, self.written = self.written, {}
        fresh: list[Identity] = []
        for row in self.world.identities(self.cluster):
            settled = replace(row, observed_until=0)
            if final or row.id in used or before.get(row.id) != settled:
                fresh.append(row)
            self.written[row.id] = settled
        versions: list[InventoryObject] = []
        for version in self.world.inventory(self.cluster):
            key = f"{version.kind}/{version.uid}/{version.start}"
            if before.get(key) != version:
                versions.append(version)
            self.written[key] = version
        node = self.watch.node
        add("identities", to_table("identities", fresh), node=node, backend="inventory")
        add("inventory", to_table("inventory", versions), node=node, backend="inventory")


def record(
    out: str | os.PathLike[str],
    *,
    identity: str | os.PathLike[str],
    node: str | None = None,
    cluster: str | None = None,
    backend: str = "auto",
    window: float = DEFAULT_WINDOW_SECONDS,
    duration: float | None = None,
    stop: threading.Event | None = None,
    ready: Callable[[str], None] = lambda _node: None,
    progress: Callable[[Status], None] = lambda _status: None,
) -> Status:
    """Record this node until `duration` seconds have passed or `stop` is set; return what was recorded.

    `identity` is an inventory: a list, or an event log, which is followed while it grows. `ready` is called with the node's
    name once packets are being captured, `progress` about every second. Raises UnsupportedError where
    the machine cannot capture, InventoryError, RecordingError, NewerSchemaError and OutputError as their names say.
    """
    length = check_window(window)
    if backend not in ("auto", "ring"):
        raise InputError(f"backend {backend!r}: this version has auto and ring")
    stop = stop or threading.Event()
    recording = Recording.at(out)
    name = cluster or recording.cluster() or "default"
    recording.require(name)
    world = World.follow(Path(identity))
    host = node or os.environ.get("NODE_NAME") or platform.node()
    require_node(host, world, identity)
    with ExitStack() as stack:
        rings = [stack.enter_context(Ring(ring)) for ring in RING_ORDER]
        recording.require_writable()
        began, _ = _clocks()
        ready(host)
        windows = Windows(name, host, "ring", world, length)
        watch = Watch(name, host, "ring", "node", length, began)
        agent = _Agent(recording, name, windows, watch, world)
        deadline = None if duration is None else time.monotonic() + duration
        settled = time.monotonic()
        while not stop.is_set() and not agent.problem and (deadline is None or time.monotonic() < deadline):
            stop.wait(DRAIN_SECONDS if deadline is None else max(0.0, min(DRAIN_SECONDS, deadline - time.monotonic())))
            now = agent.drain(rings)
            if time.monotonic() - settled >= SETTLE_SECONDS:
                settled = time.monotonic()
                agent.status.seconds = (now - began) / SECOND
                agent.poll()
                agent.settle(now - GRACE - SECOND, _FOREVER)
                progress(agent.status)
        ended = agent.drain(rings)
    if not agent.problem:
        stop.wait(0 if stop.is_set() else SETTLE_SECONDS)
        agent.poll()
    agent.settle(_FOREVER, ended)
    agent.status.seconds = (ended - began) / SECOND
    progress(agent.status)
    if agent.problem:
        raise agent.problem
    return agent.status
