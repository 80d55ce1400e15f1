"""Live capture: a memory-mapped ring (TPACKET_V2) that the kernel fills and a timer empties.

One socket sees all interfaces of its network namespace, those made later included. Nobody is woken per packet: `drain` reads
whatever is there, so the cost of a packet is a copy in the kernel and its share of a few numpy calls. The constants are from
the kernel's include/uapi/linux/if_packet.h, the layout of a frame from Documentation/networking/packet_mmap.rst.
"""

import ctypes
import mmap
import os
import socket
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from recorder.capture.dissect import Counts, dissect
from recorder.capture.filters import Filter, load
from recorder.capture.packets import Packets
from recorder.errors import UnsupportedError

SOL_PACKET = 263
PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 5, 6, 10
TPACKET_V2 = 1
SO_ATTACH_FILTER = 26
ETH_P_ALL = 3
PACKET_OUTGOING = 4
ARPHRD_LOOPBACK = 772
TP_STATUS_KERNEL, TP_STATUS_USER = 0, 1

FRAME_HEADER = 80
"""Octets before the packet in a SOCK_DGRAM frame: tpacket2_hdr (32), sockaddr_ll (20), padding to 16, then 16."""

SIZES = {"tcp": (32_768, 256), "udp": (65_536, 256), "dns": (4_096, 2_048)}
"""(frames, octets a frame) by ring: 8 MiB each for handshakes and answers, 16 MiB for datagrams, which hold 0.25 s of
120,000, 240,000 and 16,000 packets a second."""

_BLOCK = max(mmap.PAGESIZE, 65_536)
_SCAN = 1_024

_FRAME = {
    "status": ("u4", 0),
    "snaplen": ("u4", 8),
    "net": ("u2", 14),
    "sec": ("u4", 16),
    "nsec": ("u4", 20),
    "protocol": (">u2", 34),
    "ifindex": ("i4", 36),
    "hatype": ("u2", 40),
    "pkttype": ("u1", 42),
}


@dataclass(frozen=True, slots=True)
class Statistics:
    """Packets that passed the filter since the last call, and how many of them found the ring full."""

    packets: int
    dropped: int


