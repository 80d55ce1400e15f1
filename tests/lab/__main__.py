"""The lab from a command line: `python -m lab shop --out DIR`, `capture --out DIR`, `clean`."""

import argparse
import asyncio
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from .capture import capture_shop
from .demo import run_shop, say
from .lab import Lab
from .namespaces import LabError, missing, remove_leftovers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 2 when the machine lacks something."""
    parser = argparse.ArgumentParser(prog="lab", description="A small Kubernetes cluster made of network namespaces.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("shop", "play the shop; start on a line on stdin, clean up on the next one"),
        ("capture", "play the shop and write what tcpdump sees on each node"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the files go")
        command.add_argument("--seconds", type=float, default=90.0, help="how long they talk (default 90)")
        command.add_argument("--seed", type=int, default=1, help="of pauses and choices (default 1)")
    commands.add_parser("clean", help="remove what dead labs left behind")
    options = parser.parse_args(arguments)
    if problem := missing():
        print(f"lab: {problem}", file=sys.stderr)
        return 2
    if options.command == "clean":
        say("cleaned", namespaces=remove_leftovers())
        return 0
    signal.signal(signal.SIGTERM, _terminate)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        if options.command == "shop":
            asyncio.run(_shop(options.out, options.seconds, options.seed))
        else:
            asyncio.run(capture_shop(options.out, options.seconds, options.seed))
            say("done", files={path.name: path.stat().st_size for path in sorted(options.out.iterdir())})
    except (LabError, OSError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


async def _shop(out: Path, seconds: float, seed: int) -> None:
    lines = _stdin_lines()

    async def ready(lab: Lab) -> None:
        nodes = [{"name": node.name, "netns": node.netns.name} for node in lab.nodes]
        say("ready", nodes=nodes, events=str(out / "events.jsonl"))
        await lines.get()

    async def done(lab: Lab) -> None:
        files = {name: str(out / f"{name}.{kind}") for name, kind in (("inventory", "yaml"), ("truth", "jsonl"))}
        say("done", events=str(out / "events.jsonl"), attempts=len(lab.truth.attempts), **files)
        await lines.get()

    await run_shop(out, seconds, seed, ready, done)


def _stdin_lines() -> asyncio.Queue[None]:
    """Give a queue with an entry per line of stdin; at its end there is always one more."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[None] = asyncio.Queue()

    def read() -> None:
        # Not sys.stdin: a thread that holds its lock would trip the interpreter's end.
        while data := os.read(0, 4096):
            for _ in range(data.count(b"\n")):
                loop.call_soon_threadsafe(lines.put_nowait, None)
        for _ in range(2):
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    # Once is enough: a second signal must not interrupt the cleaning up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
