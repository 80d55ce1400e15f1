"""Calico's policies of all kinds: whom they govern, in which directions and order, and what of them is refused.

Sources, all in projectcalico/calico: the API's types (api/pkg/apis/projectcalico/v3), its defaults
(api/pkg/defaults/networkpolicy.go), validation (libcalico-go/lib/validator/v3/validator.go), the conversion to what Felix is given
(libcalico-go/lib/backend/syncersv1/updateprocessors), felix/calc/policy_sorter.go and app-policy/checker/check.go.
"""

import dataclasses
import math
import random

import pytest

from deploy.semantics.reading import calico
from deploy.semantics.reading.documents import documents
from deploy.semantics.reading.fields import Field, Report
from deploy.semantics.rules import KUBERNETES_ORDER, Block, Net, Pods, address_range
from deploy.semantics.selectors import ALL, And, Has, In
from tests.deploy.calico_world import everywhere, policy_of, read, resource
from tests.deploy.world import DB, PROM, WEB, ask, egress, ingress, kubernetes, outside, pod
from tests.deploy.world import calico as namespaced

DENY_ALL = "selector: all()\n"
POLICY_KINDS = ("NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy")


def test_a_policy_without_a_matching_rule_denies_at_the_end_of_the_tier() -> None:
    """What no rule decides meets the tier's default action (checker/check.go, checkTiers)."""
    text = namespaced("selector: app == 'db'\ningress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]")
    assert (ingress(text, WEB, 80), ingress(text, WEB, 81)) == ("allowed", "denied")
    assert ask(text, "ingress", WEB, DB, 81).reason == "isolation"


def test_an_unselected_pod_is_open() -> None:
    """A pod that no policy selects has its namespace's profile, which allows (k8s/conversion/conversion.go)."""
    assert ingress(namespaced("selector: app == 'other'"), WEB) == "allowed"


@pytest.mark.parametrize(
    ("rules", "isolated"),
    [
        ("", {"ingress"}),
        ("ingress: []\negress: []", {"ingress"}),
        ("ingress: [{action: Deny}]", {"ingress"}),
        ("egress: [{action: Deny}]", {"egress"}),
        ("types: []\negress: [{action: Deny}]", {"egress"}),
        ("types: null\negress: [{action: Deny}]", {"egress"}),
        ("ingress: [{action: Deny}]\negress: [{action: Deny}]", {"ingress", "egress"}),
        ("types: [Egress]\ningress: [{action: Deny}]", {"egress"}),
        ("types: [Ingress]\negress: [{action: Deny}]", {"ingress"}),
        ("types: [Ingress, Egress]", {"ingress", "egress"}),
    ],
)
def test_absent_types_follow_the_rules_that_are_there(rules: str, isolated: set[str]) -> None:
    """Absent types are the directions with rules, and ingress without any: not as in Kubernetes (defaults/networkpolicy.go)."""
    for text in (namespaced(DENY_ALL + rules), everywhere(DENY_ALL + rules)):
        outcomes = {"ingress": ingress(text, WEB), "egress": egress(text, DB)}
        assert {name for name, outcome in outcomes.items() if outcome == "denied"} == isolated


@pytest.mark.parametrize("kind", POLICY_KINDS)
def test_absent_types_are_the_same_for_every_kind(kind: str) -> None:
    """Every kind has the same default types (defaults/networkpolicy.go)."""
    found = policy_of(resource(kind, "egress: [{action: Deny}]"))
    assert found.directions == found.isolates == {"egress"}


def test_a_namespaced_policy_selects_in_its_namespace_only() -> None:
    """A NetworkPolicy's selector is joined with its namespace (networkpolicyprocessor.go)."""
    assert ingress(namespaced(DENY_ALL, namespace="mon"), WEB) == "allowed"
    assert ingress(namespaced("selector: app == 'x' || has(app)", namespace="mon"), WEB) == "allowed"
    assert ingress(namespaced(DENY_ALL), WEB) == "denied"


