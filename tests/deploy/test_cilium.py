"""Cilium's policies: who is selected, whom rules mean, what denies, as Cilium's sources and documentation say.

Paths are those of cilium/cilium; "documentation" is its folder Documentation, and policy/ there is security/policy/.
"""

import textwrap
from typing import Any

import pytest

from deploy.semantics.ends import Endpoint
from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import profile
from deploy.semantics.reading import manifests
from deploy.semantics.reading.cilium import CLUSTER_SCOPED, HARMLESS, READERS
from deploy.semantics.rules import NetworkSet, Object, Policy, PortMatch, Rule
from deploy.semantics.traffic import Connection
from deploy.semantics.verdicts import judge_half
from tests.deploy.world import DB, PROM, WEB, ask, egress, ingress, kubernetes, outside, pod

OWN = Endpoint("node", ip="192.168.0.1", name="node-a")
OTHER = Endpoint("node", ip="192.168.0.2", name="node-b")
API = Endpoint("apiserver", ip="192.168.0.3")
OUT = outside("203.0.113.9")
HIDDEN = Endpoint("unknown", ip="10.0.7.7")
ENDS = {"pod": DB, "own": OWN, "other": OTHER, "api": API, "out": OUT, "hidden": HIDDEN}
CILIUM: dict[str, Any] = {"profile": "cilium"}
MANY_PORTS = ", ".join(["{port: '1'}"] * 41)
MANY_TYPES = ", ".join(["{type: 8}"] * 41)


def cilium(spec: str, name: str = "c", namespace: str = "shop") -> str:
    """Return a CiliumNetworkPolicy with this spec, as YAML."""
    return (
        kubernetes(spec, name, namespace)
        .replace("networking.k8s.io/v1", "cilium.io/v2")
        .replace(": Net", ": CiliumNet")
    )


def clusterwide(spec: str, name: str = "cw") -> str:
    """Return a CiliumClusterwideNetworkPolicy with this spec, as YAML."""
    return cilium(spec, name).replace("CiliumNet", "CiliumClusterwideNet").replace(", namespace: shop", "")


def db(rules: str) -> str:
    """Return a policy that selects the database."""
    return cilium(f"endpointSelector: {{matchLabels: {{app: db}}}}\n{rules}")


def web(rules: str) -> str:
    """Return a policy that selects the web pod."""
    return cilium(f"endpointSelector: {{matchLabels: {{app: web}}}}\n{rules}")


def objects(text: str) -> list[Object]:
    """Return what a text says; it breaks no rule."""
    found, problems = manifests.parse(textwrap.dedent(text), "p.yaml")
    assert not problems, problems
    return found


def policy(text: str) -> Policy:
    """Return the one policy of a text."""
    (found,) = objects(text)
    assert isinstance(found, Policy)
    return found


def broken(text: str) -> list[str]:
    """Return the rules that a text breaks, as `line: rule`."""
    found, problems = manifests.parse(textwrap.dedent(text), "p.yaml")
    assert not found or problems
    return [f"{one.line}: {one.rule}" for one in problems]


def known(text: str, direction: str, source: Endpoint, destination: Endpoint, *services: str) -> str:
    """Return the outcome where the endpoints of these Services are known."""
    policies, connection = PolicySet.of(objects(text)), Connection("tcp", 80)
    return judge_half(
        policies, (profile("cilium"),), direction, source, destination, connection, frozenset(services)
    ).outcome


def reached(text: str, ends: dict[str, Endpoint] | None = None, **more: Any) -> dict[str, str]:
    """Return what happens to egress of the web pod to each of the ends."""
    return {name: egress(text, end, **CILIUM, **more) for name, end in (ends or ENDS).items()}


def outcomes(**given: str) -> dict[str, str]:
    """Return the outcome for each end: denied unless given, by initial."""
    return {name: {"a": "allowed", "u": "undetermined", "d": "denied"}[given.get(name, "d")] for name in ENDS}


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("{}", ("denied", "denied", "denied")),
        ("{fromEndpoints: []}", ("denied", "denied", "denied")),
        ('{fromEndpoints: [], toPorts: [{ports: [{port: "80"}]}]}', ("denied", "denied", "denied")),
        ("{fromEntities: []}", ("denied", "denied", "denied")),
        ("{fromCIDR: []}", ("denied", "denied", "denied")),
        ("{toPorts: []}", ("denied", "denied", "denied")),
        ("{fromEndpoints: [{}]}", ("allowed", "denied", "denied")),
        ("{fromEndpoints: [{}], toPorts: []}", ("allowed", "denied", "denied")),
        ('{fromEndpoints: [{}], toPorts: [{ports: [{port: "80"}]}]}', ("allowed", "denied", "denied")),
        ('{fromEndpoints: [{}], toPorts: [{ports: [{port: "81"}]}]}', ("denied", "denied", "denied")),
        ('{toPorts: [{ports: [{port: "80"}]}]}', ("allowed", "allowed", "allowed")),
        ('{toPorts: [{ports: [{port: "0"}]}]}', ("allowed", "allowed", "allowed")),
        ("{fromEndpoints: null, fromEntities: [all]}", ("allowed", "allowed", "allowed")),
    ],
)
def test_an_empty_list_means_nobody_a_missing_one_anybody(rule: str, found: tuple[str, ...]) -> None:
    """An empty list means nobody, a missing one anybody, a rule without any nobody (pkg/policy/l4_filter_test.go)."""
    text = db(f"ingress: [{rule}]")
    assert tuple(ingress(text, one, **CILIUM) for one in (WEB, PROM, OUT)) == found


def test_an_empty_rule_isolates() -> None:
    """A rule that allows nothing isolates (examples/policies/l3/egress-default-deny/egress-default-deny.yaml)."""
    verdict = ask(web("egress: [{}]"), "egress", WEB, DB, **CILIUM)
    assert (verdict.outcome, verdict.reason, verdict.object) == ("denied", "isolation", "CiliumNetworkPolicy shop/c")


def test_only_directions_with_rules_are_isolated() -> None:
    """Only directions with rules are isolated (documentation, policy/intro.rst)."""
    assert policy(web("egress: [{}]\ningress: []")).isolates == {"egress"}
    assert policy(web("ingressDeny: [{fromEntities: [world]}]")).isolates == {"ingress"}
    assert ingress(web("egress: [{}]"), DB, **CILIUM) == "allowed"


