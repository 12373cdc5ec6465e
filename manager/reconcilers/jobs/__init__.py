"""Jobs: services whose tasks come to an end, once for each version or by a schedule.

| module | decides                                                              |
| ------ | -------------------------------------------------------------------- |
| runs   | which runs there are, and how they ended: the job's ``JobStatus``    |
| tasks  | which tasks those runs have                                          |
| facts  | (pure) what both look at                                             |

A plan moves the status or the tasks, never both: tasks are only made for a run that is stored.
"""

from collections.abc import Iterable
from functools import cache

from cluster import dependencies
from cluster.ids import IdSource
from cluster.model import JobStatus, Node, Scaling, Service, ServiceId, Task, TaskId
from manager import view as views
from manager.committer import Change
from manager.reconcilers import restart
from manager.reconcilers.dependents import Dependents, world_of
from manager.reconcilers.jobs.facts import Facts
from manager.reconcilers.jobs.runs import look_again_seconds, next_status
from manager.reconcilers.jobs.tasks import plan_tasks
from manager.reconcilers.loop import Plan

__all__ = ["Facts", "JobReconciler", "plan"]


def plan(facts: Facts) -> Plan:
    """Return the next step of a job; none when all is well and nothing is due."""
    status, why = next_status(facts)
    if status != facts.status:
        return Plan([Change(save=(status,), why=why)])
    planned = plan_tasks(facts)
    times = (planned.look_again_seconds, look_again_seconds(facts))
    return Plan(planned.changes, min((time for time in times if time is not None), default=None))


class JobReconciler:
    """Plans one job at a time; one that is gone has its status removed."""

    name = "jobs"

    def __init__(
        self, view: views.View, ids: IdSource, jitter: restart.Jitter, *, has_time: bool = True
    ) -> None:
        """Plan nothing yet.

        Args:
            view: what is decided on.
            ids: of new tasks.
            jitter: of restart delays.
            has_time: False: schedules rest.
        """
        self._view = view
        self._has_time = has_time
        self._ids = ids
        self._jitter = jitter
        self._dependents = Dependents(view)
        self._world = world_of(view)

    def concerned(self, change: views.Change) -> Iterable[ServiceId]:
        waiting = self._dependents.concerned(change)
        match change.either:
            case Service() as service:
                return [service.id, *waiting]
            case Task() as task:
                return [task.service_id, *waiting]
            case JobStatus() as status:
                return [status.service_id, *waiting]
            case Scaling():
                return waiting
            case Node():
                return [
                    service.id
                    for service in self._view.services.values()
                    if service.spec.mode.is_global or service.spec.depends_on
                ]
        return []

    def everything(self) -> Iterable[ServiceId]:
        jobs = (each.id for each in self._view.services.values() if each.spec.mode.is_job)
        return dict.fromkeys((*self._view.jobs, *jobs))

    def plan(self, key: ServiceId, now: float) -> Plan:
        service, status = self._view.services.get(key), self._view.jobs.get(key)
        if service is None:
            gone = [Change(drop=(status,), why="its job was removed")] if status else []
            return Plan(gone)
        if not service.spec.mode.is_job:
            return Plan()
        numbers = {service.spec_version}
        if status is not None:
            numbers |= {status.spec_version, *(run.spec_version for run in status.runs)}
        versions = {
            number: version
            for number in numbers
            if (version := self._view.versions.get((key, number))) is not None
        }
        return plan(
            Facts(
                service=service,
                status=status,
                versions=versions,
                tasks=list(self._view.tasks_of_service(key)),
                nodes=self._view.nodes,
                waits_for=cache(lambda run: dependencies.waits_for(service, self._world, run)),
                now=now,
                new_id=lambda: TaskId(self._ids.new()),
                jitter=self._jitter,
                has_time=self._has_time,
            )
        )
