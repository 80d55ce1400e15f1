"""`podfence learn`."""

from typing import Any, cast

import click


class _Learn(click.Command):
    """A command with one option per threshold; they are read from the gate only when somebody asks."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options, thresholds included."""
        from dataclasses import fields

        import learner

        thresholds: list[click.Parameter] = [
            click.Option(
                [f"--{field.name.replace('_', '-')}"],
                type=type(field.default),
                default=field.default,
                show_default=True,
                help=f"Threshold: {field.metadata['help']}.",
            )
            for field in fields(learner.Thresholds)
        ]
        return [*super().get_params(ctx)[:-1], *thresholds, *super().get_params(ctx)[-1:]]


@click.command(cls=_Learn)
@click.argument("recording", metavar="RECORDING")
@click.option(
    "--out", required=True, metavar="DIR", help="Folder for patterns.parquet and subjects.json; new or empty."
)
@click.option(
    "--decisions", metavar="FILE", type=click.Path(), help="What people decided (decisions.yaml); kept in Git."
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
def learn(
    recording: str,
    out: str,
    decisions: str | None,
    form: str,
    **thresholds: float,
) -> None:
    """Learn patterns from a recording: who needs whom, with evidence, a decision and its reasons.

    Only answered connections count. What is well borne out is accepted; the rest is queued for a person or rejected, with
    reason codes. A person's word goes into decisions.yaml:

    \b
      - {source: shop/deployment/web, destination: shop/deployment/cart, protocol: tcp, port: 7070,
         decision: accept, by: maria, note: "only at checkout"}

    \b
    Example:
      podfence learn recording --out learned --decisions decisions.yaml
    """
    import learner
    from learner.patterns import port_text
    from podfence.output import command, data, next_step, plural, progress, say, table
    from recorder.folders import require_free

    require_free(out)
    with progress() as line:
        line.show("learning …")
        learned = learner.learn(
            recording, decisions=decisions, thresholds=learner.Thresholds(**cast("dict[str, Any]", thresholds))
        )
    learned.write(out)
    summary = learner.summary(learned)
    if form == "table":
        table(
            ("SOURCE", "DESTINATION", "PORT", "DECISION", "CONNECTIONS", "REASONS"),
            (
                (
                    pattern.source,
                    pattern.destination,
                    f"{port_text(pattern)}/{pattern.protocol}",
                    pattern.decision,
                    pattern.answered,
                    ",".join(pattern.reasons),
                )
                for pattern in learned.patterns
            ),
        )
    else:
        data(summary, form)
    counts = summary["patterns"]
    say(
        f"{counts['accept']} accepted, {counts['queue']} queued, {counts['reject']} rejected of "
        f"{plural(len(learned.patterns), 'pattern')}; {plural(len(learned.subjects), 'workload')}"
    )
    next_step(command("podfence", "generate", out, "--out", "policies"))
