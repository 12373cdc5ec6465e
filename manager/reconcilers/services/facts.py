"""What a plan for a service may look at."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.lifecycle import needs_replacing
from cluster.model import (
    Node,
    NodeId,
    Rollout,
    Service,
    ServiceVersion,
    Task,
    TaskId,
    TaskSpec,
)
from manager.reconcilers.restart import Jitter


@dataclass(frozen=True, slots=True)
class Sighting:
    """What this leader has seen of a task by its own monotonic clock.

    Neither an agent's clock nor a jump of ours has a say in it; a leader that has just begun
    sees everything for the first time, and then waits the longer for it.

    Attributes:
        unchanged_seconds: since its state changed last.
        running_seconds: for how long it has run or ran; None if it was never seen running.
        is_whole: it was seen before it ended.
    """

    unchanged_seconds: float = 0.0
    running_seconds: float | None = None
    is_whole: bool = False


UNSEEN = Sighting()


def just_now(task_id: TaskId) -> float:  # noqa: ARG001 - the signature counts
    """Say that a task is known since this moment."""
    return 0.0


def nothing_fits(successor: Task, holder: Task) -> bool:  # noqa: ARG001 - the signature counts
    """Say that the holder's room is of no use to the successor."""
    return False


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan may look at.

    Attributes:
        service: as it is now.
        versions: the service's specs that are kept, by number.
        tasks: all of the service's, ended ones included.
        nodes: all of the cluster's.
        now: seconds since 1970 UTC.
        new_id: makes the id of a new task.
        jitter: a random number in [0, 1).
        rollout: as it stands in the store; None before anything ran well.
        seen: of the tasks, while a rollout is under way.
        held_seconds: for how long this leader has known that a task is or was held back, or is
            asked to end; by a clock that does not jump, for what is started too early runs
            beside its predecessor.
        fits_without: whether a waiting task would find its place were it not for another one.
        waits_for: what its current version waits for before its tasks may start
            (``cluster.dependencies``); none: nothing.
        leaving: tasks that somebody else is just telling to stop.
    """

    service: Service
    versions: Mapping[int, ServiceVersion]
    tasks: Sequence[Task]
    nodes: Mapping[NodeId, Node]
    now: float
    new_id: Callable[[], TaskId]
    jitter: Jitter
    rollout: Rollout | None = None
    seen: Mapping[TaskId, Sighting] = field(default_factory=dict)
    held_seconds: Callable[[TaskId], float] = just_now
    fits_without: Callable[[Task, Task], bool] = nothing_fits
    waits_for: Sequence[str] = ()
    leaving: Container[TaskId] = ()

    def template(self, number: int) -> TaskSpec | None:
        """Return the template of a version; None if it is not kept."""
        if number == self.service.spec_version:
            return self.service.spec.task
        version = self.versions.get(number)
        return version.spec.task if version is not None else None

    def alike(self, one: int, other: int) -> bool:
        """Tell whether a task of the one version does as well for the other."""
        if one == other:
            return True
        was, shall = self.template(one), self.template(other)
        return was is not None and shall is not None and not needs_replacing(was, shall)

    def sighting(self, task: Task) -> Sighting:
        return self.seen.get(task.id, UNSEEN)
