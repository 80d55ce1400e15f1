"""Fields, counts and robustness of dissection, on packets that scapy makes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror, IPerror, TCPerror, UDPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.layers.sctp import SCTP, SCTPChunkInit, SCTPChunkInitAck
from scapy.packet import Packet, Raw

from recorder.capture.dissect import Counts, dissect
from recorder.capture.packets import COLUMNS, Packets, address_text

IPV4, IPV6 = 0x0800, 0x86DD
SYN = TCP(sport=40_000, dport=443, seq=0xFFFFFFF0, ack=0xFFFFFFF1, flags="S")


def read(*frames: bytes | Packet, ethertype: int | None = None, caplen: int | None = None) -> tuple[Packets, Counts]:
    """Dissect frames that stand one after another in a buffer, without a gap."""
    frames = tuple(bytes(frame) for frame in frames)
    lengths = [len(frame) for frame in frames]
    kinds = [ethertype or {4: IPV4, 6: IPV6}.get(frame[0] >> 4, 0) for frame in frames]
    count = len(frames)
    return dissect(
        np.frombuffer(b"".join(frames), np.uint8),
        offset=np.cumsum([0, *lengths[:-1]]),
        caplen=np.array(lengths if caplen is None else [caplen] * count),
        ethertype=np.array(kinds, np.uint16),
        time=np.arange(count),
        ifindex=np.arange(count, dtype=np.int32) + 10,
        outgoing=np.arange(count) % 2 == 1,
    )


def row(packets: Packets, index: int = 0) -> dict[str, object]:
    """Return one packet's fields as plain values, addresses as text."""
    fields: dict[str, object] = {}
    for name in COLUMNS:
        value = getattr(packets, name)[index]
        fields[name] = address_text(*value) if name.endswith(("src", "dst")) else value.item()
    return fields


def without_quotation(**fields: object) -> dict[str, object]:
    """Return fields of a packet that quotes nothing, completed by what a packet has by default."""
    nothing = {"flags": 0, "seq": 0, "ack": 0, "icmp_type": -1, "icmp_code": -1, "src_port": -1, "dst_port": -1}
    quoted = {"quoted_protocol": 0, "quoted_src": "::", "quoted_dst": "::", "quoted_seq": 0}
    ports = {"quoted_src_port": -1, "quoted_dst_port": -1}
    return {"time": 0, "ifindex": 10, "outgoing": False, **nothing, **quoted, **ports, **fields}


def test_tcp_over_ipv4() -> None:
    """Every field of a SYN is where it belongs, numbers above 2³¹ included."""
    packets, counts = read(IP(src="10.0.0.1", dst="203.0.113.250") / SYN)
    assert row(packets) == without_quotation(
        family=4,
        protocol=6,
        src="10.0.0.1",
        dst="203.0.113.250",
        src_port=40_000,
        dst_port=443,
        flags=2,
        seq=0xFFFFFFF0,
        ack=0xFFFFFFF1,
    )
    assert counts == Counts(packets=1, kept=1)


@pytest.mark.parametrize(
    "chain",
    [
        [],
        [IPv6ExtHdrHopByHop()],
        [IPv6ExtHdrRouting(addresses=["fd00::7"])],
        [IPv6ExtHdrFragment(m=1, id=9)],
        [IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrRouting(addresses=["fd00::7", "fd00::8"])],
        [IPv6ExtHdrDestOpt()] * 8,
    ],
    ids=["plain", "hop-by-hop", "routing", "fragment", "three", "eight"],
)
def test_tcp_over_ipv6(chain: list[Packet]) -> None:
    """The transport is found behind any of the extension headers, and the addresses stay the packet's."""
    packet = IPv6(src="fd00:1:2:3:4:5:6:7", dst="ffee::8000:0:0:1")
    for header in chain:
        packet /= header
    packets, _ = read(packet / SYN)
    assert row(packets) == without_quotation(
        family=6,
        protocol=6,
        src="fd00:1:2:3:4:5:6:7",
        dst="ffee::8000:0:0:1",
        src_port=40_000,
        dst_port=443,
        flags=2,
        seq=0xFFFFFFF0,
        ack=0xFFFFFFF1,
    )


def test_nine_extension_headers_are_malformed() -> None:
    """A chain without end costs bounded work and is counted."""
    packet = IPv6(src="fd00::1", dst="fd00::2")
    for _ in range(9):
        packet /= IPv6ExtHdrDestOpt()
    assert read(packet / SYN)[1] == Counts(packets=1, malformed=1)


