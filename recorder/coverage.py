"""Counts what each ring saw and lost, window by window, so that silence can be told from blindness."""

from collections import Counter
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
    packets: Counter[tuple[str, int]] = field(default_factory=Counter)
    dropped: Counter[tuple[str, int]] = field(default_factory=Counter)

    def saw(self, ring: str, times: NDArray[np.int64]) -> None:
        """Count packets of a ring by their window."""
        windows, counts = np.unique(times - times % (self.seconds * SECOND), return_counts=True)
        for window, count in zip(windows.tolist(), counts.tolist(), strict=True):
            self.packets[ring, window] += count

    def lost(self, ring: str, time: int, count: int) -> None:
        """Count packets that the kernel dropped in a ring."""
        if count:
            self.dropped[ring, time - time % (self.seconds * SECOND)] += count

    def rows(self, until: int, tallies: dict[tuple[int, str], Tally], lag: float | None, ended: int) -> list[Coverage]:
        """Return one row per ring for each window that began and ended by `until`, and forget them.

        `ended` is when capture stopped, or will not have stopped before.
        """
        length = self.seconds * SECOND
        rows = []
        first = self.began - self.began % length
        for window in range(first, until - length + 1, length):
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
                        covered_from=max(window, self.began),
                        covered_to=min(window + length, ended),
                        packets=self.packets.pop((ring, window), 0),
                        dropped=self.dropped.pop((ring, window), 0),
                        overflowed=0,
                        unresolved=tally.unresolved,
                        ambiguous=tally.ambiguous,
                        watch_lag_seconds=lag,
                        gap=False,
                    )
                )
        self.began = max(self.began, rows[-1].window_end if rows else self.began)
        return rows


def ring_of(packets: Packets) -> dict[str, NDArray[np.bool_]]:
    """Tell for each packet of a capture file which of a live recorder's rings would have held it."""
    datagram = packets.protocol == _UDP
    dns = datagram & (packets.src_port == 53)
    echo = (packets.icmp_type >= 0) & (packets.quoted_protocol == 0)
    udp = (datagram & ~dns) | echo
    return {"tcp": ~udp & ~dns, "udp": udp, "dns": dns}
