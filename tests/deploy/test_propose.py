"""Proposals on real repositories: one branch, one commit, the user's checkout untouched, nobody's work forced."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import Replay, propose
from deploy.findings import Change, Finding, Isolated, Unjudged
from deploy.propose.markdown import code
from generator import generate, render
from recorder.errors import InputError, OutputError
from tests.deploy.world import kubernetes
from tests.generator.worlds import world

ONE = kubernetes("ingress: [{ports: [{port: 80}]}]", "one")


@pytest.fixture(autouse=True)
def quiet_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's git configuration out."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    for role in ("AUTHOR", "COMMITTER"):
        for field in ("NAME", "EMAIL"):
            monkeypatch.delenv(f"GIT_{role}_{field}", raising=False)


def git(
    repo: Path, *arguments: str, config: tuple[str, ...] = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
) -> str:
    """Run git and return what it prints."""
    done = subprocess.run(["git", "-C", str(repo), *config, *arguments], capture_output=True, check=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Return a repository with one commit, a staged and an unstaged change."""
    place = tmp_path / "repo"
    place.mkdir()
    git(place, "init", "-q", "-b", "main")
    (place / "README").write_text("hello\n")
    git(place, "add", ".")
    git(place, "commit", "-q", "-m", "first")
    (place / "staged").write_text("s")
    git(place, "add", "staged")
    (place / "README").write_text("changed\n")
    return place


def policies(folder: Path, files: Mapping[str, str] | None = None) -> Path:
    """Write a folder of policies and return it."""
    place = folder / "policies"
    for name, text in (files or {"shop/one.yaml": ONE, "kustomization.yaml": "resources: []\n"}).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return place


def state(repo: Path) -> tuple[str, str, str]:
    """Return everything of a repository that a proposal may not touch."""
    return git(repo, "status", "--porcelain"), git(repo, "rev-parse", "HEAD"), git(repo, "for-each-ref")


def listing(repo: Path, branch: str) -> list[str]:
    """Return the files of a commit."""
    return git(repo, "ls-tree", "-r", "--name-only", branch).splitlines()


def test_a_proposal_is_one_commit_on_its_own_branch(repo: Path, tmp_path: Path) -> None:
    """A proposal is one commit on its own branch."""
    before = git(repo, "status", "--porcelain")
    found = propose(policies(tmp_path), repo)
    assert (found.operation, found.branch) == ("created", "podfence/policies")
    assert listing(repo, found.branch) == ["README", "policies/kustomization.yaml", "policies/shop/one.yaml"]
    assert git(repo, "rev-list", "--count", f"main..{found.branch}") == "1"
    assert git(repo, "show", f"{found.branch}:policies/shop/one.yaml") == ONE.strip()
    assert git(repo, "status", "--porcelain") == before
    assert git(repo, "log", "-1", "--format=%s", found.branch) == "Network policies: 1 added"


def test_twice_is_nothing(repo: Path, tmp_path: Path) -> None:
    """Twice is nothing."""
    first = propose(policies(tmp_path), repo)
    before = state(repo)
    again = propose(tmp_path / "policies", repo)
    assert (again.operation, again.commit) == ("none", None)
    assert state(repo) == before
    assert again.body == first.body


def test_policies_that_the_base_has_already_are_nothing(repo: Path, tmp_path: Path) -> None:
    """Policies that the base has already are nothing."""
    found = propose(policies(tmp_path), repo)
    git(repo, "stash", "-q")
    git(repo, "merge", "-q", "--ff-only", found.branch)
    git(repo, "branch", "-D", "-q", found.branch)
    before = state(repo)
    assert propose(tmp_path / "policies", repo).operation == "none"
    assert state(repo) == before


def test_an_update_replaces_the_commit_and_removes_what_vanished(repo: Path, tmp_path: Path) -> None:
    """An update replaces the commit and removes what vanished."""
    place = policies(tmp_path, {"a.yaml": ONE, "b.yaml": kubernetes("{}", "two")})
    first = propose(place, repo)
    (place / "b.yaml").unlink()
    (place / "a.yaml").write_text(ONE.replace("80", "81"))
    second = propose(place, repo)
    assert (second.operation, second.branch) == ("updated", first.branch)
    assert listing(repo, second.branch) == ["README", "policies/a.yaml"]
    assert git(repo, "rev-list", "--count", f"main..{second.branch}") == "1"


