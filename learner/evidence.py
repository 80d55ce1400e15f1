"""Decides what the evidence for a pattern is good for: accept, queue or reject, with reasons that can be printed.

Only answered connections count, and nothing here is learned: each rule is one a reviewer can check by hand.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields

from recorder.errors import InputError
from recorder.records import SECOND

METADATA_ADDRESSES = frozenset({"169.254.169.254/32"})
KUBELET_PORT = 10250
ETCD_PORTS = frozenset({2379, 2380})
DNS_PORT = 53
PORT_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})

ACCEPT, QUEUE, REJECT = "accept", "queue", "reject"

REASONS = {
    "days": "accepted: answered on enough different days",
    "declared-recurs": "accepted: the port is declared and was used in windows far enough apart",
    "declared-replicas": "accepted: the port is declared and replicas that lived together used it",
    "declared-dns": "accepted: the port is declared and a DNS answer led there",
    "dns-used": "accepted: declared DNS port, and answers that led to accepted patterns came over it",
    "external-name": "accepted: outside the cluster, reached by name in windows far enough apart",
    "replicas-recur": "accepted: replicas that lived together each used it in windows far enough apart",
    "decided-by": "a person accepted or rejected it (`decided-by:WHO`)",
    "decision-expired": "a person's decision about it has run out and was ignored (`decision-expired:WHO`)",
    "ambiguous-identity": "queued: an end was held by more than one pod, or folded for want of room",
    "bare-address": "queued: pod addresses dialled without name or Service, and no pair of pods did so again",
    "no-backend": "queued: a Service without known backends answered",
    "node-source": "queued: a node talks; whatever runs on it may be behind that",
    "no-port": "queued: the responder's port was not recorded, so a rule would allow all",
    "no-name": "queued: outside the cluster, and no DNS answer led there often enough",
    "one-day": "queued: not seen on enough days",
    "one-replica": "queued: too few replicas that lived together showed it",
    "open-only": "queued: only connections opened before their window, to a port that nothing declares",
    "seen-once": "queued: not seen in windows far enough apart",
    "sensitive-destination": "queued: API server, metadata address, kubelet or etcd need more days, or a person",
    "several-backends": "queued: the Service dialled has several workloads behind it",
    "tainted": "a debug container ran in one of its pods while it was seen; those windows were not counted",
    "unanswered-udp": "queued: UDP that nobody answers, as logs and metrics are sent",
    "undeclared-port": "queued: no container or Service declares the port",
    "unresolved-identity": "queued: an end that nobody is known to have held",
    "flagged-source": "rejected: its source tries many things and fails, as scanners do",
    "never-answered": "rejected: no connection was ever answered",
    "probe": "rejected: the kubelet's probes are let through by every engine, no rule is needed",
    "one-sided": "fact: one half was not recorded; the other stands for both",
    "via-service": "fact: the backend was found by the EndpointSlices of the Service dialled",
}
"""Every reason code, with what it means."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What the gate and the statistics ask for; the values used are part of what `learn` writes."""

    windows: int = field(default=2, metadata={"help": "windows that make a recurrence", "range": (1, math.inf)})
    apart_seconds: int = field(
        default=60, metadata={"help": "seconds between the first and the last of them", "range": (0, math.inf)}
    )
    days: int = field(default=2, metadata={"help": "UTC days that are evidence by themselves", "range": (1, math.inf)})
    replicas: int = field(default=2, metadata={"help": "replicas that are evidence", "range": (1, math.inf)})
    scan_benign: float = field(
        default=0.8, metadata={"help": "chance that a benign source's first contact succeeds", "range": (0, 1)}
    )
    scan_hostile: float = field(default=0.2, metadata={"help": "the same for a scanner", "range": (0, 1)})
    scan_false_alarm: float = field(
        default=0.01, metadata={"help": "share of benign sources that may be flagged", "range": (0, 1)}
    )
    scan_detection: float = field(default=0.99, metadata={"help": "share of scanners to be flagged", "range": (0, 1)})
    dropped_share: float = field(
        default=0.0001, metadata={"help": "share of packets a clean ring may drop", "range": (0, 1)}
    )
    unknown_share: float = field(
        default=0.01, metadata={"help": "share of answered connections with an unknown end", "range": (0, 1)}
    )
    lag_seconds: float = field(
        default=30.0, metadata={"help": "how far behind identities may be", "range": (0, math.inf)}
    )
    convergence_seconds: int = field(
        default=3600, metadata={"help": "length of the units that convergence counts", "range": (1, math.inf)}
    )
    exposed_days: int = field(
        default=14, metadata={"help": "exposed days that a stable subject needs", "range": (0, math.inf)}
    )
    bound: float = field(
        default=0.02, metadata={"help": "bound per unit that a stable subject may have", "range": (0, 1)}
    )
    confidence: float = field(default=0.95, metadata={"help": "confidence of that bound", "range": (0, 1)})

    def __post_init__(self) -> None:
        """Raise InputError for a threshold that means nothing."""
        for one in fields(self):
            value, (low, high) = getattr(self, one.name), one.metadata["range"]
            inside = low < value < high if one.name in _OPEN else low <= value <= high
            if not inside:
                raise InputError(f"threshold {one.name.replace('_', '-')} {value} is outside {low:g} to {high:g}")
        for less, more in (("scan_hostile", "scan_benign"), ("scan_false_alarm", "scan_detection")):
            if getattr(self, less) >= getattr(self, more):
                name, other = less.replace("_", "-"), more.replace("_", "-")
                raise InputError(f"threshold {name} must be less than {other}")


