"""ClusterNetworkPolicy: tiers, priorities, actions, and whom its subjects and peers mean.

Sources, as the tests name them: `types` is kubernetes-sigs/network-policy-api apis/v1alpha2/clusternetworkpolicy_types.go,
`overview` its site-src/api-overview.md, `calico` is projectcalico/calico
libcalico-go/lib/backend/k8s/conversion/clusternetworkpolicy.go.
"""

import textwrap
from typing import Any

import pytest

from deploy.semantics.ends import Endpoint
from deploy.semantics.reading import manifests
from deploy.semantics.rules import Doubtful
from tests.deploy.world import DB, PROM, WEB, ask, egress, ingress, kubernetes, outside, pod, policies

ALL = "[{namespaces: {}}]"
OTHER_NODE = Endpoint("node", ip="192.168.0.2", name="node-b")


def cluster(
    spec: str, name: str = "a", tier: str = "Admin", priority: int = 10, subject: str = "namespaces: {}"
) -> str:
    """Return a ClusterNetworkPolicy with these rules, for all pods unless told otherwise, as YAML."""
    head = f"apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec:\n"
    body = f"tier: {tier}\npriority: {priority}\nsubject: {{{subject}}}\n{textwrap.dedent(spec).strip()}"
    return f"{head}{textwrap.indent(body, '  ')}\n---\n"


def rule(action: str, peers: str = ALL, more: str = "", side: str = "ingress") -> str:
    """Return one rule as YAML."""
    word = "from" if side == "ingress" else "to"
    return f"{side}: [{{action: {action}, {word}: {peers}{', ' if more else ''}{more}}}]"


def complaints(text: str) -> list[str]:
    """Return every rule that a text breaks."""
    return [str(problem) for problem in manifests.parse(text, "p.yaml")[1]]


@pytest.mark.parametrize(("action", "outcome"), [("Accept", "allowed"), ("Deny", "denied"), ("Pass", "allowed")])
def test_actions(action: str, outcome: str) -> None:
    """Accept and Deny decide, Pass leaves it to the tiers below, of which none decides here (types, Action)."""
    for tier in ("Admin", "Baseline"):
        assert ingress(cluster(rule(action), tier=tier), WEB) == outcome


def test_what_no_rule_matches_goes_on() -> None:
    """There is no isolation: a pod that is a subject stays open to what no rule names (overview, 'General Notes')."""
    text = cluster(rule("Accept", "[{namespaces: {matchLabels: {team: blue}}}]"))
    assert (ingress(text, PROM), ingress(text, WEB)) == ("allowed", "allowed")
    assert ask(text, "ingress", WEB, DB).by is None


def test_a_direction_without_rules_is_untouched() -> None:
    """A policy with no rules of a direction does not affect it (types, ClusterNetworkPolicySpec.ingress and .egress)."""
    text = cluster(rule("Deny"))
    assert (ingress(text, WEB), egress(text, DB)) == ("denied", "allowed")
    (one,) = policies(text).policies
    assert (one.directions, one.isolates) == ({"ingress"}, frozenset())
    (empty,) = policies(cluster("ingress: []")).policies
    assert empty.directions == frozenset()


def test_admin_goes_before_network_policies_and_baseline_after() -> None:
    """Admin decides before NetworkPolicy, NetworkPolicy is final for pods it selects, Baseline only for others (types, Tier)."""
    closed, open_ = kubernetes("podSelector: {}"), kubernetes("ingress: [{}]")
    assert ingress(cluster(rule("Accept")) + closed, WEB) == "allowed"
    assert ingress(cluster(rule("Deny")) + open_, WEB) == "denied"
    assert ingress(cluster(rule("Accept"), tier="Baseline") + closed, WEB) == "denied"
    assert ingress(cluster(rule("Deny"), tier="Baseline") + open_, WEB) == "allowed"
    assert (
        ingress(cluster(rule("Deny"), tier="Baseline") + kubernetes("podSelector: {}", namespace="mon"), WEB)
        == "denied"
    )


