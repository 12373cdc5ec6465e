"""Autoscaling: how many replicas a service has that scales itself, by what its tasks use.

The rule is that of Kubernetes' HorizontalPodAutoscaler: as many replicas as bring the average use
to its target, nothing while it is near enough, and of what was called for in the last while the
least on the way up, the most on the way down. Three things keep it from flapping (each has a
property test):

* a steady load calls for the same number whatever there is now, so the first answer is the last;
* a task that is not measured yet is taken to use nothing when more are called for, and its whole
  target when fewer are: news of a task can only make the step smaller, never turn it around;
* who has not watched for a whole window does not know what was called for in it, and waits.

``plan`` is pure. The loop around it asks all managers for what their agents measured.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from cluster import lifecycle
from cluster.clock import Clock
from cluster.model import (
    Autoscale,
    NodeId,
    Scaling,
    Service,
    ServiceId,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskUsage,
)
from cluster.scaling import wanted_replicas
from manager.committer import Change, Committer
from manager.dispatch.open_session import HeardUsage
from manager.store.interface import StoreUnavailableError
from manager.view import View

log = logging.getLogger(__name__)

PERIOD_SECONDS = 15.0  # agents measure every ten: less would look at the same numbers twice

# A task uses other amounts while it starts, and its first two measurements are of no span.
WARM_SECONDS = 30.0

# Agents tell every ten seconds what they measured; a node that was silent for longer says nothing.
HEARD_SECONDS_MAX = 30.0

# Up at most to twice as many at a time: what a leap calls for shows once those are measured.
GROWTH_MAX = 2

_PERCENT = 100

Measure = Callable[[], Awaitable[Mapping[NodeId, HeardUsage]]]


@dataclass(frozen=True, slots=True)
class Called:
    """How many replicas were called for at a time."""

    at: float
    replicas: int
    why: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan may look at.

    Attributes:
        scale: what was asked for.
        task: the template, for what a task reserves.
        replicas: that there shall be now.
        usages: of the tasks that were measured and are warm.
        called: for how many was called in the past, the oldest first.
        watching_since: when this leader began to look, by the monotonic clock.
        now: by the monotonic clock.
    """

    scale: Autoscale
    task: TaskSpec
    replicas: int
    usages: Sequence[TaskUsage]
    called: Sequence[Called]
    watching_since: float
    now: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What a look has led to.

    Attributes:
        replicas: that there shall be.
        why: in a sentence; empty if there is nothing new.
        called: for how many the look itself calls; None if nothing was measured.
    """

    replicas: int
    why: str = ""
    called: Called | None = None


def plan(facts: Facts) -> Decision:
    """Return how many replicas there shall be, and why."""
    call = _call(facts)
    if call is None:
        return Decision(facts.replicas)
    recent = [*facts.called, call]
    least = _extreme(facts, recent, facts.scale.up_window_seconds, min)
    most = _extreme(facts, recent, facts.scale.down_window_seconds, max)
    chosen = None
    if least is not None and least.replicas > facts.replicas:
        chosen = least
    elif most is not None and most.replicas < facts.replicas:
        chosen = most
    if chosen is None:
        return Decision(facts.replicas, called=call)
    why = f"{chosen.why}: {facts.replicas} replicas become {chosen.replicas}"
    return Decision(chosen.replicas, why, call)


def _extreme(
    facts: Facts, recent: Sequence[Called], window_seconds: float, which: Callable[..., Called]
) -> Called | None:
    """Return the least or the most that was called for; None if not all of the window is known."""
    since = facts.now - window_seconds
    if facts.watching_since > since:
        return None
    there = [each for each in recent if each.at >= since]
    return which(there, key=lambda each: each.replicas)


def _call(facts: Facts) -> Called | None:
    """Return what the measurements call for now: of several targets the one that needs more."""
    if not facts.usages:
        return None
    calls = [
        _wanted(facts, what, amount, percent, used)
        for what, amount, percent, used in _measured(facts)
        if percent and amount
    ]
    if not calls:
        return None
    replicas, why = max(calls)
    scale = facts.scale
    limited = min(replicas, GROWTH_MAX * max(1, facts.replicas), scale.max_replicas)
    return Called(facts.now, max(limited, scale.min_replicas), why)


def _measured(facts: Facts) -> Iterable[tuple[str, int, int, list[int]]]:
    """Yield each target's name, the amount that it is of, the target, and what tasks use."""
    scale, task = facts.scale, facts.task
    cpu = task.reservations.cpu_nanos or task.limits.cpu_nanos
    memory = task.reservations.memory_bytes or task.limits.memory_bytes
    yield "CPU", cpu, scale.cpu_percent, [each.cpu_nanos for each in facts.usages]
    yield "memory", memory, scale.memory_percent, [each.memory_bytes for each in facts.usages]


