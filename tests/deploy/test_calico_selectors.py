"""The grammar of Calico's selectors and what it matches.

Source of every case: projectcalico/calico libcalico-go/lib/selector, where tokenizer/tokenizer.go says what words are,
parser/parser.go how they are joined, parser/ast.go what they match; the ground is that of its own parser and tokenizer tests.
"""

import random

import pytest

from deploy.semantics.reading.calico_selectors import (
    MAX_DEPTH,
    MAX_LABEL,
    MAX_LENGTH,
    SelectorError,
    calico_selector,
    namespace_selector,
    prefixed,
)
from deploy.semantics.selectors import ALL, And, Has, In, Not, Or, Selector, Text

NONE: dict[str, str] = {}


@pytest.mark.parametrize(
    ("text", "matching", "others"),
    [
        # One comparison, alone and beside labels that it does not ask for.
        (
            'tier == "gold"',
            [{"tier": "gold"}, {"tier": "gold", "zone": "n"}],
            [NONE, {"tier": "tin"}, {"zone": "gold"}],
        ),
        ("tier == 'gold'", [{"tier": "gold"}], [{"tier": "tin"}, NONE]),
        ("tier != 'gold'", [NONE, {"tier": "tin"}, {"zone": "gold"}], [{"tier": "gold"}]),
        ('tier != "gold"', [{"tier": ""}], [{"tier": "gold"}]),
        ("tier == ''", [{"tier": ""}], [NONE, {"tier": "gold"}]),
        # Parts of values: the label must be there.
        ("image contains 'db'", [{"image": "db"}, {"image": "mydb1"}], [NONE, {"image": "bd"}, {"zone": "db"}]),
        ("image starts with 'db'", [{"image": "db"}, {"image": "db-1"}], [NONE, {"image": "a-db"}, {"zone": "db-1"}]),
        ("image ends with 'db'", [{"image": "db"}, {"image": "a-db"}], [NONE, {"image": "db-1"}, {"zone": "a-db"}]),
        ("image contains ''", [{"image": ""}, {"image": "x"}], [NONE]),
        # Sets, with either quote inside the other.
        ("zone in {'n'}", [{"zone": "n"}], [NONE, {"zone": "s"}]),
        ("zone in {'n', \"s\"}", [{"zone": "n"}, {"zone": "s"}], [NONE, {"zone": "w"}]),
        ("zone in {\"'\", '\"', 'n'}", [{"zone": "'"}, {"zone": '"'}, {"zone": "n"}], [NONE, {"zone": "s"}]),
        ("zone not in {\"'\", '\"', 'n'}", [NONE, {"zone": "s"}], [{"zone": "'"}, {"zone": '"'}, {"zone": "n"}]),
        ("zone not in {'n'}", [NONE, {"zone": "s"}], [{"zone": "n"}]),
        ("!zone in {'n'}", [NONE, {"zone": "s"}], [{"zone": "n"}]),
        ("zone in {}", [], [NONE, {"zone": ""}, {"zone": "n"}]),
        ("zone not in {}", [NONE, {"zone": "n"}], []),
        ("zone in {'n',}", [{"zone": "n"}], [NONE]),
        ("zone in {'n', 'n'}", [{"zone": "n"}], [NONE]),
        # Presence.
        ("has(zone)", [{"zone": "n"}, {"zone": ""}], [NONE, {"tier": "gold"}]),
        ("!has(zone)", [NONE, {"tier": "gold"}], [{"zone": "n"}]),
        ("! has(zone)", [{"tier": "gold"}], [{"zone": "n"}]),
        ("!!has(zone)", [{"zone": "n"}], [NONE]),
        ("!!!has(zone)", [NONE], [{"zone": "n"}]),
        ("!! ! has(zone)", [NONE], [{"zone": "n"}]),
        ("!\t!!has(zone)", [NONE], [{"zone": "n"}]),
        # Everything.
        ("", [NONE, {"zone": "n"}], []),
        (" \t ", [NONE, {"zone": "n"}], []),
        ("all()", [NONE, {"zone": "n"}], []),
        (" all( ) ", [NONE], []),
        ("!all()", [], [NONE, {"zone": "n"}]),
        ("((all()))", [NONE], []),
        # Both, either, and which binds more.
        ('a == "1" && b == "2"', [{"a": "1", "b": "2"}], [NONE, {"a": "1"}, {"b": "2"}, {"a": "1", "b": "3"}]),
        (
            'a == "1" || b == "2"',
            [{"a": "1"}, {"b": "2"}, {"a": "1", "b": "2"}],
            [NONE, {"a": "3"}, {"a": "3", "b": "3"}],
        ),
        ("a == '1' && b != '2'", [{"a": "1"}], [{"a": "1", "b": "2"}]),
        ("a != '1' && b == '2'", [{"b": "2"}], [{"a": "1", "b": "2"}]),
        ("a != '1' && b != '2'", [NONE], [{"a": "1", "b": "2"}, {"a": "1"}]),
        ("a != '1' && !b == '2'", [NONE], [{"b": "2"}]),
        ("!a == '1' && b == '2'", [{"b": "2"}], [{"a": "1", "b": "2"}]),
        ("a == '1' || b != '2'", [{"a": "1", "b": "2"}, NONE], [{"b": "2"}]),
        ("a != '1' || b == '2'", [{"a": "1", "b": "2"}, NONE], [{"a": "1"}]),
        ("a != '1' || b != '2'", [{"a": "1"}, {"b": "2"}, NONE], [{"a": "1", "b": "2"}]),
        ("! a == '1' || ! b == '2'", [NONE], [{"a": "1", "b": "2"}]),
        ("has(a) && !has(b)", [{"a": ""}], [NONE, {"a": "", "b": ""}]),
        ("!has(b) && has(a)", [{"a": ""}], [NONE, {"a": "", "b": ""}]),
        ("!(!has(a) || has(b))", [{"a": ""}], [NONE, {"a": "", "b": ""}]),
        ("!(has(b) || !has(a))", [{"a": ""}], [NONE, {"a": "", "b": ""}]),
        ("has(a) && has(b) || has(c)", [{"c": ""}, {"a": "", "b": ""}], [{"a": ""}, {"b": ""}]),
        ("has(c) || has(a) && has(b)", [{"c": ""}, {"a": "", "b": ""}], [{"a": ""}, {"b": ""}]),
        ("has(a) && (has(b) || has(c))", [{"a": "", "c": ""}], [{"c": ""}, {"a": ""}]),
        ("!has(a) && has(b)", [{"b": ""}], [NONE, {"a": "", "b": ""}]),
        ("(has(a))&&(has(b))", [{"a": "", "b": ""}], [{"a": ""}]),
        # Spaces and tabs, or none.
        ('tier=="gold"', [{"tier": "gold"}], [NONE]),
        ("\ttier\t==\t'gold'\t", [{"tier": "gold"}], [NONE]),
        ("image contains'db'", [{"image": "db"}], [NONE]),
        ("image startswith 'db'", [{"image": "db-1"}], [{"image": "a-db"}]),
        ("image endswith'db'", [{"image": "a-db"}], [{"image": "db-1"}]),
        ("image starts   with 'db'", [{"image": "db-1"}], [{"image": "a-db"}]),
        ("image ends \t with 'db'", [{"image": "a-db"}], [{"image": "db-1"}]),
        ("zone notin{'n'}&&!has(b)||c in{'x'}", [{"zone": "s"}, {"c": "x", "b": ""}], [{"zone": "n"}, {"b": ""}]),
        ("zone  not   in  {  'n'  }", [NONE], [{"zone": "n"}]),
        ("has( zone )", [{"zone": ""}], [NONE]),
        # Words are operators only right after a label, so that labels may be called like them.
        ("contains contains 'contains'", [{"contains": "contains"}], [NONE]),
        ("in in {'in'}", [{"in": "in"}], [{"in": "out"}]),
        ("not in {'x'}", [{"not": "x"}], [NONE]),
        ("not not in {'x'}", [NONE], [{"not": "x"}]),
        ("starts starts with 's'", [{"starts": "s"}], [NONE]),
        ("startswith startswith 's'", [{"startswith": "s"}], [NONE]),
        ("ends ends with 's'", [{"ends": "s"}], [NONE]),
        ("has == 'x' && all == 'y' && global == 'z'", [{"has": "x", "all": "y", "global": "z"}], [{"has": "x"}]),
        ("hasty == 'x'", [{"hasty": "x"}], [NONE]),
        # Every character a label may have.
        ("has(example.com/Team_1-a)", [{"example.com/Team_1-a": ""}], [{"example.com/Team_1-A": ""}]),
        ("a/b/c == 'd'", [{"a/b/c": "d"}], [NONE]),
        ("1 == '2' && - == '3' && . == '4'", [{"1": "2", "-": "3", ".": "4"}], [{"1": "2"}]),
        # Strings have no escapes and hold anything but their own quote.
        ("a == '\\'", [{"a": "\\"}], [NONE]),
        ("a == 'x && y'", [{"a": "x && y"}], [{"a": "x"}]),
        ("a == ' é '", [{"a": " é "}], [{"a": "é"}]),
        ("has(" + "a" * MAX_LABEL + ")", [{"a" * MAX_LABEL: ""}], [NONE]),
    ],
)
def test_what_a_selector_matches(text: str, matching: list[dict[str, str]], others: list[dict[str, str]]) -> None:
    """A selector matches exactly the labels that Calico's parser says (parser/ast.go, Evaluate)."""
    selector = calico_selector(text)
    assert [labels for labels in matching if not selector.matches(labels)] == []
    assert [labels for labels in others if selector.matches(labels)] == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        # What is no comparison.
        ("zone == zone", "expected a quoted string, found 'zone' (character 9)"),
        ("zone contains zone", "expected a quoted string, found 'zone' (character 15)"),
        ("zone starts with zone", "expected a quoted string, found 'zone' (character 18)"),
        ("zone ends with zone", "expected a quoted string, found 'zone' (character 16)"),
        ("zone startswith", "expected a quoted string, found the end (character 16)"),
        ("'n' == zone", "expected a label, found 'n' (character 1)"),
        ("zone", "expected an operator after label 'zone', found the end (character 5)"),
        ("zone ", "expected an operator after label 'zone', found the end (character 6)"),
        ("zone ==", "expected a quoted string, found the end (character 8)"),
        ("zone tier", "expected an operator after a label, found 'tier' (character 6)"),
        ("zone is 'n'", "expected an operator after a label, found 'is' (character 6)"),
        ("zone 'n'", "expected an operator after label 'zone', found 'n' (character 6)"),
        ("zone && tier", "expected an operator after label 'zone', found '&&' (character 6)"),
        ("!", "expected a label, found the end (character 2)"),
        ("zone != ||", "expected a quoted string, found '||' (character 9)"),
        # Half of an operator.
        ("zone = 'n'", "expected '==', found a single '=' (character 6)"),
        ("zone === 'n'", "expected '==', found a single '=' (character 8)"),
        ("has(a) & has(b)", "expected '&&', found a single '&' (character 8)"),
        ("has(a) | has(b)", "expected '||', found a single '|' (character 8)"),
        ("has(a) &", "expected '&&', found a single '&' (character 8)"),
        ("has(a) |", "expected '||', found a single '|' (character 8)"),
        # Nothing after one, or nothing between two.
        ("has(a) &&", "expected a label, found the end (character 10)"),
        ("has(a) ||", "expected a label, found the end (character 10)"),
        ("&& has(a)", "expected a label, found '&&' (character 1)"),
        ("has(a) has(b)", "expected '&&', '||' or the end, found has(b) (character 8)"),
        ("has(a) zone == 'n'", "expected '&&', '||' or the end, found 'zone' (character 8)"),
        ("zone == 'n' tier", "expected '&&', '||' or the end, found 'tier' (character 13)"),
        # Sets.
        ("zone in 'n'", "expected '{', found 'n' (character 9)"),
        ("zone in", "expected '{', found the end (character 8)"),
        ("zone in {'n', ||", "expected '}' or a quoted string, found '||' (character 15)"),
        ("zone in {'n' 's'}", "expected '}' or a quoted string, found 's' (character 14)"),
        ("zone in {,}", "expected '}' or a quoted string, found ',' (character 10)"),
        ("zone in {n}", "expected '}' or a quoted string, found 'n' (character 10)"),
        ("zone in {'n'", "expected '}' or a quoted string, found the end (character 13)"),
        # Strings without an end.
        ("zone == 'n", "the string 'n has no end (character 9)"),
        ('zone == "n', 'the string "n has no end (character 9)'),
        ("zone == 'n\"", "the string 'n\" has no end (character 9)"),
        ('"zone', 'the string "zone has no end (character 1)'),
        # Parentheses.
        ("(", "expected a label, found the end (character 2)"),
        ("(has(a)", "'(' has no ')' (character 1)"),
        ("has(a) && (has(b) || (has(c))", "'(' has no ')' (character 11)"),
        (")", "expected a label, found ')' (character 1)"),
        ("()", "expected a label, found ')' (character 2)"),
        ("has(a))", "expected '&&', '||' or the end, found ')' (character 7)"),
        ("has (a)", "expected an operator after label 'has', found '(' (character 5)"),
        ("all ()", "expected an operator after label 'all', found '(' (character 5)"),
        # Functions.
        ("has()", "expected a label, found ')' (character 5)"),
        ("has(a", "expected ')' to end has(…) (character 6)"),
        ("has( a ", "expected ')' to end has(…) (character 8)"),
        ("has('a')", 'expected a label, found "\'" (character 5)'),
        ("has(a, b)", "expected ')' to end has(…) (character 6)"),
        ("all(", "expected ')' to end all(…) (character 5)"),
        ("all(a)", "expected ')' to end all(…) (character 5)"),
        ("global(", "expected ')' to end global(…) (character 8)"),
        # Words that are cut wrong.
        ("zone starts 'n'", "expected an operator after a label, found 'starts' (character 6)"),
        ("zone starts at 'n'", "expected an operator after a label, found 'starts' (character 6)"),
        ("zone ends withs 'n'", "expected an operator after a label, found 'ends' (character 6)"),
        ("zone inn {'n'}", "expected an operator after a label, found 'inn' (character 6)"),
        ("zone not {'n'}", "expected an operator after a label, found 'not' (character 6)"),
        ("zone IN {'n'}", "expected an operator after a label, found 'IN' (character 6)"),
        # Characters that have no place.
        ("%", "expected a label, found '%' (character 1)"),
        ("has(a) && %", "expected a label, found '%' (character 11)"),
        ("has(a) || %", "expected a label, found '%' (character 11)"),
        ("zone\n== 'n'", "expected an operator after a label, found '\\n' (character 5)"),
        ("é == 'n'", "expected a label, found 'é' (character 1)"),
        ("a:b == 'n'", "expected an operator after a label, found ':' (character 2)"),
        ("has(" + "a" * (MAX_LABEL + 1) + ")", f"a label of more than {MAX_LABEL} characters (character 5)"),
    ],
)
def test_what_is_no_selector(text: str, rule: str) -> None:
    """What Calico's parser refuses is refused, and the error names the character."""
    with pytest.raises(SelectorError) as error:
        calico_selector(text)
    assert str(error.value) == rule


