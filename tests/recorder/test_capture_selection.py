"""One table of packets decides three things at once: what dissection keeps, and which ring's kernel filter keeps it."""

import json
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.sctp import SCTP, SCTPChunkAbort, SCTPChunkCookieAck, SCTPChunkData, SCTPChunkInit, SCTPChunkInitAck
from scapy.packet import Packet, Raw

from recorder.capture import filters
from recorder.capture.dissect import ETHERTYPE_IPV4, ETHERTYPE_IPV6, dissect
from recorder.capture.ring import _attach

FOUR = IP(src="10.0.0.1", dst="10.0.0.2")
SIX = IPv6(src="fd00::1", dst="fd00::2")
OPTIONS = IP(src="10.0.0.1", dst="10.0.0.2", options=b"\x01" * 12)
HOP, DEST, ROUTE = IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrRouting(addresses=["fd00::9", "fd00::8"])
FIRST, LATER = IPv6ExtHdrFragment(offset=0, m=1, id=7), IPv6ExtHdrFragment(offset=100, m=0, id=7)
REFUSED = IPerror(src="10.0.0.2", dst="10.0.0.1") / TCPerror(sport=80, dport=4000)
QUERY = DNS(qr=0, qd=DNSQR(qname="a.example"))

SYN, RST = TCP(sport=4000, dport=80, seq=7, flags="S"), TCP(sport=80, dport=4000, seq=0, ack=8, flags="RA")


def udp(sport: int, dport: int) -> Packet:
    """Return a datagram that is no DNS message."""
    return UDP(sport=sport, dport=dport) / Raw(b"x" * 30)


