"""Reads what people decided about patterns (`decisions.yaml`): facts with a name and, if they like, an end.

The file is a list of `{source, destination, protocol, port, decision, by, until?, note?}`; it is kept in Git, so each
mistake in it is an error that names the line.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import yaml

from recorder.errors import InputError
from recorder.records import SECOND

REQUIRED = ("source", "destination", "protocol", "port", "decision", "by")
OPTIONAL = ("until", "note")
DAY_SECONDS = 86_400

Key = tuple[str, str, str, str]
"""Source, destination, protocol and port as text (`80`, an ICMP `8/0`, or empty)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One person's word about one pattern; `until` is the time (µs) at which it ends."""

    key: Key
    accept: bool
    by: str
    until: int | None
    place: str


def read_decisions(path: str | os.PathLike[str]) -> tuple[Decision, ...]:
    """Return the decisions in a file.

    Raises InputError, with file and line, for anything that is not as it should be.
    """
    place = Path(path)
    try:
        root = yaml.compose(place.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{place}: cannot be read: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{place}:{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{place}: not YAML: {error}") from error
    except RecursionError as error:
        raise InputError(f"{place}: nested too deeply for a list of decisions") from error
    if root is None:
        return ()
    if not isinstance(root, yaml.SequenceNode):
        raise InputError(f"{_at(place, root)}: expected a list of decisions")
    found: dict[Key, Decision] = {}
    for node in root.value:
        decision = _decision(place, node)
        if decision.key in found:
            raise InputError(f"{decision.place}: decided before, at {found[decision.key].place}")
        found[decision.key] = decision
    return tuple(found.values())


def in_force(decisions: Iterable[Decision], *, at: int, known: set[Key]) -> tuple[dict[Key, Decision], dict[Key, str]]:
    """Return the decisions that hold at a time (µs), and those that have run out, as key to person.

    Raises InputError for one that holds and is about a pattern that the recording does not show.
    """
    holding: dict[Key, Decision] = {}
    over: dict[Key, str] = {}
    for decision in decisions:
        if decision.until is not None and decision.until <= at:
            over[decision.key] = decision.by
            continue
        if decision.key not in known:
            source, destination, protocol, port = decision.key
            raise InputError(
                f"{decision.place}: the recording shows no pattern {source} -> {destination} {port or '-'}/{protocol};"
                " write names as `podfence learn` prints them, or remove the entry"
            )
        holding[decision.key] = decision
    return holding, over


def _decision(place: Path, node: yaml.Node) -> Decision:
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{_at(place, node)}: expected an entry with {', '.join(REQUIRED)}")
    fields: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = str(key.value)
        if name not in REQUIRED + OPTIONAL:
            raise InputError(f"{_at(place, key)}: unknown field {name!r}; known are {', '.join(REQUIRED + OPTIONAL)}")
        if name in fields:
            raise InputError(f"{_at(place, key)}: {name!r} is given twice")
        fields[name] = value
    missing = [name for name in REQUIRED if name not in fields]
    if missing:
        raise InputError(f"{_at(place, node)}: {missing[0]!r} is missing")
    texts = {name: _text(place, name, value) for name, value in fields.items()}
    for name in REQUIRED:
        if not texts[name] and name != "port":
            raise InputError(f"{_at(place, fields[name])}: {name!r} is empty")
    if texts["decision"] not in {"accept", "reject"}:
        raise InputError(
            f"{_at(place, fields['decision'])}: decision {texts['decision']!r} is neither accept nor reject"
        )
    until = _until(place, fields["until"]) if "until" in fields else None
    key = (texts["source"], texts["destination"], texts["protocol"].lower(), texts["port"])
    return Decision(key, texts["decision"] == "accept", texts["by"], until, _at(place, node))


def _text(place: Path, name: str, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise InputError(f"{_at(place, node)}: {name!r} is one value, not a list or a mapping")
    if node.tag == "tag:yaml.org,2002:null":
        return ""
    return str(node.value).strip()


def _until(place: Path, node: yaml.Node) -> int | None:
    """Return the end of a decision: a moment, or the end of a day (UTC)."""
    text = _text(place, "until", node)
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{_at(place, node)}: until {text!r} is no date such as 2026-12-31") from error
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return (int(when.timestamp()) + (DAY_SECONDS if _is_day(text) else 0)) * SECOND


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _at(place: Path, node: yaml.Node) -> str:
    return f"{place}:{node.start_mark.line + 1}"
