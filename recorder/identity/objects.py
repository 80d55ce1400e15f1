"""The fields of Kubernetes objects that identities and places rest on; validation happens here, once.

Field names are the API's. All else in an object is ignored, a field of the wrong type is an error.
"""

import ipaddress
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, TypeVar

import msgspec

from recorder.errors import InventoryError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
S = TypeVar("S", bound=msgspec.Struct)

Time = Annotated[datetime, msgspec.Meta(tz=True)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Owner(msgspec.Struct, frozen=True):
    """An ownerReference."""

    kind: str
    name: str
    uid: str
    apiVersion: str = ""  # noqa: N815 - the API's name, here and below
    controller: bool | None = None


class Metadata(msgspec.Struct):
    """ObjectMeta."""

    name: str = ""
    namespace: str | None = None
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creationTimestamp: Time | None = None  # noqa: N815
    ownerReferences: list[Owner] | None = None  # noqa: N815


class Meta(msgspec.Struct):
    """Any object, metadata alone."""

    metadata: Metadata


class ContainerPort(msgspec.Struct, frozen=True):
    """A declared port."""

    containerPort: Port  # noqa: N815
    name: str | None = None
    protocol: str | None = None
    hostPort: Port | None = None  # noqa: N815


class Handler(msgspec.Struct, frozen=True):
    """A probe's httpGet, tcpSocket or grpc."""

    port: Port | str
    host: str | None = None


class Probe(msgspec.Struct, frozen=True):
    """A probe."""

    httpGet: Handler | None = None  # noqa: N815
    tcpSocket: Handler | None = None  # noqa: N815
    grpc: Handler | None = None


class Container(msgspec.Struct, frozen=True):
    """A container, init container or sidecar."""

    ports: tuple[ContainerPort, ...] | None = None
    livenessProbe: Probe | None = None  # noqa: N815
    readinessProbe: Probe | None = None  # noqa: N815
    startupProbe: Probe | None = None  # noqa: N815


class EphemeralContainer(msgspec.Struct):
    """A container that somebody added to a running pod."""

    name: str


class PodContainers(msgspec.Struct, frozen=True):
    """The containers of a pod, equal for all replicas."""

    containers: tuple[Container, ...] | None = None
    initContainers: tuple[Container, ...] | None = None  # noqa: N815


class PodSpec(msgspec.Struct):
    """PodSpec without its containers, which are read once per pod."""

    nodeName: str | None = None  # noqa: N815
    serviceAccountName: str | None = None  # noqa: N815
    hostNetwork: bool | None = None  # noqa: N815
    ephemeralContainers: list[EphemeralContainer] | None = None  # noqa: N815


class Run(msgspec.Struct):
    """When a container ran."""

    startedAt: Time | None = None  # noqa: N815
    finishedAt: Time | None = None  # noqa: N815


class ContainerState(msgspec.Struct):
    """ContainerState."""

    running: Run | None = None
    terminated: Run | None = None


class ContainerStatus(msgspec.Struct):
    """ContainerStatus."""

    name: str = ""
    state: ContainerState | None = None


class PodIP(msgspec.Struct):
    """One of a pod's addresses."""

    ip: str | None = None


class PodStatus(msgspec.Struct):
    """PodStatus."""

    phase: str | None = None
    podIP: str | None = None  # noqa: N815
    podIPs: list[PodIP] | None = None  # noqa: N815
    startTime: Time | None = None  # noqa: N815
    containerStatuses: list[ContainerStatus] | None = None  # noqa: N815
    ephemeralContainerStatuses: list[ContainerStatus] | None = None  # noqa: N815


class Pod(msgspec.Struct):
    """A pod."""

    metadata: Metadata
    spec: PodSpec | None = None
    status: PodStatus | None = None


class ServicePort(msgspec.Struct):
    """A port of a Service."""

    port: Port
    name: str | None = None
    protocol: str | None = None
    nodePort: Port | None = None  # noqa: N815


class ServiceSpec(msgspec.Struct):
    """ServiceSpec."""

    clusterIP: str | None = None  # noqa: N815
    clusterIPs: list[str] | None = None  # noqa: N815
    externalIPs: list[str] | None = None  # noqa: N815
    ports: list[ServicePort] | None = None


class LoadBalancer(msgspec.Struct):
    """LoadBalancerStatus."""

    ingress: list[PodIP] | None = None


class ServiceStatus(msgspec.Struct):
    """ServiceStatus."""

    loadBalancer: LoadBalancer | None = None  # noqa: N815


class Service(msgspec.Struct):
    """A Service."""

    spec: ServiceSpec | None = None
    status: ServiceStatus | None = None


class EndpointPort(msgspec.Struct):
    """A port of an EndpointSlice or Endpoints."""

    name: str | None = None
    port: Port | None = None
    protocol: str | None = None


class Conditions(msgspec.Struct):
    """EndpointConditions."""

    ready: bool | None = None
    serving: bool | None = None


class Endpoint(msgspec.Struct):
    """An endpoint of an EndpointSlice."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None


class EndpointSlice(msgspec.Struct):
    """An EndpointSlice."""

    metadata: Metadata
    endpoints: list[Endpoint] | None = None
    ports: list[EndpointPort] | None = None


class Subset(msgspec.Struct):
    """A subset of Endpoints."""

    addresses: list[PodIP] | None = None
    ports: list[EndpointPort] | None = None


class Endpoints(msgspec.Struct):
    """Endpoints."""

    subsets: list[Subset] | None = None


class NodeAddress(msgspec.Struct):
    """NodeAddress."""

    address: str = ""
    type: str = ""


class NodeSpec(msgspec.Struct):
    """NodeSpec."""

    podCIDR: str | None = None  # noqa: N815
    podCIDRs: list[str] | None = None  # noqa: N815


class NodeStatus(msgspec.Struct):
    """NodeStatus."""

    addresses: list[NodeAddress] | None = None


class Node(msgspec.Struct):
    """A node."""

    metadata: Metadata
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class Ranges(msgspec.Struct):
    """The spec of a ServiceCIDR (`cidrs`) or a Calico IPPool (`cidr`)."""

    cidr: str | None = None
    cidrs: list[str] | None = None


class Ranged(msgspec.Struct):
    """A ServiceCIDR or IPPool."""

    spec: Ranges | None = None


def read(value: Any, kind: type[S], where: str) -> S:
    """Return the fields of `kind` in an object; raises InventoryError with `where` when one has the wrong type."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InventoryError(f"{where}: {describe(value)}: {' '.join(str(error).split())[:200]}") from error


def describe(value: Any) -> str:
    """Return `Kind namespace/name` of an object for a message, as far as it has them."""
    if not isinstance(value, Mapping):
        return "object"
    metadata = value.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    name = "/".join(str(part) for part in (metadata.get("namespace"), metadata.get("name")) if part)
    return f"{value.get('kind', 'object')} {name}"[:120].rstrip()


def group(value: Mapping[str, Any]) -> str:
    """Return an object's API group, empty for the core group."""
    version = value.get("apiVersion")
    return version.rpartition("/")[0] if isinstance(version, str) else ""


def micros(time: datetime | None) -> int | None:
    """Return a time as microseconds since the epoch."""
    return None if time is None else (time - _EPOCH) // _MICROSECOND


@lru_cache(maxsize=1 << 16)
def address(text: str | None) -> str | None:
    """Return an address in canonical text; None for anything else, `None` and host names included."""
    try:
        return ipaddress.ip_address(text or "").compressed
    except ValueError:
        return None


def addresses(texts: Iterable[str | None]) -> list[str]:
    """Return the addresses among texts, canonical, in their order, each once; a prefix length is ignored."""
    found = (address(text.partition("/")[0]) for text in texts if text)
    return list(dict.fromkeys(ip for ip in found if ip))


def annotated(annotations: Mapping[str, str] | None) -> list[str] | None:
    """Return the addresses that a CNI wrote on a pod, empty when it cleared them, None when it writes none.

    Calico: `cni.projectcalico.org/podIPs` and `podIP`, emptied when the sandbox goes. Multus: the default network of
    `k8s.v1.cni.cncf.io/network-status`. OVN-Kubernetes: `k8s.ovn.org/pod-networks`.
    """
    if not annotations:
        return None
    for key in ("cni.projectcalico.org/podIPs", "cni.projectcalico.org/podIP"):
        if key in annotations:
            return addresses(annotations[key].split(","))
    try:
        for key in ("k8s.v1.cni.cncf.io/network-status", "k8s.v1.cni.cncf.io/networks-status"):
            if key in annotations:
                networks = json.loads(annotations[key])
                return addresses(next((net["ips"] for net in networks if net.get("default")), networks[0]["ips"]))
        if "k8s.ovn.org/pod-networks" in annotations:
            return addresses(json.loads(annotations["k8s.ovn.org/pod-networks"])["default"]["ip_addresses"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None  # anybody may annotate a pod; what cannot be read proves nothing
    return None
