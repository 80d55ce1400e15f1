"""Replay over built recordings: which halves are judged, under which labels, and what counts as expected."""

import json
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest

from deploy import Replay, replay
from deploy.population import Population
from deploy.semantics.ends import ContainerPort
from learner import learn
from learner.patterns import Learned, Pattern, pattern_id
from recorder.errors import InputError, RecordingError
from recorder.store import Recording
from tests.deploy.world import kubernetes
from tests.recordings import Story, moment

DB_FROM_WEB = """
podSelector: {matchLabels: {app: db}}
ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]
"""


def shop() -> Story:
    """Return two web pods on node-a, a database on node-b and a batch job, without traffic."""
    story = Story()
    story.workload("shop/deployment/web", replicas=2)
    story.workload("shop/deployment/db", ports=[5432], node="node-b")
    story.workload("shop/deployment/batch", node="node-b")
    return story


def run(story: Story, folder: Path, *specs: str, **options: Any) -> Replay:
    """Replay a story under NetworkPolicies `p0`, `p1`, … in `shop`."""
    text = "".join(kubernetes(spec, f"p{number}") for number, spec in enumerate(specs))
    (folder / "p.yaml").write_text(text or "---\n")
    return replay(story.write(folder / "recording"), [folder / "p.yaml"], **options)


def told(findings: Sequence[Any], *fields: str) -> list[tuple[Any, ...]]:
    """Return these fields of each finding."""
    return [tuple(getattr(one, field) for field in fields) for one in findings]


def pattern(source: str, destination: str, port: int, decision: str, *reasons: str, **columns: Any) -> Pattern:
    """Return a learned pattern."""
    blank: dict[str, Any] = {
        **dict.fromkeys(("end_port", "icmp_type", "icmp_code", "period", "recurrence")),
        **dict.fromkeys(("attempts", "answered", "refused", "denied", "unanswered", "open", "first_seen"), 0),
        **dict.fromkeys(("last_seen", "windows_seen", "windows_exposed", "days", "replicas_seen"), 0),
        **dict.fromkeys(("replicas_exposed",), 0),
        **{name: [] for name in ("halves", "declared_by", "services", "dns_names")},
    }
    key = {"source": source, "destination": destination, "protocol": "tcp", "port": port}
    return Pattern(
        **blank
        | key
        | {"id": pattern_id(source, destination, "tcp", str(port)), "source_kind": "workload", "basis": "observed"}
        | {"destination_kind": "workload", "decision": decision, "reasons": list(reasons)}
        | columns
    )


def test_a_policy_that_allows_what_was_seen_passes(tmp_path: Path) -> None:
    """A policy that allows what was seen passes."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1, 61], answered=3)
    found = run(story, tmp_path, DB_FROM_WEB)
    assert (found.edges["allowed"], found.connections["allowed"], found.denied, found.failed) == (1, 6, (), False)


def test_a_tightened_rule_is_found_with_half_object_and_counts(tmp_path: Path) -> None:
    """A tightened rule is found with half object and counts."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1, 61], answered=3, refused=1)
    story.talk("shop/web-2", "shop/db-1", 5432, at=[5], answered=2)
    found = run(story, tmp_path, DB_FROM_WEB.replace("port: 5432", "port: 5433"))
    expected = ("shop/deployment/web", "shop/deployment/db", 5432, "ingress", "NetworkPolicy shop/p0", "both", 8, 10)
    fields = ("source", "destination", "port", "half", "by", "labels", "connections", "attempts")
    assert told(found.denied, *fields) == [expected]
    assert (found.denied[0].first_seen, found.denied[0].last_seen) == (moment(1), moment(61))
    assert (found.failed, found.connections["denied"]) == (True, 8)


def test_egress_is_judged_from_src_rows_and_ingress_from_dst_rows(tmp_path: Path) -> None:
    """Egress is judged from src rows and ingress from dst rows."""
    deny = "policyTypes: [Ingress, Egress]"
    for sides, halves in ((["src"], ["egress"]), (["dst"], ["ingress"]), (["src", "dst"], ["egress", "ingress"])):
        story = shop()
        story.talk("shop/web-1", "shop/db-1", 5432, at=[1], sides=sides)
        found = run(
            story, tmp_path / "-".join(sides) if (tmp_path / "-".join(sides)).mkdir() is None else tmp_path, deny
        )
        assert [one.half for one in found.denied] == halves
        assert found.connections["denied"] == 1


