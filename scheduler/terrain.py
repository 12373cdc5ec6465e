"""What is decided by how a node is described: looked at once per node, and remembered.

Constraints, platforms and topologies are about labels and names, which hardly ever change. So
each distinct one is judged once for each node, kept as a column, and handed on from snapshot to
snapshot; when a node's description changes, it alone is judged again.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cluster.constraints import Constraint, NodeFacts, canonical_architecture, matches
from cluster.model import Platform
from scheduler.arrays import Bools, Ints

if TYPE_CHECKING:
    from scheduler.demand import Demand
    from scheduler.snapshot import NodeSnapshot

# Columns that are kept. A byte per node each; a cluster with more distinct constraints than
# that judges some of them anew in each pass.
COLUMNS_KEPT_MAX = 4096

# A node without the label that a topology is about.
NOWHERE = 0

Judge = Callable[["NodeSnapshot"], bool]


class Terrain:
    """The descriptions of all nodes, in the order of the table's rows.

    Args:
        nodes: in that order.
    """

    __slots__ = ("_branches", "_columns", "_places", "_stale", "nodes")

    def __init__(self, nodes: Sequence["NodeSnapshot"]) -> None:
        self.nodes = nodes
        self._columns: dict[Hashable, tuple[Judge, Bools]] = {}
        self._stale: dict[Hashable, tuple[Judge, Bools, tuple[int, ...]]] = {}
        self._places: dict[str, Ints] = {}
        self._branches: dict[tuple[str, ...], tuple[Ints, int, Ints, Ints]] = {}

    def changed(self, nodes: Sequence["NodeSnapshot"], rows: Sequence[int]) -> "Terrain":
        """Return the terrain with other nodes in some *rows*; the rest of *nodes* is the same."""
        described = tuple(row for row in rows if _differ(self.nodes[row], nodes[row]))
        later = Terrain(nodes)
        if not described:
            later._columns, later._stale = self._columns, self._stale
            later._places, later._branches = self._places, self._branches
            return later
        for key, (judge, column, earlier) in self._stale.items():
            later._stale[key] = judge, column, tuple({*earlier, *described})
        for key, (judge, column) in self._columns.items():
            later._stale[key] = judge, column, described
        return later

    def rearranged(self, nodes: Sequence["NodeSnapshot"], origin: Ints) -> "Terrain":
        """Return the terrain of *nodes*, each of which was at row *origin* here; -1 is new."""
        later = Terrain(nodes)
        strange = tuple(np.flatnonzero(origin < 0).tolist())
        at = np.where(origin < 0, 0, origin)
        rows = dict(zip(origin.tolist(), range(len(nodes)), strict=True))
        if not self.nodes:
            return later
        for key, (judge, column, earlier) in self._stale.items():
            moved = (rows[row] for row in earlier if row in rows)
            later._stale[key] = judge, column[at], (*strange, *moved)
        for key, (judge, column) in self._columns.items():
            later._stale[key] = judge, column[at], strange
        return later

    def holds(self, constraint: Constraint) -> Bools:
        """Return where a constraint holds."""
        return self._column(constraint, lambda node: matches(constraint, node.facts))

    def runs(self, platforms: tuple[Platform, ...]) -> Bools:
        """Return which nodes have one of the platforms."""
        return self._column(
            ("platform", platforms),
            lambda node: any(_runs(platform, node.facts) for platform in platforms),
        )

    def tolerated(self, names: tuple[str, ...]) -> Bools:
        """Return which nodes are reserved for nothing but what is in *names*."""
        return self._column(
            ("tolerates", names), lambda node: all(name in names for name in node.reserved_for)
        )

    def suits(self, demand: "Demand") -> Bools:
        """Return which nodes meet what *demand* asks of descriptions, all together."""
        key = demand.terrain
        known = self._columns.get(key)
        if known is not None:
            return known[1]

        def suits(node: "NodeSnapshot") -> bool:
            facts, platforms = node.facts, demand.platforms
            return (
                all(name in demand.tolerates for name in node.reserved_for)
                and (not platforms or any(_runs(platform, facts) for platform in platforms))
                and all(matches(constraint, facts) for constraint in demand.constraints)
            )

        if key in self._stale:
            return self._column(key, suits)
        column = self.tolerated(demand.tolerates)
        if demand.platforms:
            column = column & self.runs(demand.platforms)
        for constraint in demand.constraints:
            column = column & self.holds(constraint)
        self._keep(key, suits, column)
        return column

    def places(self, topology: str) -> Ints:
        """Return a number per node: equal for nodes in the same place, ``NOWHERE`` for none.

        Numbers follow the order of the places' names.
        """
        codes = self._places.get(topology)
        if codes is None:
            found = [node.facts.find(topology) for node in self.nodes]
            order: dict[str | None, int] = {None: NOWHERE}
            for name in sorted({name for name in found if name is not None}):
                order[name] = len(order)
            codes = np.array([order[name] for name in found], dtype=np.int64)
            if len(self._places) < COLUMNS_KEPT_MAX:
                self._places[topology] = codes
        return codes

    def branches(self, topologies: tuple[str, ...]) -> tuple[Ints, int, Ints, Ints]:
        """Return the branches that nodes are in; those without a label are in one of their own.

        That is: a number per node, equal for nodes in the same places; how many there are; all
        rows by branch; where each branch begins among these.
        """
        found = self._branches.get(topologies)
        if found is None:
            codes = self.places(topologies[-1])
            width = int(codes.max(initial=0)) + 1
            if len(topologies) > 1:
                outer = self.branches(topologies[:-1])[0]
                names, inner = np.unique(outer * width + codes, return_inverse=True)
                codes, width = inner.astype(np.int64), len(names)
            order = in_groups(codes)
            found = codes, width, order, starts_of(codes[order])
            if len(self._branches) < COLUMNS_KEPT_MAX:
                self._branches[topologies] = found
        return found

    def _column(self, key: Hashable, judge: Judge) -> Bools:
        known = self._columns.get(key)
        if known is not None:
            return known[1]
        stale = self._stale.pop(key, None)
        if stale is None:
            column = np.fromiter(map(judge, self.nodes), dtype=np.bool_, count=len(self.nodes))
        else:
            _, column, rows = stale
            column = column.copy()
            for row in rows:
                column[row] = judge(self.nodes[row])
        self._keep(key, judge, column)
        return column

    def _keep(self, key: Hashable, judge: Judge, column: Bools) -> None:
        if len(self._columns) >= COLUMNS_KEPT_MAX:
            self._columns.clear()
            self._stale.clear()
        self._columns[key] = judge, column


def _differ(one: "NodeSnapshot", other: "NodeSnapshot") -> bool:
    return one.facts != other.facts or one.reserved_for != other.reserved_for


def _runs(wanted: Platform, facts: NodeFacts) -> bool:
    here = facts.platform
    return (not wanted.os or wanted.os.lower() == here.os.lower()) and (
        not wanted.architecture
        or canonical_architecture(wanted.architecture) == canonical_architecture(here.architecture)
    )


def in_groups(codes: Ints) -> Ints:
    """Return the order in which equal ones stand together, and else as before."""
    if int(codes.max(initial=0)) <= np.iinfo(np.uint16).max:
        return np.argsort(codes.astype(np.uint16), kind="stable")  # sorted without comparing
    return np.argsort(codes, kind="stable")


def starts_of(grouped: Ints) -> Ints:
    """Return where each group of equal ones begins."""
    if not len(grouped):
        return np.zeros(0, dtype=np.int64)
    return np.append(0, np.flatnonzero(grouped[1:] != grouped[:-1]) + 1)
