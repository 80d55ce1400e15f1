"""Turns recordings into patterns, label pair by label pair, each with its evidence and a decision."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learner.evidence import Thresholds
    from learner.learned import learn, summary

__all__ = ["Thresholds", "learn", "summary"]


def __getattr__(name: str) -> Any:
    """Import a verb when it is asked for, so that readers of what was learned do not load DuckDB."""
    if name == "Thresholds":
        from learner.evidence import Thresholds  # noqa: PLC0415

        return Thresholds
    if name in __all__:
        from learner import learned  # noqa: PLC0415

        return getattr(learned, name)
    raise AttributeError(name)