def test_pass_skips_the_rest_of_its_tier_only() -> None:
    """After Pass in Admin come NetworkPolicy, and Baseline where none selects the pod (overview, 'Actions')."""
    passed = cluster(rule("Pass"), priority=1) + cluster(rule("Deny"), "b", priority=2)
    assert ingress(passed, WEB) == "allowed"
    assert ingress(passed + kubernetes("podSelector: {}"), WEB) == "denied"
    assert ingress(passed + cluster(rule("Deny"), "c", "Baseline"), WEB) == "denied"
    assert ingress(passed + kubernetes("ingress: [{}]") + cluster(rule("Deny"), "c", "Baseline"), WEB) == "allowed"
    assert (
        ingress(cluster(rule("Pass"), tier="Baseline") + cluster(rule("Deny"), "b", "Baseline", 11), WEB) == "allowed"
    )


def test_lower_priorities_and_earlier_rules_go_first() -> None:
    """Priority orders policies, place orders rules (types, ClusterNetworkPolicySpec.priority and .ingress)."""
    accept, deny = rule("Accept"), rule("Deny")
    assert ingress(cluster(accept, "z", priority=1) + cluster(deny, "a", priority=2), WEB) == "allowed"
    assert ingress(cluster(accept, "a", priority=1000) + cluster(deny, "z", priority=0), WEB) == "denied"
    both = f"ingress:\n- {{action: Accept, from: {ALL}}}\n- {{action: Deny, from: {ALL}}}"
    verdict = ask(cluster(both), "ingress", WEB, DB)
    assert (verdict.outcome, verdict.by) == ("allowed", "ClusterNetworkPolicy a ingress[0]")


def test_policies_of_one_priority_have_no_order() -> None:
    """What policies of equal priority disagree about is not guessed (types, ClusterNetworkPolicySpec.priority)."""
    text = cluster(rule("Accept"), "a") + cluster(rule("Deny"), "b")
    verdict = ask(text, "ingress", WEB, DB)
    assert (verdict.outcome, verdict.reason) == ("undetermined", "order")
    assert ingress(text.replace("Deny", "Accept"), WEB) == "allowed"
    assert ingress(cluster(rule("Accept"), "a") + cluster(rule("Deny"), "b", "Baseline"), WEB) == "allowed"


def test_subjects_are_pods_by_namespace_or_by_both() -> None:
    """A subject is chosen by namespaces, or by pods and their namespaces; an empty selector means all (types, Subject)."""
    deny = rule("Deny")
    red, blue = "{matchLabels: {team: red}}", "{matchLabels: {team: blue}}"
    cases = {
        "namespaces: {}": "denied",
        f"namespaces: {red}": "denied",
        f"namespaces: {blue}": "allowed",
        "pods: {podSelector: {}}": "denied",
        "pods: {podSelector: {matchLabels: {app: db}}}": "denied",
        "pods: {podSelector: {matchLabels: {app: web}}}": "allowed",
        f"pods: {{podSelector: {{}}, namespaceSelector: {red}}}": "denied",
        f"pods: {{podSelector: {{}}, namespaceSelector: {blue}}}": "allowed",
    }
    assert {subject: ingress(cluster(deny, subject=subject), WEB) for subject in cases} == cases


def test_peers_are_pods_by_namespace_or_by_both() -> None:
    """Peers are chosen as subjects are, in both directions, and one that matches is enough (types, IngressPeer, EgressPeer)."""
    peers = "[{namespaces: {matchLabels: {team: blue}}}, {pods: {podSelector: {matchLabels: {app: x}}}}]"
    sources = (PROM, pod("bare/x"), pod("shop/x"), WEB, outside("203.0.113.1"), OTHER_NODE)
    expected = ["denied", "denied", "denied", "allowed", "allowed", "allowed"]
    assert [ingress(cluster(rule("Deny", peers)), source) for source in sources] == expected
    assert [egress(cluster(rule("Deny", peers, side="egress")), source) for source in sources] == expected


def test_host_network_pods_are_neither_subjects_nor_peers() -> None:
    """Host-network pods are left out of subjects and peers (types, ClusterNetworkPolicySubject, IngressPeer)."""
    deny = cluster(f"{rule('Deny')}\n{rule('Deny', side='egress')}")
    guest = pod("mon/guest", host_network=True, node="node-b", ip="192.168.0.2")
    assert ask(deny, "ingress", WEB, guest).outcome == "allowed"
    assert (ingress(deny, guest), egress(deny, guest)) == ("allowed", "allowed")


