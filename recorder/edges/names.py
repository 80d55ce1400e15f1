"""Which names led a pod to an address: the DNS answers that reached it, and when."""

from dataclasses import dataclass, field

from recorder.capture.dns import answers
from recorder.capture.packets import Packets, address_text
from recorder.edges.interfaces import Interfaces

MAX_ADDRESSES = 4096
"""Addresses remembered for one pod; the oldest go first, so that a hostile resolver cannot fill the memory."""

MAX_NAMES = 16
"""Names remembered for one address of one pod."""


@dataclass(slots=True)
class Names:
    """Answers by receiver; the receiver is the interface they left through (or its address, where no interface is known)."""

    heard: dict[tuple[int, str], dict[str, dict[str, int]]] = field(default_factory=dict)

    def feed(self, packets: Packets) -> None:
        """Note the answers on their way to a pod."""
        for row, message in packets.dns:
            if not packets.outgoing[row] and packets.ifindex[row] > 0:
                continue
            answer = answers(message)
            if answer is None:
                continue
            name, addresses = answer
            receiver = self.heard.setdefault(self._receiver(packets, row), {})
            for address, _ in addresses:
                known = receiver.setdefault(address, {})
                time = int(packets.time[row])
                if name in known or len(known) < MAX_NAMES:
                    known[name] = min(time, known.get(name, time))
            while len(receiver) > MAX_ADDRESSES:
                del receiver[next(iter(receiver))]

    def known(self, ifindex: int, pod_address: str, dialled: str, time: int) -> list[str]:
        """Return the names that had led this pod to the dialled address by `time`, sorted."""
        receiver = self.heard.get((max(ifindex, 0), pod_address), {})
        return sorted(name for name, first in receiver.get(dialled, {}).items() if first <= time)

    def forget(self, interfaces: Interfaces) -> None:
        """Drop the answers of receivers that are no pods of this node, or none any more."""
        for ifindex, address in list(self.heard):
            sources = interfaces.sources.get(ifindex, {})
            if ifindex and interfaces.owner(ifindex) is None and set(sources) != {address}:
                del self.heard[ifindex, address]

    @staticmethod
    def _receiver(packets: Packets, row: int) -> tuple[int, str]:
        high, low = packets.dst[row].tolist()
        return max(int(packets.ifindex[row]), 0), address_text(high, low)


def merged(*lists: list[str] | None) -> list[str] | None:
    """Return the sorted union; None when there is nothing."""
    union = sorted({name for names in lists if names for name in names})
    return union or None
