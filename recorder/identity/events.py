"""A cluster's objects as they were seen: from an event log, or from a list such as kubectl prints.

The log is JSON Lines, `{"time": RFC 3339, "type": "ADDED|MODIFIED|DELETED|BOOKMARK", "object": {…}}`. A list is one moment;
unless told, that is the newest time in it, which the heartbeats of nodes bring near to when it was taken.
"""

import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from recorder.errors import InventoryError
from recorder.identity.documents import documents
from recorder.identity.objects import Time, describe, micros

Type = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]

_SNIFF = 1 << 16
_OWN_WORDS = frozenset({"annotations", "labels", "data", "stringData"})
_AHEAD = frozenset({"deletionTimestamp", "renewalTime", "nextScheduleTime", "expirationTimestamp"})


class Event(msgspec.Struct, frozen=True):
    """One object at one time; `time` is in µs since the epoch, `listed` marks an entry of a plain list."""

    time: int
    type: Type
    object: dict[str, Any]
    listed: bool = False
    where: str = "event"


class _Line(msgspec.Struct):
    time: Time
    type: Type
    object: dict[str, Any] | None = None


class _Head(msgspec.Struct):
    """A line as far as its order needs it; the object's syntax is still checked."""

    time: Time
    type: Type
    object: msgspec.Raw = msgspec.Raw()


class _Start(msgspec.Struct):
    """What tells an event from an object."""

    kind: msgspec.Raw = msgspec.Raw()
    type: msgspec.Raw = msgspec.Raw()
    object: msgspec.Raw = msgspec.Raw()


_LINE = msgspec.json.Decoder(_Line)
_HEAD = msgspec.json.Decoder(_Head)
_TIME = msgspec.json.Decoder(Time)


def is_log(path: str | os.PathLike[str]) -> bool:
    """Return whether the file at `path` is an event log rather than a list; raises InventoryError when unreadable.

    An empty file is a log that has not begun.
    """
    try:
        with Path(path).open("rb") as file:
            start = file.read(_SNIFF)
            name = os.fspath(path)
            if not start.strip():
                return True
            if name.endswith((".jsonl", ".ndjson")):
                return True
            first = start.lstrip()
            if b"\n" not in first and len(start) == _SNIFF:
                first += file.readline()
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        value = msgspec.json.decode(first.partition(b"\n")[0], type=_Start)
    except (ValueError, RecursionError):
        return False
    return not value.kind and bool(value.type or value.object)


def read_events(path: str | os.PathLike[str], time: int | None = None) -> Iterator[Event]:
    """Yield the events of a log or a list in order of time, ties in the file's order.

    `time` (µs) is when a list was taken. A last line without its end, which a writer was still busy with, is left out.
    Raises InventoryError: no such file, neither YAML nor JSON, a bad event, no Kubernetes objects, no time in a list
    that holds addresses.
    """
    if is_log(path):
        return _read_log(path)
    return _read_list(path, time)


