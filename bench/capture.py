"""Live capture: the ring `tcp` under a flood of SYNs that comes in over a veth pair, at rising rates."""

import argparse
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from bench.measure import Line, NotPossibleError, ratio
from bench.pcap import pod
from recorder.agent import DRAIN_SECONDS
from recorder.capture.filters import load
from recorder.capture.ring import Ring
from recorder.identity import Event, World
from recorder.windows import Windows

TARGET = 120_000
"""Packets a second that the ring is sized for (`recorder.capture.ring.SIZES`); beyond it, losing some is expected."""
RATES = (20_000, 50_000, 100_000, 200_000)
SECONDS = 2
"""How long each flood lasts at most."""
TIMEOUT_SECONDS = 1.2
"""After which tcpdump has written what it holds: libpcap hands over a block that is not full within a second."""
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20


def run(folder: Path, *, large: bool) -> Iterator[Line]:
    """Measure in two network namespaces made for it; `large` changes nothing."""
    del large
    if os.geteuid() != 0:
        raise NotPossibleError("needs root, to make network namespaces: run it with sudo")
    if shutil.which("ip") is None:
        raise NotPossibleError("needs the program ip: install iproute2")
    with _namespaces() as (near, far):
        for rate in RATES:
            sent, reached, ours = _against(near, far, rate, _python("ring"))
            count = max(ours["captured"], 1)
            drained, joined = ours["cpu"] / count * 1e6, ours["joined"] / count * 1e6
            wanted = "100" if rate <= TARGET else ""
            yield Line(f"ring, captured of {reached:,.0f} packets/s", 100 * ours["captured"] / sent, "%", "", wanted)
            against = against_whole = "(no tcpdump here)"
            if shutil.which("tcpdump"):
                command = ["tcpdump", "-Z", "root", "-n", "-i", "any", "-w", str(folder / "flood.pcap")]
                wrapped = _python("program", *command, load("tcp").expression)
                idle = _idle(near, wrapped)
                sent, reached, theirs = _against(near, far, rate, wrapped)
                share = 100 * theirs["captured"] / sent
                peer = max(theirs["cpu"] - idle, 1e-6) / max(theirs["captured"], 1) * 1e6
                yield Line(f"tcpdump -w, captured of {reached:,.0f} packets/s", share, "%")
                yield Line("  tcpdump -w, its start-up taken off", peer, "us a packet")
                against, against_whole = ratio(drained, peer, "tcpdump"), ratio(drained + joined, peer, "tcpdump")
            yield Line("  ring, drained and dissected", drained, "us a packet", against)
            yield Line("  ring, joined into edges as well", drained + joined, "us a packet", against_whole, "<= 12 x")


@contextmanager
def _namespaces() -> Iterator[tuple[str, str]]:
    """Make two namespaces with a cable between them, and remove them."""
    names = near, far = f"pfb-{os.getpid()}-near", f"pfb-{os.getpid()}-far"
    with ExitStack() as stack:
        for name in names:
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
        cable = ("link", "add", "cable", "netns", near, "type", "veth", "peer", "name", "cable", "netns", far)
        _ip(*cable)
        for name in names:
            _ip("-n", name, "link", "set", "cable", "up")
        yield near, far


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPossibleError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench.capture", *arguments]


def _against(near: str, far: str, rate: int, listener: Sequence[str]) -> tuple[int, float, dict[str, float]]:
    """Flood a listener; return packets sent, the rate reached, and what the listener says of itself."""
    with subprocess.Popen(
        ["ip", "netns", "exec", near, *listener], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                raise RuntimeError("the listener ended before it listened")
            flooded = json.loads(_told(["ip", "netns", "exec", far, *_python("flood", str(rate))]))
            text = process.communicate("done\n", timeout=10 * SECONDS)[0]
            if process.returncode:
                raise RuntimeError("the listener failed; see above")
        finally:
            process.stdin.close()  # so that it ends what it started itself
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=SECONDS + TIMEOUT_SECONDS)
            process.kill()
    said = json.loads(text)
    return flooded["sent"], flooded["sent"] / flooded["seconds"], said


