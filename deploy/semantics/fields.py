"""Walks an object field by field and remembers every rule it breaks, so that all of them are told at once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from deploy.semantics.documents import Series, Table


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A rule that an object breaks, and where."""

    file: str
    line: int
    object: str
    rule: str

    def __str__(self) -> str:
        subject = f"{self.object}: " if self.object else ""
        return f"{self.file}:{self.line}: {subject}{self.rule}"


@dataclass(slots=True)
class Report:
    """Where an object stands and what is wrong with it; shared by all its fields."""

    file: str
    object: str
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Field:
    """A value inside an object: its path (`spec.ingress[0].ports`), its line and the report it complains to.

    A null value reads as absent, as the API decodes it.
    """

    value: Any
    path: str
    line: int
    report: Report

    def fail(self, rule: str) -> None:
        """Note that a rule is broken here."""
        text = f"{self.path}: {rule}" if self.path else rule
        self.report.problems.append(Problem(self.report.file, self.line, self.report.object, text))

    @property
    def absent(self) -> bool:
        """Tell whether nothing is there."""
        return self.value is None

    def only(self, *known: str, refused: tuple[str, ...] = ()) -> None:
        """Note every key that is not among `known`; `refused` ones exist but are not judged."""
        for key in self._table():
            if key in known or (key in refused and _empty(self.value[key])):
                continue
            if key in refused:
                self[key].fail("podfence does not judge this field")
            else:
                self[key].fail("unknown field")

    def __getitem__(self, key: str) -> "Field":
        """Return a field of a mapping; absent where there is none."""
        table = self._table()
        value = table.get(key)
        line = table.lines.get(key, self.line) if isinstance(table, Table) else self.line
        return Field(value, f"{self.path}.{key}" if self.path else key, line, self.report)

    def __contains__(self, key: str) -> bool:
        return self._table().get(key) is not None

    def keys(self) -> list[str]:
        """Return the keys of a mapping whose values are not null."""
        return [str(key) for key, value in self._table().items() if value is not None]

    def _table(self) -> dict[str, Any]:
        return self.value if isinstance(self.value, dict) else {}

    def mapping(self) -> bool:
        """Tell whether this is a mapping or absent; note it when it is something else."""
        if self.value is None or isinstance(self.value, dict):
            return True
        self.fail(f"expected a mapping, found {_name(self.value)}")
        return False

    def items(self) -> Iterator["Field"]:
        """Yield the items of a list; absent reads as empty, a null item is a broken rule."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            self.fail(f"expected a list, found {_name(self.value)}")
            return
        for index, value in enumerate(self.value):
            line = self.value.lines[index] if isinstance(self.value, Series) else self.line
            item = Field(value, f"{self.path}[{index}]", line, self.report)
            if value is None:
                item.fail("is null")
            else:
                yield item

    def text(self) -> str | None:
        """Return a text, None when absent; note it when it is something else."""
        if self.value is None or isinstance(self.value, str):
            return self.value
        self.fail(f"expected text, found {_name(self.value)} {self.value!r}" if _short(self.value) else "expected text")
        return None

    def integer(self) -> int | None:
        """Return an integer, None when absent; note it when it is something else."""
        if self.value is None:
            return None
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            return self.value
        self.fail(f"expected an integer, found {_name(self.value)}")
        return None

    def choice(self, allowed: tuple[str, ...]) -> str | None:
        """Return a text that is one of `allowed`, None when absent or wrong (which is noted)."""
        found = self.text()
        if found is None or found in allowed:
            return found
        self.fail(f"{found!r} is none of {', '.join(allowed)}")
        return None


def _name(value: Any) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "text", dict: "a mapping", list: "a list"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "something else")


def _short(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {})
