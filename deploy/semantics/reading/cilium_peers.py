"""Reads whom a rule of Cilium means: its lists `from…` and `to…` of endpoints, entities, nodes, prefixes and names.

Fields: cilium/cilium pkg/policy/api/ingress.go, egress.go, cidr.go, fqdn.go, service.go, groups.go. Limits:
pkg/policy/api/rule_validation.go. Meaning: documentation "Layer 3 Policies". A list that is there but empty means
nobody, one that is missing anybody (pkg/policy/l4_filter_test.go, `TestL3Wildcarding`).
"""

import re

from deploy.semantics.reading import kubernetes
from deploy.semantics.reading.cilium_selectors import (
    ANY_KIND,
    API_SERVER,
    OUTSIDE,
    OUTSIDE_ENDS,
    check,
    endpoints,
    entity,
)
from deploy.semantics.reading.fields import Field
from deploy.semantics.reading.label_selectors import label_selector
from deploy.semantics.rules import (
    NOBODY,
    Addresses,
    AllOf,
    AnyOf,
    Doubtful,
    Kinds,
    Members,
    Net,
    NetworkSet,
    Peer,
    Serves,
)
from deploy.semantics.selectors import Everything, Has, In, Not, Selector, both

GROUP = "CiliumCIDRGroup"
_SOURCE = "cidrgroup:"
"""What stands before the keys of a CIDR group's labels; no label of a pod can have a colon (pkg/labels/labels.go)."""
_GROUP_NAME = f"{_SOURCE}io.cilium.policy.cidrgroupname/"
"""Beginning of the label that every CIDR group has from its name (pkg/policy/api/cidr.go, `LabelForCIDRGroupRef`)."""

_BASIC = ("Endpoints", "Nodes", "Entities", "CIDR", "CIDRSet")
_FQDN = {
    "matchName": re.compile(r"(?:[-a-zA-Z0-9_]+[.]?)+"),
    "matchPattern": re.compile(r"(?:[-a-zA-Z0-9_*]+[.]?)+"),
}
_LONGEST_NAME = 255

_FAR_NODES = Doubtful("node-labels", frozenset({"other-node", "apiserver"}))
"""Nodes by their labels, which only enable-node-selector-labels makes known; the pod's own node is none of them."""


