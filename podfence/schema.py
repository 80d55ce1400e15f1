"""`podfence schema`."""

import click


@click.command()
@click.argument("verb", type=click.Choice(["connectivity", "diff", "evaluate", "explain", "replay"]))
def schema(verb: str) -> None:
    """Print the JSON Schema (2020-12) of what a verb prints with `-o json`.

    `schema_version` in the output is that of the schema; it changes only when a program that reads the output has to. Fields
    may be added without.

    \b
    Example:
      podfence schema replay > replay.schema.json
    """
    from importlib.resources import files

    from podfence.output import put

    put(files("deploy").joinpath("schemas", f"{verb}.json").read_text(encoding="utf-8").removesuffix("\n"))
