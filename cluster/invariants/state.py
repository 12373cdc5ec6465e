"""The objects of a cluster at one moment, found by what the invariants ask for.

Whoever follows a cluster feeds it each change; a change costs what it touches, not the
cluster. What the index keys of names say can be fed too, where they are visible.

The invariants have rules of their own for what a task's state means, and do not ask
``cluster.lifecycle``: so both would have to be wrong.
"""

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

from cluster.model import (
    NO_NODE,
    JobStatus,
    Node,
    NodeId,
    Object,
    Scaling,
    Service,
    ServiceId,
    ServiceVersion,
    Stack,
    StackId,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
)

K = TypeVar("K")
V = TypeVar("V")


class Place(NamedTuple):
    """What a service has one task in: a slot, or a node if it is global (then the slot is 0).

    Each run of a job has places of its own.
    """

    service_id: ServiceId
    slot: int
    node_id: NodeId
    run: int = 0

    @classmethod
    def of(cls, task: Task) -> "Place":
        return cls(task.service_id, task.slot, NO_NODE if task.slot else task.node_id, task.run)


class Step(NamedTuple):
    """What became of one object; ``old`` is None for a new one, ``new`` for one that is gone."""

    old: Object | None
    new: Object | None


class Name(NamedTuple):
    """A name among those of a kind ("services", "stacks"), as its index key has it."""

    kind: str
    text: str


def takes_room(task: Task) -> bool:
    """Tell whether the task takes room and ports on its node: bound, and its end not seen."""
    return bool(task.node_id) and TaskState.ASSIGNED <= task.status.state < TaskState.COMPLETE


def is_current(task: Task) -> bool:
    """Tell whether the task is the one of its place: to run, and its end not seen."""
    return task.desired_state <= TaskState.COMPLETE and task.status.state < TaskState.COMPLETE


def may_start(task: Task) -> bool:
    """Tell whether the task was let to start, and is not to stop."""
    return task.desired_state in (TaskState.RUNNING, TaskState.COMPLETE)


