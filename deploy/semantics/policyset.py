"""A set of policies with the tiers and network sets they refer to, and what becomes of it when another is laid over it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from deploy.semantics.reading.fields import Problem, told
from deploy.semantics.rules import TIERS, NetworkSet, Object, Policy, Tier
from recorder.errors import InputError

_One = TypeVar("_One", Tier, NetworkSet)

STAGED = ("enforced", "ignored")
"""What staged policies can count as."""

_ENFORCED = {
    "StagedNetworkPolicy": "NetworkPolicy",
    "StagedGlobalNetworkPolicy": "GlobalNetworkPolicy",
    "StagedKubernetesNetworkPolicy": "NetworkPolicy",
}
"""The kind of what a staged policy becomes (projectcalico/calico api/pkg/apis/projectcalico/v3/staged*.go)."""


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Policies with the tiers and network sets that were given with them; a title may stand for several policies."""

    policies: tuple[Policy, ...] = ()
    tiers: tuple[Tier, ...] = ()
    sets: tuple[NetworkSet, ...] = ()

    @classmethod
    def of(cls, objects: Iterable[Object]) -> "PolicySet":
        """Return the set of these objects, in their order."""
        found = list(objects)
        return cls(
            tuple(one for one in found if isinstance(one, Policy)),
            tuple(one for one in found if isinstance(one, Tier)),
            tuple(one for one in found if isinstance(one, NetworkSet)),
        )

    def dialects(self) -> frozenset[str]:
        """Return the dialects of its policies."""
        return frozenset(policy.dialect for policy in self.policies)

    def features(self) -> frozenset[str]:
        """Return what its policies use of what some engines read in their own way (see `Policy.features`)."""
        return frozenset(feature for policy in self.policies for feature in policy.features())

    def tier(self, name: str) -> Tier:
        """Return a tier, given or built in; raises InputError for an unknown one."""
        for one in self.tiers:
            if one.name == name:
                return one
        if name not in TIERS:
            raise InputError(f"tier {name!r} is not given")
        return TIERS[name]

    def merged(self, over: "PolicySet") -> "PolicySet":
        """Return this set with the objects of `over` in place of their namesakes, and its staged policies enforced.

        Staged policies of this set that `over` does not replace stay staged.
        """
        acting = tuple(policy for policy in over.policies if policy.staged is not None)
        plain = tuple(policy for policy in over.policies if policy.staged is None)
        replaced = {policy.title for policy in over.policies}
        kept = tuple(policy for policy in self.policies if policy.title not in replaced)
        return PolicySet(
            _acted((*kept, *plain), acting),
            (*_others(self.tiers, over.tiers), *over.tiers),
            (*_others(self.sets, over.sets), *over.sets),
        )

    def enforced(self, staged: str) -> "PolicySet":
        """Return the set without staged policies: they have taken effect (`enforced`), or none of it (`ignored`).

        A staged `set` takes the place of the policy it stands for, or joins; `delete` removes that policy; what is staged
        as `ignore` or `learn` has no effect.

        Raises InputError.
        """
        if staged not in STAGED:
            raise InputError(f"{staged!r} is none of {', '.join(STAGED)}")
        plain = tuple(policy for policy in self.policies if policy.staged is None)
        acting = [policy for policy in self.policies if policy.staged is not None] if staged == "enforced" else []
        return replace(self, policies=_acted(plain, acting))

    def check_tiers(self) -> None:
        """Raise InputError when a policy names a tier that nobody defines, or a built-in tier is defined differently."""
        known = TIERS.keys() | {tier.name for tier in self.tiers}
        problems = [
            Problem(policy.file, policy.line, policy.title, f"no Tier {policy.tier} is given")
            for policy in self.policies
            if policy.tier not in known
        ]
        for tier in self.tiers:
            fixed = TIERS.get(tier.name)
            if fixed is not None and (tier.order, tier.default) != (fixed.order, fixed.default):
                rule = f"is built in, with order {fixed.order:.0f} and default action {fixed.default.capitalize()}"
                problems.append(Problem(tier.file, tier.line, tier.title, rule))
        if problems:
            raise InputError(told(problems))


def _acted(plain: Sequence[Policy], acting: Iterable[Policy]) -> tuple[Policy, ...]:
    """Return policies after staged ones have taken effect."""
    found = list(plain)
    for staged in acting:
        if staged.staged not in ("set", "delete"):
            continue
        found = [policy for policy in found if policy.title != staged.becomes]
        if staged.staged == "set":
            found.append(replace(staged, kind=_ENFORCED[staged.kind], staged=None))
    return tuple(found)


def _others(mine: tuple[_One, ...], over: tuple[_One, ...]) -> tuple[_One, ...]:
    titles = {one.title for one in over}
    return tuple(one for one in mine if one.title not in titles)
