"""Reads Cilium's policies and CIDR groups, and names the other kinds of its API.

Fields: cilium/cilium pkg/k8s/apis/cilium.io/client/crds/v2 (ciliumnetworkpolicies.yaml, ciliumcidrgroups.yaml and
ciliumclusterwidenetworkpolicies.yaml), pkg/policy/api/rule.go. Limits: pkg/policy/api/rule_validation.go. Namespaces:
pkg/k8s/apis/cilium.io/utils/utils.go. What denials, default deny and an empty rule mean: documentation "Overview of
Network Policy", "Deny Policies", and pkg/policy/l4_filter_test.go (`TestL3Wildcarding`).
"""

from collections.abc import Callable, Mapping

from deploy.semantics.reading.cilium_peers import GROUP, cidr_group, lists, peers
from deploy.semantics.reading.cilium_selectors import subjects
from deploy.semantics.reading.cilium_traffic import parts
from deploy.semantics.reading.fields import Field
from deploy.semantics.rules import DIRECTIONS, EVERYONE, NOBODY, AllOf, Object, Peer, Policy, Rule

API_VERSIONS = ("cilium.io/v2", "cilium.io/v2alpha1")

CLUSTER_SCOPED = frozenset({"CiliumClusterwideNetworkPolicy", GROUP})

HARMLESS = frozenset(
    {
        *("CiliumEndpoint", "CiliumEndpointSlice", "CiliumIdentity", "CiliumNode", "CiliumNodeConfig"),
        *("CiliumLoadBalancerIPPool", "CiliumL2AnnouncementPolicy", "CiliumPodIPPool", "CiliumBGPPeeringPolicy"),
        *("CiliumBGPClusterConfig", "CiliumBGPPeerConfig", "CiliumBGPAdvertisement", "CiliumBGPNodeConfig"),
        *("CiliumBGPNodeConfigOverride", "CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"),
        *("CiliumLocalRedirectPolicy", "CiliumEgressGatewayPolicy", "CiliumExternalWorkload"),
        *("CiliumGatewayClassConfig", "CiliumVTEPConfig", "CiliumDatapathPlugin"),
    }
)
"""Kinds that say nothing about which pods may talk at the layers judged here (pkg/k8s/apis/cilium.io/client/crds)."""

_SECTIONS = ("ingress", "ingressDeny", "egress", "egressDeny")
_KNOWN = ("endpointSelector", *_SECTIONS, "enableDefaultDeny", "labels", "description", "log")
_MODES = ("disabled", "required", "test-always-fail")


def _policies(root: Field, namespace: str | None, name: str) -> tuple[Object, ...]:
    """Return the policies of an object: one for `spec`, one for each item of `specs`."""
    _stable(root)
    found = [root["spec"]] if "spec" in root else []
    found += root["specs"].items()
    if not found:
        root.fail("`spec` or `specs` is missing")
    return tuple(_policy(spec, root, namespace, name) for spec in found if spec.mapping())


def _stable(root: Field) -> None:
    """Note an alpha version, which policies do not have."""
    if root["apiVersion"].value != API_VERSIONS[0]:
        root["apiVersion"].fail(f"{root['kind'].value} has version {API_VERSIONS[0]} only")


def _policy(spec: Field, root: Field, namespace: str | None, name: str) -> Policy:
    spec.only(*_KNOWN, "nodeSelector")
    if "nodeSelector" in spec:
        spec["nodeSelector"].fail("podfence does not judge policies for nodes")
    elif spec["endpointSelector"].absent:
        spec.fail("`endpointSelector` is missing")
    _remarks(spec)
    if not any(spec[section].value for section in _SECTIONS):
        spec.fail("holds no rule: one of ingress, ingressDeny, egress and egressDeny is needed")
    ruled = frozenset(way for way in DIRECTIONS if spec[way].value or spec[f"{way}Deny"].value)
    return Policy(
        dialect="cilium",
        kind="CiliumNetworkPolicy" if namespace is not None else "CiliumClusterwideNetworkPolicy",
        namespace=namespace,
        name=name,
        file=root.report.file,
        line=spec.line if spec.step.startswith("[") else root.line,
        subjects=subjects(spec["endpointSelector"], namespace),
        directions=ruled,
        isolates=ruled - _open(spec["enableDefaultDeny"]),
        ingress=_rules(spec, "ingress", namespace),
        egress=_rules(spec, "egress", namespace),
    )


def _open(field: Field) -> frozenset[str]:
    """Return the directions whose rules do not bring denial by default along."""
    if not field.mapping():
        return frozenset()
    field.only(*DIRECTIONS)
    for way in DIRECTIONS:
        if not isinstance(field[way].value, bool | None):
            field[way].fail("expected a boolean")
    return frozenset(way for way in DIRECTIONS if field[way].value is False)


def _remarks(spec: Field) -> None:
    """Check what a policy says without any effect on who may talk."""
    spec["description"].text()
    if spec["log"].mapping():
        spec["log"].only("value")
        spec["log"]["value"].text()
    for label in spec["labels"].items():
        if label.mapping():
            label.only("key", "source", "value", "cidr")
            if label["key"].absent:
                label.fail("`key` is missing")


def _rules(spec: Field, direction: str, namespace: str | None) -> tuple[Rule, ...]:
    """Return the rules of a direction, denials first: they win whatever is allowed."""
    found: list[Rule] = []
    for section, action in ((f"{direction}Deny", "deny"), (direction, "allow")):
        for item in spec[section].items():
            if item.mapping():
                found += _rule(item, direction, action, namespace)
    return tuple(found)


def _rule(item: Field, direction: str, action: str, namespace: str | None) -> list[Rule]:
    """Return what an item of a section says: one rule for each way in which its ports and messages match."""
    deny = action == "deny"
    names, refused = lists(direction, deny=deny)
    item.only(*names, "toPorts", "icmps", *(() if deny else ("authentication",)), refused=refused)
    found = peers(item, names, namespace)
    if found is None:
        # A rule that asks for ports means anybody, one that asks for nothing means nobody: it only isolates.
        found = EVERYONE if item["toPorts"].value or item["icmps"].value else NOBODY
    unjudged = () if deny else _authentication(item["authentication"])
    rules = []
    for part in parts(item, direction, deny=deny):
        other: Peer = found if part.limit == EVERYONE else AllOf((found, part.limit))
        rules.append(
            Rule(
                where=item.path.removeprefix("spec."),
                line=item.line,
                action=action,
                source=other if direction == "ingress" else EVERYONE,
                destination=other if direction == "egress" else EVERYONE,
                traffic=part.traffic,
                unjudged=(*part.unjudged, *unjudged),
            )
        )
    return rules


def _authentication(field: Field) -> tuple[str, ...]:
    if field.absent or not field.mapping():
        return ()
    field.only("mode")
    mode = field["mode"].choice(_MODES)
    if field["mode"].absent:
        field.fail("`mode` is missing")
    if mode == "test-always-fail":
        field.fail("podfence does not judge authentication that always fails")
    return ("authentication",) if mode == "required" else ()


def _group(root: Field, namespace: str | None, name: str) -> tuple[Object, ...]:  # noqa: ARG001 (cluster-scoped)
    return (cidr_group(root, name),)


READERS: Mapping[str, Callable[[Field, str | None, str], tuple[Object, ...]]] = {
    "CiliumNetworkPolicy": _policies,
    "CiliumClusterwideNetworkPolicy": _policies,
    GROUP: _group,
}
"""What reads each kind: an object's root field, its namespace (None for a cluster-scoped kind) and its name."""
