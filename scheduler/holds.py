"""Holds: room that is set aside for a task that could not be placed, so that its turn comes.

Two things need that:

* a task that others were stopped for: they leave one by one, and what they leave must not be
  taken by somebody smaller before it is enough;
* a large task that small ones overtake: each takes room that came free before it was enough for
  the large one. So the first waiting task of a class holds the node that is the nearest miss:
  what comes free there *from now on* is set aside for it. What was free before, and could not
  help it, stays open to all, so a task that may wait for ever blocks nothing.

A hold is made by one pass and handed to the next (``Plan.holds``). A lost one costs time only.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from cluster.model import NodeId, ServiceId, TaskId
from scheduler.arrays import Floats, Ints
from scheduler.board import Board
from scheduler.demand import Demand, Group
from scheduler.dimensions import SLOTS, Amounts
from scheduler.filters import PASSING, has_ports_free, missing
from scheduler.plan import Hold
from scheduler.preempt import NOBODY, Budgets, Preemption, Victims

# Tasks that hold a node at a time. Each can idle up to a node's room; the oldest come first,
# and when one has found its place the next begins to hold.
HOLDS_MAX = 64

# Tasks of a class that others are stopped for in one pass. More would be decided on nodes whose
# tasks are on their way out already.
PREEMPTING_MAX = 1000


class Holds:
    """What one pass sets aside.

    Attributes:
        evictions: tasks to stop, and for whom.
        made: the holds, to be given to the next pass once they were ``closed``.
    """

    def __init__(
        self,
        board: Board,
        pending: Iterable[Group],
        earlier: Sequence[Hold] = (),
        allowances: Mapping[ServiceId, int] = MappingProxyType({}),
    ) -> None:
        self._allowances = allowances
        self.evictions: dict[TaskId, TaskId] = {}
        self._board = board
        self._earlier = {hold.task_id: hold for hold in earlier}
        self._made: list[tuple[Hold, int]] = []
        self._held: set[int] = set()
        self._pending = pending
        self._preemption: Preemption | None = None
        self._coming: dict[int, dict[str, int]] = {}

    @property
    def count(self) -> int:
        """How many tasks hold a node."""
        return len(self._made)

    def concern(self, groups: Iterable[Group]) -> bool:
        """Tell whether any of these tasks has a hold already."""
        return bool(self._earlier) and any(
            task_id in self._earlier for group in groups for task_id in group.task_ids
        )

    def make_room(self, demand: Demand, tasks: Sequence[tuple[TaskId, NodeId]]) -> list[NodeId]:
        """See to it that waiting tasks of a class come to have room.

        Args:
            demand: of each.
            tasks: which, and the only node of each or none, the oldest first.

        Returns:
            The nodes on which tasks are leaving for them.
        """
        emptied: list[NodeId] = []
        rows = self._near_misses(demand)
        if demand.preempts and len(rows):
            offers = _Offers(self, demand, rows)
            for task_id, node_id in tasks[:PREEMPTING_MAX]:
                offer = offers.best(node_id)
                if offer is None:
                    break
                self._preempt(demand, task_id, *offer)
                emptied.append(self._board.table.ids[offer[0]])
        if not emptied and tasks and not tasks[0][1] and len(self._made) < HOLDS_MAX:
            self._wait(demand, tasks[0][0], rows)
        return emptied

    def closed(self) -> tuple[Hold, ...]:
        """Return the holds, with what is free where when all is planned."""
        return tuple(
            Hold(hold.task_id, hold.node_id, hold.room, self._free(row, hold), hold.victims)
            for hold, row in self._made
        )

    # --- preemption ----------------------------------------------------------------------------

    def _preempt(self, demand: Demand, task_id: TaskId, row: int, victims: Victims) -> None:
        """Stop victims for one task, and hold their node."""
        self._preempting.take(victims)
        for victim, _ in victims.tasks:
            self.evictions[victim] = task_id
        self._claim(demand, task_id, row, victims)

    @property
    def _preempting(self) -> Preemption:
        if self._preemption is None:
            waiting: dict[ServiceId, int] = {}
            for group in self._pending:
                id_ = group.demand.service_id
                waiting[id_] = waiting.get(id_, 0) + len(group.task_ids)
            budgets = Budgets(self._board.snapshot, waiting, self._allowances)
            self._preemption = Preemption(budgets)
        return self._preemption

    def row_of(self, node_id: NodeId) -> int:
        return self._board.table.rows.get(node_id, -1)

    def victims(self, demand: Demand, row: int) -> Victims | None:
        """Return the cheapest that would make room on a node; None if it cannot be made."""
        node = self._board.table.nodes[row]
        coming = self._coming_to(row)
        lacks = tuple(
            (name, amount - coming.get(name, 0))
            for name, amount in missing(demand, self._board, row)
            if amount > coming.get(name, 0)
        )
        victims = self._preempting.cheapest(demand, node, lacks)
        if victims is NOBODY and not (coming or node.leaving):
            return None  # it lacks nothing that could be freed
        return victims

    def _coming_to(self, row: int) -> dict[str, int]:
        """Return what leaving tasks will free on a node and nobody has claimed yet."""
        coming = self._coming.get(row)
        if coming is None:
            node = self._board.table.nodes[row]
            coming = self._coming[row] = {}
            for task_id in node.leaving:
                if task_id in node.tasks:
                    _add(coming, node.tasks[task_id])
        return coming

    def _claim(self, demand: Demand, task_id: TaskId, row: int, victims: Victims) -> None:
        """Set aside what is free for the task, and claim the rest of what is coming."""
        coming = self._coming_to(row)
        for _, other in victims.tasks:
            _add(coming, other)
        for name, amount in missing(demand, self._board, row):
            coming[name] = coming.get(name, 0) - amount
        room = self._aside(row, dict(_needs(demand)))
        hold = Hold(
            task_id,
            self._board.table.ids[row],
            room,
            victims=tuple(sorted(victim for victim, _ in victims.tasks)),
        )
        self._made.append((hold, row))
        self._held.add(row)

    # --- waiting -------------------------------------------------------------------------------

    def _wait(self, demand: Demand, task_id: TaskId, rows: Ints) -> None:
        """Hold the nearest miss for a task, or go on holding the one that it holds."""
        table = self._board.table
        earlier = self._earlier.get(task_id)
        row = self.row_of(earlier.node_id) if earlier else -1
        free = rows[~np.isin(rows, list(self._held))] if self._held else rows
        room: dict[str, int] = {}
        if earlier is not None and row in free:
            room = dict(earlier.room)
            seen, now = dict(earlier.seen), self._standing(row)
            for name, need in _needs(demand):
                gained = max(0, now[name] - seen.get(name, now[name]))
                room[name] = min(need, room.get(name, 0) + gained)
        elif len(free):
            row = int(free[self._distances(demand, free).argmin()])
        else:
            return
        hold = Hold(task_id, table.ids[row], self._aside(row, room))
        self._made.append((hold, row))
        self._held.add(row)

    def _near_misses(self, demand: Demand) -> Ints:
        """Return the nodes that would take a task if others left room and ports."""
        board = self._board
        table = board.table
        needs = table.needs(demand.need)
        rows = board.allowed(demand)
        if needs is None:
            return rows[:0]
        able = np.ones(len(table), dtype=np.bool_)
        for index, amount in needs:
            able &= table.capacity[index] >= amount
        for refuses in PASSING:
            if refuses is not has_ports_free or not demand.preempts:
                for refusal in refuses(demand, board):
                    able &= ~refusal.nodes
        near: Ints = rows[able[rows]]
        return near

    def _distances(self, demand: Demand, rows: Ints) -> Floats:
        """Return what is missing on each node, as shares of what is needed, added up."""
        board = self._board
        total: Floats = np.maximum(1 - board.slots[rows], 0).astype(np.float64)
        for index, amount in board.table.needs(demand.need) or ():
            total += np.maximum(1 - board.free[index][rows] / amount, 0)
        return total

    # --- what is free --------------------------------------------------------------------------

    def _aside(self, row: int, room: Mapping[str, int]) -> Amounts:
        return tuple(self._board.set_aside(row, room).items())

    def _free(self, row: int, hold: Hold) -> Amounts:
        """Return what nothing planned takes, in the dimensions of a hold's need."""
        board = self._board
        aside = dict(hold.room)
        found = [(SLOTS, int(board.slots[row]) + aside.get(SLOTS, 0))]
        for name, index in board.table.dimensions.items():
            found.append((name, int(board.free[index, row]) + aside.get(name, 0)))
        return tuple(found)

    def _standing(self, row: int) -> dict[str, int]:
        """Return what the snapshot has free."""
        table = self._board.table
        found = {name: int(table.free[index, row]) for name, index in table.dimensions.items()}
        return found | {SLOTS: int(table.slots[row])}


