"""Capture files: a million packets of `tcpdump -i any`, read and filtered, and imported from end to end."""

import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import Cost, Line, measured, ratio, spent
from recorder.capture.filters import load
from recorder.capture.pcap import open_capture
from recorder.imports import import_pcap

CONNECTIONS, A_CONNECTION = 100_000, 10
PACKETS = CONNECTIONS * A_CONNECTION
SUBSET = 50_000
"""Packets that scapy is given."""
CLIENTS, SERVERS, UPLINK, APART = 50, 20, 2, 3_000
"""Pods on the node, Services elsewhere, the node's way out, and µs from one connection to the next."""
BEGIN = datetime(2026, 3, 2, tzinfo=UTC)

SHAPE = ((0x02, True, 20, 0), (0x12, False, 20, 0), (0x10, True, 0, 0), (0x18, True, 0, 180), (0x18, False, 0, 480))
"""What a connection sends: TCP flags, whether the client does, octets of options and of data; each is seen twice."""


def run(folder: Path, *, large: bool) -> Iterator[Line]:
    """Measure; `large` changes nothing."""
    del large
    capture, inventory = folder / "node.pcap", folder / "events.jsonl"
    inventory.write_text("".join(json.dumps(event) + "\n" for event in events()), encoding="utf-8")
    write(capture)
    peer, peer_name = None, "(no tcpdump here)"
    if shutil.which("tcpdump"):
        command = ["tcpdump", "-Z", "root", "-r", str(capture), "-w", "/dev/null", load("tcp").expression]
        peer, peer_name = min(spent(command).cpu for _ in range(3)), "tcpdump"
        yield Line("tcpdump -r FILE -w /dev/null FILTER", PACKETS / peer / 1e6, "M packets/s")
    scapy_rate = measured(read_scapy, capture).result
    yield Line(f"scapy RawPcapReader ({SUBSET:,} packets, unfiltered)", scapy_rate / 1e6, "M packets/s")
    read = measured(read_and_filter, capture, times=3)
    assert read.result == CONNECTIONS * 4, "the handshakes, each packet twice"
    yield _line("open_capture: read and filtered", read, peer, peer_name, ">= 2")
    yield Line("", read.peak / 1e6, "MB resident")
    imported = min((measured(bring_in, capture, inventory, folder / f"out-{n}") for n in range(2)), key=lambda c: c.cpu)
    answered, unresolved = imported.result
    assert (answered, unresolved) == (CONNECTIONS, 0), imported.result
    yield _line("import_pcap: end to end", imported, peer, peer_name, ">= 1")
    yield Line("", PACKETS / imported.cpu / scapy_rate, "x scapy")
    yield Line("", imported.peak / 1e6, "MB resident")


def _line(what: str, cost: Cost, peer: float | None, name: str, wanted: str) -> Line:
    """Return packets per second of CPU; the ratio is of that speed."""
    return Line(what, PACKETS / cost.cpu / 1e6, "M packets/s", ratio(peer, cost.cpu, name) if peer else name, wanted)


def read_and_filter(capture: Path) -> int:
    """Return how many packets of a file are kept."""
    return sum(len(packets) for packets in open_capture(capture))


def bring_in(capture: Path, inventory: Path, out: Path) -> tuple[int, int]:
    """Import the file; return answered connections, by reading what was written, and unresolved ones."""
    from recorder.store import Recording  # noqa: PLC0415

    done = import_pcap([capture], inventory=inventory, out=out)
    return sum(Recording.at(out).read("flows")["answered"].to_pylist()), done.unresolved


def read_scapy(capture: Path) -> float:
    """Return how many packets scapy splits off in a second of CPU."""
    from scapy.utils import RawPcapReader  # noqa: PLC0415 - no part of what podfence holds in memory

    start = time.process_time()
    with RawPcapReader(str(capture)) as reader:
        count = sum(1 for _ in islice(reader, SUBSET))
    return count / (time.process_time() - start)


def write(path: Path, chunk: int = 10_000) -> None:
    """Write the capture: SLL2, little-endian microseconds, no checksums, each packet on a pod's interface and the uplink."""
    dice = np.random.default_rng(7)
    with path.open("wb") as file:
        file.write(np.array([0xA1B2C3D4, 4 << 16 | 2, 0, 0, 262_144, 276], "<u4").tobytes())
        for first in range(0, CONNECTIONS, chunk):
            file.write(_connections(np.arange(first, first + chunk), dice).tobytes())


