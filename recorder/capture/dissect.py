"""Reads the headers of many packets at once: columns of offsets into one buffer go in, columns of fields come out.

No step runs once per packet except copying DNS messages. The selection made here is the one that the kernel's filters
(`recorder.capture.filters`) make for live capture, so a capture file and a live ring give the same rows.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple, Self, TypedDict

import numpy as np
import numpy.typing as npt

from recorder.capture.packets import (
    ICMP,
    ICMP_ECHOES,
    ICMP_ERRORS,
    ICMPV6,
    ICMPV6_ECHOES,
    ICMPV6_ERRORS,
    MAPPED,
    RST,
    SCTP,
    SCTP_ABORT,
    SCTP_INIT,
    SCTP_INIT_ACK,
    SYN,
    TCP,
    UDP,
    Bools,
    DnsMessages,
    Int16s,
    Int32s,
    Int64s,
    Packets,
    Uint8s,
    Uint32s,
    Uint64s,
)

ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
VLAN_TAGS = (0x8100, 0x88A8, 0x9100)
"""IEEE 802.1Q, 802.1ad, and the value that switches used before 802.1ad."""

HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION)
"""IPv6 extension headers that may stand before the transport (RFC 8200 §4.1)."""

DNS_PORT = 53
TUNNEL_PORTS = (4789, 8472, 6081)
"""VXLAN (RFC 7348), VXLAN as Linux and flannel had it first, Geneve (RFC 8926): known by the destination port alone."""
WIREGUARD_PORTS = (51820, 51821, 51871)
"""WireGuard between nodes (Calico and flannel per family, Cilium). Linux hands these numbers to clients too, so only a
packet that has one at both ends is taken for a tunnel's."""

