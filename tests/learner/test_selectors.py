"""Selectors: exact over all pods recorded, stable over rollouts, and honest when there is none."""

from pathlib import Path

import pytest

from learner import learn
from learner.patterns import Subject
from learner.selectors import is_volatile
from tests.recordings import Story

HASH = "pod-template-hash"


def subjects(story: Story, folder: Path) -> dict[str, Subject]:
    """Return the subjects learned from a story by workload."""
    story.workload("other/deployment/speaker", replicas=2)
    story.talk("other/speaker-1", "other/speaker-2", 80, at=[0])
    return {one.workload: one for one in learn(story.write(folder / "recording")).subjects}


def labels(subject: Subject) -> dict[str, str]:
    """Return what a subject's selector asks for."""
    assert subject.selector is not None
    return dict(subject.selector.match_labels)


def test_the_owners_selector_comes_first(tmp_path: Path) -> None:
    """The owner's own selector is used, without the labels that a rollout changes."""
    story = Story()
    given = {"app": "web", HASH: "5d4f", "tier": "front"}
    story.workload("shop/deployment/web", labels=given, selector={"app": "web", HASH: "5d4f"})
    subject = subjects(story, tmp_path)["shop/deployment/web"]
    assert (labels(subject), subject.rung) == ({"app": "web"}, "owner-selector")


def test_colliding_selectors_fall_to_the_template(tmp_path: Path) -> None:
    """Two owners with one selector are told apart by the labels that name them."""
    story = Story()
    for name in ("web", "api"):
        given = {"app": "shop", "app.kubernetes.io/name": name, "app.kubernetes.io/instance": "one"}
        story.workload(f"shop/deployment/{name}", labels=given, selector={"app": "shop"})
    subject = subjects(story, tmp_path)["shop/deployment/web"]
    assert subject.rung == "template-labels"
    assert labels(subject) == {"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": "one"}


def test_pods_that_came_and_went_count(tmp_path: Path) -> None:
    """A selector that would have selected a stranger's pod of yesterday is not exact."""
    story = Story()
    story.workload("shop/deployment/web", labels={"app": "web", "component": "front"}, selector={"app": "web"})
    story.pod("shop/old-1", owner="StatefulSet/old", labels={"app": "web", "component": "old"}, start=0, end=10)
    subject = subjects(story, tmp_path)["shop/deployment/web"]
    assert (labels(subject), subject.rung) == ({"app": "web", "component": "front"}, "template-labels")


def test_the_same_labels_elsewhere_do_not_collide(tmp_path: Path) -> None:
    """Selectors are exact within a namespace; the same labels in another are no collision."""
    story = Story()
    for namespace in ("one", "two"):
        story.workload(f"{namespace}/deployment/web")
    found = subjects(story, tmp_path)
    assert found["one/deployment/web"].rung == found["two/deployment/web"].rung == "owner-selector"


def test_search_finds_the_smallest_conjunction(tmp_path: Path) -> None:
    """Where no label names a workload, the smallest set of labels that selects exactly its pods is found."""
    story = Story()
    story.pod("shop/a-1", owner="StatefulSet/a", labels={"x": "1", "y": "1", "z": "1"})
    story.pod("shop/a-2", owner="StatefulSet/a", labels={"x": "1", "y": "1", "z": "2"})
    story.pod("shop/b-1", owner="StatefulSet/b", labels={"x": "1", "y": "2", "z": "1"})
    story.pod("shop/c-1", owner="StatefulSet/c", labels={"x": "2", "y": "1", "z": "1"})
    story.add("StatefulSet", "shop/a", {"spec": {"template": {"metadata": {"labels": {"x": "1"}}}}})
    subject = subjects(story, tmp_path)["shop/statefulset/a"]
    assert (labels(subject), subject.rung) == ({"x": "1", "y": "1"}, "searched")


def test_no_selector_names_the_conflicts(tmp_path: Path) -> None:
    """Owners whose pods cannot be told apart get no selector, and each names the other."""
    story = Story()
    for name in ("web", "web2"):
        story.workload(f"shop/deployment/{name}", labels={"app": "web", HASH: name})
    found = subjects(story, tmp_path)
    for name, other in (("web", "web2"), ("web2", "web")):
        subject = found[f"shop/deployment/{name}"]
        assert (subject.selector, subject.rung) == (None, "none")
        assert subject.conflicts == (f"shop/deployment/{other}",)


