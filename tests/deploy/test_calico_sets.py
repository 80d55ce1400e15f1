"""Tiers, network sets, host endpoints and profiles of Calico: what selectors mean by them, and what is refused.

Sources, all in projectcalico/calico: types in api/pkg/apis/projectcalico/v3 (tier.go, networkset.go, globalnetworkset.go,
hostendpoint.go, profile.go), conversion in libcalico-go/lib/backend/syncersv1/updateprocessors, labels and addresses in
felix/labelindex/named_port_index.go, checks in libcalico-go/lib/validator/v3/validator.go.
"""

import pytest

from deploy.semantics.rules import TIERS, Net, address_range
from tests.deploy.calico_world import everywhere, read, resource, set_of, tier_of
from tests.deploy.world import DB, PROM, WEB, calico, egress, ingress, outside, pod

PARTNERS = resource(
    "GlobalNetworkSet", "nets: [203.0.113.0/24, '2001:db8::/32']", "partners", metadata=", labels: {who: partner}"
)
OWN = resource("NetworkSet", "nets: [198.51.100.7]", "own", metadata=", labels: {who: partner}")
ELSEWHERE = resource("NetworkSet", "nets: [192.0.2.0/24]", "else", "mon", metadata=", labels: {who: partner}")
SETS = PARTNERS + OWN + ELSEWHERE

INSIDE = {
    "partners": outside("203.0.113.9"),
    "partners-6": outside("2001:db8::9"),
    "own": outside("198.51.100.7"),
    "else": outside("192.0.2.9"),
    "nobody": outside("198.51.100.8"),
}


def admitted(source: str, *, namespaced: bool = True) -> list[str]:
    """Return which of the addresses a rule with this source lets in, beside the network sets."""
    spec = f"selector: all()\ningress: [{{action: Allow, source: {{{source}}}}}]"
    text = SETS + (calico(spec) if namespaced else everywhere(spec))
    return [name for name, one in INSIDE.items() if ingress(text, one) == "allowed"]


@pytest.mark.parametrize(
    ("spec", "order", "default"),
    [
        ("{}", 1_000_000.0, "deny"),
        ("{order: null, defaultAction: null}", 1_000_000.0, "deny"),
        ("{order: 5}", 5.0, "deny"),
        ("{order: 2.5, defaultAction: Pass}", 2.5, "pass"),
        ("{defaultAction: Deny}", 1_000_000.0, "deny"),
    ],
)
def test_tiers(spec: str, order: float, default: str) -> None:
    """A tier denies by default, and without an order it stands beside `default` (libcalico-go/lib/resources/tier.go)."""
    found = tier_of(resource("Tier", "{}", "audit").replace("spec:\n  {}", f"spec: {spec}"))
    assert (found.name, found.order, found.default) == ("audit", order, default)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("default", "{order: 1000000, defaultAction: Deny}"),
        ("default", "{}"),
        ("kube-admin", "{order: 1000, defaultAction: Pass}"),
        ("kube-baseline", "{order: 10000000, defaultAction: Pass}"),
    ],
)
def test_built_in_tiers_may_be_given_as_they_are(name: str, spec: str) -> None:
    """The tiers that are always there are what they are (tier.go)."""
    found = tier_of(resource("Tier", "{}", name).replace("spec:\n  {}", f"spec: {spec}"))
    assert (found.order, found.default) == (TIERS[name].order, TIERS[name].default)


@pytest.mark.parametrize(
    ("name", "spec", "wrong"),
    [
        ("audit", "{order: x}", "4: spec.order: expected a number"),
        ("audit", "{defaultAction: Allow}", "4: spec.defaultAction: 'Allow' is none of Deny, Pass"),
        ("audit", "{defaultaction: Pass}", "4: spec.defaultaction: unknown field"),
        ("audit", "[]", "4: spec: expected a mapping, found a list"),
        ("a.b", "{}", "3: metadata.name: 'a.b' is no name of a tier"),
        ("a" * 64, "{}", f"3: metadata.name: {'a' * 64!r} is no name of a tier"),
        ("default", "{order: 5}", "4: spec.order: tier default must have order 1000000"),
        ("default", "{defaultAction: Pass}", "4: spec.defaultAction: tier default must have default action Deny"),
        ("kube-admin", "{order: 1000}", "4: spec.defaultAction: tier kube-admin must have default action Pass"),
        ("kube-baseline", "{defaultAction: Pass}", "4: spec.order: tier kube-baseline must have order 10000000"),
    ],
)
def test_broken_tiers_are_errors(name: str, spec: str, wrong: str) -> None:
    """What the validation of tiers refuses is an error (validator.go, validateTier; tier.go)."""
    assert read(resource("Tier", "{}", name).replace("spec:\n  {}", f"spec: {spec}"))[1] == [wrong]


