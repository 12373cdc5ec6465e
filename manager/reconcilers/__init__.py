"""What the leader does: one reconciler per controller, all run by one loop.

| module       | decides                                                              |
| ------------ | -------------------------------------------------------------------- |
| services     | which tasks a service has, their restarts, rollouts of new versions  |
| jobs         | which runs a job has, and their tasks                                |
| removals     | when the tasks of a removed service are stopped                      |
| scheduling   | which node a waiting task is bound to                                |
| nodes        | which nodes can be reached; what becomes of the tasks of the others  |
| reaper       | which finished tasks and old versions are forgotten                  |
| dependents   | (pure) who is to be looked at when something others depend on changes |
| restart      | (pure) whether and when a task that ended is replaced                |
| loop, keyqueue | take what is due, plan, commit, again                              |
| compaction   | how much of the store's history is kept                              |

To add a controller, write its pure ``plan(facts) -> Plan`` and a class that fulfils
``loop.Reconciler``, and list it in ``lead``.
"""

import asyncio
import logging
import random

from cluster.clock import Clock
from cluster.ids import IdSource
from manager.committer import Committer, Fence, FenceBrokenError
from manager.reconcilers.compaction import compact_now_and_then
from manager.reconcilers.jobs import JobReconciler
from manager.reconcilers.loop import ReconcileLoop, Reconciler
from manager.reconcilers.nodes import NodeReconciler
from manager.reconcilers.reaper import Reaper
from manager.reconcilers.removals import RemovalReconciler
from manager.reconcilers.scheduling import SchedulingReconciler
from manager.reconcilers.services import ServiceReconciler
from manager.store import keys
from manager.store.interface import Revision, Store
from manager.view import View

log = logging.getLogger(__name__)


async def lead(
    create_revision: Revision,
    store: Store,
    view: View,
    clock: Clock,
    source: random.Random,
    *,
    joined_at: float,
) -> None:
    """Run every reconciler until cancelled, or until somebody else is seen to lead.

    Args:
        create_revision: of the election key that makes this manager the leader.
        store: what is written to.
        view: what is decided on.
        clock: for records and for the measure of silence.
        source: of ids and jitter.
        joined_at: since when, by the monotonic clock, this manager is in without a break.

    Raises:
        StoreUnavailableError: the election key could not be read.
    """
    item = await store.get(keys.LEADER)
    if item is None or item.create_revision != create_revision:
        return
    # Whatever the leader before has written is in the view before anything is decided.
    await view.reached(item.mod_revision)
    committer = Committer(store, view, Fence(item))
    reconcilers: list[Reconciler[object]] = [
        NodeReconciler(view, clock, joined_at),  # type: ignore[list-item]
        ServiceReconciler(view, IdSource(source), source.random, clock),  # type: ignore[list-item]
        JobReconciler(view, IdSource(source), source.random),  # type: ignore[list-item]
        RemovalReconciler(view, clock),  # type: ignore[list-item]
        SchedulingReconciler(view),  # type: ignore[list-item]
        Reaper(view),  # type: ignore[list-item]
    ]
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(compact_now_and_then(store, view), name="compaction")
            for reconciler in reconcilers:
                loop = ReconcileLoop(reconciler, view, committer, clock, source)
                group.create_task(loop.run(), name=f"reconcile {reconciler.name}")
    except* FenceBrokenError:
        log.warning("somebody else leads: stopped deciding")
