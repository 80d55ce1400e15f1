"""What is taken from DNS answers, and that nothing in one can stop the recorder."""

import dns.message
import dns.rrset
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recorder.capture.dns import MAX_MESSAGE, answers


def response(name: str, kind: str, *records: str, rcode: int = 0) -> dns.message.Message:
    """Return the response to a question for `name`, with records as `owner ttl type data`."""
    made = dns.message.make_response(dns.message.make_query(name, kind))
    for record in records:
        owner, ttl, of, data = record.split(maxsplit=3)
        made.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", of, data))
    made.set_rcode(rcode)
    return made


def test_addresses_of_a_name() -> None:
    """The name comes in lower case and without its dot, the addresses with their time to live."""
    made = response("API.Example.", "A", "api.example. 30 A 192.0.2.1", "api.example. 30 A 192.0.2.2")
    assert answers(made.to_wire()) == ("api.example", [("192.0.2.1", 30), ("192.0.2.2", 30)])


def test_addresses_of_version_6() -> None:
    """Canonical text, and IPv4 where the address is one in disguise."""
    made = response("a.example.", "AAAA", "a.example. 5 AAAA 2001:DB8:0:0::1", "a.example. 5 AAAA ::ffff:192.0.2.9")
    assert answers(made.to_wire()) == ("a.example", [("2001:db8::1", 5), ("192.0.2.9", 5)])


def test_aliases_belong_to_the_name_asked_for() -> None:
    """An application asks for a name, not for what the name stands for; records of other names are no answer."""
    made = response(
        "www.example.",
        "A",
        "edge.cdn.example. 20 A 198.51.100.7",
        "www.example. 300 CNAME www.cdn.example.",
        "www.cdn.example. 60 CNAME edge.cdn.example.",
        "unasked.example. 60 A 198.51.100.66",
    )
    assert answers(made.to_wire()) == ("www.example", [("198.51.100.7", 20)])


def test_names_without_addresses() -> None:
    """No data, and records of other types, are an answer without addresses."""
    assert answers(response("a.example.", "AAAA").to_wire()) == ("a.example", [])
    assert answers(response("a.example.", "TXT", 'a.example. 5 TXT "x"').to_wire()) == ("a.example", [])


def test_the_sections_after_the_answers_do_not_matter() -> None:
    """Name servers and EDNS options come behind, and are as well cut off."""
    made = response("a.example.", "A", "a.example. 30 A 192.0.2.1")
    made.use_edns(0)
    made.authority.append(dns.rrset.from_text("example.", 60, "IN", "NS", "ns.example."))
    wire = made.to_wire()
    assert answers(wire) == answers(wire[:-8]) == ("a.example", [("192.0.2.1", 30)])


def test_equal_answers_give_lists_of_their_own() -> None:
    """What a caller does to one result does not show in the next."""
    wire = response("a.example.", "A", "a.example. 30 A 192.0.2.1").to_wire()
    first = answers(wire)
    assert first is not None
    first[1].clear()
    assert answers(b"\x12\x34" + wire[2:]) == ("a.example", [("192.0.2.1", 30)])


@pytest.mark.parametrize("rcode", [1, 2, 3, 5])
def test_errors_are_none(rcode: int) -> None:
    """A name that does not exist says nothing about an address."""
    assert answers(response("a.example.", "A", "a.example. 9 A 192.0.2.1", rcode=rcode).to_wire()) is None


def test_queries_are_none() -> None:
    """A query from port 53, as old resolvers send, is no answer."""
    assert answers(dns.message.make_query("a.example.", "A").to_wire()) is None


def test_updates_are_none() -> None:
    """A response to something other than a query has another shape."""
    wire = bytearray(response("a.example.", "A", "a.example. 9 A 192.0.2.1").to_wire())
    wire[2] |= 5 << 3
    assert answers(bytes(wire)) is None


def test_every_cut_is_none() -> None:
    """A message that ends within its answers is not read in part."""
    wire = response("www.example.", "A", "www.example. 9 CNAME a.example.", "a.example. 9 A 192.0.2.1").to_wire()
    assert answers(wire) is not None
    assert [answers(wire[:length]) for length in range(len(wire))] == [None] * len(wire)


def test_work_is_bounded() -> None:
    """Long messages are not even parsed; counts that lie and loops of names end."""
    wire = response("a.example.", "A", "a.example. 9 A 192.0.2.1").to_wire()
    assert answers(wire.ljust(MAX_MESSAGE, b"\0")) is not None
    assert answers(wire.ljust(MAX_MESSAGE + 1, b"\0")) is None
    assert answers(wire[:6] + b"\xff\xff" + wire[8:]) is None
    looped = response("a.example.", "A", "a.example. 9 CNAME b.example.", "b.example. 9 CNAME a.example.")
    assert answers(looped.to_wire()) is None
    pointing_at_itself = wire[:12] + b"\xc0\x0c" + wire[-20:]
    assert answers(pointing_at_itself) is None


WIRE = response("www.example.", "A", "www.example. 9 CNAME a.example.", "a.example. 9 A 192.0.2.1").to_wire()


@settings(max_examples=500)
@given(st.binary(max_size=120), st.lists(st.tuples(st.integers(0, len(WIRE) - 1), st.integers(0, 255)), max_size=5))
@example(b"", [])
def test_nothing_is_raised(random: bytes, damage: list[tuple[int, int]]) -> None:
    """Random messages and damaged ones are answers or None."""
    damaged = bytearray(WIRE)
    for place, value in damage:
        damaged[place] = value
    for message in (random, bytes(damaged)):
        found = answers(message)
        assert found is None or isinstance(found[0], str)
