"""Breaks the program on purpose, one stage at a time, and shows which test turns red: `make sabotage`.

Each break is made in a copy of the tree; the bundled shop and the stage's own tests run against it. A break that no test
notices is a hole in the tests, and the exit code is 1.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Break:
    """One text replaced in one file, and the tests that must notice beside the shop's."""

    name: str
    file: str
    old: str
    new: str
    tests: str


BREAKS = (
    Break("nothing (control)", "README.md", "# podfence", "# podfence", "tests/generator/test_golden.py"),
    Break(
        "drop a rule in the emitter",
        "generator/kubernetes.py",
        "for rule in rules]",
        "for rule in rules[:-1] or rules]",
        "tests/generator",
    ),
    Break(
        "resolve by the latest owner",
        "recorder/identity/index.py",
        'return codes[np.searchsorted(bounds, times, side="right")]',
        'return codes[np.searchsorted(bounds, np.full_like(times, self.observed_until - 1), side="right")]',
        "tests/recorder",
    ),
    Break(
        "let the API outrank the interface",
        "recorder/edges/interfaces.py",
        "            if uid in taken:\n                continue\n",
        "",
        "tests/recorder",
    ),
    Break(
        "start identities at the API's event",
        "recorder/identity/index.py",
        "    return min(anchor, max(lowest, floor))",
        "    return max(anchor, holding.shown)",
        "tests/recorder",
    ),
    Break(
        "skip the handshake gate",
        "learner/evidence.py",
        "    seen = evidence.windows_seen > 0\n",
        "    seen = True\n",
        "tests/learner",
    ),
    Break(
        "take every SYN for answered",
        "recorder/edges/handshakes.py",
        "    answered = any_of(left, home & (here.kind[right] == ACCEPT), size)",
        "    answered = np.ones(size, dtype=bool)",
        "tests/recorder",
    ),
    Break(
        "skip the sequential test",
        "learner/learned.py",
        'flagged=row["source"] in flagged',
        "flagged=False",
        "tests/learner",
    ),
    Break(
        "select by pod-template-hash",
        "learner/selectors.py",
        '        "pod-template-hash",\n',
        "",
        "tests/learner",
    ),
    Break(
        "count retransmits as attempts",
        "recorder/edges/handshakes.py",
        "        here.protocol,\n        here.number,\n        here.client_port,\n        here.server_port,",
        "        here.time,\n        here.number,\n        here.client_port,\n        here.server_port,",
        "tests/recorder",
    ),
    Break(
        "ignore except",
        "deploy/semantics/ends.py",
        "*((hole, False) for hole in net.without)",
        "*((hole, True) for hole in net.without)",
        "tests/deploy/test_kubernetes.py",
    ),
    Break(
        "isolate egress by an empty list",
        "deploy/semantics/reading/kubernetes.py",
        "has_egress=bool(egress)",
        'has_egress="egress" in spec',
        "tests/deploy/test_kubernetes.py",
    ),
    Break(
        "resolve named ports on the initiator",
        "deploy/semantics/deciding.py",
        "self.traffics.answers(program.traffic[step], connection[cell], destination[cell])",
        "self.traffics.answers(program.traffic[step], connection[cell], source[cell])",
        "tests/deploy/test_kubernetes.py",
    ),
    Break(
        "or instead of and in a peer",
        "deploy/semantics/peers.py",
        "selected &= peer.pods.of(",
        "selected |= peer.pods.of(",
        "tests/deploy/test_kubernetes.py",
    ),
    Break(
        "let Calico's order be",
        "deploy/semantics/programs.py",
        "found.append(((rank, policy.order), tie, number, rules))",
        "found.append(((rank, 0.0), tie, number, rules))",
        "tests/deploy/test_calico_tiers.py",
    ),
    Break(
        "take Pass for the end",
        "deploy/semantics/deciding.py",
        "        passed[level.cell[action == PASS]] = True\n",
        "",
        "tests/deploy/test_calico_tiers.py",
    ),
    Break(
        "judge with labels of then alone",
        "deploy/cases.py",
        "if not self._same_now():",
        "if False:",
        "tests/deploy/test_replay.py",
    ),
)


def main() -> int:
    """Run all breaks; return 1 if one goes unnoticed or the control does not pass."""
    unnoticed = []
    for one in BREAKS:
        red = _first_red(one)
        expected = one.name.endswith("(control)")
        if (red is None) != expected:
            unnoticed.append(one.name)
        sys.stdout.write(f"{one.name:<40} {'green' if red is None else 'red: ' + red}\n")
        sys.stdout.flush()
    if unnoticed:
        sys.stderr.write(f"not as expected: {', '.join(unnoticed)}\n")
    return int(bool(unnoticed))


def _first_red(one: Break) -> str | None:
    """Return the first test that fails with the break in place, or None."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for name in listed:
            if (ROOT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, tree / name)
        file = tree / one.file
        text = file.read_text()
        if one.old not in text:
            raise SystemExit(f"{one.name}: {one.file} no longer holds {one.old!r}; bring this break up to date")
        file.write_text(text.replace(one.old, one.new))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not lab"),
                *(one.tests, "tests/test_shop.py"),
            ],
            cwd=tree,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": str(tree)},
        )
        if not done.returncode:
            return None
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        return found[1] if found else f"pytest exit code {done.returncode}"


if __name__ == "__main__":
    sys.exit(main())
