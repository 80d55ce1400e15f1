"""Judges one half of a connection: egress of its initiator or ingress of its responder, under one engine or several.

`Court` judges columns; `judge_half` asks it about one half. Several engines agree or leave it undetermined.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.semantics import deciding
from deploy.semantics.deciding import OUTCOMES, REASONS, Rules, Verdicts
from deploy.semantics.ends import Codes, Endpoint, Ends, Lens
from deploy.semantics.engine import Engine, alike
from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import Profile
from deploy.semantics.rules import Policy
from deploy.semantics.selectors import Truth
from deploy.semantics.traffic import Connection, Connections

ALLOWED, DENIED, UNDETERMINED = OUTCOMES


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a half, by which object and rule (None: by isolation, or by none), and why, as a code.

    Reasons of what is allowed: `rule`, `not-isolated`, `passed` (policies govern the pod, none stops it), `no-pod` (no half: the
    end is no pod), `host-network`, `own-node`, `node`, `itself`, `protocol`, `icmp`, `sctp`, `ipv6` (this engine lets it pass
    whatever the rules say); of what is denied: `rule`, `isolation`. What is undetermined: `unresolved` (nobody is known to
    hold the address), `translated` (what arrives is another address), `host-network`, `own-node`, `node`, `itself`,
    `protocol`, `sctp`, `ipv6` (the engine's sources do not settle it), `ip-block` (whose addresses a block matches),
    `prefix` (only some of the folded addresses match), `port` (not recorded, or a port name with several numbers),
    `source-port`, `service` (its endpoints are not known), `fqdn` (a name's addresses), `peer` (another condition that no
    recording settles), `order` (policies whose order nobody defines disagree),
    `except` (a range that another rule leaves out), `labels` (those of the namespace or service account are not known),
    `subject` (whether a policy selects the pod), `engines` (engines differ).
    `engines` gives each engine's outcome where there are several.
    """

    outcome: str
    reason: str
    object: str | None = None
    rule: str | None = None
    engines: tuple[tuple[str, str], ...] = ()

    @property
    def by(self) -> str | None:
        """Return the deciding object and rule as one text."""
        if self.object is None:
            return None
        return f"{self.object} {self.rule}" if self.rule else self.object


