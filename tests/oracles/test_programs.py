"""Oracles written in Go are built once for each state of their sources, outside the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.oracles import programs

GO = """#!/bin/sh
if [ "$1" = version ]; then echo go version go9 made/up; exit; fi
echo "$@" >> "$GO_LOG"
while [ "$1" != -o ]; do shift; done
echo '#!/bin/sh' > "$2"
chmod +x "$2"
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a Go that only notes what it is asked on the PATH, and return its notes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "go").write_text(GO)
    (folder / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GO_LOG", str(tmp_path / "log"))
    monkeypatch.delenv("PODFENCE_ORACLES", raising=False)
    source = tmp_path / "go" / "oracle"
    source.mkdir(parents=True)
    (source / "main.go").write_text("package main\n")
    return tmp_path / "log"


def test_a_program_is_built_again_only_when_it_changed(go: Path) -> None:
    """The second call finds the program; another source makes another one."""
    sources = go.parent / "go"
    first = programs.program("oracle", sources)
    assert programs.program("oracle", sources) == first
    assert len(go.read_text().splitlines()) == 1
    (sources / "oracle" / "go.sum").write_text("changed\n")
    assert programs.program("oracle", sources) != first
    assert len(go.read_text().splitlines()) == 2
    assert first.is_relative_to(go.parent / "cache" / "podfence" / "oracles")


def test_two_who_test_at_once_build_once(go: Path) -> None:
    """Processes that ask for a program at the same time share one build."""
    code = f"from pathlib import Path; from tests.oracles.programs import program; program('oracle', Path({str(go.parent / 'go')!r}))"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [one.wait() for one in running] == [0] * 4
    assert len(go.read_text().splitlines()) == 1


def test_ready_programs_are_taken(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PODFENCE_ORACLES nothing is built, and what is missing there is told."""
    folder = go.parent / "ready"
    folder.mkdir()
    (folder / "oracle").touch(mode=0o755)
    monkeypatch.setenv("PODFENCE_ORACLES", str(folder))
    assert programs.program("oracle") == folder / "oracle"
    with pytest.raises(programs.NotBuiltError, match="holds no program other"):
        programs.program("other")
    assert not go.exists()


def test_without_go_the_reason_is_told(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Go is missing, or refuses to build, the error says so."""
    (go.parent / "bin" / "go").write_text(GO.replace("chmod +x", "echo no network >&2; exit 1; chmod"))
    with pytest.raises(programs.NotBuiltError, match="no network"):
        programs.program("oracle", go.parent / "go")
    monkeypatch.setenv("PATH", str(go.parent))
    with pytest.raises(programs.NotBuiltError, match="needs Go"):
        programs.program("oracle", go.parent / "go")
