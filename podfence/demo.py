"""`podfence demo`."""

import click


@click.command()
@click.option(
    "--out", default="podfence-demo", show_default=True, metavar="DIR", help="Where everything is left to look at."
)
@click.option("--bundled", is_flag=True, help="Use the bundled capture even where the shop could run live.")
@click.option(
    "--seconds", type=click.IntRange(85, 130), default=90, show_default=True, help="How long the live shop runs."
)
def demo(out: str, *, bundled: bool, seconds: int) -> int:
    """Run the whole loop on a small shop: record, learn, generate, replay, propose.

    As root on Linux with iproute2 and nftables the shop runs live, as network namespaces with real connections, and is
    recorded while it runs; anywhere else its bundled capture is imported. Takes less than three minutes.
    """
    from podfence.shop import run_demo

    return run_demo(out, bundled=bundled, seconds=seconds)
