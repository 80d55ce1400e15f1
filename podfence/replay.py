"""`podfence replay`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING

import click

from podfence import options

if TYPE_CHECKING:
    from deploy import Replay
    from deploy.findings import Change, Finding
    from deploy.semantics.policyset import PolicySet


@click.command()
@click.argument("recording", metavar="RECORDING")
@options.policies
@click.option(
    "--learned", metavar="DIR", help="What `learn` wrote: denied edges that it rejected or queued are no finding."
)
@options.profile
@options.existing
@click.option(
    "--against",
    multiple=True,
    metavar="PATH",
    help="A second set of policies over the same traffic: shows what fares differently.",
)
@options.staged
@click.option(
    "--fail-on",
    type=click.Choice(["denied", "undetermined", "never"]),
    default="denied",
    show_default=True,
    help="What makes the exit code 1; `undetermined`: that, too.",
)
@options.output("sarif", "junit", "markdown")
def replay(
    recording: str,
    policies: tuple[str, ...],
    learned: str | None,
    profile: str,
    *,
    existing: bool,
    against: tuple[str, ...],
    staged: str,
    fail_on: str,
    form: str,
) -> int:
    """Show what a set of policies would have blocked of the recorded traffic.

    Each recorded half is judged by its own: the client's egress and the server's ingress, with the labels of then and with
    those of now. Policies may be anybody's. Exit code 1 when something needed would have been denied.

    With --existing, what passes only because of another policy is told apart, and changes are told against what is in the
    cluster. What tightening or deleting a policy would break: give the set as it would be as --policies, and the present one
    as --against.

    \b
    Examples:
      podfence replay recording --policies policies --learned learned
      podfence replay recording --policies new --against old --profile npm -o markdown
    """
    import deploy
    from deploy.policies import read_policies
    from podfence.output import command, next_step, progress, say
    from recorder.store import Recording

    opened, given = Recording.open(recording), read_policies(policies)
    with progress() as line:
        line.show("replaying …")
        verdict = deploy.replay(
            opened,
            given,
            profile=profile,
            existing=existing,
            against=against or None,
            learned=learned,
            staged=staged,
            fail_on=fail_on,
        )
    _print(verdict, given, form)
    say(sentence(verdict))
    for more in beside(verdict):
        say(more)
    if verdict.denied:
        same = options.words(policies=policies, recording=recording, profile=profile, existing=existing, staged=staged)
        next_step(command("podfence", "explain", *same, *options.words(**_ends(verdict.denied))))
    elif len(policies) == 1 and Path(policies[0]).is_dir():
        same = options.words(recording=recording, learned=learned, profile=profile)
        next_step(command("podfence", "propose", "--policies", policies[0], "--repo", "PATH", *same))
    else:
        same = options.words(policies=policies, recording=recording, profile=profile, existing=existing, staged=staged)
        next_step(command("podfence", "connectivity", *same))
    return int(verdict.failed)


def _ends(denied: "Sequence[Finding]") -> dict[str, str]:
    """Return the first connection that `explain` can be asked about: pods of jobs are gone by now, other names are no pods."""
    for one in denied:
        if not any(_UNASKABLE.match(name) for name in (one.source, one.destination)):
            port = f"{one.protocol}/{one.icmp.partition('/')[0]}" if one.icmp else f"{one.port}/{one.protocol}"
            return {"from": one.source, "to": one.destination, "port": port}
    return {"from": "NAME", "to": "NAME", "port": "PORT"}


_UNASKABLE = re.compile(r"(?:unresolved|ambiguous)/|apiserver$|[^/]+/(?:cronjob|job|service)/")


def _print(verdict: "Replay", given: "PolicySet", form: str) -> None:
    from podfence.output import data, put

    if form == "table":
        show(verdict)
    elif form == "sarif":
        from deploy.reports.sarif import sarif

        put(sarif(verdict, given))
    elif form == "junit":
        from deploy.reports.junit import junit

        put(junit(verdict))
    elif form == "markdown":
        from deploy.reports import markdown

        put(markdown.replay(verdict).removesuffix("\n"))
    else:
        data(verdict.json(), form)


def sentence(verdict: "Replay") -> str:
    """Return the verdict in one line."""
    from podfence.output import plural

    edges, connections = verdict.edges, verdict.connections
    return (
        f"{plural(verdict.policies, 'policy')} over {plural(sum(edges.values()), 'edge')}: {edges['allowed']:,} allowed "
        f"({plural(connections['allowed'], 'connection')}), {edges['denied']:,} denied, {edges['expected']:,} denied as "
        f"expected, {edges['undetermined']:,} undetermined"
    )


def beside(verdict: "Replay") -> Iterator[str]:
    """Yield what else is worth knowing, a line each."""
    from podfence.output import plural

    if count := len(verdict.borrowed):
        passes = "passes" if count == 1 else "pass"
        yield f"{plural(count, 'half')} would be denied by these policies alone, and {passes} because of others"
    if verdict.changes is not None:
        count = len(verdict.changes)
        yield f"{plural(count, 'half')} {'fares' if count == 1 else 'fare'} differently than before"
    if verdict.isolated:
        yield f"{plural(len(verdict.isolated), 'workload')} isolated without a single recorded connection"
    if verdict.unjudged:
        yield f"{plural(len(verdict.unjudged), 'part')} of policies not judged"


def show(verdict: "Replay") -> None:
    """Print the verdict as tables, what matters most first."""
    from podfence.output import tables

    # Nobody wants a rule for what is meant to be denied, so none is near.
    expected = [changed(one, nearest=None, misses=None) for one in verdict.expected]
    tables(
        (("DENIED", *_HEADS), _rows(verdict.denied)),
        (("UNDETERMINED", *_HEADS), _rows(verdict.undetermined)),
        (("BORROWED", *_HEADS), _rows(verdict.borrowed)),
        (
            ("CHANGES", "DESTINATION", "PORT", "HALF", "BEFORE", "BY", "AFTER", "BY", "ANSWERED"),
            map(_change, verdict.changes or ()),
        ),
        (("EXPECTED", *_HEADS), _rows(expected)),
        (
            ("ISOLATED WITHOUT EVIDENCE", "DIRECTIONS", "BY"),
            ((one.workload, ",".join(one.directions), ", ".join(one.by)) for one in verdict.isolated),
        ),
        (("NOT JUDGED", "RULE", "WHAT"), ((one.object, one.rule, one.what) for one in verdict.unjudged)),
    )


def _change(one: "Change") -> tuple[object, ...]:
    from deploy.reports.wording import port

    return (
        *(one.source, one.destination, port(one), one.half, one.before, one.before_by, one.after, one.after_by),
        f"{one.connections}/{one.attempts}",
    )


_HEADS = ("DESTINATION", "PORT", "HALF", "BY", "NEAREST RULE", "LABELS", "WHY", "ANSWERED", "LEARNED")
_PLAIN = ("rule", "isolation")
"""Reasons that the column BY says already: a rule, or an object that isolates."""


def _rows(findings: "Sequence[Finding]") -> list[tuple[object, ...]]:
    from deploy.reports.wording import learned, merged, near, port, reason

    return [
        (
            finding.source,
            finding.destination,
            port(finding),
            finding.half,
            finding.by,
            near(finding),
            None if finding.labels == "both" else finding.labels,
            None if finding.reason in _PLAIN else reason(finding.reason, finding.engines),
            f"{finding.connections}/{finding.attempts}",
            learned(finding),
        )
        for finding in merged(findings)
    ]
