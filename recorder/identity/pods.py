"""What one pod said of itself as time went by, and the claims to addresses that follow from it.

An address outlives neither its pod's phase nor the CNI's word: completed pods keep `status.podIP` while the address is given
to others (kubernetes/kubernetes#92697, #98611).
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from recorder.errors import InventoryError
from recorder.identity.objects import Metadata, Owner, PodContainers, PodStatus, Probe, addresses, annotated, micros
from recorder.identity.timeline import Timeline
from recorder.records import SECOND

_ENDED = frozenset({"Succeeded", "Failed"})

Labels = tuple[tuple[str, str], ...]


class DeclaredPort(NamedTuple):
    """A port that a container declares."""

    name: str | None
    number: int
    protocol: str
    host_port: int | None


class Fact(NamedTuple):
    """What one event says of a pod, as far as it may change."""

    labels: Labels
    stated: tuple[str, ...]  # addresses in its status
    written: tuple[str, ...]  # addresses the CNI annotated
    cleared: bool  # the CNI's annotation is there and empty
    ended: bool
    finished: int | None  # second (µs) in which its last container stopped


class Declared(NamedTuple):
    """What a pod's containers declare; shared by all replicas."""

    ports: tuple[DeclaredPort, ...]
    probe_ports: tuple[int, ...]


NOTHING = Declared((), ())


class PodHistory:
    """One pod uid."""

    __slots__ = (
        "account",
        "created",
        "declared",
        "ephemeral",
        "host_network",
        "ips",
        "listed",
        "name",
        "namespace",
        "node",
        "owner",
        "proofs",
        "started",
        "timeline",
        "uid",
    )

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.namespace = self.name = ""
        self.node: str | None = None
        self.account: str | None = None
        self.created: int | None = None
        self.started: int | None = None
        self.host_network = False
        self.listed = False
        self.owner: Owner | None = None
        self.declared = NOTHING
        self.ephemeral: tuple[tuple[str, int | None], ...] = ()
        self.ips: tuple[str, ...] = ()
        self.proofs: dict[str, tuple[int, int]] | None = None
        self.timeline: Timeline[Fact] = Timeline()


class Holding(NamedTuple):
    """A pod's claim to an address. `shown`: when that was first known. `ended`: until when it surely held it."""

    pod: PodHistory
    shown: int
    basis: str
    witnessed: bool
    end: int | None
    ended: int | None


def holdings(pod: PodHistory) -> list[tuple[str, Holding]]:
    """Return the pod's claims to addresses, as its timeline tells them: (ip, claim) in order of time."""
    stated = {ip for fact in pod.timeline.facts if fact is not None for ip in fact.stated}
    families = {":" in ip for ip in stated}
    found: list[tuple[str, Holding]] = []
    held: dict[str, tuple[int, str, bool]] = {}

    def close(ips: Iterable[str], end: int, ended: int) -> None:
        for ip in ips:
            shown, basis, witnessed = held.pop(ip)
            found.append((ip, Holding(pod, shown, basis, witnessed, end, ended)))

    cleared = False
    ever = False
    for at, (time, fact) in enumerate(pod.timeline):
        if fact is None:
            close(sorted(held), time, time)
            continue
        # Anybody who may annotate pods could claim an address there: the status, once it names one, decides.
        written = [ip for ip in fact.written if ip in stated or (":" in ip) not in families]
        cleared = (cleared or fact.cleared) and not written
        taken = {":" in ip for ip in written}
        shown = dict.fromkeys(written, "annotation") | {ip: "event" for ip in fact.stated if (":" in ip) not in taken}
        if cleared and (ever or not fact.ended):
            shown = {}
        if (shown or cleared) and not fact.ended:
            close(sorted(held.keys() - shown.keys()), time, time)
        if not (fact.ended and (ever or (at == 0 and fact.finished is None))):
            for ip, basis in shown.items():
                held.setdefault(ip, (time, basis, at > 0))
        ever = ever or bool(held)
        if fact.ended:
            # The API's times are cut to the second: containers stopped at some time within it.
            late = fact.finished is not None and fact.finished + SECOND < time
            end = fact.finished + SECOND if late and fact.finished is not None else time
            close(sorted(held), end, fact.finished if late and fact.finished is not None else end)
    for ip, (time, basis, witnessed) in sorted(held.items()):
        found.append((ip, Holding(pod, time, basis, witnessed, None, None)))
    known = {ip for ip, _ in found}
    for ip, (time, _) in sorted((pod.proofs or {}).items()):
        if ip not in known:
            over = next((when for when, fact in pod.timeline if when > time and (fact is None or fact.ended)), None)
            found.append((ip, Holding(pod, time, "interface", witnessed=True, end=over, ended=over)))
    return found