def test_rules_of_a_direction_without_default_deny_isolate_nobody() -> None:
    """With enableDefaultDeny off, rules allow and deny but isolate nobody (documentation, policy/intro.rst)."""
    text = db(
        """\
        enableDefaultDeny: {ingress: false}
        ingress: [{fromEndpoints: [{matchLabels: {app: web}}]}]
        ingressDeny: [{fromEntities: [world]}]
        egress: [{toEndpoints: [{}]}]
        """.replace("        ", "")
    )
    found = policy(text)
    assert found.directions == {"ingress", "egress"}
    assert found.isolates == {"egress"}
    assert [ingress(text, one, **CILIUM) for one in (WEB, PROM, OUT)] == ["allowed", "allowed", "denied"]
    assert policy(text.replace("ingress: false", "ingress: true")).isolates == {"ingress", "egress"}


def test_a_denial_wins_over_all_that_is_allowed() -> None:
    """A denial wins over every allowance, of Kubernetes policies too (documentation, policy/deny.rst)."""
    allow = kubernetes("podSelector: {}\ningress: [{}]") + db("ingress: [{fromEndpoints: [{}]}]")
    deny = cilium("endpointSelector: {}\ningressDeny: [{fromEndpoints: [{matchLabels: {app: web}}]}]", "a-deny")
    verdict = ask(allow + deny, "ingress", WEB, DB, **CILIUM)
    assert (verdict.outcome, verdict.by) == ("denied", "CiliumNetworkPolicy shop/a-deny ingressDeny[0]")
    assert ingress(allow + deny, PROM, **CILIUM) == "allowed"
    one = db("ingress: [{fromEntities: [all]}]\ningressDeny: [{toPorts: [{ports: [{port: '81'}]}]}]")
    assert [ingress(one, WEB, port, **CILIUM) for port in (80, 81)] == ["allowed", "denied"]


def test_policies_of_both_kinds_add_up() -> None:
    """What any policy allows is allowed, Kubernetes policies included (documentation, policy/intro.rst)."""
    text = kubernetes("podSelector: {}\ningress: [{from: [{podSelector: {}}]}]") + db(
        "ingress: [{fromEntities: [world]}]"
    )
    assert [ingress(text, one, **CILIUM) for one in (WEB, OUT, PROM)] == ["allowed", "allowed", "denied"]


@pytest.mark.parametrize(
    ("peer", "found"),
    [
        ("{}", "web"),
        ("{matchLabels: {team: x}}", "x"),
        ("{matchLabels: {any:team: x}}", "x"),
        ("{matchLabels: {k8s:team: x}}", "x"),
        ("{matchLabels: {io.kubernetes.pod.namespace: mon}}", "prom monx"),
        ("{matchLabels: {k8s:io.kubernetes.pod.namespace: mon, team: x}}", "monx"),
        (
            "{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: In, values: [mon, shop]}]}",
            "web x prom monx",
        ),
        ("{matchExpressions: [{key: 'k8s:io.kubernetes.pod.namespace', operator: Exists}]}", "web x prom monx"),
        ("{matchExpressions: [{key: team, operator: DoesNotExist}]}", "web"),
        ("{matchExpressions: [{key: team, operator: NotIn, values: [z]}]}", "web x"),
        ("{matchLabels: {io.cilium.k8s.policy.serviceaccount: robot}}", "x"),
        (
            "{matchLabels: {k8s:io.kubernetes.pod.namespace: mon, io.cilium.k8s.policy.serviceaccount: default}}",
            "prom monx",
        ),
    ],
)
def test_a_peer_stays_in_the_namespace_until_it_names_one(peer: str, found: str) -> None:
    """A peer stays in the namespace until it names one (pkg/k8s/apis/cilium.io/utils/utils.go, getEndpointSelector)."""
    ends = {
        "web": WEB,
        "x": pod("shop/x", {"team": "x"}, service_account="robot"),
        "prom": PROM,
        "monx": pod("mon/x", {"team": "x"}),
    }
    expected = set(found.split()) | ({"x"} if peer == "{}" else set())
    text = db(f"ingress: [{{fromEndpoints: [{peer}]}}]")
    assert {name for name, end in ends.items() if ingress(text, end, **CILIUM) == "allowed"} == expected


def test_labels_of_namespaces_select_pods_of_all_of_them_from_a_clusterwide_policy() -> None:
    """Namespace labels select pods of other namespaces (documentation, policy/kubernetes.rst; issue 30149)."""
    key = "k8s:io.cilium.k8s.namespace.labels.team"
    text = clusterwide(f"endpointSelector: {{}}\ningress: [{{fromEndpoints: [{{matchLabels: {{{key}: blue}}}}]}}]")
    assert [ingress(text, one, **CILIUM) for one in (PROM, WEB, OUT)] == ["allowed", "denied", "denied"]
    named = "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name"
    text = clusterwide(f"endpointSelector: {{}}\ningress: [{{fromEndpoints: [{{matchLabels: {{{named}: mon}}}}]}}]")
    assert [ingress(text, one, **CILIUM) for one in (PROM, WEB)] == ["allowed", "denied"]


def test_an_empty_peer_of_a_clusterwide_policy_is_every_pod() -> None:
    """An empty peer of a clusterwide policy is every pod, nothing else (documentation, policy/layer3.rst)."""
    text = clusterwide("endpointSelector: {matchLabels: {app: db}}\ningress: [{fromEndpoints: [{}]}]")
    assert [ingress(text, one, **CILIUM) for one in (WEB, PROM, OUT, OTHER)] == [
        "allowed",
        "allowed",
        "denied",
        "denied",
    ]


