"""Calico's evaluation and fields: order, first match, end of tier, entity rules."""

import pytest

from recorder.errors import InputError
from tests.deploy.world import DB, PROM, WEB, ask, calico, egress, ingress, kubernetes, outside, pod, policies

DENY_ALL = "selector: all()\n"


def test_a_policy_without_a_matching_rule_denies_at_the_end_of_the_tier() -> None:
    """A policy without a matching rule denies at the end of the tier."""
    text = calico("selector: app == 'db'\ningress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]")
    assert (ingress(text, WEB, 80), ingress(text, WEB, 81)) == ("allowed", "denied")
    assert ask(text, "ingress", WEB, DB, 81).reason == "isolation"


def test_an_unselected_pod_is_open() -> None:
    """An unselected pod is open."""
    assert ingress(calico("selector: app == 'other'"), WEB) == "allowed"


@pytest.mark.parametrize(
    ("rules", "isolated"),
    [
        ("", {"ingress"}),
        ("ingress: [{action: Deny}]", {"ingress"}),
        ("egress: [{action: Deny}]", {"egress"}),
        ("ingress: [{action: Deny}]\negress: [{action: Deny}]", {"ingress", "egress"}),
        ("types: [Egress]\ningress: [{action: Deny}]", {"egress"}),
    ],
)
def test_absent_types_follow_the_rules_that_are_there(rules: str, isolated: set[str]) -> None:
    """Absent types follow the rules that are there."""
    text = calico(DENY_ALL + rules)
    found = {
        name for name, outcome in (("ingress", ingress(text, WEB)), ("egress", egress(text, DB))) if outcome == "denied"
    }
    assert found == isolated


def test_the_first_matching_rule_decides() -> None:
    """The first matching rule decides."""
    deny, allow = "{action: Deny, source: {selector: app == 'web'}}", "{action: Allow}"
    assert ingress(calico(f"{DENY_ALL}ingress: [{deny}, {allow}]"), WEB) == "denied"
    assert ingress(calico(f"{DENY_ALL}ingress: [{allow}, {deny}]"), WEB) == "allowed"
    assert ingress(calico(f"{DENY_ALL}ingress: [{{action: Log}}, {allow}]"), WEB) == "allowed"


def test_policies_are_tried_by_order_and_without_one_last() -> None:
    """Policies are tried by order and without one last."""
    allow, deny = f"{DENY_ALL}ingress: [{{action: Allow}}]\n", f"{DENY_ALL}ingress: [{{action: Deny}}]\n"
    assert ingress(calico(f"{allow}order: 20", "a") + calico(f"{deny}order: 10", "b"), WEB) == "denied"
    assert ingress(calico(f"{allow}order: 10", "b") + calico(f"{deny}order: 20", "a"), WEB) == "allowed"
    assert ingress(calico(allow, "a") + calico(f"{deny}order: 5000", "b"), WEB) == "denied"
    assert ingress(calico(allow, "a") + calico(deny, "b"), WEB) == "allowed"


def test_a_policy_that_decides_nothing_leaves_it_to_the_next() -> None:
    """A policy that decides nothing leaves it to the next."""
    text = calico(f"{DENY_ALL}order: 1", "a") + calico(f"{DENY_ALL}ingress: [{{action: Allow}}]", "b")
    assert ingress(text, WEB) == "allowed"


def test_kubernetes_policies_stand_at_order_1000() -> None:
    """Kubernetes policies stand at order 1000."""
    allow = kubernetes("ingress: [{}]")
    deny = f"{DENY_ALL}ingress: [{{action: Deny}}]\norder: "
    assert ingress(allow + calico(f"{deny}999"), WEB) == "denied"
    assert ingress(allow + calico(f"{deny}1001"), WEB) == "allowed"
    assert (
        ingress(kubernetes("podSelector: {}") + calico(f"{DENY_ALL}ingress: [{{action: Allow}}]\norder: 2000"), WEB)
        == "allowed"
    )


