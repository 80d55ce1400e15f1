"""The policy dialects that can be written, behind one interface; each is a module of plain functions."""

from collections.abc import Sequence
from typing import Any, Protocol

from generator import calico, kubernetes
from generator.policy import Policy, Port
from recorder.errors import InputError


class Target(Protocol):
    """One dialect; its manifests are plain data in the order in which they are written."""

    def obstacle(self, port: Port) -> str | None:
        """Return why the dialect cannot allow this port, or None when it can."""

    def manifest(self, policy: Policy) -> dict[str, Any]:
        """Return the object that allows what a workload may do, and isolates it."""

    def default_deny(self, namespace: str, directions: Sequence[str]) -> dict[str, Any]:
        """Return the object that isolates every pod of a namespace."""


TARGETS: dict[str, Target] = {"calico": calico, "kubernetes": kubernetes}


def target_named(name: str) -> Target:
    """Return a dialect by its name; raises InputError for an unknown one."""
    if name not in TARGETS:
        raise InputError(f"unknown target {name!r}; known: {', '.join(sorted(TARGETS))}")
    return TARGETS[name]
