"""TCP attempts joined with what became of them."""

from dataclasses import replace
from typing import Any

import pytest

from recorder.records import SECOND, Flow
from tests.recorder.wire import (
    AT_CLIENT,
    AT_SERVER,
    CLIENT,
    FOREVER,
    OUTSIDE,
    REMOTE,
    SERVER,
    UPLINK,
    VIP,
    Row,
    moment,
    packet,
    packets,
    pod,
    reset,
    syn,
    syn_ack,
    windows,
    world,
)


def tcp(rows: list[Row], **more: Any) -> list[Flow]:
    """Return the TCP rows that these packets make, `src` before `dst`."""
    flows = windows(rows, **more).settle(FOREVER)
    return sorted((row for row in flows if row.protocol == "tcp"), key=lambda row: row.reporter != "src")


def on_node(time: float = 1, isn: int = 1000, port: int = 40000) -> list[Row]:
    """Return a connection from client to server on one node, through the Service, answered."""
    return [
        syn(time, AT_CLIENT, "in", CLIENT, port, VIP, 80, isn),
        syn(time + 0.0001, AT_SERVER, "out", CLIENT, port, SERVER, 8080, isn),
        syn_ack(time + 0.0002, AT_SERVER, "in", SERVER, 8080, CLIENT, port, isn),
        syn_ack(time + 0.0003, AT_CLIENT, "out", VIP, 80, CLIENT, port, isn),
    ]


def outcome(row: Flow) -> tuple[int, int, int, int | None, int]:
    """Return attempts, answered, refused, denied, unanswered."""
    return row.attempts, row.answered, row.refused, row.denied, row.unanswered


def test_one_connection_through_a_service_on_one_node_gives_one_row_a_side() -> None:
    """The client's row names the real backend and what was dialled; the server's row knows nothing of the Service."""
    source, target = tcp(on_node())
    assert (source.reporter, source.dst_ip, source.dst_port, source.dst_kind) == ("src", SERVER, 8080, "pod")
    assert (source.dialled_ip, source.dialled_port, source.service) == (VIP, 80, "shop/server")
    assert outcome(source) == (1, 1, 0, 0, 0)
    assert (target.reporter, target.src_ip, target.dst_port, target.service) == ("dst", CLIENT, 8080, None)
    assert outcome(target) == (1, 1, 0, None, 0)


def test_the_backend_on_another_node_is_learned_from_the_answer_at_the_uplink() -> None:
    """Across nodes the SYN-ACK that arrives from the overlay names the backend."""
    (row,) = tcp(
        [
            syn(1, AT_CLIENT, "in", CLIENT, 40000, VIP, 80, 5),
            syn_ack(1.1, UPLINK, "in", REMOTE, 8080, CLIENT, 40000, 5),
            syn_ack(1.1, AT_CLIENT, "out", VIP, 80, CLIENT, 40000, 5),
        ]
    )
    assert (row.dst_ip, row.dst_kind, row.service) == (REMOTE, "pod", "shop/server")


def test_without_a_copy_after_translation_the_row_stays_with_the_service() -> None:
    """A backend that was not seen is not guessed."""
    (row,) = tcp(
        [syn(1, AT_CLIENT, "in", CLIENT, 40000, VIP, 80, 5), syn_ack(1.1, AT_CLIENT, "out", VIP, 80, CLIENT, 40000, 5)]
    )
    assert (row.dst_kind, row.dst_id, row.dst_ip, row.dst_port) == ("service", "shop/server", VIP, 80)


def test_a_masqueraded_copy_is_joined_by_its_server_and_gives_the_translated_source() -> None:
    """Traffic to the outside keeps the pod as its source; the node's address becomes snat_ip."""
    (row,) = tcp(
        [
            syn(1, AT_CLIENT, "in", CLIENT, 40000, OUTSIDE, 443, 5),
            syn(1, UPLINK, "out", "172.16.0.1", 40000, OUTSIDE, 443, 5),
            syn_ack(1.1, UPLINK, "in", OUTSIDE, 443, "172.16.0.1", 40000, 5),
            syn_ack(1.1, AT_CLIENT, "out", OUTSIDE, 443, CLIENT, 40000, 5),
        ]
    )
    assert (row.src_ip, row.snat_ip, row.dst_kind, row.answered) == (CLIENT, "172.16.0.1", "external", 1)