def _connections(number: np.ndarray[Any, Any], dice: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return the octets of these connections, one a row."""
    count = len(number)
    client, server = number % CLIENTS, dice.integers(SERVERS, size=count)
    port = 1024 + number // CLIENTS % 60_000
    isn = dice.integers(1, 2**32 - 4096, size=(2, count))
    virtual = server % 2 == 0
    time = int(BEGIN.timestamp()) * 1_000_000 + number * APART
    records = []
    for step, (flags, forward, options, data) in enumerate(SHAPE):
        for hop in (0, 1):
            near = (hop == 0) == forward
            total = 40 + options + data
            record = np.zeros((count, 36 + total), np.uint8)
            at = time + 200 * step + 20 * hop
            put = _Writer(record)
            put(0, 4, at // 1_000_000, "<")
            put(4, 4, at % 1_000_000, "<")
            put(8, 4, 20 + total, "<")
            put(12, 4, 20 + total, "<")
            put(16, 2, 0x0800)
            put(20, 4, 100 + client if near else UPLINK)
            put(24, 2, 1)
            put(26, 1, 4 * hop)
            dialled = virtual & near
            address = np.where(dialled, 0x0A60_0001, 0x0A00_0201) + server
            ends = ((0x0A00_0101 + client, port), (address, np.where(dialled, 80, 8080)))
            (source, source_port), (target, target_port) = ends if forward else ends[::-1]
            put(36, 2, 0x4500)
            put(38, 2, total)
            put(44, 2, 0x4006)
            put(48, 4, source)
            put(52, 4, target)
            put(56, 2, source_port)
            put(58, 2, target_port)
            put(60, 4, isn[0 if forward else 1] + (step > 1))
            put(64, 4, 0 if step == 0 else isn[1 if forward else 0] + 1)
            put(68, 2, (5 + options // 4) << 12 | flags)
            record[:, 76 : 76 + options] = 1
            records.append(record)
    return np.concatenate(records, axis=1)


class _Writer:
    """Puts a number, or one for each row, into columns of octets; big-endian unless told."""

    def __init__(self, rows: np.ndarray[Any, Any]) -> None:
        self.rows = rows

    def __call__(self, at: int, width: int, value: Any, order: str = ">") -> None:
        numbers = np.broadcast_to(np.asarray(value), len(self.rows)).astype(f"{order}u{width}")
        self.rows[:, at : at + width] = numbers[:, None].view(np.uint8).reshape(len(self.rows), width)


def events() -> Iterator[dict[str, Any]]:
    """Yield the cluster's objects: two nodes, the pods, and the Services, every second of which is dialled by its own address."""

    def event(seconds: float, kind: str, value: dict[str, Any]) -> dict[str, Any]:
        return {"time": f"{BEGIN + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}Z", "type": kind, "object": value}

    for number, name in enumerate(("n1", "n2"), 1):
        spec = {"podCIDR": f"10.0.{number}.0/24"}
        status = {"addresses": [{"type": "InternalIP", "address": f"172.16.0.{number}"}]}
        yield event(-60, "ADDED", _object("Node", name, spec=spec, status=status))
    for number in range(CLIENTS):
        yield event(-30, "ADDED", pod(f"client-{number}", f"10.0.1.{number + 1}", "n1"))
    for number in range(SERVERS):
        name, ip, slice_name = f"server-{number}", f"10.0.2.{number + 1}", f"server-{number}-1"
        ports = [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]
        yield event(-30, "ADDED", pod(name, ip, "n2"))
        address = f"10.96.0.{number + 1}"
        yield event(-30, "ADDED", _object("Service", name, spec={"clusterIP": address, "ports": ports}))
        value = _object("EndpointSlice", slice_name, labels={"kubernetes.io/service-name": name})
        value |= {"apiVersion": "discovery.k8s.io/v1", "ports": [{"port": 8080, "protocol": "TCP"}]}
        yield event(-30, "ADDED", value | {"addressType": "IPv4", "endpoints": [{"addresses": [ip]}]})
    yield event(CONNECTIONS * APART / 1e6 + 60, "BOOKMARK", {})


def pod(name: str, ip: str, node: str) -> dict[str, Any]:
    """Return a running pod."""
    spec = {"nodeName": node, "containers": [{"name": "app", "ports": [{"containerPort": 8080}]}]}
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
    return _object("Pod", name, labels={"app": name}, spec=spec, status=status)


def _object(kind: str, name: str, labels: dict[str, str] | None = None, **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"uid-{kind}-{name}", "creationTimestamp": f"{BEGIN:%Y-%m-%d}T00:00:00Z"}
    if kind != "Node":
        metadata |= {"namespace": "bench"}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata | {"labels": labels or {}}, **parts}