class State:
    """What there is. Read the mappings, never change them.

    Attributes:
        names: the id that each name stands for; None where index keys are not visible, as over
            the Control API.
    """

    def __init__(self, *, with_names: bool = False) -> None:
        self.nodes: dict[NodeId, Node] = {}
        self.services: dict[ServiceId, Service] = {}
        self.versions: dict[tuple[ServiceId, int], ServiceVersion] = {}
        self.stacks: dict[StackId, Stack] = {}
        self.jobs: dict[ServiceId, JobStatus] = {}
        self.scalings: dict[ServiceId, Scaling] = {}
        self.tasks: dict[TaskId, Task] = {}
        self.names: dict[Name, str] | None = {} if with_names else None
        self._on_node: _Index[NodeId, Task] = _Index(lambda task: task.node_id)
        self._in_place: _Index[Place, Task] = _Index(Place.of)
        self._of_service: _Index[ServiceId, Task] = _Index(lambda task: task.service_id)
        self._service_names: _Index[str, Service] = _Index(lambda service: service.spec.name)
        self._members: _Index[str, Service] = _Index(lambda service: service.spec.stack)
        self._stack_names: _Index[str, Stack] = _Index(lambda stack: stack.name)
        self._version_names: _Index[str, ServiceVersion] = _Index(lambda each: each.spec.name)
        self._repelling: _Index[bool, ServiceVersion] = _Index(_repels)

    @classmethod
    def of(cls, objects: Iterable[Object]) -> "State":
        """Return the state of a cluster that is given whole, without the keys of names."""
        state = cls()
        for value in objects:
            state.put(value)
        return state

    # --- reading ---

    def on_node(self, node_id: NodeId) -> Iterable[Task]:
        return self._on_node.get(node_id)

    def in_place(self, place: Place) -> Iterable[Task]:
        return self._in_place.get(place)

    def places(self) -> Iterable[Place]:
        return self._in_place.keys()

    def of_service(self, service_id: ServiceId) -> Iterable[Task]:
        return self._of_service.get(service_id)

    def services_named(self, name: str) -> Iterable[Service]:
        return self._service_names.get(name)

    def services_in(self, stack: str) -> Iterable[Service]:
        return self._members.get(stack)

    def stacks_named(self, name: str) -> Iterable[Stack]:
        return self._stack_names.get(name)

    def ids_called(self, name: str) -> Iterable[ServiceId]:
        """Return the services that have, or had, that name and are not quite gone."""
        return dict.fromkeys(version.service_id for version in self._version_names.get(name))

    def versions_that_repel(self) -> Iterable[ServiceVersion]:
        """Return the versions whose tasks must be apart from those of some service."""
        return self._repelling.get(True)

    def spec_of(self, task: Task) -> TaskSpec | None:
        """Return the template that *task* runs; None if that version is not there."""
        version = self.versions.get((task.service_id, task.spec_version))
        return version.spec.task if version else None

    # --- what people call things ---

    def called(self, task: Task) -> str:
        """Return a task's name and id: ``web.3 (x7f...)``."""
        place = str(task.slot) if task.slot else self.node_called(task.node_id)
        return f"{self.service_called(task.service_id)}.{place} ({task.id})"

    def node_called(self, node_id: NodeId) -> str:
        node = self.nodes.get(node_id)
        return (node.description.hostname if node else "") or node_id

    def service_called(self, service_id: ServiceId) -> str:
        service = self.services.get(service_id)
        return service.spec.name if service else f"removed service {service_id}"

    # --- feeding ---

    def put(self, value: Object) -> Step:
        """Hold *value* from now on, whatever was held of it; return what that changed."""
        old: Object | None = None
        match value:
            case Task():
                old = self.tasks.get(value.id)
                self.tasks[value.id] = value
                self._index_task(value.id, old, value)
            case Service():
                old = self.services.get(value.id)
                self.services[value.id] = value
                self._index_service(value.id, old, value)
            case ServiceVersion():
                old = self.versions.get((value.service_id, value.number))
                self.versions[value.service_id, value.number] = value
                self._index_version(value, old, value)
            case Node():
                old = self.nodes.get(value.id)
                self.nodes[value.id] = value
            case JobStatus():
                old = self.jobs.get(value.service_id)
                self.jobs[value.service_id] = value
            case Scaling():
                old = self.scalings.get(value.service_id)
                self.scalings[value.service_id] = value
            case Stack():
                old = self.stacks.get(value.id)
                self.stacks[value.id] = value
                self._stack_names.move(value.id, old, value)
        return Step(old, value)

    def drop(self, value: Object) -> Step:
        """Hold the object no more that *value* is a state of; return what that changed."""
        old: Object | None = None
        match value:
            case Task():
                old = self.tasks.pop(value.id, None)
                self._index_task(value.id, old, None)
            case Service():
                old = self.services.pop(value.id, None)
                self._index_service(value.id, old, None)
            case ServiceVersion():
                old = self.versions.pop((value.service_id, value.number), None)
                self._index_version(value, old, None)
            case Node():
                old = self.nodes.pop(value.id, None)
            case JobStatus():
                old = self.jobs.pop(value.service_id, None)
            case Scaling():
                old = self.scalings.pop(value.service_id, None)
            case Stack():
                old = self.stacks.pop(value.id, None)
                self._stack_names.move(value.id, old, None)
        return Step(old, None)

    def name(self, name: Name, object_id: str | None) -> None:
        """Note what a name's index key says; None: there is no such key (any more)."""
        assert self.names is not None, "this state was made without names"
        if object_id is None:
            self.names.pop(name, None)
        else:
            self.names[name] = object_id

    def _index_task(self, task_id: TaskId, old: Task | None, new: Task | None) -> None:
        self._on_node.move(task_id, old, new)
        self._in_place.move(task_id, old, new)
        self._of_service.move(task_id, old, new)

    def _index_service(
        self, service_id: ServiceId, old: Service | None, new: Service | None
    ) -> None:
        self._service_names.move(service_id, old, new)
        self._members.move(service_id, old, new)

    def _index_version(
        self, value: ServiceVersion, old: ServiceVersion | None, new: ServiceVersion | None
    ) -> None:
        version_id = f"{value.service_id}/{value.number}"
        self._version_names.move(version_id, old, new)
        self._repelling.move(version_id, old, new)


def _repels(version: ServiceVersion) -> bool:
    affinities = version.spec.task.placement.affinities
    return any(affinity.anti and not affinity.weight for affinity in affinities)


class _Index(Generic[K, V]):
    """Objects by something that several may have in common."""

    def __init__(self, key_of: Callable[[V], K]) -> None:
        self._key_of = key_of
        self._held: dict[K, dict[str, V]] = {}

    def get(self, key: K) -> Iterable[V]:
        held = self._held.get(key)
        return held.values() if held else ()

    def keys(self) -> Iterable[K]:
        return self._held.keys()

    def move(self, object_id: str, old: V | None, new: V | None) -> None:
        if old is not None:
            key = self._key_of(old)
            held = self._held[key]
            del held[object_id]
            if not held:
                del self._held[key]
        if new is not None:
            self._held.setdefault(self._key_of(new), {})[object_id] = new
