"""The ledger: who has what where, kept up with changes, and the maker of snapshots.

Whoever follows the cluster's objects tells the ledger of each change; a snapshot then costs
the nodes that changed since the last one, not the cluster. What a node has given away is added
up anew from its tasks whenever one of them changed: there is no running sum that could drift.

Changes may come in any order and more than once; the last word on an object counts. A task
takes room as ``cluster.lifecycle.occupies`` says.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping

from cluster.constraints import NodeFacts
from cluster.lifecycle import occupies, wanted
from cluster.model import Node, NodeId, ServiceId, ServiceSpec, Task, TaskId, TaskState
from scheduler.demand import Demand
from scheduler.snapshot import NodeSnapshot, Snapshot, Version
from scheduler.taken import taken_by

SpecLookup = Callable[[Task], ServiceSpec | None]

# Demands of service versions that are kept read. Some hundred bytes each; a version that fell
# out is only read again.
_DEMANDS_KEPT_MAX = 100_000

# How far back failures count against a node: as long as Swarm looks back. A node that was in
# trouble is tried again after a few minutes.
FAILURES_SECONDS = 300.0

# Failures that are kept in mind; the oldest are forgotten first.
_FAILURES_KEPT_MAX = 10_000

_FAILED = (TaskState.FAILED, TaskState.REJECTED)


class _Account:
    """One node and the tasks bound to it, either of which may be heard of first.

    Attributes:
        demands: of each bound task; None while its spec is not known.
        leaving: bound tasks that were told to stop.
        items: generic resources with names that bound tasks were given.
        failures: of tasks that failed here of late.
        is_reached: its agent has a session.
    """

    __slots__ = ("demands", "failures", "is_reached", "items", "leaving", "node")

    def __init__(self) -> None:
        self.node: Node | None = None
        self.demands: dict[TaskId, Demand | None] = {}
        self.leaving: set[TaskId] = set()
        self.items: dict[TaskId, Mapping[str, tuple[str, ...]]] = {}
        self.failures: dict[TaskId, Version] = {}
        self.is_reached = True

    @property
    def is_empty(self) -> bool:
        return self.node is None and not self.demands and not self.failures

    def snapshot(self) -> NodeSnapshot | None:
        """Return the node with what is taken of it; None while only its tasks are known."""
        node = self.node
        if node is None:
            return None
        tasks = {id_: demand for id_, demand in self.demands.items() if demand is not None}
        unsized = sorted(id_ for id_, demand in self.demands.items() if demand is None)
        taken = taken_by(tasks.values())
        held: dict[str, list[str]] = {}
        for items in self.items.values():
            for kind, names in items.items():
                held.setdefault(kind, []).extend(names)
        failures: dict[Version, int] = {}
        for version in self.failures.values():
            failures[version] = failures.get(version, 0) + 1
        return NodeSnapshot(
            facts=NodeFacts.of(node),
            state=node.status.state,
            availability=node.spec.availability,
            capacity=node.description.capacity,
            reserved=taken.reserved,
            task_slots=node.spec.task_slots,
            reserved_for=node.spec.reserved_for,
            volumes=node.spec.volumes,
            items=node.description.generic_items,
            items_held={kind: tuple(sorted(names)) for kind, names in held.items()},
            images=node.description.images,
            ports=taken.ports,
            replicas=taken.replicas,
            task_count=len(self.demands),
            unsized=tuple(unsized),
            failures=failures,
            repels=taken.repels,
            tasks=tasks,
            leaving=frozenset(self.leaving),
            is_reached=self.is_reached,
        )


class Ledger:
    """Follows nodes and tasks, and makes snapshots of what is free where.

    Args:
        spec_of: finds the spec of a task's service, in the version that the task is of; None if
            it is not known (yet). Asked again at each snapshot until it is.
    """

    def __init__(self, spec_of: SpecLookup) -> None:
        self._spec_of = spec_of
        self._accounts: dict[NodeId, _Account] = {}
        self._node_of: dict[TaskId, NodeId] = {}
        self._unsized: dict[TaskId, Task] = {}
        self._demands: dict[Version, Demand] = {}
        self._service_ids: dict[str, tuple[ServiceId, ...]] = {}
        self._failures: list[tuple[float, TaskId, NodeId]] = []  # a heap: the oldest first
        self._changed: dict[NodeId, None] = {}  # in the order of what happened
        self._snapshot = Snapshot()

    def apply_node(self, node: Node) -> None:
        """Learn of a node as it is now."""
        self._account(node.id).node = node

    def apply_contact(self, node_id: NodeId, *, is_reached: bool) -> None:
        """Learn whether a node's agent has a session; one never told of is taken to have one."""
        account = self._accounts.get(node_id)
        if account is not None and account.is_reached != is_reached:
            self._account(node_id).is_reached = is_reached

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
            if task.status.state in _FAILED and task.node_id:
                self._note_failure(task)
            return
        demand = self._known_demand(task)
        if demand is None:
            self._unsized[task.id] = task
        else:
            self._unsized.pop(task.id, None)
        self._node_of[task.id] = task.node_id
        account = self._account(task.node_id)
        account.demands[task.id] = demand
        if wanted(task):
            account.leaving.discard(task.id)
        else:
            account.leaving.add(task.id)
        if task.generic_items:
            account.items[task.id] = task.generic_items

    def remove_task(self, task_id: TaskId) -> None:
        """Forget a task; not that it failed."""
        self._unsized.pop(task_id, None)
        node_id = self._node_of.pop(task_id, None)
        if node_id is not None:
            account = self._account(node_id)
            del account.demands[task_id]
            account.leaving.discard(task_id)
            account.items.pop(task_id, None)
            self._drop_if_empty(node_id)

    def demand_of(self, task: Task) -> Demand:
        """Return what *task* asks for; if its spec is not known, a demand that says so."""
        demand = self._known_demand(task)
        if demand is not None:
            return demand
        missing = f"version {task.spec_version} of service {task.service_id} is not known"
        return Demand(service_id=task.service_id, unreadable=(missing,))

    def snapshot(self, now: float | None = None) -> Snapshot:
        """Return the cluster as it is now; the last snapshot itself if nothing has changed.

        Args:
            now: wall time in seconds; failures are forgotten by it. None forgets none.
        """
        if now is not None:
            while self._failures and self._failures[0][0] <= now - FAILURES_SECONDS:
                self._forget_failure()
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
            self._snapshot = self._snapshot.changed(fresh, dict(self._service_ids))
        return self._snapshot

    def _account(self, node_id: NodeId) -> _Account:
        """Return the node's account in order to change it."""
        self._changed[node_id] = None
        return self._accounts.setdefault(node_id, _Account())

    def _drop_if_empty(self, node_id: NodeId) -> None:
        if self._accounts[node_id].is_empty:
            del self._accounts[node_id]

    def _note_failure(self, task: Task) -> None:
        account = self._account(task.node_id)
        if task.id not in account.failures:
            account.failures[task.id] = (task.service_id, task.spec_version)
            heapq.heappush(self._failures, (task.status.at, task.id, task.node_id))
            if len(self._failures) > _FAILURES_KEPT_MAX:
                self._forget_failure()

    def _forget_failure(self) -> None:
        _, task_id, node_id = heapq.heappop(self._failures)
        self._account(node_id).failures.pop(task_id, None)
        self._drop_if_empty(node_id)

    def _known_demand(self, task: Task) -> Demand | None:
        key = (task.service_id, task.spec_version)
        demand = self._demands.get(key)
        if demand is None:
            spec = self._spec_of(task)
            if spec is None:
                return None
            if len(self._demands) >= _DEMANDS_KEPT_MAX:
                self._demands.clear()
            demand = self._demands[key] = Demand.of(task.service_id, spec, task.spec_version)
            known = self._service_ids.get(spec.name, ())
            if task.service_id not in known:
                self._service_ids[spec.name] = tuple(sorted((*known, task.service_id)))
        return demand


def snapshot_of(nodes: Iterable[Node], tasks: Iterable[Task], spec_of: SpecLookup) -> Snapshot:
    """Return the snapshot of a cluster that is given whole."""
    ledger = Ledger(spec_of)
    for node in nodes:
        ledger.apply_node(node)
    for task in tasks:
        ledger.apply_task(task)
    return ledger.snapshot()
