"""The ring on real interfaces: a pod's and a node's namespace, joined by a veth pair."""

import ctypes
import errno
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from recorder.capture import ring as ring_module
from recorder.capture.packets import Packets, address_text, address_value, concatenate
from recorder.capture.ring import PACKET_OUTGOING, Ring, Statistics
from recorder.errors import UnsupportedError

LAB = [
    pytest.mark.lab,
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux"),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs iproute2"),
]
CLONE_NEWNET = 0x4000_0000
NODE4, POD4, NODE6, POD6 = "10.77.0.1", "10.77.0.2", "fd77::1", "fd77::2"


def lab(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs namespaces."""
    for mark in LAB:
        test = mark(test)
    return test


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Run the body in a network namespace; sockets made there stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as home, Path("/run/netns", namespace).open("rb") as other:
        assert libc.setns(other.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), CLONE_NEWNET) == 0


def ip(*words: str) -> None:
    """Run iproute2."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """Make a node and a pod; names hold the process number, so that parallel runs do not meet."""
    node, pod = f"pf-node-{os.getpid()}", f"pf-pod-{os.getpid()}"
    with ExitStack() as stack:
        for name in (node, pod):
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", node, "link", "add", "veth0", "type", "veth", "peer", "name", "eth0", "netns", pod)
        for name, device, four, six in ((node, "veth0", NODE4, NODE6), (pod, "eth0", POD4, POD6)):
            ip("-n", name, "addr", "add", f"{four}/24", "dev", device)
            ip("-n", name, "addr", "add", f"{six}/64", "dev", device, "nodad")
            ip("-n", name, "link", "set", device, "up")
        yield node, pod


@pytest.fixture
def rings(namespaces: tuple[str, str]) -> Iterator[dict[str, Ring]]:
    """Open the three rings of the node."""
    with ExitStack() as stack:
        with inside(namespaces[0]):
            opened = {name: stack.enter_context(Ring(name, frames=1_024)) for name in ("tcp", "udp", "dns")}
        yield opened


def await_packets(ring: Ring, done: Callable[[Packets], bool]) -> Packets:
    """Drain until `done`, at most ten seconds."""
    parts: list[Packets] = []
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        parts.append(ring.drain())
        joined = concatenate(parts)
        if done(joined):
            return joined
    raise AssertionError(f"not seen within ten seconds; seen: {joined}")


def between(packets: Packets, *addresses: str) -> Packets:
    """Leave out what the namespaces say by themselves (neighbour discovery, router solicitations)."""
    wanted = [address_value(address) for address in addresses]
    mask = [
        tuple(map(int, src)) in wanted and tuple(map(int, dst)) in wanted
        for src, dst in zip(packets.src, packets.dst, strict=True)
    ]
    return packets.select(np.array(mask, np.bool_))


@lab
@pytest.mark.parametrize(("node", "pod"), [(NODE4, POD4), (NODE6, POD6)], ids=["ipv4", "ipv6"])
def test_handshake_and_refusal(namespaces: tuple[str, str], rings: dict[str, Ring], node: str, pod: str) -> None:
    """A pod's connection to the node is a SYN in and a SYN-ACK out; a closed port answers with RST; data is not seen."""
    started = time.time_ns() // 1_000
    family = socket.AF_INET6 if ":" in node else socket.AF_INET
    with inside(namespaces[0]):
        server = socket.create_server((node, 8_080), family=family)
    with inside(namespaces[1]):
        client, refused = (socket.socket(family, socket.SOCK_STREAM) for _ in range(2))
    with server, client, refused:
        client.connect((node, 8_080))
        client.sendall(b"hello")
        client_port = client.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            refused.connect((node, 8_081))
    seen = await_packets(rings["tcp"], lambda packets: len(packets) >= 4)
    assert seen.flags.tolist() == [0x02, 0x12, 0x02, 0x14]
    assert seen.outgoing.tolist() == [False, True, False, True]
    assert [address_text(*address) for address in seen.src] == [pod, node, pod, node]
    assert seen.dst_port.tolist()[0] == seen.src_port.tolist()[1] == 8_080
    assert seen.src_port.tolist()[0] == seen.dst_port.tolist()[1] == client_port
    assert seen.ack.tolist()[1] == (seen.seq.tolist()[0] + 1) % 2**32
    assert seen.seq.tolist()[3] == 0
    assert set(seen.ifindex.tolist()) == {interface(namespaces[0], "veth0")}
    assert started <= seen.time.min() <= seen.time.max() <= time.time_ns() // 1_000
    assert seen.time.tolist() == sorted(seen.time.tolist())


def interface(namespace: str, name: str) -> int:
    """Return the index of an interface."""
    with inside(namespace):
        return socket.if_nametoindex(name)


@lab
def test_datagrams_and_answers(namespaces: tuple[str, str], rings: dict[str, Ring]) -> None:
    """Queries go to one ring and DNS answers, whole, to another; an unreachable port is quoted in the first."""
    message = bytes(range(256)) * 5
    with inside(namespaces[0]):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with inside(namespaces[1]):
        client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        client4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server, client, client4:
        server.bind((NODE4, 53))
        client4.sendto(b"query", (NODE4, 53))
        _, asker = server.recvfrom(100)
        server.sendto(message, asker)
        client.sendto(b"anybody?", (NODE6, 9_999))
    queries = between(
        await_packets(rings["udp"], lambda packets: len(between(packets, POD4, NODE4, POD6, NODE6)) >= 2),
        POD4,
        NODE4,
        POD6,
        NODE6,
    )
    assert queries.dst_port.tolist() == [53, 9_999]
    answers = await_packets(rings["dns"], lambda packets: len(packets) >= 1)
    assert answers.dns == [(0, message)]
    assert answers.outgoing.tolist() == [True]
    errors = await_packets(rings["tcp"], lambda packets: len(packets) >= 1)
    assert (errors.protocol.tolist(), errors.icmp_type.tolist(), errors.icmp_code.tolist()) == ([58], [1], [4])
    assert (errors.quoted_protocol.tolist(), errors.quoted_dst_port.tolist()) == ([17], [9_999])


@lab
def test_the_loopback_device_is_left_out(namespaces: tuple[str, str], rings: dict[str, Ring]) -> None:
    """A host that talks to its own address does so on lo: counted, not returned."""
    with inside(namespaces[0]):
        server = socket.create_server((NODE4, 8_080))
        client = socket.socket()
    with server, client:
        client.connect((NODE4, 8_080))
    await_packets(rings["tcp"], lambda _: rings["tcp"].counts.loopback >= 4)
    assert rings["tcp"].counts.kept == 0


@lab
def test_interfaces_made_later_are_seen(namespaces: tuple[str, str], rings: dict[str, Ring]) -> None:
    """One socket serves pods that start after the recorder."""
    node, pod = namespaces
    ip("-n", node, "link", "add", "veth1", "type", "veth", "peer", "name", "eth1", "netns", pod)
    for name, device, address in ((node, "veth1", "10.78.0.1/24"), (pod, "eth1", "10.78.0.2/24")):
        ip("-n", name, "addr", "add", address, "dev", device)
        ip("-n", name, "link", "set", device, "up")
    with inside(pod), socket.socket() as client:
        assert client.connect_ex(("10.78.0.1", 8_080)) == errno.ECONNREFUSED
    seen = await_packets(rings["tcp"], lambda packets: len(packets) >= 2)
    assert set(seen.ifindex.tolist()) == {interface(node, "veth1")}


@lab
def test_wrap_around_and_drops(namespaces: tuple[str, str]) -> None:
    """A full ring drops, says how many, keeps the oldest in order, and works again after a drain, lap after lap."""
    with inside(namespaces[0]):
        ring = Ring("udp", frames=16, frame_size=4_096)
    with inside(namespaces[1]):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with ring, client:
        for lap, count in enumerate((5, 16, 11, 40, 3)):
            for number in range(count):
                client.sendto(b"x", (NODE4, 1_000 + number))
            dropped = await_dropped(ring, count)
            kept = min(count, 16)
            seen = await_packets(ring, lambda packets, kept=kept: len(packets) >= kept)
            assert seen.dst_port.tolist() == [1_000 + number for number in range(kept)], lap
            assert dropped == count - kept


def await_dropped(ring: Ring, count: int) -> int:
    """Wait until the kernel has counted as many packets, at most ten seconds, and return how many of them it dropped."""
    packets = dropped = 0
    deadline = time.monotonic() + 10
    while packets < count and time.monotonic() < deadline:
        latest = ring.statistics()
        packets, dropped = packets + latest.packets, dropped + latest.dropped
    return dropped


@lab
def test_statistics_start_anew_with_each_call(namespaces: tuple[str, str], rings: dict[str, Ring]) -> None:
    """Figures go into the coverage of one window each."""
    with inside(namespaces[1]), socket.socket() as client:
        client.connect_ex((NODE4, 8_080))
    await_packets(rings["tcp"], lambda packets: len(packets) >= 2)
    assert rings["tcp"].statistics() == Statistics(packets=2, dropped=0)
    assert rings["tcp"].statistics() == Statistics(packets=0, dropped=0)


@lab
def test_without_the_capability_one_line_says_what_to_do() -> None:
    """An ordinary user learns what is missing."""
    program = """
import os
from recorder.capture.ring import Ring
from recorder.errors import UnsupportedError
os.setuid(65534)
try:
    Ring("tcp")
except UnsupportedError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1
    assert "CAP_NET_RAW" in done.stdout
    assert "run as root" in done.stdout


@lab
def test_a_ring_that_cannot_be_set_up_says_why() -> None:
    """A size that the kernel refuses: the reason, and no socket left open (which pytest would report)."""
    with pytest.raises(UnsupportedError, match="cannot set up the ring 'tcp': Invalid argument"):
        Ring("tcp", frame_size=72)


class Frames:
    """A ring without a kernel: frames in plain memory, filled as the kernel fills them."""

    def __init__(self, frames: int, size: int) -> None:
        self.memory = np.zeros(frames * size, np.uint8)
        self.frames, self.size, self.place = frames, size, 0

    def ring(self) -> Ring:
        """Return a ring over these frames."""
        ring = Ring.__new__(Ring)
        ring._lay_out(memoryview(self.memory), self.frames, self.size)
        return ring

    def put(self, time_us: int, port: int, *, status: int = 1, pkttype: int = 0) -> None:
        """Fill the next frame with a datagram."""
        seconds, micros = divmod(time_us, 1_000_000)
        packet = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
        packet += struct.pack(">HHHH", 1, port, 8, 0)
        header = struct.pack("=IIIHHIIHHxxxx", 0, 28, 28, 80, 80, seconds, micros * 1_000, 0, 0)
        header += struct.pack("=H", 17) + struct.pack(">H", 0x0800) + struct.pack("=iHBB8s", 7, 1, pkttype, 6, b"")
        start = self.place * self.size
        frame = header.ljust(80, b"\0") + packet
        self.memory[start : start + len(frame)] = np.frombuffer(frame, np.uint8)
        self.memory[start : start + 4].view(np.uint32)[0] = status
        self.place = (self.place + 1) % self.frames


def test_frames_are_read_in_order_of_time_lap_after_lap() -> None:
    """Processors that race leave frames out of order by microseconds; a lap's end does not show."""
    frames = Frames(8, 128)
    ring = frames.ring()
    number = 0
    for count in (3, 8, 7, 0, 5, 1):
        ports = list(range(number, number + count))
        for port in ports[::-1]:
            frames.put(1_000_000 + port, port)
        assert ring.drain().dst_port.tolist() == ports
        assert not frames.memory.reshape(8, 128)[:, :4].any(), "frames are given back"
        number += count
    assert ring.counts.kept == number


def test_a_frame_still_being_written_is_waited_for() -> None:
    """The kernel may finish a later frame first; order of frames is kept by stopping at the gap."""
    frames = Frames(8, 128)
    ring = frames.ring()
    frames.put(1, 10)
    frames.put(2, 11, status=0)
    frames.put(3, 12, pkttype=PACKET_OUTGOING)
    assert ring.drain().dst_port.tolist() == [10]
    assert ring.drain().dst_port.tolist() == []
    frames.memory[128:132].view(np.uint32)[0] = 1
    rest = ring.drain()
    assert rest.dst_port.tolist() == [11, 12]
    assert rest.outgoing.tolist() == [False, True]


def test_a_bridged_packet_for_another_host_counts_as_arriving() -> None:
    """On a bridge, what pods send is addressed to other hosts' hardware."""
    frames = Frames(8, 128)
    ring = frames.ring()
    frames.put(1, 10, pkttype=3)
    packets = ring.drain()
    assert (packets.outgoing.tolist(), packets.ifindex.tolist()) == ([False], [7])


def test_rings_are_long_scanned_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scan for ready frames goes block by block; a full ring of many blocks is drained at once."""
    monkeypatch.setattr(ring_module, "_SCAN", 3)
    frames = Frames(8, 128)
    ring = frames.ring()
    for start in (0, 100, 200):
        for number in range(8):
            frames.put(start + number, start + number)
        assert ring.drain().dst_port.tolist() == list(range(start, start + 8))
        frames.put(start + 50, 9)
        assert ring.drain().dst_port.tolist() == [9]
