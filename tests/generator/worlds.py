"""Small worlds written in a few lines: who runs, who talks to whom; and what a cluster of it looks like."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from learner.patterns import Convergence, Expression, Learned, Pattern, Selector, Subject, pattern_id


@dataclass(frozen=True)
class World:
    """What was learned, the options to generate with, and the labels of each workload's pods."""

    learned: Learned
    labels: Mapping[str, Mapping[str, str]]
    options: Mapping[str, Any] = field(default_factory=dict)

    def topology(self) -> list[dict[str, Any]]:
        """Return the Namespaces and one pod a workload, and a stranger in each namespace; host pods have no address."""
        namespaces = sorted({name.split("/")[0] for name in self.labels} | {"elsewhere"})
        objects = [
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            }
            for name in namespaces
        ]
        hosts = {subject.workload for subject in self.learned.subjects if subject.host_network}
        pods = {pod_of(name): labels for name, labels in self.labels.items() if name not in hosts}
        pods |= {f"{name}/stranger": {"app": "stranger", "tier": "none"} for name in namespaces}
        return objects + [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "namespace": name.split("/")[0],
                    "name": name.split("/")[1],
                    "labels": dict(labels),
                },
                "spec": {"containers": [{"name": "main", "image": "main"}]},
            }
            for name, labels in sorted(pods.items())
        ]


def pod_of(workload: str) -> str:
    """Return the name of a workload's pod in the topology."""
    namespace, kind, name = workload.split("/")
    return f"{namespace}/{kind}-{name}"


def load(path: Path) -> World:
    """Read a case: options, cluster_ranges, workloads with labels, patterns one a line."""
    case = yaml.safe_load(path.read_text())
    return world(case["workloads"], case["patterns"], case.get("options", {}), case.get("cluster_ranges", ()))


def world(
    workloads: Mapping[str, Mapping[str, Any]],
    patterns: Iterable[str],
    options: Mapping[str, Any] | None = None,
    cluster_ranges: Iterable[str] = (),
) -> World:
    """Build a world; a workload's selector is its labels unless it is given, `selector: none` is rung none."""
    learned = Learned(
        cluster="test",
        subjects=tuple(_subject(name, entry) for name, entry in workloads.items()),
        patterns=tuple(pattern(line) for line in patterns),
        cluster_ranges=tuple(cluster_ranges),
        thresholds={"windows": 2},
        input_digest="0" * 12,
    )
    labels = {name: entry["labels"] for name, entry in workloads.items()}
    return World(learned, labels, options or {})


def pattern(line: str) -> Pattern:
    """Read `decision source -> destination protocol/port`."""
    decision, source, _, destination, needs = line.split()
    protocol, _, port = needs.partition("/")
    numbers = [int(number) for number in port.replace("-", "/").split("/") if number]
    first, second = (*numbers, None, None)[:2]
    icmp = protocol.startswith("icmp")
    accepted = decision == "accept"
    return Pattern(
        id=pattern_id(source, destination, protocol, port),
        source=source,
        source_kind=_kind(source),
        destination=destination,
        destination_kind=_kind(destination),
        protocol=protocol,
        port=None if icmp else first,
        end_port=None if icmp else second,
        icmp_type=first if icmp else None,
        icmp_code=second if icmp else None,
        attempts=12,
        answered=12 if accepted else 0,
        refused=0,
        denied=0,
        unanswered=0 if accepted else 12,
        open=0,
        first_seen=0,
        last_seen=60_000_000,
        windows_seen=6,
        windows_exposed=10,
        days=2,
        replicas_seen=2,
        replicas_exposed=2,
        halves=["egress", "ingress"],
        declared_by=["containerPort"] if accepted else [],
        services=[],
        dns_names=[],
        period=None,
        recurrence=None,
        decision=decision,
        reasons=["declared-port"] if accepted else ["never-answered"],
        basis="observed",
    )


def _kind(name: str) -> str:
    head = name.partition("/")[0]
    if head in ("node", "apiserver", "unresolved"):
        return head
    return "external" if "." in head or ":" in head else "workload"


def _subject(workload: str, entry: Mapping[str, Any]) -> Subject:
    namespace, kind, name = workload.split("/")
    given = entry.get("selector", {"matchLabels": entry["labels"]})
    selector = None
    if given != "none":
        terms = [
            Expression(term["key"], term["operator"], tuple(term.get("values", ())))
            for term in given.get("matchExpressions", ())
        ]
        selector = Selector.of(given.get("matchLabels", {}), terms)
    return Subject(
        workload=workload,
        namespace=namespace,
        kind=kind,
        name=name,
        selector=selector,
        rung="none" if selector is None else "owner",
        pods=2,
        pods_digest="0" * 12,
        host_network=entry.get("host_network", False),
        convergence=Convergence(windows_exposed=10, estimate=0.0, bound=0.26, state="converging"),
    )
