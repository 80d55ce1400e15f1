"""Capture files of every kind that is read, and the words for every kind that is not."""

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet
from scapy.utils import PcapNgWriter, wrpcap

from recorder.capture import pcap
from recorder.capture.packets import Packets, address_text, concatenate
from recorder.capture.pcap import open_capture
from recorder.errors import CaptureError

SYN4 = bytes(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=4_000, dport=80, seq=7, flags="S"))
SYN6 = bytes(IPv6(src="fd00::1", dst="fd00::2") / TCP(sport=4_000, dport=80, seq=7, flags="S"))
DATA = bytes(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=4_000, dport=80, flags="A"))
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
TIME = 1_700_000_000_123_456


def capture(
    *frames: bytes | Packet, link: int = 101, order: str = "<", nanoseconds: bool = False, step: int = 1
) -> bytes:
    """Return a capture file with these frames, `step` microseconds apart."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262_144, link)]
    for number, frame in enumerate(frames):
        octets = bytes(frame)
        second, fraction = divmod(TIME + number * step, 1_000_000)
        fraction = fraction * 1_000 + 789 if nanoseconds else fraction
        parts.append(struct.pack(order + "4I", second, fraction, len(octets), len(octets) + 99) + octets)
    return b"".join(parts)


def sll(frame: bytes, kind: int, *, packet_type: int = 0, hardware: int = 1) -> bytes:
    """Return a frame with LINUX_SLL's header."""
    return struct.pack(">HHH8sH", packet_type, hardware, 6, b"", kind) + frame


def sll2(frame: bytes, kind: int, *, ifindex: int = 3, packet_type: int = 0, hardware: int = 1) -> bytes:
    """Return a frame with LINUX_SLL2's header."""
    return struct.pack(">HHIHBB8s", kind, 0, ifindex, hardware, packet_type, 6, b"") + frame


Reader = Callable[[bytes], Packets]
Header = Callable[..., bytes]


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Return a reader of a capture file's packets, all chunks joined."""

    def reader(content: bytes) -> Packets:
        path = tmp_path / "x.pcap"
        path.write_bytes(content)
        return concatenate(list(open_capture(path)))

    return reader


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_byte_orders_and_resolutions(read: Reader, order: str, nanoseconds: bool) -> None:
    """The same capture, written on any machine, gives the same microseconds."""
    packets = read(capture(SYN4, DATA, SYN6, order=order, nanoseconds=nanoseconds, step=900_000))
    assert packets.time.tolist() == [TIME, TIME + 1_800_000]
    assert packets.family.tolist() == [4, 6]
    assert packets.seq.tolist() == [7, 7]


LINKS = {
    "ethernet": (1, [ETHER / IP(SYN4), ETHER / IPv6(SYN6)]),
    "ethernet with VLAN": (1, [ETHER / Dot1Q() / IP(SYN4), ETHER / Dot1Q() / IPv6(SYN6)]),
    "raw": (101, [SYN4, SYN6]),
    "raw on BSD": (12, [SYN4, SYN6]),
    "raw on OpenBSD": (14, [SYN4, SYN6]),
    "ipv4": (228, [SYN4]),
    "ipv6": (229, [SYN6]),
    "null": (0, [struct.pack("<I", 2) + SYN4, struct.pack("<I", 30) + SYN6]),
    "loop": (108, [struct.pack(">I", 2) + SYN4, struct.pack(">I", 24) + SYN6]),
    "sll": (113, [sll(SYN4, 0x0800), sll(SYN6, 0x86DD)]),
    "sll2": (276, [sll2(SYN4, 0x0800), sll2(SYN6, 0x86DD)]),
}


@pytest.mark.parametrize(("link", "frames"), LINKS.values(), ids=LINKS)
def test_link_types(read: Reader, link: int, frames: list[bytes]) -> None:
    """Each link type leads to the same packet; only LINUX_SLL2 says the interface."""
    packets = read(capture(*frames, link=link))
    assert len(packets) == len(frames)
    assert set(packets.dst_port.tolist()) == {80}
    expected = {4: "10.0.0.2", 6: "fd00::2"}
    for family, address in zip(packets.family.tolist(), packets.dst, strict=True):
        assert address_text(*address) == expected[family]
    assert set(packets.ifindex.tolist()) == {3 if link == 276 else -1}
    assert not packets.outgoing.any()


