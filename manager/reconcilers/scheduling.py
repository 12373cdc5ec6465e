"""Scheduling: bind waiting tasks to nodes, as the pure scheduler says.

A ledger follows the view, so that a pass costs what changed. A pass happens when something
changed that could matter (I17): a task that waits, room that was freed, a node that is new or
different; what nothing has changed for is not tried again.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from cluster import lifecycle
from cluster.model import (
    Cluster,
    Node,
    NodeId,
    Scaling,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    ServiceVersion,
    Session,
    SessionState,
    Strategy,
    Task,
    TaskId,
    TaskState,
    TaskStatus,
)
from manager import view as views
from manager.committer import GUARDS_MAX, Change
from manager.disruption import allowance
from manager.reconcilers.loop import Plan
from scheduler import Hold, Ledger, PendingTask, group, place
from scheduler import Plan as Decided

# Tasks of a gang that are bound in one transaction, each perhaps on a node of its own.
TOGETHER_MAX = GUARDS_MAX // 2

CLUSTER = "cluster"  # the one key: tasks compete for the same nodes, so they are placed together


class SchedulingReconciler:
    """Places everything that waits, in one pass."""

    name = "scheduling"

    def __init__(self, view: views.View) -> None:
        self._view = view
        self._ledger = Ledger(self._spec_of)
        self._waiting: dict[TaskId, Task] = {}
        self._attentive: set[TaskId] = set()  # of those, who may find a place by others' doing
        self._holds: tuple[Hold, ...] = ()
        for node in view.nodes.values():
            self._follow_node(node.id)
        for task in view.tasks.values():
            self._follow_task(task)

    def concerned(self, change: views.Change) -> Iterable[str]:
        match change.either:
            case Task() as task:
                old = change.old if isinstance(change.old, Task) else None
                freed = old is not None and lifecycle.occupies(old)
                if change.new is None:
                    self._ledger.remove_task(task.id)
                    self._forget(task.id)
                    return [CLUSTER] if freed else []
                self._follow_task(task)
                freed = freed and not lifecycle.occupies(task)
                is_news = _waits(task) and (old is None or not _waits(old))
                is_heeded = bool(self._attentive) and _has_come_further(old, task)
                return [CLUSTER] if freed or is_news or is_heeded else []
            case Node() as node:
                self._follow_node(node.id)
                return [CLUSTER]
            case Session() as session:
                self._follow_node(session.node_id)
                return [CLUSTER] if self._waiting else []
            case Service() | ServiceVersion() | Cluster() | Scaling():
                return [CLUSTER] if self._waiting else []
        return []

    def everything(self) -> Iterable[str]:
        return [CLUSTER]

    def plan(self, key: str, now: float) -> Plan:  # noqa: ARG002 - there is only one key
        if not self._waiting:
            self._holds = ()
            return Plan()
        # Oldest first, so that nobody is overtaken for ever; and of equal age in an order that a
        # forecast knows, whose tasks have other ids (I14).
        waiting = sorted(
            self._waiting.values(),
            key=lambda task: (task.created_at, task.service_id, task.slot, task.node_id, task.id),
        )
        incomplete = self._incomplete_gangs()
        changes: list[Change] = []
        pending: list[PendingTask] = []
        for task in waiting:
            demand = self._ledger.demand_of(task)
            if demand.gang in incomplete:
                changes += _wait(task, f"waits until all of gang {demand.gang} is there", now)
            else:
                pending.append(PendingTask(task.id, demand, task.node_id or task.aims_at))
        cluster = self._view.cluster
        decided = place(
            self._ledger.snapshot(now),
            group(pending),
            strategy=cluster.spec.strategy if cluster else Strategy.BINPACK,
            holds=self._holds,
            allowances=self._allowances(pending),
        )
        self._holds = decided.holds
        changes += self._bind(decided, now)
        for task_id, sake_id in decided.evictions.items():
            victim = self._view.tasks[task_id]
            stopped = msgspec.structs.replace(victim, desired_state=TaskState.SHUTDOWN)
            changes.append(Change(save=(stopped,), why=f"it makes room for task {sake_id}"))
        for unplaced in decided.unplaced:
            for task_id in unplaced.task_ids:
                changes += _wait(self._view.tasks[task_id], str(unplaced), now)
        return Plan(changes)

    def _allowances(self, pending: Iterable[PendingTask]) -> Mapping[ServiceId, int]:
        """Return how many tasks of each service may be stopped; nothing if nobody would."""
        if not any(task.demand.preempts for task in pending):
            return {}
        return {
            service.id: allowance(
                self._view.as_scaled(service),
                self._view.tasks_of_service(service.id),
                self._view.leaving,
            )
            for service in self._view.services.values()
        }

    def _follow_node(self, node_id: NodeId) -> None:
        """Take a node as it is: one whose agent has no session would not learn of a task."""
        node = self._view.nodes.get(node_id)
        if node is None:
            self._ledger.remove_node(node_id)
            return
        self._ledger.apply_node(node)
        session = self._view.sessions.get(node_id)
        is_live = session is not None and session.state is SessionState.LIVE
        self._ledger.apply_contact(node_id, is_reached=is_live)

    def _bind(self, decided: Decided, now: float) -> list[Change]:
        """Bind tasks to their nodes; a gang's all at once."""
        alone: list[Change] = []
        together: dict[str, list[Task]] = {}
        unsettled = dict(decided.volumes)
        settling: dict[NodeId, list[Task]] = {}
        for task_id, node_id in decided.placements.items():
            task = self._view.tasks[task_id]
            demand = self._ledger.demand_of(task)
            bound = msgspec.structs.replace(
                task,
                node_id=node_id,
                status=TaskStatus(state=TaskState.ASSIGNED, at=now, message="assigned to a node"),
                generic_items=dict(decided.items.get(task_id, {})),
            )
            new = [volume for volume in demand.volumes if volume in decided.volumes]
            if new:
                # What else needs the volume waits until it stands where the volume lives, lest
                # it goes elsewhere should this not be written.
                if all(volume in unsettled for volume in new):
                    settling.setdefault(node_id, []).append(bound)
                    for volume in new:
                        del unsettled[volume]
            elif demand.gang:
                together.setdefault(demand.gang, []).append(bound)
            else:
                alone.append(self._bound([bound], "it fits there"))
        for node_id, tasks in settling.items():
            volumes = [
                v for v, at in decided.volumes.items() if at == node_id and v not in unsettled
            ]
            alone.append(Change(save=(self._living(node_id, volumes), *tasks), why="it fits there"))
        for gang, tasks in together.items():
            alone += [
                self._bound(tasks[first : first + TOGETHER_MAX], f"gang {gang} fits")
                for first in range(0, len(tasks), TOGETHER_MAX)
            ]
        return alone

    def _bound(self, tasks: Sequence[Task], why: str) -> Change:
        """Return what binds tasks, if their nodes still stand as they were decided on.

        Somebody may close, label or shrink a node just now: then it is decided anew.
        """
        nodes = {task.node_id: self._view.nodes[task.node_id] for task in tasks}
        return Change(save=tuple(tasks), expect=tuple(nodes.values()), why=why)

    def _living(self, node_id: NodeId, volumes: Iterable[str]) -> Node:
        """Return the node with bound volumes that come to live there."""
        node = self._view.nodes[node_id]
        all_volumes = tuple(dict.fromkeys((*node.spec.volumes, *volumes)))
        spec = msgspec.structs.replace(node.spec, volumes=all_volumes)
        return msgspec.structs.replace(node, spec=spec)

    def _incomplete_gangs(self) -> set[str]:
        """Return the gangs of which some tasks are still to be made.

        Tasks come service by service; a gang whose first half is here already is none yet. One
        whose tasks were there, and ended, is complete.
        """
        found: set[str] = set()
        for service in self._view.services.values():
            spec = self._view.as_scaled(service).spec
            if spec.gang and spec.mode is ServiceMode.REPLICATED:
                tasks = self._view.tasks_of_service(service.id)
                slots = {task.slot for task in tasks}
                if len(slots) < spec.replicas:
                    found.add(spec.gang)
        return found

    def _follow_task(self, task: Task) -> None:
        self._ledger.apply_task(task)
        if _waits(task):
            self._waiting[task.id] = task
            demand = self._ledger.demand_of(task)
            if demand.preempts or demand.affinities:
                self._attentive.add(task.id)
        else:
            self._forget(task.id)

    def _forget(self, task_id: TaskId) -> None:
        self._waiting.pop(task_id, None)
        self._attentive.discard(task_id)

    def _spec_of(self, task: Task) -> ServiceSpec | None:
        version = self._view.version_of(task)
        return version.spec if version else None


def _has_come_further(old: Task | None, task: Task) -> bool:
    """Tell whether others may be near it now, or it serves, so that its service can spare one."""
    is_bound = lifecycle.occupies(task) and (old is None or not lifecycle.occupies(old))
    return is_bound or (lifecycle.serves(task) and (old is None or not lifecycle.serves(old)))


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
