"""Reads YAML and JSON into plain values that remember their lines, and refuses what a reader could misunderstand.

The text is taken as parser events, so that duplicate keys, alias bombs and unknown tags are seen before they are gone.
Plain scalars are resolved as kubectl does (YAML 1.1, without its sexagesimal numbers and dates). Each document of a text is
read by itself: one that is broken hides no other, and only one is held in memory.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from deploy.semantics.reading.json_documents import json_documents
from deploy.semantics.reading.values import Series, Table, UnreadableError

__all__ = ["Series", "Table", "UnreadableError", "documents"]

Each = Callable[[Any, int], Any]

MAX_DEPTH = 64
MAX_EXPANSION = 100_000
"""How many values aliases may add to one document; kubectl's own limit is of that order."""

_TAG = "tag:yaml.org,2002:"
_NULLS = {"", "~", "null", "Null", "NULL"}
_TRUE = {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}
_FALSE = {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}
_NUMERIC = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9_]+|[0-9][0-9_]*\.?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)")
_MARKER = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_JSON = re.compile(r"(---)?\s*[{\[]")


def documents(
    text: str, *, unreadable: list[UnreadableError] | None = None, each: Each | None = None
) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) of each document that is not empty; mappings are `Table`, sequences of YAML `Series`.

    `each` is given every item of a document's own `items` with its line, and what it returns stands in its place: so that
    a long list need not be held whole; it may be called for a part of the items only.

    Raises UnreadableError, or notes it in `unreadable` and reads the next document.
    """
    plain = _Plain()
    for first, part in _parts(text):
        if part.strip() in ("", "---"):
            continue
        try:
            yield from _documents(part, first, plain, each)
        except UnreadableError as error:
            if unreadable is None:
                raise
            unreadable.append(error)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number of lines before it, text) of each document; a marker at the start of a line always ends one."""
    if text.startswith("%") or "\n%" in text or "\r" in text.replace("\r\n", "") or _own_line_ends(text):
        # Directives belong to the document after them; other line ends would spoil the count of lines.
        yield 0, text
        return
    start, before = 0, 0
    for marker in _MARKER.finditer(text):
        if marker.start() > start:
            part = text[start : marker.start()]
            yield before, part
            before += part.count("\n")
        start = marker.start()
    yield before, text[start:]


def _own_line_ends(text: str) -> bool:
    """Tell whether a text holds line ends that only YAML knows."""
    return not text.isascii() and any(end in text for end in "\x85\u2028\u2029")


