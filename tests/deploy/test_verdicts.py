"""What the API leaves to the engines: each answer of a profile changes verdicts as its engine does, and engines are compared.

Sources of the answers stand in the profiles (deploy/semantics/profiles/*.toml); that the API leaves these cases open is said in
the Kubernetes concepts page "Network Policies" and in kubernetes/kubernetes test/e2e/network/netpol/network_policy.go.
"""

import textwrap
from dataclasses import replace
from typing import Any

import pytest

from deploy.policies import engines_for
from deploy.semantics.ends import Endpoint, Ends, Lens
from deploy.semantics.profiles import Profile, profile
from deploy.semantics.traffic import Connection, Connections
from deploy.semantics.verdicts import Court, Verdict, judge_half
from tests.deploy.world import DB, WEB, ask, calico, egress, ingress, kubernetes, outside, pod, policies

DENY = kubernetes("policyTypes: [Ingress, Egress]")
OWN, FOREIGN = Endpoint("node", ip="192.168.0.1", name="node-a"), Endpoint("node", ip="192.168.0.2", name="node-b")
ENGINES = ("npm", "npm-windows", "calico", "cilium", "aws", "kube-router", "kube-network-policies")


def under(
    engine: Profile | str,
    text: str,
    direction: str,
    source: Endpoint,
    destination: Endpoint,
    *asked: Any,
) -> Verdict:
    """Judge a half under an engine as it is, or with answers changed."""
    one = profile(engine) if isinstance(engine, str) else engine
    return judge_half(policies(text), [one], direction, source, destination, Connection(*(asked or ("tcp", 80))))


def with_answers(**answers: Any) -> Profile:
    """Return Calico's profile with some answers changed."""
    return replace(profile("calico"), **answers)


@pytest.mark.parametrize("name", ENGINES)
def test_the_kubelet_reaches_its_own_pods(name: str) -> None:
    """With every engine, a pod's own node reaches it: probes need no rule (each profile's own-node-ingress)."""
    assert ask(DENY, "ingress", OWN, DB, profile=name).reason == "own-node"


def test_who_isolates_is_named_where_it_still_matters() -> None:
    """What an engine lets pass has no decider; what it leaves open names who would have denied."""
    assert ask(DENY, "ingress", OWN, DB, profile="calico").by is None
    assert under("npm", DENY, "ingress", FOREIGN, DB).by == "NetworkPolicy shop/p"
    assert ask(DENY, "ingress", WEB, outside("203.0.113.1"), profile="calico").by is None


def test_what_arrives_from_another_node_is_policed_by_its_address_passes_or_is_left_open() -> None:
    """A foreign node may be a host-network pod or a translated client (profiles' other-node-ingress)."""
    outcomes = {
        answer: under(with_answers(other_node_ingress=answer), DENY, "ingress", FOREIGN, DB).outcome
        for answer in ("policed", "allowed", None)
    }
    assert outcomes == {"policed": "denied", "allowed": "allowed", None: "undetermined"}
    assert under("npm", DENY, "ingress", FOREIGN, DB).reason == "node"
    assert ingress(kubernetes("ingress: [{}]"), FOREIGN) == "allowed"


def test_engines_differ_on_a_pods_way_to_its_own_node() -> None:
    """NPM lets it pass, Calico polices it, and together they leave it open (profiles' own-node-egress)."""
    outcomes = {name: egress(DENY, OWN, profile=name) for name in ("npm", "calico", "npm,calico")}
    assert outcomes == {"npm": "allowed", "calico": "denied", "npm,calico": "undetermined"}
    assert under(with_answers(own_node_egress=None), DENY, "egress", WEB, OWN).reason == "own-node"
    assert egress(DENY, FOREIGN) == "denied"


def test_an_open_answer_does_not_take_back_what_rules_allow() -> None:
    """Where the engine's way with its own node is not known, a rule that allows it still does."""
    text = kubernetes("policyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 192.168.0.0/16}}]}]")
    assert under(with_answers(own_node_egress=None), text, "egress", WEB, OWN).outcome == "allowed"


