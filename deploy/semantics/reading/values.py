"""Mappings and sequences that know on which lines they stand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Table(dict[str, Any]):
    """A mapping that knows where it and each of its keys stand.

    `book[at + n]` is the line of the key at place n; keys that were added later stand where the mapping does.
    """

    __slots__ = ("at", "book", "line")

    line: int
    book: Sequence[int] | NDArray[np.int32]
    at: int

    def line_of(self, key: str) -> int:
        """Return the line of a key, that of the mapping when it is not there."""
        for place, name in enumerate(self, self.at):
            if name == key:
                return int(self.book[place]) if place < len(self.book) else self.line
        return self.line


class Series(list[Any]):
    """A sequence that knows where it and each of its items stand."""

    __slots__ = ("line", "lines")

    line: int
    lines: list[int]


class UnreadableError(Exception):
    """The text is no YAML, or YAML that may not be trusted; `line` counts from 1."""

    def __init__(self, line: int, rule: str) -> None:
        super().__init__(rule)
        self.line = line
        self.rule = rule
