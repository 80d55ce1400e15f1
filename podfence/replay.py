"""`podfence replay`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from deploy import Replay
    from deploy.replay import Finding


@click.command()
@click.argument("recording", metavar="RECORDING")
@click.option("--policies", multiple=True, required=True, metavar="PATH", help="File, folder or `-`; may be repeated.")
@click.option(
    "--learned", metavar="DIR", help="What `learn` wrote: denied edges that it rejected or queued are no finding."
)
@click.option(
    "--profile", default="strict", show_default=True, metavar="NAME", help="Engine whose behaviour is judged."
)
@click.option("--existing", is_flag=True, help="Together with the policies that the recording holds.")
@click.option(
    "--fail-on",
    type=click.Choice(["denied", "undetermined", "never"]),
    default="denied",
    show_default=True,
    help="What makes the exit code 1.",
)
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="How the result is printed.",
)
def replay(
    recording: str,
    policies: tuple[str, ...],
    learned: str | None,
    profile: str,
    *,
    existing: bool,
    fail_on: str,
    form: str,
) -> int:
    """Show what a set of policies would have blocked of the recorded traffic.

    Each recorded half is judged by its own: the client's egress and the server's ingress, with the labels of then and with
    those of now. Policies may be anybody's. Exit code 1 when something needed would have been denied.

    \b
    Example:
      podfence replay recording --policies policies --learned learned
    """
    import deploy
    from podfence.output import command, data, next_step, progress, say

    with progress() as line:
        line.show("replaying …")
        verdict = deploy.replay(
            recording, policies, profile=profile, existing=existing, learned=learned, fail_on=fail_on
        )
    if form == "table":
        show(verdict)
    else:
        data(verdict.json(), form)
    say(sentence(verdict))
    if not verdict.failed and len(policies) == 1 and Path(policies[0]).is_dir():
        next_step(command("podfence", "propose", "--policies", policies[0], "--repo", "PATH"))
    return int(verdict.failed)


def sentence(verdict: "Replay") -> str:
    """Return the verdict in one line."""
    edges, connections = verdict.edges, verdict.connections
    return (
        f"{verdict.policies} policies over {sum(edges.values())} edges: {edges['allowed']} allowed "
        f"({connections['allowed']:,} connections), {edges['denied']} denied, {edges['expected']} denied as expected, "
        f"{edges['undetermined']} undetermined"
    )


def show(verdict: "Replay") -> None:
    """Print the verdict as tables."""
    from podfence.output import put, table

    for title, findings in (
        ("DENIED", verdict.denied),
        ("UNDETERMINED", verdict.undetermined),
        ("EXPECTED", verdict.expected),
    ):
        if findings:
            table(
                (title, "DESTINATION", "PORT", "HALF", "BY", "CONNECTIONS", "DECISION", "REASONS"),
                _rows(findings),
            )
            put()
    if verdict.isolated:
        table(
            ("ISOLATED WITHOUT EVIDENCE", "DIRECTIONS"),
            ((one.workload, ",".join(one.directions)) for one in verdict.isolated),
        )
        put()


def _rows(findings: "Iterable[Finding]") -> list[tuple[object, ...]]:
    return [
        (
            finding.source,
            finding.destination,
            f"{finding.icmp or ('' if finding.port is None else finding.port)}/{finding.protocol}",
            finding.half,
            finding.by or "-",
            finding.connections,
            finding.decision or "-",
            ",".join(finding.reasons) or finding.reason,
        )
        for finding in findings
    ]