def test_a_policy_selects_pods_of_its_namespace_whatever_it_says() -> None:
    """A policy's namespace replaces one in its selector; a clusterwide one has none (utils.go, ParseToCiliumRule)."""
    deny = "ingress: [{}]"
    assert ingress(cilium(f"endpointSelector: {{}}\n{deny}", namespace="mon"), WEB, **CILIUM) == "allowed"
    other = f"endpointSelector: {{matchLabels: {{k8s:io.kubernetes.pod.namespace: mon}}}}\n{deny}"
    assert ingress(cilium(other), WEB, **CILIUM) == "denied"
    assert ingress(clusterwide(other), WEB, **CILIUM) == "allowed"
    assert ingress(clusterwide(f"endpointSelector: {{}}\n{deny}"), WEB, **CILIUM) == "denied"
    assert (
        ingress(clusterwide(f"endpointSelector: {{matchLabels: {{reserved:health: ''}}}}\n{deny}"), WEB, **CILIUM)
        == "allowed"
    )


def test_host_network_pods_are_nodes() -> None:
    """No endpointSelector selects host-network pods; to others they are nodes (documentation, policy/host.rst)."""
    agent = pod("shop/agent", host_network=True, node="node-b")
    assert ask(cilium("endpointSelector: {}\ningress: [{}]"), "ingress", WEB, agent, **CILIUM).outcome == "allowed"
    assert ingress(db("ingress: [{fromEndpoints: [{}]}]"), agent, **CILIUM) == "denied"
    assert ingress(db("ingress: [{fromEntities: [remote-node]}]"), agent, **CILIUM) == "allowed"


@pytest.mark.parametrize(
    ("entity", "found"),
    [
        ("all", outcomes(pod="a", own="a", other="a", api="a", out="a", hidden="a")),
        ("none", outcomes()),
        ("world", outcomes(out="a", api="u", hidden="u")),
        ("cluster", outcomes(pod="a", own="a", other="a", api="a", hidden="u")),
        ("host", outcomes(own="a", api="u", hidden="u")),
        ("remote-node", outcomes(other="a", api="u", hidden="u")),
        ("health", outcomes(hidden="u")),
        ("ingress", outcomes(hidden="u")),
        ("init", outcomes(pod="u", hidden="u")),
        ("unmanaged", outcomes(pod="u", hidden="u")),
        ("cluster-mesh", outcomes(pod="u", own="u", other="u", api="u", out="u", hidden="u")),
    ],
)
def test_entities_mean_kinds_of_ends(entity: str, found: dict[str, str]) -> None:
    """Entities mean kinds of ends (pkg/policy/api/entity.go); what no recording tells apart is undetermined."""
    assert reached(web(f"egress: [{{toEntities: [{entity}]}}]")) == found


def test_the_api_server_is_known_by_its_service() -> None:
    """kube-apiserver means all addresses behind default/kubernetes, nodes included (pkg/identity/reserved.go)."""
    text = web("egress: [{toEntities: [kube-apiserver]}]")
    leader = Endpoint("node", ip="192.168.0.4", name="node-c", services=(("default/kubernetes", "tcp", 6443),))
    found = [known(text, "egress", WEB, one, "default/kubernetes") for one in (API, leader, OTHER, OUT, DB)]
    assert found == ["allowed", "allowed", "denied", "denied", "denied"]
    assert egress(text, OTHER, **CILIUM) == "undetermined"
    assert egress(text, DB, **CILIUM) == "denied"


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("reserved:host", outcomes(own="a", api="u", hidden="u")),
        ("reserved.remote-node", outcomes(other="a", api="u", hidden="u")),
        ("reserved:world", outcomes(out="u", api="u", hidden="u")),
        ("reserved:world-ipv4", outcomes(out="u", api="u", hidden="u")),
        ("reserved:world-ipv6", outcomes()),
    ],
)
def test_reserved_labels_leave_the_namespace(key: str, found: dict[str, str]) -> None:
    """Reserved labels of a peer mean entities (utils.go, getEndpointSelector; on `world` pkg/policy/api/cidr.go)."""
    assert reached(web(f"egress: [{{toEndpoints: [{{matchLabels: {{{key}: ''}}}}]}}]")) == found


def test_labels_outside_identities_are_undetermined() -> None:
    """Whether a label that identities lack by default is seen is undetermined (identity-relevant-labels.rst)."""
    text = db("ingress: [{fromEndpoints: [{matchLabels: {app: web, pod-template-hash: abc}}]}]")
    labelled = pod("shop/web", {"app": "web", "pod-template-hash": "abc"})
    assert [ingress(text, one, **CILIUM) for one in (labelled, WEB, OUT)] == ["undetermined", "denied", "denied"]


def test_a_selector_of_negations_is_undetermined_for_what_is_no_pod() -> None:
    """Negations alone, over all namespaces, also meant nodes and the world before 1.19 (upgrade notes)."""
    term = "{key: io.kubernetes.pod.namespace, operator: NotIn, values: [mon]}"
    text = db(f"ingress: [{{fromEndpoints: [{{matchExpressions: [{term}]}}]}}]")
    assert [ingress(text, one, **CILIUM) for one in (WEB, PROM, OUT, OTHER)] == [
        *("allowed", "denied", "undetermined", "undetermined")
    ]


def test_the_name_of_the_cluster_is_undetermined() -> None:
    """Which cluster a pod is of, no recording tells (documentation, network/clustermesh/policy.rst)."""
    text = db("ingress: [{fromEndpoints: [{matchLabels: {app: web, io.cilium.k8s.policy.cluster: east}}]}]")
    assert [ingress(text, one, **CILIUM) for one in (WEB, pod("shop/x"), OUT)] == [
        "undetermined",
        "denied",
        "undetermined",
    ]


def test_prefixes_mean_neither_pods_nor_nodes() -> None:
    """CIDR rules mean neither pods nor nodes (documentation, policy/layer3.rst, "CIDR based")."""
    assert reached(web("egress: [{toCIDR: [0.0.0.0/0]}]")) == outcomes(out="a", api="u", hidden="u")
    assert reached(web("egress: [{toCIDR: [203.0.113.0/24]}]")) == outcomes(out="a")
    assert reached(web("egress: [{toCIDR: ['::/0', 198.51.100.0/24]}]")) == outcomes()


def test_exceptions_are_taken_out_of_their_prefix_only() -> None:
    """Exceptions are taken out of their own prefix only (documentation, policy/layer3.rst)."""
    text = db("ingress: [{fromCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.0/28]}, {cidr: 203.0.113.1/32}]}]")
    found = [ingress(text, outside(f"203.0.113.{last}"), **CILIUM) for last in (1, 2, 99)]
    assert found == ["allowed", "denied", "allowed"]


