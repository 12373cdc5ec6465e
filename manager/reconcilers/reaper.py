"""The reaper: forget tasks and service versions that nobody needs any more.

Of each place the newest finished tasks are kept, for people to look at and for the restart
policy to count; what is to be removed goes as soon as it has ended. Versions stay while a task
or a job's run that is remembered names them, and the newest few stay to be compared with and
returned to.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from cluster import lifecycle
from cluster.model import (
    ClusterSpec,
    JobStatus,
    Rollout,
    Service,
    ServiceId,
    ServiceVersion,
    Task,
    TaskState,
)
from manager import view as views
from manager.committer import Change
from manager.reconcilers.loop import Plan

VERSIONS_KEPT = 20  # enough to find the last good one; a version takes a few kilobytes

# Scaling counts versions too. So of those that differ from the next in their replicas alone so
# many more are passed over: a service that is scaled all day keeps its earlier templates.
TEMPLATES_KEPT = 20


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan may look at: a service, or what is left of one (None), and its own."""

    service: Service | None
    tasks: Sequence[Task]
    versions: Mapping[int, ServiceVersion]
    history_limit: int
    rollout: Rollout | None = None
    job: JobStatus | None = None


def plan(facts: Facts) -> Plan:
    """Return the removals that are due."""
    gone = [task for task in facts.tasks if _is_spent(task)]
    places: dict[tuple[int, int, str], list[Task]] = {}
    for task in facts.tasks:
        if task.desired_state < TaskState.REMOVE:
            place = (task.run, task.slot, "" if task.slot else task.node_id)
            places.setdefault(place, []).append(task)
    for history in places.values():
        history.sort(key=lambda task: (task.created_at, task.id), reverse=True)
        # The newest is the place's present: it stays whatever the limit says.
        past = [task for task in history[1:] if task.status.state.finished]
        gone += past[_kept(facts) :]
    changes = [Change(drop=(task,), why="its history is over") for task in gone]
    if facts.service is not None or len(gone) == len(facts.tasks):
        changes += _old_versions(facts)
    return Plan(changes)


def _kept(facts: Facts) -> int:
    if facts.service is None:
        return 0
    # The restart policy counts attempts by what is kept.
    return max(facts.history_limit, facts.service.spec.task.restart.max_attempts + 1)


def _is_spent(task: Task) -> bool:
    """Tell whether *task* was to be forgotten after its end, and has ended."""
    return task.desired_state is TaskState.REMOVE and task.status.state.finished


def _old_versions(facts: Facts) -> list[Change]:
    needed = {task.spec_version for task in facts.tasks}
    if facts.service is not None:
        newest = sorted(facts.versions, reverse=True)[:VERSIONS_KEPT]
        needed |= {facts.service.spec_version, *newest, *_templates(facts.versions)}
        if rollout := facts.rollout:
            needed |= {rollout.spec_version, rollout.target, rollout.base, *rollout.healthy}
        if job := facts.job:
            needed |= {run.spec_version for run in job.runs}
    else:
        needed = set()
    return [
        Change(drop=(version,), why="no task runs this version")
        for number, version in facts.versions.items()
        if number not in needed
    ]


def _templates(versions: Mapping[int, ServiceVersion]) -> list[int]:
    """Return the newest versions that differ from the one after them in more than replicas."""
    kept: list[int] = []
    for number in sorted(versions, reverse=True):
        if len(kept) == TEMPLATES_KEPT:
            break
        spec = versions[number].spec
        if kept:
            after = versions[kept[-1]].spec
            if msgspec.structs.replace(spec, replicas=after.replicas) == after:
                continue
        kept.append(number)
    return kept


class Reaper:
    """Plans one service, or the remains of one, at a time."""

    name = "reaper"

    def __init__(self, view: views.View) -> None:
        self._view = view
        self._versions: dict[ServiceId, dict[int, None]] = {}
        for service_id, number in view.versions:
            self._versions.setdefault(service_id, {})[number] = None

    def concerned(self, change: views.Change) -> Iterable[ServiceId]:
        match change.either:
            case Task() as task:
                goes_on = change.old is not None and change.new is not None
                return [] if goes_on and lifecycle.live(task) else [task.service_id]
            case Service() as service:
                return [service.id]
            case ServiceVersion() as version:
                numbers = self._versions.setdefault(version.service_id, {})
                if change.new is None:
                    numbers.pop(version.number, None)
                else:
                    numbers[version.number] = None
                if not numbers:
                    del self._versions[version.service_id]
                return [version.service_id]
        return []

    def everything(self) -> Iterable[ServiceId]:
        owners = (task.service_id for task in self._view.tasks.values())
        return dict.fromkeys((*self._versions, *owners))

    def plan(self, key: ServiceId, now: float) -> Plan:  # noqa: ARG002 - age does not count
        cluster = self._view.cluster
        spec = cluster.spec if cluster else ClusterSpec()
        return plan(
            Facts(
                service=self._view.services.get(key),
                tasks=list(self._view.tasks_of_service(key)),
                versions={
                    number: self._view.versions[key, number]
                    for number in self._versions.get(key, ())
                    if (key, number) in self._view.versions
                },
                history_limit=spec.task_history_limit,
                rollout=self._view.rollouts.get(key),
                job=self._view.jobs.get(key),
            )
        )
