"""From rows to patterns: what is added up, what is kept apart, and that the result depends on content alone."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs as pafs

from learner import Thresholds, learn, summary
from learner.patterns import Learned, Pattern
from recorder.errors import RecordingError
from recorder.store import Recording
from tests.recordings import BEGIN, DAY, Story, moment

WEB, CART = "shop/deployment/web", "shop/deployment/cart"


def shop(**cart: object) -> Story:
    """Return two web pods and one cart, on two nodes; the cart declares 7070."""
    story = Story()
    story.workload(WEB, replicas=2)
    story.workload(CART, **{"ports": [7070], "node": "node-b"} | cart)
    return story


def learned(story: Story, folder: Path) -> Learned:
    """Return what is learned from a story."""
    return learn(story.write(folder / "recording"))


def only(found: Learned) -> Pattern:
    """Return the only pattern."""
    (pattern,) = found.patterns
    return pattern


def test_both_sides_count_once(tmp_path: Path) -> None:
    """A connection seen at both ends is counted once, and proves both halves."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60], answered=3)
    pattern = only(learned(story, tmp_path))
    assert (pattern.attempts, pattern.answered, pattern.windows_seen) == (6, 6, 2)
    assert (pattern.halves, pattern.reasons) == (["egress", "ingress"], ["declared-recurs"])


def test_counts_come_from_the_clean_source(tmp_path: Path) -> None:
    """Where the sides differ the source's is counted, unless its node is not clean in that window."""
    story = shop()
    for seconds in (0, 60):
        story.talk("shop/web-1", "shop/cart-1", 7070, at=[seconds], answered=5, sides=["src"])
        story.talk("shop/web-1", "shop/cart-1", 7070, at=[seconds], answered=7, sides=["dst"])
    story.gap("node-a", at=[60])
    assert only(learned(story, tmp_path)).answered == 5 + 7


@pytest.mark.parametrize(("side", "half", "other"), [("src", "egress", "node-b"), ("dst", "ingress", "node-a")])
def test_one_side_stands_for_both_when_the_other_is_blind(tmp_path: Path, side: str, half: str, other: str) -> None:
    """A half that the other node could not record is lent by the half that was, and named; a clean node lends none."""
    for folder, blind, expected in (("blind", [0], ["egress", "ingress"]), ("clean", [], [half])):
        story = shop()
        story.talk("shop/web-1", "shop/cart-1", 7070, at=[0], sides=[side])
        story.gap(other, at=blind)
        pattern = only(learned(story, tmp_path / folder))
        assert pattern.halves == expected
        assert ("one-sided" in pattern.reasons) == bool(blind)


def test_a_reporter_that_cannot_tell_proves_both(tmp_path: Path) -> None:
    """An `unknown` row is both halves; beside a `src` row it is not counted again."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0], sides=["unknown"], backend="pcap")
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[60], sides=["unknown"], backend="pcap")
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[60], sides=["src"])
    pattern = only(learned(story, tmp_path))
    assert (pattern.answered, pattern.halves) == (2, ["egress", "ingress"])


def test_reused_addresses_are_kept_apart(tmp_path: Path) -> None:
    """Two pods that held one address after each other are told apart, also where it was left to be resolved."""
    story = Story()
    story.workload(WEB)
    story.pod("shop/cart-1", owner="Deployment/cart", ports=[7070], ip="10.0.1.77", start=0, end=100)
    story.pod("shop/mail-1", owner="Deployment/mail", ports=[7070], ip="10.0.1.77", start=100)
    story.talk("shop/web-1", "deferred/10.0.1.77", 7070, at=[0, 60], answered=2)
    story.talk("shop/web-1", "deferred/10.0.1.77", 7070, at=[120], answered=3)
    story.talk("shop/web-1", "shop/mail-1", 7070, at=[180], answered=4)
    found = {one.destination: one.answered for one in learned(story, tmp_path).patterns}
    assert found == {CART: 4, "shop/deployment/mail": 7}


def test_an_address_that_changed_hands_within_a_row_is_ambiguous(tmp_path: Path) -> None:
    """A deferred row whose time spans two holders belongs to neither."""
    story = Story()
    story.workload(WEB)
    story.pod("shop/cart-1", owner="Deployment/cart", ip="10.0.1.77", start=0, end=30)
    story.pod("shop/mail-1", owner="Deployment/mail", ip="10.0.1.77", start=30)
    story.talk("shop/web-1", "deferred/10.0.1.77", 7070, at=[10], last_seen=moment(50))
    assert only(learned(story, tmp_path)).destination == "ambiguous/10.0.1.77"


def test_deferred_nodes_and_sources(tmp_path: Path) -> None:
    """A deferred address may be a node's, whoever is on its network, and a deferred source is resolved like a destination."""
    story = shop()
    story.workload("kube-system/daemonset/agent", node="node-b", host_network=True)
    story.talk("shop/web-1", f"deferred/{story.nodes['node-b']}", 9100, at=[0])
    story.talk(f"deferred/{story.pods['shop/web-1'].ips[0]}", "shop/cart-1", 7070, at=[0])
    found = {(one.source, one.destination) for one in learned(story, tmp_path).patterns}
    assert found == {(WEB, "node/node-b"), (WEB, CART)}