class Ring:
    """One filter's packets, from all interfaces of the calling thread's network namespace.

    A context manager; raises UnsupportedError where the machine cannot capture, saying what it lacks.
    """

    def __init__(self, name: str, *, frames: int | None = None, frame_size: int | None = None) -> None:
        """Open the ring `tcp`, `udp` or `dns`; sizes default to `SIZES`, a frame's is a power of two from 128 on."""
        default_frames, default_size = SIZES[name]
        self.name = name
        size = frame_size or default_size
        block = max(_BLOCK, size)
        blocks = -(-(frames or default_frames) * size // block)
        self._socket = _open_socket()
        try:
            _attach(self._socket, load(name))
            self._memory = self._map(block, blocks, size)
            _bind(self._socket)
        except OSError as error:
            self._socket.close()
            raise UnsupportedError(f"cannot set up the ring {name!r}: {os.strerror(error.errno or 0)}") from error
        self._lay_out(self._memory, blocks * (block // size), size)

    def _lay_out(self, memory: mmap.mmap | memoryview, frames: int, size: int) -> None:
        """See a memory as frames; the first one is next."""
        layout: Any = {
            "names": list(_FRAME),
            "formats": [kind for kind, _ in _FRAME.values()],
            "offsets": [place for _, place in _FRAME.values()],
            "itemsize": size,
        }
        self.counts = Counts()
        self._fence = threading.Lock()
        self._next, self._frames, self._frame_size = 0, frames, size
        self._octets = np.frombuffer(memory, np.uint8)
        self._headers: npt.NDArray[np.void] = np.frombuffer(memory, np.dtype(layout))

    def _map(self, block: int, blocks: int, size: int) -> mmap.mmap:
        self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        request = struct.pack("=4I", block, blocks, size, blocks * (block // size))
        self._socket.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
        return mmap.mmap(self._socket.fileno(), block * blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop capturing; what was not drained is lost."""
        del self._octets, self._headers
        self._memory.close()
        self._socket.close()

    def drain(self) -> Packets:
        """Return all packets the kernel has put into the ring since the last call, in order of time.

        Packets on the loopback device are left out; `counts` grows by what became of each packet.
        """
        count = self._ready()
        if not count:
            return Packets.empty()
        self._order()
        rows = np.arange(self._next, self._next + count) % self._frames
        headers = self._headers[rows]
        packets, counts = self._read(rows, headers)
        self._order()
        self._headers["status"][rows] = TP_STATUS_KERNEL
        self._next = int(self._next + count) % self._frames
        self.counts += counts
        return packets.by_time()

    def _read(self, rows: npt.NDArray[np.int64], headers: npt.NDArray[np.void]) -> tuple[Packets, Counts]:
        here = headers["hatype"] != ARPHRD_LOOPBACK
        rows, headers = rows[here], headers[here]
        packets, counts = dissect(
            self._octets,
            offset=rows * self._frame_size + headers["net"],
            caplen=headers["snaplen"].astype(np.int64),
            ethertype=headers["protocol"].astype(np.uint16),
            time=headers["sec"].astype(np.int64) * 1_000_000 + headers["nsec"] // 1_000,
            ifindex=headers["ifindex"].astype(np.int32),
            outgoing=headers["pkttype"] == PACKET_OUTGOING,
        )
        skipped = int(np.count_nonzero(~here))
        return packets, counts + Counts(packets=skipped, loopback=skipped)

    def _ready(self) -> int:
        """Return how many frames from the next one on are ours; the kernel hands them over in order."""
        status = self._headers["status"]
        count = 0
        while count < self._frames:
            first = (self._next + count) % self._frames
            ours = status[first : min(first + _SCAN, first + self._frames - count)] & TP_STATUS_USER
            if not ours.all():
                return count + int(np.argmin(ours))
            count += len(ours)
        return count

    def _order(self) -> None:
        """Keep loads and stores on both sides of this call apart, as processors with weak ordering (arm64) require.

        Releasing a lock waits for what came before, taking it holds back what comes after.
        """
        for _ in range(2):
            with self._fence:
                pass

    def statistics(self) -> Statistics:
        """Return the kernel's figures since the last call; `packets` includes those dropped and those not yet drained."""
        packets, dropped = struct.unpack("=2I", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        return Statistics(packets, dropped)


def _open_socket() -> socket.socket:
    """Return a packet socket that receives nothing yet: protocol 0, so that no packet passes before the filter is there."""
    family = getattr(socket, "AF_PACKET", None)
    if family is None:
        raise UnsupportedError("live capture needs Linux: capture with tcpdump, then `podfence import pcap`")
    try:
        return socket.socket(family, socket.SOCK_DGRAM, 0)
    except PermissionError:
        raise UnsupportedError(
            "live capture needs CAP_NET_RAW: run as root, or add the capability NET_RAW to the container",
        ) from None
    except OSError as error:
        raise UnsupportedError(f"this kernel has no packet sockets: {error.strerror}") from error


def _attach(sock: socket.socket, program: Filter) -> None:
    """Attach a filter (struct sock_fprog, include/uapi/linux/filter.h)."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program.program)
    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program.program), ctypes.addressof(buffer))
    )


class _LinkAddress(ctypes.Structure):
    """struct sockaddr_ll (packet(7))."""

    _fields_ = (
        ("family", ctypes.c_ushort),
        ("protocol", ctypes.c_ushort),
        ("ifindex", ctypes.c_int),
        ("hatype", ctypes.c_ushort),
        ("pkttype", ctypes.c_ubyte),
        ("halen", ctypes.c_ubyte),
        ("address", ctypes.c_ubyte * 8),
    )


def _bind(sock: socket.socket) -> None:
    """Start capturing on all interfaces; Python's own bind() insists on the name of one."""
    address = _LinkAddress(family=sock.family, protocol=socket.htons(ETH_P_ALL), ifindex=0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(sock.fileno(), ctypes.byref(address), ctypes.sizeof(address)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
