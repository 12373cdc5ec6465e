"""What a request comes to: which specs change, and what becomes of each place. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from cluster import dependencies, lifecycle
from cluster.jobs import newest_begun
from cluster.model import (
    Node,
    NodeId,
    NodeSpec,
    NodeState,
    RunState,
    Service,
    ServiceId,
    ServiceSpec,
    Task,
    TaskState,
)
from manager.reconcilers.dependents import listed, world_of
from manager.view import View


class Effect(Enum):
    """What becomes of something."""

    CREATE = "create"
    UPDATE = "update"
    RESTART = "restart"  # a task gets a successor on the same node
    MOVE = "move"  # a task gets a successor on another node
    REMOVE = "remove"
    WAIT = "wait"  # a task finds no node


@dataclass(frozen=True, slots=True)
class PlannedService:
    """A service whose spec changes; None before it is there, and after it is gone.

    Attributes:
        waits_for: what other services would not have come to, so that none of its new tasks
            starts; empty if nothing keeps them.
    """

    effect: Effect
    service_id: ServiceId
    name: str
    before: ServiceSpec | None
    after: ServiceSpec | None
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node of which something else is asked; None after it is gone."""

    effect: Effect
    node_id: NodeId
    hostname: str
    before: NodeSpec
    after: NodeSpec | None


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """What becomes of a place that does not stay as it is.

    Attributes:
        slot: 0 of a global service, whose place is the node.
        from_node: host name of the node where its task is now; empty if there is none.
        to_node: where its task will be; empty if there will be none, or none that fits.
        why: it has to wait; empty if it need not.
        run: of a job; 0 of anything else.
    """

    effect: Effect
    service: str
    slot: int
    from_node: str
    to_node: str
    why: str = ""
    run: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that would change.

    Attributes:
        services, nodes: by name.
        tasks: by service name, run and slot.
        tasks_kept: of the services concerned, places that stay as they are.
        seconds: that delays and monitoring take; pulls and starts come on top.
        awaiting_room: tasks that are placed once others have left. Where they go hangs on which
            host is free first, and nobody knows that: here all are at once.
        is_complete: the forecast reached the end; else it was cut off, and there is more.
    """

    services: tuple[PlannedService, ...] = ()
    nodes: tuple[PlannedNode, ...] = ()
    tasks: tuple[PlannedTask, ...] = ()
    tasks_kept: int = 0
    seconds: float = 0.0
    awaiting_room: int = 0
    is_complete: bool = True

    @property
    def is_empty(self) -> bool:
        return not (self.services or self.nodes or self.tasks)


def outcome(
    before: View,
    after: View,
    touched: Iterable[ServiceId],
    *,
    seconds: float = 0.0,
    awaiting_room: int = 0,
    is_complete: bool = True,
) -> Outcome:
    """Compare the cluster as it is with what it would be.

    Args:
        before: as it is.
        after: as it would be.
        touched: services of which a task may differ.
        seconds: see ``Outcome``.
        awaiting_room: likewise.
        is_complete: likewise.
    """
    concerned = sorted(set(touched))
    tasks = [each for service_id in concerned for each in _tasks(before, after, service_id)]
    kept = sum(
        len(_places(before, id_).keys() & _places(after, id_, before).keys()) for id_ in concerned
    ) - sum(bool(each.from_node) and each.effect is not Effect.REMOVE for each in tasks)
    return Outcome(
        services=tuple(sorted(_services(before, after), key=lambda each: each.name)),
        nodes=tuple(sorted(_nodes(before, after), key=lambda each: each.hostname)),
        tasks=tuple(
            sorted(
                tasks,
                key=lambda each: (
                    each.service,
                    each.run,
                    each.slot,
                    each.from_node,
                    each.to_node,
                ),
            )
        ),
        tasks_kept=kept,
        seconds=seconds,
        awaiting_room=awaiting_room,
        is_complete=is_complete,
    )


def _services(before: View, after: View) -> Iterator[PlannedService]:
    for service_id in before.services.keys() | after.services.keys():
        old, new = before.services.get(service_id), after.services.get(service_id)
        if old is new or (old and new and old.spec == new.spec):
            continue
        effect = Effect.UPDATE if old and new else Effect.CREATE if new else Effect.REMOVE
        either = new or old
        assert either is not None
        yield PlannedService(
            effect,
            service_id,
            either.spec.name,
            old.spec if old else None,
            new.spec if new else None,
            _waits_for(after, new) if new else "",
        )


def _waits_for(view: View, service: Service) -> str:
    """Return what keeps the tasks of a version, or of a job's run, from starting."""
    run = 0
    if service.spec.mode.is_job:
        status = view.jobs.get(service.id)
        newest = newest_begun(status) if status else None
        if newest is None or newest.state is not RunState.RUNNING:
            return ""
        run = newest.number
    return listed(dependencies.waits_for(service, world_of(view), run))