def test_a_network_set_carries_its_labels_and_its_namespace() -> None:
    """A NetworkSet has its namespace's name, a GlobalNetworkSet none (networksetprocessor.go, globalnetworksetprocessor.go)."""
    own = set_of(OWN)
    assert own.labels == (
        ("pcns.kubernetes.io/metadata.name", "shop"),
        ("pcns.projectcalico.org/name", "shop"),
        ("projectcalico.org/namespace", "shop"),
        ("who", "partner"),
    )
    assert (own.title, own.namespace, own.nets) == (
        "NetworkSet shop/own",
        "shop",
        (Net(address_range("198.51.100.7")),),
    )
    partners = set_of(PARTNERS)
    assert (partners.title, partners.namespace, partners.labels) == (
        "GlobalNetworkSet partners",
        None,
        (("who", "partner"),),
    )


def test_a_label_of_its_own_goes_before_an_inherited_one() -> None:
    """A network set's own label hides one that its namespace would give it (named_port_index.go, endpointData)."""
    text = resource("NetworkSet", "nets: []", metadata=", labels: {pcns.projectcalico.org/name: mine}")
    assert dict(set_of(text).labels)["pcns.projectcalico.org/name"] == "mine"


def test_network_sets_take_addresses_and_host_bits() -> None:
    """Entries are prefixes or addresses; host bits are cut off (validator.go, validateCIDR; lib/net/ipnet.go)."""
    found = set_of(resource("NetworkSet", "nets: [10.0.0.5/8, 10.1.2.3, '2001:db8::1']"))
    assert found.nets == tuple(Net(address_range(one)) for one in ("10.0.0.0/8", "10.1.2.3/32", "2001:db8::1/128"))


def test_labels_of_stored_sets_are_in_an_annotation() -> None:
    """A stored set keeps its labels in an annotation, which goes before its own metadata (k8s/resources/resources.go)."""
    note = """, annotations: {projectcalico.org/metadata: '{"labels": {"a": "kept", "b": "2"}}'}"""
    text = resource("GlobalNetworkSet", "nets: []", stored=True, metadata=f", labels: {{a: own, c: '3'}}{note}")
    assert set_of(text).labels == (("a", "kept"), ("b", "2"), ("c", "3"))
    plain = resource("GlobalNetworkSet", "nets: []", metadata=f", labels: {{a: own}}{note}")
    assert set_of(plain).labels == (("a", "own"),)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("selector: who == 'partner'", ["own"]),
        ("selector: who == 'partner', namespaceSelector: global()", ["partners", "partners-6"]),
        ("selector: who == 'partner', namespaceSelector: all()", ["own", "else"]),
        ("selector: all()", ["own"]),
        ("namespaceSelector: projectcalico.org/name == 'mon'", ["else"]),
        ("notSelector: who == 'partner'", []),
        ("notSelector: has(missing)", ["own"]),
        ("selector: who == 'partner', nets: [198.51.100.0/24]", ["own"]),
        ("serviceAccounts: {names: [x]}", []),
    ],
)
def test_which_sets_a_namespaced_rule_means(source: str, names: list[str]) -> None:
    """Selectors mean network sets as they mean pods (named_port_index.go; rules.go, getEndpointSelector)."""
    assert admitted(source) == names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("selector: who == 'partner'", ["partners", "partners-6", "own", "else"]),
        ("selector: all()", ["partners", "partners-6", "own", "else"]),
        ("selector: projectcalico.org/namespace == 'mon'", ["else"]),
        ("selector: has(projectcalico.org/namespace)", ["own", "else"]),
        ("selector: '!has(projectcalico.org/namespace)'", ["partners", "partners-6"]),
        ("namespaceSelector: global()", ["partners", "partners-6"]),
        ("notSelector: who == 'partner'", ["nobody"]),
        ("notSelector: has(projectcalico.org/namespace)", ["partners", "partners-6", "nobody"]),
        ("selector: all(), notSelector: has(projectcalico.org/namespace)", ["partners", "partners-6"]),
        ("notNets: [203.0.113.0/24]", ["own", "else", "nobody"]),
    ],
)
def test_which_sets_a_global_rule_means(source: str, names: list[str]) -> None:
    """A global rule's selectors mean sets of all namespaces and of none (named_port_index.go; rules.go)."""
    assert admitted(source, namespaced=False) == names


