"""How a task's life goes: which reports count, and which tasks are alive.

Pure rules over ``cluster.model``; the invariants' numbers are those of docs/promises.md.
"""

from collections.abc import Iterable

import msgspec

from cluster.model import LostNodePolicy, Mount, Task, TaskSpec, TaskState, TaskStatus


def advance(status: TaskStatus, report: TaskStatus) -> TaskStatus:
    """Return the later of what we knew and what *report* says (I3).

    Reports may come twice, late or not at all, so only a step forward counts, steps may be
    skipped, and a finished task stays finished.
    """
    if status.state.finished or report.state <= status.state:
        return status
    return report


def wanted(task: Task) -> bool:
    """Tell whether the task is meant to run, to its end if it is a job's, or to be made ready."""
    return task.desired_state.wanted


def let_start(task: Task) -> bool:
    """Tell whether the leader has let the task start, and has not taken that back."""
    return TaskState.READY < task.desired_state <= TaskState.COMPLETE


def live(task: Task) -> bool:
    """Tell whether the task holds its slot: wanted, and not finished (I2: one per slot)."""
    return task.desired_state.wanted and not task.status.state.finished


def serves(task: Task) -> bool:
    """Tell whether the task runs, and is meant to."""
    return task.status.state is TaskState.RUNNING and task.desired_state.wanted


def occupies(task: Task) -> bool:
    """Tell whether the task takes room and ports on its node (I1).

    It does from the moment it is bound: a global service's task that only waits for its node
    to be checked does not yet. A task that was asked to stop counts until its end was seen.
    """
    bound = bool(task.node_id) and task.status.state >= TaskState.ASSIGNED
    return bound and not task.status.state.finished


# Ends ``Task.moving`` of a task that was not spared any longer, whatever its service's budget says.
REGARDLESS = "stopped regardless of its service's budget"


def was_stopped_regardless(task: Task) -> bool:
    """Tell whether a drain's deadline has ended the task."""
    return task.moving.endswith(REGARDLESS)


def needs_replacing(old: TaskSpec, new: TaskSpec) -> bool:
    """Tell whether a task of *old* must be replaced to follow *new*.

    How a task is restarted and where it may run, a bound volume's place included, are not part
    of what runs: a change of these alone touches no task that still complies. Nor is what becomes
    of it when its node is lost, except that its host has to know of a lease from the beginning.
    """
    neutral = msgspec.structs.replace(old, restart=new.restart, placement=new.placement)
    if LostNodePolicy.FENCE not in (old.lost_node.policy, new.lost_node.policy):
        neutral = msgspec.structs.replace(neutral, lost_node=new.lost_node)
    mounts = new.container.mounts
    if _unbound(old.container.mounts) == _unbound(mounts):
        container = msgspec.structs.replace(old.container, mounts=mounts)
        neutral = msgspec.structs.replace(neutral, container=container)
    return neutral != new


def _unbound(mounts: Iterable[Mount]) -> list[Mount]:
    return [msgspec.structs.replace(mount, bound=False) for mount in mounts]
