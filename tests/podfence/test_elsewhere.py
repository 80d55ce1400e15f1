"""The program away from root and Linux, and as an installed package."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINUX_ONLY = ("fcntl", "grp", "pwd", "resource", "termios")

ELSEWHERE = f"""
import os, socket, subprocess, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {LINUX_ONLY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

# These ask for the platform while they are imported, and would look for another system's files.
import duckdb, numpy, pyarrow.parquet, sysconfig
sysconfig.get_config_vars()
for name in {LINUX_ONLY!r}:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hidden())
for name in [name for name in dir(socket) if name.startswith(("AF_PACKET", "PACKET_"))]:
    delattr(socket, name)
for name in ("setns", "geteuid", "getuid", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
sys.platform = "darwin"
from podfence.__main__ import run
sys.exit(run(sys.argv[1:]))
"""


def test_the_demo_runs_where_the_linux_only_modules_are_missing(tmp_path: Path) -> None:
    """Without packet sockets, namespaces and user ids it takes the bundled capture, and says why."""
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, "demo", "--out", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "needs Linux" in done.stderr
    assert "proposed again: nothing new" in done.stderr


def test_recording_live_elsewhere_is_one_line(tmp_path: Path) -> None:
    """What needs Linux says so."""
    words = [
        "record",
        "--out",
        str(tmp_path / "out"),
        "--identity",
        str(ROOT / "examples" / "shop" / "events.jsonl"),
        "--node",
        "node-1",
    ]
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("podfence: live capture needs Linux")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the wheel, built from the sdist as an index would have it."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(out)], cwd=ROOT, capture_output=True, check=True
    )
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_five_packages_and_nothing_else(wheel: Path) -> None:
    """Plain top-level names are shared with the world, so there is none by accident."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "recorder",
        "learner",
        "generator",
        "deploy",
        "podfence",
    }
    assert {
        "recorder/capture/filters.json",
        "deploy/schemas/replay.json",
        "deploy/semantics/profiles/npm.toml",
        "podfence/_demo/shop/node-1.pcap",
        "podfence/_demo/lab/__main__.py",
    } <= set(names)
    assert any(name.startswith("learner/sql/") for name in names)
    assert not [name for name in names if "__pycache__" in name]


def test_the_installed_program_runs_its_demo_outside_a_checkout(wheel: Path, tmp_path: Path) -> None:
    """The demo's capture comes with it, and nothing is looked for in a checkout."""
    place = tmp_path / "installed"
    venv.create(place, with_pip=False)
    site = next((place / "lib").glob("python3*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(dependencies))
    done = subprocess.run(
        [str(place / "bin" / "python"), "-I", "-m", "podfence", "demo", "--bundled", "--out", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "demo" / "policies" / "calico" / "kustomization.yaml").is_file()
