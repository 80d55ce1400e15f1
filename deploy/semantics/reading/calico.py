"""Reads Calico's policies of all kinds, and names the readers of the other kinds of its API.

Fields and defaults: projectcalico/calico api/pkg/apis/projectcalico/v3 (networkpolicy.go, globalnetworkpolicy.go, staged*.go) and
api/pkg/defaults/networkpolicy.go. Which pods a policy governs: libcalico-go/lib/backend/syncersv1/updateprocessors
(networkpolicyprocessor.go, globalnetworkpolicyprocessor.go). Order: felix/calc/policy_sorter.go.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from deploy.semantics.reading import calico_sets, kubernetes
from deploy.semantics.reading.calico_metadata import STORED_VERSION, name_of
from deploy.semantics.reading.calico_peers import selector
from deploy.semantics.reading.calico_rules import rules
from deploy.semantics.reading.calico_selectors import (
    ACCOUNT_PREFIX,
    NAMESPACE,
    NAMESPACE_PREFIX,
    SERVICE_ACCOUNT,
    prefixed,
)
from deploy.semantics.reading.fields import Field
from deploy.semantics.rules import Object, Pods, Policy
from deploy.semantics.selectors import ALL, Has, both

API_VERSIONS = ("projectcalico.org/v3", STORED_VERSION)

CLUSTER_SCOPED = frozenset(
    {
        *("GlobalNetworkPolicy", "StagedGlobalNetworkPolicy"),
        *("Tier", "GlobalNetworkSet", "HostEndpoint", "Profile"),
    }
)

HARMLESS = frozenset(
    {
        *("IPPool", "IPReservation", "IPAMConfiguration", "IPAMConfig", "IPAMBlock", "IPAMHandle", "BlockAffinity"),
        *("BGPConfiguration", "BGPPeer", "BGPFilter", "ClusterInformation", "FelixConfiguration"),
        *("KubeControllersConfiguration", "CalicoNodeStatus", "Node", "WorkloadEndpoint"),
    }
)
"""Kinds that say nothing about which pods may talk (api/pkg/apis/projectcalico/v3/register.go, libcalico-go/config/crd)."""

_FIELDS = ("selector", "serviceAccountSelector", "types", "order", "tier", "ingress", "egress", "performanceHints")
_GLOBAL_FIELDS = ("namespaceSelector", "doNotTrack", "preDNAT", "applyOnForward")
_HOST_FIELDS = ("doNotTrack", "preDNAT", "applyOnForward")
_STAGED_ACTIONS = ("Set", "Delete", "Learn", "Ignore")
_KEPT_WHEN_DELETING = ("stagedAction", "tier", "types")
_HINT = "AssumeNeededOnEveryNode"
_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)?{_LABEL}")
_CONVERTED_NAME = re.compile(rf"(?:knp|ossg)\.default\.{_LABEL}(?:\.{_LABEL})*")
_LONGEST_NAME = 253


class _StagedSpec(Field):
    """A spec of Kubernetes' that may also hold the staged action."""

    __slots__ = ()

    def only(self, *known: str, refused: tuple[str, ...] = ()) -> None:
        """Note every other key that is not known."""
        super().only(*known, "stagedAction", refused=refused)


