"""Runs the leader's reconcilers on a copy of the view, in virtual time, until all is quiet.

The world is kind there: nodes stay as they are, and an agent that is told something has done it
at once; a task of a job ends well at once. What a real one does later it does in the same order,
so what is decided is the same. Schedules rest: what they bring is not of the request.
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

import msgspec

from cluster import lifecycle
from cluster.model import (
    ManagerId,
    NodeState,
    Object,
    ServiceId,
    Session,
    SessionId,
    Task,
    TaskId,
    TaskState,
    TaskStatus,
)
from manager.committer import Change
from manager.reconcilers import reconcilers_of
from manager.reconcilers.loop import Reconciler
from manager.reconcilers.scheduling import SchedulingReconciler
from manager.reconcilers.services.reconciler import ServiceReconciler
from manager.view import Batch, View

# What one forecast may cost: some ten seconds of a core, for a change of the largest services.
DECISIONS_MAX = 200_000

# Beyond a day of delays and monitoring nobody relies on a forecast.
HORIZON_SECONDS = 86_400.0

# Looks in a row that change nothing: then whatever looks again does so for ever.
IDLE_LOOKS_MAX = 100

# Looks at what waits, each after something has come of the one before.
LOOKS_AGAIN_MAX = 10

SEED = 14  # of ids and jitter, so that the same question has the same answer (I15)


@dataclass
class VirtualClock:
    """Stands still until it is set."""

    at: float
    passed: float = 0.0

    def now(self) -> float:
        return self.at + self.passed

    def monotonic(self) -> float:
        return self.passed


@dataclass(frozen=True, slots=True)
class Course:
    """How it went.

    Attributes:
        seconds: of virtual time until all was quiet: delays and monitoring, but no pulls and
            no starts.
        awaiting_room: tasks that found no node at first and did once others had left.
        is_complete: it became quiet within the bounds.
    """

    seconds: float
    awaiting_room: int
    is_complete: bool


@dataclass
class _Desk:
    """One reconciler, and which of its keys are due."""

    reconciler: Reconciler[object]
    due: dict[object, None] = field(default_factory=dict)


class Future:
    """Makes a fork of the view become what the leader and the agents would make of it.

    Make it before the request is applied to the fork: it hears what that changes.

    Attributes:
        touched: services of which a task has changed.
    """

    def __init__(self, fork: View, now: float) -> None:
        _without_silence(fork)
        self._view = fork
        self._clock = VirtualClock(now)
        self._revision = max([fork.revision, *(task.version for task in fork.tasks.values())])
        found = reconcilers_of(
            fork, self._clock, random.Random(SEED), joined_at=-math.inf, has_time=False
        )
        self._desks = [_Desk(reconciler) for reconciler in found]
        self._timers: list[tuple[float, int, int, object]] = []
        self._told: dict[TaskId, None] = {}
        # Also what waits already: if it is placed, then in room that the request makes.
        self._refused: set[TaskId] = {
            task.id for task in fork.tasks.values() if task.status.state is TaskState.PENDING
        }
        self._decisions = 0
        self.touched: set[ServiceId] = set()
        fork.subscribe(self._heard)

    def run(self) -> Course:
        """Go on until nothing is due and nothing will be."""
        seconds = self._until_quiet(0.0)
        for _ in range(LOOKS_AGAIN_MAX):
            before = self._revision
            self._look_again()
            seconds = self._until_quiet(seconds)
            if self._revision == before:
                break
        placed = [
            task_id
            for task_id in self._refused
            if (task := self._view.tasks.get(task_id)) and task.status.state >= TaskState.ASSIGNED
        ]
        return Course(seconds, len(placed), self._decisions < DECISIONS_MAX)

    def _look_again(self) -> None:
        """Have looked at what waits, as the loops do now and then: others have left meanwhile.

        It may say now what it lacks, and if that is only the room of the one that it replaces,
        that one may make way.
        """
        waiting: dict[object, None] = dict.fromkeys(
            task.service_id
            for task in self._view.tasks.values()
            if lifecycle.live(task) and task.status.state < TaskState.ASSIGNED
        )
        for desk in self._desks:
            if desk.reconciler.name == SchedulingReconciler.name:
                desk.due.update(dict.fromkeys(desk.reconciler.everything()))
            elif desk.reconciler.name == ServiceReconciler.name:
                desk.due.update(waiting)

    def _until_quiet(self, changed_at: float) -> float:
        """Let time pass; return when the last change was made, in seconds from now.

        Args:
            changed_at: when the last one was so far.
        """
        idle = 0
        while self._decisions < DECISIONS_MAX:
            if self._settle():
                idle, changed_at = 0, self._clock.passed
            elif (idle := idle + 1) > IDLE_LOOKS_MAX:
                break
            if not self._timers or self._timers[0][0] > HORIZON_SECONDS:
                break
            if self._timers[0][0] - changed_at >= self._patience_seconds():
                break
            self._pass_time()
        return changed_at

    def _patience_seconds(self) -> float:
        """Return how long nothing may change before that is how things stand.

        What finds no node is to be shown as such, not what comes of it once its rollout has given
        it up: that would be the present state, if the rollout takes itself back.
        """
        services = [service for id_ in self.touched if (service := self._view.services.get(id_))]
        waits = any(
            lifecycle.live(task) and task.status.state < TaskState.ASSIGNED
            for service in services
            for task in self._view.tasks_of_service(service.id)
        )
        deadlines = [service.spec.update.progress_deadline_seconds for service in services]
        return min(filter(None, deadlines), default=math.inf) if waits else math.inf

    def _settle(self) -> bool:
        """Decide and obey until nothing is due now; tell whether anything has changed.

        No agent acts before the leader has come to an end: it decides in milliseconds, and to stop
        or start a container takes longer. So what leaves is still there while others are placed.
        """
        before = self._revision
        while self._decisions < DECISIONS_MAX:
            is_busy = False
            for number, desk in enumerate(self._desks):
                if desk.due:
                    is_busy = True
                    self._decide(number, desk)
            if not is_busy and not self._obey():
                break
        return self._revision > before

    def _decide(self, number: int, desk: _Desk) -> None:
        keys, desk.due = list(desk.due), {}
        now = self._clock.now()
        changes: list[Change] = []
        for key in keys:
            self._decisions += 1
            plan = desk.reconciler.plan(key, now)
            changes += plan.changes
            if plan.look_again_seconds is not None:
                at = self._clock.passed + max(0.0, plan.look_again_seconds)
                heappush(self._timers, (at, len(self._timers) + self._decisions, number, key))
        self._apply(
            [value for change in changes for value in change.save],
            [value for change in changes for value in change.drop],
        )

    def _obey(self) -> bool:
        """Let every agent that was told something have done it; tell whether any was."""
        told, self._told = self._told, {}
        done: list[Object] = []
        for task_id in told:
            task = self._view.tasks.get(task_id)
            status = None if task is None else self._done(task)
            if task is not None and status is not None:
                done.append(msgspec.structs.replace(task, status=status))
        self._apply(done, ())
        return bool(told)

    def _done(self, task: Task) -> TaskStatus | None:
        node = self._view.nodes.get(task.node_id)
        bound = task.status.state >= TaskState.ASSIGNED and not task.status.state.finished
        if node is None or node.status.state is not NodeState.READY or not bound:
            return None
        state = TaskState.SHUTDOWN
        if lifecycle.wanted(task):
            state = task.desired_state
        if state is task.status.state:
            return None
        return TaskStatus(state=state, at=self._clock.now())

    def _apply(self, save: Sequence[Object], drop: Sequence[Object]) -> None:
        if save or drop:
            self._revision += 1
            self._view.supposed(self._revision, save, drop)

    def _pass_time(self) -> None:
        self._clock.passed = max(self._clock.passed, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._clock.passed:
            _, _, number, key = heappop(self._timers)
            self._desks[number].due[key] = None

    def _heard(self, batch: Batch) -> None:
        for change in batch.changes:
            for desk in self._desks:
                for key in desk.reconciler.concerned(change):
                    desk.due[key] = None
            value = change.either
            if isinstance(value, Task):
                self.touched.add(value.service_id)
                if value.status.state is TaskState.PENDING:
                    self._refused.add(value.id)
                if change.new is not None and value.node_id:
                    self._told[value.id] = None


def _without_silence(fork: View) -> None:
    """Let no node be lost in the forecast because its agent is between two sessions just now."""
    ready = (node for node in fork.nodes.values() if node.status.state is NodeState.READY)
    there: Iterable[Session] = [
        Session(id=SessionId(""), node_id=node.id, manager_id=ManagerId(""))
        for node in ready
        if node.id not in fork.sessions
    ]
    fork.supposed(fork.revision, there, ())
