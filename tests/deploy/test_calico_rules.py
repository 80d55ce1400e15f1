"""The rules of Calico's policies: which connections each matches, and what of them is an error.

Sources, all in projectcalico/calico: fields and limits in api/pkg/apis/projectcalico/v3/policy_common.go and
libcalico-go/lib/validator/v3/validator.go; which ends a rule means in
libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go; how its parts are joined in felix/calc/rule_scanner.go and
felix/rules/policy.go; first match in app-policy/checker/check.go.
"""

import pytest

from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import profile
from deploy.semantics.rules import (
    Addresses,
    AllOf,
    Doubtful,
    Family,
    IcmpMatch,
    Members,
    Net,
    Other,
    Peer,
    PortMatch,
    Rule,
    Serves,
    Traffic,
    address_range,
)
from deploy.semantics.selectors import ALL, And, Has, In, Not, Or, Selector
from deploy.semantics.traffic import Connection
from deploy.semantics.verdicts import judge_half
from tests.deploy.calico_world import everywhere, policy_of, read, resource
from tests.deploy.world import DB, PROM, WEB, ask, calico, egress, ingress, outside, pod

OUTSIDE = outside("203.0.113.1")
SHOP = In("projectcalico.org/namespace", ("shop",))
ANYWHERE = Has("projectcalico.org/namespace")


def allowing(rule: str, *, namespace: str | None = "shop") -> str:
    """Return a policy for all pods whose only ingress rule allows, as YAML; without a namespace a global one."""
    spec = f"selector: all()\ningress: [{{action: Allow{rule and ', '}{rule}}}]"
    return everywhere(spec) if namespace is None else calico(spec, namespace=namespace)


def rule_of(rule: str, *, namespace: str | None = "shop") -> Rule:
    """Return the rule that `allowing` writes, read without complaint."""
    return policy_of(allowing(rule, namespace=namespace)).ingress[0]


def source_of(source: str, *, namespace: str | None = "shop") -> Peer:
    """Return what a rule's source means."""
    return rule_of(f"source: {{{source}}}", namespace=namespace).source


def nets(*texts: str) -> Addresses:
    """Return the condition of an address in one of these prefixes."""
    return Addresses(tuple(Net(address_range(text)) for text in texts))


def test_the_first_matching_rule_decides() -> None:
    """Rules are tried from the top, the first that matches decides (check.go, checkRules)."""
    deny, allow = "{action: Deny, source: {selector: app == 'web'}}", "{action: Allow}"
    assert ingress(calico(f"selector: all()\ningress: [{deny}, {allow}]"), WEB) == "denied"
    assert ingress(calico(f"selector: all()\ningress: [{allow}, {deny}]"), WEB) == "allowed"


def test_logging_decides_nothing() -> None:
    """A rule that logs is followed by the next (check.go, checkRules)."""
    assert ingress(calico("selector: all()\ningress: [{action: Log}, {action: Allow}]"), WEB) == "allowed"
    assert ingress(calico("selector: all()\ningress: [{action: Log}, {action: Deny}]"), WEB) == "denied"
    assert ingress(calico("selector: all()\ningress: [{action: Log}]"), WEB) == "denied"


def test_passing_leaves_the_tier() -> None:
    """A rule that passes leaves the tier, behind the last one for the namespace's profile, which allows (check.go)."""
    text = calico("selector: all()\ningress: [{action: Pass}, {action: Deny}]")
    assert ingress(text, WEB) == "allowed"
    assert ingress(text + calico("selector: all()\norder: 5\ningress: [{action: Deny}]", "z"), WEB) == "denied"
    assert ingress(text + calico("selector: all()\ningress: [{action: Deny}]", "z"), WEB) == "allowed"


