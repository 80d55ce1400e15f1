"""Capture files into a recording, through the same code as live packets."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from recorder.capture.pcap import open_capture
from recorder.coverage import Watch, ring_of
from recorder.edges.handshakes import GRACE
from recorder.edges.interfaces import Interfaces
from recorder.errors import CaptureError, InputError
from recorder.identity import World
from recorder.records import DEFAULT_WINDOW_SECONDS, SECOND, Coverage, Flow, to_table
from recorder.store import Recording
from recorder.windows import Windows

_FOREVER = 1 << 62

MAX_WINDOWS = 1 << 18
"""Windows of one capture file: half a year of minutes. Each has its rows of coverage, so one packet of 1970 would fill the
memory."""

Progress = Callable[[int, str], None]
"""Called with packets read so far and the file's name."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import added."""

    files: int
    nodes: tuple[str, ...]
    packets: int
    edges: int
    windows: int
    unresolved: int
    ambiguous: int
    without_interfaces: tuple[str, ...]


def import_pcap(
    files: Sequence[str | os.PathLike[str]],
    *,
    inventory: str | os.PathLike[str],
    out: str | os.PathLike[str],
    node: str | None = None,
    cluster: str | None = None,
    window: float = DEFAULT_WINDOW_SECONDS,
    scope: str = "partial",
    inventory_time: int | None = None,
    progress: Progress = lambda _packets, _file: None,
) -> Imported:
    """Add capture files to a recording and return what was added; nothing is added when any of them cannot be read.

    `inventory` is an event log or a list as kubectl prints it. Without `node`, each file's node is the one whose pods
    send on interfaces of their own. `scope="node"` is the user's word that each file holds everything on its node.
    Raises CaptureError, InventoryError, RecordingError, NewerSchemaError, OutputError, or InputError when the node
    cannot be told.
    """
    length = check_window(window)
    if node is not None and len(files) != 1:
        raise InputError("one capture file a call with --node; without it the node of each file is inferred")
    recording = Recording.at(out)
    name = cluster or recording.cluster() or "default"
    world = World.read(Path(inventory), inventory_time)
    if node is not None:
        require_node(node, world, inventory)
    taken = [_take(Path(file), world, name, node, length, scope, progress) for file in files]
    with recording.adding(name) as batch:
        new = 0
        tables = to_table("identities", world.identities(name)), to_table("inventory", world.inventory(name))
        new += batch.add("identities", tables[0], node="all", backend="inventory")
        new += batch.add("inventory", tables[1], node="all", backend="inventory")
        for one in taken:
            new += batch.add("flows", to_table("flows", one.flows), node=one.node, backend="pcap")
            new += batch.add("coverage", to_table("coverage", one.coverage), node=one.node, backend="pcap")
    rows = [row for one in taken for row in one.coverage]
    return Imported(
        files=new,
        nodes=tuple(one.node for one in taken),
        packets=sum(one.packets for one in taken),
        edges=sum(len(one.flows) for one in taken),
        windows=len({row.window_start for row in rows}),
        unresolved=sum(row.unresolved for row in rows),
        ambiguous=sum(row.ambiguous for row in rows),
        without_interfaces=tuple(str(file) for file, one in zip(files, taken, strict=True) if not one.located),
    )


def check_window(seconds: float) -> int:
    """Return the length of a window; InputError unless it is whole and windows of it fit an hour exactly."""
    if seconds < 1 or 3600 % seconds or seconds != int(seconds):
        raise InputError(f"window of {seconds:g} s: must divide an hour (10, 30, 60, 300, …)")
    return int(seconds)


def require_node(node: str, world: World, inventory: str | os.PathLike[str]) -> None:
    """Raise InputError unless the inventory has the node: under another name nothing of it would be found."""
    if node not in world.nodes():
        known = ", ".join(world.nodes()) or "none"
        raise InputError(f"node {node!r} is not in {inventory} (it has: {known}); give --node")


@dataclass(frozen=True, slots=True)
class _Taken:
    node: str
    packets: int
    located: bool
    flows: list[Flow]
    coverage: list[Coverage]


def _take(
    file: Path, world: World, cluster: str, node: str | None, window: int, scope: str, progress: Progress
) -> _Taken:
    """Read a file twice: first for which interface is whose, then for its edges; so no order of packets matters."""
    survey = Interfaces("", world)
    began, ended, count = _FOREVER, 0, 0
    for packets in open_capture(file):
        survey.learn(packets)
        count += len(packets)
        if len(packets):
            began, ended = min(began, int(packets.time.min())), max(ended, int(packets.time.max()))
    if not count:
        raise CaptureError(f"{file}: holds no packet that says who talks to whom (handshakes, UDP, ICMP)")
    if (ended - began) // (window * SECOND) > MAX_WINDOWS:
        first, last = (f"{datetime.fromtimestamp(time / SECOND, UTC):%Y-%m-%dT%H:%M:%SZ}" for time in (began, ended))
        raise CaptureError(
            f"{file}: its packets are from {first} to {last}; a clock was wrong, cut it with `editcap -A -B`"
        )
    located = bool(survey.sources)
    name = node or _infer(file, survey, world)
    windows = Windows(cluster, name, "pcap", world, window)
    windows.interfaces.sources = survey.sources
    watch = Watch(cluster, name, "pcap", scope, window, began)
    flows: list[Flow] = []
    read = 0
    for packets in open_capture(file):
        windows.feed(packets)
        for ring, chosen in ring_of(packets).items():
            watch.saw(ring, packets.time[chosen])
        read += len(packets)
        if len(packets):
            flows += windows.settle(int(packets.time.max()) - 2 * GRACE)
        progress(read, file.name)
    flows += windows.settle(_FOREVER)
    length = window * SECOND
    coverage = watch.rows(ended - ended % length + length, windows.tallies, None, ended)
    return _Taken(name, count, located, flows, coverage)


def _infer(file: Path, survey: Interfaces, world: World) -> str:
    """Return the node whose pods send on interfaces of their own in this capture."""
    if not survey.sources:
        raise InputError(
            f"{file}: this link type names no interfaces, so the node cannot be told; give --node "
            "(better: capture with `tcpdump -i any`, which writes LINUX_SLL2)"
        )
    votes = dict.fromkeys(world.nodes(), 0)
    for name in votes:
        local = Interfaces(name, world)
        local.sources = survey.sources
        votes[name] = sum(local.owner(ifindex) is not None for ifindex in survey.sources)
    most = max(votes.values(), default=0)
    found = sorted(name for name, count in votes.items() if count == most)
    if not most:
        raise InputError(
            f"{file}: none of its interfaces belongs to a pod of the inventory at that time; "
            "is the inventory of this cluster and of this time?"
        )
    if len(found) > 1:
        raise InputError(f"{file}: could be of any of {', '.join(found)}; give --node")
    return found[0]
