"""What a replay finds: plain data, rendered by the command line, the reports and the pull request."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deploy.semantics.verdicts import ALLOWED, DENIED, UNDETERMINED
from recorder.records import SECOND

SCHEMA_VERSION = 1
EXPECTED = "expected"
COUNTED = (ALLOWED, DENIED, EXPECTED, UNDETERMINED)
FAIL_ON = ("denied", "undetermined", "never")


@dataclass(frozen=True, slots=True)
class Finding:
    """One half of an edge between workloads that is not simply allowed.

    `half` is `egress` or `ingress`; `by` the object and rule that decide, or the first object that isolates; `reason` is the
    verdict's code (see `Verdict`); `labels` tells under which labels: those of `then`, those of `now`, or `both`; `decision`
    and `reasons` are what was learned about it. `nearest` is the rule that only its peer or only its traffic keeps from
    allowing, `misses` which of the two. `engines` are each engine's outcomes where several were asked and differ.
    `connections` counts answered ones; times are microseconds since the epoch. `file` and `line` are where what decides is
    written; None when nothing does, or when it comes from the recording.
    """

    source: str
    destination: str
    protocol: str
    port: int | None
    icmp: str | None
    half: str
    by: str | None
    reason: str
    labels: str
    decision: str | None
    reasons: tuple[str, ...]
    connections: int
    attempts: int
    first_seen: int
    last_seen: int
    nearest: str | None = None
    misses: str | None = None
    engines: tuple[tuple[str, str], ...] = ()
    file: str | None = None
    line: int | None = None

    def json(self) -> dict[str, Any]:
        """Return it as it stands in the JSON."""
        found: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                *("source", "destination", "protocol", "port", "half", "by", "file", "line", "reason", "labels"),
                "decision",
            )
        }
        if self.icmp is not None:
            found["icmp"] = self.icmp
        if self.nearest is not None:
            found |= {"nearest": self.nearest, "misses": self.misses}
        if self.engines:
            found["engines"] = dict(self.engines)
        return found | {
            "reasons": list(self.reasons),
            "connections": self.connections,
            "attempts": self.attempts,
            "first_seen": rfc3339(self.first_seen),
            "last_seen": rfc3339(self.last_seen),
        }


@dataclass(frozen=True, slots=True)
class Change:
    """An edge between workloads that fares differently than under the policies compared with; `by` as in `Finding`."""

    source: str
    destination: str
    protocol: str
    port: int | None
    icmp: str | None
    half: str
    before: str
    after: str
    before_by: str | None
    after_by: str | None
    connections: int
    attempts: int

    def json(self) -> dict[str, Any]:
        """Return it as it stands in the JSON."""
        found = {name: getattr(self, name) for name in self.__slots__}
        if self.icmp is None:
            del found["icmp"]
        return found


@dataclass(frozen=True, slots=True, order=True)
class Isolated:
    """A workload that policies isolate though the recording holds nothing of it: default-deny by silence."""

    workload: str
    directions: tuple[str, ...]
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Unjudged:
    """A part of a policy that does not count in the verdicts: an engine skips the object, or a rule holds more than L4."""

    object: str
    rule: str | None
    what: str


@dataclass(frozen=True, slots=True)
class Replay:
    """The verdict on a recording; plain data, rendered by the command line and the pull request.

    `borrowed` are halves that pass only because of another policy that is already there; `changes` what fares differently
    than under the policies compared with (those given with `against`, or those already there), None when nothing was compared.
    """

    profile: str
    engines: tuple[str, ...]
    policies: int
    edges: Mapping[str, int]
    connections: Mapping[str, int]
    denied: tuple[Finding, ...]
    expected: tuple[Finding, ...]
    undetermined: tuple[Finding, ...]
    isolated: tuple[Isolated, ...]
    borrowed: tuple[Finding, ...] = ()
    changes: tuple[Change, ...] | None = None
    unjudged: tuple[Unjudged, ...] = ()
    fail_on: str = "denied"

    @property
    def failed(self) -> bool:
        """Tell whether this is a finding, by what was asked to be one."""
        if self.fail_on == "never":
            return False
        return bool(self.denied) or (self.fail_on == "undetermined" and bool(self.undetermined))

    def json(self) -> dict[str, Any]:
        """Return what `replay -o json` prints."""
        found: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "profile": self.profile,
            "engines": list(self.engines),
            "policies": self.policies,
            "summary": {"edges": dict(self.edges), "connections": dict(self.connections)},
            **{
                name: [finding.json() for finding in getattr(self, name)]
                for name in ("denied", "expected", "undetermined", "borrowed")
            },
            "isolated": [
                {"workload": one.workload, "directions": list(one.directions), "by": list(one.by)}
                for one in self.isolated
            ],
            "unjudged": [{"object": one.object, "rule": one.rule, "what": one.what} for one in self.unjudged],
        }
        if self.changes is not None:
            found["changes"] = [change.json() for change in self.changes]
        return found


def rfc3339(time: int) -> str:
    """Return microseconds since the epoch as the JSON has them."""
    return f"{datetime.fromtimestamp(time // SECOND, UTC):%Y-%m-%dT%H:%M:%S}.{time % SECOND:06d}Z"