_VLAN_PASSES = 3
_EXTENSION_PASSES = 8
_KEPT, _NOT_IP, _TRUNCATED, _MALFORMED, _FRAGMENT, _TUNNEL, _LOOPBACK, _UNSELECTED = range(8)
_NEEDED = {TCP: 14, UDP: 8, SCTP: 16, ICMP: 8, ICMPV6: 8}
"""Octets of the transport without which a packet says nothing; all else counts as truncated."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the packets given to `dissect`: each is in `packets` and in exactly one of the others."""

    packets: int = 0
    kept: int = 0
    not_ip: int = 0
    truncated: int = 0
    malformed: int = 0
    fragments: int = 0
    """Fragments other than the first, which carry no transport header."""
    tunnels: int = 0
    """The outer packets of encapsulations; what they carry is seen where it is unwrapped."""
    loopback: int = 0
    unselected: int = 0
    """Packets that neither open nor refuse a connection, and protocols that are not recorded."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


class Octets:
    """A buffer read at many places at once; numbers are big-endian, as on the wire.

    Each attribute is a view with a stride of one octet: `u32[at]` gives the 32-bit numbers that begin at the offsets `at`.
    """

    __slots__ = ("size", "u8", "u16", "u32", "u64")

    def __init__(self, buffer: npt.NDArray[np.uint8]) -> None:
        self.size = len(buffer)
        self.u8: Uint8s = buffer
        self.u16 = self._numbers(buffer, 2)
        self.u32 = self._numbers(buffer, 4)
        self.u64 = self._numbers(buffer, 8)

    @staticmethod
    def _numbers(buffer: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.unsignedinteger]:
        count = len(buffer) - width + 1
        if count <= 0:
            return np.zeros(0, f">u{width}")
        return np.ndarray((count,), f">u{width}", buffer, strides=(1,))


class _Layer(NamedTuple):
    """Where the transport of each packet is, and whether there is one: all of shape (n,)."""

    protocol: Uint8s
    start: Int64s
    end: Int64s
    fate: Uint8s

    def take(self, rows: npt.NDArray[np.intp]) -> Self:
        return type(self)(self.protocol[rows], self.start[rows], self.end[rows], self.fate[rows])


def dissect(
    buffer: npt.NDArray[np.uint8],
    offset: Int64s,
    caplen: Int64s,
    ethertype: npt.NDArray[np.uint16],
    time: Int64s,
    ifindex: Int32s,
    outgoing: Bools,
) -> tuple[Packets, Counts]:
    """Return the packets that matter, in the order given, and what became of the others.

    `offset` (n,) is where in `buffer` the network layer begins, `caplen` (n,) the octets captured from there on,
    `ethertype` (n,) what the link layer calls it (a VLAN tag: the offset is that of the tag's own first octet). The rest
    goes into the result as it is. Kept are TCP SYN, SYN-ACK and the RST that answers a SYN; SCTP INIT, INIT ACK and
    ABORT; UDP; ICMP and ICMPv6 echoes and errors. Nothing in the result refers to the buffer. Never raises for what
    packets contain, nor for lengths that run past the buffer.
    """
    octets = Octets(buffer)
    end = np.minimum(offset + np.maximum(caplen, 0), octets.size)
    at, ethertype = _untag(octets, offset, end, ethertype)
    family = np.zeros(len(at), np.uint8)
    family[ethertype == ETHERTYPE_IPV4] = 4
    family[ethertype == ETHERTYPE_IPV6] = 6
    layer = _internet(octets, at, end, family)
    _choose(octets, layer, family)
    src, dst = _addresses(octets, at, family, layer.fate)
    rows = np.flatnonzero(layer.fate == _KEPT)
    kept = ~(_is_loopback(src) | _is_loopback(dst))
    layer.fate[rows[~kept]] = _LOOPBACK
    rows, src, dst = rows[kept], src[kept], dst[kept]
    tally = np.bincount(layer.fate, minlength=8).tolist()
    counts = Counts(len(at), *tally)
    packets = _columns(octets, layer.take(rows), family[rows], src, dst, time[rows], ifindex[rows], outgoing[rows])
    return packets, counts


def _untag(
    octets: Octets, at: Int64s, end: Int64s, ethertype: npt.NDArray[np.uint16]
) -> tuple[Int64s, npt.NDArray[np.uint16]]:
    """Step over VLAN tags (IEEE 802.1Q: two octets of tag, two of the inner type)."""
    for _ in range(_VLAN_PASSES):
        rows = np.flatnonzero(np.isin(ethertype, VLAN_TAGS))
        rows = rows[at[rows] + 4 <= end[rows]]
        if not len(rows):
            break
        at, ethertype = at.copy(), ethertype.copy()
        ethertype[rows] = octets.u16[at[rows] + 2]
        at[rows] += 4
    return at, ethertype


def _internet(octets: Octets, at: Int64s, end: Int64s, family: Uint8s) -> _Layer:
    """Read IPv4 and IPv6 headers at `at`; `fate` is _KEPT where a transport follows."""
    layer = _Layer(np.zeros(len(at), np.uint8), at.copy(), end.copy(), np.full(len(at), _NOT_IP, np.uint8))
    layer.fate[family != 0] = _TRUNCATED
    _internet4(octets, at, layer, np.flatnonzero((family == 4) & (at + 20 <= end)))
    _internet6(octets, at, layer, np.flatnonzero((family == 6) & (at + 40 <= end)))
    return layer


def _internet4(octets: Octets, at: Int64s, layer: _Layer, rows: npt.NDArray[np.intp]) -> None:
    """Read IPv4 headers (RFC 791 §3.1) of these rows into the layer."""
    if not len(rows):
        return
    at = at[rows]
    first = octets.u8[at]
    length = (first & 0x0F).astype(np.int64) * 4
    fate = np.full(len(rows), _KEPT, np.uint8)
    fate[(octets.u16[at + 6] & 0x1FFF) != 0] = _FRAGMENT
    fate[(first >> 4 != 4) | (length < 20)] = _MALFORMED
    layer.fate[rows] = fate
    layer.protocol[rows] = octets.u8[at + 9]
    layer.start[rows] = at + length
    _cut(layer, rows, at, octets.u16[at + 2].astype(np.int64), length)


def _internet6(octets: Octets, at: Int64s, layer: _Layer, rows: npt.NDArray[np.intp]) -> None:
    """Read IPv6 headers and what extends them (RFC 8200 §3, §4) of these rows into the layer."""
    if not len(rows):
        return
    at = at[rows]
    layer.fate[rows] = np.where(octets.u8[at] >> 4 == 6, _KEPT, _MALFORMED)
    layer.protocol[rows] = octets.u8[at + 6]
    layer.start[rows] = at + 40
    payload = octets.u16[at + 4].astype(np.int64)
    _cut(layer, rows, at, np.where(payload == 0, 0, payload + 40), np.full(len(at), 40))
    for _ in range(_EXTENSION_PASSES):
        rows = rows[np.isin(layer.protocol[rows], EXTENSIONS) & (layer.fate[rows] == _KEPT)]
        if not len(rows):
            return
        short = layer.start[rows] + 8 > layer.end[rows]
        layer.fate[rows[short]] = _TRUNCATED
        rows = rows[~short]
        start = layer.start[rows]
        fragment = layer.protocol[rows] == FRAGMENT
        later = fragment & (octets.u16[start + 2] & 0xFFF8 != 0)
        layer.fate[rows[later]] = _FRAGMENT
        layer.protocol[rows] = octets.u8[start]
        layer.start[rows] += np.where(fragment, 8, (octets.u8[start + 1].astype(np.int64) + 1) * 8)
    layer.fate[rows[np.isin(layer.protocol[rows], EXTENSIONS) & (layer.fate[rows] == _KEPT)]] = _MALFORMED


def _cut(layer: _Layer, rows: npt.NDArray[np.intp], at: Int64s, total: Int64s, header: Int64s) -> None:
    """End packets where their IP header says, so that link padding is not read; 0 is a segment too long for the field."""
    end = layer.end[rows]
    layer.end[rows] = np.where(total >= header, np.minimum(end, at + total), end)


def _choose(octets: Octets, layer: _Layer, family: Uint8s) -> None:
    """Set the fate of packets that are not recorded."""
    wanted = np.flatnonzero(layer.fate == _KEPT)
    protocol = layer.protocol[wanted]
    layer.fate[wanted] = _UNSELECTED
    tables = {
        TCP: _choose_tcp,
        UDP: _choose_udp,
        SCTP: _choose_sctp,
        ICMP: _choose_icmp,
        ICMPV6: _choose_icmpv6,
    }
    for number, choose in tables.items():
        rows = wanted[protocol == number]
        if number in (ICMP, ICMPV6):
            rows = rows[family[rows] == (4 if number == ICMP else 6)]
        if not len(rows):
            continue
        short = layer.start[rows] + _NEEDED[number] > layer.end[rows]
        layer.fate[rows[short]] = _TRUNCATED
        rows = rows[~short]
        layer.fate[rows] = choose(octets, layer.start[rows], layer.end[rows])


def _choose_tcp(octets: Octets, at: Int64s, _end: Int64s) -> Uint8s:
    """Keep what opens a connection and the RST that refuses one: its sequence number is 0 (RFC 9293 §3.10.7.1)."""
    flags = octets.u8[at + 13]
    kept: Bools = flags & SYN != 0
    resets = np.flatnonzero((flags & RST != 0) & ~kept)
    kept[resets] = octets.u32[at[resets] + 4] == 0
    return np.where(kept, _KEPT, _UNSELECTED).astype(np.uint8)


def _choose_udp(octets: Octets, at: Int64s, _end: Int64s) -> Uint8s:
    src, dst = octets.u16[at], octets.u16[at + 2]
    tunnel = np.isin(dst, TUNNEL_PORTS) | (np.isin(dst, WIREGUARD_PORTS) & np.isin(src, WIREGUARD_PORTS))
    return np.where(tunnel & (src != DNS_PORT), _TUNNEL, _KEPT).astype(np.uint8)


def _choose_sctp(octets: Octets, at: Int64s, end: Int64s) -> Uint8s:
    chunk = octets.u8[at + 12]
    fate = np.where(np.isin(chunk, (SCTP_INIT, SCTP_INIT_ACK, SCTP_ABORT)), _KEPT, _UNSELECTED).astype(np.uint8)
    fate[(chunk <= SCTP_INIT_ACK) & (fate == _KEPT) & (at + 20 > end)] = _TRUNCATED
    return fate


def _choose_icmp(octets: Octets, at: Int64s, _end: Int64s) -> Uint8s:
    return np.where(np.isin(octets.u8[at], ICMP_ERRORS + ICMP_ECHOES), _KEPT, _UNSELECTED).astype(np.uint8)


def _choose_icmpv6(octets: Octets, at: Int64s, _end: Int64s) -> Uint8s:
    return np.where(np.isin(octets.u8[at], ICMPV6_ERRORS + ICMPV6_ECHOES), _KEPT, _UNSELECTED).astype(np.uint8)


def _addresses(octets: Octets, at: Int64s, family: Uint8s, fate: Uint8s) -> tuple[Uint64s, Uint64s]:
    """Return source and destination, (m, 2) each, of the m packets kept."""
    rows = np.flatnonzero(fate == _KEPT)
    src, dst = np.zeros((len(rows), 2), np.uint64), np.zeros((len(rows), 2), np.uint64)
    at, family = at[rows], family[rows]
    four, six = np.flatnonzero(family == 4), np.flatnonzero(family == 6)
    src[four, 1] = octets.u32[at[four] + 12] | np.uint64(MAPPED)
    dst[four, 1] = octets.u32[at[four] + 16] | np.uint64(MAPPED)
    if len(six):
        for half in (0, 1):
            src[six, half] = octets.u64[at[six] + 8 + 8 * half]
            dst[six, half] = octets.u64[at[six] + 24 + 8 * half]
    return src, dst


def _is_loopback(address: Uint64s) -> Bools:
    """Tell which of the addresses, (n, 2), are in 127.0.0.0/8 or ::1."""
    lo = address[:, 1]
    loopback: Bools = (address[:, 0] == 0) & ((lo >> 24 == (MAPPED >> 24) | 127) | (lo == 1))
    return loopback


def _columns(
    octets: Octets,
    layer: _Layer,
    family: Uint8s,
    src: Uint64s,
    dst: Uint64s,
    time: Int64s,
    ifindex: Int32s,
    outgoing: Bools,
) -> Packets:
    """Read the transports of packets that are all kept."""
    src_port, dst_port, seq, ack = _transport(octets, layer)
    protocol, start = layer.protocol, layer.start
    flags = np.zeros(len(start), np.uint8)
    for number, place in ((TCP, 13), (SCTP, 12)):
        rows = np.flatnonzero(protocol == number)
        flags[rows] = octets.u8[start[rows] + place]
    icmp_type, icmp_code = (np.full(len(start), -1, np.int16) for _ in range(2))
    rows = np.flatnonzero((protocol == ICMP) | (protocol == ICMPV6))
    icmp_type[rows] = octets.u8[start[rows]]
    icmp_code[rows] = octets.u8[start[rows] + 1]
    return Packets(
        time=time,
        ifindex=ifindex,
        outgoing=outgoing,
        family=family,
        protocol=protocol,
        src=src,
        dst=dst,
        src_port=src_port,
        dst_port=dst_port,
        flags=flags,
        seq=seq,
        ack=ack,
        icmp_type=icmp_type,
        icmp_code=icmp_code,
        **_quotation(octets, layer, family, icmp_type),
        dns=_dns(octets, layer, src_port),
    )


def _transport(octets: Octets, layer: _Layer) -> tuple[Int32s, Int32s, Uint32s, Uint32s]:
    """Return ports (-1: none), and TCP's numbers or SCTP's tags, of packets of which 8 octets may be all there is."""
    protocol, start, end, fate = layer
    there = (fate == _KEPT) & (start + 8 <= end)
    src_port, dst_port = np.full(len(start), -1, np.int32), np.full(len(start), -1, np.int32)
    seq, ack = np.zeros(len(start), np.uint32), np.zeros(len(start), np.uint32)
    rows = np.flatnonzero(((protocol == TCP) | (protocol == UDP) | (protocol == SCTP)) & there)
    src_port[rows] = octets.u16[start[rows]]
    dst_port[rows] = octets.u16[start[rows] + 2]
    rows = np.flatnonzero((protocol == TCP) & there)
    seq[rows] = octets.u32[start[rows] + 4]
    rows = rows[start[rows] + 12 <= end[rows]]
    ack[rows] = octets.u32[start[rows] + 8]
    rows = np.flatnonzero((protocol == SCTP) & there)
    if len(rows):
        ack[rows] = octets.u32[start[rows] + 4]
        rows = rows[start[rows] + 20 <= end[rows]]
        rows = rows[np.isin(octets.u8[start[rows] + 12], (SCTP_INIT, SCTP_INIT_ACK))]
        seq[rows] = octets.u32[start[rows] + 16]
    return src_port, dst_port, seq, ack


class _Quotation(TypedDict):
    quoted_protocol: Uint8s
    quoted_src: Uint64s
    quoted_dst: Uint64s
    quoted_src_port: Int32s
    quoted_dst_port: Int32s
    quoted_seq: Uint32s


def _quotation(octets: Octets, layer: _Layer, family: Uint8s, icmp_type: Int16s) -> _Quotation:
    """Read the packets that ICMP errors quote behind 8 octets of their own (RFC 792, RFC 4443)."""
    count = len(icmp_type)
    quotation = _Quotation(
        quoted_protocol=np.zeros(count, np.uint8),
        quoted_src=np.zeros((count, 2), np.uint64),
        quoted_dst=np.zeros((count, 2), np.uint64),
        quoted_src_port=np.full(count, -1, np.int32),
        quoted_dst_port=np.full(count, -1, np.int32),
        quoted_seq=np.zeros(count, np.uint32),
    )
    four = (layer.protocol == ICMP) & np.isin(icmp_type, ICMP_ERRORS)
    six = (layer.protocol == ICMPV6) & np.isin(icmp_type, ICMPV6_ERRORS)
    rows = np.flatnonzero(four | six)
    if not len(rows):
        return quotation
    at, family = layer.start[rows] + 8, family[rows]
    inner = _internet(octets, at, layer.end[rows], family)
    whole = np.flatnonzero(inner.fate == _KEPT)
    rows, at, family = rows[whole], at[whole], family[whole]
    inner = inner.take(whole)
    src, dst = _addresses(octets, at, family, inner.fate)
    src_port, dst_port, seq, _ack = _transport(octets, inner)
    quotation["quoted_protocol"][rows] = inner.protocol
    quotation["quoted_src"][rows] = src
    quotation["quoted_dst"][rows] = dst
    quotation["quoted_src_port"][rows] = src_port
    quotation["quoted_dst_port"][rows] = dst_port
    quotation["quoted_seq"][rows] = seq
    return quotation


def _dns(octets: Octets, layer: _Layer, src_port: Int32s) -> DnsMessages:
    """Copy what UDP packets from port 53 carry."""
    rows = np.flatnonzero((layer.protocol == UDP) & (src_port == DNS_PORT))
    if not len(rows):
        return []
    start = layer.start[rows]
    end = np.minimum(layer.end[rows], start + octets.u16[start + 4])
    places = zip(rows.tolist(), (start + 8).tolist(), end.tolist(), strict=True)
    return [(row, octets.u8[first:last].tobytes()) for row, first, last in places if last > first]
