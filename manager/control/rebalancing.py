"""Rebalancing as clients ask for it: which moves would pay; and the wish that they be made.

Only the leader touches tasks. So the moves that this manager has worked out become part of the
cluster's record, and the leader sees to them; see ``manager.reconcilers.rebalancing``.
"""

from dataclasses import dataclass

from cluster.clock import Clock
from cluster.errors import InvalidError, StateError, UnavailableError
from cluster.model import Cluster, MoveState, NodeId
from manager import rebalancing
from manager.control.access import Access, Changes, Decision, as_stored
from manager.control.picture import Picture
from scheduler import Move


@dataclass(frozen=True, slots=True)
class Named:
    """A move, with the names that people know things by."""

    move: Move
    name: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request for a better layout comes to.

    Attributes:
        moves: in the order in which they are made; none: nothing would be any better.
        revision: that they were worked out at.
        cluster: as stored with them; None if nothing was to be changed.
    """

    moves: tuple[Named, ...]
    revision: int
    cluster: Cluster | None = None


class Rebalancing:
    """The part of the Control API that moves tasks to where they are better off."""

    def __init__(self, access: Access, picture: Picture, clock: Clock) -> None:
        self._access = access
        self._view = access.view
        self._picture = picture
        self._clock = clock

    async def ask(self, moves_max: int, *, plan: bool) -> Answer:
        """Work out moves that pay, and have them made unless it is only a plan.

        Args:
            moves_max: so many at most; 0: as many as usual.
            plan: only tell.

        Raises:
            InvalidError: a number out of range.
            StateError: moves that were asked for before are still to be made.
        """
        if not 0 <= moves_max <= rebalancing.MOVES_MAX:
            raise InvalidError(
                f"max_moves must be 1 to {rebalancing.MOVES_MAX}, or 0 for"
                f" {rebalancing.MOVES_USUALLY}, is {moves_max}"
            )
        most = moves_max or rebalancing.MOVES_USUALLY
        if not plan:
            await self._access.read(self._idle)
        found, revision = await self._picture.moves(most, self._clock.now())
        named = tuple(self._named(move) for move in found)
        if plan or not found:
            return Answer(named, revision)

        def decide() -> Decision[Cluster]:
            asked = rebalancing.with_moves(self._idle(), found, self._clock.now())
            changes = Changes()
            changes.save(asked)
            return Decision(changes, lambda revision: as_stored(asked, revision))

        cluster = await self._access.change(decide)
        return Answer(named, revision, cluster)

    def _idle(self) -> Cluster:
        """Return the cluster's record if nothing of an earlier request is left to do."""
        cluster = self._view.cluster
        if cluster is None:
            raise UnavailableError("the cluster is not set up yet: try again in a moment")
        left = sum(move.state is not MoveState.GIVEN_UP for move in cluster.moves)
        if left:
            raise StateError(
                f"{left} of the moves that were asked for before are still to be made: wait for"
                " them; `clusterctl cluster info` shows how many there are"
            )
        return cluster

    def _named(self, move: Move) -> Named:
        task = self._view.tasks.get(move.task_id)
        service = self._view.services.get(task.service_id) if task else None
        name = f"{service.spec.name}.{task.slot}" if service and task else move.task_id
        return Named(move, name, self._host(move.source), self._host(move.target))

    def _host(self, node_id: NodeId) -> str:
        node = self._view.nodes.get(node_id)
        return (node.description.hostname if node else "") or node_id
