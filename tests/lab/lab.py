"""One cluster to play with: pods that exist both as namespaces and as objects, and connections between them."""

import asyncio
import hashlib
import itertools
import os
import random
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from . import dns, objects
from .cluster import Cluster, Object
from .namespaces import LabError, Namespace, missing, remove_leftovers
from .network import SERVICE_RANGE, Link, Network, Node, Outside
from .objects import Port, ServicePort
from .rules import DeliveredPort
from .traffic import Listener, Place, Responder, Traffic
from .truth import Attempt, Side, Truth

T = TypeVar("T")

DNS_ADDRESS = "10.96.0.10"
# What Kubernetes makes random names of: no vowels, no words.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"

_labs = itertools.count(1)


@dataclass(slots=True, eq=False)
class Pod:
    """A pod; link is None once its network is gone."""

    namespace: str
    name: str
    uid: str
    workload: str
    node: Node
    ip: str
    ip6: str | None
    labels: dict[str, str]
    item: Object
    link: Link | None
    listeners: list[Listener] = field(default_factory=list)

    @property
    def netns(self) -> Namespace:
        """Its network namespace."""
        return self._link.netns

    @property
    def interface(self) -> str:
        """The name of its interface in the node's namespace."""
        return self._link.interface

    @property
    def ifindex(self) -> int:
        """The index of its interface in the node's namespace."""
        return self._link.ifindex

    @property
    def ready(self) -> bool:
        """Whether Services may send to it."""
        status = self.item["status"]
        return status["phase"] == "Running" and "deletionTimestamp" not in self.item["metadata"]

    @property
    def _link(self) -> Link:
        if self.link is None:
            raise LabError(f"pod {self.namespace}/{self.name} has no network any more")
        return self.link

    def side(self, address: str, port: int) -> Side:
        """Describe this pod as one end of a connection."""
        return Side("pod", self.namespace, self.name, self.uid, self.workload, self.node.name, address, port)


@dataclass(slots=True, eq=False)
class Service:
    """A Service with the pods behind it; automatic ones follow their selector."""

    item: Object
    slice: Object
    ports: tuple[ServicePort, ...]
    cluster_ip: str
    automatic: bool
    pods: list[Pod] = field(default_factory=list)


