"""`podfence import`."""

import click


@click.group("import")
def import_() -> None:
    """Turn other tools' captures and flow logs into a recording."""


@import_.command("pcap")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--inventory",
    required=True,
    metavar="PATH",
    help="The cluster's objects: an event log, or a list as `kubectl get -o yaml` prints it (taken after the capture).",
)
@click.option("--out", required=True, metavar="DIR", help="Recording to make or to add to.")
@click.option("--node", metavar="NAME", help="Node the (one) file was captured on.  [default: inferred]")
@click.option("--cluster", metavar="NAME", help="Name of the cluster.  [default: the recording's, else `default`]")
@click.option("--window", default="60s", show_default=True, metavar="TIME", help="Length of a window; divides an hour.")
@click.option(
    "--scope",
    type=click.Choice(["partial", "node"]),
    default="partial",
    show_default=True,
    help="`node`: you vouch that each file holds everything on its node; only then does silence count as evidence.",
)
@click.option("--inventory-time", metavar="RFC3339", help="When a list was taken.  [default: the newest time in it]")
def pcap(
    files: tuple[str, ...],
    inventory: str,
    out: str,
    node: str | None,
    cluster: str | None,
    window: str,
    scope: str,
    inventory_time: str | None,
) -> None:
    """Read capture files, one a node.

    Best made with `tcpdump -i any -w node-1.pcap` on each node: that form (LINUX_SLL2) keeps interface and direction, so
    that each connection's two halves and its backend are known. Other link types are read too, as reporter `unknown`.

    \b
    Example:
      podfence import pcap node-1.pcap node-2.pcap --inventory events.jsonl --out recording
    """
    import recorder
    from podfence.output import command, next_step, plural, progress, say
    from podfence.times import instant, seconds

    with progress() as line:
        found = recorder.import_pcap(
            files,
            inventory=inventory,
            out=out,
            node=node,
            cluster=cluster,
            window=seconds(window, "--window"),
            scope=scope,
            inventory_time=None if inventory_time is None else instant(inventory_time, "--inventory-time"),
            progress=lambda packets, file: line.show(f"{file}: {packets:,} packets"),
        )
    if not found.files:
        say(f"{out}: already holds all of this; nothing added")
    for name in found.without_interfaces:
        say(f"{name}: names no interfaces; its edges stand for both halves (`tcpdump -i any` would tell them apart)")
    say(
        f"imported {plural(found.packets, 'packet')} of {', '.join(found.nodes)}: {plural(found.edges, 'edge')} in "
        f"{plural(found.windows, 'window')}, {found.unresolved:,} answered connections unresolved, "
        f"{found.ambiguous:,} ambiguous"
    )
    next_step(command("podfence", "learn", out, "--out", "learned"))
