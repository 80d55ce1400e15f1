"""Reading event logs and lists, honest and hostile."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import InventoryError
from recorder.identity import World, is_log
from recorder.identity.documents import documents
from recorder.identity.events import Event, Follower, read_events
from recorder.records import SECOND

BEGIN = 1_750_000_000 * SECOND


def pod(name: str, **status: Any) -> dict[str, Any]:
    """Return a small Pod."""
    metadata = {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": "2025-06-15T15:00:00Z"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}


def line(second: float, value: dict[str, Any] | None = None, kind: str = "ADDED") -> str:
    """Return a line of a log; seconds are after 15:06:40."""
    time = f"2025-06-15T15:06:{40 + second:09.6f}Z"
    return json.dumps({"time": time, "type": kind, "object": value or {}}) + "\n"


def write(folder: Path, text: str | bytes, name: str = "inventory") -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def names(events: list[Event]) -> list[str]:
    """Return the names of the events' objects."""
    return [event.object.get("metadata", {}).get("name", "-") for event in events]


def test_a_log_is_read_in_order_of_time_and_ties_stay_in_the_files_order(tmp_path: Path) -> None:
    """Lines may be out of order, as when several watches write one log."""
    text = line(3, pod("c")) + line(1, pod("a")) + "\n" + line(3, pod("d")) + line(2, kind="BOOKMARK")
    events = list(read_events(write(tmp_path, text)))
    assert names(events) == ["a", "-", "c", "d"]
    assert [event.time - BEGIN for event in events] == [1 * SECOND, 2 * SECOND, 3 * SECOND, 3 * SECOND]
    assert not any(event.listed for event in events)


def test_times_with_offsets_are_utc(tmp_path: Path) -> None:
    """RFC 3339 allows any offset; a time without one is an error, because it is anybody's."""
    entry = {"time": "2025-06-15T17:06:40.000001+02:00", "type": "ADDED", "object": pod("a")}
    assert next(read_events(write(tmp_path, json.dumps(entry) + "\n"))).time == BEGIN + 1
    entry["time"] = "2025-06-15T17:06:40"
    with pytest.raises(InventoryError, match="line 1"):
        list(read_events(write(tmp_path, json.dumps(entry) + "\n", "log.jsonl")))


def test_the_last_line_of_a_log_may_be_torn(tmp_path: Path) -> None:
    """A log that is copied while it grows ends in the middle of a line; the rest stands."""
    text = line(1, pod("a")) + line(2, pod("b"))
    assert names(list(read_events(write(tmp_path, text[:-20])))) == ["a"]
    assert names(list(read_events(write(tmp_path, text[:-1])))) == ["a", "b"]


LISTS = {
    "list.yaml": yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [pod("a"), pod("b")]}),
    "documents.yaml": "---\n" + yaml.safe_dump(pod("a")) + "---\n---\n" + yaml.safe_dump(pod("b")),
    "list.json": json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod("a"), pod("b")]}, indent=4),
    "compact.json": json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod("a"), pod("b")]}),
    "podlist.json": json.dumps(
        {
            "kind": "PodList",
            "apiVersion": "v1",
            "metadata": {},
            "items": [{"metadata": pod(name)["metadata"]} for name in "ab"],
        }
    ),
    "array.json": json.dumps([pod("a"), pod("b")]),
    "one-after-another.json": json.dumps(pod("a"), indent=1) + "\n" + json.dumps(pod("b"), indent=1),
    "bom.json": "\ufeff" + json.dumps([pod("a"), pod("b")]),
    "flow.yaml": f"{{apiVersion: v1, kind: List, items: [{json.dumps(pod('a'))}, {json.dumps(pod('b'))}]}}",
    "anchored.yaml": "apiVersion: v1\nkind: List\nitems:\n- &a\n  apiVersion: v1\n  kind: Pod\n  metadata:\n    name: a\n"
    "- <<: *a\n  metadata:\n    name: b\n",
}


@pytest.mark.parametrize("form", LISTS)
def test_every_form_of_a_list_gives_the_same_objects(tmp_path: Path, form: str) -> None:
    """What kubectl prints, in YAML or JSON, one list or many documents, typed or not."""
    events = list(read_events(write(tmp_path, LISTS[form], form), BEGIN))
    assert names(events) == ["a", "b"]
    assert {(event.time, event.type, event.listed) for event in events} == {(BEGIN, "ADDED", True)}
    assert {(event.object["kind"], event.object["apiVersion"]) for event in events} == {("Pod", "v1")}


