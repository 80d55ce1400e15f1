"""The judge against independent ones over random policies: millions of verdicts, of which none may differ."""

from collections.abc import Iterator
from pathlib import Path

from bench.measure import Line, NotPossibleError
from tests.oracles.comparison import ORACLES, compare
from tests.oracles.programs import NotBuiltError

CASES = 1000
"""Of each kind, for each oracle: six million verdicts in all."""


def run(folder: Path, *, large: bool) -> Iterator[Line]:
    """Compare; `large` takes ten times as many cases. Raises AssertionError when a verdict differs."""
    del folder
    compared = 0
    for oracle in ORACLES:
        try:
            program = oracle.start()
        except NotBuiltError as error:
            raise NotPossibleError(f"{oracle.name} {error}") from error
        with program:
            for kind in oracle.kinds:
                found = compare(oracle, program, kind, range(CASES * (10 if large else 1)))
                assert found.different == 0, str(found)
                yield Line(
                    f"{oracle.name}: {kind}",
                    found.compared,
                    "verdicts",
                    f"{found.allowed:,} allowed, {found.denied:,} denied",
                )
                compared += found.compared
    yield Line("verdicts compared, 0 different", compared, "verdicts", wanted=">= 1,000,000")
