"""Nodes, managers and the cluster that they make up; and what is measured of it."""

from enum import Enum

from cluster.model.base import ClusterId, ManagerId, NodeId, Object, SessionId, TaskId, Value
from cluster.model.services import Platform, Strategy
from cluster.resources import Resources


class Availability(Enum):
    ACTIVE = "active"
    PAUSE = "pause"  # cordoned: what runs stays, nothing new comes
    DRAIN = "drain"  # cordoned, and what runs moves elsewhere


class NodeSpec(Value, frozen=True):
    """What an operator asks of a node.

    Attributes:
        task_slots: tasks it takes at most, whatever they reserve; 0 is no limit.
        reserved_for: names of which a task must tolerate every one to come here.
        volumes: names of the bound volumes that live here.
        drain_asked_at: when it was last asked to drain; set by the manager that was asked.
        drain_deadline_seconds: how long after that what is left is stopped regardless of budgets;
            0 is never.
    """

    availability: Availability = Availability.ACTIVE
    labels: dict[str, str] = {}
    task_slots: int = 0
    reserved_for: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    drain_asked_at: float = 0.0
    drain_deadline_seconds: float = 0.0


class NodeDescription(Value, frozen=True):
    """What an agent says of its host.

    Attributes:
        hostname: the node's name to people; ids stay unique if two hosts share it.
        address: where other hosts reach it.
        capacity: what tasks may reserve, all together; of each kind in ``generic_items`` as
            many as there are names.
        engine_labels: labels of the Docker daemon.
        generic_items: names of the host's generic resources, by kind, where it matters which
            one a task gets.
        images: that are on the host, as ``cluster.images.canonical`` writes them, sorted; at
            most ``cluster.images.TOLD_MAX``. A hint, now and then brought up to date.
    """

    hostname: str = ""
    address: str = ""
    platform: Platform = Platform()
    capacity: Resources = Resources()
    engine_version: str = ""
    engine_labels: dict[str, str] = {}
    agent_version: str = ""
    generic_items: dict[str, tuple[str, ...]] = {}
    images: tuple[str, ...] = ()


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


class Rebalancing(Value, frozen=True):
    """Whether tasks are moved to where they are better off though nobody asks, and when.

    Attributes:
        automatic: whether it is done at all.
        hours: a span of the day within which moves may begin, such as "22:00-06:00"; empty is
            the whole day.
        time_zone: whose hours they are.
        moves: at most so many in one round.
        rest_seconds: a task that was made less than so long ago stays where it is.
    """

    automatic: bool = False
    hours: str = ""
    time_zone: str = "UTC"
    moves: int = 10
    rest_seconds: float = 3600.0


class ClusterSpec(Value, frozen=True):
    """Settings of the whole cluster.

    Attributes:
        heartbeat_period_seconds: an agent's; a node is lost after three missed ones.
        task_history_limit: finished tasks kept per slot.
        strategy: how tasks are laid out whose service does not say.
        rebalancing: what is done for a better layout without being asked.
    """

    heartbeat_period_seconds: float = 1.0
    task_history_limit: int = 5
    strategy: Strategy = Strategy.BINPACK
    rebalancing: Rebalancing = Rebalancing()


class MoveState(Enum):
    """How far a move is; one that is done is remembered no more."""

    ASKED = "asked"
    UNDER_WAY = "under-way"  # its task says that it moves, and where
    GIVEN_UP = "given-up"  # its task stays


class AskedMove(Value, frozen=True):
    """A task that shall run on another node, for a better layout.

    Attributes:
        node_id: where it shall run.
        why: what makes that better.
        state: ASKED by whoever asks; the leader sees to the rest.
        message: why it was given up.
        changed_at: when it came to that state.
    """

    task_id: TaskId
    node_id: NodeId
    why: str = ""
    state: MoveState = MoveState.ASKED
    message: str = ""
    changed_at: float = 0.0


class Cluster(Object, frozen=True):
    """The cluster itself; made by the first manager that finds an empty store.

    Attributes:
        spec: written by operators.
        moves: what rebalancing has still to do, in that order, and what of it was given up.
            Added to by who asks for it while none is left to do; seen to by the leader.
    """

    id: ClusterId
    spec: ClusterSpec = ClusterSpec()
    created_at: float = 0.0
    moves: tuple[AskedMove, ...] = ()


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
