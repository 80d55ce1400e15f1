"""The grammar of Calico's selectors (projectcalico/calico libcalico-go/lib/selector)."""

import pytest

from deploy.semantics.selectors import SelectorError, calico_selector


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("", {}, None),
        (" \t", {"a": "b"}, None),
        ("all()", {}, None),
        ("a == 'b'", {"a": "b"}, {}),
        ('a=="b"', {"a": "b"}, {"a": "c"}),
        ("a != 'b'", {}, {"a": "b"}),
        ("a in {'b', \"c\"}", {"a": "c"}, {}),
        ("a in{'b',}", {"a": "b"}, {"a": "c"}),
        ("a in {}", {}, None),
        ("a not in {'b'}", {}, {"a": "b"}),
        ("a notin {'b'}", {"a": "c"}, {"a": "b"}),
        ("has(a)", {"a": ""}, {}),
        ("! has( a )", {}, {"a": ""}),
        ("!!has(a)", {"a": "x"}, {}),
        ("a contains 'b'", {"a": "abc"}, {}),
        ("a starts with 'ab'", {"a": "abc"}, {"a": "cab"}),
        ("a startswith 'ab'", {"a": "abc"}, {"a": "cab"}),
        ("a ends  with 'bc'", {"a": "abc"}, {"a": "bca"}),
        ("a == 'b' && c == 'd'", {"a": "b", "c": "d"}, {"a": "b"}),
        ("a == 'b' || c == 'd'", {"c": "d"}, {}),
        ("a == 'x' && b == 'x' || c == 'x'", {"c": "x"}, {"a": "x"}),
        ("a == 'x' && (b == 'x' || c == 'x')", {"a": "x", "c": "x"}, {"c": "x"}),
        ("!(has(b) || !has(a))", {"a": ""}, {"a": "", "b": ""}),
        ("!a == 'b'", {"a": "c"}, {"a": "b"}),
        ("in in {'in'}", {"in": "in"}, {}),
        ("has == 'x'", {"has": "x"}, {}),
        ("""a == '"'""", {"a": '"'}, {"a": "'"}),
        ("example.com/a_b-c == 'd'", {"example.com/a_b-c": "d"}, {}),
    ],
)
def test_what_a_selector_matches(text: str, matching: dict[str, str], other: dict[str, str] | None) -> None:
    """What a selector matches."""
    selector = calico_selector(text)
    # An empty set holds nothing, so its selector has no match to show.
    assert selector.matches(matching) == (text != "a in {}")
    assert other is None or not selector.matches(other)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "b == b",
            "b contains b",
            "'b1' == b",
            "b",
            "a b",
            "!",
            'a == "b" &',
            'a == "b" |',
            "a != ||",
            'a in {"", ||',
        ),
        *('a in ""', '"FOO', "\"FOO'", "(", '(a == "b"', ")", "()", "%", 'a == "b" && %', "has(a) &&", "a = 'b'"),
        *("has()", "has(a", "all(x)", "a starts 'b'", "a not {'b'}", "a == 'b' c", "a in {'b' 'c'}", "a\n== 'b'"),
        "(" * 100 + "all()" + ")" * 100,
    ],
)
def test_what_is_no_selector(text: str) -> None:
    """What is no selector."""
    with pytest.raises(SelectorError):
        calico_selector(text)
