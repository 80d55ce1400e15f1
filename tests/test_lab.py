"""The lab is the ground that other tests stand on: its packets, its objects and its truth must be real."""

import json
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.lab import Lab, LabError, Namespace, Node, Pod, Port, Service, ServicePort, missing
from tests.lab import dns as lab_dns
from tests.lab.__main__ import main
from tests.lab.lab import DNS_ADDRESS

ROOT = Path(__file__).parent.parent
WORLD = "203.0.113.10"
CUSTOMER = "198.51.100.7"

pytestmark = [pytest.mark.lab, pytest.mark.skipif(missing() is not None, reason=missing() or "")]


class Stage(NamedTuple):
    """Two nodes with a client, servers on both, and Services in front of them."""

    lab: Lab
    client: Pod
    near: Pod
    far: Pod
    api: Service
    nobody: Service


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Bring up one lab for all tests that leave no trace in it."""
    with Lab(log=tmp_path_factory.mktemp("lab") / "events.jsonl", dual_stack=True) as lab:
        one, two = lab.add_node(), lab.add_node()
        client = lab.add_pod("shop", "client", one)
        near, far = (lab.add_pod("shop", f"api-{node.name}", node, labels={"app": "api"}) for node in (one, two))
        resolver = lab.add_pod("kube-system", "dns", two, labels={"app": "dns"}, ports=[Port("dns", 53, "UDP")])
        for pod in (near, far):
            lab.run(lab.listen(pod, 8080))
            lab.run(lab.listen(pod, 8080, ip="::"))
        lab.run(lab.serve_dns(resolver))
        for address in (WORLD, CUSTOMER):
            lab.outside.add_address(address)
        lab.external_names["payments.example.com"] = [WORLD]
        lab.run(lab.listen(lab.outside, 443, ip=WORLD))
        ports = [ServicePort("http", 80, 8080, node_port=30080)]
        api = lab.add_service("shop", "api", ports, selector={"app": "api"}, local=True)
        nobody = lab.add_service("shop", "nobody", [ServicePort("http", 80)], selector={"app": "nobody"})
        dns_ports = [ServicePort("dns", 53, protocol="UDP"), ServicePort("dns-tcp", 53)]
        lab.add_service("kube-system", "kube-dns", dns_ports, selector={"app": "dns"}, cluster_ip=DNS_ADDRESS)
        yield Stage(lab, client, near, far, api, nobody)


@pytest.mark.parametrize("server", ["near", "far"])
@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_pod_reaches_pod(stage: Stage, server: str, family: str) -> None:
    """A pod reaches a pod of its own node and of another, with either family, and neither address is rewritten."""
    pod = getattr(stage, server)
    attempt = stage.lab.run(stage.lab.connect(stage.client, getattr(pod, family), 8080))
    assert attempt.result == "answered"
    assert attempt.source.ip == getattr(stage.client, family)
    assert attempt.backend == pod.side(getattr(pod, family), 8080)
    assert attempt.snat_ip is None


def test_closed_port_and_empty_address(stage: Stage) -> None:
    """A closed port refuses; an address that no pod holds is silent, on either node."""
    assert stage.lab.run(stage.lab.connect(stage.client, stage.far.ip, 81)).result == "refused"
    for address in ("10.244.1.250", "10.244.2.250"):
        assert stage.lab.run(stage.lab.connect(stage.client, address, 80, within=0.2)).result == "timeout"


def test_cluster_ip_reaches_every_backend(stage: Stage) -> None:
    """A ClusterIP leads to its backends on both nodes, and the truth names the one that accepted."""
    accepted = set()
    for _ in range(100):
        attempt = stage.lab.run(stage.lab.connect(stage.client, stage.api.cluster_ip, 80))
        assert attempt.backend is not None
        assert (attempt.ip, attempt.port, attempt.backend.port) == (stage.api.cluster_ip, 80, 8080)
        accepted.add((attempt.backend.uid, attempt.backend.ip))
        if len(accepted) == 2:
            break
    assert accepted == {(pod.uid, pod.ip) for pod in (stage.near, stage.far)}


def test_service_without_endpoints_is_refused(stage: Stage) -> None:
    """The node itself refuses what is dialled at a Service without endpoints."""
    attempt = stage.lab.run(stage.lab.connect(stage.client, stage.nobody.cluster_ip, 80))
    assert (attempt.result, attempt.backend) == ("refused", None)


def test_endpoints_follow_the_pods(stage: Stage) -> None:
    """A Service leads to a pod from when the API shows it as ready until it terminates, and so says its slice."""
    lab = stage.lab
    service = lab.add_service("shop", "late", [ServicePort("http", 80, 8080)], selector={"app": "late"})
    pod = lab.add_pod("shop", "late-0", lab.nodes[1], labels={"app": "late"}, announce=False)
    lab.run(lab.listen(pod, 8080))
    assert "podIP" not in pod.item["status"]
    assert lab.run(lab.connect(stage.client, service.cluster_ip, 80)).result == "refused"
    lab.announce(pod)
    assert [end["targetRef"]["uid"] for end in service.slice["endpoints"]] == [pod.uid]
    assert lab.run(lab.connect(stage.client, service.cluster_ip, 80)).result == "answered"
    lab.terminate(pod)
    assert service.slice["endpoints"] == []
    assert lab.run(lab.connect(stage.client, service.cluster_ip, 80)).result == "refused"
    assert lab.run(lab.connect(stage.client, pod.ip, 8080)).result == "answered"
    lab.forget(pod)


def test_outside_sees_the_node(stage: Stage) -> None:
    """What leaves the cluster carries the node's address."""
    attempt = stage.lab.run(stage.lab.connect(stage.client, WORLD, 443))
    assert attempt.result == "answered"
    assert attempt.snat_ip == stage.client.node.ip
    assert attempt.as_json()["external"] == {"ip": WORLD, "port": 443}


