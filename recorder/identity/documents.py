"""Reads YAML and JSON that somebody else wrote: plain data or a one-line error, whatever the file tries.

PyYAML's constructors turn unquoted times into datetimes, keep the last of two equal keys and let aliases multiply, so
documents are built here from libyaml's events, with the scalars of the YAML 1.2 core schema (what kubectl prints reads the
same under both versions).
"""

import json
import math
import re
from typing import Any

import msgspec
import yaml

from recorder.errors import InventoryError

MAX_DEPTH = 100
MAX_REPEATED = 1_000_000
"""Values that aliases may repeat in one file; Kubernetes' own API server stops such documents as well (CVE-2019-11253)."""

_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_PREFIXED = re.compile(r"0x[0-9a-fA-F]{1,15}|0o[0-7]{1,20}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,30}|(?:0|[1-9][0-9]{0,18})(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,3})?")
_STRING_TAG = "tag:yaml.org,2002:str"
_MERGE = "<<"


def documents(text: bytes, name: str) -> list[Any]:
    """Return the documents of a YAML or JSON text, empty ones left out; JSON values may follow one another.

    Raises InventoryError, with `name` and where possible the line, when the text is neither.
    """
    text = text.removeprefix(b"\xef\xbb\xbf")
    if text.lstrip()[:1] in (b"{", b"["):
        try:
            return _json(text)
        except (ValueError, RecursionError) as error:
            try:
                return _Builder(name).read(text)  # YAML's flow style looks like JSON
            except InventoryError:
                raise InventoryError(f"{name}: not JSON: {_one_line(error)}") from error
    return _Builder(name).read(text)


def _json(text: bytes) -> list[Any]:
    try:
        return [msgspec.json.decode(text)]
    except msgspec.DecodeError:
        decoder, found, at = json.JSONDecoder(), [], 0
        characters = text.decode()
        while at < len(characters.rstrip()):
            value, at = decoder.raw_decode(characters, at + _spaces(characters, at))
            found.append(value)
        return found


def _spaces(text: str, at: int) -> int:
    match = re.compile(r"\s*").match(text, at)
    return match.end() - at if match else 0


class _Builder:
    """Builds plain values from libyaml's events; `name` is the file, for messages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.repeated = 0

    def read(self, text: bytes) -> list[Any]:
        loader = None
        try:
            loader = yaml.CSafeLoader(text)
            return self._documents(loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f" line {mark.line + 1}:" if mark else ""
            raise InventoryError(f"{self.name}:{line} not YAML: {_one_line(error.problem or error)}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InventoryError(f"{self.name}: not YAML: {_one_line(error)}") from error
        finally:
            if loader is not None:
                loader.dispose()

    def _documents(self, loader: yaml.CSafeLoader) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := loader.get_event(), yaml.StreamEndEvent | None):
            if isinstance(event, yaml.DocumentStartEvent):
                value = self._document(loader)
                if value is not None:
                    found.append(value)
        return found

    def _document(self, loader: yaml.CSafeLoader) -> Any:
        """Return the value of one document, its start event having been taken."""
        anchors: dict[str, tuple[Any, int]] = {}
        stack: list[_Open] = []
        root: Any = None
        count = 0
        while True:
            event: Any = loader.get_event()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                key = bool(stack) and stack[-1].wants_key
                value: Any = event.value if key else self._scalar(event)
                count += 1
                if event.anchor:
                    anchors[event.anchor] = (value, 1)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                if len(stack) >= MAX_DEPTH:
                    raise self._error(event, f"nested more than {MAX_DEPTH} levels deep")
                if stack and stack[-1].wants_key:
                    raise self._error(event, "a key that is no text")
                stack.append(_Open({} if kind is yaml.MappingStartEvent else [], event.anchor, count))
                continue
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                done = stack.pop()
                value = done.value
                count += 1
                if done.anchor:
                    anchors[done.anchor] = (value, count - done.count)
            elif kind is yaml.AliasEvent:
                if event.anchor not in anchors:
                    raise self._error(event, f"alias {_clip(event.anchor)!r} to nothing before it")
                value, size = anchors[event.anchor]
                count += size
                self.repeated += size
                if self.repeated > MAX_REPEATED:
                    raise self._error(event, "aliases repeat too much")
            else:  # the document's end
                return root
            if stack:
                self._place(event, stack[-1], value)
            else:
                root = value

    def _place(self, event: Any, parent: "_Open", value: Any) -> None:
        target = parent.value
        if isinstance(target, list):
            target.append(value)
        elif parent.wants_key:
            if not isinstance(value, str):
                raise self._error(event, "a key that is no text")
            if value in parent.keys:
                raise self._error(event, f"key {_clip(value)!r} twice in one mapping")
            parent.keys.add(value)
            parent.key = value
            parent.merges = value == _MERGE and isinstance(event, yaml.ScalarEvent) and event.implicit[0]
            parent.wants_key = False
        else:
            parent.wants_key = True
            if parent.merges:
                self._merge(event, target, value)
            else:
                target[parent.key] = value

    def _merge(self, event: Any, target: dict[str, Any], value: Any) -> None:
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, dict):
                raise self._error(event, "a merge key (<<) without a mapping")
            for key, inherited in part.items():
                target.setdefault(key, inherited)

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.tag not in (None, "!", _STRING_TAG):
            raise self._error(event, f"tag {_clip(event.tag)!r} is not supported")
        if not event.implicit[0] or event.tag is not None:
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] in "+-.0123456789":
            if _INTEGER.fullmatch(text):
                return int(text)
            if _PREFIXED.fullmatch(text):
                return int(text, 0)
            if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
                return number
        return text

    def _error(self, event: Any, problem: str) -> InventoryError:
        return InventoryError(f"{self.name}: line {event.start_mark.line + 1}: {problem}")


class _Open:
    """A mapping or sequence whose end has not come yet."""

    __slots__ = ("anchor", "count", "key", "keys", "merges", "value", "wants_key")

    def __init__(self, value: dict[str, Any] | list[Any], anchor: str | None, count: int) -> None:
        self.value = value
        self.anchor = anchor
        self.count = count
        self.keys: set[str] = set()
        self.key = ""
        self.merges = False
        self.wants_key = isinstance(value, dict)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200]


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"
