"""Reads Cilium's endpoint selectors and entities: whom they mean, as far as a recording can tell.

A key of an endpoint selector names the source of a label before a colon (`k8s:`, `any:`, `reserved:`), none stands for
any (cilium/cilium pkg/labels/labels.go, `GetExtendedKeyFrom`). A peer stays in the policy's namespace until it names
another (pkg/k8s/apis/cilium.io/utils/utils.go, `getEndpointSelector`). Entities are reserved labels (pkg/policy/api/entity.go;
documentation, "Layer 3 Policies", "Entities based").
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.semantics.ends import KINDS
from deploy.semantics.reading.fields import Field
from deploy.semantics.reading.label_selectors import expression as requirement
from deploy.semantics.reading.values import Table
from deploy.semantics.rules import (
    EVERYONE,
    NOBODY,
    AllOf,
    AnyOf,
    Doubtful,
    Family,
    Kinds,
    Other,
    Peer,
    Pods,
    Serves,
)
from deploy.semantics.selectors import Has, In, Not, Selector, both

NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels"
CLUSTER = "io.cilium.k8s.policy.cluster"

ANY_KIND = frozenset(KINDS)
POD = frozenset({"pod"})
NO_POD = ANY_KIND - POD
OUTSIDE = frozenset({"external", "apiserver"})

API_SERVER = Doubtful("apiserver", frozenset({"apiserver"}))
"""The API server's address may be a node's or lie outside the cluster; what it is besides, no recording says."""

OUTSIDE_ENDS = AnyOf((Kinds(frozenset({"external"})), API_SERVER))
"""What CIDR rules and `world` mean: neither pods nor nodes (documentation, "Selecting nodes with CIDR / ipBlock")."""

_HIDDEN = Doubtful("entity", frozenset({"unknown"}))
"""Addresses of Cilium's own health and ingress endpoints: in the cluster's ranges, but no pod's."""

_UNLABELLED = Doubtful("entity", frozenset({"pod", "unknown"}))
"""Pods without an identity of their own: whether Cilium manages one, or did so yet, is not recorded."""

_ENTITIES: dict[str, Peer] = {
    "all": EVERYONE,
    "none": NOBODY,
    "world": OUTSIDE_ENDS,
    "cluster": Kinds(frozenset({"pod", "own-node", "other-node", "apiserver"})),
    "cluster-mesh": Doubtful("entity", ANY_KIND),
    "host": AnyOf((Kinds(frozenset({"own-node"})), API_SERVER)),
    "remote-node": AnyOf((Kinds(frozenset({"other-node"})), API_SERVER)),
    "kube-apiserver": AnyOf(
        (
            Kinds(frozenset({"apiserver"})),
            # The label belongs to the address: other ports of an API server's node are meant, too.
            AllOf((Kinds(frozenset({"own-node", "other-node", "external"})), Serves("default/kubernetes"))),
        )
    ),
    "health": _HIDDEN,
    "ingress": _HIDDEN,
    "init": _UNLABELLED,
    "unmanaged": _UNLABELLED,
}
ENTITIES = tuple(_ENTITIES)

_WORLD = Doubtful("dual-stack", OUTSIDE)
"""`world` in a cluster of one address family, `world-ipv4` and `world-ipv6` in one of both (pkg/policy/api/cidr.go)."""

_RESERVED: dict[str, Peer] = {
    **{name: peer for name, peer in _ENTITIES.items() if name not in ("all", "cluster", "cluster-mesh")},
    "world": _WORLD,
    "world-ipv4": AllOf((_WORLD, Family(4))),
    "world-ipv6": AllOf((_WORLD, Family(6))),
}

_LEFT_OUT = (
    *("kubernetes.io", "beta.kubernetes.io", "k8s.io", "statefulset.kubernetes.io/pod-name"),
    *("apps.kubernetes.io/pod-index", "batch.kubernetes.io/job-completion-index", "batch.kubernetes.io/controller-uid"),
    *("pod-template-generation", "pod-template-hash", "controller-revision-hash", "annotation", "controller-uid"),
    "etcd_node",
)
"""Beginnings of keys that Cilium leaves out of identities unless configured otherwise, so that no selector sees them
(documentation, "Limiting Identity-Relevant Labels")."""


@dataclass(frozen=True, slots=True)
class _Term:
    """A requirement on one label; `pair`: written in `matchLabels`."""

    source: str
    selector: Selector
    pair: bool

    @property
    def key(self) -> str:
        """Return the key without its source."""
        return next(iter(self.selector.keys()))

    @property
    def negated(self) -> bool:
        """Tell whether it also holds where the label is missing."""
        return isinstance(self.selector, Not)


def entity(field: Field) -> Peer:
    """Return whom an entity means; an unknown name is noted."""
    return _ENTITIES.get(field.choice(ENTITIES) or "", NOBODY)


def subjects(field: Field, namespace: str | None) -> Peer:
    """Return the pods that an `endpointSelector` selects, those of the policy's namespace only where it has one.

    A pod never has a reserved label, so such a selector means Cilium's own endpoints and no pod.
    """
    terms = _terms(field)
    for term in terms:
        if term.source == "reserved" and term.key == "init" and not term.negated:
            field.fail("podfence does not judge policies for endpoints that are initialising (reserved:init)")
    if any(term.source == "reserved" and not term.negated for term in terms):
        return NOBODY
    # The policy's namespace replaces one that is written as k8s:io.kubernetes.pod.namespace in matchLabels.
    kept = [one for one in terms if not (namespace and one.pair and one.source == "k8s" and one.key == NAMESPACE)]
    return _pods([one.selector for one in kept if one.source != "reserved"], namespace)