def test_node_port_keeps_the_client(stage: Stage) -> None:
    """A NodePort with local policy leads to the node's own pod, which sees the client's address."""
    for pod in (stage.near, stage.far):
        attempt = stage.lab.run(stage.lab.connect(stage.lab.outside, pod.node.ip, 30080, bind=CUSTOMER))
        assert attempt.source.ip == CUSTOMER
        assert attempt.backend == pod.side(pod.ip, 8080)
        assert attempt.snat_ip is None


def test_kubelet_comes_from_its_node(stage: Stage) -> None:
    """A connection from a node's own namespace shows the node's address to its pods."""
    attempt = stage.lab.run(stage.lab.connect(stage.near.node, stage.near.ip, 8080))
    assert (attempt.source.kind, attempt.source.ip) == ("node", stage.near.node.ip)
    assert attempt.backend == stage.near.side(stage.near.ip, 8080)


def test_dns_answers(stage: Stage) -> None:
    """Names of Services and of the world resolve down the search list, others do not, each question in the truth."""
    lab = stage.lab
    before = len(lab.truth.attempts)
    assert lab.run(lab.resolve(stage.client, "api")) == ("api.shop.svc.cluster.local", [stage.api.cluster_ip])
    assert lab.run(lab.resolve(stage.client, "payments.example.com")) == ("payments.example.com", [WORLD])
    assert lab.run(lab.resolve(stage.client, "no-such-name.shop")) is None
    asked = lab.truth.attempts[before:]
    assert [attempt.query for attempt in asked[:2]] == [
        "api.shop.svc.cluster.local",
        "payments.example.com.shop.svc.cluster.local",
    ]
    assert {(attempt.ip, attempt.result, attempt.backend and attempt.backend.pod) for attempt in asked} == {
        (DNS_ADDRESS, "answered", "dns")
    }


def test_dns_over_tcp(stage: Stage) -> None:
    """The DNS server answers over TCP as well, with the length in front."""
    query = lab_dns.query("api.shop.svc.cluster.local")
    reply = lab_dns.answer_stream(struct.pack("!H", len(query)) + query, stage.lab.lookup)
    assert reply is not None
    assert struct.unpack("!H", reply[:2])[0] == len(reply) - 2
    assert lab_dns.addresses(reply[2:]) == [stage.api.cluster_ip]
    attempt = stage.lab.run(
        stage.lab.connect(stage.client, DNS_ADDRESS, 53, request=struct.pack("!H", len(query)) + query)
    )
    assert attempt.backend is not None
    assert attempt.backend.pod == "dns"


def test_reused_address_is_a_new_interface(stage: Stage) -> None:
    """An address given to another pod comes with another interface, and the truth tells the two pods apart."""
    lab, node = stage.lab, stage.near.node
    first = lab.add_pod("shop", "first", node)
    old = first.ifindex
    before = lab.run(lab.connect(first, stage.far.ip, 8080))
    lab.delete_pod(first)
    second = lab.add_pod("shop", "second", node, ip=first.ip)
    after = lab.run(lab.connect(second, stage.far.ip, 8080))
    assert second.ifindex != old
    assert before.source.ip == after.source.ip
    assert (before.source.uid, after.source.uid) == (first.uid, second.uid)
    assert (before.result, after.result) == ("answered", "answered")
    lab.delete_pod(second)


