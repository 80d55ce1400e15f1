"""Decides halves of connections by rules alone, in columns: what order, first match, tiers and defaults say.

A half is a cell: class of the policed pod, class of its peer, connection. For each cell the rules that may match are laid out
in order and the possible outcomes gathered; a rule that may or may not match leaves both ways open. One possible outcome is a
verdict, two are undetermined.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deploy.semantics.ends import POD, UNKNOWN, Codes, Ends
from deploy.semantics.peers import MAYBE, NO, YES, Answers, Peers
from deploy.semantics.policyset import PolicySet
from deploy.semantics.profiles import Profile
from deploy.semantics.programs import ALLOW, DENY, LOG, PASS, Program, expand, first_of_runs
from deploy.semantics.rules import DIRECTIONS, Block, Doubtful, Policy, Rule, Serves
from deploy.semantics.selectors import Truth
from deploy.semantics.traffic import Connections, Traffics

OUTCOMES = ("allowed", "denied", "undetermined")
ALLOWED, DENIED, UNDETERMINED = range(len(OUTCOMES))

REASONS = (
    *(
        "not-isolated",
        "rule",
        "isolation",
        "passed",
        "no-pod",
        "host-network",
        "own-node",
        "node",
        "itself",
        "protocol",
    ),
    *(
        "icmp",
        "sctp",
        "ipv6",
        "unresolved",
        "translated",
        "ip-block",
        "prefix",
        "port",
        "source-port",
        "order",
        "service",
    ),
    *("fqdn", "engines", "except", "labels", "subject", "peer"),
)
"""Reason codes of verdicts; `Verdict` says what each means."""
CODE = {name: number for number, name in enumerate(REASONS)}

_LIMIT = 1 << 21
"""How many (cell, rule) pairs are laid out at once: some hundred megabytes."""


@dataclass(slots=True)
class Verdicts:
    """Verdicts in columns (int64): outcome, reason, and the policy and step of the program that decide (-1: none)."""

    outcome: Codes
    reason: Codes
    policy: Codes
    step: Codes

    @classmethod
    def blank(cls, size: int) -> "Verdicts":
        """Return verdicts of cells that nothing isolates."""
        return cls(*(np.zeros(size, np.int64) for _ in range(2)), *(np.full(size, -1, np.int64) for _ in range(2)))

    def put(self, rows: Truth | Codes, outcome: int, reason: str, *, keep: bool = False) -> None:
        """Set an outcome for some cells; `keep`: still naming who decided before."""
        self.outcome[rows] = outcome
        self.reason[rows] = CODE[reason]
        if not keep:
            self.policy[rows] = self.step[rows] = -1

    def store(self, rows: Codes, part: "Verdicts") -> None:
        """Take over the verdicts of some cells."""
        self.outcome[rows], self.reason[rows] = part.outcome, part.reason
        self.policy[rows], self.step[rows] = part.policy, part.step

    def copy(self) -> "Verdicts":
        """Return a copy to change."""
        return Verdicts(self.outcome.copy(), self.reason.copy(), self.policy.copy(), self.step.copy())

    def take(self, rows: Codes) -> "Verdicts":
        """Return these cells' verdicts."""
        return Verdicts(self.outcome[rows], self.reason[rows], self.policy[rows], self.step[rows])


@dataclass(frozen=True, slots=True)
class _Matches:
    """Rules that match cells, certainly or maybe, sorted by cell and order of evaluation."""

    cell: Codes
    step: Codes
    answer: Answers

    def where(self, kept: Truth) -> "_Matches":
        """Return some of them."""
        return _Matches(self.cell[kept], self.step[kept], self.answer[kept])

    def until_settled(self, program: Program, size: int) -> "_Matches":
        """Return those of each cell up to the group that holds its first certain one: nothing behind it is asked."""
        group = program.group[program.part[self.step]]
        certain = self.answer == YES
        cells, groups = self.cell[certain], group[certain]
        first = first_of_runs(cells)
        last = np.full(size, program.group.max(initial=0), np.int64)
        last[cells[first]] = groups[first]
        return self.where(group <= last[self.cell])