def test_networks_match_every_address_pods_and_nodes_included() -> None:
    """Networks are checked against traffic inside the cluster, too (types, EgressPeer.networks)."""
    text = cluster(rule("Deny", "[{networks: [10.0.0.0/24, '2001:db8::/32', 192.168.0.0/16]}]", side="egress"))
    inside = (DB, outside("10.0.0.200"), outside("2001:db8::1"), OTHER_NODE)
    assert [egress(text, one) for one in inside] == ["denied"] * 4
    assert [egress(text, one) for one in (pod("mon/far", ip="10.0.1.1"), outside("203.0.113.1"))] == ["allowed"] * 2
    whole = cluster(rule("Deny", "[{networks: [0.0.0.0/0]}]", side="egress"))
    assert [egress(whole, one) for one in (DB, outside("2001:db8::1"))] == ["denied", "allowed"]
    assert egress(whole, DB, None, "icmp", icmp=(13, 0)) == "denied"


@pytest.mark.parametrize(
    ("protocols", "matched"),
    [
        ("[{tcp: {destinationPort: {number: 80}}}]", {("tcp", 80)}),
        ("[{udp: {destinationPort: {number: 80}}}]", {("udp", 80)}),
        ("[{tcp: {destinationPort: {range: {start: 79, end: 81}}}}]", {("tcp", 80), ("tcp", 81)}),
        (
            "[{tcp: {destinationPort: {number: 81}}}, {udp: {destinationPort: {number: 80}}}]",
            {("tcp", 81), ("udp", 80)},
        ),
        ("[{destinationNamedPort: web}]", {("tcp", 80)}),
        ("[{destinationNamedPort: gone}]", set()),
    ],
)
def test_protocols_narrow_a_rule_to_ports_of_the_destination(protocols: str, matched: set[tuple[str, int]]) -> None:
    """A rule matches what any of its protocols names; names are resolved on the destination (types, Protocol, PortRange)."""
    text = cluster(rule("Deny", more=f"protocols: {protocols}", side="egress"))
    target = pod("shop/db", ports=[("web", 80, "tcp")])
    asked = [(protocol, port) for protocol in ("tcp", "udp") for port in (80, 81, 82)]
    found = {one for one in asked if egress(text, target, one[1], one[0]) == "denied"}
    assert found == matched


def test_sctp_is_a_protocol_of_its_own() -> None:
    """SCTP has ports as the other two have (types, ClusterNetworkPolicyProtocolSCTP)."""
    text = cluster(rule("Deny", more="protocols: [{sctp: {destinationPort: {number: 80}}}]"))
    assert [ingress(text, WEB, 80, protocol) for protocol in ("sctp", "tcp")] == ["denied", "allowed"]


@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp", "47"])
def test_a_rule_without_protocols_matches_all_traffic(protocol: str) -> None:
    """Without protocols, none of their attributes is looked at (types, IngressRule.protocols)."""
    port = None if protocol in ("icmp", "47") else 7
    assert ingress(cluster(rule("Deny")), WEB, port, protocol) == "denied"


def test_a_rule_on_ports_matches_no_icmp() -> None:
    """Traffic without ports matches no protocol of a rule (types, ClusterNetworkPolicyProtocol)."""
    text = cluster(rule("Deny", more="protocols: [{tcp: {destinationPort: {number: 80}}}]"))
    assert ingress(text, WEB, None, "icmp", icmp=(13, 0)) == "allowed"