def endpoints(field: Field, namespace: str | None) -> Peer:
    """Return whom a selector in `fromEndpoints` or `toEndpoints` means; an empty one means all pods of the namespace.

    Without a namespace (clusterwide policies) it means all pods. Where only negations are left, identities of nodes and
    of the world have no such labels either, and were meant until Cilium 1.19 restricted selectors to the local cluster
    (documentation, upgrade notes on `policy-default-local-cluster`).
    """
    terms = _terms(field)
    pods = [one.selector for one in terms if one.source != "reserved"]
    reserved = [_reserved(one.selector) for one in terms if one.source == "reserved"]
    if reserved:
        return _joined(*reserved, *([_anywhere(pods)] if pods else []))
    named = any(one.key == NAMESPACE for one in terms)
    labelled = any(one.key.startswith(NAMESPACE_LABELS) for one in terms)
    if not named and (namespace is None or not labelled):
        return _pods(pods, namespace)
    found = _pods(pods, None)
    return AnyOf((found, Doubtful("negated-selector", NO_POD))) if all(one.negated for one in terms) else found


def check(field: Field) -> None:
    """Note what is wrong with a selector of things that are no pods, whatever the source of its labels."""
    _terms(field, any_source=True)


def _terms(field: Field, *, any_source: bool = False) -> list[_Term]:
    """Return the requirements of a selector; what breaks a rule is noted."""
    if not field.mapping():
        return []
    field.only("matchLabels", "matchExpressions")
    found: list[_Term | None] = []
    pairs = field["matchLabels"]
    if pairs.mapping():
        for key in pairs.value or ():
            pair = pairs[key]
            value = "" if pair.value is None else pair.text()
            if value is not None:
                written = {"key": key, "operator": "In", "values": [value]}
                item = Field(written, pair.step, pair.line, pair.report, pair.parent)
                found.append(_term(item, pair=True, any_source=any_source))
    others = (item for item in field["matchExpressions"].items() if item.mapping())
    found += [_term(item, pair=False, any_source=any_source) for item in others]
    return [one for one in found if one is not None]


def _term(item: Field, *, pair: bool, any_source: bool) -> _Term | None:
    source, key = _split(item["key"].text() or "")
    if any_source:
        return _Term(source, requirement(_with_key(item, key)), pair)
    if source not in ("k8s", "any", "reserved"):
        item.fail(f"podfence does not judge labels of the source {source!r}")
        return None
    if source == "reserved" and key not in _RESERVED:
        item.fail(f"{key!r} is none of the reserved labels {', '.join(sorted(_RESERVED))}")
        return None
    return _Term(source, requirement(_with_key(item, key)), pair)


def _split(key: str) -> tuple[str, str]:
    """Return the source of a label and its key."""
    if key.startswith("$"):
        return "reserved", key[1:]
    source, colon, rest = key.partition(":")
    if colon:
        return source or "any", rest
    return ("reserved", key.removeprefix("reserved.")) if key.startswith("reserved.") else ("any", key)


def _with_key(item: Field, key: str) -> Field:
    """Return a requirement as Kubernetes writes it, its key without the source, at the same place."""
    if item["key"].absent:
        return item
    table = Table(item.value)
    table.line, table.book, table.at = item.line, (), 0
    if isinstance(item.value, Table):
        table.book, table.at = item.value.book, item.value.at
    table["key"] = key
    return Field(table, item.step, item.line, item.report, item.parent)


def _reserved(selector: Selector) -> Peer:
    """Return whom a requirement on a reserved label means; such labels have no value."""
    if isinstance(selector, Not):
        return Other(_reserved(selector.part))
    if isinstance(selector, In) and "" not in selector.values:
        return NOBODY
    return _RESERVED[next(iter(selector.keys()))]


def _anywhere(wanted: Sequence[Selector]) -> Peer:
    """Return whom requirements mean that are bound to no namespace: negations hold for all that is no pod, too."""
    found = _pods(wanted, None)
    return AnyOf((found, Other(Pods()))) if all(isinstance(one, Not) for one in wanted) else found


def _pods(wanted: Sequence[Selector], namespace: str | None) -> Peer:
    """Return the pods with these labels; maybe where a label is not in identities, or the cluster's name is asked."""
    clusters = [one for one in wanted if CLUSTER in tuple(one.keys())]
    if clusters:
        rest = [one for one in wanted if one not in clusters]
        return _in_clusters(clusters, rest, namespace)
    unseen = [one for one in wanted if next(iter(one.keys())).startswith(_LEFT_OUT)]
    refused = [one for one in unseen if isinstance(one, Not)]
    found = Pods(both(*wanted), namespace=namespace, scheme="cilium")
    if not unseen:
        return found
    widest = Pods(both(*(one for one in wanted if one not in refused)), namespace=namespace, scheme="cilium")
    maybe = AllOf((widest, Doubtful("identity-label", POD)))
    return maybe if len(refused) < len(unseen) else AnyOf((found, maybe))


def _in_clusters(clusters: Sequence[Selector], rest: Sequence[Selector], namespace: str | None) -> Peer:
    """Return pods by their cluster's name, which no recording holds: each has one, and other clusters lie outside."""
    present = Has(NAMESPACE)
    found = _pods([*rest, *(Not(present) if one == Not(Has(CLUSTER)) else present for one in clusters)], namespace)
    if all(one in (Has(CLUSTER), Not(Has(CLUSTER))) for one in clusters):
        return found
    return AnyOf((AllOf((found, Doubtful("cluster-name", POD))), Doubtful("cluster-name", frozenset({"external"}))))


def _joined(*parts: Peer) -> Peer:
    return parts[0] if len(parts) == 1 else AllOf(parts)
