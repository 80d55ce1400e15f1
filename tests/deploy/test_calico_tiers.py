"""What tiers, passes and default actions come to: cases worked out by hand, each also written without tiers.

Sources, all in projectcalico/calico: app-policy/checker/check.go (`checkTiers`), felix/calc/policy_sorter.go (order of tiers and
policies), api/pkg/apis/projectcalico/v3/tier.go (the tiers that are always there), libcalico-go/lib/resources/tier.go (a tier
without an order), libcalico-go/lib/backend/k8s/conversion/conversion.go (policies of Kubernetes, profiles of namespaces).
"""

import random
from dataclasses import dataclass

import pytest

from tests.deploy.calico_world import everywhere, resource
from tests.deploy.world import DB, PROM, WEB, ask, calico, egress, ingress, kubernetes, outside, pod

PODS = {"web": WEB, "prom": PROM, "x": pod("bare/x"), "out": outside("203.0.113.1")}
PORTS = (80, 81)

FROM_WEB = "source: {selector: app == 'web'}"
FROM_MON = "source: {namespaceSelector: team == 'blue'}"
ON_80 = "protocol: TCP, destination: {ports: [80]}"
ON_81 = "protocol: TCP, destination: {ports: [81]}"
TO_MON = "destination: {namespaceSelector: team == 'blue'}"


def tier(name: str, order: int | None = None, default: str | None = None) -> str:
    """Return a Tier, as YAML."""
    spec = [f"order: {order}" if order is not None else "", f"defaultAction: {default}" if default else ""]
    return resource("Tier", "\n".join(line for line in spec if line) or "{}", name).replace("spec:\n  {}", "spec: {}")


def policy(
    name: str, tier_name: str, order: int, *rules: str, kind: str = "ingress", selector: str = "app == 'db'"
) -> str:
    """Return a global policy with rules in one direction, as YAML."""
    lines = f"selector: {selector}\ntier: {tier_name}\norder: {order}\ntypes: [{kind.capitalize()}]\n"
    return everywhere(f"{lines}{kind}: [{', '.join(f'{{action: {rule}}}' for rule in rules)}]", name)


def reaching(text: str, staged: str = "enforced") -> set[tuple[str, int]]:
    """Return who reaches the database on which port."""
    found = {(name, port): ingress(text, one, port, staged=staged) for name, one in PODS.items() for port in PORTS}
    assert set(found.values()) <= {"allowed", "denied"}
    return {key for key, outcome in found.items() if outcome == "allowed"}


@dataclass(frozen=True)
class Case:
    """Policies in tiers, the same in the tier `default` alone, and who reaches the database."""

    tiered: str
    flat: str
    reach: set[tuple[str, int]]


EVERYBODY = {(name, port) for name in PODS for port in PORTS}

