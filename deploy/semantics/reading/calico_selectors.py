"""Reads Calico's selector expressions: tokens, grammar, and what becomes of them where they select namespaces or accounts.

Grammar: projectcalico/calico libcalico-go/lib/selector/tokenizer/tokenizer.go and parser/parser.go. Prefixes:
libcalico-go/lib/backend/syncersv1/updateprocessors/selectors.go and rules.go.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from deploy.semantics.selectors import ALL, And, Has, In, Not, Or, Selector, Text

NAMESPACE = "projectcalico.org/namespace"
"""The label that pods and namespaced network sets carry, and nothing else does."""
SERVICE_ACCOUNT = "projectcalico.org/serviceaccount"
NAMESPACE_PREFIX = "pcns."
ACCOUNT_PREFIX = "pcsa."

MAX_LENGTH = 1024
"""Characters of a selector in every field but `serviceAccounts.selector` (api/pkg/apis/projectcalico/v3)."""
MAX_LABEL = 512
MAX_DEPTH = 250
"""How deep a selector may be once parentheses and double negations are gone; 1024 characters cannot get there."""

_SPACE = re.compile(r"[ \t]*")
_PUNCTUATION = re.compile(r"==|!=|&&|\|\||[(){},!]")
_STRING = re.compile(r"'[^']*'|\"[^\"]*\"")
_OPERATOR = re.compile(r"(contains|starts[ \t]*with|ends[ \t]*with|not[ \t]*in|in)(?![A-Za-z0-9_./-])")
_LABEL = re.compile(r"[A-Za-z0-9_./-]+")
_CALL = re.compile(r"(has|all|global)\(")
_HALVES = {"=": "==", "&": "&&", "|": "||"}


class SelectorError(ValueError):
    """A Calico selector that cannot be read; the message names the character, counted from 1."""


class _Token(NamedTuple):
    """`kind`: `label`, `string`, `has`, `all`, `global`, `end`, an operator, or punctuation, which is its own kind."""

    kind: str
    text: str
    at: int


def calico_selector(text: str) -> Selector:
    """Return the selector a Calico text stands for; blank matches everything.

    `||` binds weaker than `&&`; strings are quoted with ' or " and have no escapes; only spaces and tabs separate; words are
    operators only right after a label. `global()` is refused: Calico's API takes it alone, as a rule's namespaceSelector.

    Raises SelectorError.
    """
    tokens = _Tokens(text)
    if tokens.next.kind == "end":
        return ALL
    found = _expression(tokens)
    if _deeper(found, MAX_DEPTH):
        raise SelectorError(f"nested deeper than {MAX_DEPTH} levels")
    return found


def namespace_selector(text: str) -> Selector:
    """Return what a rule's namespaceSelector asks of an endpoint's or network set's labels.

    Keys get the prefix of namespace labels; `all()` is anything in a namespace and `global()`, alone, anything in none.

    Raises SelectorError.
    """
    kinds = []
    if "global(" in text:
        kinds = [token.kind for token in _Tokens(text).rest()]
    if kinds == ["global", "end"]:
        return Not(Has(NAMESPACE))
    return prefixed(calico_selector(text), NAMESPACE_PREFIX, Has(NAMESPACE))


def prefixed(selector: Selector, prefix: str, everything: Selector = ALL) -> Selector:
    """Return a selector with a prefix before its keys and `everything` in the place of `all()`."""
    match selector:
        case Has(key):
            return Has(prefix + key)
        case In(key, values):
            return In(prefix + key, values)
        case Text(key, part, how):
            return Text(prefix + key, part, how)
        case Not(part):
            return Not(prefixed(part, prefix, everything))
        case And(parts):
            return And(tuple(prefixed(part, prefix, everything) for part in parts))
        case Or(parts):
            return Or(tuple(prefixed(part, prefix, everything) for part in parts))
        case _:
            return everything


class _Tokens:
    """The tokens of a text from left to right; `next` is the one that `take` returns."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.next = self._read("")

    def take(self) -> _Token:
        taken = self.next
        if taken.kind != "end":
            self.next = self._read(taken.kind)
        return taken

    def accept(self, kind: str) -> bool:
        if self.next.kind != kind:
            return False
        self.take()
        return True

    def rest(self) -> Iterator[_Token]:
        """Yield all tokens that are left."""
        while self.next.kind != "end":
            yield self.take()
        yield self.next

    def _read(self, before: str) -> _Token:
        """Return the next token; what a word means depends on the token before it."""
        text = self._text
        at = self._skip()
        if at == len(text):
            return _Token("end", "", at)
        if punctuation := self._match(_PUNCTUATION):
            return _Token(punctuation[0], punctuation[0], at)
        if string := self._match(_STRING):
            return _Token("string", string[0][1:-1], at)
        if text[at] in "'\"":
            raise _error(at, f"the string {text[at:][:20]} has no end")
        if text[at] in _HALVES:
            raise _error(at, f"expected {_HALVES[text[at]]!r}, found a single {text[at]!r}")
        if before == "label":
            if operator := self._match(_OPERATOR):
                return _Token(re.sub(r"[ \t]", "", operator[1]), operator[0], at)
            raise _error(at, f"expected an operator after a label, found {_word(text, at)!r}")
        if call := self._match(_CALL):
            return self._call(call[1], at)
        return _Token("label", self._label(), at)

    def _call(self, name: str, at: int) -> _Token:
        """Return the token of a function, whose parenthesis stands right after its name."""
        self._skip()
        label = self._label() if name == "has" else ""
        closing = self._skip()
        if not self._text.startswith(")", closing):
            raise _error(closing, f"expected ')' to end {name}(…)")
        self._at = closing + 1
        return _Token(name, label, at)

    def _label(self) -> str:
        at = self._at
        found = self._match(_LABEL)
        if found is None:
            raise _error(at, f"expected a label, found {_word(self._text, at)!r}")
        if len(found[0]) > MAX_LABEL:
            raise _error(at, f"a label of more than {MAX_LABEL} characters")
        return found[0]

    def _skip(self) -> int:
        """Go past spaces and tabs and return the place."""
        self._match(_SPACE)
        return self._at

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found


