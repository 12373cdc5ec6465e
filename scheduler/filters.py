"""Feasibility: which nodes may run a task at all.

A filter looks at all nodes at once and yields refusals: which nodes it refuses, and how to say
why to each. To add one, write the function and list it in ``FILTERS``. Their order decides
which reason is counted for a node that several refuse: what lasts comes first (the node's
state, its labels), what passes last (room), so that "short of memory" is said only of nodes
that would do but for the memory.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from cluster.model import Affinity, Availability, NodeState, Platform
from scheduler.arrays import Bools, Floats, Ints
from scheduler.board import Board
from scheduler.demand import Demand
from scheduler.dimensions import AMOUNT_MAX, SLOTS, Amounts
from scheduler.plan import Counted, Reason, ReasonKind, count, in_order
from scheduler.table import FREE_MIN

_STATES = {NodeState.DOWN: "down", NodeState.UNKNOWN: "not heard of yet"}
_UNREACHED = "without connection to a manager"
_AVAILABILITIES = {Availability.PAUSE: "paused", Availability.DRAIN: "draining"}


class Refusal(NamedTuple):
    """Nodes that refuse for one reason.

    Attributes:
        nodes: which do.
        reason: what to say of one of them, given its row; the same to all if it is a value.
    """

    nodes: Bools
    reason: Reason | Callable[[int], Reason]

    def said_of(self, row: int) -> Reason:
        return self.reason(row) if callable(self.reason) else self.reason


Filter = Callable[[Demand, Board], Iterator[Refusal]]


def takes_tasks(_demand: Demand, board: Board) -> Iterator[Refusal]:
    """Take only nodes that live, are open, and whose room is known."""
    table = board.table
    shut = ~table.is_open
    if not shut.any():
        return
    said: dict[str, list[int]] = {}
    for row in np.flatnonzero(shut).tolist():
        node = table.nodes[row]
        lasting = (
            _STATES.get(node.state) or ("" if node.is_reached else _UNREACHED),
            _AVAILABILITIES.get(node.availability),
        )
        subjects = [subject for subject in lasting if subject]
        for subject in subjects or [f"holds {node.unsized[0]}, of whose needs nothing is known"]:
            said.setdefault(subject, []).append(row)
    order = [*_STATES.values(), _UNREACHED, *_AVAILABILITIES.values()]
    for subject in sorted(said, key=lambda subject: (subject not in order, subject)):
        yield Refusal(_rows(board, said[subject]), Reason(ReasonKind.NODE, subject))


def is_tolerated(demand: Demand, board: Board) -> Iterator[Refusal]:
    """Take a node that is reserved only if the task tolerates every name it is reserved for."""
    table = board.table
    refused = ~table.terrain.tolerated(demand.tolerates)

    def reason(row: int) -> Reason:
        names = table.nodes[row].reserved_for
        missing = (name for name in names if name not in demand.tolerates)
        return Reason(ReasonKind.RESERVED, " and ".join(missing))

    yield Refusal(refused, reason)


def has_platform(demand: Demand, board: Board) -> Iterator[Refusal]:
    """Compare operating system and architecture with what the image was built for."""
    if demand.platforms:
        names = " or ".join(map(_platform, demand.platforms))
        refused = ~board.table.terrain.runs(demand.platforms)
        yield Refusal(refused, Reason(ReasonKind.PLATFORM, names))


def meets_constraints(demand: Demand, board: Board) -> Iterator[Refusal]:
    """Require every constraint (I6)."""
    for constraint in demand.constraints:
        refused = ~board.table.terrain.holds(constraint)
        yield Refusal(refused, Reason(ReasonKind.CONSTRAINT, str(constraint)))


def has_volumes(demand: Demand, board: Board) -> Iterator[Refusal]:
    """Go where each bound volume is; anywhere if it is nowhere yet."""
    for volume in demand.volumes:
        home = board.home(volume)
        if home is not None:
            yield Refusal(~home, Reason(ReasonKind.VOLUME, volume))


def keeps_company(demand: Demand, board: Board) -> Iterator[Refusal]:
    """Be near what it must be near, apart from what it must be apart from, and not unwanted.

    The first task of a service that must be near its own goes anywhere that is a place.
    """
    for affinity in demand.affinities:
        if affinity.weight:
            continue
        if affinity.anti:
            refused = board.near(affinity.service, affinity.topology)
        elif (
            affinity.service == demand.service and not board.replicas_by_name(demand.service).any()
        ):
            refused = board.table.terrain.places(affinity.topology) == 0
        else:
            refused = ~board.near(affinity.service, affinity.topology)
        yield Refusal(refused, Reason(ReasonKind.AFFINITY, said_of(affinity, met=False)))
    unwanted = board.repels(demand)
    if unwanted is not None:
        said = f"near tasks that must be apart from {demand.service}"
        yield Refusal(unwanted, Reason(ReasonKind.AFFINITY, said))


def may_have_another(demand: Demand, board: Board) -> Iterator[Refusal]:
    """Hold the limit of replicas per node; tasks that still stop count too."""
    limit = demand.max_replicas_per_node
    if limit:
        full = board.replicas(demand.service_id) >= limit
        yield Refusal(full, Reason(ReasonKind.REPLICAS, str(limit)))


def has_ports_free(demand: Demand, board: Board) -> Iterator[Refusal]:
    """Give each port of a host one holder (I1)."""
    for port in demand.ports:
        yield Refusal(board.port_taken(port), Reason(ReasonKind.PORT, str(port)))


def has_room(demand: Demand, board: Board) -> Iterator[Refusal]:
    """Compare reservations, not use: what is promised must be deliverable (I1)."""
    table = board.table
    refused = board.slots < 1
    for name, amount in demand.need:
        index = table.dimensions.get(name)
        refused = refused | (board.free[index] < amount if index is not None else True)
    yield Refusal(refused, lambda row: Reason(ReasonKind.ROOM, missing=missing(demand, board, row)))


FILTERS: tuple[Filter, ...] = (
    takes_tasks,
    is_tolerated,
    has_platform,
    meets_constraints,
    has_volumes,
    keeps_company,
    may_have_another,
    has_ports_free,
    has_room,
)

# What an open node decides by what stands and is planned, not by its description.
PASSING = (has_volumes, keeps_company, may_have_another, has_ports_free)


def refusals(demand: Demand, board: Board) -> list[Refusal]:
    """Return everything that keeps a task of *demand* off nodes, in the order that counts."""
    return [refusal for refuses in FILTERS for refusal in refuses(demand, board)]


def reasons_of(refused: list[Refusal], row: int) -> tuple[Reason, ...]:
    """Return everything that keeps the task off one node; nothing if it takes it."""
    return tuple(refusal.said_of(row) for refusal in refused if refusal.nodes[row])


class Judgement(NamedTuple):
    """What every node says to one task.

    Attributes:
        reasons: by row: everything that keeps the task off the node.
        lasting: by row: how many of them are not lack of room.
        short: by row: the missing room as shares of what is needed, added up.
    """

    reasons: list[list[Reason]]
    lasting: Ints
    short: Floats


def judge(demand: Demand, board: Board) -> Judgement:
    """Ask every filter of every node."""
    reasons: list[list[Reason]] = [[] for _ in board.table.ids]
    lasting = np.zeros(len(board.table), dtype=np.int64)
    short = np.zeros(len(board.table))
    for refuses in FILTERS:
        for refusal in refuses(demand, board):
            rows = np.flatnonzero(refusal.nodes)
            if refuses is has_room:
                names, amounts = _lacks(demand, board, rows)
                whole = np.array([1, *(amount for _, amount in demand.need)], dtype=np.float64)
                short[rows] = (amounts / whole[:, None]).sum(axis=0)
                for row, missed in zip(rows.tolist(), _listed(names, amounts), strict=True):
                    reasons[row].append(Reason(ReasonKind.ROOM, missing=missed))
                continue
            lasting += refusal.nodes
            said = refusal.reason
            for row in rows.tolist():
                reasons[row].append(said if isinstance(said, Reason) else said(row))
    return Judgement(reasons, lasting, short)


def counted(demand: Demand, board: Board) -> tuple[Counted, ...]:
    """Count the nodes that refuse, each by its first reason, the most frequent first."""
    left = np.ones(len(board.table), dtype=np.bool_)
    found: list[Counted] = []
    for refuses in FILTERS:
        for refusal in refuses(demand, board):
            first = refusal.nodes & left
            left &= ~refusal.nodes
            if refuses is has_room:
                found += _short(demand, board, np.flatnonzero(first))
            elif isinstance(refusal.reason, Reason):
                number = int(np.count_nonzero(first))
                found += [Counted(refusal.reason, number)] if number else []
            else:
                found += count(map(refusal.said_of, np.flatnonzero(first).tolist()))
    return in_order(found)


def missing(demand: Demand, board: Board, row: int) -> Amounts:
    """Return how much would have to be freed on a node to make room for the task.

    Free room may be negative (a host's capacity shrank). That is no obstacle in a dimension in
    which nothing is needed: the task would not make it worse.
    """
    return next(_listed(*_lacks(demand, board, np.array([row]))))


def said_of(affinity: Affinity, *, met: bool) -> str:
    """Write what an affinity comes to on a node: "not near db (node.labels.zone)"."""
    is_near = affinity.anti is not met
    return f"{'' if is_near else 'not '}near {affinity.service} ({affinity.topology})"


def _short(demand: Demand, board: Board, rows: Ints) -> Iterator[Counted]:
    """Count lack of room by the dimensions that lack, with the least that is missing."""
    if not len(rows):
        return
    names, amounts = _lacks(demand, board, rows)
    patterns = (amounts > 0).T @ (1 << np.arange(len(names)))
    for pattern in np.unique(patterns).tolist():
        alike = amounts[:, patterns == pattern]
        short = [index for index in range(len(names)) if pattern >> index & 1]
        least = tuple((names[index], int(alike[index].min())) for index in short)
        varies = any(alike[index].min() != alike[index].max() for index in short)
        yield Counted(Reason(ReasonKind.ROOM, missing=least), alike.shape[1], varies)


def _listed(names: list[str], amounts: Ints) -> Iterator[Amounts]:
    """Yield what each node lacks, without what it does not."""
    for lacks in amounts.T.tolist():
        yield tuple((name, lack) for name, lack in zip(names, lacks, strict=True) if lack)


def _lacks(demand: Demand, board: Board, rows: Ints) -> tuple[list[str], Ints]:
    """Return names of dimensions, and (dimension, node) what is missing there."""
    names = [SLOTS, *(name for name, _ in demand.need)]
    lacks = [np.maximum(1 - board.slots[rows], 0)]
    for name, amount in demand.need:
        index = board.table.dimensions.get(name)
        free = board.free[index, rows] if index is not None else np.zeros_like(rows)
        # What is far below nothing counts as less far, lest the difference overflow.
        least = max(FREE_MIN, amount - AMOUNT_MAX)
        lacks.append(np.maximum(amount - np.maximum(free, least), 0))
    return names, np.array(lacks)


def _platform(platform: Platform) -> str:
    return f"{platform.os or 'any'}/{platform.architecture or 'any'}"


def _rows(board: Board, rows: list[int]) -> Bools:
    mask = np.zeros(len(board.table), dtype=np.bool_)
    mask[rows] = True
    return mask