def test_retransmits_count_once_even_when_they_straddle_a_settled_window() -> None:
    """An attempt is a client address, port and initial sequence number, however often its SYN is sent."""
    tries = [syn(at, AT_CLIENT, "in", CLIENT, 40000, OUTSIDE, 443, 5) for at in (58, 59, 61, 65, 73, 89)]
    made = windows([])
    rows: list[Flow] = []
    for one in tries:
        made.feed(packets([one]))
        rows += made.settle(one["time"] - 11 * SECOND)
    rows += made.settle(FOREVER)
    assert [outcome(row) for row in rows if row.protocol == "tcp"] == [(1, 0, 0, None, 1)]


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("settling", [False, True])
def test_a_number_used_again_long_after_is_another_attempt(*, answered: bool, settling: bool) -> None:
    """A raw scanner that comes back with its one sequence number is counted each time, however the packets come in."""
    made = windows([])
    rows: list[Flow] = []
    for at in (1, 140, 290):
        tried = [syn(at, AT_CLIENT, "in", CLIENT, 40000, OUTSIDE, 443, 5)]
        answer = [syn_ack(at + 0.1, AT_CLIENT, "out", OUTSIDE, 443, CLIENT, 40000, 5)]
        made.feed(packets(tried + answer * answered))
        rows += made.settle(moment(at - 11)) if settling else []
    rows += made.settle(FOREVER)
    found = [row for row in rows if row.protocol == "tcp"]
    assert (sum(row.attempts for row in found), sum(row.answered for row in found)) == (3, 3 * answered)


def test_an_answer_within_the_grace_counts_for_the_attempts_window() -> None:
    """A connection that came up on its second SYN is answered, in the window of the first."""
    rows = tcp(
        [
            syn(59, AT_CLIENT, "in", CLIENT, 40000, OUTSIDE, 443, 5),
            syn(62, AT_CLIENT, "in", CLIENT, 40000, OUTSIDE, 443, 5),
            syn_ack(62.1, AT_CLIENT, "out", OUTSIDE, 443, CLIENT, 40000, 5),
        ]
    )
    assert [(row.window_start, row.answered) for row in rows] == [(moment(0), 1)]


def test_a_closed_port_is_refused_on_both_sides() -> None:
    """A reset that comes from the server's own interface is the server's word."""
    source, target = tcp(
        [
            syn(1, AT_CLIENT, "in", CLIENT, 40000, SERVER, 81, 5),
            syn(1, AT_SERVER, "out", CLIENT, 40000, SERVER, 81, 5),
            reset(1.1, AT_SERVER, "in", SERVER, 81, CLIENT, 40000, 5),
            reset(1.1, AT_CLIENT, "out", SERVER, 81, CLIENT, 40000, 5),
        ]
    )
    assert outcome(source) == (1, 0, 1, 0, 0)
    assert outcome(target) == (1, 0, 1, None, 0)


@pytest.mark.parametrize("answer", [[], [reset(1.1, AT_CLIENT, "out", SERVER, 8080, CLIENT, 40000, 5)]])
def test_an_attempt_that_never_leaves_at_the_servers_interface_was_denied(answer: list[Row]) -> None:
    """Whether a policy drops or rejects, the SYN is not handed to the pod, and that is what tells."""
    (row,) = tcp([syn(1, AT_CLIENT, "in", CLIENT, 40000, SERVER, 8080, 5), *answer])
    assert outcome(row) == (1, 0, 0, 1, 0)


def test_a_service_without_endpoints_is_refused_not_denied() -> None:
    """The node's reset for a Service that has no backends says nothing about a policy."""
    (row,) = tcp(
        [syn(1, AT_CLIENT, "in", CLIENT, 40000, VIP, 80, 5), reset(1.1, AT_CLIENT, "out", VIP, 80, CLIENT, 40000, 5)]
    )
    assert outcome(row) == (1, 0, 1, None, 0)


def test_an_sctp_abort_refuses_an_init() -> None:
    """It carries the initiate tag of the INIT it answers (RFC 9260 §3.3.7)."""
    init = {"protocol": 132, "flags": 1, "seq": 77}
    abort = {"protocol": 132, "flags": 6, "ack": 77}
    flows = windows(
        [
            packet(1, AT_CLIENT, "in", CLIENT, 40000, SERVER, 9000, **init),
            packet(1, AT_SERVER, "out", CLIENT, 40000, SERVER, 9000, **init),
            packet(1.1, AT_SERVER, "in", SERVER, 9000, CLIENT, 40000, **abort),
            packet(1.1, AT_CLIENT, "out", SERVER, 9000, CLIENT, 40000, **abort),
        ]
    ).settle(FOREVER)
    rows = {row.reporter: outcome(row) for row in flows if row.protocol == "sctp"}
    assert rows == {"src": (1, 0, 1, 0, 0), "dst": (1, 0, 1, None, 0)}


