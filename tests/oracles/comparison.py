"""Holds podfence's judge against an oracle over many cases, and counts."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml

from tests.oracles import cyclonus, netpol_analyzer, network_config_analyzer, programs
from tests.oracles.cases import Case, case
from tests.oracles.lines import Program, Verdicts
from tests.oracles.podfence_side import mine

Mask = np.ndarray[Any, np.dtype[np.bool_]]

SHOWN = 3
"""Differences that are written out."""


@dataclass(frozen=True)
class Oracle:
    """An independent judge: the kinds of cases it knows, and whether its `ipBlock` matches the addresses of pods."""

    name: str
    kinds: tuple[str, ...]
    block_matches_pods: bool
    start: Callable[[], Program]
    verdicts: Callable[[Program, Case], Verdicts]
    judged: Callable[[Case], Mask]
    """Which pairs of a case it judges."""


def every_pair(one: Case) -> Mask:
    """Return that all pairs of a case are judged."""
    return np.ones(len(one.world.pairs), np.bool_)


def _built(name: str) -> Callable[[], Program]:
    return lambda: Program([str(programs.program(name))])


CYCLONUS = Oracle("cyclonus 0.5.6", ("kubernetes",), True, _built("cyclonus"), cyclonus.verdicts, every_pair)
NETPOL_ANALYZER = Oracle(
    "netpol-analyzer 1.4.4",
    ("kubernetes",),
    block_matches_pods=False,
    start=_built("netpol-analyzer"),
    verdicts=netpol_analyzer.verdicts,
    judged=netpol_analyzer.judged,
)
NETWORK_CONFIG_ANALYZER = Oracle(
    "network-config-analyzer 2.1.0",
    ("kubernetes", "calico", "both"),
    block_matches_pods=False,
    start=network_config_analyzer.program,
    verdicts=network_config_analyzer.verdicts,
    judged=every_pair,
)
ORACLES = (CYCLONUS, NETPOL_ANALYZER, NETWORK_CONFIG_ANALYZER)


@dataclass
class Tally:
    """How many verdicts were compared, what the oracle said, and how often podfence said otherwise."""

    allowed: int = 0
    denied: int = 0
    different: int = 0
    written: list[str] = field(default_factory=list)

    @property
    def compared(self) -> int:
        """Return the number of verdicts."""
        return self.allowed + self.denied

    def __str__(self) -> str:
        """Return the counts, and the first differences."""
        counts = f"{self.compared:,} verdicts: {self.allowed:,} allowed, {self.denied:,} denied, {self.different:,} different"
        return "\n".join((counts, *self.written))


def compare(
    oracle: Oracle,
    program: Program,
    kind: str,
    numbers: Iterable[int],
    seen_by_us: Callable[[Case], Case] = lambda one: one,
) -> Tally:
    """Return the tally of cases of a kind; `seen_by_us` changes what podfence is given, to see that it is noticed."""
    found = Tally()
    for number in numbers:
        one = case(kind, number)
        theirs = oracle.verdicts(program, one)
        judged = oracle.judged(one)
        ours = mine(seen_by_us(one), block_matches_pods=oracle.block_matches_pods)[judged]
        assert ours.shape == theirs.shape, one.name
        found.allowed += int(theirs.sum())
        found.denied += int((~theirs).sum())
        places = np.argwhere(ours != theirs)
        found.different += len(places)
        if len(places) and len(found.written) < SHOWN:
            pair, asked = np.flatnonzero(judged)[places[0, 0]], places[0, 1]
            found.written.append(
                _written(oracle, one, pair, asked, allowed=bool(theirs[*places[0]]), count=len(places))
            )
    return found


def _written(oracle: Oracle, one: Case, pair: int, asked: int, *, allowed: bool, count: int) -> str:
    """Return a case with its first difference, so that a reader can judge it."""
    left, right = one.world.pairs[pair]
    protocol, number = one.asked[asked]
    said = "allowed" if allowed else "denied"
    head = (
        f"case {one.name}: {one.world.title(left)} -> {one.world.title(right)} {protocol} {number} "
        f"({one.world.ends[left].address} -> {one.world.ends[right].address}) is {said} by {oracle.name}; {count} such"
    )
    body = yaml.safe_dump_all([*one.policies, *one.sets], sort_keys=False)
    return "\n".join((head, network_config_analyzer.topology(one), body))


def main() -> None:
    """Compare one case, to look at a difference: `python -m tests.oracles.comparison ORACLE KIND NUMBER`."""
    name, kind, number = sys.argv[1:]
    oracle = next(one for one in ORACLES if one.name.startswith(name))
    with oracle.start() as program:
        sys.stdout.write(f"{compare(oracle, program, kind, [int(number)])}\n")


if __name__ == "__main__":
    main()
