"""What the recording knows about the cluster: pods as they were, and its objects as of a time.

Small tables for the SQL are made here, because unpacking JSON is no work for SQL that must run on two engines.
"""

import ipaddress
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from recorder.records import SECOND, Tables
from recorder.store import Recording

CARRIED = 60 * SECOND
"""How long after its last observation an open identity still counts as alive (the recording's contract)."""

ALWAYS = 1 << 62
"""An end that has not come."""

BATCH_KINDS = frozenset({"Job", "CronJob"})
BETWEEN = frozenset({"ReplicaSet", "Job"})
"""Kinds that usually have a controller of their own."""


@dataclass(frozen=True, slots=True)
class PodVersion:
    """A pod with one version of its labels; times in µs, `until` exclusive, `tainted_from` its first debug container."""

    id: str
    uid: str
    namespace: str
    name: str
    node: str | None
    owner_kind: str
    owner_name: str
    labels: Mapping[str, str]
    ips: tuple[str, ...]
    ports: tuple[tuple[str, int, str], ...]
    probe_ports: tuple[int, ...]
    host_network: bool
    start: int
    until: int
    carried: bool
    start_basis: str
    tainted_from: int | None

    @property
    def workload(self) -> str:
        """Its workload's name, `namespace/kind/name`."""
        return f"{self.namespace}/{self.owner_kind.lower()}/{self.owner_name}"


@dataclass(frozen=True)
class Version:
    """One version of an object; `body` is parsed when first asked for."""

    kind: str
    namespace: str
    name: str
    uid: str
    start: int
    end: int
    text: str

    @cached_property
    def body(self) -> dict[str, Any]:
        """The object as the API has it; empty when the text is not an object."""
        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Inventory:
    """All versions of all objects, in order of (kind, namespace, name, start)."""

    versions: tuple[Version, ...]

    @classmethod
    def of(cls, recording: Tables) -> "Inventory":
        """Read the inventory of a recording; equal rows count once."""
        table = recording.read("inventory")
        times = [table[name].cast(pa.int64()).to_pylist() for name in ("start", "end")]
        texts = [table[name].to_pylist() for name in ("kind", "namespace", "name", "uid", "object")]
        rows = {
            (kind, namespace or "", name, start, ALWAYS if end is None else end, uid or "", text or "")
            for kind, namespace, name, uid, text, start, end in zip(*texts, *times, strict=True)
        }
        return cls(
            tuple(
                Version(kind, namespace, name, uid, start, end, text)
                for kind, namespace, name, start, end, uid, text in sorted(rows)
            )
        )

    @cached_property
    def _kinds(self) -> Mapping[str, tuple[Version, ...]]:
        found: defaultdict[str, list[Version]] = defaultdict(list)
        for version in self.versions:
            found[version.kind].append(version)
        return {kind: tuple(versions) for kind, versions in found.items()}

    def kind(self, kind: str) -> tuple[Version, ...]:
        """Return all versions of all objects of a kind."""
        return self._kinds.get(kind, ())

    @cached_property
    def _latest(self) -> Mapping[tuple[str, str, str], Version]:
        return {(version.kind, version.namespace, version.name): version for version in self.versions}

    def latest(self, kind: str, namespace: str, name: str) -> Version | None:
        """Return the last version of an object."""
        return self._latest.get((kind, namespace, name))

    def top(self, kind: str, namespace: str, name: str) -> tuple[str, str]:
        """Return (kind, name) of the top controller above an owner, as far as the inventory knows."""
        seen: set[tuple[str, str]] = set()
        while kind in BETWEEN and (kind, name) not in seen:
            seen.add((kind, name))
            version = self.latest(kind, namespace, name)
            owners = version.body.get("metadata", {}).get("ownerReferences") or () if version else ()
            above = next((owner for owner in owners if owner.get("controller")), None)
            if above is None:
                break
            kind, name = str(above["kind"]), str(above["name"])
        return kind, name

    def cluster_ranges(self) -> tuple[str, ...]:
        """Return the ranges that pods get addresses from: podCIDRs of Nodes and IPPools, canonical and sorted."""
        texts: set[str] = set()
        for node in self.kind("Node"):
            spec = node.body.get("spec", {})
            texts |= set(spec.get("podCIDRs") or ()) | ({spec["podCIDR"]} if spec.get("podCIDR") else set())
        texts |= {pool.body.get("spec", {}).get("cidr") or "" for pool in self.kind("IPPool")}
        networks = set()
        for text in texts:
            try:
                networks.add(ipaddress.ip_network(text, strict=False))
            except ValueError:
                continue
        return tuple(
            str(one) for one in sorted(networks, key=lambda net: (net.version, int(net.network_address), net.prefixlen))
        )