def _documents(text: str, before: int, plain: "_Plain", each: Each | None) -> Iterator[tuple[int, Any]]:
    if opening := _JSON.match(text):
        found = json_documents(" " * 3 + text[3:] if opening[1] else text, before, MAX_DEPTH)
        if found is not None:
            yield from found
            return
    try:
        yield from _Reader(yaml.CSafeLoader(text), before + 1, plain, each).documents()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise UnreadableError(line + before, f"not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise UnreadableError(before + 1, f"not YAML: {str(error).splitlines()[0]}") from error


class _Plain(dict[str, Any]):
    """What plain scalars stand for; equal ones are looked at and held once."""

    def __missing__(self, text: str) -> Any:
        value = _resolved(text)
        if len(self) < 100_000:
            self[text] = value
        return value


class _Reader:
    """Builds the values of documents from parser events.

    `count` is the number of values of the document so far, aliases included: what an alias adds is the difference that its
    anchor made.
    """

    __slots__ = ("anchors", "count", "each", "expanded", "get", "offset", "open", "plain")

    def __init__(self, parser: Any, offset: int, plain: _Plain, each: Each | None) -> None:
        self.get = parser.get_event
        self.offset = offset
        self.plain = plain
        self.each = each

    def documents(self) -> Iterator[tuple[int, Any]]:
        """Yield (line, value) of each document that is not empty."""
        while (event := self.get()) is not None:
            if type(event) is yaml.DocumentStartEvent:
                self.anchors: dict[str, tuple[Any, int]] = {}
                self.open: set[str] = set()
                self.count = self.expanded = 0
                first = self.get()
                value = self.value(first, 0)
                if value is not None:
                    yield first.start_mark.line + self.offset, value

    def value(self, event: Any, depth: int, each: Each | None = None) -> Any:
        """Return the value that starts with an event."""
        line = event.start_mark.line + self.offset
        if depth > MAX_DEPTH:
            raise UnreadableError(line, f"nested deeper than {MAX_DEPTH} levels")
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self.alias(event.anchor, line)
        if event.anchor is None:
            return self.built(event, kind, line, depth, each)
        self.open.add(event.anchor)
        before = self.count
        value = self.built(event, kind, line, depth, None)
        self.open.discard(event.anchor)
        self.anchors[event.anchor] = (value, self.count - before)
        return value

    def alias(self, anchor: str, line: int) -> Any:
        """Return what an alias stands for."""
        if anchor in self.open:
            raise UnreadableError(line, f"alias *{anchor} contains itself")
        if anchor not in self.anchors:
            raise UnreadableError(line, f"alias *{anchor} names no anchor")
        value, size = self.anchors[anchor]
        self.count += size
        self.expanded += size
        if self.expanded > MAX_EXPANSION:
            raise UnreadableError(line, f"aliases expand to more than {MAX_EXPANSION} values")
        return value

    def built(self, event: Any, kind: type, line: int, depth: int, each: Each | None) -> Any:
        """Return a new value; an alias cannot be one."""
        self.count += 1
        if kind is yaml.ScalarEvent:
            return self.scalar(event, line)
        if kind is yaml.SequenceStartEvent:
            _plain_tag(event, "seq", line)
            return self.series(line, depth + 1, each)
        _plain_tag(event, "map", line)
        return self.table(line, depth + 1)

    def scalar(self, event: Any, line: int) -> Any:
        """Return what a scalar stands for."""
        if event.tag is not None and event.tag != "!":
            return _tagged(event.tag, event.value, line)
        return self.plain[event.value] if event.implicit[0] else event.value

    def series(self, line: int, depth: int, each: Each | None) -> Series:
        """Return a sequence whose items stand at this depth."""
        found = Series()
        lines: list[int] = []
        get = self.get
        while type(event := get()) is not yaml.SequenceEndEvent:
            here = event.start_mark.line + self.offset
            item = self.value(event, depth)
            found.append(item if each is None else each(item, here))
            lines.append(here)
        found.line, found.lines = line, lines
        return found

    def table(self, line: int, depth: int) -> Table:
        """Return a mapping whose values stand at this depth."""
        found = Table()
        lines: list[int] = []
        merged: list[Table] = []
        get, plain, offset = self.get, self.plain, self.offset
        while type(event := get()) is not yaml.MappingEndEvent:
            here = event.start_mark.line + offset
            key: str | None = None
            if type(event) is yaml.ScalarEvent and event.tag is None and event.anchor is None:
                key = plain[event.value] if event.implicit[0] else event.value
            if type(key) is not str or (key == "<<" and event.implicit[0]):
                key = self.key(event, here, depth)
            item = get()
            if type(item) is yaml.ScalarEvent and item.tag is None and item.anchor is None:
                self.count += 2
                value = plain[item.value] if item.implicit[0] else item.value
            else:
                self.count += 1
                value = self.value(item, depth, self.each if depth == 1 and key == "items" else None)
            if key is None:
                merged += _merged(value, here)
            elif key in found:
                raise UnreadableError(here, f"duplicate key {key!r}")
            else:
                found[key] = value
                lines.append(here)
        found.line, found.book, found.at = line, lines, 0
        _merge(found, lines, merged)
        return found

    def key(self, event: Any, line: int, depth: int) -> str | None:
        """Return a key that is no quoted text, None for `<<`."""
        if type(event) is yaml.ScalarEvent and event.implicit[0] and event.value == "<<":
            return None
        key = self.value(event, depth)
        if isinstance(key, int | float) and not isinstance(key, bool):
            key = event.value
        if not isinstance(key, str):
            raise UnreadableError(line, "a key that is no text (quote it)")
        return key


def _plain_tag(event: Any, kind: str, line: int) -> None:
    if event.tag not in (None, "!", _TAG + kind):
        raise UnreadableError(line, f"unknown tag {event.tag}")


def _merged(value: Any, line: int) -> list[Table]:
    parts = value if isinstance(value, Series) else [value]
    if not all(isinstance(part, Table) for part in parts):
        raise UnreadableError(line, "`<<` merges something that is no mapping")
    return list(parts)


def _merge(found: Table, lines: list[int], merged: list[Table]) -> None:
    for other in merged:
        for key, value in other.items():
            if key not in found:
                found[key] = value
                lines.append(other.line_of(key))


def _resolved(text: str) -> Any:
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text[0] not in _NUMERIC:
        return text
    try:
        if _INTEGER.fullmatch(text):
            return _integer(text)
        if _FLOAT.fullmatch(text):
            return float(text.replace("_", "").lower().replace(".inf", "inf"))
    except ValueError:  # Underscores alone are no digits.
        return text
    return text


def _integer(text: str) -> Any:
    digits = text.replace("_", "")
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    if len(digits) > 32:
        return float(digits) * sign
    for prefix, base in (("0b", 2), ("0x", 16), ("0o", 8)):
        if digits.startswith(prefix):
            return sign * int(digits[2:], base)
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
