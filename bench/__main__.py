"""`python -m bench [NAME…]`: runs benchmarks and prints their figures with ratios; no time is asserted."""

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from bench.measure import Line, NotPossibleError

NAMES = ("pcap", "identity", "capture", "learn", "replay", "oracle")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks asked for, all of them by default; return 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}; none: all")
    parser.add_argument(
        "--large",
        action="store_true",
        help="identity with 150,000 pods instead of 20,000, learn with 5 million rows instead of one, oracle with ten times the cases",
    )
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: there are {', '.join(NAMES)}")
    failed = False
    for name in options.names or NAMES:
        module = importlib.import_module(f"bench.{name}")
        print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        start = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory(prefix="podfence-bench-") as folder:
                show(module.run(Path(folder), large=options.large))
        except NotPossibleError as error:
            print(f"  skipped: {error}")
        except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as error:
            failed = True
            print(f"  failed: {type(error).__name__}: {error}")
        print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)
    return int(failed)


def show(lines: Iterable[Line]) -> None:
    """Print lines as they come, in columns."""
    for line in lines:
        figure = f"{line.figure:,.0f}" if line.figure >= 100 else f"{line.figure:.3g}"
        wanted = f"wanted {line.wanted}" if line.wanted else ""
        print(f"  {line.what:<52}{figure:>10} {line.unit:<14}{line.ratio:<32}{wanted}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
