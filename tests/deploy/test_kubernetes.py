"""Each rule of the NetworkPolicy API reference and its defaults, one test a rule; then what the API leaves to the engines.

Sources, as the tests name them: `types.go` is kubernetes/api networking/v1/types.go, `defaults.go` is kubernetes/kubernetes
pkg/apis/networking/v1/defaults.go, `concepts` is the page "Network Policies" at kubernetes.io/docs/concepts/services-networking.
What an engine does has its source beside the answer in deploy/semantics/profiles.
"""

import pytest

from deploy.semantics.ends import Endpoint
from tests.deploy.world import DB, PROM, WEB, ask, egress, ingress, kubernetes, outside, pod

OWN_NODE = Endpoint("node", ip="192.168.0.1", name="node-a")
OTHER_NODE = Endpoint("node", ip="192.168.0.2", name="node-b")
PLAIN = "calico,kube-network-policies"
"""Engines that do what the API says in the cases below where others are known to do something else."""
DENY = kubernetes("policyTypes: [Ingress, Egress]", "deny")
BLOCK = """\
policyTypes: [Ingress, Egress]
ingress: [{from: [{ipBlock: {cidr: %s}}]}]
egress: [{to: [{ipBlock: {cidr: %s}}]}]
"""


def block(prefix: str) -> str:
    """Return a policy that lets a prefix in and out."""
    return kubernetes(BLOCK % (prefix, prefix))


def test_a_pod_that_no_policy_selects_is_open() -> None:
    """A pod that no policy selects is open (concepts, 'The two sorts of pod isolation')."""
    text = kubernetes("podSelector: {matchLabels: {app: other}}")
    assert ask(text, "ingress", WEB, DB).reason == "not-isolated"


def test_a_policy_selects_only_in_its_own_namespace() -> None:
    """A policy selects only in its own namespace (types.go, NetworkPolicySpec.podSelector)."""
    assert ingress(kubernetes("podSelector: {}", namespace="mon"), WEB) == "allowed"


@pytest.mark.parametrize("spec", ["podSelector: {}", "policyTypes: [Ingress]", "podSelector: null"])
def test_an_empty_or_absent_pod_selector_selects_all_pods_of_the_namespace(spec: str) -> None:
    """An empty or absent pod selector selects all pods of the namespace (types.go, NetworkPolicySpec.podSelector)."""
    assert ingress(kubernetes(spec), WEB) == "denied"


def test_isolation_in_one_direction_leaves_the_other_open() -> None:
    """Isolation in one direction leaves the other open (concepts, 'The two sorts of pod isolation')."""
    text = kubernetes("policyTypes: [Ingress]")
    assert (ingress(text, WEB), egress(text, DB)) == ("denied", "allowed")


def test_absent_types_isolate_ingress_and_egress_only_when_it_has_rules() -> None:
    """Absent types isolate ingress and egress only when it has rules (defaults.go, SetDefaults_NetworkPolicy)."""
    with_rules = kubernetes("egress: [{ports: [{port: 53}]}]")
    assert (ingress(with_rules, WEB), egress(with_rules, DB, 80), egress(with_rules, DB, 53)) == (
        "denied",
        "denied",
        "allowed",
    )
    without = kubernetes("egress: []")
    assert (ingress(without, WEB), egress(without, DB)) == ("denied", "allowed")


def test_empty_types_are_absent_types() -> None:
    """Empty types are absent types (defaults.go, SetDefaults_NetworkPolicy)."""
    assert ingress(kubernetes("policyTypes: []"), WEB) == "denied"


def test_rules_of_a_direction_that_is_not_among_the_types_have_no_effect() -> None:
    """Rules of a direction that is not among the types have no effect (types.go, NetworkPolicySpec.policyTypes)."""
    text = kubernetes("policyTypes: [Egress]\ningress: [{ports: [{port: 1}]}]")
    assert (ingress(text, WEB), egress(text, DB)) == ("allowed", "denied")
    other = kubernetes("policyTypes: [Ingress]\negress: [{ports: [{port: 1}]}]")
    assert (ingress(other, WEB), egress(other, DB)) == ("denied", "allowed")


