"""``clusterctl service promote``, ``revert``, ``pause`` and ``resume``: words about a rollout."""

from typing import NoReturn

import click

from clusterctl.app import App, pass_app
from clusterctl.commands.service_versions import told_and_awaited
from clusterctl.dryrun import dry_run_option, shown_instead
from clusterctl.lazy import Leaf
from clusterctl.options import argument, wait_options


@click.command(
    cls=Leaf,
    examples="""
    clusterctl service update --image web:2 --update-canary 1 demo_web
    clusterctl service promote demo_web
    """,
)
@argument("service")
@dry_run_option
@wait_options
@pass_app
def promote(app: App, *, service: str, dry_run: bool, wait: bool, timeout_seconds: float) -> None:
    """Find the canary of a service good: the other replicas are updated, too."""
    if dry_run:
        _show_steered(app, service, "promote")
    _steer(app, service, "promote", wait=wait, timeout_seconds=timeout_seconds)


@click.command(
    cls=Leaf,
    examples="""
    clusterctl service revert demo_web
    """,
)
@argument("service")
@dry_run_option
@wait_options
@pass_app
def revert(app: App, *, service: str, dry_run: bool, wait: bool, timeout_seconds: float) -> None:
    """Take back an update that is under way, waits or is paused; else see `rollback`."""
    from cluster.errors import StateError
    from clusterctl import trials

    summary = app.client.service(service)
    name, rollout = summary.service.spec.name, summary.rollout
    if rollout is None or rollout.state.settled:
        stands = f"is {rollout.state.value}" if rollout else "never was"
        raise StateError(
            f"no rollout of service '{name}' is under way: the last {stands};"
            f" `clusterctl service rollback {name}` goes back to an earlier version"
        )
    if dry_run:
        shown_instead(app, trials.rollback_services({service: 0}))
    done = app.client.rollback_services({service: 0})
    told_and_awaited(
        app,
        done,
        wait=wait,
        timeout_seconds=timeout_seconds,
        subject=f"service {name}",
        look=f"clusterctl service ps {name}",
    )


@click.command(cls=Leaf, examples="clusterctl service pause demo_web")
@argument("service")
@pass_app
def pause(app: App, service: str) -> None:
    """Hold the rollout of a service: nothing more is replaced until `resume`."""
    stored = app.client.steer_rollout(service, "pause")
    click.echo(f"{stored.spec.name}: paused")


@click.command(cls=Leaf, examples="clusterctl service resume demo_web")
@argument("service")
@dry_run_option
@wait_options
@pass_app
def resume(app: App, *, service: str, dry_run: bool, wait: bool, timeout_seconds: float) -> None:
    """Let a paused rollout of a service go on; what has failed so far is forgiven."""
    if dry_run:
        _show_steered(app, service, "resume")
    _steer(app, service, "resume", wait=wait, timeout_seconds=timeout_seconds)


def _show_steered(app: App, service: str, action: str) -> NoReturn:
    from clusterctl import trials

    shown_instead(app, trials.steer_rollout(service, action))


def _steer(app: App, service: str, action: str, *, wait: bool, timeout_seconds: float) -> None:
    from clusterctl.convergence import Deployed
    from clusterctl.waiting import wait_for

    stored = app.client.steer_rollout(service, action)
    name = stored.spec.name
    click.echo(f"{name}: {action}d")
    if wait:
        wait_for(
            app,
            Deployed([stored], frozenset([stored.id])),
            timeout_seconds=timeout_seconds,
            what="the update",
            look=f"clusterctl service ps {name}",
            subject=f"service {name}",
        )
