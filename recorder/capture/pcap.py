"""Capture files in libpcap's format, whoever made them, read in chunks of bounded memory.

The format is draft-ietf-opsawg-pcap; link types are those of https://www.tcpdump.org/linktypes.html.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from recorder.capture.dissect import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Counts, Octets, dissect
from recorder.capture.packets import Int64s, Packets
from recorder.errors import CaptureError

CHUNK_PACKETS = 65536
CHUNK_OCTETS = 16 << 20
MAX_CAPLEN = 262_144
"""libpcap's largest snap length; a longer packet means that this is no packet."""

_FILE_HEADER, _RECORD_HEADER = 24, 16
_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1),
    b"\xa1\xb2\xc3\xd4": (">", 1),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000),
}
"""First octets → (byte order, units of the fraction of a second in a microsecond)."""
_OTHERS = {
    b"\x1f\x8b": "compressed with gzip: unpack it with `gunzip` first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it with `unzstd` first",
    b"\x0a\x0d\x0d\x0a": "a pcapng file: convert it with `editcap -F pcap OLD NEW` first",
}
_PACKET_OUTGOING, _ARPHRD_LOOPBACK = 4, 772


@dataclass(frozen=True, slots=True)
class LinkType:
    """Where in a link-layer header things are; None where it does not have them."""

    name: str
    length: int
    ethertype: int | None = None
    """Offset of the EtherType; None: the IP version says it."""
    packet_type: tuple[int, int] | None = None
    """(offset, octets) of Linux's packet type."""
    hardware: int | None = None
    """Offset of Linux's hardware type."""
    ifindex: int | None = None


LINK_TYPES = {
    0: LinkType("NULL", 4),
    1: LinkType("ETHERNET", 14, ethertype=12),
    12: LinkType("RAW", 0),
    14: LinkType("RAW", 0),
    101: LinkType("RAW", 0),
    108: LinkType("LOOP", 4),
    113: LinkType("LINUX_SLL", 16, ethertype=14, packet_type=(0, 2), hardware=2),
    228: LinkType("IPV4", 0),
    229: LinkType("IPV6", 0),
    276: LinkType("LINUX_SLL2", 20, ethertype=0, packet_type=(10, 1), hardware=8, ifindex=4),
}


class Capture(Iterator[Packets]):
    """The packets of a capture file, as columns of at most 65,536 packets of the file at a time, in the file's order.

    `counts` grows with each chunk by what became of each packet. `link_type` says what the file can tell: only LINUX_SLL2
    names interfaces.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.counts = Counts()
        self._chunks = self._read()
        self.link_type: LinkType
        next(self._chunks)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Packets:
        return next(self._chunks)

    def _read(self) -> Iterator[Packets]:
        """Yield nothing of worth once, when the header is read, then chunk after chunk."""
        try:
            with self.path.open("rb", buffering=0) as file:
                order, units, self.link_type = _read_header(self.path, _fill(file, memoryview(bytearray(_FILE_HEADER))))
                yield Packets.empty()
                yield from self._chunks_of(file, order, units)
        except OSError as error:
            raise CaptureError(f"{self.path}: {error.strerror}") from error

    def _chunks_of(self, file: BinaryIO, order: str, units: int) -> Iterator[Packets]:
        octets = memoryview(bytearray(CHUNK_OCTETS))
        block = np.frombuffer(octets, np.uint8)
        start, end, passed, number = 0, 0, _FILE_HEADER, 0
        while True:
            places = _walk(octets[:end], start, order)
            if len(places) == 1:
                passed += start
                octets[: end - start] = octets[start:end].tobytes()
                start, end = 0, end - start
                got = len(_fill(file, octets[end:]))
                if not got:
                    break
                end += got
                continue
            packets, counts = _parse(block[:end], places[:-1], order, units, self.link_type)
            self.counts += counts
            yield packets
            number += len(places) - 1
            start = int(places[-1])
        if end:
            where = f"{self.path}: packet {number + 1} at byte {passed}"
            caplen = _caplen(octets[:end], 0, order)
            if caplen > MAX_CAPLEN:
                raise CaptureError(f"{where} claims to have {caplen} bytes: the file is damaged from there on")
            raise CaptureError(f"{where} runs past the end of the file: the capture was cut off there")


def open_capture(path: str | os.PathLike[str]) -> Capture:
    """Open a capture file (classic pcap; either byte order; micro- or nanoseconds) and read its header.

    Raises CaptureError here if it is none, and while iterating if a packet runs past the end of the file; the packets before
    it have come by then. Each packet is dissected and selected as `recorder.capture.dissect.dissect` says. A pipe will do.
    """
    return Capture(path)


def _fill(file: BinaryIO, space: memoryview) -> memoryview:
    """Read until `space` is full or the file ends; return what was filled."""
    filled = 0
    while filled < len(space):
        got = file.readinto(space[filled:])  # type: ignore[attr-defined]
        if not got:
            break
        filled += got
    return space[:filled]


def _read_header(path: Path, header: memoryview) -> tuple[str, int, LinkType]:
    """Return byte order, fractions in a microsecond and link type."""
    begin = bytes(header)
    if not begin:
        raise CaptureError(f"{path}: the file is empty")
    for magic, advice in _OTHERS.items():
        if begin.startswith(magic):
            raise CaptureError(f"{path}: this is {advice}")
    if begin[:4] not in _MAGIC:
        raise CaptureError(f"{path}: this is no capture file (pcap)")
    if len(begin) < _FILE_HEADER:
        raise CaptureError(f"{path}: the file ends within its header, after {len(begin)} bytes")
    order, units = _MAGIC[begin[:4]]
    number = struct.unpack_from(order + "I", begin, 20)[0] & 0x03FF_FFFF
    if number not in LINK_TYPES:
        known = ", ".join(f"{kind.name} ({key})" for key, kind in LINK_TYPES.items())
        raise CaptureError(f"{path}: link type {number} cannot be read, only {known}; capture with `tcpdump -i any`")
    return order, units, LINK_TYPES[number]


def _caplen(octets: memoryview, at: int, order: str) -> int:
    """Return the captured length of the record at `at`; 0 if the record's header is cut off."""
    if at + _RECORD_HEADER > len(octets):
        return 0
    return int(struct.unpack_from(order + "I", octets, at + 8)[0])


