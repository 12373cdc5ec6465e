"""Rebalancing that nobody asks for: the leader asks itself, now and then, if it is told to.

Only while all is calm, within the hours that operators have set, and only for what pays; what is
found becomes a wish in the cluster's record, as an operator's would. Which moves pay, and why a
task cannot go to and fro, is told in docs/decisions/0014-rebalancing.md.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from typing import NoReturn

from cluster import hours, lifecycle
from cluster.clock import Clock
from cluster.model import (
    Availability,
    Cluster,
    MoveState,
    NodeState,
    RolloutState,
    Task,
    TaskId,
    TaskState,
)
from manager import rebalancing
from manager.committer import Change, Committer
from manager.reconcilers.loop import settle
from manager.store.interface import Revision, StoreUnavailableError
from manager.view import View
from scheduler import Move

log = logging.getLogger(__name__)

# Between two looks. Whatever could be better has time; a look costs some seconds of one CPU where
# there are a thousand nodes with ten thousand tasks.
LOOK_SECONDS = 120.0

FindMoves = Callable[
    [int, float, Container[TaskId]], Awaitable[tuple[Sequence[Move], Revision]]
]  # at most how many, the time, which tasks stay

_UNDER_WAY = (RolloutState.UPDATING, RolloutState.CANARY, RolloutState.ROLLING_BACK)


async def rebalance_now_and_then(
    view: View, committer: Committer, find: FindMoves, clock: Clock
) -> NoReturn:
    """Ask for moves that pay, for as long as this manager leads.

    Raises:
        FenceBrokenError: somebody else leads.
    """
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        cluster = view.cluster
        if cluster is None or not is_time(cluster, clock.now()) or unrest(view):
            continue
        spec = cluster.spec.rebalancing
        stay = resting(cluster, view.tasks, clock.now())
        found, _ = await find(spec.moves, clock.now(), stay)
        if not found or view.cluster != cluster or unrest(view):
            continue  # the world has moved on meanwhile
        asked = rebalancing.with_moves(cluster, found, clock.now())
        log.info("moves pay", extra={"moves": len(found)})
        try:
            await committer.commit([Change(save=(asked,), why=f"{len(found)} moves pay")])
        except StoreUnavailableError as error:
            log.warning("the outcome of a commit is unknown", extra={"error": str(error)})
            await settle(committer)


def is_time(cluster: Cluster, now: float) -> bool:
    """Tell whether moves may be begun without being asked for."""
    spec = cluster.spec.rebalancing
    return spec.automatic and hours.within(spec.hours, spec.time_zone, now)


def unrest(view: View) -> str:
    """Return what goes on, so that nothing is moved meanwhile; empty if all is calm."""
    cluster = view.cluster
    if cluster is not None and any(m.state is not MoveState.GIVEN_UP for m in cluster.moves):
        return "moves are to be made already"
    for node in view.nodes.values():
        name = node.description.hostname or node.id
        if node.status.state is not NodeState.READY:
            return f"node {name} is {node.status.state.value}"
        if node.spec.availability is Availability.DRAIN and any(
            lifecycle.occupies(task) for task in view.tasks_on_node(node.id)
        ):
            return f"node {name} is being drained"
    for rollout in view.rollouts.values():
        if rollout.state in _UNDER_WAY:
            return f"the rollout of service {rollout.service_id} is {rollout.state.value}"
    for task in view.tasks.values():
        if task.moving and lifecycle.live(task):
            return f"task {task.id} is to move"
        if lifecycle.wanted(task) and task.status.state < TaskState.ASSIGNED:
            return f"task {task.id} waits for a node"
    return ""


def resting(cluster: Cluster, tasks: Mapping[TaskId, Task], now: float) -> frozenset[TaskId]:
    """Return the tasks that have begun, or could not be moved, so short ago that they stay."""
    since = now - cluster.spec.rebalancing.rest_seconds
    young = (task.id for task in tasks.values() if task.created_at > since)
    stuck = (move.task_id for move in cluster.moves if move.changed_at > since)
    return frozenset((*young, *stuck))
