"""The live recorder: its clock and its rings by themselves, then in a lab's node with real sockets."""

import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest

from recorder.agent import RING_ORDER, _Agent, _clocks
from recorder.capture.packets import Packets
from recorder.capture.ring import Ring, Statistics
from recorder.coverage import Watch
from recorder.identity.events import Event
from recorder.records import SECOND
from recorder.store import Recording
from recorder.windows import Windows
from tests.lab import Lab, Node, Pod, ServicePort
from tests.lab import Port as PodPort
from tests.lab.lab import DNS_ADDRESS
from tests.recorder.wire import (
    AT_CLIENT,
    CLIENT,
    FOREVER,
    SERVER,
    Row,
    datagram,
    greetings,
    moment,
    packets,
    pod,
    syn,
    world,
)

HOUR = 3600


@dataclass(slots=True)
class Pipe:
    """A ring that holds what the test put into it."""

    name: str
    rows: list[Row] = field(default_factory=list)
    dropped: int = 0

    def drain(self) -> Packets:
        """Return what is there, once."""
        rows, self.rows = self.rows, []
        return packets(rows)

    def statistics(self) -> Statistics:
        """Return what was dropped since the last call."""
        dropped, self.dropped = self.dropped, 0
        return Statistics(0, dropped)


def agent(place: Path, seconds: int = 60) -> _Agent:
    """Return a recorder that began at `BEGIN` and has known all pods' interfaces since."""
    known = world()
    made = Windows("test", "n1", "ring", known, seconds)
    made.feed(packets(greetings()))
    return _Agent(Recording.at(place), "test", made, Watch("test", "n1", "ring", "node", seconds, moment(0)), known)


def rings(rows: dict[str, list[Row]]) -> Sequence[Ring]:
    """Return the rings, in the recorder's order, with these packets in them."""
    return cast("Sequence[Ring]", [Pipe(name, rows.get(name, [])) for name in RING_ORDER])


def test_a_refused_datagram_is_refused_though_its_error_comes_through_another_ring(tmp_path: Path) -> None:
    """The ICMP error and the datagram it quotes lie in two rings when both are drained."""
    error = {
        "time": moment(1.001),
        "ifindex": AT_CLIENT,
        "outgoing": True,
        "protocol": 1,
        "src": SERVER,
        "dst": CLIENT,
        "icmp_type": 3,
        "icmp_code": 3,
        "quoted_protocol": 17,
        "quoted_src": CLIENT,
        "quoted_src_port": 4000,
        "quoted_dst": SERVER,
        "quoted_dst_port": 99,
    }
    made = agent(tmp_path)
    made.drain(rings({"tcp": [error], "udp": [datagram(1, AT_CLIENT, "in", CLIENT, 4000, SERVER, 99)]}))
    (row,) = (row for row in made.windows.settle(FOREVER) if row.dst_port == 99)
    assert (row.refused, row.unanswered) == (1, 0)


def test_an_answer_never_comes_before_its_question() -> None:
    """What came between the draining of two rings is in the later one: that has to be the questions' ring."""
    assert RING_ORDER.index("udp") > max(RING_ORDER.index("dns"), RING_ORDER.index("tcp"))


def test_rows_of_a_window_already_written_are_added_to_it(tmp_path: Path) -> None:
    """After the clock was set back, edges fall into windows that have had their coverage; they are not thrown away."""
    made = agent(tmp_path)
    made.settle(moment(300), FOREVER)
    made.drain(rings({"tcp": [syn(100, AT_CLIENT, "in", CLIENT, 4000, SERVER, 80, 5)]}))
    made.settle(moment(200), FOREVER)
    (row,) = (row for row in made.recording.read("flows").to_pylist() if row["dst_port"] == 80)
    assert row["attempts"] == 1
    spoilt = [row for row in made.recording.read("coverage").to_pylist() if row["gap"]]
    assert {(row["ring"], row["window_start"].timestamp()) for row in spoilt} == {
        (ring, (moment(60)) / SECOND) for ring in RING_ORDER
    }
    assert sum(row["packets"] for row in spoilt) == 1