def test_a_deny_of_a_prefix_less_a_part_leaves_the_part() -> None:
    """A denied prefix spares its exceptions (documentation, policy/deny.rst)."""
    text = web(
        "egress: [{toEntities: [all]}]\negressDeny: [{toCIDRSet: [{cidr: 0.0.0.0/0, except: [203.0.113.9/32]}]}]"
    )
    assert [egress(text, one, **CILIUM) for one in (OUT, outside("192.0.2.1"), DB)] == ["allowed", "denied", "allowed"]


GROUP = """\
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: NAME, labels: {zone: ZONE, tier: gold}}
spec: {externalCIDRs: [PREFIX]}
---
"""
GROUPS = GROUP.replace("NAME", "a").replace("ZONE", "x").replace("PREFIX", "203.0.113.0/24, 192.168.0.0/16, 10.0.0.0/8")
GROUPS += GROUP.replace("NAME", "b").replace("ZONE", "v").replace("PREFIX", "198.51.100.0/24")


@pytest.mark.parametrize(
    ("refers", "found"),
    [
        ("cidrGroupRef: a", ("allowed", "denied")),
        ("cidrGroupRef: b", ("denied", "allowed")),
        ("cidrGroupRef: gone", ("denied", "denied")),
        ("cidrGroupSelector: {matchLabels: {zone: x}}", ("allowed", "denied")),
        ("cidrGroupSelector: {matchExpressions: [{key: zone, operator: In, values: [x, v]}]}", ("allowed", "allowed")),
        ("cidrGroupSelector: {matchLabels: {zone: x, tier: gold}}", ("allowed", "denied")),
        ("cidrGroupSelector: {matchLabels: {zone: v, tier: lead}}", ("denied", "denied")),
        (
            (
                "cidrGroupSelector: {matchLabels: {tier: gold},"
                " matchExpressions: [{key: zone, operator: NotIn, values: [x]}]}"
            ),
            ("undetermined", "undetermined"),
        ),
    ],
)
def test_cidr_groups_are_found_by_name_and_labels(refers: str, found: tuple[str, str]) -> None:
    """CIDR groups are found by name and labels (pkg/policy/api/cidr.go; network/kubernetes/ciliumcidrgroup.rst)."""
    text = GROUPS + web(f"egress: [{{toCIDRSet: [{{{refers}}}]}}]")
    assert (egress(text, OUT, **CILIUM), egress(text, outside("198.51.100.1"), **CILIUM)) == found
    assert [egress(text, one, **CILIUM) for one in (DB, OTHER)] == ["denied", "denied"]


def test_a_selector_that_only_negates_groups_is_undetermined() -> None:
    """What a selector without any positive term on groups means, nothing settles (pkg/policy/api/cidr.go)."""
    text = GROUPS + web(
        "egress: [{toCIDRSet: [{cidrGroupSelector: {matchExpressions: [{key: zone, operator: DoesNotExist}]}}]}]"
    )
    assert egress(text, OUT, **CILIUM) == "undetermined"


def test_a_cidr_group_is_a_set_of_networks() -> None:
    """A CIDR group is cluster-scoped and known by its name (pkg/k8s/apis/cilium.io/v2, ciliumcidrgroups.yaml)."""
    one, _ = objects(GROUPS)
    assert isinstance(one, NetworkSet)
    assert one.title == "CiliumCIDRGroup a"
    assert dict(one.labels)["cidrgroup:zone"] == "x"
    assert "CiliumCIDRGroup" in CLUSTER_SCOPED
    found = broken(GROUPS.replace("externalCIDRs: [198", "cidrs: [198").replace("203.0.113.0/24", "203.0.113.1"))
    assert found == [
        "4: spec.externalCIDRs[0]: '203.0.113.1' is no prefix such as 10.0.0.0/8",
        "9: spec.cidrs: unknown field",
        "9: spec: `externalCIDRs` is missing",
    ]


@pytest.mark.parametrize(
    ("rule", "found", "reason"),
    [
        ("toFQDNs: [{matchName: db.example.com}]", outcomes(out="u", api="u", hidden="u"), "fqdn"),
        ("toFQDNs: [{matchPattern: '*.example.com'}]", outcomes(out="u", api="u", hidden="u"), "fqdn"),
        ("toGroups: [{aws: {region: eu}}]", outcomes(out="u", api="u", hidden="u"), None),
        ("toNodes: [{matchLabels: {role: x}}]", outcomes(other="u", api="u", hidden="u"), None),
        (
            "toServices: [{k8sServiceSelector: {selector: {matchLabels: {a: b}}}}]",
            outcomes(pod="u", out="u", api="u", hidden="u"),
            None,
        ),
        ("toServices: [{k8sService: {serviceName: db}}]", outcomes(pod="u", out="u", api="u", hidden="u"), None),
    ],
)
def test_what_others_resolve_is_undetermined(rule: str, found: dict[str, str], reason: str | None) -> None:
    """What DNS, a cloud or node labels resolve is undetermined, never for others (documentation, policy/layer3.rst)."""
    text = web(f"egress: [{{{rule}}}]")
    assert reached(text) == found
    assert reason in (None, ask(text, "egress", WEB, OUT, **CILIUM).reason)


def test_a_named_service_means_its_endpoints() -> None:
    """A Service in a rule means its endpoints, on any port (pkg/policy/k8s/service.go)."""
    text = web("egress: [{toServices: [{k8sService: {serviceName: db, namespace: shop}}]}]")
    behind = pod("shop/db", services=(("shop/db", "tcp", 5432),))
    far = Endpoint("external", ip="203.0.113.9", services=(("shop/db", "tcp", 5432),))
    node = Endpoint("node", ip="192.168.0.2", name="node-b", services=(("shop/db", "tcp", 5432),))
    found = [known(text, "egress", WEB, one, "shop/db") for one in (behind, far, node, DB, OUT)]
    assert found == ["allowed", "allowed", "denied", "denied", "denied"]
    assert egress(text, DB, **CILIUM) == "undetermined"


