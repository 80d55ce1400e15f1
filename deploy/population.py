"""Who and what was in the cluster, then and now: pods, namespaces, nodes and the backends of Services."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field, replace
from operator import itemgetter
from typing import Any

from deploy.semantics.rules import ContainerPort
from deploy.semantics.verdicts import Endpoint, Pairs
from learner.inventory import BETWEEN, Inventory
from recorder.records import SECOND
from recorder.store import Recording

CARRIED = 60 * SECOND
"""How long an open interval still holds after the last event that was seen."""

FOREVER = (1 << 62) - 1


@dataclass(frozen=True, slots=True)
class Pod:
    """One label version of one pod."""

    id: str
    uid: str
    namespace: str
    name: str
    node: str | None
    service_account: str | None
    ips: tuple[str, ...]
    workload: str
    labels: Pairs
    ports: tuple[ContainerPort, ...]
    host_network: bool
    start: int
    end: int | None
    observed_until: int

    @property
    def stop(self) -> int:
        """Return when it no longer held its addresses, as far as is known."""
        return self.end if self.end is not None else self.observed_until + CARRIED


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object of the inventory."""

    kind: str
    namespace: str | None
    name: str
    start: int
    end: int | None
    body: dict[str, Any]

    def held(self, first: int, last: int) -> bool:
        """Tell whether this version held at any moment between two times, both included."""
        return self.start <= last and (self.end is None or self.end > first)


@dataclass(frozen=True, slots=True)
class Backend:
    """What stands behind a Service and the port it serves there; `kind` as in the recording, `pod` when it is one."""

    kind: str
    pod: Pod | None
    address: str
    port: int


@dataclass(slots=True)
class Population:
    """The identities and inventory of a recording, indexed."""

    pods: dict[str, Pod] = field(default_factory=dict)
    versions: dict[tuple[str, str | None], list[Version]] = field(default_factory=dict)
    by_uid: dict[str, list[Pod]] = field(default_factory=dict)
    by_workload: dict[str, list[Pod]] = field(default_factory=dict)
    namespaces: dict[str, list[Version]] = field(default_factory=dict)

    @classmethod
    def of(cls, recording: Recording) -> "Population":
        """Read a recording's identities and inventory."""
        found = cls()
        inventory = Inventory.of(recording)
        for row in _rows(recording, "identities", ("start", "end", "observed_until"), "id"):
            _merge(found.pods, _pod(row, inventory))
        for pod in found.pods.values():
            found.by_uid.setdefault(pod.uid, []).append(pod)
            found.by_workload.setdefault(pod.workload, []).append(pod)
        for pods in (*found.by_uid.values(), *found.by_workload.values()):
            pods.sort(key=lambda pod: (pod.start, pod.id))
        versions: dict[tuple[str, str | None], list[Version]] = defaultdict(list)
        for row in _rows(recording, "inventory", ("start", "end"), "object"):
            if row["kind"] in ("Namespace", "Node", "Service", "EndpointSlice") or _is_policy(row["kind"]):
                body = json.loads(row["object"])
                version = Version(row["kind"], row["namespace"], row["name"], row["start"], row["end"], body)
                versions[row["kind"], row["namespace"]].append(version)
        found.versions = dict(versions)
        for version in versions.get(("Namespace", None), ()):
            found.namespaces.setdefault(version.name, []).append(version)
        return found

    def addresses(self) -> Iterator[tuple[str, str, str, str, int, int]]:
        """Yield (address, kind, id, holder, from, until) of all pods with an address of their own, and of nodes."""
        for pod in self.pods.values():
            if not pod.host_network:
                for ip in pod.ips:
                    yield ip, "pod", pod.id, pod.uid, pod.start, pod.stop
        for version in self.versions.get(("Node", None), ()):
            for entry in version.body.get("status", {}).get("addresses", ()):
                if entry.get("type") in ("InternalIP", "ExternalIP"):
                    stop = FOREVER if version.end is None else version.end
                    yield entry["address"], "node", version.name, f"node/{version.name}", version.start, stop

    def then(self, pod: Pod, ip: str, first: int, last: int) -> tuple[Endpoint, ...]:
        """Return a pod as it was between two times: one end for each set of labels its namespace had."""
        versions = self._namespaces(pod.namespace)
        held = {_labels(one) for one in versions if one.held(first, last)} or {_labels(one) for one in versions[:1]}
        return tuple(_endpoint(pod, ip, labels) for labels in sorted(held) or [()])

    def constant(self, pod: Pod) -> bool:
        """Tell whether the labels of a pod's namespace were the same all along."""
        return len({_labels(one) for one in self._namespaces(pod.namespace)}) <= 1

    def now(self, pod: Pod, ip: str) -> Endpoint:
        """Return a pod as its workload is today: labels and ports of its own or its successor's latest version."""
        latest = self.successor(pod)
        namespaces = self._namespaces(pod.namespace)
        labels = _labels(namespaces[-1]) if namespaces else ()
        return replace(_endpoint(pod, ip, labels), labels=latest.labels, ports=latest.ports)

    def successor(self, pod: Pod) -> Pod:
        """Return a pod's latest label version while it lives, else that of its namesake or of its workload's last pod."""
        own = self.by_uid[pod.uid][-1]
        if own.end is None:
            return own
        family = self.by_workload[pod.workload]
        namesakes = [one for one in family if one.name == pod.name and one.uid != pod.uid and one.start > own.start]
        return (namesakes or family)[-1]

    def backends(self, service: str, port: int | None, protocol: str, first: int, last: int) -> tuple[Backend, ...]:
        """Return what stood behind a Service's port between two times; empty when that is not known."""
        namespace, _, name = service.partition("/")
        names = {
            entry.get("name") or ""
            for version in self.versions.get(("Service", namespace), ())
            if version.name == name and version.held(first, last)
            for entry in version.body.get("spec", {}).get("ports") or ()
            if port in (entry.get("port"), entry.get("nodePort")) and _same(entry, protocol)
        }
        found: dict[tuple[str, int], Backend] = {}
        for version in self.versions.get(("EndpointSlice", namespace), ()):
            labels = version.body.get("metadata", {}).get("labels") or {}
            if labels.get("kubernetes.io/service-name") != name or not version.held(first, last):
                continue
            for entry in version.body.get("ports") or ():
                if (entry.get("name") or "") in names and _same(entry, protocol) and entry.get("port"):
                    for endpoint in version.body.get("endpoints") or ():
                        for backend in self._behind(endpoint, int(entry["port"]), last):
                            found[backend.address, backend.port] = backend
        return tuple(found[key] for key in sorted(found))

    def _behind(self, endpoint: dict[str, Any], port: int, at: int) -> Iterator[Backend]:
        target = endpoint.get("targetRef") or {}
        known = self.by_uid.get(str(target.get("uid")), [])
        versions = [pod for pod in known if pod.start <= at] or known
        kind = "pod" if versions else "unresolved" if target.get("kind") == "Pod" else "external"
        for address in endpoint.get("addresses") or ():
            yield Backend(kind, versions[-1] if versions else None, address, port)

    def policies(self) -> list[tuple[str, dict[str, Any]]]:
        """Return (place, object) of every policy that was in the cluster at the end of the recording."""
        latest = {
            (kind, namespace or "", version.name): version
            for (kind, namespace), versions in self.versions.items()
            if _is_policy(kind)
            for version in versions
        }
        return [
            (f"inventory {kind} {namespace}/{name}", version.body)
            for (kind, namespace, name), version in sorted(latest.items(), key=itemgetter(0))
            if version.end is None
        ]

    def _namespaces(self, name: str) -> list[Version]:
        return self.namespaces.get(name, [])


