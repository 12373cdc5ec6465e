"""Explanation: what ``place`` would say of one task, node by node, with every reason.

The same filters and the same ranks as in ``scheduler.place``, so that an explanation and a
decision on the same snapshot cannot differ.
"""

from dataclasses import dataclass

from cluster.model import NO_NODE, NodeId
from scheduler.demand import Demand
from scheduler.dimensions import Amounts
from scheduler.filters import all_reasons
from scheduler.plan import Counted, Reason, ReasonKind, count
from scheduler.rank import Strategy, ranking
from scheduler.room import Room
from scheduler.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one node says to the task.

    Attributes:
        reasons: everything that keeps the task off it; none if the node would take it.
    """

    node_id: NodeId
    node_name: str
    reasons: tuple[Reason, ...] = ()

    @property
    def fits(self) -> bool:
        return not self.reasons

    def __str__(self) -> str:
        return f"{self.node_name}: {'; '.join(map(str, self.reasons)) or 'would take it'}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a task could go, and what keeps it off the other nodes.

    Attributes:
        defects: why no node could ever take it, whatever the verdicts say.
        verdicts: of each node that was asked: those that would take the task first, the best
            one leading; then the others, the nearest miss leading.
    """

    defects: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

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

    @property
    def counted(self) -> tuple[Counted, ...]:
        """Every reason counted; a node with several counts under each of them."""
        return count(reason for verdict in self.verdicts for reason in verdict.reasons)


def explain(
    snapshot: Snapshot,
    demand: Demand,
    *,
    node_id: NodeId = NO_NODE,
    strategy: Strategy = Strategy.BINPACK,
) -> Explanation:
    """Judge every node for one task of *demand*, or just *node_id* if that is its only one."""
    defects = demand.defects()
    if defects:
        return Explanation(defects)
    rooms = {node.id: Room(node) for node in snapshot.nodes.values()}
    rank = ranking(demand, strategy, rooms.values(), 1)
    if node_id:
        if node_id not in rooms:
            return Explanation((), (Verdict(node_id, node_id, (Reason(ReasonKind.GONE),)),))
        rooms = {node_id: rooms[node_id]}
    judged = [(room, all_reasons(demand, room)) for room in rooms.values()]
    takers = sorted((rank(room), room.id) for room, reasons in judged if not reasons)
    misses = sorted(
        (_distance(demand.need, reasons), room.id, reasons) for room, reasons in judged if reasons
    )
    verdicts = [Verdict(id_, rooms[id_].node.name) for _, id_ in takers]
    verdicts += [Verdict(id_, rooms[id_].node.name, reasons) for _, id_, reasons in misses]
    return Explanation((), tuple(verdicts))


def _distance(need: Amounts, reasons: tuple[Reason, ...]) -> tuple[int, float]:
    """Return how far a node is from taking the task: first what room alone cannot mend.

    Missing room is measured as a share of what is needed, added up over the dimensions.
    """
    lasting = sum(1 for reason in reasons if reason.kind is not ReasonKind.ROOM)
    missing = (zip(need, reason.missing, strict=True) for reason in reasons if reason.missing)
    return lasting, sum(short / needed for parts in missing for needed, short in parts if needed)
