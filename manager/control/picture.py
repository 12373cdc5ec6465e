"""The cluster as the scheduler sees it, for whoever asks it a question.

The leader has a ledger of its own. Any manager answers questions, now and then; so here a
ledger is made when one is asked, and kept up with the view for as long as that is cheaper than
making another.
"""

import asyncio
from collections.abc import Callable, Container

from cluster.model import (
    NO_NODE,
    Node,
    NodeId,
    ServiceSpec,
    Session,
    SessionState,
    Strategy,
    Task,
    TaskId,
)
from manager import rebalancing
from manager.view import Batch, Change, View
from scheduler import Explanation, Ledger, Move, explain, rebalance

# Tasks that are read in one turn of the event loop: some ten milliseconds.
READ_AT_ONCE = 2_000

# Changes that are followed though nobody has asked since. Making the ledger anew costs as much as
# so many changes in a cluster of that many tasks.
CHANGES_UNASKED_MAX = 20_000


class Picture:
    """Makes, keeps and drops the ledger, and asks it."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._ledger: Ledger | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._unasked = 0
        self._asking = asyncio.Lock()

    async def explained(self, find: Callable[[], Task]) -> tuple[Task, Explanation]:
        """Explain a task as if it had no room anywhere yet; return it as it was then.

        The answer is worked out beside the event loop: on thousands of nodes it takes a while.

        Args:
            find: the task, in the view as it then is; raises what is to be raised.
        """
        async with self._asking:
            if self._ledger is None:
                self._ledger = await self._made()
            self._unasked = 0
            ledger, task = self._ledger, find()
            ledger.remove_task(task.id)
            try:
                snapshot, demand = ledger.snapshot(), ledger.demand_of(task)
            finally:
                ledger.apply_task(task)
            cluster = self._view.cluster
            aim = NO_NODE if task.moving else task.aims_at
            answer = await asyncio.to_thread(
                explain,
                snapshot,
                demand,
                node_id=aim if task.slot else task.node_id,
                strategy=cluster.spec.strategy if cluster else Strategy.BINPACK,
            )
            return task, answer

    async def moves(
        self, most: int, now: float, but: Container[TaskId] = ()
    ) -> tuple[tuple[Move, ...], int]:
        """Return moves that pay, worked out beside the event loop, and the revision they are of.

        Args:
            most: so many at most.
            now: wall time in seconds, by which failures are forgotten.
            but: tasks that stay where they are.
        """
        async with self._asking:
            if self._ledger is None:
                self._ledger = await self._made()
            self._unasked = 0
            view = self._view
            snapshot, revision = self._ledger.snapshot(now), view.revision
            facts = rebalancing.Facts(
                nodes=view.nodes,
                services=view.services,
                rollouts=view.rollouts,
                tasks_of=view.tasks_of_service,
                spec_of=self._spec_of,
            )
            movable = rebalancing.movable(facts, but)
            strategy = view.cluster.spec.strategy if view.cluster else Strategy.BINPACK
            found = await asyncio.to_thread(
                rebalance, snapshot, most, strategy=strategy, movable=movable
            )
            return found, revision

    def _spec_of(self, task: Task) -> ServiceSpec | None:
        version = self._view.version_of(task)
        return version.spec if version else None

    async def _made(self) -> Ledger:
        """Read the view in turns; what changes meanwhile is followed from the beginning."""
        ledger = Ledger(self._spec_of)
        self._unasked = 0
        self._unsubscribe = self._view.subscribe(lambda batch: self._follow(ledger, batch))
        for node in self._view.nodes.values():
            ledger.apply_node(node)
            _note_contact(ledger, self._view, node.id)
        for index, task_id in enumerate(list(self._view.tasks), 1):
            if (task := self._view.tasks.get(task_id)) is not None:
                ledger.apply_task(task)
            if index % READ_AT_ONCE == 0:
                await asyncio.sleep(0)
        return ledger

    def _follow(self, ledger: Ledger, batch: Batch) -> None:
        self._unasked += len(batch.changes)
        if self._unasked > CHANGES_UNASKED_MAX and not self._asking.locked():
            self._unsubscribe()
            self._ledger = None
            return
        for change in batch.changes:
            _apply(ledger, change)
            if isinstance(change.either, Node):
                _note_contact(ledger, self._view, change.either.id)
            elif isinstance(change.either, Session):
                _note_contact(ledger, self._view, change.either.node_id)


def _note_contact(ledger: Ledger, view: View, node_id: NodeId) -> None:
    session = view.sessions.get(node_id)
    is_live = session is not None and session.state is SessionState.LIVE
    ledger.apply_contact(node_id, is_reached=is_live)


def _apply(ledger: Ledger, change: Change) -> None:
    match change.either:
        case Node() as node if change.new is None:
            ledger.remove_node(node.id)
        case Node() as node:
            ledger.apply_node(node)
        case Task() as task if change.new is None:
            ledger.remove_task(task.id)
        case Task() as task:
            ledger.apply_task(task)