def _is_policy(kind: str) -> bool:
    return kind.endswith(("NetworkPolicy", "NetworkSet"))


def _same(entry: dict[str, Any], protocol: str) -> bool:
    return str(entry.get("protocol") or "TCP").lower() == protocol


def _labels(namespace: Version) -> Pairs:
    return tuple(sorted((namespace.body.get("metadata", {}).get("labels") or {}).items()))


def _endpoint(pod: Pod, ip: str, namespace_labels: Pairs) -> Endpoint:
    return Endpoint(
        kind="pod",
        ip=ip,
        name=pod.uid,
        namespace=pod.namespace,
        labels=pod.labels,
        namespace_labels=namespace_labels,
        ports=pod.ports,
        service_account=pod.service_account,
        host_network=pod.host_network,
        node=pod.node,
    )


def _rows(recording: Recording, table: str, times: tuple[str, ...], tie: str) -> Iterator[dict[str, Any]]:
    """Yield a table's rows with times as integers, ordered by start and then by what `tie` names."""
    data = recording.read(table)
    for name in times:
        data = data.set_column(data.column_names.index(name), name, data[name].cast("int64"))
    yield from data.sort_by([("start", "ascending"), (tie, "ascending")]).to_pylist()


def _pod(row: dict[str, Any], inventory: Inventory) -> Pod:
    kind, name = inventory.top(row["owner_kind"] or "Pod", row["namespace"], row["owner_name"] or row["pod"])
    return Pod(
        id=row["id"],
        uid=row["uid"],
        namespace=row["namespace"],
        name=row["pod"],
        node=row["node"],
        service_account=row["service_account"],
        ips=tuple(row["ips"] or ()),
        workload=f"{row['namespace']}/{kind.lower()}/{name}",
        labels=tuple(sorted(dict(row["labels"] or ()).items())),
        ports=tuple(
            ContainerPort(port["name"] or "", port["number"], (port["protocol"] or "TCP").lower())
            for port in row["ports"] or ()
        ),
        host_network=bool(row["host_network"]),
        start=row["start"],
        end=row["end"],
        observed_until=row["observed_until"],
    )


def _merge(pods: dict[str, Pod], pod: Pod) -> None:
    """Add a row to those of the same id, in any order: earliest start, any end, latest observation."""
    other = pods.get(pod.id)
    if other is None:
        pods[pod.id] = pod
        return
    ends = [one.end for one in (other, pod) if one.end is not None]
    pods[pod.id] = replace(
        other,
        ips=tuple(sorted({*other.ips, *pod.ips})),
        workload=min(other.workload, pod.workload, key=_remoteness),
        ports=tuple(sorted({*other.ports, *pod.ports}, key=astuple)),
        host_network=other.host_network or pod.host_network,
        node=_either(other.node, pod.node),
        service_account=_either(other.service_account, pod.service_account),
        start=min(other.start, pod.start),
        end=max(ends) if ends else None,
        observed_until=max(other.observed_until, pod.observed_until),
    )


def _remoteness(workload: str) -> tuple[bool, bool, str]:
    """Return what orders the owners that rows of one pod name: a top controller before one in between, then the pod."""
    kind = workload.split("/")[1]
    return kind in {one.lower() for one in BETWEEN}, kind == "pod", workload


def _either(one: str | None, other: str | None) -> str | None:
    return min((text for text in (one, other) if text), default=None)
