"""What the cluster consists of: the objects that are stored, compared and shown.

Frozen values. ``*Spec`` is what somebody asked for, ``*Status`` and ``*Description`` what was
seen; the two are never mixed in one type. Each stored object has one key in the store (see
``manager.store.keys``) and is kept there as JSON.

Rules for changing this module: a new field has a default (readers of the version before must
be able to leave it out), no field changes its meaning, and ``proto/cluster/api/v1`` gets the
same field by the same name (``cluster.codec`` refuses a type whose fields differ).

Units stand last in a name. Times are seconds since 1970-01-01 UTC, as floats.
"""

from enum import Enum
from functools import total_ordering
from typing import NewType

import msgspec

from cluster.resources import Resources

ClusterId = NewType("ClusterId", str)
ManagerId = NewType("ManagerId", str)
NodeId = NewType("NodeId", str)
ServiceId = NewType("ServiceId", str)
SessionId = NewType("SessionId", str)
StackId = NewType("StackId", str)
TaskId = NewType("TaskId", str)

NO_NODE = NodeId("")


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of an object: compared by content, never changed in place."""


class Object(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stored object.

    Attributes:
        version: the store's revision that last changed it, 0 before it is stored. Not part of
            the stored bytes: whoever reads the object sets it from the key.
    """

    version: int = 0


# --- tasks ------------------------------------------------------------------------------------


@total_ordering
class TaskState(Enum):
    """A task's life, in order. A task is one-shot: a restart is a new task in the same slot.

    The manager writes up to ``ASSIGNED`` (and ``ORPHANED``), the agent the rest. From
    ``COMPLETE`` on a task is finished; ``REMOVE`` is only ever desired.
    """

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

    @property
    def finished(self) -> bool:
        return self >= TaskState.COMPLETE

    def __lt__(self, other: "TaskState") -> bool:
        return _RANK[self] < _RANK[other]


_RANK = {state: rank for rank, state in enumerate(TaskState)}


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
        slot: 1..replicas of a replicated service; 0 for a global one, whose place is its node.
        node_id: where it runs; empty until the scheduler has bound it. For a global service it
            is set from the beginning and the scheduler only checks it. Written by the leader.
        desired_state: READY (prepare, but do not start yet), RUNNING, SHUTDOWN or REMOVE; only
            advances. Written by the leader.
        status: written by the leader up to ASSIGNED, then by the agent's manager.
        created_at: when it was made.
        start_after: with desired state READY: when the leader lets it run (restart delay).
        failures: how many tasks before it in the slot ended badly one after the other.
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


# --- what a task runs -------------------------------------------------------------------------


class PullPolicy(Enum):
    """When to ask the registry. With either, a local image is enough if the pull fails."""

    ALWAYS = "always"
    MISSING = "missing"
    NEVER = "never"


class Healthcheck(Value, frozen=True):
    """How Docker tells whether a container is well.

    Attributes:
        test: ("CMD", ...), ("CMD-SHELL", "...") or ("NONE",) to turn the image's own off;
            empty inherits the image's test.
        interval_seconds, timeout_seconds, start_period_seconds: 0 takes Docker's default.
        retries: failures in a row that make it unhealthy; 0 takes Docker's default.
    """

    test: tuple[str, ...] = ()
    interval_seconds: float = 0.0
    timeout_seconds: float = 0.0
    start_period_seconds: float = 0.0
    retries: int = 0


class MountKind(Enum):
    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"


class Mount(Value, frozen=True):
    """Something seen inside the container at *target*.

    Attributes:
        source: host path of a bind; name of a volume, empty for an anonymous one.
        create_host_path: make a bind's missing source a directory; else that is an error.
        propagation: of a bind ("rprivate", ...); empty takes Docker's default.
        no_copy: do not fill an empty volume with what the image holds at *target*.
        driver, driver_options, labels: of a volume that is made for this mount.
        tmpfs_size_bytes: 0 is unlimited.
        tmpfs_mode: permission bits; 0 takes Docker's default.
    """

    kind: MountKind
    target: str
    source: str = ""
    read_only: bool = False
    create_host_path: bool = False
    propagation: str = ""
    no_copy: bool = False
    driver: str = ""
    driver_options: dict[str, str] = {}
    labels: dict[str, str] = {}
    tmpfs_size_bytes: int = 0
    tmpfs_mode: int = 0


class Ulimit(Value, frozen=True):
    """A resource limit of the process; -1 is unlimited."""

    name: str
    soft: int
    hard: int


class LogOptions(Value, frozen=True):
    """Docker's logging driver and its options; empty takes the daemon's default."""

    driver: str = ""
    options: dict[str, str] = {}