def test_a_policy_that_decides_nothing_leaves_it_to_the_next() -> None:
    """A policy none of whose rules matches denies nothing by itself (check.go, checkTiers)."""
    text = calico("selector: all()\norder: 1", "a") + calico("selector: all()\ningress: [{action: Allow}]", "b")
    assert ingress(text, WEB) == "allowed"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("", None),
        ("selector: ''", None),
        ("serviceAccounts: {}", None),
        ("serviceAccounts: {names: []}", None),
        ("selector: app == 'web'", And((SHOP, In("app", ("web",))))),
        ("selector: all()", SHOP),
        ("selector: app == 'web' || app == 'x'", And((SHOP, Or((In("app", ("web",)), In("app", ("x",))))))),
        ("notSelector: app == 'web'", And((SHOP, Not(In("app", ("web",)))))),
        ("selector: has(a), notSelector: has(b)", And((SHOP, Has("a"), Not(Has("b"))))),
        ("namespaceSelector: team == 'red'", In("pcns.team", ("red",))),
        ("namespaceSelector: all()", ANYWHERE),
        ("namespaceSelector: global()", Not(ANYWHERE)),
        ("namespaceSelector: '!all()'", Not(ANYWHERE)),
        ("namespaceSelector: all(), selector: has(a)", And((ANYWHERE, Has("a")))),
        ("namespaceSelector: has(b), notSelector: has(a)", And((Has("pcns.b"), Not(Has("a"))))),
        ("serviceAccounts: {names: [z, x, z]}", And((SHOP, In("projectcalico.org/serviceaccount", ("x", "z"))))),
        ("serviceAccounts: {selector: role == 'r'}", And((SHOP, In("pcsa.role", ("r",))))),
        ("serviceAccounts: {selector: all()}", SHOP),
        (
            "serviceAccounts: {names: [x], selector: has(role)}, selector: has(a), namespaceSelector: has(b)",
            And(
                (
                    Has("pcns.b"),
                    And((Has("pcsa.role"), In("projectcalico.org/serviceaccount", ("x",)))),
                    Has("a"),
                )
            ),
        ),
    ],
)
def test_whom_a_namespaced_rule_means(source: str, found: Selector | None) -> None:
    """Any selector limits an end to the policy's namespace unless namespaceSelector is given (rules.go, getEndpointSelector)."""
    peer = source_of(source)
    assert peer == (rule_of("").source if found is None else Members(found))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("selector: app == 'web'", Members(In("app", ("web",)))),
        ("selector: all()", Members(ALL)),
        ("notSelector: app == 'web'", Other(Members(In("app", ("web",))))),
        ("selector: has(a), notSelector: has(b)", Members(And((Has("a"), Not(Has("b")))))),
        ("namespaceSelector: has(team), notSelector: has(b)", Members(And((Has("pcns.team"), Not(Has("b")))))),
        ("namespaceSelector: global(), selector: has(a)", Members(And((Not(ANYWHERE), Has("a"))))),
        ("serviceAccounts: {names: [x]}", Members(In("projectcalico.org/serviceaccount", ("x",)))),
        ("serviceAccounts: {selector: all()}", Members(ALL)),
    ],
)
def test_whom_a_global_rule_means(source: str, found: Peer) -> None:
    """A global policy's rule is limited to no namespace of its own (rules.go, getEndpointSelector)."""
    assert source_of(source, namespace=None) == found


def test_a_selector_stays_in_the_namespace_unless_one_is_selected() -> None:
    """A selector means the policy's namespace, namespaceSelector others (rules.go, getEndpointSelector)."""
    own = allowing("source: {selector: all()}")
    assert [ingress(own, one) for one in (WEB, PROM, OUTSIDE)] == ["allowed", "denied", "denied"]
    other = allowing("source: {selector: app == 'prom', namespaceSelector: team == 'blue'}")
    assert [ingress(other, one) for one in (PROM, pod("mon/x"), pod("shop/prom"))] == ["allowed", "denied", "denied"]
    named = allowing("source: {namespaceSelector: projectcalico.org/name == 'bare'}")
    assert (ingress(named, pod("bare/x")), ingress(named, PROM)) == ("allowed", "denied")
    anywhere = allowing("source: {namespaceSelector: all()}")
    assert [ingress(anywhere, one) for one in (WEB, PROM, OUTSIDE)] == ["allowed", "allowed", "denied"]
    nowhere = allowing("source: {namespaceSelector: global()}")
    assert [ingress(nowhere, one) for one in (WEB, PROM, OUTSIDE)] == ["denied", "denied", "denied"]


def test_a_negated_selector_alone() -> None:
    """A notSelector alone stays in a policy's namespace, and in a global one means other addresses, too (policy_common.go)."""
    text = allowing("source: {notSelector: app == 'web'}")
    found = [ingress(text, one) for one in (WEB, pod("shop/x"), PROM, OUTSIDE)]
    assert found == ["denied", "allowed", "denied", "denied"]
    text = allowing("source: {notSelector: app == 'web'}", namespace=None)
    found = [ingress(text, one) for one in (WEB, pod("shop/x"), PROM, OUTSIDE)]
    assert found == ["denied", "allowed", "allowed", "allowed"]


def test_a_negation_inside_a_selector_means_endpoints_only() -> None:
    """`!has(x)` means endpoints without x, never other addresses (policy_common.go, EntityRule)."""
    text = allowing("source: {selector: '!has(role)'}", namespace=None)
    found = [ingress(text, one) for one in (WEB, pod("shop/x", {"role": "r"}), PROM, OUTSIDE)]
    assert found == ["allowed", "denied", "allowed", "denied"]