@pytest.mark.parametrize(
    ("port", "found"),
    [
        ("{port: '80', protocol: TCP}", "80/tcp"),
        ("{port: '80', protocol: ANY}", "80/tcp 80/udp 80/sctp"),
        ("{port: '80'}", "80/tcp 80/udp 80/sctp"),
        ("{port: '80', endPort: 90, protocol: TCP}", "80/tcp 85/tcp 90/tcp"),
        ("{port: '80', endPort: 79, protocol: TCP}", "80/tcp"),
        ("{port: '0', protocol: UDP}", "80/udp 85/udp"),
        ("{port: '0'}", "80/tcp 85/tcp 90/tcp 80/udp 85/udp 80/sctp"),
        ("{port: '0', endPort: 65535, protocol: UDP}", "80/udp 85/udp"),
        ("{port: '0', endPort: 85, protocol: TCP}", "80/tcp 85/tcp"),
    ],
)
def test_ports_are_numbers_ranges_and_wildcards(port: str, found: str) -> None:
    """Ports are numbers, ranges and wildcards (pkg/policy/api/l4.go, rule.go; documentation, policy/layer4.rst)."""
    text = db(f"ingress: [{{toPorts: [{{ports: [{port}]}}]}}]")
    asked = [(80, "tcp"), (85, "tcp"), (90, "tcp"), (80, "udp"), (85, "udp"), (80, "sctp")]
    rule = policy(text).ingress[0]
    assert all(one.protocol != "icmp" for one in rule.traffic.ports)
    allowed = {f"{number}/{name}" for number, name in asked if _matches(rule, number, name)}
    assert allowed == set(found.split())
    for number, name in asked[:5]:
        expected = "allowed" if f"{number}/{name}" in allowed else "denied"
        assert ingress(text, WEB, number, name, **CILIUM) == expected
    assert ingress(text, WEB, None, "icmp", icmp=(8, 0), **CILIUM) == "denied"


def test_all_ports_of_a_protocol_include_one_that_was_not_recorded() -> None:
    """Ports 0 to 65535 of a protocol are the whole protocol (pkg/policy/portrange.go, PortRangeToMaskedPorts)."""
    text = db("ingress: [{toPorts: [{ports: [{port: '0', endPort: 65535, protocol: UDP}]}]}]")
    assert ingress(text, WEB, None, "udp", **CILIUM) == "allowed"
    assert ingress(text.replace("65535", "65534"), WEB, None, "udp", **CILIUM) == "undetermined"


def _matches(rule: Rule, number: int, protocol: str) -> bool:
    return any(
        one.protocol in (None, protocol) and (one.low is None or one.low <= number <= (one.high or 0))
        for one in rule.traffic.ports
    )


def test_peers_and_ports_must_both_hold() -> None:
    """Peers and ports of a rule must both hold, entries are alternatives (documentation, policy/layer4.rst)."""
    text = db(
        "ingress: [{fromEndpoints: [{matchLabels: {app: web}}, {matchLabels: {app: x}}],"
        " toPorts: [{ports: [{port: '80'}]}, {ports: [{port: '81'}, {port: '82'}]}]}, {fromEntities: [world]}]"
    )
    found = {
        (one, port): ingress(text, end, port, **CILIUM)
        for one, end in (("web", WEB), ("out", OUT))
        for port in (80, 82, 83)
    }
    assert [name for name, outcome in found.items() if outcome == "denied"] == [("web", 83)]
    assert ingress(text, pod("shop/x"), 81, **CILIUM) == "allowed"
    assert ingress(text, PROM, 80, **CILIUM) == "denied"


def test_a_rule_without_ports_allows_any_protocol() -> None:
    """A rule without ports allows any protocol, ICMP too; one with ports no ICMP (documentation, policy/layer4.rst)."""
    anything = db("ingress: [{fromEndpoints: [{}], toPorts: []}]")
    assert ingress(anything, WEB, None, "icmp", icmp=(8, 0), **CILIUM) == "allowed"
    ports = db("ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: '0'}]}]}]")
    assert ingress(ports, WEB, None, "icmp", icmp=(8, 0), **CILIUM) == "denied"


def test_port_names_are_resolved_by_pods() -> None:
    """A port name is what the pod says (pkg/policy/l4.go); to ends that are no pods it is undetermined."""
    text = db("ingress: [{toPorts: [{ports: [{port: PG, protocol: TCP}]}]}]")
    assert [ingress(text, WEB, port, **CILIUM) for port in (5432, 80)] == ["allowed", "denied"]
    assert [ingress(text, OUT, port, **CILIUM) for port in (5432, 80)] == ["allowed", "denied"]
    out = web("egress: [{toEntities: [all], toPorts: [{ports: [{port: pg, protocol: TCP}]}]}]")
    assert [egress(out, one, 5432, **CILIUM) for one in (DB, OUT, OTHER)] == ["allowed", "undetermined", "undetermined"]
    assert egress(out, OUT, 5432, "udp", **CILIUM) == "denied"
    assert {
        one.protocol for one in policy(db("ingress: [{toPorts: [{ports: [{port: pg}]}]}]")).ingress[0].traffic.ports
    } == {*("tcp", "udp", "sctp")}


def test_an_entry_without_ports_and_rare_protocols_are_undetermined() -> None:
    """What an entry without ports allows, nothing settles; rare protocols are an option (pkg/policy/api/l4.go)."""
    assert ingress(db("ingress: [{toPorts: [{}]}]"), WEB, **CILIUM) == "undetermined"
    assert ingress(db("ingress: [{toPorts: [{ports: []}], fromEndpoints: [{}]}]"), PROM, **CILIUM) == "denied"
    gre = db("ingress: [{toPorts: [{ports: [{port: '0', protocol: GRE}]}]}]")
    assert ingress(gre, WEB, None, "47", **CILIUM) == "undetermined"
    assert ingress(gre, WEB, 80, **CILIUM) == "denied"
    assert ingress(db("ingress: [{icmps: [{}]}]"), WEB, None, "icmp", icmp=(8, 0), **CILIUM) == "undetermined"


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("{type: 8}", "icmp/8"),
        ("{type: '8', family: IPv4}", "icmp/8"),
        ("{type: EchoRequest}", "icmp/8"),
        ("{type: EchoRequest, family: IPv6}", "icmpv6/128"),
        ("{type: 128, family: IPv6}", "icmpv6/128"),
        ("{type: EchoReply}", "icmp/0"),
        ("{type: TimeExceeded, family: IPv6}", "icmpv6/3"),
    ],
)
def test_icmp_messages_are_named_by_family_and_type(field: str, found: str) -> None:
    """ICMP messages are named by family and type, numbers or names (pkg/policy/api/icmp.go)."""
    text = db(f"ingress: [{{icmps: [{{fields: [{field}]}}]}}]")
    asked = [("icmp", 8), ("icmp", 0), ("icmpv6", 128), ("icmpv6", 3)]
    allowed = [
        f"{name}/{kind}"
        for name, kind in asked
        if ingress(text, WEB, None, name, icmp=(kind, 0), **CILIUM) == "allowed"
    ]
    assert allowed == [found]
    assert ingress(text, WEB, 8, **CILIUM) == "denied"
    within = db(f"ingress: [{{fromEndpoints: [{{}}], icmps: [{{fields: [{field}]}}]}}]")
    assert (
        ingress(within, PROM, None, found.partition("/")[0], icmp=(int(found.partition("/")[2]), 0), **CILIUM)
        == "denied"
    )