def test_a_row_stands_for_both_halves_where_the_other_node_cannot_vouch(tmp_path: Path) -> None:
    """A row stands for both halves where the other node cannot vouch."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1], sides=["src"])
    story.gap("node-b", [1])
    found = run(story, tmp_path, "policyTypes: [Ingress, Egress]")
    assert told(found.denied, "half", "reasons") == [("egress", ()), ("ingress", ("one-sided",))]


def test_a_capture_that_cannot_tell_stands_for_both_halves(tmp_path: Path) -> None:
    """A capture that cannot tell stands for both halves."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1], sides=["unknown"])
    found = run(story, tmp_path, "policyTypes: [Ingress, Egress]")
    assert [one.half for one in found.denied] == ["egress", "ingress"]


def test_counts_come_from_the_initiators_node_while_it_is_clean_and_else_from_the_responders(tmp_path: Path) -> None:
    """Counts come from the initiator's node while it is clean and else from the responder's."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1, 61], answered=5, sides=["src"])
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1, 61], answered=7, sides=["dst"])
    story.gap("node-a", [61])
    assert run(story, tmp_path).connections["allowed"] == 12


def test_labels_of_then_and_of_now_are_both_tried(tmp_path: Path) -> None:
    """Labels of then and of now are both tried."""
    story = shop()
    story.pod("shop/old", owner="Deployment/front", labels={"app": "front"})
    story.talk("shop/old", "shop/db-1", 5432, at=[1])
    story.pod("shop/old", owner="Deployment/front", labels={"app": "web"}, start=100)
    then = run(story, tmp_path, DB_FROM_WEB)
    assert told(then.denied, "source", "labels") == [("shop/deployment/front", "then")]
    (tmp_path / "b").mkdir()
    now = run(story, tmp_path / "b", DB_FROM_WEB.replace("app: web", "app: front"))
    assert told(now.denied, "source", "labels") == [("shop/deployment/front", "now")]


def test_a_pod_that_is_gone_has_the_labels_of_its_workloads_latest(tmp_path: Path) -> None:
    """A pod that is gone has the labels of its workload's latest."""
    story = shop()
    story.pod("shop/front-a", owner="Deployment/front", labels={"v": "1"}, end=50)
    story.talk("shop/front-a", "shop/db-1", 5432, at=[1])
    story.pod("shop/front-b", owner="Deployment/front", labels={"v": "2"}, start=60)
    found = run(story, tmp_path, DB_FROM_WEB.replace("app: web", "v: '1'"))
    assert told(found.denied, "labels") == [("now",)]


def test_labels_of_namespaces_are_those_of_the_time(tmp_path: Path) -> None:
    """Labels of namespaces are those of the time."""
    story = Story()
    story.add("Namespace", "shop", {"metadata": {"labels": {"zone": "old"}}}, end=100)
    story.add("Namespace", "shop", {"metadata": {"labels": {"zone": "new"}}}, start=100)
    story.pod("shop/web-1", labels={"app": "web"})
    story.pod("shop/db-1", labels={"app": "db"})
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    rule = "ingress: [{from: [{namespaceSelector: {matchLabels: {zone: %s}}}]}]"
    assert told(run(story, tmp_path, rule % "new").denied, "labels") == [("then",)]
    (tmp_path / "b").mkdir()
    assert told(run(story, tmp_path / "b", rule % "old").denied, "labels") == [("now",)]


def test_never_answered_edges_are_expected(tmp_path: Path) -> None:
    """Never answered edges are expected."""
    story = shop()
    story.talk("shop/batch-1", "shop/db-1", 22, at=[1], answered=0, unanswered=4)
    story.talk("shop/batch-1", "shop/db-1", 5432, at=[1], answered=0, open=1)
    found = run(story, tmp_path, DB_FROM_WEB)
    assert told(found.expected, "port", "decision", "reasons") == [(22, None, ("never-answered",))]
    assert told(found.denied, "port") == [(5432,)]


