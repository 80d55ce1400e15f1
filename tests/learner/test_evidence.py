"""The evidence gate: each rule that accepts, queues or rejects, on recordings small enough to check by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from learner import Thresholds, learn
from learner.evidence import REASONS
from learner.patterns import Learned, Pattern
from recorder.errors import InputError
from tests.recordings import DAY, Story

WEB, CART = "shop/deployment/web", "shop/deployment/cart"
NAME = "cart.shop.svc.cluster.local"


def shop(**cart: object) -> Story:
    """Return two web pods and one cart, on two nodes; the cart declares 7070."""
    story = Story()
    story.workload(WEB, replicas=2)
    story.workload(CART, **{"ports": [7070], "node": "node-b"} | cart)
    return story


def learned(story: Story, folder: Path, **options: object) -> Learned:
    """Return what is learned from a story."""
    return learn(story.write(folder / "recording"), **options)


def only(found: Learned, destination: str = CART, source: str = WEB) -> Pattern:
    """Return the one pattern between two ends."""
    (pattern,) = (one for one in found.patterns if (one.source, one.destination) == (source, destination))
    return pattern


def verdict(story: Story, folder: Path, destination: str = CART, source: str = WEB) -> tuple[str, list[str]]:
    """Return decision and reasons of the one pattern between two ends."""
    pattern = only(learned(story, folder), destination, source)
    return pattern.decision, pattern.reasons


def test_declared_port_needs_windows_apart(tmp_path: Path) -> None:
    """A declared port dialled by name of a Service is accepted from the second window on, not before."""
    for folder, at, expected in (("once", [0], "queue"), ("twice", [0, 60], "accept")):
        story = shop()
        story.service("shop/cart", port=70, target=7070, backends=["shop/cart-1"])
        story.talk("shop/web-1", "shop/cart-1", 7070, at=at, service="shop/cart")
        assert verdict(story, tmp_path / folder)[0] == expected


@pytest.mark.parametrize("way", ["bare", "named", "outside"])
def test_windows_closer_than_a_minute_are_one(tmp_path: Path, way: str) -> None:
    """Short windows that start less than 60 s apart are no recurrence, however the other end was dialled."""
    for folder, at, expected in (("close", [0, 10, 50], "queue"), ("apart", [0, 60], "accept")):
        story = shop()
        story.window = 10
        story.service("shop/cart", port=70, target=7070, backends=["shop/cart-1"])
        if way == "outside":
            story.talk("shop/web-1", "203.0.113.10", 443, at=at, dns=["api.example.com"])
        else:
            story.talk("shop/web-1", "shop/cart-1", 7070, at=at, service="shop/cart" if way == "named" else None)
        assert verdict(story, tmp_path / folder, "203.0.113.10/32" if way == "outside" else CART)[0] == expected


def test_undeclared_port_waits_for_days_or_replicas(tmp_path: Path) -> None:
    """Recurrence alone does not accept a port that nothing declares."""
    story = shop(ports=[])
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60, 120])
    assert verdict(story, tmp_path) == ("queue", ["one-day", "one-replica", "undeclared-port"])


def test_service_target_port_is_a_declaration(tmp_path: Path) -> None:
    """The targetPort of a Service that selects the pod declares the port, by number or by name."""
    for target in (7070, "grpc"):
        story = shop(ports=[("grpc", 7070)] if target == "grpc" else [])
        story.service("shop/cart", port=70, target=target, selector={"app": "cart"})
        story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60])
        pattern = only(learned(story, tmp_path / str(target)))
        assert pattern.decision == "accept"
        assert "service/shop/cart" in pattern.declared_by


def test_a_service_that_selects_others_declares_nothing(tmp_path: Path) -> None:
    """The port of a Service whose selector the pod does not meet is not declared."""
    story = shop(ports=[])
    story.service("shop/mail", port=70, target=7070, selector={"app": "mail"})
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60])
    assert only(learned(story, tmp_path)).declared_by == []


def test_a_declared_port_of_another_protocol_is_none(tmp_path: Path) -> None:
    """A containerPort for TCP declares nothing about UDP."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60], protocol="udp")
    assert only(learned(story, tmp_path)).declared_by == []


def test_declared_port_after_a_dns_answer(tmp_path: Path) -> None:
    """One connection to a declared port is enough when a DNS answer led there."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0], dns=[NAME])
    assert verdict(story, tmp_path) == ("accept", ["declared-dns"])


def test_declared_port_from_replicas(tmp_path: Path) -> None:
    """One window is enough for a declared port when two replicas show it."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0])
    story.talk("shop/web-2", "shop/cart-1", 7070, at=[0])
    assert verdict(story, tmp_path) == ("accept", ["declared-replicas"])