_OPEN = frozenset({"scan_benign", "scan_hostile", "scan_false_alarm", "scan_detection", "confidence"})
"""Chances that the tests divide by or take logarithms of: never 0, never 1."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of one pattern, as the gate asks for it.

    `named_*` count windows without a bare pod address, `sound_days`, `named_*`, `dns_*`, `together` and `steady` only
    what was answered while no debug container ran. Spans are µs between first and last window.
    """

    source: str
    source_kind: str
    destination: str
    destination_kind: str
    protocol: str
    port: int | None
    answered: int
    established: int
    refused: int
    denied: int
    unanswered: int
    windows_seen: int
    sound_windows: int
    sound_days: int
    named_windows: int
    named_span: int
    dns_windows: int
    dns_span: int
    pair_recurs: bool
    together: int
    steady: int
    several: bool
    tainted: bool
    declared: bool
    probed: bool
    dns_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and its reasons; `thin` when it was queued for want of evidence alone."""

    decision: str
    reasons: tuple[str, ...]
    thin: bool = False


def judge(evidence: Evidence, *, flagged: bool, thresholds: Thresholds) -> Verdict:
    """Return the gate's verdict on one pattern by itself; `flagged` tells whether its source is a scanner."""
    seen = evidence.windows_seen > 0
    if flagged:
        return Verdict(REJECT, ("flagged-source",) if seen else ("flagged-source", "never-answered"))
    unclear = _unclear(evidence)
    if not seen:
        if evidence.protocol == "udp" and evidence.unanswered > 0 and not evidence.refused and not evidence.denied:
            return Verdict(QUEUE, (*unclear, "unanswered-udp"))
        return Verdict(REJECT, ("never-answered",))
    if evidence.source_kind == "node" and evidence.probed:
        return Verdict(REJECT, ("probe",))
    if evidence.source_kind == "node":
        unclear = (*unclear, "node-source")
    if unclear:
        return Verdict(QUEUE, unclear)
    tainted = ("tainted",) if evidence.tainted else ()
    if not evidence.sound_windows:
        return Verdict(QUEUE, tainted)
    days = evidence.sound_days >= thresholds.days
    if is_sensitive(evidence):
        return Verdict(ACCEPT, ("days",)) if days else Verdict(QUEUE, ("sensitive-destination", *tainted))
    found = _supports(evidence, thresholds)
    if found and (evidence.declared or not _only_open(evidence)):
        return Verdict(ACCEPT, found)
    return Verdict(QUEUE, (*_lacks(evidence, thresholds), *tainted), thin=True)


