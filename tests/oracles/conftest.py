"""Starts oracles for tests, or skips them with the reason where they cannot be had."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests.oracles.comparison import Oracle
from tests.oracles.lines import Program
from tests.oracles.programs import NotBuiltError


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[[Oracle], Program]]:
    """Start an oracle once for the tests of a file; where PODFENCE_REQUIRE_LAB is set, none may be missing."""
    with ExitStack() as stack:

        @cache
        def started(oracle: Oracle) -> Program:
            try:
                return stack.enter_context(oracle.start())
            except NotBuiltError as error:
                if os.environ.get("PODFENCE_REQUIRE_LAB"):
                    pytest.fail(f"PODFENCE_REQUIRE_LAB is set, but {oracle.name} {error}")
                pytest.skip(f"{oracle.name} {error}")

        yield started