def test_files_that_vanished_since_the_base_are_removed_and_named(repo: Path, tmp_path: Path) -> None:
    """Files that vanished since the base are removed and named."""
    place = policies(tmp_path, {"a.yaml": ONE, "b.yaml": kubernetes("{}", "two")})
    git(repo, "stash", "-q")
    git(repo, "merge", "-q", propose(place, repo).branch)
    (place / "b.yaml").unlink()
    (place / "a.yaml").write_text(ONE.replace("80", "81"))
    found = propose(place, repo)
    assert [(change.file, change.what, change.rules_added, change.rules_removed) for change in found.changes.files] == [
        ("a.yaml", "changed", 1, 1),
        ("b.yaml", "removed", 0, 0),
    ]
    assert listing(repo, found.branch) == ["README", "policies/a.yaml"]
    assert git(repo, "rev-parse", f"{found.branch}^") == git(repo, "rev-parse", "main")


def test_a_branch_that_somebody_else_committed_to_is_never_forced(repo: Path, tmp_path: Path) -> None:
    """A branch that somebody else committed to is never forced."""
    place = policies(tmp_path)
    branch = propose(place, repo).branch
    tree = git(repo, "rev-parse", "main^{tree}")
    commit = git(repo, "commit-tree", tree, "-p", branch, "-m", "by hand")
    git(repo, "update-ref", f"refs/heads/{branch}", commit)
    (place / "shop" / "one.yaml").write_text(ONE.replace("80", "81"))
    with pytest.raises(OutputError, match=f"{commit[:12]} by Ann, which podfence did not write"):
        propose(place, repo)
    assert git(repo, "rev-parse", branch) == commit


def test_an_amended_commit_is_somebody_elses_though_it_kept_the_trailers(repo: Path, tmp_path: Path) -> None:
    """An amended commit is somebody else's though it kept the trailers."""
    place = policies(tmp_path)
    branch = propose(place, repo).branch
    message = git(repo, "log", "-1", "--format=%B", branch)
    commit = git(repo, "commit-tree", git(repo, "rev-parse", "main^{tree}"), "-p", "main", "-m", message)
    git(repo, "update-ref", f"refs/heads/{branch}", commit)
    with pytest.raises(OutputError, match="which podfence did not write"):
        propose(place, repo)


def test_a_branch_that_is_checked_out_is_left_alone(repo: Path, tmp_path: Path) -> None:
    """A branch that is checked out is left alone."""
    place = policies(tmp_path)
    branch = propose(place, repo).branch
    git(repo, "stash", "-q")
    git(repo, "checkout", "-q", branch)
    (place / "shop" / "one.yaml").write_text(ONE.replace("80", "81"))
    with pytest.raises(OutputError, match="is checked out"):
        propose(place, repo, base="main")


def test_bare_repositories_and_folders_deep_inside(repo: Path, tmp_path: Path) -> None:
    """Bare repositories and folders deep inside."""
    bare = tmp_path / "bare.git"
    git(repo, "clone", "-q", "--bare", str(repo), str(bare))
    found = propose(policies(tmp_path), bare, path="clusters/prod/net", branch="net")
    assert found.operation == "created"
    assert "clusters/prod/net/shop/one.yaml" in listing(bare, "net")


def test_a_repository_without_commits_begins_with_the_proposal(tmp_path: Path) -> None:
    """A repository without commits begins with the proposal."""
    place = tmp_path / "empty"
    place.mkdir()
    git(place, "init", "-q", "-b", "main")
    found = propose(policies(tmp_path), place)
    assert (found.operation, found.base) == ("created", None)
    assert git(place, "rev-list", "--count", found.branch) == "1"
    assert propose(tmp_path / "policies", place).operation == "none"


def test_the_author_is_gits_or_podfence_where_git_has_none(repo: Path, tmp_path: Path) -> None:
    """The author is git's or podfence where git has none."""
    place = policies(tmp_path)
    propose(place, repo, branch="a")
    assert git(repo, "log", "-1", "--format=%an <%ae> %cn", "a") == "podfence <podfence@localhost> podfence"
    git(repo, "config", "user.name", "Bo")
    git(repo, "config", "user.email", "bo@example.com")
    propose(place, repo, branch="b")
    assert git(repo, "log", "-1", "--format=%an <%ae> %cn", "b") == "Bo <bo@example.com> Bo"


