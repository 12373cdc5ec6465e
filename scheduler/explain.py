"""Explanation: what ``place`` would say of one task, node by node, with every reason.

The same filters and the same ranks as in ``scheduler.place``, so that an explanation and a
decision on the same snapshot cannot differ. For a task that has a place, ask with a snapshot
without it (``scheduler.changes.without``): then the ranks tell why its node is the best.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cluster.model import NO_NODE, NodeId, Strategy
from scheduler.arrays import Ints
from scheduler.board import Board
from scheduler.demand import Demand
from scheduler.filters import judge
from scheduler.fixes import Fix, fixes
from scheduler.plan import Counted, Reason, ReasonKind, count
from scheduler.rank import Ranks, share_of
from scheduler.snapshot import Snapshot

# A term of a rank and its value; the smaller is the better.
Term = tuple[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one node says to the task.

    Attributes:
        reasons: everything that keeps the task off it; none if the node would take it.
        rank: if it would: the terms that nodes are compared by, in order; see
            ``scheduler.rank``.
    """

    node_id: NodeId
    node_name: str
    reasons: tuple[Reason, ...] = ()
    rank: tuple[Term, ...] = ()

    @property
    def fits(self) -> bool:
        return not self.reasons

    def __str__(self) -> str:
        return f"{self.node_name}: {'; '.join(map(str, self.reasons)) or 'would take it'}"


@dataclass(frozen=True)
class Explanation:
    """Where a task could go, and what keeps it off the other nodes.

    Attributes:
        defects: why no node could ever take it, whatever the verdicts say.
        verdicts: of each node that was asked: those that would take the task first, the best
            one leading; then the others, the nearest miss leading.
        fixes: if none would: single changes each of which would place it, the smallest first.
    """

    defects: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    fixes: tuple[Fix, ...] = ()

    @property
    def chosen(self) -> Verdict | None:
        """The node that the task would go to now."""
        if self.defects or not self.verdicts or not self.verdicts[0].fits:
            return None
        return self.verdicts[0]

    @property
    def nearest(self) -> Verdict | None:
        """Of the nodes that refuse, the one which is the least short of taking the task."""
        return next((verdict for verdict in self.verdicts if not verdict.fits), None)

    @cached_property
    def counted(self) -> tuple[Counted, ...]:
        """Every reason counted; a node with several counts under each of them."""
        return count(reason for verdict in self.verdicts for reason in verdict.reasons)

    @property
    def decisive(self) -> str:
        """The first term in which the best node beats the second best; "id" if in none.

        Empty if there are no two.
        """
        takers = [verdict for verdict in self.verdicts[:2] if verdict.fits]
        if self.chosen is None or len(takers) < len(self.verdicts[:2]) or len(takers) < 2:  # noqa: PLR2004
            return ""
        best, second = takers
        return next((name for name, value in best.rank if dict(second.rank)[name] != value), "id")


def explain(
    snapshot: Snapshot,
    demand: Demand,
    *,
    node_id: NodeId = NO_NODE,
    strategy: Strategy = Strategy.BINPACK,
) -> Explanation:
    """Judge every node for one task of *demand*, or just *node_id* if that is its only one."""
    if demand.flaws:
        return Explanation(demand.flaws)
    board = Board(snapshot, {demand.service: (demand.service_id,)} if demand.service else {})
    table = board.table
    if node_id and node_id not in table.rows:
        return Explanation((), (Verdict(node_id, node_id, (Reason(ReasonKind.GONE),)),))
    judged = judge(demand, board)
    asked = np.ones(len(table), dtype=np.bool_)
    if node_id:
        asked[:] = False
        asked[table.rows[node_id]] = True
    refused = asked & np.array([bool(reasons) for reasons in judged.reasons], dtype=np.bool_)
    misses = np.flatnonzero(refused)
    order = np.lexsort([misses, judged.short[misses], judged.lasting[misses]])
    verdicts = _ranked(board, demand, np.flatnonzero(asked & ~refused), strategy)
    mends = () if verdicts else fixes(board, demand, judged, misses.tolist())
    for row in misses[order].tolist():
        node = table.nodes[row]
        verdicts.append(Verdict(node.id, node.name, tuple(judged.reasons[row])))
    return Explanation((), tuple(verdicts), mends)


def _ranked(board: Board, demand: Demand, takers: Ints, strategy: Strategy) -> list[Verdict]:
    """Return the verdicts of nodes that would take the task, the best first."""
    if not len(takers):
        return []
    share = share_of(board, board.replicas_or_none(demand.service_id), 1)
    ranks = Ranks(board, demand, takers, share, strategy)
    at = np.arange(len(takers))
    columns = ranks.columns(at)
    order = np.lexsort([column for _, column in reversed(columns)])
    names = [name for name, _ in columns]
    values = zip(*(column.tolist() for _, column in columns), strict=True)
    terms = [tuple(zip(names, row, strict=True)) for row in values]
    nodes = [board.table.nodes[row] for row in takers.tolist()]
    return [
        Verdict(nodes[index].id, nodes[index].name, rank=terms[index]) for index in order.tolist()
    ]
