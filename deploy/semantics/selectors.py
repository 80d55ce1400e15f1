"""Label selectors of both grammars as one small algebra: `matchLabels` with `matchExpressions`, and Calico's text.

`NotIn`, `!=` and `not in` also match where the key is absent; every other comparison needs it
(Kubernetes: apimachinery `labels.Requirement.Matches`; Calico: libcalico-go `lib/selector`).
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from deploy.semantics.fields import Field

Labels = Mapping[str, str]

_KEY = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_MAX_DEPTH = 50


class Selector(ABC):
    """Something that matches labels or does not."""

    __slots__ = ()

    @abstractmethod
    def matches(self, labels: Labels) -> bool:
        """Tell whether something with these labels is selected."""

    def equalities(self) -> Iterator[tuple[str, str]]:
        """Yield (key, value) pairs without which nothing can match; used to index."""
        yield from ()

    def keys(self) -> Iterator[str]:
        """Yield the label keys it looks at."""
        yield from ()


@dataclass(frozen=True, slots=True)
class Everything(Selector):
    """`{}` and `all()`."""

    def matches(self, labels: Labels) -> bool:  # noqa: ARG002
        """Match all."""
        return True


@dataclass(frozen=True, slots=True)
class Has(Selector):
    """`Exists` and `has(key)`."""

    key: str

    def matches(self, labels: Labels) -> bool:
        """Match where the key is present."""
        return self.key in labels

    def keys(self) -> Iterator[str]:
        """Yield the key."""
        yield self.key


@dataclass(frozen=True, slots=True)
class In(Selector):
    """`In`, `==` and `in {…}`."""

    key: str
    values: tuple[str, ...]

    def matches(self, labels: Labels) -> bool:
        """Match where the key is present with one of the values."""
        return labels.get(self.key) in self.values

    def equalities(self) -> Iterator[tuple[str, str]]:
        """Yield the pair when there is only one value."""
        if len(self.values) == 1:
            yield self.key, self.values[0]

    def keys(self) -> Iterator[str]:
        """Yield the key."""
        yield self.key


@dataclass(frozen=True, slots=True)
class Text(Selector):
    """`contains`, `starts with` and `ends with`."""

    key: str
    part: str
    how: str

    def matches(self, labels: Labels) -> bool:
        """Match where the key is present and its value has the part there."""
        value = labels.get(self.key)
        if value is None:
            return False
        if self.how == "contains":
            return self.part in value
        return value.startswith(self.part) if self.how == "starts" else value.endswith(self.part)

    def keys(self) -> Iterator[str]:
        """Yield the key."""
        yield self.key


@dataclass(frozen=True, slots=True)
class Not(Selector):
    """Negation; what makes `NotIn` match absent keys."""

    part: Selector

    def matches(self, labels: Labels) -> bool:
        """Match what the part does not."""
        return not self.part.matches(labels)

    def keys(self) -> Iterator[str]:
        """Yield the part's keys."""
        return self.part.keys()


@dataclass(frozen=True, slots=True)
class And(Selector):
    """Conjunction."""

    parts: tuple[Selector, ...]

    def matches(self, labels: Labels) -> bool:
        """Match what all parts match."""
        return all(part.matches(labels) for part in self.parts)

    def equalities(self) -> Iterator[tuple[str, str]]:
        """Yield what any part needs."""
        for part in self.parts:
            yield from part.equalities()

    def keys(self) -> Iterator[str]:
        """Yield the parts' keys."""
        for part in self.parts:
            yield from part.keys()


@dataclass(frozen=True, slots=True)
class Or(Selector):
    """Disjunction."""

    parts: tuple[Selector, ...]

    def matches(self, labels: Labels) -> bool:
        """Match what any part matches."""
        return any(part.matches(labels) for part in self.parts)

    def keys(self) -> Iterator[str]:
        """Yield the parts' keys."""
        for part in self.parts:
            yield from part.keys()


ALL = Everything()


def label_selector(field: Field) -> Selector:
    """Return a Kubernetes LabelSelector; absent and empty match everything, broken rules are noted on the field."""
    if not field.mapping():
        return ALL
    field.only("matchLabels", "matchExpressions")
    parts: list[Selector] = []
    pairs = field["matchLabels"]
    if pairs.mapping():
        for key in pairs.value or ():
            value = pairs[key].text() if pairs[key].value is not None else ""
            _check_key(pairs[key], key)
            if value is not None:
                _check_value(pairs[key], value)
                parts.append(In(key, (value,)))
    parts += [_expression(term) for term in field["matchExpressions"].items() if term.mapping()]
    return parts[0] if len(parts) == 1 else And(tuple(parts)) if parts else ALL


def _expression(term: Field) -> Selector:
    term.only("key", "operator", "values")
    key = term["key"].text()
    operator = term["operator"].choice(("In", "NotIn", "Exists", "DoesNotExist"))
    values = tuple(value for item in term["values"].items() if (value := item.text()) is not None)
    if not key:
        term.fail("`key` is missing")
    else:
        _check_key(term["key"], key)
    if term["operator"].absent:
        term.fail("`operator` is missing")
    if operator in ("In", "NotIn") and not values:
        term.fail(f"operator {operator} needs values")
    if operator in ("Exists", "DoesNotExist") and values:
        term.fail(f"operator {operator} takes no values")
    for value in values:
        _check_value(term["values"], value)
    name = key or ""
    if operator in ("Exists", "DoesNotExist"):
        return Has(name) if operator == "Exists" else Not(Has(name))
    return In(name, values) if operator == "In" else Not(In(name, values))