def test_an_icmp_error_that_quotes_the_attempt_refuses_it() -> None:
    """ICMP unreachable carries the SYN's ports and sequence number (RFC 792)."""
    error = {
        "time": moment(1.1),
        "ifindex": AT_CLIENT,
        "outgoing": True,
        "protocol": 1,
        "src": "172.16.0.1",
        "dst": CLIENT,
        "icmp_type": 3,
        "icmp_code": 3,
        "quoted_protocol": 6,
        "quoted_src": CLIENT,
        "quoted_src_port": 40000,
        "quoted_dst": VIP,
        "quoted_dst_port": 80,
        "quoted_seq": 5,
    }
    (row,) = tcp([syn(1, AT_CLIENT, "in", CLIENT, 40000, VIP, 80, 5), error])
    assert outcome(row) == (1, 0, 1, None, 0)


def test_one_sequence_number_for_many_targets_never_invents_a_backend() -> None:
    """A raw scanner's attempts share port and number; only copies with equal addresses may be joined."""
    scan = [syn(1, AT_CLIENT, "in", CLIENT, 40000, target, 80, 5) for target in (VIP, REMOTE, OUTSIDE)]
    rows = tcp(
        [
            *scan,
            syn(1.1, UPLINK, "out", CLIENT, 40000, REMOTE, 80, 5),
            syn_ack(1.2, UPLINK, "in", REMOTE, 80, CLIENT, 40000, 5),
        ]
    )
    assert sorted((row.dst_ip, row.dst_kind) for row in rows) == [
        (REMOTE, "pod"),
        (VIP, "service"),
        (OUTSIDE, "external"),
    ]


def test_the_interface_outranks_the_api_when_an_address_is_reused() -> None:
    """The new pod's packets are its own even while the API still shows the old one with that address."""
    old = pod("old", "10.0.1.9", "n1")
    new = pod("new", "10.0.1.9", "n1", metadata={"creationTimestamp": "2026-03-02T00:00:20Z"})
    from recorder.identity.events import Event

    known = world(old)
    known.apply(Event(moment(20.5), "ADDED", new | {"status": {"phase": "Pending"}}))
    known.apply(Event(moment(21), "DELETED", old))
    known.apply(Event(moment(21.2), "MODIFIED", new))
    known.apply(Event(moment(600), "BOOKMARK", {}))
    rows = tcp(
        [
            syn(10, 21, "in", "10.0.1.9", 40000, OUTSIDE, 443, 5),
            syn_ack(10, 21, "out", OUTSIDE, 443, "10.0.1.9", 40000, 5),
            syn(20.8, 22, "in", "10.0.1.9", 40001, OUTSIDE, 444, 6),
            syn_ack(20.8, 22, "out", OUTSIDE, 444, "10.0.1.9", 40001, 6),
        ],
        known=known,
    )
    assert {row.dst_port: str(row.src_id).split("/")[0] for row in rows} == {443: "uid-old", 444: "uid-new"}


def test_a_capture_without_interfaces_reports_each_five_tuple_once_as_unknown() -> None:
    """Where nobody says which interface, copies of one SYN are one attempt and the row cannot tell whose half it is."""
    from recorder.windows import Windows

    made = Windows("test", "n1", "pcap", world(), 60)
    rows = [
        syn(1, -1, "in", CLIENT, 40000, SERVER, 8080, 5),
        syn(1.0001, -1, "in", CLIENT, 40000, SERVER, 8080, 5),
        syn_ack(1.1, -1, "in", SERVER, 8080, CLIENT, 40000, 5),
    ]
    made.feed(packets(rows))
    (row,) = made.settle(FOREVER)
    assert (row.reporter, *outcome(row)) == ("unknown", 1, 1, 0, None, 0)


def test_counts_of_a_row_add_up() -> None:
    """Every attempt has exactly one outcome."""
    for row in tcp([*on_node(), *on_node(2, 2000, 40001)[:1], *on_node(3, 3000, 40002)]):
        whole = replace(row, denied=row.denied or 0)
        assert whole.attempts == whole.answered + whole.refused + (whole.denied or 0) + whole.unanswered
