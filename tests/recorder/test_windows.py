"""Rows of a window: they depend on the packets, not on how these arrived."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.capture.packets import Packets
from recorder.edges.interfaces import MAX_SOURCES
from recorder.records import SECOND, Flow
from recorder.windows import Windows
from tests.recorder.wire import (
    AT_CLIENT,
    AT_SERVER,
    CLIENT,
    FOREVER,
    OUTSIDE,
    SERVER,
    UPLINK,
    VIP,
    Row,
    datagram,
    greetings,
    moment,
    packet,
    packets,
    service,
    syn,
    syn_ack,
    windows,
    world,
)

DNS = "10.96.0.10"


def known() -> Any:
    """Return the world with a UDP Service shop/names on 10.96.0.10:53 whose endpoint is the server pod."""
    return world(*service("names", DNS, 53, 53, [SERVER], "UDP"))


def question(time: float, port: int = 5353, gap: float = 0) -> list[Row]:
    """Return a DNS question through the Service and its answer, as both pods' interfaces show it."""
    return [
        datagram(time, AT_CLIENT, "in", CLIENT, port, DNS, 53),
        datagram(time, AT_SERVER, "out", CLIENT, port, SERVER, 53),
        datagram(time + gap + 0.001, AT_SERVER, "in", SERVER, 53, CLIENT, port),
        datagram(time + gap + 0.001, AT_CLIENT, "out", DNS, 53, CLIENT, port),
    ]


def udp(rows: list[Row]) -> list[Flow]:
    """Return the UDP rows towards port 53."""
    return [row for row in windows(rows, known()).settle(FOREVER) if row.dst_port == 53]


def test_a_datagram_through_a_service_names_its_backend() -> None:
    """The one endpoint of the Service that the same client end talked to meanwhile is the backend."""
    source, target = sorted(udp(question(1)), key=lambda row: row.reporter != "src")
    assert (source.reporter, source.dst_ip, source.service, source.dialled_ip) == ("src", SERVER, "shop/names", DNS)
    assert (target.reporter, target.src_ip, target.answered) == ("dst", CLIENT, 1)


def test_a_conversation_counts_once_in_each_window_it_is_active_in() -> None:
    """Ten questions from one port within 30 s of each other are one conversation, in two windows."""
    rows = udp([row for at in range(20, 70, 5) for row in question(at)])
    assert [(row.window_start, row.attempts) for row in rows if row.reporter == "src"] == [
        (moment(0), 1),
        (moment(60), 1),
    ]


def test_silence_of_more_than_thirty_seconds_ends_a_conversation() -> None:
    """The same two ends 31 s later are another conversation."""
    (row,) = (row for row in udp([*question(1), *question(32.1)]) if row.reporter == "src")
    assert row.attempts == 2


def test_a_question_without_reply_is_unanswered() -> None:
    """One-way UDP is kept apart from answered UDP."""
    (row,) = udp(question(1)[:1])
    assert (row.attempts, row.answered, row.unanswered, row.dst_kind) == (1, 0, 1, "service")


def test_the_initiator_is_not_the_side_that_serves_the_port() -> None:
    """A recording that starts between question and answer still knows who asked, and says how."""
    rows = udp([datagram(1, AT_CLIENT, "out", DNS, 53, CLIENT, 5353)])
    assert [(row.src_ip, row.direction_basis) for row in rows] == [(CLIENT, "port")]


def test_loopback_and_traffic_between_nodes_make_no_rows() -> None:
    """At least one side of a row is a pod of this node."""
    assert udp([datagram(1, UPLINK, "in", "172.16.0.2", 5353, "172.16.0.1", 53)]) == []


def test_an_echo_to_a_services_address_has_no_port() -> None:
    """ICMP has none, dialled or reached."""
    echo = {"protocol": 1, "icmp_type": 8, "icmp_code": 0}
    made = windows([packet(1, AT_CLIENT, "in", CLIENT, -1, VIP, -1, **echo)])
    (row,) = (row for row in made.settle(FOREVER) if row.protocol == "icmp")
    assert (row.service, row.dialled_ip, row.dst_port, row.dialled_port) == ("shop/server", VIP, None, None)


