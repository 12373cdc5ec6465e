"""Preference: among the nodes that may run a task, which one should.

A rank is compared term by term, the smallest wins, and the node's id breaks what is still a
tie. Three rules, told at length in docs/scheduler.md:

* replicas keep apart: while others have room, no node holds more than a third of a service;
* tasks with reservations are packed: a node in use before an empty one, then the best fit;
* tasks without reservations have no size to be packed by: they are spread by count.
"""

from collections.abc import Callable, Iterable
from enum import Enum

from cluster.model import NodeState
from scheduler.demand import Demand
from scheduler.room import Room

Rank = tuple[int, int, float]

# The loss of one node shall cost a service at most a third of its replicas: with less it would
# need more nodes than small clusters have, and packing would have nothing left to decide.
SHARES = 3


class Strategy(Enum):
    BINPACK = "binpack"  # few nodes, well filled; keeps room for what is large
    SPREAD = "spread"  # as evenly by count as can be


def ranking(
    demand: Demand, strategy: Strategy, rooms: Iterable[Room], waiting: int
) -> Callable[[Room], Rank]:
    """Return the function that ranks nodes for the next task of *demand*.

    Args:
        demand: what the task asks for.
        strategy: how tasks with reservations are laid out; others are always spread.
        rooms: all nodes, before any of the waiting tasks is placed.
        waiting: how many tasks of *demand* are to be placed.
    """
    service_id = demand.service_id
    if strategy is Strategy.SPREAD or not any(demand.need):
        return lambda room: (room.replicas(service_id), room.task_count, 0.0)

    alive = (room for room in rooms if room.node.state is NodeState.READY)
    share = -(-(sum(room.replicas(service_id) for room in alive) + waiting) // SHARES)

    def packed(room: Room) -> Rank:
        beyond_share = max(0, room.replicas(service_id) + 1 - share) if service_id else 0
        return beyond_share, int(not room.task_count), leftover(demand, room)

    return packed


def leftover(demand: Demand, room: Room) -> float:
    """Return how much would be left of the node, and how lopsidedly; 0 if it were full.

    The squares of the free fractions in each dimension, added up. Squares punish a remainder
    that is large in one dimension and small in another, which no task may ever use, more than
    the same amount in equal parts. After Panigrahy et al., "Heuristics for Vector Bin Packing"
    (2011); there the norm weighs dimensions by their demand, here by the node's capacity.
    """
    total = 0.0
    for needed, free, capacity in zip(demand.need, room.free, room.capacity, strict=True):
        if capacity > 0:
            share = (free - needed) / capacity
            total += share * share
    return total
