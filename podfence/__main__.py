"""The program: one group of verbs, and the one place where an error becomes a line and an exit code."""

import io
import os
import sys
import traceback

import click

from podfence.connectivity import connectivity
from podfence.demo import demo
from podfence.diff import diff
from podfence.evaluate import evaluate
from podfence.explain import explain
from podfence.generate import generate
from podfence.import_ import import_
from podfence.learn import learn
from podfence.propose import propose
from podfence.record import record
from podfence.replay import replay
from podfence.schema import schema
from recorder.errors import PodfenceError

_EPILOG = """\b
The way of the data, each step a folder that the next one reads:
  packets --record/import--> recording --learn--> patterns --generate--> policies --replay--> verdict --propose--> branch

Exit codes: 0 clean, 1 findings, 2 error. Start with `podfence demo`."""


@click.group(
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="podfence", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(*, debug: bool) -> None:
    """Learn which pods need which connections, and write the network policy that allows exactly those."""
    del debug


_VERBS = (*(demo, record, import_, learn, generate, replay, connectivity, evaluate, diff, explain, propose, schema),)
for verb in _VERBS:
    cli.add_command(verb)


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit: 0 clean, 1 findings, 2 error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the program and return its exit code; an error is one line on stderr, policies have one for each broken rule."""
    try:
        code = cli.main(args=arguments, prog_name=_name(), standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else _name()
        return _failed(f"{error.format_message().rstrip('.')}; see `{command} --help`", arguments=arguments)
    except (click.Abort, KeyboardInterrupt):
        click.echo("podfence: interrupted", err=True)
        return 130
    except PodfenceError as error:
        return _failed(*_lines(str(error)), arguments=arguments)
    except SystemExit:  # click's own answer when nobody reads its help to the end
        return 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _failed(f"{error.filename or 'operating system'}: {error.strerror or error}", arguments=arguments)
    except Exception as error:  # noqa: BLE001 - the last line of defence; --debug shows where it came from
        message = f"internal error: {type(error).__name__}: {error}; --debug shows where, please report it"
        return _failed(message, arguments=arguments)
    return code if isinstance(code, int) else 0


def _failed(*messages: str, arguments: list[str]) -> int:
    if "--debug" in arguments:
        traceback.print_exc()
    for message in messages:
        click.echo(f"podfence: {' '.join(message.split())}", err=True)
    return 2


def _lines(message: str) -> list[str]:
    """Return what an error tells, a line each: most tell one thing; indented lines go on with the one before."""
    found: list[str] = []
    for line in message.splitlines():
        if found and (not line.strip() or line[0].isspace()):
            found[-1] += f" {line}"
        else:
            found.append(line)
    return found or [message]


def _name() -> str:
    program = os.path.basename(sys.argv[0])  # noqa: PTH119 - the name alone
    return "kubectl podfence" if program == "kubectl-podfence" else "podfence"


if __name__ == "__main__":
    main()