@pytest.mark.parametrize("spec", ["", "selector: all()", "selector: ''", "selector: null", "types: [Ingress]"])
def test_an_empty_selector_selects_every_pod(spec: str) -> None:
    """An absent or empty selector is all() (networkpolicy.go, globalnetworkpolicy.go)."""
    assert ingress(namespaced(spec or "types: [Ingress]"), WEB) == "denied"
    assert ingress(everywhere(spec or "types: [Ingress]"), WEB) == "denied"
    assert ask(everywhere(spec or "types: [Ingress]"), "ingress", WEB, PROM).outcome == "denied"


@pytest.mark.parametrize(
    ("spec", "selected"),
    [
        ("selector: has(app)", ["shop/db", "mon/prom", "bare/x"]),
        ("selector: projectcalico.org/namespace == 'mon'", ["mon/prom"]),
        ("selector: projectcalico.org/orchestrator == 'k8s'", ["shop/db", "mon/prom", "bare/x"]),
        ("selector: pcns.team == 'red'", ["shop/db"]),
        ("namespaceSelector: team == 'red'", ["shop/db"]),
        ("namespaceSelector: has(team)", ["shop/db", "mon/prom"]),
        ("namespaceSelector: '!has(team)'", ["bare/x"]),
        ("namespaceSelector: all()", ["shop/db", "mon/prom", "bare/x"]),
        ("namespaceSelector: projectcalico.org/name == 'bare'", ["bare/x"]),
        ("namespaceSelector: kubernetes.io/metadata.name in {'bare', 'mon'}", ["mon/prom", "bare/x"]),
        ("selector: app == 'prom'\nnamespaceSelector: has(team)", ["mon/prom"]),
        ("selector: app == 'db' || app == 'x'\nnamespaceSelector: team == 'red' || team == 'blue'", ["shop/db"]),
    ],
)
def test_whom_a_global_policy_governs(spec: str, selected: list[str]) -> None:
    """A GlobalNetworkPolicy selects in all namespaces, or those its namespaceSelector means (globalnetworkpolicyprocessor.go)."""
    text = everywhere(spec)
    pods = [DB, PROM, pod("bare/x")]
    assert [one.name for one in pods if ask(text, "ingress", WEB, one).outcome == "denied"] == selected


@pytest.mark.parametrize("kind", ["NetworkPolicy", "GlobalNetworkPolicy"])
@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("role == 'store'", ["shop/db"]),
        ("projectcalico.org/name == 'front'", ["shop/web"]),
        ("!has(role)", ["shop/web"]),
        ("all()", ["shop/db", "shop/web"]),
    ],
)
def test_policies_by_service_account(kind: str, selector: str, selected: list[str]) -> None:
    """A serviceAccountSelector looks at the labels of service accounts, prefixed (networkpolicyprocessor.go, selectors.go)."""
    text = resource(
        kind, f"serviceAccountSelector: {selector!r}" if "!" in selector else f"serviceAccountSelector: {selector}"
    )
    pods = [
        pod("shop/db", service_account="store", service_account_labels=(("role", "store"),)),
        pod("shop/web", service_account="front"),
    ]
    assert [one.name for one in pods if ask(text, "ingress", PROM, one).outcome == "denied"] == selected


def test_selectors_of_a_policy_must_all_hold() -> None:
    """Selector, namespaceSelector and serviceAccountSelector of a policy are joined (globalnetworkpolicyprocessor.go)."""
    spec = "selector: app == 'db'\nnamespaceSelector: all()\nserviceAccountSelector: all()"
    assert policy_of(everywhere(spec)).subjects == Pods(
        And((In("app", ("db",)), Has("projectcalico.org/namespace"), Has("projectcalico.org/serviceaccount"))),
        scheme="calico",
    )
    spec = "selector: app == 'db'\nserviceAccountSelector: all()"
    assert policy_of(namespaced(spec)).subjects == Pods(In("app", ("db",)), namespace="shop", scheme="calico")


