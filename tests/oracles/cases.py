"""Cases for the oracles: a world, policies, and what is asked of every pair of ends; all of it from a kind and a number."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tests.oracles.calico_policies import Calico
from tests.oracles.kubernetes_policies import Kubernetes, with_selectors, with_values
from tests.oracles.worlds import NUMBERS, PROTOCOLS, World, world

KINDS = ("kubernetes", "calico", "both")
"""Which policies a case holds; `both` mixes them."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Policies (and Calico network sets) over a world, and the (protocol, number) pairs asked of each pair of ends."""

    name: str
    world: World
    policies: tuple[Json, ...]
    sets: tuple[Json, ...]
    asked: tuple[tuple[str, int], ...]

    @cached_property
    def dual(self) -> bool:
        """Tell whether pods have addresses of both families."""
        return any(end.family == 6 for end in self.world.ends)

    @cached_property
    def size(self) -> int:
        """Return the number of verdicts."""
        return len(self.world.pairs) * len(self.asked)


def case(kind: str, number: int) -> Case:
    """Return the case of a kind with a number; the same one each time."""
    dice = random.Random(f"{kind} {number}")  # noqa: S311 - a seed, no secret
    kubernetes = kind == "kubernetes"
    families = (4, 6) if kubernetes and dice.random() < 0.25 else (4,)
    odd = kubernetes and dice.random() < 0.25
    place = world(dice, families=families, odd=odd)
    plain = Kubernetes(dice, place, families, odd=odd)
    calico = Calico(dice, place)
    sets = calico.sets() if kind == "calico" else ()
    count = dice.randint(1, 5)
    makers = {"kubernetes": [plain.policy], "calico": [calico.policy], "both": [plain.policy, calico.policy]}[kind]
    policies = tuple(dice.choice(makers)(f"np{number}") for number in range(count))
    return Case(f"{kind} {number}", place, policies, sets, asked(dice, place, policies))


def asked(dice: random.Random, place: World, policies: tuple[Json, ...]) -> tuple[tuple[str, int], ...]:
    """Return seven numbers for each protocol, out of those that policies and pods name and their neighbours."""
    named = {port.number for pod in place.pods for port in pod.ports} | set(_numbers(policies)) | {NUMBERS[0]}
    around = sorted({number + step for number in named for step in (-2, -1, 0, 1, 2)})
    chosen = dice.sample(sorted(named), min(5, len(named)))
    rest = [number for number in around if number not in chosen]
    chosen += dice.sample(rest, min(7 - len(chosen), len(rest)))
    return tuple((protocol, number) for protocol in PROTOCOLS for number in sorted(chosen))


def _numbers(value: Any, key: str = "") -> list[int]:
    """Return the port numbers anywhere in policies."""
    if isinstance(value, dict):
        return [number for name, part in value.items() for number in _numbers(part, name)]
    if isinstance(value, list | tuple):
        return [number for part in value for number in _numbers(part, key)]
    if key not in ("port", "endPort", "ports", "notPorts"):
        return []
    if isinstance(value, str):
        return [int(part) for part in value.split(":")] if ":" in value else []
    return [value]


def relabelled(one: Case, change: Callable[[str], str]) -> Case:
    """Return the case with label values changed consistently: of pods, namespaces, and selectors of Kubernetes policies."""

    def mapped(labels: Any) -> dict[str, str]:
        return {key: change(value) for key, value in labels.items()}

    place = replace(
        one.world,
        namespaces={name: mapped(labels) for name, labels in one.world.namespaces.items()},
        pods=tuple(replace(pod, labels=mapped(pod.labels)) for pod in one.world.pods),
    )
    policies = tuple(
        with_selectors(policy, lambda selector, _of: with_values(selector, change))
        if policy["apiVersion"] == "networking.k8s.io/v1"
        else policy
        for policy in one.policies
    )
    return replace(one, world=place, policies=policies)
