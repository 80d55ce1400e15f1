"""What becomes of a set of policies when another is laid over it, and of staged ones when they take effect."""

from dataclasses import replace

import pytest

from deploy.semantics.policyset import PolicySet
from deploy.semantics.rules import TIERS, Tier
from recorder.errors import InputError
from tests.deploy.world import WEB, ask, calico, kubernetes, policies


def staged(action: str, kind: str = "StagedNetworkPolicy", name: str = "c") -> str:
    """Return a staged policy that isolates ingress of all pods of its namespace, or deletes."""
    body = {
        "Delete": "stagedAction: Delete",
        "StagedKubernetesNetworkPolicy": f"stagedAction: {action}\npodSelector: {{}}",
    }
    spec = body.get(action) or body.get(kind) or f"stagedAction: {action}\nselector: all()"
    text = calico(spec, name).replace("kind: NetworkPolicy", f"kind: {kind}")
    return text.replace(", namespace: shop", "") if "Global" in kind else text


def titles(found: PolicySet) -> list[str]:
    """Return the titles of the policies."""
    return [policy.title for policy in found.policies]


OPEN = calico("selector: all()\ningress: [{action: Allow}]", "c")


@pytest.mark.parametrize(
    ("kind", "becomes"),
    [
        ("StagedNetworkPolicy", ("Calico NetworkPolicy shop/c", "calico")),
        ("StagedGlobalNetworkPolicy", ("GlobalNetworkPolicy c", "calico")),
        ("StagedKubernetesNetworkPolicy", ("NetworkPolicy shop/c", "kubernetes")),
    ],
)
def test_a_staged_policy_that_is_enforced_becomes_the_one_it_stands_for(kind: str, becomes: tuple[str, str]) -> None:
    """Kind and dialect are those of the policy that a staged one stands for (api/pkg/apis/projectcalico/v3/staged*.go)."""
    (found,) = policies(staged("Set", kind)).enforced("enforced").policies
    assert ((found.title, found.dialect), found.staged) == (becomes, None)


def test_a_staged_set_takes_the_place_of_its_namesake() -> None:
    """`Set` replaces the enforced policy, and joins where there is none; ignored, it has no effect."""
    found = policies(OPEN + staged("Set"))
    assert titles(found.enforced("enforced")) == ["Calico NetworkPolicy shop/c"]
    assert found.enforced("enforced").policies[0].ingress == ()
    assert found.enforced("ignored") == policies(OPEN)
    assert titles(policies(kubernetes("{}", "c") + staged("Set")).enforced("enforced")) == [
        "NetworkPolicy shop/c",
        "Calico NetworkPolicy shop/c",
    ]


@pytest.mark.parametrize(("action", "left"), [("Delete", 0), ("Ignore", 1), ("Learn", 1), ("Set", 1)])
def test_only_set_and_delete_take_effect(action: str, left: int) -> None:
    """`Delete` removes the enforced policy, `Ignore` and `Learn` change nothing."""
    found = policies(OPEN + staged(action)).enforced("enforced")
    assert len(found.policies) == left
    assert (found == policies(OPEN)) == (action in ("Ignore", "Learn"))


def test_how_staged_policies_count_is_one_of_two() -> None:
    """Another word is an error."""
    with pytest.raises(InputError, match="'both' is none of enforced, ignored"):
        PolicySet().enforced("both")


def test_a_set_laid_over_another_replaces_namesakes() -> None:
    """Objects of the upper set go before their namesakes, all others stay; so with tiers and network sets."""
    below = policies(kubernetes("{}", "a") + kubernetes("{}", "b") + OPEN)
    above = policies(kubernetes("ingress: [{}]", "b") + kubernetes("{}", "d"))
    assert titles(below.merged(above)) == [
        *("NetworkPolicy shop/a", "Calico NetworkPolicy shop/c", "NetworkPolicy shop/b", "NetworkPolicy shop/d"),
    ]
    assert len(below.merged(above).policies[2].ingress) == 1
    tiers = PolicySet(tiers=(Tier("x", 1), Tier("y", 2))).merged(PolicySet(tiers=(Tier("x", 3),)))
    assert [(tier.name, tier.order) for tier in tiers.tiers] == [("y", 2), ("x", 3)]


def test_staged_policies_of_the_upper_set_take_effect_and_those_below_stay_staged() -> None:
    """What is laid over a cluster is judged as enforced, what the cluster itself stages is not."""
    below = policies(OPEN + staged("Set", name="e"))
    assert titles(below.merged(policies(staged("Set")))) == [
        "StagedNetworkPolicy shop/e",
        "Calico NetworkPolicy shop/c",
    ]
    assert titles(below.merged(policies(staged("Delete")))) == ["StagedNetworkPolicy shop/e"]
    assert titles(below.merged(policies(staged("Set", name="e")))) == [
        "Calico NetworkPolicy shop/c",
        "Calico NetworkPolicy shop/e",
    ]


def test_policies_of_one_title_go_together() -> None:
    """An object that says several policies is replaced whole."""
    (one,) = policies(OPEN).policies
    twice = PolicySet((one, replace(one, order=7.0)))
    assert twice.merged(PolicySet((one,))).policies == (one,)
    assert PolicySet((one,)).merged(twice).policies == twice.policies


def test_a_tier_that_nobody_defines_is_an_error() -> None:
    """A policy in an unknown tier cannot be placed; the built-in tiers are always there."""
    text = calico("tier: gone\nselector: all()", "gone.c")
    with pytest.raises(InputError, match=r"p\.yaml:1: Calico NetworkPolicy shop/gone\.c: no Tier gone is given"):
        policies(text).check_tiers()
    with pytest.raises(InputError, match="tier 'gone' is not given"):
        policies(text).tier("gone")
    tier = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: gone}\nspec: {order: 5}\n"
    found = policies(text + tier)
    found.check_tiers()
    assert found.tier("gone").order == 5
    assert found.tier("kube-admin") == TIERS["kube-admin"]


@pytest.mark.parametrize("tier", [Tier("default", 5), Tier("kube-baseline", 10_000_000, "deny")])
def test_built_in_tiers_are_what_they_are(tier: Tier) -> None:
    """Order and default action of the built-in tiers are fixed (api/pkg/apis/projectcalico/v3/tier.go)."""
    with pytest.raises(InputError, match=f"Tier {tier.name}: is built in"):
        PolicySet(tiers=(tier,)).check_tiers()
    PolicySet(tiers=tuple(TIERS.values())).check_tiers()


def test_dialects_are_those_of_the_policies() -> None:
    """A set asks for engines that enforce all its dialects."""
    assert policies(OPEN + kubernetes("{}")).dialects() == {"calico", "kubernetes"}
    assert PolicySet().dialects() == frozenset()
    assert ask("", "ingress", WEB, WEB).reason == "not-isolated"
