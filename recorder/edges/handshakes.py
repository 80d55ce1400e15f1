"""TCP and SCTP attempts, joined with what became of them.

A connection shows up on a node as several copies of the same few packets: as dialled at the client's interface, rewritten
at the server's, and on the way out. The initial sequence number survives every translation, so (sequence number, client
port) joins the copies without reading any NAT table, and the addresses confirm the join (RFC 9293 §3.4, RFC 9260 §5.1).
Sequence numbers stay in here; they are never written.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recorder.capture.packets import Packets, address_text
from recorder.edges.columns import Ids, any_of, first_of, identify, pairs
from recorder.edges.interfaces import Interfaces
from recorder.records import SECOND

TCP, SCTP = 6, 132
_SYN, _RST, _ACK = 0x02, 0x04, 0x10
_INIT, _INIT_ACK, _ABORT = 1, 2, 6

OPEN, ACCEPT, RESET, UNREACHABLE = 0, 1, 2, 3
"""Kinds of segment: SYN or INIT; SYN-ACK or INIT-ACK; RST or ABORT in answer; an ICMP error that quotes one."""

ANSWERED, REFUSED, DENIED, UNANSWERED = 0, 1, 2, 3

GRACE = 10 * SECOND
"""How long after an attempt its answer may come and still belong to it."""

DELIVERY = SECOND
"""Within this time the node hands an attempt to a pod of its own, or a policy has stopped it."""

_REMEMBER = 130 * SECOND
"""How long a SYN is retransmitted at most with Linux' defaults (tcp_syn_retries = 6)."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Handshake packets as columns of equal length, client and server told apart."""

    time: NDArray[np.int64]
    ifindex: NDArray[np.int32]
    outgoing: NDArray[np.bool_]
    kind: NDArray[np.uint8]
    protocol: NDArray[np.uint8]
    client: NDArray[np.uint64]
    client_port: NDArray[np.int32]
    server: NDArray[np.uint64]
    server_port: NDArray[np.int32]
    number: NDArray[np.uint32]

    def take(self, rows: NDArray[np.generic]) -> "Segments":
        """Return the rows chosen by a mask or by positions."""
        return Segments(*(getattr(self, name)[rows] for name in _NAMES))

    def __len__(self) -> int:
        return len(self.time)


_NAMES = Segments.__slots__


@dataclass(frozen=True, slots=True)
class Attempts:
    """Settled attempts as columns: one row per connection tried, as one end saw it.

    `server` is what the attempt really reached as far as known, `dialled` what the client asked for; `snat` is zero where no
    translated source was seen; `judged` tells where a denial could have been noticed.
    """

    time: NDArray[np.int64]
    last: NDArray[np.int64]
    ifindex: NDArray[np.int32]
    protocol: NDArray[np.uint8]
    client: NDArray[np.uint64]
    dialled: NDArray[np.uint64]
    dialled_port: NDArray[np.int32]
    server: NDArray[np.uint64]
    server_port: NDArray[np.int32]
    snat: NDArray[np.uint64]
    outcome: NDArray[np.uint8]
    judged: NDArray[np.bool_]
    reporter: str

    def __len__(self) -> int:
        return len(self.time)


