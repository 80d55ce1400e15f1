"""The demo: the shop's traffic through the whole loop, and a summary of what came of it."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import deploy
import generator
import learner
import recorder
from deploy import Proposal, Replay
from learner.patterns import Learned, port_text
from podfence.output import Progress, plural, progress, put, say, table
from podfence.replay import sentence
from recorder.errors import OutputError, UnsupportedError
from recorder.store import Recording

WINDOW = 10
"""Seconds: short windows, because the shop runs for little more than a minute."""

TARGETS = ("kubernetes", "calico")
_MARK = ".podfence-demo"
_HERE = Path(__file__).parent


def run_demo(out: str, *, bundled: bool, seconds: int) -> int:
    """Run the loop, leave everything in `out` and print what came of it; 1 when replay finds something denied."""
    place = _prepare(Path(out))
    obstacle = "bundled" if bundled else _no_live()
    recording = place / "recording"
    if obstacle is None:
        say(f"The shop runs live in network namespaces for {seconds} s, recorded on both of its nodes.")
        with progress() as line:
            _live(place, recording, seconds, line)
    else:
        say("The shop, from its bundled capture" + ("." if bundled else f" (to run it live: {obstacle})."))
        shop = _folder("shop")
        recorder.import_pcap(
            sorted(shop.glob("node-*.pcap")),
            inventory=shop / "events.jsonl",
            out=recording,
            cluster="shop",
            window=WINDOW,
            scope="node",
        )
        _link_truth(shop, place)
    learned = learner.learn(str(recording))
    learned.write(place / "learned")
    replays = {}
    for target in TARGETS:
        found = generator.generate(learned, target=target, default_deny=True)
        folder = place / "policies" / target
        generator.write(found, learned, target, folder)
        replays[target] = deploy.replay(str(recording), [folder], learned=learned)
    proposals = _propose(place, replays["kubernetes"])
    _report(place, Recording.open(str(recording)), learned, replays, proposals)
    return int(any(replay.failed for replay in replays.values()))


def _prepare(place: Path) -> Path:
    """Make the folder, or empty one that an earlier demo left; never anybody else's."""
    if place.exists():
        if not (place / _MARK).is_file() and (not place.is_dir() or any(place.iterdir())):
            raise OutputError(f"{place}: exists and was not made by `podfence demo`; give --out")
        shutil.rmtree(place)
    place.mkdir(parents=True)
    (place / _MARK).touch()
    return place


def _folder(name: str) -> Path:
    """Return a folder of the demo: in a checkout where it is kept, else in the installed package."""
    kept = {"shop": _HERE.parent / "examples" / "shop", "lab": _HERE.parent / "tests" / "lab"}[name]
    return kept if kept.is_dir() else _HERE / "_demo" / name