class Follower:
    """Reads what is added to an event log; a file that was replaced or cut is read from its start."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not Path(path).is_file():
            raise InventoryError(f"{os.fspath(path)}: no such file")
        self.path = os.fspath(path)
        self._inode: int | None = None
        self._offset = 0
        self._line = 0

    def poll(self) -> list[Event]:
        """Return the events of lines completed since the last call, in order of time.

        Raises InventoryError for a line that is no event, once; lines before and after it are given by other calls.
        """
        try:
            with Path(self.path).open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset, self._line = status.st_ino, 0, 0
                file.seek(self._offset)
                added = file.read(status.st_size - self._offset)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        events = []
        for line in added[: added.rfind(b"\n") + 1].splitlines(keepends=True):
            try:
                if line.strip():
                    events.append(_event(line, self.path, self._line + 1))
            except InventoryError:
                if events:
                    break
                self._offset += len(line)
                self._line += 1
                raise
            self._offset += len(line)
            self._line += 1
        return sorted(events, key=lambda event: event.time)


def _read_log(path: str | os.PathLike[str]) -> Iterator[Event]:
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise InventoryError(f"{name}: empty: holds no Kubernetes objects")
            text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise _unreadable(path, error) from error
    with text:
        entries = []
        at = 0
        number = 0
        while line := text.readline():
            number += 1
            if line.strip():
                try:
                    head = _HEAD.decode(line)
                except (ValueError, RecursionError) as error:
                    if not line.endswith(b"\n"):
                        break
                    raise _bad_line(name, number, error) from error
                moment = micros(head.time)
                assert moment is not None  # noqa: S101 - the type has no None
                entries.append((moment, number, at))
            at = text.tell()
        if not entries:
            raise InventoryError(f"{name}: holds no Kubernetes objects")
        entries.sort()
        for _, number, at in entries:
            text.seek(at)
            yield _event(text.readline(), name, number)


def _event(line: bytes, name: str, number: int) -> Event:
    try:
        found = _LINE.decode(line)
    except (ValueError, RecursionError) as error:
        raise _bad_line(name, number, error) from error
    where = f"{name}: line {number}"
    value = found.object or {}
    if found.type != "BOOKMARK" and not _is_object(value):
        raise InventoryError(f"{where}: its object is no Kubernetes object: apiVersion, kind or metadata is missing")
    time = micros(found.time)
    assert time is not None  # noqa: S101 - the type has no None
    return Event(time, found.type, value, where=where)


def _read_list(path: str | os.PathLike[str], time: int | None) -> Iterator[Event]:
    name = os.fspath(path)
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    found = list(_objects(documents(text, name), name))
    del text
    if not found:
        raise InventoryError(f"{name}: holds no Kubernetes objects")
    if time is None:
        time = newest(value for value, _ in found)
    if time is None:
        if any(value["kind"] == "Pod" and value.get("status") for value, _ in found):
            raise InventoryError(f"{name}: no time in it; say when the list was taken")
        time = 0  # manifests: nothing in them was at any time
    for value, where in found:
        yield Event(time, "ADDED", value, listed=True, where=where)


def _objects(values: Iterable[Any], name: str) -> Iterator[tuple[dict[str, Any], str]]:
    number = 0
    for top in values:
        for value in top if isinstance(top, list) else [top]:
            for item in _items(value, f"{name}: entry {number + 1}"):
                number += 1
                where = f"{name}: entry {number}"
                if not _is_object(item):
                    raise InventoryError(
                        f"{where}: no Kubernetes object ({describe(item)}): apiVersion, kind or metadata is missing"
                    )
                yield item, where


def _items(value: Any, where: str) -> Iterator[Any]:
    """Yield the entries of a list object with the kind that only the list names, or the object itself."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or not kind.endswith("List") or "items" not in value or "spec" in value:
        yield value
        return
    items = value.get("items")
    if not isinstance(items, list | None):
        raise InventoryError(f"{where}: {kind} whose items are no list")
    for item in items or []:
        if isinstance(item, dict) and kind != "List":
            item.setdefault("kind", kind.removesuffix("List"))
            item.setdefault("apiVersion", value.get("apiVersion"))
        yield item


def _is_object(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("kind"), str)
        and isinstance(value.get("apiVersion"), str)
        and isinstance(value.get("metadata"), dict)
    )


def newest(objects: Iterable[dict[str, Any]]) -> int | None:
    """Return the newest time (µs) that the API wrote into objects; None when there is none.

    Times that lie ahead by their meaning (expiries, `deletionTimestamp`) and people's own words are no proof of one.
    """
    texts: set[str] = set()
    for value in objects:
        rest: list[Any] = [
            value if value.get("kind") == "Lease" else {key: part for key, part in value.items() if key != "spec"}
        ]
        while rest:
            part = rest.pop()
            if isinstance(part, list):
                rest.extend(entry for entry in part if isinstance(entry, dict | list))
                continue
            for key, entry in part.items():
                if isinstance(entry, str):
                    if (key.endswith(("Time", "Timestamp", "At")) or key == "time") and key not in _AHEAD:
                        texts.add(entry)
                elif isinstance(entry, dict | list) and key not in _OWN_WORDS and not key.startswith("f:"):
                    rest.append(entry)
    found = (_moment(text) for text in texts)
    return max((time for time in found if time is not None), default=None)


def _moment(text: str) -> int | None:
    try:
        return micros(_TIME.decode(msgspec.json.encode(text)))
    except msgspec.MsgspecError:
        return None


def _bad_line(name: str, number: int, error: Exception) -> InventoryError:
    return InventoryError(f"{name}: line {number}: no event: {' '.join(str(error).split())[:200]}")


def _unreadable(path: str | os.PathLike[str], error: OSError) -> InventoryError:
    reason = "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error))
    return InventoryError(f"{os.fspath(path)}: {reason}")
