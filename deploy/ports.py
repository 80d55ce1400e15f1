"""Sets of ports as sorted, disjoint ranges: union, difference, text."""

from collections.abc import Iterable

Ports = tuple[tuple[int, int], ...]
"""Inclusive ranges in order; `ALL_PORTS` are all of them."""

FIRST, LAST = 1, 65_535
ALL_PORTS: Ports = ((FIRST, LAST),)


def union(sets: Iterable[Ports]) -> Ports:
    """Return all ports of these sets, ranges that touch as one."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(one for ports in sets for one in ports):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return tuple(found)


def less(left: Ports, right: Ports) -> Ports:
    """Return the ports of the first set that are not in the second."""
    found: list[tuple[int, int]] = []
    for start, end in left:
        at = start
        for low, high in right:
            if high < at or low > end:
                continue
            if low > at:
                found.append((at, low - 1))
            at = high + 1
        if at <= end:
            found.append((at, end))
    return tuple(found)


def text(ports: Ports) -> str:
    """Return `all`, or numbers and ranges such as `80,443,1000-2000`."""
    if ports == ALL_PORTS:
        return "all"
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ports)
