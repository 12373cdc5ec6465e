"""What is decided by how a node is described: looked at once per distinct value, and remembered.

Constraints, platforms and topologies are about labels and names. Each of these (a *trait*) is
read once per node and kept as a column of numbers that stand for its values; whether a
constraint holds is then asked once per value. When a node's description changes, its own row
is read again; the rest is handed on from snapshot to snapshot.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from cluster.constraints import Constraint, canonical_architecture
from cluster.model import Platform
from scheduler.arrays import Bools, Ints

if TYPE_CHECKING:
    from scheduler.demand import Demand
    from scheduler.snapshot import NodeSnapshot

# Columns that are kept, of each sort. A byte or eight per node each; a cluster with more
# distinct constraints than that judges some of them anew in each pass.
COLUMNS_KEPT_MAX = 4096

# A node without the label that a topology is about.
NOWHERE = 0

# Traits that are not keys of constraints.
_PLATFORM, _RESERVED = "platform", "reserved for"


@dataclass(frozen=True, slots=True)
class Trait:
    """One property of all nodes.

    Attributes:
        values: the distinct ones in order, after None for nodes that have none.
        codes: for each row the index of its value.
    """

    values: tuple[Hashable, ...]
    codes: Ints

    @classmethod
    def of(cls, found: Sequence[Hashable]) -> "Trait":
        values = (None, *sorted({value for value in found if value is not None}, key=_order))
        index = {value: code for code, value in enumerate(values)}
        return cls(values, np.array([index[value] for value in found], dtype=np.int64))

    def changed(self, found: Iterable[tuple[int, Hashable]]) -> "Trait | None":
        """Return the trait with other values in some rows; None if a value is new."""
        index = {value: code for code, value in enumerate(self.values)}
        codes = self.codes.copy()
        for row, value in found:
            if value not in index:
                return None
            codes[row] = index[value]
        return Trait(self.values, codes)

    def where(self, judge: Callable[[Hashable], bool]) -> Bools:
        """Return the rows whose value *judge* accepts."""
        column: Bools = np.array([judge(value) for value in self.values])[self.codes]
        return column


@dataclass(frozen=True, slots=True)
class Branches:
    """The branches that nodes are in by one or several topologies.

    Attributes:
        codes: for each row its branch. Nodes without a label are in one of their own.
        width: how many there are.
        order: all rows by branch.
        starts: where each branch begins in *order*.
    """

    codes: Ints
    width: int
    order: Ints
    starts: Ints


class Terrain:
    """The descriptions of all nodes, in the order of the table's rows.

    Args:
        nodes: in that order.
    """

    __slots__ = ("_branches", "_columns", "_traits", "nodes")

    def __init__(self, nodes: Sequence["NodeSnapshot"]) -> None:
        self.nodes = nodes
        self._traits: dict[str, Trait] = {}
        self._columns: dict[Hashable, Bools] = {}
        self._branches: dict[tuple[str, ...], Branches] = {}

    def changed(self, nodes: Sequence["NodeSnapshot"], rows: Sequence[int]) -> "Terrain":
        """Return the terrain with other nodes in some *rows*; the rest of *nodes* is the same."""
        described = [row for row in rows if _differ(self.nodes[row], nodes[row])]
        later = Terrain(nodes)
        if not described:
            later._traits, later._columns = self._traits, self._columns
            later._branches = self._branches
            return later
        for key, trait in self._traits.items():
            read = _reader(key)
            patched = trait.changed((row, read(nodes[row])) for row in described)
            if patched is not None:
                later._traits[key] = patched
        return later

    def rearranged(self, nodes: Sequence["NodeSnapshot"], origin: Ints) -> "Terrain":
        """Return the terrain of *nodes*, each of which was at row *origin* here; -1 is new."""
        later = Terrain(nodes)
        if not self.nodes:
            return later
        strange = np.flatnonzero(origin < 0).tolist()
        at = np.where(origin < 0, 0, origin)
        for key, trait in self._traits.items():
            moved = Trait(trait.values, trait.codes[at])
            read = _reader(key)
            patched = moved.changed((row, read(nodes[row])) for row in strange)
            if patched is not None:
                later._traits[key] = patched
        return later

    def holds(self, constraint: Constraint) -> Bools:
        """Return where a constraint holds."""

        def column() -> Bools:
            found = np.zeros(len(self.nodes), dtype=np.bool_)
            for term in constraint.terms:
                found |= self._trait(term.key).where(term.holds)  # type: ignore[arg-type]
            return found

        return self._column(constraint, column)

    def runs(self, platforms: tuple[Platform, ...]) -> Bools:
        """Return which nodes have one of the platforms."""

        def has_one(here: Hashable) -> bool:
            return isinstance(here, Platform) and any(_runs(each, here) for each in platforms)

        return self._column((_PLATFORM, platforms), lambda: self._trait(_PLATFORM).where(has_one))

    def tolerated(self, names: tuple[str, ...]) -> Bools:
        """Return which nodes are reserved for nothing but what is in *names*."""

        def tolerates(reserved: Hashable) -> bool:
            return isinstance(reserved, tuple) and set(reserved).issubset(names)

        return self._column((_RESERVED, names), lambda: self._trait(_RESERVED).where(tolerates))

    def suits(self, demand: "Demand") -> Bools:
        """Return which nodes meet what *demand* asks of descriptions, all together."""

        def column() -> Bools:
            found = self.tolerated(demand.tolerates)
            if demand.platforms:
                found = found & self.runs(demand.platforms)
            for constraint in demand.constraints:
                found = found & self.holds(constraint)
            return found

        return self._column(demand.terrain, column)

    def places(self, topology: str) -> Ints:
        """Return a number per node: equal for nodes in the same place, ``NOWHERE`` for none.

        Numbers follow the order of the places' names.
        """
        return self._trait(topology).codes

    def branches(self, topologies: tuple[str, ...]) -> Branches:
        """Return the branches that nodes are in by some topologies, one within the other."""
        found = self._branches.get(topologies)
        if found is None:
            trait = self._trait(topologies[-1])
            codes, width = trait.codes, len(trait.values)
            if len(topologies) > 1:
                outer = self.branches(topologies[:-1]).codes
                names, inner = np.unique(outer * width + codes, return_inverse=True)
                codes, width = inner.astype(np.int64), len(names)
            order = in_groups(codes)
            found = Branches(codes, width, order, starts_of(codes[order]))
            if len(self._branches) < COLUMNS_KEPT_MAX:
                self._branches[topologies] = found
        return found

    def _trait(self, key: str) -> Trait:
        trait = self._traits.get(key)
        if trait is None:
            trait = Trait.of(list(map(_reader(key), self.nodes)))
            if len(self._traits) < COLUMNS_KEPT_MAX:
                self._traits[key] = trait
        return trait

    def _column(self, key: Hashable, make: Callable[[], Bools]) -> Bools:
        column = self._columns.get(key)
        if column is None:
            column = make()
            if len(self._columns) >= COLUMNS_KEPT_MAX:
                self._columns.clear()
            self._columns[key] = column
        return column


def in_groups(codes: Ints) -> Ints:
    """Return the order in which equal ones stand together, and else as before."""
    if int(codes.max(initial=0)) <= np.iinfo(np.uint16).max:
        return np.argsort(codes.astype(np.uint16), kind="stable")  # sorted without comparing
    return np.argsort(codes, kind="stable")


def starts_of(grouped: Ints) -> Ints:
    """Return where each group of equal ones begins."""
    if not len(grouped):
        return np.zeros(0, dtype=np.int64)
    differs = np.empty(len(grouped), dtype=np.bool_)
    differs[0] = True
    np.not_equal(grouped[1:], grouped[:-1], out=differs[1:])
    return differs.nonzero()[0]


def _reader(key: str) -> Callable[["NodeSnapshot"], Hashable]:
    """Return what reads a trait of a node."""
    if key == _PLATFORM:
        return attrgetter("facts.platform")
    if key == _RESERVED:
        return attrgetter("reserved_for")
    return lambda node: node.facts.find(key)


def _order(value: Hashable) -> tuple[str, ...]:
    """Return what distinct values of one trait are ordered by."""
    if isinstance(value, Platform):
        return value.os, value.architecture
    return value if isinstance(value, tuple) else (str(value),)


def _differ(one: "NodeSnapshot", other: "NodeSnapshot") -> bool:
    return one.facts != other.facts or one.reserved_for != other.reserved_for


def _runs(wanted: Platform, here: Platform) -> bool:
    return (not wanted.os or wanted.os.lower() == here.os.lower()) and (
        not wanted.architecture
        or canonical_architecture(wanted.architecture) == canonical_architecture(here.architecture)
    )
