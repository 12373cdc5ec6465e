"""I2, place by place: one task serves, one more may be there to replace it, and none starts too soon.

The rule (``manager.reconcilers.services``): a successor may be made ready at once, but starts
only when every predecessor in its place was seen to have ended, or a bound time has passed that
stands for a host whose Docker hangs. So that somebody runs beside a predecessor is no proof by
itself; a task that is *made* to run at once beside one is.

In an update, or when a task moves to another node, the successor is made while the task that it is
to replace goes on. It waits, READY, unless the service goes start-first: then the task says so, and may run beside that one.
"""

from collections.abc import Iterator

from cluster.invariants.breach import Breach
from cluster.invariants.state import Place, State, is_current, may_start, takes_room
from cluster.model import Task, TaskState


def one_current_task(state: State, place: Place) -> Iterator[Breach]:
    """Require at most one live task, and at most one more that is to replace it."""
    current = sorted(
        (task for task in state.in_place(place) if is_current(task)),
        key=lambda task: (task.created_at, task.id),
    )
    told = f"{len(current)} tasks are current in one place: " + ", ".join(
        f"{state.called(task)} {_written(task)}" for task in current
    )
    ids = tuple(task.id for task in current)
    if len(current) > 2 or (len(current) == 2 and not _replaces(current[1])):  # noqa: PLR2004
        yield Breach("I2", ids, told)
    elif len(current) == 2 and not _has_reason(*current):  # noqa: PLR2004
        allowed = "allowed only if the first was to move until just now"
        yield Breach("I2", ids, f"{told}; {allowed}", certain=False)


def one_may_run(state: State, place: Place) -> Iterator[Breach]:
    """Require that no task of the place is let to run beside another that may still run.

    Not certain: the predecessor may have had all its time to stop.
    """
    bound = [task for task in state.in_place(place) if takes_room(task)]
    for task in state.in_place(place):
        if is_current(task) and may_start(task):
            for other in bound:
                if other.id != task.id and not _may_run_beside(task, other):
                    yield Breach(
                        "I2",
                        (task.id, other.id),
                        f"{state.called(task)} {_written(task)} is let to run beside"
                        f" {state.called(other)} {_written(other)}; allowed only once that has had"
                        " its time to stop",
                        certain=False,
                    )


def is_made_behind_its_predecessors(state: State, new: Task) -> Iterator[Breach]:
    """Require of a new task that it is not to run while another of its place may still run.

    One that goes start-first may have one other beside it, of another version or on the move.

    Args:
        state: as it is once the task was made.
        new: as it was made; one that is bound by now is passed over.
    """
    if not may_start(new) or new.status.state >= TaskState.ASSIGNED:
        return
    others = [task for task in state.in_place(Place.of(new)) if task.id != new.id]
    before = [task for task in others if takes_room(task)]
    if new.start_first and len(before) == 1:
        holder = before[0]
        if holder.spec_version != new.spec_version or holder.moving:
            return
    for other in before:
        yield Breach(
            "I2",
            (new.id, other.id),
            f"{state.called(new)} was made to run at once beside {state.called(other)}"
            f" {_written(other)}, whose end was not seen",
        )


def _replaces(successor: Task) -> bool:
    """Tell whether the later of two live tasks is held back, or says that it goes start-first."""
    return successor.desired_state is TaskState.READY or successor.start_first


def _has_reason(holder: Task, successor: Task) -> bool:
    """Tell whether it can be seen why one is to replace the other: a new version, or a move."""
    return holder.spec_version != successor.spec_version or bool(holder.moving)


def _may_run_beside(task: Task, other: Task) -> bool:
    """Tell whether of the two the later one goes start-first, or only waits."""
    later = max(task, other, key=lambda each: (each.created_at, each.id))
    return later.start_first or (later is other and later.desired_state is TaskState.READY)


def _written(task: Task) -> str:
    return f"[{task.status.state.value}, to be {task.desired_state.value}]"