def test_engines_differ_on_blocks_that_hold_a_pod() -> None:
    """With Cilium an ipBlock selects no pod (cilium/cilium#9209); elsewhere its addresses are enough."""
    text = kubernetes("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]")
    outcomes = {name: ingress(text, WEB, profile=name) for name in ("npm", "calico", "cilium", "npm,calico")}
    assert outcomes == {"npm": "allowed", "calico": "allowed", "cilium": "denied", "npm,calico": "allowed"}
    assert under(with_answers(block_matches_pods=None), text, "ingress", WEB, DB).reason == "ip-block"


def test_strict_says_which_engine_does_what() -> None:
    """Where engines differ the half is undetermined, and each engine's outcome is told."""
    text = kubernetes("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]")
    verdict = ask(text, "ingress", WEB, DB)
    assert (verdict.outcome, verdict.reason) == ("undetermined", "engines")
    # What denies is named, not what allows elsewhere.
    assert verdict.by == "NetworkPolicy shop/p"
    assert dict(verdict.engines) == dict.fromkeys(set(ENGINES) - {"npm-windows", "cilium"}, "allowed") | {
        "cilium": "denied"
    }


def test_engines_differ_on_blocks_that_hold_a_node() -> None:
    """With Cilium an ipBlock selects no node by default (profiles' block-matches-nodes)."""
    text = kubernetes("policyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 192.168.0.0/16}}]}]")
    outcomes = {name: egress(text, FOREIGN, profile=name) for name in ("calico", "cilium", "calico,cilium")}
    assert outcomes == {"calico": "allowed", "cilium": "denied", "calico,cilium": "undetermined"}
    assert under(with_answers(block_matches_nodes=None), text, "egress", WEB, FOREIGN).outcome == "undetermined"


@pytest.mark.parametrize("protocol", ["icmp", "icmpv6", "47"])
def test_isolation_guarantees_nothing_for_other_protocols(protocol: str) -> None:
    """For protocols without ports the engine's answer counts (profiles' other-protocols)."""
    outcomes = {
        answer: under(with_answers(other_protocols=answer), DENY, "ingress", WEB, DB, protocol).outcome
        for answer in ("denied", "allowed", None)
    }
    assert outcomes == {"denied": "denied", "allowed": "allowed", None: "undetermined"}
    assert ingress(DENY, WEB, None, protocol, profile="npm") == "denied"


def test_some_engines_let_some_icmp_pass_whatever_the_policies_say() -> None:
    """The accepted types pass, others do not (profile kube-router, icmp-always-allowed)."""
    engine = with_answers(icmp_always_allowed=(8,), icmpv6_always_allowed=(128,))
    assert under(engine, DENY, "ingress", WEB, DB, "icmp", None, 8, 0).reason == "icmp"
    assert under(engine, DENY, "ingress", WEB, DB, "icmp", None, 5, 0).outcome == "denied"
    assert under(engine, DENY, "ingress", WEB, DB, "icmpv6", None, 128, 0).reason == "icmp"
    assert under("kube-router", DENY, "ingress", WEB, DB, "icmp", None, 8, 0).outcome == "allowed"


def test_sctp_and_ipv6_are_left_open_where_the_engine_is_not_known_to_enforce_them() -> None:
    """Cilium's SCTP is an option; NPM knows no IPv6, and has no say about it beside others (profiles' sctp and ipv6)."""
    asked = ("ingress", WEB, DB, "sctp", 80)
    assert under("cilium", DENY, *asked).outcome == "denied"
    assert under("cilium", kubernetes("ingress: [{}]"), *asked).reason == "sctp"
    assert under(with_answers(sctp=None), DENY, *asked).reason == "sctp"
    assert under(with_answers(sctp=False), DENY, *asked).outcome == "allowed"
    six, other = pod("shop/web", ip="2001:db8::1"), pod("shop/db", ip="2001:db8::2")
    assert under("npm", DENY, "ingress", six, other).reason == "ipv6"
    assert ask(DENY, "ingress", six, other, profile="npm,calico").outcome == "denied"
    assert ask(kubernetes("ingress: [{}]"), "ingress", six, other, profile="npm,calico").outcome == "allowed"


