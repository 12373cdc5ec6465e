"""The cluster as one pass of the scheduler sees it.

Frozen: a pass that makes a plan writes into its own ``scheduler.board.Board``. Snapshots are
made by ``scheduler.ledger.Ledger``, which is fed with changes and hands the nodes that did not
change on from one snapshot to the next, and their columns (``scheduler.table``) too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cluster.constraints import NodeFacts
from cluster.model import Availability, NodeId, NodeState, ServiceId, TaskId
from cluster.resources import Resources
from scheduler.demand import Demand
from scheduler.table import Table

PortKey = tuple[int, str]  # port and protocol
Version = tuple[ServiceId, int]  # of a service's spec
Repelled = tuple[str, str, ServiceId]  # a service's full name, within which topology, by whom

_NOTHING = Resources()


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """A node, and what is taken of it by the tasks that are bound to it.

    Attributes:
        facts: what constraints, platforms and topologies are about.
        capacity: what tasks may reserve, all together.
        reserved: by bound tasks. More than the capacity if that has shrunk since.
        task_slots: bound tasks at most; 0 is no limit.
        reserved_for: names of which a task must tolerate every one.
        volumes: bound volumes that live here.
        items: names of generic resources, by kind, where they have names.
        items_held: those that bound tasks were given.
        images: that are here already.
        ports: addresses of the host on which a port is held, empty for all of them.
        replicas: bound tasks of each service.
        task_count: bound tasks in all.
        unsized: bound tasks whose spec is not known, so that nobody can say how much room
            they take; the node gets nothing new meanwhile.
        failures: how often tasks of a service's version failed here of late.
        repels: how many bound tasks of which service refuse to be near another, or their own.
        tasks: bound tasks and what they ask for; without the unsized.
        leaving: of these, those that were told to stop.
        is_reached: its agent has a session; else it would not learn of a task.
    """

    facts: NodeFacts
    state: NodeState = NodeState.READY
    availability: Availability = Availability.ACTIVE
    capacity: Resources = _NOTHING
    reserved: Resources = _NOTHING
    task_slots: int = 0
    reserved_for: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    items: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    items_held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    ports: Mapping[PortKey, tuple[str, ...]] = field(default_factory=dict)
    replicas: Mapping[ServiceId, int] = field(default_factory=dict)
    task_count: int = 0
    unsized: tuple[TaskId, ...] = ()
    failures: Mapping[Version, int] = field(default_factory=dict)
    repels: Mapping[Repelled, int] = field(default_factory=dict)
    tasks: Mapping[TaskId, Demand] = field(default_factory=dict)
    leaving: frozenset[TaskId] = frozenset()
    is_reached: bool = True

    @property
    def id(self) -> NodeId:
        return self.facts.id

    @property
    def name(self) -> str:
        """What people call it: the hostname, or the id while that is not known."""
        return self.facts.hostname or self.facts.id

    @property
    def is_alive(self) -> bool:
        """Whether its tasks can be thought to run."""
        return self.state is NodeState.READY

    @property
    def is_open(self) -> bool:
        """Whether it takes tasks at all."""
        is_ready = self.is_alive and self.is_reached
        return is_ready and self.availability is Availability.ACTIVE and not self.unsized


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All nodes at one moment.

    Attributes:
        version: of the ledger that made it; the same version is the same content.
        nodes: by id. Their order means nothing.
        service_ids: of the services that have tasks, by full name. A name that is not listed
            is taken as the id itself.
    """

    version: int = 0
    nodes: Mapping[NodeId, NodeSnapshot] = field(default_factory=dict)
    service_ids: Mapping[str, tuple[ServiceId, ...]] = field(default_factory=dict)
    _table: list[Table] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, nodes: Iterable[NodeSnapshot], version: int = 0) -> "Snapshot":
        """Return a snapshot of these nodes, whose ids differ."""
        return cls(version, {node.id: node for node in nodes})

    @property
    def table(self) -> Table:
        """The nodes as columns; made at the first use, and handed on by ``changed``."""
        if not self._table:
            self._table.append(Table.of(self.nodes))
        return self._table[0]

    def changed(
        self,
        fresh: Mapping[NodeId, NodeSnapshot | None],
        service_ids: Mapping[str, tuple[ServiceId, ...]] | None = None,
    ) -> "Snapshot":
        """Return the next snapshot: with these nodes, and without those that are None.

        Costs what is in *fresh*, and a copy of what is not.
        """
        nodes = {id_: node for id_, node in {**self.nodes, **fresh}.items() if node}
        names = self.service_ids if service_ids is None else service_ids
        later = Snapshot(self.version + 1, nodes, names)
        if self._table:
            later._table.append(self._table[0].changed(fresh))
        return later
