"""Judges one half of a connection: egress of its initiator or ingress of its responder, under one engine profile.

Policies are compiled once; ends are brought into classes that no policy can tell apart, and each distinct pair of classes is
judged once.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from deploy.semantics.profiles import STRICT, Profile
from deploy.semantics.rules import (
    PORT_PROTOCOLS,
    Connection,
    ContainerPort,
    Policy,
    Range,
    Rule,
    View,
    address_range,
)

Pairs = tuple[tuple[str, str], ...]

ALLOWED, DENIED, UNDETERMINED = "allowed", "denied", "undetermined"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection at one moment.

    `kind`: `pod`, `node`, `external`, or `unknown` where nobody can say who held the address. `name` is the pod's uid or
    the node's name, `ip` an address or prefix, `node` the node the pod runs on. `translated`: what arrives at the other end
    is another address than `ip`.
    """

    kind: str
    ip: str | None = None
    name: str = ""
    namespace: str = ""
    labels: Pairs = ()
    namespace_labels: Pairs = ()
    ports: tuple[ContainerPort, ...] = ()
    service_account: str | None = None
    host_network: bool = False
    node: str | None = None
    translated: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a half, by which object and rule (None: by isolation, or by none), and why, as a code.

    Reasons of what is allowed: `rule`, `not-isolated`, `own-node`, `protocol` (this engine lets it pass), `no-pod`; of what
    is denied: `rule`, `isolation`; of what is undetermined: `unresolved`, `translated`, `host-network`, `node`,
    `ip-block` (engines differ on whose addresses match), `prefix` (only some of the folded addresses match), `source-port`,
    `port` (not recorded), `own-node`, `itself`, `protocol`.
    """

    outcome: str
    reason: str
    object: str | None = None
    rule: str | None = None

    @property
    def by(self) -> str | None:
        """Return the deciding object and rule as one text."""
        if self.object is None:
            return None
        return f"{self.object} {self.rule}" if self.rule else self.object


_NO_POD = Verdict(ALLOWED, "no-pod")
_NOBODY = Verdict(UNDETERMINED, "unresolved")
_OPEN = Verdict(ALLOWED, "not-isolated")


class Policies:
    """A set of policies compiled for one profile; holds memos, so keep one for many judgements."""

    def __init__(self, policies: Iterable[Policy], profile: Profile = STRICT) -> None:
        self.policies = tuple(policies)
        self.profile = profile
        self._index: dict[tuple[str, tuple[str, str] | None], list[Policy]] = defaultdict(list)
        for policy in self.policies:
            first = next(policy.selector.equalities(), None)
            self._index[policy.namespace, first].append(policy)
        self._nets = _blocks(self.policies)
        self._addresses: dict[str, Range | None] = {}
        self._classes: dict[tuple[object, ...], int] = {}
        self._views: list[View] = []
        self._known: dict[Endpoint, int] = {}
        self._selected: dict[tuple[int, str], tuple[Policy, ...]] = {}
        self._verdicts: dict[tuple[str, int, int, Connection, str], Verdict] = {}

    def judge(self, direction: str, source: Endpoint, destination: Endpoint, connection: Connection) -> Verdict:
        """Return the verdict on a half; see `judge_half`."""
        subject = source if direction == "egress" else destination
        if subject.kind == "unknown" and self._isolates(direction):
            return _NOBODY
        if subject.kind != "pod":
            return _NO_POD
        left, right = self._class(source), self._class(destination)
        relation = _relation(direction, source, destination)
        key = (direction, left, right, connection, relation)
        found = self._verdicts.get(key)
        if found is None:
            found = self._verdicts[key] = self._judge(direction, left, right, connection, relation)
        return found

    def _isolates(self, direction: str) -> bool:
        return any(direction in policy.directions for policy in self.policies)

    def selecting(self, pod: Endpoint, direction: str) -> tuple[Policy, ...]:
        """Return the policies that isolate a pod in a direction, in the order they are evaluated."""
        return self._select(self._class(pod), direction)

    def _class(self, endpoint: Endpoint) -> int:
        """Return the number of the class of ends that these policies cannot tell apart."""
        known = self._known.get(endpoint)
        if known is not None:
            return known
        addresses = None if endpoint.translated else self._range(endpoint.ip)
        view = View(
            kind=_kind(endpoint),
            addresses=addresses if addresses is None or self._matters(addresses) else (addresses[0], -1, -1),
            namespace=endpoint.namespace,
            labels=dict(endpoint.labels)
            | (
                {
                    "projectcalico.org/namespace": endpoint.namespace,
                    "projectcalico.org/orchestrator": "k8s",
                    "projectcalico.org/serviceaccount": endpoint.service_account or "default",
                }
                if endpoint.kind == "pod"
                else {}
            ),
            namespace_labels=dict(endpoint.namespace_labels)
            | {"kubernetes.io/metadata.name": endpoint.namespace, "projectcalico.org/name": endpoint.namespace},
            ports=endpoint.ports,
            translated=endpoint.translated,
        )
        key = (
            *(
                view.kind,
                view.addresses,
                view.translated,
                view.namespace,
                endpoint.labels,
                endpoint.namespace_labels,
                endpoint.ports,
            ),
            endpoint.service_account,
        )
        number = self._classes.setdefault(key, len(self._views))
        if number == len(self._views):
            self._views.append(view)
        self._known[endpoint] = number
        return number

    def _range(self, ip: str | None) -> Range | None:
        if ip is None:
            return None
        if ip not in self._addresses:
            try:
                self._addresses[ip] = address_range(ip)
            except ValueError:
                self._addresses[ip] = None
        return self._addresses[ip]

    def _matters(self, addresses: Range) -> bool:
        family, first, last = addresses
        return any(kind == family and first <= high and last >= low for kind, low, high in self._nets)

    def _select(self, number: int, direction: str) -> tuple[Policy, ...]:
        key = (number, direction)
        if key not in self._selected:
            view = self._views[number]
            candidates = list(self._index.get((view.namespace, None), ()))
            for pair in view.labels.items():
                candidates += self._index.get((view.namespace, pair), ())
            found = [one for one in candidates if direction in one.directions and one.selector.matches(view.labels)]
            self._selected[key] = tuple(sorted(found, key=_precedence))
        return self._selected[key]

    def _judge(self, direction: str, left: int, right: int, connection: Connection, relation: str) -> Verdict:
        subject = left if direction == "egress" else right
        policies = self._select(subject, direction)
        if not policies:
            return _OPEN
        if self._views[subject].kind == "host":
            return Verdict(UNDETERMINED, "host-network", policies[0].title)
        found = self._by_rules(policies, direction, self._views[left], self._views[right], connection)
        if relation == "own-node":
            return self._own_node(direction, found)
        if found.reason != "isolation":
            return found
        return self._excused(policies, direction, connection, relation, found)

    def _by_rules(
        self, policies: tuple[Policy, ...], direction: str, source: View, destination: View, connection: Connection
    ) -> Verdict:
        """Return what order, first match and end-of-tier deny say; Kubernetes rules only allow, so order is no matter."""
        open_ends: list[tuple[Policy, Rule]] = []
        final = Verdict(DENIED, "isolation", policies[0].title)
        for policy in policies:
            for rule in policy.rules(direction):
                matched = False if rule.action == "log" else rule.matches(source, destination, connection, self.profile)
                if matched is None:
                    open_ends.append((policy, rule))
                if matched:
                    final = Verdict(DENIED if rule.action == "deny" else ALLOWED, "rule", policy.title, rule.where)
                    break
            if final.reason == "rule":
                break
        for policy, rule in open_ends:
            if (DENIED if rule.action == "deny" else ALLOWED) != final.outcome:
                peer = destination if direction == "egress" else source
                return Verdict(UNDETERMINED, _doubt(rule, peer), policy.title, rule.where)
        return final

    def _own_node(self, direction: str, found: Verdict) -> Verdict:
        """Return the verdict on traffic with the pod's own node, which engines let pass whatever the rules say."""
        passes = self.profile.own_node_ingress if direction == "ingress" else self.profile.own_node_egress
        if passes:
            return Verdict(ALLOWED, "own-node")
        if passes is None and found.outcome != ALLOWED:
            return Verdict(UNDETERMINED, "own-node", found.object, found.rule)
        return found

    def _excused(
        self, policies: tuple[Policy, ...], direction: str, connection: Connection, relation: str, found: Verdict
    ) -> Verdict:
        """Return the verdict on what no rule decides, where the API leaves it to the engine."""
        if relation == "itself":
            return Verdict(UNDETERMINED, "itself", found.object)
        if connection.protocol not in PORT_PROTOCOLS and any(one.engine == "kubernetes" for one in policies):
            effect = self.profile.other_protocols
            if effect is None:
                return Verdict(UNDETERMINED, "protocol", found.object)
            if effect == ALLOWED:
                return Verdict(ALLOWED, "protocol")
        if direction == "ingress" and relation == "node" and not self.profile.snat_visible:
            return Verdict(UNDETERMINED, "node", found.object)
        return found


