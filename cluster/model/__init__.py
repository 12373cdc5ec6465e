"""What the cluster consists of: the objects that are stored, compared and shown.

Frozen values. ``*Spec`` is what somebody asked for, ``*Status`` and ``*Description`` what was
seen; the two are never mixed in one type. Each stored object has one key in the store (see
``manager.store.keys``) and is kept there as JSON.

Rules for changing it: a new field has a default (readers of the version before must
be able to leave it out), no field changes its meaning, and ``proto/cluster/api/v1`` gets the
same field by the same name (``cluster.codec`` refuses a type whose fields differ).

Units stand last in a name. Times are seconds since 1970-01-01 UTC, as floats.
"""

from cluster.model.base import (
    NO_NODE,
    ClusterId,
    ManagerId,
    NodeId,
    Object,
    ServiceId,
    SessionId,
    StackId,
    TaskId,
    Value,
)
from cluster.model.containers import (
    ContainerSpec,
    Healthcheck,
    LogOptions,
    Mount,
    MountKind,
    PullPolicy,
    Ulimit,
)
from cluster.model.nodes import (
    Availability,
    Cluster,
    ClusterSpec,
    Manager,
    Node,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    NodeUsage,
    Session,
    SessionState,
    TaskUsage,
)
from cluster.model.rollouts import Rollout, RolloutState
from cluster.model.services import (
    Affinity,
    DisruptionBudget,
    FailureAction,
    NetworkAttachment,
    NetworkMode,
    Placement,
    Platform,
    Preferred,
    PublishedPort,
    RestartCondition,
    RestartPolicy,
    Service,
    ServiceMode,
    ServiceSpec,
    ServiceVersion,
    SpreadPreference,
    Stack,
    Strategy,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)
from cluster.model.tasks import Assignment, Task, TaskState, TaskStatus

__all__ = [
    "NO_NODE",
    "Affinity",
    "Assignment",
    "Availability",
    "Cluster",
    "ClusterId",
    "ClusterSpec",
    "ContainerSpec",
    "DisruptionBudget",
    "FailureAction",
    "Healthcheck",
    "LogOptions",
    "Manager",
    "ManagerId",
    "Mount",
    "MountKind",
    "NetworkAttachment",
    "NetworkMode",
    "Node",
    "NodeDescription",
    "NodeId",
    "NodeSpec",
    "NodeState",
    "NodeStatus",
    "NodeUsage",
    "Object",
    "Placement",
    "Platform",
    "Preferred",
    "PublishedPort",
    "PullPolicy",
    "RestartCondition",
    "RestartPolicy",
    "Rollout",
    "RolloutState",
    "Service",
    "ServiceId",
    "ServiceMode",
    "ServiceSpec",
    "ServiceVersion",
    "Session",
    "SessionId",
    "SessionState",
    "SpreadPreference",
    "Stack",
    "StackId",
    "Strategy",
    "Task",
    "TaskId",
    "TaskSpec",
    "TaskState",
    "TaskStatus",
    "TaskUsage",
    "Ulimit",
    "UpdateConfig",
    "UpdateOrder",
    "Value",
]
