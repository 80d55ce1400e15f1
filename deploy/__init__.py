"""Judges policies against recorded traffic, proposes them, and takes them from audit to enforcement."""

from deploy.propose import Proposal, propose
from deploy.replay import Replay, replay

__all__ = ["Proposal", "Replay", "propose", "replay"]