@pytest.mark.parametrize("text", ["global()", "has(a) && global()", "!global()", " global( ) "])
def test_global_stands_in_no_common_selector(text: str) -> None:
    """`global()` is allowed only in a rule's namespaceSelector (api/pkg/apis/projectcalico/v3/policy_common.go)."""
    with pytest.raises(SelectorError, match=r"global\(\) is allowed only alone"):
        calico_selector(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("has(team)", Has("pcns.team")),
        ("team != 'red'", Not(In("pcns.team", ("red",)))),
        ("all()", Has("projectcalico.org/namespace")),
        ("!all()", Not(Has("projectcalico.org/namespace"))),
        ("global()", Not(Has("projectcalico.org/namespace"))),
        (" global( )\t", Not(Has("projectcalico.org/namespace"))),
        ("global == 'x'", In("pcns.global", ("x",))),
        ("a contains 'global('", Text("pcns.a", "global(", "contains")),
    ],
)
def test_what_a_namespace_selector_asks_for(text: str, found: Selector) -> None:
    """Namespace labels have a prefix, `all()` and `global()` ask for the namespace (syncersv1/updateprocessors/rules.go)."""
    assert namespace_selector(text) == found


@pytest.mark.parametrize("text", ["global() || has(a)", "!global()", "(global())", "has(a) && global()"])
def test_global_stands_alone(text: str) -> None:
    """A namespaceSelector holds nothing beside `global()` (libcalico-go/lib/validator/v3/validator.go, validateEntityRule)."""
    with pytest.raises(SelectorError, match="only alone"):
        namespace_selector(text)


