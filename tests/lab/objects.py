"""Kubernetes objects as the API returns them, less what concerns neither identity nor network."""

import time
import uuid
from collections.abc import Iterable, Mapping
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, NamedTuple

Object = dict[str, Any]


class Port(NamedTuple):
    """A container's port."""

    name: str
    number: int
    protocol: str = "TCP"


class ServicePort(NamedTuple):
    """A Service's port; target is a port's number or name, the port itself when None."""

    name: str
    number: int
    target: int | str | None = None
    protocol: str = "TCP"
    node_port: int | None = None


def now() -> str:
    """Write the time as the API does: whole seconds, cut off."""
    return datetime.fromtimestamp(int(time.time()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def metadata(
    name: str,
    namespace: str | None = None,
    labels: Mapping[str, str] | None = None,
    owner: Object | None = None,
) -> Object:
    """Describe a new object; the owner becomes its controller."""
    result: Object = {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": now(), "resourceVersion": "0"}
    if namespace:
        result["namespace"] = namespace
    if labels:
        result["labels"] = dict(labels)
    if owner:
        result["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    return result


def namespace(name: str) -> Object:
    """Describe a Namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": metadata(name, labels={"kubernetes.io/metadata.name": name}),
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def service_account(namespace: str, name: str) -> Object:
    """Describe a ServiceAccount."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(name, namespace)}


def service_cidr(cidrs: list[str]) -> Object:
    """Describe the range that Services get their addresses from."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": metadata("kubernetes"),
        "spec": {"cidrs": cidrs},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now()}]},
    }


def node(name: str, address: str, pod_cidrs: list[str], tunnel_ip: str) -> Object:
    """Describe a Node; the annotation is where Calico says what address its overlay device has."""
    meta = metadata(name, labels={"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"})
    meta["annotations"] = {
        "projectcalico.org/IPv4Address": f"{address}/24",
        "projectcalico.org/IPv4VXLANTunnelAddr": tunnel_ip,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": meta,
        "spec": {"podCIDR": pod_cidrs[0], "podCIDRs": pod_cidrs},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now()}],
        },
    }


def template(
    container: str,
    labels: Mapping[str, str],
    ports: Iterable[Port] = (),
    *,
    probe: str | None = None,
    service_account: str = "default",
    restart: str = "Always",
    version: str = "1.0",
) -> Object:
    """Describe the pods of a controller: one container, with a readiness probe of a named HTTP port if asked for."""
    described: Object = {"name": container, "image": f"registry.example/{container}:{version}"}
    listed = [{"name": port.name, "containerPort": port.number, "protocol": port.protocol} for port in ports]
    if listed:
        described["ports"] = listed
    if probe:
        described["readinessProbe"] = {
            "httpGet": {"path": "/healthz", "port": probe, "scheme": "HTTP"},
            "periodSeconds": 5,
        }
    return {
        "metadata": {"labels": dict(labels)},
        "spec": {"containers": [described], "restartPolicy": restart, "serviceAccountName": service_account},
    }


def controller(
    kind: str, namespace: str, name: str, pods: Object, replicas: int, *, owner: Object | None = None, **spec: Any
) -> Object:
    """Describe a Deployment, ReplicaSet or StatefulSet that selects the labels of its pod template."""
    labels = pods["metadata"]["labels"]
    meta = metadata(name, namespace, labels, owner)
    meta["generation"] = 1
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": meta,
        "spec": {"replicas": replicas, "selector": {"matchLabels": dict(labels)}, "template": pods, **spec},
        "status": {"replicas": replicas, "readyReplicas": replicas, "observedGeneration": 1},
    }


def replica_set(deployment: Object, template_hash: str, revision: int) -> Object:
    """Describe the ReplicaSet of a Deployment's present pod template."""
    pods = deepcopy(deployment["spec"]["template"])
    pods["metadata"]["labels"]["pod-template-hash"] = template_hash
    meta = deployment["metadata"]
    name = f"{meta['name']}-{template_hash}"
    result = controller("ReplicaSet", meta["namespace"], name, pods, deployment["spec"]["replicas"], owner=deployment)
    result["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": str(revision)}
    return result


def cron_job(namespace: str, name: str, pods: Object, schedule: str) -> Object:
    """Describe a CronJob."""
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {**metadata(name, namespace, pods["metadata"]["labels"]), "generation": 1},
        "spec": {
            "schedule": schedule,
            "concurrencyPolicy": "Allow",
            "suspend": False,
            "jobTemplate": {"metadata": {}, "spec": {"template": pods}},
        },
        "status": {},
    }


def job(cron: Object, minute: int) -> Object:
    """Describe the Job that a CronJob makes for a minute since the epoch; its pods carry its name and uid."""
    meta = metadata(f"{cron['metadata']['name']}-{minute}", cron["metadata"]["namespace"], owner=cron)
    scheduled = datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    meta["annotations"] = {"batch.kubernetes.io/cronjob-scheduled-timestamp": scheduled}
    meta["generation"] = 1
    pods = deepcopy(cron["spec"]["jobTemplate"]["spec"]["template"])
    pods["metadata"]["labels"] |= {
        "batch.kubernetes.io/controller-uid": meta["uid"],
        "batch.kubernetes.io/job-name": meta["name"],
        "controller-uid": meta["uid"],
        "job-name": meta["name"],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**meta, "labels": dict(pods["metadata"]["labels"])},
        "spec": {
            "backoffLimit": 6,
            "completions": 1,
            "parallelism": 1,
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": meta["uid"]}},
            "template": pods,
        },
        "status": {"active": 1, "startTime": now()},
    }


def pod(namespace: str, name: str, pods: Object, owner: Object | None = None) -> Object:
    """Describe a pod as it is created: not yet scheduled, without an address."""
    pods = deepcopy(pods)
    meta = metadata(name, namespace, pods["metadata"]["labels"], owner)
    if owner and owner["kind"] in {"ReplicaSet", "Job"}:
        meta["generateName"] = name[: name.rindex("-") + 1]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"dnsPolicy": "ClusterFirst", **pods["spec"]},
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }


def service(
    namespace: str,
    name: str,
    ports: Iterable[ServicePort],
    selector: Mapping[str, str] | None,
    cluster_ip: str,
    *,
    local: bool = False,
) -> Object:
    """Describe a Service; cluster_ip "None" makes it headless, a node port makes it a NodePort."""
    listed = [
        {"name": port.name, "port": port.number, "targetPort": port.target or port.number, "protocol": port.protocol}
        | ({"nodePort": port.node_port} if port.node_port else {})
        for port in ports
    ]
    exposed = any(port.node_port for port in ports)
    spec: Object = {
        "type": "NodePort" if exposed else "ClusterIP",
        "clusterIP": cluster_ip,
        "clusterIPs": [cluster_ip],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "ports": listed,
        "sessionAffinity": "None",
    }
    if selector is not None:
        spec["selector"] = dict(selector)
    if exposed:
        spec["externalTrafficPolicy"] = "Local" if local else "Cluster"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, namespace, selector),
        "spec": spec,
        "status": {"loadBalancer": {}},
    }


def endpoint_slice(service: Object, suffix: str) -> Object:
    """Describe the still empty EndpointSlice of a Service."""
    meta = service["metadata"]
    labels = {
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": meta["name"],
    }
    if service["spec"]["clusterIP"] == "None":
        labels["service.kubernetes.io/headless"] = ""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata(f"{meta['name']}-{suffix}", meta["namespace"], labels, service),
        "addressType": "IPv4",
        "endpoints": [],
        "ports": [],
    }