def _check_key(field: Field, key: str) -> None:
    if not _KEY.fullmatch(key):
        field.fail(f"{key!r} is no label key")


def _check_value(field: Field, value: str) -> None:
    if not _LABEL_VALUE.fullmatch(value):
        field.fail(f"{value!r} is no label value")


class SelectorError(ValueError):
    """A Calico selector that cannot be read; the message names the place."""


_TOKEN = re.compile(
    r"[ \t]*(?:(?P<op>==|!=|&&|\|\||[(){},!])|(?P<string>'[^']*'|\"[^\"]*\")|(?P<word>[A-Za-z0-9_./-]+)|(?P<end>$))"
)


def calico_selector(text: str) -> Selector:
    """Return the selector a Calico text stands for; blank matches everything.

    `||` binds weaker than `&&`; strings are quoted with ' or " and have no escapes; only spaces and tabs separate.

    Raises SelectorError.
    """
    reader = _Reader(text)
    if reader.peek() == ("end", ""):
        return ALL
    found = reader.either(0)
    if reader.peek() != ("end", ""):
        raise SelectorError(f"{reader.peek()[1]!r} is not expected at position {reader.at}")
    return found


class _Reader:
    """Reads tokens from left to right; `at` is where the next one starts."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self._token()[0]

    def take(self) -> tuple[str, str]:
        token, self.at = self._token()
        return token

    def _token(self) -> tuple[tuple[str, str], int]:
        found = _TOKEN.match(self.text, self.at)
        if found is None or found.lastgroup is None:
            raise SelectorError(f"cannot be read at position {self.at}: {self.text[self.at : self.at + 20]!r}")
        return (found.lastgroup, found[found.lastgroup]), found.end()

    def accept(self, operator: str) -> bool:
        if self.peek() == ("op", operator):
            self.take()
            return True
        return False

    def expect(self, operator: str) -> None:
        if not self.accept(operator):
            raise SelectorError(f"expected {operator!r} at position {self.at}, found {self.peek()[1]!r}")

    def either(self, depth: int) -> Selector:
        return self._joined("||", self.both, Or, depth)

    def both(self, depth: int) -> Selector:
        return self._joined("&&", self.term, And, depth)

    def _joined(
        self,
        operator: str,
        inner: Callable[[int], Selector],
        join: Callable[[tuple[Selector, ...]], Selector],
        depth: int,
    ) -> Selector:
        if depth > _MAX_DEPTH:
            raise SelectorError(f"nested deeper than {_MAX_DEPTH} levels")
        parts = [inner(depth)]
        while self.accept(operator):
            parts.append(inner(depth))
        return parts[0] if len(parts) == 1 else join(tuple(parts))

    def term(self, depth: int) -> Selector:
        negated = False
        while self.accept("!"):
            negated = not negated
        found = self._plain(depth)
        return Not(found) if negated else found

    def _plain(self, depth: int) -> Selector:
        if self.accept("("):
            found = self.either(depth + 1)
            self.expect(")")
            return found
        kind, word = self.take()
        if kind != "word":
            raise SelectorError(f"expected a label at position {self.at}, found {word!r}")
        if word in ("all", "has", "global") and self.text.startswith("(", self.at):
            return self._call(word)
        return self._comparison(word)

    def _call(self, word: str) -> Selector:
        self.expect("(")
        if word == "global":
            raise SelectorError("global() is not judged: it selects cluster-scoped network sets and host endpoints")
        if word == "all":
            self.expect(")")
            return ALL
        kind, key = self.take()
        if kind != "word":
            raise SelectorError(f"has() needs a label, found {key!r}")
        self.expect(")")
        return Has(key)

    def _comparison(self, key: str) -> Selector:
        kind, operator = self.take()
        if (kind, operator) in (("op", "=="), ("op", "!=")):
            equal = In(key, (self._string(),))
            return equal if operator == "==" else Not(equal)
        if kind == "word" and operator in ("starts", "ends"):
            if self.take() != ("word", "with"):
                raise SelectorError(f"expected `{operator} with` after {key!r}")
            return Text(key, self._string(), operator)
        if kind == "word" and operator in ("startswith", "endswith"):
            return Text(key, self._string(), operator.removesuffix("with"))
        if kind == "word" and operator == "contains":
            return Text(key, self._string(), operator)
        if kind == "word" and operator == "in":
            return In(key, self._set())
        if kind == "word" and operator in ("not", "notin"):
            if operator == "not" and self.take() != ("word", "in"):
                raise SelectorError(f"expected `not in` after {key!r}")
            return Not(In(key, self._set()))
        raise SelectorError(f"expected an operator after {key!r}, found {operator!r}")

    def _string(self) -> str:
        kind, text = self.take()
        if kind != "string":
            raise SelectorError(f"expected a quoted string at position {self.at}, found {text!r}")
        return text[1:-1]

    def _set(self) -> tuple[str, ...]:
        self.expect("{")
        values: list[str] = []
        while self.peek()[0] == "string":
            values.append(self._string())
            if not self.accept(","):
                break
        self.expect("}")
        return tuple(values)
