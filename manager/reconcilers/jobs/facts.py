"""What both halves of a job's plan look at: its runs, and the tasks of each by place.

A place is what a run has one completion in: a slot, or a node if the job is global. A task that
ended though it was wanted has failed; one that was told to end, by a drain or because its node
was lost, has not, and its place gets another one that counts for nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cluster import lifecycle
from cluster.eligibility import eligible
from cluster.model import (
    Availability,
    JobRun,
    JobStatus,
    Node,
    NodeId,
    NodeState,
    RestartCondition,
    Service,
    ServiceSpec,
    ServiceVersion,
    Task,
    TaskId,
    TaskState,
)
from manager.reconcilers import restart

Place = int | NodeId


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan may look at.

    Attributes:
        service: as it is now.
        status: None before the job was first looked at.
        versions: specs of the service by number: those of its runs, and of ``status``.
        tasks: all of the service's, ended ones included.
        nodes: all of the cluster's.
        waits_for: what a run's tasks wait for before they may start; none: nothing.
        now: seconds since 1970 UTC.
        new_id: makes the id of a new task.
        jitter: a random number in [0, 1).
        has_time: False: nothing becomes due by the schedule, whatever the time.
    """

    service: Service
    status: JobStatus | None
    versions: Mapping[int, ServiceVersion]
    tasks: Sequence[Task]
    nodes: Mapping[NodeId, Node]
    waits_for: Callable[[int], Sequence[str]]
    now: float
    new_id: Callable[[], TaskId]
    jitter: restart.Jitter
    has_time: bool = True

    def spec_of(self, run: JobRun) -> ServiceSpec:
        """Return the spec that a run was made with, which a later update does not change."""
        version = self.versions.get(run.spec_version)
        return version.spec if version is not None else self.service.spec


@dataclass(frozen=True, slots=True)
class RunTasks:
    """The tasks of one run: by place, the newest first."""

    run: JobRun
    spec: ServiceSpec
    places: Mapping[Place, Sequence[Task]]

    @classmethod
    def of(cls, facts: Facts, run: JobRun) -> "RunTasks":
        spec = facts.spec_of(run)
        places: dict[Place, list[Task]] = {}
        for task in sorted(facts.tasks, key=lambda each: (each.created_at, each.id), reverse=True):
            if task.run == run.number:
                place: Place = task.node_id if spec.mode.is_global else task.slot
                places.setdefault(place, []).append(task)
        return cls(run, spec, places)

    @property
    def unfinished(self) -> list[Task]:
        """Those that may still be somewhere: they count against ``max_concurrent``."""
        return [
            task
            for history in self.places.values()
            for task in history
            if not task.status.state.finished
        ]

    @property
    def completed(self) -> set[Place]:
        return {
            place
            for place, history in self.places.items()
            if any(task.status.state is TaskState.COMPLETE for task in history)
        }

    @property
    def given_up(self) -> dict[Place, Task]:
        """Places whose last task has failed and is not tried again."""
        return {
            place: history[0]
            for place, history in self.places.items()
            if has_failed(history[0]) and not self._may_retry(history[0])
        }

    @property
    def failures(self) -> int:
        """How many tasks have failed, those among them that are forgotten."""
        return sum(failures_with(history[0]) for history in self.places.values())

    def _may_retry(self, ended: Task) -> bool:
        if self.spec.task.restart.condition is RestartCondition.NONE:
            return False
        retries = self.spec.job.retries
        return retries < 0 or failures_with(ended) <= retries


def has_failed(task: Task) -> bool:
    """Tell whether the task has ended badly and by itself."""
    state = task.status.state
    return state.finished and state is not TaskState.COMPLETE and lifecycle.wanted(task)


def failures_with(task: Task) -> int:
    """Return how many tasks of the place have failed, *task* included."""
    return task.failures + has_failed(task)


def comes_to(spec: ServiceSpec, node: Node | None) -> bool:
    """Tell whether a global job has a task on the node."""
    return (
        node is not None
        and node.status.state is NodeState.READY
        and node.spec.availability is Availability.ACTIVE
        and eligible(spec.task, node)
    )
