"""What oracles do wrong, shown on the smallest case each: what is done about it goes when a test here fails."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.oracles import cyclonus, netpol_analyzer
from tests.oracles import network_config_analyzer as nca
from tests.oracles.cases import Case
from tests.oracles.comparison import CYCLONUS, NETPOL_ANALYZER, NETWORK_CONFIG_ANALYZER, Oracle
from tests.oracles.lines import Program
from tests.oracles.worlds import Pod, Port, World

Json = dict[str, Any]
Start = Callable[[Oracle], Program]

WEB = Pod("one", "web", {"app": "web"}, (), ("10.0.1.1",))
DB = Pod("one", "db", {"app": "db"}, (Port("sql", 5432, "TCP"), Port("other", 5432, "TCP")), ("10.0.1.2",))
FAR = Pod("two", "far", {"role": "far"}, (), ("10.0.2.1",))
OUTSIDE = "203.0.113.9"


def small(
    *policies: Json, pods: tuple[Pod, ...] = (WEB, DB, FAR), asked: tuple[tuple[str, int], ...] = (("TCP", 5432),)
) -> Case:
    """Return policies over three pods and an address outside."""
    namespaces = {name: {"kubernetes.io/metadata.name": name, "team": name} for name in ("one", "two")}
    return Case("small", World(namespaces, pods, (OUTSIDE,)), policies, (), asked)


def policy(spec: Json, name: str = "p", namespace: str | None = "one", *, calico: bool = False) -> Json:
    """Return a policy with this spec."""
    version = "projectcalico.org/v3" if calico else "networking.k8s.io/v1"
    kind = "NetworkPolicy" if namespace else "GlobalNetworkPolicy"
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def ingress(peer: Json | None = None, port: Json | None = None, **spec: Any) -> Json:
    """Return a NetworkPolicy that lets one peer reach the database."""
    rule = ({"from": [peer]} if peer else {}) | ({"ports": [port]} if port else {})
    return policy({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"], "ingress": [rule]} | spec)


def egress(rule: Json) -> Json:
    """Return a NetworkPolicy that lets the web pod out by one rule."""
    return policy({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": [rule]})


def who(one: Case, found: Any, asked: int = 0) -> set[str]:
    """Return the pairs that may connect, as `source>destination`."""
    ends = {number: one.world.title(number).rpartition("/")[2] for number in range(len(one.world.ends))}
    pairs = zip(one.world.pairs, found, strict=True)
    return {f"{ends[left]}>{ends[right]}" for (left, right), row in pairs if row[asked]}


def test_cyclonus_misses_not_in_where_the_key_is_absent(start: Start) -> None:
    """`NotIn` matches a pod without the key (kubernetes/apimachinery pkg/labels/selector.go); cyclonus says no."""
    program = start(CYCLONUS)
    peer = {
        "namespaceSelector": {},
        "podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]},
    }
    one = small(ingress(peer))
    assert "far>db" not in who(one, program.verdicts(one))
    assert "far>db" in who(one, cyclonus.verdicts(program, one))


def test_cyclonus_takes_an_absent_label_for_an_empty_one(start: Start) -> None:
    """`matchLabels` asks for the key, even with an empty value (the same source); cyclonus does not."""
    program = start(CYCLONUS)
    one = small(ingress({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": ""}}}))
    assert "far>db" in who(one, program.verdicts(one))
    assert "far>db" not in who(one, cyclonus.verdicts(program, one))


def test_cyclonus_panics_on_absent_types(start: Start) -> None:
    """Absent policyTypes are defaulted by the API server only; cyclonus wants them."""
    program = start(CYCLONUS)
    one = small(policy({"podSelector": {}}))
    with pytest.raises(RuntimeError, match="at least 1 type"):
        program.verdicts(one)
    assert who(one, cyclonus.verdicts(program, one)) == {
        "web>far",
        "db>far",
        "web>203.0.113.9",
        "db>203.0.113.9",
        "far>203.0.113.9",
        "203.0.113.9>far",
    }


def test_cyclonus_is_asked_under_each_port_name(start: Start) -> None:
    """Both names of one number let it through, though cyclonus' traffic carries only one."""
    program = start(CYCLONUS)
    for name in ("sql", "other"):
        one = small(ingress(port={"port": name}))
        assert "web>db" in who(one, cyclonus.verdicts(program, one))


@pytest.mark.parametrize("oracle", [NETPOL_ANALYZER, NETWORK_CONFIG_ANALYZER], ids=lambda one: one.name)
def test_a_block_never_matches_a_pod(start: Start, oracle: Oracle) -> None:
    """The API leaves it open whether `ipBlock` matches pods; most engines do, two oracles do not."""
    one = small(ingress({"ipBlock": {"cidr": "0.0.0.0/0"}}))
    found = who(one, oracle.verdicts(start(oracle), one))
    assert {pair for pair in found if pair.endswith(">db")} == {"203.0.113.9>db"}


