"""What an address is that no pod holds, the inventory's versions, and the world that puts them together."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.errors import InventoryError
from recorder.identity import NONE, Event, World
from recorder.identity.inventory import slim
from recorder.records import SECOND, to_table

BEGIN = 1_750_000_000 * SECOND


def at(seconds: float) -> int:
    """Return a time (µs), that many seconds after BEGIN."""
    return BEGIN + round(seconds * SECOND)


def thing(kind: str, name: str, version: str = "v1", *, namespace: str | None = None, **body: Any) -> dict[str, Any]:
    """Return an object; `metadata` adds to its metadata."""
    metadata = {"name": name, "uid": f"{kind}-{name}", **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata | body.pop("metadata", {}), **body}


def node(name: str, ip: str, cidr: str, **annotations: str) -> dict[str, Any]:
    """Return a node."""
    status = {"addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}]}
    return thing(
        "Node", name, metadata={"annotations": annotations}, spec={"podCIDR": cidr, "podCIDRs": [cidr]}, status=status
    )


def service(name: str, ip: str, *ports: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a Service in `shop`."""
    spec = {"clusterIP": ip, "clusterIPs": [ip], "ports": list(ports), **more.pop("spec", {})}
    return thing("Service", name, namespace=more.pop("namespace", "shop"), spec=spec, **more)


def endpoints(of: str, *ips: str, port: int | None = 8080, name: str = "http", **more: Any) -> dict[str, Any]:
    """Return an EndpointSlice; `conditions` are those of all its endpoints."""
    conditions = more.pop("conditions", {"ready": True})
    return thing(
        "EndpointSlice",
        f"{of}-{more.pop('suffix', 'x')}",
        "discovery.k8s.io/v1",
        namespace=more.pop("namespace", "shop"),
        metadata={"labels": {"kubernetes.io/service-name": of}},
        addressType="IPv4",
        endpoints=[{"addresses": [ip], "conditions": conditions} for ip in ips],
        ports=[{"name": name, "protocol": "TCP", "port": port}],
    )


def pod(name: str, ip: str, **spec: Any) -> dict[str, Any]:
    """Return a running pod of node n1."""
    return thing(
        "Pod", name, namespace="shop", spec={"nodeName": "n1", **spec}, status={"phase": "Running", "podIP": ip}
    )


def world(*values: dict[str, Any] | Event) -> World:
    """Return a world of events; an object alone was added at the beginning."""
    made = World()
    for value in values:
        made.apply(value if isinstance(value, Event) else Event(BEGIN, "ADDED", value))
    return made