def test_a_range_of_ports_is_only_its_first_where_the_engine_ignores_its_end() -> None:
    """An engine without endPort enforces `port` alone (kubernetes/api networking/v1/types.go, NetworkPolicyPort.EndPort)."""
    text = kubernetes("ingress: [{ports: [{port: 80, endPort: 90}]}]")
    outcomes = {
        answer: [
            under(with_answers(port_ranges=answer), text, "ingress", WEB, DB, "tcp", port).outcome
            for port in (80, 85, 91)
        ]
        for answer in (True, False, None)
    }
    assert outcomes == {
        True: ["allowed", "allowed", "denied"],
        False: ["allowed", "denied", "denied"],
        None: ["allowed", "undetermined", "denied"],
    }


def test_a_port_name_with_several_numbers_is_left_open_where_the_engine_mixes_them_up() -> None:
    """With Cilium one name for several numbers is unreliable (cilium/cilium#30003)."""
    text = kubernetes("policyTypes: [Egress]\negress: [{ports: [{port: web}]}]")
    left, right = pod("shop/a", ports=[("web", 8080, "tcp")]), pod("shop/b", ports=[("web", 9090, "tcp")])
    assert under("calico", text, "egress", left, right, "tcp", 9090).outcome == "allowed"
    assert under("cilium", text, "egress", left, right, "tcp", 9090).reason == "port"
    assert under("cilium", text, "egress", WEB, right, "tcp", 9090).outcome == "allowed"


def test_npm_takes_a_peer_that_only_negates_namespaces_for_everybody_outside() -> None:
    """Azure NPM 1.5.0 matches addresses that are no pods (npm/pkg/controlplane/translation/translatePolicy.go)."""
    text = kubernetes(
        "ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [red]}]}}]}]"
    )
    assert [ingress(text, outside("203.0.113.9"), profile=name) for name in ("npm", "calico")] == ["allowed", "denied"]
    both = text.replace("namespaceSelector:", "podSelector: {matchLabels: {app: prom}}, namespaceSelector:")
    assert ingress(both, outside("203.0.113.9"), profile="npm") == "denied"


def test_npm_ignores_an_empty_rule_beside_others() -> None:
    """Azure NPM 1.5.0 allows all only when the empty rule stands alone (translatePolicy.go, isAllowAllToIngress)."""
    text = kubernetes("ingress: [{}, {ports: [{port: 443}]}]")
    assert [ingress(text, WEB, 80, profile=name) for name in ("npm", "calico")] == ["denied", "allowed"]
    assert ingress(kubernetes("ingress: [{}]"), WEB, 80, profile="npm") == "allowed"


def test_npm_on_windows_skips_what_it_cannot_translate() -> None:
    """There a policy with a port name is skipped whole, so the pod stays open (profile npm-windows, skips)."""
    text = kubernetes("ingress: [{ports: [{port: pg}]}]")
    assert [ingress(text, WEB, 9, profile=name) for name in ("npm-windows", "npm")] == ["allowed", "denied"]


def test_a_source_that_was_translated_is_not_the_one_recorded() -> None:
    """What arrives has another address, so only a rule for anybody lets it in."""
    text = kubernetes("ingress: [{from: [{podSelector: {}}]}]")
    hidden = pod("shop/web", translated=True)
    assert ask(text, "ingress", hidden, DB).reason == "translated"
    assert ingress(kubernetes("ingress: [{}]"), hidden) == "allowed"


def test_an_address_that_nobody_is_known_to_hold_may_be_anybody() -> None:
    """Selectors may mean it, a block elsewhere does not."""
    stranger = Endpoint("unknown", ip="10.0.0.77")
    assert ask(kubernetes("ingress: [{from: [{podSelector: {}}]}]"), "ingress", stranger, DB).reason == "unresolved"
    assert ingress(kubernetes("ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]"), stranger) == "denied"


def test_a_pod_that_talks_to_itself_is_left_open_or_is_the_engines_business() -> None:
    """Calico, Cilium and others do different things (netpol e2e, ignoreLoopback; profiles' itself)."""
    outcomes = {
        answer: under(with_answers(itself=answer), DENY, "egress", WEB, WEB).outcome
        for answer in ("policed", "allowed", None)
    }
    assert outcomes == {"policed": "denied", "allowed": "allowed", None: "undetermined"}