def test_policies_are_tried_by_order_and_without_one_last() -> None:
    """Lower orders come first, and a policy without one comes last (felix/calc/policy_sorter.go, ExtractPolicyMetadata)."""
    allow, deny = f"{DENY_ALL}ingress: [{{action: Allow}}]\n", f"{DENY_ALL}ingress: [{{action: Deny}}]\n"
    assert ingress(namespaced(f"{allow}order: 20", "a") + namespaced(f"{deny}order: 10", "b"), WEB) == "denied"
    assert ingress(namespaced(f"{allow}order: 10", "b") + namespaced(f"{deny}order: 20", "a"), WEB) == "allowed"
    assert ingress(namespaced(f"{allow}order: -1.5", "b") + namespaced(f"{deny}order: -1", "a"), WEB) == "allowed"
    assert ingress(namespaced(allow, "a") + namespaced(f"{deny}order: 5000", "b"), WEB) == "denied"
    assert ingress(namespaced(allow, "a") + namespaced(deny, "b"), WEB) == "allowed"
    assert ingress(namespaced(f"{allow}order: 0", "b") + namespaced(f"{deny}order: null", "a"), WEB) == "allowed"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (namespaced("{}", "a"), namespaced("{}", "b")),
        (namespaced("{}", "a-b"), namespaced("{}", "a")),
        (namespaced("{}", "a.b"), namespaced("{}", "a")),
        (everywhere("{}", "a"), namespaced("{}", "b")),
        (everywhere("{}", "a"), namespaced("{}", "a")),
        (everywhere("{}", "b"), namespaced("{}", "c")),
    ],
)
def test_equal_orders_are_tried_by_the_text_of_name_namespace_and_kind(first: str, second: str) -> None:
    """Ties are broken by `name/namespace/kind` as one text, in which `-` and `.` come before `/` (policy_sorter.go, PolKVLess)."""
    rules = "selector: all()\n  ingress: [{action: %s}]"
    allowing, denying = (one.replace("{}", rules) for one in (first, second))
    assert ingress(denying % "Deny" + allowing % "Allow", WEB) == "allowed"
    assert ingress(allowing % "Deny" + denying % "Allow", WEB) == "denied"


def test_kubernetes_policies_stand_at_order_1000() -> None:
    """Policies of Kubernetes are rules that allow, at order 1000 of the default tier (k8s/conversion/conversion.go)."""
    allow = kubernetes("ingress: [{}]")
    deny = f"{DENY_ALL}ingress: [{{action: Deny}}]\norder: "
    assert ingress(allow + namespaced(f"{deny}999"), WEB) == "denied"
    assert ingress(allow + namespaced(f"{deny}1001"), WEB) == "allowed"
    assert ingress(allow + everywhere(f"{deny}999"), WEB) == "denied"
    late = everywhere(f"{DENY_ALL}ingress: [{{action: Allow}}]\norder: 2000")
    assert ingress(kubernetes("podSelector: {}") + late, WEB) == "allowed"
    assert policy_of(namespaced("{}")).order == math.inf
    assert policy_of(namespaced("order: 7")).order == 7.0


def test_performance_hints_change_nothing() -> None:
    """Hints never change what a policy does (networkpolicy.go)."""
    spec = "selector: app == 'db'\nperformanceHints: [AssumeNeededOnEveryNode]"
    assert policy_of(namespaced(spec)) == policy_of(namespaced("selector: app == 'db'"))


@pytest.mark.parametrize(("action", "staged"), [("", "set"), ("Set", "set"), ("Learn", "learn"), ("Ignore", "ignore")])
@pytest.mark.parametrize("kind", ["NetworkPolicy", "GlobalNetworkPolicy"])
def test_a_staged_policy_says_what_the_enforced_one_would(kind: str, action: str, staged: str) -> None:
    """A staged kind has the enforced kind's spec and a staged action, `Set` unless given (stagednetworkpolicy.go)."""
    spec = "selector: app == 'db'\norder: 5\ntier: audit\ningress: [{action: Allow, source: {selector: app == 'web'}}]"
    enforced = policy_of(resource(kind, spec))
    found = policy_of(resource(f"Staged{kind}", f"{spec}\nstagedAction: {action}"))
    assert found == dataclasses.replace(enforced, kind=f"Staged{kind}", staged=staged)
    assert found.becomes == enforced.title


