"""Reads what Calico's policies refer to: tiers, network sets, host endpoints and profiles.

Fields: projectcalico/calico api/pkg/apis/projectcalico/v3 (tier.go, networkset.go, globalnetworkset.go, hostendpoint.go,
profile.go). Meaning: libcalico-go/lib/backend/syncersv1/updateprocessors (networksetprocessor.go, globalnetworksetprocessor.go,
hostendpointprocessor.go) and felix/labelindex/named_port_index.go.
"""

import ipaddress
import math
import re
from collections.abc import Iterable
from typing import Any

from deploy.semantics.reading.calico_metadata import labels_of
from deploy.semantics.reading.calico_peers import prefix
from deploy.semantics.reading.calico_selectors import NAMESPACE, NAMESPACE_PREFIX
from deploy.semantics.reading.fields import Field
from deploy.semantics.rules import TIERS, Net, NetworkSet, Tier, address_range

DEFAULT_ALLOW = "projectcalico-default-allow"
"""The profile that host endpoints may have (libcalico-go/lib/resources/static.go)."""

_TIER_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_NAMES_OF_NAMESPACES = ("kubernetes.io/metadata.name", "projectcalico.org/name")
_ALLOWS = [{"action": "Allow"}]


def order(field: Field, absent: float) -> float:
    """Return an order, `absent` where there is none."""
    if field.absent:
        return absent
    if isinstance(field.value, int | float) and not isinstance(field.value, bool) and math.isfinite(field.value):
        return float(field.value)
    field.fail("expected a number")
    return absent


def tier_name(field: Field, name: str) -> None:
    """Note that something is no name of a tier."""
    if not _TIER_NAME.fullmatch(name):
        field.fail(f"{name!r} is no name of a tier")


def tier(root: Field, namespace: str | None, name: str) -> Tier:  # noqa: ARG001 - readers are called alike
    """Return a Tier.

    Without an order it has that of the tier `default`, without a default action it denies
    (libcalico-go/lib/resources/tier.go). The tiers that are always there cannot be changed.
    """
    spec = root["spec"]
    if spec.mapping():
        spec.only("order", "defaultAction")
    tier_name(root["metadata"]["name"], name)
    action = spec["defaultAction"].choice(("Deny", "Pass")) or "Deny"
    found = Tier(
        name=name,
        order=order(spec["order"], TIERS["default"].order),
        default=action.lower(),
        file=root.report.file,
        line=root.line,
    )
    fixed = TIERS.get(name)
    if fixed is not None and fixed.order != found.order:
        spec["order"].fail(f"tier {name} must have order {fixed.order:.0f}")
    if fixed is not None and fixed.default != found.default:
        spec["defaultAction"].fail(f"tier {name} must have default action {fixed.default.capitalize()}")
    return found


def network_set(root: Field, namespace: str | None, name: str) -> NetworkSet:
    """Return a NetworkSet or (namespace None) a GlobalNetworkSet.

    A namespaced one also carries its namespace's name and inherits the namespace's labels, as pods do. Here it gets those
    that every namespace has; the others are known only where the namespace is.
    """
    spec = root["spec"]
    if spec.mapping():
        spec.only("nets")
    labels = labels_of(root)
    if NAMESPACE in labels:
        root["metadata"]["labels"].fail(f"{NAMESPACE} is no label that a network set may have")
    if namespace is not None:
        inherited = {f"{NAMESPACE_PREFIX}{key}": namespace for key in _NAMES_OF_NAMESPACES}
        labels = inherited | labels | {NAMESPACE: namespace}
    nets = [found for item in spec["nets"].items() if (found := prefix(item, loose=True)) is not None]
    return _set(root, namespace, name, labels, map(Net, nets))


def host_endpoint(root: Field, namespace: str | None, name: str) -> NetworkSet:
    """Return a HostEndpoint as the addresses that selectors mean by it: its expectedIPs, and none where it names none.

    Calico does not learn the addresses of an interface for use in selectors (hostendpoint.go). What policies do to the host
    itself is not told here.
    """
    spec = root["spec"]
    if spec.mapping():
        spec.only("node", "interfaceName", "expectedIPs", "profiles", refused=("ports",))
    if not spec["node"].text():
        spec.fail("`node` is missing")
    if not spec["interfaceName"].text() and not spec["expectedIPs"].value:
        spec.fail("needs interfaceName or expectedIPs")
    for item in spec["profiles"].items():
        if item.text() not in (None, DEFAULT_ALLOW):
            item.fail(f"podfence judges no host endpoint with the profile {item.value}")
    nets = [found for item in spec["expectedIPs"].items() if (found := _address(item)) is not None]
    return _set(root, namespace, name, labels_of(root), nets)


def profile(root: Field, namespace: str | None, name: str) -> None:  # noqa: ARG001 - readers are called alike
    """Pass over a profile that Calico makes itself; refuse any other by name.

    Those of namespaces (`kns.`) and the one for hosts allow everything, those of service accounts (`ksa.`) hold labels only
    (libcalico-go/lib/backend/k8s/conversion/conversion.go, libcalico-go/lib/resources/static.go).
    """
    spec = root["spec"]
    if spec.mapping():
        spec.only("ingress", "egress", "labelsToApply")
    found = [_plain(spec[direction].value) for direction in ("ingress", "egress")]
    own = {"kns.": [_ALLOWS] * 2, DEFAULT_ALLOW: [_ALLOWS] * 2, "ksa.": [None] * 2}
    if found != own.get(name if name == DEFAULT_ALLOW else name[:4]):
        root.fail(f"podfence does not judge the profile {name}")


def _set(root: Field, namespace: str | None, name: str, labels: dict[str, str], nets: Iterable[Net]) -> NetworkSet:
    return NetworkSet(
        kind=str(root["kind"].value),
        namespace=namespace,
        name=name,
        labels=tuple(sorted(labels.items())),
        nets=tuple(nets),
        file=root.report.file,
        line=root.line,
    )


def _address(field: Field) -> Net | None:
    text = field.text()
    if text is None:
        return None
    try:
        return Net(address_range(str(ipaddress.ip_address(text))))
    except ValueError:
        field.fail(f"{text!r} is no address")
        return None


def _plain(value: Any) -> Any:
    """Return a value without what is empty in it, None for what is empty itself."""
    if isinstance(value, dict):
        return {key: kept for key, inner in value.items() if (kept := _plain(inner)) is not None} or None
    if isinstance(value, list):
        return [_plain(inner) for inner in value] or None
    return value
