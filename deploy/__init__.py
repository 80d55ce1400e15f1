"""Judges policies against recorded traffic, proposes them, and takes them from audit to enforcement."""

from deploy.connectivity import Connectivity, Difference, connectivity, diff
from deploy.evaluate import Evaluation, evaluate
from deploy.explain import explain_rule
from deploy.findings import Replay
from deploy.propose import Proposal, propose
from deploy.replay import replay

__all__ = [
    "Connectivity",
    "Difference",
    "Evaluation",
    "Proposal",
    "Replay",
    "connectivity",
    "diff",
    "evaluate",
    "explain_rule",
    "propose",
    "replay",
]
