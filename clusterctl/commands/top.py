"""``clusterctl top``: what nodes and tasks use."""

from typing import TYPE_CHECKING

import click

from clusterctl.app import App, pass_app
from clusterctl.lazy import Leaf
from clusterctl.options import DURATION, format_option, show

if TYPE_CHECKING:
    from rich.live import Live

# Agents measure every few seconds; drawing more often would show nothing new.
PERIOD = "2s"


@click.command(
    cls=Leaf,
    examples="""
    clusterctl top
    clusterctl top --tasks --once
    clusterctl top --format json
    """,
)
@click.option("--tasks", is_flag=True, help="Show tasks rather than nodes.")
@click.option("--once", is_flag=True, help="Show it once. [if stdout is no terminal]")
@click.option("--period", type=DURATION, default=PERIOD, help=f"Between two looks. [{PERIOD}]")
@format_option()
@pass_app
def command(app: App, *, tasks: bool, once: bool, period: float, form: str) -> None:
    """Show what nodes, or tasks, really use, the greediest first."""
    import sys

    if once or form != "table" or not sys.stdout.isatty():
        show(_picture(app, form, tasks=tasks))
        return
    try:
        with _live() as live:
            from rich.text import Text

            while True:
                live.update(Text(_picture(app, form, tasks=tasks)), refresh=True)
                app.pause(max(0.1, period))
    except KeyboardInterrupt:
        return


def _live() -> "Live":
    from rich.live import Live

    return Live(auto_refresh=False, screen=False, vertical_overflow="crop")


def _picture(app: App, form: str, *, tasks: bool) -> str:
    from clusterctl import usage
    from clusterctl.render.output import listing

    nodes = app.client.nodes()
    if tasks:
        rows = usage.tasks(nodes, app.client.usage(), app.client.tasks())
        return listing(usage.TASKS, rows, form)
    return listing(usage.NODES, usage.nodes(nodes, app.client.usage()), form)
