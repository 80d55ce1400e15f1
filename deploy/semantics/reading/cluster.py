"""Reads ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2, all of it.

Fields, limits and meaning: kubernetes-sigs/network-policy-api apis/v1alpha2/clusternetworkpolicy_types.go,
config/crd/experimental and site-src/api-overview.md. Admin and Baseline are the tiers `kube-admin` and `kube-baseline`
(projectcalico/calico libcalico-go/lib/backend/k8s/conversion/clusternetworkpolicy.go).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from deploy.semantics.ends import KINDS
from deploy.semantics.reading.fields import Field
from deploy.semantics.reading.kubernetes import cidr, number, port_name
from deploy.semantics.reading.label_selectors import label_selector
from deploy.semantics.rules import (
    ANYTHING,
    EVERYONE,
    NOBODY,
    Addresses,
    AnyOf,
    Doubtful,
    Net,
    Peer,
    Pods,
    Policy,
    PortMatch,
    Rule,
    Traffic,
)

API_VERSIONS = ("policy.networking.k8s.io/v1alpha2",)
CLUSTER_SCOPED = frozenset({"ClusterNetworkPolicy"})
HARMLESS: frozenset[str] = frozenset()

_TIERS = {"Admin": "kube-admin", "Baseline": "kube-baseline"}
_ACTIONS = {"Accept": "allow", "Deny": "deny", "Pass": "pass"}
_PROTOCOLS = ("tcp", "udp", "sctp")
_EXPERIMENTAL = {"nodes": "peer", "domainNames": "fqdn"}
"""Peers that only the experimental API has, with the reason why nobody can tell whom they mean."""
_NODES = frozenset({"own-node", "other-node", "apiserver"})
_ANY_KIND = frozenset(KINDS)
_MOST = 25
_LONGEST_NAME = 100
_HIGHEST_PRIORITY = 1000
_LABEL = r"[a-zA-Z0-9](?:[-a-zA-Z0-9_]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)+{_LABEL}\.?")


def cluster_network_policy(root: Field, namespace: str | None, name: str) -> Policy:  # noqa: ARG001 - readers are alike
    """Return a ClusterNetworkPolicy; what breaks a rule of the API is noted on the fields.

    It governs the directions in which it has rules, and isolates in none: what no rule decides goes on to the next tier.
    """
    spec = root["spec"]
    if spec.absent:
        root.fail("`spec` is missing")
    elif spec.mapping():
        spec.only("tier", "priority", "subject", "ingress", "egress")
    _needed(spec, "tier", "priority", "subject")
    priority = spec["priority"].integer() or 0
    if not 0 <= priority <= _HIGHEST_PRIORITY:
        spec["priority"].fail(f"{priority} is outside 0-{_HIGHEST_PRIORITY}")
    ingress, egress = _rules(spec["ingress"], "from"), _rules(spec["egress"], "to")
    return Policy(
        dialect="cluster",
        kind="ClusterNetworkPolicy",
        namespace=None,
        name=name,
        file=root.report.file,
        line=root.line,
        subjects=_subject(spec["subject"]),
        directions=frozenset([*(["ingress"] if ingress else []), *(["egress"] if egress else [])]),
        isolates=frozenset(),
        tier=_TIERS[spec["tier"].choice(tuple(_TIERS)) or "Admin"],
        order=float(priority),
        ingress=ingress,
        egress=egress,
    )


READERS: Mapping[str, Callable[[Field, str | None, str], Policy]] = {"ClusterNetworkPolicy": cluster_network_policy}


def _needed(field: Field, *keys: str) -> None:
    for key in keys:
        if isinstance(field.value, dict) and field[key].absent:
            field.fail(f"`{key}` is missing")


def _only_one(field: Field, *known: str) -> str | None:
    """Return the one key a mapping must have, None when it has none or several (which is noted)."""
    if not field.mapping():
        return None
    field.only(*known)
    found = [key for key in known if key in field]
    if len(found) == 1:
        return found[0]
    field.fail(f"needs exactly one of {', '.join(known)}")
    return None


def _counted(field: Field, least: int) -> list[Field]:
    """Return the items of a list that may hold 25."""
    found = list(field.items())
    if len(found) > _MOST:
        field.fail(f"holds {len(found)} items, at most {_MOST} are allowed")
    elif len(found) < least and isinstance(field.value, list):
        field.fail("needs at least one item")
    return found


def _subject(field: Field) -> Peer:
    if field.absent:
        return NOBODY
    chosen = _only_one(field, "namespaces", "pods")
    return _pods(field[chosen], chosen) if chosen else NOBODY


def _pods(field: Field, chosen: str) -> Peer:
    """Return pods by the labels of their namespaces, and (`pods`) by their own."""
    if chosen == "namespaces":
        return Pods(namespaces=label_selector(field))
    if field.mapping():
        field.only("namespaceSelector", "podSelector")
        _needed(field, "podSelector")
    return Pods(label_selector(field["podSelector"]), label_selector(field["namespaceSelector"]))


def _rules(field: Field, peers: str) -> tuple[Rule, ...]:
    return tuple(rule for item in _counted(field, 0) if item.mapping() for rule in _rule(item, peers))


def _rule(item: Field, peers: str) -> tuple[Rule, ...]:
    """Return a rule, and before it the denial of everything that an engine may make of it.

    Nodes and domain names are for the experimental API. What does not know them must fail closed: a rule that accepts matches
    nothing, another one denies everything; Calico's conversion knows neither.
    """
    item.only("name", "action", peers, "protocols")
    _needed(item, "action", peers)
    if len(item["name"].text() or "") > _LONGEST_NAME:
        item["name"].fail(f"is longer than {_LONGEST_NAME} characters")
    action = item["action"].choice(tuple(_ACTIONS)) or "Accept"
    chosen = [(peer, key) for peer in _counted(item[peers], 1) if (key := _chosen(peer, peers))]
    other = _others(chosen)
    ports = tuple(port for entry in _counted(item["protocols"], 1) if (port := _port(entry)) is not None)
    for peer, key in chosen:
        if key == "domainNames" and action != "Accept":
            peer[key].fail("only rules that accept may name domains")
        if key in ("networks", *_EXPERIMENTAL) and any(port.name is not None for port in ports):
            peer.fail(f"{key} have no named ports, which a protocol of this rule asks for")
    rule = Rule(
        where=item.path.removeprefix("spec."),
        line=item.line,
        action=_ACTIONS[action],
        source=other if peers == "from" else EVERYONE,
        destination=other if peers == "to" else EVERYONE,
        traffic=Traffic(ports=ports),
    )
    if not isinstance(other, Doubtful) or action == "Accept":
        return (rule,)
    closed = replace(rule, action="deny", destination=Doubtful(other.reason, _ANY_KIND), traffic=ANYTHING)
    return closed, rule


def _chosen(peer: Field, peers: str) -> str | None:
    return _only_one(peer, "namespaces", "pods", *(("networks", *_EXPERIMENTAL) if peers == "to" else ()))


def _others(chosen: list[tuple[Field, str]]) -> Peer:
    """Return the condition on the other end of a rule: open where it needs what not every engine knows, or nobody can tell.

    A name may stand for any address, also of pods (npeps/npep-133-fqdn-egress-selector.md).
    """
    found = tuple(_peer(peer, key) for peer, key in chosen)
    doubtful = [key for _, key in chosen if key in _EXPERIMENTAL]
    if doubtful:
        nodes_only = all(key == "nodes" for _, key in chosen)
        return Doubtful(_EXPERIMENTAL[doubtful[0]], _NODES if nodes_only else _ANY_KIND)
    return found[0] if len(found) == 1 else AnyOf(found)


def _peer(peer: Field, key: str) -> Peer:
    field = peer[key]
    if key in ("namespaces", "pods"):
        return _pods(field, key)
    if key == "nodes":
        label_selector(field)
        return NOBODY
    items = _counted(field, 1)
    texts = [item.text() for item in items]
    if len(set(texts)) < len(texts):
        field.fail("names something twice")
    if key == "networks":
        # They match every end by its address, pods included.
        return Addresses(tuple(Net(whole) for item in items if (whole := cidr(item)) is not None))
    for item, text in zip(items, texts, strict=True):
        if text is not None and not _DOMAIN.fullmatch(text):
            item.fail(f"{text!r} is no domain name")
    return NOBODY


def _port(entry: Field) -> PortMatch | None:
    chosen = _only_one(entry, *_PROTOCOLS, "destinationNamedPort")
    if chosen is None:
        return None
    field = entry[chosen]
    if chosen == "destinationNamedPort":
        return PortMatch(None, name=port_name(field) or "")
    if field.mapping():
        field.only("destinationPort")
        _needed(field, "destinationPort")
    port = field["destinationPort"]
    if port.absent:
        return PortMatch(chosen)
    kind = _only_one(port, "number", "range")
    if kind is None:
        return PortMatch(chosen)
    if kind == "number":
        first = number(port["number"]) or 0
        return PortMatch(chosen, first, first)
    bounds = port["range"]
    if bounds.mapping():
        bounds.only("start", "end")
        _needed(bounds, "start", "end")
    first, last = number(bounds["start"]) or 0, number(bounds["end"]) or 0
    if last <= first and last:
        bounds.fail(f"start {first} must be less than end {last}")
    return PortMatch(chosen, first, last)
