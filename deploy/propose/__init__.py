"""Proposes policies as a branch with one commit, and as a pull request where a forge is asked."""

import os
from dataclasses import dataclass
from pathlib import Path

from deploy.findings import Replay
from deploy.propose.body import write_body
from deploy.propose.changes import Changes, changes
from deploy.propose.forge import Forge, forge_named
from deploy.propose.git import Repository, scope_of
from recorder.errors import InputError, OutputError

__all__ = ["Forge", "Proposal", "propose"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What came of it: `operation` is `created`, `updated` or `none`; `commit` is None when nothing was written.

    `base` is None in a repository without commits, where the branch begins the history. `url` is the pull request's.
    """

    operation: str
    branch: str
    base: str | None
    commit: str | None
    body: str
    changes: Changes
    url: str | None = None


def propose(
    policies: str | os.PathLike[str],
    repo: str | os.PathLike[str],
    *,
    forge: str = "none",
    path: str = "policies",
    base: str | None = None,
    branch: str | None = None,
    body_file: str | os.PathLike[str] | None = None,
    replay: Replay | None = None,
) -> Proposal:
    """Put a folder of policies into a folder of a Git repository, as one commit on the scope's branch.

    The user's checkout and index are not touched. `path` is the folder inside the repository that mirrors `policies`: files
    that vanished are removed there. `base` is a commit-ish, HEAD unless given. When neither base nor branch differ from the
    policies nothing is written. The body goes to `body_file` when one is given.

    Raises InputError for a folder without files, a path outside the repository or taken by a file, or an unknown base;
    OutputError when the branch is checked out or holds commits that are not podfence's, or the body cannot be written.
    """
    adapter = forge_named(forge)
    folder = Path(policies)
    files = _files(folder)
    inside = _inside(path)
    repository = Repository.at(repo)
    name = repository.branch_name(branch or f"podfence/{scope_of(files, inside)}")
    start = repository.commit(base)
    tip = repository.tip(name)
    repository.require_room(start, inside)
    blobs = repository.blobs(files)
    before = repository.listing(start, inside)
    found = changes(
        {key: text.decode("utf-8", "replace") for key, text in repository.contents(before).items()},
        {key: text.decode("utf-8", "replace") for key, text in files.items()},
    )
    body = write_body(found, files, replay, limit=adapter.body_limit)
    operation, commit = "none", None
    changed = blobs != before and (tip is None or blobs != repository.listing(tip, inside))
    if changed:
        repository.require_ours(name, tip, start)
    if body_file is not None:
        try:
            Path(body_file).write_text(body, encoding="utf-8", newline="\n")
        except OSError as error:
            raise OutputError(f"{body_file}: cannot be written: {error.strerror}") from error
    if changed:
        commit = repository.write(name, tip, start, files, inside, found.subject)
        operation = "created" if tip is None else "updated"
    url = adapter.publish(repository.place, name, start, found.subject, body) if operation != "none" else None
    return Proposal(operation, name, start, commit, body, found, url)


def _files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by its path there."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of policies; `podfence generate` writes one")
    found: dict[str, bytes] = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_symlink():
            raise InputError(f"{file}: is a symbolic link; a proposal holds plain files only")
        if ".git" in Path(name).parts:
            raise InputError(f"{file}: a folder of policies may not hold a repository")
        if file.is_file():
            found[name] = file.read_bytes()
    if not any(name.endswith((".yaml", ".yml", ".json")) and not name.startswith(".podfence/") for name in found):
        raise InputError(f"{folder}: holds no policy; nothing to propose")
    return found


def _inside(path: str) -> str:
    """Return a folder inside the repository, normalised; never the whole of it, because what vanished is removed."""
    parts = [part for part in Path(path).parts if part != "."]
    if not parts or Path(path).is_absolute() or ".." in parts or ".git" in (part.lower() for part in parts):
        raise InputError(f"--path {path!r} is no folder inside the repository")
    return "/".join(parts)