def test_host_network_pods_are_the_engines_business_as_subjects() -> None:
    """Every engine here leaves them alone; one that polices them would isolate (profiles' host-network)."""
    host = pod("shop/db", host_network=True)
    outcomes = {
        answer: under(with_answers(host_network=answer), DENY, "ingress", WEB, host).outcome
        for answer in ("ignored", "policed", None)
    }
    assert outcomes == {"ignored": "allowed", "policed": "denied", None: "undetermined"}


def test_an_end_that_is_no_pod_has_no_half() -> None:
    """Policies govern pods."""
    assert ask(DENY, "ingress", WEB, outside("203.0.113.1")).reason == "no-pod"


def test_engines_that_read_rules_alike_share_them() -> None:
    """Judging under many engines reads the rules once for each way to read them."""
    given = policies(DENY)
    court = Court(given, engines_for("strict", [given]), Ends([WEB, DB], Lens.of([given])), Connections([]))
    assert len(court.readings()) < len(court.engines)


def test_npm_excludes_no_namespace_by_several_values() -> None:
    """Azure NPM 1.5.0 turns `NotIn [a, b]` on namespaces into alternatives (translatePolicy.go, nameSpaceSelector)."""
    term = "{key: team, operator: NotIn, values: [%s]}"
    several, single = (
        kubernetes(f"ingress: [{{from: [{{namespaceSelector: {{matchExpressions: [{term % values}]}}}}]}}]")
        for values in ("red, blue", "red")
    )
    assert [ingress(several, WEB, profile=name) for name in ("npm", "calico")] == ["allowed", "denied"]
    assert [ingress(single, WEB, profile=name) for name in ("npm", "calico")] == ["denied", "denied"]


def test_kube_router_lets_rules_of_one_direction_count_for_the_other_between_subjects() -> None:
    """One chain serves both directions of a policy (kube-router pkg/controllers/netpol/policy.go)."""
    text = kubernetes("podSelector: {}\npolicyTypes: [Ingress, Egress]\negress: [{}]")
    assert [ingress(text, WEB, profile=name) for name in ("kube-router", "calico")] == ["allowed", "denied"]
    assert ingress(text, pod("mon/prom"), profile="kube-router") == "denied"
    assert ingress(text, outside("203.0.113.1"), profile="kube-router") == "denied"


def test_kube_router_may_open_every_port_for_a_name_that_nobody_declares() -> None:
    """There a rule whose port name resolves to nothing is written without ports (policy.go, processIngressRules)."""
    text = kubernetes("ingress: [{ports: [{port: metrics}]}]")
    assert [ingress(text, WEB, 1, profile=name) for name in ("kube-router", "calico")] == ["undetermined", "denied"]


def test_aws_takes_an_except_out_of_every_rule() -> None:
    """What one rule's block leaves out may be denied although another allows it (aws-network-policy-agent, issue 121)."""
    block = "{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.8/29]}}"
    text = kubernetes(f"ingress: [{{from: [{block}]}}, {{from: [{{ipBlock: {{cidr: 203.0.0.0/16}}}}]}}]")
    places = [outside("203.0.113.9"), outside("203.0.113.1")]
    assert [ask(text, "ingress", one, DB, profile="aws").reason for one in places] == ["except", "rule"]
    assert ingress(text, places[0], profile="calico") == "allowed"


def test_aws_selects_host_network_pods_by_their_node() -> None:
    """There a peer may mean a host-network pod (amazon-network-policy-controller-k8s, computePodSelectorEndpoints)."""
    text = kubernetes("ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]")
    guest = pod("shop/web", host_network=True, node="node-b", ip="192.168.0.2")
    assert ask(text, "ingress", guest, DB, profile="aws").reason == "host-network"
    assert ingress(text, guest, profile="calico") == "denied"


def test_with_kube_network_policies_any_network_policy_hides_the_baseline() -> None:
    """A pod with a NetworkPolicy for the other direction only is accepted at once (pkg/networkpolicy/networkpolicy.go)."""
    baseline = """
        apiVersion: policy.networking.k8s.io/v1alpha2
        kind: ClusterNetworkPolicy
        metadata: {name: base}
        spec:
          tier: Baseline
          priority: 1
          subject: {namespaces: {}}
          ingress: [{name: nobody, action: Deny, from: [{namespaces: {}}]}]
        ---
    """
    text = textwrap.dedent(baseline) + kubernetes("policyTypes: [Egress]")
    outcomes = {name: ingress(text, WEB, profile=name) for name in ("kube-network-policies", "calico")}
    assert outcomes == {"kube-network-policies": "allowed", "calico": "denied"}
    assert ingress(textwrap.dedent(baseline), WEB, profile="kube-network-policies") == "denied"