def test_files_of_another_writer(tmp_path: Path) -> None:
    """What scapy writes is read as what this file's own writer writes."""
    path = tmp_path / "x.pcap"
    wrpcap(str(path), [ETHER / IP(SYN4), ETHER / IPv6(SYN6)])
    assert concatenate(list(open_capture(path))).family.tolist() == [4, 6]


@pytest.mark.parametrize(("link", "header"), [(113, sll), (276, sll2)])
def test_packet_types_of_linux(read: Reader, link: int, header: Header) -> None:
    """Type 4 is outgoing; others (host, broadcast, multicast, another host's on a bridge) arrive."""
    frames = [header(SYN4, 0x0800, packet_type=kind) for kind in range(5)]
    assert read(capture(*frames, link=link)).outgoing.tolist() == [False, False, False, False, True]


@pytest.mark.parametrize(("link", "header"), [(113, sll), (276, sll2)])
def test_the_loopback_device_is_left_out(tmp_path: Path, link: int, header: Header) -> None:
    """A host that talks to itself by its own address is no pod."""
    path = tmp_path / "x.pcap"
    path.write_bytes(capture(header(SYN4, 0x0800, hardware=772), header(SYN4, 0x0800), b"short", link=link))
    file = open_capture(path)
    assert sum(map(len, file)) == 1
    assert (file.counts.packets, file.counts.loopback, file.counts.truncated, file.counts.kept) == (3, 1, 1, 1)


def test_interfaces_of_sll2(read: Reader) -> None:
    """Interface indexes are four octets wide."""
    frames = [sll2(SYN4, 0x0800, ifindex=index) for index in (1, 0x10001, 2**31 - 1)]
    assert read(capture(*frames, link=276)).ifindex.tolist() == [1, 0x10001, 2**31 - 1]


def test_what_is_no_ip_is_counted(tmp_path: Path) -> None:
    """Nothing in the file disappears without a count."""
    path = tmp_path / "x.pcap"
    path.write_bytes(capture(ETHER / ARP(), ETHER / IP(SYN4), ETHER / IP(DATA), b"", link=1))
    file = open_capture(path)
    list(file)
    assert (file.counts.packets, file.counts.kept, file.counts.not_ip) == (4, 1, 1)
    assert (file.counts.unselected, file.counts.truncated) == (1, 1)


def test_a_capture_without_packets_is_empty(read: Reader) -> None:
    """A tcpdump that saw nothing leaves a header."""
    assert len(read(capture())) == 0


def test_chunks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the chunks and wherever blocks end, the packets are the same and no chunk is larger than asked."""
    path = tmp_path / "x.pcap"
    frames = [
        bytes(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=n, flags="S") / (b"x" * (n * 37 % 200)))
        for n in range(300)
    ]
    path.write_bytes(capture(*frames))
    whole = concatenate(list(open_capture(path)))
    assert whole.src_port.tolist() == list(range(300))
    for octets, count in ((300, 65_536), (301, 7), (4_096, 1), (10_000, 10)):
        monkeypatch.setattr(pcap, "CHUNK_OCTETS", octets)
        monkeypatch.setattr(pcap, "CHUNK_PACKETS", count)
        chunks = list(open_capture(path))
        assert max(map(len, chunks)) <= count
        joined = concatenate(chunks)
        assert np.array_equal(joined.src_port, whole.src_port)
        assert np.array_equal(joined.time, whole.time)


def test_a_pipe_will_do(tmp_path: Path) -> None:
    """A file that cannot be sought or measured, such as the output of zcat, is read as it comes."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(capture(SYN4, SYN6)))
    writer.start()
    assert sum(map(len, open_capture(pipe))) == 2
    writer.join()


def test_a_capture_can_be_abandoned(tmp_path: Path) -> None:
    """A reader that stops early leaves no open file behind (which pytest would report)."""
    path = tmp_path / "x.pcap"
    path.write_bytes(capture(SYN4))
    open_capture(path)
    iterator: Iterator[Packets] = iter(open_capture(path))
    assert len(next(iterator)) == 1


