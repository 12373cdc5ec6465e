"""I2, place by place: one current task, and none starts beside a predecessor that may still run.

The rule (``manager.reconcilers.services``): a successor may be made ready at once, but starts
only when every predecessor in its place was seen to have ended, or a bound time has passed that
stands for a host whose Docker hangs. So that somebody runs beside a predecessor is no proof by
itself; a task that is *made* to run at once beside one is.
"""

from collections.abc import Iterator

from cluster.invariants.breach import Breach
from cluster.invariants.state import Place, State, is_current, takes_room
from cluster.model import Task, TaskState


def one_current_task(state: State, place: Place) -> Iterator[Breach]:
    """Require at most one live task."""
    current = [task for task in state.in_place(place) if is_current(task)]
    if len(current) > 1:
        yield Breach(
            "I2",
            tuple(task.id for task in current),
            f"{len(current)} tasks are current in one place: "
            + ", ".join(f"{state.called(task)} {_written(task)}" for task in current),
        )


def one_may_run(state: State, place: Place) -> Iterator[Breach]:
    """Require that no task of the place is let to run beside another that may still run.

    Not certain: the predecessor may have had all its time to stop.
    """
    bound = [task for task in state.in_place(place) if takes_room(task)]
    for task in state.in_place(place):
        if is_current(task) and task.desired_state is TaskState.RUNNING:
            for other in bound:
                if other.id != task.id:
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

    Args:
        state: as it is once the task was made.
        new: as it was made.
    """
    if new.desired_state is not TaskState.RUNNING:
        return
    for other in state.in_place(Place.of(new)):
        if other.id != new.id and takes_room(other):
            yield Breach(
                "I2",
                (new.id, other.id),
                f"{state.called(new)} was made to run at once beside {state.called(other)}"
                f" {_written(other)}, whose end was not seen",
            )


def _written(task: Task) -> str:
    return f"[{task.status.state.value}, to be {task.desired_state.value}]"
