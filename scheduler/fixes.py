"""Fixes: the single changes each of which would give a waiting task a place.

A change is one thing that somebody can do: free so much room on one node, label it, open it,
free its port; or let the service ask for less. Proposed is what was found to be the only thing
that keeps a node from taking the task, so each fix works, alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from heapq import nsmallest

from cluster.constraints import NODE_LABELS, Operator, matches
from cluster.model import Availability
from scheduler.board import Board
from scheduler.demand import Demand
from scheduler.dimensions import Amounts, written
from scheduler.filters import Judgement, said_of
from scheduler.plan import Reason, ReasonKind

# Nodes that are named for one thing that could be done on each: more is no help to a reader.
NAMED_MAX = 8

# Operators that a label with the right value is sure to meet.
_BY_VALUE = (Operator.EQUAL, Operator.IN)


class FixKind(IntEnum):
    """What to do, from the least that others notice of it to what changes the service."""

    FREE = 0  # room on a node
    LABEL = 1  # give a node a label
    PORT = 2  # free a port of a node
    OPEN = 3  # make a node active
    TOLERATE = 4  # let the service go to reserved nodes
    RELAX = 5  # drop a demand of the service


@dataclass(frozen=True, slots=True)
class Fix:
    """One change that would place the task; ``str()`` says it as an instruction.

    Attributes:
        node_name: of the node to change; empty if it is the service that changes.
        subject: label and value, port, name to tolerate, or the demand to drop.
        amounts: of kind FREE: how much.
        node_count: how many nodes would take the task then.
    """

    kind: FixKind
    node_name: str = ""
    subject: str = ""
    amounts: Amounts = ()
    node_count: int = 1

    def __str__(self) -> str:
        match self.kind:
            case FixKind.FREE:
                return f"free {written(self.amounts)} on {self.node_name}"
            case FixKind.LABEL:
                return f"give {self.node_name} the label {self.subject}"
            case FixKind.PORT:
                return f"free host port {self.subject} on {self.node_name}"
            case FixKind.OPEN:
                return f"make {self.node_name} active"
            case FixKind.TOLERATE:
                return f"let the service tolerate {self.subject} ({_nodes(self.node_count)})"
        return f"do without: {self.subject} ({_nodes(self.node_count)})"


def fixes(board: Board, demand: Demand, judged: Judgement, rows: Sequence[int]) -> tuple[Fix, ...]:
    """Return fixes for a task that no node takes, the smallest first.

    Args:
        board: the nodes.
        demand: of the task.
        judged: what every node says to it.
        rows: of the nodes that were asked.
    """
    alone: dict[tuple[Reason, ...], list[int]] = {}
    room: list[int] = []
    for row in rows:
        reasons = judged.reasons[row]
        if len(reasons) == 1 and reasons[0].kind is ReasonKind.ROOM:
            room.append(row)
        elif len(reasons) == 1 or all(each.kind is ReasonKind.CONSTRAINT for each in reasons):
            alone.setdefault(tuple(reasons), []).append(row)
    found = [
        Fix(FixKind.FREE, board.table.nodes[row].name, amounts=judged.reasons[row][0].missing)
        for row in nsmallest(NAMED_MAX, room, key=lambda row: (judged.short[row], row))
    ]
    for reasons_alike, refusing in alone.items():
        if len(reasons_alike) == 1:
            found += _for_the_service(demand, reasons_alike[0], len(refusing))
        for row in refusing[:NAMED_MAX]:
            found += _for_the_node(board, demand, row, reasons_alike)
    order = sorted(enumerate(found), key=lambda each: (each[1].kind, -each[1].node_count, each[0]))
    return tuple(fix for _, fix in order)


def _for_the_node(board: Board, demand: Demand, row: int, reasons: tuple[Reason, ...]) -> list[Fix]:
    """Return what could be changed of a node, alone, to remove all its reasons."""
    node = board.table.nodes[row]
    match reasons[0].kind:
        case ReasonKind.PORT:
            return [Fix(FixKind.PORT, node.name, reasons[0].subject)]
        case ReasonKind.NODE if node.availability is not Availability.ACTIVE:
            return [Fix(FixKind.OPEN, node.name)]
        case ReasonKind.CONSTRAINT:
            labels = _labels(board, demand, row, {reason.subject for reason in reasons})
            return [Fix(FixKind.LABEL, node.name, label) for label in dict.fromkeys(labels)]
    return []


def _for_the_service(demand: Demand, reason: Reason, count: int) -> list[Fix]:
    """Return what the service could do to remove the only reason of so many nodes."""
    match reason.kind:
        case ReasonKind.RESERVED:
            return [Fix(FixKind.TOLERATE, subject=reason.subject, node_count=count)]
        case ReasonKind.AFFINITY if not _is_own(demand, reason):
            return []
        case (
            ReasonKind.CONSTRAINT | ReasonKind.PLATFORM | ReasonKind.AFFINITY | ReasonKind.REPLICAS
        ):
            return [Fix(FixKind.RELAX, subject=str(reason), node_count=count)]
    return []


def _labels(board: Board, demand: Demand, row: int, missed: set[str]) -> Iterator[str]:
    """Yield labels with which a node would meet every constraint; *missed* are those it does not.

    Not those that tell places apart for an affinity: they would change more than that.
    """
    facts = board.table.nodes[row].facts
    told_apart = {affinity.topology for affinity in demand.affinities}
    told_apart.update(topology for _, topology, _ in board.table.repels)
    for term in (t for each in demand.constraints if str(each) in missed for t in each.terms):
        name = term.key.removeprefix(NODE_LABELS)
        if name == term.key or term.operator not in _BY_VALUE or term.key in told_apart:
            continue
        for value in term.values:
            labelled = replace(facts, labels={**facts.labels, name: value})
            if all(matches(constraint, labelled) for constraint in demand.constraints):
                yield f"{name}={value}"
                break


def _is_own(demand: Demand, reason: Reason) -> bool:
    """Tell whether it is the demand's own affinity that is not met."""
    return any(said_of(each, met=False) == reason.subject for each in demand.affinities)


def _nodes(number: int) -> str:
    return "1 node" if number == 1 else f"{number} nodes"
