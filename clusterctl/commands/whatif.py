"""``clusterctl whatif``: what the scheduler would do if things were otherwise."""

import click

from clusterctl.app import App, pass_app
from clusterctl.lazy import Leaf
from clusterctl.options import COUNT, LABEL, completing, compose_options, format_option, show


@click.command(
    cls=Leaf,
    examples="""
    clusterctl whatif --lose-node host3
    clusterctl whatif --lose-label zone=a
    # would it fit, and could any node be lost then?
    clusterctl whatif --scale shop_web=50 --spare
    clusterctl whatif -c compose.yaml --stack shop
    clusterctl whatif --drain host1 --headroom shop_web
    """,
)
@click.option(
    "--lose-node",
    multiple=True,
    metavar="NODE",
    help="It is down; repeat it.",
    shell_complete=completing("node"),
)
@click.option(
    "--lose-label", type=LABEL, multiple=True, help="Nodes with that label are down; repeat it."
)
@click.option(
    "--drain",
    multiple=True,
    metavar="NODE",
    help="Its tasks move elsewhere; repeat it.",
    shell_complete=completing("node"),
)
@click.option(
    "--scale",
    type=COUNT,
    multiple=True,
    metavar="SERVICE=REPLICAS",
    help="It has so many replicas; repeat it.",
    shell_complete=completing("service"),
)
@compose_options("none")
@click.option("--stack", default="", help="Of the Compose files. [the files' own name]")
@click.option(
    "--headroom",
    multiple=True,
    metavar="SERVICE",
    help="Tell how many more tasks of it would fit; repeat it.",
    shell_complete=completing("service"),
)
@click.option("--spare", is_flag=True, help="Tell whether any one more node could be lost (N+1).")
@format_option()
@pass_app
def command(
    app: App,
    *,
    lose_node: tuple[str, ...],
    lose_label: tuple[tuple[str, str], ...],
    drain: tuple[str, ...],
    scale: tuple[tuple[str, int], ...],
    files: tuple[str, ...],
    env_files: tuple[str, ...],
    stack: str,
    headroom: tuple[str, ...],
    spare: bool,
    form: str,
) -> None:
    """Tell where tasks would go if nodes were lost, or services grew; nothing is changed.

    All that is named is imagined at once, on the cluster as it is now.
    """
    from clusterctl.composing import project
    from clusterctl.render.outlook import outlook
    from clusterctl.render.output import TABLE, single
    from clusterctl.render.plain import plain

    if not any((lose_node, lose_label, drain, scale, files, headroom, spare)):
        raise click.UsageError("nothing to imagine: give --lose-node, --scale, -c or another")
    wanted = project(files, env_files, stack, app.environment) if files else None
    answer = app.client.what_if(
        lose_nodes=lose_node,
        lose_where=[_labelled(name, value) for name, value in lose_label],
        drain_nodes=drain,
        scale=dict(scale),
        stack=wanted.name if wanted else "",
        services=wanted.services if wanted else (),
        headroom=headroom,
        spare=spare,
    )
    show(outlook(answer, spare=spare) if form == TABLE else single(plain(answer), form))


def _labelled(name: str, value: str) -> str:
    """Return the constraint that nodes with a label meet; without a value, with whatever value."""
    return f"node.labels.{name} == {value}" if value else f"node.labels.{name} exists"
