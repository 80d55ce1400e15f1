"""Captures pod flows and says who each endpoint was at that moment; the result is a recording."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recorder.agent import record
    from recorder.imports import import_pcap
    from recorder.snapshots import Snapshot, snapshot

__all__ = ["Snapshot", "import_pcap", "record", "snapshot"]


def __getattr__(name: str) -> Any:
    """Import a verb when it is asked for, so that readers of a recording do not load the capture code."""
    if name == "record":
        from recorder.agent import record  # noqa: PLC0415

        return record
    if name == "import_pcap":
        from recorder.imports import import_pcap  # noqa: PLC0415

        return import_pcap
    if name in ("Snapshot", "snapshot"):
        from recorder import snapshots  # noqa: PLC0415

        return getattr(snapshots, name)
    raise AttributeError(name)
