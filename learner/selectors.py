"""Finds the label selector of a workload: exact over every pod the recording knows, and stable over rollouts.

Rungs, first that fits: `owner-selector`, `template-labels`, `searched`, `none`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from learner.inventory import Inventory, PodVersion
from learner.patterns import Expression, Selector

MAX_TERMS = 3

VOLATILE_KEYS = frozenset(
    {
        "app.kubernetes.io/version",
        "chart",
        "controller-revision-hash",
        "controller-uid",
        "etcd_node",
        "helm.sh/chart",
        "heritage",
        "job-name",
        "pod-template-generation",
        "pod-template-hash",
        "release-revision",
        "rollouts-pod-template-hash",
        "service.istio.io/canonical-revision",
        "version",
    }
)
"""Labels that change at a rollout, an upgrade or a reschedule."""

VOLATILE_PREFIXES = (
    "annotation.",
    "apps.kubernetes.io/",
    "batch.kubernetes.io/",
    "beta.kubernetes.io/",
    "io.kubernetes",
    "k8s.io/",
    "kubernetes.io/",
    "security.istio.io/",
    "statefulset.kubernetes.io/",
    "topology.kubernetes.io/",
)
"""Labels given to single pods or taken from their node, and those that Cilium leaves out of identities by default
(docs.cilium.io, "Limiting Identity-Relevant Labels")."""

IDENTITY_KEYS = (
    ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"),
    ("k8s-app",),
    ("app", "component", "tier", "role"),
    ("name",),
)
"""Labels by which people name workloads, best first; of a group, the first key is needed and the others are added."""

UID_SELECTORS = frozenset({"Job", "CronJob"})
"""Kinds whose `spec.selector` names a uid, or is not there."""


@dataclass(frozen=True, slots=True)
class Selected:
    """A workload's selector (None: no exact one), the rung it came from, and the workloads it cannot be told from."""

    selector: Selector | None
    rung: str
    conflicts: tuple[str, ...] = ()


def is_volatile(key: str) -> bool:
    """Tell whether a label must never be part of a selector."""
    return (
        key in VOLATILE_KEYS
        or key.startswith(VOLATILE_PREFIXES)
        or ".beta.kubernetes.io/" in key
        or key.endswith(".istio.io/rev")
    )


def pods_digest(pods: Iterable[PodVersion]) -> str:
    """Return 12 hex digits of SHA-256 of the pods' uids, sorted, one a line."""
    return hashlib.sha256("\n".join(sorted({pod.uid for pod in pods})).encode()).hexdigest()[:12]


def select(pods: Iterable[PodVersion], inventory: Inventory) -> dict[str, Selected]:
    """Return the selector of each workload among all pods recorded, those that came and went included."""
    namespaces: defaultdict[str, list[PodVersion]] = defaultdict(list)
    for pod in pods:
        namespaces[pod.namespace].append(pod)
    found: dict[str, Selected] = {}
    for _, versions in sorted(namespaces.items()):
        scope = _Scope(sorted(versions, key=lambda pod: pod.id))
        for workload in sorted(scope.members):
            found[workload] = _selected(workload, scope, inventory)
    return found


class _Scope:
    """The pods of one namespace as bit sets: which pods carry a label, which belong to a workload."""

    def __init__(self, versions: list[PodVersion]) -> None:
        self.versions = versions
        self.labels: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.members: defaultdict[str, int] = defaultdict(int)
        for position, pod in enumerate(versions):
            self.members[pod.workload] |= 1 << position
            for label in pod.labels.items():
                self.labels[label] |= 1 << position
        self.everyone = (1 << len(versions)) - 1

    def extension(self, selector: Selector) -> int:
        """Return the pods that a selector selects."""
        chosen = self.everyone
        for label in selector.match_labels:
            chosen &= self.labels.get(label, 0)
        if selector.match_expressions:
            for position, pod in enumerate(self.versions):
                if chosen >> position & 1 and not selector.matches(pod.labels):
                    chosen ^= 1 << position
        return chosen

    def pods(self, bits: int) -> list[PodVersion]:
        """Return the pods of a bit set."""
        found = []
        while bits:
            lowest = bits & -bits
            found.append(self.versions[lowest.bit_length() - 1])
            bits ^= lowest
        return found


def _selected(workload: str, scope: _Scope, inventory: Inventory) -> Selected:
    own = scope.members[workload]
    pod = scope.pods(own & -own)[0]
    owner = inventory.latest(pod.owner_kind, pod.namespace, pod.owner_name)
    body = owner.body if owner else {}
    candidates = [("owner-selector", one) for one in _owner_selector(pod.owner_kind, body)]
    common = _common(scope.pods(own))
    template = _template_labels(body) or common
    candidates += [("template-labels", one) for one in _named(template)]
    for rung, selector in candidates:
        if scope.extension(selector) == own:
            return Selected(selector, rung)
    searched = _search(common, own, scope)
    if searched is not None:
        return Selected(searched, "searched")
    widest = candidates[0][1] if candidates else Selector.of(common)
    others = {one.workload for one in scope.pods(scope.extension(widest) & ~own)}
    return Selected(None, "none", tuple(sorted(others)))


def _owner_selector(kind: str, body: Mapping[str, Any]) -> list[Selector]:
    raw = body.get("spec", {}).get("selector") or {}
    if kind in UID_SELECTORS or not isinstance(raw, dict):
        return []
    if kind == "ReplicationController":
        raw = {"matchLabels": raw}
    labels = {key: str(value) for key, value in (raw.get("matchLabels") or {}).items() if not is_volatile(key)}
    terms = [
        Expression(term["key"], term["operator"], tuple(term.get("values") or ()))
        for term in raw.get("matchExpressions") or ()
        if not is_volatile(term["key"])
    ]
    return [Selector.of(labels, terms)] if labels or terms else []


def _template_labels(body: Mapping[str, Any]) -> dict[str, str]:
    spec = body.get("spec", {})
    spec = (spec.get("jobTemplate") or {}).get("spec", spec)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    return {key: str(value) for key, value in labels.items() if not is_volatile(key)}


def _common(pods: list[PodVersion]) -> dict[str, str]:
    """Return the stable labels that all these pods carry with one value."""
    shared = set(pods[0].labels.items())
    for pod in pods[1:]:
        shared &= pod.labels.items()
    return {key: value for key, value in sorted(shared) if not is_volatile(key)}


def _named(labels: Mapping[str, str]) -> list[Selector]:
    """Return selectors by the labels that name a workload, best first, then by all of them."""
    groups = [{key: labels[key] for key in keys if key in labels} for keys in IDENTITY_KEYS if keys[0] in labels]
    return [Selector.of(group) for group in [*groups, dict(labels)] if group]


def _search(labels: Mapping[str, str], own: int, scope: _Scope) -> Selector | None:
    """Return the first smallest conjunction, identity labels before others, that selects exactly the workload's pods."""
    rank = {key: place for place, key in enumerate(key for keys in IDENTITY_KEYS for key in keys)}
    terms = sorted(labels.items(), key=lambda label: (rank.get(label[0], len(rank)), label))
    for count in range(1, MAX_TERMS + 1):
        for chosen in combinations(terms, count):
            bits = scope.everyone
            for label in chosen:
                bits &= scope.labels[label]
                if bits == own:
                    break
            if bits == own:
                return Selector.of(dict(chosen))
    return None
