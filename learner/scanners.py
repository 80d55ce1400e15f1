"""Finds sources that try many things and fail: the sequential test called Threshold Random Walk.

Jung, Paxson, Berger, Balakrishnan: "Fast Portscan Detection Using Sequential Hypothesis Testing", IEEE Symposium on
Security and Privacy, 2004. Only first contacts count, so a client of one dead backend fails once, however often it
tries.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Walk:
    """The test's parameters: chances of success of a benign source and of a scanner, and the error rates allowed."""

    benign: float = 0.8
    scanner: float = 0.2
    false_alarm: float = 0.01
    detection: float = 0.99

    def steps(self) -> tuple[float, float, float, float]:
        """Return log-likelihood steps on success and failure, and the bounds that clear and flag a source."""
        return (
            math.log(self.scanner / self.benign),
            math.log((1 - self.scanner) / (1 - self.benign)),
            math.log((1 - self.detection) / (1 - self.false_alarm)),
            math.log(self.detection / self.false_alarm),
        )


def is_scanner(outcomes: Iterable[bool], walk: Walk) -> bool:
    """Tell whether a source is flagged by its first contacts in order of time; the test starts anew when it clears."""
    success, failure, clear, flag = walk.steps()
    at = 0.0
    for answered in outcomes:
        at += success if answered else failure
        if at >= flag:
            return True
        if at <= clear:
            at = 0.0
    return False


def scanners(contacts: Iterable[tuple[str, bool]], walk: Walk) -> frozenset[str]:
    """Return the flagged sources of (source, answered in its first window), given in order of time per source."""
    outcomes: dict[str, list[bool]] = {}
    for source, answered in contacts:
        outcomes.setdefault(source, []).append(answered)
    return frozenset(source for source, found in outcomes.items() if is_scanner(found, walk))
