"""The seam to the places where pull requests live; `none` leaves the branch in the repository."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from recorder.errors import InputError


class Forge(Protocol):
    """A place that takes a branch and a text and makes a pull request of them, or brings it up to date."""

    name: str
    body_limit: int
    """How many characters the description of a pull request may have."""

    def publish(self, repo: Path, branch: str, base: str | None, title: str, body: str) -> str | None:
        """Push the branch and open or update its pull request; return its address, None where there is none."""
        ...


class NoForge:
    """Leaves the branch where it is, for the user to push."""

    name = "none"
    body_limit = 65_536

    def publish(self, repo: Path, branch: str, base: str | None, title: str, body: str) -> str | None:  # noqa: ARG002
        """Do nothing."""
        return None


FORGES: Mapping[str, type[Forge]] = {"none": NoForge}


def forge_named(name: str) -> Forge:
    """Return the adapter of that name; raises InputError for an unknown one."""
    if name not in FORGES:
        raise InputError(f"--forge {name!r} is not known; there are {', '.join(FORGES)}")
    return FORGES[name]()