def test_an_address_in_two_sets_is_meant_by_either() -> None:
    """Beside a selector, notSelector takes sets out, not addresses (rule_scanner.go, combineMatchesIfPossible)."""
    good = resource("GlobalNetworkSet", "nets: [203.0.113.0/24]", "good", metadata=", labels: {who: partner}")
    bad = resource("GlobalNetworkSet", "nets: [203.0.113.0/25]", "bad", metadata=", labels: {who: partner, bad: '1'}")
    rule = "selector: all()\ningress: [{action: Allow, source: {%s}}]"
    both = everywhere(rule % "selector: who == 'partner', notSelector: has(bad)")
    alone = everywhere(rule % "notSelector: has(bad)")
    found = [
        ingress(good + bad + text, outside(one)) for text in (both, alone) for one in ("203.0.113.9", "203.0.113.200")
    ]
    assert found == ["allowed", "allowed", "denied", "allowed"]


def test_pods_inside_a_set_are_meant_by_their_address() -> None:
    """A network set means addresses, those of pods included (named_port_index.go)."""
    text = resource("GlobalNetworkSet", "nets: [10.9.0.0/16]", "range", metadata=", labels: {who: range}")
    text += everywhere("selector: all()\ningress: [{action: Allow, source: {selector: who == 'range'}}]")
    assert ingress(text, pod("mon/x", ip="10.9.1.1")) == "allowed"
    assert ingress(text, PROM) == "denied"


def test_a_set_inherits_the_name_of_its_namespace() -> None:
    """A NetworkSet has its namespace's profile, and so both names of the namespace (networksetprocessor.go, conversion.go)."""
    for key in ("kubernetes.io/metadata.name", "projectcalico.org/name"):
        spec = f"selector: all()\ningress: [{{action: Allow, source: {{namespaceSelector: {key} == 'mon'}}}}]"
        found = [ingress(SETS + calico(spec), INSIDE[name]) for name in ("else", "own", "partners")]
        assert found == ["allowed", "denied", "denied"]


def test_a_set_inherits_the_labels_of_its_namespace() -> None:
    """A NetworkSet has its namespace's profile, so it inherits the namespace's labels (networksetprocessor.go)."""
    text = SETS + calico("selector: all()\ningress: [{action: Allow, source: {namespaceSelector: team == 'red'}}]")
    assert [ingress(text, one) for one in (INSIDE["own"], WEB, PROM)] == ["allowed", "allowed", "denied"]


def test_a_set_of_a_namespace_that_nobody_knows_is_left_open() -> None:
    """Where the labels of a set's namespace are not known, a selector that asks for them has no answer."""
    text = SETS + calico("selector: all()\ningress: [{action: Allow, source: {namespaceSelector: team == 'blue'}}]")
    assert ingress(text, INSIDE["else"]) == "undetermined"
    assert ingress(text, INSIDE["own"]) == "denied"


@pytest.mark.parametrize("kind", ["NetworkSet", "GlobalNetworkSet"])
@pytest.mark.parametrize(
    ("spec", "metadata", "wrong"),
    [
        ("nets: [not-a-net]", "", "5: spec.nets[0]: 'not-a-net' is no prefix such as 10.0.0.0/8"),
        ("nets: [10.0.0.0/99]", "", "5: spec.nets[0]: '10.0.0.0/99' is no prefix such as 10.0.0.0/8"),
        ("nets: [1]", "", "5: spec.nets[0]: expected text, found a number 1"),
        ("nets: 10.0.0.0/8", "", "5: spec.nets: expected a list, found text"),
        ("net: []", "", "5: spec.net: unknown field"),
        ("allowedEgressDomains: [a.b]", "", "5: spec.allowedEgressDomains: unknown field"),
        ("nets: []", ", labels: {a: 1}", "3: metadata.labels.a: expected text, found a number 1"),
        ("nets: []", ", labels: []", "3: metadata.labels: expected a mapping, found a list"),
        (
            "nets: []",
            ", labels: {projectcalico.org/namespace: x}",
            "3: metadata.labels: projectcalico.org/namespace is no label that a network set may have",
        ),
    ],
)
def test_broken_network_sets_are_errors(kind: str, spec: str, metadata: str, wrong: str) -> None:
    """What the validation of network sets refuses is an error (validator.go, validateNetworkSet, validateCIDR)."""
    assert read(resource(kind, spec, metadata=metadata))[1] == [wrong]


def test_a_host_endpoint_is_its_expected_addresses() -> None:
    """Selectors mean a host endpoint by its expectedIPs, in no namespace (hostendpointprocessor.go, named_port_index.go)."""
    text = resource(
        "HostEndpoint",
        "node: n1\ninterfaceName: eth0\nexpectedIPs: [192.0.2.1, '2001:db8::1']\nprofiles: [projectcalico-default-allow]",
        "n1-eth0",
        metadata=", labels: {host: n1}",
    )
    found = set_of(text)
    assert (found.kind, found.title, found.namespace) == ("HostEndpoint", "HostEndpoint n1-eth0", None)
    assert found.labels == (("host", "n1"),)
    assert found.nets == (Net(address_range("192.0.2.1/32")), Net(address_range("2001:db8::1/128")))
    allow = everywhere("selector: all()\ningress: [{action: Allow, source: {selector: host == 'n1'}}]")
    assert [ingress(text + allow, outside(one)) for one in ("192.0.2.1", "192.0.2.2")] == ["allowed", "denied"]
    own = calico("selector: all()\ningress: [{action: Allow, source: {namespaceSelector: global()}}]")
    assert ingress(text + own, outside("192.0.2.1")) == "allowed"


