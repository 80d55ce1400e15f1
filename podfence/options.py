"""Options that several verbs share: which policies, which cluster, which engines, which format."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from deploy.population import Population

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Decorator = Callable[[_Function], _Function]

_DEFAULTS = {"profile": "strict", "staged": "enforced", "by": "workload"}

policies = click.option(
    "--policies", multiple=True, required=True, metavar="PATH", help="File, folder or `-`; may be repeated."
)
profile = click.option(
    "--profile",
    default=_DEFAULTS["profile"],
    show_default=True,
    metavar="NAME",
    help="Engines to judge as, with commas (npm,calico); `strict`: all that take these policies, and must agree.",
)
existing = click.option(
    "--existing",
    is_flag=True,
    help="Together with the policies that are in the cluster; a given one replaces its namesake.",
)
staged = click.option(
    "--staged",
    type=click.Choice(["enforced", "ignored"]),
    default=_DEFAULTS["staged"],
    show_default=True,
    help="What Calico's staged policies count as.",
)
by = click.option(
    "--by",
    type=click.Choice(["workload", "pod"]),
    default=_DEFAULTS["by"],
    show_default=True,
    help="What the ends are named by.",
)
_inventory = click.option(
    "--inventory",
    metavar="PATH",
    help="The cluster's objects: an event log, or a list as `kubectl get -o yaml` prints it.",
)
_recording = click.option(
    "--recording", metavar="URI", help="A recording, in place of --inventory: the cluster at its end."
)


def cluster(function: _Function) -> _Function:
    """Add the two options that say where the cluster's objects come from."""
    return _inventory(_recording(function))


def ends(*, required: bool) -> "_Decorator[Any]":
    """Return the three options that name a connection."""

    def add(function: Any) -> Any:
        for option in (
            click.option(
                "--port",
                required=required,
                metavar="PORT",
                help="The responder's port, not its Service's: 80/tcp, 53/udp, icmp or icmp/8; TCP when it does not say.",
            ),
            click.option("--to", "destination", required=required, metavar="NAME", help="Who responds; as --from."),
            click.option(
                "--from",
                "source",
                required=required,
                metavar="NAME",
                help="Who initiates: a workload (namespace/kind/name), pod (namespace/pod), node/NAME, apiserver, address or prefix.",
            ),
        ):
            function = option(function)
        return function

    return add


def output(*forms: str) -> "_Decorator[Any]":
    """Return the option for the format, with `table`, `json`, `yaml` and these."""
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(["table", "json", "yaml", *forms]),
        default="table",
        show_default=True,
        help="How the result is printed.",
    )


def population(inventory: str | None, recording: str | None) -> "Population":
    """Return who is in the cluster; exactly one source must be given."""
    if (inventory is None) == (recording is None):
        given = "not both" if inventory is not None else "neither was"
        raise click.UsageError(f"give --inventory PATH or --recording URI, {given}", click.get_current_context())
    from deploy.population import Population
    from deploy.recorded import reading
    from recorder.store import Recording

    if inventory is not None:
        import recorder

        return Population.of(recorder.snapshot(inventory))
    opened = Recording.open(str(recording))
    with reading(opened):
        return Population.of(opened)


def words(**options: object) -> list[str]:
    """Return options as a command line has them; those that are not given, false or what they are anyway are left out."""
    found: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(flag)
        elif isinstance(value, tuple):
            found += [word for one in value for word in (flag, str(one))]
        elif value not in (None, False, _DEFAULTS.get(name)):
            found += [flag, str(value)]
    return found
