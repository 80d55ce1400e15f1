"""The program starts fast and its helps teach."""

import subprocess
import sys

import click
import pytest

from podfence.__main__ import cli

HEAVY = {"numpy", "pyarrow", "duckdb", "pandas", "sklearn", "kubernetes", "scapy", "yaml", "rich", "dns", "msgspec"}


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        *([verb, "--help"] for verb in ("record", "generate", "demo", "replay", "connectivity")),
        *([verb, "--help"] for verb in ("evaluate", "diff", "explain", "schema")),
    ],
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    """Heavy imports happen inside the verbs."""
    code = f"import sys; from podfence.__main__ import run; run({words!r}); print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """Return every command with its words."""
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in group.commands.items():
        found.append(((*path, name), command))
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


@pytest.mark.parametrize(("path", "command"), commands(cli), ids=str)
def test_every_command_and_option_says_what_it_does(path: tuple[str, ...], command: click.Command) -> None:
    """Each has a help text; each verb that reads or writes shows an example."""
    assert command.help, path
    context = click.Context(command)
    for option in command.get_params(context):
        if isinstance(option, click.Option):
            assert option.help, (path, option.name)
    if not isinstance(command, click.Group) and path != ("demo",):
        assert "Example" in command.help, path


def test_examples_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """What is meant to be copied is not filled into a paragraph."""
    from podfence.__main__ import run

    assert run(["generate", "--help"]) == 0
    assert "\n    podfence generate learned --out policies --target calico --default-deny\n" in capsys.readouterr().out


def test_counts_have_the_right_plural() -> None:
    """One policy, two policies, no branches."""
    from podfence.output import plural

    assert [plural(1, "policy"), plural(2, "policy"), plural(0, "branch"), plural(1234, "edge")] == [
        "1 policy",
        "2 policies",
        "0 branches",
        "1,234 edges",
    ]
