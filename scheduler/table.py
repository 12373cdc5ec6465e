"""The nodes as columns: what a pass looks at, node by node, without a loop.

A row per node in the order of the ids, so that the first of several equals is the one with the
smallest id. Tables are values: ``changed`` makes the next one out of what is different, and
shares or copies the rest.

Room is kept in whole numbers of 64 bits, which no step can make overflow: what is free is never
more than 2^63-1, is only ever lessened by what fits into it, and below -2^62 it makes no
difference how far.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cluster.model import NodeId, ServiceId
from scheduler.arrays import Bools, Floats, Ints
from scheduler.dimensions import AMOUNT_MAX, SIZES, Amounts, amount_of
from scheduler.terrain import Terrain

if TYPE_CHECKING:
    from scheduler.snapshot import NodeSnapshot, PortKey, Repelled, Version

FREE_MIN = -(2**62)
SLOTS_UNLIMITED = 2**62

K = TypeVar("K")
V = TypeVar("V")

# Which nodes have something to do with a key, and what.
Index = Mapping[K, Mapping[NodeId, V]]

_COLUMNS = ("capacity", "free", "per_unit", "slots", "task_count", "is_open", "is_alive")


class Table:
    """All nodes of one snapshot.

    Attributes:
        nodes, ids: in the order of the rows.
        rows: where a node stands.
        kinds: of generic resources that some node has or gave away; with ``SIZES`` they make the dimensions.
        dimensions: the index of each in the first axis of the next three.
        capacity, free: (dimension, node), whole numbers.
        per_unit: (dimension, node), the share of the node that one unit is; 0 if it has none.
        slots: how many more tasks each node takes, room apart.
        task_count: bound tasks.
        is_open: takes tasks at all. is_alive: its tasks can be thought to run.
        terrain: what is decided by descriptions.
        replicas, ports, failures, repels, volumes, images: which nodes have which.
    """

    __slots__ = (
        *_COLUMNS,
        "dimensions",
        "failures",
        "ids",
        "ids_array",
        "images",
        "kinds",
        "nodes",
        "ports",
        "repels",
        "replicas",
        "rows",
        "terrain",
        "volumes",
    )

    capacity: Ints
    free: Ints
    per_unit: Floats
    slots: Ints
    task_count: Ints
    is_open: Bools
    is_alive: Bools
    replicas: Index[ServiceId, int]
    ports: Index["PortKey", tuple[str, ...]]
    failures: Index["Version", int]
    repels: Index["Repelled", int]
    volumes: Index[str, int]
    images: Index[str, int]

    def __init__(self, nodes: Sequence["NodeSnapshot"], kinds: tuple[str, ...]) -> None:
        self.nodes = nodes
        self.ids = [node.id for node in nodes]
        self.ids_array = np.array(self.ids, dtype=object)
        self.rows = {id_: row for row, id_ in enumerate(self.ids)}
        self.kinds = kinds
        self.dimensions = {name: index for index, name in enumerate((*SIZES, *kinds))}
        self.terrain = Terrain(nodes)

    @classmethod
    def of(cls, nodes: Mapping[NodeId, "NodeSnapshot"]) -> "Table":
        """Return the table of these nodes."""
        return _EMPTY.changed(nodes)

    def __len__(self) -> int:
        return len(self.ids)

    def changed(self, fresh: Mapping[NodeId, "NodeSnapshot | None"]) -> "Table":
        """Return the table with these nodes anew, and without those that are None."""
        before = {id_: self.nodes[self.rows[id_]] for id_ in fresh if id_ in self.rows}
        after = {id_: node for id_, node in fresh.items() if node is not None}
        kinds = _kinds(self.kinds, after.values())
        if kinds == self.kinds and before.keys() == after.keys() == fresh.keys():
            later = self._with_rows(after)
        else:
            later = self._rearranged(before, after, kinds)
        moved = [(id_, before.get(id_), after.get(id_)) for id_ in fresh]
        later.replicas = _reindexed(self.replicas, moved, lambda node: node.replicas)
        later.ports = _reindexed(self.ports, moved, lambda node: node.ports)
        later.failures = _reindexed(self.failures, moved, lambda node: node.failures)
        later.repels = _reindexed(self.repels, moved, lambda node: node.repels)
        later.volumes = _reindexed(self.volumes, moved, lambda node: dict.fromkeys(node.volumes, 1))
        later.images = _reindexed(self.images, moved, lambda node: dict.fromkeys(node.images, 1))
        return later

    def needs(self, need: Amounts) -> list[tuple[int, int]] | None:
        """Return *need* with dimensions by index; None if no node has one of them at all."""
        try:
            return [(self.dimensions[name], amount) for name, amount in need]
        except KeyError:
            return None

    def column(self, by_node: Mapping[NodeId, int]) -> Ints:
        """Return a number per node, 0 where *by_node* has none."""
        column = np.zeros(len(self.ids), dtype=np.int64)
        rows = self.rows
        for id_, number in by_node.items():
            column[rows[id_]] = number
        return column

    def mask(self, ids: Iterable[NodeId]) -> Bools:
        """Return which nodes are among *ids*."""
        mask = np.zeros(len(self.ids), dtype=np.bool_)
        mask[[self.rows[id_] for id_ in ids]] = True
        return mask

    def _with_rows(self, after: Mapping[NodeId, "NodeSnapshot"]) -> "Table":
        """Return a copy in which some rows are different, and all stand where they stood."""
        later = Table.__new__(Table)
        later.ids, later.ids_array, later.rows = self.ids, self.ids_array, self.rows
        later.kinds, later.dimensions = self.kinds, self.dimensions
        rows = [self.rows[id_] for id_ in after]
        later.nodes = nodes = list(self.nodes)
        for row, node in zip(rows, after.values(), strict=True):
            nodes[row] = node
        later.terrain = self.terrain.changed(nodes, rows)
        for name in _COLUMNS:
            setattr(later, name, getattr(self, name).copy())
        later.write(rows, list(after.values()))
        return later

    def _rearranged(
        self,
        before: Mapping[NodeId, "NodeSnapshot"],
        after: Mapping[NodeId, "NodeSnapshot"],
        kinds: tuple[str, ...],
    ) -> "Table":
        """Return a copy in which nodes came or went, or which has another set of dimensions."""
        by_id = dict(zip(self.ids, self.nodes, strict=True))
        for id_ in before:
            del by_id[id_]
        by_id.update(after)
        later = Table([by_id[id_] for id_ in sorted(by_id)], kinds)
        kept = [-1 if id_ in after else self.rows[id_] for id_ in later.ids]
        origin = np.array(kept, dtype=np.int64)
        later.terrain = self.terrain.rearranged(later.nodes, origin)
        for name in _COLUMNS:
            ours: Ints = getattr(self, name)
            theirs = np.zeros((*ours.shape[:-1], len(later)), dtype=ours.dtype)
            if len(self):
                theirs[..., origin >= 0] = ours[..., origin[origin >= 0]]
            setattr(later, name, theirs)
        if kinds == self.kinds:
            rows = [later.rows[id_] for id_ in after]
            later.write(rows, list(after.values()))
        else:
            width = len(later.dimensions), len(later)
            for name, type_ in (("capacity", np.int64), ("free", np.int64), ("per_unit", float)):
                setattr(later, name, np.zeros(width, dtype=type_))
            later.write(list(range(len(later))), list(later.nodes))
        return later

    def write(self, rows: list[int], nodes: Sequence["NodeSnapshot"]) -> None:
        """Write what *nodes* say into *rows*."""
        if not rows:
            return
        for name, index in self.dimensions.items():
            capacity = [_whole(amount_of(node.capacity, name)) for node in nodes]
            taken = [_whole(amount_of(node.reserved, name)) for node in nodes]
            free = [has - took for has, took in zip(capacity, taken, strict=True)]
            self.capacity[index, rows] = _clamped(capacity)
            self.free[index, rows] = _clamped(free)
            self.per_unit[index, rows] = [1 / has if has > 0 else 0.0 for has in capacity]
        self.slots[rows] = _clamped(
            [
                node.task_slots - node.task_count if node.task_slots > 0 else SLOTS_UNLIMITED
                for node in nodes
            ]
        )
        self.task_count[rows] = [node.task_count for node in nodes]
        self.is_open[rows] = [node.is_open for node in nodes]
        self.is_alive[rows] = [node.is_alive for node in nodes]


def need_columns(needs: Sequence[Amounts], names: Sequence[str]) -> Ints:
    """Return (dimension, class) how much of each of the named dimensions is needed."""
    columns = {name: [0] * len(needs) for name in names}
    for index, amounts in enumerate(needs):
        for name, amount in amounts:
            columns[name][index] = amount
    return np.array([columns[name] for name in names], dtype=np.int64)


def _kinds(known: tuple[str, ...], nodes: Iterable["NodeSnapshot"]) -> tuple[str, ...]:
    """Return the kinds of generic resources, in order; one that is nowhere any more stays."""
    found = {
        kind
        for node in nodes
        for amounts in (node.capacity, node.reserved)
        for kind in amounts.generic
    }
    return known if found.issubset(known) else tuple(sorted(found.union(known)))


def _whole(amount: object) -> int:
    """Return an amount as a whole number; what is none (not even finite) counts as nothing."""
    return amount if type(amount) is int else 0


def _clamped(amounts: list[int]) -> Ints:
    try:
        column = np.array(amounts, dtype=np.int64)
    except OverflowError:
        column = np.array([max(FREE_MIN, min(AMOUNT_MAX, n)) for n in amounts], dtype=np.int64)
    return np.maximum(column, FREE_MIN)


def _reindexed(
    index: Index[K, V],
    moved: Iterable[tuple[NodeId, "NodeSnapshot | None", "NodeSnapshot | None"]],
    entries: Callable[["NodeSnapshot"], Mapping[K, V]],
) -> Index[K, V]:
    """Return *index* with what changed in the nodes; untouched keys are shared."""
    later: dict[K, Mapping[NodeId, V]] | None = None
    own: dict[K, dict[NodeId, V]] = {}
    for id_, old_node, new_node in moved:
        old: Mapping[K, V] = entries(old_node) if old_node else {}
        new: Mapping[K, V] = entries(new_node) if new_node else {}
        if old is new or old == new:
            continue
        if later is None:
            later = dict(index)
        for key in {*old, *new}:
            if key in old and key in new and old[key] == new[key]:
                continue
            nodes = own.get(key)
            if nodes is None:
                nodes = own[key] = later[key] = dict(later.get(key, {}))
            if key in new:
                nodes[id_] = new[key]
            else:
                del nodes[id_]
            if not nodes:
                del later[key], own[key]
    return index if later is None else later


def _empty() -> Table:
    table = Table((), ())
    table.capacity = table.free = np.zeros((len(SIZES), 0), dtype=np.int64)
    table.per_unit = np.zeros((len(SIZES), 0))
    table.slots = table.task_count = np.zeros(0, dtype=np.int64)
    table.is_open = table.is_alive = np.zeros(0, dtype=np.bool_)
    table.replicas, table.ports, table.failures, table.repels = {}, {}, {}, {}
    table.volumes, table.images = {}, {}
    return table


_EMPTY = _empty()
