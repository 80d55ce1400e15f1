"""Output that readers can judge, kept in files; `PODFENCE_REWRITE=1 pytest` writes them anew."""

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

CASES = Path(__file__).parent / "cases"


def expect(name: str, text: str) -> None:
    """Hold a text against the file of that name."""
    file = CASES / "expected" / name
    if os.environ.get("PODFENCE_REWRITE"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def schema(verb: str) -> dict[str, Any]:
    """Return the published schema of a verb's JSON."""
    found: dict[str, Any] = json.loads(files("deploy").joinpath("schemas", f"{verb}.json").read_text(encoding="utf-8"))
    return found


def conforms(verb: str, text: str) -> dict[str, Any]:
    """Return a verb's JSON, having held it against its schema; a field that the schema does not name is an error here."""
    found: dict[str, Any] = json.loads(text)
    Draft202012Validator(_closed(schema(verb)), format_checker=FormatChecker()).validate(found)
    return found


def _closed(value: Any) -> Any:
    """Return a schema in which no object may hold more than it names."""
    if isinstance(value, list):
        return [_closed(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: _closed(one) for key, one in value.items()}
    return {"additionalProperties": False} | found if "properties" in value and "required" in value else found
