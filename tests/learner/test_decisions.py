"""People's decisions: obeyed while they hold, and refused with a line when they cannot be right."""

from pathlib import Path

import pytest

from learner import learn
from learner.decisions import read_decisions
from learner.patterns import Learned, Pattern
from recorder.errors import InputError
from tests.recordings import Story

ENTRY = """\
- source: shop/deployment/web
  destination: shop/deployment/cart
  protocol: tcp
  port: 7070
  decision: {decision}
  by: ann@example.com
"""


def decided(folder: Path, text: str, **talk: object) -> Learned:
    """Return what is learned from web talking once to cart, with decisions."""
    story = Story()
    story.workload("shop/deployment/web")
    story.workload("shop/deployment/cart", ports=[7070])
    story.talk("shop/web-1", "shop/cart-1", 7070, **{"at": [0]} | talk)
    path = folder / "decisions.yaml"
    path.write_text(text, encoding="utf-8")
    return learn(story.write(folder / "recording"), decisions=path)


def one(found: Learned) -> Pattern:
    """Return the only pattern."""
    (pattern,) = found.patterns
    return pattern


def test_a_person_accepts(tmp_path: Path) -> None:
    """What the gate queues is accepted by a person, on that person's word."""
    pattern = one(decided(tmp_path, ENTRY.format(decision="accept")))
    assert (pattern.decision, pattern.basis) == ("accept", "human")
    assert "decided-by:ann@example.com" in pattern.reasons


def test_a_person_rejects(tmp_path: Path) -> None:
    """What the gate accepts is rejected by a person."""
    pattern = one(decided(tmp_path, ENTRY.format(decision="reject"), at=[0, 60]))
    assert (pattern.decision, pattern.basis) == ("reject", "human")


def test_a_person_outweighs_a_flag(tmp_path: Path) -> None:
    """An answered pattern of a flagged source is accepted when a person says so, and nothing else of that source is."""
    story = Story()
    story.workload("shop/deployment/web")
    story.workload("shop/deployment/cart", ports=[7070])
    story.talk("shop/web-1", "shop/cart-1", 7070, at=[0])
    for number in range(9):
        story.talk("shop/web-1", f"unresolved/10.0.9.{number}", 22, at=[60], answered=0, unanswered=1)
    path = tmp_path / "decisions.yaml"
    path.write_text(ENTRY.format(decision="accept"), encoding="utf-8")
    found = learn(story.write(tmp_path / "recording"), decisions=path).patterns
    assert [pattern.destination for pattern in found if pattern.decision == "accept"] == ["shop/deployment/cart"]


@pytest.mark.parametrize(
    ("until", "holds"), [("2026-03-01", False), ("2026-03-02", True), ("2026-03-01T23:59:59Z", False)]
)
def test_decisions_end(tmp_path: Path, until: str, *, holds: bool) -> None:
    """A decision holds through its last day, by the recording's last window and not by the clock; then it is listed."""
    pattern = one(decided(tmp_path, ENTRY.format(decision="accept") + f"  until: {until}\n"))
    assert (pattern.decision == "accept") is holds
    assert ("decision-expired:ann@example.com" in pattern.reasons) is not holds


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "[]\n"])
def test_no_decisions_are_none(tmp_path: Path, text: str) -> None:
    """An empty file decides nothing."""
    assert one(decided(tmp_path, text)).basis == "observed"


GOOD = ENTRY.format(decision="accept")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (GOOD + GOOD, 7, "decided before"),
        (GOOD.replace("7070", "7071"), 1, "shows no pattern"),
        (GOOD + "  why: because\n", 7, "unknown field 'why'"),
        (GOOD.replace("accept", "allow"), 5, "'allow'"),
        (GOOD.replace("  by: ann@example.com\n", ""), 1, "'by' is missing"),
        (GOOD.replace("ann@example.com", '""'), 6, "'by' is empty"),
        (GOOD + "  by: bob\n", 7, "given twice"),
        (GOOD + "  until: someday\n", 7, "someday"),
        (GOOD.replace("7070", "[7070]"), 4, "'port'"),
        ("source: x\n", 1, "list"),
        ("- x\n", 1, "entry"),
        (GOOD + "  note: [\n", 8, "not YAML"),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    """Each mistake is an error with file and line."""
    with pytest.raises(InputError) as caught:
        decided(tmp_path, text)
    assert f"decisions.yaml:{line}:" in str(caught.value)
    assert says in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A file that is not there is an error, not an empty one."""
    with pytest.raises(InputError, match="cannot be read"):
        read_decisions(tmp_path / "decisions.yaml")


@pytest.mark.parametrize("until", ["2026-03-02", "20260302", "9999-12-31"])
def test_a_day_is_over_at_its_end_however_it_is_written(tmp_path: Path, until: str) -> None:
    """A decision until a day holds on that day, whichever ISO 8601 form names it, the last of all days included."""
    found = decided(tmp_path, ENTRY.format(decision="reject") + f"  until: {until}\n")
    assert (one(found).decision, one(found).basis) == ("reject", "human")


def test_decisions_nested_without_end_are_an_error(tmp_path: Path) -> None:
    """A file that no reader gets to the bottom of is refused by name."""
    path = tmp_path / "decisions.yaml"
    path.write_text("[" * 3000 + "]" * 3000, encoding="utf-8")
    with pytest.raises(InputError, match="nested too deeply"):
        read_decisions(path)
