"""What is told beside an outcome: which rule decides or leaves open; and that how work is cut into slices changes nothing."""

import textwrap
from typing import Any

import numpy as np
import pytest

from deploy.policies import engines_for
from deploy.semantics import deciding
from deploy.semantics.ends import Endpoint, Ends, Lens
from deploy.semantics.traffic import Connection, Connections
from deploy.semantics.verdicts import Court
from tests.deploy.world import DB, PROM, WEB, ask, calico, kubernetes, outside, pod, policies

STRANGER = Endpoint("unknown", ip="10.0.0.77")
FROM_WEB = "source: {selector: app == 'web'}"


def tier(name: str, order: int, default: str = "Deny") -> str:
    """Return a Tier."""
    spec = f"{{order: {order}, defaultAction: {default}}}"
    return f"apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"


def in_tier(name: str, place: str, rules: str) -> str:
    """Return a Calico NetworkPolicy of a tier that governs ingress of every pod."""
    return calico(f"tier: {place}\nselector: all()\ntypes: [Ingress]\ningress: [{rules}]", f"{place}.{name}")


def test_a_doubt_counts_however_late_it_comes() -> None:
    """What the last of several policies may allow stays open, though no policy before it decides."""
    spec = "order: {}\nselector: all()\ntypes: [Ingress]\ningress: [{}]"
    text = "".join(calico(spec.format(order, ""), f"p{order}") for order in range(6))
    text += calico(spec.format(9, f"{{action: Allow, {FROM_WEB}}}"), "last")
    verdict = ask(text, "ingress", STRANGER, DB, profile="calico")
    assert (verdict.outcome, verdict.by) == ("undetermined", "Calico NetworkPolicy shop/last ingress[0]")


@pytest.mark.parametrize(
    ("rules", "by"),
    [
        # The first rule may deny what the second certainly allows.
        (f"{{action: Deny, {FROM_WEB}}}, {{action: Allow}}", "ingress[0]"),
        # The first may allow what the second certainly denies.
        (f"{{action: Allow, {FROM_WEB}}}, {{action: Deny}}", "ingress[0]"),
        # What may allow first is no doubt where a later rule allows anyhow; what may deny is.
        (
            f"{{action: Allow, {FROM_WEB}}}, {{action: Deny, source: {{selector: app == 'x'}}}}, {{action: Allow}}",
            "ingress[1]",
        ),
        (
            f"{{action: Deny, {FROM_WEB}}}, {{action: Allow, source: {{selector: app == 'x'}}}}, {{action: Deny}}",
            "ingress[1]",
        ),
        # Isolation denies in the end, so the doubt is what may allow.
        (f"{{action: Allow, {FROM_WEB}}}", "ingress[0]"),
        # A pass lets through in the end, so the doubt is what may deny, or the pass itself.
        (f"{{action: Deny, {FROM_WEB}}}, {{action: Pass}}", "ingress[0]"),
        (f"{{action: Pass, {FROM_WEB}}}", "ingress[0]"),
    ],
)
def test_an_open_verdict_names_the_rule_that_leaves_it_open(rules: str, by: str) -> None:
    """The rule named is the first of which nobody can tell whether it turns the outcome."""
    verdict = ask(calico(f"selector: all()\ningress: [{rules}]"), "ingress", STRANGER, DB, profile="calico")
    assert (verdict.outcome, verdict.reason) == ("undetermined", "unresolved")
    assert (verdict.object, verdict.rule) == ("Calico NetworkPolicy shop/c", by)


def test_a_certain_rule_decides_before_one_that_may_do_the_same() -> None:
    """Where the outcome is certain anyhow, the certain rule is named."""
    rules = f"{{action: Allow, {FROM_WEB}}}, {{action: Allow}}"
    verdict = ask(calico(f"selector: all()\ningress: [{rules}]"), "ingress", STRANGER, DB, profile="calico")
    assert (verdict.outcome, verdict.rule) == ("allowed", "ingress[1]")


def test_what_only_may_match_decides_where_every_way_ends_alike() -> None:
    """A rule that may deny, before isolation that denies, leaves nothing open; isolation is named."""
    verdict = ask(
        calico(f"selector: all()\ningress: [{{action: Deny, {FROM_WEB}}}]"), "ingress", STRANGER, DB, profile="calico"
    )
    assert (verdict.outcome, verdict.reason, verdict.rule) == ("denied", "isolation", None)


def test_the_first_tier_that_stops_is_named() -> None:
    """Where a pass may lead on to a second tier that stops as well, the first names itself."""
    text = tier("one", 1) + tier("two", 2)
    text += in_tier("a", "one", f"{{action: Pass, {FROM_WEB}}}") + in_tier("b", "two", "{action: Log}")
    verdict = ask(text, "ingress", STRANGER, DB, profile="calico")
    assert (verdict.outcome, verdict.object) == ("denied", "Calico NetworkPolicy shop/one.a")
    assert ask(text, "ingress", WEB, DB, profile="calico").object == "Calico NetworkPolicy shop/two.b"


def test_the_first_of_several_that_isolate_is_named() -> None:
    """Policies are asked in the order of their names, and the first that isolates is told."""
    text = kubernetes("podSelector: {}", "b") + kubernetes("podSelector: {}", "a")
    assert ask(text, "ingress", WEB, DB, profile="calico").object == "NetworkPolicy shop/a"