def segments(packets: Packets) -> Segments:
    """Return the handshake packets among `packets`, normalised to client and server."""
    flags, protocol = packets.flags, packets.protocol
    tcp, sctp = protocol == TCP, protocol == SCTP
    quoted = np.isin(packets.quoted_protocol, (TCP, SCTP))
    opening = (tcp & ((flags & (_SYN | _ACK | _RST)) == _SYN)) | (sctp & (flags == _INIT))
    accepting = (tcp & ((flags & (_SYN | _ACK | _RST)) == (_SYN | _ACK))) | (sctp & (flags == _INIT_ACK))
    reset = (tcp & ((flags & (_RST | _ACK)) == (_RST | _ACK))) | (sctp & (flags == _ABORT))
    chosen = np.flatnonzero(opening | accepting | reset | quoted)
    kind = np.select([opening, accepting, reset], [OPEN, ACCEPT, RESET], UNREACHABLE).astype(np.uint8)[chosen]
    forward, error = kind == OPEN, kind == UNREACHABLE
    wide_forward, wide_error = forward[:, None], error[:, None]
    number = np.select(
        [forward, error, protocol[chosen] == SCTP],
        [packets.seq[chosen], packets.quoted_seq[chosen], packets.ack[chosen]],
        packets.ack[chosen] - np.uint32(1),
    ).astype(np.uint32)
    return Segments(
        time=packets.time[chosen],
        ifindex=packets.ifindex[chosen],
        outgoing=packets.outgoing[chosen],
        kind=kind,
        protocol=np.where(error, packets.quoted_protocol[chosen], protocol[chosen]).astype(np.uint8),
        client=np.where(
            wide_error, packets.quoted_src[chosen], np.where(wide_forward, packets.src[chosen], packets.dst[chosen])
        ),
        client_port=np.select(
            [error, forward], [packets.quoted_src_port[chosen], packets.src_port[chosen]], packets.dst_port[chosen]
        ).astype(np.int32),
        server=np.where(
            wide_error, packets.quoted_dst[chosen], np.where(wide_forward, packets.dst[chosen], packets.src[chosen])
        ),
        server_port=np.select(
            [error, forward], [packets.quoted_dst_port[chosen], packets.dst_port[chosen]], packets.src_port[chosen]
        ).astype(np.int32),
        number=number,
    )


def empty_segments() -> Segments:
    """Return no segments."""
    none = np.empty(0)
    wide = np.empty((0, 2), dtype=np.uint64)
    return Segments(
        none.astype(np.int64),
        none.astype(np.int32),
        none.astype(bool),
        none.astype(np.uint8),
        none.astype(np.uint8),
        wide,
        none.astype(np.int32),
        wide,
        none.astype(np.int32),
        none.astype(np.uint32),
    )


@dataclass(frozen=True, slots=True)
class _Settled:
    """Attempts already given out, and until when what comes of them again belongs to them.

    `side` tells the three kinds of observer apart.
    """

    segments: Segments
    side: NDArray[np.uint8]
    until: NDArray[np.int64]

    def take(self, chosen: NDArray[np.bool_]) -> "_Settled":
        return _Settled(self.segments.take(chosen), self.side[chosen], self.until[chosen])


def _nothing_settled() -> _Settled:
    return _Settled(empty_segments(), np.empty(0, dtype=np.uint8), np.empty(0, dtype=np.int64))


