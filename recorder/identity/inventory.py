"""The cluster's objects but pods, slim and versioned, so that anything can be asked for as of a time.

What is kept is chosen field by field: environment, arguments, commands, secrets and header values never get in.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from recorder.errors import InventoryError
from recorder.identity import objects
from recorder.identity.events import Event
from recorder.identity.objects import Metadata, describe, group, micros, read
from recorder.identity.timeline import Timeline
from recorder.records import InventoryObject

_CALICO = frozenset({"projectcalico.org", "crd.projectcalico.org"})
_CORE = frozenset({""})
_POLICY = frozenset({"policy.networking.k8s.io"})
_CILIUM = frozenset({"cilium.io"})

KINDS: Mapping[str, frozenset[str]] = {
    "Namespace": _CORE,
    "Node": _CORE,
    "Service": _CORE,
    "ServiceAccount": _CORE,
    "Endpoints": _CORE,
    "ReplicationController": _CORE,
    "ReplicaSet": frozenset({"apps"}),
    "Deployment": frozenset({"apps"}),
    "StatefulSet": frozenset({"apps"}),
    "DaemonSet": frozenset({"apps"}),
    "Job": frozenset({"batch"}),
    "CronJob": frozenset({"batch"}),
    "Rollout": frozenset({"argoproj.io"}),
    "DeploymentConfig": frozenset({"apps.openshift.io"}),
    "EndpointSlice": frozenset({"discovery.k8s.io"}),
    "HorizontalPodAutoscaler": frozenset({"autoscaling"}),
    "Ingress": frozenset({"networking.k8s.io"}),
    "ServiceCIDR": frozenset({"networking.k8s.io"}),
    "ValidatingWebhookConfiguration": frozenset({"admissionregistration.k8s.io"}),
    "MutatingWebhookConfiguration": frozenset({"admissionregistration.k8s.io"}),
    "NetworkPolicy": frozenset({"networking.k8s.io"}) | _CALICO,
    "AdminNetworkPolicy": _POLICY,
    "BaselineAdminNetworkPolicy": _POLICY,
    "ClusterNetworkPolicy": _POLICY,
    "IPPool": _CALICO,
    "GlobalNetworkPolicy": _CALICO,
    "StagedNetworkPolicy": _CALICO,
    "StagedGlobalNetworkPolicy": _CALICO,
    "StagedKubernetesNetworkPolicy": _CALICO,
    "Tier": _CALICO,
    "NetworkSet": _CALICO,
    "GlobalNetworkSet": _CALICO,
    "Profile": _CALICO,
    "HostEndpoint": _CALICO,
    "CiliumNetworkPolicy": _CILIUM,
    "CiliumClusterwideNetworkPolicy": _CILIUM,
    "CiliumCIDRGroup": _CILIUM,
}
"""Kinds that are kept, with their API groups: `Service` is also a kind of Knative's."""

PLACES: Mapping[str, type[msgspec.Struct]] = {
    "Node": objects.Node,
    "Service": objects.Service,
    "Endpoints": objects.Endpoints,
    "EndpointSlice": objects.EndpointSlice,
    "ServiceCIDR": objects.Ranged,
    "IPPool": objects.Ranged,
}
"""Kinds that say what an address is, and the fields that say so."""

_ANNOTATIONS = (
    "podfence.dev/",
    "projectcalico.org/",
    "cni.projectcalico.org/",
    "flannel.alpha.coreos.com/",
    "network.cilium.io/",
    "io.cilium.network.",
    "policy.cilium.io/",
    "k8s.v1.cni.cncf.io/",
    "k8s.ovn.org/",
    "kube-router.io/",
    "service.kubernetes.io/",
    "service.beta.kubernetes.io/",
    "deployment.kubernetes.io/",
)
_METADATA = (
    "name",
    "namespace",
    "uid",
    "labels",
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "ownerReferences",
)
_OWNER = (
    "selector",
    "replicas",
    "schedule",
    "timeZone",
    "suspend",
    "paused",
    "parallelism",
    "completions",
    "serviceName",
    "workloadRef",
    "minReadySeconds",
)
_POD = ("serviceAccountName", "hostNetwork", "nodeSelector", "restartPolicy", "dnsPolicy")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = {"httpGet": ("path", "port", "host", "scheme"), "tcpSocket": ("port", "host"), "grpc": ("port", "service")}
_ENCODER = msgspec.json.Encoder(order="sorted")


