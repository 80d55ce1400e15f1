"""Recordings of made-up workloads, as large as a benchmark asks for, in the contract's own format."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recorder.records import SCHEMAS, SECOND, Coverage, Identity, InventoryObject, identity_id, to_table
from recorder.store import Recording

BEGIN = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * SECOND
WINDOW = 60 * SECOND
NODES = 20

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Deployments named by number, each with as many replicas, ten to a namespace, pods spread over 20 nodes."""

    workloads: int
    replicas: int

    @property
    def pods(self) -> int:
        """Return how many pods there are."""
        return self.workloads * self.replicas

    def name(self, workload: int) -> tuple[str, str]:
        """Return namespace and name of a Deployment."""
        return f"team-{workload // 10:03}", f"app-{workload:04}"

    def port(self, workload: int) -> int:
        """Return the one port that a workload serves."""
        return 8000 + workload % 10

    def labels(self, workload: int) -> dict[str, str]:
        """Return the labels of a workload's pods."""
        return {"app": self.name(workload)[1]}

    def address(self, pod: int) -> str:
        """Return a pod's address."""
        return f"10.{pod >> 16}.{pod >> 8 & 255}.{pod & 255}"

    def identity(self, pod: int) -> Identity:
        """Return a pod as the recording has it."""
        workload = pod // self.replicas
        namespace, name = self.name(workload)
        uid, labels = f"00000000-0000-4000-8000-{pod:012}", self.labels(workload)
        port = {"name": "main", "number": self.port(workload), "protocol": "TCP", "host_port": None}
        return Identity(
            cluster="bench",
            id=identity_id(uid, labels),
            uid=uid,
            namespace=namespace,
            pod=f"{name}-{pod % self.replicas}",
            node=f"node-{pod % NODES}",
            service_account="default",
            ips=[self.address(pod)],
            owner_kind="Deployment",
            owner_name=name,
            owner_uid=f"uid-{name}",
            labels=labels,
            ports=[port],
            probe_ports=[],
            ephemeral=[],
            host_network=False,
            start=BEGIN - 3600 * SECOND,
            end=None,
            observed_until=BEGIN + 86400 * SECOND,
            start_basis="created",
        )

    def inventory(self) -> list[InventoryObject]:
        """Return Namespaces, Nodes and Deployments."""
        bodies: list[tuple[str, str | None, str, dict[str, Any]]] = []
        for namespace in sorted({self.name(workload)[0] for workload in range(self.workloads)}):
            labels = {"kubernetes.io/metadata.name": namespace}
            bodies.append(("Namespace", None, namespace, {"metadata": {"labels": labels}}))
        for number in range(NODES):
            status = {"addresses": [{"type": "InternalIP", "address": f"172.16.0.{number}"}]}
            bodies.append(("Node", None, f"node-{number}", {"status": status}))
        for workload in range(self.workloads):
            labels = self.labels(workload)
            spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}
            bodies.append(("Deployment", *self.name(workload), {"spec": spec}))
        return [_version(*body) for body in bodies]


def _version(kind: str, namespace: str | None, name: str, body: dict[str, Any]) -> InventoryObject:
    metadata = {"name": name, "uid": f"uid-{name}"} | ({"namespace": namespace} if namespace else {})
    text = json.dumps({"kind": kind, **body, "metadata": metadata | body.get("metadata", {})})
    return InventoryObject("bench", kind, namespace, name, f"uid-{name}", BEGIN - 3600 * SECOND, None, text)


def write(folder: Path, cluster: Cluster, source: Numbers, target: Numbers, window: Numbers) -> None:
    """Write a recording in which pods (by number) talk to pods in windows (by number): two rows for each."""
    flows = _flows(cluster, source, target, window)
    with Recording.at(folder).adding("bench") as batch:
        pods = [cluster.identity(pod) for pod in range(cluster.pods)]
        batch.add("identities", to_table("identities", pods), node="all", backend="ring")
        batch.add("inventory", to_table("inventory", cluster.inventory()), node="all", backend="ring")
        coverage = [
            _coverage(node, ring, int(one))
            for node in range(NODES)
            for one in np.unique(window)
            for ring in ("tcp", "udp")
        ]
        batch.add("coverage", to_table("coverage", coverage), node="all", backend="ring")
        node = np.concatenate([source, target]) % NODES
        for number in range(NODES):
            batch.add("flows", flows.filter(pa.array(node == number)), node=f"node-{number}", backend="ring")


def _flows(cluster: Cluster, source: Numbers, target: Numbers, window: Numbers) -> pa.Table:
    """Return the initiators' rows, then the responders'; a third of the former knows a DNS name."""
    count = len(source)
    side = np.repeat([0, 1], count)
    left, right, begin = np.tile(source, 2), np.tile(target, 2), BEGIN + np.tile(window, 2) * WINDOW
    pods = range(cluster.pods)
    ips = pa.array([cluster.address(pod) for pod in pods])
    ids = pa.array([cluster.identity(pod).id for pod in pods])
    ports = pa.array([cluster.port(pod // cluster.replicas) for pod in pods], pa.int32())
    names = pa.array(
        [None, *([".".join((*reversed(cluster.name(pod // cluster.replicas)), "svc.cluster.local"))] for pod in pods)]
    )
    named = np.where((side == 0) & (right % 3 == 0), right + 1, 0)
    text = pa.array(
        ["bench", "src", "dst", "pod", "tcp", "handshake", "ring", *(f"node-{node}" for node in range(NODES))]
    )
    seen = np.where(side == 0, left, right)
    tries = 1 + (left * 7 + right * 3) % 5
    columns: dict[str, Any] = {
        "window_start": begin,
        "window_end": begin + WINDOW,
        "first_seen": begin + left % 30 * SECOND,
        "last_seen": begin + (30 + right % 30) * SECOND,
        "cluster": text.take(np.zeros(2 * count, np.int64)),
        "node": text.take(7 + seen % NODES),
        "reporter": text.take(1 + side),
        "src_ip": ips.take(left),
        "src_kind": text.take(np.full(2 * count, 3)),
        "src_id": ids.take(left),
        "dst_ip": ips.take(right),
        "dst_kind": text.take(np.full(2 * count, 3)),
        "dst_id": ids.take(right),
        "protocol": text.take(np.full(2 * count, 4)),
        "dst_port": ports.take(right),
        "attempts": tries,
        "answered": tries,
        "refused": np.zeros(2 * count, np.int64),
        "denied": np.zeros(2 * count, np.int64),
        "unanswered": np.zeros(2 * count, np.int64),
        "dns_names": names.take(named),
        "direction_basis": text.take(np.full(2 * count, 5)),
        "backend": text.take(np.full(2 * count, 6)),
        "sampling": np.ones(2 * count),
    }
    arrays = [
        pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(2 * count, field.type)
        for field in SCHEMAS["flows"]
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMAS["flows"])


def _coverage(node: int, ring: str, window: int) -> Coverage:
    begin = BEGIN + window * WINDOW
    return Coverage(
        cluster="bench",
        node=f"node-{node}",
        backend="ring",
        ring=ring,
        scope="node",
        window_start=begin,
        window_end=begin + WINDOW,
        covered_from=begin,
        covered_to=begin + WINDOW,
        packets=100_000,
        dropped=0,
        overflowed=0,
        unresolved=0,
        ambiguous=0,
        watch_lag_seconds=0.1,
        gap=False,
    )