@dataclass(slots=True)
class Handshakes:
    """Segments that may still matter, and attempts already settled whose packets may come once more."""

    interfaces: Interfaces
    pending: Segments = field(default_factory=empty_segments)
    settled: _Settled = field(default_factory=_nothing_settled)

    def feed(self, packets: Packets) -> None:
        """Add packets, in any order."""
        new = segments(packets)
        if len(new):
            self.pending = _joined(self.pending, new)

    def settle(self, until: int) -> list[Attempts]:
        """Return attempts first made before `until`; their answers up to GRACE later must have been fed.

        Never more than GRACE at a time is settled: what became of an attempt says whether a later SYN repeats it.
        """
        here = self.pending.take(np.argsort(self.pending.time, kind="stable"))
        found: list[Attempts] = []
        low = 0
        while low < len(here) and here.time[low] < until:
            end = min(until, int(here.time[low]) + GRACE)
            next_low, high = np.searchsorted(here.time, [end, end + GRACE]).tolist()
            found += self._settle(here.take(np.arange(low, high)), end)
            self.settled = self.settled.take(self.settled.until >= end)
            low = next_low
        self.pending = here.take(here.time >= until)
        return [attempts for attempts in found if len(attempts)]

    def _settle(self, here: Segments, until: int) -> list[Attempts]:
        connection, _ = identify(*_connection(here))
        opening = here.kind == OPEN
        dialling = opening & ~here.outgoing & _held(here.ifindex, here.client, self.interfaces)
        arriving = (opening & here.outgoing) | ((here.kind == ACCEPT) & ~here.outgoing)
        arriving &= _held(here.ifindex, here.server, self.interfaces)
        unlocated = opening & (here.ifindex <= 0)
        found = []
        for side, chosen in enumerate((dialling, arriving, unlocated)):
            rows = self._fresh(here, connection, chosen, until, side)
            if not len(rows):
                continue
            if side == 0:
                attempts = _as_dialled(here, connection, rows, dialling, self.interfaces)
            else:
                attempts = _as_seen(here, connection, rows, "dst" if side == 1 else "unknown")
            self._remember(here, connection, rows, attempts, side)
            found.append(attempts)
        return found

    def _fresh(self, here: Segments, connection: Ids, chosen: NDArray[np.bool_], until: int, side: int) -> Ids:
        """Return the first segment of each chosen connection before `until` that repeats none settled earlier."""
        rows = np.flatnonzero(chosen & (here.time < until)).astype(np.int64)
        known = self.settled.take(self.settled.side == side)
        size = len(known.segments)
        if size and len(rows):
            ids, first = identify(*_connection(_joined(known.segments, here.take(rows))))
            repeats = np.full(len(first), np.iinfo(np.int64).min, dtype=np.int64)
            np.maximum.at(repeats, ids[:size], known.until)
            rows = rows[here.time[rows] > repeats[ids[size:]]]
        _, first = np.unique(connection[rows], return_index=True)
        return np.sort(rows[first])

    def _remember(self, here: Segments, connection: Ids, rows: Ids, attempts: Attempts, side: int) -> None:
        """Note attempts as settled: for the grace, or for as long as may be retransmitted what is not over or was."""
        left, right = _timely(here, attempts.time, *pairs(connection, connection[rows]))
        same = here.ifindex[right] == attempts.ifindex[left]
        repeated = attempts.outcome != ANSWERED
        for outgoing in (False, True):
            for kind in (OPEN, ACCEPT):
                copies = left[same & (here.kind[right] == kind) & (here.outgoing[right] == outgoing)]
                repeated |= np.bincount(copies, minlength=len(rows)) > 1
        self.settled = _Settled(
            _joined(self.settled.segments, here.take(rows)),
            np.concatenate((self.settled.side, np.full(len(rows), side, dtype=np.uint8))),
            np.concatenate((self.settled.until, attempts.time + np.where(repeated, _REMEMBER, GRACE))),
        )


def _as_dialled(
    here: Segments, connection: Ids, rows: Ids, dialling: NDArray[np.bool_], interfaces: Interfaces
) -> Attempts:
    """Join attempts seen at the client's own interface with what came back there and with their copies elsewhere."""
    size = len(rows)
    asked = here.take(rows)
    left, right = _timely(here, asked.time, *pairs(connection, connection[rows]))
    home = here.outgoing[right] & (here.ifindex[right] == asked.ifindex[left])
    answered = any_of(left, home & (here.kind[right] == ACCEPT), size)
    refused = any_of(left, home & (here.kind[right] >= RESET), size)
    last = _last(asked.time, left, here.time[right])

    # A raw scanner may use one port and sequence number for many targets at once. Then only the addresses tell copies
    # apart, and a copy after translation has too little in common with its attempt to be joined.
    copies, _ = identify(here.protocol, here.number, here.client_port)
    both, _ = identify(copies[dialling], connection[dialling])
    _, one_each = np.unique(both, return_index=True)
    alone = np.bincount(copies[dialling][one_each], minlength=len(here)) == 1
    left, right = pairs(copies, copies[rows])
    usable = alone[copies[right]] | (connection[right] == connection[rows][left])
    left, right = _timely(here, asked.time, left[usable], right[usable])
    same_client = (here.client[right] == asked.client[left]).all(axis=1)
    same_server = (here.server[right] == asked.server[left]).all(axis=1)
    same_server &= here.server_port[right] == asked.server_port[left]
    accepts = (same_client | same_server) & ~here.outgoing[right] & (here.kind[right] == ACCEPT)
    leaves = (same_client | same_server) & here.outgoing[right] & (here.kind[right] == OPEN)

    backend = first_of(left, right, accepts, size)
    backend = np.where(backend >= 0, backend, first_of(left, right, leaves, size))
    known = backend >= 0
    server = np.where(known[:, None], here.server[backend], asked.server)
    server_port = np.where(known, here.server_port[backend], asked.server_port).astype(np.int32)
    moved = first_of(left, right, leaves & ~same_client, size)

    local = _own_interface(server, asked.time, interfaces)
    delivered = (here.ifindex[right] == local[left]) & (accepts | leaves)
    delivered &= here.time[right] <= asked.time[left] + DELIVERY
    denied = ~answered & (local > 0) & ~any_of(left, delivered, size)
    return Attempts(
        time=asked.time,
        last=last,
        ifindex=asked.ifindex,
        protocol=asked.protocol,
        client=asked.client,
        dialled=asked.server,
        dialled_port=asked.server_port,
        server=server,
        server_port=server_port,
        snat=np.where((moved >= 0)[:, None], here.client[moved], np.uint64(0)),
        outcome=np.select([answered, denied, refused], [ANSWERED, DENIED, REFUSED], UNANSWERED).astype(np.uint8),
        judged=local > 0,
        reporter="src",
    )