def test_sctp_tags() -> None:
    """INIT ACK carries in `ack` the tag that INIT carried in `seq`: the join of the two."""
    packets, _ = read(
        IP(src="10.0.0.1", dst="10.0.0.2") / SCTP(sport=5, dport=6, tag=0) / SCTPChunkInit(init_tag=0xABCDEF01),
        IP(src="10.0.0.2", dst="10.0.0.1") / SCTP(sport=6, dport=5, tag=0xABCDEF01) / SCTPChunkInitAck(init_tag=77),
    )
    assert packets.flags.tolist() == [1, 2]
    assert packets.seq.tolist() == [0xABCDEF01, 77]
    assert packets.ack.tolist() == [0, 0xABCDEF01]
    assert packets.protocol.tolist() == [132, 132]
    assert packets.src_port.tolist() == [5, 6]


def test_icmp_error_quotes_tcp() -> None:
    """The quoted packet's addresses, ports and sequence number identify the attempt that failed."""
    quoted = IPerror(src="10.0.0.1", dst="10.9.0.2", options=b"\x01" * 8) / TCPerror(
        sport=41_000, dport=81, seq=123_456
    )
    packets, _ = read(IP(src="10.9.0.9", dst="10.0.0.1") / ICMP(type=3, code=13) / bytes(quoted)[:36])
    assert row(packets) == without_quotation(
        family=4,
        protocol=1,
        src="10.9.0.9",
        dst="10.0.0.1",
        icmp_type=3,
        icmp_code=13,
        quoted_protocol=6,
        quoted_src="10.0.0.1",
        quoted_dst="10.9.0.2",
        quoted_src_port=41_000,
        quoted_dst_port=81,
        quoted_seq=123_456,
    )


def test_icmpv6_error_quotes_udp_behind_extension_header() -> None:
    """Quotations are read like packets, extension headers included."""
    quoted = IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrDestOpt() / UDP(sport=5_000, dport=99)
    packets, _ = read(IPv6(src="fd00::9", dst="fd00::1") / ICMPv6DestUnreach(code=1) / quoted)
    fields = row(packets)
    assert (fields["icmp_type"], fields["icmp_code"], fields["quoted_protocol"]) == (1, 1, 17)
    assert (fields["quoted_src"], fields["quoted_src_port"], fields["quoted_dst_port"]) == ("fd00::1", 5_000, 99)
    assert fields["quoted_seq"] == 0


def test_icmp_error_quotes_sctp_and_icmp() -> None:
    """An INIT's tag is quoted where there is enough of it; an echo has no ports."""
    init = IP(src="10.0.0.1", dst="10.0.0.2") / SCTP(sport=5, dport=6) / SCTPChunkInit(init_tag=9)
    outer = IP(src="10.0.0.9", dst="10.0.0.1") / ICMP(type=3)
    packets, _ = read(
        outer / bytes(init),
        outer / bytes(init)[:28],
        outer / IPerror(src="10.0.0.1", dst="10.0.0.2") / ICMPerror(type=8),
        outer / IPerror(src="10.0.0.1", dst="10.0.0.2") / UDPerror(sport=7, dport=8),
    )
    assert packets.quoted_protocol.tolist() == [132, 132, 1, 17]
    assert packets.quoted_seq.tolist() == [9, 0, 0, 0]
    assert packets.quoted_src_port.tolist() == [5, 5, -1, 7]
    assert packets.quoted_dst_port.tolist() == [6, 6, -1, 8]


@pytest.mark.parametrize("length", [0, 10, 20, 24])
def test_icmp_error_with_a_short_quotation_is_kept(length: int) -> None:
    """The error counts even where what it quotes is cut off; nothing is guessed."""
    quoted = bytes(IPerror(src="10.0.0.1", dst="10.0.0.2") / TCPerror(sport=1, dport=2))[:length]
    packets, counts = read(IP(src="10.0.0.9", dst="10.0.0.1") / ICMP(type=3) / Raw(quoted))
    assert counts.kept == 1
    assert packets.quoted_protocol.tolist() == [6 if length >= 20 else 0]
    assert packets.quoted_src_port.tolist() == [-1]


