"""`podfence evaluate`."""

from typing import TYPE_CHECKING

import click

from podfence import options

if TYPE_CHECKING:
    from deploy import Evaluation
    from deploy.evaluate import Half


@click.command()
@options.policies
@options.cluster
@options.ends(required=True)
@options.profile
@options.existing
@options.staged
@options.output("markdown")
def evaluate(
    policies: tuple[str, ...],
    inventory: str | None,
    recording: str | None,
    source: str,
    destination: str,
    port: str,
    profile: str,
    *,
    existing: bool,
    staged: str,
    form: str,
) -> int:
    """Say what becomes of one connection, and which rule decides.

    Both halves are judged: the initiator's egress and the responder's ingress. Exit code 1 when it is denied or cannot be
    told, so that a script can ask.

    \b
    Example:
      podfence evaluate --policies policies --inventory inventory.yaml \\
        --from shop/deployment/web --to shop/statefulset/db --port 5432/tcp
    """
    import deploy
    from podfence.output import command, data, next_step, put, say

    found = deploy.evaluate(
        policies,
        options.population(inventory, recording),
        source=source,
        destination=destination,
        port=port,
        profile=profile,
        existing=existing,
        staged=staged,
    )
    if form == "table":
        show(found)
    elif form == "markdown":
        from deploy.reports import markdown

        put(markdown.evaluation(found).removesuffix("\n"))
    else:
        data(found.json(), form)
    say(sentence(found))
    same = options.words(
        policies=policies,
        inventory=inventory,
        recording=recording,
        profile=profile,
        existing=existing,
        staged=staged,
    )
    if found.outcome == "allowed":
        next_step(command("podfence", "connectivity", *same))
    else:
        ends = {"from": source, "to": destination, "port": port}
        next_step(command("podfence", "explain", *same, *options.words(**ends)))
    return int(found.outcome != "allowed")


def sentence(found: "Evaluation") -> str:
    """Return the verdict in one line."""
    return (
        f"{found.outcome}: {found.source} -> {found.destination} {found.port}, judged as {found.profile} "
        f"({', '.join(found.engines)})"
    )


def show(found: "Evaluation") -> None:
    """Print the halves of each pair of ends that fares alike."""
    from podfence.output import tables

    tables(
        (
            ("SOURCE", "DESTINATION", "PAIRS", "HALF", "OUTCOME", "BY", "PLACE", "NEAREST RULE", "WHY"),
            (
                (pair.source, pair.destination, pair.pairs, half.direction, half.verdict.outcome, *_half(half))
                for pair in found.pairs
                for half in pair.halves
            ),
        )
    )


def _half(half: "Half") -> tuple[str | None, ...]:
    from deploy.reports.wording import decided_at, half_nearest, reason

    return half.verdict.by, decided_at(half), half_nearest(half), reason(half.verdict.reason, half.verdict.engines)
