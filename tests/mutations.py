"""Changes the judge in small ways, one at a time, and tells which changes no test notices: `make mutate`.

A change swaps an operator, a comparison or a constant of one expression, in a copy of the tree. Tests run in a fork of this
process, cheapest first, up to the first that fails. What survives is looked at by a person: a hole in the tests, code that
nobody needs, or a change without a meaning. `--sample N` takes N changes of each module, the same ones each time.
"""

import argparse
import ast
import contextlib
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "deploy" / "semantics").rglob("*.py")
    if path.name != "__init__.py" or path.parent.name == "profiles"
)
TESTS = (
    *("test_deciding", "test_verdicts", "test_kubernetes", "test_policyset", "test_profiles", "test_cluster_policy"),
    *(
        "test_cilium",
        "test_calico",
        "test_calico_rules",
        "test_calico_sets",
        "test_calico_tiers",
        "test_calico_selectors",
        "test_connectivity",
    ),
    *("test_replay", "test_cases"),
)
READING = ("test_manifests", "test_documents", "test_kustomizations", "test_selectors")
"""Tests of readers, asked first about a reader and not at all about the rest."""
LIMIT = 240
"""Seconds after which a change counts as noticed: it made something endless."""

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_NAMES = {"minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min", "any": "all", "all": "any"}


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node changed in each small way."""
    found: Any = copy.deepcopy(node)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        found.ops = [_COMPARE[type(node.ops[0])]()]
        yield found
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _BINARY:
        found.op = _BINARY[type(node.op)]()
        yield found
    elif isinstance(node, ast.BoolOp):
        found.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield found
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        yield found.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int):
        found.value = not node.value if isinstance(node.value, bool) else node.value + 1
        yield found
    elif isinstance(node, ast.Attribute) and node.attr in _NAMES:
        found.attr = _NAMES[node.attr]
        yield found
    elif isinstance(node, ast.Name) and node.id in _NAMES and isinstance(node.ctx, ast.Load):
        found.id = _NAMES[node.id]
        yield found
    elif isinstance(node, ast.IfExp):
        found.body, found.orelse = found.orelse, found.body
        yield found


class Places(ast.NodeVisitor):
    """Every node that can be changed, annotations and decorators left out."""

    def __init__(self) -> None:
        self.found: list[ast.AST] = []

    def visit(self, node: ast.AST) -> None:
        """Take a node and what is inside."""
        if any(True for _ in changed(node)):
            self.found.append(node)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)


class Swap(ast.NodeTransformer):
    """Puts one node in another's place."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old = old
        self.new = new

    def visit(self, node: ast.AST) -> Any:
        """Return the node, or what takes its place."""
        return self.new if node is self.old else self.generic_visit(node)


def changes(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, what it says, the whole module changed) for each small change."""
    count = len(_places(ast.parse(text)))
    for number in range(count):
        for variant in range(len(list(changed(_places(ast.parse(text))[number])))):
            tree = ast.parse(text)
            node = _places(tree)[number]
            new = list(changed(node))[variant]
            said = f"{ast.unparse(node)[:90]}  =>  {ast.unparse(new)[:90]}"
            yield getattr(node, "lineno", 0), said, ast.unparse(ast.fix_missing_locations(Swap(node, new).visit(tree)))


def _places(tree: ast.AST) -> list[ast.AST]:
    visitor = Places()
    visitor.visit(tree)
    return visitor.found


def noticed(tree: Path, tests: Sequence[str]) -> bool:
    """Tell whether a test fails in a tree; tests run in a fork that has the libraries loaded."""
    context = get_context("fork")
    process = context.Process(target=_test, args=(tree, tests))
    process.start()
    process.join(LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
        return True
    return process.exitcode != 0


def _test(tree: Path, tests: Sequence[str]) -> None:
    import pytest

    os.chdir(tree)
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    files = [f"tests/deploy/{name}.py" for name in tests]
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(tree), "--no-header"]
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):  # noqa: PTH123
        code = pytest.main([*options, *files])
    os._exit(int(code != 0))


def main() -> int:
    """Try the changes; return 1 when one survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="files below deploy/semantics; none: all")
    parser.add_argument(
        "--sample", type=int, default=25, metavar="N", help="changes of each module (default 25; 0: all)"
    )
    options = parser.parse_args()
    import duckdb  # noqa: F401 - loaded here so that each fork need not
    import numpy as np  # noqa: F401
    import pyarrow as pa  # noqa: F401

    total = {"noticed": 0, "survived": 0}
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        _copied(tree)
        if noticed(tree, (*READING, *TESTS)):
            raise SystemExit("the tests fail without any change")
        for module in options.modules or MODULES:
            file = tree / module
            text = file.read_text()
            tests = (*READING, *TESTS) if "reading" in module else TESTS
            found = list(changes(text))
            dice = random.Random(module)  # noqa: S311 - a seed, no secret
            chosen = dice.sample(found, min(options.sample, len(found))) if options.sample else found
            start, survivors = time.monotonic(), []
            for line, said, new in sorted(chosen, key=lambda one: one[:2]):
                file.write_text(new)
                if not noticed(tree, tests):
                    survivors.append(f"  survived {module}:{line}: {said}")
                    say(survivors[-1])
            file.write_text(text)
            total["survived"] += len(survivors)
            total["noticed"] += len(chosen) - len(survivors)
            spent = time.monotonic() - start
            say(
                f"{module}: {len(chosen) - len(survivors)} of {len(chosen)} noticed ({len(found)} in all, {spent:.0f} s)"
            )
    say(f"{total['noticed']} noticed, {total['survived']} survived")
    return int(bool(total["survived"]))


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _copied(tree: Path) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
