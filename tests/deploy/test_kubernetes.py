"""Each rule of the NetworkPolicy API reference and its defaults, one test a rule."""

import pytest

from tests.deploy.world import DB, PROM, WEB, ask, egress, ingress, kubernetes, outside, pod


def test_a_pod_that_no_policy_selects_is_open() -> None:
    """A pod that no policy selects is open."""
    text = kubernetes("podSelector: {matchLabels: {app: other}}")
    assert ask(text, "ingress", WEB, DB).reason == "not-isolated"


def test_a_policy_selects_only_in_its_own_namespace() -> None:
    """A policy selects only in its own namespace."""
    assert ingress(kubernetes("podSelector: {}", namespace="mon"), WEB) == "allowed"


@pytest.mark.parametrize("spec", ["podSelector: {}", "policyTypes: [Ingress]", "podSelector: null"])
def test_an_empty_or_absent_pod_selector_selects_all_pods_of_the_namespace(spec: str) -> None:
    """An empty or absent pod selector selects all pods of the namespace."""
    assert ingress(kubernetes(spec), WEB) == "denied"


def test_isolation_in_one_direction_leaves_the_other_open() -> None:
    """Isolation in one direction leaves the other open."""
    text = kubernetes("policyTypes: [Ingress]")
    assert (ingress(text, WEB), egress(text, DB)) == ("denied", "allowed")


def test_absent_types_isolate_ingress_and_egress_only_when_it_has_rules() -> None:
    """Absent types isolate ingress and egress only when it has rules."""
    with_rules = kubernetes("egress: [{ports: [{port: 53}]}]")
    assert (ingress(with_rules, WEB), egress(with_rules, DB, 80), egress(with_rules, DB, 53)) == (
        "denied",
        "denied",
        "allowed",
    )
    without = kubernetes("egress: []")
    assert (ingress(without, WEB), egress(without, DB)) == ("denied", "allowed")


def test_empty_types_are_absent_types() -> None:
    """Empty types are absent types."""
    assert ingress(kubernetes("policyTypes: []"), WEB) == "denied"


def test_rules_of_a_direction_that_is_not_among_the_types_have_no_effect() -> None:
    """Rules of a direction that is not among the types have no effect."""
    text = kubernetes("policyTypes: [Egress]\ningress: [{ports: [{port: 1}]}]")
    assert (ingress(text, WEB), egress(text, DB)) == ("allowed", "denied")


@pytest.mark.parametrize("rules", ["", "ingress: []", "ingress: null"])
def test_absent_and_empty_rules_allow_nothing(rules: str) -> None:
    """Absent and empty rules allow nothing."""
    assert ingress(kubernetes(f"policyTypes: [Ingress]\n{rules}"), WEB) == "denied"


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp", "icmp", "47"])
def test_an_empty_rule_allows_every_peer_port_and_protocol(protocol: str) -> None:
    """An empty rule allows every peer port and protocol."""
    port = None if protocol in ("icmp", "47") else 9999
    for source in (WEB, PROM, outside("203.0.113.1")):
        assert ingress(kubernetes("ingress: [{}]"), source, port, protocol) == "allowed"


@pytest.mark.parametrize("peers", ["", "from: []", "from: null"])
def test_absent_and_empty_peers_are_anybody(peers: str) -> None:
    """Absent and empty peers are anybody."""
    text = kubernetes(f"ingress:\n- ports: [{{port: 80}}]\n  {peers}")
    assert ingress(text, outside("203.0.113.1")) == "allowed"
    assert ingress(text, PROM) == "allowed"
    assert ingress(text, PROM, 81) == "denied"


@pytest.mark.parametrize("ports", ["", "ports: []"])
def test_absent_and_empty_ports_are_all_ports_of_all_protocols(ports: str) -> None:
    """Absent and empty ports are all ports of all protocols."""
    text = kubernetes(f"ingress:\n- from: [{{podSelector: {{}}}}]\n  {ports}")
    assert [ingress(text, WEB, 1, protocol) for protocol in ("tcp", "udp", "sctp")] == ["allowed"] * 3


