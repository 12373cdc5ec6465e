"""``clusterctl service logs``: what tasks have written."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from clusterctl.app import App, pass_app
from clusterctl.lazy import Leaf
from clusterctl.options import DURATION, completing

if TYPE_CHECKING:
    from clusterctl.answers import TaskSummary
    from clusterctl.logs import Line

COLORS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green")


@click.command(
    cls=Leaf,
    examples="""
    clusterctl service logs demo_web
    clusterctl service logs -f --tail 20 --since 10m demo_web
    # of one task, without its name before each line
    clusterctl service logs --raw 4k2m8s0q
    """,
)
@click.argument("reference", metavar="SERVICE|TASK", shell_complete=completing("service"))
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-n", "--tail", type=click.IntRange(min=0), help="Only so many lines of each task.")
@click.option("--since", type=DURATION, help="Not older than, such as 10m.")
@click.option("-t", "--timestamps", is_flag=True, help="With the time of each line.")
@click.option("--raw", is_flag=True, help="Without the task's name before each line.")
@pass_app
def logs(
    app: App,
    *,
    reference: str,
    follow: bool,
    tail: int | None,
    since: float | None,
    timestamps: bool,
    raw: bool,
) -> None:
    """Print what the tasks of a service, or one task, have written.

    Each task's lines are in order; what it wrote to stderr goes to stderr.
    """
    from clusterctl.logs import Wanted, read

    wanted = Wanted(
        reference=reference,
        follow=follow,
        tail=-1 if tail is None else tail,
        since=app.clock.now() - since if since is not None else 0.0,
    )
    printer = _Printer(colors=app.colors, timestamps=timestamps, raw=raw)
    try:
        for batch in read(app.client, wanted, app.pause):
            for warning in batch.warnings:
                click.echo(f"warning: {warning}", err=True)
            printer.print(batch.lines, batch.tasks)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(0 if follow else 130) from None


class _Printer:
    def __init__(self, *, colors: bool, timestamps: bool, raw: bool) -> None:
        self._colors = colors
        self._timestamps = timestamps
        self._raw = raw
        self._prefixes: dict[str, str] = {}
        self._width = 0

    def print(self, lines: "Iterable[Line]", tasks: "Mapping[str, TaskSummary]") -> None:
        for line in lines:
            at = ""
            if self._timestamps:
                at = datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds") + " "
            prefix = "" if self._raw else self._prefix(line.task_id, tasks)
            click.echo(prefix.encode() + at.encode() + line.text, err=line.is_error)

    def _prefix(self, task_id: str, tasks: "Mapping[str, TaskSummary]") -> str:
        from clusterctl.render.kinds import task_name
        from clusterctl.render.people import short

        if task_id not in self._prefixes:
            task = tasks.get(task_id)
            name = f"{task_name(task)} {short(task_id)}" if task else short(task_id)
            if task and task.node_hostname:
                name += f"@{task.node_hostname}"
            self._width = max(self._width, len(name))
            color = COLORS[len(self._prefixes) % len(COLORS)]
            self._prefixes[task_id] = click.style(name, color) if self._colors else name
        prefix = self._prefixes[task_id]
        return prefix + " " * (self._width - len(click.unstyle(prefix))) + " | "
