"""A cluster that is otherwise: which tasks would stay, which would want a place. Pure.

The rules are those of the reconcilers, once all has settled: a service has one live task in each
place that ``manager.reconcilers.services`` wants, of its newest template; tasks of nodes that are
down or drained want places elsewhere, except a global service's, which end with their node. Of a
job that is new or changed the tasks come that its run begins with; else those count that it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from cluster import lifecycle
from cluster.model import (
    NO_NODE,
    Availability,
    Node,
    NodeId,
    NodeState,
    Rollout,
    Scaling,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    ServiceVersion,
    Task,
    TaskId,
    TaskStatus,
)
from cluster.scaling import as_scaled
from manager.reconcilers import services
from manager.reconcilers.jobs.facts import comes_to

# Of services and tasks that exist only here: no real id has a space.
_IMAGINED = "imagined "

Versions = Mapping[tuple[ServiceId, int], ServiceVersion]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is imagined, all of it at once.

    Attributes:
        lost, drained: nodes that are down, and that are emptied.
        replicas: of services, by id.
        specs: of services that are deployed, new ones and changed ones.
    """

    lost: frozenset[NodeId] = frozenset()
    drained: frozenset[NodeId] = frozenset()
    replicas: Mapping[ServiceId, int] = field(default_factory=dict)
    specs: Sequence[ServiceSpec] = ()