def test_pods_that_followed_each_other_are_no_replicas(tmp_path: Path) -> None:
    """A pod and its successor are one replica; pods of a Job count although they never overlap."""
    for kind, expected in (("Deployment", "queue"), ("CronJob", "accept")):
        story = Story()
        story.workload(CART, ports=[7070])
        story.pod("shop/web-1", owner=f"{kind}/web", start=0, end=100)
        story.pod("shop/web-2", owner=f"{kind}/web", start=200, end=300)
        story.talk("shop/web-1", "shop/cart-1", 7070, at=[0])
        story.talk("shop/web-2", "shop/cart-1", 7070, at=[240])
        source = f"shop/{kind.lower()}/web"
        assert verdict(story, tmp_path / kind, source=source)[0] == expected


def test_replicas_that_recur_accept_any_port(tmp_path: Path) -> None:
    """Two replicas in two windows each accept an undeclared port; the second once only does not."""
    for folder, second, expected in (("both", [0, 60], "accept"), ("one", [0], "queue")):
        story = shop(ports=[])
        story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60])
        story.talk("shop/web-2", "shop/cart-1", 7070, at=second)
        assert verdict(story, tmp_path / folder)[0] == expected


def test_replicas_that_recur_must_have_lived_together(tmp_path: Path) -> None:
    """A pod and its successor in two windows each are one replica that recurs."""
    story = Story()
    story.workload(CART)
    story.pod("shop/web-1", owner="Deployment/web", start=0, end=150)
    story.pod("shop/web-2", owner="Deployment/web", start=200)
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60])
    story.talk("shop/web-2", "shop/cart-1", 7070, at=[240, 300])
    assert verdict(story, tmp_path)[0] == "queue"


def test_two_days_accept_any_port(tmp_path: Path) -> None:
    """What is seen on two days is accepted though nothing declares it."""
    story = shop(ports=[])
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, DAY])
    decision, reasons = verdict(story, tmp_path)
    assert decision == "accept"
    assert "days" in reasons


def test_bare_addresses_must_be_dialled_again_by_the_same_pods(tmp_path: Path) -> None:
    """Bare pod addresses count as a recurrence only when the same pair of pods recurs."""
    for folder, second, expected in (("pair", "shop/cart-1", "accept"), ("other", "shop/cart-2", "queue")):
        story = shop(replicas=2)
        story.talk("shop/web-1", "shop/cart-1", 7070, at=[0])
        story.talk("shop/web-1", second, 7070, at=[60])
        decision, reasons = verdict(story, tmp_path / folder)
        assert decision == expected
        assert ("bare-address" in reasons) == (expected == "queue")


def test_outside_is_accepted_by_name(tmp_path: Path) -> None:
    """An outside address is accepted after two windows with a DNS answer, and queued without one."""
    for folder, dns, expected in (("named", ["api.example.com"], "accept"), ("bare", [], "queue")):
        story = shop()
        story.talk("shop/web-1", "203.0.113.10", 443, at=[0, 60], dns=dns)
        decision, reasons = verdict(story, tmp_path / folder, "203.0.113.10/32")
        assert decision == expected
        assert reasons == (["external-name"] if dns else ["no-name", "one-day", "one-replica"])


def test_outside_by_name_once_is_not_enough(tmp_path: Path) -> None:
    """One window with a name and one without are not two with a name."""
    story = shop()
    story.talk("shop/web-1", "203.0.113.10", 443, at=[0], dns=["api.example.com"])
    story.talk("shop/web-1", "203.0.113.10", 443, at=[60])
    assert verdict(story, tmp_path, "203.0.113.10/32")[0] == "queue"


def test_a_name_inside_the_cluster_declares_no_port(tmp_path: Path) -> None:
    """What accepts an address outside, a name in two windows, does not accept an undeclared port of a pod."""
    story = shop(ports=[])
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60], dns=[NAME])
    assert verdict(story, tmp_path)[0] == "queue"


def test_a_client_outside_may_use_a_declared_port(tmp_path: Path) -> None:
    """A client outside that uses a declared port in two windows is accepted; its windows are the destination's."""
    story = shop()
    story.talk("203.0.113.10", "shop/cart-1", 7070, at=[0, 60])
    pattern = only(learned(story, tmp_path), source="203.0.113.10/32")
    assert (pattern.decision, pattern.source_kind, pattern.halves) == ("accept", "external", ["ingress"])
    assert (pattern.windows_exposed, pattern.replicas_seen) == (2, 0)


