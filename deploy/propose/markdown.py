"""Markdown from texts that nobody vouches for: names, labels and DNS names come from the cluster and the network."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

_LONGEST = 200


def code(value: object) -> str:
    """Return a text as a code span that can neither be left nor break a table row, mention anybody or hide anything.

    Rules: GitHub Flavored Markdown 0.29, "Code spans" and "Tables" (in cells, backslash and pipe are escaped).
    """
    text = "".join(_visible(letter) for letter in str(value))
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    text = text.replace("\\", "\\\\").replace("|", "\\|")
    if not text.strip():
        return "` `"
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _visible(letter: str) -> str:
    """Return a letter, or a mark in place of one that is not seen: control, format, line break."""
    kind = unicodedata.category(letter)
    return "\N{REPLACEMENT CHARACTER}" if kind.startswith("C") or kind in ("Zl", "Zp") else letter


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose cells are Markdown already."""
    return [_row(heads), _row(["---"] * len(heads)), *(_row(row) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
