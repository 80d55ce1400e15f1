"""The whole loop on the shop, live and from the bundled capture, held against what the shop's own sockets say."""

import ipaddress
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import generator
from tests.judge import judge
from tests.shop_runs import SCANNER, Run, attempts_by_pods

pytestmark = pytest.mark.xdist_group("shop")


@pytest.fixture(
    scope="module",
    params=["bundled", pytest.param("live", marks=pytest.mark.lab)],
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Give a finished run of the demo."""
    place = tmp_path_factory.mktemp("shop") / "demo"
    command = [sys.executable, "-m", "podfence", "demo", "--out", str(place)]
    done = subprocess.run(
        [*command, *(["--bundled"] if request.param == "bundled" else [])],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield Run(place, done.stdout + done.stderr, done.returncode)
    shutil.rmtree(place)


def test_every_attempt_of_a_pod_is_recorded_once_with_its_outcome(run: Run) -> None:
    """The recording's `src` rows and the sockets agree, pod by pod, target by target, count by count."""
    recorded: Counter[tuple[Any, ...]] = Counter()
    for row in run.recording.read("flows").to_pylist():
        if row["reporter"] == "src" and row["protocol"] == "tcp":
            dialled = (row["dialled_ip"] or row["dst_ip"], row["dialled_port"] or row["dst_port"])
            for outcome, name in (("answered", "answered"), ("refused", "refused"), ("unanswered", "timeout")):
                recorded[row["src_id"].split("/")[0], *dialled, name] += row[outcome]
            assert not row["denied"]
    assert +recorded == attempts_by_pods(run.truth)


def test_the_backend_of_every_answered_connection_is_the_pod_that_accepted_it(run: Run) -> None:
    """Through Services, across nodes and after the rollout: wrong attributions 0, on both sides."""
    accepted = Counter(
        (attempt["source"]["uid"], attempt["backend"]["uid"], attempt["backend"]["port"])
        for attempt in run.truth
        if attempt["protocol"] == "tcp" and attempt["backend"] and attempt["source"]["kind"] == "pod"
    )
    for reporter in ("src", "dst"):
        recorded: Counter[tuple[Any, ...]] = Counter()
        for row in run.recording.read("flows").to_pylist():
            pods = row["src_kind"] == row["dst_kind"] == "pod"
            if pods and row["reporter"] == reporter and row["protocol"] == "tcp" and row["answered"]:
                ends = (row["src_id"].split("/")[0], row["dst_id"].split("/")[0])
                recorded[*ends, row["dst_port"]] += row["answered"]
        assert recorded == accepted


def test_the_learner_accepts_the_true_edges_and_nothing_else(run: Run) -> None:
    """Every connection that worked, but the scanner's, becomes a pattern; nothing else is accepted."""
    accepted = {
        (pattern.source, pattern.destination, pattern.protocol, pattern.port)
        for pattern in run.learned.patterns
        if pattern.decision == "accept"
    }
    assert accepted == run.true_edges


def test_the_scanner_is_rejected_with_a_reason_though_some_ports_answered(run: Run) -> None:
    """It got answers, and none of them counts."""
    answered = [
        attempt for attempt in run.truth if attempt["source"]["workload"] == SCANNER and attempt["result"] == "answered"
    ]
    patterns = [pattern for pattern in run.learned.patterns if pattern.source == SCANNER]
    assert answered
    assert any(pattern.answered for pattern in patterns)
    assert {pattern.decision for pattern in patterns} == {"reject"}
    assert all("flagged-source" in pattern.reasons for pattern in patterns)


def test_the_client_of_a_dead_backend_is_not_taken_for_a_scanner(run: Run) -> None:
    """Many failures at one destination are one failed contact."""
    patterns = {
        pattern.destination: pattern for pattern in run.learned.patterns if pattern.source == "shop/deployment/suggest"
    }
    assert patterns["shop/service/search"].reasons == ["never-answered"]
    assert patterns["kube-system/deployment/coredns"].decision == "accept"


def test_both_owners_of_the_reused_address_are_kept_apart(run: Run) -> None:
    """Each owner's rows carry its own connections only, although the address is the same."""
    users: dict[str, set[str]] = {}
    for attempt in run.truth:
        if attempt["source"]["kind"] == "pod":
            users.setdefault(attempt["source"]["ip"], set()).add(attempt["source"]["workload"])
    reused = {ip: owners for ip, owners in users.items() if len(owners) > 1}
    assert list(reused.values()) == [{"shop/deployment/web", "shop/deployment/orders"}]
    for ip in reused:
        assert ip in run.printed


def test_the_cronjobs_edge_is_there_though_its_pod_was_gone_before_the_api_showed_it(run: Run) -> None:
    """It talks for milliseconds, before its address is in any event."""
    found = {
        (pattern.destination, pattern.port): pattern.decision
        for pattern in run.learned.patterns
        if pattern.source == "shop/cronjob/report"
    }
    assert found == {("shop/statefulset/db", 5432): "accept", ("kube-system/deployment/coredns", 53): "accept"}


@pytest.mark.parametrize("target", ["kubernetes", "calico"])
def test_every_workload_of_the_shop_has_its_policy_and_every_namespace_its_default_deny(run: Run, target: str) -> None:
    """All but the scanner, which has nothing to be allowed, and the cluster's own DNS."""
    policies = run.place / "policies" / target
    found = {file.relative_to(policies).as_posix() for file in policies.rglob("*.yaml")} - {"kustomization.yaml"}
    workloads = {subject.workload for subject in run.learned.subjects} - {SCANNER, "kube-system/deployment/coredns"}
    expected = {f"{namespace}/{kind}-{name}.yaml" for namespace, kind, name in (one.split("/") for one in workloads)}
    assert found == expected | {f"{namespace}/default-deny.yaml" for namespace in ("ingress", "monitoring", "shop")}
    for file in found:
        assert yaml.safe_load((policies / file).read_text())["kind"] == "NetworkPolicy"


@pytest.mark.parametrize("target", ["kubernetes", "calico"])
def test_replay_has_no_finding_and_lists_the_scanner_as_expected(run: Run, target: str) -> None:
    """What would be blocked is exactly what was rejected."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "podfence", "replay", str(run.place / "recording")),
            *(
                "--policies",
                str(run.place / "policies" / target),
                "--learned",
                str(run.place / "learned"),
                "-o",
                "json",
            ),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    verdict = json.loads(done.stdout)
    assert (done.returncode, verdict["denied"], verdict["undetermined"]) == (0, [], [])
    assert {finding["source"] for finding in verdict["expected"]} == {SCANNER, "shop/deployment/suggest"}
    assert {finding["decision"] for finding in verdict["expected"]} == {"reject"}


@pytest.mark.parametrize("target", ["kubernetes", "calico"])
def test_without_any_one_rule_replay_finds_exactly_what_it_served(run: Run, target: str, tmp_path: Path) -> None:
    """Take one peer away from one policy: the edges it served are denied and no others."""
    shutil.copytree(run.place / "policies" / target, tmp_path / "policies")
    file = tmp_path / "policies" / "shop" / "deployment-cart.yaml"
    policy = yaml.safe_load(file.read_text())
    policy["spec"]["egress"] = [rule for rule in policy["spec"]["egress"] if "5432" not in json.dumps(rule)]
    file.write_text(yaml.safe_dump(policy))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "podfence", "replay", str(run.place / "recording")),
            *("--policies", str(tmp_path / "policies"), "--learned", str(run.place / "learned"), "-o", "json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    denied = {
        (one["source"], one["destination"], one["port"], one["half"]) for one in json.loads(done.stdout)["denied"]
    }
    assert done.returncode == 1
    assert denied == {("shop/deployment/cart", "shop/statefulset/db", 5432, "egress")}


def test_the_branch_has_one_commit_with_the_policies(run: Run) -> None:
    """A second proposal of the same policies writes nothing."""
    repo = run.place / "repo"

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(repo), *words], capture_output=True, text=True, check=True).stdout

    assert git("rev-list", "--count", "main..podfence/shop").strip() == "1"
    files = set(git("ls-tree", "-r", "--name-only", "podfence/shop").split())
    assert {"policies/shop/deployment-web.yaml", "policies/kustomization.yaml"} <= files
    assert "proposed again: nothing new" in run.printed
    assert git("status", "--porcelain") == ""


OWNERS = ("Deployment", "StatefulSet", "CronJob")


def topology(run: Run, denied: Sequence[str]) -> list[dict[str, Any]]:
    """Return the shop's namespaces, owners and bare pods, and a bystander in each namespace with a default-deny."""
    items = yaml.safe_load((run.place / "inventory.yaml").read_text())["items"]
    kept = [
        item
        for item in items
        if item["kind"] in ("Namespace", *OWNERS)
        or (item["kind"] == "Pod" and "ownerReferences" not in item["metadata"])
    ]
    bystanders = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "bystander", "namespace": namespace, "labels": {"app": "bystander"}},
            "spec": {"containers": [{"name": "idle", "image": "idle"}]},
        }
        for namespace in denied
    ]
    return kept + bystanders