@pytest.mark.parametrize("rules", ["", "ingress: []", "ingress: null"])
def test_absent_and_empty_rules_allow_nothing(rules: str) -> None:
    """Absent and empty rules allow nothing (types.go, NetworkPolicySpec.ingress)."""
    assert ingress(kubernetes(f"policyTypes: [Ingress]\n{rules}"), WEB) == "denied"


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp", "icmp", "47"])
def test_an_empty_rule_allows_every_peer_port_and_protocol(protocol: str) -> None:
    """An empty rule allows every peer port and protocol (concepts, 'Allow all ingress traffic')."""
    port = None if protocol in ("icmp", "47") else 9999
    engines = "strict" if protocol != "sctp" else "aws,calico,kube-network-policies,kube-router,npm"
    for source in (WEB, PROM, outside("203.0.113.1"), OTHER_NODE):
        assert ingress(kubernetes("ingress: [{}]"), source, port, protocol, profile=engines) == "allowed"


@pytest.mark.parametrize("peers", ["", "from: []", "from: null"])
def test_absent_and_empty_peers_are_anybody(peers: str) -> None:
    """Absent and empty peers are anybody (types.go, NetworkPolicyIngressRule.from)."""
    text = kubernetes(f"ingress:\n- ports: [{{port: 80}}]\n  {peers}")
    assert ingress(text, outside("203.0.113.1")) == "allowed"
    assert ingress(text, PROM) == "allowed"
    assert ingress(text, OTHER_NODE) == "allowed"
    assert ingress(text, PROM, 81) == "denied"


@pytest.mark.parametrize("ports", ["", "ports: []"])
def test_absent_and_empty_ports_are_all_ports_of_all_protocols(ports: str) -> None:
    """Absent and empty ports are all ports of all protocols (types.go, NetworkPolicyIngressRule.ports)."""
    text = kubernetes(f"ingress:\n- from: [{{podSelector: {{}}}}]\n  {ports}")
    found = [ingress(text, WEB, 1, protocol, profile="calico") for protocol in ("tcp", "udp", "sctp", "47")]
    assert found == ["allowed"] * 4
    assert ingress(text, WEB, None, "icmp", icmp=(8, 0)) == "allowed"


def test_a_port_without_protocol_is_tcp() -> None:
    """A port without protocol is TCP.

    Source: types.go, NetworkPolicyPort.protocol; defaults.go, SetDefaults_NetworkPolicyPort.
    """
    text = kubernetes("ingress: [{ports: [{port: 80}]}]")
    assert (ingress(text, WEB, 80), ingress(text, WEB, 80, "udp")) == ("allowed", "denied")


def test_a_protocol_without_port_is_all_its_ports() -> None:
    """A protocol without port is all its ports (types.go, NetworkPolicyPort.port)."""
    text = kubernetes("ingress: [{ports: [{protocol: UDP}]}]")
    assert (ingress(text, WEB, 5, "udp"), ingress(text, WEB, 5)) == ("allowed", "denied")


def test_an_empty_port_entry_is_all_of_tcp() -> None:
    """An empty port entry is all of TCP (types.go, NetworkPolicyPort; defaults.go, SetDefaults_NetworkPolicyPort)."""
    text = kubernetes("ingress: [{ports: [{}]}]")
    assert (ingress(text, WEB, 5), ingress(text, WEB, 5, "udp")) == ("allowed", "denied")


def test_a_named_port_is_resolved_on_the_destination_by_name_and_protocol() -> None:
    """A port name stands for the number that the destination's own container gives it (types.go, NetworkPolicyPort.port)."""
    text = kubernetes(
        "policyTypes: [Egress, Ingress]\negress: [{ports: [{port: pg}]}]\ningress: [{ports: [{port: pg}]}]"
    )
    one, two = pod("mon/one", ports=[("pg", 6000, "tcp")]), pod("mon/two", ports=[("pg", 7000, "udp")])
    assert ingress(text, WEB, 5432, profile=PLAIN) == "allowed"
    assert ingress(text, one, 6000, profile=PLAIN) == "denied"
    assert egress(text, one, 6000, profile=PLAIN) == "allowed"
    assert egress(text, one, 5432, profile=PLAIN) == "denied"
    assert egress(text, two, 7000, profile=PLAIN) == "denied"
    assert egress(text, two, 7000, "udp", profile=PLAIN) == "denied"
    assert egress(text, DB, 5432, profile=PLAIN) == "allowed"
    assert egress(text, pod("mon/plain"), 5432, profile=PLAIN) == "denied"


