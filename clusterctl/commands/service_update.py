"""``clusterctl service update``: read a service, change it, write it back if nobody else did."""

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from clusterctl.app import App, pass_app
from clusterctl.dryrun import dry_run_option, shown_instead
from clusterctl.lazy import Leaf
from clusterctl.options import (
    BYTES,
    COUNT,
    CPUS,
    DURATION,
    LABEL,
    PAIR,
    argument,
    wait_options,
)

if TYPE_CHECKING:
    from cluster.model import Service, ServiceSpec

_AMOUNT = click.IntRange(min=0)


def _config_options(kind: str) -> tuple[Callable[..., Any], ...]:
    """Return the options about an update, or about a rollback."""
    actions = ["pause", "continue", "rollback"] if kind == "update" else ["pause", "continue"]
    return (
        click.option(f"--{kind}-parallelism", type=_AMOUNT, help="Tasks at a time; 0 is all."),
        click.option(f"--{kind}-delay", type=DURATION, help="Between one batch and the next."),
        click.option(f"--{kind}-monitor", type=DURATION, help="For how long a failure counts."),
        click.option(
            f"--{kind}-order",
            type=click.Choice(["stop-first", "start-first"]),
            help="Which of the two tasks goes first.",
        ),
        click.option(
            f"--{kind}-failure-action", type=click.Choice(actions), help="When too many fail."
        ),
        click.option(
            f"--{kind}-max-failure-ratio", type=click.FloatRange(0, 1), help="What share may fail."
        ),
        click.option(
            f"--{kind}-progress-deadline", type=DURATION, help="For a task to come on; 0: none."
        ),
    )


