"""Which of a node's named generic resources a task is given."""

from collections.abc import Iterable, Mapping

from cluster.model import TaskId
from scheduler.arrays import Ints
from scheduler.demand import Demand
from scheduler.dimensions import SIZES
from scheduler.table import Table

Placed = tuple[Demand, tuple[TaskId, ...], Ints]


def give_items(
    table: Table, placed: Iterable[Placed]
) -> Mapping[TaskId, Mapping[str, tuple[str, ...]]]:
    """Return the items of each placed task that needs such; the first free ones, in order."""
    given: dict[TaskId, dict[str, tuple[str, ...]]] = {}
    left: dict[tuple[int, str], list[str]] = {}
    for demand, task_ids, sequence in placed:
        kinds = [(kind, amount) for kind, amount in demand.need if kind not in SIZES]
        if not kinds:
            continue
        for task_id, row in zip(task_ids, sequence.tolist(), strict=False):
            for kind, amount in kinds:
                free = left.setdefault((row, kind), _free(table, row, kind))
                if free:
                    given.setdefault(task_id, {})[kind] = tuple(free[:amount])
                    del free[:amount]
    return given


def _free(table: Table, row: int, kind: str) -> list[str]:
    node = table.nodes[row]
    held = set(node.items_held.get(kind, ()))
    return [name for name in node.items.get(kind, ()) if name not in held]
