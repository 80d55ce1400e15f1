"""`podfence record`."""

import click


@click.command()
@click.option(
    "--out",
    required=True,
    metavar="URI",
    help="Recording to make or to add to: a folder, or file://, s3://, gs://, abfs://.",
)
@click.option(
    "--identity",
    required=True,
    metavar="PATH",
    help="Who holds which address: an event log (followed while it grows), or a list as `kubectl get -o yaml` prints it.",
)
@click.option(
    "--node", metavar="NAME", help="This node's name in the cluster.  [default: $NODE_NAME, else the host name]"
)
@click.option("--cluster", metavar="NAME", help="Name of the cluster.  [default: the recording's, else `default`]")
@click.option(
    "--backend",
    type=click.Choice(["auto", "ring"]),
    default="auto",
    show_default=True,
    help="How packets are captured.",
)
@click.option("--window", default="60s", show_default=True, metavar="TIME", help="Length of a window; divides an hour.")
@click.option("--duration", metavar="TIME", help="Stop after this time (90s, 30m, 24h).  [default: until interrupted]")
def record(
    out: str, identity: str, node: str | None, cluster: str | None, backend: str, window: str, duration: str | None
) -> None:
    """Record the connections of this node's pods.

    Watches handshakes, UDP and DNS answers on all interfaces of the network namespace it runs in (a node's own), maps
    addresses to pods as of each packet, and writes one row per edge and window. Needs CAP_NET_RAW and nothing else; it
    cannot disturb traffic. Ctrl-C or SIGTERM ends it, and writes the window begun.

    \b
    Example, on a node:
      podfence record --out /var/lib/podfence --identity events.jsonl --node node-1 --duration 24h
    """
    import signal
    import threading

    import recorder
    from podfence.output import command, next_step, plural, progress, say
    from podfence.times import seconds

    length, limit = seconds(window, "--window"), None if duration is None else seconds(duration, "--duration")
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with progress() as line:
            status = recorder.record(
                out,
                identity=identity,
                node=node,
                cluster=cluster,
                backend=backend,
                window=length,
                duration=limit,
                stop=stop,
                ready=lambda name: say(f"recording {name} (backend ring); Ctrl-C ends it"),
                progress=lambda now: line.show(
                    f"recording {now.seconds:,.0f} s: {now.packets:,} packets, {now.dropped:,} dropped, "
                    f"{plural(now.windows, 'window')} written, {plural(now.edges, 'edge')}"
                ),
            )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    say(
        f"recorded {status.seconds:,.0f} s: {plural(status.edges, 'edge')} in {plural(status.windows, 'window')}, "
        f"{plural(status.packets, 'packet')}, {status.dropped:,} dropped, "
        f"{status.unresolved:,} answered connections unresolved, {status.ambiguous:,} ambiguous"
    )
    next_step(command("podfence", "learn", out, "--out", "learned"))
