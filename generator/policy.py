"""The contract between what was learned and what is written: allow lists that know no engine.

A `Policy` is one workload with everything it may do; emitters turn it into the YAML of one engine. Each rule names the
patterns it rests on, so that the evidence can be followed from a line of YAML back to recorded traffic.
"""

from dataclasses import dataclass
from ipaddress import ip_network

from learner.patterns import Selector


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A responder's port; `port` is None for all ports of the protocol, `end_port` ends a range (inclusive)."""

    protocol: str
    port: int | None = None
    end_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


@dataclass(frozen=True, slots=True)
class WorkloadPeer:
    """The pods of another workload: a selector inside a namespace that is named."""

    workload: str
    namespace: str
    selector: Selector


@dataclass(frozen=True, slots=True)
class CidrPeer:
    """A prefix outside the cluster, less the prefixes taken out of it."""

    cidr: str
    without: tuple[str, ...] = ()


Peer = WorkloadPeer | CidrPeer


@dataclass(frozen=True, slots=True)
class Rule:
    """One peer, the ports allowed with it, and the ids of the patterns that the rule rests on."""

    peer: Peer
    ports: tuple[Port, ...]
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything one workload may do; a direction in `directions` is isolated even when it has no rule."""

    workload: str
    namespace: str
    name: str
    selector: Selector
    directions: tuple[str, ...]
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Skipped:
    """A workload or namespace that gets no policy, or a pattern that is not in the one of `workload`, and why.

    `pattern` is that pattern's id.
    """

    name: str
    reason: str
    pattern: str = ""
    workload: str = ""


@dataclass(frozen=True, slots=True)
class Prefix:
    """A rule that allows a whole prefix, and the patterns it rests on."""

    workload: str
    direction: str
    peer: CidrPeer
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicySet:
    """All policies of one run, in the order they are written; `default_deny` names the namespaces that get one."""

    policies: tuple[Policy, ...]
    default_deny: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @property
    def prefixes(self) -> tuple[Prefix, ...]:
        """Return what is allowed beyond the evidence: whole prefixes, in which single addresses were seen."""
        return tuple(
            Prefix(policy.workload, direction, rule.peer, rule.patterns)
            for policy in self.policies
            for direction in policy.directions
            for rule in (policy.ingress if direction == "ingress" else policy.egress)
            if isinstance(rule.peer, CidrPeer) and ip_network(rule.peer.cidr).num_addresses > 1
        )

    @property
    def blocked(self) -> tuple[Skipped, ...]:
        """Return the accepted patterns that would be blocked: their workload is isolated and no rule allows them."""
        isolated = {policy.workload for policy in self.policies}
        return tuple(entry for entry in self.skipped if entry.workload in isolated)
