"""`podfence propose`."""

import click


@click.command()
@click.option("--policies", required=True, metavar="DIR", help="Folder that `generate` wrote.")
@click.option(
    "--repo",
    required=True,
    metavar="PATH",
    help="Git repository that holds the policies; your checkout is not touched.",
)
@click.option("--path", default="policies", show_default=True, metavar="FOLDER", help="Folder inside the repository.")
@click.option(
    "--forge",
    type=click.Choice(["none"]),
    default="none",
    show_default=True,
    help="Where to open the pull request; `none` leaves a branch.",
)
@click.option("--base", metavar="REF", help="What the branch starts from.  [default: HEAD]")
@click.option(
    "--branch", metavar="NAME", help="Name of the branch.  [default: one for this cluster or path, always the same]"
)
@click.option(
    "--body-file", metavar="FILE", type=click.Path(), help="Where to write the pull request's text.  [default: stdout]"
)
@click.option(
    "--recording", metavar="URI", help="Recording to replay, so that the text says what would have been blocked."
)
@click.option("--learned", metavar="DIR", help="What `learn` wrote, for that replay.")
@click.option("--profile", default="strict", show_default=True, metavar="NAME", help="Engine profile of that replay.")
def propose(
    policies: str,
    repo: str,
    path: str,
    forge: str,
    base: str | None,
    branch: str | None,
    body_file: str | None,
    recording: str | None,
    learned: str | None,
    profile: str,
) -> None:
    """Put policies on a branch, as one commit, with the text of a pull request.

    The branch is always the same for one scope. Nothing changed means nothing written; a branch that somebody else
    committed to is never forced.

    \b
    Example:
      podfence propose --policies policies --repo . --recording recording --learned learned --body-file pr.md
    """
    import deploy
    from podfence.output import command, next_step, put, say

    verdict = deploy.replay(recording, [policies], profile=profile, learned=learned) if recording else None
    found = deploy.propose(
        policies, repo, forge=forge, path=path, base=base, branch=branch, body_file=body_file, replay=verdict
    )
    if body_file is None:
        put(found.body.removesuffix("\n"))
    if found.operation == "none":
        say(f"{found.branch}: nothing has changed; nothing was written")
        return
    say(f"{found.operation} {found.branch} at {(found.commit or '')[:12]}: {found.changes.subject}")
    next_step(command("git", "-C", repo, "diff", f"{found.base}..{found.branch}" if found.base else found.branch))
