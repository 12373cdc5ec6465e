"""I9 at the moment that counts: when a task is let to start.

The first task of a version, or of a job's run, starts only while what its service depends on is
as it asks; the others may start whatever has become of that since. So this looks at the tasks
that one transaction has let to start, beside everything else as it stood then.

Such a breach is not certain: the decision rests on what was seen a moment before the transaction,
and what is depended on may have changed in between. ``Gates`` remembers more than that moment: that
a condition has never held since the version came that asks for it. Whoever let a task of that
version start has seen the version, and all that had happened before it: so that is certain.

Written from the promise and not from ``cluster.dependencies``, so that both would have to be
wrong; of what is not required it only demands that it be there and on its way.
"""

from collections.abc import Iterable, Iterator

from cluster.eligibility import eligible
from cluster.invariants.breach import Breach
from cluster.invariants.state import State, Step, may_start
from cluster.lifecycle import needs_replacing
from cluster.model import (
    Availability,
    Dependency,
    DependencyCondition,
    JobStatus,
    Node,
    NodeState,
    Scaling,
    Service,
    ServiceId,
    Task,
    TaskState,
)
from cluster.scaling import wanted_replicas

S = TaskState
_STARTED = {S.STARTING, S.RUNNING, S.COMPLETE}
_ENOUGH = {
    DependencyCondition.STARTED: _STARTED,
    DependencyCondition.HEALTHY: {S.RUNNING, S.COMPLETE},
    DependencyCondition.COMPLETED: {S.COMPLETE},
}


def is_release(old: Task | None, new: Task) -> bool:
    """Tell whether the step from *old* to *new* lets the task start."""
    return may_start(new) and not (old is not None and may_start(old))


def starts_behind_what_it_needs(state: State, released: Iterable[Task]) -> Iterator[Breach]:
    """Require that what a service depends on was ready when its first tasks were let to start.

    Args:
        state: as it is after the transaction.
        released: the tasks that it has let to start.
    """
    for service, tasks in _first_of(state, released):
        for each in service.spec.depends_on:
            if each.required and not _holds(state, each):
                yield Breach(
                    "I9",
                    (tasks[0].id, service.id),
                    f"{state.called(tasks[0])} was let to start, though '{each.service}' was not"
                    f" as it asks ({each.condition.value}); allowed only if it was so a moment"
                    " before",
                    certain=False,
                )


class Gates:
    """Remembers which conditions have not held yet; feed it every step, from when it is made on.

    Of versions that were there before it says nothing, nor of a return to one that has begun.
    """

    def __init__(self, state: State) -> None:
        """Begin with what *state* is now; it is looked at again with each step."""
        self._state = state
        self._closed: dict[str, dict[tuple[ServiceId, Dependency], None]] = {}  # by what is needed
        self._begun: dict[ServiceId, dict[int, None]] = {}  # versions
        for service_id, number in state.versions:
            self._begun.setdefault(service_id, {})[number] = None

    def note(self, step: Step) -> None:
        """Take note of a step; the state is as it is after it."""
        match step.old, step.new:
            case (None | Service()) as old, Service() as new:
                if old is None or old.spec_version != new.spec_version:
                    self._close(new)
            case Service() as old, None:
                self._forget(old.id)
                self._begun.pop(old.id, None)
        for name in self._names(step):
            closed = self._closed.get(name, {})
            for key in [key for key in closed if _holds(self._state, key[1])]:
                del closed[key]

    def breaches(self, done: Iterable[Step]) -> list[Breach]:
        """Return what was let to start though a condition has never held.

        Args:
            done: steps that are noted, since the last time; of an object that has changed several
                times the last state, and the first one before.
        """
        released = [
            task
            for old, task in done
            if isinstance(task, Task) and is_release(old if isinstance(old, Task) else None, task)
        ]
        found = list(self._never_held(released))
        for task in released:
            self._begun.setdefault(task.service_id, {})[task.spec_version] = None
        return found

    def _never_held(self, released: Iterable[Task]) -> Iterator[Breach]:
        for service, tasks in _first_of(self._state, released):
            of_now = [task for task in tasks if task.spec_version == service.spec_version]
            if not of_now or self._is_return(service):
                continue
            for each in service.spec.depends_on:
                if (service.id, each) in self._closed.get(each.service, {}):
                    yield Breach(
                        "I9",
                        (of_now[0].id, service.id),
                        f"{self._state.called(of_now[0])} was let to start, though"
                        f" '{each.service}' was never as it asks ({each.condition.value})",
                    )

    def _is_return(self, service: Service) -> bool:
        """Tell whether the service had the same template before, and it was let to start."""
        if service.spec.mode.is_job:
            return False
        versions = (
            self._state.versions.get((service.id, number))
            for number in self._begun.get(service.id, {})
        )
        return any(
            version is not None and not needs_replacing(version.spec.task, service.spec.task)
            for version in versions
        )

    def _close(self, service: Service) -> None:
        self._forget(service.id)
        for each in service.spec.depends_on:
            if each.required and not _holds(self._state, each):
                self._closed.setdefault(each.service, {})[service.id, each] = None

    def _forget(self, service_id: ServiceId) -> None:
        for name, closed in list(self._closed.items()):
            left = {key: None for key in closed if key[0] != service_id}
            if left:
                self._closed[name] = left
            else:
                del self._closed[name]

    def _names(self, step: Step) -> Iterable[str]:
        """Return what has changed, by the names of services."""
        match step.new if step.new is not None else step.old:
            case Service(spec=spec):
                return [spec.name]
            case (
                Task(service_id=service_id)
                | JobStatus(service_id=service_id)
                | Scaling(service_id=service_id)
            ):
                service = self._state.services.get(service_id)
                return [service.spec.name] if service else []
            case Node():
                return list(self._closed)
        return []