def workload(pod: str, objects: list[dict[str, Any]]) -> str:
    """Return the workload that the judge made a pod for (`shop/web-1` of Deployment `web`), or the prefix of an address."""
    namespace, _, name = pod.partition("/")
    for item in objects:
        metadata = item["metadata"]
        if metadata.get("namespace") == namespace and name in (
            metadata["name"],
            *(f"{metadata['name']}-{n}" for n in range(9)),
        ):
            return f"{namespace}/{item['kind'].lower()}/{metadata['name']}"
    return f"{ipaddress.ip_address(pod)}/32"


@pytest.mark.parametrize("target", ["kubernetes", "calico"])
def test_an_independent_judge_reads_exactly_the_true_edges_from_the_policies(
    run: Run, target: str, tmp_path: Path
) -> None:
    """network-config-analyzer, given the emitted YAML and the cluster's objects: no edge less, no edge more."""
    learned = run.learned
    policies = generator.generate(learned, target=target, default_deny=True, include_namespaces=["kube-system"])
    files = generator.render(policies, learned, target)
    objects = topology(run, policies.default_deny)
    verdicts = judge(tmp_path, objects, {target: files})[target]
    assert verdicts.policies == len(policies.policies) + len(policies.default_deny) == 9 + 4
    assert None not in verdicts.allowed.values(), "somebody may do everything"
    allowed = {
        (workload(source, objects), workload(destination, objects), protocol, port)
        for (source, destination), connections in verdicts.allowed.items()
        for protocol, port in connections or ()
    }
    assert allowed == run.true_edges
