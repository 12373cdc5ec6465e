"""The ledger: who has what where, kept up with changes, and the maker of snapshots.

Whoever follows the cluster's objects tells the ledger of each change; a snapshot then costs
the nodes that changed since the last one, not the cluster. What a node has given away is added
up anew from its tasks whenever one of them changed: there is no running sum that could drift.

Changes may come in any order and more than once; the last word on an object counts. A task
takes room as ``cluster.lifecycle.occupies`` says.
"""

from collections.abc import Callable, Iterable

from cluster.constraints import NodeFacts
from cluster.lifecycle import occupies
from cluster.model import Node, NodeId, ServiceId, Task, TaskId, TaskSpec
from cluster.resources import Resources
from scheduler.demand import Demand
from scheduler.snapshot import NodeSnapshot, PortKey, Snapshot

SpecLookup = Callable[[Task], TaskSpec | None]

# Demands of service versions that are kept read. Some hundred bytes each; a version that fell
# out is only read again.
_DEMANDS_KEPT_MAX = 100_000


class _Account:
    """One node and the tasks bound to it, either of which may be heard of first.

    Attributes:
        demands: of each bound task; None while its spec is not known.
    """

    __slots__ = ("demands", "node")

    def __init__(self) -> None:
        self.node: Node | None = None
        self.demands: dict[TaskId, Demand | None] = {}

    def snapshot(self) -> NodeSnapshot | None:
        """Return the node with what is taken of it; None while only its tasks are known."""
        if self.node is None:
            return None
        reserved = Resources()
        ports: dict[PortKey, tuple[str, ...]] = {}
        replicas: dict[ServiceId, int] = {}
        unsized: list[TaskId] = []
        for task_id, demand in self.demands.items():
            if demand is None:
                unsized.append(task_id)
                continue
            reserved += demand.reservations
            if demand.service_id:
                replicas[demand.service_id] = replicas.get(demand.service_id, 0) + 1
            for port in demand.ports:
                key = (port.port, port.protocol)
                ports[key] = tuple(sorted((*ports.get(key, ()), port.address)))
        return NodeSnapshot(
            facts=NodeFacts.of(self.node),
            state=self.node.status.state,
            availability=self.node.spec.availability,
            capacity=self.node.description.capacity,
            reserved=reserved,
            ports=ports,
            replicas=replicas,
            task_count=len(self.demands),
            unsized=tuple(sorted(unsized)),
        )


class Ledger:
    """Follows nodes and tasks, and makes snapshots of what is free where.

    Args:
        spec_of: finds the spec of a task, by its service and spec version; None if it is not
            known (yet). Asked again at each snapshot until it is.
    """

    def __init__(self, spec_of: SpecLookup) -> None:
        self._spec_of = spec_of
        self._accounts: dict[NodeId, _Account] = {}
        self._node_of: dict[TaskId, NodeId] = {}
        self._unsized: dict[TaskId, Task] = {}
        self._demands: dict[tuple[ServiceId, int], Demand] = {}
        self._changed: set[NodeId] = set()
        self._snapshot = Snapshot()

    def apply_node(self, node: Node) -> None:
        """Learn of a node as it is now."""
        self._account(node.id).node = node

    def remove_node(self, node_id: NodeId) -> None:
        """Forget a node. Tasks still bound to it stay known, should it come back."""
        if node_id in self._accounts:
            self._account(node_id).node = None
            self._drop_if_empty(node_id)

    def apply_task(self, task: Task) -> None:
        """Learn of a task as it is now, whether or not it takes room."""
        if self._node_of.get(task.id) != task.node_id or not occupies(task):
            self.remove_task(task.id)
        if not occupies(task):
            return
        demand = self._known_demand(task)
        if demand is None:
            self._unsized[task.id] = task
        else:
            self._unsized.pop(task.id, None)
        self._node_of[task.id] = task.node_id
        self._account(task.node_id).demands[task.id] = demand

    def remove_task(self, task_id: TaskId) -> None:
        """Forget a task."""
        self._unsized.pop(task_id, None)
        node_id = self._node_of.pop(task_id, None)
        if node_id is not None:
            del self._account(node_id).demands[task_id]
            self._drop_if_empty(node_id)

    def demand_of(self, task: Task) -> Demand:
        """Return what *task* asks for; if its spec is not known, a demand that says so."""
        demand = self._known_demand(task)
        if demand is not None:
            return demand
        missing = f"version {task.spec_version} of service {task.service_id} is not known"
        return Demand(service_id=task.service_id, unreadable=(missing,))

    def snapshot(self) -> Snapshot:
        """Return the cluster as it is now; the last snapshot itself if nothing has changed."""
        for task in list(self._unsized.values()):
            self.apply_task(task)
        before = self._snapshot.nodes
        fresh: dict[NodeId, NodeSnapshot | None] = {}
        for node_id in self._changed:
            account = self._accounts.get(node_id)
            node = account.snapshot() if account else None
            if node != before.get(node_id):
                fresh[node_id] = node
        self._changed.clear()
        if fresh:
            nodes = {id_: node for id_, node in {**before, **fresh}.items() if node}
            self._snapshot = Snapshot(self._snapshot.version + 1, nodes)
        return self._snapshot

    def _account(self, node_id: NodeId) -> _Account:
        """Return the node's account in order to change it."""
        self._changed.add(node_id)
        return self._accounts.setdefault(node_id, _Account())

    def _drop_if_empty(self, node_id: NodeId) -> None:
        account = self._accounts[node_id]
        if account.node is None and not account.demands:
            del self._accounts[node_id]

    def _known_demand(self, task: Task) -> Demand | None:
        key = (task.service_id, task.spec_version)
        demand = self._demands.get(key)
        if demand is None:
            spec = self._spec_of(task)
            if spec is None:
                return None
            if len(self._demands) >= _DEMANDS_KEPT_MAX:
                self._demands.clear()
            demand = self._demands[key] = Demand.of(task.service_id, spec)
        return demand


def snapshot_of(nodes: Iterable[Node], tasks: Iterable[Task], spec_of: SpecLookup) -> Snapshot:
    """Return the snapshot of a cluster that is given whole."""
    ledger = Ledger(spec_of)
    for node in nodes:
        ledger.apply_node(node)
    for task in tasks:
        ledger.apply_task(task)
    return ledger.snapshot()
