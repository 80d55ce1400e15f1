"""One connection asked about: what becomes of it, by which rule, and what every rule that was asked says of it."""

import difflib
import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploy.connectivity import acting
from deploy.places import living
from deploy.policies import PolicySource, engines_for, read_policies
from deploy.population import Population
from deploy.semantics.ends import Endpoint, Ends, Lens
from deploy.semantics.rules import DIRECTIONS, PORT_PROTOCOLS
from deploy.semantics.traffic import Connection, Connections
from deploy.semantics.trail import Step, nearest, trail
from deploy.semantics.verdicts import ALLOWED, DENIED, UNDETERMINED, Court, Verdict
from recorder.errors import InputError

SCHEMA_VERSION = 1
_PORT = re.compile(r"(?:(\d{1,5})(?:/(tcp|udp|sctp))?|(icmp|icmpv6)(?:/(\d{1,3}))?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Half:
    """One half of a connection: its verdict, every rule that was asked (by the first engine), and the nearest miss."""

    direction: str
    verdict: Verdict
    trail: tuple[Step, ...]
    nearest: Step | None

    def json(self) -> dict[str, Any]:
        """Return it as it stands in the JSON."""
        found: dict[str, Any] = {
            "half": self.direction,
            "outcome": self.verdict.outcome,
            "reason": self.verdict.reason,
            "by": self.verdict.by,
        }
        if self.verdict.engines:
            found["engines"] = dict(self.verdict.engines)
        if self.nearest is not None:
            found |= {"nearest": f"{self.nearest.policy} {self.nearest.where}", "misses": self.nearest.misses}
        return found | {"trail": [_step(one) for one in self.trail]}


@dataclass(frozen=True, slots=True)
class Pair:
    """Ends that no policy can tell apart: one pod of each, how many pairs of pods they stand for, and both halves."""

    source: str
    destination: str
    pairs: int
    halves: tuple[Half, ...]

    @property
    def outcome(self) -> str:
        """Return what becomes of the connection: denied when a half is, allowed when both are."""
        outcomes = [half.verdict.outcome for half in self.halves]
        return next((one for one in (DENIED, UNDETERMINED) if one in outcomes), ALLOWED)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What becomes of a connection; pods of one workload may fare differently."""

    profile: str
    engines: tuple[str, ...]
    source: str
    destination: str
    port: str
    pairs: tuple[Pair, ...]
    denies_with: str | None

    @property
    def outcome(self) -> str:
        """Return the worst that becomes of any pair."""
        outcomes = [pair.outcome for pair in self.pairs]
        return next((one for one in (DENIED, UNDETERMINED) if one in outcomes), ALLOWED)

    def json(self) -> dict[str, Any]:
        """Return what `evaluate -o json` prints."""
        return {
            "schema_version": SCHEMA_VERSION,
            "profile": self.profile,
            "engines": list(self.engines),
            "source": self.source,
            "destination": self.destination,
            "port": self.port,
            "outcome": self.outcome,
            "denies_with": self.denies_with,
            "pairs": [
                {
                    "source": pair.source,
                    "destination": pair.destination,
                    "pairs": pair.pairs,
                    "outcome": pair.outcome,
                    "halves": [half.json() for half in pair.halves],
                }
                for pair in self.pairs
            ],
        }


def evaluate(
    policies: PolicySource,
    population: Population,
    *,
    source: str,
    destination: str,
    port: str,
    profile: str = "strict",
    existing: bool = False,
    staged: str = "enforced",
) -> Evaluation:
    """Return what becomes of one connection.

    Ends are workloads, pods (`namespace/pod`), nodes (`node/NAME`), `apiserver`, addresses or prefixes. `port` is `80/tcp`, `53/udp`, `icmp` or `icmp/8`; without a protocol it is TCP. Raises InputError.
    """
    connection = asked(port)
    chosen = acting(read_policies(policies), population, existing=existing, staged=staged)
    engines = engines_for(profile, [chosen])
    lefts, rights = (_ends(population, name) for name in (source, destination))
    lens = Lens.of([chosen])
    ends = Ends([one for _, one in (*lefts, *rights)], lens)
    court = Court(chosen, engines, ends, Connections([connection]), population.known_services)
    denies = {engine.denies_with for engine in engines}
    return Evaluation(
        profile=profile,
        engines=tuple(one.name for one in engines),
        source=source,
        destination=destination,
        port=f"{port.lower()}/tcp" if port.isdigit() else port.lower(),
        pairs=tuple(_pairs(court, lefts, rights)),
        denies_with=denies.pop() if len(denies) == 1 else None,
    )


def asked(port: str) -> Connection:
    """Return the connection that a text such as `80/tcp` stands for; raises InputError."""
    found = _PORT.fullmatch(port)
    if found is None or (found[1] and not 1 <= int(found[1]) <= 65_535) or (found[4] and int(found[4]) > 255):
        raise InputError(f"--port {port!r}: expected a port such as 80/tcp, 53/udp, icmp or icmp/8")
    if found[3]:
        return Connection(found[3].lower(), None, int(found[4]) if found[4] else None)
    return Connection((found[2] or PORT_PROTOCOLS[0]).lower(), int(found[1]))


def _ends(population: Population, name: str) -> list[tuple[str, Endpoint]]:
    """Return (name, end) of what a name stands for: all pods of a workload, one pod, a node, an address."""
    if re.fullmatch(r"[0-9a-fA-F:.]+(?:/\d{1,3})?", name):
        try:
            return [(name, Endpoint("external", ip=str(ipaddress.ip_network(name, strict=False))))]
        except ValueError as error:
            raise InputError(f"{name!r} is no address or prefix") from error
    if name == "apiserver":
        addresses = population.api_server()
        if not addresses:
            raise InputError("the inventory tells no address of the API server (EndpointSlices of default/kubernetes)")
        return [(f"apiserver/{ip}", Endpoint("apiserver", ip=ip)) for ip in addresses]
    if name.startswith("node/"):
        return [(name, Endpoint("node", name=name.removeprefix("node/"), ip=population.node_address(name[5:])))]
    pods = living(population)
    # A Job's pods are gone between its runs; the last of them speaks for it.
    gone = [versions[-1] for workload, versions in population.by_workload.items() if workload == name][:1]
    found = [pod for pod in pods if name in (pod.workload, f"{pod.namespace}/{pod.name}")] or gone
    if not found:
        known = {f"{pod.namespace}/{pod.name}" for pod in pods} | set(population.by_workload)
        close = difflib.get_close_matches(name, sorted(known), 3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise InputError(f"{name!r} is no pod or workload (namespace/pod, namespace/kind/name){hint}")
    return [(f"{pod.namespace}/{pod.name}", population.now(pod, ip)) for pod in found for ip in pod.ips or (None,)]


def _pairs(
    court: Court, lefts: Sequence[tuple[str, Endpoint]], rights: Sequence[tuple[str, Endpoint]]
) -> Iterator[Pair]:
    """Yield one pair for each two classes of ends."""
    source = np.repeat(np.arange(len(lefts)), len(rights))
    target = np.tile(np.arange(len(rights)), len(lefts)) + len(lefts)
    left, right, itself = court.ends.pairs(source, target)
    families = court.ends.family[left], court.ends.family[right]
    # Addresses of two families do not meet; a node whose address is not known meets any.
    meet = (families[0] == families[1]) | (families[0] <= 0) | (families[1] <= 0)
    source, target, left, right, itself = (one[meet] for one in (source, target, left, right, itself))
    keys = np.stack([left, right, itself])
    _, first, counts = np.unique(keys, axis=1, return_index=True, return_counts=True)
    alone = len(first) == 1
    names = [name for name, _ in (*lefts, *rights)]
    for row, count in sorted(zip(first.tolist(), counts.tolist(), strict=True)):
        # A pod does not dial itself through the network unless it is asked for by name.
        if itself[row] and not alone:
            continue
        halves = tuple(_half(court, one, int(left[row]), int(right[row]), bool(itself[row])) for one in DIRECTIONS)
        yield Pair(names[source[row]], names[target[row]], count, halves)


def _half(court: Court, direction: str, left: int, right: int, itself: bool) -> Half:
    columns = (np.array([left]), np.array([right]), np.array([0]))
    judged = court.judge(direction, *columns, np.array([itself]))
    place = int(judged.engine[0])
    steps = trail(court.engines[place].rules, direction, left, right, 0)
    verdict = court.verdict(direction, judged, 0)
    near = nearest(court.engines[place].rules, direction, left, right, 0) if verdict.outcome != ALLOWED else None
    return Half(direction, verdict, steps, near)


def _step(step: Step) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(step, name) for name in step.__slots__}
    found["unjudged"] = list(step.unjudged)
    return found