def test_pod_talks_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod exists when both ends of its link can send: the kernel drops first packets that come earlier."""
    lab, node = stage.lab, stage.near.node
    awaited: list[tuple[str, str]] = []

    def await_carrier(namespace: Namespace, interface: str) -> None:
        real(namespace, interface)
        awaited.append((namespace.name, interface))

    real = Namespace.await_carrier
    monkeypatch.setattr(Namespace, "await_carrier", await_carrier)
    pod = lab.add_pod("shop", "hasty", node, announce=False)
    assert set(awaited) == {(node.netns.name, pod.interface), (pod.netns.name, "eth0")}
    with pod.netns.inside():
        subprocess.run(["ip", "link", "set", "eth0", "down"], check=True)
    with pytest.raises(LabError, match="no carrier"):
        real(pod.netns, "eth0", 0.01)
    lab.delete_pod(pod)


def test_packets_before_and_after_translation(stage: Stage) -> None:
    """A node's own namespace sees a connection to a Service both as dialled and as delivered."""
    with stage.client.node.netns.inside():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    with tap:
        tap.settimeout(2)
        stage.lab.run(stage.lab.connect(stage.client, stage.api.cluster_ip, 80))
        backend = stage.lab.truth.attempts[-1].backend
        assert backend is not None
        wanted = {(stage.api.cluster_ip, 80), (backend.ip, 8080)}
        seen: set[tuple[str, int]] = set()
        while not wanted <= seen:
            packet = tap.recv(65535)
            if packet[0] == 0x45 and packet[9] == 6:
                seen.add((socket.inet_ntoa(packet[16:20]), struct.unpack("!H", packet[22:24])[0]))
    assert wanted <= seen


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_lab_is_left_behind(how: signal.Signals, tmp_path: Path) -> None:
    """A lab that is terminated cleans up; one that is killed is cleaned up by the next."""
    command = [sys.executable, "-m", "tests.lab", "shop", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        names = [node["netns"] for node in ready["nodes"]]
        assert names == [f"pfl-{process.pid}-node-1", f"pfl-{process.pid}-node-2"]
        assert set(names) <= _left_by(process.pid)
        process.send_signal(how)
        process.wait(timeout=10)
    if how is signal.SIGKILL:
        assert _left_by(process.pid)
        with Lab():
            pass
    assert not _left_by(process.pid)


def _left_by(process: int) -> set[str]:
    return {path.name for path in Path("/run/netns").glob(f"pfl-{process}-*")}


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without root or a program the lab says in one line what to do, and exits with 2."""
    monkeypatch.setattr("shutil.which", lambda name: None if name == "nft" else f"/sbin/{name}")
    assert main(["clean"]) == 2
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["clean"]) == 2
    program, root = capsys.readouterr().err.splitlines()
    assert "install nftables" in program
    assert "sudo" in root


class Story(NamedTuple):
    """The files of a short run of the shop."""

    events: list[dict[str, Any]]
    truth: list[dict[str, Any]]
    inventory: dict[str, Any]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Play the shop for a few seconds through its command line."""
    out = tmp_path_factory.mktemp("shop")
    command = [sys.executable, "-m", "tests.lab", "shop", "--out", str(out), "--seconds", "8"]
    done = subprocess.run(command, input="\n\n", text=True, cwd=ROOT, capture_output=True, check=True, timeout=60)
    said = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert (said[0], said[-1]) == ("ready", "done")
    events, truth = (
        [json.loads(line) for line in (out / name).read_text().splitlines()] for name in ("events.jsonl", "truth.jsonl")
    )
    return Story(events, truth, yaml.safe_load((out / "inventory.yaml").read_text()))


def test_shop_has_its_edges(story: Story) -> None:
    """Every dependency of the shop is in the truth as answered, and nothing else but the scanner's finds."""
    edges = {
        (
            line["source"]["workload"] or line["source"]["kind"],
            end.get("workload", "outside"),
            end["port"],
        )
        for line in story.truth
        if (end := line["backend"] or line["external"])
    }
    dns = "kube-system/deployment/coredns"
    apps = ("cart", "orders", "web", "suggest")
    metrics = {f"shop/deployment/{app}" for app in apps} | {"ingress/deployment/proxy", "shop/statefulset/db"}
    callers = {f"shop/deployment/{app}" for app in apps} | {"ingress/deployment/proxy", "shop/cronjob/report"}
    expected = (
        {("monitoring/deployment/prometheus", workload, 9090) for workload in metrics}
        | {("monitoring/deployment/prometheus", dns, 9153)}
        | {(caller, dns, 53) for caller in callers | {"shop/statefulset/db"}}
        | {("node", f"{name}", 8080) for name in ("shop/deployment/web", "shop/deployment/orders")}
        | {
            ("node", "ingress/deployment/proxy", 8080),
            ("outside", "ingress/deployment/proxy", 8080),
            ("ingress/deployment/proxy", "shop/deployment/web", 8080),
            ("shop/deployment/web", "shop/deployment/cart", 7070),
            ("shop/deployment/web", "shop/deployment/orders", 8080),
            ("shop/deployment/cart", "shop/statefulset/db", 5432),
            ("shop/deployment/orders", "shop/statefulset/db", 5432),
            ("shop/deployment/orders", "outside", 443),
            ("shop/statefulset/db", "shop/statefulset/db", 5432),
            ("shop/cronjob/report", "shop/statefulset/db", 5432),
        }
    )
    assert {edge for edge in edges if edge[0] != "shop/pod/toolbox"} == expected
    suggest = {line["result"] for line in story.truth if line["dialled"]["port"] == 9200 and line["dialled"]["name"]}
    assert suggest == {"refused"}
    scanned = {line["result"] for line in story.truth if line["source"]["workload"] == "shop/pod/toolbox"}
    assert scanned == {"answered", "refused", "timeout"}


def test_truth_precedes_the_api(story: Story) -> None:
    """A pod of the CronJob has done all its talking before the API shows its address, which it keeps to the end."""
    shown: dict[str, str] = {}
    for event in story.events:
        if event["object"]["kind"] == "Pod" and event["object"].get("status", {}).get("podIP"):
            shown.setdefault(event["object"]["metadata"]["uid"], event["time"])
    talk = [line for line in story.truth if line["source"]["workload"] == "shop/cronjob/report"]
    assert {line["source"]["uid"] for line in talk}
    assert all(line["time"] < shown[line["source"]["uid"]] for line in talk)
    ended = [item for item in story.inventory["items"] if item.get("status", {}).get("phase") == "Succeeded"]
    assert {item["metadata"]["uid"] for item in ended} == {line["source"]["uid"] for line in talk}
    assert all(item["status"]["podIP"] for item in ended)


def test_address_passes_from_web_to_orders(story: Story) -> None:
    """One address is spoken from by a web pod and then by an orders pod, with no moment in common."""
    times: dict[tuple[str, str], list[str]] = {}
    for line in story.truth:
        if line["source"]["kind"] == "pod":
            times.setdefault((line["source"]["ip"], line["source"]["workload"]), []).append(line["time"])
    web, orders = "shop/deployment/web", "shop/deployment/orders"
    shared = [ip for ip, workload in times if workload == orders and (ip, web) in times]
    assert len(shared) == 1
    assert max(times[shared[0], web]) < min(times[shared[0], orders])


def test_objects_hang_together(story: Story) -> None:
    """Events rebuild the inventory, each kind of owner leads to its top, and bookmarks close the log."""
    now: dict[str, Any] = {}
    for event in story.events:
        if event["type"] == "BOOKMARK":
            continue
        uid = event["object"]["metadata"]["uid"]
        assert (event["type"] == "ADDED") == (uid not in now)
        now[uid] = event["object"]
        if event["type"] == "DELETED":
            del now[uid]
    assert story.events[-1]["type"] == "BOOKMARK"
    assert [event["time"] for event in story.events] == sorted(event["time"] for event in story.events)
    listed = {item["metadata"]["uid"]: item for item in story.inventory["items"]}
    assert listed == now
    tops = set()
    for item in listed.values():
        top = item
        while owners := top["metadata"].get("ownerReferences"):
            top = listed[owners[0]["uid"]]
        if item["kind"] == "Pod":
            tops.add(top["kind"])
    assert tops == {"Deployment", "StatefulSet", "CronJob", "Pod"}


def test_node_is_a_place(stage: Stage) -> None:
    """What a test needs to place a recorder is there: namespace files and interfaces of nodes and pods."""
    node: Node = stage.near.node
    assert node.netns.path.exists()
    with node.netns.inside():
        assert socket.if_nametoindex(stage.near.interface) == stage.near.ifindex
    assert stage.near.interface.startswith("cali")
