"""Turns recordings into patterns, label pair by label pair, each with its evidence and a decision."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learner.evidence import Thresholds
    from learner.learn import learn, summary

__all__ = ["Thresholds", "learn", "summary"]