@pytest.mark.parametrize("ethertype", [0x8100, 0x88A8, 0x9100])
def test_vlan_tags_are_stepped_over(ethertype: int) -> None:
    """One tag, and two in one another."""
    packet = IP(src="10.0.0.1", dst="10.0.0.2") / SYN
    once = read(bytes(Dot1Q(vlan=5, type=IPV4) / packet), ethertype=ethertype)[0]
    twice = read(bytes(Dot1AD(vlan=6, type=0x8100) / Dot1Q(vlan=5, type=IPV4) / packet), ethertype=ethertype)[0]
    assert once.dst_port.tolist() == twice.dst_port.tolist() == [443]


def test_a_truncated_tag_is_not_ip() -> None:
    """A tag at the very end has no inner type to read."""
    assert read(b"\x00\x05", ethertype=0x8100)[1] == Counts(packets=1, not_ip=1)


@pytest.mark.parametrize(
    ("packet", "needed"),
    [
        (IP(src="10.0.0.1", dst="10.0.0.2") / SYN, 34),
        (IPv6(src="fd00::1", dst="fd00::2") / SYN, 54),
        (IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrHopByHop() / SYN, 62),
        (IP(src="10.0.0.1", dst="10.0.0.2") / UDP(), 28),
        (IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(), 28),
        (IP(src="10.0.0.1", dst="10.0.0.2") / SCTP() / SCTPChunkInit(), 40),
    ],
)
def test_what_is_cut_too_short_is_counted(packet: Packet, needed: int) -> None:
    """A packet is kept from the octet on that its fields need; one octet less is `truncated`."""
    for length in range(needed):
        assert read(packet, caplen=length)[1] == Counts(packets=1, truncated=1), length
    assert read(packet, caplen=needed)[1] == Counts(packets=1, kept=1)


def test_each_reason_is_counted_once() -> None:
    """Of ten packets, each is in exactly one count."""
    base = IP(src="10.0.0.1", dst="10.0.0.2")
    packets, counts = read(
        base / SYN,
        base / TCP(flags="A"),
        base / UDP(sport=40_000, dport=8472),
        IP(src="127.0.0.1", dst="127.0.0.1") / SYN,
        IP(src="10.0.0.1", dst="127.9.9.9") / SYN,
        IPv6(src="::1", dst="::1") / SYN,
        IP(src="10.0.0.1", dst="10.0.0.2", frag=1) / SYN,
        b"\x42" + bytes(base / SYN)[1:],
        b"\x00" * 30,
        bytes(base / SYN)[:24],
    )
    assert counts == Counts(
        packets=10, kept=1, not_ip=1, truncated=1, malformed=1, fragments=1, tunnels=1, loopback=3, unselected=1
    )
    assert packets.time.tolist() == [0]


def test_a_version_that_contradicts_the_ethertype_is_malformed() -> None:
    """The link layer's word and the packet's own must agree."""
    assert read(IP() / SYN / Raw(b"x" * 20), ethertype=IPV6)[1].malformed == 1
    assert read(IPv6() / SYN, ethertype=IPV4)[1].malformed == 1


def test_order_and_metadata_stay() -> None:
    """Packets of all kinds keep their order and bring their time, interface and direction along."""
    four, six = IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="fd00::1", dst="fd00::2")
    packets, _ = read(six / UDP(), four / TCP(flags="A"), four / SYN, six / SYN, four / ICMP(), four / UDP())
    assert packets.time.tolist() == [0, 2, 3, 4, 5]
    assert packets.ifindex.tolist() == [10, 12, 13, 14, 15]
    assert packets.outgoing.tolist() == [False, False, True, False, True]
    assert packets.family.tolist() == [6, 4, 6, 4, 4]
    assert packets.protocol.tolist() == [17, 6, 6, 1, 17]


def test_dns_messages_come_whole_and_without_padding() -> None:
    """What UDP carries from port 53 is kept to the octet: not the link's padding, not another port's."""
    message = bytes(DNS(qr=1, qd=DNSQR(qname="a.example")))
    answer = bytes(IP(src="10.0.0.53", dst="10.0.0.1") / UDP(sport=53, dport=4_000) / message)
    packets, _ = read(
        IP(src="10.0.0.1", dst="10.0.0.2") / SYN,
        answer + b"\x00" * 18,
        IP(src="10.0.0.1", dst="10.0.0.53") / UDP(sport=4_000, dport=53) / message,
        IPv6(src="fd00::53", dst="fd00::1") / UDP(sport=53, dport=4_000) / message,
        IP(src="10.0.0.53", dst="10.0.0.1") / UDP(sport=53, dport=4_000),
    )
    assert packets.dns == [(1, message), (3, message)]
    longer = IP(src="10.0.0.53", dst="10.0.0.1") / UDP(sport=53, len=8 + len(message)) / (message + b"behind")
    assert read(longer)[0].dns == [(0, message)]
    cut, _ = read(answer, caplen=len(answer) - 5)
    assert cut.dns == [(0, message[:-5])]