def test_a_staged_deletion_names_what_it_deletes() -> None:
    """A policy that stages a deletion holds its tier and nothing else (libcalico-go/lib/validator/v3/validator.go)."""
    found = policy_of(resource("StagedGlobalNetworkPolicy", "stagedAction: Delete\ntier: audit\ntypes: [Ingress]"))
    assert (found.staged, found.becomes, found.tier) == ("delete", "GlobalNetworkPolicy c", "audit")
    _, wrong = read(resource("StagedNetworkPolicy", "stagedAction: Delete\nselector: all()\norder: 1"))
    assert wrong == [
        "6: spec.selector: a policy that stages a deletion holds nothing but its tier",
        "7: spec.order: a policy that stages a deletion holds nothing but its tier",
    ]


def test_a_staged_kubernetes_policy_is_one_of_kubernetes() -> None:
    """Its spec is that of Kubernetes beside the staged action (stagedkubernetesnetworkpolicy.go)."""
    spec = "podSelector: {matchLabels: {app: db}}\ningress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]\n"
    found = policy_of(resource("StagedKubernetesNetworkPolicy", f"{spec}stagedAction: Ignore"))
    assert (found.dialect, found.staged, found.tier, found.order) == (
        "kubernetes",
        "ignore",
        "default",
        KUBERNETES_ORDER,
    )
    assert (found.title, found.becomes) == ("StagedKubernetesNetworkPolicy shop/c", "NetworkPolicy shop/c")
    assert found.ingress[0].source == Block(Net(address_range("10.0.0.0/8")))
    assert found.subjects == Pods(In("app", ("db",)), namespace="shop")
    deleted = policy_of(resource("StagedKubernetesNetworkPolicy", "stagedAction: Delete"))
    assert deleted.staged == "delete"


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ("stagedAction: Later", ["5: spec.stagedAction: 'Later' is none of Set, Delete, Learn, Ignore"]),
        ("podselector: {}", ["5: spec.podselector: unknown field"]),
        ("order: 4", ["5: spec.order: unknown field"]),
        (
            "stagedAction: Delete\npodSelector: {matchLabels: {a: b}}",
            ["6: spec.podSelector: a policy that stages a deletion holds nothing but its tier"],
        ),
    ],
)
def test_what_a_staged_kubernetes_policy_may_not_hold(spec: str, wrong: list[str]) -> None:
    """Anything but the fields of Kubernetes and the staged action is an error (stagedkubernetesnetworkpolicy.go)."""
    assert read(resource("StagedKubernetesNetworkPolicy", spec))[1] == wrong


def test_types_of_a_staged_kubernetes_policy_default_as_those_of_the_policy_it_becomes() -> None:
    """Absent policyTypes read as Kubernetes defaults them when the policy is created (kubernetes/api networking/v1/types.go)."""
    assert policy_of(resource("StagedKubernetesNetworkPolicy", "egress: [{}]")).directions == {"ingress", "egress"}
    assert policy_of(resource("StagedKubernetesNetworkPolicy", "egress: []")).directions == {"ingress"}


@pytest.mark.parametrize("kind", [*POLICY_KINDS[2:], "StagedKubernetesNetworkPolicy"])
def test_staged_policies_are_not_enforced(kind: str) -> None:
    """Felix programs no staged policy, and a tier that holds only such is passed over (felix/rules/endpoints.go, check.go)."""
    text = resource(kind, "types: [Ingress]" if kind in POLICY_KINDS else "policyTypes: [Ingress]")
    assert ingress(text, WEB, staged="ignored") == "allowed"
    assert ingress(text, WEB, staged="enforced") == "denied"
    allow = namespaced("selector: app == 'db'\ningress: [{action: Allow, protocol: TCP}]", "a")
    found = [
        ingress(text + allow, WEB, port, protocol, staged="ignored") for port, protocol in ((80, "tcp"), (53, "udp"))
    ]
    assert found == ["allowed", "denied"]


