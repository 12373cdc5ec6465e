"""Services that wait for services: who may start, who stops first, and which wait in a circle.

The one gate. A version of a service (a run of a job) stands before it until every condition of
its ``depends_on`` holds; once one of its tasks was let to start, it is through: tasks that
fail, are moved or are added start at once as long as any of its tasks shows that it is through,
and none is stopped because what it waited for is unwell later (I9). A version that is not
through replaces nothing that runs.

Pure, and asked by all who need to know: the reconcilers, which hold tasks back; the Control
API and the client, which say what for; the invariants, which check.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from cluster.eligibility import eligible
from cluster.jobs import newest_begun
from cluster.lifecycle import let_start, needs_replacing
from cluster.model import (
    Availability,
    Dependency,
    DependencyCondition,
    JobStatus,
    Node,
    NodeId,
    NodeState,
    RestartCondition,
    RunState,
    Service,
    ServiceId,
    ServiceSpec,
    ServiceVersion,
    Task,
    TaskState,
)

# States that only a task which was let to start comes to.
_HAS_STARTED = (TaskState.STARTING, TaskState.RUNNING, TaskState.COMPLETE, TaskState.FAILED)
_BAD_ENDS = (TaskState.FAILED, TaskState.REJECTED)


@dataclass(frozen=True, slots=True)
class World:
    """What the gate may look at, wherever it is kept.

    Attributes:
        named: the service of a full name.
        tasks_of: all tasks of a service.
        version: a spec that a service had, by its number.
        job: how a job does.
        nodes: all of the cluster's, as they are now.
    """

    named: Callable[[str], Service | None]
    tasks_of: Callable[[ServiceId], Iterable[Task]]
    version: Callable[[ServiceId, int], ServiceVersion | None]
    job: Callable[[ServiceId], JobStatus | None]
    nodes: Callable[[], Iterable[Node]]


def waits_for(service: Service, world: World, run: int = 0) -> list[str]:
    """Return what a service, or a run of a job, waits for before its tasks may start.

    Returns:
        A phrase for each condition that does not hold, such as "service 'db' to be healthy (0
        of 1)"; none if it is through the gate.
    """
    if not service.spec.depends_on:
        return []
    spec_of = _specs(service, world)
    if any(
        task.run == run and _is_current(service, task, spec_of) and is_through(task)
        for task in world.tasks_of(service.id)
    ):
        return []
    return unmet(service.spec, world)


def is_through(task: Task) -> bool:
    """Tell whether the task shows that its version, or its run, is through the gate."""
    status = task.status
    was_stopped = status.state is TaskState.SHUTDOWN and status.exit_code is not None
    return let_start(task) or status.state in _HAS_STARTED or was_stopped


def unmet(spec: ServiceSpec, world: World) -> list[str]:
    """Return the conditions of *spec* that do not hold now, a phrase each."""
    return [why for each in spec.depends_on if (why := _unmet(each, world))]


def _unmet(dependency: Dependency, world: World) -> str:
    service = world.named(dependency.service)
    if service is None:
        return f"service '{dependency.service}', which is not there" if dependency.required else ""
    why, failed = (
        _of_job(dependency, service, world)
        if service.spec.mode.is_job
        else (_of_service(dependency, service, world))
    )
    return "" if failed and not dependency.required else why


def _of_job(dependency: Dependency, service: Service, world: World) -> tuple[str, bool]:
    """Return what is missing of a job, and whether that is so because it failed."""
    status = world.job(service.id)
    run = newest_begun(status) if status else None
    name = f"job '{service.spec.name}'"
    is_scheduled = service.spec.job.schedule is not None
    completed = status.completed_version if status else 0
    if completed and (is_scheduled or completed == service.spec_version):
        return "", False
    if dependency.condition is not DependencyCondition.COMPLETED:
        least = _LEAST[dependency.condition]
        tasks = world.tasks_of(service.id)
        reached = run and any(
            task.run == run.number and least <= task.status.state <= TaskState.COMPLETE
            for task in tasks
        )
        if reached:
            return "", False
    what = f"{name} to {_JOB_WORDS[dependency.condition]}"
    if run is None or (run.spec_version != service.spec_version and not is_scheduled):
        return what, False
    if run.state is RunState.FAILED:
        return f"{what} (its run {run.number} failed: {run.message})", True
    return what, False


def _of_service(dependency: Dependency, service: Service, world: World) -> tuple[str, bool]:
    """Return what is missing of a service, and whether that is so because tasks failed."""
    spec_of = _specs(service, world)
    newest: dict[int | NodeId, Task] = {}
    for task in world.tasks_of(service.id):
        if task.desired_state <= TaskState.COMPLETE and _is_current(service, task, spec_of):
            place = task.node_id if service.spec.mode.is_global else task.slot
            known = newest.get(place)
            if known is None or known.created_at < task.created_at:
                newest[place] = task
    wanted = _wanted(service, world)
    reached = sum(
        _reaches(dependency.condition, task.status.state)
        for place, task in newest.items()
        if not service.spec.mode.is_global or place in wanted
    )
    if reached >= len(wanted):
        return "", False
    word = _WORDS[dependency.condition]
    failed = any(task.failures or task.status.state in _BAD_ENDS for task in newest.values())
    return f"service '{service.spec.name}' to {word} ({reached} of {len(wanted)})", failed


def _wanted(service: Service, world: World) -> range | set[NodeId]:
    """Return the places that count: as many as there are replicas, or the nodes that comply."""
    if not service.spec.mode.is_global:
        return range(service.spec.replicas)
    return {
        node.id
        for node in world.nodes()
        if node.status.state is NodeState.READY
        and node.spec.availability is Availability.ACTIVE
        and eligible(service.spec.task, node)
    }


_LEAST = {
    DependencyCondition.STARTED: TaskState.STARTING,
    DependencyCondition.HEALTHY: TaskState.RUNNING,
    DependencyCondition.COMPLETED: TaskState.COMPLETE,
}
_WORDS = {
    DependencyCondition.STARTED: "be started",
    DependencyCondition.HEALTHY: "be healthy",
    DependencyCondition.COMPLETED: "complete",
}
_JOB_WORDS = {**_WORDS, DependencyCondition.COMPLETED: "complete successfully"}


def _reaches(condition: DependencyCondition, state: TaskState) -> bool:
    """Tell whether a task is so far; one that has ended well was as far as any."""
    return _LEAST[condition] <= state <= TaskState.COMPLETE


def _specs(service: Service, world: World) -> Callable[[int], ServiceSpec | None]:
    def spec_of(number: int) -> ServiceSpec | None:
        version = world.version(service.id, number)
        return version.spec if version else None

    return spec_of


def _is_current(service: Service, task: Task, spec_of: Callable[[int], ServiceSpec | None]) -> bool:
    if task.spec_version == service.spec_version or service.spec.mode.is_job:
        return True
    spec = spec_of(task.spec_version)
    return spec is not None and not needs_replacing(spec.task, service.spec.task)


def completion_flaw(dependency: Dependency, other: ServiceSpec) -> str:
    """Return why a service that is waited for can never have completed; empty if it may."""
    if dependency.condition is not DependencyCondition.COMPLETED or other.mode.is_job:
        return ""
    if other.task.restart.condition is not RestartCondition.ANY:
        return ""
    return (
        "which never completes: it is started again whenever it ends; make it a job"
        " (deploy.mode: replicated-job), or let it restart only on-failure, or not at all"
    )


# --- order -------------------------------------------------------------------------------------


def cycle_in(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """Return names that wait for each other in a circle, the first one again at the end.

    Args:
        edges: what each name waits for.
    """
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle[::-1]  # there each stands behind what it waits for
    return []


def dependents_first(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names so that whoever waits for another one stands before it; no circles."""
    return list(TopologicalSorter(edges).static_order())[::-1]


def restarted_with(changed: Iterable[str], specs: Mapping[str, ServiceSpec]) -> set[str]:
    """Return the services that are restarted because those of *changed* are, by ``restart``.

    Args:
        changed: names of services whose tasks an operator's request replaces.
        specs: all services, by name, as they shall be.
    """
    found: set[str] = set()
    reached = set(changed)
    while reached:
        followers = {
            name
            for name, spec in specs.items()
            if any(each.restart and each.service in reached for each in spec.depends_on)
        }
        reached = followers - found
        found |= reached
    return found
