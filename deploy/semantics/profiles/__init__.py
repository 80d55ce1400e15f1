"""What differs between the engines that enforce policy: one file an engine, one answer a question, each with its source.

`None` is an answer, too: nobody has settled it, so the half is `undetermined` where it matters. A judgement under several
profiles (`strict`: all that enforce the kinds given) is allowed when every engine allows and denied when every engine
denies; where engines differ it is undetermined and says which engine does what.
"""

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

from recorder.errors import InputError

STRICT = "strict"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Profile:
    """One engine's answers. Where a field holds None, the engine's sources do not say."""

    name: str
    title: str
    enforces: frozenset[str]
    """Dialects of policy it enforces: `kubernetes`, `calico`, `cilium`, `cluster`."""
    portable: bool
    """Whether `strict` asks this engine, too."""
    block_matches_pods: bool | None
    """`ipBlock` matches the addresses of pods."""
    block_matches_nodes: bool | None
    """`ipBlock` matches the addresses of nodes and host-network pods."""
    own_node_ingress: str | None
    """A pod's own node (kubelet probes) reaches it: `allowed` whatever its policies say, or `policed`."""
    own_node_egress: str | None
    """A pod reaches its own node: `allowed` whatever its policies say, or `policed`."""
    other_node_ingress: str | None
    """What arrives with the address of another node is `policed` by that address, or `allowed`.

    It may be a host-network pod, or a client of a NodePort or load balancer whose address was translated.
    """
    host_network: str | None
    """Policies that select a host-network pod: `ignored` or `policed`."""
    itself: str | None
    """A pod that reaches itself through a Service is `policed` or `allowed`."""
    other_protocols: str | None
    """What isolation does to ICMP and other protocols without ports that no rule allows: `denied` or `allowed`."""
    icmp_always_allowed: tuple[int, ...]
    """ICMP types that pass whatever the policies say."""
    icmpv6_always_allowed: tuple[int, ...]
    """ICMPv6 types that pass whatever the policies say."""
    ambiguous_named_ports: bool | None
    """A named port that stands for different numbers on different pods works."""
    port_ranges: bool | None
    """`endPort` is enforced; where not, only `port` counts."""
    sctp: bool | str | None
    """SCTP is enforced; `option`: where that is switched off its packets are dropped, whatever the policies say."""
    ipv6: bool | None
    """IPv6 is enforced."""
    before_dnat: bool
    """Egress is judged on the address that was dialled, before the Service's translation."""
    negated_namespaces_match_outside: bool
    """A defect: a peer that only negates namespace labels matches addresses that are no pods, too."""
    negated_namespace_values_alternate: bool
    """A defect: `NotIn` of several values on namespaces excludes none of them, for each value is an alternative."""
    empty_rule_beside_others_ignored: bool
    """A defect: a rule `{}` beside other rules has no effect."""
    directions_share_rules: bool
    """Between two pods that one policy selects, its rules of either direction count for both."""
    unresolved_port_opens_all: bool
    """A rule whose port name nobody declares opens every port."""
    except_overrules: bool
    """An `except` takes its range out of all rules of a pod, unless another rule names just that range."""
    host_network_peers: str | None
    """Peers that select a host-network pod: `ignored`, or `selected` by its node's address."""
    any_policy_hides_baseline: bool
    """A pod with a NetworkPolicy for one direction is not asked about the Baseline tier in the other."""
    skips: frozenset[str]
    """Features (see `Policy.features`) that make the engine skip the whole object, silently."""
    denies_with: str | None
    """What the client of a denied connection sees: `drop` (a time-out) or `reject`."""
    live_connections: str | None
    """Connections that are open when a policy changes are `kept` or `rejudged`."""
    sources: tuple[tuple[str, str], ...] = ()
    """(field, source) of each answer."""


def names() -> list[str]:
    """Return the names of all profiles, `strict` first."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return [STRICT, *sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))]


@cache
def profile(name: str) -> Profile:
    """Return the profile of one engine; raises InputError for an unknown one."""
    if name == STRICT or name not in names():
        raise InputError(f"profile {name!r} is not known; there are {', '.join(names())}")
    return _read(name, resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def chosen(text: str, dialects: frozenset[str]) -> tuple[Profile, ...]:
    """Return the profiles that a name, or several with commas, stands for: engines that enforce all these dialects.

    Raises InputError for an unknown name, and where an engine does not enforce one of the dialects: what it would ignore
    must not count as judged.
    """
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if not wanted:
        raise InputError("--profile names no engine")
    found: dict[str, Profile] = {}
    for name in wanted:
        if name == STRICT:
            engines = [one for one in map(profile, names()[1:]) if one.portable and dialects <= one.enforces]
            if not engines:
                kinds = ", ".join(sorted(dialects))
                raise InputError(f"no engine enforces policies of all these dialects together: {kinds}")
            found |= {one.name: one for one in engines}
            continue
        one = profile(name)
        if missing := sorted(dialects - one.enforces):
            raise InputError(f"profile {name}: {one.title} does not enforce {' and '.join(missing)} policies")
        found[name] = one
    return tuple(found[name] for name in sorted(found))


def _read(name: str, text: str) -> Profile:
    """Return a profile; a question without an answer or an answer without a source is a mistake in the file."""
    data = tomllib.loads(text)
    values: dict[str, Any] = {"name": name, "title": data.pop("title"), "portable": data.pop("portable")}
    sources = []
    for field in fields(Profile):
        if field.name in ("name", "title", "portable", "sources"):
            continue
        entry = data.pop(field.name.replace("_", "-"))
        value = entry["value"]
        if isinstance(value, list):
            value = frozenset(value) if field.name in ("enforces", "skips") else tuple(value)
        values[field.name] = None if value == UNKNOWN else value
        sources.append((field.name, entry["source"]))
    if data:
        raise ValueError(f"{name}.toml: unknown {', '.join(data)}")
    return Profile(**values, sources=tuple(sources))