# (what it is, the packet, the ring that keeps it or None)
CASES: list[tuple[str, Packet, str | None]] = [
    ("syn", FOUR / SYN, "tcp"),
    ("syn6", SIX / SYN, "tcp"),
    ("syn with ECN", FOUR / TCP(flags="SEC"), "tcp"),
    ("syn-ack", FOUR / TCP(flags="SA"), "tcp"),
    ("syn-ack6", SIX / TCP(flags="SA"), "tcp"),
    ("syn behind IPv4 options", OPTIONS / SYN, "tcp"),
    ("refusal", FOUR / RST, "tcp"),
    ("refusal6", SIX / RST, "tcp"),
    ("refusal behind options", SIX / DEST / RST, "tcp"),
    ("reset of a running connection", FOUR / TCP(flags="R", seq=99), None),
    ("reset of a running connection6", SIX / TCP(flags="RA", seq=99), None),
    ("data", FOUR / TCP(flags="PA", seq=0) / Raw(b"hello"), None),
    ("data6", SIX / TCP(flags="PA", seq=0) / Raw(b"hello"), None),
    ("fin", FOUR / TCP(flags="FA"), None),
    ("syn behind hop-by-hop", SIX / HOP / SYN, "tcp"),
    ("syn behind routing", SIX / ROUTE / SYN, "tcp"),
    ("syn behind destination", SIX / DEST / SYN, "tcp"),
    ("syn in a first fragment6", SIX / FIRST / SYN, "tcp"),
    ("data behind hop-by-hop", SIX / HOP / TCP(flags="A"), None),
    ("syn behind three headers", SIX / HOP / DEST / ROUTE / SYN, "tcp"),
    ("datagram behind two headers", SIX / HOP / DEST / udp(1, 2), "tcp"),
    ("later fragment6", SIX / LATER / SYN, None),
    ("first fragment", IP(src="10.0.0.1", dst="10.0.0.2", flags="MF") / SYN, "tcp"),
    ("later fragment", IP(src="10.0.0.1", dst="10.0.0.2", frag=3) / SYN, None),
    ("last fragment of the longest packet", IP(src="10.0.0.1", dst="10.0.0.2", frag=0x1000) / SYN, None),
    ("first fragment of a datagram", IP(src="10.0.0.1", dst="10.0.0.2", flags="MF") / udp(5, 6), "udp"),
    ("later fragment of a datagram", IP(src="10.0.0.1", dst="10.0.0.2", frag=3) / udp(5, 6), None),
    ("sctp init", FOUR / SCTP(sport=1, dport=2) / SCTPChunkInit(init_tag=5), "tcp"),
    ("sctp init6", SIX / SCTP(sport=1, dport=2) / SCTPChunkInit(init_tag=5), "tcp"),
    ("sctp init ack", FOUR / SCTP(sport=1, dport=2) / SCTPChunkInitAck(init_tag=5), "tcp"),
    ("sctp abort", FOUR / SCTP(sport=1, dport=2) / SCTPChunkAbort(), "tcp"),
    ("sctp cookie ack", FOUR / SCTP(sport=1, dport=2) / SCTPChunkCookieAck(), None),
    ("sctp data", SIX / SCTP(sport=1, dport=2) / SCTPChunkData(data=b"x"), None),
    ("unreachable", FOUR / ICMP(type=3, code=3) / REFUSED, "tcp"),
    ("time exceeded", FOUR / ICMP(type=11) / REFUSED, "tcp"),
    ("unreachable6", SIX / ICMPv6DestUnreach(code=4) / (SIX / SYN), "tcp"),
    ("unreachable6 behind options", SIX / DEST / ICMPv6DestUnreach(code=4) / (SIX / SYN), "tcp"),
    ("echo", FOUR / ICMP(type=8), "udp"),
    ("echo reply", FOUR / ICMP(type=0), "udp"),
    ("echo6", SIX / ICMPv6EchoRequest(), "udp"),
    ("icmp redirect", FOUR / ICMP(type=5) / REFUSED, None),
    ("neighbour solicitation", SIX / ICMPv6ND_NS(tgt="fd00::2"), None),
    ("datagram", FOUR / udp(4000, 123), "udp"),
    ("datagram6", SIX / udp(4000, 123), "udp"),
    ("datagram behind hop-by-hop", SIX / HOP / udp(4000, 123), "udp"),
    ("dns query", FOUR / UDP(sport=4000, dport=53) / QUERY, "udp"),
    ("dns answer", FOUR / UDP(sport=53, dport=4000) / QUERY, "dns"),
    ("dns answer6", SIX / UDP(sport=53, dport=4000) / QUERY, "dns"),
    ("dns answer behind destination", SIX / DEST / UDP(sport=53, dport=4000) / QUERY, "dns"),
    ("dns answer to the port VXLAN has", FOUR / UDP(sport=53, dport=4789) / QUERY, "dns"),
    ("dns query from the port WireGuard has", FOUR / UDP(sport=51820, dport=53) / QUERY, "udp"),
    ("answer to the port WireGuard has", FOUR / udp(443, 51820), "udp"),
    ("vxlan", FOUR / udp(40000, 4789), None),
    ("vxlan6", SIX / udp(40000, 4789), None),
    ("flannel", FOUR / udp(40000, 8472), None),
    ("geneve", FOUR / udp(40000, 6081), None),
    ("wireguard", FOUR / udp(51820, 51820), None),
    ("wireguard6", SIX / udp(51821, 51821), None),
    ("vxlan behind destination", SIX / DEST / udp(40000, 4789), None),
    ("ip in ip", FOUR / IP(src="10.1.0.1", dst="10.1.0.2") / SYN, None),
    ("gre", IP(src="10.0.0.1", dst="10.0.0.2", proto=47) / Raw(b"x" * 40), None),
    ("not IP", Raw(b"\x00\x01\x08\x00" + b"\x06" * 24), None),
]
PACKETS = pytest.mark.parametrize(
    ("packet", "ring"),
    [pytest.param(bytes(packet), ring, id=name) for name, packet, ring in CASES],
)