def label_versions(pod: PodHistory, start: int, end: int) -> Iterator[tuple[int, int, Labels]]:
    """Yield (start, end, labels) for each run of equal labels within [start, end); the first reaches back to `start`."""
    current: Labels | None = None
    since = start
    for time, fact in pod.timeline:
        if fact is None or fact.labels == current:
            continue
        if current is not None and (until := min(time, end)) > since:
            yield since, until, current
            since = until
        current = fact.labels
    if end > since and current is not None:
        yield since, end, current


def fact_of(labels: Labels, metadata: Metadata, status: PodStatus | None, where: str) -> Fact:
    """Return what an event says of a pod; raises InventoryError, with `where`, for an address that is none."""
    written = annotated(metadata.annotations)
    if status is None:
        return Fact(labels, (), tuple(written or ()), written == [], ended=False, finished=None)
    texts = [status.podIP, *(entry.ip for entry in status.podIPs or ())]
    stated = tuple(sorted(addresses(texts)))
    if not stated and any(texts):
        raise InventoryError(f"{where}: Pod {metadata.name}: its address is none: {next(filter(None, texts))[:60]!r}")
    ended = status.phase in _ENDED
    return Fact(labels, stated, tuple(written or ()), written == [], ended, _finished(status) if ended else None)


@lru_cache(maxsize=4096)
def declared(pod: PodContainers) -> Declared:
    """Return what all containers of a pod declare, sorted, each once; named probe ports by their number."""
    containers = (*(pod.initContainers or ()), *(pod.containers or ()))
    ports: set[DeclaredPort] = set()
    probed: set[int] = set()
    for container in containers:
        named = {port.name: port.containerPort for port in container.ports or () if port.name}
        for port in container.ports or ():
            protocol = (port.protocol or "TCP").lower()
            ports.add(DeclaredPort(port.name or None, port.containerPort, protocol, port.hostPort or None))
        for probe in (container.livenessProbe, container.readinessProbe, container.startupProbe):
            for target in _probed(probe):
                number = named.get(target) if isinstance(target, str) else target
                if number is None and isinstance(target, str) and target.isascii() and target.isdigit():
                    number = int(target[:6])
                if number is not None and 0 < number <= 65535:
                    probed.add(number)
    order = sorted(ports, key=lambda port: (port.number, port.protocol, port.name or "", port.host_port or 0))
    return Declared(tuple(order), tuple(sorted(probed)))


def _probed(probe: Probe | None) -> Iterator[int | str]:
    if probe is not None:
        for handler in (probe.httpGet, probe.tcpSocket, probe.grpc):
            if handler is not None and not handler.host:
                yield handler.port


def _finished(status: PodStatus) -> int | None:
    """Return when the last container stopped (µs, cut to the second); None unless all are known to have."""
    times = [
        micros(one.state.terminated.finishedAt) if one.state is not None and one.state.terminated is not None else None
        for one in status.containerStatuses or ()
    ]
    known = [time for time in times if time is not None]
    return max(known) if known and len(known) == len(times) else None


def ephemeral_starts(status: PodStatus | None) -> dict[str, int]:
    """Return when each ephemeral container that has run was started (µs), by name."""
    found = {}
    for one in (status.ephemeralContainerStatuses if status is not None else None) or ():
        run = one.state and (one.state.running or one.state.terminated)
        start = micros(run.startedAt) if run else None
        if start is not None:
            found[one.name] = start
    return found