def read_pods(recording: Recording, inventory: Inventory) -> tuple[PodVersion, ...]:
    """Return the pods of a recording, rows of one id merged: earliest start, any end, latest observation."""
    table = recording.read("identities")
    for name in ("start", "end", "observed_until"):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.int64()))
    plain = table.drop_columns(["ephemeral"])
    rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    tainted: dict[str, int] = {}
    for row, containers in zip(plain.to_pylist(), _ephemeral(table["ephemeral"]), strict=True):
        rows[row["id"]].append(row)
        for start in containers:
            began = row["start"] if start is None else start
            tainted[row["uid"]] = min(began, tainted.get(row["uid"], ALWAYS))
    return tuple(_merged(found, tainted, inventory) for _, found in sorted(rows.items()))


def _ephemeral(column: Any) -> Iterator[list[int | None]]:
    """Yield the start times (µs) of each row's ephemeral containers."""
    micro = pa.list_(pa.struct([("name", pa.string()), ("start", pa.int64())]))
    for value in column.cast(micro).to_pylist():
        yield [container["start"] for container in value or ()]


def _merged(rows: list[dict[str, Any]], tainted: Mapping[str, int], inventory: Inventory) -> PodVersion:
    owners = {
        inventory.top(row["owner_kind"] or "Pod", row["namespace"], row["owner_name"] or row["pod"]) for row in rows
    }
    kind, name = min(owners, key=lambda owner: (owner[0] in BETWEEN, owner[0] == "Pod", owner))
    ends = [row["end"] for row in rows if row["end"] is not None]
    first = min(rows, key=lambda row: (row["start"], row["start_basis"] or ""))
    ports = {
        (port["name"] or "", int(port["number"]), (port["protocol"] or "TCP").lower())
        for row in rows
        for port in row["ports"] or ()
        if port["number"] is not None
    }
    nodes = sorted({row["node"] for row in rows if row["node"]})
    return PodVersion(
        id=first["id"],
        uid=first["uid"],
        namespace=first["namespace"],
        name=first["pod"],
        node=nodes[0] if nodes else None,
        owner_kind=kind,
        owner_name=name,
        labels=dict(sorted(first["labels"] or ())),
        ips=tuple(sorted({ip for row in rows for ip in row["ips"] or ()})),
        ports=tuple(sorted(ports)),
        probe_ports=tuple(sorted({port for row in rows for port in row["probe_ports"] or ()})),
        host_network=any(row["host_network"] for row in rows),
        start=first["start"],
        until=max(ends) if ends else max(row["observed_until"] for row in rows) + CARRIED,
        carried=any(row["start_basis"] == "carried" for row in rows),
        start_basis=first["start_basis"] or "",
        tainted_from=tainted.get(first["uid"]),
    )


def pods_table(pods: Iterable[PodVersion]) -> pa.Table:
    """Return table `pods`: id, uid, workload, node, tainted_from, held_from, held_until."""
    rows = list(pods)
    return pa.table(
        {
            "id": pa.array([pod.id for pod in rows], pa.string()),
            "uid": pa.array([pod.uid for pod in rows], pa.string()),
            "workload": pa.array([pod.workload for pod in rows], pa.string()),
            "node": pa.array([pod.node for pod in rows], pa.string()),
            "tainted_from": pa.array([pod.tainted_from for pod in rows], pa.int64()),
            "held_from": pa.array([pod.start for pod in rows], pa.int64()),
            "held_until": pa.array([pod.until for pod in rows], pa.int64()),
        }
    )


def lives_table(pods: Iterable[PodVersion]) -> pa.Table:
    """Return table `lives`: one row per pod uid with the whole of its life, and whether a Job made it."""
    found: dict[str, tuple[int, int, int]] = {}
    for pod in pods:
        start, until, batch = found.get(pod.uid, (ALWAYS, 0, 0))
        found[pod.uid] = (min(start, pod.start), max(until, pod.until), max(batch, int(pod.owner_kind in BATCH_KINDS)))
    uids = sorted(found)
    return pa.table(
        {
            "uid": pa.array(uids, pa.string()),
            "held_from": pa.array([found[uid][0] for uid in uids], pa.int64()),
            "held_until": pa.array([found[uid][1] for uid in uids], pa.int64()),
            "batch": pa.array([found[uid][2] for uid in uids], pa.int32()),
        }
    )


def addresses_table(pods: Iterable[PodVersion], inventory: Inventory) -> pa.Table:
    """Return table `addresses`: who held an address when; host-network pods are left out, their node holds it."""
    rows = [
        (ip, "pod", pod.id, pod.uid, pod.start, pod.until) for pod in pods if not pod.host_network for ip in pod.ips
    ]
    for node in inventory.kind("Node"):
        for entry in node.body.get("status", {}).get("addresses") or ():
            text = _address(entry.get("address", ""))
            if text:
                rows.append((text, "node", node.name, f"node/{node.name}", node.start, node.end))
    fields: list[tuple[str, pa.DataType]] = [
        ("ip", pa.string()),
        ("kind", pa.string()),
        ("id", pa.string()),
        ("holder", pa.string()),
    ]
    fields += [("held_from", pa.int64()), ("held_until", pa.int64())]
    return _table(rows, fields)


