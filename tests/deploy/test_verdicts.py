"""What the API leaves to the engines: allowed or denied only where the profile knows, else undetermined."""

import pytest

from deploy.semantics.profiles import profile
from deploy.semantics.verdicts import Endpoint
from recorder.errors import InputError
from tests.deploy.world import DB, WEB, ask, egress, ingress, kubernetes, outside, pod

DENY = kubernetes("policyTypes: [Ingress, Egress]")
OWN, FOREIGN = Endpoint("node", ip="192.168.0.1", name="node-a"), Endpoint("node", ip="192.168.0.2", name="node-b")


@pytest.mark.parametrize("name", ["strict", "npm", "calico", "cilium", "kube-router"])
def test_the_kubelet_reaches_its_own_pods(name: str) -> None:
    """The kubelet reaches its own pods."""
    assert ask(DENY, "ingress", OWN, DB, profile=name).reason == "own-node"


def test_a_foreign_node_may_be_a_probe_a_host_network_pod_or_a_translated_client() -> None:
    """A foreign node may be a probe a host network pod or a translated client."""
    verdict = ask(DENY, "ingress", FOREIGN, DB)
    assert (verdict.outcome, verdict.reason) == ("undetermined", "node")
    assert ingress(DENY, FOREIGN, profile="calico") == "denied"
    assert ingress(kubernetes("ingress: [{}]"), FOREIGN) == "allowed"


def test_engines_differ_on_a_pods_way_to_its_own_node() -> None:
    """Engines differ on a pod's way to its own node."""
    outcomes = {name: egress(DENY, OWN, profile=name) for name in ("strict", "npm", "calico")}
    assert outcomes == {"strict": "undetermined", "npm": "allowed", "calico": "denied"}
    assert egress(DENY, FOREIGN) == "denied"


def test_engines_differ_on_blocks_that_hold_a_pod() -> None:
    """Engines differ on blocks that hold a pod."""
    text = kubernetes("ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]")
    outcomes = {name: ingress(text, WEB, profile=name) for name in ("strict", "npm", "calico", "cilium")}
    assert outcomes == {"strict": "undetermined", "npm": "allowed", "calico": "allowed", "cilium": "denied"}
    assert ask(text, "ingress", WEB, DB).reason == "ip-block"


def test_engines_differ_on_blocks_that_hold_a_node() -> None:
    """Engines differ on blocks that hold a node."""
    text = kubernetes("policyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 192.168.0.0/16}}]}]")
    outcomes = {name: egress(text, FOREIGN, profile=name) for name in ("strict", "calico", "cilium")}
    assert outcomes == {"strict": "undetermined", "calico": "allowed", "cilium": "denied"}


@pytest.mark.parametrize("protocol", ["icmp", "icmpv6", "47"])
def test_isolation_guarantees_nothing_for_other_protocols(protocol: str) -> None:
    """Isolation guarantees nothing for other protocols."""
    verdict = ask(DENY, "ingress", WEB, DB, None, protocol)
    assert (verdict.outcome, verdict.reason) == ("undetermined", "protocol")
    assert ingress(DENY, WEB, None, protocol, profile="npm") == "denied"


def test_a_source_that_was_translated_is_not_the_one_recorded() -> None:
    """A source that was translated is not the one recorded."""
    text = kubernetes("ingress: [{from: [{podSelector: {}}]}]")
    hidden = pod("shop/web", translated=True)
    assert ask(text, "ingress", hidden, DB).reason == "translated"
    assert ingress(kubernetes("ingress: [{}]"), hidden) == "allowed"


def test_an_address_that_nobody_is_known_to_hold_may_be_anybody() -> None:
    """An address that nobody is known to hold may be anybody."""
    stranger = Endpoint("unknown", ip="10.0.0.77")
    assert ask(kubernetes("ingress: [{from: [{podSelector: {}}]}]"), "ingress", stranger, DB).reason == "unresolved"
    assert ingress(kubernetes("ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]"), stranger) == "denied"


def test_a_pod_that_talks_to_itself_is_left_open() -> None:
    """A pod that talks to itself is left open."""
    assert ask(DENY, "egress", WEB, WEB).reason == "itself"


def test_an_end_that_is_no_pod_has_no_half() -> None:
    """An end that is no pod has no half."""
    assert ask(DENY, "ingress", WEB, outside("203.0.113.1")).reason == "no-pod"


def test_an_unknown_profile_is_an_error_that_names_the_known_ones() -> None:
    """An unknown profile is an error that names the known ones."""
    with pytest.raises(InputError, match="strict, npm, calico"):
        profile("npn")
