"""Changes of objects as events that people and scripts understand. Pure.

The cluster tells how objects are, not what happened: an event is the difference between an
object and what was known of it. When a snapshot comes again (another manager had to be asked),
the differences to what was known before are events too; so none is told twice.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from cluster.model import (
    JobStatus,
    Manager,
    Node,
    NodeSpec,
    Object,
    Rollout,
    RunState,
    Service,
    ServiceMode,
    ServiceVersion,
    Stack,
    Task,
    TaskState,
)
from clusterctl.follow import Update
from clusterctl.render.people import short


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that became of an object.

    Attributes:
        at: when, as the object says; seconds since 1970 UTC; 0 if it does not say: just now.
        event: in a word or two: "created", "updated", "removed", "running", "down".
        message: more of it, such as an error.
    """

    at: float
    kind: str
    id: str
    name: str
    event: str
    message: str = ""


class Watcher:
    """Turns updates into happenings."""

    def __init__(self, *, kinds: Collection[str] = (), stack: str = "") -> None:
        self.complete = False
        self._kinds = kinds
        self._stack = stack
        self._objects: dict[tuple[str, str], Object] = {}
        self._fresh: dict[tuple[str, str], Object] | None = None  # a snapshot that is not whole yet
        self._names: dict[str, tuple[str, str]] = {}  # service id to name and stack
        self._hosts: dict[str, str] = {}

    def apply(self, update: Update) -> list[Happening]:
        """Take an update and return what happened; nothing until a snapshot is whole."""
        if update.snapshot:
            self._fresh = {}
        for value in update.changed:
            self._learn(value)
        if self._fresh is not None:
            self._fresh |= {_key(value): value for value in update.changed}
            if not update.revision:
                return []
            changed: Iterable[Object] = self._fresh.values()
            removed: Iterable[Object] = [
                value for key, value in self._objects.items() if key not in self._fresh
            ]
            self._fresh = None
        else:
            changed, removed = update.changed, update.removed
        self.complete = self.complete or update.revision > 0
        happened = [*self._changes(changed), *self._removals(removed)]
        return sorted(happened, key=lambda each: each.at)

    def latest(self, count: int) -> list[Happening]:
        """Return what last became of everything, the newest last."""
        happened = (each for value in self._objects.values() for each in self._told(None, value))
        return sorted(happened, key=lambda each: each.at)[-count:] if count else []

    def _changes(self, values: Iterable[Object]) -> Iterator[Happening]:
        for value in values:
            old = self._objects.get(_key(value))
            self._objects[_key(value)] = value
            if old != value:
                yield from self._told(old, value)

    def _removals(self, values: Iterable[Object]) -> Iterator[Happening]:
        for value in list(values):
            self._objects.pop(_key(value), None)
            if isinstance(value, Task | Rollout | JobStatus):
                continue  # its history is over; that it stopped, or its service went, was told
            for each in self._told(None, value):
                yield Happening(0.0, each.kind, each.id, each.name, "removed")

    def _learn(self, value: Object) -> None:
        match value:
            case (
                Service(id=service_id, spec=spec) | ServiceVersion(service_id=service_id, spec=spec)
            ):
                self._names[service_id] = spec.name, spec.stack
            case Node():
                self._hosts[value.id] = value.description.hostname

    def _told(self, old: Object | None, value: Object) -> Iterator[Happening]:
        for each in _happened(old, value, self):
            if self._kinds and each.kind not in self._kinds:
                continue
            if not self._stack or self._stack == self.stack_of(value):
                yield each

    def stack_of(self, value: Object) -> str:
        match value:
            case Stack(name=name):
                return name
            case Service(spec=spec):
                return spec.stack
            case (
                Task(service_id=service_id)
                | Rollout(service_id=service_id)
                | JobStatus(service_id=service_id)
            ):
                return self._names.get(service_id, ("", ""))[1]
        return ""

    def service_name(self, service_id: str) -> str:
        return self._names.get(service_id, (short(service_id), ""))[0]

    def hostname(self, node_id: str) -> str:
        return self._hosts.get(node_id, "") or short(node_id)