class ContainerSpec(Value, frozen=True):
    """What runs inside the container. Absent values (None, empty) take the image's or Docker's.

    Attributes:
        command: arguments to the entrypoint (Docker's Cmd); None takes the image's.
        entrypoint: None takes the image's; an empty tuple clears it.
        stop_grace_seconds: between the stop signal and SIGKILL.
        init: run a small init as PID 1; None takes the daemon's default.
        pids_limit: processes and threads at most; 0 is unlimited.
        shm_size_bytes: of /dev/shm; 0 takes Docker's default.
        extra_hosts: "name:address" lines for /etc/hosts.
    """

    image: str
    pull_policy: PullPolicy = PullPolicy.MISSING
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: dict[str, str] = {}
    user: str = ""
    working_dir: str = ""
    hostname: str = ""
    labels: dict[str, str] = {}
    mounts: tuple[Mount, ...] = ()
    healthcheck: Healthcheck | None = None
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: dict[str, str] = {}
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    init: bool | None = None
    read_only: bool = False
    tty: bool = False
    stdin_open: bool = False
    stop_signal: str = ""
    stop_grace_seconds: float = 10.0
    pids_limit: int = 0
    shm_size_bytes: int = 0
    oom_score_adj: int = 0
    extra_hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    log: LogOptions = LogOptions()


class PublishedPort(Value, frozen=True):
    """A port of the host that leads to a port of the container.

    Attributes:
        target: port inside the container, 1..65535.
        published: port of the host; 0 lets Docker choose a free one.
        protocol: "tcp", "udp" or "sctp".
        host_ip: address of the host to listen on; empty is every address.
    """

    target: int
    published: int = 0
    protocol: str = "tcp"
    host_ip: str = ""


class NetworkMode(Enum):
    """Where the container's network is: its own bridges, or one of Docker's fixed ones."""

    NETWORKS = "networks"  # the networks that the spec lists, or Docker's default bridge if none
    HOST = "host"
    NONE = "none"


class NetworkAttachment(Value, frozen=True):
    """A network to join; for now a bridge of that name on each host.

    Attributes:
        network: full name, a stack's prefix included.
        aliases: further names by which others on the network find the container.
    """

    network: str
    aliases: tuple[str, ...] = ()


class RestartCondition(Enum):
    NONE = "none"
    ON_FAILURE = "on-failure"
    ANY = "any"


class RestartPolicy(Value, frozen=True):
    """Whether, when and how often a task that ended is replaced in its slot.

    Attributes:
        condition: which ends count.
        delay_seconds: wait before each replacement. The first failure is replaced after just
            this long; further failures in a row wait longer and longer on top of it
            (``manager.reconcilers.restart``).
        max_attempts: replacements at most within the window; 0 is no limit.
        window_seconds: how far back attempts count; 0 is the whole history that is kept.
    """

    condition: RestartCondition = RestartCondition.ANY
    delay_seconds: float = 0.0
    max_attempts: int = 0
    window_seconds: float = 0.0


class Platform(Value, frozen=True):
    """An operating system and an architecture, as Go names them; empty matches any."""

    os: str = ""
    architecture: str = ""


class Placement(Value, frozen=True):
    """Where a task may run.

    Attributes:
        constraints: expressions that all must hold (``cluster.constraints``).
        platforms: any of them will do; empty is no demand.
        max_replicas_per_node: of this service; 0 is no limit.
    """

    constraints: tuple[str, ...] = ()
    platforms: tuple[Platform, ...] = ()
    max_replicas_per_node: int = 0