def test_service_accounts_by_name_and_by_label() -> None:
    """Names and selector of service accounts must both hold (rules.go, parseServiceAccounts)."""
    front = pod("shop/web", service_account="front", service_account_labels=(("role", "r"),))
    plain = pod("shop/x", service_account="front")
    other = pod("mon/web", service_account="front", service_account_labels=(("role", "r"),))
    ends = (front, plain, other, OUTSIDE)
    names = allowing("source: {serviceAccounts: {names: [front]}}")
    assert [ingress(names, one) for one in ends] == ["allowed", "allowed", "denied", "denied"]
    labels = allowing("source: {serviceAccounts: {names: [front], selector: role == 'r'}}")
    assert [ingress(labels, one) for one in ends] == ["allowed", "denied", "denied", "denied"]
    anywhere = allowing("source: {serviceAccounts: {selector: role == 'r'}, namespaceSelector: all()}")
    assert [ingress(anywhere, one) for one in ends] == ["allowed", "denied", "allowed", "denied"]


def test_nets_match_any_address_and_are_not_bound_to_the_namespace() -> None:
    """Nets match every address in them, pods of any namespace included (rules.go; felix/rules/policy.go)."""
    text = allowing("source: {nets: [10.0.0.0/24, 203.0.113.1/32], notNets: [10.0.0.128/25]}")
    assert ingress(text, PROM) == "allowed"
    assert ingress(text, pod("mon/x", ip="10.0.0.200")) == "denied"
    assert ingress(text, OUTSIDE) == "allowed"
    assert ingress(text, outside("203.0.113.2")) == "denied"


def test_nets_and_selector_must_both_hold() -> None:
    """All parts of an end must hold (policy_common.go, Rule)."""
    text = allowing("source: {nets: [10.1.0.0/16], selector: app == 'web'}")
    assert (ingress(text, WEB), ingress(text, pod("shop/web", ip="10.1.0.1"))) == ("denied", "allowed")
    assert source_of("nets: [10.1.0.0/16], selector: has(a)") == AllOf(
        (Members(And((SHOP, Has("a")))), nets("10.1.0.0/16"))
    )


def test_absent_prefixes_match_only_their_own_ip_version() -> None:
    """A rule whose notNets are all of one IP version is not rendered for the other (felix/rules/policy.go)."""
    assert source_of("notNets: [10.1.0.0/16]") == AllOf((Other(nets("10.1.0.0/16")), Family(4)))
    text = allowing("source: {notNets: [10.1.0.0/16]}")
    ends = (OUTSIDE, outside("10.1.2.3"), outside("2001:db8::1"))
    assert [ingress(text, one) for one in ends] == ["allowed", "denied", "denied"]
    text = allowing("source: {notNets: ['2001:db8::/32']}")
    assert [ingress(text, one) for one in (*ends, outside("2001:db9::1"))] == ["denied", "denied", "denied", "allowed"]


def test_ip_versions() -> None:
    """An ipVersion limits a rule to connections of that version (felix/rules/policy.go, FilterRuleToIPVersion)."""
    text = allowing("ipVersion: 6")
    assert (ingress(text, WEB), ingress(text, outside("2001:db8::1"))) == ("denied", "allowed")
    text = calico("selector: all()\negress: [{action: Allow, ipVersion: 4}]")
    assert (egress(text, outside("2001:db8::1")), egress(text, OUTSIDE)) == ("denied", "allowed")
    rule = policy_of(text).egress[0]
    assert (rule.source, rule.destination) == (rule_of("").source, Family(4))


def test_egress_rules_may_select_both_ends() -> None:
    """Source and destination of a rule must both hold, in either direction (policy_common.go)."""
    text = calico(
        "types: [Egress]\negress: [{action: Allow, source: {selector: app == 'web'}, destination: {selector: app == 'db'}}]"
    )
    assert (egress(text, DB), egress(text, PROM)) == ("allowed", "denied")
    assert ask(text, "egress", pod("shop/x"), DB).outcome == "denied"


@pytest.mark.parametrize(
    ("protocol", "read_as"),
    [
        ("TCP", "tcp"),
        ("UDP", "udp"),
        ("SCTP", "sctp"),
        ("ICMP", "icmp"),
        ("ICMPv6", "icmpv6"),
        ("UDPLite", "136"),
        ("6", "tcp"),
        ("'17'", "udp"),
        ("132", "sctp"),
        ("1", "icmp"),
        ("58", "icmpv6"),
        ("47", "47"),
        ("255", "255"),
    ],
)
def test_protocols_by_name_and_number(protocol: str, read_as: str) -> None:
    """Protocols are six names or numbers from 1 to 255 (policy_common.go; api/pkg/lib/numorstring/protocol.go)."""
    assert rule_of(f"protocol: {protocol}").traffic == Traffic(protocol=read_as)
    assert rule_of(f"notProtocol: {protocol}").traffic == Traffic(not_protocol=read_as)


@pytest.mark.parametrize(("protocol", "asked"), [("UDP", "udp"), ("17", "udp"), ("47", "47"), ("ICMP", "icmp")])
def test_a_rule_matches_its_protocol(protocol: str, asked: str) -> None:
    """A rule with a protocol matches no other, one with notProtocol every other (felix/rules/policy.go)."""
    port = 80 if asked == "udp" else None
    assert ingress(allowing(f"protocol: {protocol}"), WEB, port, asked) == "allowed"
    assert ingress(allowing(f"protocol: {protocol}"), WEB, 80, "tcp") == "denied"
    assert ingress(allowing(f"notProtocol: {protocol}"), WEB, port, asked) == "denied"
    assert ingress(allowing(f"notProtocol: {protocol}"), WEB, 80, "tcp") == "allowed"