@dataclass(slots=True)
class Judgement:
    """Verdicts in columns (int64, one a half): codes of outcome and reason, the deciding engine, policy and step (-1: none).

    `allowing` and `denying` are bit sets of engines.
    """

    outcome: Codes
    reason: Codes
    engine: Codes
    policy: Codes
    step: Codes
    allowing: Codes
    denying: Codes

    def take(self, rows: Codes) -> "Judgement":
        """Return these halves' verdicts."""
        return Judgement(*(getattr(self, name)[rows] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Ways:
    """What initiators dialled, by half: a Service as selectors see it and as an address, and the connection to that address.

    `way` numbers the other columns, 0 where the responder itself was dialled. The AWS controller opens the ClusterIPs of Services
    whose `spec.selector` a rule's podSelector matches, on the port that leads to the rule's
    (amazon-network-policy-controller-k8s pkg/resolvers/endpoints.go, getMatchingServiceClusterIPs).
    """

    way: Codes
    service: Codes
    address: Codes
    connection: Codes

    def apply(self, rules: Rules, found: Verdicts, source: Codes, connection: Codes) -> None:
        """Judge what was dialled in place of the responder: allowed as a Service or as an address, else as the address fares."""
        rows = np.flatnonzero(self.way)
        way = self.way[rows]
        as_service = rules.decide("egress", source[rows], self.service[way], connection[rows])
        as_address = rules.decide("egress", source[rows], self.address[way], self.connection[way])
        severity = np.array([0, 2, 1])
        better = severity[as_service.outcome] <= severity[as_address.outcome]
        found.store(rows[better], as_service.take(np.flatnonzero(better)))
        found.store(rows[~better], as_address.take(np.flatnonzero(~better)))


class Court:
    """One policy set under one engine or several, over the classes of `ends` and distinct connections."""

    def __init__(
        self,
        policies: PolicySet,
        profiles: Sequence[Profile],
        ends: Ends,
        connections: Connections,
        known_services: frozenset[str] = frozenset(),
    ) -> None:
        """Compile; `known_services` are those whose endpoints the ends tell."""
        policies.check_tiers()
        self.policies = policies
        self.profiles = tuple(profiles)
        self.ends = ends
        self.connections = connections
        engines: list[Engine] = []
        features = policies.features() | ({"host-network"} if ends.host.any() else set())
        for profile in self.profiles:
            twin = next((one.rules for one in engines if alike(one.profile, profile, features)), None)
            rules = twin or Rules(policies, profile, ends, connections, known_services)
            engines.append(Engine(profile, rules, ends, connections))
        self.engines = tuple(engines)

    def judge(
        self,
        direction: str,
        source: Codes,
        destination: Codes,
        connection: Codes,
        itself: Truth,
        ways: Ways | None = None,
    ) -> Judgement:
        """Return the verdict on each half: classes of both ends and numbers of connections (equally long arrays).

        `ways` tells what was dialled, for engines that judge egress before it is translated.
        """
        decided: dict[int, Verdicts] = {}
        found = []
        for one in self.engines:
            rules = id(one.rules)
            if rules not in decided:
                decided[rules] = one.rules.decide(direction, source, destination, connection)
            verdicts = decided[rules].copy()
            if ways is not None and one.profile.before_dnat and direction == "egress":
                ways.apply(one.rules, verdicts, source, connection)
            one.excuse(direction, verdicts, source, destination, connection, itself)
            found.append(verdicts)
        return combined(found)

    def readings(self) -> list[Rules]:
        """Return the different readings of the rules that its engines have."""
        return list({id(one.rules): one.rules for one in self.engines}.values())

    def verdict(self, direction: str, judged: Judgement, row: int) -> Verdict:
        """Return one verdict of many, with names."""
        place = int(judged.engine[row])
        outcome, reason = OUTCOMES[judged.outcome[row]], REASONS[judged.reason[row]]
        title, rule = self.named(direction, place, int(judged.policy[row]), int(judged.step[row]))
        engines: tuple[tuple[str, str], ...] = ()
        if len(self.profiles) > 1:
            engines = tuple((one.name, self._outcome(judged, row, bit)) for bit, one in enumerate(self.profiles))
        return Verdict(outcome, reason, title, rule, engines)

    def named(self, direction: str, place: int, policy: int, step: int) -> tuple[str | None, str | None]:
        """Return the titles of a policy and of the rule at a step, of the engine at a place."""
        if policy < 0:
            return None, None
        rule = self.engines[place].rules.rule(direction, step)[1].where if step >= 0 else None
        return self.policies.policies[policy].title, rule

    @staticmethod
    def _outcome(judged: Judgement, row: int, bit: int) -> str:
        if judged.allowing[row] >> bit & 1:
            return ALLOWED
        return DENIED if judged.denying[row] >> bit & 1 else UNDETERMINED

    def selecting(self, direction: str, number: int) -> tuple[Policy, ...]:
        """Return the policies that govern a class under any engine, in the order the first such engine has."""
        found = (place for one in self.engines for place in one.rules.programs[direction].selecting(number))
        return tuple(self.policies.policies[place] for place in dict.fromkeys(found))


def combined(found: Sequence[Verdicts]) -> Judgement:
    """Return what several engines say together: allowed or denied where all agree, else undetermined.

    An engine without IPv6 has no say about it where another has: no cluster with IPv6 runs it.
    """
    outcomes = np.stack([one.outcome for one in found])
    abstains = np.stack([one.reason for one in found]) == REASONS.index("ipv6")
    if (abstains.any(axis=0) & ~abstains.all(axis=0)).any():
        voice = (~abstains).argmax(axis=0)
        outcomes = np.where(abstains, np.take_along_axis(outcomes, voice[None, :], axis=0), outcomes)
    bits = (np.int64(1) << np.arange(len(found)))[:, None]
    allowing = ((outcomes == deciding.ALLOWED) * bits).sum(axis=0)
    denying = ((outcomes == deciding.DENIED) * bits).sum(axis=0)
    open_ = outcomes == deciding.UNDETERMINED
    agreed = (outcomes == outcomes[0]).all(axis=0)
    # Where engines differ, the first that leaves it open says why; else the first that denies.
    place = np.where(open_.any(axis=0), open_.argmax(axis=0), (outcomes == deciding.DENIED).argmax(axis=0))
    place = np.where(agreed, (~abstains).argmax(axis=0), place)
    rows = np.arange(outcomes.shape[1])
    reason, policy, step = (
        np.stack([getattr(one, name) for one in found])[place, rows] for name in ("reason", "policy", "step")
    )
    differ = ~agreed & ~open_.any(axis=0)
    return Judgement(
        outcome=np.where(agreed, outcomes[0], deciding.UNDETERMINED),
        reason=np.where(differ, REASONS.index("engines"), reason),
        engine=place,
        policy=policy,
        step=step,
        allowing=allowing,
        denying=denying,
    )


def judge_half(
    policies: PolicySet,
    profiles: Sequence[Profile],
    direction: str,
    source: Endpoint,
    destination: Endpoint,
    connection: Connection,
    known_services: frozenset[str] = frozenset(),
) -> Verdict:
    """Return what policies do to one half (`egress` of `source`, `ingress` of `destination`) of a connection.

    The tuple is taken as it stands where the engine enforces it, after DNAT.
    """
    ends = Ends([source, destination], Lens.of([policies]))
    court = Court(policies, profiles, ends, Connections([connection]), known_services)
    left, right, itself = ends.pairs(np.array([0]), np.array([1]))
    return court.verdict(direction, court.judge(direction, left, right, np.array([0]), itself), 0)
