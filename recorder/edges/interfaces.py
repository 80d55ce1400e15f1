"""Which interface belongs to which pod, told by the packets that arrive on it.

Whatever a pod sends enters the node through that pod's own interface, whichever CNI made it. So an interface on which
every source is an address of one pod of this node is that pod's, for as long as the interface lives; interface indexes are
not given out again, and this makes (interface, address) the node's own proof of who held an address when. All other
interfaces are uplinks.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recorder.capture.packets import Packets, address_text
from recorder.edges.columns import identify
from recorder.identity import NONE, World

MAX_SOURCES = 64
"""An interface that more addresses than this came from is no pod's, and no more of them are remembered."""

_LINK_LOCAL_V6 = np.uint64(0xFE80_0000_0000_0000)
_LINK_LOCAL_V6_MASK = np.uint64(0xFFC0_0000_0000_0000)


@dataclass(frozen=True, slots=True)
class Owner:
    """The pod behind an interface, with the addresses it was seen to send from."""

    uid: str
    addresses: frozenset[str]


@dataclass(slots=True)
class Interfaces:
    """What is known of the node's interfaces; fed with every packet before edges are settled."""

    node: str
    world: World
    sources: dict[int, dict[str, int]] = field(default_factory=dict)
    _owners: dict[int, Owner | None] = field(default_factory=dict)

    def learn(self, packets: Packets) -> None:
        """Note which source addresses arrived on which interface, and when first."""
        for ifindex, address, time in arrivals(packets):
            known = self.sources.setdefault(ifindex, {})
            if len(known) <= MAX_SOURCES and (address not in known or time < known[address]):
                known[address] = time
                self._owners.pop(ifindex, None)
        self.reconsider()

    def reconsider(self) -> None:
        """Decide anew about interfaces that were nobody's; asked for when the cluster may have been seen to change."""
        self._owners = {ifindex: owner for ifindex, owner in self._owners.items() if owner is not None}

    def forget(self) -> None:
        """Drop the interfaces of pods that the world has forgotten."""
        for ifindex, owner in list(self._owners.items()):
            if owner is not None and self.holder(ifindex, np.zeros(1, dtype=np.int64))[0] == NONE:
                del self._owners[ifindex], self.sources[ifindex]

    def owner(self, ifindex: int) -> Owner | None:
        """Return the pod that an interface belongs to; None for an uplink, or while nobody is known to hold its address."""
        if ifindex not in self._owners:
            self._owners[ifindex] = self._decide(ifindex)
        return self._owners[ifindex]

    def holder(self, ifindex: int, times: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the label version of the interface's pod at each time; the interface outranks the API's word."""
        owner = self.owner(ifindex)
        if owner is None:
            return np.full(len(times), NONE, dtype=np.int32)
        return self.world.versions(owner.uid, times)

    def of_address(self, address: str, times: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the interface of the pod that held an address at each time, or -1 where none is known."""
        found = np.full(len(times), -1, dtype=np.int32)
        owned = {
            owner.uid: ifindex
            for ifindex in sorted(self.sources)
            if (owner := self.owner(ifindex)) is not None and address in owner.addresses
        }
        if owned:
            codes = self.world.holders(address, times)
            for code in np.unique(codes[codes >= 0]).tolist():
                found[codes == code] = owned.get(self.world.pod(code).uid, -1)
        return found

    def _decide(self, ifindex: int) -> Owner | None:
        candidates: set[str] = set()
        sources = self.sources.get(ifindex)
        if not sources or len(sources) > MAX_SOURCES:
            return None
        for address, time in sources.items():
            uid = self._first_holder(ifindex, address, time)
            if uid is None:
                return None
            candidates.add(uid)
        if len(candidates) != 1:
            return None
        uid = candidates.pop()
        for address, time in sources.items():
            self.world.proven(uid, address, time)
        return Owner(uid, frozenset(sources))

    def _first_holder(self, ifindex: int, address: str, time: int) -> str | None:
        """Return the pod that the first packet from `address` on this interface came from.

        Two interfaces that carry one address one after the other belong to its holders in the same order: the API may
        still name the holder before when the next one sends its first packet.
        """
        pods = self.world.pods_at(address, self.node)
        earlier = sorted(
            (seen[address], other)
            for other, seen in self.sources.items()
            if other != ifindex and set(seen) == {address} and seen[address] < time
        )
        taken = {owner.uid for _, other in earlier if (owner := self.owner(other)) is not None}
        for uid, start, end in pods:
            if uid in taken:
                continue
            if end is not None and end <= time:
                continue
            if start <= time or taken:
                return uid
        return None


def arrivals(packets: Packets) -> list[tuple[int, str, int]]:
    """Return (interface, source address, time of the first packet) of what came in, link-local sources left out."""
    source = packets.src
    usable = ~packets.outgoing & (packets.ifindex > 0) & ((source[:, 0] & _LINK_LOCAL_V6_MASK) != _LINK_LOCAL_V6)
    usable &= (source[:, 0] != 0) | (source[:, 1] != 0)
    if not usable.any():
        return []
    ifindex, high, low, time = packets.ifindex[usable], source[usable, 0], source[usable, 1], packets.time[usable]
    ids, first = identify(ifindex, high, low)
    earliest = np.full(len(first), np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(earliest, ids, time)
    return [
        (int(ifindex[row]), address_text(int(high[row]), int(low[row])), int(earliest[k]))
        for k, row in enumerate(first)
    ]
