"""I6, as far as it is about other tasks: who must be near whom, and who apart.

A *place* is here what a topology makes of nodes: all with the same value of a label, or each
node for itself. A node without the label is no place: nothing there is near anything.
"""

from collections.abc import Iterator

from cluster.constraints import NodeFacts
from cluster.invariants.state import State, takes_room
from cluster.model import Affinity, Node, Task, TaskSpec


def lonely(state: State, spec: TaskSpec, new: Task, node: Node) -> Iterator[str]:
    """Yield whom *new* must be near on *node*, and is not."""
    own_name = state.versions[new.service_id, new.spec_version].spec.name
    for affinity in _musts(spec):
        if affinity.anti or any(_near(state, affinity.service, affinity.topology, new, node)):
            continue
        # The first task of a service that must be near its own begins wherever there is a place.
        begins = affinity.service == own_name and not _elsewhere(state, own_name, new)
        if not begins or NodeFacts.of(node).find(affinity.topology) is None:
            yield f"no task of {affinity.service} is near by {affinity.topology}, as it must be"


def unwelcome(state: State, spec: TaskSpec, new: Task, node: Node) -> Iterator[str]:
    """Yield from whom *new* must be apart on *node*, or who must be apart from it, and is not."""
    own_name = state.versions[new.service_id, new.spec_version].spec.name
    for affinity in _musts(spec):
        companion = next(_near(state, affinity.service, affinity.topology, new, node), None)
        if affinity.anti and companion is not None:
            yield (
                f"it must be apart from {affinity.service} by {affinity.topology}, and"
                f" {state.called(companion)} is there"
            )
    for version in state.versions_that_repel():
        for affinity in _musts(version.spec.task):
            if affinity.anti and affinity.service == own_name:
                for other in _near(state, version.spec.name, affinity.topology, new, node):
                    if other.spec_version == version.number:
                        yield f"{state.called(other)}, which is there, must be apart from it"


def _musts(spec: TaskSpec) -> Iterator[Affinity]:
    return (affinity for affinity in spec.placement.affinities if not affinity.weight)


def _near(state: State, name: str, topology: str, new: Task, node: Node) -> Iterator[Task]:
    """Yield the other tasks of the service *name* in the place of *node*."""
    place = NodeFacts.of(node).find(topology)
    for task in _elsewhere(state, name, new) if place is not None else ():
        there = state.nodes.get(task.node_id)
        if there is not None and NodeFacts.of(there).find(topology) == place:
            yield task


def _elsewhere(state: State, name: str, new: Task) -> list[Task]:
    """Return the other tasks of the service *name* that are bound to a node that there is."""
    return [
        task
        for service_id in state.ids_called(name)
        for task in state.of_service(service_id)
        if task.id != new.id and takes_room(task) and task.node_id in state.nodes
    ]
