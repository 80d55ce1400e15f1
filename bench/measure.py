"""What a piece of work costs, measured in a process of its own so that nothing before it counts."""

import os
import re
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LIMIT_SECONDS = 60


class NotPossibleError(RuntimeError):
    """A benchmark cannot run here; the text is one line for a person."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds by the clock and of CPU (user and system, all threads), and the peak of resident memory in bytes."""

    wall: float
    cpu: float
    peak: int
    result: Any = None


@dataclass(frozen=True, slots=True)
class Line:
    """One figure; `ratio` is text such as `0.9 x tcpdump`, `wanted` the figure or ratio we are after."""

    what: str
    figure: float
    unit: str
    ratio: str = ""
    wanted: str = ""


def resident(field: str = "VmRSS") -> int:
    """Return this process's resident memory in bytes; with `VmHWM` its peak, which ru_maxrss inherits from a parent."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def measured(function: Callable[..., Any], *arguments: Any, times: int = 1) -> Cost:
    """Return the least CPU of calls, each in a fresh process; imports of the function's module are not counted."""
    return min((_once(function, arguments) for _ in range(times)), key=lambda cost: cost.cpu)


def spent(command: Sequence[str]) -> Cost:
    """Return what a program costs; raise RuntimeError with what it said when it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {' '.join(done.stderr.split())}")
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 0, done)


def ratio(mine: float, theirs: float, peer: str) -> str:
    """Return how many times the peer's figure ours is, as text."""
    times = mine / theirs
    return f"{times:,.0f} x {peer}" if times >= 1000 else f"{times:.3g} x {peer}"


def _once(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Cost:
    context = get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(sending, function, arguments))
    process.start()
    sending.close()
    try:
        if not receiving.poll(LIMIT_SECONDS):
            raise NotPossibleError(f"{function.__name__} took more than {LIMIT_SECONDS} s and was stopped")
        cost = receiving.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__} failed; see above") from None
    finally:
        process.kill()
        process.join()
    assert isinstance(cost, Cost)
    return cost


def _report(sending: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        result = function(*arguments)
        sending.send(Cost(time.perf_counter() - wall, time.process_time() - cpu, resident("VmHWM"), result))
    except BaseException:  # noqa: BLE001 - told to a person, and the parent sees that nothing came
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