def test_pass_leaves_the_tier_for_the_namespaces_profile_which_allows() -> None:
    """Pass leaves the tier for the namespace's profile which allows."""
    assert ingress(calico(f"{DENY_ALL}ingress: [{{action: Pass}}, {{action: Deny}}]"), WEB) == "allowed"


def test_a_selector_stays_in_the_namespace_unless_one_is_selected() -> None:
    """A selector stays in the namespace unless one is selected."""
    own = calico(f"{DENY_ALL}ingress: [{{action: Allow, source: {{selector: all()}}}}]")
    assert (ingress(own, WEB), ingress(own, PROM), ingress(own, outside("1.2.3.4"))) == ("allowed", "denied", "denied")
    other = calico(
        f"{DENY_ALL}ingress: [{{action: Allow, source: {{selector: app == 'prom', namespaceSelector: team == 'blue'}}}}]"
    )
    assert [ingress(other, one) for one in (PROM, pod("mon/x"), pod("shop/prom"))] == ["allowed", "denied", "denied"]
    named = calico(
        f"{DENY_ALL}ingress: [{{action: Allow, source: {{namespaceSelector: projectcalico.org/name == 'bare'}}}}]"
    )
    assert (ingress(named, pod("bare/x")), ingress(named, PROM)) == ("allowed", "denied")


def test_nets_match_any_address_and_are_not_bound_to_the_namespace() -> None:
    """Nets match any address and are not bound to the namespace."""
    text = calico(
        f"{DENY_ALL}ingress: [{{action: Allow, source: {{nets: [10.0.0.0/24, 203.0.113.1], notNets: [10.0.0.128/25]}}}}]"
    )
    assert ingress(text, PROM) == "allowed"
    assert ingress(text, pod("mon/x", ip="10.0.0.200")) == "denied"
    assert ingress(text, outside("203.0.113.1")) == "allowed"
    assert ingress(text, outside("203.0.113.2")) == "denied"


def test_nets_and_selector_must_both_hold() -> None:
    """Nets and selector must both hold."""
    text = calico(f"{DENY_ALL}ingress: [{{action: Allow, source: {{nets: [10.1.0.0/16], selector: app == 'web'}}}}]")
    assert (ingress(text, WEB), ingress(text, pod("shop/web", ip="10.1.0.1"))) == ("denied", "allowed")


def test_a_negated_selector() -> None:
    """A negated selector."""
    text = calico(f"{DENY_ALL}ingress: [{{action: Allow, source: {{notSelector: app == 'web'}}}}]")
    assert (ingress(text, WEB), ingress(text, pod("shop/x")), ingress(text, PROM)) == ("denied", "allowed", "denied")


def test_ports_are_numbers_ranges_and_names_of_the_destination() -> None:
    """Ports are numbers ranges and names of the destination."""
    text = calico(f"{DENY_ALL}ingress: [{{action: Allow, protocol: TCP, destination: {{ports: [80, '90:92', pg]}}}}]")
    found = [port for port in (79, 80, 89, 90, 92, 93, 5432) if ingress(text, WEB, port) == "allowed"]
    assert found == [80, 90, 92, 5432]
    but = calico(f"{DENY_ALL}ingress: [{{action: Allow, protocol: TCP, destination: {{notPorts: [80]}}}}]")
    assert (ingress(but, WEB, 80), ingress(but, WEB, 81)) == ("denied", "allowed")


def test_egress_rules_may_select_both_ends() -> None:
    """Egress rules may select both ends."""
    text = calico(
        "types: [Egress]\negress: [{action: Allow, source: {selector: app == 'web'}, destination: {selector: app == 'db'}}]"
    )
    assert (egress(text, DB), egress(text, PROM)) == ("allowed", "denied")
    assert ask(text, "egress", pod("shop/x"), DB).outcome == "denied"


