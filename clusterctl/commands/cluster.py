"""``clusterctl cluster``: the cluster as a whole."""

from typing import Any

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
    clusterctl cluster update --rebalance on --rebalance-hours 22:00-06:00 --rebalance-moves 5
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
@click.option(
    "--rebalance",
    type=click.Choice(["on", "off"]),
    help="Whether tasks are moved by themselves to where they are better off. [off]",
)
@click.option(
    "--rebalance-hours",
    metavar="SPAN",
    help="Hours in which that may be, such as 22:00-06:00; '' is the whole day.",
)
@click.option(
    "--rebalance-time-zone", metavar="ZONE", help="Whose hours, such as Europe/Vienna. [UTC]"
)
@click.option(
    "--rebalance-moves", type=click.IntRange(min=1), help="At most so many in one round. [10]"
)
@click.option("--rebalance-rest", type=DURATION, help="A task that began less long ago stays. [1h]")
@pass_app
def update(
    app: App,
    *,
    heartbeat_period: float | None,
    task_history_limit: int | None,
    strategy: str | None,
    rebalance: str | None,
    rebalance_hours: str | None,
    rebalance_time_zone: str | None,
    rebalance_moves: int | None,
    rebalance_rest: float | None,
) -> None:
    """Change the cluster's settings."""
    import msgspec

    from cluster.model import Strategy

    changes = _given(
        heartbeat_period_seconds=heartbeat_period,
        task_history_limit=task_history_limit,
        strategy=Strategy(strategy) if strategy else None,
    )
    moving = _given(
        automatic=rebalance == "on" if rebalance else None,
        hours=rebalance_hours,
        time_zone=rebalance_time_zone,
        moves=rebalance_moves,
        rest_seconds=rebalance_rest,
    )
    if not changes and not moving:
        raise click.UsageError("nothing to change: give at least one option")
    old = app.client.cluster_info().cluster
    spec = msgspec.structs.replace(
        old.spec, rebalancing=msgspec.structs.replace(old.spec.rebalancing, **moving), **changes
    )
    new = app.client.update_cluster(old.version, spec)
    for name in changes:
        _tell(name, getattr(new.spec, name), getattr(old.spec, name))
    for name in moving:
        now, was = (getattr(each.spec.rebalancing, name) for each in (new, old))
        _tell(f"rebalancing.{name}", now, was)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _tell(name: str, now: Any, was: Any) -> None:
    from clusterctl.render.plain import plain

    click.echo(f"{name}: {_word(plain(now))}, was {_word(plain(was))}")


def _word(value: Any) -> str:
    """Return a setting's value as people write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) or "none"
