"""Writes plain data as block YAML that YAML 1.1 and 1.2 readers take for the same data.

Kubernetes reads YAML 1.1, most other tools 1.2; a general dumper leaves unquoted what the other version reads as a number
or a boolean (a label `1e003` became 1000). So a string stays plain only if it is a word that neither can misread; all
others are double-quoted with the escapes of YAML 1.2.2, section 5.7.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9_./()'&=-]| (?=[^ ]))*")
# YAML 1.1 types: https://yaml.org/type/bool.html, null.html, float.html (`.inf` and `.nan` start with a dot).
_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf", "infinity"))
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LONGEST_KEY = 1024  # YAML 1.2.2, section 7.4.2: an implicit key


def dump(value: Any) -> str:
    """Return a document of dict, list, str, int, float, bool and None; keys are strings and keep their order.

    Raises TypeError for any other type, ValueError for a key that is too long to be one.
    """
    return "\n".join(_block(value)) + "\n"


def _block(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(_key(key), inner)
    elif isinstance(value, list) and value:
        for inner in value:
            first, *rest = _block(inner)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(value)


def _entry(key: str, inner: Any) -> Iterator[str]:
    nested = isinstance(inner, dict | list) and bool(inner)
    if nested:
        yield f"{key}:"
        yield from (f"  {line}" for line in _block(inner))
    else:
        yield f"{key}: {_scalar(inner)}"


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key of type {type(key).__name__}: only strings are written")
    text = _scalar(key)
    if len(text) > _LONGEST_KEY:
        raise ValueError(f"a key of {len(text)} characters: YAML reads up to {_LONGEST_KEY}")
    return text


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        # YAML 1.1 reads an exponent only after a point.
        return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else '"' + "".join(_escape(character) for character in value) + '"'
    if isinstance(value, dict) and not value:
        return "{}"
    if isinstance(value, list) and not value:
        return "[]"
    raise TypeError(f"{type(value).__name__} is not written as YAML")


def _escape(character: str) -> str:
    code = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if 0x20 <= code < 0x7F:
        return character
    if code <= 0xFF:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
