"""Network namespaces: made by iproute2, entered for as long as it takes to open a socket or start a program."""

import ctypes
import fcntl
import os
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

RUN = Path("/run/netns")
LEFTOVER = re.compile(r"pfl-(\d+)-")
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS = 0x8913
IFF_RUNNING = 0x40

_libc = ctypes.CDLL(None, use_errno=True)


class LabError(RuntimeError):
    """The lab could not be built or changed; the text is one line for a person."""


def missing() -> str | None:
    """Say what this machine lacks for the lab and how to get it; None when nothing does."""
    if os.geteuid() != 0:
        return "the lab needs root to make network namespaces: run it with sudo"
    for program, package in (("ip", "iproute2"), ("bridge", "iproute2"), ("nft", "nftables")):
        if shutil.which(program) is None:
            return f"the lab needs the program {program}: install {package} (apt-get install {package})"
    return None


def run(arguments: list[str], text: str, namespace: "Namespace | None" = None) -> None:
    """Feed text to a program, in a namespace if one is given; raise LabError with what it said when it fails."""
    if namespace is None:
        done = subprocess.run(arguments, input=text, text=True, capture_output=True, check=False)
    else:
        with namespace.inside():
            done = subprocess.run(arguments, input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        where = f" in {namespace.name}" if namespace else ""
        raise LabError(f"{' '.join(arguments)}{where}: {said}")


def ip(lines: Iterable[str], namespace: "Namespace | None" = None) -> None:
    """Run iproute2 commands as one batch, stopping at the first that fails."""
    run(["ip", "-batch", "-"], "\n".join(lines) + "\n", namespace)


def remove_leftovers() -> list[str]:
    """Delete the namespaces of lab processes that are no more; their names are returned."""
    if not RUN.is_dir():
        return []
    dead = [
        name
        for name in sorted(path.name for path in RUN.iterdir())
        if (match := LEFTOVER.match(name)) and not Path("/proc", match[1]).exists()
    ]
    if dead:
        # Two labs may clean up at once: what the other one already took is no error.
        batch = "".join(f"netns del {name}\n" for name in dead)
        subprocess.run(["ip", "-force", "-batch", "-"], input=batch, text=True, capture_output=True, check=False)
    return dead


class Namespace:
    """A named network namespace that exists, held open until closed."""

    __slots__ = ("_descriptor", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._descriptor = os.open(RUN / name, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def path(self) -> Path:
        """The file that nsenter --net= takes."""
        return RUN / self.name

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Move the calling thread into the namespace and back; never await in between."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(self._descriptor)
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(home)

    def sysctl(self, values: Mapping[str, int]) -> None:
        """Write settings, each named by its path under /proc/sys/net (interface names may hold dots)."""
        with self.inside():
            for name, value in values.items():
                Path("/proc/sys/net", name).write_text(str(value), encoding="ascii")

    def await_carrier(self, interface: str, seconds: float = 5.0) -> None:
        """Wait until an interface that is up also sends; the kernel drops what it is given before that."""
        with self.inside():
            asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        request, end = struct.pack("16sH14x", interface.encode(), 0), time.monotonic() + seconds
        with asked:
            while not struct.unpack_from("H", fcntl.ioctl(asked, SIOCGIFFLAGS, request), 16)[0] & IFF_RUNNING:
                if time.monotonic() > end:
                    raise LabError(f"{interface} in {self.name} has no carrier")
                time.sleep(0.0005)

    def close(self) -> None:
        """Let go of the namespace, which would otherwise outlive its name."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise LabError(f"setns: {os.strerror(code)}")