def pcapng(folder: Path) -> bytes:
    """Return a capture in Wireshark's own format."""
    path = folder / "x.pcapng"
    with PcapNgWriter(str(path)) as writer:
        writer.write(ETHER / IP(SYN4))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"hello, this is no capture", "this is no capture file"),
        (b"\xd4\xc3", "this is no capture file"),
        (b"\x1f\x8b\x08\x00" + b"x" * 40, "gunzip"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 40, "unzstd"),
        (capture()[:20], "ends within its header, after 20 bytes"),
        (capture(link=105), r"link type 105 cannot be read, only .*LINUX_SLL2 \(276\)"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(tmp_path: Path, content: bytes, words: str) -> None:
    """Opening fails at once, with the path and what to do."""
    path = tmp_path / "x.pcap"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=words) as caught:
        open_capture(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_pcapng_says_how_to_convert(tmp_path: Path) -> None:
    """Wireshark's own format is a command away."""
    path = tmp_path / "x.pcap"
    path.write_bytes(pcapng(tmp_path))
    with pytest.raises(CaptureError, match="editcap -F pcap"):
        open_capture(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    """The system's reason, with the path."""
    with pytest.raises(CaptureError, match="none: No such file or directory"):
        open_capture(tmp_path / "none")
    with pytest.raises(CaptureError, match="Is a directory"):
        open_capture(tmp_path)


@pytest.mark.parametrize("cut", [1, 39, 40, 41, 55])
def test_a_packet_cut_off_is_an_error_after_those_before_it(tmp_path: Path, cut: int) -> None:
    """A capture whose writer was killed gives what it has, and says where it ends."""
    path = tmp_path / "x.pcap"
    path.write_bytes(capture(SYN4, SYN4, SYN4)[:-cut])
    file = open_capture(path)
    assert len(next(file)) == 2
    with pytest.raises(CaptureError, match=r"x\.pcap: packet 3 at byte 136 runs past the end of the file"):
        next(file)


@pytest.mark.parametrize("caplen", [262_145, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_absurd_length_is_an_error(tmp_path: Path, caplen: int) -> None:
    """A length that no capture can have means that the file is damaged, however much follows."""
    path = tmp_path / "x.pcap"
    damaged = capture(SYN4) + struct.pack("<4I", 0, 0, caplen, caplen) + bytes(400_000)
    path.write_bytes(damaged)
    file = open_capture(path)
    assert len(next(file)) == 1
    with pytest.raises(CaptureError, match=rf"packet 2 at byte 80 claims to have {caplen} bytes"):
        next(file)


def test_the_largest_packet_is_read(read: Reader) -> None:
    """A packet of the largest length that libpcap allows is no damage."""
    assert len(read(capture(SYN4.ljust(262_144, b"\0"), SYN4))) == 2


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from(
        [b"", capture(), capture(SYN4, SYN6), capture(link=1), capture(link=276), capture(order=">")]
    ),
    rest=st.binary(max_size=200),
    damage=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4),
)
def test_only_capture_errors(tmp_path: Path, start: bytes, rest: bytes, damage: list[tuple[int, int]]) -> None:
    """Whatever the file holds, it gives packets or a CaptureError."""
    content = bytearray(start + rest)
    for place, value in damage:
        if place < len(content):
            content[place] = value
    path = tmp_path / "x.pcap"
    path.write_bytes(content)
    try:
        for packets in open_capture(path):
            assert packets.time.dtype == np.int64
    except CaptureError:
        pass


def test_reading_files_needs_nothing_of_linux() -> None:
    """On other systems neither packet sockets nor scapy nor pyroute2 are there; files are read all the same."""
    program = """
import socket, sys
for name in ("scapy", "pyroute2", "pandas", "fcntl", "resource"):
    sys.modules[name] = None
for name in [name for name in dir(socket) if name.startswith(("AF_PACKET", "PACKET_"))]:
    delattr(socket, name)
import recorder.capture.pcap, recorder.capture.ring
from recorder.errors import UnsupportedError
try:
    recorder.capture.ring.Ring("tcp")
except UnsupportedError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "needs Linux" in done.stdout
