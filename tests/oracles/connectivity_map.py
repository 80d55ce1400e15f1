"""The connectivity map of network-config-analyzer, as verdicts."""

import ipaddress
import re
from functools import lru_cache

import numpy as np

from tests.oracles.cases import Case
from tests.oracles.lines import Verdicts


class Map:
    """The connectivity map that network-config-analyzer prints, a line for each pair of peers and set of connections."""

    LINE = re.compile(r"(\S+?)(?:\[Pod\])? => (\S+?)(?:\[Pod\])? : (.*)")

    def __init__(self, one: Case, lines: list[str]) -> None:
        self.case = one
        world, size = one.world, len(one.world.ends)
        found = np.zeros((size, size, len(one.asked)), np.bool_)
        for line in lines:
            match = self.LINE.fullmatch(line)
            assert match or " => " not in line, line
            if match:
                told = allowed(match[3], one.asked)
                for left in self.meant(match[1]):
                    for right in self.meant(match[2]):
                        found[left, right] |= told
        sources, targets = np.array(world.pairs, np.int64).reshape(-1, 2).T
        self.verdicts: Verdicts = found[sources, targets]

    def meant(self, name: str) -> list[int]:
        """Return the ends that a peer of the map stands for: a pod by its name, or ranges of addresses."""
        numbered = list(enumerate(self.case.world.ends))
        if "/" in name and not re.fullmatch(r"[\da-fA-F.:]+/\d+", name):
            found = [number for number, end in numbered if end.pod >= 0 and self.case.world.title(number) == name]
            assert found, name
            return found
        spans = [_span(part) for part in name.split(",")]
        outside = [(number, _place(end.address)) for number, end in numbered if end.pod < 0]
        return [number for number, place in outside if any(low <= place <= high for low, high in spans)]


def _span(told: str) -> tuple[tuple[int, int], tuple[int, int]]:
    if "/" in told:
        network = ipaddress.ip_network(told)
        return _place(str(network.network_address)), _place(str(network.broadcast_address))
    first, _, last = told.partition("-")
    return _place(first), _place(last or first)


@lru_cache(4096)
def _place(address: str) -> tuple[int, int]:
    found = ipaddress.ip_address(address)
    return found.version, int(found)


@lru_cache(4096)
def allowed(cube: str, asked: tuple[tuple[str, int], ...]) -> Verdicts:
    """Return which of the connections asked about are in a set as the map writes it."""
    if cube == "All connections":
        return np.ones(len(asked), np.bool_)
    if cube.startswith("All but "):
        return ~allowed(cube.removeprefix("All but "), asked)
    found = np.zeros(len(asked), np.bool_)
    for inner in re.findall(r"\{(.*?)\}", cube):
        fields = dict(re.findall(r"(\w+):(.*?)(?=,\w+:|$)", inner))
        assert set(fields) <= {"protocols", "dst_ports"}, cube
        protocols = {part.strip() for part in fields.get("protocols", "TCP,UDP,SCTP").split(",")}
        spans = [part.strip().partition("-") for part in fields.get("dst_ports", "0-65535").split(",")]
        for place, (protocol, number) in enumerate(asked):
            if protocol in protocols and any(int(first) <= number <= int(last or first) for first, _, last in spans):
                found[place] = True
    return found
