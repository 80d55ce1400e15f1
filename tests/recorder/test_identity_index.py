"""Who held an address when: intervals, label versions, owners."""

import random
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import InventoryError
from recorder.identity.events import Event
from recorder.identity.index import AMBIGUOUS, CARRY, KEPT, NONE, Identities
from recorder.identity.timeline import Timeline
from recorder.records import SECOND, identity_id

BEGIN = 1_750_000_000 * SECOND
IP = "10.244.1.5"


def at(seconds: float) -> int:
    """Return a time (µs), that many seconds after BEGIN."""
    return BEGIN + round(seconds * SECOND)


def stamp(seconds: float) -> str:
    """Write a time as the API does, cut to the second."""
    return datetime.fromtimestamp(at(seconds) // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(
    uid: str, *ips: str, created: float | None = 0, labels: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    """Return a Pod; `more`: phase, finished, annotations, owner, spec, started."""
    metadata: dict[str, Any] = {"name": uid, "namespace": "shop", "uid": uid, "labels": labels or {"app": "a"}}
    if created is not None:
        metadata["creationTimestamp"] = stamp(created)
    if "annotations" in more:
        metadata["annotations"] = more["annotations"]
    if "owner" in more:
        metadata["ownerReferences"] = [owner(*more["owner"])]
    status: dict[str, Any] = {"phase": more.get("phase", "Running" if ips else "Pending")}
    if ips:
        status |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    if "finished" in more:
        status["containerStatuses"] = [{"name": "a", "state": {"terminated": {"finishedAt": stamp(more["finished"])}}}]
    if "started" in more:
        status["startTime"] = stamp(more["started"])
    spec = {"nodeName": "n1", "serviceAccountName": "default", **more.get("spec", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def owner(kind: str, name: str, uid: str) -> dict[str, Any]:
    """Return a controller's ownerReference."""
    return {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": True}


def thing(kind: str, name: str, uid: str, above: tuple[str, str, str] | None = None) -> dict[str, Any]:
    """Return an object that may own others."""
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "uid": uid}
    if above:
        metadata["ownerReferences"] = [owner(*above)]
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata}


def added(time: float, value: dict[str, Any], **more: Any) -> Event:
    """Return an ADDED event."""
    return Event(at(time), "ADDED", value, **more)


def modified(time: float, value: dict[str, Any]) -> Event:
    """Return a MODIFIED event."""
    return Event(at(time), "MODIFIED", value)


def deleted(time: float, value: dict[str, Any]) -> Event:
    """Return a DELETED event."""
    return Event(at(time), "DELETED", value)


def bookmark(time: float) -> Event:
    """Return a BOOKMARK."""
    return Event(at(time), "BOOKMARK", {})


def known(*events: Event) -> Identities:
    """Return an index that was fed these events, in this order."""
    identities = Identities()
    for event in events:
        identities.apply(event)
    return identities


def who(identities: Identities, time: float, ip: str = IP) -> str | int:
    """Return the uid of who held an address, NONE or AMBIGUOUS."""
    code = int(identities.holders(ip, np.array([at(time)], dtype=np.int64))[0])
    return identities.pod(code).uid if code >= 0 else code


REUSE = (
    added(0.1, pod("old", IP)),
    deleted(10.0, pod("old", IP)),
    added(9.01, pod("new", created=9)),
    modified(10.07, pod("new", IP, created=9)),
    bookmark(20),
)


@pytest.mark.parametrize("events", [REUSE, tuple(reversed(REUSE)), (*REUSE[2:], *REUSE[:2])])
def test_reuse_70_ms_apart_is_told_apart_in_any_order_of_arrival(events: tuple[Event, ...]) -> None:
    """An address given to another pod 70 ms after its holder went belongs to each in its time."""
    identities = known(*events)
    assert [who(identities, time) for time in (5, 9.999999, 10.0, 10.03, 10.07, 15)] == ["old"] * 2 + ["new"] * 4


def test_reuse_shown_before_the_end_of_the_holder_is_ambiguous_and_no_guess() -> None:
    """Where the API shows the new holder 70 ms before the old one's end, the overlap is nobody's, and so is the lag."""
    identities = known(
        added(0.1, pod("old", IP)),
        added(5.01, pod("new", created=5)),
        modified(10.0, pod("new", IP, created=5, started=5)),
        deleted(10.07, pod("old", IP)),
    )
    assert who(identities, 8.9) == "old"
    assert who(identities, 9.95) == AMBIGUOUS
    assert who(identities, 10.05) == AMBIGUOUS
    assert who(identities, 10.07) == "new"


def test_a_packet_before_the_api_shows_the_address_is_the_pods() -> None:
    """Packets come up to 60 ms before the event that shows the address; the pod's creation bounds its start."""
    identities = known(added(3.2, pod("p", created=3)), modified(4.5, pod("p", IP, created=3)))
    assert who(identities, 4.44) == "p"
    assert who(identities, 2.9) == NONE
    assert identities.rows("c")[0].start_basis == "created"


def test_the_start_is_never_lowered_below_the_end_of_the_holder_before() -> None:
    """A pod created while another held its address gets it from that one's end on."""
    identities = known(
        added(0, pod("old", IP)), deleted(10, pod("old", IP)), added(2, pod("new", created=2)),
        modified(11, pod("new", IP, created=2)),
    )  # fmt: skip
    assert [who(identities, time) for time in (9.9, 10.0)] == ["old", "new"]
    assert {row.uid: row.start for row in identities.rows("c")} == {"old": at(0), "new": at(10)}


def test_a_completed_pod_keeps_its_address_while_another_holds_it() -> None:
    """A pod that Succeeded holds nothing, whatever its status goes on to say."""
    done = pod("job", IP, phase="Succeeded")
    identities = known(
        added(0, pod("job", IP)),
        modified(10, done),
        added(12, pod("new", IP, created=11)),
        modified(20, {**done, "metadata": {**done["metadata"], "labels": {"app": "edited"}}}),
        bookmark(30),
    )
    assert [who(identities, time) for time in (9.9, 10.5, 11.5, 25)] == ["job", NONE, "new", "new"]


@pytest.mark.parametrize("listed", [True, False])
def test_a_pod_first_seen_completed_held_its_address_until_its_containers_stopped(listed: bool) -> None:
    """A list, or a log that begins later, tells the end of a completed pod by its newest finishedAt."""
    identities = known(
        added(100, pod("job", IP, phase="Succeeded", finished=10), listed=listed),
        added(100, pod("new", IP, created=20), listed=listed),
    )
    assert [who(identities, time) for time in (0, 10.5, 11.5, 19, 21, 100)] == ["job", "job", NONE, NONE, "new", "new"]


def test_a_pod_first_seen_completed_without_a_time_held_nothing_for_certain() -> None:
    """An end that nobody knows is not made up, and does not take the address from others."""
    identities = known(
        added(100, pod("evicted", IP, phase="Failed"), listed=True),
        added(100, pod("new", IP, created=20), listed=True),
    )
    assert [who(identities, time) for time in (10, 21)] == [NONE, "new"]
    assert {row.uid: row.ips for row in identities.rows("c")} == {"evicted": [], "new": [IP]}


def test_a_late_deletion_of_an_old_uid_leaves_the_new_holder() -> None:
    """Holds are closed by their own uid alone, also when names are equal."""
    old, new = pod("old", IP), pod("new", IP, created=11)
    old["metadata"]["name"] = new["metadata"]["name"] = "web-0"
    identities = known(added(0, old), modified(10, pod("old", IP, phase="Failed")), added(12, new), deleted(30, old))
    assert who(identities, 30) == "new"
    assert who(identities, 9) == "old"


def test_an_older_event_that_arrives_late_does_not_bring_a_pod_back() -> None:
    """After its end in time, an earlier event of the same uid changes only the past."""
    identities = known(added(0, pod("p", IP)), deleted(10, pod("p", IP)), modified(9, pod("p", IP)), bookmark(20))
    assert [who(identities, time) for time in (9.5, 10, 15)] == ["p", NONE, NONE]


def test_nothing_follows_a_deletion_at_its_own_time() -> None:
    """Two streams may show a pod's last change and its deletion in the same microsecond, in either order."""
    identities = known(added(0, pod("p", IP)), deleted(10, pod("p", IP)), modified(10, pod("p", IP, labels={"b": "c"})))
    assert [who(identities, time) for time in (9, 10, 11)] == ["p", NONE, NONE]


def test_two_live_holders_are_ambiguous() -> None:
    """Two pods that claim one address at one time are both named by neither."""
    identities = known(added(10, pod("a", IP)), added(10, pod("b", IP, created=2)), bookmark(20))
    assert [who(identities, time) for time in (1, 5, 15)] == ["a", AMBIGUOUS, AMBIGUOUS]


def test_nobody_holds_an_unknown_address() -> None:
    """An address never seen, and a known one before its pod, are NONE; the answer has the shape of the question."""
    identities = known(added(5, pod("p", IP, created=5)))
    assert who(identities, 6, "192.0.2.1") == NONE
    assert who(identities, 4) == NONE
    assert identities.holders("192.0.2.1", np.empty(0, dtype=np.int64)).shape == (0,)
    assert identities.holders(IP, np.array([at(6)], dtype=np.int64)).dtype == np.int32


def test_an_open_hold_is_carried_60_s_past_the_last_event_and_then_unknown() -> None:
    """Without events, what was last known holds for a minute; bookmarks and other objects' events count as events."""
    events = [added(0, pod("p", IP)), bookmark(10)]
    identities = known(*events)
    assert [who(identities, time) for time in (10, 69.999999, 70)] == ["p", "p", NONE]
    assert identities.carried(np.array([at(9), at(11)])).tolist() == [False, True]
    identities.apply(Event(at(100), "MODIFIED", thing("Lease", "n1", "lease")))
    assert who(identities, 159) == "p"
    assert CARRY == 60 * SECOND


def test_a_nodes_proof_outlasts_the_carry_and_needs_no_event() -> None:
    """An interface's epoch holds after the last event, also of an address that the API never showed."""
    identities = known(added(3.2, pod("p", created=3)))
    identities.proven("p", IP, at(4.4))
    assert [who(identities, time) for time in (2.9, 3, 62, 64)] == [NONE, "p", "p", NONE]
    identities.proven("p", IP, at(300))
    assert [who(identities, time) for time in (299, 301)] == ["p", NONE]


def test_a_nodes_proof_is_exact_where_another_still_held_the_address() -> None:
    """When the API ends the old holder late, what came before the new one's interface is the old one's."""
    identities = known(
        added(0, pod("old", IP)),
        added(5, pod("new", created=5)),
        modified(10.06, pod("new", IP, created=5)),
        deleted(10.3, pod("old", IP)),
    )
    identities.proven("new", IP, at(10))
    assert [who(identities, time) for time in (9.99, 10, 10.29, 10.3)] == ["old", AMBIGUOUS, AMBIGUOUS, "new"]
    rows = {row.uid: (row.start, row.start_basis) for row in identities.rows("c")}
    assert rows["new"] == (at(10), "interface")


def test_a_nodes_proof_late_in_a_pods_life_does_not_shorten_it() -> None:
    """A capture that begins in the middle proves that a pod holds its address, not that it did not before."""
    identities = known(added(100, pod("p", IP, created=40), listed=True))
    identities.proven("p", IP, at(70))
    assert [who(identities, time) for time in (41, 71)] == ["p", "p"]


def test_a_label_edit_opens_a_version_and_an_edit_back_gives_the_first_code_again() -> None:
    """Packets have the labels of their time; codes are by label version, rows merged by id."""
    identities = known(
        added(0.1, pod("p", IP)),
        modified(10, pod("p", IP, labels={"app": "b"})),
        modified(20, pod("p", IP)),
        bookmark(30),
    )
    codes = identities.holders(IP, np.array([at(time) for time in (5, 10, 25)], dtype=np.int64)).tolist()
    assert codes[0] == codes[2] != codes[1]
    assert identities.pod(codes[1]).labels == {"app": "b"}
    rows = {row.id: (row.start, row.end, row.start_basis) for row in identities.rows("c")}
    assert rows == {
        identity_id("p", {"app": "a"}): (at(0), None, "created"),
        identity_id("p", {"app": "b"}): (at(10), at(20), "event"),
    }


def test_labels_edited_before_the_address_was_known_begin_with_the_first_version() -> None:
    """A version that ended before the API showed the address still has its part of the pod's life."""
    identities = known(
        added(1, pod("p")), modified(2, pod("p", labels={"app": "b"})), modified(3, pod("p", IP, labels={"app": "b"}))
    )
    assert sorted(((row.start, row.end) for row in identities.rows("c")), key=str) == [(at(0), at(2)), (at(2), None)]
    assert identities.pod(int(identities.holders(IP, np.array([at(1.5)]))[0])).labels == {"app": "a"}


def test_the_cni_s_word_opens_and_closes_a_hold() -> None:
    """Calico writes the address before the kubelet reports it, and clears it when the sandbox goes."""
    key = "cni.projectcalico.org/podIP"
    identities = known(
        added(1, pod("p", created=None)),
        modified(2, pod("p", created=None, annotations={key: f"{IP}/32"})),
        modified(3, pod("p", IP, created=None, annotations={key: f"{IP}/32"})),
        modified(9, pod("p", IP, created=None, annotations={key: ""})),
        modified(9.5, pod("p", IP, created=None)),
        deleted(20, pod("p", IP, created=None)),
    )
    assert [who(identities, time) for time in (1.9, 2, 8.9, 9, 15)] == [NONE, "p", "p", NONE, NONE]
    assert identities.rows("c")[0].start_basis == "annotation"


def test_an_annotation_cannot_claim_an_address_that_the_status_contradicts() -> None:
    """Whoever may annotate a pod must not be able to speak for another one."""
    annotations = {"cni.projectcalico.org/podIPs": IP}
    identities = known(
        added(0, pod("victim", IP)), added(1, pod("liar", annotations=annotations, created=1)),
        modified(2, pod("liar", "10.244.9.9", annotations=annotations, created=1)),
    )  # fmt: skip
    assert who(identities, 1.5) == "victim"
    assert who(identities, 3, "10.244.9.9") == "liar"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (
            "k8s.v1.cni.cncf.io/network-status",
            '[{"name":"net1","ips":["1.1.1.1"]},{"default":true,"ips":["10.244.1.5"]}]',
        ),
        ("k8s.ovn.org/pod-networks", '{"default":{"ip_addresses":["10.244.1.5/24"]}}'),
        ("cni.projectcalico.org/podIPs", "10.244.1.5/32,fd00::5/128"),
    ],
)
def test_other_cnis_words_are_read(key: str, text: str) -> None:
    """The default network's address counts, in each CNI's own way of writing."""
    assert who(known(added(1, pod("p", annotations={key: text}))), 0.5) == "p"


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", "null", '[{"ips": 3}]', '{"default": 1}', "[" * 5000])
def test_an_annotation_that_cannot_be_read_proves_nothing(text: str) -> None:
    """Malformed annotations are ignored: the status stands."""
    assert who(known(added(1, pod("p", IP, annotations={"k8s.v1.cni.cncf.io/network-status": text}))), 1) == "p"


def test_a_changed_address_moves_the_pod() -> None:
    """A sandbox made anew gives the pod another address; the first one is free from then on."""
    identities = known(added(0, pod("p", IP)), modified(10, pod("p", "10.244.1.6")), bookmark(20))
    assert [who(identities, time) for time in (9, 11)] == ["p", NONE]
    assert who(identities, 11, "10.244.1.6") == "p"


def test_dual_stack_pods_hold_both_addresses_in_canonical_text() -> None:
    """Addresses of both families are found, however the API wrote them."""
    identities = known(added(1, pod("p", IP, "FD00:0:0::5")))
    assert who(identities, 1, "fd00::5") == who(identities, 1) == "p"
    assert identities.addresses() == [IP, "fd00::5"]


def test_a_host_network_pod_does_not_hold_its_nodes_address() -> None:
    """The node's address is the node's; the pod has a row all the same."""
    identities = known(added(1, pod("p", "192.168.0.1", spec={"hostNetwork": True})))
    assert who(identities, 1, "192.168.0.1") == NONE
    assert [(row.host_network, row.ips) for row in identities.rows("c")] == [(True, ["192.168.0.1"])]


def test_a_list_is_one_moment() -> None:
    """A listed pod holds its address from its creation to the list's time, and is carried a minute past it."""
    identities = known(added(100, pod("p", IP, created=40), listed=True))
    assert [who(identities, time) for time in (39, 40, 100, 159, 161)] == [NONE, "p", "p", "p", NONE]
    assert [(row.start, row.end, row.observed_until, row.start_basis) for row in identities.rows("c")] == [
        (at(40), None, at(100), "list")
    ]


def test_forgetting_keeps_ten_minutes_and_never_gives_the_past_to_another() -> None:
    """What ended long ago goes, what ended lately stays, and a later holder's start stays above the forgotten end."""
    identities = known(
        added(0, pod("old", IP)), deleted(10, pod("old", IP)), added(5, pod("new", created=5)),
        modified(11, pod("new", IP, created=5)), bookmark(500),
    )  # fmt: skip
    identities.forget(at(10_000))
    assert who(identities, 9) == "old"
    identities.apply(bookmark(11 + KEPT / SECOND))
    identities.forget(at(10_000))
    assert [who(identities, time) for time in (9, 10)] == [NONE, "new"]


def test_children_may_come_before_their_owners() -> None:
    """Owners are told from the whole log: Deployments, Rollouts, CronJobs, and whatever else controls pods."""
    identities = known(
        added(1, pod("a", owner=("ReplicaSet", "web-5d4f", "rs1"))),
        added(1, pod("b", owner=("Job", "report-1", "j1"))),
        added(1, pod("c", owner=("StatefulSet", "db", "s1"))),
        added(1, pod("d", owner=("ReplicaSet", "shop-77", "rs2"))),
        added(1, pod("e", owner=("SparkApplication", "pi", "x1"))),
        added(1, pod("f")),
        added(1, pod("g", owner=("Node", "n1", "node"))),
        added(2, thing("ReplicaSet", "web-5d4f", "rs1", ("Deployment", "web", "d1"))),
        added(2, thing("Job", "report-1", "j1", ("CronJob", "report", "cj1"))),
        added(2, thing("ReplicaSet", "shop-77", "rs2", ("Rollout", "shop", "r1"))),
        added(3, thing("Deployment", "web", "d1", ("Platform", "everything", "p1"))),
    )
    owners = {row.uid: (row.owner_kind, row.owner_name, row.owner_uid) for row in identities.rows("c")}
    assert owners == {
        "a": ("Deployment", "web", "d1"),
        "b": ("CronJob", "report", "cj1"),
        "c": ("StatefulSet", "db", "s1"),
        "d": ("Rollout", "shop", "r1"),
        "e": ("SparkApplication", "pi", "x1"),
        "f": ("Pod", "f", "f"),
        "g": ("Pod", "g", "g"),
    }


def test_owners_the_log_lacks_are_told_only_where_names_prove_them() -> None:
    """The template's hash gives the Deployment; a CronJob must be there; a Rollout's hash invents nothing."""
    hashed = {"pod-template-hash": "5d4f"}
    identities = known(
        added(1, pod("a", owner=("ReplicaSet", "web-5d4f", "rs1"), labels=hashed)),
        added(1, pod("b", owner=("Job", "report-29123456", "j1"))),
        added(1, pod("c", owner=("Job", "other-29123456", "j2"))),
        added(1, pod("d", owner=("ReplicaSet", "shop-77", "rs2"), labels={"rollouts-pod-template-hash": "77"})),
        added(1, pod("e", owner=("ReplicaSet", "own-5d4f", "rs3"), labels=hashed)),
        added(2, thing("CronJob", "report", "cj1")),
        added(2, thing("ReplicaSet", "own-5d4f", "rs3")),
    )
    owners = {row.uid: (row.owner_kind, row.owner_name, row.owner_uid) for row in identities.rows("c")}
    assert owners == {
        "a": ("Deployment", "web", ""),
        "b": ("CronJob", "report", "cj1"),
        "c": ("Job", "other-29123456", "j2"),
        "d": ("ReplicaSet", "shop-77", "rs2"),
        "e": ("ReplicaSet", "own-5d4f", "rs3"),
    }


def test_owners_that_own_each_other_end_somewhere() -> None:
    """A cycle of owners, which nobody honest writes, is no endless loop."""
    identities = known(
        added(1, pod("a", owner=("ReplicaSet", "x", "x"))),
        added(1, thing("ReplicaSet", "x", "x", ("ReplicaSet", "y", "y"))),
        added(1, thing("ReplicaSet", "y", "y", ("ReplicaSet", "x", "x"))),
    )
    assert identities.rows("c")[0].owner_kind == "ReplicaSet"


def test_ports_probes_and_ephemeral_containers_are_in_the_row() -> None:
    """Declared ports come from all containers, named probe ports are resolved in theirs, lifecycles keep their start."""
    value = pod(
        "p",
        IP,
        spec={
            "initContainers": [{"name": "proxy", "ports": [{"containerPort": 15090, "protocol": "TCP"}]}],
            "containers": [
                {
                    "name": "a",
                    "ports": [
                        {"name": "http", "containerPort": 8080, "hostPort": 80},
                        {"containerPort": 53, "protocol": "UDP"},
                    ],
                    "livenessProbe": {"httpGet": {"port": "http", "path": "/"}},
                    "readinessProbe": {"grpc": {"port": 9090}},
                    "startupProbe": {"tcpSocket": {"port": 1, "host": "192.0.2.1"}},
                }
            ],
            "ephemeralContainers": [{"name": "debug"}, {"name": "later"}],
        },
    )
    value["status"]["ephemeralContainerStatuses"] = [{"name": "debug", "state": {"running": {"startedAt": stamp(7)}}}]
    row = known(added(8, value)).rows("c")[0]
    assert [tuple(port.values()) for port in row.ports] == [
        (None, 53, "udp", None), ("http", 8080, "tcp", 80), (None, 15090, "tcp", None),
    ]  # fmt: skip
    assert row.probe_ports == [8080, 9090]
    assert row.ephemeral == [{"name": "debug", "start": at(7)}, {"name": "later", "start": None}]


@pytest.mark.parametrize(
    "value",
    [
        {"metadata": {"name": 3}},
        {"metadata": {"name": "p", "uid": "u", "labels": {"a": 1}}},
        {"metadata": {"name": "p", "uid": "u", "creationTimestamp": "yesterday"}},
        {"metadata": {"name": "p", "uid": "u"}, "status": {"podIP": "10.0.0.256"}},
        {"metadata": {"name": "p", "uid": "u"}, "status": "up"},
        {"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [{"ports": [{"containerPort": 70000}]}]}},
    ],
)
def test_a_pod_that_cannot_be_read_is_an_error_in_one_line(value: dict[str, Any]) -> None:
    """Whatever is wrong with a pod, the message says where it is and fits on a line."""
    with pytest.raises(InventoryError, match=r"^x\.yaml: entry 7: ") as caught:
        known(added(1, {"apiVersion": "v1", "kind": "Pod", **value}, where="x.yaml: entry 7"))
    assert "\n" not in str(caught.value)


STEPS = st.lists(
    st.tuples(
        st.integers(2, 30),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["show", "show", "hide", "label", "end", "gone"]),
    ),
    max_size=25,
    unique_by=lambda step: step[:2],
)


def story(steps: list[tuple[int, str, str]]) -> list[Event]:
    """Return events of pods that share one address."""
    events = []
    for second, uid, step in sorted(steps):
        ips = () if step == "hide" else (IP,)
        labels = {"app": uid, "edited": str(second)} if step == "label" else {"app": uid}
        phase = "Failed" if step == "end" else "Running"
        value = pod(uid, *ips, created="abc".index(uid), labels=labels, phase=phase)
        events.append(Event(at(second), "DELETED" if step == "gone" else "MODIFIED", value))
    return events


@given(STEPS)
def test_the_vectorised_lookup_equals_a_naive_scan(steps: list[tuple[int, str, str]]) -> None:
    """At every time the lookup says what going through all intervals one by one says."""
    identities = known(*story(steps))
    times = np.arange(at(-2), at(100), SECOND // 2, dtype=np.int64)
    held = identities.pods_at(IP)
    until = identities.observed_until + CARRY
    naive = []
    for time in times.tolist():
        uids = {uid for uid, start, end in held if start <= time < (until if end is None else end)}
        versions = [int(identities.versions(uid, np.array([time], dtype=np.int64))[0]) for uid in uids]
        naive.append(NONE if not uids else AMBIGUOUS if len(uids) > 1 else versions[0])
    assert identities.holders(IP, times).tolist() == naive


@given(STEPS, st.randoms(use_true_random=False))
def test_the_order_in_which_pods_events_arrive_does_not_matter(
    steps: list[tuple[int, str, str]], chance: random.Random
) -> None:
    """Streams of different pods may interleave in any way: the same rows come out."""
    events = story(steps)
    streams = [[event for event in events if event.object["metadata"]["uid"] == uid] for uid in "abc"]
    mixed = []
    while any(streams):
        mixed.append(chance.choice([stream for stream in streams if stream]).pop(0))
    assert known(*mixed).rows("c") == known(*events).rows("c")


@given(STEPS)
def test_rows_hold_the_contract(steps: list[tuple[int, str, str]]) -> None:
    """Ids are unique, no interval is turned round, and no hold begins before its pod."""
    rows = known(*story(steps)).rows("c")
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        assert row.end is None or row.start <= row.end
        assert row.start >= at("abc".index(row.uid))


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("xyz")), max_size=12, unique_by=lambda entry: entry[0]))
def test_an_observation_stands_at_its_time_however_late_it_arrives(entries: list[tuple[int, str]]) -> None:
    """A late fact cuts the run of equal ones it falls into."""
    timeline: Timeline[str] = Timeline()
    for time, fact in entries:
        timeline.add(time, fact)
        assert [known for begun, known in timeline if begun <= time][-1] == fact
    times = [time for time, _ in timeline]
    assert times == sorted(times)
