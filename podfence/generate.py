"""`podfence generate`."""

import click


@click.command()
@click.argument("learned", metavar="LEARNED")
@click.option("--out", required=True, metavar="DIR", help="Folder for the policies; new or empty.")
@click.option(
    "--target",
    type=click.Choice(["kubernetes", "calico"]),
    default="kubernetes",
    show_default=True,
    help="Dialect of the YAML.",
)
@click.option("--default-deny", is_flag=True, help="Add an object per namespace that isolates every pod in it.")
@click.option(
    "--direction",
    type=click.Choice(["ingress", "egress", "both"]),
    default="both",
    show_default=True,
    help="What to isolate; objects keep their names, so a rollout may begin with ingress.",
)
@click.option(
    "-n",
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NS",
    help="Only workloads of this namespace; may be repeated.",
)
@click.option(
    "--include-namespace",
    "included",
    multiple=True,
    metavar="NS",
    help="Write policies for a protected namespace, such as kube-system, too.",
)
def generate(
    learned: str,
    out: str,
    target: str,
    *,
    default_deny: bool,
    direction: str,
    namespaces: tuple[str, ...],
    included: tuple[str, ...],
) -> None:
    """Write the policies that allow the accepted patterns, and nothing else.

    One object per workload with all it may do, a kustomization.yaml, and .podfence/evidence.json, which leads from every
    rule back to recorded traffic. Namespaces of the cluster itself are left alone unless they are named.

    \b
    Example:
      podfence generate learned --out policies --target calico --default-deny
    """
    from pathlib import Path

    import generator
    from learner.patterns import Learned
    from podfence.output import command, next_step, plural, say, table
    from recorder.folders import require_free

    require_free(out)
    model = Learned.read(learned)
    found = generator.generate(
        model,
        target=target,
        default_deny=default_deny,
        direction=direction,
        namespaces=namespaces,
        include_namespaces=included,
    )
    generator.write(found, model, target, Path(out))
    table(
        ("WORKLOAD", "OBJECT", "INGRESS", "EGRESS"),
        (
            (policy.workload, f"{policy.namespace}/{policy.name}", len(policy.ingress), len(policy.egress))
            for policy in found.policies
        ),
    )
    for skipped in found.skipped:
        if skipped not in found.blocked:
            say(f"skipped: {skipped.name}: {skipped.reason}")
    for wide in found.prefixes:
        say(f"beyond what was seen: {wide.workload} {wide.direction} {wide.peer.cidr}: the whole prefix is allowed")
    say(
        f"{plural(len(found.policies), 'policy')} and {plural(len(found.default_deny), 'default-deny object')} in {out}"
    )
    if found.blocked:
        count = plural(len({skipped.pattern for skipped in found.blocked}), "accepted pattern")
        say(f"WOULD BE BLOCKED: {count}, which no rule can allow; add rules of your own before you enforce:")
        for skipped in found.blocked:
            say(f"  {skipped.name}: {skipped.reason}")
    next_step(command("podfence", "replay", "RECORDING", "--policies", out, "--learned", learned))
