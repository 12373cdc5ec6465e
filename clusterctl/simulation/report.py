"""What a simulation has shown: where tasks went, how many nodes that took, how few it could.

The volume bound: in each dimension the largest nodes are taken until they hold all that the
placed tasks reserve; no packing needs fewer than the most of these. It knows nothing of
constraints nor that tasks cannot be cut, so the gap to it is an upper limit of what is wasted.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.model import Node, NodeId
from clusterctl.simulation.packing import Packing
from clusterctl.simulation.tables import Work

CPU, MEMORY, SLOTS = "cpu", "memory", "slots"

_PERCENT = 100


@dataclass(frozen=True, slots=True)
class Bound:
    """The fewest nodes that could do, and the dimension that says so; "" if nothing is placed."""

    nodes: int = 0
    dimension: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome in numbers.

    Attributes:
        dimensions: what nodes offer or tasks reserve; CPU and memory first.
        needs: of a task of each row, by dimension.
        capacity: of each node; unlimited is infinite.
        reserved: on each node that is in use.
        tasks: placed on each of them.
    """

    nodes: Sequence[Node]
    work: Sequence[Work]
    packing: Packing
    dimensions: tuple[str, ...]
    needs: Sequence[dict[str, float]]
    capacity: dict[NodeId, dict[str, float]]
    reserved: dict[NodeId, dict[str, float]]
    tasks: Counter[NodeId]
    bound: Bound

    @property
    def nodes_used(self) -> int:
        return len(self.reserved)

    @property
    def tasks_total(self) -> int:
        return sum(each.spec.replicas for each in self.work)

    @property
    def gap_percent(self) -> float:
        """How many more nodes are in use than the bound, in percent of it."""
        if not self.bound.nodes:
            return 0.0
        return _PERCENT * (self.nodes_used / self.bound.nodes - 1)

    def fill_percent(self, dimension: str) -> float | None:
        """How full the nodes in use are; None where that means nothing."""
        whole = sum(self.capacity[node_id][dimension] for node_id in self.reserved)
        part = sum(amounts[dimension] for amounts in self.reserved.values())
        return _PERCENT * part / whole if whole and math.isfinite(whole) else None


def reported(nodes: Sequence[Node], work: Sequence[Work], packing: Packing) -> Report:
    """Add up what a packing comes to."""
    dimensions = _dimensions(nodes, work)
    offers = {node.id: _offer(node, dimensions) for node in nodes}
    needs = [_need(each, dimensions) for each in work]
    reserved: dict[NodeId, dict[str, float]] = {}
    for placed in packing.placed:
        amounts = reserved.setdefault(placed.node_id, dict.fromkeys(dimensions, 0))
        for dimension, amount in needs[placed.work].items():
            amounts[dimension] += amount
    return Report(
        nodes=nodes,
        work=work,
        packing=packing,
        dimensions=dimensions,
        needs=needs,
        capacity=offers,
        reserved={node.id: reserved[node.id] for node in nodes if node.id in reserved},
        tasks=Counter(placed.node_id for placed in packing.placed),
        bound=_bound(list(offers.values()), list(reserved.values()), dimensions),
    )


def plain(report: Report) -> dict[str, Any]:
    """Return the report for programs."""
    packing = report.packing
    return {
        "nodes_total": len(report.nodes),
        "nodes_used": report.nodes_used,
        "nodes_bound": report.bound.nodes,
        "bound_by": report.bound.dimension,
        "gap_percent": round(report.gap_percent, 3),
        "fill_percent": {
            dimension: round(fill, 3)
            for dimension in report.dimensions
            if (fill := report.fill_percent(dimension)) is not None
        },
        "tasks_total": report.tasks_total,
        "tasks_placed": len(packing.placed),
        "tasks_unplaced": report.tasks_total - len(packing.placed),
        "placements": [
            {
                "task": placed.name,
                "service": report.work[placed.work].spec.name,
                "node": placed.node_id,
            }
            for placed in packing.placed
        ],
        "unplaced": [
            {
                "tasks": list(left.names),
                "service": report.work[left.work].spec.name,
                "line": report.work[left.work].line,
                "reason": left.why,
            }
            for left in packing.left
        ],
    }


def _dimensions(nodes: Sequence[Node], work: Sequence[Work]) -> tuple[str, ...]:
    kinds = {kind for node in nodes for kind in node.description.capacity.generic}
    kinds |= {kind for each in work for kind in each.spec.task.reservations.generic}
    slots = [SLOTS] if any(node.spec.task_slots for node in nodes) else []
    return (CPU, MEMORY, *slots, *sorted(kinds))


def _offer(node: Node, dimensions: Sequence[str]) -> dict[str, float]:
    capacity = node.description.capacity
    known: dict[str, float] = {
        CPU: capacity.cpu_nanos,
        MEMORY: capacity.memory_bytes,
        SLOTS: node.spec.task_slots or math.inf,
        **capacity.generic,
    }
    return {dimension: known.get(dimension, 0) for dimension in dimensions}


def _need(work: Work, dimensions: Sequence[str]) -> dict[str, float]:
    amounts = work.spec.task.reservations
    known: dict[str, float] = {
        CPU: amounts.cpu_nanos,
        MEMORY: amounts.memory_bytes,
        SLOTS: 1,
        **amounts.generic,
    }
    return {dimension: known.get(dimension, 0) for dimension in dimensions}


def _bound(
    offers: Sequence[dict[str, float]],
    reserved: Sequence[dict[str, float]],
    dimensions: Sequence[str],
) -> Bound:
    if not reserved:
        return Bound()
    return max(_bounds(offers, reserved, dimensions), key=lambda bound: bound.nodes)


def _bounds(
    offers: Sequence[dict[str, float]],
    reserved: Sequence[dict[str, float]],
    dimensions: Sequence[str],
) -> Iterator[Bound]:
    for dimension in dimensions:
        left = sum(amounts[dimension] for amounts in reserved)
        count = 0
        for largest in sorted((offer[dimension] for offer in offers), reverse=True):
            if count and left <= 0:
                break
            left -= largest
            count += 1
        yield Bound(count, dimension)
