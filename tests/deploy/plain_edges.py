"""Recorded edges judged one candidate at a time in plain loops: what `deploy.cases` and `deploy.replay` do in columns.

It reads pods and versions of objects, and asks `judge_half` of one engine after the other; every choice of who, when and which
way is made anew here.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from deploy.population import Pod, Population, Version
from deploy.recorded import Dialled, Edges, End
from deploy.semantics.ends import Endpoint
from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import Profile
from deploy.semantics.traffic import Connection
from deploy.semantics.verdicts import Verdict, judge_half

SEVERITY = ("allowed", "undetermined", "denied")
Time = tuple[int, int]
"""First and last moment, both included."""


@dataclass(frozen=True)
class Half:
    """What becomes of one half: its outcome, the labels it holds under, whether the backends of a Service differ."""

    outcome: str
    labels: str
    split: bool


class Plain:
    """Judges halves of edges, one at a time."""

    def __init__(self, given: PolicySet, profiles: tuple[Profile, ...], population: Population, edges: Edges) -> None:
        self.given = given
        self.profiles = profiles
        self.pods = list(population.pods.values())
        self.versions = [one for versions in population.versions.values() for one in versions]
        self.services = population.known_services
        self.edges = edges
        self._known: dict[Any, Verdict] = {}

    def half(self, row: int, direction: str) -> Half:
        """Return what becomes of a half of an edge."""
        edges = self.edges
        time = int(edges.first_seen[row]), int(edges.last_seen[row])
        source, targets = edges.ends[edges.source[row]], self.targets(row)
        results = []
        for when in ("then", "now"):
            found = [
                self.outcome(row, direction, one, other, asked, way)
                for ends, asked in targets
                for one in self.people(source, time, when)
                for end in ends
                for other in self.people(end, time, when)
                for way in self.ways(row)
            ]
            split = len(targets) > 1 and len(set(found)) > 1
            results.append(Half("undetermined" if split else max(found, key=SEVERITY.index), when, split))
        then, now = results
        if then.outcome == now.outcome:
            return replace(then, labels="both")
        return max(results, key=lambda one: SEVERITY.index(one.outcome))

    def targets(self, row: int) -> list[tuple[list[End], Connection]]:
        """Return the responders that an edge may have had: each as all it may have been, with the connection to it."""
        edges = self.edges
        end, asked = edges.ends[edges.destination[row]], edges.connections[edges.connection[row]]
        if end.kind != "service":
            return [([end], asked)]
        time = int(edges.first_seen[row]), int(edges.last_seen[row])
        found: dict[tuple[str, int], list[End]] = {}
        for address, port, one in self.backends(str(end.id), asked, time):
            held = found.setdefault((address, port), [])
            held += [] if one in held else [one]
        return [(ends, replace(asked, port=port)) for (_, port), ends in found.items()] or [
            ([end], replace(asked, port=None))
        ]

    def backends(self, service: str, asked: Connection, time: Time) -> Iterator[tuple[str, int, End]]:
        """Yield (address, port, end) of everything that stood behind a port of a Service in a time."""
        namespace, name = service.split("/")
        for one in self.of("Service", namespace, name):
            names = [
                entry.get("name")
                for entry in one.body["spec"]["ports"]
                if asked.port in (entry["port"], entry.get("nodePort")) and entry["protocol"].lower() == asked.protocol
            ]
            for other in self.of("EndpointSlice", namespace):
                labels = other.body["metadata"].get("labels", {})
                start, stop = max(one.start, other.start), min(one.stop, other.stop)
                if (
                    labels.get("kubernetes.io/service-name") != name
                    or start > time[1]
                    or stop <= time[0]
                    or start >= stop
                ):
                    continue
                for entry in other.body["ports"]:
                    if entry.get("name") in names and entry["protocol"].lower() == asked.protocol:
                        for endpoint in other.body["endpoints"]:
                            for end in self.behind(service, endpoint, (max(start, time[0]), min(stop - 1, time[1]))):
                                yield end.ip, int(entry["port"]), end

    def behind(self, service: str, endpoint: dict[str, Any], time: Time) -> Iterator[End]:
        """Yield who had the addresses of an endpoint in a time: each version of its pod that held meanwhile."""
        target = endpoint.get("targetRef") or {}
        versions = sorted(
            (pod for pod in self.pods if pod.uid == target.get("uid")), key=lambda pod: (pod.start, pod.id)
        )
        stops = [pod.start for pod in versions[1:]] + [time[1] + 1]
        held = [pod for pod, stop in zip(versions, stops, strict=False) if pod.start <= time[1] and stop > time[0]]
        for address in endpoint["addresses"]:
            if versions:
                yield from (End("pod", address, pod.id) for pod in held or versions[:1])
            elif target.get("kind") == "Pod":
                yield End("unresolved", address, None)
            elif service == "default/kubernetes":
                yield End("apiserver", address, None)
            else:
                node = next((one.name for one in self.of("Node") if address in _addresses(one)), None)
                yield End("node" if node else "external", address, node)

    def of(self, kind: str, namespace: str | None = None, name: str | None = None) -> list[Version]:
        """Return the versions of objects, oldest first."""
        found = [
            one for one in self.versions if (one.kind, one.namespace) == (kind, namespace) and name in (None, one.name)
        ]
        return sorted(found, key=lambda one: one.start)

    def people(self, end: End, time: Time, when: str) -> list[Endpoint]:
        """Return everybody that an end was in a time, or whom it is now."""
        pod = next((pod for pod in self.pods if pod.id == end.id), None) if end.kind == "pod" else None
        if pod is None:
            return [self.place(end)]
        if when == "then":
            moments = {time[0], *(one.start for one in self.versions if time[0] < one.start <= time[1])}
            return list(dict.fromkeys(self.as_it_was(pod, pod, end.ip, moment) for moment in sorted(moments)))
        return [self.as_it_was(pod, self.today(pod), end.ip, None)]

    def place(self, end: End) -> Endpoint:
        """Return an end that is no pod anybody knows."""
        kind = {"node": "node", "apiserver": "apiserver", "external": "external", "multicast": "external"}.get(
            end.kind, "unknown"
        )
        served = self.served(end.ip) if end.kind in ("node", "apiserver", "external") else ()
        name = str(end.id) if end.kind == "node" else ""
        return Endpoint(kind, ip=None if end.kind == "service" else end.ip, name=name, services=served)

    def as_it_was(self, pod: Pod, latest: Pod, ip: str, moment: int | None) -> Endpoint:
        """Return a pod with its labels at a moment (None: today), what is its workload's own from its latest pod."""
        account = pod.service_account or "default"
        spaces = self.of("Namespace", None, pod.namespace)
        accounts = self.of("ServiceAccount", pod.namespace, account)
        unknown = (("namespace", spaces), ("account", accounts))
        return Endpoint(
            kind="pod",
            ip=ip,
            name=pod.uid,
            namespace=pod.namespace,
            labels=latest.labels,
            namespace_labels=_labels(spaces, moment),
            ports=latest.ports,
            service_account=latest.service_account,
            service_account_labels=_labels(accounts, moment),
            services=self.served(pod.uid),
            host_network=pod.host_network,
            node=pod.node,
            vague=frozenset(what for what, versions in unknown if not versions),
        )

    def served(self, holder: str) -> tuple[tuple[str, str, int], ...]:
        """Return the ports of Services that a pod (by uid) or an address ever served."""
        uids = {pod.uid for pod in self.pods}
        found = set()
        for one in self.versions:
            for endpoint in one.body["endpoints"] if one.kind == "EndpointSlice" else ():
                uid = (endpoint.get("targetRef") or {}).get("uid")
                if holder == uid or (uid not in uids and holder in endpoint["addresses"]):
                    name = f"{one.namespace}/{one.body['metadata']['labels']['kubernetes.io/service-name']}"
                    found |= {(name, entry["protocol"].lower(), entry["port"]) for entry in one.body["ports"]}
        return tuple(sorted(found))

    def today(self, pod: Pod) -> Pod:
        """Return the pod that a workload has in place of a pod today."""
        family = sorted((one for one in self.pods if one.workload == pod.workload), key=lambda one: (one.start, one.id))
        own = [one for one in family if one.uid == pod.uid][-1]
        if own.end is None:
            return own
        namesakes = [one for one in family if one.name == pod.name and one.uid != pod.uid and one.start > own.start]
        return (namesakes or family)[-1]

    def ways(self, row: int) -> list[Dialled | None]:
        """Return what was dialled on the way; None: the responder itself."""
        addresses, edge, number = self.edges.dialled
        numbers = [int(one) for at, one in zip(edge, number, strict=True) if at == row] or [-1]
        return [None if one < 0 else addresses[one] for one in numbers]

    def outcome(
        self, row: int, direction: str, source: Endpoint, target: Endpoint, asked: Connection, way: Dialled | None
    ) -> str:
        """Return what all engines say: what they agree in, those without IPv6 having no say about it."""
        if direction == "ingress" and self.edges.translated[row]:
            source = replace(source, translated=True)
        found = [
            self.dialled(one, source, target, asked, way)
            if way is not None and direction == "egress" and one.before_dnat
            else self.judge(one, direction, source, target, asked)
            for one in self.profiles
        ]
        heard = {one.outcome for one in found if one.reason != "ipv6"} or {one.outcome for one in found}
        return heard.pop() if len(heard) == 1 else "undetermined"

    def judge(self, engine: Profile, direction: str, source: Endpoint, target: Endpoint, asked: Connection) -> Verdict:
        """Return one engine's verdict."""
        key = engine.name, direction, source, target, asked
        if key not in self._known:
            self._known[key] = judge_half(self.given, (engine,), direction, source, target, asked, self.services)
        return self._known[key]

    def dialled(self, engine: Profile, source: Endpoint, target: Endpoint, asked: Connection, way: Dialled) -> Verdict:
        """Return the verdict of an engine that sees what was dialled: the Service by its selector, or its address."""
        straight = self.judge(engine, "egress", source, target, asked)
        if straight.reason in ("own-node", "ipv6"):
            return straight
        address = Endpoint("external", ip=way.ip)
        found = [self.judge(engine, "egress", source, address, replace(asked, port=way.port))]
        namespace, _, name = str(way.service).partition("/")
        specs = [
            one.body["spec"] for one in self.of("Service", namespace, name) if one.body["spec"]["clusterIP"] == way.ip
        ]
        if specs:
            labels = tuple(sorted(specs[-1].get("selector", {}).items()))
            space = _labels(self.of("Namespace", None, namespace), None)
            shown = Endpoint("pod", "", namespace=namespace, labels=labels, namespace_labels=space, ports=target.ports)
            found.append(self.judge(engine, "egress", source, shown, asked))
        best = min(found, key=lambda one: SEVERITY.index(one.outcome))
        # What a pod's own rules do not decide about itself is for the engine, whatever was dialled.
        itself = target.kind == source.kind == "pod" and source.name == target.name
        if best.outcome == "denied" and itself and engine.itself is None:
            return replace(best, outcome="undetermined")
        return best


def _labels(versions: list[Version], moment: int | None) -> tuple[tuple[str, str], ...]:
    """Return the labels that an object had at a moment: of the last version begun, or of the first one ever."""
    begun = [one for one in versions if moment is None or one.start <= moment] or versions[:1]
    return tuple(sorted(begun[-1].body["metadata"].get("labels", {}).items())) if begun else ()


def _addresses(node: Version) -> list[str]:
    return [entry["address"] for entry in node.body["status"]["addresses"]]


def named(end: End, pods: dict[str, Pod]) -> str:
    """Return the name that an edge's end is told by."""
    if end.kind == "pod" and end.id in pods:
        return pods[end.id].workload
    if end.kind == "node":
        return f"node/{end.id}"
    if end.kind == "service":
        return str(end.id).replace("/", "/service/")
    if end.kind in ("external", "multicast"):
        return str(ipaddress.ip_network(end.ip))
    return {"apiserver": "apiserver", "ambiguous": f"ambiguous/{end.ip}", "overflow": f"ambiguous/{end.ip}"}.get(
        end.kind, f"unresolved/{end.ip}"
    )