def test_ports_are_numbers_ranges_and_names_of_the_destination() -> None:
    """Ports are alternatives: numbers, ranges and names that the destination resolves (rule_scanner.go; numorstring/port.go)."""
    text = allowing("protocol: TCP, destination: {ports: [80, '90:92', '95', pg]}")
    found = [port for port in (79, 80, 89, 90, 92, 93, 95, 5432) if ingress(text, WEB, port) == "allowed"]
    assert found == [80, 90, 92, 95, 5432]
    assert ingress(text, WEB, 80, "udp") == "denied"
    but = allowing("protocol: TCP, destination: {notPorts: [80, '90:92', pg]}")
    found = [port for port in (79, 80, 90, 93, 5432) if ingress(but, WEB, port) == "allowed"]
    assert found == [79, 93]
    found_ports = rule_of("protocol: UDP, destination: {ports: ['90:92', dns]}").traffic.ports
    assert found_ports == (PortMatch("udp", 90, 92), PortMatch("udp", name="dns"))


def test_port_names_need_no_protocol() -> None:
    """Names carry their own protocol, so a rule may name ports without one (validator.go; rule_scanner.go, ProtocolAny)."""
    assert rule_of("destination: {ports: [pg]}").traffic == Traffic(ports=(PortMatch(None, name="pg"),))
    text = allowing("destination: {ports: [pg]}")
    assert (ingress(text, WEB, 5432), ingress(text, WEB, 5432, "udp"), ingress(text, WEB, 80)) == (
        "allowed",
        "denied",
        "denied",
    )


def test_source_ports_are_not_recorded_so_the_rule_is_left_open() -> None:
    """A rule that asks for ports of the initiator may or may not match; where that changes nothing there is a verdict."""
    text = allowing("protocol: TCP, source: {ports: [123]}")
    assert ask(text, "ingress", WEB, DB).reason == "source-port"
    assert ingress(allowing("protocol: TCP, source: {notPorts: [123]}"), WEB) == "undetermined"
    denied = calico("selector: all()\ningress: [{action: Deny, protocol: TCP, source: {ports: [123]}}]")
    assert ingress(denied, WEB) == "denied"


def test_icmp_types_and_codes() -> None:
    """ICMP rules match types, with a type also codes, and their negations (felix/rules/policy.go, CalculateRuleMatch)."""
    eight, three = (
        "{action: Allow, protocol: ICMP, icmp: {type: 8}}",
        "{action: Allow, protocol: 1, icmp: {type: 3, code: 4}}",
    )
    text = calico(f"selector: all()\ningress: [{eight}, {three}]")
    asked = ((8, 0), (0, 0), (3, 4), (3, 1))
    assert [one for one in asked if ingress(text, WEB, None, "icmp", icmp=one) == "allowed"] == [(8, 0), (3, 4)]
    assert ingress(text, WEB, None, "icmp") == "undetermined"
    text = allowing("protocol: ICMP, notICMP: {type: 3, code: 4}")
    assert [one for one in asked if ingress(text, WEB, None, "icmp", icmp=one) == "allowed"] == [(8, 0), (0, 0), (3, 1)]
    assert rule_of("protocol: ICMPv6, icmp: {type: 128}").traffic == Traffic("icmpv6", icmp=(IcmpMatch("icmpv6", 128),))
    assert rule_of("protocol: ICMP, icmp: {}").traffic == Traffic("icmp")
    assert rule_of("protocol: ICMP, notICMP: {}").traffic == Traffic("icmp")


def test_http_is_named_and_its_other_parts_are_judged() -> None:
    """Felix does not match HTTP: only Envoy's rules do, so the rule says what it leaves out (rule_scanner.go, HTTPMatch)."""
    rule = rule_of(
        "protocol: TCP, http: {methods: [GET], paths: [{exact: /a}, {prefix: /b}]}, destination: {ports: [80]}"
    )
    assert rule.unjudged == ("http",)
    assert rule.traffic == Traffic("tcp", ports=(PortMatch("tcp", 80, 80),))
    assert rule_of("http: {methods: [GET]}").unjudged == ("http",)
    assert rule_of("protocol: TCP").unjudged == ()


def test_annotations_of_a_rule_change_nothing() -> None:
    """A rule's metadata is a comment (felix/rules/policy.go)."""
    assert rule_of("protocol: TCP, metadata: {annotations: {why: because}}") == rule_of("protocol: TCP")