def _no_live() -> str | None:
    """Return why the shop cannot run live here, or None when it can."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root"
    absent = [
        package for program, package in {"ip": "iproute2", "nft": "nftables"}.items() if not shutil.which(program)
    ]
    if absent:
        return f"needs {' and '.join(absent)}"
    if not (_folder("lab") / "__main__.py").is_file() or importlib.util.find_spec("fcntl") is None:
        return "the lab is not installed"
    return None


def _link_truth(shop: Path, place: Path) -> None:
    """Leave the inventory and the log of truth beside the results."""
    for name in ("events.jsonl", "inventory.yaml", "truth.jsonl"):
        if (shop / name).is_file():
            shutil.copy(shop / name, place / name)


def _live(place: Path, recording: Path, seconds: int, line: Progress) -> None:
    """Run the lab's shop and a recorder in each of its nodes."""
    with _lab(place, seconds) as (process, lines):
        ready = _await(lines, "ready", process)
        recorders = [
            subprocess.Popen(
                [
                    "nsenter",
                    f"--net=/run/netns/{node['netns']}",
                    *(sys.executable, "-m", "podfence", "record", "--out", str(recording), "--cluster", "shop"),
                    *("--identity", str(ready["events"]), "--node", str(node["name"]), "--window", f"{WINDOW}s"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=_environment(),
            )
            for node in ready["nodes"]
        ]
        try:
            _await_recorders(recorders)
            _go(process)
            for event in lines:
                if event["event"] == "done":
                    break
                line.show(f"{event['elapsed']:.0f} of {event['seconds']:.0f} s: {event['note']}")
            line.show("writing the last windows …")
        finally:
            for one in recorders:
                one.send_signal(signal.SIGTERM)
            told = [one.communicate(timeout=60)[1].strip() for one in recorders]
        for one, text in zip(recorders, told, strict=True):
            if one.returncode:
                raise UnsupportedError(text.splitlines()[-1].removeprefix("podfence: ") if text else "recorder failed")
    for text in told:
        say(text.splitlines()[0])


def _await_recorders(recorders: list[subprocess.Popen[str]]) -> None:
    """Wait until every recorder says that its rings are open."""
    for one in recorders:
        assert one.stderr is not None  # noqa: S101 - it was opened with a pipe
        text = one.stderr.readline()
        if "recording" not in text:
            raise UnsupportedError(text.strip().removeprefix("podfence: ") or "the recorder did not start")


@contextmanager
def _lab(place: Path, seconds: int) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict[str, Any]]]]:
    """Give the lab's process and its events; at the end it takes its namespaces away."""
    folder = _folder("lab")
    process = subprocess.Popen(
        [sys.executable, "-m", "lab", "shop", "--out", str(place), "--seconds", str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment() | {"PYTHONPATH": str(folder.parent)},
    )
    assert process.stdout is not None  # noqa: S101 - it was opened with a pipe
    try:
        yield process, _events(process.stdout)
    finally:
        process.communicate(timeout=60)


def _events(stream: IO[str]) -> Iterator[dict[str, Any]]:
    for text in stream:
        yield json.loads(text)


def _await(lines: Iterator[dict[str, Any]], event: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    for found in lines:
        if found["event"] == event:
            return found
    told = process.stderr.read() if process.stderr else ""
    raise UnsupportedError(
        f"the lab did not start: {told.strip().splitlines()[-1] if told.strip() else 'no reason given'}"
    )


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None  # noqa: S101 - it was opened with a pipe
    process.stdin.write("go\n")
    process.stdin.flush()


def _environment() -> dict[str, str]:
    """Return the environment of a child that finds these packages wherever this program found them."""
    paths = [str(_HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _propose(place: Path, replay: Replay) -> tuple[Proposal, Proposal]:
    """Propose the Kubernetes policies to a new repository, twice: the second time nothing has changed."""
    repo = place / "repo"
    who = ("-c", "user.name=podfence demo", "-c", "user.email=demo@podfence.invalid")
    for command in (["init", "-q", "-b", "main"], [*who, "commit", "-q", "--allow-empty", "-m", "Begin"]):
        subprocess.run(["git", "-C", str(_made(repo)), *command], check=True, capture_output=True)
    first, second = (
        deploy.propose(place / "policies" / "kubernetes", repo, body_file=place / "pull-request.md", replay=replay)
        for _ in range(2)
    )
    return first, second


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _report(
    place: Path,
    recording: Recording,
    learned: Learned,
    replays: dict[str, Replay],
    proposals: tuple[Proposal, Proposal],
) -> None:
    """Print what a person wants to see of it."""
    coverage = learned.coverage
    flows = recording.read("flows")
    windows = len(set(flows["window_start"].to_pylist()))
    decisions = Counter(pattern.decision for pattern in learned.patterns)
    say(
        f"recording   {plural(len(flows), 'edge')} in {plural(windows, 'window')} of {WINDOW} s, "
        f"{coverage['connections_unresolved']} answered connections unresolved"
    )
    say(
        f"learned     {plural(len(learned.subjects), 'workload')}; patterns: {decisions['accept']} accepted, "
        f"{decisions['queue']} queued, {decisions['reject']} rejected"
    )
    for target, replay in replays.items():
        say(f"{target:<11} {sentence(replay)}")
    say("")
    _policies(place, learned)
    _expected(replays["kubernetes"])
    _reuse(recording)
    _cron(learned)
    first, second = proposals
    commits = subprocess.run(
        ["git", "-C", str(place / "repo"), "rev-list", "--count", f"main..{first.branch}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    again = "nothing new" if second.operation == "none" else second.operation
    say(f"Branch {first.branch} in {place}/repo: {commits} commit, {first.changes.subject}; proposed again: {again}.")
    say(f"Look at: {place}/policies/kubernetes, {place}/policies/calico, {place}/pull-request.md")


def _policies(place: Path, learned: Learned) -> None:
    """Print each workload with its objects in both dialects and its rules."""
    rows = []
    accepted = [pattern for pattern in learned.patterns if pattern.decision == "accept"]
    for subject in learned.subjects:
        file = f"{subject.namespace}/{subject.kind}-{subject.name}.yaml"
        made = [target for target in TARGETS if (place / "policies" / target / file).is_file()]
        served = [pattern for pattern in accepted if pattern.destination == subject.workload]
        needed = [pattern for pattern in accepted if pattern.source == subject.workload]
        rows.append((subject.workload, "+".join(made) or "none", len(served), len(needed)))
    table(("WORKLOAD", "POLICY", "SERVES", "NEEDS"), rows)
    put()


def _expected(replay: Replay) -> None:
    """Print what replay says would be denied, findings first, by source and reason."""
    for finding in replay.denied:
        say(f"DENIED {finding.source} -> {finding.destination} {finding.port}/{finding.protocol} by {finding.by}")
    groups: dict[tuple[str, str, str], set[tuple[str, int | None]]] = {}
    for finding in replay.expected:
        key = (finding.source, finding.decision or "-", ",".join(finding.reasons) or finding.reason)
        groups.setdefault(key, set()).add((finding.destination, finding.port))
    table(
        ("DENIED AS EXPECTED", "DECISION", "REASONS", "EDGES", "TO"),
        (
            (source, decision, reasons, len(targets), plural(len({target for target, _ in targets}), "destination"))
            for (source, decision, reasons), targets in sorted(groups.items())
        ),
    )
    put()


def _reuse(recording: Recording) -> None:
    """Print addresses that more than one workload held, and which ports each dialled from them."""
    owners: dict[str, dict[str, set[str]]] = {}
    for row in recording.read("identities").select(["ips", "namespace", "owner_kind", "owner_name", "id"]).to_pylist():
        name = f"{row['namespace']}/{row['owner_kind'].lower()}/{row['owner_name']}"
        for ip in row["ips"] or ():
            owners.setdefault(ip, {}).setdefault(name, set()).add(row["id"])
    flows = recording.read("flows").select(["src_ip", "src_id", "dst_port"]).to_pylist()
    rows = []
    for ip, holders in sorted(owners.items()):
        used = {
            name: sorted({f["dst_port"] for f in flows if f["src_id"] in ids and f["src_ip"] == ip})
            for name, ids in holders.items()
        }
        if sum(bool(ports) for ports in used.values()) > 1:
            rows += [(ip, name, ",".join(str(port) for port in ports)) for name, ports in sorted(used.items())]
    table(("REUSED ADDRESS", "HELD BY", "DIALLED PORTS"), rows)
    put()


def _cron(learned: Learned) -> None:
    """Print what the CronJobs need."""
    rows = [
        (
            pattern.source,
            pattern.destination,
            f"{port_text(pattern)}/{pattern.protocol}",
            pattern.decision,
            ",".join(pattern.reasons),
        )
        for pattern in learned.patterns
        if "/cronjob/" in pattern.source
    ]
    table(("CRONJOB", "NEEDS", "PORT", "DECISION", "REASONS"), rows)
    put()
