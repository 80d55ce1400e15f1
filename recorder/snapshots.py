"""The cluster's objects as the recording's own tables, without any traffic: for verbs that ask about an inventory."""

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from recorder.identity import World
from recorder.records import SCHEMAS, to_table


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Identities and inventory in memory; other tables are empty."""

    identities: pa.Table
    inventory: pa.Table

    def read(self, table: str) -> pa.Table:
        """Return a table with the contract's schema."""
        found = {"identities": self.identities, "inventory": self.inventory}.get(table)
        return SCHEMAS[table].empty_table() if found is None else found


def snapshot(path: str | os.PathLike[str], *, cluster: str = "default") -> Snapshot:
    """Return what an event log, or a list as kubectl prints it, says of a cluster.

    Raises InventoryError when it cannot be read.
    """
    world = World.read(Path(path))
    return Snapshot(to_table("identities", world.identities(cluster)), to_table("inventory", world.inventory(cluster)))
