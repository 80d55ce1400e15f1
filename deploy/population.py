"""Who and what was in the cluster, then and now: pods, namespaces, nodes and the backends of Services."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from operator import itemgetter
from typing import Any

from deploy.semantics.ends import ContainerPort, Endpoint, Pairs
from learner.inventory import BETWEEN, Inventory
from recorder.errors import InputError
from recorder.records import SECOND, Tables

CARRIED = 60 * SECOND
"""How long an open interval still holds after the last event that was seen."""

FOREVER = (1 << 62) - 1
EVER = -FOREVER


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

    @property
    def stop(self) -> int:
        """Return when it ceased to hold."""
        return FOREVER if self.end is None else self.end


@dataclass(frozen=True, slots=True)
class Stretch:
    """A pod as it was from `start` until `stop` (exclusive)."""

    start: int
    stop: int
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Backend:
    """What stood behind a Service from `start` until `stop`, and the port it serves; `kind` and `id` as in the recording."""

    start: int
    stop: int
    kind: str
    address: str
    id: str | None
    port: int


_KINDS = ("Namespace", "Node", "Service", "EndpointSlice", "ServiceAccount")


@dataclass
class Population:
    """The identities and inventory of a recording, indexed."""

    pods: dict[str, Pod] = field(default_factory=dict)
    versions: dict[tuple[str, str | None], list[Version]] = field(default_factory=dict)
    by_uid: dict[str, list[Pod]] = field(default_factory=dict)
    by_workload: dict[str, list[Pod]] = field(default_factory=dict)
    namespaces: dict[str, list[Version]] = field(default_factory=dict)
    served: dict[str, tuple[tuple[str, str, int], ...]] = field(default_factory=dict)
    _unknown: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    _stretches: dict[tuple[str, str], list[tuple[int, int, Pairs, Pairs]]] = field(default_factory=dict)

    @classmethod
    def of(cls, recording: Tables) -> "Population":
        """Read the identities and the inventory."""
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
            if row["kind"] in _KINDS or _is_policy(row["kind"]):
                body = json.loads(row["object"])
                version = Version(row["kind"], row["namespace"], row["name"], row["start"], row["end"], body)
                versions[row["kind"], row["namespace"]].append(version)
        found.versions = dict(versions)
        for version in versions.get(("Namespace", None), ()):
            found.namespaces.setdefault(version.name, []).append(version)
        found.served = found._find_served()
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

    def then(self, pod: Pod, ip: str | None) -> tuple[Stretch, ...]:
        """Return a pod as it was over time: a stretch for each set of labels of its namespace and service account."""
        found: list[Stretch] = []
        for start, stop, space, account in self._labels(pod):
            endpoint = self._endpoint(pod, ip, space, account)
            if found and found[-1].endpoint == endpoint:
                found[-1] = replace(found[-1], stop=stop)
            else:
                found.append(Stretch(start, stop, endpoint))
        return tuple(found)

    def now(self, pod: Pod, ip: str | None) -> Endpoint:
        """Return a pod as its workload is today: labels and ports of its own or its successor's latest version."""
        latest = self.successor(pod)
        _, _, space, account = self._labels(latest)[-1]
        if latest is pod:
            return self._endpoint(pod, ip, space, account)
        endpoint = self._endpoint(pod, ip, space, account)
        return replace(endpoint, labels=latest.labels, ports=latest.ports, service_account=latest.service_account)

    def _labels(self, pod: Pod) -> list[tuple[int, int, Pairs, Pairs]]:
        """Return (start, stop, labels of the namespace, labels of the service account) over all time, in order."""
        key = (pod.namespace, pod.service_account or "default")
        if key not in self._stretches:
            spaces = self.namespaces.get(pod.namespace, [])
            accounts = [one for one in self.versions.get(("ServiceAccount", key[0]), ()) if one.name == key[1]]
            starts = sorted({one.start for versions in (spaces, accounts) for one in versions[1:]})
            self._stretches[key] = [
                (start, stop, _labels_at(spaces, start), _labels_at(accounts, start))
                for start, stop in zip([EVER, *starts], [*starts, FOREVER], strict=True)
            ]
        return self._stretches[key]

    def _endpoint(self, pod: Pod, ip: str | None, space: Pairs, account: Pairs) -> Endpoint:
        return Endpoint(
            kind="pod",
            ip=ip,
            name=pod.uid,
            namespace=pod.namespace,
            labels=pod.labels,
            namespace_labels=space,
            ports=pod.ports,
            service_account=pod.service_account,
            service_account_labels=account,
            services=self.served.get(pod.uid, ()),
            host_network=pod.host_network,
            node=pod.node,
            vague=self._vague(pod),
        )

    def _vague(self, pod: Pod) -> frozenset[str]:
        """Return whose labels the inventory does not hold."""
        key = (pod.namespace, pod.service_account or "default")
        if key not in self._unknown:
            accounts = self.versions.get(("ServiceAccount", key[0]), ())
            known = {
                "namespace": bool(self.namespaces.get(key[0])),
                "account": any(one.name == key[1] for one in accounts),
            }
            self._unknown[key] = frozenset(what for what, held in known.items() if not held)
        return self._unknown[key]

    def successor(self, pod: Pod) -> Pod:
        """Return a pod's latest label version while it lives, else that of its namesake or of its workload's last pod."""
        own = self.by_uid[pod.uid][-1]
        if own.end is None:
            return own
        family = self.by_workload[pod.workload]
        namesakes = [one for one in family if one.name == pod.name and one.uid != pod.uid and one.start > own.start]
        return (namesakes or family)[-1]

    def backends(self, service: str, port: int | None, protocol: str) -> tuple[Backend, ...]:
        """Return what stood behind a Service's port over time; empty when that is not known."""
        found: dict[Backend, None] = {}
        for start, stop, entry, slices in self._slices(service, port, protocol):
            for endpoint in slices.get("endpoints") or ():
                for backend in self._behind(service, endpoint, int(entry["port"]), start, stop):
                    found[backend] = None
        return tuple(
            sorted(found, key=lambda one: (one.start, one.stop, one.address, one.port, one.kind, one.id or ""))
        )

    def _slices(
        self, service: str, port: int | None, protocol: str
    ) -> Iterator[tuple[int, int, dict[str, Any], dict[str, Any]]]:
        """Yield (start, stop, port entry, EndpointSlice) of those that serve a Service's port."""
        namespace, _, name = service.partition("/")
        for version in self.versions.get(("Service", namespace), ()):
            if version.name != name:
                continue
            names = {
                entry.get("name") or ""
                for entry in version.body.get("spec", {}).get("ports") or ()
                if port in (entry.get("port"), entry.get("nodePort")) and _same(entry, protocol)
            }
            for other in self.versions.get(("EndpointSlice", namespace), ()):
                start, stop = max(version.start, other.start), min(version.stop, other.stop)
                if _service(other) == name and start < stop:
                    for entry in other.body.get("ports") or ():
                        if (entry.get("name") or "") in names and _same(entry, protocol) and entry.get("port"):
                            yield start, stop, entry, other.body

    def _behind(self, service: str, endpoint: dict[str, Any], port: int, start: int, stop: int) -> Iterator[Backend]:
        target = endpoint.get("targetRef") or {}
        versions = self.by_uid.get(str(target.get("uid")), [])
        changes = [pod.start for pod in versions[1:]]
        for address in endpoint.get("addresses") or ():
            for pod, since, until in zip(versions, [EVER, *changes], [*changes, FOREVER], strict=False):
                if since < stop and until > start:
                    yield Backend(max(start, since), min(stop, until), "pod", address, pod.id, port)
            if versions:
                continue
            kind, id_ = "external", self._node_of.get(address)
            if target.get("kind") == "Pod":
                kind, id_ = "unresolved", None
            elif service == "default/kubernetes":
                kind, id_ = "apiserver", None
            elif id_ is not None:
                kind = "node"
            yield Backend(start, stop, kind, address, id_, port)

    @cached_property
    def _node_of(self) -> dict[str, str]:
        """Return the node that has an address."""
        return {
            entry["address"]: version.name
            for version in self.versions.get(("Node", None), ())
            for entry in version.body.get("status", {}).get("addresses", ())
            if entry.get("type") in ("InternalIP", "ExternalIP")
        }

    @property
    def known_services(self) -> frozenset[str]:
        """Return the Services whose endpoints are known: all, when the inventory holds EndpointSlices at all."""
        if not any(kind == "EndpointSlice" for kind, _ in self.versions):
            return frozenset()
        return frozenset(
            f"{namespace}/{_service(version) if kind == 'EndpointSlice' else version.name}"
            for (kind, namespace), versions in self.versions.items()
            if kind in ("Service", "EndpointSlice")
            for version in versions
        )

    def _find_served(self) -> dict[str, tuple[tuple[str, str, int], ...]]:
        """Return which (Service, protocol, port) each pod (by uid) and each other address serves, at any time."""
        found: dict[str, set[tuple[str, str, int]]] = defaultdict(set)
        for (kind, namespace), versions in self.versions.items():
            for version in versions if kind == "EndpointSlice" else ():
                service = f"{namespace}/{_service(version)}"
                ports = [
                    (service, str(entry.get("protocol") or "TCP").lower(), int(entry["port"]))
                    for entry in version.body.get("ports") or ()
                    if entry.get("port")
                ]
                for endpoint in version.body.get("endpoints") or ():
                    uid = str((endpoint.get("targetRef") or {}).get("uid") or "")
                    for holder in [uid] if uid in self.by_uid else endpoint.get("addresses") or ():
                        found[holder].update(ports)
        return {holder: tuple(sorted(ports)) for holder, ports in found.items()}

    def api_server(self) -> tuple[str, ...]:
        """Return the addresses of the API server, as the EndpointSlices of `default/kubernetes` have them."""
        slices = [one for one in self.versions.get(("EndpointSlice", "default"), ()) if _service(one) == "kubernetes"]
        ends = [end for one in slices if one.end is None for end in one.body.get("endpoints") or ()]
        return tuple(sorted({address for end in ends for address in end.get("addresses") or ()}))

    def node_address(self, name: str) -> str | None:
        """Return a node's address inside the cluster, None when it is not known; raises InputError for an unknown node."""
        versions = [version for version in self.versions.get(("Node", None), ()) if version.name == name]
        if not versions:
            raise InputError(f"node {name!r} is not in the inventory")
        addresses = versions[-1].body.get("status", {}).get("addresses", ())
        return next((entry["address"] for entry in addresses if entry.get("type") == "InternalIP"), None)

    def selector(self, service: str | None, address: str) -> Pairs | None:
        """Return the selector of the Service whose cluster address this is, None when it is none's or has no such."""
        namespace, _, name = (service or "").partition("/")
        specs = [one.body.get("spec", {}) for one in self.versions.get(("Service", namespace), ()) if one.name == name]
        held = [spec for spec in specs if spec.get("clusterIP") == address]
        return tuple(sorted((held[-1].get("selector") or {}).items())) if held else None

    def namespace_labels(self, name: str) -> Pairs:
        """Return the latest labels of a namespace."""
        return _labels_at(self.namespaces.get(name, []), FOREVER)

    def policies(self) -> list[tuple[str, dict[str, Any]]]:
        """Return (place, object) of every policy that was in the cluster at the end of the recording."""
        latest = {
            (kind, namespace or "", version.name): version
            for (kind, namespace), versions in self.versions.items()
            if _is_policy(kind)
            for version in versions
        }
        return [
            (f"inventory {kind} {namespace}/{name}" if namespace else f"inventory {kind} {name}", version.body)
            for (kind, namespace, name), version in sorted(latest.items(), key=itemgetter(0))
            if version.end is None
        ]


def _is_policy(kind: str) -> bool:
    return kind.endswith(("NetworkPolicy", "NetworkSet")) or kind in ("Tier", "CiliumCIDRGroup", "HostEndpoint")


def _same(entry: dict[str, Any], protocol: str) -> bool:
    return str(entry.get("protocol") or "TCP").lower() == protocol


def _service(slices: Version) -> str:
    labels = slices.body.get("metadata", {}).get("labels") or {}
    return str(labels.get("kubernetes.io/service-name") or "")


def _labels_at(versions: Sequence[Version], time: int) -> Pairs:
    """Return the labels of the version that held at a time; before the first, its own."""
    held = [one for one in versions if one.start <= time] or list(versions[:1])
    return tuple(sorted((held[-1].body.get("metadata", {}).get("labels") or {}).items())) if held else ()


def _rows(recording: Tables, table: str, times: tuple[str, ...], tie: str) -> Iterator[dict[str, Any]]:
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