_OPTIONS = (
    click.option("--image", help="Run this one."),
    click.option("--replicas", type=_AMOUNT, help="How many."),
    click.option("--completions", type=_AMOUNT, help="Of a job: tasks that must end well."),
    click.option("--max-concurrent", type=_AMOUNT, help="Of a job: tasks at a time; 0 is all."),
    click.option("--retries", type=click.IntRange(min=-1), help="Of a job; -1 is no limit."),
    click.option("--time-limit", type=DURATION, help="Of a job's run; 0 is none."),
    click.option(
        "--args", metavar="WORDS", help="Arguments to the entrypoint, as a shell reads them."
    ),
    click.option("--force", is_flag=True, help="Replace every task though nothing else changes."),
    click.option(
        "--env-add", type=PAIR, multiple=True, help="Add or replace a variable; repeat it."
    ),
    click.option("--env-rm", multiple=True, metavar="NAME", help="Remove a variable; repeat it."),
    click.option(
        "--label-add", type=LABEL, multiple=True, help="Add or replace a label; repeat it."
    ),
    click.option("--label-rm", multiple=True, metavar="NAME", help="Remove a label; repeat it."),
    click.option(
        "--constraint-add", multiple=True, metavar="EXPR", help="Such as node.labels.disk==ssd."
    ),
    click.option("--constraint-rm", multiple=True, metavar="EXPR", help="As it was written."),
    click.option("--limit-cpu", type=CPUS, help="At most so many CPUs; 0 is no limit."),
    click.option(
        "--limit-memory", type=BYTES, help="At most so much, such as 256MiB; 0: no limit."
    ),
    click.option("--reserve-cpu", type=CPUS, help="Set aside so many CPUs."),
    click.option("--reserve-memory", type=BYTES, help="Set aside so much."),
    click.option(
        "--reserve-generic",
        type=COUNT,
        multiple=True,
        help="Set aside so many of a kind, such as gpu=1; 0: none. Repeat it.",
    ),
    click.option(
        "--spread-add", multiple=True, metavar="KEY", help="Spread over node.labels.zone, say."
    ),
    click.option("--spread-rm", multiple=True, metavar="KEY", help="Do not; repeat it."),
    click.option(
        "--tolerate-add", multiple=True, metavar="NAME", help="Also nodes reserved for NAME."
    ),
    click.option("--tolerate-rm", multiple=True, metavar="NAME", help="No longer; repeat it."),
    click.option(
        "--strategy",
        type=click.Choice(["binpack", "spread", "cluster"]),
        help="How tasks are laid out; cluster: as the cluster's setting says.",
    ),
    click.option("--priority", type=int, help="The higher is placed first."),
    click.option(
        "--preempts/--no-preempts",
        default=None,
        help="Whether lower priorities make way where there is no room.",
    ),
    click.option(
        "--max-unavailable", type=_AMOUNT, help="Tasks that may be missing for others' sake."
    ),
    click.option("--scale-min", type=_AMOUNT, help="Scale itself: replicas at least."),
    click.option("--scale-max", type=_AMOUNT, help="Scale itself: replicas at most."),
    click.option(
        "--scale-cpu", type=_AMOUNT, help="Percent of the reserved CPU to aim at; 0: not by CPU."
    ),
    click.option(
        "--scale-memory",
        type=_AMOUNT,
        help="Percent of the reserved memory to aim at; 0: not by memory.",
    ),
    click.option(
        "--no-autoscale", "autoscale", flag_value=False, default=None, help="Scale by hand again."
    ),
    click.option(
        "--lost-node",
        metavar="POLICY[=TIME]",
        help="If its node is lost: replace, wait=10m, or fence=30s (never two at a time).",
    ),
    click.option(
        "--restart-condition",
        type=click.Choice(["none", "on-failure", "any"]),
        help="After which ends a task is replaced.",
    ),
    click.option("--restart-delay", type=DURATION, help="Before each replacement."),
    click.option("--restart-max-attempts", type=_AMOUNT, help="At most; 0 is no limit."),
    click.option("--restart-window", type=DURATION, help="How far back attempts count."),
    click.option("--stop-grace-period", type=DURATION, help="From the stop signal to the kill."),
    *(option for kind in ("update", "rollback") for option in _config_options(kind)),
    click.option("--update-canary", type=_AMOUNT, help="Tasks first, then wait; 0: none."),
    click.option("--update-promote-after", type=DURATION, help="Go on by itself; 0: never."),
)


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command(
    cls=Leaf,
    examples="""
    clusterctl service update --image web:2 demo_web
    clusterctl service update --env-add LEVEL=debug --limit-memory 128MiB demo_web
    # scale itself by its CPU
    clusterctl service update --scale-min 2 --scale-max 10 --scale-cpu 70 demo_web
    # start all tasks anew
    clusterctl service update --force demo_web
    """,
)
@argument("service")
@_options
@dry_run_option
@wait_options
@pass_app
def update(
    app: App,
    /,
    *,
    service: str,
    dry_run: bool,
    wait: bool,
    timeout_seconds: float,
    args: str | None,
    **changes: Any,
) -> None:
    """Change a service; what needs it is replaced, a few tasks at a time."""
    from clusterctl import trials
    from clusterctl.convergence import Deployed
    from clusterctl.specs import Edit, edited
    from clusterctl.waiting import wait_for

    edit = Edit(args=None if args is None else _words(args), **changes)
    if edit == Edit():
        raise click.UsageError("nothing to change: give at least one option, or --force")
    old = app.client.service(service).service
    spec = edited(old.spec, edit)
    if dry_run:
        shown_instead(app, trials.update_service(old, spec))
    new = _stored(app, old, spec)
    name = new.spec.name
    unchanged = new.spec_version == old.spec_version
    click.echo(f"{name}: {'nothing to change' if unchanged else 'updated'}")
    if wait:
        wait_for(
            app,
            Deployed([new], frozenset({new.id} if unchanged else ())),
            timeout_seconds=timeout_seconds,
            what="the update",
            look=f"clusterctl service ps {name}",
            subject=f"service {name}",
        )


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {str(error).lower()}", param_hint="--args") from None


def _stored(app: App, old: "Service", spec: "ServiceSpec") -> "Service":
    """Write the spec back; a conflict with our own first attempt is none."""
    from cluster.errors import ConflictError

    try:
        return app.client.update_service(old.id, old.version, spec)
    except ConflictError:
        now = app.client.service(old.id).service
        if now.spec == spec and now.spec_version == old.spec_version + 1:
            return now
        raise