def test_a_port_name_means_another_number_on_each_pod() -> None:
    """On egress each destination resolves its own number; an engine that cannot is in doubt (cilium/cilium issue 30003)."""
    text = kubernetes("policyTypes: [Ingress]\ningress: [{ports: [{port: pg}]}]")
    other = pod("shop/web", ports=[("pg", 6000, "tcp")])
    assert ask(text, "ingress", other, DB, 5432, profile="calico").outcome == "allowed"
    assert ask(text, "ingress", other, DB, 5432, profile="cilium").reason == "port"


def test_a_named_port_matches_no_address_outside() -> None:
    """A named port matches no address outside (types.go, NetworkPolicyPort.port: a named port on a pod)."""
    text = kubernetes("policyTypes: [Egress]\negress: [{ports: [{port: pg}]}]")
    assert egress(text, outside("203.0.113.1"), 5432) == "denied"


@pytest.mark.parametrize(("port", "outcome"), [(79, "denied"), (80, "allowed"), (90, "allowed"), (91, "denied")])
def test_end_port_is_inclusive(port: int, outcome: str) -> None:
    """End port is inclusive (types.go, NetworkPolicyPort.endPort)."""
    assert ingress(kubernetes("ingress: [{ports: [{port: 80, endPort: 90}]}]"), WEB, port) == outcome


def test_a_pod_selector_alone_stays_in_the_policys_namespace() -> None:
    """A pod selector alone stays in the policy's namespace (types.go, NetworkPolicyPeer.podSelector)."""
    text = kubernetes("ingress: [{from: [{podSelector: {}}]}]")
    assert (ingress(text, WEB), ingress(text, PROM)) == ("allowed", "denied")


def test_a_namespace_selector_alone_is_all_pods_of_those_namespaces() -> None:
    """A namespace selector alone is all pods of those namespaces (types.go, NetworkPolicyPeer.namespaceSelector)."""
    text = kubernetes("ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]")
    assert (ingress(text, PROM), ingress(text, WEB)) == ("allowed", "denied")


def test_an_empty_namespace_selector_is_all_pods_but_nobody_outside() -> None:
    """An empty namespace selector is all pods but nobody outside (types.go, NetworkPolicyPeer.namespaceSelector)."""
    text = kubernetes("ingress: [{from: [{namespaceSelector: {}}]}]")
    assert ingress(text, PROM) == "allowed"
    assert ingress(text, pod("bare/x")) == "allowed"
    assert ingress(text, outside("203.0.113.1")) == "denied"


def test_every_namespace_carries_its_name_as_a_label() -> None:
    """Every namespace carries its name as a label (concepts, 'Targeting a Namespace by its name')."""
    text = kubernetes("ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bare}}}]}]")
    assert (ingress(text, pod("bare/x")), ingress(text, PROM)) == ("allowed", "denied")


def test_two_selectors_in_one_item_are_and_in_two_items_or() -> None:
    """Two selectors in one item are and in two items or (concepts, 'Behavior of to and from selectors')."""
    both = "namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: prom}}"
    one = kubernetes(f"ingress: [{{from: [{{{both}}}]}}]")
    two = kubernetes(f"ingress: [{{from: [{{{both.replace(', pod', '}, {pod')}}}]}}]")
    other, own = pod("mon/other"), pod("shop/prom")
    assert [ingress(one, source) for source in (PROM, other, own)] == ["allowed", "denied", "denied"]
    assert [ingress(two, source) for source in (PROM, other, own)] == ["allowed", "allowed", "allowed"]


