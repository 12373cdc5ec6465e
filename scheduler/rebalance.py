"""Rebalancing: the few moves that make a layout better than it has become.

A move costs a restart, so it has to pay: either the task is better off by a term of its rank
that people care for (it fails where it is, its place has more of the service than another, its
node holds more than its share, a wish is met), or it is one of those that empty a node. Nodes
are only emptied whole, onto nodes in use. Nothing is moved that asked to stay, belongs to its
node, or may not be missed for a moment; and nothing to where it could not be placed.
"""

import heapq
from collections.abc import Container
from dataclasses import dataclass, replace

import numpy as np

from cluster.model import Availability, NodeId, Strategy, TaskId
from scheduler.board import Board
from scheduler.changes import carried_out, less, without
from scheduler.demand import Demand, PendingTask, group
from scheduler.fill import candidates
from scheduler.place import place
from scheduler.rank import Ranks, share_of
from scheduler.snapshot import NodeSnapshot, Snapshot

# Terms of a rank that a restart is worth. The others (a better fit, fewer tasks of whatever
# kind, an image) only decide where there is nothing else to decide.
WORTH_IT = ("failing", "spread", "beyond", "missed", "replicas")

EMPTIED = "node emptied"

# Nodes of one class that are looked at closely for one move, of those that are equally bad.
WORST_MAX = 4


@dataclass(frozen=True, slots=True)
class Move:
    """A task that should go from one node to another.

    Attributes:
        gain: how much less the term is where it goes; of tasks that empty a node together,
            each one's part of that node.
        why: the term, or ``EMPTIED``.
    """

    task_id: TaskId
    source: NodeId
    target: NodeId
    gain: float
    why: str


def rebalance(
    snapshot: Snapshot,
    budget: int,
    *,
    strategy: Strategy = Strategy.BINPACK,
    movable: Container[TaskId] | None = None,
) -> tuple[Move, ...]:
    """Return at most *budget* moves, in the order in which to make them; none if none pays.

    Args:
        snapshot: the cluster.
        budget: moves at most.
        strategy: how tasks are laid out whose service does not say.
        movable: tasks that may be moved, as far as their services know; None: all.
    """
    better = _Better(snapshot, strategy, movable)
    moves = better.moves(budget)
    snapshot, moved = better.snapshot, {move.task_id for move in moves}
    for node_id in _emptiest(snapshot, strategy, movable):
        emptying = _emptying(snapshot, node_id, budget - len(moves), strategy)
        if emptying and moved.isdisjoint(move.task_id for move in emptying):
            moves += emptying
            moved.update(move.task_id for move in emptying)
            snapshot = _moved(snapshot, emptying)
    return tuple(moves)


class _Better:
    """Finds moves after which a task is better off itself, those that gain most first.

    Attributes:
        snapshot: with the moves made that were found so far.
    """

    def __init__(
        self, snapshot: Snapshot, strategy: Strategy, movable: Container[TaskId] | None = None
    ) -> None:
        self.snapshot = snapshot
        self._strategy = strategy
        self._movable = movable
        classes = {
            demand
            for node in snapshot.nodes.values()
            for task_id, demand in node.tasks.items()
            if is_movable(node, task_id, demand, movable)
        }
        self._classes = sorted(classes, key=lambda each: (each.service_id, each.version, str(each)))
        self._moved: set[TaskId] = set()

    def moves(self, budget: int) -> list[Move]:
        """Return at most *budget* moves; each is looked at again before it is taken."""
        found: list[Move] = []
        heap: list[tuple[tuple[int, float, TaskId], int]] = []
        for index in range(len(self._classes)):
            self._push(heap, index)
        while heap and len(found) < budget:
            key, index = heapq.heappop(heap)
            move = self._best(self._classes[index])
            if move is not None and _key(move) == key:
                found.append(move)
                self._moved.add(move.task_id)
                self.snapshot = _moved(self.snapshot, [move])
            self._push(heap, index)
        return found

    def pays(self, demands: set[Demand]) -> bool:
        """Tell whether a task of any of these classes would be better off elsewhere."""
        return any(self._best(demand) is not None for demand in demands)

    def _push(self, heap: list[tuple[tuple[int, float, TaskId], int]], index: int) -> None:
        move = self._best(self._classes[index])
        if move is not None:
            heapq.heappush(heap, (_key(move), index))

    def _best(self, demand: Demand) -> Move | None:
        moves = (self._from(demand, source) for source in self._promising(demand))
        return min((move for move in moves if move is not None), key=_key, default=None)

    def _promising(self, demand: Demand) -> list[NodeId]:
        """Return the nodes whose tasks of a class are worst off, in any term, if not all are."""
        board = Board(self.snapshot)
        rows = [
            row
            for row, node in enumerate(board.table.nodes)
            if node.is_alive and demand.service_id in node.replicas
        ]
        everywhere = np.union1d(board.allowed(demand), np.array(rows, dtype=np.int64))
        at = np.searchsorted(everywhere, rows)
        share = share_of(board, board.replicas_or_none(demand.service_id), 0)
        ranks = Ranks(board, demand, everywhere, share, self._strategy)
        found: dict[NodeId, None] = {}
        for name, column in ranks.columns(np.arange(len(everywhere))):
            if name.startswith(WORTH_IT) and len(at) and column[at].max() > column.min():
                worst = at[column[at] == column[at].max()][:WORST_MAX]
                found |= dict.fromkeys(board.table.ids[row] for row in everywhere[worst].tolist())
        return list(found)

    def _from(self, demand: Demand, source: NodeId) -> Move | None:
        """Return the best move of a task of a class from a node, if it pays."""
        node = self.snapshot.nodes[source]
        task_id = min(
            (
                task_id
                for task_id, other in node.tasks.items()
                if other == demand
                and task_id not in self._moved
                and is_movable(node, task_id, demand, self._movable)
            ),
            default=None,
        )
        if task_id is None:
            return None
        board = Board(self.snapshot.changed({source: less(node, {task_id: demand})}))
        rows = candidates(board, demand, 1).rows
        here = np.flatnonzero(rows == board.table.rows[source])
        if not len(here):
            return None  # it could not even be placed where it is: that is for others to mend
        share = share_of(board, board.replicas_or_none(demand.service_id), 1)
        ranks = Ranks(board, demand, rows, share, self._strategy)
        columns = ranks.columns(np.arange(len(rows)))
        best = int(np.lexsort([column for _, column in reversed(columns)])[0])
        for name, column in columns:
            gain = float(column[here[0]] - column[best])
            if gain:
                target = board.table.ids[int(rows[best])]
                worth_it = name.startswith(WORTH_IT)
                return Move(task_id, source, target, gain, name) if worth_it else None
        return None


