"""Who each address was at the moment of a packet: pods by interval, everything else as of that time."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.identity.events import Event, Follower, is_log, read_events
from recorder.identity.index import AMBIGUOUS, CARRY, KEPT, NONE, Holder, Identities
from recorder.identity.inventory import Inventory
from recorder.identity.places import Place, Places
from recorder.records import Identity, InventoryObject

__all__ = [
    "AMBIGUOUS",
    "CARRY",
    "KEPT",
    "NONE",
    "Event",
    "Follower",
    "Holder",
    "Identities",
    "Inventory",
    "Place",
    "Places",
    "World",
    "is_log",
    "read_events",
]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from walking all pods again and again; decoded objects have no cycles to collect."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


class World:
    """A cluster as it was seen, fed with events; names of methods are those of the parts that answer."""

    def __init__(self) -> None:
        self.pods = Identities()
        self.objects = Inventory()
        self.places = Places(self.objects, self.pods)
        self._follower: Follower | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str], time: int | None = None) -> "World":
        """Return the world in an event log or a list; `time` (µs) is when a list was taken.

        Raises InventoryError when it cannot be read.
        """
        world = cls()
        with _uncollected():
            for event in read_events(path, time):
                world.apply(event)
        return world

    @classmethod
    def follow(cls, path: str | os.PathLike[str]) -> "World":
        """Return the world in an event log so far, to be kept up by `poll`; a list is read once and stays as it is.

        Raises InventoryError when it cannot be read.
        """
        follower = Follower(path)
        if not is_log(path):
            return cls.read(path)
        world = cls()
        world._follower = follower
        with _uncollected():
            world.poll()
        return world

    def poll(self) -> int:
        """Take what was added to the log since; return how many events. Raises InventoryError for a bad line."""
        events = self._follower.poll() if self._follower is not None else []
        for event in events:
            self.apply(event)
        return len(events)

    def apply(self, event: Event) -> None:
        """Take one event, in any order of time; raises InventoryError when its object cannot be read."""
        self.pods.apply(event)
        self.objects.apply(event)

    def forget(self, before: int) -> None:
        """Drop what ended before `before` (µs); pods are kept for ten minutes at least."""
        self.pods.forget(before)
        self.objects.forget(min(before, self.pods.observed_until - KEPT))

    @property
    def observed_until(self) -> int:
        """Time (µs) of the last event of any kind."""
        return self.pods.observed_until

    def holders(self, ip: str, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Return who held an address at each time: a code, `NONE` or `AMBIGUOUS` (see `Identities.holders`)."""
        return self.pods.holders(ip, times)

    def versions(self, uid: str, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Return a pod's label version at each time, as codes (see `Identities.versions`)."""
        return self.pods.versions(uid, times)

    def is_pod_of(self, node: str, ip: str, times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return at which times the address was held by one pod, of that node."""
        codes = self.holders(ip, times)
        own = [code for code in np.unique(codes).tolist() if code >= 0 and self.pods.node(code) == node]
        return np.isin(codes, own)

    def pod(self, code: int) -> Holder:
        """Return the pod and label version behind a code; raises KeyError when it is none."""
        return self.pods.pod(code)

    def node(self, code: int) -> str | None:
        """Return the node of the pod behind a code; raises KeyError when it is none."""
        return self.pods.node(code)

    def pods_at(self, ip: str, node: str | None = None) -> list[tuple[str, int, int | None]]:
        """Return (uid, start, end) of all holds on an address, or of one node's, in order of their proof."""
        return self.pods.pods_at(ip, node)

    def proven(self, uid: str, ip: str, time: int) -> None:
        """Take a node's proof that the pod held the address at `time` (µs)."""
        self.pods.proven(uid, ip, time)

    def nodes(self) -> list[str]:
        """Return the names of all nodes ever seen, those that only pods name included, sorted."""
        return sorted({*self.places.nodes(), *self.pods.nodes()})

    def kind_of(self, ip: str, port: int | None, protocol: str | None, time: int) -> tuple[str, str | None]:
        """Return (kind, id) of an address that no pod held (see `Places.kind_of`, which also names the Service)."""
        place = self.places.kind_of(ip, port, protocol, time)
        return place.kind, place.id

    def service(self, ip: str, port: int | None, protocol: str | None, time: int) -> str | None:
        """Return the `namespace/name` of the Service dialled, None where it is none."""
        return self.places.service(ip, port, protocol, time)

    def backends(self, service: str, port: int | None, protocol: str, time: int) -> frozenset[tuple[str, int]]:
        """Return the (ip, port) behind a Service's port at a time."""
        return self.places.backends(service, port, protocol, time)

    def identities(self, cluster: str, node: str | None = None) -> list[Identity]:
        """Return the rows of the identities table, or one node's."""
        return self.pods.rows(cluster, node)

    def inventory(self, cluster: str) -> list[InventoryObject]:
        """Return the rows of the inventory table."""
        return self.objects.rows(cluster)

    def rows(self, cluster: str) -> dict[str, list[Any]]:
        """Return the rows of both tables by the table's name."""
        return {"identities": self.identities(cluster), "inventory": self.inventory(cluster)}
