"""Writes results as Markdown for a comment on a pull request, fitted to what a forge takes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from deploy.connectivity import Connectivity, Difference
from deploy.evaluate import Evaluation, Half
from deploy.explain import Explanation, Ground
from deploy.findings import Change, Finding, Isolated, Replay, Unjudged
from deploy.propose.markdown import code, table
from deploy.reports.pairs import Pair, pairs
from deploy.reports.wording import half_nearest, learned, merged, near, place, port, reason

LIMIT = 65_536
"""Characters that a comment may have; GitHub's limit is the lowest of the forges."""

_STEPS = (10_000, 1000, 300, 100, 30, 10, 3, 0)
"""Rows a table may have, from most to least, until the text fits."""

_OUTCOMES = ("allowed", "denied", "expected", "undetermined")


def fitted(write: Callable[[int], Iterable[str]], limit: int = LIMIT) -> str:
    """Return the lines that `write` gives when told how many rows a table may have, in at most `limit` characters."""
    text = ""
    for most in _STEPS:
        text = "\n".join(write(most)) + "\n"
        if len(text) <= limit:
            return text
    ending = "\n\n(cut off: the text is longer than the forge takes)\n"
    return text[: limit - len(ending)] + ending


def cut(rows: Sequence[Any], most: int) -> tuple[Sequence[Any], list[str]]:
    """Return the rows that fit and, when some do not, a line that says so."""
    if len(rows) <= most:
        return rows, []
    return rows[:most], ["", f"… {len(rows) - most} more rows left out here to keep the text short."]


def replay(found: Replay, limit: int = LIMIT) -> str:
    """Return a replay: the verdict in bold, counts, and a table for each kind of finding."""
    return fitted(lambda most: [verdict(found), "", *replay_lines(found, most)], limit)


def verdict(found: Replay) -> str:
    """Return the verdict on a replay in a sentence or two."""
    edges, connections = found.edges, found.connections
    total = sum(edges.values())
    if found.denied:
        said = (
            f"**Would block {edges['denied']} of {total} recorded edges** ({connections['denied']} answered connections) "
            "that nothing marks as unwanted."
        )
    elif found.undetermined:
        said = f"**Blocks nothing known to be needed**; {edges['undetermined']} of {total} recorded edges cannot be judged."
    else:
        said = f"**Blocks nothing known to be needed**: {edges['allowed']} of {total} recorded edges are allowed."
    if edges["expected"]:
        said += f" Blocked as expected (rejected, queued or never answered): {edges['expected']}."
    return said


def replay_lines(found: Replay, most: int) -> list[str]:
    """Return counts and findings of a replay, with at most so many rows in a table."""
    lines = [
        "## Replay of recorded traffic",
        "",
        (
            f"Judged as {code(found.profile)} ({', '.join(found.engines)}) with {found.policies} policies, under the labels of "
            "then and of now."
        ),
        "",
        *table(
            ("", *_OUTCOMES),
            (
                ("edges", *(str(found.edges[outcome]) for outcome in _OUTCOMES)),
                ("answered connections", *(str(found.connections[outcome]) for outcome in _OUTCOMES)),
            ),
        ),
    ]
    # Nobody wants a rule for what is meant to be denied, so none is near.
    expected = [replace(one, nearest=None, misses=None) for one in found.expected]
    sections: tuple[tuple[str, Sequence[str], Callable[[Any], tuple[str, ...]], Sequence[Any]], ...] = (
        ("Would be denied", _FINDING, _finding, merged(found.denied)),
        ("Cannot be judged", _FINDING, _finding, merged(found.undetermined)),
        ("Passes only because of another policy", _FINDING, _finding, merged(found.borrowed)),
        ("Fares differently than before", _CHANGE, _change, found.changes or ()),
        ("Denied as expected", _FINDING, _finding, merged(expected)),
        ("Isolated without evidence", ("Workload", "Directions", "By"), _silent, found.isolated),
        ("Not judged", ("Object", "What"), _skipped, found.unjudged),
    )
    for title, heads, told, rows in sections:
        lines += _section(title, heads, map(told, rows[:most]), rows, most)
    return lines


def _silent(one: Isolated) -> tuple[str, ...]:
    return code(one.workload), ", ".join(one.directions), ", ".join(map(code, one.by))


def _skipped(one: Unjudged) -> tuple[str, ...]:
    return code(f"{one.object} {one.rule}" if one.rule else one.object), code(one.what)


def _section(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], of: Sequence[Any], most: int
) -> list[str]:
    """Return a table under its title and the line that says how much is missing; nothing where there is nothing."""
    return ["", f"### {title}", "", *table(heads, rows), *cut(of, most)[1]] if of else []


_FINDING = ("Source", "Destination", "Port", "Half", "By", "Nearest rule", "Labels", "Why", "Learned", "Answered")