@dataclass(frozen=True, slots=True)
class Real:
    """The cluster as it is.

    Attributes:
        tasks: of each service.
        scalings: of services that scale themselves.
    """

    nodes: Mapping[NodeId, Node]
    services: Mapping[ServiceId, Service]
    versions: Versions
    tasks: Mapping[ServiceId, Sequence[Task]]
    scalings: Mapping[ServiceId, Scaling] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A task that wants a place.

    Attributes:
        task: without a node, unless it has only one that it may run on.
        name: "web.3"; of a global service "web.host1".
        left: the node that it is on now; empty if it is on none.
    """

    task: Task
    name: str
    left: NodeId = NO_NODE


@dataclass(frozen=True, slots=True)
class World:
    """The cluster as it is imagined, before the scheduler has placed what arrives.

    Attributes:
        staying: tasks that keep their places.
        arrivals: the oldest first; what is new comes last.
        ending: tasks that nobody would want any more.
        services: by full name, as they would be.
        specs: of every task, by its service and version.
    """

    nodes: Mapping[NodeId, Node]
    staying: tuple[Task, ...]
    arrivals: tuple[Arrival, ...]
    ending: int
    services: Mapping[str, Service]
    specs: Mapping[tuple[ServiceId, int], ServiceSpec]

    def name_of(self, task: Task) -> str:
        """Return what people call a task."""
        spec = self.specs.get((task.service_id, task.spec_version))
        return _name(spec.name if spec else task.service_id, task, self.nodes)


def imagined(real: Real, wishes: Wishes) -> World:
    """Return the cluster with all wishes come true."""
    nodes = {node.id: _node(node, wishes) for node in real.nodes.values()}
    wanted = _services(real, wishes)
    specs = {key: version.spec for key, version in real.versions.items()}
    specs.update({(each.id, each.spec_version): each.spec for each in wanted})
    staying: list[Task] = []
    arrivals: list[Arrival] = []
    ending = 0
    for service in wanted:
        tasks = real.tasks.get(service.id, ())
        if service.spec.mode.is_job:
            is_new = service is not real.services.get(service.id)
            kept, came = _job(service, tasks, nodes, is_new=is_new)
        else:
            kept, came = _settled(service, tasks, real.versions, nodes)
        staying += kept
        arrivals += came
        moved = {arrival.task.id for arrival in came}
        ending += sum(lifecycle.live(task) and task.id not in moved for task in tasks) - len(kept)
    arrivals.sort(key=lambda each: _age(each.task))
    return World(
        nodes=nodes,
        staying=tuple(staying),
        arrivals=tuple(arrivals),
        ending=ending,
        services={each.spec.name: each for each in wanted},
        specs=specs,
    )


def _node(node: Node, wishes: Wishes) -> Node:
    if node.id in wishes.lost:
        status = msgspec.structs.replace(node.status, state=NodeState.DOWN)
        return msgspec.structs.replace(node, status=status)
    if node.id in wishes.drained:
        spec = msgspec.structs.replace(node.spec, availability=Availability.DRAIN)
        return msgspec.structs.replace(node, spec=spec)
    return node


def _services(real: Real, wishes: Wishes) -> list[Service]:
    """Return every service as it would be."""
    deployed = {spec.name: spec for spec in wishes.specs}
    wanted: list[Service] = []
    for service in real.services.values():
        spec = deployed.pop(service.spec.name, service.spec)
        if is_scaled := service.id in wishes.replicas:
            spec = msgspec.structs.replace(spec, replicas=wishes.replicas[service.id])
        asked = service if spec == service.spec else _changed(service, spec)
        wanted.append(asked if is_scaled else as_scaled(asked, real.scalings.get(service.id)))
    wanted += [Service(id=ServiceId(_IMAGINED + name), spec=s) for name, s in deployed.items()]
    return wanted


def _changed(service: Service, spec: ServiceSpec) -> Service:
    return msgspec.structs.replace(service, spec=spec, spec_version=service.spec_version + 1)


def _settled(
    service: Service, tasks: Sequence[Task], versions: Versions, nodes: Mapping[NodeId, Node]
) -> tuple[list[Task], list[Arrival]]:
    """Return the tasks of a service that keep their places, and those that want one."""
    facts = services.Facts(
        service=service,
        versions={t.spec_version: v for t in tasks if (v := versions.get(_version(t))) is not None},
        tasks=tasks,
        nodes=nodes,
        now=0.0,
        new_id=_no_id,
        jitter=lambda: 0.0,
    )
    # Whatever is under way, the newest template is what is to be.
    number = service.spec_version
    target = Rollout(service_id=service.id, spec_version=number, target=number)
    look = services.survey(facts, target)
    kept: list[Task] = []
    came: list[Arrival] = []
    for stand in look.stands:
        holder = stand.successor or stand.holder
        if holder is None and stand.is_in_use:
            continue  # it has ended by itself, and is not to be run again just now
        task = holder or _new_task(service, stand.place)
        if service.spec.mode is ServiceMode.GLOBAL and not _is_open(nodes.get(task.node_id), task):
            continue
        if holder is not None and look.complies(holder) and _has_place(holder, nodes):
            kept.append(holder)
        else:
            came.append(_arrival(service, task, nodes))
    return kept, came


def _job(
    service: Service, tasks: Sequence[Task], nodes: Mapping[NodeId, Node], *, is_new: bool
) -> tuple[list[Task], list[Arrival]]:
    """Return the tasks of a job that keep their places, and those that want one."""
    spec = service.spec
    is_global = spec.mode.is_global
    if is_new and spec.job.schedule is None:
        if is_global:
            places = [str(node.id) for node in nodes.values() if comes_to(spec, node)]
        else:
            at_once = min(spec.job.max_concurrent or spec.job.completions, spec.job.completions)
            places = [str(slot) for slot in range(1, at_once + 1)]
        made = [_new_task(service, services.Place(place)) for place in places]
        return [], [_arrival(service, task, nodes) for task in made]
    kept: list[Task] = []
    came: list[Arrival] = []
    for task in tasks:
        if not lifecycle.live(task):
            continue
        if is_global and not _is_open(nodes.get(task.node_id), task):
            continue
        if _has_place(task, nodes):
            kept.append(task)
        else:
            came.append(_arrival(service, task, nodes))
    return kept, came


def _arrival(service: Service, task: Task, nodes: Mapping[NodeId, Node]) -> Arrival:
    is_global = service.spec.mode.is_global
    wants = msgspec.structs.replace(
        task,
        spec_version=service.spec_version,
        node_id=task.node_id if is_global else NO_NODE,
        status=TaskStatus(),
        generic_items={},
    )
    left = task.node_id if lifecycle.occupies(task) else NO_NODE
    return Arrival(wants, _name(service.spec.name, task, nodes), left)


def _new_task(service: Service, place: services.Place) -> Task:
    is_global = service.spec.mode.is_global
    return Task(
        id=TaskId(f"{_IMAGINED}{service.id}.{place}"),
        service_id=service.id,
        spec_version=service.spec_version,
        slot=0 if is_global else int(place),
        node_id=NodeId(place) if is_global else NO_NODE,
    )


def _has_place(task: Task, nodes: Mapping[NodeId, Node]) -> bool:
    """Tell whether a task is on a node that keeps it."""
    node = nodes.get(task.node_id)
    return (
        lifecycle.occupies(task)
        and node is not None
        and node.status.state is NodeState.READY
        and node.spec.availability is not Availability.DRAIN
    )


def _is_open(node: Node | None, task: Task) -> bool:
    """Tell whether a global service's task is, or may come to be, on its node."""
    if node is None or node.status.state is not NodeState.READY:
        return False
    if lifecycle.occupies(task):
        return node.spec.availability is not Availability.DRAIN
    return node.spec.availability is Availability.ACTIVE


def _name(service: str, task: Task, nodes: Mapping[NodeId, Node]) -> str:
    node = nodes.get(task.node_id)
    host = node.description.hostname or node.id if node else task.node_id
    return f"{service}.{task.slot or host}"


def _age(task: Task) -> tuple[bool, float, str]:
    """Return what puts the oldest first, as the scheduling reconciler does; new ones are last."""
    return task.id.startswith(_IMAGINED), task.created_at, task.id


def _version(task: Task) -> tuple[ServiceId, int]:
    return task.service_id, task.spec_version


def _no_id() -> TaskId:
    raise AssertionError("nothing is made here")
