"""Policies as verbs are given them: files, folders, `-`, or sets already read; and the engines to judge them under."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import STRICT, Profile, chosen
from deploy.semantics.reading import manifests

Path_ = str | os.PathLike[str]
PolicySource = Path_ | Iterable[Path_] | PolicySet


def read_policies(source: PolicySource) -> PolicySet:
    """Return the policies; raises InputError with all broken rules."""
    if isinstance(source, PolicySet):
        return source
    return manifests.read([source] if isinstance(source, str | Path) else list(source))  # type: ignore[arg-type]


def engines_for(profile: str, sets: Sequence[PolicySet]) -> tuple[Profile, ...]:
    """Return the engines that a profile's name stands for, given the policies to be judged.

    `strict` asks those that enforce all of them; an engine that would skip one of them cannot, and is left out while another
    is there. Raises InputError for an unknown name or an engine that does not enforce a dialect.
    """
    dialects = frozenset().union(*(one.dialects() for one in sets))
    found = chosen(profile, dialects)
    if STRICT not in profile.split(","):
        return found
    used = frozenset().union(*(one.features() for one in sets))
    return tuple(one for one in found if not one.skips & used) or found