@PACKETS
def test_dissection_keeps_what_some_ring_keeps(packet: bytes, ring: str | None) -> None:
    """A capture file and a live ring record the same packets."""
    kind = {4: ETHERTYPE_IPV4, 6: ETHERTYPE_IPV6}.get(packet[0] >> 4, 0x0806)
    packets, counts = dissect(
        np.frombuffer(packet, np.uint8),
        offset=np.zeros(1, np.int64),
        caplen=np.array([len(packet)]),
        ethertype=np.array([kind], np.uint16),
        time=np.zeros(1, np.int64),
        ifindex=np.zeros(1, np.int32),
        outgoing=np.zeros(1, np.bool_),
    )
    assert len(packets) == (ring is not None)
    assert counts.kept == len(packets)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's socket filters")
@PACKETS
def test_the_kernel_keeps_each_packet_in_one_ring(packet: bytes, ring: str | None) -> None:
    """The shipped programs, run by this kernel, send each packet to the ring it belongs to and to no other."""
    assert [name for name in filters.SNAP_LENGTHS if _passes(name, packet)] == ([] if ring is None else [ring])


def _passes(name: str, packet: bytes) -> bytes | None:
    """Return what the kernel's filter leaves of a packet: datagram sockets run filters too, and need no privilege."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        _attach(receiver, filters.load(name))
        receiver.setblocking(False)
        sender.send(packet)
        try:
            return receiver.recv(65_536)
        except BlockingIOError:
            return None


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's socket filters")
def test_the_kernel_cuts_packets_to_the_snap_length() -> None:
    """A handshake is cut to its headers, a DNS answer is kept almost whole."""
    syn = bytes(FOUR / SYN / Raw(b"x" * 3_000))
    answer = bytes(FOUR / UDP(sport=53) / Raw(b"x" * 3_000))
    assert _passes("tcp", syn) == syn[:176]
    assert _passes("dns", answer) == answer[:1_968]


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's socket filters")
def test_a_packet_cut_short_never_reaches_a_ring_by_accident() -> None:
    """A test that reads past the end of a packet refuses that packet, whatever test comes after it."""
    for packet in (bytes(FOUR / SYN)[:30], bytes(SIX / HOP)[:42], bytes(FOUR)[:9], b"\x45", b"\x60"):
        assert [name for name in filters.SNAP_LENGTHS if _passes(name, packet)] == []


def test_expressions_are_the_shipped_ones() -> None:
    """The data file says in words what the code says."""
    for name, expression in filters.expressions().items():
        assert filters.load(name).expression == expression


def test_programs_are_what_tcpdump_makes_of_the_expressions() -> None:
    """The shipped programs were not edited by hand, nor left behind when an expression changed."""
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not installed")
    made_with = _shipped_version()
    if made_with != filters.libpcap_version():
        pytest.skip(f"programs were made with libpcap {made_with}; another version may optimise differently")
    assert filters.PROGRAMS.read_text() == filters.render()


def _shipped_version() -> str:
    version: str = json.loads(filters.PROGRAMS.read_text())["libpcap"]
    return version


def test_check_says_when_the_data_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` is 1 for a stale file, `--write` mends it."""
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not installed")
    stale = tmp_path / "filters.json"
    stale.write_text("{}")
    monkeypatch.setattr(filters, "PROGRAMS", stale)
    assert filters.main(["--check"]) == 1
    assert "--write" in capsys.readouterr().out
    assert filters.main(["--write"]) == 0
    assert filters.main(["--check"]) == 0


def test_a_missing_tcpdump_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever remakes the filters is told what to install."""
    from recorder.errors import UnsupportedError

    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnsupportedError, match="tcpdump"):
        filters.render()


def test_program_is_small_enough_for_the_kernel() -> None:
    """A classic program has at most 4,096 instructions, and jumps only forward."""
    for name in filters.SNAP_LENGTHS:
        program = filters.load(name).program
        assert 0 < len(program) <= 4_096
        returns = {k for code, _, _, k in program if code == 0x06}
        assert returns == {0, filters.SNAP_LENGTHS[name]}