def _as_seen(here: Segments, connection: Ids, rows: Ids, reporter: str) -> Attempts:
    """Join attempts with their answers where both are seen as they are: at the server's interface, or nobody knows where."""
    size = len(rows)
    asked = here.take(rows)
    left, right = _timely(here, asked.time, *pairs(connection, connection[rows]))
    there = here.ifindex[right] == asked.ifindex[left]
    if reporter == "dst":
        there &= ~here.outgoing[right]
    answered = any_of(left, there & (here.kind[right] == ACCEPT), size)
    refused = any_of(left, there & (here.kind[right] >= RESET), size)
    return Attempts(
        time=asked.time,
        last=_last(asked.time, left[there], here.time[right[there]]),
        ifindex=asked.ifindex,
        protocol=asked.protocol,
        client=asked.client,
        dialled=asked.server,
        dialled_port=asked.server_port,
        server=asked.server,
        server_port=asked.server_port,
        snat=np.zeros_like(asked.client),
        outcome=np.select([answered, refused], [ANSWERED, REFUSED], UNANSWERED).astype(np.uint8),
        judged=np.zeros(size, dtype=bool),
        reporter=reporter,
    )


def _own_interface(server: NDArray[np.uint64], time: NDArray[np.int64], interfaces: Interfaces) -> NDArray[np.int32]:
    """Return the interface of the pod of this node that held the server's address then, or -1."""
    found = np.full(len(server), -1, dtype=np.int32)
    ids, first = identify(server[:, 0], server[:, 1])
    for k, row in enumerate(first.tolist()):
        chosen = np.flatnonzero(ids == k)
        found[chosen] = interfaces.of_address(address_text(*server[row].tolist()), time[chosen])
    return found


def _timely(here: Segments, time: NDArray[np.int64], left: Ids, right: Ids) -> tuple[Ids, Ids]:
    """Keep the pairs whose packet came at the attempt or within the grace after it."""
    kept = (here.time[right] >= time[left]) & (here.time[right] <= time[left] + GRACE)
    return left[kept], right[kept]


def _last(time: NDArray[np.int64], left: Ids, seen: NDArray[np.int64]) -> NDArray[np.int64]:
    last = time.copy()
    np.maximum.at(last, left, seen)
    return last


def _held(ifindex: NDArray[np.int32], address: NDArray[np.uint64], interfaces: Interfaces) -> NDArray[np.bool_]:
    """Tell for each row whether the interface belongs to the pod with that address."""
    ids, first = identify(ifindex, address[:, 0], address[:, 1])
    verdict = np.zeros(len(first), dtype=bool)
    for k, row in enumerate(first.tolist()):
        owner = interfaces.owner(int(ifindex[row]))
        verdict[k] = owner is not None and address_text(*address[row].tolist()) in owner.addresses
    return verdict[ids]


def _connection(here: Segments) -> tuple[NDArray[np.generic], ...]:
    client, server = here.client, here.server
    return (
        here.protocol,
        here.number,
        here.client_port,
        here.server_port,
        client[:, 0],
        client[:, 1],
        server[:, 0],
        server[:, 1],
    )


def _joined(one: Segments, other: Segments) -> Segments:
    return Segments(*(np.concatenate((getattr(one, name), getattr(other, name))) for name in _NAMES))