def test_a_port_without_protocol_is_tcp() -> None:
    """A port without protocol is TCP."""
    text = kubernetes("ingress: [{ports: [{port: 80}]}]")
    assert (ingress(text, WEB, 80), ingress(text, WEB, 80, "udp")) == ("allowed", "denied")


def test_a_protocol_without_port_is_all_its_ports() -> None:
    """A protocol without port is all its ports."""
    text = kubernetes("ingress: [{ports: [{protocol: UDP}]}]")
    assert (ingress(text, WEB, 5, "udp"), ingress(text, WEB, 5)) == ("allowed", "denied")


def test_an_empty_port_entry_is_all_of_tcp() -> None:
    """An empty port entry is all of TCP."""
    text = kubernetes("ingress: [{ports: [{}]}]")
    assert (ingress(text, WEB, 5), ingress(text, WEB, 5, "udp")) == ("allowed", "denied")


def test_a_named_port_is_resolved_on_the_destination_by_name_and_protocol() -> None:
    """A named port is resolved on the destination by name and protocol."""
    text = kubernetes(
        "policyTypes: [Egress, Ingress]\negress: [{ports: [{port: pg}]}]\ningress: [{ports: [{port: pg}]}]"
    )
    named = pod("mon/other", ports=[("pg", 6000, "tcp"), ("pg", 7000, "udp")])
    assert ingress(text, named, 5432) == "allowed"
    assert ingress(text, named, 6000) == "denied"
    assert egress(text, named, 6000) == "allowed"
    assert egress(text, named, 7000) == "denied"
    assert egress(text, named, 7000, "udp") == "denied"
    assert egress(text, DB, 5432) == "allowed"
    assert egress(text, pod("mon/plain"), 5432) == "denied"


def test_a_named_port_matches_no_address_outside() -> None:
    """A named port matches no address outside."""
    text = kubernetes("policyTypes: [Egress]\negress: [{ports: [{port: pg}]}]")
    assert egress(text, outside("203.0.113.1"), 5432) == "denied"


@pytest.mark.parametrize(("port", "outcome"), [(79, "denied"), (80, "allowed"), (90, "allowed"), (91, "denied")])
def test_end_port_is_inclusive(port: int, outcome: str) -> None:
    """End port is inclusive."""
    assert ingress(kubernetes("ingress: [{ports: [{port: 80, endPort: 90}]}]"), WEB, port) == outcome


def test_a_pod_selector_alone_stays_in_the_policys_namespace() -> None:
    """A pod selector alone stays in the policy's namespace."""
    text = kubernetes("ingress: [{from: [{podSelector: {}}]}]")
    assert (ingress(text, WEB), ingress(text, PROM)) == ("allowed", "denied")


def test_a_namespace_selector_alone_is_all_pods_of_those_namespaces() -> None:
    """A namespace selector alone is all pods of those namespaces."""
    text = kubernetes("ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]")
    assert (ingress(text, PROM), ingress(text, WEB)) == ("allowed", "denied")


def test_an_empty_namespace_selector_is_all_pods_but_nobody_outside() -> None:
    """An empty namespace selector is all pods but nobody outside."""
    text = kubernetes("ingress: [{from: [{namespaceSelector: {}}]}]")
    assert ingress(text, PROM) == "allowed"
    assert ingress(text, pod("bare/x")) == "allowed"
    assert ingress(text, outside("203.0.113.1")) == "denied"


def test_every_namespace_carries_its_name_as_a_label() -> None:
    """Every namespace carries its name as a label."""
    text = kubernetes("ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bare}}}]}]")
    assert (ingress(text, pod("bare/x")), ingress(text, PROM)) == ("allowed", "denied")


