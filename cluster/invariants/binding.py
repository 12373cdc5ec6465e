"""I1 and I6 at the moment that counts: when a task is bound to its node.

What a node offers and what an operator labels it may change later, and nobody moves tasks for
that. So these look at a step: a task that did not take room on its node before and does now,
beside the node and the other tasks as they stood then. A node that was written again after the
task (its revision is higher) says nothing about that moment and is not judged.

Written from the promises and not from the scheduler, so that both would have to be wrong.
"""

from collections.abc import Iterator

from cluster.constraints import NodeFacts, canonical_architecture, matches, parse
from cluster.errors import InvalidError
from cluster.invariants import company
from cluster.invariants.breach import Breach
from cluster.invariants.nodes import amounts, reserved
from cluster.invariants.state import State, takes_room
from cluster.model import (
    Availability,
    MountKind,
    Node,
    NodeState,
    Placement,
    Platform,
    Task,
    TaskSpec,
    TaskState,
)


def is_binding(old: Task | None, new: Task) -> bool:
    """Tell whether the step from *old* to *new* is the one that bound the task."""
    if new.status.state is not TaskState.ASSIGNED:
        return False
    return old is None or old.status.state < TaskState.ASSIGNED


def fits(state: State, new: Task) -> Iterator[Breach]:
    """Require that the node could deliver what it has now promised (I1).

    A dimension in which the task reserves nothing is not its business: another task may have
    more there than a node that shrank still offers.
    """
    node, spec = state.nodes.get(new.node_id), state.spec_of(new)
    if node is None or spec is None or node.version > new.version:
        return
    capacity = dict(amounts(node.description.capacity))
    total = reserved(state, node.id)
    for dimension, amount in amounts(spec.reservations):
        offered = capacity.get(dimension, 0)
        if amount > 0 and total[dimension] > offered:
            yield Breach(
                "I1",
                (new.id, node.id),
                f"{state.called(new)} reserves {amount} {dimension} and was bound to node"
                f" '{state.node_called(node.id)}', whose tasks now reserve {total[dimension]} of"
                f" {offered}",
            )
    slots = node.spec.task_slots
    there = sum(map(takes_room, state.on_node(node.id)))
    if slots and there > slots:
        yield Breach(
            "I1",
            (new.id, node.id),
            f"{state.called(new)} was bound to node '{state.node_called(node.id)}', which takes"
            f" {slots} tasks and now has {there}",
        )
    for kind, items in new.generic_items.items():
        if missing := set(items) - set(node.description.generic_items.get(kind, ())):
            yield Breach(
                "I1",
                (new.id, node.id),
                f"{state.called(new)} was given {kind} {', '.join(sorted(missing))}, which node"
                f" '{state.node_called(node.id)}' does not have",
            )


def is_allowed(state: State, new: Task) -> Iterator[Breach]:
    """Require that the task may run there: node, platform, constraints, replicas, company (I6).

    Whom it must be near may have ended a moment before, unheard by who decided: so that is not
    certain. Whom it must be apart from, the leader itself has bound.
    """
    node, spec = state.nodes.get(new.node_id), state.spec_of(new)
    if node is None:
        yield _breach(state, new, f"was bound to node {new.node_id}, which does not exist")
        return
    if spec is None:
        yield _breach(state, new, f"was bound, though its version {new.spec_version} is not there")
        return
    if node.version > new.version:
        return
    for why in (
        *_closed(spec, node),
        *_unmet(spec.placement, node),
        *_crowded(state, spec.placement, new),
        *_homeless(state, spec, node),
        *company.unwelcome(state, spec, new, node),
    ):
        yield _breach(state, new, f"was bound to node '{state.node_called(node.id)}', but {why}")
    for why in company.lonely(state, spec, new, node):
        text = f"was bound to node '{state.node_called(node.id)}', but {why}, unless that ended just then"
        yield _breach(state, new, text, certain=False)


def _closed(spec: TaskSpec, node: Node) -> Iterator[str]:
    if node.status.state is not NodeState.READY:
        yield f"that is {node.status.state.value}"
    if node.spec.availability is not Availability.ACTIVE:
        yield f"that is set to {node.spec.availability.value}"
    for name in node.spec.reserved_for:
        if name not in spec.placement.tolerates:
            yield f"that is reserved for {name}"


def _unmet(placement: Placement, node: Node) -> Iterator[str]:
    facts = NodeFacts.of(node)
    for expression in placement.constraints:
        try:
            holds = matches(parse(expression), facts)
        except InvalidError as error:
            yield f"one cannot tell whether it may: {error}"
        else:
            if not holds:
                yield f"constraint {expression} does not hold there"
    if placement.platforms and not any(_runs(each, facts) for each in placement.platforms):
        there = f"{facts.platform.os}/{facts.platform.architecture}"
        yield f"that is {there}, which is none of the platforms it can run on"


def _runs(wanted: Platform, facts: NodeFacts) -> bool:
    there = facts.platform
    if wanted.os and wanted.os.lower() != there.os.lower():
        return False
    architectures = canonical_architecture(wanted.architecture), there.architecture
    return not wanted.architecture or architectures[0] == canonical_architecture(architectures[1])


def _crowded(state: State, placement: Placement, new: Task) -> Iterator[str]:
    """Count the service's tasks there; those that another version has bound with it came after.

    Versions may have different limits, and in one transaction the order does not show.
    """
    limit = placement.max_replicas_per_node
    there = sum(
        takes_room(task)
        and task.service_id == new.service_id
        and (task.spec_version == new.spec_version or task.version != new.version)
        for task in state.on_node(new.node_id)
    )
    if limit and there > limit:
        yield f"that makes {there} tasks of the service there, of {limit} at most"


def _homeless(state: State, spec: TaskSpec, node: Node) -> Iterator[str]:
    for mount in spec.container.mounts:
        if mount.bound and mount.kind is MountKind.VOLUME and mount.source not in node.spec.volumes:
            homes = [each for each in state.nodes.values() if mount.source in each.spec.volumes]
            if homes:  # one that lives nowhere yet may come to live here
                yield f"its volume {mount.source} lives on '{state.node_called(homes[0].id)}'"


def _breach(state: State, task: Task, what: str, *, certain: bool = True) -> Breach:
    return Breach("I6", (task.id, task.node_id), f"{state.called(task)} {what}", certain=certain)
