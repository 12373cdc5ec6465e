"""Tasks that must leave a node that can be reached: which, and why. Pure.

A node is drained; or what its tasks rest on has changed: a label, what it is reserved for, which
volumes live there, how much it offers. Then the tasks for which that does not hold any more are to
move. Each is judged by what its successor would be held to, so that nothing moves in circles.

That a node offers less than its tasks reserve is mended with the fewest tasks of the lowest
priority that will do.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster import constraints, lifecycle
from cluster.eligibility import bound_volumes
from cluster.errors import InvalidError
from cluster.model import Availability, Node, Task, TaskId, TaskSpec
from cluster.resources import Resources

SLOTS = "task slots"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a decision may look at.

    Attributes:
        node: as it is.
        tasks: all that are bound to it.
        spec_of: what a task runs; None if that is not known.
        held_to: what a task's successor would be held to; None if there would be none: its
            service is gone, or global (those see to it themselves), or a job.
        priority_of: of a task's service.
    """

    node: Node
    tasks: Sequence[Task]
    spec_of: Callable[[Task], TaskSpec | None]
    held_to: Callable[[Task], TaskSpec | None]
    priority_of: Callable[[Task], int]


def leaving(facts: Facts) -> Mapping[TaskId, str]:
    """Return the live tasks that must leave, with why."""
    live = [task for task in facts.tasks if lifecycle.live(task)]
    if facts.node.spec.availability is Availability.DRAIN:
        return {task.id: f"node {_name(facts.node)} is drained" for task in live}
    reasons: dict[TaskId, str] = {}
    node = constraints.NodeFacts.of(facts.node)
    for task in live:
        held_to = facts.held_to(task)
        if held_to is not None and (why := _unmet(facts.node, node, task, held_to)):
            reasons[task.id] = why
    reasons |= _crowded(facts, [task for task in live if task.id not in reasons])
    reasons |= _overflowing(facts, reasons)
    return reasons


def _name(node: Node) -> str:
    return node.description.hostname or node.id


# --- rules ---


def _unmet(node: Node, facts: constraints.NodeFacts, task: Task, spec: TaskSpec) -> str:
    """Return which rule does not hold (any more); empty if all do."""
    name = _name(node)
    for expression in spec.placement.constraints:
        try:
            holds = constraints.matches(constraints.parse(expression), facts)
        except InvalidError:
            continue  # it was refused by validation; who cannot be read moves nobody
        if not holds:
            return f"constraint {expression} does not hold on node {name}"
    if alien := sorted(set(node.spec.reserved_for) - set(spec.placement.tolerates)):
        return f"node {name} is reserved for {', '.join(alien)}"
    if away := sorted(bound_volumes(spec) - set(node.spec.volumes)):
        return f"volume {away[0]} does not live on node {name}"
    for kind, items in task.generic_items.items():
        if gone := sorted(set(items) - set(node.description.generic_items.get(kind, ()))):
            return f"node {name} does not offer {kind} {gone[0]}"
    return ""


def _crowded(facts: Facts, live: Sequence[Task]) -> dict[TaskId, str]:
    """Return the newest tasks of services that may have fewer on a node than are here.

    A limit holds for those who are held to it: in a rollout another version may have another.
    """
    alike: dict[tuple[str, int], list[Task]] = {}
    for task in live:
        spec = facts.held_to(task)
        if spec is not None and (limit := spec.placement.max_replicas_per_node):
            alike.setdefault((task.service_id, limit), []).append(task)
    reasons: dict[TaskId, str] = {}
    for (_, limit), tasks in alike.items():
        movable = sorted(tasks, key=lambda task: (not task.moving, -task.created_at, task.id))
        for task in movable[: max(0, len(tasks) - limit)]:
            name = _name(facts.node)
            reasons[task.id] = f"at most {limit} of its service may be on node {name}"
    return reasons


# --- room ---


def _overflowing(facts: Facts, leaving_anyway: Mapping[TaskId, str]) -> dict[TaskId, str]:
    """Return the tasks that leave because the node offers less than is reserved."""
    staying = [
        task
        for task in facts.tasks
        if lifecycle.occupies(task) and lifecycle.wanted(task) and task.id not in leaving_anyway
    ]
    needs = {task.id: dict(_needs(facts.spec_of(task))) for task in staying}
    lacks = _lacks(facts.node, needs.values())
    if not lacks:
        return {}
    able = [task for task in staying if facts.held_to(task) is not None]
    chosen = _fewest(able, needs, lacks, facts.priority_of)
    what = " and ".join(sorted(lacks))
    return {
        task.id: f"node {_name(facts.node)} offers less {what} than is reserved" for task in chosen
    }


def _needs(spec: TaskSpec | None) -> Iterator[tuple[str, int]]:
    yield SLOTS, 1
    yield from _amounts(spec.reservations if spec is not None else Resources())


def _amounts(resources: Resources) -> Iterator[tuple[str, int]]:
    yield "CPU", resources.cpu_nanos
    yield "memory", resources.memory_bytes
    yield from resources.generic.items()


def _lacks(node: Node, needs: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return by how much more is reserved than offered, where it is."""
    total: dict[str, int] = {}
    for need in needs:
        for dimension, amount in need.items():
            total[dimension] = total.get(dimension, 0) + amount
    offered = dict(_amounts(node.description.capacity))
    offered[SLOTS] = node.spec.task_slots or total.get(SLOTS, 0)
    over = {name: amount - offered.get(name, 0) for name, amount in total.items()}
    return {name: amount for name, amount in over.items() if amount > 0}


def _fewest(
    able: Sequence[Task],
    needs: Mapping[TaskId, Mapping[str, int]],
    lacks: Mapping[str, int],
    priority_of: Callable[[Task], int],
) -> list[Task]:
    """Return few tasks of low priority that give back what is lacking, or all that helps.

    Only as high as it must, priorities are touched; within that, the one that helps most goes
    first, and whoever turns out not to be needed is spared. Those on their way already count
    first, so that the choice does not change while they go.
    """
    pool: list[Task] = []
    for priority in sorted({priority_of(task) for task in able}):
        pool = [task for task in able if priority_of(task) <= priority]
        if not _left(pool, needs, lacks):
            break
    chosen: list[Task] = []
    while left := _left(chosen, needs, lacks):
        rest = [task for task in pool if task not in chosen and _help(needs[task.id], left) > 0]
        if not rest:
            break
        chosen.append(
            max(
                rest,
                key=lambda task: (
                    bool(task.moving),
                    _help(needs[task.id], left),
                    -priority_of(task),
                    task.created_at,
                    task.id,
                ),
            )
        )
    for task in sorted(chosen, key=priority_of, reverse=True):
        fewer = [other for other in chosen if other is not task]
        if _left(fewer, needs, lacks) == _left(chosen, needs, lacks):
            chosen = fewer
    return chosen


def _left(
    gone: Iterable[Task], needs: Mapping[TaskId, Mapping[str, int]], lacks: Mapping[str, int]
) -> dict[str, int]:
    """Return what would still be lacking."""
    left = dict(lacks)
    for task in gone:
        for dimension, amount in needs[task.id].items():
            if dimension in left:
                left[dimension] -= amount
    return {name: amount for name, amount in left.items() if amount > 0}


def _help(need: Mapping[str, int], lacks: Mapping[str, int]) -> float:
    """Return how much of what is lacking a task would give back, as shares added up."""
    return sum(min(need.get(name, 0), amount) / amount for name, amount in lacks.items())
