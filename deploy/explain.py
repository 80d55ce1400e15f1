"""Why a rule is there: the recorded patterns that each rule of a generated policy rests on, from the evidence beside it."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from deploy.findings import rfc3339
from deploy.semantics.reading import manifests
from deploy.semantics.rules import Policy, Rule
from generator.evidence import SCHEMA_VERSION as EVIDENCE_VERSION
from learner.patterns import Learned
from recorder.errors import InputError

SCHEMA_VERSION = 1
_DIRECTIONS = ("ingress", "egress")
_NAME = re.compile(r"(?P<name>.*?)(?:\s+(?P<where>(?:ingress|egress)\[\d+\]))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Ground:
    """A pattern that was recorded, and what was decided about it.

    `obstacle` is why no rule could be written for an accepted one. `first_seen` and `last_seen` are microseconds since the
    epoch, None where what was learned is not at hand.
    """

    id: str
    source: str
    destination: str
    protocol: str
    port: str
    decision: str
    basis: str
    reasons: tuple[str, ...]
    attempts: int
    answered: int
    refused: int
    denied: int
    unanswered: int
    open: int
    windows_seen: int
    windows_exposed: int
    days: int
    replicas_seen: int
    replicas_exposed: int
    halves: tuple[str, ...]
    declared_by: tuple[str, ...]
    services: tuple[str, ...]
    dns_names: tuple[str, ...]
    obstacle: str | None = None
    first_seen: int | None = None
    last_seen: int | None = None

    def json(self) -> dict[str, Any]:
        """Return it as it stands in the JSON."""
        found = {name: getattr(self, name) for name in self.__slots__}
        for name in ("first_seen", "last_seen"):
            found[name] = None if found[name] is None else rfc3339(found[name])
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


@dataclass(frozen=True, slots=True)
class Grounded:
    """One rule with the patterns it rests on; `file` and `line` are None where the file no longer has the evidence's rules.

    `over_permission` says what it allows beyond what was seen.
    """

    where: str
    peer: str
    file: str | None
    line: int | None
    grounds: tuple[Ground, ...]
    over_permission: str | None = None

    def json(self) -> dict[str, Any]:
        """Return it as it stands in the JSON."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return found | {"grounds": [one.json() for one in self.grounds]}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the rules of a workload (or the one that was asked about) rest on, and what of it was seen and is not allowed.

    `state` and `bound` tell how far the workload has converged. `note` says why there is no policy, or that the file was
    changed since; None when there is nothing to say.
    """

    workload: str
    file: str | None
    state: str | None
    bound: float | None
    rules: tuple[Grounded, ...]
    left_out: tuple[Ground, ...] = ()
    note: str | None = None

    def json(self) -> dict[str, Any]:
        """Return what `explain -o json` prints of rules."""
        found: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
        found |= {name: getattr(self, name) for name in ("workload", "file", "state", "bound", "note")}
        return found | {
            "rules": [one.json() for one in self.rules],
            "left_out": [one.json() for one in self.left_out],
        }


def explain_rule(
    policies: str | os.PathLike[str],
    name: str,
    *,
    learned: Learned | str | os.PathLike[str] | None = None,
) -> Explanation:
    """Return what rules rest on; `policies` is a folder that `generate` wrote, with its evidence.

    `name` is a workload (`shop/deployment/web`) or a policy as reports name it (`NetworkPolicy shop/deployment-web`), alone or
    with one of its rules (`… egress[0]`). `learned` tells when patterns were seen, which the evidence does not hold.

    Raises InputError.
    """
    folder = Path(policies)
    matched = _NAME.fullmatch(name.strip())
    asked, where = (matched["name"], matched["where"]) if matched else (name, None)
    book = learned if isinstance(learned, Learned) or learned is None else Learned.read(learned)
    times = {one.id: (one.first_seen, one.last_seen) for one in book.patterns} if book else {}
    file = folder / ".podfence" / "evidence.json"
    evidence = _read(file)
    try:
        return _Evidence(folder, evidence, times).about(asked, where)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: is not evidence as `podfence generate` writes it") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(
            f"{file}: cannot be read: {error.strerror}; `podfence generate` writes it beside the policies"
        ) from error
    except ValueError as error:
        raise InputError(f"{file}: is no JSON: {error}") from error
    version = found.get("schema_version") if isinstance(found, dict) else None
    if version != EVIDENCE_VERSION:
        raise InputError(f"{file}: schema version {version}, this podfence reads {EVIDENCE_VERSION}")
    return found  # type: ignore[no-any-return]


class _Evidence:
    """The evidence of a folder, looked up by workload, object and rule."""

    def __init__(self, folder: Path, data: Mapping[str, Any], times: Mapping[str, tuple[int, int]]) -> None:
        self.folder = folder
        self.data = data
        self.entries = {entry["workload"]: entry for entry in data["policies"]}
        obstacles = {entry["pattern"]: entry["reason"] for entry in data["skipped"] if entry.get("blocked")}
        self.patterns = {
            entry["id"]: _ground(entry, decision, obstacles.get(entry["id"]), times.get(entry["id"]))
            for decision, entries in data["patterns"].items()
            for entry in entries
        }

    def about(self, name: str, where: str | None) -> Explanation:
        """Return the answer about a workload or an object, or one of its rules."""
        workloads = {entry["workload"]: entry for entry in self.data["workloads"]}
        workload = name if name in workloads else self._owner(name)
        subject = workloads[workload]
        if workload not in self.entries:
            reasons = {entry["name"]: entry["reason"] for entry in self.data["skipped"] if not entry.get("pattern")}
            reason = reasons.get(workload) or reasons.get(workload.partition("/")[0])
            missing = f"it has no policy{f': {reason}' if reason else ''}"
            if where is not None:
                raise InputError(f"{workload} has no rule {where}: {missing}")
            left_out = tuple(self._left_out(workload))
            return Explanation(workload, None, subject["state"], subject["bound"], (), left_out, missing)
        entry = self.entries[workload]
        rules, note = self._rules(entry)
        if where is not None:
            chosen = [rule for rule in rules if rule.where == where]
            if note or not chosen:
                known = ", ".join(rule.where for rule in rules)
                raise InputError(f"{workload} has no rule {where}; {note or f'there are {known}'}")
            rules = chosen
        return Explanation(
            workload=workload,
            file=str(self.folder / entry["file"]),
            state=subject["state"],
            bound=subject["bound"],
            rules=tuple(rules),
            left_out=tuple(self._left_out(workload)) if where is None else (),
            note=note,
        )

    def _owner(self, title: str) -> str:
        """Return the workload whose policy has this title."""
        for policy in manifests.read([self.folder]).policies:
            if policy.title != title:
                continue
            inside = Path(policy.file).relative_to(self.folder).as_posix()
            for workload, entry in self.entries.items():
                if entry["file"] == inside:
                    return str(workload)
            if policy.namespace in self.data["default_deny"] and policy.name == "default-deny":
                raise InputError(
                    f"{title} is the default-deny of its namespace: it rests on no pattern and denies what no other policy "
                    "allows; `podfence generate` wrote it because of --default-deny"
                )
            raise InputError(f"{title}: the evidence knows nothing of it; it was not written by `podfence generate`")
        known = ", ".join(sorted(self.entries)[:5])
        raise InputError(
            f"{self.folder} holds no workload (namespace/kind/name) or policy (NetworkPolicy namespace/name) {title!r}; "
            f"workloads with a policy are {known or 'none'}"
        )

    def _rules(self, entry: Mapping[str, Any]) -> tuple[list[Grounded], str | None]:
        """Return the rules of a policy as its file has them, else as the evidence has them, with a note."""
        policy = self._written(entry["file"])
        found: list[Grounded] = []
        for direction in _DIRECTIONS:
            told = entry.get(direction, [])
            written = _by_peer(policy, direction) if policy else []
            if len(written) != len(told):
                return list(self._unplaced(entry)), "its file no longer has the rules that were generated"
            for rule, rows in zip(told, written, strict=True):
                found += self._placed(entry, direction, rule, rows, str(policy.file) if policy else None)
        return found, None

    def _written(self, file: str) -> Policy | None:
        """Return the policy in a file that `generate` wrote; None when the file is gone or holds something else."""
        path = self.folder / file
        policies = manifests.read([path]).policies if path.is_file() else ()
        return policies[0] if len(policies) == 1 else None

    def _placed(
        self, entry: Mapping[str, Any], direction: str, told: Mapping[str, Any], rows: list[Rule], file: str | None
    ) -> Iterator[Grounded]:
        """Yield the rules that one peer has in the file, each with the patterns of its protocols."""
        grounds = self._grounds(told)
        for row in rows:
            # Calico has a rule for each protocol, Kubernetes one for all of them.
            of = tuple(one for one in grounds if row.traffic.protocol in (None, one.protocol))
            yield Grounded(row.where, _peer(told), file, row.line, of, self._wide(entry, direction, told))

    def _unplaced(self, entry: Mapping[str, Any]) -> Iterator[Grounded]:
        for direction in _DIRECTIONS:
            for number, told in enumerate(entry.get(direction, [])):
                wide = self._wide(entry, direction, told)
                yield Grounded(f"{direction}[{number}]", _peer(told), None, None, self._grounds(told), wide)

    def _grounds(self, told: Mapping[str, Any]) -> tuple[Ground, ...]:
        return tuple(self.patterns[pattern] for port in told["ports"] for pattern in port["patterns"])

    def _wide(self, entry: Mapping[str, Any], direction: str, told: Mapping[str, Any]) -> str | None:
        key = entry["workload"], direction, told["peer"]
        for wide in self.data["over_permission"]:
            if (wide["workload"], wide["direction"], wide["peer"]) == key:
                return str(wide["reason"])
        return None

    def _left_out(self, workload: str) -> Iterator[Ground]:
        """Yield what was seen of a workload and is not allowed: not accepted, or beyond what the target can say."""
        for one in self.patterns.values():
            if workload in (one.source, one.destination) and (one.decision != "accept" or one.obstacle):
                yield one


def _by_peer(policy: Policy, direction: str) -> list[list[Rule]]:
    """Return the rules of a direction, those that follow each other with the same peer together."""
    rules = policy.rules(direction)
    return [list(rows) for _, rows in groupby(rules, key=lambda rule: (rule.source, rule.destination))]


def _peer(told: Mapping[str, Any]) -> str:
    without = told.get("except")
    return f"{told['peer']} except {', '.join(without)}" if without else str(told["peer"])


def _ground(entry: Mapping[str, Any], decision: str, obstacle: str | None, times: tuple[int, int] | None) -> Ground:
    port, protocol = str(entry["port"]), str(entry["protocol"])
    lists: dict[str, Any] = {
        name: tuple(entry[name]) for name in ("reasons", "halves", "declared_by", "services", "dns_names")
    }
    plain = (
        *("id", "source", "destination", "basis", "attempts", "answered", "refused", "denied", "unanswered", "open"),
        *("windows_seen", "windows_exposed", "days", "replicas_seen", "replicas_exposed"),
    )
    first, last = times or (None, None)
    return Ground(
        **{name: entry[name] for name in plain},
        **lists,
        protocol=protocol,
        port=_port(protocol, port),
        decision=decision,
        obstacle=obstacle,
        first_seen=first,
        last_seen=last,
    )


def _port(protocol: str, port: str) -> str:
    if not port:
        return protocol
    return f"{protocol}/{port}" if protocol.startswith("icmp") else f"{port}/{protocol}"