@pytest.mark.parametrize(
    ("staged", "reach"),
    [
        ("stagedAction: Set\ningress: [{action: Allow, source: {selector: app == 'x'}}]", ["shop/x"]),
        ("stagedAction: Delete", ["shop/web", "shop/x"]),
        ("stagedAction: Ignore\ningress: [{action: Allow, source: {selector: app == 'x'}}]", ["shop/web"]),
        ("stagedAction: Learn\ningress: [{action: Allow, source: {selector: app == 'x'}}]", ["shop/web"]),
    ],
)
def test_what_a_staged_policy_would_change(staged: str, reach: list[str]) -> None:
    """A staged policy stands for the enforced one of its name: it replaces or deletes it, or nothing (policy_common.go)."""
    text = namespaced("ingress: [{action: Allow, source: {selector: app == 'web'}}]", "db")
    both = text + resource("StagedNetworkPolicy", staged, "db")
    pods = (WEB, pod("shop/x"))
    assert [one.name for one in pods if ingress(both, one, staged="enforced") == "allowed"] == reach
    assert [one.name for one in pods if ingress(both, one, staged="ignored") == "allowed"] == ["shop/web"]


@pytest.mark.parametrize("key", ["doNotTrack", "preDNAT", "applyOnForward"])
@pytest.mark.parametrize("kind", ["GlobalNetworkPolicy", "StagedGlobalNetworkPolicy"])
def test_switches_of_host_endpoints_are_refused_by_name_when_on(kind: str, key: str) -> None:
    """What is switched on for host endpoints is refused, off it is nothing (globalnetworkpolicy.go)."""
    assert read(resource(kind, f"{key}: true"))[1] == [f"5: spec.{key}: podfence does not judge this field"]
    assert read(resource(kind, f"{key}: 1"))[1] == [f"5: spec.{key}: expected true or false"]
    assert read(resource(kind, f"{key}: 0"))[1] == [f"5: spec.{key}: expected true or false"]
    assert policy_of(resource(kind, f"{key}: false")) == policy_of(resource(kind, "types: [Ingress]"))
    assert read(namespaced(f"{key}: false"))[1] == [f"5: spec.{key}: unknown field"]


@pytest.mark.parametrize(
    ("kind", "spec", "name", "kept", "found"),
    [
        ("NetworkPolicy", "order: 1", "default.db", "{}", "db"),
        ("NetworkPolicy", "tier: default", "default.db", "{}", "db"),
        ("NetworkPolicy", "tier: ''", "default.db", '{"name": ""}', "db"),
        ("NetworkPolicy", "order: 1", "db", "{}", "db"),
        ("StagedNetworkPolicy", "order: 1", "default.db", "{}", "db"),
        ("GlobalNetworkPolicy", "tier: audit", "audit.db", "{}", "audit.db"),
        ("GlobalNetworkPolicy", "tier: audit", "default.db", "{}", "default.db"),
        ("NetworkPolicy", "order: 1", "default.db", '{"name": "default.db"}', "default.db"),
        ("NetworkPolicy", "order: 1", "default.db", '{"name": "mine"}', "mine"),
        ("NetworkPolicy", "order: 1", "default.db", None, "default.db"),
    ],
)
def test_names_of_stored_policies(kind: str, spec: str, name: str, kept: str | None, found: str) -> None:
    """A stored policy's name is that in its annotation, or without `default.`; without one it stands (resources.go)."""
    note = "" if kept is None else f", annotations: {{projectcalico.org/metadata: '{kept}'}}"
    assert policy_of(resource(kind, spec, name, stored=True, metadata=note)).name == found
    assert policy_of(resource(kind, spec, name, metadata=note)).name == name


def test_an_annotation_that_cannot_be_read_is_an_error() -> None:
    """A stored object whose annotation is no JSON object is an error (k8s/resources/resources.go)."""
    text = resource(
        "NetworkPolicy", "order: 1", stored=True, metadata=", annotations: {projectcalico.org/metadata: '['}"
    )
    assert read(text)[1] == ["3: metadata.annotations.projectcalico.org/metadata: is no JSON object"]


