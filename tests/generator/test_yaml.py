"""What is written as YAML reads back the same in YAML 1.1 (PyYAML) and YAML 1.2 (ruamel.yaml)."""

import string
from io import StringIO
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from generator.yaml import dump

_ENDS = string.ascii_letters + string.digits
LABELS = st.from_regex(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", fullmatch=True)
WORDS = """
on Off YES no y N true False null Null ~ none 1e3 1e003 .5 .inf .NaN 0x1F 0o17 012 08 1_000 12:30 1:2:3.4 2001-01-01
2001-01-01T10:00:00Z +1 -1 - ? : = << ! & * | > % @ ` # {} [] --- ... a: a:b #a
"""
ODD = ["", " ", " a", "a ", "a: b", "a #b", "a\nb", "\n", "\t", "a\\b", 'a"b', "a'b", "\x85", "\u2028", "\ufeff"]
TRICKY = st.sampled_from(WORDS.split() + ODD)
TEXT = LABELS | TRICKY | st.text()
DATA = st.recursive(
    TEXT | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20) | LABELS | TRICKY, inner, max_size=4)
    ),
    max_leaves=12,
)


def _reads_back(value: Any) -> None:
    text = dump(value)
    assert yaml.safe_load(text) == value, text
    assert YAML(typ="safe", pure=True).load(StringIO(text)) == value, text


@given(LABELS)
@example("1e003")
@example("0x1F")
@example("on")
def test_every_label_reads_back(label: str) -> None:
    """A label's value is the same string again, as value, as key and in a list."""
    _reads_back({"labels": {"app": label}, "list": [label], f"{label}": 1})


@given(DATA)
def test_any_data_reads_back(value: Any) -> None:
    """Any data of the types that are written is the same again, in the same order of keys."""
    _reads_back(value)
    if isinstance(value, dict):
        assert list(yaml.safe_load(dump(value))) == list(value)


@given(st.text(alphabet=_ENDS + "~:#-_.+' =&!%@`{}[]<>|?*,\\\"\t", max_size=6))
def test_short_strings_of_special_characters_read_back(text: str) -> None:
    """Strings made of YAML's own characters are the same again."""
    _reads_back({"a": text, "b": [text]})


def test_plain_words_stay_plain() -> None:
    """What nobody can misread is not quoted, so that the YAML looks as people write it."""
    assert dump({"kind": "NetworkPolicy", "selector": "app == 'web' && tier == 'front'", "ports": [80]}) == (
        "kind: NetworkPolicy\nselector: app == 'web' && tier == 'front'\nports:\n  - 80\n"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: "a"}, b"a", {"a": {None: 1}}])
def test_other_types_are_refused(value: Any) -> None:
    """What has no one spelling is an error, not a guess."""
    with pytest.raises(TypeError):
        dump(value)


def test_a_key_that_no_reader_takes_is_refused() -> None:
    """YAML readers take keys of up to 1,024 characters."""
    with pytest.raises(ValueError, match="1024"):
        dump({"k" * 1025: 1})
