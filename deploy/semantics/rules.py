"""The form every policy kind is brought into: tiers of policies, policies of rules, rules of peers and traffic.

Readers (`kubernetes`, `calico`, `cilium`, `cluster`) write it, `verdicts` judges by it; it holds no behaviour of any engine.
Everything is frozen and hashable, so that equal parts are looked at once. Calico converts Kubernetes policies in the same
manner (libcalico-go `conversion.go`): rules that allow, at order 1000 of the tier `default`.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deploy.semantics.selectors import ALL, Everything, Not, Selector

KUBERNETES_ORDER = 1000.0
PORT_PROTOCOLS = ("tcp", "udp", "sctp")
DIRECTIONS = ("egress", "ingress")

Range = tuple[int, int, int]
"""Address family and first and last address, as integers."""


def address_range(text: str) -> Range:
    """Return the range of an address or prefix; host bits are cut off, as the API does.

    Raises ValueError.
    """
    network = ipaddress.ip_network(text, strict=False)
    return network.version, int(network.network_address), int(network.broadcast_address)


@dataclass(frozen=True, slots=True)
class Net:
    """A prefix less the prefixes taken out of it."""

    range: Range
    without: tuple[Range, ...] = ()


class Peer:
    """A condition on one end of a connection, with three answers: yes, no, and maybe where nobody can tell.

    The leaves say what they look at, `AllOf`, `AnyOf` and `Other` combine them. `peers` answers them in columns.
    """

    __slots__ = ()

    def leaves(self) -> Iterator["Peer"]:
        """Yield the leaves of this condition."""
        yield self


@dataclass(frozen=True, slots=True)
class Everyone(Peer):
    """Any end at all."""


@dataclass(frozen=True, slots=True)
class Pods(Peer):
    """Pods (never those of the host network) by their labels and those of their namespace.

    `namespace`: only pods of this namespace. `scheme` names the labels that `pods` looks at: `pod` (its own), `calico` (with
    `projectcalico.org/…`, `pcns.…`, `pcsa.…`, as Calico's endpoints carry) or `cilium` (with `io.kubernetes.pod.namespace`,
    `io.cilium.k8s.namespace.labels.…`, `io.cilium.k8s.policy.serviceaccount`). `namespaces` looks at the namespace's own.
    """

    pods: Selector = ALL
    namespaces: Selector = ALL
    namespace: str | None = None
    scheme: str = "pod"


@dataclass(frozen=True, slots=True)
class Members(Peer):
    """What a Calico selector means: pods by their `calico` labels, and any address inside a network set with such labels."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class Addresses(Peer):
    """Any end, pod or not, whose address lies in one of the nets."""

    nets: tuple[Net, ...]


@dataclass(frozen=True, slots=True)
class Block(Peer):
    """Addresses outside the cluster; whether those of pods and nodes count too is the engine's business (`ipBlock`)."""

    net: Net


@dataclass(frozen=True, slots=True)
class Kinds(Peer):
    """Ends of these kinds (see `ends.KINDS`), such as Cilium's entities."""

    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class Serves(Peer):
    """The endpoints of a Service `namespace/name`; with `protocol` and `port`, those that serve it there."""

    service: str
    protocol: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Family(Peer):
    """Ends with an address of this IP version."""

    version: int


@dataclass(frozen=True, slots=True)
class Doubtful(Peer):
    """Maybe for ends of these kinds, no for others: something nobody can tell from a recording, by its reason code."""

    reason: str
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class AllOf(Peer):
    """All parts hold; with none of them, any end."""

    parts: tuple[Peer, ...]

    def leaves(self) -> Iterator[Peer]:
        """Yield the parts' leaves."""
        for part in self.parts:
            yield from part.leaves()


@dataclass(frozen=True, slots=True)
class AnyOf(Peer):
    """At least one part holds; with none of them, no end."""

    parts: tuple[Peer, ...]

    def leaves(self) -> Iterator[Peer]:
        """Yield the parts' leaves."""
        for part in self.parts:
            yield from part.leaves()


@dataclass(frozen=True, slots=True)
class Other(Peer):
    """The part does not hold."""

    part: Peer

    def leaves(self) -> Iterator[Peer]:
        """Yield the part's leaves."""
        return self.part.leaves()


EVERYONE = Everyone()
NOBODY = AnyOf(())