@dataclass(frozen=True, slots=True)
class _Ways:
    """The ways that cells may go: for each action the first step that certainly, or maybe, takes it (-1: none)."""

    sure: Codes
    maybe: Codes
    isolator: Codes
    open: Truth
    ended: Truth

    @classmethod
    def blank(cls, size: int) -> "_Ways":
        """Return the ways of cells that nothing was asked about."""
        sure, maybe = np.full((size, 3), -1, np.int64), np.full((size, 3), -1, np.int64)
        return cls(sure, maybe, np.full(size, -1, np.int64), np.ones(size, np.bool_), np.zeros(size, np.bool_))

    def hear(self, level: _Matches, program: Program, isolated: Codes, *, stops: bool) -> None:
        """Go through one tier: its matches of open cells, the policies that isolate there, and whether it stops the rest."""
        action = program.action[level.step]
        certain = level.answer == YES
        for table, kept in ((self.sure, certain), (self.maybe, ~certain)):
            rows = np.flatnonzero(kept)[::-1]
            cell, act, step = level.cell[rows], action[rows], level.step[rows]
            fresh = table[cell, act] < 0
            table[cell[fresh], act[fresh]] = step[fresh]
        passed, ended = np.zeros_like(self.open), np.zeros_like(self.open)
        passed[level.cell[action == PASS]] = True
        ended[level.cell[certain]] = True
        stopped = self.open & ~ended & (isolated >= 0) & stops
        first = stopped & (self.isolator < 0)
        self.isolator[first] = isolated[first]
        self.open[:] = passed | (self.open & ~ended & ~stopped)

    def end(self, rows: Truth) -> None:
        """Let these cells pass without asking further tiers."""
        self.ended[:] |= self.open & rows
        self.open[:] &= ~rows

    def verdicts(self, program: Program) -> tuple[Verdicts, Codes]:
        """Return the verdicts, and for undetermined ones the step that leaves them open (-1: an order nobody defined)."""
        found = Verdicts.blank(len(self.open))
        passes = self.open | self.ended
        allows = (self.sure[:, ALLOW] >= 0) | (self.maybe[:, ALLOW] >= 0) | passes
        denies = (self.sure[:, DENY] >= 0) | (self.maybe[:, DENY] >= 0) | (self.isolator >= 0)
        found.outcome[:] = np.where(allows & denies, UNDETERMINED, np.where(denies, DENIED, ALLOWED))
        act = np.where(found.outcome == DENIED, DENY, ALLOW)
        rows = np.arange(len(act))
        found.step[:] = self.sure[rows, act]
        by_default = np.where(act == DENY, self.isolator >= 0, passes)
        found.step[:] = np.where((found.step < 0) & ~by_default, self.maybe[rows, act], found.step)
        leans = (self.sure[:, ALLOW] >= 0) | (passes & (self.isolator < 0) & (self.sure[:, DENY] < 0))
        doubt = np.where(leans, self.maybe[:, DENY], self.maybe[:, ALLOW])
        for other in (ALLOW, DENY, PASS):
            doubt = np.where(doubt < 0, self.maybe[:, other], doubt)
        found.step[:] = np.where(found.outcome == UNDETERMINED, doubt, found.step)
        ruled = found.step >= 0
        found.policy[ruled] = program.rule_policy[found.step[ruled]]
        lone = ~ruled & (found.outcome != ALLOWED)
        found.policy[lone] = self.isolator[lone]
        default = np.where(found.outcome == ALLOWED, CODE["passed"], CODE["isolation"])
        found.reason[:] = np.where(ruled, CODE["rule"], default)
        return found, doubt