@dataclass(slots=True)
class _Level:
    """What stands inside one pair of parentheses: alternatives, each a list of terms that must all hold."""

    at: int
    negated: bool
    alternatives: list[list[Selector]] = field(default_factory=lambda: [[]])

    def whole(self) -> Selector:
        found = _joined(Or, [_joined(And, terms) for terms in self.alternatives])
        return _negation(found) if self.negated else found


def _expression(tokens: _Tokens) -> Selector:
    """Return the selector that all tokens stand for; levels are kept on a list, so that depth costs no recursion."""
    levels = [_Level(0, negated=False)]
    while True:
        negated = False
        while tokens.accept("!"):
            negated = not negated
        if tokens.next.kind == "(":
            levels.append(_Level(tokens.take().at, negated))
            continue
        found = _term(tokens)
        levels[-1].alternatives[-1].append(_negation(found) if negated else found)
        while tokens.next.kind == ")" and len(levels) > 1:
            tokens.take()
            closed = levels.pop()
            levels[-1].alternatives[-1].append(closed.whole())
        after = tokens.take()
        if after.kind == "||":
            levels[-1].alternatives.append([])
        elif after.kind == "end":
            break
        elif after.kind != "&&":
            raise _error(after.at, f"expected '&&', '||' or the end, found {_named(after)}")
    if len(levels) > 1:
        raise _error(levels[-1].at, "'(' has no ')'")
    return levels[0].whole()


def _term(tokens: _Tokens) -> Selector:
    """Return one comparison or function."""
    token = tokens.take()
    match token.kind:
        case "has":
            return Has(token.text)
        case "all":
            return ALL
        case "global":
            raise _error(
                token.at, "global() is allowed only alone, as the namespaceSelector of a rule's source or destination"
            )
        case "label":
            return _comparison(token.text, tokens)
        case _:
            raise _error(token.at, f"expected a label, found {_named(token)}")


def _comparison(key: str, tokens: _Tokens) -> Selector:
    operator = tokens.take()
    match operator.kind:
        case "==":
            return In(key, (_string(tokens),))
        case "!=":
            return Not(In(key, (_string(tokens),)))
        case "contains":
            return Text(key, _string(tokens), "contains")
        case "startswith":
            return Text(key, _string(tokens), "starts")
        case "endswith":
            return Text(key, _string(tokens), "ends")
        case "in":
            return In(key, _set(tokens))
        case "notin":
            return Not(In(key, _set(tokens)))
        case _:
            raise _error(operator.at, f"expected an operator after label {key!r}, found {_named(operator)}")


def _string(tokens: _Tokens) -> str:
    token = tokens.take()
    if token.kind != "string":
        raise _error(token.at, f"expected a quoted string, found {_named(token)}")
    return token.text


def _set(tokens: _Tokens) -> tuple[str, ...]:
    """Return the values of a set in order; it may be empty, and may end in a comma."""
    opening = tokens.take()
    if opening.kind != "{":
        raise _error(opening.at, f"expected '{{', found {_named(opening)}")
    values = set()
    while tokens.next.kind == "string":
        values.add(_string(tokens))
        if not tokens.accept(","):
            break
    closing = tokens.take()
    if closing.kind != "}":
        raise _error(closing.at, f"expected '}}' or a quoted string, found {_named(closing)}")
    return tuple(sorted(values))


def _joined(join: type[And] | type[Or], parts: list[Selector]) -> Selector:
    """Return parts as one, without a level of its own where a part is joined in the same way."""
    if len(parts) == 1:
        return parts[0]
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, join) else (part,))]
    return join(tuple(flat))


def _negation(selector: Selector) -> Selector:
    return selector.part if isinstance(selector, Not) else Not(selector)


def _deeper(selector: Selector, limit: int) -> bool:
    level = [selector]
    for _ in range(limit):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return False
    return True


def _inside(selector: Selector) -> tuple[Selector, ...]:
    if isinstance(selector, Not):
        return (selector.part,)
    return selector.parts if isinstance(selector, And | Or) else ()


def _word(text: str, at: int) -> str:
    """Return the word at a place, or its first character."""
    found = _LABEL.match(text, at)
    return found[0] if found else text[at : at + 1]


def _named(token: _Token) -> str:
    if token.kind in ("has", "all", "global"):
        return f"{token.kind}({token.text})"
    return "the end" if token.kind == "end" else repr(token.text)


def _error(at: int, rule: str) -> SelectorError:
    return SelectorError(f"{rule} (character {at + 1})")
