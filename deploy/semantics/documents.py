"""Reads YAML and JSON into plain values that remember their lines, and refuses what a reader could misunderstand.

The text is taken as parser events, so that duplicate keys, alias bombs and unknown tags are seen before they are gone.
Plain scalars are resolved as kubectl does (YAML 1.1, without its sexagesimal numbers and dates).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_DEPTH = 64
MAX_EXPANSION = 100_000
"""How many values aliases may add to one document; kubectl's own limit is of that order."""

_TAG = "tag:yaml.org,2002:"
_NULLS = {"", "~", "null", "Null", "NULL"}
_TRUE = {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}
_FALSE = {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9_]+|[0-9][0-9_]*\.?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)")


class Table(dict[str, Any]):
    """A mapping that knows where it and each of its values stand."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


class Series(list[Any]):
    """A sequence that knows where it and each of its items stand."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []


class UnreadableError(Exception):
    """The text is no YAML, or YAML that may not be trusted; `line` counts from 1."""

    def __init__(self, line: int, rule: str) -> None:
        super().__init__(rule)
        self.line = line
        self.rule = rule


@dataclass(slots=True)
class _Builder:
    """The document that is being read."""

    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    expanded: int = 0


def documents(text: str) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) of each document that is not empty; mappings are `Table`, sequences `Series`.

    Raises UnreadableError.
    """
    events = _events(text)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            first = next(events)
            line = _line(first)
            value, _ = _value(first, events, _Builder(), 0)
            if value is not None:
                yield line, value


def _events(text: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UnreadableError(mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UnreadableError(1, f"not YAML: {str(error).splitlines()[0]}") from error


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _value(event: Any, events: Iterator[Any], builder: _Builder, depth: int) -> tuple[Any, int]:
    """Return the value that starts with `event` and how many values it consists of."""
    line = _line(event)
    if depth > MAX_DEPTH:
        raise UnreadableError(line, f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(event, yaml.AliasEvent):
        if event.anchor in builder.open:
            raise UnreadableError(line, f"alias *{event.anchor} contains itself")
        if event.anchor not in builder.anchors:
            raise UnreadableError(line, f"alias *{event.anchor} names no anchor")
        value, size = builder.anchors[event.anchor]
        builder.expanded += size
        if builder.expanded > MAX_EXPANSION:
            raise UnreadableError(line, f"aliases expand to more than {MAX_EXPANSION} values")
        return value, size
    if event.anchor:
        builder.open.add(event.anchor)
    if isinstance(event, yaml.ScalarEvent):
        value, size = _scalar(event, line), 1
    elif isinstance(event, yaml.SequenceStartEvent):
        _plain_tag(event, "seq", line)
        value, size = _series(line, events, builder, depth)
    else:
        _plain_tag(event, "map", line)
        value, size = _table(line, events, builder, depth)
    if event.anchor:
        builder.open.discard(event.anchor)
        builder.anchors[event.anchor] = (value, size)
    return value, size


def _plain_tag(event: Any, kind: str, line: int) -> None:
    if event.tag not in (None, "!", _TAG + kind):
        raise UnreadableError(line, f"unknown tag {event.tag}")


def _series(line: int, events: Iterator[Any], builder: _Builder, depth: int) -> tuple[Series, int]:
    found, size = Series(line), 1
    for event in events:
        if isinstance(event, yaml.SequenceEndEvent):
            break
        item, count = _value(event, events, builder, depth + 1)
        found.append(item)
        found.lines.append(_line(event))
        size += count
    return found, size


def _table(line: int, events: Iterator[Any], builder: _Builder, depth: int) -> tuple[Table, int]:
    found, size = Table(line), 1
    merged: list[Table] = []
    for event in events:
        if isinstance(event, yaml.MappingEndEvent):
            break
        here = _line(event)
        key, _ = _value(event, events, builder, depth + 1)
        merge = isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]
        value, count = _value(next(events), events, builder, depth + 1)
        size += count + 1
        if merge:
            merged += _merged(value, here)
            continue
        if isinstance(key, int | float) and not isinstance(key, bool):
            key = event.value
        if not isinstance(key, str):
            raise UnreadableError(here, "a key that is no text (quote it)")
        if key in found:
            raise UnreadableError(here, f"duplicate key {key!r}")
        found[key] = value
        found.lines[key] = here
    for other in merged:
        for key, value in other.items():
            if key not in found:
                found[key] = value
                found.lines[key] = other.lines[key]
    return found, size


def _merged(value: Any, line: int) -> list[Table]:
    parts = value if isinstance(value, Series) else [value]
    if not all(isinstance(part, Table) for part in parts):
        raise UnreadableError(line, "`<<` merges something that is no mapping")
    return list(parts)


def _scalar(event: Any, line: int) -> Any:
    text: str = event.value
    if event.tag is not None and event.tag != "!":
        return _tagged(event.tag, text, line)
    if not event.implicit[0]:
        return text
    return _resolved(text)


def _resolved(text: str) -> Any:
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    return text


def _integer(text: str) -> Any:
    digits = text.replace("_", "")
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    for prefix, base in (("0b", 2), ("0x", 16), ("0o", 8)):
        if digits.startswith(prefix):
            return sign * int(digits[2:], base)
    if len(digits) > 32:
        return float(digits) * sign
    return sign * int(digits, 8 if digits.startswith("0") and len(digits) > 1 else 10)


def _tagged(tag: str, text: str, line: int) -> Any:
    kinds: dict[str, type] = {"str": str, "int": int, "bool": bool, "float": float, "null": type(None)}
    expected = kinds.get(tag.removeprefix(_TAG)) if tag.startswith(_TAG) else None
    if expected is None:
        raise UnreadableError(line, f"unknown tag {tag}")
    value = text if expected is str else _resolved(text)
    if not isinstance(value, expected):
        raise UnreadableError(line, f"{text!r} is no {tag.removeprefix(_TAG)}")
    return value
