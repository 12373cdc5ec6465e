"""Let the scheduler place the tasks, one after the other or all together.

The only module of the client that knows the scheduler, and so the only one that costs numpy.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec

from cluster.model import Node, NodeId, ServiceId, Strategy, Task, TaskId, TaskState, TaskStatus
from clusterctl.simulation.tables import Work
from scheduler import Ledger, PendingTask, group, place

_ASSIGNED = TaskStatus(state=TaskState.ASSIGNED)


@dataclass(frozen=True, slots=True)
class Placed:
    """A task, and where it went.

    Attributes:
        work: which of the rows it is of.
    """

    name: str
    work: int
    node_id: NodeId


@dataclass(frozen=True, slots=True)
class Left:
    """Tasks of a row that went nowhere, and why."""

    names: tuple[str, ...]
    work: int
    why: str


@dataclass(frozen=True, slots=True)
class Packing:
    """Where everything is, in the order in which it came."""

    placed: tuple[Placed, ...]
    left: tuple[Left, ...]


def packed(
    nodes: Sequence[Node], work: Sequence[Work], *, strategy: Strategy, together: bool
) -> Packing:
    """Place *work* on *nodes*, which are empty.

    Args:
        nodes: the hosts.
        work: in the order in which it comes.
        strategy: how tasks are laid out.
        together: all of it waits at the same time; else only what has the same order.
    """
    arrivals = [list(enumerate(work))] if together else list(_arrivals(work))
    ledger = Ledger(lambda task: work[task.spec_version].spec)
    for node in nodes:
        ledger.apply_node(node)
    placed: list[Placed] = []
    left: list[Left] = []
    for arrival in arrivals:
        tasks = {task.id: task for index, each in arrival for task in _tasks(index, each)}
        pending = [PendingTask(task.id, ledger.demand_of(task)) for task in tasks.values()]
        plan = place(ledger.snapshot(), group(pending), strategy=strategy)
        for task_id, node_id in plan.placements.items():
            task = tasks[task_id]
            placed.append(Placed(task_id, task.spec_version, node_id))
            ledger.apply_task(_bound(task, node_id))
        for unplaced in plan.unplaced:
            left += _left(unplaced.task_ids, tasks, str(unplaced))
    order = {name: at for at, name in enumerate(n for each in work for n in each.names())}
    return Packing(tuple(sorted(placed, key=lambda each: order[each.name])), tuple(left))


def _arrivals(work: Sequence[Work]) -> Iterator[list[tuple[int, Work]]]:
    """Yield what comes at one moment, each row with its number."""
    for _, same in groupby(enumerate(work), key=lambda each: each[1].order):
        yield list(same)


def _tasks(index: int, work: Work) -> Iterator[Task]:
    for name in work.names():
        yield Task(
            id=TaskId(name), service_id=ServiceId(work.spec.name), spec_version=index, slot=1
        )


def _bound(task: Task, node_id: NodeId) -> Task:
    return msgspec.structs.replace(task, node_id=node_id, status=_ASSIGNED)


def _left(task_ids: Iterable[TaskId], tasks: Mapping[TaskId, Task], why: str) -> Iterator[Left]:
    """Yield the tasks row by row: a class of equal tasks may be of several."""
    for index, names in groupby(task_ids, key=lambda task_id: tasks[task_id].spec_version):
        yield Left(tuple(names), index, why)
