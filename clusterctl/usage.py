"""What nodes and tasks use beside what they have and have reserved: rows for ``top``. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from cluster.resources import Resources
from clusterctl.answers import HeardUsage, NodeSummary, TaskSummary
from clusterctl.render.kinds import node_name, task_name
from clusterctl.render.output import Kind
from clusterctl.render.people import cpus, memory, share, short
from clusterctl.render.plain import plain


@dataclass(frozen=True, slots=True)
class NodeUse:
    """A node: amounts used, reserved and in all; *heard_seconds_ago* since its last word."""

    id: str
    name: str
    known: bool
    cpu_nanos: int
    memory_bytes: int
    cpu_nanos_reserved: int
    memory_bytes_reserved: int
    cpu_nanos_capacity: int
    memory_bytes_capacity: int
    tasks: int
    heard_seconds_ago: float | None


@dataclass(frozen=True, slots=True)
class TaskUse:
    """A task and what it uses."""

    id: str
    name: str
    node: str
    cpu_nanos: int
    memory_bytes: int


def nodes(summaries: Iterable[NodeSummary], heard: Iterable[HeardUsage]) -> list[NodeUse]:
    """Return the nodes, those that use most of their CPUs first."""
    used = {each.usage.node_id: each for each in heard}
    rows = []
    for each in summaries:
        now = used.get(each.node.id)
        usage = now.usage if now is not None else each.usage
        known = usage is not None and usage.measured_at > 0
        capacity = each.node.description.capacity
        rows.append(
            NodeUse(
                id=each.node.id,
                name=node_name(each),
                known=known,
                cpu_nanos=usage.cpu_nanos if usage and known else 0,
                memory_bytes=usage.memory_bytes if usage and known else 0,
                cpu_nanos_reserved=each.reserved.cpu_nanos,
                memory_bytes_reserved=each.reserved.memory_bytes,
                cpu_nanos_capacity=capacity.cpu_nanos,
                memory_bytes_capacity=capacity.memory_bytes,
                tasks=each.tasks_running,
                heard_seconds_ago=now.heard_seconds_ago if now else each.heard_seconds_ago,
            )
        )
    return sorted(rows, key=lambda row: (-row.cpu_nanos / (row.cpu_nanos_capacity or 1), row.name))


def tasks(
    summaries: Iterable[NodeSummary], heard: Iterable[HeardUsage], known: Iterable[TaskSummary]
) -> list[TaskUse]:
    """Return the tasks of which something was measured, the greediest first."""
    names = {each.node.id: node_name(each) for each in summaries}
    of = {each.task.id: task_name(each) for each in known}
    rows = [
        TaskUse(
            id=task.task_id,
            name=of.get(task.task_id, short(task.task_id)),
            node=names.get(each.usage.node_id, short(each.usage.node_id)),
            cpu_nanos=task.cpu_nanos,
            memory_bytes=task.memory_bytes,
        )
        for each in heard
        for task in each.usage.tasks
    ]
    return sorted(rows, key=lambda row: (-row.cpu_nanos, -row.memory_bytes, row.name))


def _cpu(row: NodeUse) -> str:
    if not row.known:
        return "-"
    return f"{cpus(row.cpu_nanos)} ({share(row.cpu_nanos, row.cpu_nanos_capacity) or '-'})"


def _memory(row: NodeUse) -> str:
    if not row.known:
        return "-"
    return (
        f"{memory(row.memory_bytes)} ({share(row.memory_bytes, row.memory_bytes_capacity) or '-'})"
    )


def _reserved(row: NodeUse) -> str:
    amount = Resources(cpu_nanos=row.cpu_nanos_reserved, memory_bytes=row.memory_bytes_reserved)
    return f"{cpus(amount.cpu_nanos)}, {memory(amount.memory_bytes)}"


def _capacity(row: NodeUse) -> str:
    return f"{cpus(row.cpu_nanos_capacity)}, {memory(row.memory_bytes_capacity)}"


def _heard(row: NodeUse) -> str:
    return "-" if row.heard_seconds_ago is None else f"{row.heard_seconds_ago:.1f}s ago"


NODES: Kind[NodeUse] = Kind(
    columns=(
        ("NODE", lambda row: row.name),
        ("CPU USED", _cpu),
        ("MEMORY USED", _memory),
        ("RESERVED", _reserved),
        ("CAPACITY", _capacity),
        ("TASKS", lambda row: str(row.tasks)),
        ("HEARD", _heard),
    ),
    row=plain,
    identity=lambda row: row.id,
)

TASKS: Kind[TaskUse] = Kind(
    columns=(
        ("TASK", lambda row: row.name),
        ("ID", lambda row: short(row.id)),
        ("NODE", lambda row: row.node),
        ("CPU", lambda row: cpus(row.cpu_nanos)),
        ("MEMORY", lambda row: memory(row.memory_bytes)),
    ),
    row=plain,
    identity=lambda row: row.id,
)