def test_netpol_analyzer_refuses_a_port_name_towards_addresses(start: Start) -> None:
    """A port name matches no address; netpol-analyzer refuses to say so."""
    program = start(NETPOL_ANALYZER)
    one = small(egress({"ports": [{"port": "sql"}, {"port": 80}]}), asked=(("TCP", 5432), ("TCP", 80)))
    with pytest.raises(RuntimeError, match="cannot convert named port"):
        program.verdicts(one)
    found = netpol_analyzer.verdicts(program, one)
    assert {pair for pair in who(one, found) if pair.startswith("web>")} == {"web>db"}
    assert {pair for pair in who(one, found, 1) if pair.startswith("web>")} == {"web>db", "web>far", "web>203.0.113.9"}


def test_netpol_analyzer_gives_a_port_name_one_protocol(start: Start) -> None:
    """A name may stand for a port of each protocol; netpol-analyzer keeps one of them."""
    program = start(NETPOL_ANALYZER)
    found = [(program.verdicts(one), netpol_analyzer.verdicts(program, one), one) for one in two_protocols()]
    assert ["web>db" in who(one, raw) for raw, _, one in found] == [True, False]
    assert ["web>db" in who(one, suited) for _, suited, one in found] == [True, True]


def two_protocols() -> list[Case]:
    """Return cases that ask for a port name under each of its protocols."""
    pods = (WEB, replace(DB, ports=(Port("dns", 53, "UDP"), Port("dns", 5353, "TCP"))))
    return [
        small(ingress(port={"protocol": protocol, "port": "dns"}), pods=pods, asked=((protocol, number),))
        for protocol, number in (("UDP", 53), ("TCP", 5353))
    ]


def test_netpol_analyzer_leaves_ipv6_out(start: Start) -> None:
    """Where nothing is isolated everybody is reached, but netpol-analyzer lists no IPv6 address."""
    program = start(NETPOL_ANALYZER)
    one = small(ingress())
    pods = tuple(replace(pod, addresses=(*pod.addresses, f"fd00::{number}")) for number, pod in enumerate((WEB, DB), 1))
    one = replace(one, world=replace(one.world, pods=pods, outside=(OUTSIDE, "2001:db8::1")))
    assert {pair for pair in who(one, program.verdicts(one)) if "web>" in pair and "db" not in pair} == {
        "web>203.0.113.9"
    }
    assert netpol_analyzer.judged(one).sum() * 2 == len(one.world.pairs)


def test_netpol_analyzer_takes_all_of_ipv6_for_all_addresses(start: Start) -> None:
    """An IPv6 block holds no IPv4 address; to netpol-analyzer `::/0` holds them all."""
    program = start(NETPOL_ANALYZER)
    one = small(ingress({"ipBlock": {"cidr": "::/0"}}))
    pods = tuple(replace(pod, addresses=(*pod.addresses, f"fd00::{number}")) for number, pod in enumerate((WEB, DB), 1))
    dual = replace(one, world=replace(one.world, pods=pods))
    assert "203.0.113.9>db" in who(one, program.verdicts(one))
    assert "203.0.113.9>db" not in who(netpol_analyzer.suited(dual), netpol_analyzer.verdicts(program, dual))


def wrong_about(start: Start, one: Case, pair: str, *, truth: bool) -> None:
    """Assert that network-config-analyzer is wrong about a pair, and right about the case as it is given to it."""
    program = start(NETWORK_CONFIG_ANALYZER)
    assert (pair in who(one, nca.told(program, one))) is not truth
    assert (pair in who(one, nca.verdicts(program, one))) is truth


def refused(start: Start, one: Case, complaint: str) -> None:
    """Assert that network-config-analyzer drops a policy with a complaint, and reads the case as it is given to it."""
    program = start(NETWORK_CONFIG_ANALYZER)
    with pytest.raises((AssertionError, RuntimeError), match=complaint):
        nca.told(program, one)
    nca.verdicts(program, one)


@pytest.mark.parametrize(("operator", "key"), [("Exists", "role"), ("DoesNotExist", "app")])
def test_nca_keeps_exists_in_its_own_namespace(start: Start, operator: str, key: str) -> None:
    """A podSelector beside a namespaceSelector looks at those namespaces (kubernetes/api networking/v1/types.go)."""
    peer = {"namespaceSelector": {}, "podSelector": {"matchExpressions": [{"key": key, "operator": operator}]}}
    wrong_about(start, small(ingress(peer)), "far>db", truth=True)


def test_nca_isolates_egress_for_an_empty_list(start: Start) -> None:
    """Absent policyTypes include Egress only with egress rules (kubernetes/kubernetes pkg/apis/networking/v1/defaults.go)."""
    wrong_about(start, small(policy({"podSelector": {}, "egress": []})), "web>203.0.113.9", truth=True)