def _walk(octets: memoryview, at: int, order: str) -> Int64s:
    """Return where the whole records from `at` on begin, at most a chunk of them, and where the last of them ends."""
    caplen_of = struct.Struct(order + "8xI").unpack_from
    places = [at]
    note = places.append
    with suppress(struct.error):  # the last header is cut off; asking first would cost as much as the reading
        for _ in repeat(None, CHUNK_PACKETS):
            at += _RECORD_HEADER + caplen_of(octets, at)[0]
            note(at)
    found = np.fromiter(places, np.int64, len(places))
    sound = (found[1:] <= len(octets)) & (np.diff(found) <= _RECORD_HEADER + MAX_CAPLEN)
    return found if sound.all() else found[: np.argmin(sound) + 1]


def _parse(
    block: npt.NDArray[np.uint8], record: Int64s, order: str, units: int, link: LinkType
) -> tuple[Packets, Counts]:
    """Dissect the records at these offsets, skipping those of a loopback device and those without a whole link header."""
    octets = Octets(block)
    caplen = _number(octets, record + 8, order)
    whole = caplen >= link.length
    at = record + _RECORD_HEADER
    here = whole
    if link.hardware is not None:
        here = whole.copy()
        here[whole] = octets.u16[at[whole] + link.hardware] != _ARPHRD_LOOPBACK
    record, at, caplen = record[here], at[here], caplen[here]
    if link.ethertype is None:
        ethertype = _by_version(octets, at + link.length, caplen - link.length)
    else:
        ethertype = octets.u16[at + link.ethertype].astype(np.uint16)
    outgoing = np.zeros(len(at), np.bool_)
    if link.packet_type is not None:
        place, width = link.packet_type
        outgoing = (octets.u8 if width == 1 else octets.u16)[at + place] == _PACKET_OUTGOING
    ifindex = np.full(len(at), -1, np.int32)
    if link.ifindex is not None:
        ifindex[:] = octets.u32[at + link.ifindex].astype(np.int32)
    time = _number(octets, record, order) * 1_000_000 + _number(octets, record + 4, order) // units
    packets, counts = dissect(block, at + link.length, caplen - link.length, ethertype, time, ifindex, outgoing)
    short, loopback = int(np.count_nonzero(~whole)), int(np.count_nonzero(whole & ~here))
    return packets, counts + Counts(packets=short + loopback, truncated=short, loopback=loopback)


def _number(octets: Octets, at: Int64s, order: str) -> Int64s:
    """Return the 32-bit numbers at these offsets in the file's byte order."""
    found = octets.u32[at]
    return (found.byteswap() if order == "<" else found).astype(np.int64)


def _by_version(octets: Octets, at: Int64s, caplen: Int64s) -> npt.NDArray[np.uint16]:
    """Return the EtherType that the first octet of each packet, IPv4's or IPv6's version, stands for; else 0."""
    version = np.zeros(len(at), np.uint8)
    there = caplen > 0
    version[there] = octets.u8[at[there]] >> 4
    return np.select([version == 4, version == 6], [ETHERTYPE_IPV4, ETHERTYPE_IPV6], 0).astype(np.uint16)