HTTP = {"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080, "protocol": "TCP"}
CLUSTER = (
    node("n1", "192.168.0.1", "10.244.1.0/24", **{"projectcalico.org/IPv4VXLANTunnelAddr": "10.244.1.77"}),
    node("n2", "192.168.0.2", "10.244.2.0/24"),
    service("web", "10.96.0.10", HTTP),
    service(
        "edge", "10.96.0.11", {"name": "https", "port": 443},
        spec={"externalIPs": ["192.168.0.2"]}, status={"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}, {"hostname": "x"}]}},
    ),
    service("db", "None", {"port": 5432}),
    service("kubernetes", "10.96.0.1", {"name": "https", "port": 443}, namespace="default"),
    endpoints("kubernetes", "192.168.0.1", port=6443, name="https", namespace="default"),
    thing("ServiceCIDR", "kubernetes", "networking.k8s.io/v1", spec={"cidrs": ["10.96.0.0/12", "fd00:1::/108"]}),
    thing("IPPool", "pool", "crd.projectcalico.org/v1", spec={"cidr": "10.250.0.0/16"}),
)  # fmt: skip


@pytest.mark.parametrize(
    ("ip", "port", "expected"),
    [
        ("192.168.0.1", 6443, ("apiserver", None, None)),
        ("192.168.0.1", 10250, ("node", "n1", None)),
        ("192.168.0.1", None, ("node", "n1", None)),
        ("192.168.0.2", 30080, ("service", "shop/web", "shop/web")),
        ("192.168.0.2", 443, ("service", "shop/edge", "shop/edge")),
        ("192.168.0.2", 22, ("node", "n2", None)),
        ("10.244.1.0", None, ("node", "n1", None)),
        ("10.244.2.1", 80, ("node", "n2", None)),
        ("10.244.1.77", None, ("node", "n1", None)),
        ("10.96.0.10", 80, ("service", "shop/web", "shop/web")),
        ("10.96.0.10", 9999, ("service", "shop/web", "shop/web")),
        ("10.96.0.1", 443, ("service", "default/kubernetes", "default/kubernetes")),
        ("203.0.113.5", 443, ("service", "shop/edge", "shop/edge")),
        ("10.96.7.7", 80, ("unresolved", None, None)),
        ("fd00:1::9", 80, ("unresolved", None, None)),
        ("10.244.2.9", 80, ("unresolved", None, None)),
        ("10.250.3.3", None, ("unresolved", None, None)),
        ("224.0.0.1", None, ("multicast", None, None)),
        ("ff02::1", None, ("multicast", None, None)),
        ("255.255.255.255", 67, ("multicast", None, None)),
        ("198.51.100.9", 443, ("external", None, None)),
        ("169.254.169.254", 80, ("external", None, None)),
    ],
)
def test_an_address_is_what_the_objects_say(
    ip: str, port: int | None, expected: tuple[str, str | None, str | None]
) -> None:
    """The API server goes before the node, ports of Services before the rest of a node, ranges before the world."""
    made = world(*CLUSTER)
    assert made.places.kind_of(ip, port, None if port is None else "tcp", at(1)) == expected
    assert made.kind_of(ip, port, None if port is None else "tcp", at(1)) == expected[:2]
    assert made.service(ip, port, None if port is None else "tcp", at(1)) == expected[2]


def test_a_port_of_another_protocol_is_not_the_services() -> None:
    """A NodePort is a Service's for its protocol alone."""
    made = world(*CLUSTER)
    assert made.kind_of("192.168.0.1", 30080, "udp", at(1)) == ("node", "n1")
    assert made.kind_of("192.168.0.1", 6443, "udp", at(1)) == ("node", "n1")


def test_the_api_server_is_also_known_from_endpoints() -> None:
    """Old clusters have Endpoints of default/kubernetes; those of other Services are not kept."""
    subsets = [{"addresses": [{"ip": "192.168.0.9"}], "ports": [{"port": 6443, "protocol": "TCP"}]}]
    made = world(
        thing("Endpoints", "kubernetes", namespace="default", subsets=subsets),
        thing("Endpoints", "web", namespace="shop", subsets=subsets),
    )
    assert made.kind_of("192.168.0.9", 6443, "tcp", at(1)) == ("apiserver", None)
    assert [row.namespace for row in made.inventory("c")] == ["default"]


def test_answers_are_as_of_a_time() -> None:
    """A Service's address is nobody's before it, another's after it, and kept answers do not mix the times."""
    made = world(
        thing("ServiceCIDR", "k", "networking.k8s.io/v1", spec={"cidrs": ["10.96.0.0/12"]}),
        Event(at(10), "ADDED", service("web", "10.96.0.10", HTTP)),
        Event(at(20), "DELETED", service("web", "10.96.0.10", HTTP)),
        Event(at(30), "ADDED", service("new", "10.96.0.10", HTTP)),
    )
    for _ in range(2):
        found = [made.service("10.96.0.10", 80, "tcp", at(time)) for time in (5, 10, 19.9, 20, 29, 30)]
        assert found == [None, "shop/web", "shop/web", None, None, "shop/new"]


def test_an_object_is_known_from_its_creation() -> None:
    """The first version seen reaches back to the object's creation, also in a log that begins later."""
    created = datetime.fromtimestamp(at(-100) // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = world(service("web", "10.96.0.10", HTTP, metadata={"creationTimestamp": created}))
    assert made.service("10.96.0.10", 80, "tcp", at(-100)) == "shop/web"
    assert made.service("10.96.0.10", 80, "tcp", at(-101)) is None


def test_an_address_a_pod_held_at_another_time_is_unresolved() -> None:
    """Where no object gives the pods' range, an address that was once a pod's is still the cluster's."""
    made = world(pod("a", "10.1.2.3"), Event(at(5), "DELETED", pod("a", "10.1.2.3")))
    assert made.kind_of("10.1.2.3", 80, "tcp", at(9)) == ("unresolved", None)
    assert made.kind_of("10.1.2.4", 80, "tcp", at(9)) == ("external", None)


def test_a_host_port_leads_to_its_pod() -> None:
    """A pod's hostPort on its node is a way to the pod, not to the node; elsewhere it is nothing."""
    ports = [{"name": "a", "ports": [{"containerPort": 8080, "hostPort": 80, "protocol": "TCP"}]}]
    made = world(*CLUSTER, pod("a", "10.244.1.5", containers=ports), Event(at(5), "DELETED", pod("a", "10.244.1.5")))
    assert made.kind_of("192.168.0.1", 80, "tcp", at(1)) == ("service", "shop/a")
    assert made.service("192.168.0.1", 80, "tcp", at(1)) is None
    assert made.places.host_backends("192.168.0.1", 80, "tcp", at(1)) == {("10.244.1.5", 8080)}
    assert made.kind_of("192.168.0.1", 80, "tcp", at(6)) == ("node", "n1")
    assert made.kind_of("192.168.0.2", 80, "tcp", at(1)) == ("node", "n2")


@pytest.mark.parametrize("port", [80, 30080])
@pytest.mark.parametrize("order", [1, -1])
def test_backends_are_those_of_the_time_with_a_second_either_way(port: int, order: int) -> None:
    """The node's rules and the API may be a second apart; beyond it the endpoints of the time alone count."""
    made = world(
        service("web", "10.96.0.10", HTTP),
        endpoints("web", "10.244.1.5"),
        Event(at(10), "MODIFIED", endpoints("web", "10.244.1.6")),
        Event(at(20), "DELETED", endpoints("web", "10.244.1.6")),
    )
    five, six = ("10.244.1.5", 8080), ("10.244.1.6", 8080)
    expected = [(5, {five}), (9.5, {five, six}), (10.5, {five, six}), (12, {six}), (20.5, {six}), (22, set())]
    for time, backends in expected[::order]:
        assert made.backends("shop/web", port, "tcp", at(time)) == backends


def test_a_port_or_service_that_is_none_has_no_backends() -> None:
    """Nothing is guessed from a number that the Service does not declare."""
    made = world(service("web", "10.96.0.10", HTTP), endpoints("web", "10.244.1.5"))
    assert made.backends("shop/web", 81, "tcp", at(5)) == made.backends("shop/web", 80, "udp", at(5)) == set()
    assert made.backends("shop/none", 80, "tcp", at(5)) == set()


@pytest.mark.parametrize(
    ("conditions", "usable"),
    [({}, True), ({"ready": False}, False), ({"ready": False, "serving": True, "terminating": True}, True)],
)
def test_endpoints_that_are_ready_or_serving_count(conditions: dict[str, bool], usable: bool) -> None:
    """Pods on their way out still serve; those not yet ready do not."""
    made = world(service("web", "10.96.0.10", HTTP), endpoints("web", "10.244.1.5", conditions=conditions))
    assert bool(made.backends("shop/web", 80, "tcp", at(1))) is usable


def test_ports_are_matched_by_name_over_all_slices() -> None:
    """Two slices may give one named port different numbers; an unnamed port matches the unnamed one."""
    made = world(
        service("web", "10.96.0.10", HTTP, {"name": "admin", "port": 81}),
        endpoints("web", "10.244.1.5", suffix="1"),
        endpoints("web", "10.244.1.6", suffix="2", port=9090),
        endpoints("web", "10.244.1.7", suffix="3", name="admin", port=None),
        service("db", "10.96.0.12", {"port": 5432}),
        endpoints("db", "10.244.1.8", name="", port=5432),
    )
    assert made.backends("shop/web", 80, "tcp", at(1)) == {("10.244.1.5", 8080), ("10.244.1.6", 9090)}
    assert made.backends("shop/web", 81, "tcp", at(1)) == {("10.244.1.7", 81)}
    assert made.backends("shop/db", 5432, "tcp", at(1)) == {("10.244.1.8", 5432)}


SECRETS = thing(
    "Deployment",
    "web",
    "apps/v1",
    namespace="shop",
    metadata={
        "labels": {"env": "prod", "args": "x"},
        "managedFields": [{"manager": "SECRET"}],
        "resourceVersion": "12",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "SECRET", "podfence.dev/egress": "kept"},
    },
    spec={
        "replicas": 2,
        "selector": {"matchLabels": {"env": "prod", "command": "x"}},
        "template": {
            "metadata": {"labels": {"env": "prod"}, "annotations": {"vault": "SECRET"}},
            "spec": {
                "imagePullSecrets": [{"name": "SECRET"}],
                "volumes": [{"secret": {"secretName": "SECRET"}}],
                "containers": [
                    {
                        "name": "web",
                        "image": "web:1",
                        "ports": [{"containerPort": 8080}],
                        "env": [{"name": "PASSWORD", "value": "SECRET"}],
                        "envFrom": [{"secretRef": {"name": "SECRET"}}],
                        "args": ["--password=SECRET"],
                        "command": ["SECRET"],
                        "lifecycle": {"preStop": {"exec": {"command": ["SECRET"]}}},
                        "livenessProbe": {
                            "httpGet": {"port": 8080, "path": "/", "httpHeaders": [{"name": "Authorization", "value": "SECRET"}]}
                        },
                        "readinessProbe": {"exec": {"command": ["SECRET"]}, "periodSeconds": 5},
                    }
                ],
            },
        },
    },
    status={"observedGeneration": 3},
)  # fmt: skip


def test_the_inventory_keeps_shape_and_no_secrets() -> None:
    """Labels called env or args stay; environment, arguments, commands, header values and volumes do not."""
    (row,) = world(SECRETS).inventory("c")
    assert "SECRET" not in row.object
    kept = json.loads(row.object)
    assert kept["metadata"] == {
        "annotations": {"podfence.dev/egress": "kept"},
        "labels": {"args": "x", "env": "prod"},
        "name": "web", "namespace": "shop", "uid": "Deployment-web",
    }  # fmt: skip
    assert kept["spec"]["selector"] == {"matchLabels": {"env": "prod", "command": "x"}}
    assert kept["spec"]["template"]["spec"]["containers"] == [
        {
            "name": "web", "image": "web:1", "ports": [{"containerPort": 8080}],
            "livenessProbe": {"httpGet": {"port": 8080, "path": "/"}}, "readinessProbe": {"periodSeconds": 5},
        }
    ]  # fmt: skip
    assert row.object == json.dumps(kept, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    "value",
    [
        thing("Secret", "s", data={"a": "SECRET"}),
        thing("ConfigMap", "c", data={"a": "SECRET"}),
        pod("p", "10.0.0.1"),
        thing("Lease", "l", "coordination.k8s.io/v1"),
        thing("Service", "s", "serving.knative.dev/v1"),
        thing("Endpoints", "web", namespace="shop"),
    ],
)
def test_other_kinds_are_no_inventory(value: dict[str, Any]) -> None:
    """Secrets, ConfigMaps and pods have no row, nor have kinds of other groups that share a name."""
    assert world(value).inventory("c") == []


def test_policies_are_kept_whole() -> None:
    """A policy is what will be judged, to the last field."""
    spec = {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]}
    for version in ("networking.k8s.io/v1", "projectcalico.org/v3"):
        value = thing("NetworkPolicy", "p", version, namespace="shop", spec=spec)
        assert slim(value) == value
    cilium = thing("CiliumNetworkPolicy", "p", "cilium.io/v2", namespace="shop", specs=[spec], status={"x": 1})
    assert slim(cilium)["specs"] == [spec]
    assert "status" not in slim(cilium)


def test_a_version_is_a_row_and_what_changes_nothing_is_none() -> None:
    """Heartbeats and status updates extend a version; a change of what is kept opens one; a deletion ends it."""
    first = node("n1", "192.168.0.1", "10.244.1.0/24")
    beat = {**first, "status": {**first["status"], "conditions": [{"lastHeartbeatTime": "2025-06-15T15:06:40Z"}]}}
    grown = {**first, "spec": {**first["spec"], "unschedulable": True}}
    made = world(
        first, Event(at(10), "MODIFIED", beat), Event(at(20), "MODIFIED", grown), Event(at(30), "DELETED", grown),
        Event(at(40), "ADDED", {**first, "metadata": {**first["metadata"], "uid": "other"}}),
        Event(at(35), "DELETED", grown),
    )  # fmt: skip
    rows = [(row.uid, row.start, row.end) for row in made.inventory("c")]
    assert rows == [("Node-n1", at(0), at(20)), ("Node-n1", at(20), at(30)), ("other", at(40), None)]


@pytest.mark.parametrize(
    "value",
    [
        thing("Service", "s", namespace="shop", spec={"ports": [{"port": "http"}]}),
        thing("Node", "n", spec={"podCIDRs": "10.0.0.0/24"}),
        thing("EndpointSlice", "e", "discovery.k8s.io/v1", endpoints={"a": 1}),
        thing("Namespace", "x", metadata={"labels": ["a"]}),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": None},
    ],
)
def test_an_object_that_cannot_be_read_is_an_error_where_it_stands(value: dict[str, Any]) -> None:
    """It is found when it is read, with its place, and not at some later question."""
    with pytest.raises(InventoryError, match=r"^list: entry 3: "):
        world(Event(BEGIN, "ADDED", value, where="list: entry 3"))


@pytest.mark.parametrize("kind", ["Deployment", "CronJob", "Ingress", "Node", "ValidatingWebhookConfiguration"])
@pytest.mark.parametrize(
    "body",
    [
        {"spec": 3},
        {"spec": {"template": [], "tls": [1]}},
        {"spec": {"jobTemplate": {}}},
        {"webhooks": [1]},
        {"status": []},
    ],
)
def test_slimming_survives_any_shape(kind: str, body: dict[str, Any]) -> None:
    """What is not where the API would have it is left out."""
    assert slim(thing(kind, "x", "v1", **body))["kind"] == kind


def test_addresses_that_are_none_are_nothing() -> None:
    """Host names, `None` and broken ranges in objects do not stop the rest."""
    made = world(
        service("a", "None", HTTP, spec={"externalIPs": ["nonsense"]}), node("n", "not-an-ip", "10.0.0.0/99"),
        thing("IPPool", "p", "crd.projectcalico.org/v1", spec={"cidr": "x"}), endpoints("a", "host.example"),
    )  # fmt: skip
    assert made.kind_of("198.51.100.1", 80, "tcp", at(1)) == ("external", None)
    assert made.backends("shop/a", 80, "tcp", at(1)) == set()


def test_a_world_is_read_followed_and_written(tmp_path: Path) -> None:
    """Reading a log at once and following it as it grows give the same rows, fit for the recording's tables."""
    lines = [
        json.dumps({"time": f"2025-06-15T15:06:{40 + k}.000000Z", "type": "ADDED", "object": value}) + "\n"
        for k, value in enumerate([*CLUSTER, pod("a", "10.244.1.5")])
    ]
    path = tmp_path / "log.jsonl"
    path.write_text(lines[0])
    followed = World.follow(path)
    with path.open("a") as file:
        for line in lines[1:]:
            file.write(line)
            file.flush()
            assert followed.poll() == 1
    assert followed.rows("c") == World.read(path).rows("c")
    for table, rows in followed.rows("c").items():
        assert len(to_table(table, rows)) == len(rows) > 0
    assert followed.nodes() == ["n1", "n2"]
    times = np.array([at(-1), at(10)], dtype=np.int64)
    assert followed.is_pod_of("n1", "10.244.1.5", times).tolist() == [False, True]
    assert followed.is_pod_of("n2", "10.244.1.5", times).tolist() == [False, False]
    code = int(followed.holders("10.244.1.5", times)[1])
    assert (followed.node(code), followed.pod(code).ports) == ("n1", [])
    assert followed.holders("10.244.1.5", times)[0] == NONE


def test_following_a_list_reads_it_once(tmp_path: Path) -> None:
    """A plain list is one moment and stays so."""
    path = tmp_path / "list.json"
    path.write_text(json.dumps([node("n1", "192.168.0.1", "10.244.1.0/24")]))
    followed = World.follow(path)
    assert (followed.nodes(), followed.poll()) == (["n1"], 0)