def _idle(near: str, listener: Sequence[str]) -> float:
    """Return the seconds of CPU of a listener that hears nothing."""
    command = ["ip", "netns", "exec", near, *listener]
    return float(json.loads(_told(command, "done\n").splitlines()[-1])["cpu"])


def _told(command: Sequence[str], text: str = "") -> str:
    """Return what a command prints; raise RuntimeError with its complaint when it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=10 * SECONDS)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])}: {done.stderr.strip()[-300:]}")
    return done.stdout


def flood(rate: int) -> dict[str, float]:
    """Send SYNs of distinct connections at a rate, a millisecond's worth at a time; return how many, and the seconds taken."""
    frames = _frames(rate * SECONDS)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        wire.bind(("cable", 0))
        sent, start = 0, time.perf_counter()
        while sent < len(frames) and (now := time.perf_counter() - start) < SECONDS * 1.5:
            due = min(int(now * rate) + 1, len(frames))
            for frame in frames[sent:due]:
                wire.send(frame)
            sent = max(sent, due)
            time.sleep(0.001)
        return {"sent": sent, "seconds": time.perf_counter() - start}


def _frames(count: int) -> list[bytes]:
    """Return Ethernet frames with SYNs of one pod to 50 addresses outside, each with a sequence number of its own."""
    number = np.arange(count)
    head = bytes.fromhex("02000000000202000000000108004500002800004000400600000a000101cb007100")
    rows = np.tile(np.frombuffer(head + bytes(20), np.uint8), (count, 1))
    rows[:, 33] = 1 + number % 50
    rows[:, 34:36] = (1024 + number // 50 % 60_000).astype(">u2")[:, None].view(np.uint8).reshape(count, 2)
    rows[:, 36:38] = (0x1F, 0x90)
    rows[:, 38:42] = (number * 2_654_435_761 % 2**32).astype(">u4")[:, None].view(np.uint8).reshape(count, 4)
    rows[:, 46:48] = (0x50, 0x02)
    return [row.tobytes() for row in rows]


def ring() -> dict[str, float]:
    """Drain the ring on the recorder's timer until told to end, then join what it held into edges.

    Return packets captured, and the seconds of CPU of each part.
    """
    chunks = []
    with Ring("tcp") as kernel:
        _ready()
        start = time.process_time()
        ended = False
        while not ended:
            ended = bool(select.select([sys.stdin], [], [], DRAIN_SECONDS)[0])
            chunks.append(kernel.drain())
        drained = time.process_time() - start
    windows, captured = Windows("bench", "near", "ring", _world()), sum(map(len, chunks))
    start = time.process_time()
    for packets in chunks:
        windows.feed(packets)
    attempts = sum(row.attempts for row in windows.settle(1 << 62))
    joined = time.process_time() - start
    assert attempts == captured, (attempts, captured)
    return {"captured": captured, "cpu": drained, "joined": joined}


def _world() -> World:
    """Return a cluster in which the flood comes from a pod of this node, at whatever time."""
    world, tomorrow = World(), time.time_ns() // 1_000 + 86_400_000_000
    one = pod("client", "10.0.1.1", "near")
    one["metadata"]["creationTimestamp"] = "1970-01-01T00:00:00Z"
    world.apply(Event(0, "ADDED", one))
    world.apply(Event(tomorrow, "BOOKMARK", {}))
    return world


def program(command: Sequence[str]) -> dict[str, float]:
    """Run tcpdump until told to end; return packets it captured and seconds of its CPU."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = ""
        while "listening on" not in line:
            line = process.stderr.readline()
            if not line:
                raise RuntimeError("tcpdump ended before it listened")
        _ready()
        sys.stdin.readline()
        time.sleep(TIMEOUT_SECONDS)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(r"(\d+) packets? captured", said)
    return {"captured": int(found[1]) if found else 0, "cpu": used.ru_utime + used.ru_stime}


def _ready() -> None:
    print("ready", flush=True)


def main(arguments: Sequence[str]) -> None:
    """Be one end of the cable: `flood RATE`, `ring`, or `program COMMAND…`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("role", choices=("flood", "ring", "program"))
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if options.role == "flood":
        found = flood(int(options.rest[0]))
    else:
        found = ring() if options.role == "ring" else program(options.rest)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
