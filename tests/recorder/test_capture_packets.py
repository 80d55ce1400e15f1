"""The columns: joining, choosing rows, and addresses as numbers and as text."""

from ipaddress import ip_address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.capture.packets import COLUMNS, Packets, address_text, address_value, concatenate


def made(times: list[int], dns: list[tuple[int, bytes]] | None = None) -> Packets:
    """Return packets that differ in every column by their time."""
    empty = Packets.empty()
    columns = {}
    for name in COLUMNS:
        like = getattr(empty, name)
        values = np.array(times).astype(like.dtype)
        columns[name] = np.stack([values, values], axis=1) if like.ndim == 2 else values
    return Packets(**columns, dns=dns or [])


def test_empty_packets_have_the_types_of_others() -> None:
    """Nothing downstream needs to ask whether there were packets."""
    joined = concatenate([Packets.empty(), made([1])])
    for name in COLUMNS:
        assert getattr(joined, name).dtype == getattr(Packets.empty(), name).dtype, name
    assert joined.src.shape == (1, 2)
    assert len(concatenate([])) == 0


def test_concatenate_moves_dns_rows() -> None:
    """A DNS message stays with its packet."""
    joined = concatenate([made([1, 2], [(1, b"b")]), made([]), made([3, 4], [(0, b"c"), (1, b"d")])])
    assert joined.time.tolist() == [1, 2, 3, 4]
    assert joined.dns == [(1, b"b"), (2, b"c"), (3, b"d")]


def test_select_moves_dns_rows() -> None:
    """A DNS message goes where its packet goes, or away with it."""
    packets = made([1, 2, 3, 4], [(0, b"a"), (1, b"b"), (3, b"d")])
    chosen = packets.select(np.array([False, True, True, True]))
    assert chosen.time.tolist() == [2, 3, 4]
    assert chosen.dst.tolist() == [[2, 2], [3, 3], [4, 4]]
    assert chosen.dns == [(0, b"b"), (2, b"d")]


def test_by_time_is_stable() -> None:
    """Packets of one microsecond keep the order in which the kernel gave them."""
    rows = np.arange(200)
    packets = made((rows * 7 % 5).tolist(), [(int(row), str(row).encode()) for row in rows])
    expected = sorted(rows.tolist(), key=lambda row: row * 7 % 5)
    ordered = packets.by_time()
    assert ordered.time.tolist() == [row * 7 % 5 for row in expected]
    assert [int(message) for _, message in ordered.dns] == expected


@given(st.ip_addresses())
def test_addresses_survive_the_way_there_and_back(address: object) -> None:
    """Text → number → text is the canonical text; IPv4 mapped into IPv6 is IPv4."""
    text = str(address)
    canonical = str(getattr(address, "ipv4_mapped", None) or address)
    assert address_text(*address_value(text)) == canonical
    assert ip_address(canonical) is not None


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("FD00:0:0:0:0:0:0:1", "fd00::1"),
        ("::1", "::1"),
        ("::", "::"),
        ("::fffe:a00:1", "::fffe:a00:1"),
        ("0.0.0.0", "0.0.0.0"),  # noqa: S104 - an address, not a place to listen
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    """RFC 5952 for IPv6, dotted for IPv4 however it was written."""
    assert address_text(*address_value(text)) == canonical


def test_numbers_of_numpy_are_fine() -> None:
    """The columns hold numpy's numbers, whose arithmetic wraps."""
    hi, lo = address_value("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
    assert address_text(np.uint64(hi), np.uint64(lo)) == "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"


def test_no_address_is_an_error() -> None:
    """A name is no address."""
    with pytest.raises(ValueError, match="does not appear"):
        address_value("a.example")
