"""What is told beside an outcome at the edges: first and last rules, several doubts at once, ends that nobody knows.

What each reason and name stands for is said in `Verdict`; that policies of one priority have no order in
kubernetes-sigs/network-policy-api apis/v1alpha2/clusternetworkpolicy_types.go (Priority).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deploy.policies import engines_for
from deploy.semantics.deciding import CODE, UNDETERMINED
from deploy.semantics.ends import Endpoint, Ends, Lens
from deploy.semantics.profiles import Profile, profile
from deploy.semantics.traffic import Connection, Connections
from deploy.semantics.verdicts import Court, Judgement, Verdict
from tests.deploy.world import DB, WEB, ask, calico, kubernetes, outside, pod, policies

STRANGER = Endpoint("unknown", ip="10.0.0.77")
UNTOLD = pod("mon/prom", vague=frozenset({"namespace"}))
"""A pod of a namespace whose labels nobody knows."""


def may(action: str, app: str) -> str:
    """Return a Calico rule of which nobody can tell whether it matches the stranger."""
    return f"{{action: {action}, source: {{selector: app == '{app}'}}}}"


def tier(name: str, order: int) -> str:
    """Return a Tier."""
    head = f"apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: {name}}}"
    return f"{head}\nspec: {{order: {order}}}\n---\n"


def in_tier(place: str, *rules: str) -> str:
    """Return a Tier and a Calico policy in it that governs ingress of every pod."""
    spec = f"tier: {place}\nselector: all()\ntypes: [Ingress]\ningress: [{', '.join(rules)}]"
    return tier(place, 1 if place == "one" else 2) + calico(spec, f"{place}.p")


def cluster(name: str, rule: str, tier: str = "Admin") -> str:
    """Return a ClusterNetworkPolicy of priority 1 for all pods; a rule is an action, and the team it is for."""
    action, *team = rule.split()
    peer = f"{{namespaces: {{matchLabels: {{team: {team[0]}}}}}}}" if team else "{namespaces: {}}"
    head = f"apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}"
    spec = f"tier: {tier}, priority: 1, subject: {{namespaces: {{}}}}, ingress: [{{action: {action}, from: [{peer}]}}]"
    return f"{head}\nspec: {{{spec}}}\n---\n"


@pytest.mark.parametrize(
    ("text", "by"),
    [
        # Of several that may allow, the first.
        (calico(f"selector: all()\ningress: [{may('Allow', 'u')}, {may('Allow', 'v')}]"), "shop/c ingress[0]"),
        # Of several tiers that may allow, the first as well.
        (
            in_tier("one", may("Allow", "x"), "{action: Pass}") + in_tier("two", may("Allow", "y")),
            "shop/one.p ingress[0]",
        ),
        # What passes lets through in the end, so the doubt is what may deny.
        (in_tier("one", may("Allow", "x"), may("Deny", "y"), "{action: Pass}"), "shop/one.p ingress[1]"),
        # What only may pass meets the end of its tier: the doubt is what may allow, before what may deny or pass.
        (in_tier("one", may("Allow", "x"), may("Deny", "y"), may("Pass", "z")), "shop/one.p ingress[0]"),
        (
            in_tier("one", may("Allow", "x"), may("Deny", "y"), may("Pass", "z"), "{action: Deny}"),
            "shop/one.p ingress[0]",
        ),
        (in_tier("one", may("Pass", "z"), may("Deny", "y")), "shop/one.p ingress[1]"),
    ],
)
def test_of_several_doubts_the_first_that_turns_the_outcome_is_named(text: str, by: str) -> None:
    """Where several rules may match, the one named is the first whose match would turn what happens without it."""
    verdict = ask(text, "ingress", STRANGER, DB, profile="calico")
    assert (verdict.outcome, verdict.by) == ("undetermined", f"Calico NetworkPolicy {by}")


@pytest.mark.parametrize(
    ("texts", "by"),
    [
        ((("a", "Accept"), ("b", "Deny u"), ("c", "Accept v")), "b ingress[0]"),
        ((("a", "Deny"), ("b", "Accept u"), ("c", "Deny v"), ("d", "Pass w")), "b ingress[0]"),
    ],
)
def test_policies_of_one_priority_are_told_apart_by_who_is_certain(texts: tuple[tuple[str, ...], ...], by: str) -> None:
    """What certainly matches in a policy of the same priority makes what may do the opposite the doubt."""
    verdict = ask("".join(cluster(*one) for one in texts), "ingress", UNTOLD, DB, profile="calico")
    assert (verdict.outcome, verdict.by) == ("undetermined", f"ClusterNetworkPolicy {by}")


def test_what_may_be_denied_stays_open_where_the_baseline_is_not_asked() -> None:
    """Ending a pod's tiers early lets pass what none of them decided, beside what one of them may have denied."""
    text = cluster("a", "Deny red") + kubernetes("policyTypes: [Egress]")
    verdict = ask(text, "ingress", STRANGER, DB, profile="kube-network-policies")
    assert (verdict.outcome, verdict.by) == ("undetermined", "ClusterNetworkPolicy a ingress[0]")


def test_an_end_that_nobody_knows_is_open_only_where_somebody_is_stopped() -> None:
    """Who held the policed address matters only where a policy stops anybody in that direction."""
    for end, reason in (
        (STRANGER, "unresolved"),
        (Endpoint("pod", "10.0.0.9", "x", "shop", translated=True), "translated"),
    ):
        for text in ("", kubernetes("policyTypes: [Egress]"), cluster("a", "Accept")):
            verdict = ask(text, "ingress", WEB, end, profile="calico")
            assert (verdict.outcome, verdict.reason) == ("allowed", "not-isolated"), text
        for text in (kubernetes("podSelector: {}", namespace="mon"), cluster("a", "Deny u")):
            verdict = ask(text, "ingress", WEB, end, profile="calico")
            assert (verdict.outcome, verdict.reason, verdict.by) == ("undetermined", reason, None), text


