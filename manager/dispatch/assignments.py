"""What an agent is told to run: everything once, then what differs, in a chain without gaps.

Pure but for ``Assignments``, which follows the view. A node's set is every task bound to it
that still has a record, whatever is desired of it; a task that left the set is to be stopped
and forgotten. A task's state is the agent's own report coming back, so it is told only where
it matters: with the whole set, and when the task has finished (the leader may have given it up
as orphaned while its agent was away).
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from cluster.model import (
    Assignment,
    NodeId,
    ServiceId,
    ServiceVersion,
    Task,
    TaskId,
    TaskState,
)
from manager.dispatch.open_session import OpenSession
from manager.view import Batch, View

log = logging.getLogger(__name__)

SpecKey = tuple[ServiceId, int]
SpecLookup = Callable[[SpecKey], ServiceVersion | None]


@dataclass(frozen=True, slots=True)
class Update:
    """One message of the chain.

    Attributes:
        complete: all there is; else changes to what ``applies_to`` named.
        applies_to: number of the message before; 0 if complete.
        results_in: number of the state after it.
        specs: that ``tasks`` name and the agent does not have. It has those that the tasks
            named which it was last told to have; others it may forget.
        removed: no longer the node's.
    """

    complete: bool
    applies_to: int
    results_in: int
    specs: tuple[ServiceVersion, ...] = ()
    tasks: tuple[Assignment, ...] = ()
    removed: tuple[TaskId, ...] = ()


@dataclass(slots=True)
class Chain:
    """What one agent has been told on one stream."""

    number: int = 0
    told: dict[TaskId, Assignment] = field(default_factory=dict)
    specs: set[SpecKey] = field(default_factory=set)

    def begin(self, now: Mapping[TaskId, Assignment], specs: SpecLookup) -> Update:
        """Return the whole set."""
        self.told.clear()
        self.specs.clear()
        return self._link(tuple(now.values()), (), specs, complete=True)

    def go_on(self, now: Mapping[TaskId, Assignment | None], specs: SpecLookup) -> Update | None:
        """Return what the agent must learn of the tasks in *now*; None if there is nothing.

        Args:
            now: tasks that may have changed; None for one that is not (any more) the node's.
            specs: finds their specs.
        """
        changed = tuple(
            each
            for task_id, each in now.items()
            if each is not None and _needed(each) != self._needed_before(task_id)
        )
        removed = tuple(
            task_id for task_id, each in now.items() if each is None and task_id in self.told
        )
        if not changed and not removed:
            return None
        return self._link(changed, removed, specs, complete=False)

    def _needed_before(self, task_id: TaskId) -> Assignment | None:
        before = self.told.get(task_id)
        return None if before is None else _needed(before)

    def _link(
        self,
        tasks: tuple[Assignment, ...],
        removed: tuple[TaskId, ...],
        specs: SpecLookup,
        *,
        complete: bool,
    ) -> Update:
        named = {_spec_key(each) for each in tasks} - self.specs
        found = tuple(spec for key in sorted(named) if (spec := specs(key)) is not None)
        for task_id in removed:
            del self.told[task_id]
        self.told.update((each.task_id, each) for each in tasks)
        had = self.specs | {(spec.service_id, spec.number) for spec in found}
        self.specs = {key for each in self.told.values() if (key := _spec_key(each)) in had}
        before, self.number = self.number, self.number + 1
        return Update(complete, 0 if complete else before, self.number, found, tasks, removed)


def assignment_of(view: View, task: Task) -> Assignment:
    """Return what an agent needs to know of *task*."""
    version = view.version_of(task)
    return Assignment(
        task_id=task.id,
        service_id=task.service_id,
        service_name=version.spec.name if version else "",
        spec_version=task.spec_version,
        slot=task.slot,
        node_id=task.node_id,
        desired_state=task.desired_state,
        state=task.status.state,
        stack=version.spec.stack if version else "",
        generic_items=task.generic_items,
        request_id=version.request_id if version else "",
    )


def bound_to(task: Task, node_id: NodeId) -> bool:
    """Tell whether *task* is the node's: one that is only meant for it is not yet."""
    return task.node_id == node_id and task.status.state >= TaskState.ASSIGNED


def _needed(assignment: Assignment) -> Assignment:
    """Return *assignment* with all unfinished states alike: between them the agent decides."""
    if assignment.state.finished:
        return assignment
    return msgspec.structs.replace(assignment, state=TaskState.ASSIGNED)


def _spec_key(assignment: Assignment) -> SpecKey:
    return assignment.service_id, assignment.spec_version


class _Feed:
    """Tasks of one node that may have changed since its agent was last told."""

    def __init__(self) -> None:
        self.changed: dict[TaskId, None] = {}  # in order
        self.news = asyncio.Event()

    def take(self) -> Collection[TaskId]:
        self.news.clear()
        taken, self.changed = self.changed, {}
        return taken


class Assignments:
    """Routes the view's changes to the agents that follow theirs.

    Changes that come while a message is on its way are gathered into the next one; nothing
    ever waits for more to come.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._feeds: dict[NodeId, dict[_Feed, None]] = {}
        self._unsubscribe = view.subscribe(self._route)

    def close(self) -> None:
        self._unsubscribe()

    async def follow(self, session: OpenSession) -> AsyncGenerator[Update, None]:
        """Yield the node's whole set, then what changes, for as long as the session lasts.

        Raises:
            ClusterError: why the session has ended.
        """
        node_id, feed = session.node_id, _Feed()
        self._feeds.setdefault(node_id, {})[feed] = None
        undo = session.at_end(feed.news.set)
        try:
            chain = Chain()
            tasks = (task for task in self._view.tasks_on_node(node_id) if bound_to(task, node_id))
            yield chain.begin({t.id: assignment_of(self._view, t) for t in tasks}, self._spec)
            while session.ended is None:
                update = chain.go_on(self._now(node_id, feed.take()), self._spec)
                if update is not None:
                    yield update
                else:
                    await feed.news.wait()
            raise session.ended
        finally:
            undo()
            self._feeds[node_id].pop(feed)
            if not self._feeds[node_id]:
                del self._feeds[node_id]

    def _now(self, node_id: NodeId, task_ids: Iterable[TaskId]) -> dict[TaskId, Assignment | None]:
        now: dict[TaskId, Assignment | None] = {}
        for task_id in task_ids:
            task = self._view.tasks.get(task_id)
            if task is not None and bound_to(task, node_id):
                now[task_id] = assignment_of(self._view, task)
            else:
                now[task_id] = None
        return now

    def _spec(self, key: SpecKey) -> ServiceVersion | None:
        version = self._view.versions.get(key)
        if version is None:
            log.error("a task's spec is missing", extra={"service": key[0], "number": key[1]})
        return version

    def _route(self, batch: Batch) -> None:
        for change in batch.changes:
            for task in (change.old, change.new):
                if isinstance(task, Task):
                    for feed in self._feeds.get(task.node_id, ()):
                        feed.changed[task.id] = None
                        feed.news.set()