def test_what_was_rejected_or_queued_is_expected_with_its_reasons(tmp_path: Path) -> None:
    """What was rejected or queued is expected with its reasons."""
    story = shop()
    for port in (1, 2, 3, 4):
        story.talk("shop/batch-1", "shop/db-1", port, at=[1])
    story.talk("shop/batch-1", "shop/db-1", 5, at=[1], answered=0, unanswered=1)
    ends = ("shop/deployment/batch", "shop/deployment/db")
    patterns = [
        pattern(*ends, 1, "reject", "scanner"),
        pattern(*ends, 2, "queue", "one-window"),
        pattern(*ends, 3, "accept"),
        pattern(*ends, 5, "accept"),
    ]
    learned = Learned(cluster="test", subjects=(), patterns=tuple(patterns))
    found = run(story, tmp_path, DB_FROM_WEB, learned=learned)
    assert told(found.expected, "port", "decision", "reasons") == [
        (1, "reject", ("scanner",)),
        (2, "queue", ("one-window",)),
    ]
    assert told(found.denied, "port", "decision") == [(3, "accept"), (4, None), (5, "accept")]


def test_decisions_about_prefixes_and_ranges_cover_what_lies_inside(tmp_path: Path) -> None:
    """Decisions about prefixes and ranges cover what lies inside."""
    story = shop()
    story.talk("shop/web-1", "203.0.113.9", 443, at=[1])
    story.talk("shop/web-1", "198.51.100.9", 443, at=[1])
    wide = pattern(
        "shop/deployment/web", "203.0.113.0/24", 400, "queue", "wide", end_port=450, destination_kind="external"
    )
    found = run(
        story, tmp_path, "policyTypes: [Egress]", learned=Learned(cluster="test", subjects=(), patterns=(wide,))
    )
    assert told(found.expected, "destination", "decision") == [("203.0.113.9/32", "queue")]
    assert told(found.denied, "destination", "decision") == [("198.51.100.9/32", None)]


def test_a_dialled_service_is_judged_by_its_backends_of_that_time(tmp_path: Path) -> None:
    """A dialled service is judged by its backends of that time."""
    story = shop()
    story.service("shop/data", port=80, target=5432, backends=["shop/db-1"], end=100)
    story.service("shop/data", port=80, target=9999, backends=["shop/batch-1"], start=100)
    story.talk("shop/web-1", "service/shop/data", 80, at=[1], sides=["src"])
    rule = "podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress: [{ports: [{port: %d}]}]"
    found = run(story, tmp_path, rule % 5432)
    assert (found.edges["allowed"], found.denied) == (1, ())
    (tmp_path / "b").mkdir()
    found = run(story, tmp_path / "b", rule % 80)
    assert told(found.denied, "destination", "port") == [("shop/deployment/db", 5432)]


def test_backends_that_disagree_and_unknown_ones_are_undetermined(tmp_path: Path) -> None:
    """Backends that disagree and unknown ones are undetermined."""
    story = shop()
    story.service("shop/both", port=80, target=5432, backends=["shop/db-1", "shop/batch-1"])
    story.service("shop/none", port=80)
    story.talk("shop/web-1", "service/shop/both", 80, at=[1], sides=["src"])
    story.talk("shop/web-1", "service/shop/none", 80, at=[1], sides=["src"])
    rule = "policyTypes: [Egress]\negress: [{to: [{podSelector: {matchLabels: {app: db}}}]}]"
    found = run(story, tmp_path, rule)
    assert told(found.undetermined, "destination", "reason") == [
        ("shop/service/both", "service-backends"),
        ("shop/service/none", "unresolved"),
    ]


def test_deferred_ends_are_resolved_by_who_held_the_address_then(tmp_path: Path) -> None:
    """Deferred ends are resolved by who held the address then."""
    story = shop()
    story.pod("shop/short", ip="10.0.2.200", node="node-b", labels={"app": "short"}, end=50)
    story.pod("shop/next", ip="10.0.2.200", node="node-b", labels={"app": "next"}, start=60)
    for time in (10, 70):
        story.talk("shop/web-1", "deferred/10.0.2.200", 80, at=[time], sides=["src"])
    story.talk("shop/web-1", "deferred/10.0.2.201", 80, at=[1], sides=["src"])
    found = run(story, tmp_path, "policyTypes: [Egress]\negress: [{to: [{podSelector: {matchLabels: {app: next}}}]}]")
    assert told(found.denied, "destination") == [("shop/pod/short",)]
    assert told(found.undetermined, "destination", "reason") == [("unresolved/10.0.2.201", "unresolved")]


def test_probes_from_the_own_node_pass_and_other_nodes_are_undetermined(tmp_path: Path) -> None:
    """Probes from the own node pass and other nodes are undetermined."""
    story = shop()
    story.talk("node/node-b", "shop/db-1", 8080, at=[1])
    story.talk("node/node-a", "shop/db-1", 8080, at=[1])
    found = run(story, tmp_path, DB_FROM_WEB)
    assert told(found.undetermined, "source", "reason") == [("node/node-a", "node")]
    assert found.edges == {"allowed": 1, "denied": 0, "expected": 0, "undetermined": 1}