@dataclass(frozen=True, slots=True)
class PortMatch:
    """Ports of a protocol (None: of any that has ports): a range, or a name that the responder resolves; neither means all."""

    protocol: str | None
    low: int | None = None
    high: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class IcmpMatch:
    """ICMP messages; None stands for any protocol of the two, type or code."""

    protocol: str | None = None
    type: int | None = None
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a rule says of the connection itself; all of it must hold, lists are alternatives, empty asks for nothing.

    Protocols are lower case, or a number as text. `source_ports`: the rule asks for ports of the initiator, which no
    recording holds.
    """

    protocol: str | None = None
    not_protocol: str | None = None
    ports: tuple[PortMatch, ...] = ()
    not_ports: tuple[PortMatch, ...] = ()
    icmp: tuple[IcmpMatch, ...] = ()
    not_icmp: IcmpMatch | None = None
    source_ports: bool = False


ANYTHING = Traffic()


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may (or may not) reach whom on what.

    `where` is its place in the object, such as `ingress[0]`; `action` is `allow`, `deny`, `pass` or `log`. `service`: the
    destination is an endpoint of that Service on the port it serves. `unjudged` names parts that are not judged, such as
    HTTP rules.
    """

    where: str
    line: int
    action: str = "allow"
    source: Peer = EVERYONE
    destination: Peer = EVERYONE
    traffic: Traffic = ANYTHING
    service: str | None = None
    unjudged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """An object that governs the pods it selects in `directions`, with its rules in order.

    `dialect`: `kubernetes`, `calico`, `cilium` or `cluster`. `isolates`: the directions in which what no rule of its tier
    decides meets the tier's default action. `staged`: None when enforced, else the staged action: `set`, `delete`, `ignore`
    or `learn`.
    """

    dialect: str
    kind: str
    namespace: str | None
    name: str
    file: str
    line: int
    subjects: Peer
    directions: frozenset[str]
    isolates: frozenset[str]
    tier: str = "default"
    order: float = KUBERNETES_ORDER
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    staged: str | None = None

    @property
    def title(self) -> str:
        """Return the object as reports name it: `NetworkPolicy shop/db`, `Calico NetworkPolicy shop/db`, `Tier x`."""
        prefix = "Calico " if self.dialect == "calico" and self.kind == "NetworkPolicy" else ""
        return f"{prefix}{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    @property
    def becomes(self) -> str:
        """Return the title of the object that a staged one stands for: its own for an enforced one."""
        if self.kind == "StagedKubernetesNetworkPolicy":
            return f"NetworkPolicy {self.namespace}/{self.name}"
        if self.kind == "StagedNetworkPolicy":
            return f"Calico NetworkPolicy {self.namespace}/{self.name}"
        return self.title.removeprefix("Staged")

    def rules(self, direction: str) -> tuple[Rule, ...]:
        """Return the rules of a direction; those of one that it does not govern have no effect."""
        if direction not in self.directions:
            return ()
        return self.ingress if direction == "ingress" else self.egress

    def features(self) -> frozenset[str]:
        """Return what some engines do not implement and this object uses.

        `ip-block`, `named-port`, `port-range`, `sctp`, `ipv6`, `except`, `negative-selector`, `empty-rule` (beside others),
        `both-directions`, and `cluster` for its dialect.
        """
        return frozenset(_features(self))


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier: lower orders come first; `default` (`deny` or `pass`) is what becomes of what it does not decide."""

    name: str
    order: float
    default: str = "deny"
    file: str = ""
    line: int = 0

    @property
    def title(self) -> str:
        """Return the object as reports name it."""
        return f"Tier {self.name}"


TIERS: Mapping[str, Tier] = {
    tier.name: tier
    for tier in (
        Tier("kube-admin", 1_000, "pass"),
        Tier("default", 1_000_000),
        Tier("kube-baseline", 10_000_000, "pass"),
    )
}
"""The tiers that are always there (projectcalico/calico, api/pkg/apis/projectcalico/v3/tier.go)."""


@dataclass(frozen=True, slots=True)
class NetworkSet:
    """Labelled addresses; `namespace` None is a GlobalNetworkSet. `labels` are as Calico's selectors see them."""

    kind: str
    namespace: str | None
    name: str
    labels: tuple[tuple[str, str], ...]
    nets: tuple[Net, ...]
    file: str = ""
    line: int = 0

    @property
    def title(self) -> str:
        """Return the object as reports name it."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


Object = Policy | Tier | NetworkSet


def _features(policy: Policy) -> Iterator[str]:
    if policy.dialect == "cluster":
        yield "cluster"
    if all(policy.rules(direction) for direction in DIRECTIONS):
        yield "both-directions"
    for direction in DIRECTIONS:
        bare = [rule for rule in policy.rules(direction) if rule.source == rule.destination == EVERYONE]
        if any(rule.traffic == ANYTHING for rule in bare) and len(policy.rules(direction)) > 1:
            yield "empty-rule"
    for rule in (*policy.rules("ingress"), *policy.rules("egress")):
        for leaf in (*rule.source.leaves(), *rule.destination.leaves()):
            if isinstance(leaf, Block):
                yield "ip-block"
                yield from ["except"] if leaf.net.without else []
                yield from ["ipv6"] if leaf.net.range[0] == 6 else []
            if isinstance(leaf, Pods) and (negative(leaf.pods) or negative(leaf.namespaces)):
                yield "negative-selector"
        for port in (*rule.traffic.ports, *rule.traffic.not_ports):
            yield from ["named-port"] if port.name is not None else []
            yield from ["port-range"] if port.low != port.high else []
            yield from ["sctp"] if port.protocol == "sctp" else []
    for leaf in policy.subjects.leaves():
        if isinstance(leaf, Pods) and negative(leaf.pods):
            yield "negative-selector"


def negative(selector: Selector) -> bool:
    """Tell whether a selector holds a negation, and so may match what has no such label."""
    return any(isinstance(part, Not) for part in selector.parts_of())


def only_negative(selector: Selector) -> bool:
    """Tell whether a selector asks for nothing but the absence of labels or values."""
    terms = [part for part in selector.conjuncts() if not isinstance(part, Everything)]
    return bool(terms) and all(isinstance(part, Not) for part in terms)