def test_dialled_services_lead_to_their_backend(tmp_path: Path) -> None:
    """A Service with one workload behind it is that pattern, at the container's port."""
    story = shop()
    story.service("shop/cart", port=70, target=7070, backends=["shop/cart-1"])
    story.talk("shop/web-1", "service/shop/cart", 70, at=[0, 60])
    pattern = only(learned(story, tmp_path))
    assert (pattern.destination, pattern.port, pattern.services) == (CART, 7070, ["shop/cart"])
    assert (pattern.decision, pattern.reasons) == ("accept", ["declared-recurs", "via-service"])


def test_service_rows_are_not_counted_beside_the_backends(tmp_path: Path) -> None:
    """The backend's own row of a connection that the client saw as a Service adds a half, not a connection."""
    story = shop()
    story.service("shop/cart", port=70, target=7070, backends=["shop/cart-1"])
    story.talk("shop/web-1", "service/shop/cart", 70, at=[0, 60])
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60], sides=["dst"])
    pattern = only(learned(story, tmp_path))
    assert (pattern.answered, pattern.halves) == (2, ["egress", "ingress"])


def test_endpoints_are_those_of_that_time(tmp_path: Path) -> None:
    """A Service whose backend changed leads to the one it had when it was dialled."""
    story = shop()
    story.workload("shop/deployment/cart2", ports=[7070])
    story.service("shop/cart", port=70, target=7070, backends=["shop/cart-1"], end=600)
    story.service("shop/cart", port=70, target=7070, backends=["shop/cart2-1"], start=600, ip="10.96.0.1")
    story.talk("shop/web-1", "service/shop/cart", 70, at=[0, 1200])
    found = {one.destination: one.first_seen for one in learned(story, tmp_path).patterns}
    assert found == {CART: BEGIN, "shop/deployment/cart2": moment(1200)}


def test_services_without_one_backend_stay_services(tmp_path: Path) -> None:
    """Several workloads behind a Service, or none, leave the Service as destination, queued."""
    story = shop()
    story.workload("shop/deployment/cart2", ports=[7070])
    story.service("shop/both", port=70, target=7070, backends=["shop/cart-1", "shop/cart2-1"])
    story.service("shop/none", port=70, target=7070)
    for name in ("both", "none"):
        story.talk("shop/web-1", f"service/shop/{name}", 70, at=[0, 60, DAY])
    found = {one.destination: (one.decision, one.reasons) for one in learned(story, tmp_path).patterns}
    assert found == {
        "shop/service/both": ("queue", ["several-backends"]),
        "shop/service/none": ("queue", ["no-backend"]),
    }


def test_a_service_of_two_ports_or_of_strangers_stays_a_service(tmp_path: Path) -> None:
    """One workload at two container ports, or an endpoint that is no known pod, is no one backend."""
    story = shop(replicas=2, ports=[7070, 7071])
    story.service("shop/mixed", port=70, target=7070, backends=["shop/cart-1"])
    story.service("shop/outside", port=70, target=7070)
    port = {"name": "main", "port": 7071, "protocol": "TCP"}
    for name, addresses in (("mixed", story.pods["shop/cart-2"].ips), ("outside", ["198.51.100.9"])):
        labels = {"kubernetes.io/service-name": name}
        body = {"metadata": {"labels": labels}, "endpoints": [{"addresses": addresses}], "ports": [port]}
        story.add("EndpointSlice", f"shop/{name}-more", body)
        story.talk("shop/web-1", f"service/shop/{name}", 70, at=[0, 60, DAY])
    found = {one.destination: one.reasons for one in learned(story, tmp_path).patterns}
    assert found == {"shop/service/mixed": ["several-backends"], "shop/service/outside": ["no-backend"]}


