"""``clusterctl simulate``: place tasks of a file on hosts of a file; no cluster is asked."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clusterctl.lazy import Leaf
from clusterctl.options import format_option, show

if TYPE_CHECKING:
    from clusterctl.simulation.report import Report

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _plot_file(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.suffix.lower() not in (".svg", ".png"):
        raise click.BadParameter(f"'{value}': a picture's name ends in .svg or .png")
    return value


@click.command(
    cls=Leaf,
    examples="""
    clusterctl simulate --nodes nodes.csv --tasks tasks.csv
    # all at once rather than row by row, and a picture of it
    clusterctl simulate --nodes nodes.csv --tasks tasks.csv --batch --plot packing.svg
    clusterctl simulate --nodes nodes.csv --tasks tasks.csv --format json
    """,
)
@click.option("--nodes", type=_FILE, required=True, help="CSV: node, cpu, memory, labels.")
@click.option(
    "--tasks", type=_FILE, required=True, help="CSV: task, cpu, memory, service, replicas, ..."
)
@click.option(
    "--strategy",
    type=click.Choice(["binpack", "spread"]),
    default="binpack",
    help="How tasks are laid out. [binpack]",
)
@click.option("--batch", is_flag=True, help="All tasks wait together, instead of one by one.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_plot_file,
    help="Draw it: a file that ends in .svg or .png.",
)
@format_option()
def command(
    *, nodes: Path, tasks: Path, strategy: str, batch: bool, plot: Path | None, form: str
) -> None:
    """Place tasks on hosts that exist on paper, by the scheduler itself.

    Tells how many nodes that takes, how few it could, and what finds no place. Columns are in
    docs/clusterctl.md.
    """
    from cluster.model import Strategy
    from clusterctl.render.output import TABLE, single
    from clusterctl.simulation import packing, report, summary, tables

    hosts = tables.read_nodes(str(nodes), _text(nodes))
    work = tables.read_tasks(str(tasks), _text(tasks))
    done = packing.packed(hosts, work, strategy=Strategy(strategy), together=batch)
    found = report.reported(hosts, work, done)
    if plot is not None:
        heading = summary.heading(found, strategy=strategy, together=batch)
        plot.write_bytes(_picture(found, heading, plot))
    show(summary.told(found) if form == TABLE else single(report.plain(found), form))


def _text(file: Path) -> str:
    from cluster.errors import InvalidError

    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidError(f"{file}:{line}: is no text: it has to be written in UTF-8") from None


def _picture(found: "Report", heading: str, file: Path) -> bytes:
    from clusterctl.simulation.scene import scene

    drawn = scene(found, heading)
    if file.suffix.lower() == ".svg":
        from clusterctl.simulation.svg import svg

        return svg(drawn)
    from clusterctl.simulation.png import png

    return png(drawn)
