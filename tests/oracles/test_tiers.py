"""Random tiers of policies of three APIs, and Cilium's policies, judged by podfence and by plain code that shares nothing with it."""

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from deploy.semantics.deciding import OUTCOMES
from deploy.semantics.ends import Ends, Lens
from deploy.semantics.profiles import profile
from deploy.semantics.rules import DIRECTIONS
from deploy.semantics.traffic import Connection, Connections
from deploy.semantics.verdicts import Court
from tests.oracles.cilium import outcome
from tests.oracles.cilium_policies import Cilium
from tests.oracles.matching import Asked, Someone, everybody
from tests.oracles.podfence_side import endpoints, read
from tests.oracles.tier_policies import Mixed, questions
from tests.oracles.tiers import Tiers
from tests.oracles.worlds import World, world

CASES = int(os.environ.get("PODFENCE_TIER_CASES", "100"))
"""How many random cases are judged; an environment variable asks for more."""

Json = dict[str, Any]
Plain = Callable[[str, Someone, Someone, Asked], str]
"""Judges one half by its direction, its ends and the connection."""


def judged(
    objects: Sequence[Json], place: World, asked: Sequence[Asked], engine: str, staged: str
) -> dict[str, np.ndarray]:
    """Return podfence's outcome (a code) of each half of every pair of ends, by direction: rows are pairs, columns connections."""
    given = read(tuple(objects), "case").enforced(staged)
    ends = Ends(endpoints(place), Lens.of([given]))
    kinds = [
        Connection(one.protocol, None, one.number, one.code)
        if one.protocol == "icmp"
        else Connection(one.protocol, one.number)
        for one in asked
    ]
    court = Court(given, (profile(engine),), ends, Connections(kinds))
    left, right = np.array(place.pairs, np.int64).reshape(-1, 2).T
    pair, connection = np.indices((len(left), len(kinds))).reshape(2, -1)
    source, target, itself = ends.pairs(left[pair], right[pair])
    return {one: court.judge(one, source, target, connection, itself).outcome for one in DIRECTIONS}


def compare(
    objects: Sequence[Json], place: World, asked: Sequence[Asked], engine: str, plain: Plain, staged: str
) -> Counter[str]:
    """Hold every half of every pair against plain code, and return how often each outcome was met."""
    people, seen = everybody(place), Counter[str]()
    cells = [(people[left], people[right], one) for left, right in place.pairs for one in asked]
    for direction, codes in judged(objects, place, asked, engine, staged).items():
        found = [plain(direction, *cell) for cell in cells]
        different = [
            cell for cell, code, one in zip(cells, codes.tolist(), found, strict=True) if OUTCOMES[code] != one
        ]
        assert not different, (direction, different[0])
        seen.update(found)
    return seen


@pytest.mark.parametrize("staged", ["enforced", "ignored"])
def test_tiers_decide_as_plain_code_says(staged: str) -> None:
    """Each half of every pair has the outcome that walking the tiers from the dictionaries gives."""
    seen = Counter[str]()
    for number in range(CASES):
        dice = random.Random(f"tiers {number}")  # noqa: S311 - a seed, no secret
        place = world(dice)
        objects = Mixed(dice, place).objects()
        seen += compare(objects, place, questions(dice, place), "calico", Tiers(objects, staged).outcome, staged)
    assert min(seen["allowed"], seen["denied"]) > 200 * CASES
    assert seen["undetermined"] > 0


def test_cilium_decides_as_plain_code_says() -> None:
    """Denials win, permissions add up, and what a policy closes stays closed, with Kubernetes policies among Cilium's."""
    seen = Counter[str]()
    for number in range(CASES):
        dice = random.Random(f"cilium {number}")  # noqa: S311 - a seed, no secret
        place = world(dice)
        # Whom a port's name means, and whether SCTP is on, Cilium's own sources leave open.
        place = replace(place, pods=tuple(replace(pod, ports=()) for pod in place.pods))
        maker = Cilium(dice, place)
        makers = (maker.policy, maker.policy, maker.kubernetes.policy)
        objects = [dice.choice(makers)(f"p{count}") for count in range(dice.randint(1, 5))]
        asked = [one for one in questions(dice, place) if one.protocol != "sctp"]
        seen += compare(objects, place, asked, "cilium", partial(outcome, objects), "enforced")
    assert min(seen["allowed"], seen["denied"]) > 200 * CASES


def calico(name: str, action: str) -> Json:
    """Return a policy of the order that Kubernetes policies have, which does this to all that enters."""
    spec = {"order": 1000, "ingress": [{"action": action}]}
    metadata = {"name": name, "namespace": "one"}
    return {"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def test_policies_of_one_order_go_by_their_names() -> None:
    """A Kubernetes policy of the same order does not undo the order among Calico's own; where itself stands is open."""
    place = world(random.Random(1))  # noqa: S311 - a seed, no secret
    plain = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}}}
    silent = plain | {"metadata": {"name": "b", "namespace": "one"}}
    loud = silent | {"spec": {"podSelector": {}, "ingress": [{}]}}
    asked = [Asked("tcp", 80)]
    for objects, wanted in (
        ([calico("a", "Deny"), calico("c", "Allow"), silent], "denied"),
        ([calico("a", "Allow"), calico("c", "Deny"), silent], "allowed"),
        ([calico("a", "Allow"), calico("c", "Deny"), loud], "allowed"),
        ([calico("a", "Deny"), calico("c", "Allow"), loud], "undetermined"),
    ):
        seen = compare(objects, place, asked, "calico", Tiers(objects).outcome, "enforced")
        assert set(seen) == {"allowed", wanted}
