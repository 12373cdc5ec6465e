"""Placement: the scheduler's one decision, ``place(snapshot, pending) -> plan``.

A pure function: no clock, no chance, no I/O, and the same answer to the same question (I15).
Whatever cannot be done is part of the answer, never an exception.

Classes are served one after the other: those of a higher priority first, among equals tasks
that have only one node to go to, then the class with the oldest task.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from cluster.model import NodeId, ServiceId, Strategy, TaskId
from scheduler.arrays import Ints
from scheduler.board import Board
from scheduler.demand import NO_SERVICE, Demand, Group
from scheduler.fill import choose
from scheduler.filters import counted, reasons_of, refusals
from scheduler.items import give_items
from scheduler.plan import Plan, Reason, ReasonKind, Unplaced, count
from scheduler.snapshot import Snapshot


def place(
    snapshot: Snapshot, pending: Sequence[Group], *, strategy: Strategy = Strategy.BINPACK
) -> Plan:
    """Choose a node for each waiting task, or say why it has to wait.

    Args:
        snapshot: the cluster, without the waiting tasks.
        pending: the classes, the one with the oldest task first; no task is in two.
        strategy: of classes that do not say.
    """
    run = Pass(snapshot, pending, strategy)
    run.serve(sorted(pending, key=lambda each: (-each.demand.priority, not each.node_ids)))
    return run.plan()


class Pass:
    """One pass over the waiting classes.

    Attributes:
        board: what is left of the nodes.
    """

    def __init__(self, snapshot: Snapshot, pending: Sequence[Group], strategy: Strategy) -> None:
        self.board = Board(snapshot, _service_ids(pending))
        self._strategy = strategy
        self._gangs: dict[str, list[Group]] = {}
        for group in pending:
            if group.demand.gang:
                self._gangs.setdefault(group.demand.gang, []).append(group)
        self._placed: list[tuple[Demand, tuple[TaskId, ...], Ints]] = []
        self._unplaced: list[Unplaced] = []

    def serve(self, groups: Sequence[Group]) -> None:
        """Serve classes in the order given."""
        served: set[str] = set()
        for run in self._runs(groups):
            group = run[0]
            gang = group.demand.gang
            if len(run) > 1:
                self._serve_alike(run)
            elif not gang:
                self._unplaced += self._serve_one(group)
            elif gang not in served:
                served.add(gang)
                self._serve_gang(self._gangs[gang])

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
        demand = replace(run[0].demand, service_id=NO_SERVICE, service="")
        sequence = choose(
            self.board, demand, len(run), self._strategy, [g.demand.service_id for g in run]
        )
        task_ids = tuple(group.task_ids[0] for group in run)
        self._placed.append((demand, task_ids, sequence))
        left = run[len(sequence) :]
        if left:
            why = counted(demand, self.board)
            self._unplaced += [Unplaced(group.task_ids, why) for group in left]

    def _serve_one(self, group: Group) -> list[Unplaced]:
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
            lacking = self._serve_one(group)
            if lacking:
                self.board.undo(mark)
                del self._placed[placed:]
                name = group.demand.gang
                self._unplaced += [
                    replace(lacking[0], task_ids=member.task_ids, gang=name) for member in gang
                ]
                return


def _service_ids(pending: Sequence[Group]) -> dict[str, tuple[ServiceId, ...]]:
    """Return the ids of the services that have waiting tasks, by full name."""
    found: dict[str, dict[ServiceId, None]] = {}
    for group in pending:
        if group.demand.service:
            found.setdefault(group.demand.service, {})[group.demand.service_id] = None
    return {name: tuple(ids) for name, ids in found.items()}
