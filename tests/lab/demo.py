"""A run of the shop that leaves events.jsonl, inventory.yaml and truth.jsonl behind."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from .lab import Lab
from .shop import Shop

PROGRESS_SECONDS = 3.0

# Called when everything is up and before anyone talks; called again when all is written.
Gate = Callable[[Lab], Awaitable[None]]


def say(event: str, **fields: Any) -> None:
    """Print one line of JSON for whoever runs the lab."""
    print(json.dumps({"event": event, **fields}), flush=True)


async def run_shop(out: Path, seconds: float, seed: int, before: Gate, after: Gate) -> None:
    """Build the shop, play it and write its files to a folder; the namespaces last until `after` returns."""
    notes = ["building"]
    with Lab(log=out / "events.jsonl", seed=seed) as lab:
        shop = Shop(lab, notes.append)
        await shop.build()
        async with _task(lab.cluster.keep_bookmarking()):
            await before(lab)
            async with _task(_progress(seconds, notes)):
                await shop.play(seconds)
            lab.cluster.bookmark()
            lab.cluster.write_inventory(out / "inventory.yaml")
            lab.truth.write(out / "truth.jsonl")
            await after(lab)
        lab.cluster.bookmark()


async def _progress(seconds: float, notes: list[str]) -> None:
    started, told = time.monotonic(), 0
    while True:
        elapsed = round(time.monotonic() - started, 1)
        for note in notes[told:] or notes[-1:]:
            say("progress", elapsed=elapsed, seconds=seconds, note=note)
        told = len(notes)
        await asyncio.sleep(PROGRESS_SECONDS)


@contextlib.asynccontextmanager
async def _task(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run something beside a block of code."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