def judged(text: str, *ends: Endpoint) -> Judgement:
    """Return the judgement of ingress of the first end from the second, under Calico."""
    given = policies(text)
    held = Ends(ends, Lens.of([given]))
    court = Court(given, engines_for("calico", [given]), held, Connections([Connection("tcp", 80)]))
    source, target, itself = held.pairs(np.array([1]), np.array([0]))
    return court.judge("ingress", source, target, np.array([0]), itself)


def verdicts(text: str, engines: Sequence[Profile], source: Endpoint, *targets: Endpoint) -> list[Verdict]:
    """Return the verdicts on ingress of several ends from one, judged in one go."""
    given = policies(text)
    held = Ends([source, *targets], Lens.of([given]))
    court = Court(given, engines, held, Connections([Connection("tcp", 80)]))
    left, right, itself = held.pairs(np.zeros(len(targets), np.int64), np.arange(len(targets)) + 1)
    found = court.judge("ingress", left, right, np.zeros(len(targets), np.int64), itself)
    return [court.verdict("ingress", found, row) for row in range(len(targets))]


def test_columns_hold_minus_one_where_nobody_decides() -> None:
    """A half that no policy or no rule decides has no policy or no step to name, and columns say so by -1."""
    free, closed = judged("", DB, WEB), judged(kubernetes("podSelector: {}"), DB, WEB)
    passed = judged(in_tier("one", "{action: Log}").replace("order: 1", "order: 1, defaultAction: Pass"), DB, WEB)
    found = [(int(one.policy[0]), int(one.step[0])) for one in (free, closed, passed)]
    assert found == [(-1, -1), (0, -1), (-1, -1)]
    assert [int(one.reason[0]) for one in (free, closed, passed)] == [
        CODE[name] for name in ("not-isolated", "isolation", "passed")
    ]
    unordered = judged(
        kubernetes("ingress: [{}]") + calico("order: 1000\nselector: all()\ningress: [{action: Deny}]"), DB, WEB
    )
    assert (int(unordered.outcome[0]), int(unordered.policy[0]), int(unordered.step[0])) == (UNDETERMINED, -1, -1)


TEAM = cluster("a", "Deny").replace("subject: {namespaces: {}}", "subject: {namespaces: {matchLabels: {team: red}}}")
ACCOUNT = calico("serviceAccountSelector: role == 'db'\ntypes: [Ingress]", "a")
NAMED = TEAM.replace("team: red", "projectcalico.org/name: shop")


@pytest.mark.parametrize(
    ("text", "more", "reason"),
    [
        (TEAM, {"vague": frozenset({"namespace"})}, "labels"),
        (ACCOUNT, {"vague": frozenset({"account"})}, "labels"),
        (NAMED, {}, "subject"),
        (TEAM, {"host_network": True}, "host-network"),
        (TEAM, {"host_network": True, "vague": frozenset({"namespace"})}, "host-network"),
    ],
)
def test_whether_a_policy_governs_a_pod_may_be_open(text: str, more: dict[str, Any], reason: str) -> None:
    """Where nobody can tell whether a policy selects the pod the half is open, that policy is named, and others are judged."""
    engine = replace(profile("calico"), enforces=frozenset({"cluster", "kubernetes"}), host_network=None)
    (policy,) = policies(text).policies
    source = pod("mon/prom")
    free, open_, none = verdicts(text, [engine], source, source, pod("shop/db", **more), outside("203.0.113.1"))
    assert (open_.outcome, open_.reason, open_.object) == ("undetermined", reason, policy.title)
    assert (none.outcome, none.reason, none.object) == ("allowed", "no-pod", None)
    if text != NAMED:
        assert (free.outcome, free.reason, free.object) == ("allowed", "not-isolated", None)


def test_an_except_leaves_open_only_what_its_own_pods_would_allow() -> None:
    """A range that an `except` takes out is left open for the pods of that policy, and only what would be allowed."""
    text = kubernetes(
        """
        podSelector: {matchLabels: {app: db}}
        ingress:
        - from: [{ipBlock: {cidr: 203.0.0.0/16}}]
        - from: [{ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.8/29]}}]
        """
    )
    text += kubernetes(
        "podSelector: {matchLabels: {app: web}}\ningress: [{from: [{ipBlock: {cidr: 203.0.0.0/16}}]}]", "q"
    )
    engines = [profile("aws")]
    db, web, free = verdicts(text, engines, outside("203.0.113.9"), DB, WEB, pod("mon/prom"))
    assert (db.outcome, db.reason, db.by) == ("undetermined", "except", "NetworkPolicy shop/p ingress[0]")
    assert (web.outcome, free.outcome) == ("allowed", "allowed")
    db, web = verdicts(text, engines, Endpoint("unknown", "203.0.113.9"), DB, WEB)
    assert (db.reason, web.reason) == ("unresolved", "unresolved")
    (db,) = verdicts(text, engines, outside("203.1.0.0"), DB)
    assert (db.outcome, db.reason) == ("denied", "isolation")
    side = text.replace("podSelector: {matchLabels: {app: db}}", "policyTypes: [Egress]")
    side = side.replace("ingress:", "egress:").replace("from:", "to:")
    found = [
        ask(side, "egress", DB, outside(ip), profile="aws").reason
        for ip in ("203.0.113.9", "203.0.113.16", "203.1.0.0")
    ]
    assert found == ["except", "rule", "isolation"]
