"""Packets written down by hand, and the pods of one node that exchange them.

Node `n1` has pods on interfaces of their own: `client` 10.0.1.2 on 11, `server` 10.0.1.3 on 12; `remote` 10.0.2.2 lives on
node `n2`. Interface 1 is the uplink. The Service shop/server is 10.96.0.9:80 → server:8080. Times are seconds after `BEGIN`.
"""

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import numpy as np

from recorder.capture.packets import Packets, address_value
from recorder.identity import World
from recorder.identity.events import Event
from recorder.records import SECOND
from recorder.windows import Windows

BEGIN = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * SECOND
CLIENT, SERVER, REMOTE, VIP, OUTSIDE = "10.0.1.2", "10.0.1.3", "10.0.2.2", "10.96.0.9", "203.0.113.7"
AT_CLIENT, AT_SERVER, UPLINK = 11, 12, 1
SYN, SYN_ACK, RST_ACK = 0x02, 0x12, 0x14

Row = dict[str, Any]


def moment(seconds: float) -> int:
    """Return the time that many seconds after `BEGIN`."""
    return BEGIN + round(seconds * SECOND)


def packet(time: float, ifindex: int, way: str, src: str, sport: int, dst: str, dport: int, **more: Any) -> Row:
    """Return one packet; `way` is `in` (from the interface) or `out` (leaving through it)."""
    return {
        "time": moment(time),
        "ifindex": ifindex,
        "outgoing": way == "out",
        "src": src,
        "dst": dst,
        "src_port": sport,
        "dst_port": dport,
        "protocol": 6,
    } | more


def syn(time: float, ifindex: int, way: str, src: str, sport: int, dst: str, dport: int, isn: int) -> Row:
    """Return a SYN."""
    return packet(time, ifindex, way, src, sport, dst, dport, flags=SYN, seq=isn)


def syn_ack(time: float, ifindex: int, way: str, src: str, sport: int, dst: str, dport: int, isn: int) -> Row:
    """Return the SYN-ACK that answers a SYN with this sequence number."""
    return packet(time, ifindex, way, src, sport, dst, dport, flags=SYN_ACK, seq=77, ack=(isn + 1) % 2**32)


def reset(time: float, ifindex: int, way: str, src: str, sport: int, dst: str, dport: int, isn: int) -> Row:
    """Return the RST that refuses a SYN with this sequence number."""
    return packet(time, ifindex, way, src, sport, dst, dport, flags=RST_ACK, seq=0, ack=(isn + 1) % 2**32)


def datagram(time: float, ifindex: int, way: str, src: str, sport: int, dst: str, dport: int) -> Row:
    """Return a UDP packet."""
    return packet(time, ifindex, way, src, sport, dst, dport, protocol=17)


def packets(rows: list[Row]) -> Packets:
    """Return the rows as columns, in the order given."""
    empty = Packets.empty()
    columns: dict[str, Any] = {}
    for column in fields(Packets):
        if column.name == "dns":
            continue
        like = getattr(empty, column.name)
        if column.name.endswith(("src", "dst")):
            values = [address_value(row.get(column.name, "::")) for row in rows]
            columns[column.name] = np.array(values, dtype=like.dtype).reshape(len(rows), 2)
        else:
            default = -1 if column.name.endswith("port") or column.name in ("icmp_type", "icmp_code", "ifindex") else 0
            columns[column.name] = np.array([row.get(column.name, default) for row in rows]).astype(like.dtype)
    dns = [(number, row["message"]) for number, row in enumerate(rows) if "message" in row]
    return Packets(**columns, dns=dns)


def pod(name: str, ip: str, node: str, **more: Any) -> dict[str, Any]:
    """Return a running Pod as the API has it, created at `BEGIN`."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "creationTimestamp": "2026-03-02T00:00:00Z",
            "labels": {"app": name},
        }
        | more.pop("metadata", {}),
        "spec": {
            "nodeName": node,
            "containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}],
        },
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]} | more,
    }


def node(name: str, ip: str, pods: str) -> dict[str, Any]:
    """Return a Node."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}"},
        "spec": {"podCIDR": pods, "podCIDRs": [pods]},
        "status": {"addresses": [{"type": "InternalIP", "address": ip}]},
    }


def service(
    name: str, vip: str, port: int, target: int, backends: list[str], protocol: str = "TCP"
) -> list[dict[str, Any]]:
    """Return a Service and its EndpointSlice."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "shop", "uid": f"uid-service-{name}"},
            "spec": {
                "clusterIP": vip,
                "clusterIPs": [vip],
                "ports": [{"name": "main", "port": port, "targetPort": target, "protocol": protocol}],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-1",
                "namespace": "shop",
                "uid": f"uid-slice-{name}",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "main", "port": target, "protocol": protocol}],
            "endpoints": [{"addresses": [ip], "conditions": {"ready": True}} for ip in backends],
        },
    ]


def world(*objects: dict[str, Any], until: float = 600) -> World:
    """Return what the API shows: two nodes, three pods, one Service, and whatever else is given."""
    known = World()
    everything = [
        node("n1", "172.16.0.1", "10.0.1.0/24"),
        node("n2", "172.16.0.2", "10.0.2.0/24"),
        pod("client", CLIENT, "n1"),
        pod("server", SERVER, "n1"),
        pod("remote", REMOTE, "n2"),
        *service("server", VIP, 80, 8080, [SERVER]),
        *objects,
    ]
    for one in everything:
        known.apply(Event(moment(0), "ADDED", one))
    known.apply(Event(moment(until), "BOOKMARK", {}))
    return known


def greetings() -> list[Row]:
    """Return a packet from each pod of the node, by which the recorder learns whose interface is whose."""
    return [
        datagram(0.5, AT_CLIENT, "in", CLIENT, 5000, OUTSIDE, 9),
        datagram(0.5, AT_SERVER, "in", SERVER, 5000, OUTSIDE, 9),
        datagram(0.5, UPLINK, "in", REMOTE, 5000, CLIENT, 5001),
        datagram(0.5, UPLINK, "in", OUTSIDE, 9, CLIENT, 5000),
    ]


def windows(rows: list[Row], known: World | None = None, seconds: int = 60) -> Windows:
    """Return the windows of node `n1` after these packets."""
    made = Windows("test", "n1", "ring", known or world(), seconds)
    made.feed(packets(greetings() + rows))
    return made


FOREVER = 1 << 62