class Version(NamedTuple):
    """One version of an object; `end` is None while it lasts, `text` its slim JSON."""

    kind: str
    namespace: str | None
    name: str
    uid: str
    start: int
    end: int | None
    text: bytes


class _Object:
    """One uid of one kind."""

    __slots__ = ("created", "kind", "name", "namespace", "timeline", "uid")

    def __init__(self, kind: str, metadata: Metadata) -> None:
        self.kind = kind
        self.namespace = metadata.namespace or None
        self.name = metadata.name
        self.uid = metadata.uid
        self.created = micros(metadata.creationTimestamp)
        self.timeline: Timeline[bytes] = Timeline()

    def versions(self) -> Iterator[Version]:
        """Yield versions in order of time; the first reaches back to the object's creation."""
        only = sum(text is not None for text in self.timeline.facts) == 1
        for number, (start, end, text) in enumerate(self.timeline.spans()):
            first = start if number or self.created is None else min(start, self.created)
            if end is None or first < end or only:
                yield Version(self.kind, self.namespace, self.name, self.uid, first, end, text)


class Inventory:
    """All objects seen; `changes` counts how often what may say what an address is has changed."""

    def __init__(self) -> None:
        self.changes = 0
        self._objects: dict[str, dict[tuple[str, ...], _Object]] = {}

    def apply(self, event: Event) -> None:
        """Take an event of any kind, in any order; raises InventoryError when an object of a kept kind cannot be read."""
        kind = event.object.get("kind")
        if event.type == "BOOKMARK" or not isinstance(kind, str):
            return
        family = group(event.object)
        if family not in KINDS.get(kind, ()):
            return
        metadata = read(event.object, objects.Meta, event.where).metadata
        if kind == "Endpoints" and (metadata.namespace, metadata.name) != ("default", "kubernetes"):
            return
        text = _encoded(event)
        if kind in PLACES:
            read(event.object, PLACES[kind], event.where)
        key = (family, metadata.namespace or "", metadata.name, metadata.uid)
        known = self._objects.setdefault(kind, {})
        entry = known.get(key)
        if entry is None:
            entry = known[key] = _Object(kind, metadata)
        changed = entry.timeline.add(event.time, text)
        if event.type == "DELETED":
            changed |= entry.timeline.add(event.time, None)
        if changed and kind in PLACES:
            self.changes += 1

    def versions(self, kind: str) -> Iterator[Version]:
        """Yield all versions of a kind's objects; those of one object in order of time."""
        for entry in self._objects.get(kind, {}).values():
            yield from entry.versions()

    def forget(self, before: int) -> None:
        """Drop objects deleted before `before` (µs)."""
        for known in self._objects.values():
            for key, entry in list(known.items()):
                if entry.timeline.facts[-1] is None and entry.timeline.last < before:
                    del known[key]

    def rows(self, cluster: str) -> list[InventoryObject]:
        """Return the inventory table, sorted by kind, namespace, name, uid and start."""
        rows = [
            InventoryObject(cluster, *version[:6], object=version.text.decode())
            for kind in self._objects
            for version in self.versions(kind)
        ]
        return sorted(rows, key=lambda row: (row.kind, row.namespace or "", row.name, row.uid, row.start, row.object))