def test_a_source_rewritten_on_the_way_leaves_ingress_open(tmp_path: Path) -> None:
    """A source rewritten on the way leaves ingress open."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1], sides=["src"], snat_ip="192.168.0.1")
    story.gap("node-b", [1])
    found = run(story, tmp_path, DB_FROM_WEB)
    assert told(found.undetermined, "half", "reason") == [("ingress", "translated")]


def test_policies_of_the_recording_are_added_and_given_ones_replace_their_namesakes(tmp_path: Path) -> None:
    """Policies of the recording are added and given ones replace their namesakes."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    story.talk("shop/batch-1", "shop/db-1", 5432, at=[1])
    spec = {"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "batch"}}}]}]}
    body = {"apiVersion": "networking.k8s.io/v1", "spec": spec}
    story.add("NetworkPolicy", "shop/p0", body, end=50)
    story.add("NetworkPolicy", "shop/own", body)
    assert len(run(story, tmp_path, DB_FROM_WEB).denied) == 1
    (tmp_path / "b").mkdir()
    found = run(story, tmp_path / "b", DB_FROM_WEB, existing=True)
    assert (found.policies, found.denied) == (2, ())
    (tmp_path / "c").mkdir()
    story.objects[-1] = changed(story.objects[-1], name="p0", object=story.objects[-1].object.replace('"own"', '"p0"'))
    found = run(story, tmp_path / "c", DB_FROM_WEB, existing=True)
    assert told(found.denied, "source") == [("shop/deployment/batch",)]


def test_workloads_isolated_without_any_evidence_are_listed(tmp_path: Path) -> None:
    """Workloads isolated without any evidence are listed."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    story.workload("shop/deployment/gone", end=10)
    found = run(story, tmp_path, "podSelector: {}")
    assert [(one.workload, one.directions, one.by) for one in found.isolated] == [
        ("shop/deployment/batch", ("ingress",), ("NetworkPolicy shop/p0",))
    ]


@pytest.mark.parametrize(
    ("fail_on", "traffic", "failed"),
    [
        ("denied", "batch", True),
        ("denied", "node", False),
        ("undetermined", "node", True),
        ("undetermined", "batch", True),
        ("never", "batch", False),
    ],
)
def test_what_counts_as_a_finding(tmp_path: Path, fail_on: str, traffic: str, failed: bool) -> None:
    """What counts as a finding."""
    story = shop()
    story.talk({"batch": "shop/batch-1", "node": "node/node-a"}[traffic], "shop/db-1", 5432, at=[1])
    assert run(story, tmp_path, DB_FROM_WEB, fail_on=fail_on).failed is failed


def test_unknown_options_are_errors(tmp_path: Path) -> None:
    """Unknown options are errors."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    with pytest.raises(InputError, match="fail-on"):
        run(story, tmp_path, fail_on="always")


def test_the_json_has_the_contracts_shape(tmp_path: Path) -> None:
    """The JSON has the contract's shape."""
    story = shop()
    story.talk("shop/batch-1", "shop/db-1", 5432, at=[1])
    story.talk("shop/batch-1", "shop/db-1", None, at=[1], protocol="icmp", icmp=(8, 0))
    found = json.loads(json.dumps(run(story, tmp_path, DB_FROM_WEB).json()))
    assert found["schema_version"] == 1
    assert found["profile"] == "strict"
    assert set(found["summary"]) == {"edges", "connections"}
    assert set(found["summary"]["edges"]) == {"allowed", "denied", "expected", "undetermined"}
    fields = "source destination protocol port half by labels decision connections attempts first_seen last_seen"
    assert set(fields.split()) <= set(found["denied"][0])
    assert found["denied"][0]["first_seen"] == "2026-03-02T00:00:01.000000Z"
    assert (found["undetermined"][0]["icmp"], found["undetermined"][0]["port"]) == ("8/0", None)
    assert found["expected"] == []


def test_the_order_of_rows_and_files_makes_no_difference(tmp_path: Path) -> None:
    """The order of rows and files makes no difference."""
    story = shop()
    for number in range(40):
        story.talk(f"shop/web-{number % 2 + 1}", "shop/db-1", 5400 + number % 7, at=[number * 30])
    found = []
    for name, rows in (("a", story.flows), ("b", story.flows[::-1])):
        (tmp_path / name).mkdir()
        story.flows = rows
        run(story, tmp_path / name, DB_FROM_WEB)
        found.append(replay(tmp_path / name / "recording", [tmp_path / "a" / "p.yaml"]).json())
    assert found[0] == found[1]


DATA_FROM_WEB = """
podSelector: {matchLabels: {app: web}}
policyTypes: [Egress]
egress: [{to: [{podSelector: {matchLabels: {%s}}}], ports: [{port: 5432}]}]
"""


@pytest.mark.parametrize(
    ("peer", "outcome"),
    [
        ("app: db", "allowed"),
        # All pods behind the Service have this label, yet the Service itself does not ask for it.
        ("tier: data", "denied"),
    ],
)
def test_an_engine_that_judges_before_translation_sees_the_service(tmp_path: Path, peer: str, outcome: str) -> None:
    """AWS opens a ClusterIP to rules that its selector satisfies (amazon-network-policy-controller-k8s, endpoints.go)."""
    story = Story()
    story.workload("shop/deployment/web")
    story.pod("shop/db-1", labels={"app": "db", "tier": "data"}, ports=[("pg", 5432, "TCP")])
    story.service("shop/data", port=80, target=5432, selector={"app": "db"}, backends=["shop/db-1"])
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1], service="shop/data")
    edges = {
        name: run(story, place(tmp_path, name), DATA_FROM_WEB % peer, profile=name).edges for name in ("aws", "calico")
    }
    assert (edges["aws"][outcome], edges["calico"]["allowed"]) == (1, 1)


