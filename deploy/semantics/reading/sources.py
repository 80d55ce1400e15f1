"""Finds the files that a path stands for: a file, a folder with all below it, a kustomization, or standard input."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.semantics.reading import kustomizations
from deploy.semantics.reading.fields import Problem

Given = str | os.PathLike[str]

_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read (None: standard input), and what the kustomization that lists it does to its objects.

    `namespace` is where its namespaced objects go, wherever they stand; `labels` are added to their own. `unlisted`: the
    kustomization of its folder does not list it.
    """

    name: str
    file: Path | None
    namespace: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    unlisted: bool = False

    def text(self) -> str:
        """Return what is in it.

        Raises OSError, and UnicodeDecodeError for what is no UTF-8 text.
        """
        raw = sys.stdin.buffer.read() if self.file is None else self.file.read_bytes()
        return raw.decode("utf-8-sig")


def sources(path: Given, problems: list[Problem]) -> Iterator[Source]:
    """Yield each file that a path stands for; what is missing or wrong is added to `problems`.

    In folders, hidden names are skipped. A folder with a kustomization holds what that lists, and nothing is run or fetched.
    """
    if os.fspath(path) == "-":
        yield Source("<stdin>", None)
        return
    place = Path(path)
    if place.is_dir():
        before, empty = len(problems), True
        for source in _folder(place, problems, ()):
            empty = False
            yield source
        if empty and len(problems) == before:
            problems.append(Problem(str(place), 0, "", "holds no *.yaml, *.yml or *.json file"))
    elif not place.exists():
        problems.append(Problem(str(place), 0, "", "no such file or folder"))
    elif place.name in kustomizations.NAMES:
        yield from _kustomized(place.parent, problems, ())
    else:
        yield Source(str(place), place)


def _folder(folder: Path, problems: list[Problem], above: tuple[Path, ...]) -> Iterator[Source]:
    """Yield the files in a folder and below; `above` are the folders that lead to it."""
    real = folder.resolve()
    if real in above:
        problems.append(Problem(str(folder), 0, "", "leads back to a folder above it"))
    elif kustomizations.named(folder):
        yield from _kustomized(folder, problems, above)
    else:
        for entry in _entries(folder, problems):
            if entry.is_dir():
                yield from _folder(entry, problems, (*above, real))
            elif entry.suffix.lower() in _SUFFIXES:
                yield Source(str(entry), entry)


def _entries(folder: Path, problems: list[Problem]) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        problems.append(Problem(str(folder), 0, "", f"cannot be read: {error.strerror}"))
        return []


def _kustomized(folder: Path, problems: list[Problem], above: tuple[Path, ...]) -> Iterator[Source]:
    """Yield what the kustomization of a folder lists, and the files beside that it does not list."""
    found = kustomizations.read(folder, problems)
    if found is None:
        return
    real = folder.resolve()
    files: list[Path] = []
    for line, where, text in found.resources:
        place = Path(os.path.normpath(folder / text))
        problem = ""
        if place.is_dir() and not kustomizations.named(place):
            problem = "is a folder without kustomization"
        elif place.is_dir() and place.resolve() in (*above, real):
            problem = "leads back to a kustomization above it"
        elif place.is_dir():
            for source in _kustomized(place, problems, (*above, real)):
                yield _changed(source, found)
        elif not place.exists():
            problem = "no such file or folder (podfence fetches nothing)"
        elif not place.resolve().is_relative_to(real):
            problem = "is a file outside the kustomization's folder, which kustomize does not read"
        else:
            files.append(place)
            yield _changed(Source(str(place), place), found)
        if problem:
            problems.append(Problem(found.file, line, "Kustomization", f"{where}: {text}: {problem}"))
    yield from _unlisted(Path(os.path.normpath(folder)), files, problems)


def _changed(source: Source, found: kustomizations.Kustomization) -> Source:
    """Return a source with what a kustomization does to it, after what those below did."""
    labels = tuple((dict(source.labels) | dict(found.labels)).items())
    return replace(source, namespace=found.namespace or source.namespace, labels=labels)


def _unlisted(folder: Path, files: list[Path], problems: list[Problem]) -> Iterator[Source]:
    """Yield the files that stand beside a kustomization, or beside a file that it lists, and are not listed."""
    for place in dict.fromkeys([folder, *(file.parent for file in files)]):
        if place != folder and kustomizations.named(place):
            continue
        for entry in _entries(place, problems):
            known = entry in files or entry.name in kustomizations.NAMES
            if not known and entry.suffix.lower() in _SUFFIXES and entry.is_file():
                yield Source(str(entry), entry, unlisted=True)
