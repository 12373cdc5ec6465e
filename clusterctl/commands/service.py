"""``clusterctl service``: what runs, how often, and from what template."""

import re

import click

from clusterctl.app import App, pass_app
from clusterctl.commands import (
    service_logs,
    service_rollout,
    service_update,
    service_versions,
)
from clusterctl.dryrun import dry_run_option, shown_instead
from clusterctl.lazy import Family
from clusterctl.options import (
    argument,
    completing,
    format_option,
    listing_options,
    show,
    wait_options,
)

_NUMBER = re.compile(r"[0-9]{1,9}")  # more digits are more than any cluster


@click.group(cls=Family)
def command() -> None:
    """List, scale, update, take back and read services."""


command.add_command(service_update.update, "update")
command.add_command(service_logs.logs, "logs")
command.add_command(service_versions.history, "history")
command.add_command(service_versions.diff, "diff")
command.add_command(service_versions.rollback, "rollback")
command.add_command(service_rollout.promote, "promote")
command.add_command(service_rollout.revert, "revert")
command.add_command(service_rollout.pause, "pause")
command.add_command(service_rollout.resume, "resume")


@command.command(
    "ls",
    examples="""
    clusterctl service ls
    clusterctl service ls --stack demo --format '{{.Name}} {{.Replicas}}'
    """,
)
@click.option("--stack", default="", help="Only of this one.", shell_complete=completing("stack"))
@listing_options
@pass_app
def ls(app: App, stack: str, form: str, quiet: bool, no_trunc: bool) -> None:
    """List services."""
    from clusterctl.render import kinds
    from clusterctl.render.output import listing

    kind = kinds.services(app.clock.now(), kinds.ids(whole=no_trunc))
    show(listing(kind, app.client.services(stack), form, quiet=quiet))


@command.command(
    "ps",
    examples="""
    clusterctl service ps demo_web
    # with the tasks before the present ones
    clusterctl service ps --all demo_web
    """,
)
@argument("service", many=True)
@click.option(
    "-a",
    "--all",
    "ended",
    is_flag=True,
    help="With those that have ended, the past of each replica.",
)
@listing_options
@pass_app
def ps(
    app: App, *, services: tuple[str, ...], ended: bool, form: str, quiet: bool, no_trunc: bool
) -> None:
    """List the tasks of services."""
    from clusterctl.render import kinds
    from clusterctl.render.details import rollout_line
    from clusterctl.render.output import TABLE, listing

    tasks = [task for each in services for task in app.client.tasks(service=each, ended=ended)]
    tasks = tasks if ended else kinds.present(tasks)
    for each in services:
        if line := rollout_line(app.client.service(each)):
            click.echo(line, err=True)
    kind = kinds.tasks(app.clock.now(), kinds.ids(whole=no_trunc))
    show(listing(kind, tasks, form, quiet=quiet))
    troubled = next((each for each in tasks if kinds.task_error(each)), None)
    if troubled is not None and form == TABLE and not quiet:
        story = f"clusterctl task story {kinds.task_name(troubled)}"
        click.echo(f"what happened to a task, and why: `{story}`", err=True)


@command.command(
    "inspect",
    examples="""
    clusterctl service inspect demo_web
    clusterctl service inspect demo_web --format '{{json .Service.Spec.Task}}'
    """,
)
@argument("service", many=True)
@format_option()
@pass_app
def inspect(app: App, services: tuple[str, ...], form: str) -> None:
    """Show services in full."""
    from clusterctl.render.details import service
    from clusterctl.render.output import inspection

    now = app.clock.now()
    found = [app.client.service(each) for each in services]
    show(inspection(found, form, lambda each: service(each, now)))


@command.command(
    "scale",
    examples="""
    clusterctl service scale demo_web=5
    # several at once, all or none
    clusterctl service scale demo_web=5 demo_worker=0
    """,
)
@click.argument(
    "wanted",
    metavar="SERVICE=REPLICAS...",
    nargs=-1,
    required=True,
    shell_complete=completing("service"),
)
@dry_run_option
@wait_options
@pass_app
def scale(
    app: App, *, wanted: tuple[str, ...], dry_run: bool, wait: bool, timeout_seconds: float
) -> None:
    """Set how many replicas services have."""
    from clusterctl import trials
    from clusterctl.convergence import Deployed
    from clusterctl.waiting import wait_for

    replicas = _replicas(wanted)
    if dry_run:
        shown_instead(app, trials.scale(replicas))
    before = {each.id: each for each in (app.client.service(name).service for name in replicas)}
    services = app.client.scale_services(replicas)
    unchanged = set()
    for each in services:
        old = before.get(each.id)
        if old is not None and old.spec_version == each.spec_version:
            unchanged.add(each.id)
        was = f", was {old.spec.replicas}" if old is not None else ""
        click.echo(f"{each.spec.name}: {each.spec.replicas} replicas{was}")
    if wait:
        names = [each.spec.name for each in services]
        wait_for(
            app,
            Deployed(services, frozenset(unchanged)),
            timeout_seconds=timeout_seconds,
            what="the scaling",
            look=f"clusterctl service ps {' '.join(names)}",
            subject=f"service {', '.join(names)}",
        )


def _replicas(wanted: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in wanted:
        name, _, number = each.rpartition("=")
        if not name or not _NUMBER.fullmatch(number):
            raise click.UsageError(f"'{each}': write SERVICE=REPLICAS, a number from 0 up")
        if name in found:
            raise click.UsageError(f"'{name}' is named twice")
        found[name] = int(number)
    return found


@command.command("rm", examples="clusterctl service rm web worker")
@argument("service", many=True)
@dry_run_option
@wait_options
@pass_app
def rm(
    app: App, *, services: tuple[str, ...], dry_run: bool, wait: bool, timeout_seconds: float
) -> None:
    """Remove services, all or none, and their tasks."""
    from clusterctl import trials
    from clusterctl.convergence import Removed
    from clusterctl.waiting import wait_for

    if dry_run:
        shown_instead(app, trials.remove_services(services))
    known = {each.id: each.spec.name for each in (app.client.service(s).service for s in services)}
    app.client.remove_services(known)
    for name in known.values():
        click.echo(f"removed {name}")
    if wait:
        wait_for(
            app,
            Removed(known),
            timeout_seconds=timeout_seconds,
            what="the removal",
            look="clusterctl task ls --all",
            subject=f"service {', '.join(known.values())}",
        )