def test_endpoints_that_get_no_traffic_are_no_backends(tmp_path: Path) -> None:
    """An endpoint that is not ready leads nowhere, unless it still serves while it terminates."""
    for folder, conditions, expected in (
        ("down", {"ready": False}, "shop/service/cart"),
        ("leaving", {"ready": False, "serving": True, "terminating": True}, CART),
    ):
        story = shop()
        story.service("shop/cart", port=70, target=7070)
        labels = {"kubernetes.io/service-name": "cart"}
        endpoint = {"addresses": story.pods["shop/cart-1"].ips, "conditions": conditions}
        port = {"name": "main", "port": 7070, "protocol": "TCP"}
        story.add(
            "EndpointSlice", "shop/more", {"metadata": {"labels": labels}, "endpoints": [endpoint], "ports": [port]}
        )
        story.talk("shop/web-1", "service/shop/cart", 70, at=[0])
        assert only(learned(story, tmp_path / folder)).destination == expected


def test_what_stays_deferred_makes_a_window_unclean(tmp_path: Path) -> None:
    """Answered connections with an end that stays unknown are unresolved: above 1 % they spoil their node's window."""
    for folder, lost, expected in (("many", 2, 1), ("few", 1, 2)):
        story = shop()
        story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60], answered=100)
        story.talk("shop/web-1", "deferred/10.0.9.9", 80, at=[60], answered=lost)
        found = learned(story, tmp_path / folder)
        assert next(one for one in found.patterns if one.destination == CART).windows_exposed == expected
        assert found.coverage["connections_unresolved"] == lost


def test_every_port_and_address_is_kept(tmp_path: Path) -> None:
    """Two ports of one pair of workloads and two addresses outside are four patterns."""
    story = shop(ports=[7070, 7071])
    for port in (7070, 7071):
        story.talk("shop/web-1", "shop/cart-1", port, at=[0, 60])
    for address in ("203.0.113.10", "203.0.113.11"):
        story.talk("shop/web-1", address, 443, at=[0, 60], dns=["api.example.com"])
    found = learned(story, tmp_path).patterns
    assert {(one.destination, one.port, one.decision) for one in found} == {
        (CART, 7070, "accept"),
        (CART, 7071, "accept"),
        ("203.0.113.10/32", 443, "accept"),
        ("203.0.113.11/32", 443, "accept"),
    }


def test_names_of_peers(tmp_path: Path) -> None:
    """Peers are named as the contract says, IPv4 and IPv6, folded or not."""
    story = shop()
    story.talk("shop/web-1", "2001:db8::1", 443, at=[0])
    story.talk("shop/web-1", "external/198.51.100.0/24", 443, at=[0], folded=9)
    story.talk("shop/web-1", "multicast/224.0.0.251", 5353, at=[0], protocol="udp", answered=0, unanswered=1)
    story.talk("shop/web-1", "apiserver", 443, at=[0])
    story.talk("shop/web-1", "node/node-b", None, at=[0], protocol="icmp", icmp=(8, 0))
    found = {
        (one.destination, one.destination_kind, one.port, one.icmp_type) for one in learned(story, tmp_path).patterns
    }
    assert found == {
        ("2001:db8::1/128", "external", 443, None),
        ("198.51.100.0/24", "external", 443, None),
        ("224.0.0.251/32", "multicast", 5353, None),
        ("apiserver", "apiserver", 443, None),
        ("node/node-b", "node", None, 8),
    }


def test_rows_of_one_key_add_up(tmp_path: Path) -> None:
    """A row split in two, in two files, is the row it was: names from one part, answers from the other."""
    whole, parts = shop(), shop()
    whole.talk("shop/web-1", "shop/cart-1", 7070, at=[0], answered=2, dns=["cart"], sides=["src"])
    first = replace(whole.flows[0], attempts=1, answered=1, dns_names=None, open=None)
    second = replace(whole.flows[0], attempts=1, answered=1, last_seen=moment(500))
    parts.flows = [first, second]
    one, two = learned(whole, tmp_path / "whole"), learned(parts, tmp_path / "parts")
    assert only(two).answered == 2
    assert only(two).decision == only(one).decision == "accept"
    assert only(two).last_seen == moment(60)