def lists(direction: str, *, deny: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the lists that a rule of a direction may hold, and those that podfence does not judge."""
    side = "from" if direction == "ingress" else "to"
    known = [*_BASIC, "Groups"]
    refused = ["Requires"]
    if direction == "egress":
        known += [] if deny else ["Services", "FQDNs"]
        # Cilium leaves the services of denials as they are, and so denies nothing (pkg/policy/k8s/service.go).
        refused += ["Services"] if deny else []
    return tuple(f"{side}{name}" for name in known), tuple(f"{side}{name}" for name in refused)


def peers(item: Field, names: tuple[str, ...], namespace: str | None) -> Peer | None:
    """Return whom the lists of a rule mean, None where it names nobody; one rule may hold one list."""
    held = [name for name in names if item[name].value]
    if len(held) > 1:
        item.fail(f"{' and '.join(held)} may not stand in one rule")
    found: list[Peer] = []
    for name in names:
        field = item[name]
        found += [_peer(one, name.removeprefix("from").removeprefix("to"), namespace) for one in field.items()]
    if found:
        return found[0] if len(found) == 1 else AnyOf(tuple(found))
    empty = (name for name in names if name.removeprefix("from").removeprefix("to") in _BASIC and name in item)
    return NOBODY if any(empty) else None


def cidr_group(root: Field, name: str) -> NetworkSet:
    """Return a CiliumCIDRGroup: its prefixes, under the labels by which rules refer to it."""
    spec = root["spec"]
    nets = []
    if spec.mapping():
        spec.only("externalCIDRs")
        if spec["externalCIDRs"].absent:
            spec.fail("`externalCIDRs` is missing")
        nets = [Net(found) for item in spec["externalCIDRs"].items() if (found := kubernetes.cidr(item)) is not None]
    labels = root["metadata"]["labels"]
    own = labels.value if isinstance(labels.value, dict) else {}
    pairs = {f"{_SOURCE}{key}": str(value or "") for key, value in own.items()} | {f"{_GROUP_NAME}{name}": ""}
    return NetworkSet(GROUP, None, name, tuple(sorted(pairs.items())), tuple(nets), root.report.file, root.line)


def _peer(one: Field, name: str, namespace: str | None) -> Peer:
    """Return whom an item of a list means."""
    if name == "Endpoints":
        return endpoints(one, namespace)
    if name == "Entities":
        return entity(one)
    if name == "CIDR":
        found = kubernetes.cidr(one)
        return NOBODY if found is None else AllOf((Addresses((Net(found),)), OUTSIDE_ENDS))
    if not one.mapping():
        return NOBODY
    if name == "Nodes":
        check(one)
        return _FAR_NODES
    if name == "CIDRSet":
        return _cidr_rule(one)
    if name == "Services":
        return _service(one)
    return _names(one) if name == "FQDNs" else _cloud_group(one)


def _cidr_rule(one: Field) -> Peer:
    """Return whom an item of a CIDR set means: a prefix less others, or a CIDR group."""
    one.only("cidr", "cidrGroupRef", "cidrGroupSelector", "except")
    given = [name for name in ("cidr", "cidrGroupRef", "cidrGroupSelector") if name in one]
    if len(given) != 1:
        one.fail("needs one of cidr, cidrGroupRef and cidrGroupSelector")
        return NOBODY
    if given != ["cidr"] and one["except"].value:
        one["except"].fail(f"podfence does not judge exceptions from a {given[0]}")
    if given == ["cidrGroupSelector"]:
        return AllOf((_selected(label_selector(one["cidrGroupSelector"])), OUTSIDE_ENDS))
    if given == ["cidrGroupRef"]:
        name = one["cidrGroupRef"].text()
        return AllOf((Members(Has(f"{_GROUP_NAME}{name}")), OUTSIDE_ENDS)) if name else NOBODY
    whole = kubernetes.cidr(one["cidr"])
    holes = []
    for item in one["except"].items():
        hole = kubernetes.cidr(item)
        if whole is not None and hole is not None:
            if hole[0] != whole[0] or not whole[1] <= hole[1] <= hole[2] <= whole[2]:
                item.fail(f"{item.value} is no part of {one['cidr'].value}")
            holes.append(hole)
    return NOBODY if whole is None else AllOf((Addresses((Net(whole, tuple(holes)),)), OUTSIDE_ENDS))


def _selected(selector: Selector) -> Peer:
    """Return the addresses of the CIDR groups that a selector means.

    Labels of all groups that hold a prefix come together at its addresses (pkg/ipcache/metadata.go), so several
    requirements may be met by several groups, and a negation fails by any of them.
    """
    terms = [_in_groups(one) for one in selector.conjuncts() if not isinstance(one, Everything)]
    positive = [one for one in terms if not isinstance(one, Not)]
    if not positive:
        return Doubtful("cidr-group", ANY_KIND)
    if terms == positive and len(positive) == 1:
        return Members(positive[0])
    sure = (Members(both(*terms)),) if terms == positive else ()
    return AllOf((*(Members(one) for one in positive), AnyOf((*sure, Doubtful("cidr-group", OUTSIDE)))))


def _in_groups(one: Selector) -> Selector:
    """Return a requirement on the labels of CIDR groups."""
    if isinstance(one, Not):
        return Not(_in_groups(one.part))
    if isinstance(one, In):
        return In(f"{_SOURCE}{one.key}", one.values)
    return Has(f"{_SOURCE}{next(iter(one.keys()))}")


def _service(one: Field) -> Peer:
    """Return the endpoints of a Service, never the node's address that may be among them."""
    one.only("k8sService", "k8sServiceSelector")
    given = [name for name in ("k8sService", "k8sServiceSelector") if name in one]
    if len(given) != 1:
        one.fail("needs one of k8sService and k8sServiceSelector")
    named, selected = one["k8sService"], one["k8sServiceSelector"]
    unknown = Doubtful("service", OUTSIDE | {"pod"})
    if selected.mapping() and not selected.absent:
        selected.only("namespace", "selector")
        if selected["selector"].absent:
            selected.fail("`selector` is missing")
        check(selected["selector"])
        selected["namespace"].text()
    if not named.mapping() or named.absent:
        return unknown
    named.only("namespace", "serviceName")
    name, namespace = named["serviceName"].text(), named["namespace"].text()
    if not name:
        named.fail("`serviceName` is missing")
    if not name or not namespace:
        return unknown
    return AllOf((Serves(f"{namespace}/{name}"), AnyOf((Kinds(frozenset({"pod", "external"})), API_SERVER))))


def _names(one: Field) -> Peer:
    """Return what a DNS name may stand for; which addresses it had, no recording of connections says."""
    one.only(*_FQDN)
    given = [name for name in _FQDN if name in one]
    if len(given) != 1:
        one.fail("needs one of matchName and matchPattern")
    for name in given:
        text = one[name].text()
        if text is not None and (not _FQDN[name].fullmatch(text) or len(text) > _LONGEST_NAME):
            one[name].fail(
                f"{text!r} is no DNS name" if name == "matchName" else f"{text!r} is no pattern of DNS names"
            )
    return Doubtful("fqdn", OUTSIDE)


def _cloud_group(one: Field) -> Peer:
    """Return what a cloud provider's group may stand for; its addresses are the provider's to know."""
    one.only("aws")
    group = one["aws"]
    if group.absent:
        one.fail("`aws` is missing")
    elif group.mapping():
        group.only("labels", "region", "securityGroupsIds", "securityGroupsNames")
    return Doubtful("cloud-group", OUTSIDE)