def test_services_of_a_source_are_their_endpoints() -> None:
    """A Service as a source means its endpoints, at any port (rule_scanner.go, ServiceIncludePorts)."""
    assert source_of("services: {name: db, namespace: mon}") == Serves("mon/db")
    assert source_of("services: {name: db, namespace: mon}", namespace=None) == Serves("mon/db")
    rule = rule_of(
        "protocol: TCP, source: {services: {name: db, namespace: mon}, ports: [5]}, destination: {ports: [80]}"
    )
    assert rule.traffic == Traffic("tcp", ports=(PortMatch("tcp", 80, 80),), source_ports=True)
    assert rule.service is None


def test_services_of_a_destination_are_their_endpoints_and_ports() -> None:
    """A Service as a destination means its endpoints at the ports they serve (rule_scanner.go, DstIPPortSetIDs)."""
    text = calico("selector: all()\negress: [{action: Allow, destination: {services: {name: db, namespace: shop}}}]")
    policy = policy_of(text)
    assert (policy.egress[0].service, policy.egress[0].destination) == ("shop/db", rule_of("").source)
    served = pod("shop/db", services=(("shop/db", "tcp", 5432),))
    found = [
        judge_half(
            *(PolicySet((policy,)), [profile("calico")], "egress", WEB, end, Connection(protocol, port)),
            known_services=frozenset({"shop/db"}),
        ).outcome
        for end, protocol, port in (
            (served, "tcp", 5432),
            (served, "tcp", 80),
            (served, "udp", 5432),
            (DB, "tcp", 5432),
        )
    ]
    assert found == ["allowed", "denied", "denied", "denied"]
    assert ask(text, "egress", WEB, DB).reason == "service"


