"""Replay and connectivity from 100 to 10,000 workloads with a policy each, beside network-config-analyzer and netpol-analyzer."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.measure import Line, NotPossibleError, measured, ratio
from bench.recordings import Cluster, Numbers, write
from deploy import connectivity, replay
from deploy.cases import Cases
from deploy.policies import engines_for
from deploy.population import Population
from deploy.recorded import Edges, End, edges
from deploy.semantics.ends import Lens
from deploy.semantics.reading import manifests
from deploy.semantics.traffic import Connection
from deploy.semantics.verdicts import Court
from recorder.records import to_table
from recorder.store import Recording
from tests.oracles.programs import NotBuiltError, program

EDGES = 100_000
"""Of the recording that is read from disk."""
JUDGED = 5_000_000
"""In memory, or as many as the cluster has."""
NEEDS = 5
MAPPED = (100, 400, 1000)
"""Beside the analyzers; podfence alone maps 10,000 as well."""
SMALL, MIDDLE, LARGE = (
    Cluster(workloads=100, replicas=100),
    Cluster(workloads=1000, replicas=32),
    Cluster(workloads=10_000, replicas=10),
)
READ = (Cluster(workloads=100, replicas=15), Cluster(workloads=1000, replicas=5))


def run(folder: Path, *, large: bool) -> Iterator[Line]:
    """Measure; `large` changes nothing."""
    del large
    told = analyzer(folder / "analyzer", Cluster(workloads=100, replicas=1))
    yield Line("nca: connectivity of 100 workloads, pairs decided", told, "pairs/s")
    for cluster in (SMALL, MIDDLE, LARGE):
        yield from judged(folder / f"judged-{cluster.workloads}", cluster, told)
    for cluster in READ:
        yield from replayed(folder / f"read-{cluster.workloads}", cluster)
    yield from mapped(folder / "mapped", told)


def judged(place: Path, cluster: Cluster, told: float) -> Iterator[Line]:
    """Measure the judge alone: edges in columns against a policy for each workload."""
    place.mkdir()
    (place / "policies.yaml").write_text(policies(cluster), encoding="utf-8")
    for profile in ("calico", "strict"):
        found = measured(judging, place, cluster, profile).result
        against = f"{cluster.workloads:,} workloads, {profile}"
        peer = ratio(found["speed"], told, "nca") if cluster is SMALL else ""
        wanted = ">= 5 M/s" + (", >= 100 x" if peer else "") if cluster is not MIDDLE else ""
        yield Line(f"judged in memory against {against}", found["speed"] / 1e6, "M edges/s", peer, wanted)
        yield Line("  compiling policies, seeing pods", found["compile"], "s", f"{found['people']:.2f} s pods")
    yield Line(f"  reading {cluster.workloads:,} policies", found["read"], "s")


def judging(place: Path, cluster: Cluster, profile: str) -> dict[str, float]:
    """Judge all edges; return seconds for reading, seeing who the pods are and compiling, and edges judged a second."""
    start = time.perf_counter()
    given = manifests.read([place / "policies.yaml"]).enforced("enforced")
    read = time.perf_counter() - start
    population = Population.of(_Tables(cluster))
    source, target = pairs(cluster)
    few, many = (columns(cluster, source[:size], target[:size]) for size in (1000, JUDGED))
    lens = Lens.of([given])
    start = time.perf_counter()
    cases = Cases(few, population, lens)
    people = time.perf_counter() - start
    start = time.perf_counter()
    court = Court(given, engines_for(profile, [given]), cases.ends, cases.connections, cases.known_services)
    compiled = time.perf_counter() - start
    spans = []
    for some in (few, many, few, many):
        start = time.perf_counter()
        cases = Cases(some, population, lens)
        outcomes = [cases.halves(court, direction).outcome for direction in ("egress", "ingress")]
        spans.append(time.perf_counter() - start)
        assert not any(one.any() for one in outcomes), "an edge that its policy allows is not allowed"
    # Who the pods are is found out anew each time; the difference is what the edges cost.
    cost = min(spans[1], spans[3]) - min(spans[0], spans[2])
    return {"speed": (len(many) - len(few)) / cost, "read": read, "people": people, "compile": compiled}


class _Tables:
    """The identities and the inventory of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def read(self, table: str) -> Any:
        """Return a table."""
        if table == "identities":
            return to_table(table, [self.cluster.identity(pod) for pod in range(self.cluster.pods)])
        return to_table(table, self.cluster.inventory())


def columns(cluster: Cluster, source: Numbers, target: Numbers) -> Edges:
    """Return edges between pods (by number) as a recording gives them."""
    ends = tuple(End("pod", cluster.address(pod), cluster.identity(pod).id) for pod in range(cluster.pods))
    kinds = tuple(Connection("tcp", 8000 + number) for number in range(10))
    yes, one = np.ones(len(source), np.bool_), np.ones(len(source), np.int64)
    port = target // cluster.replicas % 10
    return Edges(ends, kinds, source, target, port, yes, yes, yes, yes, ~yes, one, one, yes, one, one)


