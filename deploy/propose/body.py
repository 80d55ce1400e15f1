"""The text of a pull request: verdict, what changes, replay, evidence, risks, way back; fitted to the forge's limit."""

import json
from collections.abc import Mapping
from typing import Any

from deploy.findings import Replay
from deploy.propose.changes import Changes
from deploy.propose.markdown import code, table
from deploy.reports.markdown import cut, fitted, replay_lines, verdict
from learner.patterns import STABLE


def write_body(found: Changes, files: Mapping[str, bytes], replay: Replay | None, *, limit: int) -> str:
    """Return Markdown of at most `limit` characters; what had to be left out is said where it is missing."""
    evidence = _evidence(files)

    def write(most: int) -> list[str]:
        sections = [
            _verdict(found, replay),
            _changes(found, most),
            [] if replay is None else replay_lines(replay, most),
            _accepted(evidence, most),
            _left_out(evidence, most),
            _risks(evidence, replay, most),
            _way_back(),
        ]
        return ["\n\n".join("\n".join(lines) for lines in sections if lines)]

    return fitted(write, limit)


def _evidence(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the evidence beside the policies; nothing when there is none or it cannot be read."""
    try:
        found = json.loads(files.get(".podfence/evidence.json", b"{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _verdict(found: Changes, replay: Replay | None) -> list[str]:
    counts = ", ".join(f"{len(found.of(what))} {what}" for what in ("added", "changed", "removed"))
    lines = [f"Policy files: {counts}."]
    if replay is None:
        return ["**Not replayed.** No recording was given, so nothing is known about what this blocks.", "", *lines]
    return [verdict(replay), "", *lines]


def _changes(found: Changes, most: int) -> list[str]:
    if not found.files:
        return []
    rows, note = cut(found.files, most)
    cells = (
        (
            change.what,
            code(change.file),
            ", ".join(code(name) for name in change.objects[:5]) + ("" if len(change.objects) <= 5 else ", …"),
            f"+{change.rules_added} −{change.rules_removed}",  # noqa: RUF001 - a minus sign, as people write it
        )
        for change in rows
    )
    return ["## What changes", "", *table(("", "File", "Objects", "Rules"), cells), *note]


def _patterns(evidence: Mapping[str, Any], decision: str) -> list[dict[str, Any]]:
    held = evidence.get("patterns")
    found = held.get(decision) if isinstance(held, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _entries(evidence: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = evidence.get(name)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _pattern(entry: Mapping[str, Any]) -> tuple[str, ...]:
    port = f"{entry.get('protocol', '')}/{entry['port']}" if entry.get("port") else entry.get("protocol", "")
    names = _texts(entry.get("dns_names"))
    return (
        code(entry.get("source", "")),
        code(entry.get("destination", "")) + (f" ({', '.join(code(name) for name in names[:3])})" if names else ""),
        code(port),
        _number(entry.get("answered")),
        _number(entry.get("windows_seen")),
        code(", ".join(_texts(entry.get("reasons")))),
    )


_PATTERN_HEADS = ("Source", "Destination", "Port", "Answered", "Windows", "Reasons")


def _accepted(evidence: Mapping[str, Any], most: int) -> list[str]:
    patterns = _patterns(evidence, "accept")
    if not patterns:
        return []
    lines = ["## Evidence", "", "What was accepted, and what was recorded of it, by the workload that initiates."]
    shown = 0
    sources: dict[str, list[dict[str, Any]]] = {}
    for entry in patterns:
        sources.setdefault(str(entry.get("source", "")), []).append(entry)
    for source, entries in sorted(sources.items()):
        room = max(0, most - shown)
        if not room:
            break
        rows = entries[:room]
        shown += len(rows)
        lines += ["", f"### {code(source)}", "", *table(_PATTERN_HEADS, (_pattern(entry) for entry in rows))]
    if shown < len(patterns):
        lines += ["", f"… {len(patterns) - shown} more rows left out here to keep the text short."]
    return lines


def _left_out(evidence: Mapping[str, Any], most: int) -> list[str]:
    lines: list[str] = []
    for decision, title in (("queue", "Queued: not allowed until somebody decides"), ("reject", "Rejected")):
        patterns = _patterns(evidence, decision)
        if patterns:
            rows, note = cut(patterns, most)
            lines += ["", f"### {title}", "", *table(_PATTERN_HEADS, (_pattern(entry) for entry in rows)), *note]
    return ["## What is not allowed though it was seen", *lines] if lines else []


def _risks(evidence: Mapping[str, Any], replay: Replay | None, most: int) -> list[str]:
    lines = [
        "## Risks",
        "",
        "- A replay speaks of what was recorded. Traffic that happens rarely (month end, failover, restore) may be missing.",
        "- Established connections usually live on; what breaks shows when they are opened anew.",
    ]
    blocked = [code(entry.get("name", "")) for entry in _entries(evidence, "skipped") if entry.get("blocked") is True]
    wide = [
        f"{code(entry.get('workload', ''))} {entry.get('direction', '')} {code(entry.get('peer', ''))}"
        for entry in _entries(evidence, "over_permission")
        if entry.get("direction") in ("ingress", "egress")
    ]
    silent = [code(one.workload) for one in replay.isolated] if replay is not None else []
    young = [
        code(entry.get("workload"))
        for entry in _entries(evidence, "workloads")
        if entry.get("state") not in (None, STABLE)
    ]
    for title, names in (
        ("**Would be blocked though accepted**", blocked),
        ("Allowed beyond what was seen", wide),
        ("Isolated without a single recorded connection", silent),
        ("Not yet converged", young),
    ):
        rows, _ = cut(names, min(most, 20))
        more = f" and {len(names) - len(rows)} more" if len(names) > len(rows) else ""
        if names:
            lines.append(f"- {title}: {', '.join(rows)}{more}.")
    return lines


def _way_back() -> list[str]:
    return [
        "## Way back",
        "",
        "Revert this commit and apply what it removed; delete a default-deny before the policies that allow.",
        "`kubectl delete -f` on the files added here takes the isolation away at once.",
    ]


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _number(value: Any) -> str:
    return str(value) if isinstance(value, int) else ""
