"""Writes commits with plain git, past the user's checkout and index: an index of its own, write-tree, commit-tree, update-ref.

Each commit says in trailers which folder it stands for and which tree it made, so that a branch somebody else has touched is
recognised: by a commit without trailers, or by one whose tree is no longer the one that podfence wrote.
"""

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from recorder.errors import InputError, OutputError, UnsupportedError

_SCOPE, _TREE = "Podfence-Scope", "Podfence-Tree"
_FALLBACK = {"NAME": "podfence", "EMAIL": "podfence@localhost"}
_FILE = "100644"

Listing = dict[str, str]
"""Mode and blob id by path."""


def scope_of(files: Mapping[str, bytes], inside: str) -> str:
    """Return what a branch is named after: the cluster that the evidence names, else the folder."""
    cluster = None
    try:
        evidence = json.loads(files.get(".podfence/evidence.json", b"{}"))
        cluster = evidence.get("cluster") if isinstance(evidence, dict) else None
    except ValueError:
        pass
    name = cluster if isinstance(cluster, str) and cluster else inside
    return re.sub(r"[^A-Za-z0-9/_-]+", "-", name).strip("-/") or "policies"


@dataclass(frozen=True, slots=True)
class Repository:
    """A Git repository, bare or not; `place` is where git is run."""

    place: Path

    @classmethod
    def at(cls, repo: str | os.PathLike[str]) -> "Repository":
        """Return the repository that a folder belongs to; raises InputError when it is none."""
        place = Path(repo)
        if not place.is_dir():
            raise InputError(f"{place}: no such folder")
        found = cls(place)
        done = found._run("rev-parse", "--absolute-git-dir")
        if done.returncode != 0:
            raise InputError(f"{place}: {_said(done, 'not a git repository')}")
        return found

    def branch_name(self, name: str) -> str:
        """Return a branch name after checking it; raises InputError when git takes no such name."""
        if name.startswith("-") or self._run("check-ref-format", f"refs/heads/{name}").returncode != 0:
            raise InputError(f"--branch {name!r} is no name for a branch")
        return name

    def commit(self, base: str | None) -> str | None:
        """Return the commit that `base` (HEAD when None) names; None in a repository without commits.

        Raises InputError when `base` names no commit.
        """
        done = self._run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base or 'HEAD'}^{{commit}}")
        if done.returncode == 0:
            return done.stdout.decode().strip()
        if base is not None:
            raise InputError(f"--base {base!r} names no commit in {self.place}")
        return None

    def tip(self, branch: str) -> str | None:
        """Return the commit a branch points at; None when there is no such branch."""
        done = self._run("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
        return done.stdout.decode().strip() if done.returncode == 0 else None

    def blobs(self, files: Mapping[str, bytes]) -> Listing:
        """Return the listing that files would give, without writing them.

        A blob's name is the hash of its type, size and content (Git documentation, "gitformat-pack" and "Git Objects").
        """
        form = self._must("rev-parse", "--show-object-format").decode().strip()
        found: Listing = {}
        for name, content in sorted(files.items()):
            digest = hashlib.new(form, b"blob %d\0" % len(content) + content, usedforsecurity=False)
            found[name] = f"{_FILE} {digest.hexdigest()}"
        return found

    def listing(self, commit: str | None, inside: str) -> Listing:
        """Return what a folder holds in a commit, by path inside the folder."""
        if commit is None:
            return {}
        done = self._must("ls-tree", "-r", "-z", "--full-tree", commit, "--", f"{inside}/")
        found: Listing = {}
        for entry in filter(None, done.split(b"\0")):
            head, _, path = entry.partition(b"\t")
            mode, _, blob = head.decode().split(" ")
            found[os.fsdecode(path).removeprefix(f"{inside}/")] = f"{mode} {blob}"
        return dict(sorted(found.items()))

    def require_room(self, commit: str | None, inside: str) -> None:
        """Raise InputError when a commit has something else than a folder where the folder or one above it belongs."""
        if commit is None:
            return
        parts = inside.split("/")
        for depth in range(1, len(parts) + 1):
            place = "/".join(parts[:depth])
            done = self._run("cat-file", "-t", f"{commit}:{place}")
            if done.returncode == 0 and done.stdout.strip() != b"tree":
                raise InputError(f"--path {inside!r}: {place!r} is a file in the repository; name another folder")

    def contents(self, listing: Listing) -> dict[str, bytes]:
        """Return the content of the files of a listing."""
        names = [name for name, entry in listing.items() if entry.startswith("100")]
        asked = "".join(f"{listing[name].split(' ')[1]}\n" for name in names).encode()
        told = self._must("cat-file", "--batch", stdin=asked) if names else b""
        found: dict[str, bytes] = {}
        for name in names:
            head, _, told = told.partition(b"\n")
            size = int(head.rsplit(b" ", 1)[1])
            found[name], told = told[:size], told[size + 1 :]
        return found

    def require_ours(self, branch: str, tip: str | None, start: str | None) -> None:
        """Raise OutputError when a branch is checked out, or holds a commit that podfence did not write."""
        for line in self._must("worktree", "list", "--porcelain").decode(errors="replace").splitlines():
            if line == f"branch refs/heads/{branch}":
                raise OutputError(f"branch {branch} is checked out; switch to another one first")
        if tip is None:
            return
        known = ["--not", start] if start is not None else []
        for commit in self._must("rev-list", tip, *known).decode().split():
            message = self._must("show", "--no-patch", "--format=%T%n%B", commit).decode(errors="replace")
            tree, _, rest = message.partition("\n")
            if not re.search(rf"^{_TREE}: {tree}$", rest, re.MULTILINE):
                author = self._must("show", "--no-patch", "--format=%an", commit).decode(errors="replace").strip()
                raise OutputError(
                    f"branch {branch} holds {commit[:12]} by {author or 'somebody'}, which podfence did not write; "
                    "merge or delete the branch, or name another one"
                )

    def write(
        self,
        branch: str,
        tip: str | None,
        start: str | None,
        files: Mapping[str, bytes],
        inside: str,
        subject: str,
    ) -> str:
        """Commit files as the whole content of a folder on top of `start`, point the branch there, return the commit.

        Raises OutputError when the branch moved meanwhile.
        """
        with tempfile.TemporaryDirectory(prefix="podfence-") as scratch:
            extra = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            self._must("read-tree", start or "--empty", extra=extra)
            blobs = self._store(files, Path(scratch))
            zero = "0" * len(next(iter(blobs.values())))
            entries = [f"0 {zero}\t{inside}/{name}" for name in self.listing(start, inside)]
            entries += [f"{_FILE} {blob}\t{inside}/{name}" for name, blob in sorted(blobs.items())]
            stdin = b"".join(os.fsencode(entry) + b"\0" for entry in entries)
            self._must("update-index", "-z", "--index-info", extra=extra, stdin=stdin)
            tree = self._must("write-tree", extra=extra).decode().strip()
        message = f"{subject}\n\n{_SCOPE}: {inside}\n{_TREE}: {tree}\n"
        parents = ["-p", start] if start is not None else []
        commit = self._must("commit-tree", tree, *parents, "-F", "-", extra=self._who(), stdin=message.encode())
        name = commit.decode().strip()
        self._must("update-ref", "-m", "podfence propose", f"refs/heads/{branch}", name, tip or "0" * len(name))
        return name

    def _store(self, files: Mapping[str, bytes], scratch: Path) -> dict[str, str]:
        """Write files as blobs, in one go and byte for byte, and return their ids by name."""
        for number, content in enumerate(files.values()):
            (scratch / str(number)).write_bytes(content)
        paths = "".join(f"{scratch / str(number)}\n" for number in range(len(files)))
        told = self._must("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=os.fsencode(paths))
        return dict(zip(files, told.decode().split(), strict=True))

    def _who(self) -> dict[str, str]:
        """Return the identity to commit with where neither the environment nor git's configuration has one."""
        found: dict[str, str] = {}
        for field, value in _FALLBACK.items():
            if self._run("config", f"user.{field.lower()}").returncode != 0:
                for role in ("AUTHOR", "COMMITTER"):
                    if not os.environ.get(f"GIT_{role}_{field}"):
                        found[f"GIT_{role}_{field}"] = value
        return found

    def _must(self, *arguments: str, extra: Mapping[str, str] | None = None, stdin: bytes = b"") -> bytes:
        done = self._run(*arguments, extra=extra, stdin=stdin)
        if done.returncode != 0:
            raise OutputError(f"{self.place}: git {arguments[0]}: {_said(done, 'failed')}")
        return done.stdout

    def _run(
        self, *arguments: str, extra: Mapping[str, str] | None = None, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run git; variables that would point it at another repository (inside a hook) are left out."""
        outside = {key: value for key, value in os.environ.items() if key not in _LOCAL}
        environment = outside | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"} | dict(extra or {})
        command = ["git", "-C", str(self.place), "-c", "core.autocrlf=false", *arguments]
        try:
            return subprocess.run(command, input=stdin, env=environment, capture_output=True, check=False)
        except FileNotFoundError as error:
            raise UnsupportedError("git is not installed; `podfence propose` needs it") from error


_LOCAL: Iterable[str] = frozenset(
    {
        *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX"),
        *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_GRAFT_FILE", "GIT_QUARANTINE_PATH"),
    }
)
"""What `git rev-parse --local-env-vars` lists, as far as it names places."""


def _said(done: subprocess.CompletedProcess[bytes], otherwise: str) -> str:
    """Return the line in which git says what is wrong."""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return re.sub(r"^(fatal|error): ", "", lines[0]) if lines else otherwise