def replayed(place: Path, cluster: Cluster) -> Iterator[Line]:
    """Measure `deploy.replay`, reading from disk included."""
    place.mkdir()
    (place / "policies.yaml").write_text(policies(cluster), encoding="utf-8")
    write_recording(place / "recording", cluster)
    read, whole = measured(reading, place, times=2), measured(replaying, place, times=2)
    assert read.result == EDGES, read.result
    assert whole.result == {"allowed": cluster.workloads * NEEDS}, whole.result
    what = f"{EDGES:,} edges of {cluster.workloads:,} workloads from disk"
    yield Line(f"reading {what}", EDGES / read.wall / 1e6, "M edges/s")
    yield Line(f"deploy.replay, strict, {what}", EDGES / whole.wall / 1e6, "M edges/s")
    yield Line("", whole.peak / 1e6, "MB resident")


def mapped(folder: Path, told: float) -> Iterator[Line]:
    """Measure who may talk to whom, from objects to the map, beside the analyzers."""
    folder.mkdir()
    for workloads in (*MAPPED, LARGE.workloads):
        cluster = Cluster(workloads=workloads, replicas=1)
        place = folder / str(workloads)
        place.mkdir()
        (place / "policies.yaml").write_text(policies(cluster), encoding="utf-8")
        own = measured(mapping, place, cluster)
        assert own.result == workloads * NEEDS, own.result
        count = workloads * (workloads - 1)
        peers = [ratio(count / own.wall, told, "nca")] if workloads == MAPPED[0] else []
        try:
            if workloads in MAPPED:
                peers.append(ratio(count / own.wall, count / other_map(cluster), "netpol-analyzer"))
        except NotBuiltError as error:
            raise NotPossibleError(f"netpol-analyzer {error}") from error
        yield Line(f"connectivity of {workloads:,} workloads, from YAML", own.wall, "s", ", ".join(peers))


def mapping(place: Path, cluster: Cluster) -> int:
    """Return how many pairs of workloads may talk."""
    found = connectivity([place / "policies.yaml"], Population.of(_Tables(cluster)), profile="calico")
    inside = [one for one in found.connections if "/deployment/" in one.source and "/deployment/" in one.destination]
    return len(inside)


def other_map(cluster: Cluster) -> float:
    """Return the seconds that netpol-analyzer takes for its map, from objects in memory."""
    pods = [
        {
            "namespace": cluster.name(pod)[0],
            "name": cluster.name(pod)[1],
            "labels": cluster.labels(pod),
            "ports": [{"name": "main", "number": cluster.port(pod), "protocol": "TCP"}],
        }
        for pod in range(cluster.workloads)
    ]
    question = {
        "namespaces": {one["namespace"]: {"kubernetes.io/metadata.name": one["namespace"]} for one in pods},
        "pods": pods,
        "ends": [{"pod": pod, "address": cluster.address(pod)} for pod in range(cluster.workloads)],
        "policies": list(yaml.load_all(policies(cluster), Loader=yaml.CSafeLoader)),
        "pairs": [[0, needs(cluster, 0)[0]]],
        "asked": [{"name": "", "protocol": "TCP", "number": cluster.port(needs(cluster, 0)[0])}],
    }
    text = json.dumps(question)
    start = time.perf_counter()
    done = subprocess.run([program("netpol-analyzer")], input=text, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["verdicts"] == "1", done.stdout
    return time.perf_counter() - start


def needs(cluster: Cluster, workload: int) -> list[int]:
    """Return the workloads that a workload talks to."""
    return [(workload + 1 + need * 7) % cluster.workloads for need in range(NEEDS)]


def write_recording(folder: Path, cluster: Cluster) -> None:
    """Write one window in which every edge is seen from both sides."""
    source, target = pairs(cluster)
    chosen = np.random.default_rng(7).permutation(len(source))[:EDGES]
    write(folder, cluster, source[chosen], target[chosen], np.zeros(EDGES, np.int64))


def pairs(cluster: Cluster) -> tuple[Numbers, Numbers]:
    """Return all pairs of pods (by number) that talk."""
    other = np.array([needs(cluster, workload) for workload in range(cluster.workloads)])
    replica = np.indices((cluster.replicas, cluster.replicas)).reshape(2, -1)
    workload = np.arange(cluster.workloads)[:, None, None]
    source, target = np.broadcast_arrays(
        workload * cluster.replicas + replica[0], other[:, :, None] * cluster.replicas + replica[1]
    )
    return source.ravel().astype(np.int64), target.ravel().astype(np.int64)


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
    return len(edges(recording, Population.of(recording), dialled=True))


def replaying(place: Path) -> dict[str, int]:
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
