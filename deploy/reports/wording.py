"""Says in words what verdicts say in codes, so that every format says it alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from deploy.evaluate import Half
from deploy.findings import Change, Finding
from deploy.semantics.verdicts import ALLOWED, DENIED, UNDETERMINED

REASONS: Mapping[str, str] = {
    "not-isolated": "no policy isolates the pod",
    "rule": "a rule matches",
    "isolation": "isolated, and no rule allows it",
    "passed": "policies govern the pod and none stops it",
    "no-pod": "this end is no pod",
    "host-network": "the pod shares its node's network",
    "own-node": "between a pod and its own node",
    "node": "from another node",
    "itself": "a pod that reaches itself",
    "protocol": "a protocol without ports",
    "icmp": "ICMP that always passes",
    "sctp": "the engine may not enforce SCTP",
    "ipv6": "the engine may not enforce IPv6",
    "unresolved": "nobody is known to hold the address",
    "translated": "the address is rewritten on the way",
    "ip-block": "whether a block means pods or nodes is up to the engine",
    "prefix": "only some of the folded addresses match",
    "port": "the port was not recorded, or its name stands for several numbers",
    "source-port": "a rule asks for the initiator's port, which is not recorded",
    "order": "policies whose order is not defined disagree",
    "service": "the endpoints of the Service are not known",
    "fqdn": "the addresses of the name are not known",
    "engines": "engines differ",
    "except": "inside a range that another rule leaves out",
    "labels": "the labels of the namespace or service account are not known",
    "subject": "nobody can tell whether the policy selects the pod",
    "peer": "a rule asks for something that is not recorded",
    "service-backends": "the endpoints of the Service fare differently",
}
"""What each reason code of a verdict means."""

LABELS = {"then": "with the labels of then", "now": "with the labels of now"}
"""Labels that a finding holds under, where it does not hold under both."""


class Carried(Protocol):
    """What crosses between two ends."""

    @property
    def protocol(self) -> str:
        """Return the protocol, in lower case."""

    @property
    def port(self) -> int | None:
        """Return the responder's port."""

    @property
    def icmp(self) -> str | None:
        """Return ICMP type and code."""


def port(one: Carried) -> str:
    """Return `5432/tcp`, `icmp/8/0`, or the protocol alone."""
    if one.icmp is not None:
        return f"{one.protocol}/{one.icmp}"
    return one.protocol if one.port is None else f"{one.port}/{one.protocol}"


def edge(one: Finding | Change) -> str:
    """Return who wanted to reach whom, and on what."""
    return f"{one.source} -> {one.destination} {port(one)}"


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the two halves of an edge as one, `egress+ingress`, where nothing else tells them apart."""
    found: dict[Finding, list[str]] = {}
    for one in findings:
        found.setdefault(replace(one, half=""), []).append(one.half)
    return [replace(one, half="+".join(halves)) for one, halves in found.items()]


def engines(outcomes: Sequence[tuple[str, str]]) -> str:
    """Return which engines do what, such as `allowed by aws, calico; denied by npm`."""
    told = []
    for outcome in (ALLOWED, DENIED, UNDETERMINED):
        names = [name for name, found in outcomes if found == outcome]
        if names:
            told.append(f"{outcome} by {listed(names)}" if outcome != UNDETERMINED else f"open: {listed(names)}")
    return "; ".join(told)


def reason(code: str, outcomes: Sequence[tuple[str, str]] = ()) -> str:
    """Return a reason in words, with what each engine does where they differ."""
    said = REASONS.get(code, code)
    return f"{said}: {engines(outcomes)}" if len({outcome for _, outcome in outcomes}) > 1 else said


def nearest(rule: str | None, misses: str | None) -> str | None:
    """Return the rule that nearly allowed it, and what it misses."""
    if rule is None:
        return None
    missing = {"peer": "the peer", "traffic": "the port"}.get(misses or "")
    return f"{rule}, but for {missing}" if missing else rule


def near(one: Finding) -> str | None:
    """Return the rule that nearly allowed a finding."""
    return nearest(one.nearest, one.misses)


def half_nearest(half: Half) -> str | None:
    """Return the rule that nearly allowed a half that was asked about."""
    if half.nearest is None:
        return None
    return nearest(f"{half.nearest.policy} {half.nearest.where}", half.nearest.misses)


def decided_at(half: Half) -> str | None:
    """Return where what decides a half is written: `file:line` of a rule, the file of an object that isolates."""
    for step in half.trail:
        if step.policy == half.verdict.object and step.where == half.verdict.rule:
            return place(step.file, step.line)
    return next((place(step.file, 0) for step in half.trail if step.policy == half.verdict.object), None)


def learned(one: Finding) -> str:
    """Return what was learned about a finding: the decision, and the codes of its reasons."""
    return ": ".join(part for part in (one.decision, ",".join(one.reasons)) if part)


def place(file: str | None, line: int | None) -> str | None:
    """Return `file:line`."""
    if file is None:
        return None
    return f"{file}:{line}" if line else file


def message(one: Finding, outcome: str) -> str:
    """Return a finding in a sentence."""
    by = f" by {one.by}" if one.by else ""
    parts = [f"{edge(one)}: {one.half} {outcome}{by}", reason(one.reason, one.engines)]
    if found := near(one):
        parts.append(f"nearest: {found}")
    if one.labels in LABELS:
        parts.append(f"only {LABELS[one.labels]}")
    parts.append(f"{one.connections} of {one.attempts} recorded attempts were answered")
    if found := learned(one):
        parts.append(f"learned as {found}")
    return "; ".join(parts)


def listed(names: Iterable[str]) -> str:
    """Return names with commas."""
    return ", ".join(names)
