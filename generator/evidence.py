"""Lays beside the policies what each rule rests on, and what was left out and why (`evidence.json`).

Everything in it comes from the recording: no time of writing, so that the same input gives the same bytes.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from generator.allowlist import port_of
from generator.policy import CidrPeer, Peer, Policy, PolicySet, Rule
from learner.patterns import DECISIONS, Learned, Pattern, port_text

SCHEMA_VERSION = 1

_TAKEN = (
    "source",
    "destination",
    "protocol",
    "attempts",
    "answered",
    "refused",
    "denied",
    "unanswered",
    "open",
    "windows_seen",
    "windows_exposed",
    "days",
    "replicas_seen",
    "replicas_exposed",
    "halves",
    "declared_by",
    "services",
    "dns_names",
    "basis",
    "reasons",
)


def evidence(policyset: PolicySet, learned: Learned, target: str, files: Mapping[tuple[str, str], str]) -> str:
    """Return `evidence.json`; `files` maps (namespace, object name) to the path of the object's file."""
    patterns = {pattern.id: pattern for pattern in learned.patterns}
    blocked = set(policyset.blocked)
    paths = {policy.workload: files[policy.namespace, policy.name] for policy in policyset.policies}
    document = {
        "schema_version": SCHEMA_VERSION,
        "cluster": learned.cluster,
        "target": target,
        "input_digest": learned.input_digest,
        "thresholds": dict(sorted(learned.thresholds.items())),
        "policies": [
            _policy(policy, paths[policy.workload], patterns)
            for policy in sorted(policyset.policies, key=lambda one: paths[one.workload])
        ],
        "default_deny": sorted(policyset.default_deny),
        "over_permission": [
            {
                "workload": wide.workload,
                "direction": wide.direction,
                "peer": wide.peer.cidr,
                "reason": "the whole prefix is allowed, in which single addresses were seen",
                "patterns": list(wide.patterns),
            }
            for wide in policyset.prefixes
        ],
        "skipped": [
            {"name": entry.name, "reason": entry.reason}
            | ({"pattern": entry.pattern, "blocked": entry in blocked} if entry.pattern else {})
            for entry in sorted(policyset.skipped)
        ],
        "workloads": [
            {
                "workload": subject.workload,
                "rung": subject.rung,
                "state": subject.convergence.state,
                "bound": subject.convergence.bound,
                "policy": paths.get(subject.workload),
            }
            for subject in sorted(learned.subjects, key=lambda one: one.workload)
        ],
        "patterns": {decision: _entries(learned.patterns, decision) for decision in DECISIONS},
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _policy(policy: Policy, path: str, patterns: Mapping[str, Pattern]) -> dict[str, Any]:
    rules = {"ingress": policy.ingress, "egress": policy.egress}
    return {"file": path, "workload": policy.workload} | {
        direction: [_rule(rule, patterns) for rule in rules[direction]] for direction in policy.directions
    }


def _rule(rule: Rule, patterns: Mapping[str, Pattern]) -> dict[str, Any]:
    """Return a rule port by port, in the order of the YAML, each with the patterns that it rests on."""
    own = [patterns[name] for name in rule.patterns]
    ports = []
    for port in rule.ports:
        behind = [pattern for pattern in own if port_of(pattern) == port]
        ports.append({"port": _port(behind[0]), "patterns": [pattern.id for pattern in behind]})
    return _peer(rule.peer) | {"ports": ports}


def _peer(peer: Peer) -> dict[str, Any]:
    if isinstance(peer, CidrPeer):
        return {"peer": peer.cidr} | ({"except": list(peer.without)} if peer.without else {})
    return {"peer": peer.workload}


def _port(pattern: Pattern) -> str:
    text = port_text(pattern)
    return f"{pattern.protocol}/{text}" if text else pattern.protocol


def _entries(patterns: Iterable[Pattern], decision: str) -> list[dict[str, Any]]:
    """Return the patterns of one decision in the order of their names and ports."""
    chosen = sorted(
        (pattern for pattern in patterns if pattern.decision == decision),
        key=lambda one: (one.source, one.destination, one.protocol, one.port or 0, port_text(one), one.id),
    )
    return [
        {"id": pattern.id, "port": port_text(pattern)} | {name: getattr(pattern, name) for name in _TAKEN}
        for pattern in chosen
    ]