@pytest.mark.parametrize(
    ("direction", "entry", "unjudged"),
    [
        ("ingress", "{ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}", ("http",)),
        ("ingress", "{ports: [{port: '80', protocol: TCP}], rules: {kafka: [{role: produce}]}}", ("kafka",)),
        (
            "ingress",
            "{ports: [{port: '80', protocol: TCP}], rules: {l7proto: r2d2, l7: [{cmd: READ}]}}",
            ("l7proto", "l7"),
        ),
        ("egress", "{ports: [{port: '53', protocol: ANY}], rules: {dns: [{matchPattern: '*'}]}}", ("dns",)),
        ("egress", "{ports: [{port: '443', protocol: TCP}], serverNames: [a.example]}", ("serverNames",)),
        (
            "egress",
            (
                "{ports: [{port: '443', protocol: TCP}], terminatingTLS: {secret: {name: a}},"
                " originatingTLS: {secret: {name: b}}}"
            ),
            ("terminatingTLS", "originatingTLS"),
        ),
        (
            "egress",
            "{ports: [{port: '80', protocol: TCP}], listener: {name: l, envoyConfig: {name: e}}}",
            ("listener",),
        ),
        ("ingress", "{ports: [{port: '80', protocol: TCP}], rules: {}}", ()),
    ],
)
def test_what_stands_above_ports_is_told_and_not_judged(direction: str, entry: str, unjudged: tuple[str, ...]) -> None:
    """Rules above ports are told and not judged, the ports are (pkg/policy/api/l4.go)."""
    found = policy(web(f"{direction}: [{{toPorts: [{entry}]}}]"))
    (rule,) = found.rules(direction)
    assert rule.unjudged == unjudged
    assert rule.traffic.ports[0].low in (53, 80, 443)


def test_each_entry_tells_what_it_does_not_judge() -> None:
    """What stands above one entry's ports says nothing of another's (pkg/policy/api/l4.go, PortRule)."""
    http = "{ports: [{port: '80', protocol: TCP}], rules: {http: [{}]}}"
    first, second = policy(web(f"ingress: [{{toPorts: [{http}, {{ports: [{{port: '81'}}]}}]}}]")).ingress
    assert (first.unjudged, second.unjudged) == (("http",), ())
    assert (first.where, second.where) == ("ingress[0]", "ingress[0]")


def test_authentication_is_told() -> None:
    """Required authentication is told and not judged (pkg/policy/api/rule.go, Authentication)."""
    required = web("ingress: [{fromEndpoints: [{}], authentication: {mode: required}}]")
    assert policy(required).ingress[0].unjudged == ("authentication",)
    assert policy(required.replace("required", "disabled")).ingress[0].unjudged == ()
    assert ingress(required, DB, **CILIUM) == "allowed"


def test_several_specs_are_several_policies() -> None:
    """Each item of specs is a policy of its own, beside spec (pkg/k8s/apis/cilium.io/v2/cnp_types.go, Parse)."""
    text = """\
        apiVersion: cilium.io/v2
        kind: CiliumNetworkPolicy
        metadata: {name: many, namespace: shop}
        specs:
        - endpointSelector: {matchLabels: {app: db}}
          ingress: [{fromEndpoints: [{matchLabels: {app: web}}]}]
        - endpointSelector: {matchLabels: {app: web}}
          egress: [{toEndpoints: [{matchLabels: {app: db}}]}]
        """
    found = objects(text)
    assert [one.title for one in found] == ["CiliumNetworkPolicy shop/many"] * 2
    assert [one.line for one in found if isinstance(one, Policy)] == [5, 7]
    assert ask(text, "egress", WEB, DB, **CILIUM).rule == "specs[1].egress[0]"
    assert [egress(text, OUT, **CILIUM), ingress(text, PROM, **CILIUM)] == ["denied", "denied"]
    both = text + "spec: {endpointSelector: {}, egressDeny: [{toEntities: [all]}]}\n"
    assert len(objects(both)) == 3


