"""Makes the reference pages and the README's real output from the program; `--check` fails when they are stale.

recording.md and learned.md come from the contracts' dataclasses, commands.md from the command line itself, engines.md from the
judge's profiles, and the blocks
between `<!-- output: COMMAND -->` and `<!-- end -->` of the README from running that command.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from deploy.semantics import profiles
from learner.patterns import SCHEMA_VERSION as PATTERNS_VERSION
from learner.patterns import Pattern
from podfence.__main__ import cli
from recorder import records

DOCS = Path(__file__).parent
ROOT = DOCS.parent
_MADE = "<!-- made by `make docs`; change the code instead -->\n\n"


def recording() -> str:
    """Return the reference of the recording format."""
    parts = [
        "# The recording format\n\n",
        _MADE,
        f"Schema version {records.SCHEMA_VERSION}. A recording is a folder (or object-store URI) of Parquet files: zstd, ",
        "times in UTC microseconds, `schema_version` in the file metadata; readable with any Parquet tool. It is ",
        "self-contained: learning and replay never need the cluster. One recording holds one cluster. Files are added and ",
        "never changed; their names hold cluster, node, backend, window and a digest of the content, so writing the same ",
        "thing twice adds nothing. [design.md](design.md) says why, and how rows relate to connections.\n",
    ]
    places = {
        "flows": "flows/date=YYYY-MM-DD/hour=HH/*.parquet",
        "identities": "identities/*.parquet",
        "inventory": "inventory/*.parquet",
        "coverage": "coverage/*.parquet",
    }
    for table, row in records.TABLES.items():
        parts.append(f"\n## `{places[table]}`\n\n{_paragraph(row)}\n\n{_columns(row)}")
    parts.append(
        "\n## Values\n\n"
        f"- endpoint kinds: {_codes(records.ENDPOINT_KINDS)}\n"
        f"- reporters: {_codes(records.REPORTERS)}\n"
        f"- direction bases: {_codes(records.DIRECTION_BASES)}\n"
        f"- start bases: {_codes(records.START_BASES)}\n"
        f"- rings: {_codes(records.RINGS)}\n\n"
        "Rows whose key columns (marked *) are equal add up: times widen, counts add (null + n = n), lists unite, of other "
        "columns the smallest value that is not null stays.\n"
    )
    return "".join(parts)


def learned() -> str:
    """Return the reference of what `learn` writes."""
    return (
        f"# What `podfence learn` writes\n\n{_MADE}Schema version {PATTERNS_VERSION}.\n\n"
        f"## `patterns.parquet`\n\n{_paragraph(Pattern)}\n\n{_columns(Pattern)}"
    )


def commands() -> str:
    """Return the reference of the command line."""
    parts = ["# Commands\n\n", _MADE]
    parts += [f"## `{path}`\n\n```text\n{text}\n```\n\n" for path, text in _helps(cli, "podfence", None)]
    return "".join(parts).rstrip() + "\n"


def engines() -> str:
    """Return the reference of the engine profiles."""
    parts = [
        "# Engines\n\n",
        _MADE,
        "What differs between the engines that enforce policy, as the judge knows it: one file an engine in ",
        "`deploy/semantics/profiles/`, one answer a question, each with its source. *Unknown* is an answer, too: where it ",
        "matters the verdict is undetermined. `--profile strict` asks every portable engine that enforces all the policies ",
        "given; `--profile npm,calico` asks those two. A half is allowed when every engine asked allows it, denied when ",
        "every one denies it; where they differ it is undetermined and the verdict says which engine does what. Fields are ",
        "explained in `deploy/semantics/profiles/__init__.py`.\n",
    ]
    for name in profiles.names()[1:]:
        one = profiles.profile(name)
        portable = "asked by `strict`" if one.portable else "asked only when named"
        parts.append(f"\n## `{name}`\n\n{one.title}; {portable}.\n\n| question | answer | source |\n|---|---|---|\n")
        for field, source in one.sources:
            told = source.replace("|", "\\|")
            parts.append(f"| {field.replace('_', ' ')} | {_answer(getattr(one, field))} | {told} |\n")
    return "".join(parts)


def _answer(value: Any) -> str:
    if value is None:
        return "*unknown*"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, frozenset | tuple):
        if value == tuple(range(256)):
            return "all"
        return ", ".join(str(one) for one in sorted(value)) or "none"
    return str(value)


def readme() -> str:
    """Return the README with its output blocks made anew."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(
        r"(<!-- output: (.+?) -->\n```console\n)(.*?)(```\n<!-- end -->)",
        lambda match: f"{match[1]}{_run(match[2])}{match[4]}",
        text,
        flags=re.DOTALL,
    )


PAGES: dict[Path, Callable[[], str]] = {
    DOCS / "recording.md": recording,
    DOCS / "learned.md": learned,
    DOCS / "commands.md": commands,
    DOCS / "engines.md": engines,
    ROOT / "README.md": readme,
}


def _helps(command: click.Command, path: str, parent: click.Context | None) -> list[tuple[str, str]]:
    context = click.Context(command, info_name=path.rsplit(" ", 1)[-1], parent=parent, **command.context_settings)
    context.terminal_width = 110
    found = [(path, command.get_help(context).rstrip())]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None  # noqa: S101 - list_commands names what get_command has
            found += _helps(child, f"{path} {name}", context)
    return found


def _run(line: str) -> str:
    """Return `$ line` and what it prints, run in an empty folder with this interpreter's `podfence`."""
    shown, _, actual = line.partition(" = ")
    if shown == "make test":
        return f"$ {shown}\n…\n{_collected()} passed\n"
    words = actual.split()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=folder,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "PYTHONPATH": str(ROOT),
                "NO_COLOR": "1",
                "LC_ALL": "C.UTF-8",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{line}: exit code {done.returncode}\n{done.stdout}")
    return f"$ {shown}\n{done.stdout}"


def _collected() -> int:
    """Return how many tests there are: all pass where the network lab can run."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = re.search(r"^(\d+) tests collected", done.stdout, re.MULTILINE)
    if found is None:
        raise SystemExit(f"pytest --collect-only: {done.stdout[-500:]}{done.stderr[-500:]}")
    return int(found[1])


def _paragraph(row: type[Any]) -> str:
    return " ".join((row.__doc__ or "").split())


def _columns(row: type[Any]) -> str:
    lines = ["| column | type | meaning |\n|---|---|---|\n"]
    for name, column in records.columns(row).items():
        meaning = column.meaning.replace("|", "\\|")
        lines.append(f"| `{name}`{' *' if column.key else ''} | `{column.type}` | {meaning} |\n")
    return "".join(lines)


def _codes(values: tuple[str, ...]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def main() -> int:
    """Write the pages, or with `--check` say which are stale; return 1 if any is."""
    stale = []
    for path, make in PAGES.items():
        text = make()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path.relative_to(ROOT))
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    verb = "stale, run `make docs`:" if "--check" in sys.argv else "written:"
    for path in stale:
        sys.stderr.write(f"{verb} {path}\n")
    return int("--check" in sys.argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