def _key(move: Move) -> tuple[int, float, TaskId]:
    """Return what moves are ordered by: the first of the terms, then the largest gain."""
    return WORTH_IT.index(move.why.split()[0]), -move.gain, move.task_id


def is_movable(
    node: NodeSnapshot,
    task_id: TaskId,
    demand: Demand,
    movable: Container[TaskId] | None = None,
) -> bool:
    """Tell whether a task may be moved at all."""
    if movable is not None and task_id not in movable:
        return False
    stays = demand.stays or demand.pinned or demand.volumes or demand.gang
    return (
        node.is_alive and not stays and task_id not in node.leaving and demand.max_unavailable > 0
    )


def _emptiest(
    snapshot: Snapshot, strategy: Strategy, movable: Container[TaskId] | None
) -> list[NodeId]:
    """Return nodes that packing would rather not use, those with the fewest tasks first."""
    able = [
        node
        for node in snapshot.nodes.values()
        if node.tasks
        and len(node.tasks) == node.task_count
        and all(
            is_movable(node, task_id, demand, movable)
            and demand.need
            and (demand.strategy or strategy) is Strategy.BINPACK
            for task_id, demand in node.tasks.items()
        )
    ]
    return [node.id for node in sorted(able, key=lambda node: (len(node.tasks), node.id))]


def _emptying(snapshot: Snapshot, node_id: NodeId, budget: int, strategy: Strategy) -> list[Move]:
    """Return moves that empty a node onto others in use; none if that is not possible."""
    node = snapshot.nodes[node_id]
    if not 0 < len(node.tasks) <= budget:
        return []
    fresh: dict[NodeId, NodeSnapshot | None] = {
        each.id: replace(each, availability=Availability.PAUSE)
        for each in snapshot.nodes.values()
        if each.task_count == 0
    }
    fresh[node_id] = replace(less(node, node.tasks), availability=Availability.PAUSE)
    without_it = snapshot.changed(fresh)
    waiting = [PendingTask(task_id, demand) for task_id, demand in sorted(node.tasks.items())]
    plan = place(without_it, group(waiting), strategy=strategy)
    if plan.unplaced:
        return []
    gain = 1 / len(waiting)
    moves = [Move(each.id, node_id, plan.placements[each.id], gain, EMPTIED) for each in waiting]
    if not _fit_in_turn(snapshot, moves):
        return []
    # What an emptied node is worth is not worth a service's being apart, or near, or ready.
    if _Better(_moved(snapshot, moves), strategy).pays({each.demand for each in waiting}):
        return []
    return moves


def _fit_in_turn(snapshot: Snapshot, moves: list[Move]) -> bool:
    """Tell whether each move may be made after those before it.

    Together they may, but a task that must be near another one cannot go there first.
    """
    for move in moves:
        demand = snapshot.nodes[move.source].tasks[move.task_id]
        board = Board(without(snapshot, move.task_id))
        if board.table.rows[move.target] not in candidates(board, demand, 1).rows:
            return False
        snapshot = _moved(snapshot, [move])
    return True


def _moved(snapshot: Snapshot, moves: list[Move]) -> Snapshot:
    demands = {move.task_id: snapshot.nodes[move.source].tasks[move.task_id] for move in moves}
    leaving: dict[NodeId, dict[TaskId, Demand]] = {}
    for move in moves:
        leaving.setdefault(move.source, {})[move.task_id] = demands[move.task_id]
    left = snapshot.changed({id_: less(snapshot.nodes[id_], t) for id_, t in leaving.items()})
    return carried_out(left, {move.task_id: move.target for move in moves}, demands)