def test_pods_without_labels_have_no_selector(tmp_path: Path) -> None:
    """A pod without labels gets no selector rather than one that selects everything."""
    story = Story()
    story.pod("shop/naked-1")
    subject = subjects(story, tmp_path)["shop/pod/naked-1"]
    assert (subject.selector, subject.rung) == (None, "none")


def test_a_relabelled_pod_must_be_selected_in_every_version(tmp_path: Path) -> None:
    """A label that a pod took on or lost while it lived is no part of its selector."""
    story = Story()
    story.pod("shop/a-1", owner="StatefulSet/a", labels={"app": "a", "role": "leader"})
    story.pod("shop/a-1", owner="StatefulSet/a", labels={"app": "a", "role": "follower"}, start=30)
    subject = subjects(story, tmp_path)["shop/statefulset/a"]
    assert labels(subject) == {"app": "a"}
    assert subject.pods == 1


def test_jobs_are_never_selected_by_uid(tmp_path: Path) -> None:
    """A Job's own selector, which names a uid, is not used; its template's labels are."""
    story = Story()
    given = {"app": "backup", "batch.kubernetes.io/controller-uid": "1", "controller-uid": "1", "job-name": "backup"}
    story.workload("shop/job/backup", labels=given, selector={"app": "backup", "controller-uid": "1"})
    story.workload("shop/cronjob/report", labels={"app": "report", "job-name": "report-1"})
    found = subjects(story, tmp_path)
    for name, kind in (("backup", "job"), ("report", "cronjob")):
        subject = found[f"shop/{kind}/{name}"]
        assert (labels(subject), subject.rung) == ({"app": name}, "template-labels")


@pytest.mark.parametrize(
    "key",
    [
        HASH,
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/job-completion-index",
        "controller-uid",
        "job-name",
        "topology.kubernetes.io/zone",
        "helm.sh/chart",
        "app.kubernetes.io/version",
        "version",
        "chart",
        "heritage",
        "rollouts-pod-template-hash",
    ],
)
def test_volatile_labels_are_never_used(tmp_path: Path, key: str) -> None:
    """Even where only a volatile label tells two owners apart, it is not used."""
    story = Story()
    for name in ("a", "b"):
        story.workload(f"shop/statefulset/{name}", labels={"app": "x", key: name})
    assert {one.rung for name, one in subjects(story, tmp_path).items() if name.startswith("shop/")} == {"none"}


@pytest.mark.parametrize("key", ["app", "app.kubernetes.io/name", "k8s-app", "strimzi.io/cluster", "versioned"])
def test_identity_labels_are_not_volatile(key: str) -> None:
    """Labels by which people name workloads are kept, though they resemble volatile ones."""
    assert not is_volatile(key)


def test_a_replication_controllers_selector_is_a_plain_map(tmp_path: Path) -> None:
    """A ReplicationController's selector has no matchLabels, and is used all the same."""
    story = Story()
    story.add("ReplicationController", "shop/web", {"spec": {"selector": {"x": "web"}}})
    story.pod("shop/web-1", owner="ReplicationController/web", labels={"x": "web", "y": "1"})
    subject = subjects(story, tmp_path)["shop/replicationcontroller/web"]
    assert (labels(subject), subject.rung) == ({"x": "web"}, "owner-selector")


def test_owners_are_followed_to_the_top(tmp_path: Path) -> None:
    """A recorder that knows only a pod's ReplicaSet still gives the Deployment's pattern."""
    story = Story()
    reference = {"kind": "Deployment", "name": "web", "controller": True}
    story.add("ReplicaSet", "shop/web-5d4f", {"metadata": {"ownerReferences": [reference]}})
    story.pod("shop/web-1", owner="ReplicaSet/web-5d4f", labels={"app": "web"})
    assert "shop/deployment/web" in subjects(story, tmp_path)


def test_host_network_is_told(tmp_path: Path) -> None:
    """A workload on its node's network is marked as such."""
    story = Story()
    story.workload("kube-system/daemonset/agent", host_network=True)
    found = subjects(story, tmp_path)
    assert found["kube-system/daemonset/agent"].host_network
    assert not found["other/deployment/speaker"].host_network
