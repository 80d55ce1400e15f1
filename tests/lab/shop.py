"""A shop on two nodes: everyday traffic, a rollout, a reused address, a short-lived job, a dead backend and a scanner."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from .lab import DNS_ADDRESS, Lab, Pod
from .network import Node
from .objects import Port, ServicePort
from .workloads import App, Call, Running, Workloads

HTTP = Port("http", 8080)
METRICS = Port("metrics", 9090)
PG = Port("pg", 5432)

PAYMENTS = "203.0.113.10"
CUSTOMERS = ("198.51.100.7", "198.51.100.23")
NODE_PORT = 30080
PROBE_SECONDS = 5.0
EVERYDAY = "everyday traffic"
# Two firings this far apart fall into different windows of a minute.
CRON_SECONDS = 63.0

COREDNS = App(
    "Deployment",
    "kube-system",
    "coredns",
    (0, 1),
    (Port("dns", 53, "UDP"), Port("dns-tcp", 53), Port("metrics", 9153)),
    service_account="coredns",
)
PROXY = App(
    "Deployment",
    "ingress",
    "proxy",
    (0, 1),
    (HTTP, METRICS),
    (Call("web.shop", 80),),
    probe="http",
    service_account="proxy",
)
WEB = App(
    "Deployment", "shop", "web", (0, 1, 0), (HTTP, METRICS), (Call("cart", 7070), Call("orders", 8080)), probe="http"
)
CART = App("Deployment", "shop", "cart", (0, 1), (Port("grpc", 7070), METRICS), (Call("db", 5432),))
ORDERS = App(
    "Deployment",
    "shop",
    "orders",
    (1,),
    (HTTP, METRICS),
    (Call("db", 5432), Call("payments.example.com", 443, (3.0, 6.0))),
    probe="http",
)
DB = App("StatefulSet", "shop", "db", (0, 1), (PG, METRICS), replication=Call("db-0.db", 5432))
SUGGEST = App("Deployment", "shop", "suggest", (1,), (METRICS,), (Call("search", 9200, (3.0, 5.0)),))
REPORT = App("CronJob", "shop", "report", (), calls=(Call("db", 5432),))
PROMETHEUS = App("Deployment", "monitoring", "prometheus", (1,), (METRICS,), service_account="prometheus")
TOOLBOX = App("Pod", "shop", "toolbox", (1,))

SCANNED_PORTS = (22, 80, 443, 3306, 5432, 6379, 7070, 8080, 9200)
SCANS = 60
SCAN_SECONDS = 10.0

# The rollout's last step comes this long before the end.
LAST_STEP_SECONDS = 7.0

Note = Callable[[str], None]


class Shop:
    """The shop in a lab: build it, then play its day."""

    def __init__(self, lab: Lab, note: Note = lambda _: None) -> None:
        self.lab = lab
        self.note = note
        self.workloads = Workloads(lab)
        self._web: list[Running] = []
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def build(self) -> None:
        """Bring nodes, Services and pods up; only servers run so far."""
        lab = self.lab
        lab.add_node()
        lab.add_node()
        for namespace in ("default", "kube-system", "ingress", "shop", "monitoring"):
            lab.add_namespace(namespace)
        for address in (PAYMENTS, *CUSTOMERS):
            lab.outside.add_address(address)
        lab.external_names["payments.example.com"] = [PAYMENTS]
        await lab.listen(lab.outside, 443, ip=PAYMENTS)
        dns = [ServicePort("dns", 53, "dns", "UDP"), ServicePort("dns-tcp", 53, "dns-tcp")]
        lab.add_service("kube-system", "kube-dns", dns, selector=COREDNS.labels, cluster_ip=DNS_ADDRESS)
        http = ServicePort("http", 80, "http")
        node_port = http._replace(node_port=NODE_PORT)
        lab.add_service("ingress", "proxy", [node_port], selector=PROXY.labels, local=True)
        lab.add_service("shop", "web", [http], selector=WEB.labels)
        lab.add_service("shop", "cart", [ServicePort("grpc", 7070, "grpc")], selector=CART.labels)
        lab.add_service("shop", "orders", [ServicePort("http", 8080, "http")], selector=ORDERS.labels)
        lab.add_service("shop", "db", [ServicePort("pg", 5432, "pg")], selector=DB.labels, headless=True)
        lab.add_service("shop", "search", [ServicePort("http", 9200)], selector={"app": "search"})
        apps = (COREDNS, PROXY, WEB, CART, ORDERS, DB, SUGGEST, REPORT, PROMETHEUS, TOOLBOX)
        started = await asyncio.gather(*(self.workloads.create(app) for app in apps))
        self._web = started[apps.index(WEB)]

    async def play(self, seconds: float) -> None:
        """Let everyone talk for this long, with the day's events in their places."""
        self.note(EVERYDAY)
        self.workloads.begin.set()
        for address in CUSTOMERS:
            self._spawn(self._shop(address))
        for node in self.lab.nodes:
            self._spawn(self._probe(node))
        self._spawn(self._scrape(next(run.pod for run in self.workloads.running if run.app is PROMETHEUS)))
        first, second = 0.05 * seconds, min(0.05 * seconds + CRON_SECONDS, 0.9 * seconds)
        events = (
            (first, lambda: self._report(0)),
            (second, lambda: self._report(1)),
            (0.33 * seconds, lambda: self._rollout(max(0.0, 0.67 * seconds - LAST_STEP_SECONDS))),
            (0.6 * seconds, lambda: self._scan(min(SCAN_SECONDS, 0.3 * seconds))),
        )
        for delay, event in events:
            self._spawn(self._at(delay, event))
        await asyncio.sleep(seconds)
        self._stop.set()
        talking = [running.finish() for running in self.workloads.running]
        await asyncio.gather(*talking, *self._tasks)
        self.note("end of traffic")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

    async def _at(self, delay: float, event: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(delay)
        await event()
        self.note(EVERYDAY)

    async def _shop(self, address: str) -> None:
        """Be a customer who reaches the shop through either node."""
        pick = self.lab.random
        while not await self.workloads.pause(self._stop, pick.uniform(1.0, 3.0)):
            node = pick.choice(self.lab.nodes)
            await self.lab.connect(self.lab.outside, node.ip, NODE_PORT, bind=address)

    async def _probe(self, node: Node) -> None:
        """Be the kubelet, which asks its own node's pods whether they are ready."""
        pick = self.lab.random
        while not await self.workloads.pause(self._stop, PROBE_SECONDS * pick.uniform(0.8, 1.0)):
            probed = [run for run in self.workloads.running if run.app.probe and run.pod.node is node and run.pod.ready]
            for run in probed:
                port = next(port.number for port in run.app.ports if port.name == run.app.probe)
                await self.lab.connect(node, run.pod.ip, port)

    async def _scrape(self, prometheus: Pod) -> None:
        """Be Prometheus, which finds pods through the API and dials their addresses."""
        pick = self.lab.random
        pause = 0.5
        while not await self.workloads.pause(self._stop, pause):
            pause = pick.uniform(2.0, 5.0)
            for run in list(self.workloads.running):
                port = next((port.number for port in run.app.ports if port.name == "metrics"), None)
                if port and run.pod.ready and run.pod is not prometheus:
                    await self.lab.connect(prometheus, run.pod.ip, port)
                    await asyncio.sleep(pick.uniform(0.1, 0.2))

    async def _report(self, node: int) -> None:
        self.note("job of shop/report")
        await self.workloads.fire(REPORT, node)

    async def _rollout(self, pause: float) -> None:
        """Replace every web pod; the first address that comes free goes to a second orders pod at once.

        The last step waits, as careful rollouts do; so one pod of the old version is there for most of the time.
        """
        self.note("rollout of shop/web")
        owner, former = self.workloads.revise(WEB)
        old, self._web = self._web, []
        for number, running in enumerate(old):
            if number == len(old) - 1:
                self.note(EVERYDAY)
                await self.workloads.pause(self._stop, pause)
                self.note("last step of the rollout of shop/web")
            self._web.append(await self.workloads.replace(WEB, running, owner, former))
            if number == 0:
                await asyncio.sleep(self.lab.random.uniform(0.03, 0.07))
                self.note(f"shop/orders reuses {running.pod.ip}")
                node = self.lab.nodes.index(running.pod.node)
                await self.workloads.scale_up(ORDERS, node, running.pod.ip)
            await asyncio.sleep(1.0)

    async def _scan(self, seconds: float) -> None:
        """Be an intruder in the toolbox who tries addresses and ports of the shop."""
        self.note("shop/toolbox scans")
        toolbox = next(run.pod for run in self.workloads.running if run.app is TOOLBOX)
        held = [run.pod.ip for run in self.workloads.running if run.pod.namespace == "shop" and run.pod is not toolbox]
        nobody = [f"{node.pod_cidr.removesuffix('0/24')}{last}" for node in self.lab.nodes for last in (201, 202, 203)]
        pairs = [(ip, port) for ip in held for port in SCANNED_PORTS]
        pick = self.lab.random
        # Ports of the shop's own are always among them: a scan that finds nothing would teach nothing.
        open_ports = {port.number for app in (WEB, CART, DB) for port in app.ports} - {METRICS.number}
        likely = [pair for pair in pairs if pair[1] in open_ports]
        chosen = pick.sample(likely, min(len(likely), SCANS // 3))
        chosen += [(ip, pick.choice(SCANNED_PORTS)) for ip in nobody]
        rest = [pair for pair in pairs if pair not in chosen]
        chosen += pick.sample(rest, min(len(rest), SCANS - len(chosen)))
        pick.shuffle(chosen)
        tries = []
        for ip, port in chosen:
            if self._stop.is_set():
                break
            tries.append(asyncio.create_task(self.lab.connect(toolbox, ip, port, request=b"", within=1.0)))
            await asyncio.sleep(seconds / SCANS * pick.uniform(0.8, 1.2))
        await asyncio.gather(*tries)