@pytest.mark.parametrize(
    ("kind", "name", "taken"),
    [
        ("NetworkPolicy", "db", True),
        ("NetworkPolicy", "audit.db", True),
        ("NetworkPolicy", "knp.default.a.b.c", True),
        ("NetworkPolicy", "ossg.default.a", True),
        ("NetworkPolicy", "a.b.c", False),
        ("NetworkPolicy", "a_b", False),
        ("NetworkPolicy", "Db", False),
        ("NetworkPolicy", "a" * 253, True),
        ("NetworkPolicy", "a" * 254, False),
        ("GlobalNetworkPolicy", "audit.db", True),
        ("GlobalNetworkPolicy", "knp.default.a", False),
        ("StagedNetworkPolicy", "-a", False),
        ("StagedGlobalNetworkPolicy", "a.", False),
    ],
)
def test_names_of_policies(kind: str, name: str, taken: bool) -> None:
    """Names hold at most one dot (validator.go, networkPolicyNameRegex and globalNetworkPolicyNameRegex)."""
    assert (read(resource(kind, "order: 1", name))[1] == []) == taken


def test_a_wrong_name_is_told_where_it_stands() -> None:
    """A name that Calico does not take is noted at the name."""
    wrong = "3: metadata.name: 'a_b' is no name of a policy: lower-case letters, digits and -, with one dot at most"
    assert read(resource("NetworkPolicy", "order: 1", "a_b"))[1] == [wrong]


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ("selektor: all()", "5: spec.selektor: unknown field"),
        ("stagedAction: Set", "5: spec.stagedAction: unknown field"),
        (
            "selector: a = 'b'",
            "5: spec.selector: selector \"a = 'b'\": expected '==', found a single '=' (character 3)",
        ),
        (f"selector: {'a' * 1025}", "5: spec.selector: has 1025 characters, Calico takes 1024"),
        ("selector: ' '", "5: spec.selector: is blank; leave it out, or write all()"),
        ("selector: [a]", "5: spec.selector: expected text"),
        (
            "serviceAccountSelector: has()",
            "5: spec.serviceAccountSelector: selector 'has()': expected a label, found ')'",
        ),
        ("order: first", "5: spec.order: expected a number"),
        ("order: true", "5: spec.order: expected a number"),
        ("order: .inf", "5: spec.order: expected a number"),
        ("types: [Ingress, Ingress]", "5: spec.types: names a direction twice"),
        ("types: [ingress]", "5: spec.types[0]: 'ingress' is none of Ingress, Egress"),
        ("types: Ingress", "5: spec.types: expected a list, found text"),
        ("tier: Audit", "5: spec.tier: 'Audit' is no name of a tier"),
        ("tier: a.b", "5: spec.tier: 'a.b' is no name of a tier"),
        ("performanceHints: [Faster]", "5: spec.performanceHints[0]: 'Faster' is none of AssumeNeededOnEveryNode"),
        (
            "performanceHints: [AssumeNeededOnEveryNode, AssumeNeededOnEveryNode]",
            "5: spec.performanceHints: names a hint twice",
        ),
        ("ingress: {action: Allow}", "5: spec.ingress: expected a list, found a mapping"),
        ("ingress: [null]", "5: spec.ingress[0]: is null"),
        ("egress: [Allow]", "5: spec.egress[0]: expected a mapping, found text"),
    ],
)
@pytest.mark.parametrize("kind", ["NetworkPolicy", "GlobalNetworkPolicy"])
def test_broken_rules_of_policies_are_errors(kind: str, spec: str, rule: str) -> None:
    """What Calico's validation refuses is an error with its line, field and rule (validator.go; networkpolicy.go)."""
    wrong = read(resource(kind, spec))[1]
    assert len(wrong) == 1
    assert wrong[0].startswith(rule)


@pytest.mark.parametrize("key", ["selector", "serviceAccountSelector", "namespaceSelector"])
def test_global_selects_no_policy_subjects(key: str) -> None:
    """`global()` stands in no selector of a policy's own (validation rules in globalnetworkpolicy.go)."""
    assert "global() is allowed only alone" in read(everywhere(f"{key}: global()"))[1][0]


def test_a_namespaced_policy_has_no_namespace_selector() -> None:
    """Only global policies have a namespaceSelector (networkpolicy.go)."""
    assert read(namespaced("namespaceSelector: all()"))[1] == ["5: spec.namespaceSelector: unknown field"]