def test_a_block_opens_what_was_dialled_where_the_engine_judges_before_translation(tmp_path: Path) -> None:
    """There a block must hold the ClusterIP and its port, elsewhere the responder's address and port."""
    story = shop()
    story.service("shop/data", port=80, target=5432, selector={"app": "db"}, backends=["shop/db-1"])
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1], service="shop/data")
    rule = "podSelector: {matchLabels: {app: web}}\npolicyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 10.96.0.0/16}}], ports: [{port: 80}]}]"
    found = {name: run(story, place(tmp_path, name), rule, profile=name).edges for name in ("aws", "calico")}
    assert (found["aws"]["allowed"], found["calico"]["denied"]) == (1, 1)


def test_what_was_dialled_straight_as_well_is_judged_both_ways(tmp_path: Path) -> None:
    """An edge that led through a Service and past it is denied when either way is."""
    story = Story()
    story.workload("shop/deployment/web")
    story.pod("shop/db-1", labels={"app": "db", "tier": "data"}, ports=[("pg", 5432, "TCP")])
    story.service("shop/data", port=80, target=5432, selector={"app": "db"}, backends=["shop/db-1"])
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1], service="shop/data")
    story.talk("shop/web-1", "shop/db-1", 5432, at=[2])
    assert run(story, place(tmp_path, "a"), DATA_FROM_WEB % "tier: data", profile="aws").edges["denied"] == 1
    assert run(story, place(tmp_path, "b"), DATA_FROM_WEB % "app: db", profile="aws").edges["allowed"] == 1


