"""Random namespaces, pods and addresses outside, and the connections worth asking about."""

import ipaddress
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

KEYS = ("app", "env", "tier", "example.com/role")
VALUES = ("a", "b", "ab")
ODD_VALUES = ("", "7", "007")
"""Legal label values that oracles stumble over; each driver says what it does about them."""
NUMBERS = (80, 81, 443, 5432, 8080, 9000)
NAMES = ("web", "dns", "alt", "db")
PROTOCOLS = ("TCP", "UDP", "SCTP")
OUTSIDE = {
    4: (
        *("203.0.112.255", "203.0.113.0", "203.0.113.7", "203.0.113.8", "203.0.113.15", "203.0.113.16"),
        *("203.0.113.127", "203.0.113.128", "203.0.113.255", "203.0.114.0", "198.51.100.7", "8.8.8.8", "8.7.255.255"),
        *("9.255.255.255", "10.0.0.200", "10.200.0.1", "11.0.0.0"),
    ),
    6: (
        "2001:db7:ffff::",
        "2001:db8::1",
        "2001:db8:1::",
        "2001:db8:1:ffff::5",
        "2001:db8:2::",
        "2001:db9::",
        "fd00:9::1",
    ),
}
"""Addresses at the edges of the blocks that policies name, and a few far from any."""


@dataclass(frozen=True)
class Port:
    """A port of a protocol, by the name that a container gives it."""

    name: str
    number: int
    protocol: str


@dataclass(frozen=True)
class Pod:
    """A pod with one address for each family."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    ports: tuple[Port, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class End:
    """One end of connections: an address, and the index of the pod that has it, or -1."""

    pod: int
    address: str

    @property
    def family(self) -> int:
        """Return the IP version."""
        return ipaddress.ip_address(self.address).version


@dataclass(frozen=True)
class World:
    """Labels of namespaces by name, pods, and addresses outside the cluster."""

    namespaces: Mapping[str, Mapping[str, str]]
    pods: tuple[Pod, ...]
    outside: tuple[str, ...]

    @cached_property
    def ends(self) -> tuple[End, ...]:
        """Return every address of every pod, then those outside."""
        pods = [End(number, address) for number, pod in enumerate(self.pods) for address in pod.addresses]
        return (*pods, *(End(-1, address) for address in self.outside))

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Return who may talk to whom, as indices of ends: within a family, not with itself, at least one of them a pod."""
        return tuple(
            (left, right)
            for left, source in enumerate(self.ends)
            for right, target in enumerate(self.ends)
            if source.pod != target.pod and source.family == target.family
        )

    def title(self, end: int) -> str:
        """Return an end as a report names it."""
        pod = self.ends[end].pod
        return f"{self.pods[pod].namespace}/{self.pods[pod].name}" if pod >= 0 else self.ends[end].address


def world(dice: random.Random, *, families: tuple[int, ...] = (4,), odd: bool = False) -> World:
    """Return a random world; `odd`: with label values out of `ODD_VALUES`, too."""
    values = VALUES + (ODD_VALUES if odd else ())
    namespaces: dict[str, dict[str, str]] = {}
    pods = []
    for name in ("one", "two", "three")[: dice.randint(1, 3)]:
        namespaces[name] = labels(dice, values) | {"kubernetes.io/metadata.name": name}
        for number in range(dice.randint(1, 3)):
            place = f"{len(namespaces)}.{number + 1}"
            addresses = {4: f"10.0.{place}", 6: f"fd00::{place.replace('.', ':')}"}
            pods.append(
                Pod(
                    namespace=name,
                    name=f"p{number}",
                    labels=labels(dice, values),
                    ports=ports(dice),
                    addresses=tuple(addresses[family] for family in families),
                )
            )
    outside = [address for family in families for address in sorted(dice.sample(OUTSIDE[family], 5))]
    return World(namespaces, tuple(pods), tuple(outside))


def labels(dice: random.Random, values: tuple[str, ...]) -> dict[str, str]:
    """Return random labels, each key as likely present as not."""
    return {key: dice.choice(values) for key in KEYS if dice.random() < 0.55}


def ports(dice: random.Random) -> tuple[Port, ...]:
    """Return random named ports: a name may stand for two protocols, and two names for one number."""
    found = {}
    for _ in range(dice.randint(0, 5)):
        name, protocol = dice.choice(NAMES), dice.choices(PROTOCOLS, (5, 3, 1))[0]
        found[name, protocol] = Port(name, dice.choice(NUMBERS), protocol)
    return tuple(found.values())