def test_running_inside_a_hook_of_another_repository_changes_nothing_there(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running inside a hook of another repository changes nothing there."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert propose(policies(tmp_path), repo).operation == "created"
    assert not (tmp_path / "index").exists()


def test_the_branch_is_named_after_the_cluster(repo: Path, tmp_path: Path) -> None:
    """The branch is named after the cluster."""
    place = policies(tmp_path, {"a.yaml": ONE, ".podfence/evidence.json": json.dumps({"cluster": "aks west:1"})})
    found = propose(place, repo)
    assert found.branch == "podfence/aks-west-1"
    assert "policies/.podfence/evidence.json" in listing(repo, found.branch)


@pytest.mark.parametrize("path", ["", ".", "/etc", "../x", "a/../..", ".git", "a/.GIT/hooks"])
def test_a_path_outside_the_repository_or_all_of_it_is_an_error(repo: Path, tmp_path: Path, path: str) -> None:
    """A path outside the repository or all of it is an error."""
    with pytest.raises(InputError, match="no folder inside the repository"):
        propose(policies(tmp_path), repo, path=path)


def test_errors_are_one_line(repo: Path, tmp_path: Path) -> None:
    """Errors are one line."""
    place = policies(tmp_path)
    (tmp_path / "plain").mkdir()
    (tmp_path / "void").mkdir()
    calls = [
        ({"policies": place, "repo": tmp_path / "plain"}, "not a git repository"),
        ({"policies": place, "repo": tmp_path / "gone"}, "no such folder"),
        ({"policies": tmp_path / "gone", "repo": repo}, "no such folder of policies"),
        ({"policies": tmp_path / "void", "repo": repo}, "holds no policy"),
        ({"policies": place, "repo": repo, "base": "gone"}, "'gone' names no commit"),
        ({"policies": place, "repo": repo, "branch": "a..b"}, "is no name for a branch"),
        ({"policies": place, "repo": repo, "forge": "sourceforge"}, "is not known; there are none"),
    ]
    for options, text in calls:
        with pytest.raises((InputError, OutputError), match=text) as caught:
            propose(**options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    (place / "link.yaml").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="symbolic link"):
        propose(place, repo)


def test_the_body_tells_verdict_changes_replay_evidence_risks_and_way_back(repo: Path, tmp_path: Path) -> None:
    """The body tells verdict changes replay evidence risks and way back."""
    entry = {"source": "shop/deployment/web", "destination": "shop/deployment/db", "protocol": "tcp", "port": "5432"}
    decided = {name: [entry | {"reasons": [f"why-{name}"], "answered": 7}] for name in ("accept", "queue", "reject")}
    evidence = {
        "cluster": "c",
        "patterns": decided,
        "workloads": [{"workload": "shop/deployment/web", "state": "LEARNING"}, {"workload": "x", "state": "STABLE"}],
    }
    place = policies(tmp_path, {"a.yaml": ONE, ".podfence/evidence.json": json.dumps(evidence)})
    target = tmp_path / "body.md"
    body = propose(place, repo, replay=verdict(), body_file=target).body
    assert target.read_text() == body
    parts = [
        "**Would block 1 of 3 recorded edges** (4 answered connections)",
        "## What changes",
        "`a.yaml`",
        "## Replay of recorded traffic",
        "### Would be denied",
        "`NetworkPolicy shop/p`",
        "`NetworkPolicy shop/p ingress[0], but for the port`",
        "### Passes only because of another policy",
        "`NetworkPolicy shop/other ingress[0]`",
        "### Fares differently than before",
        "| allowed | denied (`NetworkPolicy shop/p`) |",
        "### Isolated without evidence",
        "### Not judged",
        "HTTP rules",
        "## Evidence",
        "why-accept",
        "### Queued",
        "why-queue",
        "### Rejected",
        "why-reject",
        "## Risks",
        "Isolated without a single recorded connection: `shop/deployment/idle`",
        "Not yet converged: `shop/deployment/web`.",
        "## Way back",
    ]
    places = [body.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)


def test_a_proposal_without_replay_says_so(repo: Path, tmp_path: Path) -> None:
    """A proposal without replay says so."""
    assert propose(policies(tmp_path), repo).body.startswith("**Not replayed.**")


@pytest.mark.parametrize(
    "evidence", ["{", "[]", '{"patterns": 3, "workloads": 4}', '{"patterns": {"accept": [1, {}]}}']
)
def test_evidence_that_cannot_be_read_does_no_harm(repo: Path, tmp_path: Path, evidence: str) -> None:
    """Evidence that cannot be read does no harm."""
    place = policies(tmp_path, {"a.yaml": ONE, ".podfence/evidence.json": evidence})
    assert "## What changes" in propose(place, repo).body


def test_the_body_fits_the_forge_and_says_what_was_left_out(repo: Path, tmp_path: Path) -> None:
    """The body fits the forge and says what was left out."""
    entries = [
        {"source": f"shop/deployment/{'w' * 150}{n}", "destination": "x", "protocol": "tcp"} for n in range(3000)
    ]
    evidence = json.dumps({"patterns": {"accept": entries, "queue": entries}})
    body = propose(policies(tmp_path, {"a.yaml": ONE, ".podfence/evidence.json": evidence}), repo).body
    assert len(body) <= 65_536
    assert "more rows left out" in body
    assert "## Way back" in body


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "`plain`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        ("a|b", "`a\\|b`"),
        ("a\\|b", "`a\\\\\\|b`"),
        ("x\n## head", "`x\ufffd## head`"),
        ("\u202eevil", "`\ufffdevil`"),
        ("@team <img src=x>", "`@team <img src=x>`"),
        ("", "` `"),
        ("x" * 500, "`" + "x" * 199 + "…`"),
    ],
)
def test_texts_from_the_network_stay_texts(text: str, shown: str) -> None:
    """Texts from the network stay texts."""
    assert code(text) == shown


