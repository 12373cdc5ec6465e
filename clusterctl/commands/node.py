"""``clusterctl node``: the hosts."""

from typing import TYPE_CHECKING

import click

from clusterctl.app import App, pass_app
from clusterctl.dryrun import dry_run_option, shown_instead
from clusterctl.lazy import Family
from clusterctl.options import (
    DURATION,
    LABEL,
    argument,
    format_option,
    listing_options,
    show,
    wait_options,
)

if TYPE_CHECKING:
    from cluster.model import Availability, ServiceId


@click.group(cls=Family)
def command() -> None:
    """Look after the hosts that run tasks."""


@command.command(
    "ls",
    examples="""
    clusterctl node ls
    clusterctl node ls --format '{{.Name}} {{.Status}} {{json .Labels}}'
    """,
)
@listing_options
@pass_app
def ls(app: App, form: str, quiet: bool, no_trunc: bool) -> None:
    """List nodes, what they offer and what is reserved."""
    from clusterctl.render import kinds
    from clusterctl.render.output import listing

    kind = kinds.nodes(app.clock.now(), kinds.ids(whole=no_trunc))
    show(listing(kind, app.client.nodes(), form, quiet=quiet))


@command.command(
    "inspect",
    examples="""
    clusterctl node inspect node1
    clusterctl node inspect node1 --format yaml
    """,
)
@argument("node", many=True)
@format_option()
@pass_app
def inspect(app: App, nodes: tuple[str, ...], form: str) -> None:
    """Show nodes in full."""
    from clusterctl.render.details import node
    from clusterctl.render.output import inspection

    now = app.clock.now()
    show(inspection([app.client.node(each) for each in nodes], form, lambda each: node(each, now)))


