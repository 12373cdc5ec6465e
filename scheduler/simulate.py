"""What if: where tasks would be, and which would have no place, were the cluster different.

``simulate`` applies changes to a snapshot, one after the other, and then places what waits just
as a pass would. Nothing is decided by it, and nothing but the snapshot goes in.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cluster.model import Availability, NodeId, NodeState, ServiceId, Strategy, TaskId
from scheduler.board import Board
from scheduler.changes import carried_out, less
from scheduler.demand import Demand, Group, PendingTask, group
from scheduler.fill import candidates, choose
from scheduler.place import place
from scheduler.plan import Plan
from scheduler.snapshot import NodeSnapshot, Snapshot

# Tasks beyond which nobody counts how many more would fit.
HEADROOM_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class LoseNodes:
    """Nodes die, with all that runs there."""

    node_ids: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class LosePlace:
    """All nodes in one place die: a zone, a rack.

    Attributes:
        topology: what makes it a place, "node.labels.zone".
        name: which place.
    """

    topology: str
    name: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Nodes take nothing new, and their tasks move elsewhere."""

    node_ids: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """A service has another number of tasks; of fewer, those go from where it has most."""

    demand: Demand
    replicas: int


@dataclass(frozen=True, slots=True)
class Submit:
    """Tasks come in addition: a new stack."""

    groups: tuple[Group, ...]


Change = LoseNodes | LosePlace | Drain | Scale | Submit


@dataclass(frozen=True, slots=True)
class Outcome:
    """What would come of it.

    Attributes:
        plan: where waiting tasks would go, and why others could not go anywhere.
        displaced: tasks that lost their node, and which that was.
        removed: tasks that would not be there any more.
        demands: of each task that waited.
        after: the cluster with the plan carried out.
    """

    plan: Plan
    displaced: Mapping[TaskId, NodeId] = field(default_factory=dict)
    removed: tuple[TaskId, ...] = ()
    demands: Mapping[TaskId, Demand] = field(default_factory=dict)
    after: Snapshot = field(default_factory=Snapshot)

    @property
    def unplaceable(self) -> tuple[TaskId, ...]:
        """Tasks that would have no place, in the order in which they waited."""
        return tuple(task_id for task_id in self.demands if task_id not in self.plan.placements)


def simulate(
    snapshot: Snapshot, changes: Iterable[Change], *, strategy: Strategy = Strategy.BINPACK
) -> Outcome:
    """Return what would come of *changes*."""
    world = _World(snapshot)
    for change in changes:
        world.apply(change)
    plan = place(world.snapshot, group(world.waiting), strategy=strategy)
    demands = {task.id: task.demand for task in world.waiting}
    return Outcome(
        plan=plan,
        displaced=world.displaced,
        removed=tuple(world.removed),
        demands=demands,
        after=carried_out(world.snapshot, plan.placements, demands),
    )


def headroom(snapshot: Snapshot, demand: Demand, *, strategy: Strategy = Strategy.BINPACK) -> int:
    """Return how many more tasks of *demand* there is room for, ``HEADROOM_MAX`` at most."""
    if demand.flaws:
        return 0
    board = Board(snapshot, {demand.service: (demand.service_id,)} if demand.service else {})
    found = candidates(board, demand, HEADROOM_MAX)
    most = min(int(np.minimum(found.limits, HEADROOM_MAX).sum()), HEADROOM_MAX)
    return len(choose(board, demand, most, strategy)) if most else 0


def not_survived(
    snapshot: Snapshot, *, strategy: Strategy = Strategy.BINPACK
) -> dict[NodeId, tuple[TaskId, ...]]:
    """Return the nodes whose loss the others could not make up for, and what would be left out.

    None: the cluster could lose any one node (N+1 holds).
    """
    found: dict[NodeId, tuple[TaskId, ...]] = {}
    for node in sorted(snapshot.nodes.values(), key=lambda node: node.id):
        if node.is_alive and node.tasks:
            left = simulate(snapshot, [LoseNodes((node.id,))], strategy=strategy).unplaceable
            if left:
                found[node.id] = left
    return found


class _World:
    """A snapshot that is being changed, and what waits in it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.waiting: list[PendingTask] = []
        self.displaced: dict[TaskId, NodeId] = {}
        self.removed: list[TaskId] = []

    def apply(self, change: Change) -> None:
        match change:
            case LoseNodes():
                self._vacate(change.node_ids, lost=True)
            case LosePlace():
                nodes = self.snapshot.nodes.values()
                there = (n.id for n in nodes if n.facts.find(change.topology) == change.name)
                self._vacate(sorted(there), lost=True)
            case Drain():
                self._vacate(change.node_ids, lost=False)
            case Scale():
                self._scale(change.demand, change.replicas)
            case Submit():
                for each in change.groups:
                    only = each.node_ids or (NodeId(""),) * len(each.task_ids)
                    for task_id, node_id in zip(each.task_ids, only, strict=True):
                        self.waiting.append(PendingTask(task_id, each.demand, node_id))

    def _vacate(self, node_ids: Sequence[NodeId], *, lost: bool) -> None:
        """Take nodes away; their tasks wait for other nodes, unless they belong to theirs."""
        fresh: dict[NodeId, NodeSnapshot | None] = {}
        for node_id in dict.fromkeys(node_ids):
            node = self.snapshot.nodes.get(node_id)
            if node is None:
                continue
            moving = {
                task_id: demand
                for task_id, demand in node.tasks.items()
                if not demand.pinned and task_id not in node.leaving
            }
            for task_id in sorted(moving):
                self.displaced[task_id] = node_id
                self.waiting.append(PendingTask(task_id, moving[task_id]))
            if lost:
                fresh[node_id] = replace(less(node, moving), state=NodeState.DOWN)
            else:
                fresh[node_id] = replace(less(node, moving), availability=Availability.DRAIN)
        self.snapshot = self.snapshot.changed(fresh)

    def _scale(self, demand: Demand, replicas: int) -> None:
        here = self._tasks_of(demand.service_id)
        waiting = [task for task in self.waiting if task.demand.service_id == demand.service_id]
        surplus = sum(map(len, here.values())) + len(waiting) - replicas
        for number in range(-surplus):
            task_id = TaskId(f"{demand.service or demand.service_id}+{number + 1}")
            self.waiting.append(PendingTask(task_id, demand))
        while surplus > 0 and waiting:  # what does not run yet goes first
            self._forget(waiting.pop())
            surplus -= 1
        gone: dict[NodeId, dict[TaskId, Demand]] = {}
        for _ in range(surplus):
            node_id = max(here, key=lambda each: (len(here[each]), each))
            task_id = here[node_id].pop()
            gone.setdefault(node_id, {})[task_id] = self.snapshot.nodes[node_id].tasks[task_id]
            self.removed.append(task_id)
        fresh = {id_: less(self.snapshot.nodes[id_], tasks) for id_, tasks in gone.items()}
        self.snapshot = self.snapshot.changed(fresh)

    def _forget(self, task: PendingTask) -> None:
        self.waiting.remove(task)
        if task.id in self.displaced:
            self.removed.append(task.id)

    def _tasks_of(self, service_id: ServiceId) -> dict[NodeId, list[TaskId]]:
        found: dict[NodeId, list[TaskId]] = {}
        for node in self.snapshot.nodes.values():
            if service_id in node.replicas:
                mine = [
                    task_id
                    for task_id, demand in node.tasks.items()
                    if demand.service_id == service_id and task_id not in node.leaving
                ]
                if mine:
                    found[node.id] = sorted(mine)
        return found
