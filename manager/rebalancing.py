"""Who may be moved for a better layout: the one place where that is decided. Pure.

The scheduler says which moves pay. Whether a task can be spared from what it is at is a matter of
its service: asked when moves are looked for, and again when a move's turn has come, for by then
all may be otherwise.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from cluster import lifecycle
from cluster.model import (
    AskedMove,
    Availability,
    Cluster,
    LostNodePolicy,
    Node,
    NodeId,
    NodeState,
    Rollout,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    Task,
    TaskId,
    TaskState,
)
from manager import disruption
from scheduler import Move

# Moves that the cluster's record holds at most, each some 150 bytes of what every manager has. A
# layout that needs more is looked at again when these are made.
MOVES_MAX = 100

# What a request comes to that does not say: as many as people can follow.
MOVES_USUALLY = 10


@dataclass(frozen=True, slots=True)
class Facts:
    """What it depends on whether tasks may be moved."""

    nodes: Mapping[NodeId, Node]
    services: Mapping[ServiceId, Service]
    rollouts: Mapping[ServiceId, Rollout]
    tasks_of: Callable[[ServiceId], Iterable[Task]]
    spec_of: Callable[[Task], ServiceSpec | None]


def movable(facts: Facts, but: Container[TaskId] = ()) -> frozenset[TaskId]:
    """Return the tasks that may be moved now, without some that are to stay."""
    return frozenset(task_id for task_id in _movable(facts) if task_id not in but)


def _movable(facts: Facts) -> Iterator[TaskId]:
    for service in facts.services.values():
        tasks = list(facts.tasks_of(service.id))
        if not _service_hinders(facts, service, tasks):
            yield from (task.id for task in tasks if not _task_hinders(facts, service, task))


def hindrance(facts: Facts, task: Task) -> str:
    """Return why *task* may not be moved now; empty if it may."""
    service = facts.services.get(task.service_id)
    if service is None:
        return "its service is gone"
    tasks = list(facts.tasks_of(service.id))
    return _service_hinders(facts, service, tasks) or _task_hinders(facts, service, task)


def _service_hinders(facts: Facts, service: Service, tasks: Iterable[Task]) -> str:
    spec = service.spec
    if spec.mode is not ServiceMode.REPLICATED:
        return f"its service is {spec.mode.value}"
    rollout = facts.rollouts.get(service.id)
    if rollout is not None and not rollout.state.settled:
        return f"the rollout of its service is {rollout.state.value}"
    if spec.task.lost_node.policy is LostNodePolicy.FENCE:
        return "its service fences it: it would be away until its end is certain"
    if missing := disruption.missing(service, tasks):
        return f"its service lacks {missing} of {spec.replicas} replicas"
    return ""


def _task_hinders(facts: Facts, service: Service, task: Task) -> str:
    if not lifecycle.wanted(task) or task.status.state is not TaskState.RUNNING:
        return "it does not run"
    if task.moving:
        return f"it is to move already: {task.moving}"
    if task.spec_version != service.spec_version:
        own = facts.spec_of(task)
        if own is None or lifecycle.needs_replacing(own.task, service.spec.task):
            return "its service has a new version"
    return closed(facts.nodes.get(task.node_id))


def closed(node: Node | None) -> str:
    """Return why nothing is moved to a node, or from it; empty if it is ready and active."""
    if node is None:
        return "its node is gone"
    name = node.description.hostname or node.id
    if node.status.state is not NodeState.READY:
        return f"node {name} is {node.status.state.value}"
    if node.spec.availability is not Availability.ACTIVE:
        return f"node {name} is set to {node.spec.availability.value}"
    return ""


def with_moves(cluster: Cluster, moves: Iterable[Move], now: float) -> Cluster:
    """Return the cluster's record with moves that the leader shall make.

    What was given up before is kept behind them, as far as there is room: who looks by himself
    for moves that pay leaves those alone for a while.
    """
    asked = [
        AskedMove(task_id=move.task_id, node_id=move.target, why=move.why, changed_at=now)
        for move in moves
    ]
    again = {move.task_id for move in asked}
    before = [move for move in cluster.moves if move.task_id not in again]
    return msgspec.structs.replace(cluster, moves=(*asked, *before)[:MOVES_MAX])
