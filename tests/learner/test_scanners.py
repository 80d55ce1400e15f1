"""Threshold Random Walk: by hand, and on recordings."""

from pathlib import Path

import pytest

from learner import learn
from learner.scanners import Walk, is_scanner, scanners
from tests.recordings import Story

WALK = Walk()
"""One failure multiplies the likelihood ratio by .8/.2 = 4, one success by 1/4; 99 flags, 1/99 clears."""


@pytest.mark.parametrize(
    ("outcomes", "flagged"),
    [
        ("FFF", False),  # 64 < 99
        ("FFFF", True),  # 256 >= 99
        ("SFFFF", False),  # 64
        ("SFFFFF", True),  # 256
        ("FSFSFSFS", False),  # 1
        ("SSSSFFFF", True),  # 1/256 clears: anew, then 256
        ("SSSFFFFFF", False),  # 4^3
        ("SSSFFFFFFF", True),  # 4^4
    ],
)
def test_the_walk_by_hand(outcomes: str, *, flagged: bool) -> None:
    """Four net failures flag, four net successes clear and start anew."""
    assert is_scanner((one == "S" for one in outcomes), WALK) is flagged


def test_sources_walk_by_themselves() -> None:
    """Failures of different sources do not add up."""
    contacts = [("a", False), ("b", False)] * 3 + [("a", False)]
    assert scanners(contacts, WALK) == {"a"}


def shop() -> Story:
    """Return web, cart and a pod to be suspected."""
    story = Story()
    story.workload("shop/deployment/web")
    story.workload("shop/deployment/cart", ports=[7070])
    story.workload("shop/deployment/odd")
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0, 60])
    return story


def test_a_scanner_gets_nothing(tmp_path: Path) -> None:
    """A source flagged by contacts with addresses nobody held has all it did rejected, before and after."""
    story = shop()
    story.talk("shop/odd-1", "shop/cart-1", 7070, at=[0, 60, 600])
    for number in range(6):
        story.talk("shop/odd-1", f"unresolved/10.0.9.{number}", 22, at=[120], answered=0, unanswered=1)
    found = [one for one in learn(story.write(tmp_path / "r")).patterns if one.source == "shop/deployment/odd"]
    assert {one.decision for one in found} == {"reject"}
    assert {tuple(one.reasons) for one in found if one.answered} == {("flagged-source",)}
    assert {tuple(one.reasons) for one in found if not one.answered} == {("flagged-source", "never-answered")}


def test_a_dead_backend_is_one_contact(tmp_path: Path) -> None:
    """A client that tries one dead backend a thousand times, from many pods, is no scanner."""
    story = Story()
    story.workload("shop/deployment/web", replicas=8)
    story.workload("shop/deployment/dead", replicas=8)
    story.workload("shop/deployment/cart", ports=[7070])
    for number in range(1, 9):
        story.talk(f"shop/web-{number}", f"shop/dead-{number}", 80, at=[number * 60], answered=0, refused=100)
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[900, 960])
    found = {one.destination: one.decision for one in learn(story.write(tmp_path / "r")).patterns}
    assert found == {"shop/deployment/dead": "reject", "shop/deployment/cart": "accept"}


def test_success_is_judged_in_the_first_window(tmp_path: Path) -> None:
    """A contact that fails at first and is answered later stays a failure of the walk."""
    story = shop()
    for number in range(4):
        story.talk("shop/odd-1", f"203.0.113.{number}", 443, at=[0], answered=0, unanswered=1)
        story.talk("shop/odd-1", f"203.0.113.{number}", 443, at=[120])
    found = [one for one in learn(story.write(tmp_path / "r")).patterns if one.source == "shop/deployment/odd"]
    assert {tuple(one.reasons) for one in found} == {("flagged-source",)}


def test_order_is_by_time(tmp_path: Path) -> None:
    """The same contacts flag when the failures come after the test has cleared, and not when they are spread."""
    for folder, failures, expected in (("late", 1000, True), ("spread", 30, False)):
        story = shop()
        for number in range(4):
            story.talk("shop/odd-1", f"203.0.113.{number}", 443, at=[number * 60])
            story.talk(
                "shop/odd-1", f"203.0.113.{100 + number}", 443, at=[failures + number * 60], answered=0, unanswered=1
            )
        found = [one for one in learn(story.write(tmp_path / folder)).patterns if one.source == "shop/deployment/odd"]
        assert any("flagged-source" in one.reasons for one in found) is expected


def test_nodes_are_not_walked(tmp_path: Path) -> None:
    """A node whose probes of many pods fail is no scanner: what else it does is queued, as a node's."""
    story = shop()
    for number in range(6):
        story.workload(f"shop/deployment/down{number}")
        story.talk("node/node-a", f"shop/down{number}-1", 80, at=[0], answered=0, refused=1)
    story.talk("node/node-a", "shop/cart-1", 7070, at=[60])
    found = learn(story.write(tmp_path / "r")).patterns
    assert [one.reasons for one in found if one.source_kind == "node" and one.answered] == [["node-source"]]


def test_a_scanner_changes_nothing_for_others(tmp_path: Path) -> None:
    """With a scanner in the recording, every pattern of everybody else is what it is without."""

    def rest(story: Story, folder: str) -> list[object]:
        found = learn(story.write(tmp_path / folder))
        return [one for one in found.patterns if one.source != "shop/deployment/odd"]

    calm, storm = shop(), shop()
    for number in range(1, 200):
        storm.talk("shop/odd-1", f"unresolved/10.0.9.{number}", 22, at=[60], answered=0, unanswered=1)
        storm.talk("shop/odd-1", "shop/cart-1", number, at=[60], answered=0, refused=1)
        storm.talk("shop/odd-1", "shop/web-1", number, at=[60], answered=int(number == 80), refused=1)
    assert rest(calm, "calm") == rest(storm, "storm")
