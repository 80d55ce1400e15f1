"""Who held which address: an event log of many pods taken in, beside json.loads of the same lines."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.measure import Line, measured, ratio, resident
from recorder.identity import World

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
REPLICAS = 10
EVENTS = 4
"""Of each pod: created, scheduled, running with an address, and for every second one gone, else ready."""


def run(folder: Path, *, large: bool) -> Iterator[Line]:
    """Measure with 20,000 pods, or 150,000."""
    pods = 150_000 if large else 20_000
    log = folder / "events.jsonl"
    write(log, pods)
    octets = log.stat().st_size / (pods * EVENTS)
    peer = measured(loads, log)
    yield Line(
        f"json.loads of {peer.result:,} lines of {octets:,.0f} octets", peer.cpu / peer.result * 1e6, "us a line"
    )
    taken = measured(take, log)
    events, known, grown = taken.result
    assert known == pods
    assert events >= pods * EVENTS
    yield Line(
        f"World.read, {pods:,} pods",
        taken.cpu / events * 1e6,
        "us an event",
        ratio(taken.cpu, peer.cpu, "json.loads"),
        "<= 30",
    )
    yield Line("", grown / pods / 1e3, "kB a pod", "", "<= 1.5")
    yield Line("", taken.peak / 1e6, "MB resident (peak; holds the mapped log)")


def take(log: Path) -> tuple[int, int, int]:
    """Return the events in a log, the pods that had an address, and by how many octets resident memory grew."""
    before = resident()
    world = World.read(log)
    grown = resident() - before
    with log.open("rb") as lines:
        return sum(1 for _ in lines), len(world.pods.addresses()), grown


def loads(log: Path) -> int:
    """Decode each line and drop it; return how many."""
    count = 0
    with log.open("rb") as lines:
        for line in lines:
            json.loads(line)
            count += 1
    return count


def write(log: Path, pods: int) -> None:
    """Write the events of pods that begin a millisecond apart, each kind of event a minute after the one before."""
    with log.open("w", encoding="utf-8") as file:
        for step in range(EVENTS):
            for number in range(pods):
                time = BEGIN + timedelta(minutes=step + pods * step / 60_000, milliseconds=number)
                kind = "ADDED" if step == 0 else "DELETED" if step == 3 and number % 2 else "MODIFIED"
                event = {"time": f"{time:%Y-%m-%dT%H:%M:%S.%f}Z", "type": kind, "object": pod(number, step)}
                file.write(json.dumps(event) + "\n")


def pod(number: int, step: int) -> dict[str, Any]:
    """Return a pod as the API shows it, without managed fields, at a step of its life."""
    owner, name = f"app-{number // REPLICAS}", f"app-{number // REPLICAS}-5d9c7b6f4-{number:06}"
    ip = f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
    created = f"{BEGIN:%Y-%m-%dT%H:%M:%S}Z"
    status: dict[str, Any] = {"phase": "Pending", "qosClass": "Burstable"}
    if step >= 2:
        kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
        status = {
            "phase": "Running",
            "hostIP": f"172.16.{number % 200}.1",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "startTime": created,
            "conditions": [{"type": one, "status": "True", "lastTransitionTime": created} for one in kinds],
            "containerStatuses": [
                {"name": "app", "ready": step == 3, "restartCount": 0, "state": {"running": {"startedAt": created}}}
            ],
        }
    container = {
        "name": "app",
        "image": "registry.example/app:1.0",
        "env": [{"name": f"SETTING_{letter}", "value": "some value"} for letter in "ABCDEFGH"],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": f"team-{number // REPLICAS % 100}",
            "uid": f"00000000-0000-4000-8000-{number:012}",
            "resourceVersion": str(number * EVENTS + step),
            "creationTimestamp": created,
            "labels": {"app": owner, "pod-template-hash": "5d9c7b6f4", "app.kubernetes.io/part-of": "bench"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{owner}-5d9c7b6f4", "uid": owner}
            ],
        },
        "spec": {"serviceAccountName": "default", "containers": [container]}
        | ({"nodeName": f"node-{number % 200}"} if step else {}),
        "status": status,
    }
