"""What every verb prints with: data to stdout, everything else to stderr; colour and motion on a terminal only."""

import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click


def say(text: str) -> None:
    """Print a line for the person at the terminal."""
    click.echo(text, err=True)


def put(text: str = "") -> None:
    """Print a line of data; when nobody reads on (`| head`), the rest is dropped and the verb goes on to its end."""
    try:
        click.echo(text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def command(*words: str) -> str:
    """Return a command as a shell takes it."""
    return shlex.join(words)


def next_step(text: str) -> None:
    """Name the command that comes next."""
    say(f"next: {text}")


def data(value: Any, form: str) -> None:
    """Print a value as `json` or `yaml`, the form other programs read."""
    if form == "json":
        put(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        from generator.yaml import dump

        put(dump(value).removesuffix("\n"))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table as kubectl does: columns apart by blanks, heads in capitals, nothing cut off."""
    lines = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(heads, *lines, strict=True)]
    for line in [list(heads), *lines]:
        put("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


Section = tuple[Sequence[str], Iterable[Sequence[object]]]
"""Heads and rows of a table."""


def tables(*sections: Section) -> None:
    """Print tables apart by an empty line, without columns that hold nothing; one without rows is left out."""
    first = True
    for heads, rows in sections:
        lines = [["-" if cell in (None, "") else cell for cell in row] for row in rows]
        if not lines:
            continue
        if not first:
            put()
        first = False
        kept = [number for number, column in enumerate(zip(*lines, strict=True)) if any(cell != "-" for cell in column)]
        table([heads[number] for number in kept], ([line[number] for number in kept] for line in lines))


class Progress:
    """One line that is rewritten on a terminal, and silence elsewhere."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        """Show what is going on."""
        if self._shown:
            click.echo("\r" + text.ljust(self._width), nl=False, err=True)
            self._width = len(text)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown and self._width:
            click.echo("\r" + " " * self._width + "\r", nl=False, err=True)
            self._width = 0


@contextmanager
def progress() -> Iterator[Progress]:
    """Give a progress line and take it away at the end."""
    line = Progress()
    try:
        yield line
    finally:
        line.clear()


def plural(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless it is one."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("f"):
        return f"{count:,} {noun[:-1]}ves"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith(('ch', 's', 'x')) else 's'}"