def judge_half(
    policies: Policies,
    direction: str,
    src: Endpoint,
    dst: Endpoint,
    protocol: str,
    port: int | None,
    icmp: tuple[int | None, int | None] = (None, None),
) -> Verdict:
    """Return what policies do to one half (`egress` of `src`, `ingress` of `dst`) of a connection.

    The tuple is taken as it stands where the engine enforces it, after DNAT. `protocol` is lower case or a number as text;
    `port` is the responder's.
    """
    return policies.judge(direction, src, dst, Connection(protocol, port, *icmp))


def _kind(endpoint: Endpoint) -> str:
    if endpoint.translated:
        return "unknown"
    return "host" if endpoint.kind == "pod" and endpoint.host_network else endpoint.kind


def _relation(direction: str, source: Endpoint, destination: Endpoint) -> str:
    """Return how the two ends stand to each other, where that matters: `own-node`, `node`, `itself`, or nothing."""
    subject, peer = (source, destination) if direction == "egress" else (destination, source)
    if peer.translated:
        return ""
    on = peer.name if peer.kind == "node" else peer.node if peer.host_network else None
    if on is not None:
        return "own-node" if on == subject.node else "node"
    if peer.kind == "node":
        return "node"
    return "itself" if peer.kind == "pod" and peer.name and peer.name == subject.name else ""


def _doubt(rule: Rule, peer: View) -> str:
    if rule.source_ports:
        return "source-port"
    if peer.kind == "unknown":
        return "translated" if peer.translated else "unresolved"
    if peer.kind == "host":
        return "host-network"
    if peer.kind in ("pod", "node"):
        return "ip-block"
    return "prefix" if rule.source or rule.destination else "port"


def _precedence(policy: Policy) -> tuple[float, str, str]:
    """Return what Calico sorts by; it stores Kubernetes policies under the name given here."""
    name = f"knp.default.{policy.name}" if policy.engine == "kubernetes" else policy.name
    return policy.order, name, policy.namespace


def _blocks(policies: Iterable[Policy]) -> list[Range]:
    """Return the ranges that any rule looks at; ends outside all of them need not be told apart by address."""
    found: set[Range] = set()
    for policy in policies:
        for rule in (*policy.ingress, *policy.egress):
            for entity in (*rule.source, *rule.destination):
                found.update(net.range for net in (*entity.nets, *entity.not_nets))
    return sorted(found)