def _finding(one: Finding) -> tuple[str, ...]:
    return (
        code(one.source),
        code(one.destination),
        code(port(one)),
        one.half,
        code(one.by) if one.by else "",
        code(near(one)) if one.nearest else "",
        one.labels,
        code(reason(one.reason, one.engines)),
        code(learned(one)) if learned(one) else "",
        f"{one.connections} of {one.attempts}",
    )


_CHANGE = ("Source", "Destination", "Port", "Half", "Before", "After", "Answered")


def _change(one: Change) -> tuple[str, ...]:
    before, after = (
        f"{outcome} ({code(by)})" if by else outcome
        for outcome, by in ((one.before, one.before_by), (one.after, one.after_by))
    )
    return (
        *(code(one.source), code(one.destination), code(port(one)), one.half, before, after),
        f"{one.connections} of {one.attempts}",
    )


def connectivity(found: Connectivity, limit: int = LIMIT) -> str:
    """Return what policies allow, a row for each two ends."""
    rows = pairs(found.connections, found.undetermined)
    heads = ("Source", "Destination", "Allowed", *(("Undetermined",) if found.undetermined else ()))
    return fitted(
        lambda most: [
            "## What the policies allow",
            "",
            f"Judged as {code(found.profile)} ({', '.join(found.engines)}).",
            "",
            *table(heads, (_pair(row)[: len(heads)] for row in cut(rows, most)[0])),
            *cut(rows, most)[1],
        ],
        limit,
    )


def _pair(row: Pair) -> tuple[str, ...]:
    return code(row.source), code(row.destination), row.allowed, row.undetermined


def difference(found: Difference, limit: int = LIMIT) -> str:
    """Return what is newly allowed and newly denied."""

    def write(most: int) -> list[str]:
        lines = ["## What the policies change", "", f"Judged as {code(found.profile)} ({', '.join(found.engines)})."]
        if not (found.allowed or found.denied or found.undetermined):
            return [*lines, "", "The same connections are allowed as before."]
        sections = (
            ("Newly denied", found.denied),
            ("Newly allowed", found.allowed),
            ("No longer certain", found.undetermined),
        )
        for title, changed in sections:
            rows = pairs(changed)
            heads = ("Source", "Destination", "Connections")
            lines += _section(title, heads, (_pair(row)[:3] for row in rows[:most]), rows, most)
        return lines

    return fitted(write, limit)


def evaluation(found: Evaluation, limit: int = LIMIT) -> str:
    """Return the verdict on one connection with every rule that was asked."""

    def write(most: int) -> list[str]:
        lines = [
            (
                f"**{found.outcome.capitalize()}**: {code(found.source)} → {code(found.destination)} {code(found.port)}, judged as "
                f"{code(found.profile)} ({', '.join(found.engines)})."
            )
        ]
        for pair in found.pairs:
            lines += ["", f"### {code(pair.source)} → {code(pair.destination)}: {pair.outcome}"]
            for half in pair.halves:
                lines += ["", *_half(half, most)]
        return lines

    return fitted(write, limit)


def _half(half: Half, most: int) -> list[str]:
    said = half.verdict
    by = f" by {code(said.by)}" if said.by else ""
    lines = [f"{half.direction.capitalize()} is **{said.outcome}**{by}: {reason(said.reason, said.engines)}."]
    if half.nearest is not None:
        lines.append(f"Nearest rule: {code(half_nearest(half))}.")
    if half.trail:
        rows, note = cut(half.trail, most)
        cells = (
            (
                code(f"{step.policy} {step.where}" if step.where else step.policy),
                *((step.action, step.peer, step.traffic) if step.where else ("isolates", "", "")),
                code(place(step.file, step.line)),
            )
            for step in rows
        )
        lines += ["", *table(("Rule", "Action", "Peer", "Port", "Written at"), cells), *note]
    return lines


def explanation(found: Explanation, limit: int = LIMIT) -> str:
    """Return what rules rest on."""

    def write(most: int) -> list[str]:
        lines = [f"## What the rules of {code(found.workload)} rest on"]
        for rule in found.rules:
            where = f" ({code(place(rule.file, rule.line))})" if rule.line else ""
            lines += ["", f"### {code(rule.where)}: {code(rule.peer)}{where}", ""]
            rows, note = cut(rule.grounds, most)
            lines += [*table(_GROUND, (_ground(one) for one in rows)), *note]
            lines += ["", f"More than was seen: {rule.over_permission}."] if rule.over_permission else []
        rows = found.left_out[:most]
        heads = ("Source", "Destination", *_GROUND)
        cells = ((code(one.source), code(one.destination), *_ground(one)) for one in rows)
        return [*lines, *_section("Seen, and not allowed", heads, cells, found.left_out, most)]

    return fitted(write, limit)


_GROUND = ("Port", "Decision", "Answered", "Windows", "Days", "Reasons")


def _ground(one: Ground) -> tuple[str, ...]:
    return (
        code(one.port),
        one.decision,
        f"{one.answered} of {one.attempts}",
        f"{one.windows_seen} of {one.windows_exposed}",
        str(one.days),
        code(", ".join([*one.reasons, *([one.obstacle] if one.obstacle else [])])),
    )