def _needs(demand: Demand) -> Iterator[tuple[str, int]]:
    yield SLOTS, 1
    yield from demand.need


def _add(amounts: dict[str, int], demand: Demand) -> None:
    for name, amount in _needs(demand):
        amounts[name] = amounts.get(name, 0) + amount


class _Offers:
    """The cheapest victims of each node for tasks of one class, the best first.

    With each eviction the others can only become dearer, as budgets shrink; so an offer that
    stands when it is looked at again is the best there is.
    """

    def __init__(self, holds: Holds, demand: Demand, rows: Ints) -> None:
        self._holds = holds
        self._demand = demand
        self._able = set(rows.tolist())
        offers = ((row, holds.victims(demand, row)) for row in rows.tolist())
        self._heap = [(victims.price, row) for row, victims in offers if victims is not None]
        heapq.heapify(self._heap)

    def best(self, node_id: NodeId) -> tuple[int, Victims] | None:
        """Return the best offer, or that of just *node_id* if it is given."""
        if node_id:
            row = self._holds.row_of(node_id)
            victims = self._holds.victims(self._demand, row) if row in self._able else None
            return (row, victims) if victims is not None else None
        while self._heap:
            price, row = self._heap[0]
            victims = self._holds.victims(self._demand, row)
            if victims is None:
                heapq.heappop(self._heap)
            elif victims.price == price:
                return row, victims
            else:
                heapq.heapreplace(self._heap, (victims.price, row))
        return None
