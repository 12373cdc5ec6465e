"""``clusterctl stack``: services that are deployed and removed together, from Compose files."""

import click

from clusterctl.app import App, pass_app
from clusterctl.dryrun import dry_run_option, end_with, shown_instead
from clusterctl.lazy import Family
from clusterctl.options import (
    argument,
    compose_options,
    format_option,
    listing_options,
    show,
    show_values_option,
    wait_options,
)


@click.group(cls=Family)
def command() -> None:
    """Deploy Compose files and look at what runs."""


@command.command(
    "deploy",
    examples="""
    clusterctl stack deploy demo
    clusterctl stack deploy -c compose.yaml -c production.yaml demo
    # remove services that the files no longer have, and do not wait
    clusterctl stack deploy --prune --no-wait -c compose.yaml demo
    # exactly what was planned and looked at, or nothing
    clusterctl stack plan --out demo.plan demo
    clusterctl stack deploy --plan demo.plan
    """,
)
@compose_options()
@click.option("--prune", is_flag=True, help="Remove services that the files no longer have.")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(),
    help="Do what `stack plan --out` saved there; refused if the world has moved.",
)
@argument("stack", required=False)
@dry_run_option
@wait_options
@pass_app
def deploy(
    app: App,
    /,
    *,
    files: tuple[str, ...],
    env_files: tuple[str, ...],
    prune: bool,
    plan_file: str | None,
    stack: str | None,
    dry_run: bool,
    wait: bool,
    timeout_seconds: float,
) -> None:
    """Bring a stack to what Compose files say, all services at once or none.

    Ends with 0 only when every task runs, and is healthy if it has a health check.
    """
    from clusterctl import planfile, trials
    from clusterctl.composing import project
    from clusterctl.convergence import Deployed
    from clusterctl.waiting import wait_for

    if plan_file is not None:
        if files or env_files or prune or dry_run:
            raise click.UsageError("a plan says it all: no other option goes with --plan")
        plan = planfile.load(app.file(plan_file))
        if stack not in (None, plan.stack):
            raise click.UsageError(f"the plan is of stack '{plan.stack}', not of '{stack}'")
        stack = plan.stack
        done = app.client.deploy(stack, plan.services, prune=plan.prune, pinned=plan.pinned())
    elif stack is None:
        raise click.UsageError("which stack? name it, or a saved plan with --plan")
    else:
        wanted = project(files, env_files, stack, app.environment)
        if dry_run:
            shown_instead(app, trials.deploy(stack, wanted.services, prune=prune))
        done = app.client.deploy(stack, wanted.services, prune=prune)
    for each in done.services:
        click.echo(f"{each.action} {each.service.spec.name}")
    if done.left_over:
        names = ", ".join(done.left_over)
        click.echo(f"warning: not in the files, but still there: {names} (see --prune)", err=True)
    if not wait:
        return
    goal = Deployed(
        services=[each.service for each in done.services if each.action != "removed"],
        unchanged=frozenset(e.service.id for e in done.services if e.action == "unchanged"),
        removed={e.service.id: e.service.spec.name for e in done.services if e.action == "removed"},
    )
    wait_for(
        app,
        goal,
        timeout_seconds=timeout_seconds,
        what="the deploy",
        look=f"clusterctl stack ps {stack}",
        subject=f"stack {stack}",
        stack=stack,
    )


@command.command(
    "plan",
    examples="""
    clusterctl stack plan -c compose.yaml demo
    # look at it, then do exactly that
    clusterctl stack plan --out demo.plan demo
    clusterctl stack deploy --plan demo.plan
    # in a script: 0 nothing to do, 2 there are changes, 1 an error
    clusterctl stack plan --format json demo
    """,
)
@compose_options()
@click.option("--prune", is_flag=True, help="As if services that the files no longer have went.")
@click.option("--out", type=click.Path(), help="Save it there, for `stack deploy --plan`.")
@show_values_option
@argument("stack")
@format_option()
@pass_app
def plan(
    app: App,
    /,
    *,
    files: tuple[str, ...],
    env_files: tuple[str, ...],
    prune: bool,
    out: str | None,
    show_values: bool,
    stack: str,
    form: str,
) -> None:
    """Show what a deploy would do: to specs, to each task, on which nodes; change nothing.

    Ends with 0 if there is nothing to do, and with 2 if there are changes.
    """
    from clusterctl import planfile, trials
    from clusterctl.composing import project

    wanted = project(files, env_files, stack, app.environment)
    found = app.client.plan(trials.deploy(stack, wanted.services, prune=prune))
    if found.left_over:
        names = ", ".join(found.left_over)
        click.echo(f"warning: not in the files, but still there: {names} (see --prune)", err=True)
    if out is not None:
        planfile.save(app.file(out), found, stack, tuple(wanted.services), prune=prune)
    end_with(app, found, form=form, values=show_values)