@pytest.mark.parametrize(
    "spec",
    [
        {"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]},
        {"podSelector": {}, "policyTypes": ["Egress", "Ingress"]},
        {"policyTypes": ["Ingress"]},
        {"podSelector": {"matchLabels": {"app": "7"}}, "policyTypes": ["Ingress"]},
    ],
    ids=["rules of no type", "types unsorted", "no podSelector", "a number as a value"],
)
def test_nca_drops_legal_policies(start: Start, spec: Json) -> None:
    """The API server takes each of these; a dropped policy is noticed, though the exit code is 0."""
    refused(start, small(policy(spec)), r"rror|must|invalid")


def test_nca_gives_a_port_name_one_protocol(start: Start) -> None:
    """A name may stand for a port of each protocol; network-config-analyzer keeps the last one."""
    for one in two_protocols():
        refused(start, one, "multiply defined")
        assert "web>db" in who(one, nca.verdicts(start(NETWORK_CONFIG_ANALYZER), one))


def test_nca_takes_an_absent_namespace_label_for_an_empty_one(start: Start) -> None:
    """`matchLabels` asks for the key, even with an empty value (kubernetes/apimachinery pkg/labels/selector.go)."""
    one = small(ingress({"namespaceSelector": {"matchLabels": {"zone": ""}}}))
    wrong_about(start, one, "far>db", truth=False)


def calico_ingress(*rules: Json, name: str = "p", namespace: str | None = "one", order: float | None = None) -> Json:
    """Return a Calico policy for the database."""
    spec = {"selector": "app == 'db'", "types": ["Ingress"], "ingress": list(rules)}
    return policy(spec | ({} if order is None else {"order": order}), name, namespace, calico=True)


def test_nca_does_not_keep_a_lone_not_selector_in_its_namespace(start: Start) -> None:
    """In a namespaced policy any selector field keeps a rule to the namespace.

    Source: projectcalico/calico libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go.
    """
    one = small(calico_ingress({"action": "Allow", "source": {"notSelector": "app == 'x'"}}))
    wrong_about(start, one, "203.0.113.9>db", truth=False)


def test_nca_reads_nothing_into_protocol_beside_not_protocol(start: Start) -> None:
    """All parts of a rule must hold (projectcalico/calico felix/rules); TCP is TCP and not UDP."""
    one = small(calico_ingress({"action": "Allow", "protocol": "TCP", "notProtocol": "UDP"}))
    wrong_about(start, one, "web>db", truth=True)


def test_nca_never_puts_pods_among_all_but_some_nets(start: Start) -> None:
    """`notNets` alone means any other address, a pod's, too (projectcalico/calico felix/rules)."""
    one = small(calico_ingress({"action": "Allow", "source": {"notNets": ["203.0.113.0/24"]}}))
    wrong_about(start, one, "web>db", truth=True)


def test_nca_takes_not_nets_beside_a_selector_for_nothing(start: Start) -> None:
    """All parts of a rule must hold: a pod that is selected and lies in no such net (projectcalico/calico felix/rules)."""
    one = small(calico_ingress({"action": "Allow", "source": {"selector": "all()", "notNets": ["203.0.113.0/24"]}}))
    wrong_about(start, one, "web>db", truth=True)


def test_nca_cannot_read_an_order_with_a_fraction(start: Start) -> None:
    """An order is a floating-point number (projectcalico/calico api/pkg/apis/projectcalico/v3/networkpolicy.go)."""
    rules = [
        calico_ingress({"action": "Allow"}, name="a", order=1.5),
        calico_ingress({"action": "Deny"}, name="b", order=2),
    ]
    refused(start, small(*rules), "TypeError")


def test_nca_lets_kubernetes_policies_select_network_sets(start: Start) -> None:
    """Kubernetes selectors mean pods (projectcalico/calico libcalico-go/lib/backend/k8s/conversion/conversion.go)."""
    program = start(NETWORK_CONFIG_ANALYZER)
    one = replace(small(ingress({"podSelector": {}})), sets=(network_set("one"),))
    assert "203.0.113.9>db" in who(one, nca.verdicts(program, one))


def test_nca_keeps_a_negated_namespace_selector_from_global_sets(start: Start) -> None:
    """A GlobalNetworkSet has no namespace, and so none with the label.

    Source: projectcalico/calico libcalico-go/lib/backend/syncersv1/updateprocessors/rules.go.
    """
    program = start(NETWORK_CONFIG_ANALYZER)
    rule = {"action": "Allow", "source": {"namespaceSelector": "team != 'two'"}}
    one = replace(small(calico_ingress(rule, namespace=None)), sets=(network_set(None),))
    assert "203.0.113.9>db" not in who(one, nca.verdicts(program, one))


def network_set(namespace: str | None) -> Json:
    """Return a network set that holds the address outside."""
    kind = "NetworkSet" if namespace else "GlobalNetworkSet"
    metadata = {"name": "set", "labels": {"app": "set"}} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": kind,
        "metadata": metadata,
        "spec": {"nets": ["203.0.113.0/24"]},
    }
