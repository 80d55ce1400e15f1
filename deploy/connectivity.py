"""Which connections a set of policies allows between workloads, and what two sets allow differently.

Pods that no policy can tell apart are one class. Pairs of classes come from what rules select rather than from trying all with
all, so the work grows with what is allowed; every pair is then put to the judge for each range of ports that its rules tell apart.
What an engine lets pass whatever the rules say (kubelet probes, some ICMP) is no connection of the policies and is not listed.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from deploy.places import ICMP, Places
from deploy.policies import PolicySource, engines_for, read_policies
from deploy.population import Population
from deploy.ports import Ports, less, text
from deploy.reach import Entries, Reach
from deploy.semantics.ends import Lens
from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import Profile
from deploy.semantics.reading.manifests import judge_objects
from deploy.semantics.rules import Range
from deploy.semantics.traffic import Connections
from deploy.semantics.verdicts import Court

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, order=True)
class Allowed:
    """Connections of one protocol from one workload (pod, prefix) to another; `partial`: only some pods of the pair may.

    For ICMP, `ports` are types.
    """

    source: str
    destination: str
    protocol: str
    ports: str
    partial: bool

    def json(self) -> dict[str, Any]:
        """Return it as it stands in the JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Connectivity:
    """Every connection that policies allow, and what cannot be told."""

    profile: str
    engines: tuple[str, ...]
    connections: tuple[Allowed, ...]
    undetermined: tuple[Allowed, ...]

    def json(self) -> dict[str, Any]:
        """Return what `connectivity -o json` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "profile": self.profile,
            "engines": list(self.engines),
            "connections": [one.json() for one in self.connections],
            "undetermined": [one.json() for one in self.undetermined],
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """What a new set of policies allows that the old one does not, the other way round, and what can no longer be told."""

    profile: str
    engines: tuple[str, ...]
    allowed: tuple[Allowed, ...]
    denied: tuple[Allowed, ...]
    undetermined: tuple[Allowed, ...] = ()

    def json(self) -> dict[str, Any]:
        """Return what `diff -o json` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "profile": self.profile,
            "engines": list(self.engines),
            "newly_allowed": [one.json() for one in self.allowed],
            "newly_denied": [one.json() for one in self.denied],
            "newly_undetermined": [one.json() for one in self.undetermined],
        }


def connectivity(
    policies: PolicySource,
    population: Population,
    *,
    profile: str = "strict",
    by: str = "workload",
    existing: bool = False,
    staged: str = "enforced",
) -> Connectivity:
    """Return every allowed connection between the workloads (or pods) that live at the end of what is known of a cluster.

    Raises InputError.
    """
    given = read_policies(policies)
    chosen = acting(given, population, existing=existing, staged=staged)
    engines = _by_policies(engines_for(profile, [chosen]))
    places = Places(population, by, Lens.of([chosen]))
    told = Reach(
        places, Court(chosen, engines, places.ends, Connections(places.kinds([chosen])), population.known_services)
    )
    allowed, open_ = told.entries()
    return Connectivity(profile, tuple(one.name for one in engines), tuple(_named(allowed)), tuple(_named(open_)))


def diff(
    old: PolicySource,
    new: PolicySource,
    population: Population,
    *,
    profile: str = "strict",
    by: str = "workload",
    existing: bool = False,
    staged: str = "enforced",
) -> Difference:
    """Return what is newly allowed and newly denied, not which lines changed; what some pods may counts as allowed.

    Raises InputError.
    """
    both = [acting(read_policies(one), population, existing=existing, staged=staged) for one in (old, new)]
    engines = _by_policies(engines_for(profile, both))
    places = Places(population, by, Lens.of(both))
    connections = Connections(places.kinds(both))
    maps = []
    for policies in both:
        told = Reach(places, Court(policies, engines, places.ends, connections, population.known_services))
        maps.append(told.entries())
    (before, doubtful_before), (after, doubtful) = maps
    return Difference(
        profile,
        tuple(one.name for one in engines),
        tuple(_named(_less(after, before))),
        tuple(_named(_less(_less(before, after), doubtful))),
        tuple(_named(_less(doubtful, doubtful_before))),
    )


def _by_policies(engines: Iterable[Profile]) -> tuple[Profile, ...]:
    """Return the engines without the ICMP messages that they let pass whatever the policies say."""
    return tuple(replace(one, icmp_always_allowed=(), icmpv6_always_allowed=()) for one in engines)


def acting(given: PolicySet, population: Population, *, existing: bool, staged: str) -> PolicySet:
    """Return the policies that act: those given, and on demand those of the cluster beneath them."""
    if not existing:
        return given.enforced(staged)
    present = judge_objects(population.policies()).enforced("ignored")
    return present.merged(given if staged == "enforced" else given.enforced(staged))


def _named(entries: Entries) -> Iterator[Allowed]:
    """Yield connections by name; ranges outside that fare alike become prefixes."""
    outside: dict[tuple[str, bool, str, Ports, bool], list[Range]] = defaultdict(list)
    found = []
    for (source, target, protocol), (ports, partial) in entries.items():
        if isinstance(source, str) and isinstance(target, str):
            found.append((source, target, protocol, ports, partial))
        elif isinstance(source, str):
            outside[source, True, protocol, ports, partial].append(target)  # type: ignore[arg-type]
        else:
            outside[str(target), False, protocol, ports, partial].append(source)
    for (name, outward, protocol, ports, partial), ranges in outside.items():
        for prefix in _prefixes(ranges):
            ends = (name, prefix) if outward else (prefix, name)
            found.append((*ends, protocol, ports, partial))
    for source, target, protocol, ports, partial in sorted(found):
        whole = protocol in ICMP and ports == ((0, 255),)
        yield Allowed(source, target, protocol, "all" if whole else text(ports), partial)


def _prefixes(ranges: Iterable[Range]) -> Iterator[str]:
    joined: list[Range] = []
    for family, first, last in sorted(ranges):
        if joined and joined[-1][0] == family and joined[-1][2] + 1 == first:
            joined[-1] = family, joined[-1][1], last
        else:
            joined.append((family, first, last))
    for family, first, last in joined:
        kind = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
        yield from map(str, ipaddress.summarize_address_range(kind(first), kind(last)))


def _less(left: Entries, right: Entries) -> Entries:
    found: Entries = {}
    for key, (ports, partial) in left.items():
        rest = less(ports, right[key][0]) if key in right else ports
        if rest:
            found[key] = rest, partial
    return found