def test_all_broken_rules_are_told_at_once() -> None:
    """Every broken rule of an object is noted, not only the first."""
    text = everywhere("selector: a\norder: x\ndoNotTrack: true\ningress: [{action: No}, {}]")
    assert [rule.partition(":")[0] for rule in read(text)[1]] == ["7", "8", "8", "5", "6"]


def test_every_kind_of_the_api_is_read_or_harmless() -> None:
    """Each kind of the API is read, or known to say nothing about pods (register.go; libcalico-go/config/crd)."""
    policies = {*POLICY_KINDS, "StagedKubernetesNetworkPolicy"}
    referred = {"Tier", "NetworkSet", "GlobalNetworkSet", "HostEndpoint", "Profile"}
    others = {
        *("IPPool", "IPReservation", "BGPConfiguration", "BGPFilter", "BGPPeer", "FelixConfiguration"),
        *("KubeControllersConfiguration", "ClusterInformation", "CalicoNodeStatus", "IPAMConfiguration", "IPAMConfig"),
        *("IPAMHandle", "IPAMBlock", "BlockAffinity"),
    }
    assert set(calico.READERS) == policies | referred
    assert others | {"Node", "WorkloadEndpoint"} == calico.HARMLESS
    assert (referred | policies) - calico.CLUSTER_SCOPED == {
        *("NetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy", "NetworkSet"),
    }
    assert calico.API_VERSIONS == ("projectcalico.org/v3", "crd.projectcalico.org/v1")


JUNK = (
    None,
    "",
    "x",
    0,
    -1,
    70000,
    1.5,
    True,
    [],
    {},
    [None],
    [{}],
    {"a": "b"},
    ["a", "a"],
    [[]],
    "global()",
    "0.0.0.0/0",
)

COMPLETE = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: g, annotations: {}}
spec:
  selector: all()
  namespaceSelector: all()
  serviceAccountSelector: all()
  types: [Ingress, Egress]
  order: 5
  tier: audit
  performanceHints: [AssumeNeededOnEveryNode]
  doNotTrack: false
  ingress:
  - action: Allow
    protocol: TCP
    notProtocol: UDP
    ipVersion: 4
    metadata: {annotations: {a: b}}
    http: {methods: [GET], paths: [{exact: /a}]}
    source: {nets: [10.0.0.0/8], notNets: [10.1.0.0/16], selector: has(a), notSelector: has(b), ports: [80], notPorts: [81],
      namespaceSelector: global(), serviceAccounts: {names: [a], selector: has(c)}}
    destination: {ports: [80, '90:91', http], notPorts: [85]}
  egress:
  - {action: Deny, protocol: ICMP, icmp: {type: 3, code: 4}, notICMP: {type: 8}}
  - {action: Pass, destination: {services: {name: a, namespace: b}}}
"""


def _places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    inner: list[tuple[object, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, part in inner for place in _places(part, (*path, key)))]


def test_a_complete_policy_has_nothing_wrong_with_it() -> None:
    """Every field of a global policy can be given."""
    assert read(COMPLETE)[1] == []


@pytest.mark.parametrize("kind", calico.READERS)
def test_no_value_anywhere_stops_the_reading(kind: str) -> None:
    """Whatever stands in the place of a value, it is read or noted; nothing is raised."""
    dice = random.Random(4)  # noqa: S311 - no secret
    ((_, value),) = documents(COMPLETE)
    for place in _places(value["spec"]):
        for junk in JUNK:
            ((line, whole),) = documents(COMPLETE)
            whole["kind"] = kind
            if place:
                inside = whole["spec"]
                for step in place[:-1]:
                    inside = inside[step]
                inside[place[-1]] = junk
            else:
                whole["spec"] = junk
            namespace = None if kind in calico.CLUSTER_SCOPED else "shop"
            calico.READERS[kind](
                Field(whole, "", line, Report("p.yaml", kind)), namespace, dice.choice(("c", "kns.a", ""))
            )


def test_outside_addresses_are_governed_by_no_policy() -> None:
    """A policy governs pods: an address outside is only ever its peer."""
    assert ask(everywhere("types: [Egress]"), "egress", outside("1.2.3.4"), DB).outcome == "allowed"
    assert policy_of(everywhere("{}")).subjects == Pods(ALL, scheme="calico")
