"""Reads policies from files and folders; a policy that cannot be read or judged is an error, never absent.

Objects that are no policies are ignored. All broken rules are told at once, each with file, line and object.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from deploy.semantics.policyset import PolicySet
from deploy.semantics.reading.documents import Series, Table, UnreadableError, documents
from deploy.semantics.reading.fields import Field, Problem, Report, told
from deploy.semantics.reading.sources import Given, Source, sources
from deploy.semantics.rules import Object
from recorder.errors import InputError

_METADATA = (
    *("name", "namespace", "labels", "annotations", "uid", "resourceVersion", "generation", "generateName"),
    *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "finalizers"),
    *("managedFields", "selfLink", "clusterName"),
)
_READERS = {
    "networking.k8s.io": "kubernetes",
    "projectcalico.org": "calico",
    "crd.projectcalico.org": "calico",
    "cilium.io": "cilium",
    "policy.networking.k8s.io": "cluster",
}
"""The module that reads the kinds of an API group: it names what it reads, what is harmless, and what has no namespace."""

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_KEPT = 1_000


@dataclass(slots=True)
class _Read:
    """What came of one API object: the objects it says, or what is wrong with it."""

    title: str
    file: str
    line: int
    objects: tuple[Object, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    more: int = 0


@dataclass(slots=True)
class _Early:
    """What came of an item that was read before the list around it was complete."""

    found: list[_Read]


@dataclass(slots=True)
class _Findings:
    """All that was read so far; of the broken rules the first thousand are held, the others counted."""

    objects: list[Object] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    more: int = 0
    places: dict[str, str] = field(default_factory=dict)

    def add(self, found: _Read) -> None:
        """Take what came of an object; one that was there before is a broken rule."""
        problems = list(dict.fromkeys(found.problems))
        if not problems and found.title:
            place = f"{found.file}:{found.line}" if found.line else found.file
            if found.title in self.places:
                rule = f"given twice, first in {self.places[found.title]}"
                problems.append(Problem(found.file, found.line, found.title, rule))
            self.places.setdefault(found.title, place)
        kept = problems[: _KEPT - len(self.problems)]
        self.problems += kept
        self.more += len(problems) - len(kept) + found.more
        self.objects += found.objects if not problems else ()

    def close(self) -> PolicySet:
        """Return the policies, or raise all that is wrong."""
        if self.problems:
            raise InputError(told(self.problems, self.more))
        return PolicySet.of(self.objects)


def read(paths: Iterable[Given], *, namespace: str = "default") -> PolicySet:
    """Read policies from files, folders (recursively) and `-` (standard input), in the order given and by name.

    `namespace` is where an object goes that names none. A folder with a kustomization holds what that lists; what it would
    change beyond namespace and labels is an error, and so are policies beside it that it does not list.

    Raises InputError with one line per broken rule.
    """
    findings = _Findings()
    for path in paths:
        missing: list[Problem] = []
        for source in sources(path, missing):
            for found in _file(source, namespace):
                findings.add(found)
        findings.add(_Read("", "", 0, problems=missing))
    return findings.close()


def judge_objects(objects: Sequence[tuple[str, dict[str, Any]]]) -> PolicySet:
    """Return the policies among API objects, each given with the name of where it comes from.

    Raises InputError as `read` does.
    """
    findings = _Findings()
    for place, value in objects:
        for found in _object(value, 0, Source(place, None), "default"):
            findings.add(found)
    return findings.close()


def parse(text: str, name: str, *, namespace: str = "default") -> tuple[list[Object], list[Problem]]:
    """Return the objects in a text and every rule it breaks."""
    findings = _Findings()
    for found in _text(text, Source(name, None), namespace):
        findings.add(found)
    return findings.objects, findings.problems


def _file(source: Source, namespace: str) -> Iterator[_Read]:
    try:
        text = source.text()
    except UnicodeDecodeError:
        yield _wrong(source, 0, "", "not UTF-8 text")
        return
    except OSError as error:
        yield _wrong(source, 0, "", f"cannot be read: {error.strerror}")
        return
    for found in _text(text, source, namespace):
        if not source.unlisted:
            yield found
        elif found.title:
            yield _wrong(source, found.line, found.title, "the kustomization of its folder does not list this file")


def _text(text: str, source: Source, namespace: str) -> Iterator[_Read]:
    unreadable: list[UnreadableError] = []

    def early(item: Any, line: int) -> Any:
        """Read an item that says itself what it is, so that a long list is not held whole."""
        if isinstance(item, Table) and isinstance(item.get("kind"), str) and isinstance(item.get("apiVersion"), str):
            return _Early(list(_object(item, line, source, namespace)))
        return item

    for line, value in documents(text, unreadable=unreadable, each=early):
        yield from _object(value, line, source, namespace)
    for error in unreadable:
        yield _wrong(source, error.line, "", error.rule)


def _wrong(source: Source, line: int, title: str, rule: str) -> _Read:
    return _Read("", source.name, line, problems=[Problem(source.name, line, title, rule)])


def _object(value: Any, line: int, source: Source, namespace: str) -> Iterator[_Read]:
    """Yield what comes of an API object, and of each item of a list."""
    if isinstance(value, _Early):
        yield from value.found
        return
    if isinstance(value, Table):
        line = value.line
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        yield _wrong(source, line, "", "no Kubernetes object: `kind` is missing")
        return
    kind, version = value["kind"], value.get("apiVersion")
    if not isinstance(version, str):
        yield _wrong(source, line, kind, "no Kubernetes object: `apiVersion` is missing")
        return
    items = value.get("items")
    if kind == "List" and not isinstance(items, list | None):
        report = Report(source.name, kind)
        list(Field(value, "", line, report)["items"].items())
        yield _Read("", source.name, line, problems=report.problems)
    elif kind.endswith("List") and isinstance(items, list | None):
        for number, item in enumerate(items or ()):
            if kind != "List" and isinstance(item, dict):
                # Items of a typed list, such as NetworkPolicyList, need not repeat what they are.
                item.setdefault("apiVersion", version)
                item.setdefault("kind", kind.removesuffix("List"))
            place = items.lines[number] if isinstance(items, Series) else line
            yield from _object(item, place, source, namespace)
    else:
        yield from _one(value, line, source, namespace)


def _one(value: dict[str, Any], line: int, source: Source, namespace: str) -> Iterator[_Read]:
    """Yield what comes of an object that is no list; nothing for one that has no say in which pods may talk."""
    kind, version = value["kind"], value["apiVersion"]
    group = version.partition("/")[0]
    reader = import_module(f"deploy.semantics.reading.{_READERS[group]}") if group in _READERS else None
    if kind in reader.HARMLESS if reader is not None else not kind.endswith("NetworkPolicy"):
        return
    report = Report(source.name, kind)
    root = Field(value, "", line, report)
    if reader is None or version not in reader.API_VERSIONS or kind not in reader.READERS:
        name, _ = _named(root["metadata"], source, None)
        report.object = f"{kind} {name or '?'}"
        root.fail(f"podfence does not judge {version} {kind}")
        yield _Read(report.object, source.name, line, (), report.problems)
        return
    scoped = kind in reader.CLUSTER_SCOPED
    name, place = _named(root["metadata"], source, None if scoped else namespace)
    prefix = "Calico " if group.endswith("projectcalico.org") and kind == "NetworkPolicy" else ""
    report.object = f"{prefix}{kind} {place}/{name or '?'}" if place else f"{prefix}{kind} {name or '?'}"
    _check_metadata(root["metadata"], scoped=scoped)
    root.only("apiVersion", "kind", "metadata", "spec", "status", *(("specs",) if group == "cilium.io" else ()))
    found: Any = reader.READERS[kind](root, place, name)
    objects = found if isinstance(found, tuple) else () if found is None else (found,)
    title = objects[0].title if objects else report.object
    yield _Read(title, source.name, line, objects, report.problems, report.more)


def _named(metadata: Field, source: Source, namespace: str | None) -> tuple[str, str | None]:
    """Return name and namespace of an object that goes to `namespace` (None: to none) unless it names one itself.

    Namespace and labels are what the kustomization that lists the file makes of them.
    """
    if source.labels and isinstance(metadata.value, dict):
        own = metadata["labels"].value
        metadata.value["labels"] = (own if isinstance(own, dict) else {}) | dict(source.labels)
    name, given = metadata["name"].value, metadata["namespace"].value
    if namespace is not None:
        namespace = source.namespace or (given if isinstance(given, str) and given else namespace)
    return name if isinstance(name, str) else "", namespace


def _check_metadata(metadata: Field, *, scoped: bool) -> None:
    """Note what the API does not take (apimachinery pkg/api/validation/objectmeta.go)."""
    if not metadata.mapping():
        return
    metadata.only(*_METADATA)
    name, namespace = metadata["name"], metadata["namespace"]
    text = name.text()
    if name.absent or text == "":
        metadata.fail("`name` is missing")
    elif text is not None and not _NAME.fullmatch(text):
        name.fail(f"{text!r} is no name: lower-case letters, digits, - and . only")
    place = namespace.text()
    if place and scoped:
        namespace.fail("objects of this kind have no namespace")
    elif place and not _NAMESPACE.fullmatch(place):
        namespace.fail(f"{place!r} is no name of a namespace")
    for field_ in (metadata["labels"], metadata["annotations"]):
        if field_.mapping():
            for key in field_.keys():  # noqa: SIM118 - no mapping, a field
                field_[key].text()