def test_periods_are_found(tmp_path: Path) -> None:
    """Windows at equal distance have a period; irregular or few ones have none."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 300, 600, 900, 1200])
    story.talk("shop/web-1", "shop/cart-1", 7071, at=[0, 60, 600, 660, 1200])
    story.talk("shop/web-1", "shop/cart-1", 7072, at=[0, 300, 600])
    found = {one.port: one.period for one in learned(story, tmp_path).patterns}
    assert found == {7070: 300.0, 7071: None, 7072: None}


def test_exposure_and_replicas_of_a_pattern(tmp_path: Path) -> None:
    """A pattern says in how many windows and pods it was seen of those in which it could have been."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60])
    story.gap("node-a", at=[120])
    pattern = only(learn(story.write(tmp_path, until=300)))
    assert (pattern.windows_seen, pattern.windows_exposed) == (2, 4)
    assert (pattern.replicas_seen, pattern.replicas_exposed, pattern.days) == (1, 2, 1)
    assert pattern.recurrence is not None
    assert pattern.recurrence["low"] < 0.5 < pattern.recurrence["high"]


def test_coverage_counts_nodes_that_nobody_covers(tmp_path: Path) -> None:
    """A node that the inventory lists and no row covers is a gap in every window."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60])
    story.gap("node-b", at=[60])
    story.add("Node", "silent", {"spec": {"podCIDR": "10.9.0.0/24"}})
    story.add("IPPool", "default", {"spec": {"cidr": "10.244.0.0/16"}})
    found = learned(story, tmp_path)
    assert (found.coverage["node_windows"], found.coverage["node_windows_gap"]) == (6, 3)
    assert found.coverage["node_windows_clean"] == 3
    assert found.cluster_ranges == ("10.0.1.0/24", "10.0.2.0/24", "10.9.0.0/24", "10.244.0.0/16")


def test_summary(tmp_path: Path) -> None:
    """The summary counts decisions and lists subjects with selector and state."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60])
    story.talk("shop/web-1", "203.0.113.10", 443, at=[0])
    found = summary(learned(story, tmp_path))
    assert found["schema_version"] == 1
    assert found["patterns"] == {"accept": 1, "queue": 1, "reject": 0}
    assert [sorted(one) for one in found["subjects"]] == [["bound", "rung", "selector", "state", "workload"]] * 2
    assert found["subjects"][0]["selector"] == {"matchLabels": {"app": "cart"}}