@command.command(
    "rollback",
    examples="""
    clusterctl stack rollback demo
    clusterctl stack rollback --dry-run demo
    """,
)
@argument("stack")
@dry_run_option
@wait_options
@pass_app
def rollback(app: App, *, stack: str, dry_run: bool, wait: bool, timeout_seconds: float) -> None:
    """Take back what the last deploy of a stack has changed, all of it at once.

    Services keep their number of replicas; those that the deploy made stay, and those that it
    removed do not come back.
    """
    from clusterctl import trials
    from clusterctl.commands.service_versions import told_and_awaited

    if dry_run:
        shown_instead(app, trials.rollback_stack(stack))
    told_and_awaited(
        app,
        app.client.rollback_stack(stack),
        wait=wait,
        timeout_seconds=timeout_seconds,
        subject=f"stack {stack}",
        look=f"clusterctl stack ps {stack}",
    )


@command.command(
    "config",
    examples="""
    clusterctl stack config
    clusterctl stack config -c compose.yaml -c production.yaml
    """,
)
@compose_options()
@click.option("--name", default="", metavar="STACK", help="The stack's name. [the files' own]")
@click.option("-q", "--quiet", is_flag=True, help="Only check.")
@pass_app
def config(
    app: App, *, files: tuple[str, ...], env_files: tuple[str, ...], name: str, quiet: bool
) -> None:
    """Print what Compose files come to, variables and merges worked in; needs no manager."""
    from cluster.compose import as_yaml
    from clusterctl.composing import project

    wanted = project(files, env_files, name, app.environment)
    if not quiet:
        show(as_yaml(wanted.document()))


@command.command(
    "ls",
    examples="""
    clusterctl stack ls
    clusterctl stack ls --format json
    """,
)
@listing_options
@pass_app
def ls(app: App, form: str, quiet: bool, no_trunc: bool) -> None:  # noqa: ARG001  names, no ids
    """List stacks."""
    from clusterctl.render import kinds
    from clusterctl.render.output import listing

    show(listing(kinds.stacks(app.clock.now()), app.client.stacks(), form, quiet=quiet))


@command.command(
    "ps",
    examples="""
    clusterctl stack ps demo
    clusterctl stack ps --all --no-trunc demo
    """,
)
@argument("stack")
@click.option(
    "-a",
    "--all",
    "ended",
    is_flag=True,
    help="With those that have ended, the past of each replica.",
)
@listing_options
@pass_app
def ps(app: App, *, stack: str, ended: bool, form: str, quiet: bool, no_trunc: bool) -> None:
    """List the tasks of a stack."""
    from clusterctl.render import kinds
    from clusterctl.render.output import listing

    kind = kinds.tasks(app.clock.now(), kinds.ids(whole=no_trunc))
    tasks = app.client.tasks(stack=stack, ended=ended)
    show(listing(kind, tasks if ended else kinds.present(tasks), form, quiet=quiet))


@command.command("services", examples="clusterctl stack services demo")
@argument("stack")
@listing_options
@pass_app
def services(app: App, stack: str, form: str, quiet: bool, no_trunc: bool) -> None:
    """List the services of a stack."""
    from clusterctl.render import kinds
    from clusterctl.render.output import listing

    kind = kinds.services(app.clock.now(), kinds.ids(whole=no_trunc))
    show(listing(kind, app.client.services(stack), form, quiet=quiet))


@command.command("rm", examples="clusterctl stack rm demo")
@argument("stack", many=True)
@dry_run_option
@wait_options
@pass_app
def rm(
    app: App, *, stacks: tuple[str, ...], dry_run: bool, wait: bool, timeout_seconds: float
) -> None:
    """Remove stacks with all their services and tasks."""
    from clusterctl import trials
    from clusterctl.convergence import Removed
    from clusterctl.waiting import wait_for

    if dry_run:
        shown_instead(app, *map(trials.remove_stack, stacks))
    for stack in stacks:
        known = {e.service.id: e.service.spec.name for e in app.client.services(stack)}
        names = app.client.remove_stack(stack) or sorted(known.values())
        for name in names:
            click.echo(f"removed {name}")
        if wait:
            wait_for(
                app,
                Removed(known),
                timeout_seconds=timeout_seconds,
                what="the removal",
                look=f"clusterctl stack ps {stack}",
                subject=f"stack {stack}",
                stack=stack,
            )
