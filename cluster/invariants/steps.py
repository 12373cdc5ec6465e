"""I3, step by step: a task only goes forward, and each transition has one owner.

``goes_forward`` holds for any two states of a task of which one is later, so also where steps
in between were not seen. ``has_one_owner`` looks at single writes: give it steps of which none
was left out.
"""

from collections.abc import Iterator

import msgspec

from cluster.invariants.breach import Breach
from cluster.invariants.state import State
from cluster.model import NO_NODE, Task, TaskState, TaskStatus

# Set when a task is made, and never again.
_LASTING = (
    "service_id",
    "spec_version",
    "slot",
    "created_at",
    "start_after",
    "failures",
    "start_first",
)


def goes_forward(state: State, old: Task, new: Task) -> Iterator[Breach]:
    """Require that nothing of the task went back, and that it is what it was made as."""
    for field in _LASTING:
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield _breach(state, new, f"has changed its {field} from {before} to {after}")
    if old.node_id not in (new.node_id, NO_NODE):
        nodes = f"'{state.node_called(old.node_id)}' to '{state.node_called(new.node_id)}'"
        yield _breach(state, new, f"has moved from node {nodes}")
    if new.generic_items != old.generic_items and old.status.state >= TaskState.ASSIGNED:
        yield _breach(state, new, "was given other generic resources than those it had")
    if new.desired_state < old.desired_state:
        went = f"{old.desired_state.value} to {new.desired_state.value}"
        yield _breach(state, new, f"was desired to go back from {went}")
    if new.status.state < old.status.state:
        went = f"{old.status.state.value} to {new.status.state.value}"
        yield _breach(state, new, f"went back from {went}")
    elif old.status.state.finished and new.status != old.status:
        changed = ", ".join(_differing(old.status, new.status))
        yield _breach(state, new, f"had ended ({old.status.state.value}), yet changed: {changed}")


def is_possible(state: State, task: Task) -> Iterator[Breach]:
    """Require of a task as it stands what any history leaves behind."""
    status = task.status.state
    if status is TaskState.REMOVE:
        yield _breach(state, task, "was seen in state remove, which is only ever desired")
    elif status >= TaskState.ASSIGNED and task.node_id == NO_NODE:
        yield _breach(state, task, f"is {status.value} without a node")
    elif status < TaskState.ASSIGNED and task.slot and task.node_id != NO_NODE:
        node = state.node_called(task.node_id)
        yield _breach(state, task, f"is {status.value}, yet has node '{node}'")
    if task.desired_state not in _DESIRABLE:
        yield _breach(state, task, f"is desired to be {task.desired_state.value}")


def has_one_owner(state: State, old: Task, new: Task) -> Iterator[Breach]:
    """Require that one write did what one writer may do.

    The leader takes a task up to assigned and says when it is orphaned; its agent's manager
    takes it on from there. Only the leader changes what is desired.
    """
    before, after = old.status.state, new.status.state
    if new.status == old.status:
        return
    if after is before and before is not TaskState.PENDING:
        changed = ", ".join(_differing(old.status, new.status))
        yield _breach(state, new, f"did not advance ({before.value}), yet changed: {changed}")
    if TaskState.ACCEPTED <= after <= TaskState.REJECTED:
        if before < TaskState.ASSIGNED:
            went = f"{before.value} to {after.value}"
            yield _breach(state, new, f"went from {went}: no agent had been told of it")
        if new.desired_state is not old.desired_state:
            desired = f"{old.desired_state.value} to {new.desired_state.value}"
            yield _breach(
                state, new, f"was reported {after.value} and desired from {desired} in one write"
            )


_DESIRABLE = frozenset(
    {TaskState.READY, TaskState.RUNNING, TaskState.COMPLETE, TaskState.SHUTDOWN, TaskState.REMOVE}
)


def _differing(old: TaskStatus, new: TaskStatus) -> Iterator[str]:
    for field in msgspec.structs.fields(TaskStatus):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            yield f"{field.name} {before!r} to {after!r}"


def _breach(state: State, task: Task, what: str) -> Breach:
    return Breach("I3", (task.id,), f"{state.called(task)} {what}")
