"""What differs between the engines that enforce policy, as one table of answers.

`None` means that engines differ and podfence will not guess: the half is `undetermined`. Sources: Kubernetes concepts page
"Network Policies" (a pod cannot block access to itself; traffic to and from its own node is always allowed); Calico
felix/rules/static.go and the reference of `defaultEndpointToHostAction`; Cilium documentation "Layer 3 Policies" and
cilium/cilium#9209 (ipBlock selects no pods and no nodes); Azure Kubernetes Service "Use network policies" and
azure-container-networking/npm (only FORWARD is hooked); kube-router pkg/controllers/netpol (local sources and ICMP errors
accepted).
"""

from dataclasses import dataclass

from recorder.errors import InputError


@dataclass(frozen=True, slots=True)
class Profile:
    """One engine's answers; each is about Kubernetes policies unless it says otherwise."""

    name: str
    own_node_ingress: bool | None = True
    """A pod's own node (kubelet probes) reaches it whatever its policies say."""
    own_node_egress: bool | None = None
    """A pod reaches its own node whatever its policies say."""
    blocks_match_pods: bool | None = None
    """`ipBlock` matches the addresses of pods."""
    blocks_match_nodes: bool | None = None
    """`ipBlock` matches the addresses of nodes and host-network pods."""
    other_protocols: str | None = None
    """What isolation does to ICMP and other protocols that no rule allows: `denied`, `allowed`, or it depends."""
    snat_visible: bool | None = None
    """A connection that arrives with a node's address is judged by that address."""


STRICT = Profile("strict")
"""Portable: what engines treat differently is undetermined."""

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        STRICT,
        Profile(
            "npm",
            own_node_egress=True,
            blocks_match_pods=True,
            blocks_match_nodes=True,
            other_protocols="denied",
        ),
        Profile(
            "calico",
            own_node_egress=False,
            blocks_match_pods=True,
            blocks_match_nodes=True,
            other_protocols="denied",
            snat_visible=True,
        ),
        Profile(
            "cilium",
            own_node_egress=False,
            blocks_match_pods=False,
            blocks_match_nodes=False,
        ),
        Profile(
            "kube-router",
            blocks_match_pods=True,
            blocks_match_nodes=True,
        ),
    )
}


def profile(name: str) -> Profile:
    """Return the profile of that name; raises InputError for an unknown one."""
    if name not in PROFILES:
        raise InputError(f"profile {name!r} is not known; there are {', '.join(PROFILES)}")
    return PROFILES[name]
