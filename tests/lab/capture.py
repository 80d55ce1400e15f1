"""The shop as capture files: what tcpdump sees on every node, beside what the API said and what really happened."""

import asyncio
import contextlib
import shutil
import signal
import subprocess
from pathlib import Path

from .demo import run_shop
from .lab import Lab
from .namespaces import LabError
from .network import Node

# Handshakes and refusals, all UDP but the overlay's outer packets, ICMP. libpcap's tcp[] reads IPv4 alone.
FILTER = (
    "(tcp[tcpflags] & (tcp-syn|tcp-rst) != 0) or (ip6 and tcp and ip6[53] & 6 != 0)"
    " or (udp and not udp port 4789) or icmp or icmp6"
)
# Long enough for the DNS answers of a cluster with their link and IP headers.
SNAP_LENGTH = 512


async def capture_shop(out: Path, seconds: float, seed: int) -> None:
    """Run the shop with a tcpdump in every node's namespace."""
    if shutil.which("tcpdump") is None:
        raise LabError("the lab needs the program tcpdump: install tcpdump (apt-get install tcpdump)")
    running: list[subprocess.Popen[str]] = []

    async def start(lab: Lab) -> None:
        running.extend(_tcpdump(node, out / f"{node.name}.pcap") for node in lab.nodes)

    async def stop(_: Lab) -> None:
        # Packets reach tcpdump through a buffer that it empties within a second.
        await asyncio.sleep(1.2)
        for process in running:
            _end(process)

    try:
        await run_shop(out, seconds, seed, start, stop)
    finally:
        for process in running:
            _end(process)


def _tcpdump(node: Node, path: Path) -> subprocess.Popen[str]:
    command = ["tcpdump", "-Z", "root", "-n", "-i", "any", "-y", "LINUX_SLL2", "-U", "-s", str(SNAP_LENGTH)]
    with node.netns.inside():
        process = subprocess.Popen([*command, "-w", str(path), FILTER], stderr=subprocess.PIPE, text=True)
    said = []
    for line in process.stderr or ():
        said.append(line.strip())
        if "listening on" in line:
            return process
    process.wait()
    raise LabError(f"tcpdump: {' '.join(said)}")


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.stderr:
        process.stderr.close()
