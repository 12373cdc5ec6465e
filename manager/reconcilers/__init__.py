"""What the leader does: one reconciler per controller, all run by one loop.

| module       | decides                                                              |
| ------------ | -------------------------------------------------------------------- |
| services     | which tasks a service has, their restarts, rollouts of new versions  |
| jobs         | which runs a job has, and their tasks                                |
| removals     | when the tasks of a removed service are stopped                      |
| scheduling   | which node a waiting task is bound to                                |
| nodes        | which nodes can be reached; what becomes of the tasks of the others  |
| autoscaling  | how many replicas a service has that scales itself                   |
| rebalancing  | when moves for a better layout are made, and given up                |
| unasked      | whether there shall be such moves though nobody asks                 |
| reaper       | which finished tasks and old versions are forgotten                  |
| dependents   | (pure) who is to be looked at when something others depend on changes |
| restart      | (pure) whether and when a task that ended is replaced                |
| loop, keyqueue | take what is due, plan, commit, again                              |
| compaction   | how much of the store's history is kept                              |

Beside them ``manager.journal.pruning`` bounds the journal.

To add a controller, write its pure ``plan(facts) -> Plan`` and a class that fulfils
``loop.Reconciler``, and list it in ``reconcilers_of``: forecasts run it too.
"""

import logging
import random
from collections.abc import Sequence

from cluster.clock import Clock
from cluster.ids import IdSource
from cluster.model import ManagerId
from cluster.task_group import TaskGroup
from manager.committer import Committer, Fence, FenceBrokenError
from manager.journal.leadership import tell_of_managers
from manager.journal.pruning import prune_now_and_then
from manager.journal.writer import Journal
from manager.reconcilers.autoscaling import Autoscaler, Measure
from manager.reconcilers.compaction import compact_now_and_then
from manager.reconcilers.jobs import JobReconciler
from manager.reconcilers.loop import ReconcileLoop, Reconciler
from manager.reconcilers.nodes import NodeReconciler
from manager.reconcilers.reaper import Reaper
from manager.reconcilers.rebalancing import RebalancingReconciler
from manager.reconcilers.removals import RemovalReconciler
from manager.reconcilers.scheduling import SchedulingReconciler
from manager.reconcilers.services import ServiceReconciler
from manager.reconcilers.unasked import FindMoves, rebalance_now_and_then
from manager.store import keys
from manager.store.interface import Revision, Store
from manager.view import View

log = logging.getLogger(__name__)


def reconcilers_of(
    view: View,
    clock: Clock,
    source: random.Random,
    *,
    joined_at: float,
    has_time: bool = True,
) -> Sequence[Reconciler[object]]:
    """Return all that decide, in the order in which one leads to the next.

    Args:
        view: what is decided on.
        clock: for records and for the measure of silence.
        source: of ids and jitter.
        joined_at: since when, by the clock's monotonic time, this manager is in without a break.
        has_time: False: schedules of jobs rest, for a forecast is of a request, not of a day.
    """
    reconcilers: list[Reconciler[object]] = [
        NodeReconciler(view, clock, joined_at),  # type: ignore[list-item]
        ServiceReconciler(view, IdSource(source), source.random, clock),  # type: ignore[list-item]
        JobReconciler(  # type: ignore[list-item]
            view, IdSource(source), source.random, has_time=has_time
        ),
        RemovalReconciler(view, clock),  # type: ignore[list-item]
        RebalancingReconciler(view, clock),  # type: ignore[list-item]
        SchedulingReconciler(view),  # type: ignore[list-item]
        Reaper(view),  # type: ignore[list-item]
    ]
    return reconcilers


async def lead(
    create_revision: Revision,
    store: Store,
    view: View,
    clock: Clock,
    source: random.Random,
    *,
    joined_at: float,
    find_moves: FindMoves,
    measure: Measure | None = None,
) -> None:
    """Run every reconciler until cancelled, or until somebody else is seen to lead.

    Args:
        create_revision: of the election key that makes this manager the leader.
        store: what is written to.
        view: what is decided on.
        clock: for records and for the measure of silence.
        source: of ids and jitter.
        joined_at: since when, by the monotonic clock, this manager is in without a break.
        find_moves: works out which moves would pay.
        measure: tells what tasks use; None: nothing is measured, so no service scales itself.

    Raises:
        StoreUnavailableError: the election key could not be read.
    """
    item = await store.get(keys.LEADER)
    if item is None or item.create_revision != create_revision:
        return
    # Whatever the leader before has written is in the view before anything is decided.
    await view.reached(item.mod_revision)
    own_id = ManagerId(item.value.decode())
    journal = Journal(view, clock, IdSource(source), own_id)
    committer = Committer(store, view, Fence(item), journal)
    try:
        async with TaskGroup() as group:
            group.create_task(compact_now_and_then(store, view), name="compaction")
            group.create_task(prune_now_and_then(store, committer, clock), name="journal")
            group.create_task(tell_of_managers(view, committer, own_id), name="managers")
            group.create_task(
                rebalance_now_and_then(view, committer, find_moves, clock), name="rebalance unasked"
            )
            if measure is not None:
                scaler = Autoscaler(view, committer, clock, measure)
                group.create_task(scaler.run(), name="autoscaling")
            for reconciler in reconcilers_of(view, clock, source, joined_at=joined_at):
                loop = ReconcileLoop(reconciler, view, committer, clock, source)
                group.create_task(loop.run(), name=f"reconcile {reconciler.name}")
    except* FenceBrokenError:
        log.warning("somebody else leads: stopped deciding")