def test_a_lists_time_is_the_newest_in_it_but_not_one_that_lies_ahead(tmp_path: Path) -> None:
    """A node's heartbeat tells when a list was taken; expiries and people's annotations do not."""
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n", "annotations": {"startTime": "2030-01-01T00:00:00Z"}},
    }
    node["status"] = {"conditions": [{"lastHeartbeatTime": "2025-06-15T15:06:40Z"}], "notAfter": "2031-01-01T00:00:00Z"}
    gone = pod("a")
    gone["metadata"]["deletionTimestamp"] = "2025-06-15T15:07:10Z"
    path = write(tmp_path, json.dumps([gone, node]))
    assert {event.time for event in read_events(path)} == {BEGIN}
    assert {event.time for event in read_events(path, 7)} == {7}


def test_a_list_of_holders_without_any_time_must_be_told_one(tmp_path: Path) -> None:
    """Who held an address when cannot be made up; manifests, which hold none, need no time."""
    value = pod("a", podIP="10.0.0.1")
    del value["metadata"]["creationTimestamp"]
    path = write(tmp_path, json.dumps([value]))
    with pytest.raises(InventoryError, match="no time"):
        list(read_events(path))
    assert next(read_events(path, 5)).time == 5
    del value["status"]
    assert next(read_events(write(tmp_path, json.dumps([value])))).time == 0