def test_except_is_taken_out_of_its_own_block_only() -> None:
    """Except is taken out of its own block only (types.go, IPBlock.except)."""
    block = "{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.8/29]}}"
    text = kubernetes(f"ingress: [{{from: [{block}]}}]")
    addresses = ("203.0.113.7", "203.0.113.8", "203.0.113.15", "203.0.113.16", "203.0.114.1")
    assert [ingress(text, outside(ip)) for ip in addresses] == ["allowed", "denied", "denied", "allowed", "denied"]
    wider = kubernetes(f"ingress: [{{from: [{block}, {{ipBlock: {{cidr: 203.0.0.0/16}}}}]}}]")
    assert ingress(wider, outside("203.0.113.8"), profile=PLAIN) == "allowed"


def test_blocks_of_one_family_say_nothing_of_the_other() -> None:
    """Blocks of one family say nothing of the other (types.go, IPBlock.cidr)."""
    text = kubernetes("ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]")
    assert (ingress(text, outside("2001:db8::1")), ingress(text, outside("203.0.113.1"))) == ("denied", "allowed")
    six = kubernetes("ingress: [{from: [{ipBlock: {cidr: '2001:db8::/32', except: ['2001:db8:1::/48']}}]}]")
    assert (ingress(six, outside("2001:db8::1")), ingress(six, outside("2001:db8:1::1"))) == ("allowed", "denied")


def test_a_folded_prefix_is_judged_whole() -> None:
    """A folded prefix is judged whole (types.go, IPBlock)."""
    text = kubernetes("ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.128/25]}}]}]")
    prefixes = ("203.0.113.0/25", "203.0.113.128/26", "203.0.113.0/24", "198.51.100.0/24")
    assert [ingress(text, outside(ip)) for ip in prefixes] == ["allowed", "denied", "undetermined", "denied"]


@pytest.mark.parametrize(
    ("term", "labels", "outcome"),
    [
        ("{key: env, operator: In, values: [dev, test]}", {"env": "test"}, "allowed"),
        ("{key: env, operator: In, values: [dev, test]}", {}, "denied"),
        ("{key: env, operator: NotIn, values: [dev]}", {"env": "dev"}, "denied"),
        ("{key: env, operator: NotIn, values: [dev]}", {"env": "prod"}, "allowed"),
        ("{key: env, operator: NotIn, values: [dev]}", {}, "allowed"),
        ("{key: env, operator: Exists}", {"env": ""}, "allowed"),
        ("{key: env, operator: Exists}", {}, "denied"),
        ("{key: env, operator: DoesNotExist}", {}, "allowed"),
        ("{key: env, operator: DoesNotExist}", {"env": "x"}, "denied"),
    ],
)
def test_match_expressions(term: str, labels: dict[str, str], outcome: str) -> None:
    """Match expressions (kubernetes/apimachinery pkg/labels/selector.go, Requirement.Matches)."""
    text = kubernetes(f"ingress: [{{from: [{{podSelector: {{matchExpressions: [{term}]}}}}]}}]")
    assert ingress(text, pod("shop/x", labels)) == outcome


def test_labels_and_expressions_must_all_hold() -> None:
    """Labels and expressions must all hold (kubernetes/apimachinery pkg/apis/meta/v1/types.go, LabelSelector)."""
    selector = "{matchLabels: {a: '1', b: '2'}, matchExpressions: [{key: c, operator: Exists}]}"
    text = kubernetes(f"ingress: [{{from: [{{podSelector: {selector}}}]}}]")
    assert ingress(text, pod("shop/x", {"a": "1", "b": "2", "c": ""})) == "allowed"
    assert ingress(text, pod("shop/x", {"a": "1", "c": ""})) == "denied"
    assert ingress(text, pod("shop/x", {"a": "1", "b": "2"})) == "denied"


def test_several_policies_add_up() -> None:
    """Several policies add up (concepts, 'The two sorts of pod isolation': policies are additive)."""
    text = kubernetes("podSelector: {}", "deny") + kubernetes("ingress: [{ports: [{port: 80}]}]", "allow")
    verdict = ask(text, "ingress", WEB, DB, 80)
    assert (verdict.outcome, verdict.by) == ("allowed", "NetworkPolicy shop/allow ingress[0]")
    assert ingress(text, WEB, 81) == "denied"