class Rules:
    """One policy set as engines of one kind read it, over the classes of `ends` and the distinct connections."""

    def __init__(
        self,
        policies: PolicySet,
        profile: Profile,
        ends: Ends,
        connections: Connections,
        known_services: frozenset[str] = frozenset(),
    ) -> None:
        self.policies = policies.policies
        self.ends = ends
        self.peers = Peers(ends, profile, policies.sets, known_services)
        self.traffics = Traffics(ends, connections, profile)
        self._doubts: dict[tuple[str, int, int, int], str] = {}
        self.programs = {
            direction: Program(direction, policies, profile, self.peers, self.traffics, ends)
            for direction in DIRECTIONS
        }

    def decide(self, direction: str, source: Codes, destination: Codes, connection: Codes) -> Verdicts:
        """Return what the rules say of each half: classes of both ends, numbers of connections (equally long arrays)."""
        program = self.programs[direction]
        subject = source if direction == "egress" else destination
        found = Verdicts.blank(len(subject))
        kind, hosts = self.ends.kind[subject], self.ends.host[subject]
        found.put((kind != POD) & (kind != UNKNOWN), ALLOWED, "no-pod")
        found.put(hosts, ALLOWED, "host-network")
        if program.stops():
            translated = self.ends.translated[subject]
            found.put((kind == UNKNOWN) & ~translated, UNDETERMINED, "unresolved")
            found.put((kind == UNKNOWN) & translated, UNDETERMINED, "translated")
        governed = program.starts[subject + 1] > program.starts[subject]
        for rows in _slices(program, subject, np.flatnonzero(((kind == POD) | hosts) & governed)):
            cells = (source[rows], destination[rows], connection[rows])
            found.store(rows, self._decide(program, subject[rows], cells))
        doubted = (hosts | (kind == POD)) & (program.doubted[subject] >= 0)
        if doubted.any():
            vague = self.ends.vague["namespace"][subject] | self.ends.vague["account"][subject]
            for some, reason in ((hosts, "host-network"), (~hosts & vague, "labels"), (~hosts & ~vague, "subject")):
                found.put(doubted & some, UNDETERMINED, reason)
            found.policy[doubted] = program.doubted[subject[doubted]]
        return found

    def _decide(self, program: Program, subject: Codes, cells: tuple[Codes, Codes, Codes]) -> Verdicts:
        """Return what the rules say of cells that some policy governs."""
        matches = self._matches(program, subject, cells)
        ways = _Ways.blank(len(subject))
        tiers = program.tier[program.part[matches.step]]
        for rank in range(len(program.tiers)):
            level = matches.where((tiers == rank) & ways.open[matches.cell]).until_settled(program, len(subject))
            ways.hear(level, program, program.isolated[rank, subject], stops=bool(program.denies[rank]))
            if program.tiers[rank].name == "default":
                ways.end(program.ending[subject] > 0)
        found, doubts = ways.verdicts(program)
        self._overrule(program, subject, cells, found)
        for row in np.flatnonzero((found.outcome == UNDETERMINED) & (found.reason != CODE["except"])):
            source, destination, _ = (int(one[row]) for one in cells)
            found.reason[row] = CODE[self._doubt(program, int(doubts[row]), source, destination)]
        return found

    def _overrule(self, program: Program, subject: Codes, cells: tuple[Codes, Codes, Codes], found: Verdicts) -> None:
        """Leave open what a rule allows to addresses that another rule's block leaves out."""
        if (program.holes < 0).all():
            return
        owner, place = expand(program.starts[subject], program.starts[subject + 1])
        holes = program.holes[program.parts[place]]
        kept = (holes >= 0) & (found.outcome[owner] == ALLOWED) & (found.step[owner] >= 0)
        owner, holes = owner[kept], holes[kept]
        peer = cells[1] if program.direction == "egress" else cells[0]
        rows = np.unique(owner[self.peers.answers(holes, peer[owner]) != NO])
        found.put(rows, UNDETERMINED, "except", keep=True)

    def _matches(self, program: Program, subject: Codes, cells: tuple[Codes, Codes, Codes]) -> _Matches:
        """Return the rules that may match, of each chain of policies up to the first that certainly does."""
        source, destination, connection = cells
        owner, place = expand(program.starts[subject], program.starts[subject + 1])
        parts = program.parts[place]
        inner, step = expand(program.first[parts], program.first[parts + 1])
        cell = owner[inner]
        kept = program.action[step] != LOG
        cell, step = cell[kept], step[kept]
        answer = np.full(len(step), YES, np.int8)
        for column, ends in ((program.destination, destination), (program.source, source)):
            answer = np.minimum(answer, self.peers.answers(column[step], ends[cell]))
            kept = answer != NO
            cell, step, answer = cell[kept], step[kept], answer[kept]
        answer = np.minimum(answer, self.traffics.answers(program.traffic[step], connection[cell], destination[cell]))
        kept = answer != NO
        found = _Matches(cell[kept], step[kept], answer[kept])
        chain = program.chain[program.part[found.step]]
        runs = found.cell * (program.chain.max(initial=0) + 1) + chain
        return found.where(_up_to_first(runs, found.answer == YES))

    def _doubt(self, program: Program, step: int, source: int, destination: int) -> str:
        """Return why nobody can tell whether a step matches; -1 stands for policies whose order is not defined."""
        if step < 0:
            return "order"
        key = (program.direction, step, source, destination)
        if key not in self._doubts:
            self._doubts[key] = self._why(program, step, source, destination)
        return self._doubts[key]

    def _why(self, program: Program, step: int, source: int, destination: int) -> str:
        _, rule = program.rules[step]
        ends = self.ends
        for column, number in ((program.source, source), (program.destination, destination)):
            if self.peers.answers(column[step : step + 1], np.array([number]))[0] != MAYBE:
                continue
            if ends.kind[number] == UNKNOWN:
                return "translated" if ends.translated[number] else "unresolved"
            leaves = (*rule.source.leaves(), *rule.destination.leaves())
            if any(isinstance(leaf, Serves) for leaf in leaves) or rule.service is not None:
                return "service"
            named = [leaf.reason for leaf in leaves if isinstance(leaf, Doubtful)]
            if named:
                return named[0] if named[0] in CODE else "peer"
            if ends.first[number] != ends.last[number]:
                return "prefix"
            blocks = any(isinstance(leaf, Block) for leaf in leaves)
            if any(one[number] for one in ends.vague.values()) and not blocks:
                return "labels"
            return "host-network" if ends.host[number] else "ip-block" if blocks else "labels"
        return "source-port" if rule.traffic.source_ports else "port"

    def rule(self, direction: str, step: int) -> tuple[Policy, Rule]:
        """Return the policy and rule of a step of a program."""
        policy, rule = self.programs[direction].rules[step]
        return self.policies[policy], rule


def _slices(program: Program, subject: Codes, rows: Codes) -> Iterator[Codes]:
    """Yield rows in slices whose rules can be laid out at once."""
    lengths = program.first[1:] - program.first[:-1]
    sums = np.concatenate(([0], np.cumsum(lengths[program.parts])))
    sizes = np.cumsum(sums[program.starts[subject[rows] + 1]] - sums[program.starts[subject[rows]]])
    start = 0
    while start < len(rows):
        base = sizes[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(sizes, base + _LIMIT, side="right")))
        yield rows[start:stop]
        start = stop


def _up_to_first(runs: Codes, sure: Truth) -> Truth:
    """Keep the entries of each run up to and with its first certain one."""
    before: Codes = np.cumsum(sure) - sure
    firsts = first_of_runs(runs)
    start = np.maximum.accumulate(np.where(firsts, np.arange(len(runs)), 0))
    return before == before[start] if len(runs) else firsts
