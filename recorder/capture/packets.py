"""The one type that everything after capture works on: packets as equally long numpy columns.

A recorder must keep up with every connection of a node on a fraction of a core, which a Python object per packet cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, ip_address
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Uint8s = npt.NDArray[np.uint8]
Int16s = npt.NDArray[np.int16]
Int32s = npt.NDArray[np.int32]
Uint32s = npt.NDArray[np.uint32]
Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
"""Protocol numbers (IANA, Assigned Internet Protocol Numbers)."""

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
"""TCP control bits (RFC 9293 §3.1)."""

SCTP_INIT, SCTP_INIT_ACK, SCTP_ABORT = 1, 2, 6
"""SCTP chunk types (RFC 9260 §3.2)."""

ICMP_ERRORS = (3, 11, 12)
"""ICMP types that quote the packet they are about: unreachable, time exceeded, parameter problem (RFC 792)."""

ICMPV6_ERRORS = (1, 2, 3, 4)
"""ICMPv6 types that quote the packet they are about (RFC 4443 §2.1)."""

ICMP_ECHOES = (8, 0)
"""Echo request and reply (RFC 792)."""

ICMPV6_ECHOES = (128, 129)
"""Echo request and reply (RFC 4443 §4)."""

MAPPED = 0xFFFF_0000_0000
"""Lower half of ::ffff:0.0.0.0, the prefix of IPv4 addresses among IPv6 ones (RFC 4291 §2.5.5.2)."""

DnsMessages = list[tuple[int, bytes]]


@dataclass(frozen=True, slots=True, eq=False)
class Packets:
    """n packets as columns of length n; addresses are (n, 2): upper and lower 64 bits, IPv4 as ::ffff:a.b.c.d."""

    time: Int64s
    """Microseconds since the epoch."""
    ifindex: Int32s
    """Interface the packet was seen on; -1 when the capture does not say."""
    outgoing: Bools
    """The packet was leaving the node's stack through that interface; False also when the capture does not say."""
    family: Uint8s
    """4 or 6."""
    protocol: Uint8s
    """The transport, behind IPv6 extension headers."""
    src: Uint64s
    dst: Uint64s
    src_port: Int32s
    """-1 where there is none, as `dst_port`."""
    dst_port: Int32s
    flags: Uint8s
    """TCP: control bits; SCTP: type of the first chunk; else 0."""
    seq: Uint32s
    """TCP: sequence number; SCTP: initiate tag (INIT, INIT ACK); else 0."""
    ack: Uint32s
    """TCP: acknowledgement number; SCTP: verification tag; else 0."""
    icmp_type: Int16s
    """-1 where it is no ICMP, as `icmp_code`."""
    icmp_code: Int16s
    quoted_protocol: Uint8s
    """Transport of the packet that an ICMP error quotes; 0 where nothing is quoted, and then so is the rest."""
    quoted_src: Uint64s
    quoted_dst: Uint64s
    quoted_src_port: Int32s
    """-1 where there is none, as `quoted_dst_port`."""
    quoted_dst_port: Int32s
    quoted_seq: Uint32s
    """As `seq`, 0 where the quotation is too short."""
    dns: DnsMessages = field(default_factory=list)
    """(row, DNS message) of UDP packets from port 53, ascending; a message is as long as was captured of it."""

    def __len__(self) -> int:
        return len(self.time)

    @classmethod
    def empty(cls) -> Self:
        """Return no packets."""
        none = np.zeros(0, np.int64)
        pairs = np.zeros((0, 2), np.uint64)
        return cls(
            time=none,
            ifindex=none.astype(np.int32),
            outgoing=none.astype(np.bool_),
            family=none.astype(np.uint8),
            protocol=none.astype(np.uint8),
            src=pairs,
            dst=pairs,
            src_port=none.astype(np.int32),
            dst_port=none.astype(np.int32),
            flags=none.astype(np.uint8),
            seq=none.astype(np.uint32),
            ack=none.astype(np.uint32),
            icmp_type=none.astype(np.int16),
            icmp_code=none.astype(np.int16),
            quoted_protocol=none.astype(np.uint8),
            quoted_src=pairs,
            quoted_dst=pairs,
            quoted_src_port=none.astype(np.int32),
            quoted_dst_port=none.astype(np.int32),
            quoted_seq=none.astype(np.uint32),
        )

    def take(self, rows: npt.NDArray[np.intp]) -> Self:
        """Return the rows named, in that order, each at most once; shape (m,), indices from 0."""
        place = np.full(len(self), -1, np.intp)
        place[rows] = np.arange(len(rows))
        moved = [(int(place[row]), message) for row, message in self.dns if place[row] >= 0]
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in COLUMNS}
        return type(self)(**columns, dns=sorted(moved))

    def select(self, mask: Bools) -> Self:
        """Return the rows where `mask`, shape (n,), is true."""
        return self.take(np.flatnonzero(mask))

    def by_time(self) -> Self:
        """Return the rows in order of time; equal times keep their order."""
        if np.all(self.time[1:] >= self.time[:-1]):
            return self
        return self.take(np.argsort(self.time, kind="stable"))


COLUMNS: tuple[str, ...] = tuple(column.name for column in fields(Packets) if column.name != "dns")


def concatenate(parts: Sequence[Packets]) -> Packets:
    """Return the packets of all parts, one part after the other."""
    if not parts:
        return Packets.empty()
    if len(parts) == 1:
        return parts[0]
    dns: DnsMessages = []
    start = 0
    for part in parts:
        dns.extend((start + row, message) for row, message in part.dns)
        start += len(part)
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    return Packets(**columns, dns=dns)


def address_text(hi: int, lo: int) -> str:
    """Return an address's canonical text (RFC 5952); ::ffff:a.b.c.d is the IPv4 address a.b.c.d."""
    hi, lo = int(hi), int(lo)
    if hi == 0 and lo >> 32 == MAPPED >> 32:
        return str(IPv4Address(lo & 0xFFFF_FFFF))
    return str(ip_address((hi << 64 | lo).to_bytes(16, "big")))


def address_value(text: str) -> tuple[int, int]:
    """Return an address as `Packets` holds it: upper and lower 64 bits; ValueError if the text is no address."""
    address = ip_address(text)
    if address.version == 4:
        return 0, MAPPED | int(address)
    return int(address) >> 64, int(address) & 0xFFFF_FFFF_FFFF_FFFF
