"""What was known about one thing as time went by: facts in order of time, however late some of them arrive."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

F = TypeVar("F")


class Timeline(Generic[F]):
    """Facts with the first and last time each was observed in a row; None means that the thing was gone.

    What was observed between the two is not kept: a late fact that falls there cuts the run down to its ends.
    """

    __slots__ = ("facts", "firsts", "lasts")

    def __init__(self) -> None:
        self.firsts: list[int] = []
        self.lasts: list[int] = []
        self.facts: list[F | None] = []

    def add(self, time: int, fact: F | None) -> bool:
        """Take an observation at `time` (µs); return whether it changed when a fact began.

        Of two observations at the same time the later added stands, but nothing comes after the end at that time.
        """
        at = bisect_right(self.firsts, time) - 1
        if at >= 0 and fact is not None and self.facts[at] is None and self.firsts[at] == time:
            at -= 1
        if at >= 0 and self.facts[at] == fact:
            self.lasts[at] = max(self.lasts[at], time)
            return False
        if at >= 0 and time < self.lasts[at]:
            self._insert(at + 1, self.lasts[at], self.facts[at])
            self.lasts[at] = self.firsts[at]
        elif at + 1 < len(self.firsts) and self.facts[at + 1] == fact:
            self.firsts[at + 1] = time
            return True
        self._insert(at + 1, time, fact)
        return True

    def _insert(self, at: int, time: int, fact: F | None) -> None:
        self.firsts.insert(at, time)
        self.lasts.insert(at, time)
        self.facts.insert(at, fact)

    def __iter__(self) -> Iterator[tuple[int, F | None]]:
        """Yield (time, fact) for each change, in order of time."""
        return zip(self.firsts, self.facts, strict=True)

    def __len__(self) -> int:
        return len(self.firsts)

    @property
    def last(self) -> int:
        """Time of the newest observation (µs)."""
        return self.lasts[-1]

    def spans(self) -> Iterator[tuple[int, int | None, F]]:
        """Yield (start, end, fact) for each fact but the end itself; the end of the last is None while it lasts."""
        for at, fact in enumerate(self.facts):
            if fact is not None:
                yield self.firsts[at], self.firsts[at + 1] if at + 1 < len(self.facts) else None, fact
