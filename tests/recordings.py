"""Small recordings in the contract's own format, written down as who was there and who said what to whom.

Times are seconds after `BEGIN`, a Monday at midnight UTC. Every node is covered, cleanly, in each window in which
anybody spoke (and up to `write(until=…)`), unless `gap` says otherwise.
"""

import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from recorder.records import SECOND, Coverage, Flow, Identity, InventoryObject, Row, identity_id, to_table, window_of
from recorder.store import Recording

BEGIN = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * SECOND
DAY = 86400
FOREVER = 400 * DAY


def moment(seconds: float) -> int:
    """Return the time, in microseconds since the epoch, that many seconds after `BEGIN`."""
    return BEGIN + int(seconds * SECOND)


@dataclass(slots=True)
class Story:
    """What happened in one small cluster; `write` makes it a recording."""

    cluster: str = "test"
    window: int = 60
    pods: dict[str, Identity] = field(default_factory=dict)
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    flows: list[Flow] = field(default_factory=list)
    objects: list[InventoryObject] = field(default_factory=list)
    nodes: dict[str, str] = field(default_factory=dict)
    gaps: set[tuple[str, int]] = field(default_factory=set)
    identities: list[Identity] = field(default_factory=list)

    def add(self, kind: str, name: str, body: Mapping[str, Any], *, start: float = 0, end: float | None = None) -> None:
        """Add a version of an object to the inventory; `name` is `namespace/name`, or a name when it has none."""
        namespace, _, short = name.rpartition("/")
        metadata = {"name": short, "uid": f"uid-{kind.lower()}-{name}"} | (
            {"namespace": namespace} if namespace else {}
        )
        metadata |= body.get("metadata", {})
        self.objects.append(
            InventoryObject(
                cluster=self.cluster,
                kind=kind,
                namespace=namespace or None,
                name=short,
                uid=str(metadata["uid"]),
                start=moment(start),
                end=None if end is None else moment(end),
                object=json.dumps({"kind": kind, **body, "metadata": metadata}, sort_keys=True),
            )
        )

    def node(self, name: str, *, pod_cidrs: Sequence[str] = (), ip: str | None = None) -> str:
        """Add a node (once; `pod` does it by itself) and return its address."""
        if name not in self.nodes:
            number = len(self.nodes) + 1
            self.nodes[name] = ip or f"192.168.0.{number}"
            ranges = list(pod_cidrs) or [f"10.0.{number}.0/24"]
            self.add(
                "Node",
                name,
                {
                    "spec": {"podCIDR": ranges[0], "podCIDRs": ranges},
                    "status": {"addresses": [{"type": "InternalIP", "address": self.nodes[name]}]},
                },
            )
        return self.nodes[name]

    def workload(
        self,
        name: str,
        *,
        replicas: int = 1,
        labels: Mapping[str, str] | None = None,
        selector: Mapping[str, str] | None = None,
        ports: Sequence[int] = (),
        node: str = "node-a",
        start: float = 0,
        end: float | None = None,
        **pod: Any,
    ) -> list[str]:
        """Add `namespace/kind/name` with its object and pods `name-1`, `name-2`, …; return the pods' names."""
        namespace, kind, short = name.split("/")
        given = {"app": short} if labels is None else dict(labels)
        api = {"cronjob": "CronJob", "daemonset": "DaemonSet", "statefulset": "StatefulSet"}.get(kind, kind.title())
        template = {"metadata": {"labels": given}}
        spec: dict[str, Any] = {"template": template, "selector": {"matchLabels": dict(selector or given)}}
        if api == "CronJob":
            spec = {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template}}}
        if api != "Pod":
            self.add(api, f"{namespace}/{short}", {"spec": spec})
        if f"{namespace}" not in {one.name for one in self.objects if one.kind == "Namespace"}:
            self.namespace(namespace)
        names = [f"{namespace}/{short}-{number}" for number in range(1, replicas + 1)]
        for one in names:
            self.pod(one, owner=f"{api}/{short}", labels=given, ports=ports, node=node, start=start, end=end, **pod)
        return names

    def namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Add a Namespace."""
        self.add(
            "Namespace", name, {"metadata": {"labels": {"kubernetes.io/metadata.name": name} | dict(labels or {})}}
        )

    def pod(
        self,
        name: str,
        *,
        owner: str | None = None,
        labels: Mapping[str, str] | None = None,
        ports: Sequence[int | tuple[str, int] | tuple[str, int, str]] = (),
        node: str = "node-a",
        ip: str | None = None,
        start: float = 0,
        end: float | None = None,
        probe_ports: Sequence[int] = (),
        ephemeral: Mapping[str, float] | None = None,
        host_network: bool = False,
        uid: str | None = None,
        start_basis: str = "created",
    ) -> Identity:
        """Add a pod `namespace/name`; `owner` is `Kind/name`, none makes it a bare pod.

        A port is a number, (name, number) or (name, number, protocol); `ephemeral` maps containers to their start. Given
        twice, a name is one pod whose labels changed at `start` of the second.
        """
        namespace, short = name.split("/")
        address = self.node(node)
        uid = uid or f"uid-{namespace}-{short}"
        kind, _, owner_name = (owner or f"Pod/{short}").partition("/")
        known = dict(sorted(({} if labels is None else labels).items()))
        earlier = self.pods.get(name)
        if ip is None and earlier is not None:
            ip = earlier.ips[0]
        if host_network:
            ip = address
        if ip is None:
            number = len({one.uid for one in self.identities}) + 10
            ip = f"10.0.{list(self.nodes).index(node) + 1}.{number}"
        if earlier is not None and earlier.end is None:
            closed = replace(earlier, end=moment(start))
            self.identities[self.identities.index(earlier)] = closed
        identity = Identity(
            cluster=self.cluster,
            id=identity_id(uid, known),
            uid=uid,
            namespace=namespace,
            pod=short,
            node=node,
            service_account="default",
            ips=[ip],
            owner_kind=kind,
            owner_name=owner_name,
            owner_uid=uid if kind == "Pod" else f"uid-{kind.lower()}-{namespace}/{owner_name}",
            labels=known,
            ports=[_port(port) for port in ports],
            probe_ports=list(probe_ports),
            ephemeral=[{"name": key, "start": moment(at)} for key, at in (ephemeral or {}).items()],
            host_network=host_network,
            start=moment(start),
            end=None if end is None else moment(end),
            observed_until=moment(FOREVER if end is None else end),
            start_basis=start_basis,
        )
        self.pods[name] = identity
        self.identities.append(identity)
        return identity

    def service(
        self,
        name: str,
        *,
        port: int,
        target: int | str | None = None,
        selector: Mapping[str, str] | None = None,
        backends: Iterable[str] = (),
        protocol: str = "TCP",
        ip: str | None = None,
        start: float = 0,
        end: float | None = None,
    ) -> None:
        """Add a Service and an EndpointSlice with these pods (`namespace/name`); `target` is the container port."""
        address = ip or f"10.96.0.{len(self.services) + 1}"
        namespace, short = name.split("/")
        self.services[name] = {"ip": address, "port": port}
        number = port if target is None else target
        spec = {
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": [{"name": "main", "port": port, "targetPort": number, "protocol": protocol}],
        } | ({"selector": dict(selector)} if selector else {})
        self.add("Service", name, {"spec": spec}, start=start, end=end)
        held = [self.pods[one] for one in backends]
        if isinstance(number, str):
            named = [one["number"] for pod in held for one in pod.ports if one["name"] == number]
            number = named[0] if named else port
        endpoints = [
            {
                "addresses": pod.ips,
                "conditions": {"ready": True},
                "nodeName": pod.node,
                "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.pod, "uid": pod.uid},
            }
            for pod in held
        ]
        self.add(
            "EndpointSlice",
            f"{namespace}/{short}-slice-{start:g}",
            {
                "metadata": {"labels": {"kubernetes.io/service-name": short}},
                "addressType": "IPv4",
                "endpoints": endpoints,
                "ports": [{"name": "main", "port": number, "protocol": protocol}],
            },
            start=start,
            end=end,
        )

    def talk(
        self,
        source: str,
        destination: str,
        port: int | None,
        *,
        at: Sequence[float],
        answered: int = 1,
        refused: int = 0,
        denied: int = 0,
        unanswered: int = 0,
        open: int = 0,  # noqa: A002 - the column's name
        protocol: str = "tcp",
        icmp: tuple[int, int] | None = None,
        dns: Sequence[str] = (),
        service: str | None = None,
        sides: Sequence[str] = ("src", "dst"),
        **columns: Any,
    ) -> None:
        """Add what each side's node saw of `source` talking to `destination`, once for each time in `at`.

        An end is a pod (`namespace/name`), `node/NAME`, `apiserver`, `service/namespace/name` (dialled, backend not
        seen), an address outside, or `KIND/ADDRESS` for the other kinds. A pod's side has a row; `sides` may leave one
        out, and `unknown` gives one row of a reporter that cannot tell.
        """
        ends = {"src": self._end(source), "dst": self._end(destination)}
        for seconds in at:
            start = window_of(moment(seconds), self.window)
            for side in sides:
                own = source if side != "dst" else destination
                if side == "unknown" and own not in self.pods:
                    own = destination
                if own not in self.pods:
                    continue
                near = side != "dst"
                dialled = self.services[service] if service and near else None
                row = Flow(
                    window_start=start,
                    window_end=start + self.window * SECOND,
                    first_seen=moment(seconds),
                    last_seen=moment(seconds),
                    cluster=self.cluster,
                    node=str(self.pods[own].node),
                    reporter=side,
                    src_kind=ends["src"][0],
                    src_ip=ends["src"][1],
                    src_id=ends["src"][2],
                    dst_kind=ends["dst"][0],
                    dst_ip=ends["dst"][1],
                    dst_id=ends["dst"][2],
                    protocol=protocol,
                    dst_port=port,
                    icmp_type=icmp[0] if icmp else None,
                    icmp_code=icmp[1] if icmp else None,
                    dialled_ip=dialled["ip"] if dialled else None,
                    dialled_port=dialled["port"] if dialled else None,
                    service=service if near else None,
                    attempts=answered + refused + denied + unanswered,
                    answered=answered,
                    refused=refused,
                    denied=denied,
                    unanswered=unanswered,
                    open=open,
                    dns_names=sorted(dns) if dns and near else None,
                    direction_basis="handshake" if protocol == "tcp" else "first-packet",
                )
                self.flows.append(replace(row, **columns))

    def gap(self, node: str, at: Sequence[float]) -> None:
        """Make the node's coverage a gap in the windows that hold these times."""
        self.gaps |= {(node, window_of(moment(seconds), self.window)) for seconds in at}

    def coverage(self, until: float | None = None) -> list[Coverage]:
        """Return what the nodes vouch for."""
        windows = {row.window_start for row in self.flows} | {start for _, start in self.gaps}
        if until is not None:
            windows |= set(range(BEGIN, moment(until), self.window * SECOND))
        return [
            Coverage(
                cluster=self.cluster,
                node=node,
                backend="ring",
                ring=ring,
                scope="node",
                window_start=start,
                window_end=start + self.window * SECOND,
                covered_from=start,
                covered_to=start + self.window * SECOND,
                packets=100,
                dropped=0,
                overflowed=0,
                unresolved=0,
                ambiguous=0,
                watch_lag_seconds=0.1,
                gap=(node, start) in self.gaps,
            )
            for node in self.nodes
            for start in sorted(windows)
            for ring in ("tcp", "udp")
        ]

    def tables(self, until: float | None = None) -> dict[str, pa.Table]:
        """Return the recording's tables."""
        rows: dict[str, Sequence[Row]] = {
            "flows": self.flows,
            "identities": self.identities,
            "inventory": self.objects,
            "coverage": self.coverage(until),
        }
        return {name: to_table(name, found) for name, found in rows.items()}

    def write(self, folder: Path | str, *, until: float | None = None) -> Path:
        """Write the recording and return its folder."""
        with Recording.at(folder).adding(self.cluster) as batch:
            for name, table in self.tables(until).items():
                batch.add(name, table, node="all", backend="ring")
        return Path(folder)

    def _end(self, name: str) -> tuple[str, str, str | None]:
        """Return (kind, address, id) of an end."""
        if name in self.pods:
            return "pod", self.pods[name].ips[0], self.pods[name].id
        if name == "apiserver":
            return "apiserver", "192.168.0.254", None
        kind, _, rest = name.partition("/")
        if kind == "node":
            return kind, self.node(rest), rest
        if kind == "service":
            return kind, str(self.services[rest]["ip"]), rest
        if rest and kind in {"deferred", "unresolved", "ambiguous", "overflow", "multicast", "external"}:
            return kind, rest, None
        ipaddress.ip_network(name)
        return "external", name, None


def _port(port: int | tuple[str, int] | tuple[str, int, str]) -> dict[str, Any]:
    name, number, protocol = ("", port, "TCP") if isinstance(port, int) else (*port, "TCP")[:3]
    return {"name": name or None, "number": number, "protocol": protocol, "host_port": None}