class Lab:
    """Context manager around one cluster; everything it made is gone after it.

    Changes to the cluster are plain calls that have taken effect when they return. Connections are coroutines: either
    awaited in the caller's own loop or handed to run().
    """

    def __init__(
        self, prefix: str | None = None, *, log: Path | None = None, dual_stack: bool = False, seed: int = 1
    ) -> None:
        """Prepare a lab whose namespaces carry the prefix, whose changes go to the log as they happen."""
        if problem := missing():
            raise LabError(problem)
        number = next(_labs)
        self.prefix = prefix or (f"pfl-{os.getpid()}" if number == 1 else f"pfl-{os.getpid()}-{number}")
        self.random = random.Random(seed)  # noqa: S311
        self.truth = Truth()
        self.traffic = Traffic(self.truth)
        self.cluster = Cluster(log)
        self.pods: list[Pod] = []
        self.services: list[Service] = []
        self.external_names: dict[str, list[str]] = {}
        self._dual_stack = dual_stack
        self._network: Network | None = None
        self._listeners: list[Listener] = []
        self._runner: asyncio.Runner | None = None

    def __enter__(self) -> Self:
        remove_leftovers()
        self._network = Network(self.prefix, dual_stack=self._dual_stack)
        self.cluster.put(objects.service_cidr([SERVICE_RANGE]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listener in [*self._listeners, *(listener for pod in self.pods for listener in pod.listeners)]:
            listener.close()
        if self._runner:
            self._runner.close()
        if self._network:
            self._network.close()
        self.cluster.close()

    @property
    def network(self) -> Network:
        """The wires."""
        if self._network is None:
            raise LabError("the lab is not up: use it as a context manager")
        return self._network

    @property
    def nodes(self) -> list[Node]:
        """The nodes in the order they were added."""
        return self.network.nodes

    @property
    def outside(self) -> Outside:
        """The world beyond the cluster."""
        return self.network.outside

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the lab's own loop, where listeners stay from one call to the next."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(work)

    def add_node(self, name: str | None = None) -> Node:
        """Add a node, connected to all others."""
        node = self.network.add_node(name or f"node-{len(self.nodes) + 1}")
        self.truth.node_ips |= {node.ip, node.tunnel_ip}
        cidrs = [node.pod_cidr, node.pod_cidr6] if self._dual_stack else [node.pod_cidr]
        self.cluster.put(objects.node(node.name, node.ip, cidrs, node.tunnel_ip))
        self._program()
        return node

    def add_namespace(self, name: str) -> None:
        """Add a Namespace with its default ServiceAccount; nothing happens when it is there."""
        if self.cluster.get("Namespace", "", name) is None:
            self.cluster.put(objects.namespace(name))
            self.cluster.put(objects.service_account(name, "default"))

    def add_pod(
        self,
        namespace: str,
        name: str,
        node: Node,
        *,
        labels: Mapping[str, str] | None = None,
        owner: Object | None = None,
        ports: Sequence[Port] = (),
        template: Object | None = None,
        ip: str | None = None,
        announce: bool = True,
    ) -> Pod:
        """Create a pod and its network; with announce=False the API does not show its address yet.

        The labels are those of the template, or of the owner's, with what is given here. The address is the node's next
        free one unless given, which it may be as soon as no interface holds it.
        """
        self.add_namespace(namespace)
        described = template or (owner["spec"]["template"] if owner else objects.template(name, {}, ports))
        item = objects.pod(namespace, name, described, owner)
        item["metadata"].setdefault("labels", {}).update(labels or {})
        self.cluster.put(item)
        item["spec"]["nodeName"] = node.name
        item["status"]["conditions"] = [_condition("PodScheduled")]
        self.cluster.put(item)
        address = ip or node.next_ip()
        # The name that Calico gives to a pod's interface.
        interface = "cali" + hashlib.sha1(f"{namespace}.{name}".encode()).hexdigest()[:11]  # noqa: S324
        link = self.network.attach(node, f"{namespace}.{name}", interface, address)
        uid, workload = item["metadata"]["uid"], self.cluster.workload(item)
        address6 = node.ip6_of(address) if self._dual_stack else None
        pod = Pod(namespace, name, uid, workload, node, address, address6, item["metadata"]["labels"], item, link)
        self.pods.append(pod)
        if announce:
            self.announce(pod)
        return pod

    def announce(self, pod: Pod) -> None:
        """Let the API show the pod as running and ready, with its address."""
        started = objects.now()
        ready = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
        pod.item["status"] |= {
            "phase": "Running",
            "hostIP": pod.node.ip,
            "hostIPs": [{"ip": pod.node.ip}],
            "podIP": pod.ip,
            "podIPs": [{"ip": address} for address in (pod.ip, pod.ip6) if address],
            "startTime": pod.item["metadata"]["creationTimestamp"],
            "conditions": [_condition(kind) for kind in ready],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": started}},
                }
                for container in pod.item["spec"]["containers"]
            ],
        }
        self.cluster.put(pod.item)
        self._follow_selectors()

    def terminate(self, pod: Pod) -> None:
        """Mark a pod for deletion: Services stop sending to it, its network stays."""
        pod.item["metadata"]["deletionTimestamp"] = objects.now()
        pod.item["metadata"]["deletionGracePeriodSeconds"] = 30
        self.cluster.put(pod.item)
        self._follow_selectors()

    def unplug(self, pod: Pod) -> None:
        """Take a pod's sockets and network away; its address is free when this returns."""
        for listener in pod.listeners:
            listener.close()
        pod.listeners.clear()
        if pod.link:
            link, pod.link = pod.link, None
            self.network.detach(pod.node, link)

    def complete(self, pod: Pod) -> None:
        """End a pod as Succeeded: its network goes, the API keeps showing its address."""
        self.unplug(pod)
        status = pod.item["status"]
        status["phase"] = "Succeeded"
        status["conditions"] = [_condition("PodScheduled"), _condition("Ready", "False", "PodCompleted")]
        for container in status.get("containerStatuses", []):
            started = container["state"]["running"]["startedAt"]
            ended = {"exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": objects.now()}
            container.update(ready=False, started=False, state={"terminated": ended})
        self.cluster.put(pod.item)
        self._follow_selectors()

    def forget(self, pod: Pod) -> None:
        """Delete a pod's object; its network goes first if it is still there."""
        self.unplug(pod)
        self.pods.remove(pod)
        self.cluster.remove(pod.item)

    def delete_pod(self, pod: Pod) -> None:
        """Delete a pod as the API does: deletionTimestamp, network gone, object gone."""
        self.terminate(pod)
        self.unplug(pod)
        self.forget(pod)

    def add_service(
        self,
        namespace: str,
        name: str,
        ports: Sequence[ServicePort],
        *,
        selector: Mapping[str, str] | None = None,
        cluster_ip: str | None = None,
        headless: bool = False,
        local: bool = False,
    ) -> Service:
        """Add a Service; without a selector its endpoints are what set_endpoints() says."""
        self.add_namespace(namespace)
        address = "None" if headless else cluster_ip or f"10.96.1.{len(self.services) + 1}"
        item = self.cluster.put(objects.service(namespace, name, ports, selector, address, local=local))
        part = self.cluster.put(objects.endpoint_slice(item, self.suffix()))
        service = Service(item, part, tuple(ports), address, selector is not None)
        self.services.append(service)
        self._follow_selectors()
        self._program()
        return service

    def set_endpoints(self, service: Service, pods: Sequence[Pod]) -> None:
        """Put these pods behind a Service, in its EndpointSlice and in every node's rules."""
        service.pods = list(pods)
        headless = service.cluster_ip == "None"
        service.slice["endpoints"] = [
            {
                "addresses": [pod.ip],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": pod.node.name,
                "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
            }
            | ({"hostname": pod.name} if headless else {})
            for pod in pods
        ]
        service.slice["ports"] = [
            {"name": port.name, "port": target, "protocol": port.protocol}
            for port in service.ports
            if (target := _target(port, pods)) is not None
        ]
        self.cluster.put(service.slice)
        self._program()

    def lookup(self, name: str) -> list[str] | None:
        """Answer a DNS question from the cluster as it is now."""
        if name in self.external_names:
            return self.external_names[name]
        suffix = f".svc.{dns.DOMAIN}"
        labels = name.removesuffix(suffix).split(".") if name.endswith(suffix) else []
        for service in self.services:
            meta = service.item["metadata"]
            if labels[-2:] != [meta["name"], meta["namespace"]]:
                continue
            if len(labels) == 2:
                return [service.cluster_ip] if service.cluster_ip != "None" else _addresses(service.pods)
            return _addresses([pod for pod in service.pods if [pod.name] == labels[:-2]]) or None
        return None

    def suffix(self, length: int = 5) -> str:
        """Make up the random end of a name."""
        return "".join(self.random.choices(ALPHABET, k=length))

    async def serve_dns(self, pod: Pod) -> None:
        """Make a pod a DNS server of the cluster, over UDP and TCP."""
        pod.listeners += [
            await self.traffic.listen_udp(pod, 53, lambda data: dns.answer(data, self.lookup), pod.ip),
            await self.traffic.listen(pod, 53, lambda data: dns.answer_stream(data, self.lookup), pod.ip),
        ]

    async def listen(self, place: Place, port: int, respond: Responder = lambda _: b"ok\n", ip: str = "") -> Listener:
        """Accept TCP connections at a place until its network goes; ip "::" for IPv6."""
        return self._keep(place, await self.traffic.listen(place, port, respond, ip))

    async def listen_udp(
        self, place: Place, port: int, respond: Responder = lambda _: b"ok\n", ip: str = ""
    ) -> Listener:
        """Answer UDP requests at a place until its network goes; ip "::" for IPv6."""
        return self._keep(place, await self.traffic.listen_udp(place, port, respond, ip))

    async def connect(
        self,
        source: Place,
        ip: str,
        port: int,
        *,
        name: str | None = None,
        request: bytes = b"hello\n",
        within: float = 1.5,
        bind: str | None = None,
    ) -> Attempt:
        """Try one TCP connection and tell what became of it; within is in seconds, bind an address to come from."""
        return await self.traffic.connect(source, ip, port, name=name, request=request, within=within, bind=bind)

    async def request(
        self, source: Place, ip: str, port: int, payload: bytes = b"hello\n", *, within: float = 1.5
    ) -> Attempt:
        """Send one UDP request and tell what became of it."""
        return (await self.traffic.request(source, ip, port, payload, within=within))[0]

    async def resolve(self, pod: Pod, name: str, kind: str = "A") -> tuple[str, list[str]] | None:
        """Ask the cluster's DNS from a pod, down its search list: the name that exists, with its addresses."""
        for candidate in dns.candidates(name, pod.namespace):
            _, wire = await self.traffic.request(
                pod, DNS_ADDRESS, 53, dns.query(candidate, kind), within=1.0, query=candidate
            )
            if found := dns.addresses(wire):
                return candidate, found
        return None

    def _keep(self, place: Place, listener: Listener) -> Listener:
        (place.listeners if isinstance(place, Pod) else self._listeners).append(listener)
        return listener

    def _follow_selectors(self) -> None:
        for service in self.services:
            if not service.automatic:
                continue
            namespace, selector = service.item["metadata"]["namespace"], service.item["spec"]["selector"]
            chosen = [
                pod
                for pod in self.pods
                if pod.ready and pod.namespace == namespace and selector.items() <= pod.labels.items()
            ]
            if chosen != service.pods:
                self.set_endpoints(service, chosen)

    def _program(self) -> None:
        self.network.program(
            [
                DeliveredPort(
                    service.cluster_ip,
                    port.number,
                    port.protocol.lower(),
                    tuple((pod.ip, target) for pod in service.pods if (target := _target(port, [pod])) is not None),
                    port.node_port,
                    service.item["spec"].get("externalTrafficPolicy") == "Local",
                )
                for service in self.services
                if service.cluster_ip != "None"
                for port in service.ports
            ]
        )


def _addresses(pods: Sequence[Pod]) -> list[str]:
    return [address for pod in pods for address in (pod.ip, pod.ip6) if address]


def _target(port: ServicePort, pods: Sequence[Pod]) -> int | None:
    """Find the number of a Service's port at its pods, which may know it by name."""
    target = port.target or port.number
    if isinstance(target, int):
        return target
    for pod in pods:
        for container in pod.item["spec"]["containers"]:
            for declared in container.get("ports", []):
                if declared["name"] == target:
                    number: int = declared["containerPort"]
                    return number
    return None


def _condition(kind: str, status: str = "True", reason: str | None = None) -> Object:
    condition: Object = {"type": kind, "status": status, "lastTransitionTime": objects.now()}
    return condition | ({"reason": reason} if reason else {})
