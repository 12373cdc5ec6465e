"""The cluster as one pass of the scheduler sees it.

Frozen: a pass that makes a plan writes into its own ``scheduler.room.Room``. Snapshots are
made by ``scheduler.ledger.Ledger``, which is fed with changes and hands the nodes that did not
change on from one snapshot to the next.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cluster.constraints import NodeFacts
from cluster.model import Availability, NodeId, NodeState, ServiceId, TaskId
from cluster.resources import Resources

PortKey = tuple[int, str]  # port and protocol

_NOTHING = Resources()


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """A node, and what is taken of it by the tasks that are bound to it.

    Attributes:
        facts: what constraints and platforms are compared with.
        capacity: what tasks may reserve, all together.
        reserved: by bound tasks. More than the capacity if that has shrunk since.
        ports: addresses of the host on which a port is held, empty for all of them.
        replicas: bound tasks of each service.
        task_count: bound tasks in all.
        unsized: bound tasks whose spec is not known, so that nobody can say how much room
            they take; the node gets nothing new meanwhile.
    """

    facts: NodeFacts
    state: NodeState = NodeState.READY
    availability: Availability = Availability.ACTIVE
    capacity: Resources = _NOTHING
    reserved: Resources = _NOTHING
    ports: Mapping[PortKey, tuple[str, ...]] = field(default_factory=dict)
    replicas: Mapping[ServiceId, int] = field(default_factory=dict)
    task_count: int = 0
    unsized: tuple[TaskId, ...] = ()

    @property
    def id(self) -> NodeId:
        return self.facts.id

    @property
    def name(self) -> str:
        """What people call it: the hostname, or the id while that is not known."""
        return self.facts.hostname or self.facts.id


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All nodes at one moment.

    Attributes:
        version: of the ledger that made it; the same version is the same content.
        nodes: by id. Their order means nothing.
    """

    version: int = 0
    nodes: Mapping[NodeId, NodeSnapshot] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[NodeSnapshot], version: int = 0) -> "Snapshot":
        """Return a snapshot of these nodes, whose ids differ."""
        return cls(version, {node.id: node for node in nodes})
