"""``clusterctl cluster``: the cluster as a whole."""

import click

from clusterctl.app import App, pass_app
from clusterctl.lazy import Family
from clusterctl.options import DURATION, format_option, show


@click.group(cls=Family)
def command() -> None:
    """Show and change the cluster as a whole."""


@command.command(
    "info",
    examples="""
    clusterctl cluster info
    clusterctl cluster info --format '{{.NodesReady}} of {{.NodesTotal}}'
    """,
)
@format_option()
@pass_app
def info(app: App, form: str) -> None:
    """Tell what the cluster consists of, who leads, and how the store is."""
    from clusterctl.render.output import TABLE, single
    from clusterctl.render.overview import overview
    from clusterctl.render.plain import plain

    found = app.client.cluster_info()
    if form == TABLE:
        show(overview(found, app.clock.now()))
    else:
        show(single(plain(found), form))


@command.command(
    "update",
    examples="""
    clusterctl cluster update --heartbeat-period 2s
    clusterctl cluster update --task-history-limit 3
    clusterctl cluster update --strategy spread
    """,
)
@click.option(
    "--heartbeat-period", type=DURATION, help="Between two words of an agent; three missed: lost."
)
@click.option(
    "--task-history-limit", type=click.IntRange(min=0), help="Ended tasks kept of each slot."
)
@click.option(
    "--strategy",
    type=click.Choice(["binpack", "spread"]),
    help="How tasks are laid out whose service does not say.",
)
@pass_app
def update(
    app: App, heartbeat_period: float | None, task_history_limit: int | None, strategy: str | None
) -> None:
    """Change the cluster's settings."""
    import msgspec

    from cluster.model import Strategy
    from clusterctl.render.plain import plain

    changes = {
        name: value
        for name, value in (
            ("heartbeat_period_seconds", heartbeat_period),
            ("task_history_limit", task_history_limit),
            ("strategy", Strategy(strategy) if strategy else None),
        )
        if value is not None
    }
    if not changes:
        raise click.UsageError("nothing to change: give at least one option")
    old = app.client.cluster_info().cluster
    new = app.client.update_cluster(old.version, msgspec.structs.replace(old.spec, **changes))
    for name in changes:
        now, was = (plain(getattr(spec, name)) for spec in (new.spec, old.spec))
        click.echo(f"{name}: {now}, was {was}")