def test_a_denied_half_names_who_isolates() -> None:
    """A denied half names who isolates (concepts, 'The two sorts of pod isolation')."""
    verdict = ask(kubernetes("podSelector: {}", "deny"), "ingress", WEB, DB)
    assert (verdict.reason, verdict.by) == ("isolation", "NetworkPolicy shop/deny")


def test_a_policy_names_ports_of_the_responder_only() -> None:
    """Ports are the destination's in both directions (types.go, NetworkPolicyIngressRule.ports)."""
    text = kubernetes("policyTypes: [Egress]\negress: [{ports: [{port: 5432}]}]")
    assert (egress(text, DB, 5432), egress(text, DB, 80)) == ("allowed", "denied")


def test_both_families_of_a_pod_are_the_pod() -> None:
    """A selector means a pod whatever family its address is of (types.go, NetworkPolicyPeer; status.podIPs)."""
    text = kubernetes("ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]")
    for ip in ("10.0.0.9", "2001:db8:2::9"):
        found = [ingress(text, pod(name, ip=ip), profile="calico") for name in ("shop/web", "shop/other")]
        assert found == ["allowed", "denied"]


def test_a_host_network_pod_is_its_node() -> None:
    """Selectors do not mean a host-network pod, and policies do not govern it.

    Source: concepts, 'NetworkPolicy and hostNetwork pods': the most common way.
    """
    text = kubernetes("ingress: [{from: [{podSelector: {}}]}]")
    guest = pod("shop/web", host_network=True, node="node-b", ip="192.168.0.2")
    assert ask(text, "ingress", guest, DB, profile="calico,cilium,kube-router").outcome == "denied"
    assert ask(text, "ingress", guest, DB, profile="npm").reason == "node"
    verdict = ask(text, "ingress", WEB, pod("shop/db", host_network=True))
    assert (verdict.outcome, verdict.reason) == ("allowed", "host-network")
    assert ask(kubernetes("ingress: [{}]"), "ingress", guest, DB).outcome == "allowed"


def test_icmp_under_isolation_is_the_engines_business() -> None:
    """Deny-all is certain for TCP, UDP and SCTP only; kube-router always lets some ICMP through (concepts, 'Default policies')."""
    echo = ask(DENY, "ingress", WEB, DB, None, "icmp", icmp=(8, 0))
    assert (echo.outcome, echo.reason, dict(echo.engines)["kube-router"]) == ("undetermined", "engines", "allowed")
    for kind in (3, 11):
        assert ingress(DENY, WEB, None, "icmp", icmp=(kind, 0), profile="kube-router") == "allowed"
    assert ingress(DENY, WEB, None, "icmp", icmp=(13, 0)) == "denied"
    assert ingress(DENY, WEB, None, "47") == "denied"
    assert ingress(kubernetes("ingress: [{ports: [{port: 80}]}]"), WEB, None, "icmp", icmp=(13, 0)) == "denied"


def test_neighbour_discovery_passes_in_calico() -> None:
    """IPv6 needs its neighbours whatever the policies say (projectcalico/calico felix/rules/static.go)."""
    found = [ingress(DENY, WEB, None, "icmpv6", icmp=(kind, 0), profile="calico") for kind in (135, 136, 128)]
    assert found == ["allowed", "allowed", "denied"]


def test_what_reaches_a_pod_from_itself_is_the_engines_business() -> None:
    """A pod that reaches itself through a Service: engines differ.

    Source: kubernetes/kubernetes test/e2e/network/netpol/network_policy.go, ignoreLoopback.
    """
    verdict = ask(DENY, "ingress", DB, DB)
    assert (verdict.outcome, verdict.reason) == ("undetermined", "itself")
    assert ingress(DENY, DB, profile="kube-network-policies") == "denied"
    assert ingress(DENY, DB, profile="cilium") == "allowed"
    assert ingress(kubernetes("ingress: [{from: [{podSelector: {}}]}]"), DB) == "allowed"


