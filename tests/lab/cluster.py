"""What the API server would hold: the objects as they are now, and a log of every change to them."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import yaml

from .truth import timestamp

Object = dict[str, Any]

BOOKMARK_SECONDS = 10.0


class Cluster:
    """The current objects; each change is appended to the log, if there is one, as one line and flushed."""

    def __init__(self, log: Path | None = None) -> None:
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._version = 1000
        self._log: TextIO | None = log.open("w", encoding="utf-8") if log else None

    def put(self, item: Object) -> Object:
        """Create an object or say that it has changed."""
        key = _key(item)
        kind = "MODIFIED" if key in self._objects else "ADDED"
        self._objects[key] = item
        self._stamp(item)
        self._write(kind, item)
        return item

    def remove(self, item: Object) -> None:
        """Delete an object."""
        del self._objects[_key(item)]
        self._stamp(item)
        self._write("DELETED", item)

    def bookmark(self) -> None:
        """Say that nothing was missed up to now."""
        metadata = {"resourceVersion": str(self._version), "creationTimestamp": None}
        self._write("BOOKMARK", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata})

    async def keep_bookmarking(self) -> None:
        """Write a bookmark every ten seconds until cancelled."""
        while True:
            await asyncio.sleep(BOOKMARK_SECONDS)
            self.bookmark()

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Look up one object; namespace is empty for those without."""
        return self._objects.get((kind, namespace, name))

    def objects(self, kind: str | None = None) -> Iterator[Object]:
        """Go through the objects of a kind, or all, by kind, namespace and name."""
        for key in sorted(self._objects):
            if kind in {None, key[0]}:
                yield self._objects[key]

    def workload(self, item: Object) -> str:
        """Name the top controller of an object as namespace/kind/name in lower case; its own name when it has none."""
        namespace = item["metadata"].get("namespace", "")
        while owner := controller(item):
            found = self.get(owner["kind"], namespace, owner["name"])
            if found is None or found["metadata"]["uid"] != owner["uid"]:
                return f"{namespace}/{owner['kind']}/{owner['name']}".lower()
            item = found
        return f"{namespace}/{item['kind']}/{item['metadata']['name']}".lower()

    def write_inventory(self, path: Path) -> None:
        """Write all objects as one List, as `kubectl get -o yaml` prints it."""
        document = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}}
        # The dumper would write a shared part as an alias, which kubectl never does.
        items = json.loads(json.dumps(list(self.objects())))
        path.write_text(yaml.safe_dump({**document, "items": items}), encoding="utf-8")

    def close(self) -> None:
        """Close the log."""
        if self._log:
            self._log.close()
            self._log = None

    def _stamp(self, item: Object) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)

    def _write(self, kind: str, item: Object) -> None:
        if self._log:
            self._log.write(json.dumps({"time": timestamp(time.time()), "type": kind, "object": item}) + "\n")
            self._log.flush()


def controller(item: Object) -> Object | None:
    """Give the reference to the controller of an object, if it has one."""
    references: list[Object] = item["metadata"].get("ownerReferences", [])
    return next((reference for reference in references if reference.get("controller")), None)


def _key(item: Object) -> tuple[str, str, str]:
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]
