"""Output folders that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recorder.errors import OutputError


@contextmanager
def appearing(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty scratch folder that becomes `out` when the block ends without an error.

    Raises OutputError when `out` exists and is not an empty folder, or cannot be written; nothing is left behind then.
    """
    place = Path(out).resolve()
    try:
        require_free(out)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as scratch:
            whole = Path(scratch) / "whole"
            whole.mkdir()
            yield whole
            whole.rename(place)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error


def require_free(out: str | os.PathLike[str]) -> None:
    """Raise OutputError when `out` exists and is not an empty folder; call it before long work."""
    place = Path(out)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise OutputError(f"{out}: exists and is not an empty folder; nothing was written")
