"""Placement: the scheduler's one decision, ``place(snapshot, pending) -> plan``.

A pure function: no clock, no chance, no I/O, and the same answer to the same question (I15).
Whatever cannot be done is part of the answer, never an exception.

Classes are served one after the other: those of a higher priority first, among equals tasks
that have only one node to go to, then the class with the oldest task.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from types import MappingProxyType

import numpy as np

from cluster.model import NO_NODE, NodeId, ServiceId, Strategy, TaskId
from scheduler.arrays import Ints
from scheduler.board import Board, Packed
from scheduler.demand import NO_SERVICE, Demand, Group
from scheduler.dimensions import SIZES
from scheduler.fill import choose
from scheduler.filters import counted, reasons_of, refusals
from scheduler.holds import Holds
from scheduler.items import give_items
from scheduler.pack import SIZES_MIN, Item, pack
from scheduler.plan import Hold, Plan, Reason, ReasonKind, Unplaced, count
from scheduler.snapshot import Snapshot


def place(
    snapshot: Snapshot,
    pending: Sequence[Group],
    *,
    strategy: Strategy = Strategy.BINPACK,
    holds: Sequence[Hold] = (),
    allowances: Mapping[ServiceId, int] = MappingProxyType({}),
) -> Plan:
    """Choose a node for each waiting task, or say why it has to wait.

    Args:
        snapshot: the cluster, without the waiting tasks.
        pending: the classes, the one with the oldest task first; no task is in two.
        strategy: of classes that do not say.
        holds: of the plan before, so that waiting tasks keep what is set aside for them.
        allowances: how many running tasks of a service preemption may take now; of a service
            that is not listed its disruption budget, less what the snapshot shows as missing.
    """
    board = Board(snapshot, _service_ids(pending))
    run = Pass(board, pending, strategy, Holds(board, pending, holds, allowances))
    order = sorted(pending, key=lambda each: (-each.demand.priority, not each.node_ids))
    for _, level in groupby(order, key=lambda each: each.demand.priority):
        run.serve(list(level))
    return run.plan()


class Pass:
    """One pass over the waiting classes.

    Attributes:
        board: what is left of the nodes.
    """

    def __init__(
        self, board: Board, pending: Sequence[Group], strategy: Strategy, holds: Holds
    ) -> None:
        self.board = board
        self._strategy = strategy
        self._holds = holds
        self._gangs: dict[str, list[Group]] = {}
        for group in pending:
            if group.demand.gang:
                self._gangs.setdefault(group.demand.gang, []).append(group)
        self._served: set[str] = set()
        self._placed: list[tuple[Demand, tuple[TaskId, ...], Ints]] = []
        self._unplaced: list[Unplaced] = []

    def serve(self, level: Sequence[Group]) -> None:
        """Serve classes of one priority, in the order given unless all have room anyway."""
        if not self._serve_together(level):
            self._serve_in_order(level)

    def _serve_in_order(self, groups: Sequence[Group]) -> None:
        for run in self._runs(groups):
            group = run[0]
            gang = group.demand.gang
            if len(run) > 1:
                self._serve_alike(run)
            elif not gang:
                self._serve_one(group)
            elif gang not in self._served:
                self._served.add(gang)
                self._serve_gang(self._gangs[gang])

    def _serve_together(self, level: Sequence[Group]) -> bool:
        """Pack classes of many sizes node by node; say whether all of them found room.

        The others are served first, in their order: they are harder to please. If any class
        lacks room in this way, nothing of it stands, and age decides.
        """
        items = self._items(level)
        if len({item.demand.need for item in items}) < SIZES_MIN or self._holds.concern(level):
            return False
        packed = {task_id for item in items for task_id in item.task_ids}
        rest = [group for group in level if group.task_ids[0] not in packed]
        seekers = [group for group in rest if _seeks_others(group.demand)]
        mark, placed, told = self.board.mark(), len(self._placed), len(self._unplaced)
        served = set(self._served)
        self._serve_in_order([group for group in rest if group not in seekers])
        found = None if self._holds.count else pack(self.board, items)
        if found is not None:
            self._book_packed(items, found)
            before = len(self._unplaced)
            self._serve_in_order(seekers)
            if len(self._unplaced) == before:
                return True
        self.board.undo(mark)
        self._served = served
        del self._placed[placed:], self._unplaced[told:]
        return False

    def _items(self, level: Sequence[Group]) -> list[Item]:
        """Return the classes that can be packed; single tasks that look alike as one item."""
        singles: dict[object, list[Group]] = {}
        items: list[Item] = []
        groups_of = Counter(group.demand.service_id for group in level)
        packs = self._strategy is Strategy.BINPACK
        failures = self.board.table.failures
        for group in level:
            demand = group.demand
            if (
                group.node_ids
                or not demand.is_plain
                or not (packs if demand.strategy is None else demand.strategy is Strategy.BINPACK)
                or (failures and (demand.service_id, demand.version) in failures)
                or self.board.repels(demand) is not None
            ):
                continue
            if groups_of[demand.service_id] == 1 and self._is_single(group):
                singles.setdefault(demand.alike, []).append(group)
            else:
                items.append(Item(demand, group.task_ids))
        for groups in singles.values():
            task_ids = tuple(group.task_ids[0] for group in groups)
            services_of = tuple(group.demand.service_id for group in groups)
            items.append(Item(_of_no_service(groups[0].demand), task_ids, services_of))
        return items

    def _book_packed(self, items: Sequence[Item], sequence: Ints) -> None:
        """Book what was packed together."""
        counts = np.array([len(item.task_ids) for item in items], dtype=np.int64)
        demands = [item.demand for item in items]
        self.board.book_packed(Packed(demands, counts, sequence, [item.services for item in items]))
        if all(name in SIZES for demand in demands for name, _ in demand.need):
            task_ids = tuple(task_id for item in items for task_id in item.task_ids)
            self._placed.append((demands[0], task_ids, sequence))
            return
        for item, rows in zip(items, np.split(sequence, np.cumsum(counts)[:-1]), strict=True):
            self._placed.append((item.demand, item.task_ids, rows))

    def plan(self) -> Plan:
        """Return what was decided."""
        ids = self.board.table.ids_array
        placements: dict[TaskId, NodeId] = {}
        for _, task_ids, sequence in self._placed:
            placements.update(zip(task_ids, ids[sequence].tolist(), strict=False))
        return Plan(
            snapshot_version=self.board.snapshot.version,
            placements=placements,
            unplaced=tuple(self._unplaced),
            items=give_items(self.board.table, self._placed),
            volumes=self.board.settled,
            evictions=self._holds.evictions,
            holds=self._holds.closed(),
        )

    def _runs(self, groups: Sequence[Group]) -> Iterator[list[Group]]:
        """Yield classes; together those that follow each other and look alike to the nodes."""
        run: list[Group] = []
        services: set[ServiceId] = set()
        for group in groups:
            service_id = group.demand.service_id
            is_alike = self._is_single(group) and service_id not in services
            if run and is_alike and group.demand.alike == run[0].demand.alike:
                run.append(group)
                services.add(service_id)
                continue
            if run:
                yield run
                is_alike = is_alike and self._is_single(group)
            run, services = ([group], {service_id}) if is_alike else ([], set())
            if not is_alike:
                yield [group]
        if run:
            yield run

    def _is_single(self, group: Group) -> bool:
        """Tell whether it is the first task of a service that to the nodes is like any other."""
        demand, table = group.demand, self.board.table
        return (
            len(group.task_ids) == 1
            and demand.alike is not None
            and not group.node_ids
            and not demand.flaws
            and demand.service_id != NO_SERVICE
            and not self.board.has_tasks_of(demand.service_id)
            and (demand.service_id, demand.version) not in table.failures
            and self.board.repels(demand) is None
        )

    def _serve_alike(self, run: Sequence[Group]) -> None:
        """Serve classes of one task each as if they were one class of no service."""
        demand = _of_no_service(run[0].demand)
        services = [group.demand.service_id for group in run]
        sequence = choose(self.board, demand, len(run), self._strategy, services)
        self._placed.append((demand, tuple(group.task_ids[0] for group in run), sequence))
        left = run[len(sequence) :]
        if left:
            why = counted(demand, self.board)
            for group in left:
                self._refuse(group.demand, [Unplaced(group.task_ids, why)])

    def _serve_one(self, group: Group) -> None:
        """Place what can be placed of a class, and see to the rest."""
        unplaced = self._try(group)
        if unplaced:
            only = dict(zip(group.task_ids, group.node_ids, strict=False))
            self._refuse(group.demand, unplaced, only)

    def _refuse(
        self,
        demand: Demand,
        unplaced: Sequence[Unplaced],
        only: Mapping[TaskId, NodeId] = MappingProxyType({}),
    ) -> None:
        """Tell tasks why they wait, and see to it that they come to have room."""
        if not demand.flaws:
            ids = [task_id for each in unplaced for task_id in each.task_ids]
            tasks = [(task_id, only.get(task_id, NO_NODE)) for task_id in ids]
            emptied = self._holds.make_room(demand, tasks)
            if emptied:
                unplaced = self._making_room(unplaced, emptied)
        self._unplaced += unplaced

    def _making_room(self, unplaced: Sequence[Unplaced], emptied: list[NodeId]) -> list[Unplaced]:
        """Return what is told to tasks if the first of them wait for nodes that are emptied."""
        told: list[Unplaced] = []
        rows = self.board.table.rows
        names = [self.board.table.nodes[rows[id_]].name for id_ in emptied]
        for each in unplaced:
            number = min(len(names), len(each.task_ids))
            if number:
                where = tuple(dict.fromkeys(names[:number]))
                told.append(replace(each, task_ids=each.task_ids[:number], making_room=where))
                names = names[number:]
            if number < len(each.task_ids):
                told.append(replace(each, task_ids=each.task_ids[number:]))
        return told

    def _try(self, group: Group) -> list[Unplaced]:
        """Place what can be placed of a class, and return the rest."""
        demand = group.demand
        if demand.flaws:
            return [Unplaced(group.task_ids, defects=demand.flaws)]
        if group.node_ids:
            return list(self._check(group))
        sequence = choose(self.board, demand, len(group.task_ids), self._strategy)
        self._placed.append((demand, group.task_ids, sequence))
        left = group.task_ids[len(sequence) :]
        return [Unplaced(left, counted(demand, self.board))] if left else []

    def _check(self, group: Group) -> Iterator[Unplaced]:
        """Place each task on its own node, and yield those whose node does not take them."""
        demand, board = group.demand, self.board
        for task_id, node_id in zip(group.task_ids, group.node_ids, strict=True):
            row = board.table.rows.get(node_id)
            if row is None:
                gone = count([Reason(ReasonKind.GONE)])
                yield Unplaced((task_id,), gone, node_name=node_id)
                continue
            reasons = reasons_of(refusals(demand, board), row)
            if reasons:
                name = board.table.nodes[row].name
                yield Unplaced((task_id,), count(reasons), node_name=name)
            else:
                sequence = np.array([row], dtype=np.int64)
                board.book(demand, sequence)
                self._placed.append((demand, (task_id,), sequence))

    def _serve_gang(self, gang: Sequence[Group]) -> None:
        """Place all classes of a gang, or none of them."""
        mark, placed = self.board.mark(), len(self._placed)
        for group in gang:
            lacking = self._try(group)
            if lacking:
                self.board.undo(mark)
                del self._placed[placed:]
                name = group.demand.gang
                self._unplaced += [
                    replace(lacking[0], task_ids=member.task_ids, gang=name) for member in gang
                ]
                return


def _of_no_service(demand: Demand) -> Demand:
    """Return what the demand comes to if its service plays no part.

    Nor does a limit of its tasks per node: of each service there is one task.
    """
    return replace(demand, service_id=NO_SERVICE, service="", max_replicas_per_node=0)


def _seeks_others(demand: Demand) -> bool:
    """Tell whether tasks must be near those of another service."""
    return any(each.must_be_near and each.service != demand.service for each in demand.affinities)


def _service_ids(pending: Sequence[Group]) -> dict[str, tuple[ServiceId, ...]]:
    """Return the ids of the services that have waiting tasks, by full name."""
    found: dict[str, dict[ServiceId, None]] = {}
    for group in pending:
        if group.demand.service:
            found.setdefault(group.demand.service, {})[group.demand.service_id] = None
    return {name: tuple(ids) for name, ids in found.items()}
