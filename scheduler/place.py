"""Placement: the scheduler's one decision, ``place(snapshot, pending) -> plan``.

A pure function: no clock, no chance, no I/O, and the same answer to the same question (I15).
Whatever cannot be done is part of the answer, never an exception.

Tasks that have only one node to go to come first. Then each class of equal tasks in the order
given: every node is judged once, those that will do go onto a heap by rank, and each task, the
oldest first, takes the node on top. A task changes only the node it goes to, so only that one
is judged again: this gives, task by task, what a look at all nodes for each would give.
"""

import heapq
from collections.abc import Sequence

from cluster.model import NodeId, TaskId
from scheduler.demand import Demand, Group
from scheduler.filters import all_reasons, first_reason
from scheduler.plan import Plan, Reason, ReasonKind, Unplaced, count
from scheduler.rank import Rank, Strategy, ranking
from scheduler.room import Room
from scheduler.snapshot import Snapshot

Rooms = dict[NodeId, Room]


def place(
    snapshot: Snapshot, pending: Sequence[Group], *, strategy: Strategy = Strategy.BINPACK
) -> Plan:
    """Choose a node for each waiting task, or say why it has to wait.

    Args:
        snapshot: the cluster, without the waiting tasks.
        pending: the classes, in the order in which they are served; no task is in two.
        strategy: how tasks with reservations are laid out.
    """
    rooms = {node.id: Room(node) for node in snapshot.nodes.values()}
    placements: dict[TaskId, NodeId] = {}
    unplaced: list[Unplaced] = []
    for group in sorted(pending, key=lambda group: not group.node_ids):
        defects = group.demand.defects()
        if defects:
            unplaced.append(Unplaced(group.task_ids, defects=defects))
        elif group.node_ids:
            unplaced += _check(group, rooms, placements)
        else:
            unplaced += _choose(group, rooms, strategy, placements)
    return Plan(snapshot.version, placements, tuple(unplaced))


def _check(group: Group, rooms: Rooms, placements: dict[TaskId, NodeId]) -> list[Unplaced]:
    """Place each task on its own node, and return those whose node does not take them."""
    refused: list[Unplaced] = []
    for task_id, node_id in zip(group.task_ids, group.node_ids, strict=True):
        room = rooms.get(node_id)
        reasons = _reasons(group.demand, room)
        if room is None or reasons:
            name = room.node.name if room else node_id
            refused.append(Unplaced((task_id,), count(reasons), node_name=name))
        else:
            room.book(group.demand)
            placements[task_id] = node_id
    return refused


def _reasons(demand: Demand, room: Room | None) -> Sequence[Reason]:
    return all_reasons(demand, room) if room else [Reason(ReasonKind.GONE)]


def _choose(
    group: Group, rooms: Rooms, strategy: Strategy, placements: dict[TaskId, NodeId]
) -> list[Unplaced]:
    """Place tasks for as long as a node takes them, and return the rest."""
    demand = group.demand
    rank = ranking(demand, strategy, rooms.values(), len(group.task_ids))
    refusals: list[Reason] = []
    heap: list[tuple[Rank, NodeId, Room]] = []
    for room in rooms.values():
        reason = first_reason(demand, room)
        if reason:
            refusals.append(reason)
        else:
            heap.append((rank(room), room.id, room))
    heapq.heapify(heap)
    placed = 0
    for task_id in group.task_ids:
        if not heap:
            break
        _, node_id, room = heap[0]
        room.book(demand)
        placements[task_id] = node_id
        placed += 1
        reason = first_reason(demand, room)
        if reason:
            refusals.append(reason)
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (rank(room), node_id, room))
    left = group.task_ids[placed:]
    return [Unplaced(left, count(refusals))] if left else []
