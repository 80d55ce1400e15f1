"""What a proposal changes: files, and inside them objects and rules."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.semantics.reading.documents import UnreadableError, documents


@dataclass(frozen=True, slots=True)
class Change:
    """One file that is `added`, `changed` or `removed`, with the objects in it and how many rules come and go."""

    file: str
    what: str
    objects: tuple[str, ...]
    rules_added: int
    rules_removed: int


@dataclass(frozen=True, slots=True)
class Changes:
    """All files of policies that differ, by path; evidence and kustomization left out, for they follow from these."""

    files: tuple[Change, ...]

    def of(self, what: str) -> tuple[Change, ...]:
        """Return the files that are added, changed or removed."""
        return tuple(change for change in self.files if change.what == what)

    @property
    def subject(self) -> str:
        """Return one line for the commit and the title."""
        counts = [f"{len(self.of(what))} {what}" for what in ("added", "changed", "removed") if self.of(what)]
        return f"Network policies: {', '.join(counts)}" if counts else "Network policies: evidence brought up to date"


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> Changes:
    """Return what differs between two folders, given as texts by path."""
    found = []
    for file in sorted(before.keys() | after.keys()):
        if before.get(file) == after.get(file) or not _holds_policies(file):
            continue
        what = "added" if file not in before else "removed" if file not in after else "changed"
        (old_names, old), (new_names, new) = _rules(before.get(file, "")), _rules(after.get(file, ""))
        found.append(Change(file, what, new_names or old_names, (new - old).total(), (old - new).total()))
    return Changes(tuple(found))


def _holds_policies(file: str) -> bool:
    name = file.rpartition("/")[2]
    return (
        not file.startswith(".podfence/") and name.endswith((".yaml", ".yml", ".json")) and "kustomization" not in name
    )


def _rules(text: str) -> tuple[tuple[str, ...], Counter[str]]:
    """Return the objects in a text and their rules, each as canonical JSON; nothing of what cannot be read."""
    names: list[str] = []
    rules: Counter[str] = Counter()
    try:
        for _, value in documents(text):
            if isinstance(value, dict):
                metadata: Any = value.get("metadata") if isinstance(value.get("metadata"), dict) else {}
                name = "/".join(str(metadata[key]) for key in ("namespace", "name") if metadata.get(key))
                names.append(f"{value.get('kind')} {name}")
                spec: Any = value.get("spec") if isinstance(value.get("spec"), dict) else {}
                for direction in ("ingress", "egress"):
                    listed = spec.get(direction)
                    for rule in listed if isinstance(listed, list) else ():
                        rules[json.dumps([name, direction, rule], sort_keys=True, default=str)] += 1
    except UnreadableError:
        pass
    return tuple(names), rules