def test_a_service_without_a_namespace_is_doubtful() -> None:
    """The reference means the policy's namespace, the code looks in none: undetermined (policy_common.go; rules.go)."""
    doubt = source_of("services: {name: db}")
    assert isinstance(doubt, AllOf)
    assert doubt.parts[1] == Serves("shop/db")
    assert isinstance(doubt.parts[0], Doubtful)
    text = calico("selector: all()\negress: [{action: Allow, destination: {services: {name: db}}}]")
    assert egress(text, pod("shop/db", services=(("shop/db", "tcp", 80),))) == "undetermined"


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        # Fields and actions.
        ("{}", "6: spec.ingress[0]: `action` is missing"),
        ("{action: Permit}", "6: spec.ingress[0].action: 'Permit' is none of Allow, Deny, Log, Pass"),
        ("{action: allow}", "6: spec.ingress[0].action: 'allow' is none of Allow, Deny, Log, Pass"),
        ("{action: Allow, form: x}", "6: spec.ingress[0].form: unknown field"),
        ("{action: Allow, source: {net: []}}", "6: spec.ingress[0].source.net: unknown field"),
        ("{action: Allow, source: []}", "6: spec.ingress[0].source: expected a mapping, found a list"),
        ("{action: Allow, metadata: {labels: {}}}", "6: spec.ingress[0].metadata.labels: unknown field"),
        (
            "{action: Allow, metadata: {annotations: {a: 1}}}",
            "6: spec.ingress[0].metadata.annotations.a: expected text",
        ),
        # Protocols and ICMP.
        ("{action: Allow, protocol: tcp}", "6: spec.ingress[0].protocol: 'tcp' is none of TCP, UDP, ICMP"),
        ("{action: Allow, protocol: 0}", "6: spec.ingress[0].protocol: 0 is outside 1-255"),
        ("{action: Allow, protocol: 256}", "6: spec.ingress[0].protocol: 256 is outside 1-255"),
        ("{action: Allow, notProtocol: GRE}", "6: spec.ingress[0].notProtocol: 'GRE' is none of TCP"),
        ("{action: Allow, protocol: true}", "6: spec.ingress[0].protocol: expected text, found a boolean"),
        ("{action: Allow, icmp: {type: 8}}", "6: spec.ingress[0].icmp: needs protocol ICMP or ICMPv6"),
        ("{action: Allow, protocol: TCP, notICMP: {type: 8}}", "6: spec.ingress[0].notICMP: needs protocol ICMP"),
        ("{action: Allow, protocol: ICMP, icmp: {code: 0}}", "6: spec.ingress[0].icmp.code: needs a type"),
        ("{action: Allow, protocol: ICMP, icmp: {type: 255}}", "6: spec.ingress[0].icmp.type: 255 is outside 0-254"),
        (
            "{action: Allow, protocol: ICMP, icmp: {type: 8, code: 256}}",
            "6: spec.ingress[0].icmp.code: 256 is outside 0-255",
        ),
        ("{action: Allow, protocol: ICMP, icmp: {typ: 8}}", "6: spec.ingress[0].icmp.typ: unknown field"),
        ("{action: Allow, protocol: ICMP, ipVersion: 6}", "6: spec.ingress[0].ipVersion: icmp needs ipVersion 4"),
        ("{action: Allow, notProtocol: 58, ipVersion: 4}", "6: spec.ingress[0].ipVersion: icmpv6 needs ipVersion 6"),
        ("{action: Allow, ipVersion: 5}", "6: spec.ingress[0].ipVersion: 5 is neither 4 nor 6"),
        ("{action: Allow, ipVersion: '4'}", "6: spec.ingress[0].ipVersion: expected an integer, found text"),
        # Ports.
        (
            "{action: Allow, destination: {ports: [80]}}",
            "6: spec.ingress[0].destination.ports: ports need protocol TCP",
        ),
        ("{action: Allow, source: {notPorts: ['1:2']}}", "6: spec.ingress[0].source.notPorts: ports need protocol TCP"),
        (
            "{action: Allow, protocol: ICMP, source: {ports: [a]}}",
            "6: spec.ingress[0].source.ports: ports need protocol TCP",
        ),
        (
            "{action: Allow, notProtocol: TCP, source: {ports: [1]}}",
            "6: spec.ingress[0].source.ports: ports need protocol TCP",
        ),
        (
            "{action: Allow, protocol: TCP, destination: {ports: [70000]}}",
            "6: spec.ingress[0].destination.ports[0]: 70000 is",
        ),
        (
            "{action: Allow, protocol: TCP, destination: {ports: [0]}}",
            "6: spec.ingress[0].destination.ports[0]: 0 is outside",
        ),
        (
            "{action: Allow, protocol: TCP, destination: {ports: ['0:9']}}",
            "6: spec.ingress[0].destination.ports[0]: 0:9 is",
        ),
        (
            "{action: Allow, protocol: TCP, source: {ports: ['1:65536']}}",
            "6: spec.ingress[0].source.ports[0]: 1:65536 is",
        ),
        (
            "{action: Allow, protocol: TCP, destination: {ports: ['9:8']}}",
            "6: spec.ingress[0].destination.ports[0]: 8 is less",
        ),
        (
            "{action: Allow, protocol: TCP, destination: {ports: ['1-2']}}",
            "6: spec.ingress[0].destination.ports[0]: '1-2' is no",
        ),
        (
            "{action: Allow, protocol: TCP, destination: {ports: [Http]}}",
            "6: spec.ingress[0].destination.ports[0]: 'Http' is no",
        ),
        (
            "{action: Allow, protocol: TCP, destination: {ports: 80}}",
            "6: spec.ingress[0].destination.ports: expected a list",
        ),
        (
            f"{{action: Allow, protocol: TCP, destination: {{ports: {list(range(1, 52))}}}}}",
            "6: spec.ingress[0].destination.ports: has 51 ports, Calico takes 50",
        ),
        # Prefixes.
        (
            "{action: Allow, source: {nets: [10.0.0.0/99]}}",
            "6: spec.ingress[0].source.nets[0]: '10.0.0.0/99' is no prefix",
        ),
        ("{action: Allow, source: {nets: [10.0.0/8]}}", "6: spec.ingress[0].source.nets[0]: '10.0.0/8' is no prefix"),
        (
            "{action: Allow, source: {nets: [10.0.0.0/255.0.0.0]}}",
            "6: spec.ingress[0].source.nets[0]: '10.0.0.0/255.0.0.0' is",
        ),
        (
            "{action: Allow, source: {nets: ['fe80::1%e/64']}}",
            "6: spec.ingress[0].source.nets[0]: 'fe80::1%e/64' is no prefix",
        ),
        (
            "{action: Allow, source: {nets: ['::ffff:1.2.3.4/128']}}",
            "6: spec.ingress[0].source.nets[0]: '::ffff:1.2.3.4/128' is",
        ),
        ("{action: Allow, source: {nets: [web]}}", "6: spec.ingress[0].source.nets[0]: 'web' is no prefix"),
        (
            "{action: Allow, source: {nets: [10]}}",
            "6: spec.ingress[0].source.nets[0]: expected text, found a number 10",
        ),
        (
            "{action: Allow, source: {nets: [10.0.0.1]}}",
            "6: spec.ingress[0].source.nets[0]: 10.0.0.1 is an address; a rule",
        ),
        (
            "{action: Allow, source: {nets: [10.0.0.1/8]}}",
            "6: spec.ingress[0].source.nets[0]: 10.0.0.1/8 has bits beyond its",
        ),
        (
            "{action: Allow, source: {notNets: [0.0.0.0/0]}}",
            "6: spec.ingress[0].source.notNets[0]: without 0.0.0.0/0 nothing is",
        ),
        (
            "{action: Allow, source: {notNets: ['::/0']}}",
            "6: spec.ingress[0].source.notNets[0]: without ::/0 nothing is left",
        ),
        (
            "{action: Allow, source: {nets: [10.0.0.0/8, '2001:db8::/32']}}",
            "6: spec.ingress[0].source.nets: a rule may not hold both IPv4 and IPv6 prefixes",
        ),
        (
            "{action: Allow, source: {nets: [10.0.0.0/8]}, destination: {notNets: ['2001:db8::/32']}}",
            "6: spec.ingress[0].destination.notNets: a rule may not hold both IPv4 and IPv6 prefixes",
        ),
        (
            "{action: Allow, ipVersion: 6, source: {nets: [10.0.0.0/8]}}",
            "6: spec.ingress[0].source.nets: holds prefixes of another IP version than ipVersion 6",
        ),
        (
            "{action: Allow, ipVersion: 4, source: {notNets: ['2001:db8::/32']}}",
            "6: spec.ingress[0].source.notNets: holds prefixes of another IP version than ipVersion 4",
        ),
        (
            f"{{action: Allow, source: {{selector: {'a' * 120}}}}}",
            f"6: spec.ingress[0].source.selector: selector {'a' * 100 + '…'!r}: expected an operator",
        ),
        (
            "{action: Allow, source: {services: {name: a, namespace: b, port: 1}}}",
            "6: spec.ingress[0].source.services.port: unknown field",
        ),
        (
            f"{{action: Allow, source: {{nets: {[f'10.0.{one}.0/24' for one in range(257)][:257]}}}}}".replace(
                ".256.", ".1."
            ),
            "6: spec.ingress[0].source.nets: has 257 entries, Calico takes 256",
        ),
        # Selectors.
        (
            "{action: Allow, source: {selector: a}}",
            "6: spec.ingress[0].source.selector: selector 'a': expected an operator",
        ),
        (
            "{action: Allow, source: {selector: global()}}",
            "6: spec.ingress[0].source.selector: selector 'global()': global() is",
        ),
        (
            "{action: Allow, source: {notSelector: global()}}",
            "6: spec.ingress[0].source.notSelector: selector 'global()': global",
        ),
        ("{action: Allow, source: {selector: ' '}}", "6: spec.ingress[0].source.selector: is blank; leave it out"),
        (
            "{action: Allow, source: {namespaceSelector: global() || has(a)}}",
            "6: spec.ingress[0].source.namespaceSelector: selector 'global() || has(a)': global() is allowed only alone",
        ),
        (
            f"{{action: Allow, source: {{selector: {'a' * 1025}}}}}",
            "6: spec.ingress[0].source.selector: has 1025 characters",
        ),
        (
            "{action: Allow, source: {serviceAccounts: {selector: global()}}}",
            "6: spec.ingress[0].source.serviceAccounts.selector: selector 'global()': global() is allowed only alone",
        ),
        (
            '{action: Allow, source: {serviceAccounts: {names: ["a\'"]}}}',
            '6: spec.ingress[0].source.serviceAccounts.names[0]: "a\'" is no name',
        ),
        (
            "{action: Allow, source: {serviceAccounts: {name: a}}}",
            "6: spec.ingress[0].source.serviceAccounts.name: unknown",
        ),
        # Services.
        (
            "{action: Allow, destination: {services: {name: a, namespace: b}}}",
            "6: spec.ingress[0].destination.services: not allowed in the destination of an ingress rule",
        ),
        (
            "{action: Allow, source: {services: {namespace: b}}}",
            "6: spec.ingress[0].source.services: `name` is missing",
        ),
        ("{action: Allow, source: {services: {name: A}}}", "6: spec.ingress[0].source.services.name: 'A' is no name"),
        (
            "{action: Allow, source: {services: {name: a, namespace: b}, selector: has(x)}}",
            "6: spec.ingress[0].source.selector: may not stand together with services",
        ),
        (
            "{action: Allow, source: {services: {name: a, namespace: b}, notNets: [10.0.0.0/8]}}",
            "6: spec.ingress[0].source.notNets: may not stand together with services",
        ),
        (
            "{action: Allow, source: {services: {name: a, namespace: b}, serviceAccounts: {names: [x]}}}",
            "6: spec.ingress[0].source.serviceAccounts: may not stand together with services",
        ),
        # HTTP.
        ("{action: Deny, http: {methods: [GET]}}", "6: spec.ingress[0].http: is valid only in rules that allow"),
        ("{action: Pass, http: {}}", "6: spec.ingress[0].http: is valid only in rules that allow"),
        (
            "{action: Allow, protocol: UDP, http: {methods: [GET]}}",
            "6: spec.ingress[0].http: needs protocol TCP, or none",
        ),
        ("{action: Allow, http: {methods: [GET, GET]}}", "6: spec.ingress[0].http.methods: names a method twice"),
        ("{action: Allow, http: {paths: [{}]}}", "6: spec.ingress[0].http.paths[0]: needs either exact or prefix"),
        (
            "{action: Allow, http: {paths: [{exact: /a, prefix: /b}]}}",
            "6: spec.ingress[0].http.paths[0]: needs either exact or",
        ),
        ("{action: Allow, http: {paths: [{exact: a}]}}", "6: spec.ingress[0].http.paths[0]: 'a' does not start with /"),
        (
            "{action: Allow, http: {paths: [{prefix: /a?b}]}}",
            "6: spec.ingress[0].http.paths[0]: '/a?b' does not start with /",
        ),
        ("{action: Allow, http: {hosts: []}}", "6: spec.ingress[0].http.hosts: unknown field"),
        (
            f"{{action: Allow, http: {{methods: {[f'M{one}' for one in range(21)]}}}}}",
            "6: spec.ingress[0].http.methods: has 21 entries, Calico takes 20",
        ),
    ],
)
def test_broken_rules_are_errors(rule: str, wrong: str) -> None:
    """What Calico's validation refuses is an error, also what its resource definitions let pass (validator.go)."""
    found = read(calico(f"selector: all()\ningress: [{rule}]"))[1]
    assert [one[: len(wrong)] for one in found] == [wrong]


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        (
            "{action: Allow, source: {services: {name: a, namespace: b}}}",
            "6: spec.egress[0].source.services: not allowed in the source of an egress rule",
        ),
        (
            "{action: Allow, protocol: TCP, destination: {services: {name: a, namespace: b}, ports: [80]}}",
            "6: spec.egress[0].destination.ports: may not stand together with services in a destination",
        ),
        ("{action: Allow, http: {methods: [GET]}}", "6: spec.egress[0].http: is not allowed in egress rules"),
        (
            "{action: Allow, destination: {services: {name: a}}}",
            "6: spec.egress[0].destination.services: a global policy must name the Service's namespace",
        ),
    ],
)
def test_broken_egress_rules_are_errors(rule: str, wrong: str) -> None:
    """Services stand in the source of ingress and the destination of egress rules, HTTP in ingress ones (validator.go)."""
    assert read(everywhere(f"selector: all()\negress: [{rule}]"))[1] == [wrong]