class TaskSpec(Value, frozen=True):
    """The template that a service's tasks are made from.

    Attributes:
        reservations: set aside on the node; what the scheduler counts.
        limits: enforced by the kernel; 0 is no limit.
        force_update: a counter; raising it replaces every task though nothing else changed.
    """

    container: ContainerSpec
    reservations: Resources = Resources()
    limits: Resources = Resources()
    network_mode: NetworkMode = NetworkMode.NETWORKS
    networks: tuple[NetworkAttachment, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    restart: RestartPolicy = RestartPolicy()
    placement: Placement = Placement()
    force_update: int = 0


# --- services and stacks ----------------------------------------------------------------------


class ServiceMode(Enum):
    REPLICATED = "replicated"
    GLOBAL = "global"


class UpdateOrder(Enum):
    STOP_FIRST = "stop-first"
    START_FIRST = "start-first"


class FailureAction(Enum):
    PAUSE = "pause"
    CONTINUE = "continue"
    ROLLBACK = "rollback"


class UpdateConfig(Value, frozen=True):
    """How a change of the template reaches the running tasks.

    Attributes:
        parallelism: tasks replaced at a time; 0 is all at once.
        delay_seconds: between one batch and the next.
        monitor_seconds: how long after its start a task's failure counts against the update.
        failure_action: what to do when too many fail.
        max_failure_ratio: the share of failures, 0..1, that is still borne.
        order: whether the old task stops before the new one starts.
    """

    parallelism: int = 1
    delay_seconds: float = 0.0
    monitor_seconds: float = 5.0
    failure_action: FailureAction = FailureAction.PAUSE
    max_failure_ratio: float = 0.0
    order: UpdateOrder = UpdateOrder.STOP_FIRST


class ServiceSpec(Value, frozen=True):
    """What somebody wants to run.

    Attributes:
        name: unique among services; of a stack's service it begins with the stack's name and
            an underscore.
        stack: name of the stack it belongs to; empty if none.
        labels: of the service, not of its containers.
        replicas: of a replicated service; a global one ignores it.
    """

    name: str
    task: TaskSpec
    labels: dict[str, str] = {}
    stack: str = ""
    mode: ServiceMode = ServiceMode.REPLICATED
    replicas: int = 1
    update: UpdateConfig = UpdateConfig()
    rollback: UpdateConfig = UpdateConfig()


class Service(Object, frozen=True):
    """A service as asked for now.

    Attributes:
        spec_version: the number of this spec; counts up with each change.
    """

    id: ServiceId
    spec: ServiceSpec
    spec_version: int = 1
    created_at: float = 0.0
    updated_at: float = 0.0


class ServiceVersion(Object, frozen=True):
    """A spec that a service had or has: stored once, named by its tasks, never changed."""

    service_id: ServiceId
    number: int
    spec: ServiceSpec
    created_at: float = 0.0


class Stack(Object, frozen=True):
    """A name that groups services; the services name it in ``spec.stack``."""

    id: StackId
    name: str
    labels: dict[str, str] = {}
    created_at: float = 0.0
    updated_at: float = 0.0


# --- nodes, managers, the cluster -------------------------------------------------------------


class Availability(Enum):
    ACTIVE = "active"
    PAUSE = "pause"  # cordoned: what runs stays, nothing new comes
    DRAIN = "drain"  # cordoned, and what runs moves elsewhere


class NodeSpec(Value, frozen=True):
    """What an operator asks of a node."""

    availability: Availability = Availability.ACTIVE
    labels: dict[str, str] = {}


class NodeDescription(Value, frozen=True):
    """What an agent says of its host.

    Attributes:
        hostname: the node's name to people; ids stay unique if two hosts share it.
        address: where other hosts reach it.
        capacity: what tasks may reserve, all together.
        engine_labels: labels of the Docker daemon.
    """

    hostname: str = ""
    address: str = ""
    platform: Platform = Platform()
    capacity: Resources = Resources()
    engine_version: str = ""
    engine_labels: dict[str, str] = {}
    agent_version: str = ""


class NodeState(Enum):
    UNKNOWN = "unknown"  # never heard of by a leader
    READY = "ready"
    DOWN = "down"


class NodeStatus(Value, frozen=True):
    """Whether a node can be reached, as the leader judges it."""

    state: NodeState = NodeState.UNKNOWN
    message: str = ""
    changed_at: float = 0.0


class Node(Object, frozen=True):
    """A host that runs tasks.

    Attributes:
        spec: written by operators.
        description: written by the manager that holds the agent's session.
        status: written by the leader.
    """

    id: NodeId
    spec: NodeSpec = NodeSpec()
    description: NodeDescription = NodeDescription()
    status: NodeStatus = NodeStatus()
    created_at: float = 0.0


class SessionState(Enum):
    LIVE = "live"
    SILENT = "silent"  # heartbeats ceased for the whole grace: the node may be taken as lost


class Session(Object, frozen=True):
    """Which manager holds an agent's session; lives under that manager's lease."""

    id: SessionId
    node_id: NodeId
    manager_id: ManagerId
    state: SessionState = SessionState.LIVE
    opened_at: float = 0.0


class Manager(Object, frozen=True):
    """A manager that is up; lives under its own lease.

    Attributes:
        address: "host:port" at which agents, clients and other managers reach it.
    """

    id: ManagerId
    address: str
    hostname: str = ""
    started_at: float = 0.0
    software_version: str = ""


class ClusterSpec(Value, frozen=True):
    """Settings of the whole cluster.

    Attributes:
        heartbeat_period_seconds: an agent's; a node is lost after three missed ones.
        task_history_limit: finished tasks kept per slot.
    """

    heartbeat_period_seconds: float = 1.0
    task_history_limit: int = 5


class Cluster(Object, frozen=True):
    """The cluster itself; made by the first manager that finds an empty store."""

    id: ClusterId
    spec: ClusterSpec = ClusterSpec()
    created_at: float = 0.0


# --- measured, not stored ---------------------------------------------------------------------


class TaskUsage(Value, frozen=True):
    """What a task uses.

    Attributes:
        cpu_nanos: average since the last measurement, in billionths of one CPU.
        memory_bytes: resident, without reclaimable cache.
    """

    task_id: TaskId
    cpu_nanos: int = 0
    memory_bytes: int = 0


class NodeUsage(Value, frozen=True):
    """What a host uses in all, and each of its tasks.

    Attributes:
        cpu_nanos: average since the last measurement, in billionths of one CPU.
        memory_bytes: in use, without reclaimable cache.
        measured_at: by the host's own clock.
    """

    node_id: NodeId
    cpu_nanos: int = 0
    memory_bytes: int = 0
    measured_at: float = 0.0
    tasks: tuple[TaskUsage, ...] = ()


# --- on the way to an agent -------------------------------------------------------------------


class Assignment(Value, frozen=True):
    """What an agent needs to know of one of its tasks; the spec travels once per version.

    Attributes:
        node_id: whose task it is.
        state: the last state that the manager knows, so that what is finished stays finished.
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
