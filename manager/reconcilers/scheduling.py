"""Scheduling: bind waiting tasks to nodes, as the pure scheduler says.

A ledger follows the view, so that a pass costs what changed. A pass happens when something
changed that could matter (I17): a task that waits, room that was freed, a node that is new or
different; what nothing has changed for is not tried again.
"""

from collections.abc import Iterable

import msgspec

from cluster import lifecycle
from cluster.model import Node, ServiceSpec, ServiceVersion, Task, TaskState, TaskStatus
from manager import view as views
from manager.committer import Change
from manager.reconcilers.loop import Plan
from scheduler.demand import PendingTask, group
from scheduler.ledger import Ledger
from scheduler.place import place

CLUSTER = "cluster"  # the one key: tasks compete for the same nodes, so they are placed together


class SchedulingReconciler:
    """Places everything that waits, in one pass."""

    name = "scheduling"

    def __init__(self, view: views.View) -> None:
        self._view = view
        self._ledger = Ledger(self._spec_of)
        self._waiting: dict[str, Task] = {}
        for node in view.nodes.values():
            self._ledger.apply_node(node)
        for task in view.tasks.values():
            self._follow_task(task)

    def concerned(self, change: views.Change) -> Iterable[str]:
        match change.either:
            case Task() as task:
                old = change.old if isinstance(change.old, Task) else None
                freed = old is not None and lifecycle.occupies(old)
                if change.new is None:
                    self._ledger.remove_task(task.id)
                    self._waiting.pop(task.id, None)
                    return [CLUSTER] if freed else []
                self._follow_task(task)
                freed = freed and not lifecycle.occupies(task)
                is_news = _waits(task) and (old is None or not _waits(old))
                return [CLUSTER] if freed or is_news else []
            case Node() as node:
                if change.new is None:
                    self._ledger.remove_node(node.id)
                else:
                    self._ledger.apply_node(node)
                return [CLUSTER]
            case ServiceVersion():
                return [CLUSTER] if self._waiting else []
        return []

    def everything(self) -> Iterable[str]:
        return [CLUSTER]

    def plan(self, key: str, now: float) -> Plan:  # noqa: ARG002 - there is only one key
        if not self._waiting:
            return Plan()
        # Oldest first, so that nobody is overtaken for ever.
        waiting = sorted(self._waiting.values(), key=lambda task: (task.created_at, task.id))
        pending = [
            PendingTask(task.id, self._ledger.demand_of(task), task.node_id) for task in waiting
        ]
        decided = place(self._ledger.snapshot(), group(pending))
        changes = []
        for task_id, node_id in decided.placements.items():
            task = self._view.tasks[task_id]
            status = TaskStatus(state=TaskState.ASSIGNED, at=now, message="assigned to a node")
            bound = msgspec.structs.replace(task, node_id=node_id, status=status)
            changes.append(Change(save=(bound,), why="it fits there"))
        for unplaced in decided.unplaced:
            for task_id in unplaced.task_ids:
                changes += _wait(self._view.tasks[task_id], str(unplaced), now)
        return Plan(changes)

    def _follow_task(self, task: Task) -> None:
        self._ledger.apply_task(task)
        if _waits(task):
            self._waiting[task.id] = task
        else:
            self._waiting.pop(task.id, None)

    def _spec_of(self, task: Task) -> ServiceSpec | None:
        version = self._view.version_of(task)
        return version.spec if version else None


def _waits(task: Task) -> bool:
    return lifecycle.wanted(task) and task.status.state < TaskState.ASSIGNED


def _wait(task: Task, reason: str, now: float) -> list[Change]:
    """Say in the task why it waits; nothing if it says so already (I18)."""
    status = task.status
    if status.state is TaskState.PENDING and status.error == reason:
        return []
    at = status.at if status.state is TaskState.PENDING else now
    waiting = TaskStatus(state=TaskState.PENDING, at=at, message="waiting for a node", error=reason)
    return [Change(save=(msgspec.structs.replace(task, status=waiting),), why=reason)]