class _StagedObject(Field):
    """An object with such a spec."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Field:
        found = super().__getitem__(key)
        return _StagedSpec(found.value, found.step, found.line, found.report, self) if key == "spec" else found


def network_policy(root: Field, namespace: str | None, name: str) -> Policy:
    """Return a NetworkPolicy, or with no namespace a GlobalNetworkPolicy; staged kinds likewise.

    What breaks a rule, or is not judged, is noted on the fields.
    """
    spec, kind = root["spec"], str(root["kind"].value)
    name = name_of(root, name)
    staged = _staged(root)
    if spec.mapping():
        spec.only(*_FIELDS, *(_GLOBAL_FIELDS if namespace is None else ()), *(("stagedAction",) if staged else ()))
    _check_name(root["metadata"]["name"], namespace, name)
    _check_hints(spec["performanceHints"])
    for key in _HOST_FIELDS if namespace is None else ():
        _refuse(spec[key])
    tier = spec["tier"].text() or "default"
    calico_sets.tier_name(spec["tier"], tier)
    ingress, egress = rules(spec["ingress"], namespace), rules(spec["egress"], namespace)
    directions = _directions(spec["types"], ingress=bool(ingress), egress=bool(egress))
    return Policy(
        dialect="calico",
        kind=kind,
        namespace=namespace,
        name=name,
        file=root.report.file,
        line=root.line,
        subjects=_subjects(spec, namespace),
        directions=directions,
        isolates=directions,
        tier=tier,
        order=calico_sets.order(spec["order"], math.inf),
        ingress=ingress,
        egress=egress,
        staged=staged,
    )


def staged_kubernetes_policy(root: Field, namespace: str | None, name: str) -> Policy:
    """Return a StagedKubernetesNetworkPolicy: what the NetworkPolicy of Kubernetes that it would become says."""
    whole = _StagedObject(root.value, root.step, root.line, root.report, root.parent)
    policy = kubernetes.network_policy(whole, namespace, name)
    return replace(policy, kind="StagedKubernetesNetworkPolicy", staged=_staged(root))


READERS: Mapping[str, Callable[[Field, str | None, str], Object | None]] = {
    "NetworkPolicy": network_policy,
    "GlobalNetworkPolicy": network_policy,
    "StagedNetworkPolicy": network_policy,
    "StagedGlobalNetworkPolicy": network_policy,
    "StagedKubernetesNetworkPolicy": staged_kubernetes_policy,
    "Tier": calico_sets.tier,
    "NetworkSet": calico_sets.network_set,
    "GlobalNetworkSet": calico_sets.network_set,
    "HostEndpoint": calico_sets.host_endpoint,
    "Profile": calico_sets.profile,
}
"""Reads an object of each kind, given its namespace (None for a cluster-scoped kind) and name; None where it says nothing."""


def _staged(root: Field) -> str | None:
    """Return the staged action of a staged kind, `set` when it names none; None for a kind that is enforced."""
    if not str(root["kind"].value).startswith("Staged"):
        return None
    spec = root["spec"]
    action = (spec["stagedAction"].choice(_STAGED_ACTIONS) or "Set").lower()
    if action == "delete" and spec.mapping():
        for key in spec.keys():  # noqa: SIM118 - not a mapping
            if key not in _KEPT_WHEN_DELETING and spec[key].value:
                spec[key].fail("a policy that stages a deletion holds nothing but its tier")
    return action


def _subjects(spec: Field, namespace: str | None) -> Pods:
    """Return the pods that a policy governs: those of its namespace, or of all that namespaceSelector means."""
    own = selector(spec["selector"]) or ALL
    accounts = selector(spec["serviceAccountSelector"])
    if namespace is not None:
        chosen = ALL if accounts is None else prefixed(accounts, ACCOUNT_PREFIX)
        return Pods(both(own, chosen), namespace=namespace, scheme="calico")
    spaces = selector(spec["namespaceSelector"])
    parts = [own]
    parts += [] if spaces is None else [prefixed(spaces, NAMESPACE_PREFIX, Has(NAMESPACE))]
    parts += [] if accounts is None else [prefixed(accounts, ACCOUNT_PREFIX, Has(SERVICE_ACCOUNT))]
    return Pods(both(*parts), scheme="calico")


def _directions(types: Field, *, ingress: bool, egress: bool) -> frozenset[str]:
    """Return the governed directions; absent types mean those with rules, and ingress when there are none."""
    found = [kind.lower() for item in types.items() if (kind := item.choice(("Ingress", "Egress")))]
    if len(set(found)) < len(found):
        types.fail("names a direction twice")
    if not types.value:
        found = (["ingress"] if ingress or not egress else []) + (["egress"] if egress else [])
    return frozenset(found)


def _refuse(field: Field) -> None:
    """Note a switch of host endpoints that is on: what it changes is not judged."""
    if field.value is True:
        field.fail("podfence does not judge this field")
    elif field.value is not None and field.value is not False:
        field.fail("expected true or false")


def _check_name(field: Field, namespace: str | None, name: str) -> None:
    """Note a name that Calico's API does not take (libcalico-go/lib/validator/v3/validator.go)."""
    converted = namespace is not None and _CONVERTED_NAME.fullmatch(name)
    if len(name) > _LONGEST_NAME or not (_NAME.fullmatch(name) or converted):
        field.fail(f"{name!r} is no name of a policy: lower-case letters, digits and -, with one dot at most")


def _check_hints(field: Field) -> None:
    hints = [item.choice((_HINT,)) for item in field.items()]
    if len(hints) > 1:
        field.fail("names a hint twice")
