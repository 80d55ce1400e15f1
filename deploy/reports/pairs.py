"""Lays connections out as people read them: a row for each two ends, with all protocols in it, and ranges with their gaps."""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from deploy.connectivity import Allowed
from deploy.semantics.rules import PORT_PROTOCOLS, Range, address_range

_PROTOCOLS = (*PORT_PROTOCOLS, "icmp", "icmpv6")


@dataclass(frozen=True, slots=True)
class Pair:
    """What is allowed from one end to another, and what cannot be told; texts such as `tcp 80,443; udp 53`."""

    source: str
    destination: str
    allowed: str
    undetermined: str = ""


def pairs(allowed: Iterable[Allowed], undetermined: Iterable[Allowed] = ()) -> list[Pair]:
    """Return a row for each two ends, workloads first; prefixes that fare alike are one range where that is shorter."""
    found: dict[tuple[str, str], tuple[list[Allowed], list[Allowed]]] = defaultdict(lambda: ([], []))
    for number, many in enumerate((allowed, undetermined)):
        for one in many:
            found[one.source, one.destination][number].append(one)
    rows = [Pair(*ends, _text(sure), _text(open_)) for ends, (sure, open_) in found.items()]
    return sorted(_gathered(rows), key=_order)


def _text(connections: Sequence[Allowed]) -> str:
    """Return the connections of one pair: protocols that have the same ports together."""
    by_ports: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for one in connections:
        by_ports[one.ports, one.partial].append(one.protocol)
    told = []
    for (ports, partial), protocols in by_ports.items():
        names = sorted(protocols, key=_rank)
        # One family of addresses speaks one kind of ICMP.
        whole = ports == "all" and set(PORT_PROTOCOLS) < set(names)
        said = "all" if whole else f"{'+'.join(names)} {ports}"
        told.append((_rank(names[0]), f"{said} (some pods)" if partial else said))
    return "; ".join(text for _, text in sorted(told))


def _rank(protocol: str) -> int:
    return _PROTOCOLS.index(protocol)


def _gathered(rows: Iterable[Pair]) -> Iterator[Pair]:
    """Yield rows with the prefixes that fare alike brought together."""
    outside: dict[tuple[str, bool, str, str, int], list[Range]] = defaultdict(list)
    for row in rows:
        source, destination = _range(row.source), _range(row.destination)
        if source is not None:
            outside[row.destination, True, row.allowed, row.undetermined, source[0]].append(source)
        elif destination is not None:
            outside[row.source, False, row.allowed, row.undetermined, destination[0]].append(destination)
        else:
            yield row
    for (other, inward, allowed, undetermined, _), ranges in outside.items():
        for text in _ranges(ranges):
            row = Pair(text, other, allowed, undetermined)
            yield row if inward else replace(row, source=other, destination=text)


def _range(name: str) -> Range | None:
    try:
        return address_range(name)
    except ValueError:
        return None


def _ranges(found: Sequence[Range]) -> list[str]:
    """Return prefixes, or the prefix around them and what it lacks where that is less to read."""
    ordered = sorted(found)
    family, first, last = ordered[0][0], ordered[0][1], ordered[-1][2]
    kind = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
    bits = (first ^ last).bit_length()
    whole = address_range(f"{kind(first)}/{(32 if family == 4 else 128) - bits}")
    gaps, at = [], whole[1]
    for _, low, high in [*ordered, (family, whole[2] + 1, 0)]:
        if low > at:
            gaps += [str(net) for net in ipaddress.summarize_address_range(kind(at), kind(low - 1))]
        at = high + 1
    around = str(next(ipaddress.summarize_address_range(kind(whole[1]), kind(whole[2]))))
    if len(gaps) < len(ordered):
        return [f"{around} except {', '.join(gaps)}" if gaps else around]
    return [str(next(ipaddress.summarize_address_range(kind(low), kind(high)))) for _, low, high in ordered]


def _order(row: Pair) -> tuple[bool, bool, str, str, str]:
    outward, inward = _outside(row.destination), _outside(row.source)
    return inward, outward, row.source, row.destination, row.allowed


def _outside(name: str) -> bool:
    return _range(name.partition(" except ")[0]) is not None
