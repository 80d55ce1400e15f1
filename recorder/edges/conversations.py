"""UDP and ICMP echo: no handshake, so a conversation is its two ends until they have been silent for a while.

The first packet shows the initiator, unless it comes from a port that its sender is known to serve; the basis of each row
says which it was.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recorder.capture.packets import Packets, address_text
from recorder.edges.columns import identify
from recorder.edges.interfaces import Interfaces
from recorder.records import SECOND

UDP, ICMP, ICMPV6 = 17, 1, 58
IDLE = 30 * SECOND
"""A conversation silent for this long has ended; the next packet opens another."""

_ECHO = {(ICMP, 8): True, (ICMP, 0): False, (ICMPV6, 128): True, (ICMPV6, 129): False}
_REQUEST_TYPE = {ICMP: 8, ICMPV6: 128}

End = tuple[str, int]
"""Address and port; the port is -1 for ICMP."""

Key = tuple[int, int, End, End]
"""Interface, protocol, and the two ends in order of their text."""


Columns = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]
"""Ends of many packets: upper and lower half of the address, port."""


@dataclass(slots=True)
class Activity:
    """What one conversation did in one window."""

    first: int
    last: int
    answered: bool
    refused: bool = False


@dataclass(slots=True)
class Conversation:
    """One conversation on one interface."""

    ifindex: int
    outgoing: bool
    protocol: int
    client: End
    server: End
    basis: str
    first: int
    last: int
    replied: bool = False
    windows: dict[int, Activity] = field(default_factory=dict)

    def note(self, window: int, first: int, last: int, *, reply: bool) -> None:
        """Add packets of one window; once a reply was seen, every later window counts as answered."""
        self.replied |= reply
        activity = self.windows.setdefault(window, Activity(first, last, self.replied))
        activity.first, activity.last = min(activity.first, first), max(activity.last, last)
        activity.answered |= self.replied
        self.last = max(self.last, last)


@dataclass(slots=True)
class Conversations:
    """Conversations under way, and windows of them not yet given out.

    `serves(address, port, time)` tells whether that port is known to be served there.
    """

    interfaces: Interfaces
    window: int
    serves: Callable[[str, int, int], bool]
    current: dict[Key, Conversation] = field(default_factory=dict)
    ended: list[Conversation] = field(default_factory=list)
    opened: dict[tuple[int, End], list[Conversation]] = field(default_factory=dict)
    settled_until: int = 0

    def feed(self, packets: Packets) -> None:
        """Add packets; within a batch they are taken in order of time."""
        datagrams = packets.protocol == UDP
        echoes = np.isin(packets.protocol, (ICMP, ICMPV6)) & np.isin(packets.icmp_type, (8, 0, 128, 129))
        chosen = np.flatnonzero(datagrams | (echoes & (packets.quoted_protocol == 0)))
        if len(chosen):
            self._feed(packets, chosen)
        for row in np.flatnonzero(packets.quoted_protocol == UDP).tolist():
            self._refuse(packets, row)

    def _feed(self, packets: Packets, chosen: NDArray[np.int64]) -> None:
        time, source, target = packets.time[chosen], packets.src[chosen], packets.dst[chosen]
        ends: tuple[Columns, Columns] = (
            (source[:, 0], source[:, 1], packets.src_port[chosen].astype(np.int64)),
            (target[:, 0], target[:, 1], packets.dst_port[chosen].astype(np.int64)),
        )
        forward = _ordered(*ends)
        lower = [np.where(forward, one, other) for one, other in zip(*ends, strict=True)]
        upper = [np.where(forward, other, one) for one, other in zip(*ends, strict=True)]
        conversation, _ = identify(packets.ifindex[chosen], packets.protocol[chosen], *lower, *upper)
        order = np.lexsort((time, conversation))
        gap = np.diff(time[order], prepend=0) > IDLE
        fresh = np.diff(conversation[order], prepend=-1) != 0
        session = np.empty(len(chosen), dtype=np.int64)
        session[order] = np.cumsum(gap | fresh)
        ids, first = identify(session, forward, packets.icmp_type[chosen], time // self.window)
        earliest = np.full(len(first), np.iinfo(np.int64).max, dtype=np.int64)
        latest = np.zeros(len(first), dtype=np.int64)
        np.minimum.at(earliest, ids, time)
        np.maximum.at(latest, ids, time)
        for k in np.argsort(earliest, kind="stable").tolist():
            self._note(packets, int(chosen[first[k]]), int(earliest[k]), int(latest[k]))

    def _note(self, packets: Packets, row: int, first: int, last: int) -> None:
        protocol, ifindex = int(packets.protocol[row]), int(packets.ifindex[row])
        source = (address_text(*packets.src[row].tolist()), int(packets.src_port[row]))
        target = (address_text(*packets.dst[row].tolist()), int(packets.dst_port[row]))
        outgoing = bool(packets.outgoing[row])
        key: Key = (ifindex, protocol, min(source, target), max(source, target))
        current = self.current.get(key)
        if current is not None and first - current.last > IDLE:
            self.ended.append(self.current.pop(key))
            current = None
        if current is None:
            forward, basis = self._forward(protocol, int(packets.icmp_type[row]), source, target, first)
            client, server = (source, target) if forward else (target, source)
            current = Conversation(
                ifindex, outgoing if forward else not outgoing, protocol, client, server, basis, first, first
            )
            self.current[key] = current
            self.opened.setdefault((protocol, client), []).append(current)
        current.note(first // self.window, first, last, reply=source == current.server and target == current.client)

    def _forward(self, protocol: int, icmp_type: int, source: End, target: End, time: int) -> tuple[bool, str]:
        """Tell whether the first packet seen went from client to server, and how that is known."""
        if protocol != UDP:
            return _ECHO[protocol, icmp_type], "first-packet"
        if self.serves(*source, time) and not self.serves(*target, time):
            return False, "port"
        return True, "first-packet"

    def _refuse(self, packets: Packets, row: int) -> None:
        client = (address_text(*packets.quoted_src[row].tolist()), int(packets.quoted_src_port[row]))
        server = (address_text(*packets.quoted_dst[row].tolist()), int(packets.quoted_dst_port[row]))
        time = int(packets.time[row])
        current = self.current.get((int(packets.ifindex[row]), UDP, min(client, server), max(client, server)))
        if current is not None and current.client == client and time - current.last <= IDLE:
            activity = current.windows.setdefault(time // self.window, Activity(time, time, current.replied))
            activity.refused = True

    def partners(self, conversation: Conversation, activity: Activity) -> set[End]:
        """Return the other server ends that the same client end talked to at the time, on any interface."""
        return {
            other.server
            for other in self.opened.get((conversation.protocol, conversation.client), ())
            if other.server != conversation.server
            and other.first <= activity.last + SECOND
            and other.last >= activity.first - SECOND
        }

    def copies(self, conversation: Conversation) -> list[Conversation]:
        """Return the same conversation as newer interfaces saw it go the same way."""
        return [
            other
            for other in self.opened.get((conversation.protocol, conversation.client), ())
            if (other.server, other.outgoing) == (conversation.server, conversation.outgoing)
            and other.ifindex > conversation.ifindex
            and other.first <= conversation.last + SECOND
            and other.last >= conversation.first - SECOND
        ]

    def _forget(self) -> None:
        """Drop what can be nobody's partner any more: all its windows, and those it may overlap, were given out before."""
        for client, conversations in list(self.opened.items()):
            kept = [one for one in conversations if one.windows or self.settled_until - one.last <= self.window + IDLE]
            self.opened[client] = kept
            if not kept:
                del self.opened[client]

    def settle(self, until: int) -> list[tuple[Conversation, int, Activity]]:
        """Return (conversation, window start, activity) of windows that ended by `until`, in order of time."""
        self._forget()
        self.settled_until = until
        done = []
        for conversation in [*self.ended, *self.current.values()]:
            over = [number for number in conversation.windows if (number + 1) * self.window <= until]
            done += [(conversation, number * self.window, conversation.windows.pop(number)) for number in over]
        self.ended = [conversation for conversation in self.ended if conversation.windows]
        for key in [key for key, one in self.current.items() if not one.windows and until - one.last > IDLE]:
            del self.current[key]
        done.sort(key=lambda item: (item[1], item[2].first, item[0].ifindex, item[0].client, item[0].server))
        return done


def _ordered(one: Columns, other: Columns) -> NDArray[np.bool_]:
    """Tell for each row whether the first end comes before the second, by address and then by port."""
    less = np.zeros(len(one[0]), dtype=bool)
    equal = np.ones(len(one[0]), dtype=bool)
    for column in range(3):
        left, right = one[column], other[column]
        less |= equal & (left < right)
        equal &= left == right
    return less


def request_type(protocol: int) -> int:
    """Return the ICMP type that asks for an echo (RFC 792, RFC 4443)."""
    return _REQUEST_TYPE[protocol]