def _key(value: Object) -> tuple[str, str]:
    match value:
        case ServiceVersion():
            return "service_version", f"{value.service_id}/{value.number}"
        case Rollout():
            return "Rollout", value.service_id
        case JobStatus():
            return "job", value.service_id
        case _:
            return type(value).__name__, getattr(value, "id", "")


def _happened(old: Object | None, value: Object, known: Watcher) -> Iterator[Happening]:
    match value:
        case Task():
            yield from _task(old if isinstance(old, Task) else None, value, known)
        case Service(id=service_id, spec=spec):
            event = "updated" if old is not None or value.spec_version > 1 else "created"
            count = f"{spec.replicas} replicas"
            replicas = count if spec.mode is ServiceMode.REPLICATED else spec.mode.value
            message = f"{spec.task.container.image}, {replicas}"
            yield Happening(value.updated_at, "service", service_id, spec.name, event, message)
        case Rollout(service_id=service_id):
            name, event = known.service_name(service_id), value.state.value
            if not isinstance(old, Rollout) or old.state is not value.state:
                yield Happening(value.changed_at, "rollout", service_id, name, event, value.message)
        case JobStatus():
            yield from _runs(old if isinstance(old, JobStatus) else None, value, known)
        case Stack():
            event = "updated" if value.updated_at > value.created_at else "deployed"
            yield Happening(value.updated_at, "stack", value.id, value.name, event)
        case Manager():
            if old is None:
                yield Happening(value.started_at, "manager", value.id, value.address, "up")
        case Node():
            yield from _node(old if isinstance(old, Node) else None, value)


def _runs(old: JobStatus | None, status: JobStatus, known: Watcher) -> Iterator[Happening]:
    before = {run.number: run.state for run in old.runs} if old is not None else {}
    for run in status.runs:
        if before.get(run.number) is not run.state:
            yield Happening(
                run.ended_at or run.started_at,
                "job",
                status.service_id,
                f"{known.service_name(status.service_id)} run {run.number}",
                "began" if run.state is RunState.RUNNING else run.state.value,
                run.message or run.cause.value,
            )


def _task(old: Task | None, task: Task, known: Watcher) -> Iterator[Happening]:
    place = task.slot or known.hostname(task.node_id)
    name = f"{known.service_name(task.service_id)}.{place} {short(task.id)}"
    status = task.status
    if old is None or old.status != status:
        where = f"on {known.hostname(task.node_id)}" if task.node_id else ""
        why = status.error or (status.message if status.state is not TaskState.RUNNING else "")
        message = ": ".join(filter(None, [where, why]))
        yield Happening(status.at, "task", task.id, name, status.state.value, message)


def _node(old: Node | None, node: Node) -> Iterator[Happening]:
    name = node.description.hostname or short(node.id)
    if old is None or old.status != node.status:
        status = node.status
        yield Happening(
            status.changed_at or node.created_at,
            "node",
            node.id,
            name,
            status.state.value,
            status.message,
        )
    if old is not None and old.spec != node.spec:
        yield Happening(0.0, "node", node.id, name, "updated", _asked(node.spec))


def _asked(spec: NodeSpec) -> str:
    """Return what is asked of a node, as far as it is not what is asked of every one."""
    parts = [
        spec.availability.value,
        ", ".join(f"{key}={text}" for key, text in sorted(spec.labels.items())),
        f"at most {spec.task_slots} tasks" if spec.task_slots else "",
        f"reserved for {', '.join(spec.reserved_for)}" if spec.reserved_for else "",
        f"volumes {', '.join(spec.volumes)}" if spec.volumes else "",
    ]
    return "; ".join(filter(None, parts))
