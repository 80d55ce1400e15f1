"""Why a half meets its verdict: every rule that was asked, what it says of either end and of the traffic, and the nearest miss."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deploy.semantics.deciding import Rules
from deploy.semantics.peers import NO, YES
from deploy.semantics.rules import Policy, Rule

ANSWERS = ("no", "maybe", "yes")


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that was asked: its answers (`yes`, `maybe`, `no`) about the peer, the policed pod and the traffic.

    `where` is None for a policy that governs the pod without any rule for this direction.
    """

    policy: str
    tier: str
    where: str | None
    action: str
    peer: str
    subject: str
    traffic: str
    file: str
    line: int
    unjudged: tuple[str, ...] = ()

    @property
    def matches(self) -> str:
        """Return the least of its answers."""
        return min(self.peer, self.subject, self.traffic, key=ANSWERS.index)

    @property
    def misses(self) -> str | None:
        """Return the one thing that keeps the rule from matching: `peer`, `traffic`; None when it matches, or both."""
        if self.subject == "no" or self.matches != "no":
            return None
        missing = [name for name in ("peer", "traffic") if getattr(self, name) == "no"]
        return missing[0] if len(missing) == 1 else None


def trail(rules: Rules, direction: str, source: int, destination: int, connection: int) -> tuple[Step, ...]:
    """Return the rules that govern a half, in the order they are asked; arguments number classes and connections."""
    return tuple(_steps(rules, direction, source, destination, connection))


def nearest(rules: Rules, direction: str, source: int, destination: int, connection: int) -> Step | None:
    """Return the allowing rule that only one thing keeps from matching, the peer's first; None when there is none."""
    misses = [
        step
        for step in _steps(rules, direction, source, destination, connection)
        if step.action == "allow" and step.misses
    ]
    return min(misses, key=lambda step: step.misses != "traffic", default=None)


def _steps(rules: Rules, direction: str, source: int, destination: int, connection: int) -> Iterator[Step]:
    program = rules.programs[direction]
    subject = source if direction == "egress" else destination
    for place in program.parts[program.starts[subject] : program.starts[subject + 1]]:
        part = program.laid[place]
        policy = rules.policies[part.policy]
        numbers = np.arange(program.first[place], program.first[place + 1])
        if not len(numbers):
            yield _step(policy, None, YES, YES, NO)
            continue
        left, right = np.full(len(numbers), source), np.full(len(numbers), destination)
        sources = rules.peers.answers(program.source[numbers], left)
        targets = rules.peers.answers(program.destination[numbers], right)
        said = rules.traffics.answers(program.traffic[numbers], np.full(len(numbers), connection), right)
        for row, number in enumerate(numbers):
            own, other = (sources, targets) if direction == "egress" else (targets, sources)
            yield _step(policy, program.rules[number][1], int(own[row]), int(other[row]), int(said[row]))


def _step(policy: Policy, rule: Rule | None, subject: int, peer: int, traffic: int) -> Step:
    return Step(
        policy=policy.title,
        tier=policy.tier,
        where=rule.where if rule else None,
        action=rule.action if rule else "none",
        peer=ANSWERS[peer],
        subject=ANSWERS[subject],
        traffic=ANSWERS[traffic],
        file=policy.file,
        line=rule.line if rule else policy.line,
        unjudged=rule.unjudged if rule else (),
    )