def test_two_selectors_in_one_item_are_and_in_two_items_or() -> None:
    """Two selectors in one item are and in two items or."""
    both = "namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: prom}}"
    one = kubernetes(f"ingress: [{{from: [{{{both}}}]}}]")
    two = kubernetes(f"ingress: [{{from: [{{{both.replace(', pod', '}, {pod')}}}]}}]")
    other, own = pod("mon/other"), pod("shop/prom")
    assert [ingress(one, source) for source in (PROM, other, own)] == ["allowed", "denied", "denied"]
    assert [ingress(two, source) for source in (PROM, other, own)] == ["allowed", "allowed", "allowed"]


def test_except_is_taken_out_of_its_own_block_only() -> None:
    """Except is taken out of its own block only."""
    block = "{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.8/29]}}"
    text = kubernetes(f"ingress: [{{from: [{block}]}}]")
    addresses = ("203.0.113.7", "203.0.113.8", "203.0.113.15", "203.0.113.16", "203.0.114.1")
    assert [ingress(text, outside(ip)) for ip in addresses] == ["allowed", "denied", "denied", "allowed", "denied"]
    wider = kubernetes(f"ingress: [{{from: [{block}, {{ipBlock: {{cidr: 203.0.0.0/16}}}}]}}]")
    assert ingress(wider, outside("203.0.113.8")) == "allowed"


def test_blocks_of_one_family_say_nothing_of_the_other() -> None:
    """Blocks of one family say nothing of the other."""
    text = kubernetes("ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]")
    assert (ingress(text, outside("2001:db8::1")), ingress(text, outside("203.0.113.1"))) == ("denied", "allowed")
    six = kubernetes("ingress: [{from: [{ipBlock: {cidr: '2001:db8::/32', except: ['2001:db8:1::/48']}}]}]")
    assert (ingress(six, outside("2001:db8::1")), ingress(six, outside("2001:db8:1::1"))) == ("allowed", "denied")


def test_a_folded_prefix_is_judged_whole() -> None:
    """A folded prefix is judged whole."""
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
    """Match expressions."""
    text = kubernetes(f"ingress: [{{from: [{{podSelector: {{matchExpressions: [{term}]}}}}]}}]")
    assert ingress(text, pod("shop/x", labels)) == outcome


def test_labels_and_expressions_must_all_hold() -> None:
    """Labels and expressions must all hold."""
    selector = "{matchLabels: {a: '1', b: '2'}, matchExpressions: [{key: c, operator: Exists}]}"
    text = kubernetes(f"ingress: [{{from: [{{podSelector: {selector}}}]}}]")
    assert ingress(text, pod("shop/x", {"a": "1", "b": "2", "c": ""})) == "allowed"
    assert ingress(text, pod("shop/x", {"a": "1", "c": ""})) == "denied"
    assert ingress(text, pod("shop/x", {"a": "1", "b": "2"})) == "denied"


def test_several_policies_add_up() -> None:
    """Several policies add up."""
    text = kubernetes("podSelector: {}", "deny") + kubernetes("ingress: [{ports: [{port: 80}]}]", "allow")
    verdict = ask(text, "ingress", WEB, DB, 80)
    assert (verdict.outcome, verdict.by) == ("allowed", "NetworkPolicy shop/allow ingress[0]")
    assert ingress(text, WEB, 81) == "denied"


def test_a_denied_half_names_who_isolates() -> None:
    """A denied half names who isolates."""
    verdict = ask(kubernetes("podSelector: {}", "deny"), "ingress", WEB, DB)
    assert (verdict.reason, verdict.by) == ("isolation", "NetworkPolicy shop/deny")


def test_a_host_network_pod_is_no_pod_to_selectors() -> None:
    """A host network pod is no pod to selectors."""
    text = kubernetes("ingress: [{from: [{podSelector: {}}]}]")
    guest = pod("shop/web", host_network=True, node="node-b", ip="192.168.0.2")
    verdict = ask(text, "ingress", guest, DB)
    assert (verdict.outcome, verdict.reason) == ("undetermined", "host-network")
    assert ask(text, "ingress", WEB, pod("shop/db", host_network=True)).reason == "host-network"
    assert ask(kubernetes("ingress: [{}]"), "ingress", guest, DB).outcome == "allowed"
