"""Walks an object field by field and remembers every rule it breaks, so that all of them are told at once."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from deploy.semantics.reading.values import Series, Table

SHOWN = 100
"""How many broken rules are told one by one."""
_KEPT = 1_000
_LONGEST = 300


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A rule that an object breaks, and where; line 0 is the file as a whole."""

    file: str
    line: int
    object: str
    rule: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {f'{self.object}: ' if self.object else ''}{self.rule}"


def told(problems: Collection[Problem], more: int = 0) -> str:
    """Return broken rules as lines, in order of their places: the first of them, and the number of the others.

    `more` is how many there are beside those given.
    """
    different = sorted(set(problems))
    lines = [_printable(str(problem)) for problem in different[:SHOWN]]
    if others := len(different) - len(lines) + more:
        lines.append(f"and {others} more")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Return a text in one line, without what a terminal would obey, and not endless."""
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
    return shown if shown.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


@dataclass(slots=True)
class Report:
    """Where an object stands and what is wrong with it; shared by all its fields.

    `problems` holds the first thousand, `more` counts the others.
    """

    file: str
    object: str
    problems: list[Problem] = field(default_factory=list)
    more: int = 0


class Field:
    """A value inside an object, its line, the report it complains to, and the field it is part of.

    A null value reads as absent, as the API decodes it. Fields are made by the million, so that what only a complaint needs
    (`path`, and `line` where it is negative) is worked out when it is asked for.
    """

    __slots__ = ("_line", "parent", "report", "step", "value")

    def __init__(self, value: Any, step: str, line: int, report: Report, parent: "Field | None" = None) -> None:
        self.value = value
        self.step = step
        self._line = line
        self.report = report
        self.parent = parent

    @property
    def line(self) -> int:
        """Return the line it stands on."""
        if self._line < 0 and self.parent is not None:
            table = self.parent.value
            known = isinstance(table, Table) and self.step in table
            self._line = table.line_of(self.step) if known else self.parent.line
        return self._line

    @property
    def path(self) -> str:
        """Return where it stands in the object, such as `spec.ingress[0].ports`."""
        above = self.parent.path if self.parent is not None else ""
        return f"{above}.{self.step}" if above and not self.step.startswith("[") else f"{above}{self.step}"

    def fail(self, rule: str) -> None:
        """Note that a rule is broken here."""
        if len(self.report.problems) >= _KEPT:
            self.report.more += 1
            return
        path = self.path
        text = f"{path}: {rule}" if path else rule
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
        value = self.value.get(key) if isinstance(self.value, dict) else None
        return Field(value, key, -1, self.report, self)

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
            if isinstance(self.value, Series):
                line = self.value.lines[index]
            else:
                line = value.line if isinstance(value, Table) else self.line
            item = Field(value, f"[{index}]", line, self.report, self)
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