def verdict() -> Replay:
    """Return a replay with one denied half and one workload isolated in silence."""
    finding = Finding(
        *("shop/deployment/web", "shop/deployment/db", "tcp", 22, None, "ingress", "NetworkPolicy shop/p", "isolation"),
        *("both", None, (), 4, 4, 0, 0, "NetworkPolicy shop/p ingress[0]", "traffic"),
    )
    counts = {"allowed": 2, "denied": 1, "expected": 0, "undetermined": 0}
    silent = Isolated("shop/deployment/idle", ("ingress",), ("NetworkPolicy shop/p",))
    change = Change(
        *("shop/deployment/web", "shop/deployment/db", "tcp", 22, None, "ingress", "allowed", "denied"),
        *(None, "NetworkPolicy shop/p", 4, 4),
    )
    return Replay(
        profile="strict",
        engines=("calico", "npm"),
        policies=1,
        edges=counts,
        connections=counts | {"denied": 4},
        denied=(finding,),
        expected=(),
        undetermined=(),
        isolated=(silent,),
        borrowed=(replace(finding, by="NetworkPolicy shop/other ingress[0]", reason="rule", nearest=None),),
        changes=(change,),
        unjudged=(Unjudged("NetworkPolicy shop/p", "ingress[0]", "HTTP rules"),),
    )


@pytest.mark.parametrize("path", ["netpol", "netpol/shop"])
def test_a_file_of_the_users_where_the_folder_should_be_is_not_replaced(repo: Path, tmp_path: Path, path: str) -> None:
    """A file in the base that stands in the way of the folder is an error, not silently gone."""
    (repo / "netpol").write_text("notes\n")
    git(repo, "add", "netpol")
    git(repo, "commit", "-q", "-m", "notes", "netpol")
    with pytest.raises(InputError, match="'netpol' is a file"):
        propose(policies(tmp_path), repo, path=path)
    assert "podfence" not in git(repo, "for-each-ref")


def test_a_body_that_cannot_be_written_leaves_the_repository_as_it_was(repo: Path, tmp_path: Path) -> None:
    """What ends in an error has made no branch."""
    before = state(repo)
    with pytest.raises(OutputError, match="cannot be written"):
        propose(policies(tmp_path), repo, body_file=tmp_path / "gone" / "body.md")
    assert state(repo) == before


def test_the_body_names_what_was_accepted_and_would_be_blocked(repo: Path, tmp_path: Path) -> None:
    """Accepted patterns that no policy could be written for, and what is allowed beyond the evidence, are risks."""
    one = world(
        {"shop/deployment/web": {"labels": {"app": "web"}}},
        ["accept shop/deployment/web -> apiserver tcp/443", "accept shop/deployment/web -> 203.0.113.0/24 tcp/443"],
    )
    files = render(generate(one.learned), one.learned)
    body = propose(policies(tmp_path, files), repo).body
    risks = body[body.index("## Risks") :]
    assert "**Would be blocked though accepted**: `shop/deployment/web -> apiserver tcp/443`" in risks
    assert "Allowed beyond what was seen: `shop/deployment/web` egress `203.0.113.0/24`" in risks