def test_never_answered_is_rejected(tmp_path: Path) -> None:
    """However often it is tried, what is never answered is rejected."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60, DAY], answered=0, refused=3, dns=[NAME])
    assert verdict(story, tmp_path) == ("reject", ["never-answered"])


def test_one_way_udp_is_queued(tmp_path: Path) -> None:
    """UDP without any reply is queued; refused by the responder it is rejected."""
    for folder, refused, expected in (
        ("silent", 0, ("queue", ["unanswered-udp"])),
        ("refused", 1, ("reject", ["never-answered"])),
    ):
        story = shop()
        story.talk(
            "shop/web-1", "shop/cart-1", 8125, at=[0, 60], protocol="udp", answered=0, unanswered=1, refused=refused
        )
        assert verdict(story, tmp_path / folder) == expected


def test_open_counts_only_with_a_declared_port(tmp_path: Path) -> None:
    """Connections older than the recording are evidence for a declared port and for no other."""
    for folder, ports, expected in (("declared", [7070], "accept"), ("undeclared", [], "queue")):
        story = shop(ports=ports)
        story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60, DAY], answered=0, open=1)
        decision, reasons = verdict(story, tmp_path / folder)
        assert decision == expected
        assert ("open-only" in reasons) == (expected == "queue")


@pytest.mark.parametrize(
    ("destination", "name", "port"),
    [
        ("apiserver", "apiserver", 443),
        ("169.254.169.254", "169.254.169.254/32", 80),
        ("node/node-a", "node/node-a", 10250),
        ("shop/cart-1", CART, 2379),
        ("shop/cart-1", CART, 2380),
    ],
)
def test_sensitive_destinations_need_days(tmp_path: Path, destination: str, name: str, port: int) -> None:
    """What would accept another destination leaves a sensitive one queued until the second day."""
    for folder, at, expected in (
        ("minutes", [0, 60, 120], ("queue", ["sensitive-destination"])),
        ("days", [0, DAY], ("accept", ["days"])),
    ):
        story = shop(ports=[port])
        for pod in ("shop/web-1", "shop/web-2"):
            story.talk(pod, destination, port, at=at, dns=["somewhere.example.com"])
        assert verdict(story, tmp_path / folder, name) == expected


def test_debug_containers_taint_their_windows(tmp_path: Path) -> None:
    """What a pod does while a debug container runs in it is queued, unless it was seen without one."""
    for folder, at, expected in (("tainted", [300, 420], "queue"), ("before", [0, 60, 300], "accept")):
        story = Story()
        story.workload(CART, ports=[7070])
        story.pod("shop/web-1", owner="Deployment/web", ephemeral={"debugger": 200})
        story.talk("shop/web-1", "shop/cart-1", 7070, at=at, dns=[NAME])
        decision, reasons = verdict(story, tmp_path / folder)
        assert decision == expected
        assert ("tainted" in reasons) == (expected == "queue")


def test_a_tainted_window_makes_no_pair_recur(tmp_path: Path) -> None:
    """Pods that talked by bare address once before a debug container ran have not recurred when they do so again."""
    story = Story()
    story.workload(CART, ports=[7070])
    story.pod("shop/web-1", owner="Deployment/web", ephemeral={"debugger": 200})
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 300])
    decision, reasons = verdict(story, tmp_path)
    assert decision == "queue"
    assert {"bare-address", "tainted"} <= set(reasons)


def test_debug_containers_taint_the_responder(tmp_path: Path) -> None:
    """A port that is only reached while a debug container runs in the responder is queued."""
    story = Story()
    story.workload(WEB)
    story.pod("shop/cart-1", owner="Deployment/cart", ports=[7070], ephemeral={"debugger": 0})
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[60, 120], dns=[NAME])
    assert verdict(story, tmp_path) == ("queue", ["tainted"])


def test_nodes_are_queued_and_probes_need_no_rule(tmp_path: Path) -> None:
    """A node that talks is queued, but to a probed port it is the kubelet and needs no rule."""
    story = shop(ports=[7070, 8080], probe_ports=[8080])
    for port in (7070, 8080):
        story.talk("node/node-b", "shop/cart-1", port, at=[0, 60, DAY])
    found = {one.port: (one.decision, one.reasons) for one in learned(story, tmp_path).patterns}
    assert found == {7070: ("queue", ["node-source"]), 8080: ("reject", ["probe"])}


@pytest.mark.parametrize(
    ("destination", "name", "reason"),
    [
        ("ambiguous/10.0.2.77", "ambiguous/10.0.2.77", "ambiguous-identity"),
        ("overflow/10.0.2.0/24", "ambiguous/10.0.2.0/24", "ambiguous-identity"),
        ("unresolved/10.0.2.78", "unresolved/10.0.2.78", "unresolved-identity"),
        ("deferred/10.0.2.79", "unresolved/10.0.2.79", "unresolved-identity"),
    ],
)
def test_ends_not_known_are_queued(tmp_path: Path, destination: str, name: str, reason: str) -> None:
    """An end that was held by several or by nobody is never accepted by itself."""
    story = shop()
    story.talk("shop/web-1", destination, 7070, at=[0, 60, DAY], dns=[NAME])
    assert verdict(story, tmp_path, name) == ("queue", [reason])


def test_dns_once_is_accepted_when_its_answers_were_used(tmp_path: Path) -> None:
    """A declared DNS port seen once is accepted if answers led to an accepted pattern of the same source, else not."""
    dns = "kube-system/deployment/dns"
    for folder, names, expected in (
        ("used", [NAME], ("accept", ["dns-used"])),
        ("unused", [], ("queue", ["one-day", "one-replica", "seen-once"])),
    ):
        story = shop()
        story.workload(dns, ports=[("dns", 53, "UDP")])
        story.service("kube-system/dns", port=53, backends=["kube-system/dns-1"], protocol="UDP")
        story.talk("shop/web-1", "kube-system/dns-1", 53, at=[0], protocol="udp", service="kube-system/dns")
        story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60], dns=names)
        assert verdict(story, tmp_path / folder, dns) == expected


def test_answers_accept_no_other_port(tmp_path: Path) -> None:
    """Answers that were used accept a once-seen DNS port, not any declared port that was seen once."""
    story = shop()
    story.workload("shop/deployment/odd", ports=[8080])
    story.talk("shop/web-1", "shop/odd-1", 8080, at=[0])
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60], dns=[NAME])
    assert verdict(story, tmp_path, "shop/deployment/odd")[0] == "queue"


def test_dns_to_an_undeclared_port_is_not_accepted(tmp_path: Path) -> None:
    """Port 53 of a pod that declares no such port gets no credit for answers that were used."""
    story = shop()
    story.workload("shop/deployment/odd")
    story.talk("shop/web-1", "shop/odd-1", 53, at=[0], protocol="udp")
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60], dns=[NAME])
    assert verdict(story, tmp_path, "shop/deployment/odd")[0] == "queue"


@pytest.mark.parametrize(
    ("change", "build"),
    [
        ({"windows": 3}, lambda story: story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60])),
        ({"apart_seconds": 61}, lambda story: story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60])),
        ({"days": 3}, lambda story: story.talk("shop/web-1", "shop/cart-1", 7071, at=[0, DAY])),
        (
            {"replicas": 3},
            lambda story: [story.talk(f"shop/web-{n}", "shop/cart-1", 7070, at=[0]) for n in (1, 2)],
        ),
    ],
)
def test_thresholds_are_obeyed_and_written(
    tmp_path: Path, change: dict[str, int], build: Callable[[Story], object]
) -> None:
    """A stricter threshold queues what the default accepts, and the output says which was used."""
    story = shop()
    build(story)
    assert only(learned(story, tmp_path / "default")).decision == "accept"
    strict = learned(story, tmp_path / "strict", thresholds=Thresholds(**change))
    assert only(strict).decision == "queue"
    assert strict.thresholds.items() >= change.items()


def test_every_reason_given_is_explained(tmp_path: Path) -> None:
    """Whatever is decided, its reason codes are known ones, sorted."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60], dns=[NAME])
    story.talk("shop/web-1", "203.0.113.10", 443, at=[0])
    for pattern in learned(story, tmp_path).patterns:
        assert pattern.reasons == sorted(pattern.reasons)
        assert set(pattern.reasons) <= set(REASONS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("windows", 0),
        ("apart_seconds", -1),
        ("days", 0),
        ("replicas", 0),
        ("scan_benign", 1.0),
        ("scan_hostile", 0.9),
        ("scan_false_alarm", 0.0),
        ("scan_detection", 0.001),
        ("dropped_share", -0.1),
        ("unknown_share", 1.5),
        ("lag_seconds", -1.0),
        ("convergence_seconds", 0),
        ("exposed_days", -1),
        ("bound", float("nan")),
        ("confidence", 2.0),
    ],
)
def test_thresholds_that_mean_nothing_are_errors(name: str, value: float) -> None:
    """A threshold outside its range is named before anything is learned."""
    with pytest.raises(InputError, match=name.replace("_", "[-_]")):
        Thresholds(**{name: value})


def test_a_port_that_was_not_recorded_is_queued(tmp_path: Path) -> None:
    """Without a port there is no rule but one for every port."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", None, at=[0, DAY])
    decision, reasons = verdict(story, tmp_path)
    assert (decision, reasons) == ("queue", ["no-port"])