@pytest.mark.parametrize(
    "rule",
    [
        "protocol: TCP, destination: {ports: [1, 65535, '1:65535', '1', '7:7']}",
        f"protocol: TCP, destination: {{ports: {list(range(1, 51))}}}",
        f"source: {{nets: {[f'10.0.{one}.0/24' for one in range(256)]}}}",
        f"http: {{methods: {[f'M{one}' for one in range(20)]}, paths: {[{'exact': f'/{one}'} for one in range(20)]}}}",
        "protocol: ICMP, icmp: {type: 254, code: 255}, notICMP: {type: 0, code: 0}",
        "protocol: ICMP, ipVersion: 4",
        "protocol: ICMPv6, ipVersion: 6",
        "ipVersion: 6, source: {nets: ['2001:db8::/32']}, destination: {notNets: ['::1/128']}",
        f"source: {{selector: '{'has(a)'.ljust(1024)}'}}",
    ],
)
def test_what_just_fits_is_taken(rule: str) -> None:
    """Values at the limits of Calico's API are no errors (policy_common.go; validator.go)."""
    assert read(allowing(rule))[1] == []


def test_a_direction_holds_1024_rules() -> None:
    """A direction takes 1024 rules (networkpolicy.go)."""
    rules = ", ".join(["{action: Allow}"] * 1024)
    assert read(calico(f"ingress: [{rules}]"))[1] == []
    assert read(calico(f"ingress: [{rules}, {{action: Deny}}]"))[1] == [
        "5: spec.ingress: has 1025 rules, Calico takes 1024"
    ]