@pytest.mark.parametrize("engine", ["aws", "calico", "kube-network-policies", "kube-router", "npm", "npm-windows"])
def test_a_block_matches_pods_by_their_addresses_in_most_engines(engine: str) -> None:
    """`ipBlock` looks at addresses whoever holds them, except in Cilium (concepts, 'ipBlock'; profiles, block-matches-pods)."""
    text = block("10.0.0.0/24")
    found = [ingress(text, WEB, profile=engine), egress(text, DB, profile=engine)]
    assert found == ["allowed", "allowed"]
    assert [ingress(text, WEB, profile="cilium"), egress(text, DB, profile="cilium")] == ["denied", "denied"]
    assert ask(text, "ingress", WEB, DB).reason == "engines"


@pytest.mark.parametrize("engine", ["aws", "calico", "kube-network-policies", "kube-router", "npm"])
def test_a_block_matches_nodes_by_their_addresses_in_most_engines(engine: str) -> None:
    """`ipBlock` looks at addresses of nodes, too, except in Cilium (profiles, block-matches-nodes)."""
    text = block("192.168.0.0/24")
    guest = pod("shop/proxy", host_network=True, node="node-b", ip="192.168.0.2")
    for other in (OTHER_NODE, guest):
        assert [ingress(text, other, profile=engine), egress(text, other, profile=engine)] == ["allowed", "allowed"]
        assert [ingress(text, other, profile="cilium"), egress(text, other, profile="cilium")] == ["denied", "denied"]


def test_probes_of_the_own_node_always_arrive() -> None:
    """The kubelet of its own node reaches a pod whatever its policies say (concepts, 'Default policies'; own-node-ingress)."""
    verdict = ask(DENY, "ingress", OWN_NODE, DB)
    assert (verdict.outcome, verdict.reason) == ("allowed", "own-node")
    assert ingress(DENY, OWN_NODE, profile="npm-windows") == "allowed"


@pytest.mark.parametrize(
    ("engine", "outcome"),
    [
        ("aws", "allowed"),
        ("calico", "denied"),
        ("cilium", "denied"),
        ("kube-network-policies", "denied"),
        ("kube-router", "denied"),
        ("npm", "allowed"),
        ("npm-windows", "undetermined"),
    ],
)
def test_a_pod_reaches_its_own_node_as_the_engine_has_it(engine: str, outcome: str) -> None:
    """Egress isolation includes the own node in some engines and not in others (profiles, own-node-egress)."""
    assert egress(DENY, OWN_NODE, profile=engine) == outcome
    assert egress(DENY, OWN_NODE) == "undetermined"
    assert egress(DENY, OTHER_NODE, profile="calico,npm") == "denied"


def test_what_arrives_by_another_node_may_be_a_translated_client() -> None:
    """A node's address stands for clients of its NodePorts, which Azure NPM may let pass (profiles, other-node-ingress)."""
    assert ingress(DENY, OTHER_NODE, profile="calico") == "denied"
    verdict = ask(DENY, "ingress", OTHER_NODE, DB, profile="npm")
    assert (verdict.outcome, verdict.reason) == ("undetermined", "node")


def test_end_port_counts_in_every_engine_of_today() -> None:
    """All current engines enforce `endPort`; Cilium does from 1.17 (profiles, port-ranges)."""
    text = kubernetes("ingress: [{ports: [{port: 80, endPort: 90}]}]")
    for engine in ("aws", "calico", "cilium", "kube-network-policies", "kube-router", "npm"):
        assert [ingress(text, WEB, port, profile=engine) for port in (80, 85, 91)] == ["allowed", "allowed", "denied"]


def test_sctp_is_not_for_every_engine() -> None:
    """Cilium enforces SCTP only where it is switched on, and drops it elsewhere (profiles, sctp)."""
    text = kubernetes("ingress: [{ports: [{port: 80, protocol: SCTP}]}]")
    assert [ingress(text, WEB, port, "sctp", profile="calico") for port in (80, 81)] == ["allowed", "denied"]
    verdicts = [ask(text, "ingress", WEB, DB, port, "sctp", profile="cilium") for port in (80, 81)]
    assert [(one.outcome, one.reason) for one in verdicts] == [("undetermined", "sctp"), ("denied", "isolation")]