def test_no_recording_is_an_error(tmp_path: Path) -> None:
    """A folder that is missing, empty, or holds no flows is a RecordingError."""
    (tmp_path / "empty").mkdir()
    silent = shop().write(tmp_path / "silent")
    for place in (tmp_path / "missing", tmp_path / "empty", silent):
        with pytest.raises(RecordingError):
            learn(place)


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    """A Parquet file that lost its rows is a RecordingError, not a traceback of the engine's."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60])
    place = story.write(tmp_path)
    for table in ("identities", "coverage", "flows"):
        path = next((place / table).rglob("*.parquet"))
        data = path.read_bytes()
        path.write_bytes(data[:4] + b"\xff" * 596 + data[600:])
        with pytest.raises(RecordingError):
            learn(place)
        path.write_bytes(data)


def test_other_filesystems(tmp_path: Path) -> None:
    """A recording that is not on a local disk gives the same result."""
    story = shop()
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60], dns=["cart"])
    place = story.write(tmp_path)
    from learner.engine import duck

    remote = Recording("memory", pafs.SubTreeFileSystem(str(place), pafs.LocalFileSystem()), "")
    assert remote.files("flows")
    with duck(remote) as engine:
        assert engine.query("SELECT COUNT(*) AS n FROM flows") == [{"n": 4}]
        assert engine.query("SELECT SUM(dns) AS n FROM flows")[0]["n"] == 2


def busy() -> Story:
    """Return a story with something of everything."""
    story = shop(replicas=3)
    story.workload("shop/statefulset/db", replicas=2, ports=[5432], node="node-c")
    story.service("shop/db", port=5432, backends=["shop/db-1", "shop/db-2"])
    story.service("shop/cart", port=70, target=7070, backends=["shop/cart-1", "shop/cart-2"], selector={"app": "cart"})
    chance = random.Random(7)  # noqa: S311 - a seeded story, no secret
    for second in range(0, 4000, 60):
        for pod in ("shop/web-1", "shop/web-2"):
            cart = f"shop/cart-{chance.randint(1, 3)}"
            story.talk(pod, cart, 7070, at=[second], service="shop/cart", dns=[f"n{chance.randint(1, 3)}.example.com"])
            story.talk(
                pod, f"203.0.113.{chance.randint(1, 9)}", 443, at=[second], answered=chance.randint(0, 1), refused=1
            )
        story.talk("shop/cart-1", "service/shop/db", 5432, at=[second])
        story.talk("shop/cart-2", "shop/db-2", 5432, at=[second], sides=["dst"])
        story.talk("shop/cart-3", f"deferred/{story.pods['shop/db-1'].ips[0]}", 5432, at=[second])
    story.gap("node-a", at=[600, 660])
    return story


def output(folder: Path, into: Path, **options: int) -> bytes:
    """Return the bytes that `learn` writes."""
    into.mkdir()
    learn(folder, **options).write(into)
    return (into / "patterns.parquet").read_bytes() + (into / "subjects.json").read_bytes()


def test_order_and_files_do_not_matter(tmp_path: Path) -> None:
    """Rows in another order, in other files, read by another number of threads give the same bytes."""
    tables = busy().tables()
    chance = random.Random(3)  # noqa: S311 - a seeded order, no secret
    results = []
    for number, (pieces, threads) in enumerate(((1, 1), (4, 2), (9, 4))):
        place = tmp_path / f"recording-{number}"
        for name, table in tables.items():
            (place / name).mkdir(parents=True)
            order = list(range(len(table)))
            chance.shuffle(order)
            mixed = table.take(pa.array(order))
            for piece in range(pieces):
                part = mixed.slice(
                    piece * len(mixed) // pieces, (piece + 1) * len(mixed) // pieces - piece * len(mixed) // pieces
                )
                pq.write_table(part, place / name / f"{chance.randint(0, 10**9)}.parquet")
        results.append(output(place, tmp_path / f"out-{number}", threads=threads))
    assert results[0] == results[1] == results[2]


def test_hash_seeds_do_not_matter(tmp_path: Path) -> None:
    """Two interpreters with different hash seeds write the same bytes."""
    place = busy().write(tmp_path / "recording")
    code = "import sys, pathlib, learner; learner.learn(sys.argv[1]).write(pathlib.Path(sys.argv[2]))"
    results = []
    for seed in ("1", "2"):
        into = tmp_path / seed
        into.mkdir()
        subprocess.run(
            [sys.executable, "-c", code, str(place), str(into)],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
        )
        results.append((into / "patterns.parquet").read_bytes() + (into / "subjects.json").read_bytes())
    assert results[0] == results[1]


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    """One more connection changes the digest; other thresholds do not."""
    first, second = shop(), shop()
    first.talk("shop/web-1", "shop/cart-1", 7070, at=[0])
    second.talk("shop/web-1", "shop/cart-1", 7070, at=[0], answered=2)
    place = first.write(tmp_path / "first")
    digest = learn(place).input_digest
    assert learn(place, thresholds=Thresholds(windows=5, convergence_seconds=60)).input_digest == digest
    assert learned(second, tmp_path).input_digest != digest


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    """What `learn` writes reads back as what it returned."""
    found = learned(busy(), tmp_path)
    (tmp_path / "out").mkdir()
    found.write(tmp_path / "out")
    assert Learned.read(tmp_path / "out") == found


def test_importing_the_contract_does_not_load_the_engine() -> None:
    """Reading what was learned does not import DuckDB."""
    code = "import sys, learner.patterns; sys.exit('duckdb' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_names_spread_over_rows_of_one_key_make_no_other_digest(tmp_path: Path) -> None:
    """Rows of equal key add up, so one row with two names is the same input as two rows with one each."""
    found = []
    for names in (["a.example", "b.example"],), (["a.example"], ["b.example"]):
        story = shop()
        for number, some in enumerate(names):
            story.talk("shop/web-1", "203.0.113.9", 443, at=[0], dns=some, answered=1 - number)
        found.append(learn(story.write(tmp_path / str(len(names)))))
    assert found[0].patterns == found[1].patterns
    assert found[0].input_digest == found[1].input_digest


def test_the_engine_draws_no_progress_of_its_own(tmp_path: Path) -> None:
    """Whatever is printed is the caller's to print, also where DuckDB takes the program for a person's session."""
    story = Story()
    story.workload("shop/deployment/web")
    story.workload("shop/deployment/cart")
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0])
    place = story.write(tmp_path / "recording")
    code = (
        "import sys; from learner.engine import duck; from recorder.store import Recording\n"
        "with duck(Recording.open(sys.argv[1])) as engine:\n"
        "    print(engine.query(\"SELECT current_setting('enable_progress_bar') AS shown\"))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True)
    assert done.stdout == "[{'shown': False}]\n"
