"""What must not be called allowed: ends nobody knows, source ports beside Services, sets of unknown namespaces, nodes in blocks."""

import numpy as np
import pytest

from deploy import connectivity
from deploy.policies import engines_for
from deploy.population import Population
from deploy.semantics.ends import Endpoint, Ends, Lens
from deploy.semantics.traffic import Connection, Connections
from deploy.semantics.verdicts import Court, Verdict, judge_half
from tests.deploy.test_connectivity import Tables
from tests.deploy.world import DB, PROM, WEB, ask, calico, egress, ingress, kubernetes, outside, pod, policies
from tests.recordings import Story

UNKNOWN = Endpoint("unknown", ip="10.0.0.7")
API_SERVER = Endpoint("apiserver", ip="192.168.0.1")
CLUSTER_DENIAL = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: c}
spec: {tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}
"""
CILIUM_DENIAL = """
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: c}
spec: {endpointSelector: {}, enableDefaultDeny: {ingress: false}, ingressDeny: [{fromEntities: [all]}]}
"""


@pytest.mark.parametrize("text", [CLUSTER_DENIAL, CILIUM_DENIAL])
def test_denials_that_isolate_nobody_leave_an_end_open_that_nobody_knows(text: str) -> None:
    """Whom nobody knows may be a pod that a denial governs (network-policy-api site-src/api-overview.md; Cilium, "Deny Policies")."""
    found = ask(text, "ingress", WEB, UNKNOWN)
    assert (found.outcome, found.reason) == ("undetermined", "unresolved")
    assert ask(text, "egress", UNKNOWN, WEB).outcome == "allowed", "no rule of this direction denies anything"


@pytest.mark.parametrize("ports", ["ports: [1234]", "notPorts: [1234]"])
def test_source_ports_beside_a_service_are_not_recorded_so_the_rule_is_left_open(ports: str) -> None:
    """All that a rule says must hold, source ports beside services too (projectcalico/calico felix/calc/rule_scanner.go)."""
    rule = f"{{action: Allow, protocol: TCP, source: {{{ports}}}, destination: {{services: {{name: db, namespace: shop}}}}}}"
    given = policies(calico(f"selector: app == 'web'\ntypes: [Egress]\negress: [{rule}]"))
    served = pod("shop/db", services=(("shop/db", "tcp", 5432),))
    engines, known = engines_for("calico", [given]), frozenset({"shop/db"})
    asked = [judge_half(given, engines, "egress", WEB, served, Connection("tcp", port), known) for port in (5432, 5433)]
    assert [(one.outcome, one.reason) for one in asked] == [("undetermined", "source-port"), ("denied", "isolation")]


def among(text: str, ends: list[Endpoint]) -> Verdict:
    """Return the ingress half of the first end to the second, with all the others there."""
    given = policies(text)
    seen = Ends(ends, Lens.of([given]))
    court = Court(given, engines_for("calico", [given]), seen, Connections([Connection("tcp", 80)]))
    left, right, itself = seen.pairs(np.array([0]), np.array([1]))
    return court.verdict("ingress", court.judge("ingress", left, right, np.array([0]), itself), 0)


def test_a_set_of_a_namespace_whose_labels_nobody_knows_is_left_open() -> None:
    """A set inherits its namespace's labels (felix/labelindex/named_port_index.go), and unknown ones are not absent ones."""
    rule = "{action: Allow, source: {namespaceSelector: \"team != 'blue'\", selector: role == 'set'}}"
    text = (
        "apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {name: nets, namespace: mon, labels: {role: set}}\n"
        "spec: {nets: [203.0.113.0/24]}\n---\n"
    ) + calico(f"selector: app == 'db'\ntypes: [Ingress]\ningress: [{rule}]")
    vague = Endpoint("pod", ip="10.0.0.8", name="mon/old", namespace="mon", vague=frozenset({"namespace"}))
    assert among(text, [outside("203.0.113.1"), DB, PROM]).outcome == "denied"
    for others in ([vague], [PROM, vague]):
        found = among(text, [outside("203.0.113.1"), DB, *others])
        assert (found.outcome, found.reason) == ("undetermined", "labels")


def test_a_block_may_miss_an_api_server_that_is_a_node_with_cilium() -> None:
    """Blocks match no nodes, and the API server may be one (Cilium, layer3.rst, 'Selecting nodes with CIDR / ipBlock')."""
    text = kubernetes("""\
        podSelector: {matchLabels: {app: web}}
        policyTypes: [Egress]
        egress: [{to: [{ipBlock: {cidr: 192.168.0.0/24}}]}]
        """)
    found = ask(text, "egress", WEB, API_SERVER, 6443, profile="cilium")
    assert (found.outcome, found.reason) == ("undetermined", "ip-block")
    assert egress(text, API_SERVER, 6443, profile="calico") == "allowed"
    assert egress(text, Endpoint("apiserver", ip="10.0.0.1"), 6443, profile="cilium") == "denied"


def test_a_port_name_of_a_selector_means_no_pod_that_only_lies_in_a_set() -> None:
    """A port name beside a selector is looked up among the pods it selects (felix/calc/rule_scanner.go, ruleToParsedRule)."""
    text = (
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: nets, labels: {role: set}}\n"
        "spec: {nets: [10.0.0.0/24]}\n---\n"
    )

    def to(selector: str, ports: str, port: int) -> str:
        peer = f"{{namespaceSelector: {selector}, ports: {ports}}}"
        rule = f"{{action: Allow, protocol: TCP, destination: {peer}}}"
        given = text + calico(f"selector: app == 'web'\ntypes: [Egress]\negress: [{rule}]")
        return egress(given, DB, port, profile="calico")

    assert to("global()", "[pg]", 5432) == "denied"
    assert to("global()", "[pg, 5432]", 5432) == "allowed"
    assert to("global()", "[pg, 80]", 5432) == "denied"
    assert to("global()", "[pg, 80]", 80) == "allowed"
    assert to("all()", "[pg]", 5432) == "allowed"
    assert to("all()", "[pg]", 80) == "denied"