def test_an_engine_without_ipv6_has_its_say_about_ipv4_beside_it() -> None:
    """Judged together, connections of both families get the verdicts that each gets alone."""
    given = policies(
        kubernetes(
            "ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [red]}]}}]}]"
        )
    )
    six = [pod("shop/db", ip="2001:db8::1"), outside("2001:db8::9")]
    ends = Ends([DB, outside("203.0.113.9"), *six], Lens.of([given]))
    court = Court(given, engines_for("npm,calico", [given]), ends, Connections([Connection("tcp", 80)]))
    source, target, itself = ends.pairs(np.array([1, 3]), np.array([0, 2]))
    judged = court.judge("ingress", source, target, np.zeros(2, np.int64), itself)
    verdicts = [court.verdict("ingress", judged, row) for row in (0, 1)]
    assert [(one.outcome, one.reason) for one in verdicts] == [("undetermined", "engines"), ("denied", "isolation")]


def test_policies_of_one_rank_that_nobody_ordered_are_open_where_they_disagree() -> None:
    """Kubernetes and Calico policies of order 1000 come in an order that changed with Calico 3.32."""
    rules = "order: 1000\nselector: all()\ningress: [{action: Deny, source: {selector: app == 'web'}}]"
    text = kubernetes("ingress: [{}]") + calico(rules)
    verdict = ask(text, "ingress", WEB, DB, profile="calico")
    assert (verdict.outcome, verdict.reason) == ("undetermined", "order")
    assert ask(text, "ingress", PROM, DB, profile="calico").outcome == "allowed"


@pytest.mark.parametrize("limit", [1, 2, 5, 1 << 21])
def test_the_size_of_slices_changes_no_verdict(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Cells are laid out in slices of any size; the verdicts are the same."""
    expected = judged_at(1 << 30, monkeypatch)
    found = judged_at(limit, monkeypatch)
    for name in ("outcome", "reason", "policy", "step"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist()
    assert len(set(expected.outcome.tolist())) == 3


def judged_at(limit: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Judge everybody with everybody in slices of that many rules."""
    monkeypatch.setattr(deciding, "_LIMIT", limit)
    text = kubernetes(
        "podSelector: {}\ningress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}, {ports: [{port: 81}]}]",
        "a",
    )
    text += kubernetes("ingress: [{from: [{namespaceSelector: {}}]}]", "b")
    given = policies(text)
    ends = Ends([WEB, DB, PROM, STRANGER, outside("203.0.113.1"), pod("mon/web")], Lens.of([given]))
    court = Court(
        given, engines_for("calico", [given]), ends, Connections([Connection("tcp", port) for port in (80, 81, 82)])
    )
    left, right, kind = (column.ravel() for column in np.indices((6, 6, 3)))
    source, target, itself = ends.pairs(left, right)
    return court.judge("ingress", source, target, kind, itself)


TEXTS = {
    "negated namespace": "ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [red]}]}}]}]",
    "negated pod": "ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}}]}]",
    "several values": "ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [a, red]}]}}]}]",
    "empty rule": "ingress: [{}, {ports: [{port: 81}]}]",
    "block": "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]",
    "except": "ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.8/29]}}]}, {from: [{ipBlock: {cidr: 203.0.0.0/16}}]}]",
    "both directions": "podSelector: {}\npolicyTypes: [Ingress, Egress]\negress: [{}]\ningress: [{ports: [{port: 82}]}]",
    "port name": "ingress: [{ports: [{port: main}]}]",
    "port range": "ingress: [{ports: [{port: 80, endPort: 90}]}]",
    "sctp": "ingress: [{ports: [{port: 80, protocol: SCTP}]}]",
}


@pytest.mark.parametrize("name", TEXTS)
def test_engines_judged_together_say_what_each_says_alone(name: str) -> None:
    """Sharing how rules are read, and what they decide, changes no engine's outcome."""
    text = kubernetes(TEXTS[name])
    engines = ("aws", "calico", "cilium", "kube-network-policies", "kube-router", "npm", "npm-windows")
    host = pod("shop/web", host_network=True, node="node-b", ip="192.168.0.2")
    places = (
        WEB,
        PROM,
        outside("203.0.113.9"),
        outside("203.0.113.1"),
        host,
        Endpoint("node", "192.168.0.1", "node-a"),
    )
    for source in places:
        for port, protocol in ((80, "tcp"), (85, "tcp"), (80, "sctp")):
            together = ask(text, "ingress", source, DB, port, protocol, profile=",".join(engines))
            alone = {one: ask(text, "ingress", source, DB, port, protocol, profile=one).outcome for one in engines}
            assert dict(together.engines) == alone, (source, port, protocol)


def test_engines_that_treat_the_baseline_differently_are_not_read_alike() -> None:
    """A NetworkPolicy for the other direction hides the baseline with one engine only, judged together as well."""
    text = """
        apiVersion: policy.networking.k8s.io/v1alpha2
        kind: ClusterNetworkPolicy
        metadata: {name: base}
        spec:
          tier: Baseline
          priority: 1
          subject: {namespaces: {}}
          ingress: [{name: nobody, action: Deny, from: [{namespaces: {}}]}]
    """
    both = textwrap.dedent(text) + "---\n" + kubernetes("policyTypes: [Egress]")
    verdict = ask(both, "ingress", WEB, DB, profile="calico,kube-network-policies")
    assert dict(verdict.engines) == {"calico": "denied", "kube-network-policies": "allowed"}
