"""Replay: distinct recorded edges judged against a policy per workload, beside network-config-analyzer's connectivity."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.measure import Line, measured, ratio
from bench.recordings import Cluster, write
from deploy.population import Population
from deploy.recorded import edges
from deploy.replay import replay
from deploy.semantics import manifests
from recorder.store import Recording

EDGES = 100_000
NEEDS = 5
CLUSTERS = (Cluster(workloads=100, replicas=15), Cluster(workloads=1000, replicas=5))
"""Both have 100,000 pairs of pods that talk, or a few more."""


def run(folder: Path, *, large: bool) -> Iterator[Line]:
    """Measure; `large` changes nothing."""
    del large
    told = analyzer(folder / "analyzer", Cluster(workloads=100, replicas=1))
    yield Line("nca: connectivity of 100 workloads, pairs decided", told, "pairs/s")
    for cluster in CLUSTERS:
        place = folder / str(cluster.workloads)
        place.mkdir()
        (place / "policies.yaml").write_text(policies(cluster), encoding="utf-8")
        write_recording(place / "recording", cluster)
        read = measured(reading, place, times=2)
        whole = measured(judging, place, times=2)
        assert read.result == EDGES, read.result
        assert whole.result == {"allowed": cluster.workloads * NEEDS}, whole.result
        speed = EDGES / max(whole.wall - read.wall, 1e-9)
        against = f"{cluster.workloads:,} workloads"
        peer = ratio(speed, told, "nca") if cluster.workloads == 100 else ""
        wanted = ">= 5 M/s" + (", >= 100 x" if peer else "")
        yield Line(f"judged in memory against {against}", speed / 1e6, "M edges/s", peer, wanted)
        yield Line("reading recording and policies", EDGES / read.wall / 1e6, "M edges/s")
        yield Line("deploy.replay, all of it", EDGES / whole.wall / 1e6, "M edges/s")
        yield Line("", whole.peak / 1e6, "MB resident")


def needs(cluster: Cluster, workload: int) -> list[int]:
    """Return the workloads that a workload talks to."""
    return [(workload + 1 + need * 7) % cluster.workloads for need in range(NEEDS)]


def write_recording(folder: Path, cluster: Cluster) -> None:
    """Write one window in which every edge is seen from both sides."""
    other = np.array([needs(cluster, workload) for workload in range(cluster.workloads)])
    replica = np.indices((cluster.replicas, cluster.replicas)).reshape(2, -1)
    workload = np.arange(cluster.workloads)[:, None, None]
    source, target = np.broadcast_arrays(
        workload * cluster.replicas + replica[0], other[:, :, None] * cluster.replicas + replica[1]
    )
    chosen = np.random.default_rng(7).permutation(source.size)[:EDGES]
    write(folder, cluster, source.ravel()[chosen], target.ravel()[chosen], np.zeros(EDGES, np.int64))


def policies(cluster: Cluster) -> str:
    """Return a NetworkPolicy for each workload that allows what it needs and whom it serves, and nothing else."""
    serves: dict[int, list[int]] = {workload: [] for workload in range(cluster.workloads)}
    for workload in range(cluster.workloads):
        for other in needs(cluster, workload):
            serves[other].append(workload)

    def peer(workload: int) -> dict[str, Any]:
        names = {"matchLabels": {"kubernetes.io/metadata.name": cluster.name(workload)[0]}}
        return {"namespaceSelector": names, "podSelector": {"matchLabels": cluster.labels(workload)}}

    def ports(workload: int) -> list[dict[str, Any]]:
        return [{"port": cluster.port(workload), "protocol": "TCP"}]

    found = []
    for workload in range(cluster.workloads):
        namespace, name = cluster.name(workload)
        spec = {
            "podSelector": {"matchLabels": cluster.labels(workload)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [peer(one) for one in serves[workload]], "ports": ports(workload)}],
            "egress": [{"to": [peer(one)], "ports": ports(one)} for one in needs(cluster, workload)],
        }
        head = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
        found.append(head | {"metadata": {"name": name, "namespace": namespace}, "spec": spec})
    text: str = yaml.dump_all(found, Dumper=_Plain)
    return text


class _Plain(yaml.CSafeDumper):
    """Writes no anchors, which people's policies do not have either."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Return that everything is written out."""
        return True


def reading(place: Path) -> int:
    """Read all that replay reads and judge nothing; return how many edges there are."""
    recording = Recording.open(place / "recording")
    manifests.read([place / "policies.yaml"])
    return sum(1 for _ in edges(recording, Population.of(recording)))


def judging(place: Path) -> dict[str, int]:
    """Replay; return how many edges between workloads met which outcome."""
    found = replay(place / "recording", [place / "policies.yaml"])
    return {outcome: count for outcome, count in found.edges.items() if count}


def analyzer(folder: Path, cluster: Cluster) -> float:
    """Return how many ordered pairs of workloads the analyzer decides in a second, a pod each."""
    from bench.analyzer import connectivity  # noqa: PLC0415 - its imports are large

    folder.mkdir()
    (folder / "policies.yaml").write_text(policies(cluster), encoding="utf-8")
    objects: list[dict[str, Any]] = []
    for namespace in sorted({cluster.name(workload)[0] for workload in range(cluster.workloads)}):
        metadata: dict[str, Any] = {"name": namespace, "labels": {"kubernetes.io/metadata.name": namespace}}
        objects.append({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    for workload in range(cluster.workloads):
        namespace, name = cluster.name(workload)
        metadata = {"name": name, "namespace": namespace, "labels": cluster.labels(workload)}
        spec = {"containers": [{"name": "app", "ports": [{"containerPort": cluster.port(workload)}]}]}
        status = {"podIP": cluster.address(workload), "hostIP": "172.16.0.1"}
        objects.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
    (folder / "topology.yaml").write_text(yaml.dump_all(objects, Dumper=_Plain), encoding="utf-8")
    cost = measured(connectivity, folder)
    assert cost.result == cluster.workloads * NEEDS, cost.result
    return cluster.workloads * (cluster.workloads - 1) / cost.wall