def _nodes(before: View, after: View) -> Iterator[PlannedNode]:
    for node_id, old in before.nodes.items():
        new = after.nodes.get(node_id)
        if new is None or new.spec != old.spec:
            effect = Effect.REMOVE if new is None else Effect.UPDATE
            yield PlannedNode(effect, node_id, _name(old), old.spec, new.spec if new else None)


Place = tuple[int, int, NodeId]  # run, slot, node


def _tasks(before: View, after: View, service_id: ServiceId) -> Iterator[PlannedTask]:
    service = after.services.get(service_id) or before.services.get(service_id)
    if service is None:
        return
    old, new = _places(before, service_id), _places(after, service_id, before)
    stuck = _stuck(before, after, service_id)
    for place in old.keys() | new.keys():
        was, will = old.get(place), new.get(place)
        if was is not None and will is not None and was.id == will.id:
            will = stuck.get(place, will)
        if was is not None and will is not None and was.id == will.id:
            if was.node_id == will.node_id and was.status.state >= TaskState.ASSIGNED:
                continue
            if not will.node_id or will.status.state < TaskState.ASSIGNED:
                continue  # it waits as before
        from_node = _hostname(before.nodes, _bound(was))
        to_node = _hostname(after.nodes, _bound(will))
        yield PlannedTask(
            effect=_effect(was, will),
            service=service.spec.name,
            slot=place[1],
            from_node=from_node,
            to_node=to_node,
            why=will.status.error if will and not to_node else "",
            run=place[0],
        )


def _bound(task: Task | None) -> NodeId:
    """Return where a task runs or will; empty while that is open."""
    return task.node_id if task and task.status.state >= TaskState.ASSIGNED else NodeId("")


def _effect(was: Task | None, will: Task | None) -> Effect:
    if will is None:
        return Effect.REMOVE
    if not _bound(will):
        return Effect.WAIT
    if not _bound(was):
        return Effect.CREATE
    return Effect.RESTART if _bound(was) == _bound(will) else Effect.MOVE


def _places(view: View, service_id: ServiceId, before: View | None = None) -> dict[Place, Task]:
    """Return the task that holds each place: live, and one that runs before one that waits.

    Args:
        view: what there is.
        service_id: whose places.
        before: what there was; tasks of jobs that have ended well since then count too.
    """
    found: dict[Place, Task] = {}
    for task in sorted(view.tasks_of_service(service_id), key=lambda each: each.status.state.rank):
        if (lifecycle.live(task) or _has_completed(task, before)) and not _is_lost(view, task):
            found[_place(task)] = task
    return found


def _has_completed(task: Task, before: View | None) -> bool:
    """Tell whether a job's task has ended well since *before*."""
    if before is None or not task.run or task.status.state is not TaskState.COMPLETE:
        return False
    was = before.tasks.get(task.id)
    return was is None or not was.status.state.finished


def _stuck(before: View, after: View, service_id: ServiceId) -> dict[Place, Task]:
    """Return the new tasks that find no node and whose predecessors therefore stay."""
    return {
        _place(task): task
        for task in after.tasks_of_service(service_id)
        if task.id not in before.tasks and lifecycle.live(task) and not _bound(task)
    }


def _place(task: Task) -> Place:
    return task.run, task.slot, NodeId("") if task.slot else task.node_id


def _is_lost(view: View, task: Task) -> bool:
    node = view.nodes.get(task.node_id)
    return bool(task.node_id) and (node is None or node.status.state is NodeState.DOWN)


def _hostname(nodes: Mapping[NodeId, Node], node_id: NodeId) -> str:
    node = nodes.get(node_id)
    return _name(node) if node is not None else node_id


def _name(node: Node) -> str:
    return node.description.hostname or node.id
