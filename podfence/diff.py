"""`podfence diff`."""

import click

from podfence import options


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@options.cluster
@options.by
@options.profile
@options.existing
@options.staged
@options.output("markdown")
def diff(
    old: str,
    new: str,
    inventory: str | None,
    recording: str | None,
    by: str,
    profile: str,
    *,
    existing: bool,
    staged: str,
    form: str,
) -> int:
    """Show which connections a new set of policies allows and denies that the old one does not, not which lines changed.

    OLD and NEW are files, folders, or `-` for one of them. Exit code 1 when anything is newly allowed, newly denied or no longer certain, as
    diff(1) does. What only some pods of a workload may counts as allowed; --by pod tells them apart.

    \b
    Example:
      git show HEAD:policies.yaml | podfence diff - policies.yaml --inventory inventory.yaml
    """
    import deploy
    from deploy.reports.pairs import pairs
    from podfence.output import command, data, next_step, plural, progress, put, say, tables

    if (old, new) == ("-", "-"):
        raise click.UsageError("only one of OLD and NEW can be `-`", click.get_current_context())
    population = options.population(inventory, recording)
    with progress() as line:
        line.show("judging every pair …")
        found = deploy.diff(old, new, population, profile=profile, by=by, existing=existing, staged=staged)
    changes = (
        ("NEWLY DENIED", pairs(found.denied)),
        ("NEWLY ALLOWED", pairs(found.allowed)),
        ("NO LONGER CERTAIN", pairs(found.undetermined)),
    )
    if form == "table":
        tables(
            *(
                ((title, "DESTINATION", "CONNECTIONS"), ((row.source, row.destination, row.allowed) for row in rows))
                for title, rows in changes
            )
        )
    elif form == "markdown":
        from deploy.reports import markdown

        put(markdown.difference(found).removesuffix("\n"))
    else:
        data(found.json(), form)
    denied, allowed, unclear = (plural(len(rows), "pair") for _, rows in changes)
    engines = f"judged as {found.profile} ({', '.join(found.engines)})"
    differ = bool(found.allowed or found.denied or found.undetermined)
    said = f"newly denied between {denied} of ends, newly allowed between {allowed}" if differ else "nothing changes"
    if found.undetermined:
        said += f", no longer certain between {unclear}"
    say(f"{said}; {engines}")
    before, after = ("OLD", "NEW") if "-" in (old, new) else (old, new)
    same = options.words(policies=(after,), against=(before,), profile=profile, staged=staged)
    next_step(command("podfence", "replay", recording or "RECORDING", *same))
    return int(differ)