def test_service_account_selectors_have_no_limit() -> None:
    """The API limits every selector but that of serviceAccounts (policy_common.go, ServiceAccountMatch)."""
    text = " || ".join(f"role == 'r{number}'" for number in range(200))
    assert len(text) > 1024
    assert read(allowing(f'source: {{serviceAccounts: {{selector: "{text}"}}}}'))[1] == []


def test_lines_of_rules_are_those_of_the_file() -> None:
    """Each rule knows its line and place, and each complaint its own line."""
    text = """
    apiVersion: projectcalico.org/v3
    kind: GlobalNetworkPolicy
    metadata: {name: g}
    spec:
      ingress:
      - action: Allow
        source:
          nets:
          - 10.0.0.0/8
      - action: Deny
    """
    rules = policy_of(text).ingress
    assert [(rule.where, rule.line) for rule in rules] == [("ingress[0]", 7), ("ingress[1]", 11)]
    assert read(text.replace("10.0.0.0/8", "10.0.0.0/33"))[1][0].startswith("10: spec.ingress[0].source.nets[0]")


@pytest.mark.parametrize("kind", ["StagedNetworkPolicy", "StagedGlobalNetworkPolicy"])
def test_rules_of_staged_kinds_are_checked_alike(kind: str) -> None:
    """A staged policy is checked as the enforced one (validator.go, validateStagedNetworkPolicy)."""
    assert "is no prefix" in read(resource(kind, "ingress: [{action: Allow, source: {nets: [x]}}]"))[1][0]