def backends_table(pods: Iterable[PodVersion], inventory: Inventory, dialled: Iterable[str]) -> pa.Table:
    """Return table `backends`: for the Services dialled, which workload and port stood behind a port, and when.

    An endpoint that is no known pod has `known` 0 and stands for itself.
    """
    wanted = set(dialled)
    by_uid = {pod.uid: pod.workload for pod in pods}
    by_name: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    by_ip: defaultdict[str, list[PodVersion]] = defaultdict(list)
    for pod in pods:
        by_name[pod.namespace, pod.name].add(pod.workload)
        for ip in () if pod.host_network else pod.ips:
            by_ip[ip].append(pod)

    def holders(endpoint: Mapping[str, Any], namespace: str, start: int, end: int) -> set[str]:
        target = endpoint.get("targetRef") or {}
        if target.get("uid") in by_uid:
            return {by_uid[target["uid"]]}
        if target.get("kind") == "Pod" and by_name.get((namespace, target.get("name", ""))):
            return by_name[namespace, target["name"]]
        return {
            pod.workload
            for ip in endpoint.get("addresses") or ()
            for pod in by_ip.get(ip, ())
            if pod.start < end and pod.until > start
        }

    slices: defaultdict[str, list[Version]] = defaultdict(list)
    for version in inventory.kind("EndpointSlice") if wanted else ():
        name = (version.body.get("metadata", {}).get("labels") or {}).get("kubernetes.io/service-name", "")
        if f"{version.namespace}/{name}" in wanted:
            slices[f"{version.namespace}/{name}"].append(version)
    rows = set()
    for service in inventory.kind("Service") if wanted else ():
        full = f"{service.namespace}/{service.name}"
        for part in slices.get(full, ()):
            start, end = max(service.start, part.start), min(service.end, part.end)
            if start >= end:
                continue
            targets = {port.get("name") or "": port for port in part.body.get("ports") or ()}
            for port in service.body.get("spec", {}).get("ports") or ():
                target = targets.get(port.get("name") or "")
                if target is None or target.get("port") is None:
                    continue
                protocol = str(port.get("protocol") or "TCP").lower()
                for endpoint in part.body.get("endpoints") or ():
                    if not _serves(endpoint.get("conditions") or {}):
                        continue
                    found = {(one, 1) for one in holders(endpoint, service.namespace, start, end)}
                    found = found or {(f"unresolved/{ip}", 0) for ip in endpoint.get("addresses") or ()}
                    rows |= {
                        (full, protocol, int(port["port"]), workload, int(target["port"]), known, start, end)
                        for workload, known in found
                    }
    fields: list[tuple[str, pa.DataType]] = [
        ("service", pa.string()),
        ("protocol", pa.string()),
        ("port", pa.int32()),
        ("workload", pa.string()),
    ]
    fields += [("target_port", pa.int32()), ("known", pa.int32())]
    fields += [("held_from", pa.int64()), ("held_until", pa.int64())]
    return _table(sorted(rows), fields)


def declared_ports(pods: Iterable[PodVersion], inventory: Inventory) -> dict[tuple[str, str, int], tuple[str, ...]]:
    """Return what declares each (workload, protocol, port): `containerPort`, `service/namespace/name`."""
    found: defaultdict[tuple[str, str, int], set[str]] = defaultdict(set)
    kinds: defaultdict[str, dict[tuple[str, tuple[tuple[str, str], ...]], PodVersion]] = defaultdict(dict)
    for pod in pods:
        for _, number, protocol in pod.ports:
            found[pod.workload, protocol, number].add("containerPort")
        kinds[pod.namespace].setdefault((f"{pod.workload} {pod.ports}", tuple(pod.labels.items())), pod)
    for service in inventory.kind("Service"):
        spec = service.body.get("spec", {})
        selector = (spec.get("selector") or {}).items()
        for pod in kinds[service.namespace].values() if selector else ():
            if not selector <= pod.labels.items():
                continue
            for port in spec.get("ports") or ():
                protocol = str(port.get("protocol") or "TCP").lower()
                target = port.get("targetPort") or port.get("port")
                named = [number for name, number, kind in pod.ports if name == target and kind == protocol]
                for number in named if isinstance(target, str) and not target.isdigit() else [int(target)]:
                    found[pod.workload, protocol, number].add(f"service/{service.namespace}/{service.name}")
    return {key: tuple(sorted(value)) for key, value in found.items()}


def _serves(conditions: Mapping[str, Any]) -> bool:
    """Tell whether an endpoint gets traffic: ready (the default), or serving while it terminates."""
    return conditions.get("ready") is not False or bool(conditions.get("serving") and conditions.get("terminating"))


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _table(rows: Iterable[tuple[Any, ...]], fields: list[tuple[str, pa.DataType]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(fields)
    return pa.table({name: pa.array(values, kind) for (name, kind), values in zip(fields, columns, strict=True)})