def waits(state: State, service: Service) -> bool:
    """Tell whether something that the service depends on is not as it asks now."""
    return any(each.required and not _holds(state, each) for each in service.spec.depends_on)


def _first_of(state: State, released: Iterable[Task]) -> Iterator[tuple[Service, list[Task]]]:
    """Yield the tasks with which a version, or a run, begins to start, and their services."""
    together: dict[tuple[ServiceId, int], list[Task]] = {}
    for task in released:
        together.setdefault((task.service_id, task.run), []).append(task)
    for (service_id, run), tasks in together.items():
        service = state.services.get(service_id)
        if service is None or _has_begun(state, service, run, {task.id for task in tasks}):
            continue
        if of_now := [task for task in tasks if _is_of_now(state, service, task)]:
            yield service, of_now


def _has_begun(state: State, service: Service, run: int, besides: set[str]) -> bool:
    """Tell whether another task of the version, or of the run, shows that it was let to start."""
    return any(
        task.run == run
        and task.id not in besides
        and _is_of_now(state, service, task)
        and (
            may_start(task)
            or task.status.state in (*_STARTED, S.FAILED)
            or (task.status.state is S.SHUTDOWN and task.status.exit_code is not None)
        )
        for task in state.of_service(service.id)
    )


def _is_of_now(state: State, service: Service, task: Task) -> bool:
    if service.spec.mode.is_job or task.spec_version == service.spec_version:
        return True
    spec = state.spec_of(task)
    return spec is not None and not needs_replacing(spec, service.spec.task)


def _holds(state: State, needed: Dependency) -> bool:
    other = next(iter(state.services_named(needed.service)), None)
    if other is None:
        return False
    enough = _ENOUGH[needed.condition]
    tasks = [
        task
        for task in state.of_service(other.id)
        if task.status.state in enough
        and task.desired_state <= S.COMPLETE
        and _is_of_now(state, other, task)
    ]
    if other.spec.mode.is_job:
        status = state.jobs.get(other.id)
        if status is None:
            return False
        done = status.completed_version
        if done and (other.spec.job.schedule is not None or done == other.spec_version):
            return True
        newest = status.runs_made
        has_started = any(task.run == newest for task in tasks)
        return needed.condition is not DependencyCondition.COMPLETED and has_started
    if other.spec.mode.is_global:
        nodes = {
            node.id
            for node in state.nodes.values()
            if node.status.state is NodeState.READY
            and node.spec.availability is Availability.ACTIVE
            and eligible(other.spec.task, node)
        }
        return nodes <= {task.node_id for task in tasks}
    shall = wanted_replicas(other.spec, state.scalings.get(other.id))
    return len({task.slot for task in tasks}) >= shall