def test_azure_npm_leaves_ipv6_alone() -> None:
    """Azure NPM enforces nothing on IPv6 (profiles, ipv6)."""
    web, other = pod("shop/web", ip="2001:db8:2::1"), pod("shop/db", ip="2001:db8:2::2")
    assert ask(DENY, "ingress", web, other, profile="calico").outcome == "denied"
    verdict = ask(DENY, "ingress", web, other, profile="npm")
    assert (verdict.outcome, verdict.reason) == ("allowed", "ipv6")


def test_a_negated_namespace_lets_outside_traffic_in_with_azure_npm() -> None:
    """A defect of NPM 1.5.0: a peer that only negates namespace labels matches addresses that are no pods, too.

    Source: Azure/azure-container-networking v1.5.0 npm/pkg/controlplane/translation/translatePolicy.go, nameSpaceSelector.
    """
    term = "{matchExpressions: [{key: team, operator: NotIn, values: [red]}]}"
    text = kubernetes(f"ingress: [{{from: [{{namespaceSelector: {term}}}]}}]")
    world = outside("203.0.113.1")
    assert [ingress(text, world, profile=engine) for engine in ("npm", "calico")] == ["allowed", "denied"]
    assert [ingress(text, source, profile="npm") for source in (PROM, WEB)] == ["allowed", "denied"]
    pods = kubernetes(f"ingress: [{{from: [{{podSelector: {term}}}]}}]")
    assert ingress(pods, world, profile="npm") == "denied"


def test_an_empty_rule_beside_others_has_no_effect_in_azure_npm() -> None:
    """A defect of NPM 1.5.0: `{}` beside other rules is passed over; alone it is right.

    Source: Azure/azure-container-networking v1.5.0 npm/pkg/controlplane/translation/translatePolicy.go, isAllowAllToIngress.
    """
    text = kubernetes("ingress: [{}, {ports: [{port: 1}]}]")
    assert [ingress(text, WEB, 80, profile=engine) for engine in ("npm", "calico")] == ["denied", "allowed"]
    assert ingress(text, WEB, 1, profile="npm") == "allowed"
    assert ingress(kubernetes("ingress: [{}]"), WEB, 80, profile="npm") == "allowed"


def test_windows_passes_over_what_it_cannot_translate() -> None:
    """Azure NPM on Windows skips the whole policy, silently (policies.isUnsupportedWindowsTranslationErr)."""
    for rule in ("{ports: [{port: pg}]}", "{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/24]}}]}"):
        text = kubernetes(f"ingress: [{rule}]")
        assert ingress(text, outside("203.0.113.1"), profile="npm-windows") == "allowed"
        assert ingress(text, outside("203.0.113.1"), profile="npm") == "denied"


def test_an_address_that_nobody_is_known_to_hold_is_not_guessed() -> None:
    """Where a verdict hangs on who an unresolved or translated end is, there is none (concepts, 'ipBlock': rewritten addresses)."""
    text = kubernetes("ingress: [{from: [{podSelector: {}}]}]")
    unknown = Endpoint("unknown", ip="10.0.0.77")
    verdict = ask(text, "ingress", unknown, DB)
    assert (verdict.outcome, verdict.reason) == ("undetermined", "unresolved")
    translated = ask(text, "ingress", pod("shop/web", translated=True), DB)
    assert (translated.outcome, translated.reason) == ("undetermined", "translated")
    assert ingress(kubernetes("ingress: [{}]"), unknown) == "allowed"
    assert ingress(DENY, unknown) == "denied"


def test_a_port_that_was_not_recorded_is_not_guessed() -> None:
    """Where a verdict hangs on an unknown port, there is none (types.go, NetworkPolicyPort)."""
    text = kubernetes("ingress: [{ports: [{port: 80}]}]")
    verdict = ask(text, "ingress", WEB, DB, None)
    assert (verdict.outcome, verdict.reason) == ("undetermined", "port")
    assert ingress(kubernetes("ingress: [{from: [{podSelector: {}}]}]"), WEB, None) == "allowed"
