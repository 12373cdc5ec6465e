"""Snapshots in which something is different: what the scheduler would see then."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from cluster.model import NodeId, ServiceId, TaskId
from scheduler.demand import Demand
from scheduler.snapshot import NodeSnapshot, PortKey, Snapshot
from scheduler.taken import taken_by

K = TypeVar("K")


def without(snapshot: Snapshot, task_id: TaskId) -> Snapshot:
    """Return the snapshot without a bound task; the same if there is no such task."""
    for node in snapshot.nodes.values():
        if task_id in node.tasks:
            return snapshot.changed({node.id: less(node, {task_id: node.tasks[task_id]})})
    return snapshot


def less(node: NodeSnapshot, tasks: Mapping[TaskId, Demand]) -> NodeSnapshot:
    """Return the node without these of its tasks; their named items stay given away."""
    taken = taken_by(tasks.values())
    ports: dict[PortKey, tuple[str, ...]] = {}
    for key, addresses in node.ports.items():
        left = list(addresses)
        for address in taken.ports.get(key, ()):
            left.remove(address)
        if left:
            ports[key] = tuple(left)
    return replace(
        node,
        reserved=node.reserved - taken.reserved,
        ports=ports,
        replicas=_minus(node.replicas, taken.replicas),
        repels=_minus(node.repels, taken.repels),
        task_count=node.task_count - len(tasks),
        tasks={id_: demand for id_, demand in node.tasks.items() if id_ not in tasks},
        leaving=node.leaving.difference(tasks),
    )


def more(node: NodeSnapshot, tasks: Mapping[TaskId, Demand]) -> NodeSnapshot:
    """Return the node with these tasks as well."""
    taken = taken_by(tasks.values())
    ports = {
        key: tuple(sorted((*node.ports.get(key, ()), *taken.ports.get(key, ()))))
        for key in {**node.ports, **taken.ports}
    }
    volumes = (*node.volumes, *(volume for each in tasks.values() for volume in each.volumes))
    return replace(
        node,
        reserved=node.reserved + taken.reserved,
        ports=ports,
        replicas=_plus(node.replicas, taken.replicas),
        repels=_plus(node.repels, taken.repels),
        task_count=node.task_count + len(tasks),
        tasks={**node.tasks, **tasks},
        volumes=tuple(dict.fromkeys(volumes)),
    )


def carried_out(
    snapshot: Snapshot, placements: Mapping[TaskId, NodeId], demands: Mapping[TaskId, Demand]
) -> Snapshot:
    """Return the snapshot after tasks were bound as a plan has it."""
    arriving: dict[NodeId, dict[TaskId, Demand]] = {}
    for task_id, node_id in placements.items():
        arriving.setdefault(node_id, {})[task_id] = demands[task_id]
    names = dict(snapshot.service_ids)
    for demand in demands.values():
        known = names.get(demand.service, ())
        if demand.service and demand.service_id not in known:
            names[demand.service] = tuple[ServiceId, ...]((*known, demand.service_id))
    fresh = {id_: more(snapshot.nodes[id_], tasks) for id_, tasks in arriving.items()}
    return snapshot.changed(fresh, names)


def _plus(mine: Mapping[K, int], theirs: Mapping[K, int]) -> dict[K, int]:
    return {key: mine.get(key, 0) + theirs.get(key, 0) for key in {**mine, **theirs}}


def _minus(mine: Mapping[K, int], theirs: Mapping[K, int]) -> dict[K, int]:
    left = {key: count - theirs.get(key, 0) for key, count in mine.items()}
    return {key: count for key, count in left.items() if count > 0}
