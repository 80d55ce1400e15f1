"""What one engine makes of a half: what its rules decide, and where it lets pass or leaves open what they say."""

import numpy as np

from deploy.semantics.deciding import ALLOWED, CODE, DENIED, UNDETERMINED, Rules, Verdicts
from deploy.semantics.ends import OTHER_NODE, OWN_NODE, POD, UNKNOWN, Codes, Ends
from deploy.semantics.profiles import Profile
from deploy.semantics.rules import Policy
from deploy.semantics.selectors import Truth
from deploy.semantics.traffic import Connections


class Engine:
    """An engine beside the rules it enforces, which engines that read them alike share."""

    def __init__(self, profile: Profile, rules: Rules, ends: Ends, connections: Connections) -> None:
        self.profile = profile
        self.rules = rules
        self.ends = ends
        self.connections = connections

    def skipped(self) -> tuple[Policy, ...]:
        """Return the policies that this engine skips whole, because it lacks something they use."""
        if not self.profile.skips:
            return ()
        return tuple(policy for policy in self.rules.policies if policy.features() & self.profile.skips)

    def _forbidden(self, found: Verdicts) -> Truth:
        """Tell what a Cilium policy denies by a rule: that outweighs the way of the kubelet (pkg/policy/mapstate.go)."""
        dialects = np.array([policy.dialect == "cilium" for policy in self.rules.policies] + [False], np.bool_)
        forbidden: Truth = dialects[found.policy] & (found.outcome == DENIED) & (found.reason == CODE["rule"])
        return forbidden

    def excuse(
        self, direction: str, found: Verdicts, source: Codes, destination: Codes, connection: Codes, itself: Truth
    ) -> None:
        """Change what rules decided where this engine lets pass, or leaves open, what its policies say."""
        subject, peer = (source, destination) if direction == "egress" else (destination, source)
        profile, kind = self.profile, self.ends.kind[peer]
        policed = (self.ends.kind[subject] == POD) & (found.reason != CODE["not-isolated"])
        isolated = policed & (found.reason == CODE["isolation"])
        _ask(found, isolated & itself, profile.itself, "itself")
        other = ~self.connections.ported[connection]
        _ask(found, isolated & other, profile.other_protocols, "protocol")
        if direction == "ingress":
            _ask(found, isolated & (kind == OTHER_NODE), profile.other_node_ingress, "node")
        own = profile.own_node_ingress if direction == "ingress" else profile.own_node_egress
        here = policed & (kind == OWN_NODE) & ((found.outcome != ALLOWED) | (own == "allowed"))
        _ask(found, here & ~self._forbidden(found), own, "own-node")
        for protocol, types in (("icmp", profile.icmp_always_allowed), ("icmpv6", profile.icmpv6_always_allowed)):
            if types:
                passes = self.connections.any_of([protocol]) & np.isin(self.connections.type, types)
                found.put(policed & passes[connection], ALLOWED, "icmp")
        if profile.sctp is not True:
            rows = policed & self.connections.any_of(["sctp"])[connection]
            if profile.sctp == "option":
                rows &= found.outcome == ALLOWED
            _ask(found, rows, "allowed" if profile.sctp is False else None, "sctp")
        if profile.ipv6 is not True:
            rows = policed & ((self.ends.family[peer] == 6) | (self.ends.family[subject] == 6) & (kind == UNKNOWN))
            _ask(found, rows, None if profile.ipv6 is None else "allowed", "ipv6")


def _ask(found: Verdicts, rows: Truth, answer: str | None, reason: str) -> None:
    """Let an engine's answer decide some cells: it passes, or nobody can say; any other answer leaves them as they are."""
    if answer is None:
        found.put(rows, UNDETERMINED, reason, keep=True)
    elif answer == "allowed":
        found.put(rows, ALLOWED, reason)


_MATTERS = {
    "block_matches_pods": "ip-block",
    "block_matches_nodes": "ip-block",
    "ambiguous_named_ports": "named-port",
    "unresolved_port_opens_all": "named-port",
    "port_ranges": "port-range",
    "except_overrules": "except",
    "negated_namespaces_match_outside": "negative-selector",
    "negated_namespace_values_alternate": "negative-selector",
    "empty_rule_beside_others_ignored": "empty-rule",
    "directions_share_rules": "both-directions",
    "any_policy_hides_baseline": "cluster",
    "host_network": "host-network",
    "host_network_peers": "host-network",
}
"""Answers that change how rules are read, and the feature without which they do not."""


def alike(one: Profile, other: Profile, features: frozenset[str]) -> bool:
    """Tell whether two engines read the rules of policies with these features alike."""
    differing = one.skips ^ other.skips
    return not differing & features and all(
        getattr(one, name) == getattr(other, name) for name, feature in _MATTERS.items() if feature in features
    )
