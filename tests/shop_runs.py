"""A finished run of `podfence demo`, and what the shop's own sockets say happened in it."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from learner.patterns import Learned
from recorder.store import Recording

Edge = tuple[str, str, str, int]
"""Source, destination, protocol, port; workloads by name, the outside by prefix."""

SCANNER = "shop/pod/toolbox"


@dataclass(frozen=True)
class Run:
    """The folder that a demo left."""

    place: Path
    printed: str
    code: int

    @cached_property
    def truth(self) -> list[dict[str, Any]]:
        """Return every attempt of the run, as the sockets of both ends had it."""
        return [json.loads(line) for line in (self.place / "truth.jsonl").read_text().splitlines()]

    @cached_property
    def learned(self) -> Learned:
        """Return what was learned."""
        return Learned.read(self.place / "learned")

    @cached_property
    def recording(self) -> Recording:
        """Return the recording."""
        return Recording.open(self.place / "recording")

    @cached_property
    def true_edges(self) -> set[Edge]:
        """Return the edges that policies must allow: answered, between pods or with the outside, but the scanner's."""
        return {
            edge_of(attempt)
            for attempt in self.truth
            if attempt["result"] == "answered"
            and attempt["source"]["kind"] in ("pod", "outside")
            and attempt["source"]["workload"] != SCANNER
        }


def edge_of(attempt: dict[str, Any]) -> Edge:
    """Return the edge that an answered attempt belongs to."""
    source, backend, external = attempt["source"], attempt["backend"], attempt["external"]
    where = backend or external
    return (
        source["workload"] or f"{source['ip']}/32",
        backend["workload"] if backend else f"{external['ip']}/32",
        attempt["protocol"],
        where["port"],
    )


def attempts_by_pods(truth: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Return how often each pod (by uid) tried what it dialled over TCP, and how that ended."""
    return Counter(
        (attempt["source"]["uid"], attempt["dialled"]["ip"], attempt["dialled"]["port"], attempt["result"])
        for attempt in truth
        if attempt["protocol"] == "tcp" and attempt["source"]["kind"] == "pod"
    )