def test_a_step_of_the_clock_is_noticed(tmp_path: Path) -> None:
    """A machine that slept, or whose clock was set, was not watching in between."""
    made = agent(tmp_path)
    now, steady = _clocks()
    made.drained = now - HOUR * SECOND, steady
    made.drain(rings({}))
    ((begin, end),) = made.watch.holes
    assert begin == now - HOUR * SECOND
    assert end >= now
    made.drain(rings({}))
    assert len(made.watch.holes) == 1


def watched(watch: Watch, until: float) -> dict[int, bool]:
    """Return the windows that have rows, in seconds after the beginning, and whether they are gaps."""
    rows = watch.rows(moment(until), {}, None, FOREVER)
    return {(row.window_start - moment(0)) // SECOND: row.gap for row in rows}


def test_nothing_vouches_for_the_time_that_a_clock_skipped() -> None:
    """Windows cut into are gaps, windows skipped have no row, and sixty years cost nothing."""
    watch = Watch("test", "n1", "ring", "node", 60, moment(0))
    years = 60 * 365 * 86400
    watch.stepped(moment(70), moment(years + 10))
    assert watched(watch, years + 120) == {0: False, 60: True, years: True, years + 60: False}
    assert watched(watch, years + 180) == {years + 120: False}
    assert watch.holes == []


def test_drops_are_charged_to_every_window_since_the_last_look() -> None:
    """After a pause nobody can tell in which of the windows the ring was full."""
    watch = Watch("test", "n1", "ring", "node", 60, moment(0))
    watch.lost("tcp", moment(50), moment(130), 7)
    rows = watch.rows(moment(240), {}, None, FOREVER)
    assert [row.dropped for row in rows if row.ring == "tcp"] == [7, 7, 7, 0]


def test_a_long_run_remembers_no_pod_that_is_long_gone(tmp_path: Path) -> None:
    """Interfaces, names and identities of ended pods go; those of living ones stay."""
    made = agent(tmp_path)
    job = pod("job", "10.0.1.77", "n1")
    made.world.apply(Event(moment(2), "ADDED", job))
    made.drain(rings({"udp": [datagram(3, 77, "in", "10.0.1.77", 4000, SERVER, 99)]}))
    made.windows.names.heard[77, "10.0.1.77"] = {}
    made.windows.names.heard[1, "198.51.100.1"] = {}
    made.windows.names.heard[AT_CLIENT, CLIENT] = {}
    made.world.apply(Event(moment(10), "DELETED", job))
    made.settle(moment(120), FOREVER)
    assert 77 in made.windows.interfaces.sources
    made.world.apply(Event(moment(2000), "BOOKMARK", {}))
    made.settle(moment(1900), FOREVER)
    made.settle(moment(2000), FOREVER)
    assert set(made.windows.interfaces.sources) == {1, AT_CLIENT, 12}
    assert set(made.windows.names.heard) == {(AT_CLIENT, CLIENT)}
    assert not any("uid-job" in key for key in made.written)


@dataclass(slots=True)
class Stage:
    """A lab with pods on two nodes, and its event log."""

    lab: Lab
    log: Path
    client: Pod
    near: Pod
    far: Pod

    @property
    def node(self) -> Node:
        """The node that is recorded."""
        return self.client.node


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Bring up one lab for all live tests."""
    log = tmp_path_factory.mktemp("live") / "events.jsonl"
    with Lab(log=log, dual_stack=True) as made:
        one, two = made.add_node(), made.add_node()
        client = made.add_pod("shop", "client", one)
        near, far = (made.add_pod("shop", f"api-{node.name}", node, labels={"app": "api"}) for node in (one, two))
        resolver = made.add_pod("kube-system", "dns", two, labels={"app": "dns"}, ports=[PodPort("dns", 53, "UDP")])
        for place in (near, far):
            made.run(made.listen(place, 8080))
            made.run(made.listen(place, 8080, ip="::"))
        made.run(made.serve_dns(resolver))
        made.add_service("shop", "api", [ServicePort("http", 80, 8080)], selector={"app": "api"})
        dns = [ServicePort("dns", 53, protocol="UDP")]
        made.add_service("kube-system", "kube-dns", dns, selector={"app": "dns"}, cluster_ip=DNS_ADDRESS)
        yield Stage(made, log, client, near, far)


def started(stage: Stage, out: Path, *words: str, log: Path | None = None) -> subprocess.Popen[str]:
    """Start `podfence record` in the node's namespace, without the grace for late answers; return when it captures."""
    program = "import recorder.agent; recorder.agent.GRACE = 0; from podfence.__main__ import main; main()"
    command = [sys.executable, "-c", program, "record", "--out", str(out), "--identity", str(log or stage.log)]
    with stage.node.netns.inside():
        running = subprocess.Popen([*command, "--node", stage.node.name, *words], stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    assert running.stderr.readline().startswith(f"recording {stage.node.name}")
    return running


def ended(running: subprocess.Popen[str], number: int | None = signal.SIGTERM) -> tuple[int, str]:
    """Send a signal, if any, and return the exit code with what was still said."""
    if number is not None:
        running.send_signal(number)
    _, said = running.communicate(timeout=20)
    return running.returncode, said


def connect(stage: Stage, *targets: tuple[str, int]) -> None:
    """Connect from the client to each address and port."""
    for ip, port in targets:
        stage.lab.run(stage.lab.connect(stage.client, ip, port))


@pytest.fixture(scope="module")
def flows(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Give the rows of a recording that SIGTERM ended within its first window."""
    out = tmp_path_factory.mktemp("recording")
    running = started(stage, out, "--window", "1h")
    try:
        run = stage.lab.run
        for server in (stage.near, stage.far):
            connect(stage, (server.ip, 8080), (server.ip6 or "", 8080), (server.ip, 81))
        found = run(stage.lab.resolve(stage.client, "api"))
        assert found is not None
        connect(stage, (found[1][0], 80), (found[1][0], 80))
        run(stage.lab.request(stage.client, stage.near.ip, 99, within=0.2))
        assert ended(running)[0] == 0
    finally:
        running.kill()
    return Recording.open(out).read("flows").to_pylist()


def counted(flows: list[dict[str, Any]], reporter: str, **wanted: object) -> Counter[tuple[Any, ...]]:
    """Return (attempts, answered, refused) of the reporter's rows with these values, by address and port."""
    found: Counter[tuple[Any, ...]] = Counter()
    for row in flows:
        if row["reporter"] == reporter and all(row[name] == value for name, value in wanted.items()):
            for name in ("attempts", "answered", "refused"):
                found[row["dst_ip"], row["dst_port"], name] += row[name]
    return +found


@pytest.mark.lab
@pytest.mark.xdist_group("lab")
def test_live_connections_of_both_families_are_recorded_with_their_outcome(
    stage: Stage, flows: list[dict[str, Any]]
) -> None:
    """One attempt each at every address, answered where somebody listens and refused where nobody does."""
    expected: Counter[tuple[Any, ...]] = Counter()
    for server in (stage.near, stage.far):
        for address, port, outcome in (
            (server.ip, 8080, "answered"),
            (server.ip6, 8080, "answered"),
            (server.ip, 81, "refused"),
        ):
            expected.update([(address, port, "attempts"), (address, port, outcome)])
    assert counted(flows, "src", protocol="tcp", service=None) == expected
    near = {stage.near.ip, stage.near.ip6}
    received = counted([row for row in flows if not row["service"]], "dst", protocol="tcp")
    through = counted(flows, "src", protocol="tcp", service="shop/api")
    assert received == Counter({key: value for key, value in (expected + through).items() if key[0] in near})


@pytest.mark.lab
@pytest.mark.xdist_group("lab")
def test_live_names_and_backends_of_a_service(stage: Stage, flows: list[dict[str, Any]]) -> None:
    """The name that the cluster's DNS gave leads to the Service, and each connection to the pod that accepted it."""
    rows = [row for row in flows if row["service"] == "shop/api"]
    assert sum(row["answered"] for row in rows) == 2
    assert {row["dst_ip"] for row in rows} <= {stage.near.ip, stage.far.ip}
    assert all("api.shop.svc.cluster.local" in row["dns_names"] for row in rows)
    questions = [row for row in flows if row["dialled_ip"] == DNS_ADDRESS]
    assert {(row["direction_basis"], row["unanswered"]) for row in questions} == {("first-packet", 0)}


@pytest.mark.lab
@pytest.mark.xdist_group("lab")
def test_a_live_datagram_to_a_closed_port_is_refused(stage: Stage, flows: list[dict[str, Any]]) -> None:
    """The server's ICMP error says so, at both ends."""
    for reporter in ("src", "dst"):
        found = counted(flows, reporter, protocol="udp", dst_ip=stage.near.ip)
        assert found == {(stage.near.ip, 99, "attempts"): 1, (stage.near.ip, 99, "refused"): 1}


@pytest.mark.lab
@pytest.mark.xdist_group("lab")
def test_kill_leaves_whole_files_and_the_next_recorder_adds_to_them(stage: Stage, tmp_path: Path) -> None:
    """Every file with a file's name can be read, none is changed, and what comes after the restart is counted once."""
    running = started(stage, tmp_path, "--window", "1s")
    try:
        while not list(tmp_path.rglob("coverage/*.parquet")):
            assert running.poll() is None
            connect(stage, (stage.near.ip, 8080))
    finally:
        ended(running, signal.SIGKILL)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    assert all(pq.read_metadata(path).num_rows for path in before)
    running = started(stage, tmp_path, "--window", "1s")
    try:
        connect(stage, (stage.near.ip, 82), (stage.near.ip, 82))
        assert ended(running)[0] == 0
    finally:
        running.kill()
    assert {path: path.read_bytes() for path in before} == before
    again = counted(Recording.open(tmp_path).read("flows").to_pylist(), "src", dst_port=82)
    assert again == {(stage.near.ip, 82, "attempts"): 2, (stage.near.ip, 82, "refused"): 2}


@pytest.mark.lab
@pytest.mark.xdist_group("lab")
def test_a_bad_line_in_the_event_log_ends_the_run_after_all_is_written(stage: Stage, tmp_path: Path) -> None:
    """The line is named; what was captured until then is kept."""
    log, out = tmp_path / "events.jsonl", tmp_path / "recording"
    shutil.copy(stage.log, log)
    running = started(stage, out, "--window", "1h", log=log)
    try:
        connect(stage, (stage.near.ip, 8080))
        with log.open("a") as file:
            file.write("{}\n")
        code, said = ended(running, None)
    finally:
        running.kill()
    assert code == 2
    assert f"{log}: line " in said
    assert counted(Recording.open(out).read("flows").to_pylist(), "src", protocol="tcp") == {
        (stage.near.ip, 8080, "attempts"): 1,
        (stage.near.ip, 8080, "answered"): 1,
    }


@pytest.mark.lab
@pytest.mark.xdist_group("lab")
def test_a_place_that_cannot_be_written_is_told_at_once(stage: Stage, tmp_path: Path) -> None:
    """Not after the first window."""
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "x")
    command = [sys.executable, "-m", "podfence", "record", "--out", out, "--identity", str(stage.log)]
    with stage.node.netns.inside():
        done = subprocess.run(
            [*command, "--node", stage.node.name, "--duration", "1s"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1
