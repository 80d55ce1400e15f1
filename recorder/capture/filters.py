"""The kernel's filters: which packets reach which ring, as classic BPF programs made by tcpdump and shipped as data.

Shipping the programs spares the recorder's image a compiler. `python -m recorder.capture.filters --write` makes them anew
from the expressions below, `--check` says whether they are what this machine's tcpdump would make.

The programs are for AF_PACKET sockets of type SOCK_DGRAM, whose data begins with the network header (packet(7)), hence
tcpdump's link type RAW (https://www.tcpdump.org/linktypes.html). libpcap's `tcp[…]` reads only IPv4; for IPv6 the octets are
named by hand, with no extension header or one before the transport. Longer chains are as good as never seen, and a classic
program cannot walk them: the ring `tcp` takes them whole and `recorder.capture.dissect` decides.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from recorder.capture.dissect import (
    DESTINATION,
    DNS_PORT,
    EXTENSIONS,
    FRAGMENT,
    HOP_BY_HOP,
    ROUTING,
    TUNNEL_PORTS,
    WIREGUARD_PORTS,
)
from recorder.capture.packets import (
    ICMP,
    ICMP_ECHOES,
    ICMP_ERRORS,
    ICMPV6,
    ICMPV6_ECHOES,
    ICMPV6_ERRORS,
    RST,
    SCTP,
    SCTP_ABORT,
    SCTP_INIT,
    SCTP_INIT_ACK,
    SYN,
    TCP,
    UDP,
)
from recorder.errors import UnsupportedError

PROGRAMS = Path(__file__).with_name("filters.json")
SNAP_LENGTHS = {"tcp": 176, "udp": 176, "dns": 1968}
"""Octets kept of a packet: for the headers, with every option, of an error and of what it quotes; for a DNS answer."""

_EXTENDED = (
    f"(ip6[6] = {HOP_BY_HOP} or ip6[6] = {ROUTING} or ip6[6] = {DESTINATION}"
    f" or (ip6[6] = {FRAGMENT} and ip6[42:2] & 0xfff8 = 0))"
)
"""An extension header comes first; of fragments only the first one, whose offset is 0 (RFC 8200 §4.5)."""

Instruction = tuple[int, int, int, int]
Field = Callable[[int, int], str]
"""(offset in the transport header, size) → the libpcap expression for that number."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What one ring keeps: the expression, for people, and the program (code, jump if true, jump if false, constant)."""

    name: str
    expression: str
    program: tuple[Instruction, ...]
    snap_length: int


@cache
def load(name: str) -> Filter:
    """Return the shipped filter `tcp`, `udp` or `dns`."""
    shipped = json.loads(PROGRAMS.read_text())["filters"][name]
    program = tuple(_instruction(line) for line in shipped["program"])
    return Filter(name, shipped["expression"], program, SNAP_LENGTHS[name])


def expressions() -> dict[str, str]:
    """Return what each ring keeps as a libpcap expression (pcap-filter(7))."""
    handshake = _either(
        [
            *_transport("tcp", TCP, lambda field: f"{field(13, 1)} & {SYN} != 0"),
            *_transport("tcp", TCP, lambda field: f"({field(13, 1)} & {RST} != 0 and {field(4, 4)} = 0)"),
            *_transport("sctp", SCTP, lambda field: _among(field(12, 1), (SCTP_INIT, SCTP_INIT_ACK, SCTP_ABORT))),
            *_icmp(ICMP_ERRORS, ICMPV6_ERRORS),
            f"({_EXTENDED} and {_among('ip6[40]', EXTENSIONS)})",
        ],
    )
    datagrams = _either([*_transport("udp", UDP, _is_datagram), *_icmp(ICMP_ECHOES, ICMPV6_ECHOES)])
    answers = _either(_transport("udp", UDP, lambda field: f"{field(0, 2)} = {DNS_PORT}"))
    return {"tcp": handshake, "udp": datagrams, "dns": answers}


def compile_filter(expression: str, snap_length: int) -> tuple[Instruction, ...]:
    """Return the program that tcpdump makes of an expression; UnsupportedError where tcpdump is missing or refuses."""
    command = ["tcpdump", "-ddd", "-y", "RAW", "-s", str(snap_length), expression]
    _count, *lines = _run(command).stdout.splitlines()
    return tuple(_instruction(line) for line in lines)


def libpcap_version() -> str:
    """Return the major and minor version of tcpdump's libpcap, whose optimiser decides what a program looks like."""
    words = _run(["tcpdump", "--version"])
    text = words.stdout + words.stderr
    return ".".join(text.partition("libpcap version ")[2].split()[0].split(".")[:2])


def render() -> str:
    """Return the data file as this machine's tcpdump would make it."""
    made = {
        name: {
            "expression": expression,
            "program": [" ".join(map(str, line)) for line in compile_filter(expression, SNAP_LENGTHS[name])],
        }
        for name, expression in expressions().items()
    }
    return json.dumps({"libpcap": libpcap_version(), "filters": made}, indent=1) + "\n"


def _transport(name: str, number: int, test: Callable[[Field], str]) -> list[str]:
    """Return the test for IPv4, for IPv6, and for IPv6 with one extension header (of 8 + 8·ip6[41] octets, RFC 8200)."""
    four = test(lambda at, size: f"{name}[{at}:{size}]")
    plain = test(lambda at, size: f"ip6[{at + 40}:{size}]")
    behind = test(lambda at, size: f"ip6[{at + 48} + (ip6[41] << 3):{size}]")
    return [
        f"(ip and {four})",
        f"(ip6[6] = {number} and {plain})",
        f"({_EXTENDED} and ip6[40] = {number} and {behind})",
    ]


def _icmp(types: Iterable[int], types6: Iterable[int]) -> list[str]:
    four, _, _ = _transport("icmp", ICMP, lambda field: _among(field(0, 1), types))
    _, *six = _transport("icmp6", ICMPV6, lambda field: _among(field(0, 1), types6))
    return [four, *six]


def _is_datagram(field: Field) -> str:
    return f"({field(0, 2)} != {DNS_PORT} and not {_is_tunnel(field)})"


def _is_tunnel(field: Field) -> str:
    wireguard = f"({_among(field(0, 2), WIREGUARD_PORTS)} and {_among(field(2, 2), WIREGUARD_PORTS)})"
    return f"({_among(field(2, 2), TUNNEL_PORTS)} or {wireguard})"


def _among(field: str, values: Iterable[int]) -> str:
    return "(" + " or ".join(f"{field} = {value}" for value in values) + ")"


def _either(tests: Iterable[str]) -> str:
    return " or ".join(tests)


def _instruction(line: str) -> Instruction:
    code, if_true, if_false, constant = map(int, line.split())
    return code, if_true, if_false, constant


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise UnsupportedError("making filters needs tcpdump: install it") from None
    except subprocess.CalledProcessError as error:
        raise UnsupportedError(f"tcpdump refuses: {error.stderr.strip()}") from None


def main(arguments: list[str] | None = None) -> int:
    """Make the data file, or say whether it is current; 0 if it is."""
    parser = argparse.ArgumentParser(prog="python -m recorder.capture.filters", description=main.__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="say whether the shipped programs are current")
    action.add_argument("--write", action="store_true", help="make them anew")
    if parser.parse_args(arguments).write:
        PROGRAMS.write_text(render())
        return 0
    current = PROGRAMS.read_text() == render()
    sys.stdout.write("current\n" if current else f"{PROGRAMS}: not what tcpdump makes; run with --write\n")
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())