@command.command(
    "update",
    examples="""
    clusterctl node update node1 --label-add disk=ssd --label-rm old
    clusterctl node update node1 node2 --availability pause
    # which tasks would leave?
    clusterctl node update node1 --label-rm disk --dry-run
    # only tasks of services that tolerate "gpu", and no more than eight
    clusterctl node update node3 --reserve-for gpu --task-slots 8
    # the bound volume shop_data lives there
    clusterctl node update node3 --volume-add shop_data
    """,
)
@argument("node", many=True)
@click.option(
    "--availability",
    type=click.Choice(["active", "pause", "drain"]),
    help="active takes tasks, pause takes no new ones, drain moves all elsewhere.",
)
@click.option("--label-add", type=LABEL, multiple=True, help="Add or replace; repeat it.")
@click.option("--label-rm", multiple=True, metavar="NAME", help="Remove; repeat it.")
@click.option("--task-slots", type=click.IntRange(min=0), help="Tasks at most; 0 is no limit.")
@click.option(
    "--reserve-for",
    multiple=True,
    metavar="NAME",
    help="Only for services that tolerate NAME; repeat it: every name.",
)
@click.option("--unreserve-for", multiple=True, metavar="NAME", help="No longer; repeat it.")
@click.option(
    "--volume-add", multiple=True, metavar="NAME", help="A bound volume lives there; repeat it."
)
@click.option("--volume-rm", multiple=True, metavar="NAME", help="It does not; repeat it.")
@dry_run_option
@pass_app
def update(
    app: App,
    /,
    *,
    nodes: tuple[str, ...],
    availability: str | None,
    label_add: tuple[tuple[str, str], ...],
    label_rm: tuple[str, ...],
    task_slots: int | None,
    reserve_for: tuple[str, ...],
    unreserve_for: tuple[str, ...],
    volume_add: tuple[str, ...],
    volume_rm: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Change what is asked of nodes; does not wait (see drain)."""
    from cluster.model import Availability
    from clusterctl import asked, trials

    listed = (label_add, label_rm, reserve_for, unreserve_for, volume_add, volume_rm)
    if availability is None and task_slots is None and not any(listed):
        raise click.UsageError("nothing to change: give --availability, --label-add or another")
    wanted = [
        asked.update_node(
            each,
            availability=Availability(availability) if availability else None,
            set_labels=dict(label_add),
            remove_labels=label_rm,
            task_slots=task_slots,
            reserve_for=reserve_for,
            unreserve_for=unreserve_for,
            add_volumes=volume_add,
            remove_volumes=volume_rm,
        )
        for each in nodes
    ]
    if dry_run:
        shown_instead(app, *map(trials.update_node, wanted))
    for request in wanted:
        node = app.client.update_node(request)
        click.echo(node.description.hostname or node.id)


@command.command(
    "drain",
    examples="""
    clusterctl node drain node1
    # what has not moved after ten minutes is stopped regardless of its service's budget
    clusterctl node drain node1 --deadline 10m
    # come back later
    clusterctl node drain node1 --no-wait
    # where would its tasks go?
    clusterctl node drain node1 --dry-run
    """,
)
@argument("node", many=True)
@click.option(
    "--deadline",
    type=DURATION,
    metavar="DURATION",
    help="Stop what is left after that, regardless of budgets; without it a drain may wait for"
    " ever.",
)
@dry_run_option
@wait_options
@pass_app
def drain(
    app: App,
    *,
    nodes: tuple[str, ...],
    deadline: float | None,
    dry_run: bool,
    wait: bool,
    timeout_seconds: float,
) -> None:
    """Move all tasks of nodes elsewhere, and let no new ones come.

    Tasks go as their services say: start-first, their successors run before they stop; never more
    at a time than the budget lets be missing. What finds no room elsewhere stays, until it does or
    the deadline is there. Done when nothing runs there and as many tasks as before run elsewhere.
    """
    from cluster.model import Availability
    from clusterctl import asked, trials
    from clusterctl.convergence import Drained
    from clusterctl.waiting import wait_for

    if deadline is not None and deadline <= 0:
        raise click.UsageError("--deadline must be longer than nothing; leave it out for none")
    wanted = {
        each: asked.update_node(
            each, availability=Availability.DRAIN, drain_deadline_seconds=deadline or 0.0
        )
        for each in nodes
    }
    if dry_run:
        shown_instead(app, *map(trials.update_node, wanted.values()))
    running = {each: _running_of(app, each) for each in nodes}
    goals = [
        Drained(app.client.update_node(request), running[each]) for each, request in wanted.items()
    ]
    if timeout_seconds and deadline:
        timeout_seconds += deadline  # the wait proper begins when nothing holds it up any more
    for goal in goals:
        name = goal.node.description.hostname or goal.node.id
        if not wait:
            click.echo(name)
            continue
        wait_for(
            app,
            goal,
            timeout_seconds=timeout_seconds,
            what="the drain",
            look=f"clusterctl task ls --node {name}",
            subject=f"node {name}",
        )


def _running_of(app: App, node: str) -> "dict[ServiceId, int]":
    """Return, of each service with a task on the node, how many tasks run in all."""
    from cluster.lifecycle import wanted

    there = {task.task.service_id for task in app.client.tasks(node=node) if wanted(task.task)}
    services = app.client.services() if there else []
    return {each.service.id: each.tasks_running for each in services if each.service.id in there}


@command.command("activate", examples="clusterctl node activate node1")
@argument("node", many=True)
@dry_run_option
@pass_app
def activate(app: App, nodes: tuple[str, ...], dry_run: bool) -> None:
    """Let nodes take tasks again."""
    from cluster.model import Availability

    _make(app, nodes, Availability.ACTIVE, dry_run=dry_run)


@command.command("cordon", examples="clusterctl node cordon node1")
@argument("node", many=True)
@dry_run_option
@pass_app
def cordon(app: App, nodes: tuple[str, ...], dry_run: bool) -> None:
    """Let nodes keep their tasks, but take no new ones."""
    from cluster.model import Availability

    _make(app, nodes, Availability.PAUSE, dry_run=dry_run)


def _make(app: App, nodes: tuple[str, ...], availability: "Availability", *, dry_run: bool) -> None:
    from clusterctl import asked, trials

    wanted = [asked.update_node(each, availability=availability) for each in nodes]
    if dry_run:
        shown_instead(app, *map(trials.update_node, wanted))
    for request in wanted:
        node = app.client.update_node(request)
        click.echo(f"{node.description.hostname or node.id}: {node.spec.availability.value}")


@command.command(
    "rm",
    examples="""
    clusterctl node rm node3
    # though its agent still runs: drain it, then forget it
    clusterctl node rm --force node3
    """,
)
@argument("node", many=True)
@click.option("-f", "--force", is_flag=True, help="Even if it can be reached.")
@dry_run_option
@wait_options
@pass_app
def rm(
    app: App,
    *,
    nodes: tuple[str, ...],
    force: bool,
    dry_run: bool,
    wait: bool,
    timeout_seconds: float,
) -> None:
    """Forget nodes that are down; what ran there runs elsewhere when it is done.

    An agent that still runs makes its node known again: stop it for good.
    """
    from clusterctl import trials
    from clusterctl.convergence import Drained
    from clusterctl.waiting import wait_for

    if dry_run:
        shown_instead(app, *(trials.remove_node(each, force=force) for each in nodes))
    goals = []
    for each in nodes:
        running = _running_of(app, each) if wait else {}
        goals.append(Drained(app.client.node(each).node, running, forgotten=True))
    for goal in goals:
        app.client.remove_node(goal.node.id, force=force)
        click.echo(goal.node.description.hostname or goal.node.id)
    for goal in goals if wait else ():
        name = goal.node.description.hostname or goal.node.id
        wait_for(
            app,
            goal,
            timeout_seconds=timeout_seconds,
            what="the move of its tasks",
            look="clusterctl service ls",
            subject=f"node {name}",
        )
