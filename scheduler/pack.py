"""Packing: many classes at once, node by node instead of task by task.

Whoever serves tasks one by one has to live with what came before. When many classes wait
together and there is room for all, their order is nobody's business, and the nodes can be
filled one after the other, each time with the task that suits best what is left of the node.
After Panigrahy et al., "Heuristics for Vector Bin Packing" (2011), who find this (bin-centric)
way better than every task-centric one. Two of their measures are tried, and the better plan is
taken: the distance (L2) between what is left of the node and what the task needs, and their dot
product; dimensions weigh as much as they are in demand. Ours differs in three things: nodes
need not be empty or alike; several tasks are taken before the next look, as long as half of
what is left stays free; of very many kinds of tasks a part is looked at.

What cannot be placed like this is left to ``scheduler.fill``, in order, so that nobody is
overtaken for a better packing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cluster.model import ServiceId, TaskId
from scheduler.arrays import Bools, Floats, Ints
from scheduler.board import Board
from scheduler.demand import Demand
from scheduler.rank import share_of
from scheduler.table import need_columns

# So many different sizes have to wait together before order is given up for a better packing.
SIZES_MIN = 8

# Sizes that are compared for one place. With more of them the best of a part is as good as the
# best of all, and the time stays proportional to the tasks.
COMPARED_MAX = 2048

# Sizes that are put in order for one look; few nodes take more of them at a time.
_LOOK = 64

# With more room than that on a node, sums of what goes there might not fit into 64 bits.
FREE_MAX = 2**56

# A plan that needs so little more than the least possible is not tried to be bettered.
GOOD_ENOUGH = 1.01


@dataclass(frozen=True, slots=True)
class Item:
    """Tasks of one size.

    Attributes:
        demand: of each; of the first, if they only look alike to the nodes.
        task_ids: oldest first.
        services: of each, if they differ: the first tasks of theirs, so that they play no part.
    """

    demand: Demand
    task_ids: tuple[TaskId, ...]
    services: tuple[ServiceId, ...] = ()


@dataclass(frozen=True, slots=True)
class _Problem:
    """Items as columns.

    Attributes:
        rows: nodes in the order in which they are filled.
        need: (dimension, item), in the dimensions that any item needs.
        dimensions: their indices in the table.
        counts: tasks of each item.
        limits: of each item: tasks on one node.
        terrains: of each item: an index into ``allowed``.
        allowed: for each terrain which rows of the table suit it.
        here: (item, row) of tasks of its service that are there already.
    """

    rows: list[int]
    need: Ints
    dimensions: list[int]
    counts: Ints
    limits: Ints
    terrains: Ints
    allowed: list[Bools]
    here: dict[int, list[tuple[int, int]]]


def pack(board: Board, items: Sequence[Item]) -> Ints | None:
    """Return the row of each task of each item, one after the other; None if any has none.

    Books nothing.
    """
    problem = _problem(board, items)
    if problem is None:
        return None
    least = _volume_bound(board, problem)
    best: Ints | None = None
    used_least = 0
    for measure in (_distance, _product):
        found = _Packing(board, problem, measure).run()
        if found is None:
            continue
        used = len(np.unique(found))
        if best is None or used < used_least:
            best, used_least = found, used
        if used_least <= least * GOOD_ENOUGH:
            break
    return best


def _problem(board: Board, items: Sequence[Item]) -> _Problem | None:
    table = board.table
    needs = [item.demand.need for item in items]
    names = sorted({name for need in set(needs) for name, _ in need})
    if any(name not in table.dimensions for name in names):
        return None
    dimensions = [table.dimensions[name] for name in names]
    if int(board.free[dimensions].max(initial=0)) > FREE_MAX:
        return None
    need = need_columns(needs, names)
    terrains: dict[tuple[object, ...], int] = {}
    allowed: list[Bools] = []
    for item in items:
        if item.demand.terrain not in terrains:
            terrains[item.demand.terrain] = len(terrains)
            mask = np.zeros(len(table), dtype=np.bool_)
            mask[board.allowed(item.demand)] = True
            allowed.append(mask)
    kinds = np.array([terrains[item.demand.terrain] for item in items], dtype=np.int64)
    counts = np.array([len(item.task_ids) for item in items], dtype=np.int64)
    here: dict[int, list[tuple[int, int]]] = {}
    limits = counts.copy()
    for index, item in enumerate(items):
        demand = item.demand
        if item.services or not demand.service_id:
            continue
        replicas = board.replicas_or_none(demand.service_id)
        # No node shall get more than its share, unless there are too few nodes for that.
        nodes = max(int(np.count_nonzero(allowed[kinds[index]])), 1)
        fair = -(-len(item.task_ids) // nodes)
        limit = max(share_of(board, replicas, len(item.task_ids)), fair)
        if demand.max_replicas_per_node:
            limit = min(limit, demand.max_replicas_per_node)
        limits[index] = limit
        if replicas is not None:
            for row in np.flatnonzero(replicas).tolist():
                here.setdefault(row, []).append((index, int(replicas[row])))
    rows = _fill_order(board, need, dimensions, np.logical_or.reduce(allowed))
    return _Problem(rows, need, dimensions, counts, limits, kinds, allowed, here)


def _fill_order(board: Board, need: Ints, dimensions: list[int], allowed: Bools) -> list[int]:
    """Return nodes that take anything: those in use first, and of these the fullest."""
    fits = allowed & (board.slots > 0)
    for index, least in zip(dimensions, need.min(axis=1).tolist(), strict=True):
        fits &= board.free[index] >= least
    rows = np.flatnonzero(fits)
    left = np.zeros(len(rows))
    for index in dimensions:
        free = board.free[index][rows] * board.table.per_unit[index][rows]
        left += free * free
    is_empty = board.task_count[rows] == 0
    order: list[int] = rows[np.lexsort([left, is_empty])].tolist()
    return order


def _volume_bound(board: Board, problem: _Problem) -> int:
    """Return how many nodes are needed at least, the largest there are filled to the brim."""
    least = 0
    for dimension, index in enumerate(problem.dimensions):
        total = int((problem.need[dimension].astype(object) * problem.counts).sum())
        free = np.sort(board.free[index][problem.rows])[::-1]
        least = max(least, int(np.searchsorted(np.cumsum(free.astype(float)), total)) + 1)
    return least


def _distance(sizes: Floats, left: Floats, weights: Floats) -> Floats:
    """Score tasks by how little they would leave, in squares; the higher the better."""
    score = np.zeros(sizes.shape[1])
    for size, room, weight in zip(sizes, left.tolist(), weights.tolist(), strict=True):
        rest = room - size
        score -= weight * rest * rest
    return score


def _product(sizes: Floats, left: Floats, weights: Floats) -> Floats:
    """Score tasks by how much of what is left they take, where it is left."""
    score = np.zeros(sizes.shape[1])
    for size, factor in zip(sizes, (weights * left).tolist(), strict=True):
        score += factor * size
    return score


Measure = Callable[[Floats, Floats, Floats], Floats]


class _Packing:
    """One attempt at a plan, by one measure."""

    def __init__(self, board: Board, problem: _Problem, measure: Measure) -> None:
        self._board = board
        self._problem = problem
        self._measure = measure
        self._counts = problem.counts.copy()
        self._total = (problem.need.astype(np.float64) * problem.counts).sum(axis=1)
        # The sizes that are left, the large ones first: a part of them is a fair sample.
        self._open = np.argsort(-problem.need.astype(np.float64).sum(axis=0), kind="stable")
        self._parts: list[tuple[Ints, Ints, Ints]] = []

    def run(self) -> Ints | None:
        """Return the rows of the tasks, item by item, or None if some are left."""
        for row in self._problem.rows:
            self._fill(row)
            if not len(self._open):
                rows, items, numbers = map(np.concatenate, zip(*self._parts, strict=True))
                order = np.argsort(items, kind="stable")
                found: Ints = np.repeat(rows[order], numbers[order])
                return found
        return None

    def _fill(self, row: int) -> None:
        """Put on one node what suits it best, until nothing fits any more."""
        problem, board = self._problem, self._board
        left = board.free[problem.dimensions, row]
        per_unit = board.table.per_unit[problem.dimensions, row]
        weights = self._total * per_unit
        weights /= max(float(weights.max()), np.finfo(float).tiny)
        slots = int(board.slots[row])
        at = self._candidates(row, left)
        limits = np.minimum(self._counts[at], self._limits(row, at))
        at, limits = at[limits > 0], limits[limits > 0]
        need = problem.need[:, at]
        sizes = need * per_unit[:, None]
        fits = np.ones(len(at), dtype=np.bool_)
        while slots > 0 and fits.any():
            scores = np.where(fits, self._measure(sizes, left * per_unit, weights), -np.inf)
            chosen, number = _best(scores, need, limits, left)
            number = np.minimum(number, np.maximum(slots - (np.cumsum(number) - number), 0))
            slots -= int(number.sum())
            taken = (need[:, chosen] * number).sum(axis=1)
            left = left - taken
            limits[chosen] -= number
            self._take(row, at[chosen], number, taken)
            fits = limits > 0
            for size, room in zip(need, left.tolist(), strict=True):
                fits &= size <= room
            if 2 * np.count_nonzero(fits) < len(at):
                at, limits, need, sizes = at[fits], limits[fits], need[:, fits], sizes[:, fits]
                fits = np.ones(len(at), dtype=np.bool_)
        if (self._counts[self._open] == 0).any():
            self._open = self._open[self._counts[self._open] > 0]

    def _candidates(self, row: int, left: Ints) -> Ints:
        """Return items that fit and may go to the node; of very many a part."""
        problem, at = self._problem, self._open
        fits = np.ones(len(at), dtype=np.bool_)
        for size, room in zip(problem.need, left.tolist(), strict=True):
            fits &= size[at] <= room
        if len(problem.allowed) > 1:
            suits = np.array([mask[row] for mask in problem.allowed])
            fits &= suits[problem.terrains[at]]
        at = at[fits]
        return at[:: -(-len(at) // COMPARED_MAX)] if len(at) > COMPARED_MAX else at

    def _limits(self, row: int, at: Ints) -> Ints:
        limits = self._problem.limits
        if row in self._problem.here:
            limits = limits.copy()
            for index, number in self._problem.here[row]:
                limits[index] -= number
        return limits[at]

    def _take(self, row: int, items: Ints, numbers: Ints, taken: Ints) -> None:
        self._counts[items] -= numbers
        self._total -= taken
        self._parts.append((np.full(len(items), row), items, numbers))


def _best(scores: Floats, need: Ints, limits: Ints, left: Ints) -> tuple[Ints, Ints]:
    """Return the best tasks that together take no more than half of what is left; at least one.

    That is: which items, and how many of each.
    """
    first = int(scores.argmax())
    half = left // 2
    if (need[:, first] > half).any():
        return np.array([first]), np.ones(1, dtype=np.int64)
    order = np.flatnonzero(np.isfinite(scores))
    if len(order) > _LOOK:
        bound = np.partition(scores[order], len(order) - _LOOK)[len(order) - _LOOK]
        order = order[scores[order] >= bound][: 2 * _LOOK]  # there may be many equals
    order = order[np.argsort(-scores[order], kind="stable")][:_LOOK]
    wanted = np.minimum(limits[order], _fits(need[:, order], half))
    taken = np.cumsum(need[:, order] * wanted, axis=1)
    whole = int(np.count_nonzero((taken <= half[:, None]).all(axis=0)))
    if not wanted[:whole].any():
        return np.array([first]), np.ones(1, dtype=np.int64)
    return order[:whole], wanted[:whole]


def _fits(need: Ints, left: Ints) -> Ints:
    """Return how many tasks of each size go into what is left, if there are no others."""
    many = np.full(need.shape, np.iinfo(np.int64).max)
    np.floor_divide(left[:, None], need, out=many, where=need > 0)
    fits: Ints = many.min(axis=0)
    return fits
