"""`podfence connectivity`."""

import click

from podfence import options


@click.command()
@options.policies
@options.cluster
@options.by
@options.profile
@options.existing
@options.staged
@options.output("markdown")
def connectivity(
    policies: tuple[str, ...],
    inventory: str | None,
    recording: str | None,
    by: str,
    profile: str,
    *,
    existing: bool,
    staged: str,
    form: str,
) -> None:
    """List every connection that policies allow between workloads, and with addresses outside.

    What an engine lets pass whatever the policies say (kubelet probes, some ICMP) is not listed. `some pods`: only some of the
    pods of a workload may. The table has a row for each two ends; JSON has an entry for each protocol.

    \b
    Example:
      podfence connectivity --policies policies --inventory inventory.yaml
    """
    import deploy
    from deploy.reports.pairs import pairs
    from podfence.output import command, data, next_step, plural, progress, put, say, tables

    population = options.population(inventory, recording)
    with progress() as line:
        line.show("judging every pair …")
        found = deploy.connectivity(policies, population, profile=profile, by=by, existing=existing, staged=staged)
    rows = pairs(found.connections, found.undetermined)
    if form == "table":
        tables(
            (
                ("SOURCE", "DESTINATION", "ALLOWED", "UNDETERMINED"),
                ((row.source, row.destination, row.allowed, row.undetermined) for row in rows),
            )
        )
    elif form == "markdown":
        from deploy.reports import markdown

        put(markdown.connectivity(found).removesuffix("\n"))
    else:
        data(found.json(), form)
    open_ = sum(bool(row.undetermined) for row in rows)
    doubt = f"; of {plural(open_, 'pair')} something cannot be told" if open_ else ""
    say(
        f"{plural(sum(bool(row.allowed) for row in rows), 'pair')} of ends may connect{doubt}; judged as {found.profile} "
        f"({', '.join(found.engines)})"
    )
    same = options.words(
        policies=policies,
        inventory=inventory,
        recording=recording,
        profile=profile,
        existing=existing,
        staged=staged,
    )
    next_step(command("podfence", "evaluate", *same, "--from", "NAME", "--to", "NAME", "--port", "PORT"))