def test_scalars_are_those_that_kubectl_means(tmp_path: Path) -> None:
    """Unquoted times, `on` and sexagesimal numbers stay text; numbers, booleans and null are what they look like."""
    text = b"t: 2025-06-15T15:06:40Z\non: off\nm: 22:30\ni: -7\nx: 0x1f\no: 0777\nf: 1.5\nb: true\nn: ~\nq: '1'\nd: 2025-06-15\n'': ''\n1: 2"
    assert documents(text, "x") == [
        {
            "t": "2025-06-15T15:06:40Z", "on": "off", "m": "22:30", "i": -7, "x": 31, "o": "0777", "f": 1.5, "b": True,
            "n": None, "q": "1", "d": "2025-06-15", "": "", "1": 2,
        }
    ]  # fmt: skip


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join(['*' + chr(97 + k)] * 10)}]\n" for k in range(9)
)
HOSTILE = {
    "empty": ("", "holds no Kubernetes objects"),
    "blank": ("\n \n", "holds no Kubernetes objects"),
    "comment": ("# nothing\n", "holds no Kubernetes objects"),
    "empty list": ("apiVersion: v1\nkind: List\nitems: []\n", "holds no Kubernetes objects"),
    "text": ("hello\n", "entry 1"),
    "number": ("12", "entry 1"),
    "binary": (b"\x00\x01\xff\xfe\x80", "not YAML"),
    "tabs": ("a:\n\t- b\n", "line 2"),
    "half a mapping": ("a: [1, 2\n", "not YAML"),
    "half of JSON": ('{"apiVersion": "v1", "kind": "List", "items": [', "not JSON"),
    "deep JSON": ("[" * 100_000, "not JSON"),
    "deep YAML": ("".join(f"{' ' * k}a:\n" for k in range(300)), "levels deep"),
    "key twice": ("apiVersion: v1\nkind: Pod\nkind: Node\n", "line 3: key 'kind' twice"),
    "bomb": (BOMB, "aliases repeat too much"),
    "alias to itself": ("a: &a [*a]\n", "alias"),
    "alias to nothing": ("a: *b\n", "not YAML|alias"),
    "python": ("!!python/object/apply:os.system [ls]\n", "entry 1"),
    "tag": ("a: !!binary aGk=\n", "tag"),
    "list as key": ("? [a]\n: b\n", "key that is no text"),
    "no kind": ("apiVersion: v1\nmetadata: {name: a}\n", "entry 1: no Kubernetes object"),
    "entry without kind": ('{"kind":"List","apiVersion":"v1","items":[{"kind":"Pod","apiVersion":"v1","metadata":{}},7]}', "entry 2"),
    "items are no list": ("kind: List\napiVersion: v1\nitems: 3\n", "entry 1"),
    "event of no type": ('{"time":"2025-06-15T15:06:40Z","type":"CHANGED","object":{}}\n', "line 1"),
    "event without time": (line(1, pod("a")) + '{"type":"ADDED","object":{}}\n', "line 2"),
    "event without object": (line(1, pod("a")) + '{"time":"2025-06-15T15:06:40Z","type":"ADDED"}\n', "line 2"),
    "event of a number": (line(1, pod("a")) + "7\n", "line 2"),
    "log with rubbish": (line(1, pod("a")) + "rubbish\n" + line(2, pod("b")), "line 2"),
    "deep event": (line(1, pod("a")) + '{"object":' + "[" * 100_000 + "\n" + line(1, pod("b")), "line 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_input_is_an_error_in_one_line_that_names_the_place(tmp_path: Path, case: str) -> None:
    """No traceback, no endless work, no second line: the file and what is wrong in it."""
    text, expected = HOSTILE[case]
    path = write(tmp_path, text)
    with pytest.raises(InventoryError, match=expected) as caught:
        list(read_events(path))
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400


def test_a_missing_file_or_a_folder_is_an_error(tmp_path: Path) -> None:
    """The message says which file."""
    for call in (lambda path: list(read_events(path)), Follower, World.read, World.follow):
        with pytest.raises(InventoryError, match=r"absent: no such file"):
            call(tmp_path / "absent")
    with pytest.raises(InventoryError, match=tmp_path.name):
        list(read_events(tmp_path))


@given(st.binary(max_size=200))
def test_any_bytes_give_documents_or_an_inventory_error(text: bytes) -> None:
    """The reader of other people's files has no other way to fail."""
    try:
        documents(text, "x")
    except InventoryError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right


# PyYAML writes YAML 1.1 and leaves texts such as 0E0 bare, which are numbers in 1.2.
WORDS = st.text(max_size=8).filter(lambda text: text[:1] not in {*"+-.0123456789"}) | st.sampled_from(
    ["<<", "on", "1", "-"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | WORDS | st.floats(-1e15, 1e15),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(WORDS, JSON, min_size=1, max_size=5))
def test_yaml_and_json_of_one_object_read_alike(value: dict[str, Any]) -> None:
    """Whatever JSON can say, its two spellings give the same."""
    text = yaml.safe_dump(value, allow_unicode=False).encode()
    assert documents(json.dumps(value).encode(), "x") == [value]
    (read,) = documents(text, "x")
    assert json.dumps(read, sort_keys=True) == json.dumps(value, sort_keys=True)


def test_a_follower_reads_what_is_added_and_leaves_a_torn_line_for_later(tmp_path: Path) -> None:
    """Each event comes once, and only when its line has ended."""
    path = write(tmp_path, "")
    follower = Follower(path)
    assert follower.poll() == []
    whole = line(1, pod("a")) + line(2, pod("b"))
    with path.open("a") as file:
        file.write(whole[:-10])
        file.flush()
        assert names(follower.poll()) == ["a"]
        assert follower.poll() == []
        file.write(whole[-10:] + line(3, pod("c")))
        file.flush()
        assert names(follower.poll()) == ["b", "c"]


def test_a_follower_starts_anew_when_the_log_is_replaced_or_cut(tmp_path: Path) -> None:
    """Rotation and truncation lose nothing of the new file."""
    path = write(tmp_path, line(1, pod("a")) + line(2, pod("b")))
    follower = Follower(path)
    assert names(follower.poll()) == ["a", "b"]
    write(tmp_path, line(3, pod("c")))
    assert names(follower.poll()) == ["c"]
    write(tmp_path, line(4, pod("d")) + line(5, pod("e")), "next").rename(path)
    assert names(follower.poll()) == ["d", "e"]


def test_a_follower_names_a_bad_line_once_and_goes_on(tmp_path: Path) -> None:
    """Neither the lines before it nor those after it are lost."""
    path = write(tmp_path, line(1, pod("a")) + "rubbish\n" + line(2, pod("b")))
    follower = Follower(path)
    assert names(follower.poll()) == ["a"]
    with pytest.raises(InventoryError, match="line 2"):
        follower.poll()
    assert names(follower.poll()) == ["b"]


def test_a_log_and_a_list_are_told_apart(tmp_path: Path) -> None:
    """By what the first line holds, or the name when nothing is in it that could tell."""
    assert is_log(write(tmp_path, line(1, pod("a"))))
    assert is_log(write(tmp_path, line(1, {**pod("a"), "long": "x" * 100_000})))
    assert is_log(write(tmp_path, "rubbish\n", "x.jsonl"))
    assert not is_log(write(tmp_path, json.dumps(pod("a"))))
    assert not is_log(write(tmp_path, LISTS["list.yaml"]))
