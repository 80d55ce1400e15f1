"""Reads the `matchLabels` and `matchExpressions` of Kubernetes (apimachinery `labels`, validation of `metav1.LabelSelector`)."""

import re

from deploy.semantics.reading.fields import Field
from deploy.semantics.selectors import ALL, And, Has, In, Not, Selector

_KEY = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


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
    parts += [expression(term) for term in field["matchExpressions"].items() if term.mapping()]
    return parts[0] if len(parts) == 1 else And(tuple(parts)) if parts else ALL


def expression(term: Field) -> Selector:
    """Return the selector of one `matchExpressions` entry; broken rules are noted on the field."""
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
