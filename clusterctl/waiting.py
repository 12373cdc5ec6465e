"""Waiting until the cluster is as it was asked to be.

Joins the parts: follow the cluster, keep a view, ask ``convergence``, show ``progress``. The
decision is ``convergence``'s alone; here are only time and the end.
"""

import contextlib
from collections import Counter
from collections.abc import Container, Iterable

import click

from cluster.clock import Clock
from cluster.errors import ClusterError
from cluster.model import TaskId
from clusterctl.app import App
from clusterctl.convergence import (
    Deployed,
    Drained,
    Goal,
    Removed,
    RunEnded,
    Verdict,
    converged,
    old_failures,
)
from clusterctl.follow import Follower, Lost
from clusterctl.moves import Rebalanced
from clusterctl.progress import Reporter, reasons, reporter, told
from clusterctl.replicas import Progress
from clusterctl.view import View

KINDS = (
    *("cluster", "service", "service_version", "rollout", "scaling", "task", "node"),
    "job_status",
)

# Between two looks at the clock while nothing changes.
TICK_SECONDS = 0.5

# An error is a line or two; the rest has been shown on the way.
FAILURES_TOLD_MAX = 2

# A reason that is shown at the end; the whole is what `service ps` is for.
REASONS_MAX = 3


class NotConvergedError(ClusterError):
    """The cluster did not become what was asked for, or not in time."""


class InterruptedWaitError(click.ClickException):
    """Ctrl-C while waiting: what was asked for goes on without us."""

    exit_code = 130


def wait_for(
    app: App,
    goal: Goal,
    *,
    timeout_seconds: float,
    what: str,
    look: str,
    subject: str,
    stack: str = "",
) -> None:
    """Return when *goal* is reached; tell how far it is meanwhile.

    Args:
        app: has the client and the clock.
        goal: what to wait for.
        timeout_seconds: for at most so long; 0 is for ever.
        what: goes on if nobody waits, such as "the deploy".
        look: the command that shows how far it is.
        subject: what has converged in the end, such as "stack demo".
        stack: that all services of the goal belong to, if one: less is sent then.

    Raises:
        NotConvergedError: it will not be reached, or was not in time.
        InterruptedWaitError: Ctrl-C.
    """
    limit = timeout_seconds or float("inf")
    shown = reporter(live=app.live)
    started = app.clock.monotonic()
    try:
        with (
            contextlib.closing(shown),
            Follower(
                app.client.caller,
                app.clock,
                app.chance,
                kinds=KINDS,
                stack=stack,
                services=_services(goal),
            ) as follower,
        ):
            verdict = follow(follower, goal, shown, app.clock, limit)
    except KeyboardInterrupt:
        raise InterruptedWaitError(f"interrupted; {what} goes on: `{look}`") from None
    except NotConvergedError as error:
        raise NotConvergedError(f"{subject}: {error}") from None
    for part in verdict.parts:
        if part.note:
            click.echo(part.note, err=True)
    seconds = app.clock.monotonic() - started
    click.echo(f"{subject}: {_summary(goal, verdict)} after {seconds:.1f}s", err=True)


def follow(
    follower: Follower, goal: Goal, shown: Reporter, clock: Clock, timeout_seconds: float
) -> Verdict:
    """Follow until the goal is reached and return the last verdict.

    Raises:
        NotConvergedError: as ``wait_for``.
    """
    view = View()
    old: Container[TaskId] | None = None
    verdict: Verdict | None = None
    deadline = clock.monotonic() + timeout_seconds
    while True:
        left = deadline - clock.monotonic()
        if left <= 0:
            raise NotConvergedError(_late(timeout_seconds, verdict))
        news = follower.take(min(left, TICK_SECONDS))
        for item in news:
            if isinstance(item, Lost):
                shown.note(_lost(item))
            else:
                view.apply(item)
        if not news or not view.revision:
            continue
        if old is None:
            old = old_failures(view, goal)
        verdict = converged(view, goal, old)
        shown.show(verdict)
        if verdict.done:
            return verdict
        if verdict.failures:
            raise NotConvergedError("\n".join(verdict.failures[:FAILURES_TOLD_MAX]))


def _services(goal: Goal) -> Container[str] | None:
    match goal:
        case Deployed() if any(service.spec.depends_on for service in goal.services):
            return None  # what they depend on is looked at too
        case RunEnded():
            return None if goal.service.spec.depends_on else {goal.service.id}
        case Deployed():
            return {*(service.id for service in goal.services), *goal.removed}
        case Removed():
            return set(goal.services)
        case Drained() | Rebalanced():
            return None


def _lost(item: Lost) -> str:
    manager = f"the manager at {item.endpoint}" if item.endpoint else "every manager"
    return f"lost {manager} ({item.reason}); looking for another"


def _late(timeout_seconds: float, verdict: Verdict | None) -> str:
    from cluster.quantities import format_duration

    if verdict is None:
        return f"no manager told how far it is within {format_duration(timeout_seconds)}"
    left = [part for part in verdict.parts if not part.done]
    states = ", ".join(told(part) for part in left[:REASONS_MAX])
    why = [reason for part in left for reason in reasons(part)][:REASONS_MAX]
    return "; ".join([f"not done after {format_duration(timeout_seconds)}: {states}", *why])


def _summary(goal: Goal, verdict: Verdict) -> str:
    match goal:
        case Removed():
            return "gone"
        case Drained():
            return "gone" if goal.forgotten else "empty"
        case Deployed() | RunEnded() | Rebalanced():
            parts = [part for part in verdict.parts if not part.leaving]
            told = [_counted(parts, verb) for verb in dict.fromkeys(part.verb for part in parts)]
            others = Counter(part.instead for part in parts if part.instead)
            told += [f"{count} {what}" for what, count in others.items()]
            return ", ".join(filter(None, told)) or "0/0 running"


def _counted(parts: Iterable[Progress], verb: str) -> str:
    meant = [part for part in parts if part.verb == verb and not part.instead]
    reached, wanted = sum(part.reached for part in meant), sum(part.wanted for part in meant)
    return f"{reached}/{wanted} {verb}" if meant else ""
