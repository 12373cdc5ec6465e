"""Who of the tasks that wait could be bound to a node, without breaking a promise."""

import itertools

import msgspec

from cluster import lifecycle
from cluster.invariants import State
from cluster.invariants.binding import fits, is_allowed
from cluster.invariants.nodes import ports_have_one_holder
from cluster.model import Availability, Node, NodeState, Task, TaskState


def is_open(node: Node) -> bool:
    return node.status.state is NodeState.READY and node.spec.availability is Availability.ACTIVE


class Room:
    """Looks at a state as it stands; to be thrown away with it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting = [
            task
            for task in state.tasks.values()
            if task.status.state <= TaskState.PENDING and lifecycle.wanted(task)
        ]
        self._nodes: dict[tuple[str, int, str], int] = {}

    def is_there_for(self, task: Task) -> bool:
        """Tell whether *task* should have been bound by now.

        One of a gang is placed with all that wait of it, or not at all. There may be ways to do so that
        this does not find, and none is asked for where they must be near each other, or have a volume
        in common: the scheduler begins with the node that fits the first of them best. What one task lacks still may be set
        aside for it, a node for each.
        """
        gang = self._gang(task)
        together = [each for each in self._waiting if gang and self._gang(each) == gang]
        others = [each for each in self._waiting if each not in together]
        set_aside = sum(not self._nodes_for(other) for other in others)
        if together:
            is_hindered = set_aside or any(map(self._is_tied, together))
            return not is_hindered and self._is_there_for_all(together)
        return self._nodes_for(task) > set_aside

    def is_needed_from(self, task: Task) -> bool:
        """Tell whether a place of the same service, which has nobody, lacks just the room of *task*.

        None does if others wait as well, or it is one of a gang: room may be set aside for them.
        """
        node = self._state.nodes.get(task.node_id)
        kin = task.service_id
        if any(self._gang(each) or each.service_id != kin for each in self._waiting):
            return False
        served = {each.slot for each in self._state.of_service(kin) if lifecycle.serves(each)}
        lacking = [each for each in self._waiting if each.slot not in served]
        ended = msgspec.structs.replace(task.status, state=TaskState.COMPLETE)
        self._state.put(msgspec.structs.replace(task, status=ended))
        try:
            return node is not None and any(self._could_go(each, node) for each in lacking)
        finally:
            self._state.put(task)

    def _could_go(self, task: Task, node: Node) -> bool:
        is_taken = node in self._nodes_open_to(task) and self._is_taken(task, node)
        self._state.put(task)
        return is_taken

    def _nodes_for(self, task: Task) -> int:
        """Return how many nodes could take *task*; those of one version find room alike."""
        kin = task.service_id, task.spec_version, task.node_id
        if kin not in self._nodes:
            taken = (self._is_taken(task, node) for node in self._nodes_open_to(task))
            self._nodes[kin] = sum(taken)
            self._state.put(task)
        return self._nodes[kin]

    def _is_there_for_all(self, tasks: list[Task]) -> bool:
        """Tell whether they find room one after the other, each on the first node that has some."""
        try:
            return all(
                any(self._is_taken(task, node) for node in self._nodes_open_to(task))
                for task in tasks
            )
        finally:
            for task in tasks:
                self._state.put(task)

    def _nodes_open_to(self, task: Task) -> list[Node]:
        nodes = filter(is_open, self._state.nodes.values())
        return [node for node in nodes if not task.node_id or node.id == task.node_id]

    def _is_taken(self, task: Task, node: Node) -> bool:
        """Bind *task* to *node*; tell whether no promise is broken, else take it back."""
        state = self._state
        status = msgspec.structs.replace(task.status, state=TaskState.ASSIGNED)
        bound = msgspec.structs.replace(
            task, node_id=node.id, status=status, version=max(task.version, node.version)
        )
        state.put(bound)
        breaches = itertools.chain(
            fits(state, bound), is_allowed(state, bound), ports_have_one_holder(state, node.id)
        )
        is_taken = next(breaches, None) is None
        if not is_taken:
            state.put(task)
        return is_taken

    def _is_tied(self, task: Task) -> bool:
        """Tell whether where one of its kind goes says where the next may go."""
        spec = self._state.spec_of(task)
        if spec is None:
            return False
        is_to_be_near = any(each.must_be_near for each in spec.placement.affinities)
        return is_to_be_near or any(mount.bound for mount in spec.container.mounts)

    def _gang(self, task: Task) -> str:
        version = self._state.versions.get((task.service_id, task.spec_version))
        return version.spec.gang if version else ""