def test_calicos_label_of_namespaces_is_no_label_to_other_engines() -> None:
    """No namespace carries `projectcalico.org/name`: Calico adds it by itself (conversion.go, NamespaceToProfile)."""
    text = """\
        podSelector: {}
        ingress: [{from: [{namespaceSelector: {matchLabels: {projectcalico.org/name: mon}}}]}]
        """
    asked = {name: ask(kubernetes(text), "ingress", PROM, DB, profile=name) for name in ("calico", "cilium", "strict")}
    assert asked["calico"].outcome == "allowed"
    assert (asked["cilium"].outcome, asked["cilium"].reason) == ("undetermined", "labels")
    assert asked["strict"].outcome == "undetermined"
    assert ingress(kubernetes(text), WEB, profile="cilium") == "denied"
    negated = kubernetes("""\
        podSelector: {}
        ingress:
        - from: [{namespaceSelector: {matchExpressions: [{key: projectcalico.org/name, operator: NotIn, values: [mon]}]}}]
        """)
    assert [ingress(negated, PROM, profile=name) for name in ("calico", "cilium")] == ["denied", "undetermined"]


def test_the_map_knows_what_a_port_name_means_on_other_pods() -> None:
    """Where engines mix up numbers of a name (cilium/cilium issue 30003), the map lists no such port as allowed."""
    story = Story()
    story.add("Namespace", "shop", {"metadata": {"labels": {}}})
    for name, number in (("db", 443), ("web", 5432)):
        story.pod(f"shop/{name}", labels={"app": name}, ports=[("main", number, "TCP")])
    given = policies("""\
        apiVersion: cilium.io/v2
        kind: CiliumNetworkPolicy
        metadata: {name: c, namespace: shop}
        spec:
          endpointSelector: {matchLabels: {app: db}}
          ingress: [{fromEntities: [all]}]
          ingressDeny: [{fromEndpoints: [{}], toPorts: [{ports: [{port: main, protocol: TCP}]}]}]
        """)
    found = connectivity(given, Population.of(Tables(story)), profile="cilium", by="pod")
    ways = [
        [one.ports for one in kind if (one.source, one.destination, one.protocol) == ("shop/web", "shop/db", "tcp")]
        for kind in (found.connections, found.undetermined)
    ]
    assert ways == [["1-442,444-5431,5433-65535"], ["443,5432"]]


def test_a_pods_own_label_goes_before_one_that_calico_adds_from_its_namespace() -> None:
    """Labels of an endpoint hide inherited ones, so a pod may name a namespace of its own (felix/labelindex/named_port_index.go)."""
    rule = "{action: Allow, source: {namespaceSelector: team == 'red', serviceAccounts: {selector: role != 'x'}}}"
    text = calico(f"selector: app == 'db'\ntypes: [Ingress]\ningress: [{rule}]")
    accounts = {"service_account_labels": (("role", "y"),)}
    asked = [pod("mon/prom", labels, **accounts) for labels in ({"pcns.team": "red"}, {"team": "red"})]
    asked += [pod("shop/web", labels, **accounts) for labels in ({"pcns.team": "blue"}, {"pcsa.role": "x"}, {})]
    found = [ingress(text, one, profile="calico") for one in asked]
    assert found == ["allowed", "denied", "denied", "denied", "allowed"]


def test_no_label_goes_before_the_three_that_calico_sets_itself() -> None:
    """Calico writes namespace and account over a pod's labels, no long account (conversion/workload_endpoint_default.go)."""
    rule = "{action: Allow, source: {serviceAccounts: {names: [%s]}}}"
    text = calico("selector: app == 'db'\ntypes: [Ingress]\ningress: [%s]")
    forged = pod("mon/prom", {"projectcalico.org/namespace": "shop", "projectcalico.org/serviceaccount": "a"})
    assert ingress(text % "{action: Allow, source: {selector: all()}}", forged, profile="calico") == "denied"
    assert ingress(text % rule % "a", pod("shop/web", service_account="a"), profile="calico") == "allowed"
    assert ingress(text % rule % "a", forged, profile="calico") == "denied"
    long = "a" * 63
    asked = [pod("shop/web", service_account=name) for name in (long[1:], long)]
    assert [ingress(text % rule % one.service_account, one, profile="calico") for one in asked] == ["allowed", "denied"]


def test_calicos_label_of_namespaces_is_no_label_to_ciliums_selectors() -> None:
    """Identities hold the labels that namespaces carry (cilium/cilium pkg/k8s/metadata.go, GetPodMetadata), not Calico's."""
    key = "k8s:io.cilium.k8s.namespace.labels."
    text = """\
        apiVersion: cilium.io/v2
        kind: CiliumNetworkPolicy
        metadata: {name: c, namespace: shop}
        spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {%s: mon}}]}]}
        """
    names = ("projectcalico.org/name", "kubernetes.io/metadata.name")
    assert [ingress(text % f"'{key}{name}'", PROM, profile="cilium") for name in names] == ["denied", "allowed"]