def test_rules_know_their_places() -> None:
    """Rules know section, place and line; denials come first."""
    text = """\
        apiVersion: cilium.io/v2
        kind: CiliumNetworkPolicy
        metadata: {name: c, namespace: shop}
        spec:
          description: who may talk
          labels: [{key: a, source: k8s, value: b}]
          log: {value: seen}
          endpointSelector: {}
          egress:
          - toEntities: [all]
          - {}
          egressDeny:
          - toPorts: [{ports: [{port: "25", protocol: TCP}]}]
        """
    found = policy(text)
    assert [(one.where, one.line, one.action) for one in found.egress] == [
        ("egressDeny[0]", 13, "deny"),
        ("egress[0]", 10, "allow"),
        ("egress[1]", 11, "allow"),
    ]
    assert found.egress[0].traffic.ports == (PortMatch("tcp", 25, 25),)
    assert (found.dialect, found.line) == ("cilium", 1)


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ("ingress: [{}]", "spec: `endpointSelector` is missing"),
        ("endpointSelector: {}", "spec: holds no rule"),
        ("endpointSelector: {}\ningress: []", "spec: holds no rule"),
        ("nodeSelector: {}\ningress: [{}]", "spec.nodeSelector: podfence does not judge policies for nodes"),
        ("endpointSelector: {}\ningress: [{}]\nfoo: 1", "spec.foo: unknown field"),
        ("endpointSelector: {}\ningress: [{from: []}]", "spec.ingress[0].from: unknown field"),
        ("endpointSelector: {}\ningress: [{toEndpoints: []}]", "spec.ingress[0].toEndpoints: unknown field"),
        (
            "endpointSelector: {}\ningress: [{fromRequires: [{}]}]",
            "spec.ingress[0].fromRequires: podfence does not judge",
        ),
        ("endpointSelector: {}\negress: [{toRequires: [{}]}]", "spec.egress[0].toRequires: podfence does not judge"),
        (
            "endpointSelector: {}\ningress: [{fromEndpoints: [{}], fromCIDR: [10.0.0.0/8]}]",
            "spec.ingress[0]: fromEndpoints and fromCIDR may not stand in one rule",
        ),
        ("endpointSelector: {}\ningress: [{fromEntities: [world-ipv4]}]", "'world-ipv4' is none of all, none, world"),
        ("endpointSelector: {}\ningress: [{fromCIDR: [10.0.0.1]}]", "'10.0.0.1' is no prefix"),
        ("endpointSelector: {}\ningress: [{fromCIDR: [10.0.0.0/255.0.0.0]}]", "'10.0.0.0/255.0.0.0' is no prefix"),
        ("endpointSelector: {}\ningress: [{fromCIDR: [10.0.0.0/33]}]", "'10.0.0.0/33' is no prefix"),
        (
            "endpointSelector: {}\ningress: [{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}]",
            "except[0]: 11.0.0.0/16 is no part of 10.0.0.0/8",
        ),
        (
            "endpointSelector: {}\ningress: [{fromCIDRSet: [{cidr: 10.0.0.0/8, except: ['::a00:1/128']}]}]",
            "::a00:1/128 is no part of 10.0.0.0/8",
        ),
        (
            "endpointSelector: {}\ningress: [{fromCIDRSet: [{}]}]",
            "needs one of cidr, cidrGroupRef and cidrGroupSelector",
        ),
        (
            "endpointSelector: {}\ningress: [{fromCIDRSet: [{cidr: 10.0.0.0/8, cidrGroupRef: a}]}]",
            "needs one of cidr, cidrGroupRef and cidrGroupSelector",
        ),
        (
            "endpointSelector: {}\ningress: [{fromCIDRSet: [{cidrGroupRef: a, except: [10.0.0.0/8]}]}]",
            "podfence does not judge exceptions from a cidrGroupRef",
        ),
        ("endpointSelector: {}\ningress: [{toPorts: [{ports: [{port: '70000'}]}]}]", "'70000' is neither a port"),
        ("endpointSelector: {}\ningress: [{toPorts: [{ports: [{port: '080'}]}]}]", "'080' is neither a port"),
        (
            "endpointSelector: {}\ningress: [{toPorts: [{ports: [{port: 80}]}]}]",
            "port: expected text, found a number 80",
        ),
        ("endpointSelector: {}\ningress: [{toPorts: [{ports: [{protocol: TCP}]}]}]", "ports[0]: `port` is missing"),
        ("endpointSelector: {}\ningress: [{toPorts: [{ports: [{port: a_b}]}]}]", "'a_b' is neither a port"),
        (
            "endpointSelector: {}\ningress: [{toPorts: [{ports: [{port: '1', endPort: 70000}]}]}]",
            "70000 is outside 0-65535",
        ),
        ("endpointSelector: {}\ningress: [{toPorts: [{ports: [{port: '1', protocol: tcp}]}]}]", "'tcp' is none of TCP"),
        (
            "endpointSelector: {}\ningress: [{toPorts: [{ports: [{port: '1', protocol: GRE}]}]}]",
            "protocol GRE has no ports",
        ),
        (
            f"endpointSelector: {{}}\ningress: [{{toPorts: [{{ports: [{MANY_PORTS}]}}]}}]",
            "has 41 ports, Cilium takes 40",
        ),
        (
            "endpointSelector: {}\ningress: [{toPorts: [{ports: [{port: '1'}]}], icmps: [{fields: [{type: 8}]}]}]",
            "icmps: may not stand together with toPorts",
        ),
        ("endpointSelector: {}\ningress: [{icmps: [{fields: [{type: Ping}]}]}]", "'Ping' is no type of icmp"),
        ("endpointSelector: {}\ningress: [{icmps: [{fields: [{type: 256}]}]}]", "256 is outside 0-255"),
        (
            "endpointSelector: {}\ningress: [{icmps: [{fields: [{family: IPv5, type: 1}]}]}]",
            "'IPv5' is none of IPv4, IPv6",
        ),
        ("endpointSelector: {}\ningress: [{icmps: [{fields: [{family: IPv6}]}]}]", "`type` is missing"),
        (
            f"endpointSelector: {{}}\ningress: [{{icmps: [{{fields: [{MANY_TYPES}]}}]}}]",
            "has 41 fields, Cilium takes 40",
        ),
        (
            "endpointSelector: {}\ningress: [{toPorts: [{ports: [{port: '53'}], rules: {dns: [{}]}}]}]",
            "dns: not allowed in ingress rules",
        ),
        (
            "endpointSelector: {}\negress: [{toPorts: [{rules: {dns: [{}]}}]}]",
            "dns: needs ports",
        ),
        (
            "endpointSelector: {}\negress: [{toPorts: [{ports: [{port: '53', endPort: 54}], rules: {dns: [{}]}}]}]",
            "endPort: may not stand together with DNS rules",
        ),
        (
            "endpointSelector: {}\negress: [{toPorts: [{ports: [{port: '80'}], rules: {http: [{}]}}]}]",
            "rules other than DNS need protocol TCP",
        ),
        (
            "endpointSelector: {}\negress: [{toPorts: [{ports: [{port: '0', protocol: TCP}], rules: {http: [{}]}}]}]",
            "0 may not stand together with rules",
        ),
        (
            "endpointSelector: {}\negress: [{toPorts: [{ports: [], rules: {http: [{}], kafka: [{}]}}]}]",
            "rules: may hold rules of one protocol only",
        ),
        ("endpointSelector: {}\negress: [{toPorts: [{rules: {l7: [{}]}}]}]", "l7: needs l7proto"),
        (
            "endpointSelector: {}\ningress: [{toPorts: [{listener: {name: l}}]}]",
            "listener: not allowed in ingress rules",
        ),
        (
            "endpointSelector: {}\negress: [{toPorts: [{listener: {name: l}, rules: {http: [{}]}}]}]",
            "listener: may not stand together with rules",
        ),
        ("endpointSelector: {}\negress: [{toPorts: [{serverNames: ['']}]}]", "serverNames: a name is empty"),
        (
            "endpointSelector: {}\negress: [{toPorts: [{serverNames: [a], rules: {http: [{}]}}]}]",
            "serverNames: with rules needs terminatingTLS",
        ),
        (
            "endpointSelector: {}\ningressDeny: [{toPorts: [{ports: [{port: '80'}], rules: {http: [{}]}}]}]",
            "spec.ingressDeny[0].toPorts[0].rules: unknown field",
        ),
        ("endpointSelector: {}\negressDeny: [{toFQDNs: [{matchName: a}]}]", "egressDeny[0].toFQDNs: unknown field"),
        (
            "endpointSelector: {}\negressDeny: [{toServices: [{k8sService: {serviceName: a}}]}]",
            "egressDeny[0].toServices: podfence does not judge this field",
        ),
        ("endpointSelector: {}\negress: [{toFQDNs: [{matchName: 'a b'}]}]", "'a b' is no DNS name"),
        ("endpointSelector: {}\negress: [{toFQDNs: [{matchPattern: 'a+'}]}]", "'a+' is no pattern of DNS names"),
        (
            "endpointSelector: {}\negress: [{toFQDNs: [{matchName: a, matchPattern: b}]}]",
            "needs one of matchName and matchPattern",
        ),
        ("endpointSelector: {}\negress: [{toServices: [{}]}]", "needs one of k8sService and k8sServiceSelector"),
        ("endpointSelector: {}\negress: [{toServices: [{k8sService: {}}]}]", "`serviceName` is missing"),
        ("endpointSelector: {}\negress: [{toServices: [{k8sServiceSelector: {}}]}]", "`selector` is missing"),
        ("endpointSelector: {}\negress: [{toGroups: [{}]}]", "`aws` is missing"),
        (
            "endpointSelector: {}\ningress: [{authentication: {mode: test-always-fail}}]",
            "authentication that always fails",
        ),
        ("endpointSelector: {}\ningress: [{authentication: {}}]", "`mode` is missing"),
        ("endpointSelector: {}\ningress: [{}]\nenableDefaultDeny: {ingress: 'no'}", "expected a boolean"),
        ("endpointSelector: {}\ningress: [{}]\nlabels: [{value: b}]", "labels[0]: `key` is missing"),
        (
            "endpointSelector: {matchLabels: {container:a: b}}\ningress: [{}]",
            "does not judge labels of the source 'container'",
        ),
        ("endpointSelector: {matchLabels: {reserved:foo: ''}}\ningress: [{}]", "'foo' is none of the reserved labels"),
        ("endpointSelector: {matchLabels: {reserved:init: ''}}\ningress: [{}]", "endpoints that are initialising"),
        ("endpointSelector: {matchLabels: {k8s:-a: b}}\ningress: [{}]", "'-a' is no label key"),
        ("endpointSelector: {matchLabels: {a: 'b c'}}\ningress: [{}]", "'b c' is no label value"),
        ("endpointSelector: {matchExpressions: [{key: a, operator: In}]}\ningress: [{}]", "operator In needs values"),
        ("endpointSelector: {matchExpressions: [{operator: Exists}]}\ningress: [{}]", "`key` is missing"),
    ],
)
def test_broken_and_unjudged_rules_are_told(spec: str, rule: str) -> None:
    """What Cilium does not take, or podfence does not judge, is told (pkg/policy/api/rule_validation.go, the CRDs)."""
    found = broken(cilium(spec))
    assert any(rule in one for one in found), found


