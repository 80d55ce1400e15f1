"""Controllers and the programs of their pods: what a Deployment, StatefulSet or CronJob makes, and what it talks to."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from . import objects
from .cluster import Object
from .lab import Lab, Pod
from .network import Node
from .objects import Port

# The API shows a pod's address this many seconds after the pod has begun to talk.
API_LAG = (0.050, 0.070)
GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Call:
    """A connection that a program makes again and again; the host is a name, pauses are in seconds."""

    host: str
    port: int
    pauses: tuple[float, float] = (2.0, 5.5)


@dataclass(frozen=True, slots=True)
class App:
    """A workload: one entry of nodes per replica, as the number of the node it is placed on."""

    kind: str
    namespace: str
    name: str
    nodes: tuple[int, ...]
    ports: tuple[Port, ...] = ()
    calls: tuple[Call, ...] = ()
    replication: Call | None = None
    probe: str | None = None
    service_account: str = "default"

    @property
    def labels(self) -> dict[str, str]:
        """What its pods are selected by."""
        return {"app": self.name}

    def template(self, version: str = "1.0") -> Object:
        """Give its pod template."""
        restart = "OnFailure" if self.kind == "CronJob" else "Always"
        account, probe = self.service_account, self.probe
        return objects.template(
            self.name, self.labels, self.ports, probe=probe, service_account=account, restart=restart, version=version
        )


@dataclass(slots=True, eq=False)
class Running:
    """The program of one pod."""

    app: App
    pod: Pod
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start a part of the program."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def finish(self) -> None:
        """Let calls under way end, and begin no others."""
        self.stop.set()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=GRACE_SECONDS)


class Workloads:
    """Runs Apps in a lab; clients stay silent until begin is set."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.begin = asyncio.Event()
        self.running: list[Running] = []
        self._minute = 0

    async def create(self, app: App) -> list[Running]:
        """Create a workload's controller and start its pods."""
        if app.service_account != "default":
            self.lab.cluster.put(objects.service_account(app.namespace, app.service_account))
        put, template, count = self.lab.cluster.put, app.template(), len(app.nodes)
        if app.kind == "Pod":
            return [await self.start(app, None, app.name, app.nodes[0])]
        if app.kind == "CronJob":
            put(objects.cron_job(app.namespace, app.name, template, "* * * * *"))
            return []
        if app.kind == "StatefulSet":
            owner = put(
                objects.controller(
                    app.kind,
                    app.namespace,
                    app.name,
                    template,
                    count,
                    serviceName=app.name,
                    podManagementPolicy="OrderedReady",
                )
            )
            return [await self.start(app, owner, f"{app.name}-{n}", node) for n, node in enumerate(app.nodes)]
        deployment = put(objects.controller(app.kind, app.namespace, app.name, template, count))
        owner = put(objects.replica_set(deployment, self.lab.suffix(9), 1))
        return list(await asyncio.gather(*(self.replica(app, owner, node) for node in app.nodes)))

    async def replica(self, app: App, owner: Object, node: int, ip: str | None = None) -> Running:
        """Start one more pod of a ReplicaSet."""
        return await self.start(app, owner, f"{owner['metadata']['name']}-{self.lab.suffix()}", node, ip)

    async def start(self, app: App, owner: Object | None, name: str, node: int, ip: str | None = None) -> Running:
        """Create a pod and run its program at once; returns when the API shows its address."""
        running = self._create(app, owner, name, self.lab.nodes[node], ip)
        await self._serve(running)
        calls = app.calls
        if app.replication and not name.endswith("-0"):
            calls = (*calls, app.replication)
        for call in calls:
            running.spawn(self._repeat(running, call))
        await asyncio.sleep(self.lab.random.uniform(*API_LAG))
        self.lab.announce(running.pod)
        return running

    async def stop(self, running: Running) -> None:
        """Delete a pod: no new calls, its own ended, its network gone, and shortly after that its object."""
        self.lab.terminate(running.pod)
        await running.finish()
        await asyncio.sleep(self.lab.random.uniform(0.1, 0.3))
        self.running.remove(running)
        self.lab.unplug(running.pod)
        await asyncio.sleep(self.lab.random.uniform(0.03, 0.05))
        self.lab.forget(running.pod)

    async def scale_up(self, app: App, node: int, ip: str | None = None) -> Running:
        """Add a replica to a Deployment, at an address if one is given."""
        deployment, owner = self._deployment(app)
        for item in (deployment, owner):
            self._resize(item, item["spec"]["replicas"] + 1)
        return await self.replica(app, owner, node, ip)

    async def replace(self, app: App, old: Running, owner: Object, former: Object) -> Running:
        """Take one step of a rollout: a new pod first, then the old one goes."""
        self._resize(owner, owner["spec"]["replicas"] + 1)
        fresh = await self.replica(app, owner, self.lab.nodes.index(old.pod.node))
        self._resize(former, former["spec"]["replicas"] - 1)
        await self.stop(old)
        return fresh

    def revise(self, app: App) -> tuple[Object, Object]:
        """Change a Deployment's pod template; returns the new, still empty, ReplicaSet and the former one."""
        deployment, former = self._deployment(app)
        deployment["spec"]["template"] = app.template("1.1")
        deployment["metadata"]["generation"] += 1
        self.lab.cluster.put(deployment)
        owner = objects.replica_set(deployment, self.lab.suffix(9), 2)
        owner["spec"]["replicas"] = 0
        return self.lab.cluster.put(owner), former

    async def fire(self, app: App, node: int) -> None:
        """Run a CronJob once: its pod has said everything before the API shows its address."""
        cron = self.lab.cluster.get("CronJob", app.namespace, app.name)
        if cron is None:
            raise KeyError(app.name)
        self._minute = max(self._minute + 1, int(time.time() // 60))
        job = self.lab.cluster.put(objects.job(cron, self._minute))
        cron["status"]["lastScheduleTime"] = objects.now()
        self.lab.cluster.put(cron)
        name = f"{job['metadata']['name']}-{self.lab.suffix()}"
        running = self._create(app, job, name, self.lab.nodes[node])
        lag = asyncio.create_task(asyncio.sleep(self.lab.random.uniform(*API_LAG)))
        for call in app.calls:
            await self.call(running.pod, call)
        await lag
        self.lab.announce(running.pod)
        await asyncio.sleep(0.5)
        self.running.remove(running)
        self.lab.complete(running.pod)
        job["status"] = {"succeeded": 1, "startTime": job["status"]["startTime"], "completionTime": objects.now()}
        self.lab.cluster.put(job)

    async def call(self, pod: Pod, call: Call) -> None:
        """Look a name up as a pod does and connect to one of its addresses."""
        found = await self.lab.resolve(pod, call.host)
        if found:
            name, addresses = found
            await self.lab.connect(pod, self.lab.random.choice(addresses), call.port, name=name)

    async def pause(self, stop: asyncio.Event, seconds: float) -> bool:
        """Wait; True when it is time to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()
        return stop.is_set()

    async def _repeat(self, running: Running, call: Call) -> None:
        early = self.begin.is_set()
        await self.begin.wait()
        delay = 0.0 if early else self.lab.random.uniform(0.0, 2.5)
        while not await self.pause(running.stop, delay):
            await self.call(running.pod, call)
            delay = self.lab.random.uniform(*call.pauses)

    async def _serve(self, running: Running) -> None:
        pod = running.pod
        if any(port.number == 53 for port in running.app.ports):
            await self.lab.serve_dns(pod)
        for port in running.app.ports:
            if port.number != 53:
                await self.lab.listen(pod, port.number)

    def _create(self, app: App, owner: Object | None, name: str, node: Node, ip: str | None = None) -> Running:
        template = None if owner and owner["kind"] != "StatefulSet" else app.template()
        extra = {}
        if app.kind == "StatefulSet":
            ordinal = name.rpartition("-")[2]
            extra = {"apps.kubernetes.io/pod-index": ordinal, "statefulset.kubernetes.io/pod-name": name}
        pod = self.lab.add_pod(
            app.namespace, name, node, labels=extra, owner=owner, template=template, ip=ip, announce=False
        )
        running = Running(app, pod)
        self.running.append(running)
        return running

    def _deployment(self, app: App) -> tuple[Object, Object]:
        """Give a Deployment and its ReplicaSet that has pods."""
        deployment = self.lab.cluster.get("Deployment", app.namespace, app.name)
        if deployment is None:
            raise KeyError(app.name)
        sets = self.lab.cluster.objects("ReplicaSet")
        name = f"{app.namespace}/deployment/{app.name}"
        return deployment, next(
            item for item in sets if self.lab.cluster.workload(item) == name and item["spec"]["replicas"]
        )

    def _resize(self, item: Object, replicas: int) -> None:
        item["spec"]["replicas"] = replicas
        item["metadata"]["generation"] += 1
        item["status"] |= {"replicas": replicas, "readyReplicas": replicas}
        item["status"]["observedGeneration"] = item["metadata"]["generation"]
        self.lab.cluster.put(item)
