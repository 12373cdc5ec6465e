"""What comes of an imagined cluster: where tasks go, who finds no place, how much room is left.

Pure, and the scheduler's own ``place`` throughout, so what is foreseen is what would be done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from cluster.model import (
    NO_NODE,
    NodeId,
    NodeState,
    ServiceSpec,
    Strategy,
    Task,
    TaskId,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from manager.control.imagining import Arrival, World
from scheduler import (
    Demand,
    Group,
    Hold,
    Ledger,
    NodeSnapshot,
    PendingTask,
    Snapshot,
    group,
    place,
)

# Passes until all has settled: each may stop tasks for others, which then look for a place too.
PASSES_MAX = 5

# As far as headroom is counted.
HEADROOM_MAX = 10_000

# Nodes that are tried when it is asked which can be spared: each costs a pass. Those with the
# most tasks come first.
SPARED_MAX = 300

# Of tasks that were stopped in the last pass that was looked at.
_MAKES_WAY = "it makes way for a task of a higher priority"

_ASSIGNED = TaskStatus(state=TaskState.ASSIGNED)


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a task that does not stay as it is.

    Attributes:
        name: "web.3".
        left, found: names of nodes; empty for none.
        reason: why it finds no place.
    """

    name: str
    left: str
    found: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """How many more tasks of a service fit; *more*: counting ended before the room did."""

    service: str
    tasks: int
    more: bool


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would be.

    Attributes:
        fates: of the tasks that do not stay as they are, by name.
        staying, ending: how many do, and how many nobody wants any more.
        rooms: of the services asked for.
        indispensable: nodes without which so many tasks would find no place, the worst first.
        untried: nodes that were not tried for that, because there are so many.
        capacity, reserved: of the nodes that can be reached.
    """

    fates: tuple[Fate, ...]
    staying: int
    ending: int
    rooms: tuple[Room, ...]
    indispensable: Sequence[tuple[str, int]]
    untried: int
    capacity: Resources
    reserved: Resources
    revision: int


def foreseen(
    world: World, *, strategy: Strategy, headroom: Sequence[str], spare: bool, revision: int
) -> Outlook:
    """Let the scheduler place what arrives, until all has settled; then look at what is left."""
    settling = _Settling(world, strategy)
    settling.run()
    snapshot = settling.ledger.snapshot()
    ready = [n for n in world.nodes.values() if n.status.state is NodeState.READY]
    indispensable, untried = _unspared(snapshot, strategy) if spare else ((), 0)
    return Outlook(
        fates=tuple(sorted(settling.fates(), key=lambda fate: _in_order(fate.name))),
        staying=len(world.staying) - len(settling.evicted),
        ending=world.ending,
        rooms=tuple(_room(world, name, snapshot, strategy) for name in headroom),
        indispensable=indispensable,
        untried=untried,
        capacity=sum((node.description.capacity for node in ready), Resources()),
        reserved=sum((snapshot.nodes[node.id].reserved for node in ready), Resources()),
        revision=revision,
    )


class _Settling:
    """Passes of the scheduler over an imagined cluster, whose tasks stop and start at once."""

    def __init__(self, world: World, strategy: Strategy) -> None:
        self._world = world
        self._strategy = strategy
        self.ledger = Ledger(self._spec_of)
        for node in world.nodes.values():
            self.ledger.apply_node(node)
        for task in world.staying:
            self.ledger.apply_task(task)
        self._staying = {task.id: task for task in world.staying}
        self._waiting = {arrival.task.id: arrival for arrival in world.arrivals}
        self._placed: dict[TaskId, tuple[Arrival, NodeId]] = {}
        self._reasons: dict[TaskId, str] = {}
        self.evicted: set[TaskId] = set()

    def run(self) -> None:
        holds: tuple[Hold, ...] = ()
        for _ in range(PASSES_MAX):
            pending = [
                PendingTask(task_id, self.ledger.demand_of(each.task), each.task.node_id)
                for task_id, each in self._waiting.items()
            ]
            snapshot = self.ledger.snapshot()
            plan = place(snapshot, group(pending), strategy=self._strategy, holds=holds)
            holds = plan.holds
            self._reasons = {
                task_id: str(unplaced)
                for unplaced in plan.unplaced
                for task_id in unplaced.task_ids
            }
            for volume, node_id in plan.volumes.items():
                self._settle(volume, node_id)
            for task_id, node_id in plan.placements.items():
                arrival = self._waiting.pop(task_id)
                self._placed[task_id] = arrival, node_id
                items = dict(plan.items.get(task_id, {}))
                self.ledger.apply_task(_bound(arrival.task, node_id, items))
            for task_id in plan.evictions:
                self._evict(task_id)
            if not plan.evictions:
                return

    def fates(self) -> Iterator[Fate]:
        """Yield what became of every task that did not stay."""
        for arrival, node_id in self._placed.values():
            yield Fate(arrival.name, self._name(arrival.left), self._name(node_id))
        for task_id, arrival in self._waiting.items():
            reason = self._reasons.get(task_id, _MAKES_WAY)
            yield Fate(arrival.name, self._name(arrival.left), "", reason)

    def _settle(self, volume: str, node_id: NodeId) -> None:
        node = self._world.nodes[node_id]
        spec = msgspec.structs.replace(node.spec, volumes=(*node.spec.volumes, volume))
        self.ledger.apply_node(msgspec.structs.replace(node, spec=spec))

    def _evict(self, task_id: TaskId) -> None:
        """Stop a task at once, and let it look for another place."""
        self.ledger.remove_task(task_id)
        if task_id in self._placed:
            arrival, _ = self._placed.pop(task_id)
        else:
            task = self._staying[task_id]
            self.evicted.add(task_id)
            wants = msgspec.structs.replace(task, node_id=NO_NODE, status=TaskStatus())
            arrival = Arrival(wants, self._world.name_of(task), task.node_id)
        self._waiting[task_id] = arrival

    def _name(self, node_id: NodeId) -> str:
        node = self._world.nodes.get(node_id)
        return node.description.hostname or node_id if node else node_id

    def _spec_of(self, task: Task) -> ServiceSpec | None:
        return self._world.specs.get((task.service_id, task.spec_version))


def _bound(task: Task, node_id: NodeId, items: dict[str, tuple[str, ...]]) -> Task:
    return msgspec.structs.replace(task, node_id=node_id, status=_ASSIGNED, generic_items=items)


def _room(world: World, name: str, snapshot: Snapshot, strategy: Strategy) -> Room:
    """Count how many more tasks of a service fit as they are: nobody makes way for them."""
    service = world.services[name]
    demand = replace(
        Demand.of(service.id, service.spec, service.spec_version), gang="", preempts=False
    )
    tasks = tuple(TaskId(f"more {number}") for number in range(HEADROOM_MAX))
    plan = place(snapshot, [Group(demand, tasks)], strategy=strategy)
    return Room(name, len(plan.placements), len(plan.placements) == HEADROOM_MAX)


def _unspared(snapshot: Snapshot, strategy: Strategy) -> tuple[list[tuple[str, int]], int]:
    """Find the nodes whose tasks would not all find a place elsewhere.

    Returns:
        Their names with how many would not, the worst first; and how many were not tried.
    """
    alive = [node for node in snapshot.nodes.values() if node.is_alive and node.tasks]
    alive.sort(key=lambda node: (-node.task_count, node.id))
    found: list[tuple[str, int]] = []
    for node in alive[:SPARED_MAX]:
        pending = [
            PendingTask(task_id, replace(demand, gang="", preempts=False))
            for task_id, demand in node.tasks.items()
            if not demand.pinned
        ]
        without = snapshot.changed({node.id: _emptied(node)})
        plan = place(without, group(pending), strategy=strategy)
        if lost := len(pending) - len(plan.placements):
            found.append((node.name, lost))
    return sorted(found, key=lambda each: (-each[1], each[0])), max(0, len(alive) - SPARED_MAX)


def _emptied(node: NodeSnapshot) -> NodeSnapshot:
    """Return the node as it is once it is known to be lost, and its tasks with it."""
    return NodeSnapshot(facts=node.facts, state=NodeState.DOWN, volumes=node.volumes)


def _in_order(name: str) -> tuple[str, int, str]:
    """Return what puts web.2 before web.10."""
    service, _, place = name.rpartition(".")
    return service, int(place) if place.isdecimal() else 0, place