@pytest.mark.parametrize(
    ("peers", "reason", "open_to", "closed_to"),
    [
        ("[{nodes: {}}]", "peer", [OTHER_NODE], [DB, outside("203.0.113.1")]),
        ("[{nodes: {matchLabels: {a: b}}}]", "peer", [OTHER_NODE], [DB, outside("203.0.113.1")]),
        ("[{domainNames: [example.org]}]", "fqdn", [OTHER_NODE, DB, outside("203.0.113.1")], []),
        ("[{nodes: {}}, {namespaces: {}}]", "peer", [OTHER_NODE, DB, outside("203.0.113.1")], []),
    ],
)
def test_an_accept_for_experimental_peers_is_open_where_it_may_match(
    peers: str, reason: str, open_to: list[Endpoint], closed_to: list[Endpoint]
) -> None:
    """What not every engine knows, and no recording tells, is not guessed; an engine may drop the whole rule.

    Sources: types, EgressPeer ("fail closed"); calico, combinePortsWithCNPEgressPeers; network-policy-api
    npeps/npep-133-fqdn-egress-selector.md.
    """
    text = cluster(rule("Accept", peers, side="egress")) + cluster(
        rule("Deny", "[{networks: [0.0.0.0/0]}]", side="egress"), "b", priority=20
    )
    for other in open_to:
        verdict = ask(text, "egress", WEB, other)
        assert (verdict.outcome, verdict.reason) == ("undetermined", reason)
    assert [egress(text, other) for other in closed_to] == ["denied"] * len(closed_to)


@pytest.mark.parametrize("action", ["Deny", "Pass"])
def test_an_engine_may_deny_everything_by_a_rule_it_does_not_know(action: str) -> None:
    """To fail closed is to deny all that the rule's pods send, on any port (types, EgressPeer; calico)."""
    more = "protocols: [{tcp: {destinationPort: {number: 1}}}]"
    text = cluster(rule(action, "[{nodes: {}}]", more, side="egress"))
    found = [ask(text, "egress", WEB, other, port) for other in (DB, OTHER_NODE) for port in (1, 80)]
    assert [(verdict.outcome, verdict.reason) for verdict in found] == [("undetermined", "peer")] * 4
    (one,) = policies(text).policies
    assert [step.action for step in one.egress] == ["deny", action.lower()]
    assert all(isinstance(step.destination, Doubtful) for step in one.egress)


GOOD = cluster(rule("Accept"))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("tier: Admin", "tier: admin", "5: ClusterNetworkPolicy a: spec.tier: 'admin' is none of Admin, Baseline"),
        ("tier: Admin", "teir: Admin", "5: ClusterNetworkPolicy a: spec.teir: unknown field"),
        ("  tier: Admin\n", "", "spec: `tier` is missing"),
        ("  priority: 10\n", "", "spec: `priority` is missing"),
        ("priority: 10", "priority: 1001", "6: ClusterNetworkPolicy a: spec.priority: 1001 is outside 0-1000"),
        ("priority: 10", "priority: -1", "spec.priority: -1 is outside 0-1000"),
        ("priority: 10", "priority: '1'", "spec.priority: expected an integer, found text"),
        ("subject: {namespaces: {}}", "subject: {}", "7: ClusterNetworkPolicy a: spec.subject: needs exactly one of"),
        ("subject: {namespaces: {}}", "subject: {namespaces: {}, pods: {podSelector: {}}}", "needs exactly one of"),
        ("subject: {namespaces: {}}", "subject: {pods: {}}", "spec.subject.pods: `podSelector` is missing"),
        ("subject: {namespaces: {}}", "subject: {nodes: {}}", "spec.subject.nodes: unknown field"),
        ("action: Accept", "action: Allow", "spec.ingress[0].action: 'Allow' is none of Accept, Deny, Pass"),
        ("action: Accept, ", "", "spec.ingress[0]: `action` is missing"),
        (", from: [{namespaces: {}}]", "", "spec.ingress[0]: `from` is missing"),
        ("[{namespaces: {}}]", "[]", "spec.ingress[0].from: needs at least one item"),
        ("[{namespaces: {}}]", "[{}]", "spec.ingress[0].from[0]: needs exactly one of namespaces, pods"),
        ("[{namespaces: {}}]", "[{networks: [10.0.0.0/8]}]", "spec.ingress[0].from[0].networks: unknown field"),
        ("[{namespaces: {}}]", "[{tenants: {}}]", "spec.ingress[0].from[0].tenants: unknown field"),
        (
            "[{namespaces: {}}]",
            f"[{', '.join(['{namespaces: {}}'] * 26)}]",
            "spec.ingress[0].from: holds 26 items, at most 25 are allowed",
        ),
        ("action: Accept", "name: " + "x" * 101 + ", action: Accept", "ingress[0].name: is longer than 100 characters"),
        ("metadata: {name: a}", "metadata: {name: a, namespace: b}", "objects of this kind have no namespace"),
        ("v1alpha2", "v1alpha1", "podfence does not judge policy.networking.k8s.io/v1alpha1 ClusterNetworkPolicy"),
    ],
)
def test_what_the_api_does_not_take_is_an_error(old: str, new: str, complaint: str) -> None:
    """Limits, required fields and choices are those of the API (types, kubebuilder markers)."""
    assert complaints(GOOD) == []
    assert old in GOOD
    assert complaint in "\n".join(complaints(GOOD.replace(old, new)))