def test_a_bridge_that_only_one_pod_has_used_counts_nothing_twice() -> None:
    """Until a second pod sends through it, a bridge looks like the first one's interface."""
    bridge = 5
    there = [datagram(1, at, "in", CLIENT, 4000, OUTSIDE, 53) for at in (AT_CLIENT, bridge)]
    back = [datagram(1.1, at, "out", OUTSIDE, 53, CLIENT, 4000) for at in (bridge, AT_CLIENT)]
    asked = [datagram(2, at, "out", OUTSIDE, 4001, CLIENT, 53) for at in (bridge, AT_CLIENT)]
    made = Windows("test", "n1", "ring", known(), 60)
    made.feed(packets(there + back + asked))
    rows = [(row.reporter, row.attempts, row.answered) for row in made.settle(FOREVER)]
    assert sorted(rows) == [("dst", 1, 0), ("src", 1, 1)]


def test_an_uplink_costs_one_decision_however_many_talk_through_it() -> None:
    """Neither the addresses remembered of it nor the questions whose it is grow with traffic."""
    asked: Counter[str] = Counter()
    cluster = known()
    pods_at = cluster.pods_at
    cluster.pods_at = lambda ip, node: asked.update([ip]) or pods_at(ip, node)
    made = windows(
        [datagram(1, UPLINK, "in", f"198.51.{n // 250}.{n % 250}", 53, CLIENT, n) for n in range(1500)], cluster
    )
    assert len(made.settle(FOREVER)) == 2
    assert len(made.interfaces.sources[UPLINK]) <= MAX_SOURCES + 1
    assert asked.total() < 100


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_rows_do_not_depend_on_how_packets_are_cut_into_batches(data: st.DataObject) -> None:
    """Same packets, same rows: whatever the batches, and however often windows are settled on the way."""
    times = data.draw(st.lists(st.floats(1, 170), min_size=1, max_size=12))
    rows = [one for number, time in enumerate(times) for one in _some(data, time, number)]
    everything = packets(sorted(greetings() + rows, key=lambda row: row["time"]))
    whole = windows([], known())
    whole.feed(everything)
    expected = whole.settle(FOREVER)
    pieces = windows([], known())
    pieces.interfaces.learn(everything)
    found: list[Flow] = []
    for piece in _split(everything, data.draw(st.lists(st.integers(0, len(everything)), max_size=6))):
        pieces.feed(piece)
        if len(piece):
            found += pieces.settle(int(piece.time[-1]) - 10 * SECOND)
    found += pieces.settle(FOREVER)
    assert found == expected


def _split(everything: Packets, cuts: list[int]) -> list[Packets]:
    edges = [0, *sorted(cuts), len(everything)]
    return [everything.take(np.arange(low, high)) for low, high in itertools.pairwise(edges)]


def _some(data: st.DataObject, time: float, number: int) -> list[Row]:
    """Return a connection or a conversation, a part of one, or one tried again."""
    port, isn = 40000 + number % 3, data.draw(st.sampled_from([0, 1, 2**32 - 1]))
    tcp = [
        syn(time, AT_CLIENT, "in", CLIENT, port, OUTSIDE, 443, isn),
        syn(time, UPLINK, "out", "172.16.0.1", port, OUTSIDE, 443, isn),
        syn_ack(time + 0.1, UPLINK, "in", OUTSIDE, 443, "172.16.0.1", port, isn),
        syn_ack(time + 0.1, AT_CLIENT, "out", OUTSIDE, 443, CLIENT, port, isn),
    ]
    rows = data.draw(st.sampled_from([tcp, question(time, port, data.draw(st.floats(0, 40)))]))
    kept = data.draw(st.integers(1, len(rows)))
    again = data.draw(st.lists(st.floats(0.5, 140), max_size=3))
    return rows[:kept] + [rows[0] | {"time": rows[0]["time"] + round(later * SECOND)} for later in again]