def test_padding_is_not_read() -> None:
    """A datagram that ends with its IP header has no transport, whatever the link adds behind it."""
    packet = IP(src="10.0.0.1", dst="10.0.0.2", proto=6)
    assert read(bytes(packet) + bytes(SYN))[1] == Counts(packets=1, truncated=1)


def test_a_length_of_zero_means_all_that_was_captured() -> None:
    """The kernel's aggregated segments can be longer than the field holds, which is then 0."""
    assert read(bytes(IP(src="10.0.0.1", dst="10.0.0.2", len=0) / SYN))[1].kept == 1
    assert read(bytes(IPv6(src="fd00::1", dst="fd00::2", plen=0) / SYN))[1].kept == 1


def test_nothing_refers_to_the_buffer() -> None:
    """A ring's frame is overwritten as soon as it is given back; the columns must not change with it."""
    buffer = np.frombuffer(bytearray(bytes(IP(src="10.0.0.1", dst="10.0.0.2") / SYN)), np.uint8)
    packets, _ = dissect(
        buffer, np.zeros(1, np.int64), np.array([40]), np.array([IPV4], np.uint16), np.zeros(1, np.int64),
        np.zeros(1, np.int32), np.zeros(1, np.bool_),
    )  # fmt: skip
    before = row(packets)
    buffer[:] = 0xFF
    assert row(packets) == before


def test_lengths_past_the_buffer_are_cut() -> None:
    """A length that lies cannot make dissection read elsewhere."""
    assert read(bytes(IP(src="10.0.0.1", dst="10.0.0.2") / SYN)[:30], caplen=1 << 40)[1].truncated == 1


@settings(max_examples=400)
@given(
    content=st.binary(max_size=300),
    places=st.lists(st.tuples(st.integers(0, 320), st.integers(-5, 400)), max_size=12),
    kinds=st.lists(st.sampled_from([IPV4, IPV6, 0x8100, 0x88A8, 0x0806]), min_size=12, max_size=12),
)
def test_no_octets_break_it(content: bytes, places: list[tuple[int, int]], kinds: list[int]) -> None:
    """Whatever is in the buffer and wherever packets are said to be, each is counted once and nothing is raised."""
    _survives(content, places, kinds)


@st.composite
def almost_packets(draw: st.DrawFn) -> bytes:
    """Packets as scapy makes them, with octets changed and the end cut off."""
    transport = draw(st.sampled_from([SYN, UDP(sport=53), ICMP(type=3) / IP() / SYN, SCTP() / SCTPChunkInit()]))
    network = draw(st.sampled_from([IP(), IPv6(), IPv6() / IPv6ExtHdrHopByHop(), IPv6() / IPv6ExtHdrFragment()]))
    octets = bytearray(bytes(network / transport))
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(octets) - 1), st.integers(0, 255)), max_size=6)):
        octets[place] = value
    return bytes(octets[: draw(st.integers(0, len(octets)))])


@settings(max_examples=400)
@given(almost_packets())
def test_no_damaged_packet_breaks_it(packet: bytes) -> None:
    """Damage in a real packet reaches code that random octets do not."""
    _survives(packet, [(0, len(packet))] * 2, [IPV4, IPV6])


def _survives(content: bytes, places: list[tuple[int, int]], kinds: list[int]) -> None:
    count = len(places)
    packets, counts = dissect(
        np.frombuffer(content, np.uint8),
        np.array([offset for offset, _ in places], np.int64),
        np.array([length for _, length in places], np.int64),
        np.array(kinds[:count], np.uint16),
        np.arange(count),
        np.zeros(count, np.int32),
        np.zeros(count, np.bool_),
    )
    assert counts.packets == count
    assert counts.kept == len(packets)
    others = (counts.not_ip, counts.truncated, counts.malformed, counts.fragments, counts.tunnels, counts.loopback)
    assert counts.packets == counts.kept + counts.unselected + sum(others)
    assert all(0 <= index < len(packets) for index, _ in packets.dns)
