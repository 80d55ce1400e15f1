"""Writes a replay as SARIF 2.1.0, which code scanning shows beside the policies (docs.oasis-open.org/sarif/sarif/v2.1.0)."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.findings import Finding, Isolated, Replay, Unjudged
from deploy.reports.wording import message
from deploy.semantics.policyset import PolicySet

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_RULES = {
    "denied": (
        "error",
        "Recorded traffic would be denied",
        "Connections that were recorded, and that nothing marks as unwanted, would be denied by these policies.",
    ),
    "undetermined": (
        "warning",
        "What becomes of recorded traffic cannot be told",
        "Engines differ, their sources do not settle the case, or the recording does not hold what a rule asks for.",
    ),
    "isolated-without-evidence": (
        "warning",
        "A workload is isolated though nothing of it was recorded",
        "Policies isolate a living workload of which the recording holds nothing: whatever it needs is denied unseen.",
    ),
    "borrowed": (
        "note",
        "Recorded traffic passes only because of another policy",
        "These policies alone would deny it; it passes because of one that is already in the cluster.",
    ),
    "unjudged": (
        "note",
        "A part of a policy does not count in the verdicts",
        "An engine skips the object as a whole, or the rule holds more than addresses, labels and ports.",
    ),
}
"""Level, short and full description of each rule, in the order of the rules."""
_NUMBERS = {name: number for number, name in enumerate(_RULES)}

Place = tuple[str, int] | None


def sarif(found: Replay, policies: PolicySet | None = None) -> str:
    """Return the log; `policies`, those given, tell where the objects stand that isolate or are not judged."""
    places = {policy.title: (policy.file, policy.line) for policy in (policies.policies if policies else ())}
    seen: Counter[str] = Counter()
    results = []
    for rule, said, place, key in _results(found, places):
        digest = hashlib.sha256("\n".join((rule, *key)).encode()).hexdigest()[:16]
        seen[digest] += 1
        results.append(_result(rule, said, place, f"{digest}:{seen[digest]}", key))
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "podfence",
                        "version": version("podfence"),
                        "rules": [_rule(*entry) for entry in _RULES.items()],
                    }
                },
                "automationDetails": {"id": f"podfence/replay/{found.profile}/"},
                "results": results,
                "properties": {
                    "profile": found.profile,
                    "engines": list(found.engines),
                    "edges": dict(found.edges),
                    "connections": dict(found.connections),
                },
            }
        ],
    }
    return json.dumps(log, indent=2, ensure_ascii=False)


def _rule(name: str, told: tuple[str, str, str]) -> dict[str, Any]:
    level, short, full = told
    return {
        "id": name,
        "shortDescription": {"text": short},
        "fullDescription": {"text": full},
        "help": {"text": f"{full} `podfence explain` shows every rule that was asked."},
        "defaultConfiguration": {"level": level},
    }


def _results(found: Replay, places: dict[str, tuple[str, int]]) -> Iterator[tuple[str, str, Place, tuple[str, ...]]]:
    """Yield (rule, message, place, what makes it the same result in the next run)."""
    for rule, findings in (("denied", found.denied), ("undetermined", found.undetermined)):
        for one in findings:
            yield rule, message(one, rule), _place(one), _key(one)
    for silent in found.isolated:
        yield "isolated-without-evidence", _silence(silent), _first(silent.by, places), (silent.workload,)
    for one in found.borrowed:
        said = f"{message(one, 'allowed')}; the policies given would deny it alone"
        yield "borrowed", said, _place(one), _key(one)
    for part in found.unjudged:
        yield "unjudged", _skipped(part), places.get(part.object), (part.object, part.what)


def _silence(one: Isolated) -> str:
    directions = " and ".join(one.directions)
    return f"{one.workload}: {directions} isolated by {', '.join(one.by)}; nothing of it was recorded"


def _skipped(one: Unjudged) -> str:
    return f"{one.object}{f' {one.rule}' if one.rule else ''}: {one.what}"


def _place(one: Finding) -> Place:
    return None if one.file is None else (one.file, one.line or 0)


def _first(titles: tuple[str, ...], places: dict[str, tuple[str, int]]) -> Place:
    return next((places[title] for title in titles if title in places), None)


def _key(one: Finding) -> tuple[str, ...]:
    """Return what a finding is about, its object first; neither counts, times nor the place of a rule in its list."""
    by = one.by or ""
    object_ = by.rpartition(" ")[0] if by.endswith("]") else by
    return (
        *(object_, one.source, one.destination, one.protocol, str(one.port), str(one.icmp), one.half),
        *(one.labels, one.reason),
    )


def _result(rule: str, said: str, place: Place, fingerprint: str, key: tuple[str, ...]) -> dict[str, Any]:
    return {
        "ruleId": rule,
        "ruleIndex": _NUMBERS[rule],
        "level": _RULES[rule][0],
        "message": {"text": said},
        "locations": [_location(place, next(filter(None, key)))],
        # GitHub compares the first name and no other.
        "partialFingerprints": {"primaryLocationLineHash": fingerprint, "podfence/v1": fingerprint},
    }


def _location(place: Place, name: str) -> dict[str, Any]:
    """Return where a policy stands; what stands in no file, or in standard input, has a name alone."""
    found: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": name, "kind": "resource"}]}
    if place is None or place[0].startswith("<"):
        return found
    physical: dict[str, Any] = {"artifactLocation": _artifact(place[0])}
    if place[1]:
        physical["region"] = {"startLine": place[1]}
    return {"physicalLocation": physical} | found


def _artifact(file: str) -> dict[str, str]:
    """Return a file below the root of the sources, or by its absolute address where it is not."""
    path = Path(file)
    if path.is_absolute() or ".." in path.parts:
        return {"uri": path.resolve().as_uri()}
    return {"uri": quote(path.as_posix()), "uriBaseId": "%SRCROOT%"}