def is_sensitive(evidence: Evidence) -> bool:
    """Tell whether a destination is one that an attacker wants first."""
    if evidence.destination_kind == "apiserver" or evidence.destination in METADATA_ADDRESSES:
        return True
    if evidence.destination.removesuffix("/32") in {f"unresolved/{one[:-3]}" for one in METADATA_ADDRESSES}:
        return True
    if evidence.protocol != "tcp":
        return False
    return evidence.port in ETCD_PORTS or (evidence.destination_kind == "node" and evidence.port == KUBELET_PORT)


def carried_by_dns(judged: Sequence[tuple[Evidence, Verdict]]) -> list[Verdict]:
    """Return all verdicts, with once-seen DNS accepted where answers led to something that was accepted.

    The answer that led there came over this edge, so the edge is needed whenever that pattern is.
    """
    users = {evidence.source for evidence, verdict in judged if verdict.decision == ACCEPT and evidence.dns_names}
    return [
        Verdict(ACCEPT, ("dns-used",))
        if verdict.thin and evidence.declared and evidence.port == DNS_PORT and evidence.source in users
        else verdict
        for evidence, verdict in judged
    ]


def _unclear(evidence: Evidence) -> tuple[str, ...]:
    """Return why an end of a pattern is not known well enough for a rule."""
    kinds = {evidence.source_kind, evidence.destination_kind}
    found = []
    if "ambiguous" in kinds:
        found.append("ambiguous-identity")
    if "unresolved" in kinds:
        found.append("unresolved-identity")
    if evidence.port is None and evidence.protocol in PORT_PROTOCOLS:
        found.append("no-port")
    if evidence.destination_kind == "service":
        found.append("several-backends" if evidence.several else "no-backend")
    return tuple(found)


def _only_open(evidence: Evidence) -> bool:
    return evidence.answered == 0 and evidence.established > 0


def _recurs(evidence: Evidence, thresholds: Thresholds) -> bool:
    apart = evidence.named_span >= thresholds.apart_seconds * SECOND
    return evidence.pair_recurs or (evidence.named_windows >= thresholds.windows and apart)


def _external_by_name(evidence: Evidence, thresholds: Thresholds) -> bool:
    return (
        evidence.destination_kind == "external"
        and evidence.dns_windows >= thresholds.windows
        and evidence.dns_span >= thresholds.apart_seconds * SECOND
    )


def _supports(evidence: Evidence, thresholds: Thresholds) -> tuple[str, ...]:
    """Return each rule that accepts a pattern."""
    declared = evidence.declared
    rules: Iterable[tuple[str, bool]] = (
        ("days", evidence.sound_days >= thresholds.days),
        ("declared-dns", declared and evidence.dns_windows > 0),
        ("declared-recurs", declared and _recurs(evidence, thresholds)),
        ("declared-replicas", declared and evidence.together >= thresholds.replicas),
        ("external-name", _external_by_name(evidence, thresholds)),
        ("replicas-recur", evidence.steady >= thresholds.replicas),
    )
    return tuple(name for name, holds in rules if holds)


def _lacks(evidence: Evidence, thresholds: Thresholds) -> tuple[str, ...]:
    """Return what a pattern would need to be accepted."""
    found = ["one-day"]
    if evidence.destination_kind == "workload" and not evidence.declared:
        found.append("undeclared-port")
        if _only_open(evidence):
            found.append("open-only")
    if evidence.destination_kind == "external" and not _external_by_name(evidence, thresholds):
        found.append("no-name")
    if evidence.source_kind == "workload" and evidence.steady < thresholds.replicas:
        found.append("one-replica")
    if not _recurs(evidence, thresholds):
        found.append("bare-address" if evidence.sound_windows > evidence.named_windows else "seen-once")
    return tuple(sorted(found))
