"""Groups and commands of the command line, as the whole client shares them.

``LazyGroup`` names its commands' modules and imports one only when it is used: so the help of
the whole program costs click alone. ``Leaf`` is a command whose help has examples, and that
takes the program's own options (``--endpoint`` ...) behind its name too.
"""

import importlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import click

from cluster.errors import did_you_mean

HELP_WIDTH_MAX = 100
CONTEXT_SETTINGS: MutableMapping[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": HELP_WIDTH_MAX,
}


class Lazy(NamedTuple):
    """A command that is not imported yet; its module has it as ``command``."""

    module: str
    summary: str


class Leaf(click.Command):
    """A command with examples.

    Args:
        examples: command lines, one a line; those that begin with ``#`` explain the next.
    """

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", CONTEXT_SETTINGS)
        kwargs["params"] = [*kwargs.get("params", ()), *global_options(hidden=True)]
        super().__init__(*args, **kwargs)
        self.examples = [line.strip() for line in examples.strip().splitlines()]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        super().format_epilog(ctx, formatter)


class Family(click.Group):
    """A group of commands in one module, such as ``clusterctl node ...``."""

    command_class = Leaf

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", CONTEXT_SETTINGS)
        super().__init__(*args, **kwargs)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if not ctx.resilient_parsing and not args[0].startswith("-") and args[0] not in known:
            near = did_you_mean(args[0], known)
            raise click.UsageError(
                f"no such command '{args[0]}';{near or ' there are ' + ', '.join(known)}", ctx
            )
        return super().resolve_command(ctx, args)


class LazyGroup(Family):
    """A group whose commands are imported when they are used."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(self.lazy)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002  click's signature
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        command = importlib.import_module(self.lazy[cmd_name].module).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002  click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in self.lazy.items()])


class _Global(NamedTuple):
    flags: Sequence[str]
    help: str
    metavar: str
    multiple: bool = False


GLOBALS = (
    _Global(
        ("--endpoint", "endpoints"),
        "A manager; repeat it or separate several by commas. [env: SHOAL_ENDPOINT]",
        "HOST:PORT",
        multiple=True,
    ),
    _Global(
        ("--context", "context_name"),
        "Which cluster of the configuration file. [env: SHOAL_CONTEXT]",
        "NAME",
    ),
    _Global(("--tls-ca",), "Whom to trust, PEM. [env: SHOAL_TLS_CA]", "FILE"),
    _Global(("--tls-cert",), "Our certificate, PEM. [env: SHOAL_TLS_CERT]", "FILE"),
    _Global(("--tls-key",), "Its key, PEM. [env: SHOAL_TLS_KEY]", "FILE"),
)


def global_options(*, hidden: bool) -> list[click.Option]:
    """Return the options that say which cluster is meant.

    They are the program's. Hidden, they are accepted behind a command's name as well, where
    they win.
    """
    return [
        click.Option(
            option.flags,
            help=option.help,
            metavar=option.metavar,
            multiple=option.multiple,
            hidden=hidden,
            expose_value=False,
            callback=_remember,
        )
        for option in GLOBALS
    ]


def _remember(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """Keep a given value where the program looks for it (``clusterctl.app``)."""
    if value:
        context.find_root().meta.setdefault("clusterctl.flags", {})[option.name] = value
    return value


Decorator = Callable[[Any], Any]