def test_edges_that_pass_only_because_of_another_policy_are_named(tmp_path: Path) -> None:
    """With the recording's own policies, what the given ones alone would deny is listed with what lets it pass."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    spec = {"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"ports": [{"port": 5432}]}]}
    story.add("NetworkPolicy", "shop/own", {"apiVersion": "networking.k8s.io/v1", "spec": spec})
    found = run(story, tmp_path, "podSelector: {matchLabels: {app: db}}", existing=True)
    assert found.edges["allowed"] == 1
    assert told(found.borrowed, "half", "by") == [("ingress", "NetworkPolicy shop/own ingress[0]")]


def test_what_tightening_an_enforced_policy_breaks_is_told(tmp_path: Path) -> None:
    """A policy that replaces its namesake is compared with it: the changes name both deciders."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1], answered=3)
    spec = {"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{}]}
    story.add("NetworkPolicy", "shop/p0", {"apiVersion": "networking.k8s.io/v1", "spec": spec})
    found = run(story, tmp_path, "podSelector: {matchLabels: {app: db}}", existing=True)
    assert told(found.changes or (), "before", "after", "before_by", "after_by", "connections") == [
        ("allowed", "denied", "NetworkPolicy shop/p0 ingress[0]", "NetworkPolicy shop/p0", 3)
    ]


def test_what_deleting_an_enforced_policy_breaks_is_told(tmp_path: Path) -> None:
    """A staged deletion takes its policy away, which Calico's staged mode cannot preview (felix: not sent to Felix at all)."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    deny = {"podSelector": {"matchLabels": {"app": "db"}}}
    allow = deny | {"ingress": [{"ports": [{"port": 5432}]}]}
    for name, spec in (("deny", deny), ("allow", allow)):
        story.add("NetworkPolicy", f"shop/{name}", {"apiVersion": "networking.k8s.io/v1", "spec": spec})
    (tmp_path / "p.yaml").write_text(
        "apiVersion: projectcalico.org/v3\nkind: StagedKubernetesNetworkPolicy\n"
        "metadata: {name: allow, namespace: shop}\nspec: {stagedAction: Delete}\n"
    )
    found = replay(story.write(tmp_path / "recording"), [tmp_path / "p.yaml"], existing=True)
    assert told(found.changes or (), "before", "after", "before_by", "after_by") == [
        ("allowed", "denied", "NetworkPolicy shop/allow ingress[0]", "NetworkPolicy shop/deny")
    ]


def test_two_sets_are_compared_over_the_same_traffic(tmp_path: Path) -> None:
    """Only the halves that fare differently are listed, in both directions of change."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    story.talk("shop/batch-1", "shop/db-1", 5432, at=[1])
    (tmp_path / "old.yaml").write_text(kubernetes(DB_FROM_WEB.replace("app: web", "app: batch")))
    found = run(story, tmp_path, DB_FROM_WEB, against=[tmp_path / "old.yaml"])
    assert told(found.changes or (), "source", "half", "before", "after") == [
        ("shop/deployment/batch", "ingress", "allowed", "denied"),
        ("shop/deployment/web", "ingress", "denied", "allowed"),
    ]


def test_a_denial_names_the_nearest_rule_and_what_it_misses(tmp_path: Path) -> None:
    """The rule that only its peer or only its traffic keeps from allowing is named."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 9999, at=[1])
    story.talk("shop/batch-1", "shop/db-1", 5432, at=[1])
    story.talk("shop/batch-1", "shop/db-1", 9999, at=[1])
    found = run(story, tmp_path, DB_FROM_WEB)
    assert told(found.denied, "source", "port", "nearest", "misses") == [
        ("shop/deployment/batch", 5432, "NetworkPolicy shop/p0 ingress[0]", "peer"),
        ("shop/deployment/batch", 9999, None, None),
        ("shop/deployment/web", 9999, "NetworkPolicy shop/p0 ingress[0]", "traffic"),
    ]


def test_what_an_engine_skips_and_what_is_more_than_l4_is_told(tmp_path: Path) -> None:
    """Objects that an engine skips whole are listed, so that its silence is no surprise."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    found = run(story, tmp_path, "podSelector: {}\ningress: [{ports: [{port: pg}]}]", profile="npm-windows")
    assert (found.edges["allowed"], [(one.object, one.what) for one in found.unjudged]) == (
        1,
        [("NetworkPolicy shop/p0", "npm-windows skips it: named-port")],
    )


def place(folder: Path, name: str) -> Path:
    """Make a folder inside another and return it."""
    (folder / name).mkdir()
    return folder / name


DENY_ALL = "podSelector: {}\npolicyTypes: [Ingress, Egress]\n"


def without(story: Story, pod: str) -> Story:
    """Take the identities of a pod out of a story."""
    story.identities = [one for one in story.identities if one.pod != pod]
    return story


def test_a_responder_that_nobody_knows_is_undetermined_under_isolation(tmp_path: Path) -> None:
    """A half whose own pod has no identity is not called allowed where policies isolate that direction."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    found = run(without(story, "db-1"), tmp_path, "podSelector: {matchLabels: {app: db}}\npolicyTypes: [Ingress]")
    assert told(found.undetermined, "half", "reason") == [("ingress", "unresolved")]


@pytest.mark.parametrize("kind", ["unresolved", "ambiguous", "overflow"])
def test_an_initiator_that_nobody_knows_is_undetermined_under_isolation(tmp_path: Path, kind: str) -> None:
    """An edge of which no half can be judged is not counted as allowed."""
    story = shop()
    story.talk(f"{kind}/10.0.1.50", "shop/db-1", 5432, at=[1], sides=["dst"])
    story.flows = [changed(flow, reporter="src", node="node-a") for flow in story.flows]
    found = run(story, tmp_path, DENY_ALL)
    assert (found.edges["allowed"], told(found.undetermined, "half", "reason")) == (0, [("egress", "unresolved")])


def test_what_nobody_knows_is_allowed_where_nothing_isolates(tmp_path: Path) -> None:
    """Without a policy in that direction there is no doubt about an unknown end."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    found = run(without(story, "db-1"), tmp_path, "podSelector: {}\npolicyTypes: [Egress]\negress: [{}]")
    assert found.edges["allowed"] == 1


def test_a_capture_that_cannot_tell_stands_for_the_half_behind_a_service(tmp_path: Path) -> None:
    """An answered row of reporter unknown towards a Service is judged at the backend, too."""
    story = shop()
    story.service("shop/db", port=5432, backends=["shop/db-1"])
    story.talk("shop/web-1", "service/shop/db", 5432, at=[1], sides=["unknown"])
    found = run(story, tmp_path, "podSelector: {matchLabels: {app: db}}\npolicyTypes: [Ingress]")
    assert told(found.denied, "destination", "half") == [("shop/deployment/db", "ingress")]


def test_a_pod_behind_a_service_that_nobody_knows_is_undetermined(tmp_path: Path) -> None:
    """A backend whose pod has no identity is not judged as an address outside the cluster."""
    story = shop()
    story.service("shop/db", port=5432, backends=["shop/db-1"])
    story.talk("shop/web-1", "service/shop/db", 5432, at=[1], sides=["src"])
    to_range = "podSelector: {}\npolicyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]"
    found = run(without(story, "db-1"), tmp_path, to_range)
    assert told(found.undetermined, "half", "reason") == [("egress", "unresolved")]


def test_an_address_held_by_two_during_a_row_is_ambiguous(tmp_path: Path) -> None:
    """A deferred end that changed hands within the row's time is nobody's, as it is to the learner."""
    story = shop()
    story.pod("shop/x-1", owner="Deployment/x", labels={"app": "web"}, ip="10.0.1.99", end=30)
    story.pod("shop/y-1", owner="Deployment/y", labels={"app": "y"}, ip="10.0.1.99", start=30)
    story.talk("deferred/10.0.1.99", "shop/db-1", 5432, at=[1], sides=["dst"])
    story.flows = [changed(flow, last_seen=moment(50)) for flow in story.flows]
    found = run(story, tmp_path, DB_FROM_WEB)
    assert told(found.undetermined, "source", "reason") == [("ambiguous/10.0.1.99", "unresolved")]


def test_owners_are_named_as_the_learner_names_them(tmp_path: Path) -> None:
    """A pod recorded under its ReplicaSet is its Deployment's, so that decisions about it are found."""
    story = shop()
    above = [{"kind": "Deployment", "name": "api", "controller": True}]
    story.add("ReplicaSet", "shop/api-5f", {"metadata": {"ownerReferences": above}})
    story.pod("shop/api-1", owner="ReplicaSet/api-5f", labels={"app": "api"})
    story.talk("shop/api-1", "shop/db-1", 5432, at=[1])
    place = story.write(tmp_path / "learned-from")
    found = run(story, tmp_path, DENY_ALL, learned=learn(place))
    assert {(one.source, one.decision) for one in found.expected} == {("shop/deployment/api", "queue")}


def test_a_decision_about_one_icmp_type_says_nothing_about_another(tmp_path: Path) -> None:
    """A queued echo does not excuse that a timestamp request is blocked."""
    story = shop()
    story.talk("shop/web-1", "203.0.113.9", None, at=[1], protocol="icmp", icmp=(13, 0))
    columns: dict[str, Any] = {"protocol": "icmp", "icmp_type": 8, "icmp_code": 0, "destination_kind": "external"}
    echo = changed(pattern("shop/deployment/web", "203.0.113.9/32", 0, "queue", **columns), port=None)
    found = run(story, tmp_path, DENY_ALL, learned=Learned("test", (), (echo,)), profile="npm")
    assert told(found.denied, "icmp", "decision") == [("13/0", None)]


def test_policies_of_a_recording_made_in_two_parts_count_once(tmp_path: Path) -> None:
    """Of an object that several parts of a recording hold, the last version is what stood at its end."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}}}
    story.add("NetworkPolicy", "shop/own", body)
    story.write(tmp_path / "recording")
    story.add("NetworkPolicy", "shop/own", body | {"spec": {"podSelector": {"matchLabels": {"app": "web"}}}}, start=30)
    story.talk("shop/web-1", "shop/db-1", 5432, at=[61])
    assert run(story, tmp_path, existing=True).edges["allowed"] == 1


def test_rows_of_one_identity_add_up_in_any_order(tmp_path: Path) -> None:
    """Which of two equally old rows of a pod is read first makes no difference to its ports, owner or node."""
    found = []
    for turn in (1, -1):
        story = shop()
        story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
        [own] = [one for one in story.identities if one.pod == "db-1"]
        poor = changed(own, ports=[], node="", service_account="", owner_kind="ReplicaSet", owner_name="db-5f")
        story.identities = [*story.identities, poor][::turn]
        population = Population.of(Recording.open(story.write(tmp_path / str(turn))))
        found.append(population.pods[own.id])
    assert found[0] == found[1]
    assert (found[0].workload, found[0].node, found[0].ports) == (
        "shop/deployment/db",
        "node-b",
        (ContainerPort("", 5432, "tcp"),),
    )


def test_answers_that_lost_an_end_make_a_window_unclean_here_as_in_the_learner(tmp_path: Path) -> None:
    """Where a node left answered ends unresolved beyond the threshold, rows of the other side stand for its half."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1], sides=["src"])
    story.talk("deferred/10.0.9.9", "shop/db-1", 5432, at=[2], sides=["dst"])
    found = run(story, tmp_path, "podSelector: {matchLabels: {app: db}}\npolicyTypes: [Ingress]")
    assert ("shop/deployment/web", "ingress", ("one-sided",)) in told(found.denied, "source", "half", "reasons")


def test_a_recording_that_is_damaged_inside_is_named(tmp_path: Path) -> None:
    """A page that cannot be decoded is the recording's fault, told in one line."""
    story = shop()
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    place = story.write(tmp_path / "recording")
    (file,) = (place / "flows").rglob("*.parquet")
    content = bytearray(file.read_bytes())
    content[4:400] = bytes(396)
    file.write_bytes(content)
    with pytest.raises(RecordingError, match=r"recording: cannot be read: \S[^\n]*\Z"):
        replay(place, [])


def test_a_service_whose_backend_was_not_seen_is_judged_before_translation_as_well(tmp_path: Path) -> None:
    """Where only the Service was seen, an engine that judges before translation still judges what was dialled."""
    story = shop()
    story.service("shop/data", port=80, target=5432, selector={"app": "db"}, backends=["shop/db-1"])
    story.talk("shop/web-1", "service/shop/data", 80, at=[1], sides=["src"], service="shop/data")
    story.talk("shop/web-2", "shop/db-1", 5432, at=[1], service="shop/data")
    found = {
        peer: run(story, place(tmp_path, peer[-3:].strip()), DATA_FROM_WEB % peer, profile="aws")
        for peer in ("app: db", "app: other")
    }
    assert (found["app: db"].edges["allowed"], found["app: other"].edges["denied"]) == (1, 1)


def test_the_endpoints_of_a_service_are_who_they_are(tmp_path: Path) -> None:
    """Those of `default/kubernetes` are the API server, addresses of nodes are nodes, and others are outside."""
    story = shop()
    node = story.node("node-a")
    for name, address in (("default/kubernetes", "10.9.9.9"), ("shop/host", node), ("shop/out", "203.0.113.5")):
        story.service(name, port=443)
        namespace, short = name.split("/")
        body = {
            "metadata": {"labels": {"kubernetes.io/service-name": short}},
            "endpoints": [{"addresses": [address]}],
            "ports": [{"name": "main", "port": 443, "protocol": "TCP"}],
        }
        story.add("EndpointSlice", f"{namespace}/{short}-more", body)
    people = Population.of(Recording.open(talking(story).write(tmp_path / "recording")))
    found = {name: [(one.kind, one.id) for one in people.backends(name, 443, "tcp")] for name in story.services}
    assert found == {
        "default/kubernetes": [("apiserver", None)],
        "shop/host": [("node", "node-a")],
        "shop/out": [("external", None)],
    }


def talking(story: Story) -> Story:
    """Return the story with one connection in it, for a recording must hold one."""
    story.talk("shop/web-1", "shop/db-1", 5432, at=[1])
    return story
