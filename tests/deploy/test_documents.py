"""YAML and JSON are read with their lines, and what could be misunderstood is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.semantics.reading.documents import MAX_DEPTH, Table, UnreadableError, documents
from deploy.semantics.reading.json_documents import json_documents

_TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=8) | st.sampled_from(
    ['"', "\\", '\\"', "{", "}]", ":", '":', "\\\\", "a\\"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=12,
)


def plain(value: Any) -> Any:
    """Return a value with the lines of all its mappings and keys beside them."""
    if isinstance(value, Table):
        return value.line, [(key, value.line_of(key), plain(inner)) for key, inner in value.items()]
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@given(st.lists(st.dictionaries(_TEXTS, _VALUES, max_size=4), min_size=1, max_size=3), st.sampled_from([None, 1, 4]))
def test_json_is_read_as_yaml_reads_it(values: list[Any], indent: int | None) -> None:
    """The quick reader of JSON finds the same values on the same lines as the reader of YAML."""
    for value in values:
        text = json.dumps(value, indent=indent, ensure_ascii=False)
        quick = json_documents(f"\n{text}\n", 0, MAX_DEPTH)
        (slow,) = documents(f"#\n{text}\n")
        assert quick is not None
        assert [(line, plain(inner)) for line, inner in quick] == [(slow[0], plain(slow[1]))]


def test_json_documents_may_follow_each_other_or_be_parted_by_markers() -> None:
    """JSON documents are read as kubectl does, one after the other, with or without `---` between them."""
    for text in (
        '{"a": 1}\n{"b": 2}\n',
        '{"a": 1}{\n"b": 2}',
        '--- {"a": 1}\n---\n{"b": 2}',
        '{"a": 1}\n---\n\n{"b": 2}',
    ):
        assert [value for _, value in documents(text)] == [{"a": 1}, {"b": 2}]
    lines = [
        (line, value.line_of("b")) for line, value in documents('# c\n---\n{\n"b": 2}\n---\n{"b": 3}\n{\n\n"b": 4}')
    ]
    assert lines == [(3, 4), (6, 6), (7, 9)]


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        ('{"a": 1,\n"a": 2}', 2, "duplicate key 'a'"),
        ('{"b": [{"a": 1},\n{"a": 1,\n"c": 1, "a": 1}]}', 3, "duplicate key 'a'"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", 1, "nested deeper than 64 levels"),
        ("[" * 5000 + "]" * 5000, 1, "nested deeper than 64 levels"),
        ('{"a": 1,\n"b" 2}', 2, "not YAML"),
        ('{"a": "\\ud800"}', 1, "not YAML"),
        ('{"a": 1} x', 1, "not YAML"),
    ],
)
def test_json_that_may_not_be_trusted_is_an_error(text: str, line: int, rule: str) -> None:
    """Duplicate keys, deep nesting, half a surrogate and broken JSON are errors with their lines."""
    with pytest.raises(UnreadableError, match=rule) as caught:
        list(documents(text))
    assert caught.value.line == line


def test_json_strings_stay_text_and_a_pair_of_surrogates_is_one_character() -> None:
    """What YAML would take for something else is a text in JSON, escapes included."""
    ((_, value),) = documents('{"a": "yes", "b": "1", "c": "\\ud83d\\ude00", "d": 1.5, "e": null, "f": true}')
    assert value == {"a": "yes", "b": "1", "c": "\U0001f600", "d": 1.5, "e": None, "f": True}


def test_what_only_looks_like_json_is_read_as_yaml() -> None:
    """A flow mapping of YAML is no JSON, and is read all the same."""
    assert [value for _, value in documents("{a: yes, 'b': [1, x]}")] == [{"a": True, "b": [1, "x"]}]
    assert [value for _, value in documents('{"a": NaN, "b": Infinity}')] == [{"a": "NaN", "b": "Infinity"}]


def test_documents_are_parted_where_yaml_parts_them() -> None:
    """A marker counts at the start of a line only, with directives before it and whatever stands around it."""
    text = "a: 1\n--- # c\nb: |\n  --- x\n  y\n...\n---\nc: '---'\n--- {d: 1}\n---x: 2\n"
    with pytest.raises(UnreadableError):
        list(documents(text))
    found = list(documents(text.replace("---x: 2\n", "")))
    assert found == [(1, {"a": 1}), (3, {"b": "--- x\ny\n"}), (8, {"c": "---"}), (9, {"d": 1})]
    assert list(documents("%YAML 1.1\n---\na: 1\n")) == [(3, {"a": 1})]
    assert list(documents("a: 1\r\n---\r\nb: 2\r\n")) == [(1, {"a": 1}), (3, {"b": 2})]
    assert list(documents("a: 1\r---\rb: 2\r")) == [(1, {"a": 1}), (3, {"b": 2})]
    assert list(documents("a: 1\rb: 2\n---\nc: 3\n")) == [(1, {"a": 1, "b": 2}), (4, {"c": 3})]
    assert list(documents("a: \x85 1\n---\nb: 2\n"))[-1][1] == {"b": 2}


def test_a_document_that_cannot_be_read_hides_no_other() -> None:
    """Where errors are collected, reading goes on with the next document."""
    wrong: list[UnreadableError] = []
    assert list(documents("a: [\n---\nb: 1\n---\nc: }\n", unreadable=wrong)) == [(3, {"b": 1})]
    assert [error.line for error in wrong] == [2, 5]


def test_items_are_handed_over_one_by_one() -> None:
    """Each item of a document's own `items` is handed over as soon as it is read, those of others are not."""
    text = "items:\n- {a: 1}\n-\n  b: {items: [{c: 1}]}\n---\nd: {items: [{a: 1}]}\n"
    seen: list[tuple[Any, int]] = []
    found = [value for _, value in documents(text, each=lambda item, line: seen.append((item, line)))]
    assert seen == [({"a": 1}, 2), ({"b": {"items": [{"c": 1}]}}, 4)]
    assert found == [{"items": [None, None]}, {"d": {"items": [{"a": 1}]}}]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("off", False),
        ("~", None),
        ("0o17", 15),
        ("017", 15),
        ("0x1F", 31),
        ("0b101", 5),
        ("1_000", 1000),
        ("+1", 1),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
        ("0b_", "0b_"),
        ("0x_", "0x_"),
        ("._", "._"),
        ("_1", "_1"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!!int '1'", 1),
        ("9" * 400, float("inf")),
    ],
)
def test_plain_scalars_are_resolved_as_kubectl_does(text: str, value: Any) -> None:
    """YAML 1.1 scalars, without its sexagesimal numbers and dates (sigs.k8s.io/yaml, goyaml.v2 resolve.go)."""
    assert list(documents(f"a: {text}\n")) == [(1, {"a": value})]


def test_merge_keys_are_followed_and_own_keys_go_before() -> None:
    """`<<` adds what the mapping does not say itself, each key with its own line."""
    ((_, value),) = documents("x: &x {a: 1,\n  b: 2}\nz:\n  <<: *x\n  b: 3\n")
    assert value["z"] == {"a": 1, "b": 3}
    assert [value["z"].line_of(key) for key in ("a", "b", "c")] == [1, 5, 4]
    with pytest.raises(UnreadableError, match="merges something that is no mapping"):
        list(documents("<<: [1]"))


def test_an_alias_may_be_used_often_but_not_without_end() -> None:
    """An alias adds what its anchor holds; a document may grow by no more than 100,000 values that way."""
    anchors = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\nb:\n"
    ((_, value),) = documents(anchors + "- *a\n" * 10_000)
    assert len(value["b"]) == 10_000
    with pytest.raises(UnreadableError, match="aliases expand to more than 100000 values"):
        list(documents(anchors + "- *a\n" * 10_001))
    assert len(list(documents((anchors + "- *a\n" * 6_000 + "---\n") * 2))) == 2