def test_labels_that_nobody_knows_are_not_taken_for_absent() -> None:
    """A pod whose Namespace or ServiceAccount the inventory lacks may have any label of it; its name is known."""
    lost, unknown = pod("shop/web", vague=frozenset({"namespace"})), pod("shop/web", vague=frozenset({"account"}))
    for term in ("matchLabels: {team: red}", "matchExpressions: [{key: team, operator: DoesNotExist}]"):
        text = kubernetes(f"ingress: [{{from: [{{namespaceSelector: {{{term}}}}}]}}]")
        assert ask(text, "ingress", lost, DB, profile="calico").reason == "labels"
    named = kubernetes("ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}]}]")
    assert ingress(named, lost) == "allowed"
    assert ingress(kubernetes("ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]"), lost) == "allowed"
    account = calico("selector: all()\ningress: [{action: Allow, source: {serviceAccounts: {selector: role == 'x'}}}]")
    assert [ask(account, "ingress", one, DB, profile="calico").outcome for one in (unknown, lost)] == [
        "undetermined",
        "denied",
    ]


def test_a_policy_that_may_select_a_pod_leaves_it_open() -> None:
    """Where the labels that a policy selects by are not known, nobody can tell whether it governs the pod."""
    text = """
        apiVersion: projectcalico.org/v3
        kind: GlobalNetworkPolicy
        metadata: {name: g}
        spec: {selector: all(), namespaceSelector: team == 'red', types: [Ingress]}
    """
    lost = pod("shop/db", vague=frozenset({"namespace"}))
    assert ask(text, "ingress", WEB, lost, profile="calico").reason == "labels"
    assert ask(text, "ingress", WEB, DB, profile="calico").outcome == "denied"


def test_cilium_lets_an_explicit_denial_outweigh_the_way_of_the_kubelet() -> None:
    """The own node reaches a pod unless a rule denies it by name (cilium pkg/policy/mapstate.go)."""
    text = """
        apiVersion: cilium.io/v2
        kind: CiliumNetworkPolicy
        metadata: {name: c, namespace: shop}
        spec: {endpointSelector: {}, ingress: [{}]%s}
    """
    denial = ", ingressDeny: [{fromEntities: [host]}]"
    assert [ingress(text % more, OWN, profile="cilium") for more in ("", denial)] == ["allowed", "denied"]


def test_aws_leaves_open_only_what_an_except_holds_and_a_rule_allows() -> None:
    """Denials stay denials, and policies without an except open what they always did."""
    block = "{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.8/29]}}"
    lone = kubernetes(f"ingress: [{{from: [{block}]}}]", "a")
    both = lone + kubernetes("ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24}}]}]", "b")
    other = both + kubernetes("ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/28}}]}]", "c")
    hole, plain = outside("203.0.113.9"), outside("198.51.100.1")
    assert [ingress(text, hole, profile="aws") for text in (lone, both, other)] == ["denied", "denied", "undetermined"]
    assert [ingress(text, plain, profile="aws") for text in (lone, both, other)] == ["denied", "allowed", "allowed"]


def test_with_cilium_a_port_name_may_mean_a_number_that_another_pod_declares() -> None:
    """Cilium resolves names among all pods (cilium/cilium#30003), so a pod that lacks the name may be meant."""
    text = kubernetes("policyTypes: [Egress]\negress: [{ports: [{port: web}]}]")
    left, right = pod("shop/a", ports=[("web", 8080, "tcp")]), pod("shop/b")
    outcomes = {
        name: [under(name, text, "egress", left, right, "tcp", port).outcome for port in (8080, 80)]
        for name in ("cilium", "calico")
    }
    assert outcomes == {"cilium": ["undetermined", "denied"], "calico": ["denied", "denied"]}
