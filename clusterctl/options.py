"""Options and arguments that several commands share, and how their values are read.

Amounts are checked here, so that a slip of the finger is told before anything is sent.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from clusterctl.app import App

F = TypeVar("F", bound=Callable[..., Any])

# Longer than any usual start, short enough that a forgotten CI job ends.
WAIT_DEFAULT = "10m"

# Whoever presses TAB does not wait longer.
COMPLETION_TIMEOUT = "500ms"


class Quantity(click.ParamType):  # type: ignore[type-arg]  # click 8.3's has none
    """An amount that ``cluster.quantities`` reads."""

    def __init__(self, name: str, function: str) -> None:
        self.name = name
        self._function = function

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from cluster import quantities
        from cluster.errors import InvalidError

        if not isinstance(value, str):
            return value
        try:
            return getattr(quantities, self._function)(value)
        except InvalidError as error:
            self.fail(str(error), param, ctx)


DURATION = Quantity("duration", "parse_duration")
BYTES = Quantity("size", "parse_bytes")
CPUS = Quantity("cpus", "parse_cpus")


class Pair(click.ParamType):  # type: ignore[type-arg]
    """``NAME=VALUE``, as a tuple; without ``=`` the value is empty if that is allowed."""

    name = "name=value"

    def __init__(self, *, bare: bool = False) -> None:
        self._bare = bare

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        name, equals, text = value.partition("=")
        if not name or not (equals or self._bare):
            self.fail(f"'{value}': write NAME=VALUE", param, ctx)
        return name, text


class Count(click.ParamType):  # type: ignore[type-arg]
    """``NAME=NUMBER``, as a tuple."""

    name = "name=number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        name, _, number = value.partition("=")
        if not name or not (number.isascii() and number.isdecimal()):
            self.fail(f"'{value}': write NAME=NUMBER", param, ctx)
        return name, int(number)


COUNT = Count()
PAIR = Pair()
LABEL = Pair(bare=True)


def format_option(default: str = "table") -> Callable[[F], F]:
    """``--format``; its value reaches the command as ``form``."""

    def checked(_: click.Context, __: click.Parameter, value: str) -> str:
        from clusterctl.render.output import check_format

        return check_format(value)

    return click.option(
        "--format",
        "form",
        metavar="FORMAT",
        default=default,
        callback=checked,
        help=f"table, json, yaml or a template such as '{{{{.Name}}}}'. [{default}]",
    )


def listing_options(function: F) -> F:
    """``--format``, ``--quiet`` and ``--no-trunc``."""
    function = click.option("--no-trunc", is_flag=True, help="Show ids in full.")(function)
    function = click.option("-q", "--quiet", is_flag=True, help="Print only ids.")(function)
    return format_option()(function)


def wait_options(function: F) -> F:
    """``--wait/--no-wait`` and ``--timeout``; in seconds, 0 is for ever."""
    function = click.option(
        "--timeout",
        "timeout_seconds",
        type=DURATION,
        default=WAIT_DEFAULT,
        metavar="DURATION",
        help=f"Wait at most so long; 0 is for ever. [{WAIT_DEFAULT}]",
    )(function)
    return click.option(
        "--wait/--no-wait",
        default=True,
        help="Return when it is done, or as soon as it is accepted. [--wait]",
    )(function)


def compose_options(default: str = "compose.yaml") -> Callable[[F], F]:
    """``--compose-file`` and ``--env-file``; *default* says what is read without them."""

    def add(function: F) -> F:
        function = click.option(
            "--env-file",
            "env_files",
            multiple=True,
            type=click.Path(),
            help="Variables for ${...} instead of those in .env beside the first file; repeat it.",
        )(function)
        return click.option(
            "-c",
            "-f",
            "--compose-file",
            "files",
            multiple=True,
            type=click.Path(allow_dash=True),
            help=f"Compose file; - is stdin. Later ones change earlier ones. [{default}]",
        )(function)

    return add


show_values_option = click.option(
    "--show-values",
    is_flag=True,
    help="Show values that may be secret: of variables, commands and options.",
)

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completing(kind: str) -> Completer:
    """Return what completes names of "service", "node", "task" or "stack" at the prompt."""

    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        app = App(flags=context.meta.get("clusterctl.flags", {}), timeout=COMPLETION_TIMEOUT)
        try:
            names = _names(app, kind)
        except Exception:  # noqa: BLE001  a prompt is no place for errors
            return []
        return [CompletionItem(name) for name in names if name.startswith(begun)]

    return complete


def _names(app: App, kind: str) -> Sequence[str]:
    match kind:
        case "service":
            return [each.service.spec.name for each in app.client.services()]
        case "node":
            return [each.node.description.hostname for each in app.client.nodes()]
        case "task":
            return [each.task.id for each in app.client.tasks()]
        case _:
            return [each.stack.name for each in app.client.stacks()]


def argument(
    kind: str, *, many: bool = False, name: str = "", required: bool = True
) -> Callable[[F], F]:
    """Return an argument that names objects of *kind*, and completes them."""
    metavar = f"{kind.upper()}..." if many else kind.upper()
    return click.argument(
        name or (f"{kind}s" if many else kind),
        metavar=metavar if required else f"[{metavar}]",
        nargs=-1 if many else 1,
        required=required,
        shell_complete=completing(kind),
    )


def show(text: str) -> None:
    """Print what a command has to say to programs or people."""
    click.echo(text, nl=False)