@pytest.mark.parametrize(
    ("protocol", "asked"), [("UDP", "udp"), ("17", "udp"), ("47", "47"), ("SCTP", "sctp"), ("ICMP", "icmp")]
)
def test_protocols_by_name_and_number(protocol: str, asked: str) -> None:
    """Protocols by name and number."""
    text = calico(f"{DENY_ALL}ingress: [{{action: Allow, protocol: {protocol}}}]")
    assert ingress(text, WEB, None, asked) == "allowed"
    assert ingress(text, WEB, 80, "tcp") == "denied"


def test_icmp_types_and_codes() -> None:
    """ICMP types and codes."""
    text = calico(
        f"{DENY_ALL}ingress: [{{action: Allow, protocol: ICMP, icmp: {{type: 8}}}}, {{action: Allow, protocol: ICMP, icmp: {{type: 3, code: 4}}}}]"
    )
    found = [
        icmp for icmp in ((8, 0), (0, 0), (3, 4), (3, 1)) if ingress(text, WEB, None, "icmp", icmp=icmp) == "allowed"
    ]
    assert found == [(8, 0), (3, 4)]
    assert ingress(text, WEB, None, "icmp") == "undetermined"


def test_ip_versions() -> None:
    """IP versions."""
    text = calico(f"{DENY_ALL}ingress: [{{action: Allow, ipVersion: 6}}]")
    assert (ingress(text, WEB), ingress(text, outside("2001:db8::1"))) == ("denied", "allowed")


def test_source_ports_are_not_recorded_so_the_rule_is_left_open() -> None:
    """Source ports are not recorded so the rule is left open."""
    text = calico(f"{DENY_ALL}ingress: [{{action: Allow, protocol: TCP, source: {{ports: [123]}}}}]")
    assert ask(text, "ingress", WEB, DB).reason == "source-port"
    decided = calico(f"{DENY_ALL}ingress: [{{action: Deny, protocol: TCP, source: {{ports: [123]}}}}]")
    assert ask(decided, "ingress", WEB, DB).outcome == "denied"


@pytest.mark.parametrize(
    "rule",
    [
        "source: {serviceAccounts: {names: [x]}}",
        "destination: {services: {name: x}}",
        "http: {methods: [GET]}",
        "notProtocol: TCP",
        "protocol: ICMP, notICMP: {type: 8}",
    ],
)
def test_a_field_that_is_not_judged_is_refused_by_name(rule: str) -> None:
    """A field that is not judged is refused by name."""
    with pytest.raises(InputError, match="podfence does not judge this field"):
        policies(calico(f"{DENY_ALL}ingress: [{{action: Allow, {rule}}}]"))


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ("tier: security", "default tier only"),
        ("serviceAccountSelector: x == 'y'", "does not judge this field"),
        ("selector: a === 'b'", "selector"),
        ("selector: global()", "not judged"),
        ("selector: has(pcns.team)", "does not judge the label"),
        ("order: first", "expected a number"),
        ("ingress: [{action: Permit}]", "none of Allow"),
        ("ingress: [{protocol: TCP}]", "`action` is missing"),
        ("ingress: [{action: Allow, destination: {ports: [80]}}]", "ports need protocol"),
        ("ingress: [{action: Allow, protocol: TCP, destination: {ports: ['9:8']}}]", "less than"),
        ("ingress: [{action: Allow, protocol: TCP, destination: {ports: [70000]}}]", "outside 1-65535"),
        ("ingress: [{action: Allow, icmp: {type: 8}}]", "needs protocol ICMP"),
        ("ingress: [{action: Allow, source: {nets: [10.0.0.0/33]}}]", "no prefix"),
        ("ingress: [{action: Allow, ipVersion: 5}]", "neither 4 nor 6"),
        ("selektor: all()", "unknown field"),
    ],
)
def test_broken_rules_of_calico_are_errors(spec: str, rule: str) -> None:
    """Broken rules of Calico are errors."""
    with pytest.raises(InputError, match=rule):
        policies(calico(spec))
