"""A program that answers questions, one JSON object a line, for as long as it is wanted.

A question holds `namespaces` (labels by name), `pods` (namespace, name, labels and ports, each a name, number and protocol),
`ends` (the index of a pod or -1, and an address), `policies` as the API has them, `pairs` of ends, and what is `asked` of each
pair (protocol, number). The answer's `verdicts` are one character, `1` or `0`, for each pair and asked, in that order; or it
has an `error`.
"""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tests.oracles.cases import Case

Verdicts = NDArray[np.bool_]
"""Whether connections are allowed, one row for each pair of ends and one column for each (protocol, number) asked."""


class Program:
    """A running program; leave the context to end it."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self._wrong = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the program
        self._running = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._wrong, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.communicate()
        self._wrong.close()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a question; raises RuntimeError when there is none."""
        assert self._running.stdin, self.command
        assert self._running.stdout, self.command
        self._running.stdin.write(json.dumps(question) + "\n")
        self._running.stdin.flush()
        line = self._running.stdout.readline()
        if not line:
            self._running.wait()
            self._wrong.seek(0)
            raise RuntimeError(f"{self.command[0]} ended: {self._wrong.read()}")
        found: dict[str, Any] = json.loads(line)
        if found.get("error"):
            raise RuntimeError(f"{self.command[0]}: {found['error']} {found.get('notes', '')}")
        return found

    def verdicts(self, one: Case) -> Verdicts:
        """Return the verdicts of a case of Kubernetes policies."""
        text = self.ask(question(one))["verdicts"]
        assert len(text) == one.size, (one.name, len(text))
        found: Verdicts = np.frombuffer(text.encode(), np.uint8) == ord("1")
        return found.reshape(len(one.world.pairs), len(one.asked))


def question(one: Case) -> dict[str, Any]:
    """Return the question that a case asks."""
    return {
        "namespaces": one.world.namespaces,
        "pods": [asdict(pod) for pod in one.world.pods],
        "ends": [asdict(end) for end in one.world.ends],
        "policies": one.policies,
        "pairs": one.world.pairs,
        "asked": [{"protocol": protocol, "number": number} for protocol, number in one.asked],
    }