@pytest.mark.parametrize(
    ("protocols", "complaint"),
    [
        ("[]", "protocols: needs at least one item"),
        ("[{}]", "protocols[0]: needs exactly one of tcp, udp, sctp, destinationNamedPort"),
        ("[{tcp: {}}]", "protocols[0].tcp: `destinationPort` is missing"),
        ("[{tcp: {destinationPort: {}}}]", "destinationPort: needs exactly one of number, range"),
        ("[{tcp: {destinationPort: {number: 70000}}}]", "number: 70000 is outside 1-65535"),
        ("[{tcp: {destinationPort: {number: 1, range: {start: 1, end: 2}}}}]", "needs exactly one of number, range"),
        ("[{tcp: {destinationPort: {range: {start: 2, end: 2}}}}]", "range: start 2 must be less than end 2"),
        ("[{tcp: {destinationPort: {range: {start: 2}}}}]", "range: `end` is missing"),
        ("[{destinationNamedPort: Web}]", "'Web' is no port name"),
        ("[{icmp: {}}]", "protocols[0].icmp: unknown field"),
    ],
)
def test_protocols_that_the_api_does_not_take_are_errors(protocols: str, complaint: str) -> None:
    """A protocol is exactly one, and a port is one number or a true range (types, Protocol, Port, PortRange)."""
    assert complaint in "\n".join(complaints(cluster(rule("Accept", more=f"protocols: {protocols}"))))


@pytest.mark.parametrize(
    ("peers", "more", "action", "complaint"),
    [
        ("[{networks: []}]", "", "Accept", "networks: needs at least one item"),
        ("[{networks: [10.0.0.1]}]", "", "Accept", "networks[0]: '10.0.0.1' is no prefix"),
        ("[{networks: [10.0.0.0/8, 10.0.0.0/8]}]", "", "Accept", "networks: names something twice"),
        ("[{domainNames: [example.org]}]", "", "Deny", "domainNames: only rules that accept may name domains"),
        ("[{domainNames: ['*']}]", "", "Accept", "domainNames[0]: '*' is no domain name"),
        ("[{domainNames: [a.*.org]}]", "", "Accept", "domainNames[0]: 'a.*.org' is no domain name"),
        ("[{nodes: {matchLabel: {}}}]", "", "Accept", "nodes.matchLabel: unknown field"),
        (
            "[{networks: [10.0.0.0/8]}]",
            "protocols: [{destinationNamedPort: web}]",
            "Accept",
            "to[0]: networks have no named ports",
        ),
    ],
)
def test_egress_peers_that_the_api_does_not_take_are_errors(peers: str, more: str, action: str, complaint: str) -> None:
    """Networks, nodes and domain names have their own rules (types, EgressPeer, CIDR, DomainName)."""
    assert complaint in "\n".join(complaints(cluster(rule(action, peers, more, side="egress"))))


@pytest.mark.parametrize("kind", ["AdminNetworkPolicy", "BaselineAdminNetworkPolicy"])
def test_the_kinds_before_it_are_refused_by_name(kind: str) -> None:
    """AdminNetworkPolicy and BaselineAdminNetworkPolicy of v1alpha1 are refused, never passed over."""
    text = f"apiVersion: policy.networking.k8s.io/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{}}\n"
    assert complaints(text) == [f"p.yaml:1: {kind} a: podfence does not judge policy.networking.k8s.io/v1alpha1 {kind}"]


def test_engines_that_do_not_enforce_it_are_not_asked() -> None:
    """Only engines with ClusterNetworkPolicy judge it (network-policy-api site-src/implementations.md)."""
    verdict: Any = ask(GOOD, "ingress", WEB, DB)
    assert [name for name, _ in verdict.engines] == ["calico", "kube-network-policies"]
