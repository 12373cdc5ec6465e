"""What managers answer, as values: the summaries beside the model's own objects.

Each mirrors the message of the same name in ``control.proto``, field by field where it has them;
``read`` makes one from the other.
"""

import dataclasses
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message

from cluster import codec
from cluster.model import (
    Cluster,
    Event,
    JobStatus,
    Manager,
    Node,
    NodeSpec,
    NodeUsage,
    Rollout,
    Scaling,
    Service,
    ServiceSpec,
    ServiceVersion,
    Stack,
    Task,
    TaskId,
    TaskSpec,
)
from cluster.resources import Resources

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreMember:
    """A member of etcd, as the manager that answered sees it."""

    endpoint: str
    reachable: bool
    server_version: str
    size_bytes: int
    leader: bool
    error: str


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """The cluster in numbers."""

    cluster: Cluster
    managers: tuple[Manager, ...]
    leader_id: str
    answered_by_id: str
    store_members: tuple[StoreMember, ...]
    revision: int
    nodes_ready: int
    nodes_total: int
    services_total: int
    tasks_running: int
    capacity: Resources
    reserved: Resources


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """A node with what is known of it beside its record."""

    node: Node
    manager_id: str
    reserved: Resources
    tasks_running: int
    tasks_total: int
    usage: NodeUsage | None
    heard_seconds_ago: float | None


@dataclass(frozen=True, slots=True)
class HeardUsage:
    """What a node uses, and how long ago it was heard of."""

    usage: NodeUsage
    heard_seconds_ago: float


@dataclass(frozen=True, slots=True)
class ServiceSummary:
    """A service with how far it is."""

    service: Service
    tasks_desired: int
    tasks_running: int
    tasks_current: int
    scaling: Scaling | None = None
    rollout: Rollout | None = None
    job: JobStatus | None = None
    tasks_completed: int = 0


@dataclass(frozen=True, slots=True)
class Versions:
    """A service and its versions as far as they are kept, the oldest first."""

    service: ServiceSummary
    versions: tuple[ServiceVersion, ...]


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A service, and the version whose template it has again; 0: there was nothing to do."""

    service: Service
    to: int


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task with the names that people know things by."""

    task: Task
    service_name: str
    node_hostname: str
    image: str
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class TaskDetails:
    """A task, and the template it runs."""

    task: TaskSummary
    spec: TaskSpec


@dataclass(frozen=True, slots=True)
class RankTerm:
    """What nodes that would do are compared by; the smaller value is the better."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """Why a node would not do for a task; no reasons if it would, and then its rank."""

    node_id: str
    hostname: str
    reasons: tuple[str, ...]
    rank: tuple[RankTerm, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task is or is not there.

    Attributes:
        verdicts: nodes that would take it, the best first; then the others, the nearest first.
        nearest, fixes: if none would: which is the least short of it; what would help.
        preference: why one node comes before the others.
    """

    task: TaskSummary
    summary: str
    verdicts: tuple[NodeVerdict, ...]
    nearest: str
    fixes: tuple[str, ...]
    preference: str


@dataclass(frozen=True, slots=True)
class ImaginedTask:
    """A task that would not stay as it is; nodes by name, empty for none."""

    name: str
    from_node: str
    to_node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Headroom:
    """How many more tasks of a service would fit; *more*: counting ended before the room did."""

    service: str
    tasks: int
    more: bool


@dataclass(frozen=True, slots=True)
class IndispensableNode:
    """A node without which so many tasks would find no place."""

    hostname: str
    tasks: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the scheduler would do if things were otherwise."""

    tasks: tuple[ImaginedTask, ...]
    tasks_staying: int
    tasks_ending: int
    headroom: tuple[Headroom, ...]
    indispensable: tuple[IndispensableNode, ...]
    capacity: Resources
    reserved: Resources
    revision: int
    nodes_untried: int


@dataclass(frozen=True, slots=True)
class TaskStory:
    """A task's history; *task* is None if it is gone."""

    task: TaskSummary | None
    request_id: str
    request: tuple[Event, ...]
    predecessors: tuple[Event, ...]
    events: tuple[Event, ...]
    explanation: str


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """A move that pays; nodes by name."""

    task_id: TaskId
    name: str
    from_node: str
    to_node: str
    gain: float
    why: str


@dataclass(frozen=True, slots=True)
class MovesAnswer:
    """Moves that pay; *cluster* is as it was stored with them, if they are to be made."""

    moves: tuple[PlannedMove, ...]
    revision: int
    cluster: Cluster | None


@dataclass(frozen=True, slots=True)
class StackSummary:
    """A stack with how far it is."""

    stack: Stack
    services: int
    tasks_desired: int
    tasks_running: int


@dataclass(frozen=True, slots=True)
class DeployedService:
    """What a deploy did to a service: "created", "updated", "unchanged" or "removed"."""

    service: Service
    action: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deploy did; *left_over* are services that were neither named nor pruned."""

    services: tuple[DeployedService, ...]
    revision: int
    left_over: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedService:
    """A service whose spec would change: "create", "update" or "remove"."""

    effect: str
    service_id: str
    name: str
    before: ServiceSpec | None
    after: ServiceSpec | None
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node of which something else would be asked: "update" or "remove"."""

    effect: str
    node_id: str
    hostname: str
    before: NodeSpec
    after: NodeSpec | None


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """What would become of a place: "create", "restart", "move", "remove" or "wait"."""

    effect: str
    service: str
    slot: int
    from_node: str
    to_node: str
    why: str
    run: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What would come of a request; see the message ``PlanResponse``."""

    cluster_id: str
    revision: int
    services: tuple[PlannedService, ...]
    nodes: tuple[PlannedNode, ...]
    tasks: tuple[PlannedTask, ...]
    tasks_kept: int
    seconds: float
    complete: bool
    left_over: tuple[str, ...]
    awaiting_room: int

    @property
    def is_empty(self) -> bool:
        return not (self.services or self.nodes or self.tasks)


def read(message: Message, kind: type[T]) -> T:
    """Return what *message* says as a *kind* of this module or of the model."""
    if issubclass(kind, msgspec.Struct):
        return typing.cast(T, codec.from_wire(message, kind))
    return kind(**{name: take(message) for name, take in _fields(kind)})  # type: ignore[arg-type]  # a class has a hash


@cache
def _fields(kind: type[Any]) -> tuple[tuple[str, Callable[[Message], Any]], ...]:
    hints = typing.get_type_hints(kind)
    return tuple(
        (field.name, _taker(field.name, hints[field.name])) for field in dataclasses.fields(kind)
    )


def _taker(name: str, hint: Any) -> Callable[[Message], Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        inner = _taker(name, next(part for part in arguments if part is not type(None)))
        return lambda message: inner(message) if message.HasField(name) else None
    if origin is tuple:
        if _is_value(arguments[0]):
            return lambda message: tuple(
                read(part, arguments[0]) for part in getattr(message, name)
            )
        return lambda message: tuple(getattr(message, name))
    if _is_value(hint):
        return lambda message: read(getattr(message, name), hint)
    if name == "action":
        return _action
    return lambda message: getattr(message, name)


def _is_value(hint: Any) -> bool:
    return isinstance(hint, type) and (
        issubclass(hint, msgspec.Struct) or dataclasses.is_dataclass(hint)
    )


def _action(message: Any) -> str:
    from cluster.api.v1.control_pb2 import DeployAction

    return DeployAction.Name(message.action).removeprefix("DEPLOY_ACTION_").lower()
