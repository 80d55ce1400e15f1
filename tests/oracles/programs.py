"""Builds the Go programs in `go/`, once for each state of their sources, into a cache outside the checkout.

`PODFENCE_ORACLES` names a folder with ready programs instead. What is downloaded is held against `go.sum`.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCES = Path(__file__).parent / "go"
NAMES = ("cyclonus", "netpol-analyzer")
FLAGS = ("-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags=-s -w")


class NotBuiltError(Exception):
    """A program is not there and cannot be built here; the text says why."""


def program(name: str, sources: Path = SOURCES) -> Path:
    """Return the path of a program, built if need be; raises NotBuiltError."""
    ready = os.environ.get("PODFENCE_ORACLES")
    if ready:
        found = Path(ready) / name
        if not os.access(found, os.X_OK):
            raise NotBuiltError(f"PODFENCE_ORACLES={ready} holds no program {name}")
        return found
    go = shutil.which("go")
    if go is None:
        raise NotBuiltError("needs Go (go.dev) to build it")
    source = sources / name
    place = cache() / f"{name}-{key(source, _output(go, 'version'))}"
    if not (place / name).exists():
        with _locked(place.parent):
            if not (place / name).exists():
                _build(go, source, place / name)
    return place / name


def cache() -> Path:
    """Return the folder that programs are built into."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podfence" / "oracles"


def key(source: Path, version: str) -> str:
    """Return what changes with any file of a program, with the version of Go and with the flags."""
    found = hashlib.sha256("\n".join((version, *FLAGS)).encode())
    for file in sorted(path for path in source.iterdir() if path.suffix in (".go", ".mod", ".sum")):
        found.update(f"\n{file.name} {file.stat().st_size}\n".encode() + file.read_bytes())
    return found.hexdigest()[:20]


def _output(go: str, *arguments: str) -> str:
    return subprocess.run([go, *arguments], capture_output=True, text=True, check=True).stdout


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the only lock of a folder, so that two who test at once build once."""
    try:
        import fcntl
    except ImportError as error:
        raise NotBuiltError("needs a system with file locks (fcntl)") from error
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(go: str, source: Path, target: Path) -> None:
    settings = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}
    with tempfile.TemporaryDirectory(dir=target.parent.parent) as folder:
        built = Path(folder) / target.name
        done = subprocess.run(
            [go, "build", *FLAGS, "-o", str(built), "."],
            cwd=source,
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotBuiltError(f"go build of {source.name} failed: {done.stderr.strip()[-2000:]}")
        target.parent.mkdir(parents=True, exist_ok=True)
        built.replace(target)