def _wanted(
    facts: Facts, what: str, amount: int, percent: int, used: Sequence[int]
) -> tuple[int, str]:
    target = amount * percent / _PERCENT
    tolerance = facts.scale.tolerance_percent / _PERCENT
    average = sum(used) / len(used)
    why = f"{what} is used to {average / amount:.0%} on average, the target is {percent}%"
    if abs(average / target - 1) <= tolerance:
        return facts.replicas, why
    missing = max(0, facts.replicas - len(used))
    if average > target:
        needed = math.ceil(_tidy(sum(used) / target))
        # Of those that are not measured nothing is known: they may carry what is too much here.
        return max(needed, facts.replicas), why
    needed = math.ceil(_tidy((sum(used) + missing * target) / target))
    return min(max(needed, 1), facts.replicas), why


def _tidy(number: float) -> float:
    """Take away what only floating point has added: 3.0000000000000004 replicas are three."""
    return round(number, 6)


@dataclass
class _Watched:
    """What is remembered of one service."""

    called: deque[Called] = field(default_factory=deque)


class Autoscaler:
    """Looks at every service that scales itself, for as long as this manager leads."""

    def __init__(self, view: View, committer: Committer, clock: Clock, measure: Measure) -> None:
        self._view = view
        self._committer = committer
        self._clock = clock
        self._measure = measure
        self._watching_since: dict[ServiceId, float] = {}
        self._watched: dict[ServiceId, _Watched] = {}
        self._running_since: dict[TaskId, float] = {}

    async def run(self) -> NoReturn:
        """Look for ever.

        Raises:
            FenceBrokenError: somebody else leads.
        """
        while True:
            changes = self.changes(_by_task(await self._measure()) if self._is_needed() else {})
            if changes:
                try:
                    await self._committer.commit(changes)
                except StoreUnavailableError as error:
                    log.warning("a service was not scaled: %s", error)
            await asyncio.sleep(PERIOD_SECONDS)

    def changes(self, usages: Mapping[TaskId, TaskUsage]) -> list[Change]:
        """Return what is to be written, by what each task uses."""
        now = self._clock.monotonic()
        self._mind_tasks(now)
        changes = [
            Change(drop=(scaling,), why="its service does not scale itself any more")
            for service_id, scaling in self._view.scalings.items()
            if not _scales(self._view.services.get(service_id))
        ]
        scaled = [service for service in self._view.services.values() if _scales(service)]
        for service in scaled:
            changes += self._look(service, usages, now)
        for known in self._watched.keys() - {service.id for service in scaled}:
            del self._watched[known], self._watching_since[known]
        return changes

    def _look(
        self, service: Service, usages: Mapping[TaskId, TaskUsage], now: float
    ) -> list[Change]:
        scale = service.spec.autoscale
        assert scale is not None
        watched = self._watched.setdefault(service.id, _Watched())
        since = self._watching_since.setdefault(service.id, now)
        scaling = self._view.scalings.get(service.id)
        tasks = self._view.tasks_of_service(service.id)
        decision = plan(
            Facts(
                scale=scale,
                task=service.spec.task,
                replicas=wanted_replicas(service.spec, scaling),
                usages=[
                    usages[task.id]
                    for task in tasks
                    if task.id in usages and self._is_warm(task, now)
                ],
                called=watched.called,
                watching_since=since,
                now=now,
            )
        )
        if decision.called is not None:
            watched.called.append(decision.called)
        longest = max(scale.up_window_seconds, scale.down_window_seconds)
        while watched.called and watched.called[0].at < now - longest:
            watched.called.popleft()
        if not decision.why:
            return []
        new = Scaling(
            version=scaling.version if scaling else 0,
            service_id=service.id,
            replicas=decision.replicas,
            why=decision.why,
            decided_at=self._clock.now(),
        )
        return [Change(save=(new,), why=decision.why)]

    def _is_needed(self) -> bool:
        return any(_scales(service) for service in self._view.services.values())

    def _is_warm(self, task: Task, now: float) -> bool:
        since = self._running_since.get(task.id)
        return since is not None and now - since >= WARM_SECONDS

    def _mind_tasks(self, now: float) -> None:
        """Note since when tasks have been seen to run, by our own clock."""
        running = {
            task.id
            for service in self._view.services.values()
            if _scales(service)
            for task in self._view.tasks_of_service(service.id)
            if lifecycle.wanted(task) and task.status.state is TaskState.RUNNING
        }
        self._running_since = {
            task_id: self._running_since.get(task_id, now) for task_id in running
        }


def _scales(service: Service | None) -> bool:
    return service is not None and service.spec.autoscale is not None


def _by_task(heard: Mapping[NodeId, HeardUsage]) -> dict[TaskId, TaskUsage]:
    """Return what each task uses, of nodes that were heard of just now."""
    return {
        usage.task_id: usage
        for each in heard.values()
        if each.heard_seconds_ago <= HEARD_SECONDS_MAX
        for usage in each.usage.tasks
    }
