"""Tasks: one run of one replica, and how far it has come."""

from enum import Enum

from cluster.model.base import NO_NODE, NodeId, Object, ServiceId, TaskId, Value


class TaskState(Enum):
    """A task's life, in order. A task is one-shot: a restart is a new task in the same slot.

    The manager writes up to ``ASSIGNED`` (and ``ORPHANED``), the agent the rest. From
    ``COMPLETE`` on a task is finished; ``REMOVE`` is only ever desired.

    Attributes:
        rank: its place in that order.
        finished: whether a task in it has ended.
        wanted: whether a task that is to come to it is meant to run, or to be made ready.

    Every pass over all tasks asks for these. So they are plain attributes and each comparison is
    spelt out: ten times faster than what the standard library would derive.
    """

    rank: int
    finished: bool
    wanted: bool

    NEW = "new"
    PENDING = "pending"  # waits for a node
    ASSIGNED = "assigned"  # bound to a node
    ACCEPTED = "accepted"  # the agent knows of it
    PREPARING = "preparing"  # pulling the image, making networks and volumes
    READY = "ready"  # can start at once
    STARTING = "starting"  # the container runs, health is not known yet
    RUNNING = "running"  # runs, and is healthy if it has a health check
    COMPLETE = "complete"  # ended by itself with exit code 0
    SHUTDOWN = "shutdown"  # ended because it was asked to
    FAILED = "failed"  # ended badly after it had started, or unhealthy
    REJECTED = "rejected"  # could not be started
    REMOVE = "remove"  # desired only: stop it and forget it
    ORPHANED = "orphaned"  # its node was lost with it

    def __init__(self, _: str) -> None:
        self.rank = len(type(self).__members__)

    def __lt__(self, other: "TaskState") -> bool:
        return self.rank < other.rank

    def __le__(self, other: "TaskState") -> bool:
        return self.rank <= other.rank

    def __gt__(self, other: "TaskState") -> bool:
        return self.rank > other.rank

    def __ge__(self, other: "TaskState") -> bool:
        return self.rank >= other.rank


for _state in TaskState:
    _state.finished = _state >= TaskState.COMPLETE
    _state.wanted = _state <= TaskState.COMPLETE


class TaskStatus(Value, frozen=True):
    """How far a task has come, as last seen.

    Attributes:
        state: see ``TaskState``; only ever advances (``cluster.lifecycle.advance``).
        at: when that state was reached, by the clock of whoever saw it.
        message: what is going on, for people ("pulling web:2").
        error: why it ended badly, or why it waits; empty if all is well.
        exit_code: the container's; None while it has none.
        container_id: Docker's id; empty before there is a container.
    """

    state: TaskState = TaskState.NEW
    at: float = 0.0
    message: str = ""
    error: str = ""
    exit_code: int | None = None
    container_id: str = ""


class Task(Object, frozen=True):
    """One run of one replica of a service.

    Attributes:
        service_id: whose replica it is.
        spec_version: which ``ServiceVersion`` it runs.
        slot: 1..replicas of a replicated service, 1..completions of a run of a job; 0 for a
            global one, whose place is its node.
        node_id: where it runs; empty until the scheduler has bound it. For a global service it
            is set from the beginning and the scheduler only checks it. Written by the leader.
        desired_state: READY (prepare, but do not start yet), RUNNING, of a job COMPLETE, then
            SHUTDOWN or REMOVE; only advances. Written by the leader.
        status: written by the leader up to ASSIGNED, then by the agent's manager.
        created_at: when it was made.
        start_after: with desired state READY: when the leader lets it run (restart delay).
        failures: how many tasks before it in the slot ended badly one after the other.
        generic_items: names of its node's generic resources that are its own, by kind. Written
            by the leader when it is bound.
        start_first: it may run beside the task that it is to replace (I2).
        run: the number of the job's run that it is part of; 0 if its service is no job.
        moving: why it is to move to another node; empty if it stays. Written by the leader.
        aims_at: the only node that it may be bound to; empty if any will do.
    """

    id: TaskId
    service_id: ServiceId
    spec_version: int
    slot: int = 0
    node_id: NodeId = NO_NODE
    desired_state: TaskState = TaskState.RUNNING
    status: TaskStatus = TaskStatus()
    created_at: float = 0.0
    start_after: float = 0.0
    failures: int = 0
    generic_items: dict[str, tuple[str, ...]] = {}
    start_first: bool = False
    run: int = 0
    moving: str = ""
    aims_at: NodeId = NO_NODE


class Assignment(Value, frozen=True):
    """What an agent needs to know of one of its tasks; the spec travels once per version.

    Attributes:
        node_id: whose task it is.
        state: the last state that the manager knows, so that what is finished stays finished.
        generic_items: as in ``Task``.
        request_id: that its version goes back to.
    """

    task_id: TaskId
    service_id: ServiceId
    service_name: str
    spec_version: int
    slot: int
    node_id: NodeId
    desired_state: TaskState
    state: TaskState
    stack: str = ""
    generic_items: dict[str, tuple[str, ...]] = {}
    request_id: str = ""