CASES = {
    # policy_sorter.go, TierLess: a tier's order goes before any policy's.
    "orders of tiers go before orders of policies": Case(
        tier("first", 10, "Pass")
        + tier("second", 20)
        + policy("a", "first", 500, f"Deny, {FROM_WEB}")
        + policy("b", "second", 1, "Allow"),
        policy("a", "default", 1, f"Deny, {FROM_WEB}", "Allow"),
        EVERYBODY - {("web", 80), ("web", 81)},
    ),
    # policy_sorter.go, TierLess: equal orders are told apart by name.
    "tiers of one order come by name": Case(
        tier("b", 10)
        + tier("a", 10, "Pass")
        + policy("p", "b", 1, f"Deny, {FROM_WEB}", "Allow")
        + policy("q", "a", 2, f"Allow, {FROM_WEB}, {ON_80}"),
        policy("p", "default", 1, f"Allow, {FROM_WEB}, {ON_80}", f"Deny, {FROM_WEB}", "Allow"),
        EVERYBODY - {("web", 81)},
    ),
    # check.go: a tier with a policy for the pod, none of whose rules matches, ends in its default action.
    "what a tier does not decide is denied": Case(
        tier("first", 10)
        + tier("second", 20)
        + policy("a", "first", 1, f"Allow, {FROM_WEB}, {ON_80}")
        + policy("b", "second", 1, "Allow"),
        policy("a", "default", 1, f"Allow, {FROM_WEB}, {ON_80}"),
        {("web", 80)},
    ),
    # tier.go: Deny is the default action that is named, too.
    "a tier may say that it denies": Case(
        tier("first", 10, "Deny") + policy("a", "first", 1, f"Allow, {FROM_WEB}") + policy("b", "default", 1, "Allow"),
        policy("a", "default", 1, f"Allow, {FROM_WEB}"),
        {("web", 80), ("web", 81)},
    ),
    # check.go: a tier that passes by default leaves what it does not decide to the next.
    "what a passing tier does not decide goes on": Case(
        tier("first", 10, "Pass")
        + tier("second", 20)
        + policy("a", "first", 1, f"Allow, {FROM_WEB}, {ON_81}")
        + policy("b", "second", 1, f"Allow, {ON_80}"),
        policy("a", "default", 1, f"Allow, {FROM_WEB}, {ON_81}", f"Allow, {ON_80}"),
        {("web", 81)} | {(name, 80) for name in PODS},
    ),
    # check.go: behind the last tier come the profiles, and the namespace's allows.
    "what the last tier passes is allowed": Case(
        tier("first", 10, "Pass") + policy("a", "first", 1, f"Deny, {FROM_WEB}"),
        policy("a", "default", 1, f"Deny, {FROM_WEB}", "Allow"),
        EVERYBODY - {("web", 80), ("web", 81)},
    ),
    # check.go: a rule that passes goes on with the next tier, whose own default action applies there.
    "passing goes on with the next tier": Case(
        tier("first", 10)
        + tier("second", 20)
        + policy("a", "first", 1, f"Pass, {FROM_MON}", f"Deny, {FROM_WEB}")
        + policy("b", "second", 1, f"Allow, {ON_80}"),
        policy("a", "default", 1, f"Allow, {FROM_MON}, {ON_80}"),
        {("prom", 80)},
    ),
    # check.go: a rule that passes skips the policies of its tier that are left.
    "passing skips the rest of its tier": Case(
        tier("first", 10)
        + tier("second", 20)
        + policy("a", "first", 1, f"Pass, {ON_80}")
        + policy("b", "first", 2, "Deny")
        + policy("c", "second", 1, f"Allow, {FROM_WEB}"),
        policy("a", "default", 1, f"Allow, {FROM_WEB}, {ON_80}"),
        {("web", 80)},
    ),
    # check.go: passing beats the default action of its own tier, and only that.
    "passing out of the tier default": Case(
        policy("a", "default", 1, f"Pass, {ON_80}"),
        policy("a", "default", 1, f"Allow, {ON_80}"),
        {(name, 80) for name in PODS},
    ),
    # check.go: passing through two tiers.
    "passing twice": Case(
        tier("first", 10)
        + tier("second", 20)
        + tier("third", 30)
        + policy("a", "first", 1, f"Pass, {FROM_WEB}")
        + policy("b", "second", 1, f"Pass, {ON_80}", "Deny")
        + policy("c", "third", 1, f"Deny, {ON_81}", "Allow"),
        policy("a", "default", 1, f"Allow, {FROM_WEB}, {ON_80}"),
        {("web", 80)},
    ),
    # check.go: a tier without a policy for this pod has no say, nor its default action.
    "a tier for other pods has no say": Case(
        tier("first", 10)
        + policy("a", "first", 1, "Deny", selector="app == 'other'")
        + policy("b", "default", 1, f"Allow, {FROM_WEB}"),
        policy("b", "default", 1, f"Allow, {FROM_WEB}"),
        {("web", 80), ("web", 81)},
    ),
    # check.go, getPoliciesByDirection: nor a tier whose policies govern the other direction.
    "a tier for the other direction has no say": Case(
        tier("first", 10)
        + policy("a", "first", 1, "Deny", kind="egress")
        + policy("b", "default", 1, f"Allow, {ON_80}"),
        policy("b", "default", 1, f"Allow, {ON_80}"),
        {(name, 80) for name in PODS},
    ),
    # conversion.go: policies of Kubernetes stand in the tier default, at order 1000.
    "a tier before that of Kubernetes policies": Case(
        tier("first", 10, "Pass")
        + policy("a", "first", 1, f"Deny, {FROM_WEB}, {ON_81}", f"Allow, {FROM_MON}")
        + kubernetes(
            "podSelector: {matchLabels: {app: db}}\ningress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]"
        ),
        policy("a", "default", 1, f"Allow, {FROM_WEB}, {ON_80}", f"Allow, {FROM_MON}").replace(
            "app == 'web'", "app == 'web'"
        ),
        {("web", 80), ("prom", 80), ("prom", 81)},
    ),
    # tier.go and conversion.go: tiers behind `default` see only what it passes on.
    "a tier behind that of Kubernetes policies": Case(
        tier("late", 2_000_000)
        + kubernetes(
            "podSelector: {matchLabels: {app: db}}\n"
            "ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}]"
        )
        + policy("a", "default", 2000, f"Pass, {FROM_MON}")
        + policy("b", "late", 1, f"Allow, {ON_81}"),
        policy("a", "default", 1, f"Allow, {FROM_WEB}, {ON_80}", f"Allow, {FROM_MON}, {ON_81}"),
        {("web", 80), ("prom", 81)},
    ),
    # tier.go: kube-admin comes before every other built-in tier, and passes what it does not decide.
    "the tier kube-admin": Case(
        policy("a", "kube-admin", 1, f"Deny, {FROM_MON}", f"Allow, {FROM_WEB}, {ON_81}")
        + policy("b", "default", 1, f"Allow, {ON_80}"),
        policy("a", "default", 1, f"Deny, {FROM_MON}", f"Allow, {FROM_WEB}, {ON_81}", f"Allow, {ON_80}"),
        {("web", 81), ("web", 80), ("x", 80), ("out", 80)},
    ),
    # tier.go: kube-baseline comes last, and passes what it does not decide.
    "the tier kube-baseline": Case(
        policy("a", "kube-baseline", 1, f"Deny, {FROM_MON}"),
        policy("a", "default", 1, f"Deny, {FROM_MON}", "Allow"),
        EVERYBODY - {("prom", 80), ("prom", 81)},
    ),
    # check.go: what the tier default decides does not reach kube-baseline.
    "the tier kube-baseline behind a policy": Case(
        policy("a", "kube-baseline", 1, "Allow") + policy("b", "default", 1, f"Allow, {FROM_WEB}"),
        policy("b", "default", 1, f"Allow, {FROM_WEB}"),
        {("web", 80), ("web", 81)},
    ),
    # resources/tier.go: a tier without an order has that of `default`, so names tell which comes first.
    "a tier without an order, by name before default": Case(
        tier("apps", default="Pass") + policy("a", "apps", 1, f"Allow, {FROM_WEB}") + policy("b", "default", 1, "Deny"),
        policy("a", "default", 1, f"Allow, {FROM_WEB}"),
        {("web", 80), ("web", 81)},
    ),
    "a tier without an order, by name behind default": Case(
        tier("zone", default="Pass") + policy("a", "zone", 1, f"Allow, {FROM_WEB}") + policy("b", "default", 1, "Deny"),
        policy("b", "default", 1, "Deny"),
        set(),
    ),
    # policy_sorter.go: within a tier policies come by order, whatever else there is.
    "orders count within a tier": Case(
        tier("first", 10)
        + policy("z", "first", 1, f"Allow, {FROM_WEB}")
        + policy("a", "first", 2, "Deny")
        + policy("m", "default", 0, "Allow"),
        policy("a", "default", 1, f"Allow, {FROM_WEB}"),
        {("web", 80), ("web", 81)},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_tiers_come_to_what_was_worked_out_by_hand(case: Case) -> None:
    """Policies in tiers let through exactly what follows from Calico's evaluation (check.go, checkTiers)."""
    assert reaching(case.tiered) == case.reach


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_tiers_and_the_same_written_without_them_agree(case: Case) -> None:
    """The same policies written out in the tier `default` alone let through the same."""
    assert reaching(case.flat) == case.reach


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_staged_policies_in_tiers_come_to_what_the_enforced_ones_would(case: Case) -> None:
    """A staged policy counts as the enforced one when asked for, and else not at all (check.go, PolicyScope)."""
    staged = case.tiered.replace("kind: GlobalNetworkPolicy", "kind: StagedGlobalNetworkPolicy")
    assert reaching(staged) == case.reach
    if "kind: NetworkPolicy" not in staged:
        assert reaching(staged, "ignored") == EVERYBODY


def test_a_tier_of_staged_policies_only_is_passed_over() -> None:
    """A tier whose policies for a pod are all staged has no default action for it; beside an enforced one it has (check.go)."""
    audit = tier("audit", 10) + policy("a", "audit", 1, f"Allow, {FROM_MON}").replace("kind: Glob", "kind: StagedGlob")
    below = policy("b", "default", 1, f"Allow, {FROM_WEB}")
    assert reaching(audit + below, "ignored") == {("web", 80), ("web", 81)}
    assert reaching(audit + below, "enforced") == {("prom", 80), ("prom", 81)}
    beside = audit + policy("c", "audit", 2, f"Pass, {FROM_WEB}, {ON_80}") + below
    assert reaching(beside, "ignored") == {("web", 80)}


def test_tiers_hold_for_egress_alike() -> None:
    """Both directions are evaluated alike (check.go, checkTiers)."""
    text = (
        tier("first", 10)
        + tier("second", 20)
        + policy("a", "first", 1, f"Pass, {TO_MON}", kind="egress", selector="app == 'web'")
        + policy("b", "second", 1, f"Allow, {ON_80}", kind="egress", selector="app == 'web'")
    )
    assert [egress(text, PROM, port) for port in PORTS] == ["allowed", "denied"]
    assert [egress(text, DB, port) for port in PORTS] == ["denied", "denied"]
    assert ingress(text, WEB) == "allowed"


def test_the_end_of_a_tier_names_the_policy_that_brought_it() -> None:
    """What a tier denies at its end is isolation, by the first policy of the tier that selects the pod (check.go)."""
    text = (
        tier("first", 10)
        + policy("a", "first", 5, f"Allow, {FROM_WEB}")
        + policy("b", "first", 1, f"Allow, {FROM_MON}")
    )
    found = ask(text, "ingress", PODS["x"], DB)
    assert (found.outcome, found.reason, found.object) == ("denied", "isolation", "GlobalNetworkPolicy b")


def test_namespaced_policies_stand_in_tiers_too() -> None:
    """A NetworkPolicy names its tier as a global one does (networkpolicy.go)."""
    text = tier("first", 10) + calico(f"tier: first\ningress: [{{action: Pass, {FROM_WEB}}}]")
    assert reaching(text) == {("web", 80), ("web", 81)}


ACTIONS = ("Allow", "Deny", "Pass", "Log")
MATCHES = {
    "": EVERYBODY,
    FROM_WEB: {one for one in EVERYBODY if one[0] == "web"},
    FROM_MON: {one for one in EVERYBODY if one[0] == "prom"},
    ON_80: {one for one in EVERYBODY if one[1] == 80},
    f"{FROM_WEB}, {ON_81}": {("web", 81)},
}
"""What each match means here."""


@dataclass(frozen=True)
class Drawn:
    """A policy drawn at random: its order, whether it selects the database, and its rules as (action, match)."""

    order: int
    selects: bool
    rules: tuple[tuple[str, str], ...]


def _draw(dice: random.Random) -> list[tuple[str, list[Drawn]]]:
    """Return the default action and the policies of each tier, in order."""
    return [
        (
            dice.choice(("Deny", "Pass")),
            [
                Drawn(
                    order,
                    dice.random() < 0.8,
                    tuple((dice.choice(ACTIONS), dice.choice(list(MATCHES))) for _ in range(dice.randrange(4))),
                )
                for order in sorted(dice.sample(range(100), dice.randrange(1, 4)))
            ],
        )
        for _ in range(dice.randrange(1, 4))
    ]


def _plainly(tiers: list[tuple[str, list[Drawn]]], name: str, port: int) -> bool:
    """Tell what a plain walk from tier to tier comes to."""
    for default, policies in tiers:
        mine = [one for one in policies if one.selects]
        hit = next(
            (
                action
                for one in mine
                for action, match in one.rules
                if action != "Log" and (name, port) in MATCHES[match]
            ),
            default if mine else "Pass",
        )
        if hit != "Pass":
            return hit == "Allow"
    return True


def test_random_tiers_come_to_what_a_plain_walk_does() -> None:
    """Tiers drawn at random, given in random order, let through what a walk from rule to rule does (check.go)."""
    dice = random.Random(11)  # noqa: S311 - no secret
    seen = set()
    for _ in range(60):
        tiers = _draw(dice)
        texts = []
        for place, (default, policies) in enumerate(tiers):
            texts.append(tier(f"t{place}", 10 * place, default))
            for one in policies:
                rules = [f"{action}{match and ', '}{match}" for action, match in one.rules]
                selector = "app == 'db'" if one.selects else "app == 'other'"
                texts.append(policy(f"p{place}-{one.order}", f"t{place}", one.order, *rules, selector=selector))
        dice.shuffle(texts)
        expected = {(name, port) for name in PODS for port in PORTS if _plainly(tiers, name, port)}
        assert reaching("".join(texts)) == expected
        seen.add(frozenset(expected))
    assert len(seen) > 8
