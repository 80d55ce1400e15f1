"""Edges of one node, window by window: settled attempts and conversations, their ends resolved, added up into rows.

An end is resolved by the time of its packet and never by who holds the address now; the interface a packet came through
outranks the API's word. Rows of a window are final once its grace is over.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from recorder.capture.packets import Packets, address_text
from recorder.edges.columns import identify
from recorder.edges.conversations import Activity, Conversation, Conversations, request_type
from recorder.edges.handshakes import ANSWERED, DENIED, REFUSED, UNANSWERED, Attempts, Handshakes
from recorder.edges.interfaces import Interfaces
from recorder.edges.names import Names, merged
from recorder.identity import AMBIGUOUS, World
from recorder.records import DEFAULT_WINDOW_SECONDS, FLOW_KEY, SECOND, Flow

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}


@dataclass(frozen=True, slots=True)
class End:
    """One side of an edge, resolved."""

    ip: str
    kind: str
    id: str | None


@dataclass(slots=True)
class Tally:
    """Answered connections of a window that have an end which could not be named."""

    unresolved: int = 0
    ambiguous: int = 0


@dataclass(slots=True)
class Windows:
    """Everything between packets and rows, for one node."""

    cluster: str
    node: str
    backend: str
    world: World
    seconds: int = DEFAULT_WINDOW_SECONDS
    interfaces: Interfaces = field(init=False)
    handshakes: Handshakes = field(init=False)
    conversations: Conversations = field(init=False)
    names: Names = field(default_factory=Names)
    _rows: dict[int, dict[tuple[object, ...], Flow]] = field(default_factory=dict)
    tallies: dict[tuple[int, str], Tally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.interfaces = Interfaces(self.node, self.world)
        self.handshakes = Handshakes(self.interfaces)
        self.conversations = Conversations(self.interfaces, self.seconds * SECOND, self._serves)

    def feed(self, packets: Packets) -> None:
        """Add packets of any kind, in any order within the grace."""
        self.interfaces.learn(packets)
        self.names.feed(packets)
        self.handshakes.feed(packets)
        self.conversations.feed(packets)

    def settle(self, until: int) -> list[Flow]:
        """Return the rows of all windows that ended by `until`; packets up to the grace after it must have been fed."""
        self.interfaces.reconsider()
        for attempts in self.handshakes.settle(until):
            self._add_attempts(attempts)
        for conversation, window, activity in self.conversations.settle(until):
            self._add_activity(conversation, window, activity)
        done = sorted(window for window in self._rows if window + self.seconds * SECOND <= until)
        return [row for window in done for row in sorted(self._rows.pop(window).values(), key=_row_order)]

    def forget(self) -> None:
        """Drop what is known of pods that the world has forgotten."""
        self.interfaces.forget()
        self.names.forget(self.interfaces)

    def _add_attempts(self, attempts: Attempts) -> None:
        """Add up attempts that share everything a row's key holds; Python runs once per edge, not per attempt."""
        window = attempts.time - attempts.time % (self.seconds * SECOND)
        clients = self._holders(attempts.client, attempts.time, attempts.ifindex, own=attempts.reporter == "src")
        servers = self._holders(attempts.server, attempts.time, attempts.ifindex, own=attempts.reporter == "dst")
        ids, first = identify(
            window,
            attempts.ifindex,
            attempts.protocol,
            *_wide(attempts.client),
            clients,
            *_wide(attempts.dialled),
            attempts.dialled_port,
            *_wide(attempts.server),
            attempts.server_port,
            servers,
            *_wide(attempts.snat),
            attempts.judged,
        )
        size = len(first)
        counts = [np.bincount(ids[attempts.outcome == outcome], minlength=size) for outcome in range(4)]
        begin = np.full(size, np.iinfo(np.int64).max, dtype=np.int64)
        latest = np.zeros(size, dtype=np.int64)
        end = np.zeros(size, dtype=np.int64)
        np.minimum.at(begin, ids, attempts.time)
        np.maximum.at(latest, ids, attempts.time)
        np.maximum.at(end, ids, attempts.last)
        for k, row in enumerate(first.tolist()):
            answered, refused, denied, unanswered = (int(count[k]) for count in counts)
            self._add_edge(
                attempts,
                row,
                (int(clients[row]), int(servers[row])),
                (int(window[row]), int(begin[k]), int(end[k]), int(latest[k])),
                {ANSWERED: answered, REFUSED: refused, DENIED: denied, UNANSWERED: unanswered},
            )

    def _add_edge(
        self,
        attempts: Attempts,
        row: int,
        holders: tuple[int, int],
        times: tuple[int, int, int, int],
        counts: dict[int, int],
    ) -> None:
        window, begin, end, latest = times
        protocol = _PROTOCOLS[int(attempts.protocol[row])]
        port, dialled_port = int(attempts.server_port[row]), int(attempts.dialled_port[row])
        client_ip, server_ip, dialled_ip = (
            address_text(*address[row].tolist()) for address in (attempts.client, attempts.server, attempts.dialled)
        )
        source = self._end(client_ip, None, protocol, begin, holders[0])
        target = self._end(server_ip, port, protocol, begin, holders[1])
        if "pod" not in (source.kind, target.kind):
            return
        row_of = attempts.reporter
        service = None if row_of == "dst" else self.world.service(dialled_ip, dialled_port, protocol, begin)
        snat = address_text(*attempts.snat[row].tolist()) if attempts.snat[row].any() else None
        names = None
        if row_of != "dst":
            names = self.names.known(int(attempts.ifindex[row]), client_ip, dialled_ip, latest) or None
        self._add(
            Flow(
                window_start=window,
                window_end=window + self.seconds * SECOND,
                first_seen=begin,
                last_seen=min(end, window + self.seconds * SECOND - 1),
                cluster=self.cluster,
                node=self.node,
                reporter=row_of,
                src_ip=source.ip,
                src_kind=source.kind,
                src_id=source.id,
                dst_ip=target.ip,
                dst_kind=target.kind,
                dst_id=target.id,
                protocol=protocol,
                dst_port=port,
                dialled_ip=dialled_ip if service else None,
                dialled_port=dialled_port if service else None,
                service=service,
                snat_ip=snat,
                attempts=sum(counts.values()),
                answered=counts[ANSWERED],
                refused=counts[REFUSED],
                denied=counts[DENIED] if attempts.judged[row] else None,
                unanswered=counts[UNANSWERED],
                dns_names=names,
                backend=self.backend,
            )
        )
        self._tally(window, "tcp", (source, target), counts[ANSWERED])

    def _add_activity(self, conversation: Conversation, window: int, activity: Activity) -> None:
        """Add one conversation's part in one window, as the pod at that interface had it."""
        client_ip, _client_port = conversation.client
        dialled_ip, dialled_port = conversation.server
        protocol = _PROTOCOLS[conversation.protocol]
        reporter = self._side(conversation)
        if reporter is None:
            return
        # A bridge that only one pod has used yet looks like that pod's interface, which was made after it.
        if reporter != "unknown" and any(
            self._side(copy) == reporter for copy in self.conversations.copies(conversation)
        ):
            return
        server_ip, server_port = dialled_ip, dialled_port
        service = None
        if reporter != "dst":
            service = self.world.service(dialled_ip, dialled_port, protocol, activity.first)
            if service is not None:
                backend = self._backend(conversation, service, activity)
                server_ip, server_port = backend or (dialled_ip, dialled_port)
        moment = np.array([activity.first], dtype=np.int64)
        own = self.interfaces.holder(conversation.ifindex, moment)
        source = self._end(
            client_ip,
            None,
            protocol,
            activity.first,
            int((own if reporter == "src" else self.world.holders(client_ip, moment))[0]),
        )
        target = self._end(
            server_ip,
            server_port if server_port >= 0 else None,
            protocol,
            activity.first,
            int((own if reporter == "dst" else self.world.holders(server_ip, moment))[0]),
        )
        if "pod" not in (source.kind, target.kind):
            return
        names = None
        if reporter != "dst":
            names = self.names.known(conversation.ifindex, client_ip, dialled_ip, activity.first) or None
        refused = activity.refused and not activity.answered
        echo = conversation.server[1] < 0
        self._add(
            Flow(
                window_start=window,
                window_end=window + self.seconds * SECOND,
                first_seen=activity.first,
                last_seen=activity.last,
                cluster=self.cluster,
                node=self.node,
                reporter=reporter,
                src_ip=source.ip,
                src_kind=source.kind,
                src_id=source.id,
                dst_ip=target.ip,
                dst_kind=target.kind,
                dst_id=target.id,
                protocol=protocol,
                dst_port=None if echo else server_port,
                icmp_type=request_type(conversation.protocol) if echo else None,
                icmp_code=0 if echo else None,
                dialled_ip=dialled_ip if service else None,
                dialled_port=dialled_port if service and not echo else None,
                service=service,
                attempts=1,
                answered=int(activity.answered),
                refused=int(refused),
                unanswered=int(not activity.answered and not refused),
                dns_names=names,
                direction_basis=conversation.basis,
                backend=self.backend,
            )
        )
        self._tally(window, "udp", (source, target), int(activity.answered))

    def _side(self, conversation: Conversation) -> str | None:
        """Return whose interface a conversation was seen at; None on an uplink, whose copies only give backends."""
        if conversation.ifindex <= 0:
            return "unknown"
        owner = self.interfaces.owner(conversation.ifindex)
        if owner is None:
            return None
        if not conversation.outgoing and conversation.client[0] in owner.addresses:
            return "src"
        if conversation.outgoing and conversation.server[0] in owner.addresses:
            return "dst"
        return None

    def _backend(self, conversation: Conversation, service: str, activity: Activity) -> tuple[str, int] | None:
        """Return the one endpoint of a dialled Service that the same client end talked to meanwhile."""
        protocol = _PROTOCOLS[conversation.protocol]
        endpoints = self.world.backends(service, conversation.server[1], protocol, activity.first)
        partners = self.conversations.partners(conversation, activity)
        found = partners & endpoints
        return next(iter(found)) if len(found) == 1 else None

    def _holders(
        self, address: NDArray[np.uint64], time: NDArray[np.int64], ifindex: NDArray[np.int32], *, own: bool
    ) -> NDArray[np.int32]:
        """Return the label version that held each address at each time."""
        found = np.empty(len(address), dtype=np.int32)
        ids, first = identify(*_wide(address), ifindex if own else np.zeros_like(ifindex))
        for k, row in enumerate(first.tolist()):
            chosen = np.flatnonzero(ids == k)
            if own:
                found[chosen] = self.interfaces.holder(int(ifindex[row]), time[chosen])
            else:
                found[chosen] = self.world.holders(address_text(*address[row].tolist()), time[chosen])
        return found

    def _end(self, ip: str, port: int | None, protocol: str, time: int, code: int) -> End:
        if code >= 0:
            return End(ip, "pod", self.world.pod(code).id)
        if code == AMBIGUOUS:
            return End(ip, "ambiguous", None)
        kind, identity = self.world.kind_of(ip, port, protocol, time)
        return End(ip, kind, identity)

    def _serves(self, address: str, port: int, time: int) -> bool:
        """Tell whether a UDP port is a well-known one, or declared by the pod or Service at that address."""
        if 0 <= port < 1024 or self.world.service(address, port, "udp", time) is not None:
            return True
        code = int(self.world.holders(address, np.array([time], dtype=np.int64))[0])
        return code >= 0 and any(
            entry["number"] == port and entry["protocol"] == "udp" for entry in self.world.pod(code).ports
        )

    def _add(self, row: Flow) -> None:
        key = tuple(getattr(row, name) for name in FLOW_KEY)
        rows = self._rows.setdefault(row.window_start, {})
        present = rows.get(key)
        rows[key] = row if present is None else add(present, row)

    def _tally(self, window: int, ring: str, ends: tuple[End, End], answered: int) -> None:
        kinds = {end.kind for end in ends}
        tally = self.tallies.setdefault((window, ring), Tally())
        tally.unresolved += answered if "unresolved" in kinds else 0
        tally.ambiguous += answered if "ambiguous" in kinds else 0


