"""``clusterctl job``: services that come to an end, by hand or by a schedule."""

from typing import TYPE_CHECKING

import click

from clusterctl.app import App, pass_app
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

if TYPE_CHECKING:
    from clusterctl.answers import ServiceSummary


@click.group(cls=Family)
def command() -> None:
    """Run jobs, and look at their runs and when the next are due."""


@command.command(
    "ls",
    examples="""
    clusterctl job ls
    clusterctl job ls --format '{{.Name}} {{.NextDueAt}}'
    """,
)
@click.option("--stack", default="", help="Only of this one.", shell_complete=completing("stack"))
@listing_options
@pass_app
def ls(app: App, stack: str, form: str, quiet: bool, no_trunc: bool) -> None:
    """List jobs: how the last run went, and when the next one is due."""
    from clusterctl.render import jobs, kinds
    from clusterctl.render.output import listing

    kind = jobs.jobs(app.clock.now(), kinds.ids(whole=no_trunc))
    found = [each for each in app.client.services(stack) if each.service.spec.mode.is_job]
    show(listing(kind, found, form, quiet=quiet))


@command.command(
    "run",
    examples="""
    # now, whatever its schedule; ends with 1 if the run fails
    clusterctl job run demo_backup
    clusterctl job run --no-wait demo_backup
    clusterctl job run --dry-run demo_backup
    """,
)
@argument("service", name="job")
@dry_run_option
@wait_options
@pass_app
def run(app: App, *, job: str, dry_run: bool, wait: bool, timeout_seconds: float) -> None:
    """Run a job now."""
    from clusterctl import trials
    from clusterctl.convergence import RunEnded
    from clusterctl.waiting import wait_for

    if dry_run:
        shown_instead(app, trials.run_job(job))
    service = app.client.run_job(job)
    name = service.spec.name
    click.echo(f"{name}: a run was asked for")
    if wait:
        wait_for(
            app,
            RunEnded(service),
            timeout_seconds=timeout_seconds,
            what="the run",
            look=f"clusterctl job ps {name}",
            subject=f"job {name}",
        )


@command.command(
    "ps",
    examples="""
    clusterctl job ps demo_backup
    # with those of earlier runs, and those that failed
    clusterctl job ps --all demo_backup
    """,
)
@argument("service", name="job")
@click.option("-a", "--all", "ended", is_flag=True, help="Of every run that is remembered.")
@listing_options
@pass_app
def ps(app: App, *, job: str, ended: bool, form: str, quiet: bool, no_trunc: bool) -> None:
    """List the tasks of a job's newest run."""
    from clusterctl.render import kinds
    from clusterctl.render.output import listing

    _job(app, job)
    tasks = app.client.tasks(service=job, ended=True)
    newest = max((each.task.run for each in tasks), default=0)
    kept = tasks if ended else kinds.present(each for each in tasks if each.task.run == newest)
    kind = kinds.tasks_of_runs(app.clock.now(), kinds.ids(whole=no_trunc))
    show(listing(kind, kept, form, quiet=quiet))


@command.command(
    "history",
    examples="""
    clusterctl job history demo_backup
    clusterctl job history demo_backup --format json
    """,
)
@argument("service", name="job")
@format_option()
@pass_app
def history(app: App, job: str, form: str) -> None:
    """List the runs of a job, the newest first: results, durations, and those that were skipped."""
    from clusterctl.render import jobs
    from clusterctl.render.output import listing

    status = _job(app, job).job
    runs = status.runs[::-1] if status is not None else ()
    show(listing(jobs.runs(app.clock.now()), list(runs), form))


@command.command("suspend", examples="clusterctl job suspend demo_backup")
@argument("service", name="jobs", many=True)
@pass_app
def suspend(app: App, jobs: tuple[str, ...]) -> None:
    """Let nothing become due until `resume`, whatever is deployed; `run` still works."""
    for each in jobs:
        _set_suspended(app, each, suspended=True)


@command.command("resume", examples="clusterctl job resume demo_backup")
@argument("service", name="jobs", many=True)
@pass_app
def resume(app: App, jobs: tuple[str, ...]) -> None:
    """Let runs become due again; what would have been due meanwhile is not made up for."""
    for each in jobs:
        _set_suspended(app, each, suspended=False)


def _job(app: App, reference: str) -> "ServiceSummary":
    from cluster.errors import InvalidError

    found = app.client.service(reference)
    spec = found.service.spec
    if not spec.mode.is_job:
        raise InvalidError(
            f"service '{spec.name}' is no job (it is {spec.mode.value}): `clusterctl service ps"
            f" {spec.name}` shows its tasks, `clusterctl job ls` lists jobs"
        )
    return found


def _set_suspended(app: App, reference: str, *, suspended: bool) -> None:
    before = app.client.service(reference).service
    after = app.client.suspend_job(before.id, suspended=suspended)
    word = "suspended" if suspended else "resumed"
    already = " already" if after.version == before.version else ""
    click.echo(f"{after.spec.name}: {'was ' if already else ''}{word}{already}")
