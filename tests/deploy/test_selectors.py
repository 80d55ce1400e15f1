"""The algebra of label selectors, whatever grammar they were written in."""

import itertools

import numpy as np
import pytest

from deploy.semantics.selectors import ALL, And, Has, In, Labels, Not, Or, Selector, Text, both

ROWS = [{"a": "1", "b": "x"}, {"a": "2"}, {}, {"b": "yx"}, {"a": "1", "c": ""}]

SELECTORS: list[tuple[Selector, list[int]]] = [
    (ALL, [0, 1, 2, 3, 4]),
    (Has("a"), [0, 1, 4]),
    (Has("c"), [4]),
    (Has("missing"), []),
    (In("a", ("1",)), [0, 4]),
    (In("a", ("1", "2")), [0, 1, 4]),
    (In("a", ("1", "9")), [0, 4]),
    (In("a", ("9",)), []),
    (In("a", ()), []),
    (In("missing", ("1",)), []),
    (In("missing", ("1", "2")), []),
    (Text("b", "x", "contains"), [0, 3]),
    (Text("b", "x", "starts"), [0]),
    (Text("b", "x", "ends"), [0, 3]),
    (Text("missing", "", "contains"), []),
    (Not(Has("a")), [2, 3]),
    (Not(In("a", ("1",))), [1, 2, 3]),
    (And((Has("a"), Has("b"))), [0]),
    (And(()), [0, 1, 2, 3, 4]),
    (Or((Has("b"), Has("c"))), [0, 3, 4]),
    (Or(()), []),
]


@pytest.mark.parametrize(("selector", "selected"), SELECTORS)
def test_what_is_selected(selector: Selector, selected: list[int]) -> None:
    """Negations also match absent keys, comparisons need them (apimachinery labels; libcalico-go lib/selector)."""
    labels = Labels(ROWS)
    assert np.flatnonzero(selector.of(labels, np.arange(len(ROWS)))).tolist() == selected
    assert [number for number, row in enumerate(ROWS) if selector.matches(row)] == selected


@pytest.mark.parametrize(("selector", "selected"), SELECTORS)
def test_any_rows_in_any_order_can_be_asked_about(selector: Selector, selected: list[int]) -> None:
    """Answers stand in the order of the rows asked about, which may repeat."""
    rows = np.array([4, 0, 4, 2])
    assert selector.of(Labels(ROWS), rows).tolist() == [number in selected for number in rows]


@pytest.mark.parametrize(("selector", "selected"), SELECTORS)
def test_equalities_hold_wherever_the_selector_does(selector: Selector, selected: list[int]) -> None:
    """What `equalities` yields is found on everything that is selected, or the index would lose it."""
    for key, value in selector.equalities():
        assert set(selected) <= set(Labels(ROWS).holders(key, value).tolist())


def test_equalities_come_from_conjunctions_only() -> None:
    """One value must be there only where nothing else can do instead."""
    one, other = In("a", ("1",)), In("b", ("2",))
    assert list(And((one, Has("c"), other)).equalities()) == [("a", "1"), ("b", "2")]
    assert (
        list(Or((one, other)).equalities())
        == list(Not(one).equalities())
        == list(In("a", ("1", "2")).equalities())
        == []
    )


def test_holders_are_rows_in_order() -> None:
    """The index of a value lists the rows that have it, and none for a value or key that nothing has."""
    labels = Labels(ROWS)
    found = [
        labels.holders(key, value).tolist() for key, value in (("a", "1"), ("a", "2"), ("a", "9"), ("missing", "1"))
    ]
    assert found == [[0, 4], [1], [], []]


def test_a_conjunction_leaves_out_what_matches_all() -> None:
    """Joining selectors keeps only those that ask for something."""
    assert both() == both(ALL) == ALL
    assert both(ALL, Has("a")) == Has("a")
    assert both(Has("a"), ALL, Has("b")) == And((Has("a"), Has("b")))


def test_the_keys_and_parts_of_a_selector() -> None:
    """A selector names every key it looks at and every part inside it."""
    selector = And((Has("a"), Not(Or((In("b", ("1",)), Text("c", "x", "starts"))))))
    assert list(selector.keys()) == ["a", "b", "c"]
    assert len(list(selector.parts_of())) == 6
    assert list(And((selector, Has("d"))).conjuncts()) == [*selector.parts, Has("d")]


def test_de_morgan_holds() -> None:
    """Negations of joined selectors are joined negations, for all rows."""
    rows, labels = np.arange(len(ROWS)), Labels(ROWS)
    for (one, _), (other, _) in itertools.product(SELECTORS, repeat=2):
        left = Not(And((one, other))).of(labels, rows)
        assert (left == Or((Not(one), Not(other))).of(labels, rows)).all()
