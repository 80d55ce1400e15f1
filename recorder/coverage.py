"""Counts what each ring saw and lost, window by window, so that silence can be told from blindness."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recorder.capture.packets import Packets
from recorder.records import RINGS, SECOND, Coverage
from recorder.windows import Tally

_UDP = 17


@dataclass(slots=True)
class Watch:
    """The time in which a capture ran, and what it counted."""

    cluster: str
    node: str
    backend: str
    scope: str
    seconds: int
    began: int
    holes: list[tuple[int, int]] = field(default_factory=list)
    packets: Counter[tuple[str, int]] = field(default_factory=Counter)
    dropped: Counter[tuple[str, int]] = field(default_factory=Counter)

    def saw(self, ring: str, times: NDArray[np.int64]) -> None:
        """Count packets of a ring by their window."""
        windows, counts = np.unique(times - times % (self.seconds * SECOND), return_counts=True)
        for window, count in zip(windows.tolist(), counts.tolist(), strict=True):
            self.packets[ring, window] += count

    def lost(self, ring: str, since: int, until: int, count: int) -> None:
        """Count packets that the kernel dropped in a ring; any window of that time may have lost all of them."""
        length = self.seconds * SECOND
        if count:
            for window in range(since - since % length, until + 1, length):
                self.dropped[ring, window] += count

    def stepped(self, before: int, after: int) -> None:
        """Take note that the clock went from one time to another at once: nobody can vouch for what lies between."""
        self.holes.append((min(before, after), max(before, after)))

    def rows(self, until: int, tallies: dict[tuple[int, str], Tally], lag: float | None, ended: int) -> list[Coverage]:
        """Return one row per ring for each window that began and ended by `until`, and forget them.

        `ended` is when capture stopped, or will not have stopped before. A window that a step of the clock cuts into is a
        gap; one that lies within the step has no row, unless there were packets in it.
        """
        length = self.seconds * SECOND
        rows = []
        counted = {window for _, window in (*self.packets, *self.dropped) if window + length <= until}
        for window in sorted({*self._passed(until), *counted}):
            whole = window + length > self.began and not any(
                begin < window + length and end > window for begin, end in self.holes
            )
            for ring in RINGS:
                tally = tallies.pop((window, ring), Tally())
                rows.append(
                    Coverage(
                        cluster=self.cluster,
                        node=self.node,
                        backend=self.backend,
                        ring=ring,
                        scope=self.scope,
                        window_start=window,
                        window_end=window + length,
                        covered_from=min(max(window, self.began), window + length),
                        covered_to=min(window + length, ended),
                        packets=self.packets.pop((ring, window), 0),
                        dropped=self.dropped.pop((ring, window), 0),
                        overflowed=0,
                        unresolved=tally.unresolved,
                        ambiguous=tally.ambiguous,
                        watch_lag_seconds=lag,
                        gap=not whole,
                    )
                )
        self.began = max(self.began, rows[-1].window_end if rows else self.began)
        self.holes = [hole for hole in self.holes if hole[1] > self.began]
        return rows

    def _passed(self, until: int) -> Iterator[int]:
        """Yield the windows from the beginning to `until` that do not lie within a step of the clock."""
        length = self.seconds * SECOND
        window = self.began - self.began % length
        while window + length <= until:
            beyond = max(
                (end for begin, end in self.holes if begin <= window and end >= window + length), default=window
            )
            if beyond == window:
                yield window
                beyond += length
            window = beyond - beyond % length


def ring_of(packets: Packets) -> dict[str, NDArray[np.bool_]]:
    """Tell for each packet of a capture file which of a live recorder's rings would have held it."""
    datagram = packets.protocol == _UDP
    dns = datagram & (packets.src_port == 53)
    echo = (packets.icmp_type >= 0) & (packets.quoted_protocol == 0)
    udp = (datagram & ~dns) | echo
    return {"tcp": ~udp & ~dns, "udp": udp, "dns": dns}
