"""Which workload a pod belongs to, told from the whole log, because children come before their owners.

The workload is the controller at the top, but not above one that has a pod template and a selector of its own: an operator's
custom resource may control many Deployments that have nothing in common but who installed them.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from recorder.identity.objects import Metadata, Owner

_WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "CronJob", "Rollout", "DeploymentConfig"})
_TEMPLATE_HASH = "pod-template-hash"
_SCHEDULED = re.compile(r"(.+)-(?:[0-9]{8}|[0-9]{10})")
"""CronJob controllers append the scheduled time, in minutes since the epoch or, before Kubernetes 1.21, in seconds."""
_LONGEST_CHAIN = 16


class Workload(NamedTuple):
    """A top controller, or a bare pod; `uid` is empty when only its name is known."""

    kind: str
    name: str
    uid: str


class Owners:
    """The controllers seen in a log, by uid, and the uids of Deployments and CronJobs by name."""

    def __init__(self) -> None:
        self._controllers: dict[str, Owner | None] = {}
        self._named: dict[tuple[str, str, str], str] = {}

    def apply(self, kind: str, metadata: Metadata) -> None:
        """Take an object that is no pod."""
        owner = controller(metadata)
        if kind in {"ReplicaSet", "Job"} or owner is not None:
            self._controllers[metadata.uid] = owner
        if kind in {"Deployment", "CronJob"}:
            self._named[kind, metadata.namespace or "", metadata.name] = metadata.uid

    def top(self, namespace: str, owner: Owner, labels: Mapping[str, str]) -> Workload:
        """Return the workload above `owner`, a pod's controller; `labels` are the pod's."""
        for _ in range(_LONGEST_CHAIN):
            if owner.kind in _WORKLOADS:
                break
            if owner.uid not in self._controllers:
                return self._guarded(namespace, owner, labels)
            above = self._controllers[owner.uid]
            if above is None:
                break
            owner = above
        return Workload(owner.kind, owner.name, owner.uid)

    def _guarded(self, namespace: str, owner: Owner, labels: Mapping[str, str]) -> Workload:
        """Return what a controller that the log lacks is part of, where names and labels prove it."""
        suffix = "-" + labels.get(_TEMPLATE_HASH, "")
        if owner.kind == "ReplicaSet" and len(suffix) > 1 and owner.name.endswith(suffix) and owner.name != suffix:
            name = owner.name.removesuffix(suffix)
            return Workload("Deployment", name, self._named.get(("Deployment", namespace, name), ""))
        if owner.kind == "Job" and (match := _SCHEDULED.fullmatch(owner.name)):
            uid = self._named.get(("CronJob", namespace, match[1]))
            if uid is not None:
                return Workload("CronJob", match[1], uid)
        return Workload(owner.kind, owner.name, owner.uid)


def controller(metadata: Metadata) -> Owner | None:
    """Return the ownerReference that controls an object; a node, which mirrors static pods, is a place and no owner."""
    for owner in metadata.ownerReferences or ():
        if owner.controller and owner.kind != "Node":
            return owner
    return None