def test_a_prefix_goes_before_every_label() -> None:
    """All comparisons get the prefix, and only `all()` is replaced (parser/ast.go, PrefixVisitor)."""
    text = "!(!(k == 'v' && has(t) || all()) && (a in {'b'} || c not in {'d'} || e starts with 'f'))"
    found = prefixed(calico_selector(text), "x.", Has("y"))
    assert sorted(set(found.keys())) == ["x.a", "x.c", "x.e", "x.k", "x.t", "y"]
    assert prefixed(ALL, "x.") == ALL


def test_what_means_the_same_reads_the_same() -> None:
    """Parentheses, double negations, order and repetition in sets leave no trace, so equal selectors are looked at once."""
    assert calico_selector("((a == '1'))") == calico_selector('!!a=="1"') == In("a", ("1",))
    assert calico_selector("a in {'2', '1', '2'}") == In("a", ("1", "2"))
    assert calico_selector("(has(a) && has(b)) && has(c)") == And((Has("a"), Has("b"), Has("c")))
    assert calico_selector("has(a) || (has(b) || has(c))") == Or((Has("a"), Has("b"), Has("c")))
    assert calico_selector("!(!has(a))") == Has("a")


@pytest.mark.parametrize(
    "text",
    [
        "(" * 508 + "all()" + ")" * 508,
        "!(" * 339 + "all()" + ")" * 339,
        "a in{}||(a in{}&&(" * 50 + "has(a)" + "))" * 50,
        "a in{}&&!(" * 92 + "has(a)" + ")" * 92,
        "&&".join(["has(a)"] * 128),
    ],
)
def test_any_selector_that_fits_is_read(text: str) -> None:
    """Nesting as deep as 1024 characters can hold is read, matched, compared and hashed without running out of stack."""
    assert len(text) <= MAX_LENGTH
    selector = calico_selector(text)
    assert isinstance(selector.matches({"a": "b"}), bool)
    assert hash(selector) == hash(calico_selector(text))
    assert len(list(selector.parts_of())) < MAX_LENGTH
    assert list(prefixed(selector, "x.").keys()) == [f"x.{key}" for key in selector.keys()]  # noqa: SIM118 - no mapping


