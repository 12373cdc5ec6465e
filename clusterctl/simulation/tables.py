"""The two tables of a simulation: the hosts there are, and the tasks that come. Pure.

nodes.csv   node, cpu, memory; also slots, generic.KIND; any other column is a label
tasks.csv   task, cpu, memory; also service, replicas, constraint, order, priority,
            max_per_node, spread, generic.KIND. Without order they come one by one

Amounts are written as in Compose files (``0.5``, ``64MiB``). To add a column, list it here and
put it where it belongs in ``node`` or ``spec``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster import constraints, generic
from cluster.constraints.terms import number
from cluster.errors import InvalidError
from cluster.model import (
    ContainerSpec,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    Placement,
    ServiceSpec,
    SpreadPreference,
    TaskSpec,
)
from cluster.quantities import INT64_MAX, parse_bytes, parse_cpus
from cluster.resources import Resources
from clusterctl.simulation.csv_rows import Column, Problems, Row, rows

# What a whole cluster is built for, and what a simulation can answer while somebody waits.
NODES_MAX = 100_000
TASKS_MAX = 1_000_000

# Several constraints in one cell stand between these; ``any(...)`` has semicolons.
AND = "&&"

# No image is ever fetched; an empty name would mean "no image" nowhere else either.
_IMAGE = "simulated"
_GENERIC = "generic."

# Of longer ones Python refuses to make a number at all.
_DIGITS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Work:
    """Tasks that come together and ask for the same.

    Attributes:
        name: of the row; each of several replicas has its number behind it.
        order: when it comes; smaller is earlier, equal is together.
        spec: its service; rows of one service may ask for different things.
        line: of the file.
    """

    name: str
    order: float
    spec: ServiceSpec
    line: int

    def names(self) -> list[str]:
        """Return the name of each task."""
        if self.spec.replicas == 1:
            return [self.name]
        return [f"{self.name}.{number}" for number in range(1, self.spec.replicas + 1)]


def read_nodes(file: str, text: str) -> list[Node]:
    """Return the hosts of a file.

    Raises:
        InvalidError: everything that is wrong with it, line by line.
    """
    problems = Problems(file)
    columns = {
        "node": Column(_name, required=True),
        "cpu": Column(parse_cpus, required=True),
        "memory": Column(parse_bytes, required=True),
        "slots": Column(_number, 0),
    }
    families = {_GENERIC: Column(_count), "": Column(str)}
    found = rows(text, problems, columns, families, {"name": "node"})
    _check_labels(
        (name for row in found[:1] for name in row.cells if name not in columns), problems
    )
    _check_names("node", found, problems)
    nodes = [_node(row, problems, set(columns)) for row in found]
    if len(nodes) > NODES_MAX:
        problems.add(1, f"has {len(nodes)} nodes; at most {NODES_MAX}")
    problems.stop_if_any()
    return nodes


def read_tasks(file: str, text: str) -> list[Work]:
    """Return the tasks of a file, in the order in which they come.

    Raises:
        InvalidError: everything that is wrong with it, line by line.
    """
    problems = Problems(file)
    columns = {
        "task": Column(_name, required=True),
        "cpu": Column(parse_cpus, required=True),
        "memory": Column(parse_bytes, required=True),
        "service": Column(_name, ""),
        "replicas": Column(_number, 1),
        "constraint": Column(_constraints, ()),
        "order": Column(_order),
        "priority": Column(_priority, 0),
        "max_per_node": Column(_number, 0),
        "spread": Column(_spread, ()),
    }
    found = rows(text, problems, columns, {_GENERIC: Column(_count)}, {"name": "task"})
    _check_names("task", found, problems)
    _check_orders(found, problems)
    work = [_work(row, problems) for row in found]
    total = sum(each.spec.replicas for each in work)
    if total > TASKS_MAX:
        problems.add(1, f"asks for {total} tasks; at most {TASKS_MAX}")
    else:
        _check_replicas(work, problems)
    problems.stop_if_any()
    return sorted(work, key=lambda each: each.order)


def _node(row: Row, problems: Problems, columns: set[str]) -> Node:
    cells = row.cells
    return Node(
        id=NodeId(cells["node"]),
        spec=NodeSpec(
            task_slots=cells["slots"],
            labels={
                name: text
                for name, text in cells.items()
                if name not in columns and not name.startswith(_GENERIC)
            },
        ),
        description=NodeDescription(hostname=cells["node"], capacity=_resources(row, problems)),
        status=NodeStatus(state=NodeState.READY),
    )


def _work(row: Row, problems: Problems) -> Work:
    cells = row.cells
    spec = ServiceSpec(
        name=cells["service"] or cells["task"],
        replicas=cells["replicas"],
        priority=cells["priority"],
        task=TaskSpec(
            container=ContainerSpec(image=_IMAGE),
            reservations=_resources(row, problems),
            placement=Placement(
                constraints=cells["constraint"],
                max_replicas_per_node=cells["max_per_node"],
                preferences=cells["spread"],
            ),
        ),
    )
    order = row.line if cells["order"] is None else cells["order"]
    return Work(cells["task"], order, spec, row.line)


def _resources(row: Row, problems: Problems) -> Resources:
    counts = {
        name.removeprefix(_GENERIC): count
        for name, count in row.cells.items()
        if name.startswith(_GENERIC) and count
    }
    for kind, flaw in generic.counts_flaws(counts):
        problems.add(row.line, f"{_GENERIC}{kind}: {flaw}")
    return Resources(cpu_nanos=row.cells["cpu"], memory_bytes=row.cells["memory"], generic=counts)


def _check_names(column: str, found: Iterable[Row], problems: Problems) -> None:
    lines: dict[str, int] = {}
    for row in found:
        first = lines.setdefault(row.cells[column], row.line)
        if first != row.line:
            problems.add(row.line, f"{column} {row.cells[column]!r} is named on line {first} too")


def _check_replicas(work: Iterable[Work], problems: Problems) -> None:
    """Refuse a task that is called like a replica of another."""
    alone = {each.name: each.line for each in work if each.spec.replicas == 1}
    for each in work:
        for name in each.names():
            if name != each.name and name in alone:
                told = f"is called like a replica of {each.name!r} on line {each.line}"
                problems.add(alone[name], f"task {name!r} {told}")


def _check_orders(found: Sequence[Row], problems: Problems) -> None:
    """Refuse a file in which only some say when they come."""
    silent = [row for row in found if row.cells["order"] is None]
    if len(silent) < len(found):
        for row in silent:
            problems.add(row.line, "order must not be empty: other rows say when they come")


def _check_labels(names: Iterable[str], problems: Problems) -> None:
    for name in names:
        if not name.startswith(_GENERIC):
            try:
                constraints.topology(f"{constraints.NODE_LABELS}{name}")
            except InvalidError as error:
                problems.add(1, f"a column that is no other is a label: {error}")


def _name(text: str) -> str:
    if not text.isprintable():
        raise InvalidError(f"{text!r} has signs that cannot be shown")
    return text


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise InvalidError(f"{text!r} is no whole number from 0 up")
    if len(text) > _DIGITS_MAX or int(text) > INT64_MAX:
        raise InvalidError(f"must be at most {INT64_MAX}")
    return int(text)


def _count(text: str) -> int:
    count = _number(text)
    if count > generic.COUNT_MAX:
        raise InvalidError(f"must be at most {generic.COUNT_MAX}, is {count}")
    return count


def _priority(text: str) -> int:
    return -_number(text[1:]) if text.startswith("-") else _number(text)


def _order(text: str) -> float:
    value = number(text)
    if value is None:
        raise InvalidError(f"{text!r} is no number")
    return float(value)


def _constraints(text: str) -> tuple[str, ...]:
    expressions = tuple(part.strip() for part in text.split(AND))
    for expression in expressions:
        constraints.parse(expression)
    return expressions


def _spread(text: str) -> tuple[SpreadPreference, ...]:
    return tuple(
        SpreadPreference(key=constraints.topology(part.strip())) for part in text.split(AND)
    )
