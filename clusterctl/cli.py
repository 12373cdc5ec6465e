"""The command line: its commands by name, and what becomes of errors.

Exit codes: 0 it is done; 1 it failed or was refused; 2 the command line is wrong, or a plan has
something to do; 130 Ctrl-C.
An error is told in a line or two on stderr; ``SHOAL_DEBUG=1`` adds where it came from.

To add a command, write ``clusterctl/commands/<name>.py`` with a ``command`` in it and list it in
``COMMANDS``.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from cluster import __version__
from cluster.errors import ClusterError
from clusterctl.lazy import CONTEXT_SETTINGS, Lazy, LazyGroup, global_options

FAILED = 1
MISUSED = 2
INTERRUPTED = 130

COMMANDS = {
    "stack": Lazy("clusterctl.commands.stack", "Deploy Compose files and look at what runs"),
    "service": Lazy("clusterctl.commands.service", "List, scale, update and read services"),
    "job": Lazy("clusterctl.commands.job", "Run jobs and look at their runs"),
    "task": Lazy("clusterctl.commands.task", "Look at single tasks and why they wait"),
    "node": Lazy("clusterctl.commands.node", "List, label, drain and remove hosts"),
    "events": Lazy("clusterctl.commands.events", "Show what happened, why, and what comes"),
    "top": Lazy("clusterctl.commands.top", "Show what nodes and tasks use"),
    "verify": Lazy("clusterctl.commands.verify", "Judge whether the cluster keeps its promises"),
    "cluster": Lazy("clusterctl.commands.cluster", "Show and change the cluster as a whole"),
    "whatif": Lazy("clusterctl.commands.whatif", "Tell what would become of tasks if ..."),
    "rebalance": Lazy("clusterctl.commands.rebalance", "Move tasks to where they are better off"),
    "simulate": Lazy("clusterctl.commands.simulate", "Place tasks on hosts that exist on paper"),
    "context": Lazy("clusterctl.commands.context", "Choose among clusters"),
    "dev": Lazy("clusterctl.commands.dev", "Run a whole cluster on this machine"),
    "completion": Lazy("clusterctl.commands.completion", "Print a script for shell completion"),
    "version": Lazy("clusterctl.commands.version", "Show the versions of client and managers"),
}


class Root(LazyGroup):
    """The program: turns every error into its line and its exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002  it always ends the process, as click's does
        **extra: Any,
    ) -> NoReturn:
        sys.exit(self._run(args, prog_name, complete_var, extra))

    def _run(
        self,
        args: Sequence[str] | None,
        prog_name: str | None,
        complete_var: str | None,
        extra: dict[str, Any],
    ) -> int:
        try:
            result = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return MISUSED
        except click.UsageError as error:
            _say(error.format_message(), error)
            if error.ctx is not None:
                click.echo(f"see `{error.ctx.command_path} --help`", err=True)
            return MISUSED
        except click.ClickException as error:
            _say(error.format_message(), error)
            return error.exit_code
        except click.Abort as error:  # click's name for Ctrl-C and for the end of input
            _say("interrupted", error)
            return INTERRUPTED
        except ClusterError as error:
            _say(str(error), error)
            return FAILED
        except BrokenPipeError:
            _abandon_output()
            return FAILED
        except OSError as error:
            _say(
                f"{error.strerror or error}" + (f": {error.filename}" * bool(error.filename)), error
            )
            return FAILED
        except Exception as error:  # noqa: BLE001  a defect of ours still ends in one line
            _say(f"{type(error).__name__}: {error} (a defect; SHOAL_DEBUG=1 shows where)", error)
            return FAILED
        return result if isinstance(result, int) else 0


def _say(message: str, error: BaseException) -> None:
    if os.environ.get("SHOAL_DEBUG") == "1":
        traceback.print_exception(error)
    click.echo(f"error: {message}", err=True)


def _abandon_output() -> None:
    """Let nothing be written any more to an output that nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=Root,
    lazy=COMMANDS,
    context_settings=CONTEXT_SETTINGS,
    params=[
        *global_options(hidden=False),
        click.Option(
            ["--timeout"],
            metavar="DURATION",
            help="How long to wait for an answer to one request. [env: SHOAL_TIMEOUT; 10s]",
        ),
    ],
    epilog=(
        "Which cluster: these options, else the environment, else the current context of "
        "~/.config/shoal/config.yaml (or /etc/shoal/client.yaml), else 127.0.0.1:7420. "
        "`clusterctl dev up` starts a cluster here to try things on."
    ),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, timeout: str | None) -> None:
    """Run containers on many hosts."""
    from clusterctl.app import App

    if context.obj is None:
        context.obj = App.of_process(context, timeout)