def test_the_limits_are_those_of_calico() -> None:
    """Labels have 512 characters at most (tokenizer.go, MaxLabelLength), selectors 1024 (policy_common.go)."""
    assert (MAX_LABEL, MAX_LENGTH) == (512, 1024)


def test_deeper_than_any_limited_selector_is_an_error() -> None:
    """A selector without a limit on its length may still not nest without end."""
    with pytest.raises(SelectorError, match=f"nested deeper than {MAX_DEPTH} levels"):
        calico_selector("has(a)&&!(" * MAX_DEPTH + "has(a)" + ")" * MAX_DEPTH)


def _random_text(dice: random.Random, depth: int) -> tuple[str, str]:
    """Return a selector and the Python expression that means the same over `labels`."""
    if depth == 0 or dice.random() < 0.3:
        key, value = dice.choice("abc"), dice.choice("xyz")
        return dice.choice(
            (
                (f"has({key})", f"({key!r} in labels)"),
                (f"{key}=='{value}'", f"(labels.get({key!r}) == {value!r})"),
                (f'{key} != "{value}"', f"(labels.get({key!r}) != {value!r})"),
                (f"{key} in {{'{value}', 'x'}}", f"(labels.get({key!r}) in ({value!r}, 'x'))"),
                (f"{key} not in {{'{value}'}}", f"(labels.get({key!r}) not in ({value!r},))"),
                (f"{key} starts with '{value}'", f"({key!r} in labels and labels[{key!r}].startswith({value!r}))"),
                ("all()", "True"),
            )
        )
    kind = dice.randrange(4)
    left, right = _random_text(dice, depth - 1), _random_text(dice, depth - 1)
    if kind == 0:
        return f"!({left[0]})", f"(not {left[1]})"
    if kind == 1:
        return f"({left[0]})", left[1]
    if kind == 2:
        return f"({left[0]}) && ({right[0]})", f"({left[1]} and {right[1]})"
    return f"({left[0]}) || ({right[0]})", f"({left[1]} or {right[1]})"


def test_random_selectors_mean_what_python_means_by_them() -> None:
    """Selectors made at random match what the same expression in Python matches."""
    dice = random.Random(20)  # noqa: S311 - no secret
    worlds = [{}, {"a": "x"}, {"a": "y", "b": "x"}, {"b": "z", "c": "x"}, {"a": "z", "b": "y", "c": "y"}]
    for _ in range(400):
        text, meaning = _random_text(dice, 4)
        selector = calico_selector(text)
        code = compile(meaning, "selector", "eval")
        for labels in worlds:
            assert selector.matches(labels) == eval(code, {"labels": labels}), text  # noqa: S307 - our own text
