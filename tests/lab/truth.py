"""What really happened, told by the sockets at both ends."""

import asyncio
import json
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Result = Literal["answered", "refused", "timeout"]


def timestamp(seconds: float) -> str:
    """Write a time as RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a connection; kind is pod, node or outside, and what does not apply is None."""

    kind: str
    namespace: str | None
    pod: str | None
    uid: str | None
    workload: str | None
    node: str | None
    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """A TCP connection or a UDP request that was tried.

    backend and snat_ip are what the accepting side saw: who accepted, and the client's address where it was not the
    client's own. query is the question of a DNS request.
    """

    time: float
    source: Side
    name: str | None
    ip: str
    port: int
    protocol: str
    result: Result
    backend: Side | None = None
    snat_ip: str | None = None
    query: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Give the line of truth.jsonl."""
        outside = self.backend is not None and self.backend.kind == "outside"
        return {
            "time": timestamp(self.time),
            "source": asdict(self.source),
            "dialled": {"name": self.name, "ip": self.ip, "port": self.port},
            "protocol": self.protocol,
            "result": self.result,
            "backend": asdict(self.backend) if self.backend and not outside else None,
            "external": {"ip": self.backend.ip, "port": self.backend.port} if self.backend and outside else None,
            "snat_ip": self.snat_ip,
            "query": self.query,
        }


class Truth:
    """All attempts of a lab, each joined with its acceptance by the client's address and port."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.node_ips: set[str] = set()
        self._accepted: dict[tuple[str, int], list[tuple[float, str, Side]]] = defaultdict(list)

    def accept(self, protocol: str, peer: tuple[str, int], by: Side) -> None:
        """Note that a server got a connection, or a request, from this peer."""
        self._accepted[protocol, peer[1]].append((time.time(), peer[0], by))

    async def acceptance(
        self, protocol: str, client: tuple[str, int], since: float, within: float = 1.0
    ) -> tuple[str, Side] | None:
        """Wait until some server has accepted the client; masquerading keeps a port that is free."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while True:
            noted = self._accepted[protocol, client[1]]
            for entry in noted:
                when, seen, side = entry
                if when >= since and (seen == client[0] or seen in self.node_ips):
                    noted.remove(entry)
                    return seen, side
            if loop.time() >= end:
                return None
            await asyncio.sleep(0.002)

    def add(self, attempt: Attempt) -> Attempt:
        """Keep an attempt whose result is known."""
        self.attempts.append(attempt)
        return attempt

    def write(self, path: Path) -> None:
        """Write JSON Lines in the order of time."""
        with path.open("w", encoding="utf-8") as file:
            for attempt in sorted(self.attempts, key=lambda attempt: attempt.time):
                file.write(json.dumps(attempt.as_json()) + "\n")