def add(one: Flow, other: Flow) -> Flow:
    """Return the sum of two rows with equal key: times widen, counts add (null + n = n), lists unite."""
    return replace(
        one,
        first_seen=min(one.first_seen, other.first_seen),
        last_seen=max(one.last_seen, other.last_seen),
        service=_least(one.service, other.service),
        snat_ip=_least(one.snat_ip, other.snat_ip),
        attempts=one.attempts + other.attempts,
        answered=one.answered + other.answered,
        refused=one.refused + other.refused,
        denied=_sum(one.denied, other.denied),
        unanswered=one.unanswered + other.unanswered,
        open=_sum(one.open, other.open),
        denied_by=_least(one.denied_by, other.denied_by),
        packets=_sum(one.packets, other.packets),
        bytes=_sum(one.bytes, other.bytes),
        folded=_sum(one.folded, other.folded),
        dns_names=merged(one.dns_names, other.dns_names),
        sampling=min(one.sampling, other.sampling),
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else one + other


def _least(one: str | None, other: str | None) -> str | None:
    return one if other is None else other if one is None else min(one, other)


def _wide(address: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return address[:, 0], address[:, 1]


def _row_order(row: Flow) -> tuple[tuple[bool, str], ...]:
    values = (getattr(row, name) for name in FLOW_KEY)
    return tuple((value is None, f"{value:020d}" if isinstance(value, int) else str(value)) for value in values)