def test_a_host_endpoint_without_addresses_is_meant_by_no_selector() -> None:
    """Calico does not learn an interface's addresses for selectors (hostendpoint.go, ExpectedIPs)."""
    found = set_of(resource("HostEndpoint", "node: n1\ninterfaceName: '*'", metadata=", labels: {host: n1}"))
    assert found.nets == ()


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ("interfaceName: eth0", "5: spec: `node` is missing"),
        ("node: n1", "5: spec: needs interfaceName or expectedIPs"),
        ("node: n1\nexpectedIPs: [192.0.2.0/24]", "6: spec.expectedIPs[0]: '192.0.2.0/24' is no address"),
        ("node: n1\nexpectedIPs: [web]", "6: spec.expectedIPs[0]: 'web' is no address"),
        (
            "node: n1\ninterfaceName: eth0\nports: [{name: a, protocol: TCP, port: 1}]",
            "7: spec.ports: podfence does not judge this field",
        ),
        (
            "node: n1\ninterfaceName: eth0\nprofiles: [kns.shop]",
            "7: spec.profiles[0]: podfence judges no host endpoint with the profile kns.shop",
        ),
        ("node: n1\ninterfaceName: eth0\nname: x", "7: spec.name: unknown field"),
    ],
)
def test_what_a_host_endpoint_may_not_be(spec: str, wrong: str) -> None:
    """A broken host endpoint is an error, and what cannot be told of one is refused by name (hostendpoint.go)."""
    found = read(resource("HostEndpoint", spec))[1]
    assert [one.partition(": ")[2] for one in found] == [wrong.partition(": ")[2]]


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("kns.shop", "{ingress: [{action: Allow}], egress: [{action: Allow}], labelsToApply: {pcns.team: red}}"),
        (
            "kns.shop",
            "{ingress: [{action: Allow, source: {}, destination: {}}], egress: [{action: Allow, source: {}, destination: {}}]}",
        ),
        ("ksa.shop.default", "{labelsToApply: {pcsa.role: r}}"),
        ("ksa.shop.default", "{}"),
        ("projectcalico-default-allow", "{ingress: [{action: Allow}], egress: [{action: Allow}]}"),
    ],
)
def test_profiles_that_calico_makes_say_nothing_new(name: str, spec: str) -> None:
    """The profiles of namespaces, service accounts and hosts are taken as known (conversion.go, resources/static.go)."""
    assert read(resource("Profile", "{}", name).replace("spec:\n  {}", f"spec: {spec}")) == ([], [])


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("mine", "{ingress: [{action: Allow}], egress: [{action: Allow}]}"),
        ("mine", "{}"),
        ("kns", "{ingress: [{action: Allow}], egress: [{action: Allow}]}"),
        ("kns.shop", "{ingress: [{action: Deny}], egress: [{action: Allow}]}"),
        ("kns.shop", "{ingress: [{action: Allow, protocol: TCP}], egress: [{action: Allow}]}"),
        ("kns.shop", "{}"),
        ("ksa.shop.default", "{ingress: [{action: Allow}]}"),
        ("projectcalico-default-allow", "{egress: [{action: Allow}]}"),
    ],
)
def test_other_profiles_are_refused_by_name(name: str, spec: str) -> None:
    """A profile that says anything else is refused by its name, never passed over (profile.go)."""
    text = resource("Profile", "{}", name).replace("spec:\n  {}", f"spec: {spec}")
    assert read(text) == ([], [f"1: podfence does not judge the profile {name}"])


def test_an_unknown_field_of_a_profile_is_an_error() -> None:
    """A profile holds rules and labels only (profile.go)."""
    spec = "ingress: [{action: Allow}]\negress: [{action: Allow}]\nlabels: {}"
    assert read(resource("Profile", spec, "kns.shop"))[1] == ["7: spec.labels: unknown field"]


def test_egress_rules_mean_sets_and_pods_alike() -> None:
    """A destination's selector means pods and network sets (rules.go; named_port_index.go)."""
    text = SETS + everywhere(
        "selector: all()\negress: [{action: Allow, destination: {selector: has(who) || app == 'db'}}]"
    )
    ends = (DB, PROM, INSIDE["own"], INSIDE["nobody"])
    assert [egress(text, one) for one in ends] == ["allowed", "denied", "allowed", "denied"]
