"""Preference: among the nodes that may run a task, which one should.

A rank is compared term by term, the smallest wins, and the node's id breaks what is still a
tie. The terms, in their order; docs/scheduler.md tells them at length:

* failing: where this version failed time and again of late comes last;
* spread: fewest tasks of the service in the first topology's place, then in the second's, ...;
* beyond: replicas keep apart: while others have room, no node holds more than a third;
* missed: the weights of the wishes that the node does not meet;
* then tasks with reservations are packed: a node in use before an empty one, then the best fit;
  others, and all with the strategy spread, go by count: of the service, then of all tasks;
* image: where it is already.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cluster.model import Strategy
from scheduler.arrays import Floats, Ints
from scheduler.board import Board
from scheduler.demand import NO_SERVICE, Demand
from scheduler.terrain import Branches

# The loss of one node shall cost a service at most a third of its replicas: with less it would
# need more nodes than small clusters have, and packing would have nothing left to decide.
SHARES = 3

# From so many failures in the time that is looked back on, a node is to be avoided. Fewer may
# be the container's own doing.
FAILURES_MANY = 5


class Level(NamedTuple):
    """One level of spread preferences.

    Attributes:
        codes: of each candidate: its branch.
        counts: by branch: the tasks of the service on nodes that live.
        branches: of all nodes.
    """

    codes: Ints
    counts: Ints
    branches: Branches

    def branch_count(self, *, is_all: bool) -> int:
        """Return how many branches the candidates are in; *is_all*: they are all nodes."""
        if is_all:
            return len(self.branches.starts)
        return int(np.count_nonzero(np.bincount(self.codes)))


def share_of(board: Board, here: Ints | None, waiting: int) -> int:
    """Return how many replicas a node may hold before others are preferred.

    Of those on nodes that live and those waiting: replicas on a lost node are about to be
    replaced, and would be counted twice.

    Args:
        board: the nodes.
        here: tasks of the service on each of them; None if there are none.
        waiting: tasks to be placed.
    """
    alive = 0 if here is None else int(here[board.table.is_alive].sum())
    return -(-(alive + waiting) // SHARES)


class Ranks:
    """The terms of some nodes for the next task of a class.

    Terms that are the same for all of the nodes are None.

    Attributes:
        rows: of the nodes.
        packs: whether the class is packed rather than laid out by count.
        is_all: whether they are all nodes there are.
        counts: whether the tasks belong to a service, whose replicas keep apart.
        replicas: of the service on each; None if it has none.
        tasks: on each.
        names: of the terms that matter, in order; without failing and spread.
    """

    __slots__ = (
        "_board",
        "_need",
        "counts",
        "failing",
        "images",
        "is_all",
        "missed",
        "names",
        "packs",
        "replicas",
        "rows",
        "share",
        "spread",
        "tasks",
    )

    def __init__(
        self,
        board: Board,
        demand: Demand,
        rows: Ints,
        share: int,
        strategy: Strategy = Strategy.BINPACK,
    ) -> None:
        self.rows = rows
        self.share = share
        self.counts = demand.service_id != NO_SERVICE
        self.packs = (demand.strategy or strategy) is Strategy.BINPACK and bool(demand.need)
        self.is_all = len(rows) == len(board.table)
        self.tasks = board.task_count if self.is_all else board.task_count[rows]
        self._board = board
        self._need = demand.need
        here = board.replicas_or_none(demand.service_id)
        self.replicas = None if here is None else here[rows]
        self.failing = _failing(board, demand, rows)
        self.missed = _missed(board, demand, rows)
        self.images = _without_image(board, demand, rows)
        self.spread = list(_branches(board, demand, rows, here))
        self.names = self._names()

    def _names(self) -> list[str]:
        names = ["beyond"] if self.counts else []
        names += [] if self.missed is None else ["missed"]
        by_count = ["replicas", "tasks"] if self.counts else ["tasks"]
        names += ["empty", "leftover"] if self.packs else by_count
        return names if self.images is None else [*names, "image"]

    def level(self) -> Ints:
        """Return the replicas on each node, 0 for tasks that belong to no service."""
        return np.zeros(len(self.rows), dtype=np.int64) if self.replicas is None else self.replicas

    def leftover(self, at: Ints, further: Ints | int = 0) -> Floats:
        """Return how much would be left of some nodes, and how lopsidedly; 0 if it were full.

        The squares of the free fractions in each dimension, added up. Squares punish a remainder
        that is large in one dimension and small in another, which no task may ever use, more
        than the same amount in equal parts. After Panigrahy et al., "Heuristics for Vector Bin
        Packing" (2011); there the norm weighs dimensions by their demand, here by the node's
        capacity.

        Args:
            at: which of the nodes.
            further: tasks of the class that go there before.
        """
        if isinstance(further, int) and not further:
            found: Floats = self._board.leftover(self._need)[at if self.is_all else self.rows[at]]
            return found
        return self._board.leftover_at(self._need, self.rows[at], further + 1)

    def count_in(self, at: Ints) -> None:
        """Count tasks that went to some of the nodes into their branches."""
        for level in self.spread:
            level.counts[:] += np.bincount(level.codes[at], minlength=len(level.counts))

    def columns(self, at: Ints) -> list[tuple[str, Ints | Floats]]:
        """Return every term of some nodes for the next task, with its name, in order."""
        first: list[tuple[str, Ints | Floats]] = []
        if self.failing is not None:
            first.append(("failing", self.failing[at]))
        for depth, level in enumerate(self.spread, 1):
            first.append((f"spread {depth}", level.counts[level.codes[at]]))
        return [*first, *((name, self.term(name, at)) for name in self.names)]

    def names_of(self, at: Ints, further: Ints) -> list[str]:
        """Return the terms that can differ among some tasks."""
        names = self.names
        if names[0] == "beyond":
            level = further if self.replicas is None else self.replicas[at] + further
            if int(level.max(initial=0)) < self.share:
                names = names[1:]
        return names

    def term(self, name: str, at: Ints, further: Ints | int = 0) -> Ints | Floats:
        """Return one term of some nodes.

        Args:
            name: one of ``names``.
            at: which of the nodes.
            further: tasks of the class that go to each of them before.
        """
        match name:
            case "beyond":
                level = 0 if self.replicas is None else self.replicas[at]
                held = np.broadcast_to(level + further + 1 - self.share, at.shape)
                beyond: Ints = np.maximum(held, 0)
                return beyond
            case "empty":
                return np.asarray(self.tasks[at] + further == 0, dtype=np.int64)
            case "leftover":
                return self.leftover(at, further)
            case "replicas":
                return self.level()[at] + further
            case "tasks":
                tasks: Ints = self.tasks[at] + further
                return tasks
            case "missed" if self.missed is not None:
                return self.missed[at]
            case "image" if self.images is not None:
                return self.images[at]
        raise KeyError(name)


def _failing(board: Board, demand: Demand, rows: Ints) -> Ints | None:
    by_node = board.table.failures.get((demand.service_id, demand.version))
    if not by_node or max(by_node.values()) < FAILURES_MANY:
        return None
    failures = board.table.column(by_node)[rows]
    return np.where(failures >= FAILURES_MANY, failures, 0)


def _missed(board: Board, demand: Demand, rows: Ints) -> Ints | None:
    soft = [affinity for affinity in demand.affinities if affinity.weight]
    if not soft and not demand.wishes:
        return None
    missed = np.zeros(len(rows), dtype=np.int64)
    for constraint, weight in demand.wishes:
        missed += np.where(board.table.terrain.holds(constraint)[rows], 0, weight)
    for affinity in soft:
        near = board.near(affinity.service, affinity.topology)[rows]
        missed += np.where(near == affinity.anti, affinity.weight, 0)
    return missed


def _without_image(board: Board, demand: Demand, rows: Ints) -> Ints | None:
    by_node = board.table.images.get(demand.image)
    return None if not by_node else 1 - board.table.column(by_node)[rows]


def _branches(board: Board, demand: Demand, rows: Ints, here: Ints | None) -> Iterator[Level]:
    """Yield each level of the tree that spread preferences span."""
    for depth in range(1, len(demand.spread) + 1):
        branches = board.table.terrain.branches(demand.spread[:depth])
        if here is None:
            counts = np.zeros(branches.width, dtype=np.int64)
        else:
            alive = np.where(board.table.is_alive, here, 0)
            counts = np.bincount(branches.codes, weights=alive, minlength=branches.width)
        codes = branches.codes if len(rows) == len(board.table) else branches.codes[rows]
        yield Level(codes, counts.astype(np.int64), branches)
