"""Writes a replay as JUnit XML, which CI systems show as tests: one for each half of an edge that is not simply allowed.

There is no standard; this keeps to what GitLab, Jenkins and Azure DevOps read. GitLab takes the first of tests with equal names
and shows the text of a failure, not its attribute (docs.gitlab.com/ci/testing/unit_test_reports).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from deploy.findings import Finding, Isolated, Replay
from deploy.reports.wording import message, port

_OUTCOMES = ("denied", "undetermined", "expected")
"""What findings are, the worst first."""


@dataclass(frozen=True, slots=True)
class _Case:
    """One test: `failure` or `skipped` with a message and lines, or neither when it passes."""

    subject: str
    name: str
    element: str = ""
    kind: str = ""
    lines: tuple[str, ...] = ()


def junit(found: Replay) -> str:
    """Return the report: denied edges fail, undetermined and expected ones are skipped.

    Undetermined ones fail where the replay was asked to fail on them.
    """
    cases = [*_cases(found), *map(_silent, found.isolated)]
    allowed = f"{found.edges['allowed']} edges, {found.connections['allowed']} answered connections"
    # A report without any test is an error to some CI systems.
    cases.append(_Case("replay", "allowed edges", lines=(allowed,)))
    counts = {
        "tests": len(cases),
        "failures": sum(case.element == "failure" for case in cases),
        "errors": 0,
        "skipped": sum(case.element == "skipped" for case in cases),
    }
    root = ET.Element("testsuites", {"name": "podfence"} | {name: str(count) for name, count in counts.items()})
    suite = ET.SubElement(root, "testsuite", {"name": "replay"} | {name: str(count) for name, count in counts.items()})
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(found):
        ET.SubElement(properties, "property", {"name": name, "value": _legal(value)})
    for case in cases:
        _write(suite, case)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _cases(found: Replay) -> Iterator[_Case]:
    """Yield one test for each half of an edge, told by the worst that was found of it."""
    halves: dict[tuple[str, str], dict[str, list[Finding]]] = {}
    for outcome in _OUTCOMES:
        for one in getattr(found, outcome):
            key = one.source, f"{one.destination} {port(one)} {one.half}"
            halves.setdefault(key, {}).setdefault(outcome, []).append(one)
    for (source, name), outcomes in sorted(halves.items()):
        worst = next(iter(outcomes))
        fails = worst == "denied" or (worst == "undetermined" and found.fail_on == "undetermined")
        told = [(outcome, one) for outcome, findings in outcomes.items() for one in findings]
        lines = tuple(message(one, "denied as expected" if outcome == "expected" else outcome) for outcome, one in told)
        yield _Case(source, name, "failure" if fails else "skipped", worst, lines)


def _silent(one: Isolated) -> _Case:
    said = f"{' and '.join(one.directions)} isolated by {', '.join(one.by)}; nothing of it was recorded"
    return _Case(one.workload, "isolated without evidence", "skipped", "isolated", (said,))


def _properties(found: Replay) -> Iterator[tuple[str, str]]:
    yield "profile", found.profile
    yield "engines", ", ".join(found.engines)
    yield "policies", str(found.policies)
    counted: tuple[tuple[str, Mapping[str, int]], ...] = (
        ("edges", found.edges),
        ("connections", found.connections),
    )
    for name, counts in counted:
        yield from ((f"{name}.{outcome}", str(count)) for outcome, count in counts.items())
    for one in found.unjudged:
        yield "unjudged", f"{one.object}{f' {one.rule}' if one.rule else ''}: {one.what}"


def _write(suite: ET.Element, case: _Case) -> None:
    told = "\n".join(case.lines)
    test = ET.SubElement(suite, "testcase", {"classname": _legal(case.subject), "name": _legal(case.name)})
    if case.element:
        inner = ET.SubElement(test, case.element, {"message": _legal(case.lines[0]), "type": case.kind})
        inner.text = _legal(told)
    elif told:
        ET.SubElement(test, "system-out").text = _legal(told)


def _legal(text: str) -> str:
    """Return a text with a mark in place of what XML 1.0 cannot hold (section 2.2, Char)."""
    return "".join(letter if _is_legal(ord(letter)) else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _is_legal(code: int) -> bool:
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
