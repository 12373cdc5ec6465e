"""``--dry-run``: what would come of a command, shown instead of done."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from clusterctl.app import App
from clusterctl.options import show

if TYPE_CHECKING:
    from cluster.api.v1.control_pb2 import TrialRequest
    from clusterctl.answers import Plan

F = TypeVar("F", bound=Callable[..., Any])

# Scripts tell "nothing to do" from "would change something" by it; errors are 1 as always.
EXIT_CHANGES = 2


def dry_run_option(function: F) -> F:
    """``--dry-run``."""
    return click.option(
        "--dry-run",
        is_flag=True,
        help="Only show what would happen; ends with 2 if that is anything.",
    )(function)


def shown_instead(app: App, *requests: "TrialRequest") -> NoReturn:
    """Show what would come of *requests*, and end the command: with 0 if it is nothing, else 2."""
    end_with(app, app.client.plan(*requests))


def end_with(app: App, plan: "Plan", *, form: str = "table", values: bool = False) -> NoReturn:
    """Show a plan, and end the command."""
    from clusterctl.render import plan as rendered
    from clusterctl.render.output import TABLE, single

    if form == TABLE:
        show(rendered.plan(plan, colors=app.colors, values=values))
    else:
        show(single(rendered.row(plan, values=values), form))
    raise click.exceptions.Exit(0 if plan.is_empty else EXIT_CHANGES)