def slim(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of an object: as the API has it, with fields left out and none changed."""
    kind = str(value.get("kind"))
    kept: dict[str, Any] = {"apiVersion": value.get("apiVersion"), "kind": kind}
    kept["metadata"] = _metadata(value.get("metadata"))
    body = _SLIM[kind](value) if kind in _SLIM else _pick(value, "spec", "specs")
    return kept | body


def _encoded(event: Event) -> bytes:
    try:
        return _ENCODER.encode(slim(event.object))
    except (msgspec.MsgspecError, RecursionError, TypeError, ValueError, OverflowError) as error:
        raise InventoryError(f"{event.where}: {describe(event.object)}: {str(error)[:200]}") from error


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _pick(value: Any, *names: str) -> dict[str, Any]:
    """Return the named fields that a mapping has."""
    value = _mapping(value)
    return {name: value[name] for name in names if value.get(name) is not None}


def _under(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields as a mapping under a name, or nothing when there are none."""
    return {name: fields} if fields else {}


def _metadata(value: Any) -> dict[str, Any]:
    kept = _pick(value, *_METADATA)
    found = _mapping(_mapping(value).get("annotations"))
    return kept | _under("annotations", {key: text for key, text in found.items() if key.startswith(_ANNOTATIONS)})


def _owner(value: Mapping[str, Any]) -> dict[str, Any]:
    spec = _mapping(value.get("spec"))
    kept = _pick(spec, *_OWNER)
    for strategy in ("strategy", "updateStrategy"):
        kept |= _under(strategy, _pick(spec.get(strategy), "type"))
    if isinstance(spec.get("template"), dict):
        kept["template"] = _template(spec["template"])
    if isinstance(spec.get("jobTemplate"), dict):
        kept["jobTemplate"] = _owner(spec["jobTemplate"])
    return _under("spec", kept)


def _template(value: dict[str, Any]) -> dict[str, Any]:
    spec = _mapping(value.get("spec"))
    kept = _pick(spec, *_POD)
    for group_of in ("initContainers", "containers"):
        if isinstance(spec.get(group_of), list):
            kept[group_of] = [_container(container) for container in spec[group_of]]
    return {"metadata": _metadata(value.get("metadata")), "spec": kept}


def _container(value: Any) -> dict[str, Any]:
    kept = _pick(value, "name", "image", "ports", "restartPolicy")
    for name in _PROBES:
        probe = _mapping(_mapping(value).get(name))
        handlers = {
            handler: _pick(probe[handler], *fields) for handler, fields in _HANDLERS.items() if handler in probe
        }
        kept |= _under(name, _pick(probe, "initialDelaySeconds", "periodSeconds") | handlers)
    return kept


def _node(value: Mapping[str, Any]) -> dict[str, Any]:
    spec = _pick(value.get("spec"), "podCIDR", "podCIDRs", "providerID", "taints", "unschedulable")
    status = _pick(value.get("status"), "addresses", "nodeInfo")
    info = _pick(status.get("nodeInfo"), "operatingSystem", "osImage", "kernelVersion", "kubeletVersion")
    return _under("spec", spec) | _under("status", _pick(status, "addresses") | _under("nodeInfo", info))


def _service(value: Mapping[str, Any]) -> dict[str, Any]:
    return _pick(value, "spec") | _under("status", _pick(value.get("status"), "loadBalancer"))


def _ingress(value: Mapping[str, Any]) -> dict[str, Any]:
    spec = dict(_mapping(value.get("spec")))
    if isinstance(spec.get("tls"), list):
        spec["tls"] = [_pick(entry, "hosts") for entry in spec["tls"]]
    return _under("spec", spec)


def _webhooks(value: Mapping[str, Any]) -> dict[str, Any]:
    found = value.get("webhooks")
    if not isinstance(found, list):
        return {}
    kept = []
    for hook in found:
        whole = dict(_mapping(hook))
        if "clientConfig" in whole:
            whole["clientConfig"] = _pick(whole["clientConfig"], "service", "url")
        kept.append(whole)
    return {"webhooks": kept}


def _bare(_value: Mapping[str, Any]) -> dict[str, Any]:
    return {}


_SLIM: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    **dict.fromkeys(
        (
            "ReplicationController",
            "ReplicaSet",
            "Deployment",
            "StatefulSet",
            "DaemonSet",
            "Job",
            "CronJob",
            "Rollout",
            "DeploymentConfig",
        ),
        _owner,
    ),
    "Namespace": _bare,
    "ServiceAccount": lambda value: _pick(value, "automountServiceAccountToken"),
    "Node": _node,
    "Service": _service,
    "EndpointSlice": lambda value: _pick(value, "addressType", "endpoints", "ports"),
    "Endpoints": lambda value: _pick(value, "subsets"),
    "Ingress": _ingress,
    "HorizontalPodAutoscaler": lambda value: _under(
        "spec", _pick(value.get("spec"), "scaleTargetRef", "minReplicas", "maxReplicas")
    ),
    "ValidatingWebhookConfiguration": _webhooks,
    "MutatingWebhookConfiguration": _webhooks,
}
