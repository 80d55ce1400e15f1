"""Who held an address at a time: `ip → [start, end) → pod, label version`, from what the cluster said and nodes proved.

State: every pod seen, as a timeline of facts. Intervals are derived from it when asked for, so the order in which events
arrive does not matter.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recorder.identity.events import Event
from recorder.identity.objects import Metadata, Pod, PodContainers, describe, group, micros, read
from recorder.identity.owners import Owners, Workload, controller
from recorder.identity.pods import (
    Holding,
    Labels,
    PodHistory,
    declared,
    ephemeral_starts,
    fact_of,
    holdings,
    label_versions,
)
from recorder.records import SECOND, Identity, identity_id

NONE = -1
"""Code of an address that nobody held."""
AMBIGUOUS = -2
"""Code of an address that two pods held."""
CARRY = 60 * SECOND
"""How long what was last known of an address is believed once events stop."""
KEPT = 600 * SECOND
"""How long at least a live index remembers a pod that has ended."""

_LAG = SECOND
"""Longest time by which the API shows an address late, where the pod was seen without it before; 60 ms is usual."""
_FOREVER = np.iinfo(np.int64).max


class _Span(NamedTuple):
    """A pod's hold on an address once all claims to it are known."""

    pod: PodHistory
    start: int
    end: int | None
    basis: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A pod with one version of its labels; `id` is its key in the identities table."""

    id: str
    uid: str
    namespace: str
    name: str
    node: str | None
    labels: Mapping[str, str]
    ports: list[dict[str, Any]]


class Identities:
    """All pods seen and the addresses they held.

    `observed_until` (µs) is the time of the last event of any kind; past it, open intervals are carried for `CARRY`.
    """

    def __init__(self) -> None:
        self.observed_until = 0
        self.owners = Owners()
        self._pods: dict[str, PodHistory] = {}
        self._holders: dict[str, list[PodHistory]] = {}
        self._floors: dict[str, int] = {}
        self._segments: dict[str, tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int32]]] = {}
        self._codes: dict[tuple[str, Labels], int] = {}
        self._versions: list[tuple[PodHistory, Labels] | None] = []
        self._known: dict[int, Holder] = {}
        self._interned: dict[Any, Any] = {}
        self._hosting: dict[tuple[int, str], list[PodHistory]] = {}

    def apply(self, event: Event) -> None:
        """Take an event of any kind, in any order; raises InventoryError when a pod cannot be read."""
        self.observed_until = max(self.observed_until, event.time)
        if event.type == "BOOKMARK":
            return
        kind = event.object.get("kind")
        if kind == "Pod" and not group(event.object):
            self._apply_pod(event)
        elif isinstance(kind, str):
            metadata = event.object.get("metadata")
            if kind in {"ReplicaSet", "Job", "Deployment", "CronJob"} or (
                isinstance(metadata, dict) and "ownerReferences" in metadata
            ):
                self.owners.apply(kind, read(metadata, Metadata, event.where))

    def proven(self, uid: str, ip: str, time: int) -> None:
        """Take the node's own proof that the pod held the address at `time`: an interface that only the pod has."""
        pod = self._pod(uid)
        first, last = (pod.proofs or {}).get(ip, (time, time))
        pod.proofs = {**(pod.proofs or {}), ip: (min(first, time), max(last, time))}
        self._claim(pod, [ip])

    def forget(self, before: int) -> None:
        """Drop pods that ended before `before` (µs), but none that ended less than `KEPT` before the last event."""
        limit = min(before, self.observed_until - KEPT)
        for pod in list(self._pods.values()):
            last = pod.timeline.facts[-1] if len(pod.timeline) else None
            if not len(pod.timeline) or pod.timeline.last >= limit or (last is not None and not last.ended):
                continue
            for ip, holding in holdings(pod):
                self._floors[ip] = max(self._floors.get(ip, 0), holding.ended or 0)
            self._drop(pod)
        self._interned.clear()

    def addresses(self) -> list[str]:
        """Return every address that a pod held, sorted as text."""
        return sorted(self._holders)

    def holders(self, ip: str, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Return who held `ip` (canonical text) at `times` (int64 µs, any shape), as int32 of the same shape.

        Values: `NONE`, `AMBIGUOUS`, or a code for `pod` and `node`; codes stay valid as events come.
        """
        bounds, codes = self._segments_of(ip)
        return codes[np.searchsorted(bounds, times, side="right")]

    def carried(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return at which times (int64 µs) a holder is known only by carrying on what was last observed."""
        return times >= self.observed_until

    def pod(self, code: int) -> Holder:
        """Return the pod and label version behind a code; raises KeyError when it is none or was forgotten."""
        known = self._known.get(code)
        if known is None:
            pod, labels = self._version(code)
            named = dict(labels)
            ports = [port._asdict() for port in pod.declared.ports]
            known = Holder(identity_id(pod.uid, named), pod.uid, pod.namespace, pod.name, pod.node, named, ports)
            self._known[code] = known
        return known

    def node(self, code: int) -> str | None:
        """Return the node of the pod behind a code, None while it has none; raises KeyError like `pod`."""
        return self._version(code)[0].node

    def versions(self, uid: str, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Return the label version of a pod at `times` (int64 µs) as codes, whether or not it held an address then.

        For who knows the pod by its interface; the first version reaches back and the last one on. `NONE` if unknown.
        """
        pod = self._pods.get(uid)
        found = [] if pod is None else list(label_versions(pod, -_FOREVER, _FOREVER))
        if pod is None or not found:
            return np.full(np.shape(times), NONE, dtype=np.int32)
        codes = np.array([self._code(pod, labels) for _, _, labels in found], dtype=np.int32)
        bounds = np.array([end for _, end, _ in found[:-1]], dtype=np.int64)
        return codes[np.searchsorted(bounds, times, side="right")]

    def pods_at(self, ip: str, node: str | None = None) -> list[tuple[str, int, int | None]]:
        """Return (uid, start, end) of all holds on an address, or of one node's, in order of their proof."""
        return [(one.pod.uid, one.start, one.end) for one in self._spans(ip) if node is None or one.pod.node == node]

    def held(self, ip: str) -> bool:
        """Return whether any pod held the address at any time."""
        return ip in self._holders

    def nodes(self) -> set[str]:
        """Return the names of the nodes that pods ran on."""
        return {pod.node for pod in self._pods.values() if pod.node}

    def host_ports(self, node: str, port: int, protocol: str) -> Iterator[tuple[str, int, str, int, int]]:
        """Yield (`namespace/name`, container port, ip, start, end) of pods reached through a port of their node.

        The end of an interval that lasts is the highest int64.
        """
        for pod in self._hosting.get((port, protocol), ()):
            if pod.node == node and not pod.host_network:
                numbers = [
                    one.number for one in pod.declared.ports if (one.host_port, one.protocol) == (port, protocol)
                ]
                for ip in pod.ips:
                    for span in self._spans(ip):
                        if span.pod is pod:
                            end = _FOREVER if span.end is None else span.end
                            yield f"{pod.namespace}/{pod.name}", numbers[0], ip, span.start, end

    def rows(self, cluster: str, node: str | None = None) -> list[Identity]:
        """Return the identities table, or one node's part of it: a row for each pod and label version, sorted by id."""
        found: dict[str, list[_Span]] = {}
        for ip in self._holders:
            for span in self._spans(ip):
                found.setdefault(span.pod.uid, []).append(span)
        rows = []
        for uid, pod in self._pods.items():
            if len(pod.timeline) and (node is None or pod.node == node):
                rows += self._rows(cluster, pod, found.get(uid, []))
        return sorted(rows, key=lambda row: row.id)

    def _pod(self, uid: str) -> PodHistory:
        pod = self._pods.get(uid)
        if pod is None:
            pod = self._pods[uid] = PodHistory(uid)
        return pod

    def _apply_pod(self, event: Event) -> None:
        value = read(event.object, Pod, event.where)
        metadata = value.metadata
        uid = metadata.uid or f"{metadata.namespace or ''}/{metadata.name}"
        pod = self._pod(uid)
        self._known.clear()
        if not len(pod.timeline):
            self._introduce(pod, metadata, event)
        newest = not len(pod.timeline) or event.time >= pod.timeline.last
        if newest:
            self._update(pod, value)
        pod.listed |= event.listed
        labels = self._shared(tuple(sorted((metadata.labels or {}).items())))
        fact = fact_of(labels, metadata, value.status, event.where)
        changed = pod.timeline.add(event.time, fact)
        if event.type == "DELETED":
            changed |= pod.timeline.add(event.time, None)
        if changed:
            self._claim(pod, [*fact.stated, *fact.written])

    def _introduce(self, pod: PodHistory, metadata: Metadata, event: Event) -> None:
        """Take what never changes in a pod's life."""
        pod.name = metadata.name
        pod.namespace = self._shared(metadata.namespace or "default")
        pod.created = micros(metadata.creationTimestamp)
        pod.owner = self._shared(controller(metadata))
        spec = event.object.get("spec")
        if spec is not None:
            pod.declared = declared(read(spec, PodContainers, f"{event.where}: {describe(event.object)}"))
        for port in pod.declared.ports:
            if port.host_port and pod not in (hosting := self._hosting.setdefault((port.host_port, port.protocol), [])):
                hosting.append(pod)

    def _update(self, pod: PodHistory, value: Pod) -> None:
        """Take what the newest event knows best."""
        spec, status = value.spec, value.status
        if spec is not None:
            pod.node = self._shared(spec.nodeName) or pod.node
            pod.account = self._shared(spec.serviceAccountName) or pod.account
            pod.host_network = bool(spec.hostNetwork)
            if spec.ephemeralContainers:
                starts = ephemeral_starts(status)
                names = sorted({container.name for container in spec.ephemeralContainers})
                pod.ephemeral = tuple((name, starts.get(name)) for name in names)
        if status is not None and status.startTime is not None:
            pod.started = micros(status.startTime)

    def _shared(self, value: Any) -> Any:
        """Return the one copy of an immutable value that many pods have in common."""
        return self._interned.setdefault(value, value)

    def _claim(self, pod: PodHistory, ips: Iterable[str]) -> None:
        """Remember that the pod may hold addresses, and that what was derived from it no longer stands."""
        for ip in ips:
            if ip not in pod.ips:
                pod.ips = (*pod.ips, ip)
        for ip in pod.ips:
            self._segments.pop(ip, None)
            if not pod.host_network:
                holders = self._holders.setdefault(ip, [])
                if pod not in holders:
                    holders.append(pod)

    def _drop(self, pod: PodHistory) -> None:
        for ip in pod.ips:
            self._segments.pop(ip, None)
            if ip in self._holders:
                self._holders[ip] = [other for other in self._holders[ip] if other is not pod]
                if not self._holders[ip]:
                    del self._holders[ip]
        for labels in {fact.labels for fact in pod.timeline.facts if fact is not None}:
            code = self._codes.pop((pod.uid, labels), None)
            if code is not None:
                self._versions[code] = None
                self._known.pop(code, None)
        for port in pod.declared.ports:
            if port.host_port:
                hosting = self._hosting[port.host_port, port.protocol]
                self._hosting[port.host_port, port.protocol] = [other for other in hosting if other is not pod]
        del self._pods[pod.uid]

    def _spans(self, ip: str) -> list[_Span]:
        """Return all holds on an address in order of their proof.

        A hold begins at the earliest proof, or down to the pod's creation, as packets come before the API shows the
        address; but not before the end of those known to have held it until then. Where another still held it at the
        time of the proof, both did as far as anybody can know: since the node's proof, or since the API's less its lag.
        """
        claims = []
        for pod in self._holders.get(ip, ()):
            before = 0
            for holding in (holding for claimed, holding in holdings(pod) if claimed == ip):
                proof = _first_proof(holding, ip)
                if proof is not None and proof < before:
                    proof = None  # of an earlier hold
                shown = min(holding.shown, _FOREVER if holding.end is None else holding.end)
                claims.append((min(shown, _FOREVER if proof is None else proof), pod.uid, holding, proof))
                before = holding.end or before
        claims.sort(key=lambda claim: (claim[0], claim[2].pod.created or 0, claim[1], claim[2].shown))
        spans: list[_Span] = []
        earlier: list[Holding] = []
        floor = self._floors.get(ip, 0)
        for anchor, _, holding, proof in claims:
            past = [other for other in earlier if other.end is not None and other.end <= anchor]
            earlier = [other for other in earlier if other.end is None or other.end > anchor]
            floor = max([floor, *(other.ended or 0 for other in past)])
            start = anchor
            if not (earlier and proof == anchor and holding.witnessed):
                start = _lowered(holding, anchor, floor, contested=bool(earlier))
            earlier.append(holding)
            spans.append(_Span(holding.pod, start, holding.end, _basis(holding, start, proof)))
        return spans

    def _segments_of(self, ip: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Return (bounds, codes) of an address: codes[i] holds from bounds[i - 1] to before bounds[i]."""
        cached = self._segments.get(ip)
        if cached is not None and cached[0] == self.observed_until:
            return cached[1], cached[2]
        marks: list[tuple[int, bool, str, int]] = []
        for span in self._spans(ip):
            limit = self.observed_until + CARRY
            if span.pod.proofs and ip in span.pod.proofs:
                limit = max(limit, span.pod.proofs[ip][1] + 1)
            for start, end, labels in label_versions(span.pod, span.start, limit if span.end is None else span.end):
                code = self._code(span.pod, labels)
                marks += [(start, True, span.pod.uid, code), (end, False, span.pod.uid, code)]
        bounds, codes = _sweep(marks)
        self._segments[ip] = (self.observed_until, bounds, codes)
        return bounds, codes

    def _code(self, pod: PodHistory, labels: Labels) -> int:
        code = self._codes.get((pod.uid, labels))
        if code is None:
            code = self._codes[pod.uid, labels] = len(self._versions)
            self._versions.append((pod, labels))
        return code

    def _version(self, code: int) -> tuple[PodHistory, Labels]:
        found = self._versions[code] if 0 <= code < len(self._versions) else None
        if found is None:
            raise KeyError(code)
        return found

    def _rows(self, cluster: str, pod: PodHistory, spans: list[_Span]) -> list[Identity]:
        start, end, basis = _life(pod, spans)
        merged: dict[Labels, tuple[int, int | None]] = {}
        for begin, until, labels in label_versions(pod, start, _FOREVER if end is None else end):
            first, _ = merged.get(labels, (begin, None))
            merged[labels] = (first, None if until == _FOREVER else until)
        if not merged:
            merged[next(fact.labels for fact in reversed(pod.timeline.facts) if fact is not None)] = (start, end)
        ips = sorted(pod.ips if pod.host_network else {ip for ip, _ in holdings(pod)})
        rows = []
        for labels, (begin, stopped) in merged.items():
            named = dict(labels)
            owner = Workload("Pod", pod.name, pod.uid)
            if pod.owner is not None:
                owner = self.owners.top(pod.namespace, pod.owner, named)
            rows.append(
                Identity(
                    cluster=cluster,
                    id=identity_id(pod.uid, named),
                    uid=pod.uid,
                    namespace=pod.namespace,
                    pod=pod.name,
                    node=pod.node,
                    service_account=pod.account,
                    ips=ips,
                    owner_kind=owner.kind,
                    owner_name=owner.name,
                    owner_uid=owner.uid,
                    labels=named,
                    ports=[port._asdict() for port in pod.declared.ports],
                    probe_ports=list(pod.declared.probe_ports),
                    ephemeral=[{"name": name, "start": began} for name, began in pod.ephemeral],
                    host_network=pod.host_network,
                    start=begin,
                    end=stopped,
                    observed_until=self.observed_until,
                    start_basis=basis if begin == start else "event",
                )
            )
        return rows


def _first_proof(holding: Holding, ip: str) -> int | None:
    """Return when the node first proved this hold, where that is no later than the API showed it."""
    time = (holding.pod.proofs or {}).get(ip, (None, None))[0]
    return time if time is not None and time <= holding.shown else None


def _lowered(holding: Holding, anchor: int, floor: int, *, contested: bool) -> int:
    """Return the earliest start of a hold that was proven at `anchor`, above all ends known before (`floor`)."""
    pod = holding.pod
    lowest = anchor if pod.created is None else pod.created
    if contested:
        lowest = max(lowest, pod.started or lowest, anchor - _LAG if holding.witnessed else lowest)
    return min(anchor, max(lowest, floor))


def _basis(holding: Holding, start: int, proof: int | None) -> str:
    if start == proof:
        return "interface"
    if holding.pod.listed:
        return "list"
    return "created" if start < holding.shown else holding.basis


def _life(pod: PodHistory, spans: list[_Span]) -> tuple[int, int | None, str]:
    """Return (start, end, basis) of a pod over all its addresses, or of its own when it has none."""
    if spans:
        first = min(spans, key=lambda span: span.start)
        ends = [span.end for span in spans if span.end is not None]
        return first.start, max(ends) if len(ends) == len(spans) else None, first.basis
    shown = pod.timeline.firsts[0]
    end: int | None = None
    for time, fact in pod.timeline:
        if fact is None or fact.ended:
            late = fact.finished if fact is not None and fact.finished is not None else time
            end = min(time, late + SECOND) if end is None else end
        else:
            end = None
    start = shown if pod.created is None else min(shown, pod.created)
    basis = "list" if pod.listed else "created" if start < shown else "event"
    return start, end if end is None else max(start, end), basis


def _sweep(marks: list[tuple[int, bool, str, int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Return (bounds, codes) from (time, begins, uid, code) marks."""
    bounds: list[int] = []
    codes: list[int] = [NONE]
    active: dict[str, list[int]] = {}
    for time, begins, uid, code in sorted(marks):
        held = active.setdefault(uid, [])
        if begins:
            held.append(code)
        else:
            held.remove(code)
            if not held:
                del active[uid]
        value = NONE if not active else AMBIGUOUS if len(active) > 1 else next(iter(active.values()))[-1]
        if bounds and bounds[-1] == time:
            codes[-1] = value
        else:
            bounds.append(time)
            codes.append(value)
    return np.array(bounds, dtype=np.int64), np.array(codes, dtype=np.int32)