def test_broken_rules_are_told_with_their_lines() -> None:
    """Every broken rule is told, each with its line."""
    text = """\
        apiVersion: cilium.io/v2
        kind: CiliumNetworkPolicy
        metadata: {name: c, namespace: shop}
        spec:
          endpointSelector:
            matchExpressions:
            - key: k8s:app
              operator: Is
          ingress:
          - fromCIDRSet:
            - cidr: 10.0.0.0/8
              except:
              - 10.0.0.0/16
              - 12.0.0.0/8
          - toPorts:
            - ports:
              - port: "70000"
        """
    assert broken(text) == [
        "8: spec.endpointSelector.matchExpressions[0].operator: 'Is' is none of In, NotIn, Exists, DoesNotExist",
        "14: spec.ingress[0].fromCIDRSet[0].except[1]: 12.0.0.0/8 is no part of 10.0.0.0/8",
        "17: spec.ingress[1].toPorts[0].ports[0].port: '70000' is neither a port from 0 to 65535 nor a port name",
    ]


def test_a_policy_needs_spec_or_specs() -> None:
    """A policy needs spec or specs (pkg/k8s/apis/cilium.io/v2/cnp_types.go, Parse)."""
    head = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: c}\n"
    assert broken(head) == ["1: `spec` or `specs` is missing"]
    assert broken(head + "specs: []\n") == ["1: `spec` or `specs` is missing"]


def test_versions_are_those_that_cilium_serves() -> None:
    """Policies have version v2 only, CIDR groups v2alpha1 too (pkg/k8s/apis/cilium.io/client/crds)."""
    assert (
        "has version cilium.io/v2 only" in broken(web("ingress: [{}]").replace("cilium.io/v2", "cilium.io/v2alpha1"))[0]
    )
    assert len(objects(GROUPS.replace("cilium.io/v2", "cilium.io/v2alpha1"))) == 2


def test_kinds_without_a_say_are_left_alone() -> None:
    """Kinds without a say in who may talk are left alone, and none of them is read (client/crds)."""
    assert not HARMLESS & set(READERS)
    assert set(READERS) > CLUSTER_SCOPED
    assert objects("apiVersion: cilium.io/v2\nkind: CiliumEndpoint\nmetadata: {name: a}\n") == []
