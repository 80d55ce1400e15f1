"""Label selectors of every grammar as one small algebra, answered for many things at once.

`NotIn`, `!=` and `not in` also match where the key is absent; every other comparison needs it
(Kubernetes: apimachinery `labels.Requirement.Matches`; Calico: libcalico-go `lib/selector`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
"""Numbers of things in a table."""
Truth = NDArray[np.bool_]

_NO_ROWS: Rows = np.zeros(0, np.int64)


class Labels:
    """The labels of many things in columns: for each key a code per thing, -1 where the key is absent."""

    def __init__(self, rows: Sequence[Mapping[str, str]]) -> None:
        self.size = len(rows)
        self._values: dict[str, dict[str, int]] = {}
        self._places: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for number, row in enumerate(rows):
            for key, value in row.items():
                codes = self._values.setdefault(key, {})
                places, found = self._places[key]
                places.append(number)
                found.append(codes.setdefault(value, len(codes)))
        self._codes: dict[str, NDArray[np.int32]] = {}
        self._holders: dict[str, tuple[Rows, NDArray[np.int64]]] = {}

    def codes(self, key: str) -> NDArray[np.int32]:
        """Return the code of each thing's value of a key (int32, -1: absent)."""
        if key not in self._codes:
            column = np.full(self.size, -1, np.int32)
            if key in self._places:
                places, found = self._places[key]
                column[places] = found
            self._codes[key] = column
        return self._codes[key]

    def code(self, key: str, value: str) -> int:
        """Return the code of a value of a key, -2 when nothing has it."""
        return self._values.get(key, {}).get(value, -2)

    def values(self, key: str) -> Iterable[str]:
        """Return the values of a key in the order of their codes."""
        return self._values.get(key, {})

    def holders(self, key: str, value: str) -> Rows:
        """Return the things with this value of this key, in order."""
        code = self.code(key, value)
        if code < 0:
            return _NO_ROWS
        if key not in self._holders:
            places, found = (np.array(one, np.int64) for one in self._places[key])
            order = np.argsort(found, kind="stable")
            bounds = np.searchsorted(found[order], np.arange(len(self._values[key]) + 1))
            self._holders[key] = places[order], bounds
        places, bounds = self._holders[key]
        return places[bounds[code] : bounds[code + 1]]


class Selector:
    """Something that matches labels or does not."""

    __slots__ = ()

    def of(self, labels: Labels, rows: Rows) -> Truth:
        """Tell which of these things are selected."""
        raise NotImplementedError

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether something with these labels is selected."""
        return bool(self.of(Labels([labels]), np.zeros(1, np.int64))[0])

    def equalities(self) -> Iterator[tuple[str, str]]:
        """Yield (key, value) pairs without which nothing can match; used to index."""
        yield from ()

    def keys(self) -> Iterator[str]:
        """Yield the label keys it looks at."""
        yield from ()

    def parts_of(self) -> Iterator["Selector"]:
        """Yield this selector and every part inside it."""
        yield self

    def conjuncts(self) -> Iterator["Selector"]:
        """Yield the parts that must all hold."""
        yield self


@dataclass(frozen=True, slots=True)
class Everything(Selector):
    """`{}` and `all()`."""

    def of(self, labels: Labels, rows: Rows) -> Truth:  # noqa: ARG002
        """Match all."""
        return np.ones(len(rows), np.bool_)


@dataclass(frozen=True, slots=True)
class Has(Selector):
    """`Exists` and `has(key)`."""

    key: str

    def of(self, labels: Labels, rows: Rows) -> Truth:
        """Match where the key is present."""
        return labels.codes(self.key)[rows] >= 0

    def keys(self) -> Iterator[str]:
        """Yield the key."""
        yield self.key


@dataclass(frozen=True, slots=True)
class In(Selector):
    """`In`, `==` and `in {…}`."""

    key: str
    values: tuple[str, ...]

    def of(self, labels: Labels, rows: Rows) -> Truth:
        """Match where the key is present with one of the values."""
        codes = labels.codes(self.key)[rows]
        if len(self.values) == 1:
            equal: Truth = codes == labels.code(self.key, self.values[0])
            return equal
        return np.isin(codes, [labels.code(self.key, value) for value in self.values])

    def equalities(self) -> Iterator[tuple[str, str]]:
        """Yield the pair when there is only one value."""
        if len(self.values) == 1:
            yield self.key, self.values[0]

    def keys(self) -> Iterator[str]:
        """Yield the key."""
        yield self.key


@dataclass(frozen=True, slots=True)
class Text(Selector):
    """`contains`, `starts with` and `ends with`."""

    key: str
    part: str
    how: str

    def of(self, labels: Labels, rows: Rows) -> Truth:
        """Match where the key is present and its value has the part there."""
        found = np.array([self._holds(value) for value in labels.values(self.key)] + [False], np.bool_)
        return found[labels.codes(self.key)[rows]]

    def _holds(self, value: str) -> bool:
        if self.how == "contains":
            return self.part in value
        return value.startswith(self.part) if self.how == "starts" else value.endswith(self.part)

    def keys(self) -> Iterator[str]:
        """Yield the key."""
        yield self.key


@dataclass(frozen=True, slots=True)
class Not(Selector):
    """Negation; what makes `NotIn` match absent keys."""

    part: Selector

    def of(self, labels: Labels, rows: Rows) -> Truth:
        """Match what the part does not."""
        return ~self.part.of(labels, rows)

    def keys(self) -> Iterator[str]:
        """Yield the part's keys."""
        return self.part.keys()

    def parts_of(self) -> Iterator[Selector]:
        """Yield this and what is inside."""
        yield self
        yield from self.part.parts_of()


@dataclass(frozen=True, slots=True)
class And(Selector):
    """Conjunction."""

    parts: tuple[Selector, ...]

    def of(self, labels: Labels, rows: Rows) -> Truth:
        """Match what all parts match."""
        found = np.ones(len(rows), np.bool_)
        for part in self.parts:
            found &= part.of(labels, rows)
        return found

    def equalities(self) -> Iterator[tuple[str, str]]:
        """Yield what any part needs."""
        for part in self.parts:
            yield from part.equalities()

    def keys(self) -> Iterator[str]:
        """Yield the parts' keys."""
        for part in self.parts:
            yield from part.keys()

    def parts_of(self) -> Iterator[Selector]:
        """Yield this and what is inside."""
        yield self
        for part in self.parts:
            yield from part.parts_of()

    def conjuncts(self) -> Iterator[Selector]:
        """Yield the parts' own."""
        for part in self.parts:
            yield from part.conjuncts()


@dataclass(frozen=True, slots=True)
class Or(Selector):
    """Disjunction."""

    parts: tuple[Selector, ...]

    def of(self, labels: Labels, rows: Rows) -> Truth:
        """Match what any part matches."""
        found = np.zeros(len(rows), np.bool_)
        for part in self.parts:
            found |= part.of(labels, rows)
        return found

    def keys(self) -> Iterator[str]:
        """Yield the parts' keys."""
        for part in self.parts:
            yield from part.keys()

    def parts_of(self) -> Iterator[Selector]:
        """Yield this and what is inside."""
        yield self
        for part in self.parts:
            yield from part.parts_of()


ALL = Everything()


def both(*selectors: Selector) -> Selector:
    """Return the conjunction of selectors, without those that match all."""
    parts = tuple(one for one in selectors if one != ALL)
    return And(parts) if len(parts) > 1 else parts[0] if parts else ALL
