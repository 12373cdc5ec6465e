"""What is shown of an object beside its own record: counted over the view, nothing stored."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cluster import dependencies
from cluster.jobs import newest_begun
from cluster.lifecycle import let_start, live, needs_replacing, occupies, wanted
from cluster.model import (
    JobStatus,
    ManagerId,
    Node,
    NodeId,
    Rollout,
    RunState,
    Scaling,
    Service,
    ServiceMode,
    Stack,
    Task,
    TaskState,
)
from cluster.resources import Resources
from cluster.scaling import wanted_replicas
from manager.control.references import node_name
from manager.dispatch.open_session import HeardUsage
from manager.reconcilers.dependents import listed, world_of
from manager.view import View


@dataclass(frozen=True, slots=True)
class ServiceSummary:
    """A service with how far it is; the counts are of tasks.

    Attributes:
        tasks_desired: that should run.
        tasks_running: that do, and should.
        tasks_current: of these, that run the newest template.
        scaling: of one that scales itself: what was last decided; None before that.
        rollout: where it stands; None before the first version ran well.
        job: of a job; None before the leader has seen it.
        tasks_completed: of a job's newest run: the completions so far.
    """

    service: Service
    tasks_desired: int
    tasks_running: int
    tasks_current: int
    scaling: Scaling | None = None
    rollout: Rollout | None = None
    job: JobStatus | None = None
    tasks_completed: int = 0


@dataclass(frozen=True, slots=True)
class StackSummary:
    stack: Stack
    services: int
    tasks_desired: int
    tasks_running: int


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task with the names that people know things by; empty where a thing is gone.

    Attributes:
        waits_for: what other services must come to before it may start; empty if it may.
    """

    task: Task
    service_name: str
    node_hostname: str
    image: str
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """A node with what is known of it.

    Attributes:
        manager_id: that holds its session; None if there is none.
        reserved: by the tasks that take room there; ``tasks_total`` of them.
        heard: None if the manager that holds its session did not tell.
    """

    node: Node
    manager_id: ManagerId | None
    reserved: Resources
    tasks_running: int
    tasks_total: int
    heard: HeardUsage | None


def of_service(view: View, service: Service) -> ServiceSummary:
    """Count the tasks of a service."""
    if service.spec.mode.is_job:
        return _of_job(view, service)
    tasks = [task for task in view.tasks_of_service(service.id) if wanted(task)]
    running = [task for task in tasks if task.status.state is TaskState.RUNNING]
    newest = {
        number: _is_newest(view, service, number) for number in {t.spec_version for t in running}
    }
    scaling = view.scalings.get(service.id) if service.spec.autoscale else None
    if service.spec.mode is ServiceMode.REPLICATED:
        desired = wanted_replicas(service.spec, scaling)
    else:
        desired = len({task.node_id for task in tasks})
    return ServiceSummary(
        service,
        desired,
        len(running),
        sum(newest[task.spec_version] for task in running),
        scaling,
        view.rollouts.get(service.id),
    )


def _of_job(view: View, service: Service) -> ServiceSummary:
    status = view.jobs.get(service.id)
    tasks = list(view.tasks_of_service(service.id))
    running = sum(wanted(task) and task.status.state is TaskState.RUNNING for task in tasks)
    run = newest_begun(status) if status else None
    if run is None:
        desired, completed = 0 if service.spec.mode.is_global else service.spec.job.completions, 0
    elif run.state is not RunState.RUNNING:
        desired, completed = run.completions, run.completed
    else:
        places: dict[int | NodeId, bool] = {}
        for task in tasks:
            if task.run == run.number:
                is_done = task.status.state is TaskState.COMPLETE
                place = task.slot or task.node_id
                places[place] = places.get(place, False) or is_done
        desired, completed = run.completions or len(places), sum(places.values())
    return ServiceSummary(service, desired, running, running, job=status, tasks_completed=completed)


def of_stack(view: View, stack: Stack) -> StackSummary:
    """Count the tasks of a stack's services."""
    services = [of_service(view, service) for service in view.services_of_stack(stack.name)]
    return StackSummary(
        stack,
        len(services),
        sum(service.tasks_desired for service in services),
        sum(service.tasks_running for service in services),
    )


def waits_for(view: View, task: Task) -> str:
    """Return what keeps a task from starting that other services must come to first."""
    service = view.services.get(task.service_id)
    if service is None or not live(task) or let_start(task):
        return ""
    return listed(dependencies.waits_for(service, world_of(view), task.run))


def of_task(
    view: View, task: Task, waiting: Callable[[View, Task], str] = waits_for
) -> TaskSummary:
    """Name what *task* is of, and what it waits for."""
    version = view.version_of(task)
    service = view.services.get(task.service_id)
    spec = service.spec if service else None
    return TaskSummary(
        task,
        spec.name if spec else (version.spec.name if version else ""),
        node_name(view, task.node_id),
        version.spec.task.container.image if version else "",
        waiting(view, task),
    )


def of_node(view: View, node: Node, heard: Mapping[NodeId, HeardUsage]) -> NodeSummary:
    """Add up what a node has given away."""
    tasks = [task for task in view.tasks_on_node(node.id) if occupies(task)]
    session = view.sessions.get(node.id)
    return NodeSummary(
        node,
        session.manager_id if session else None,
        reserved_by(view, tasks),
        sum(task.status.state is TaskState.RUNNING for task in tasks),
        len(tasks),
        heard.get(node.id),
    )


def reserved_by(view: View, tasks: Iterable[Task]) -> Resources:
    """Return what *tasks* reserve together."""
    cpu_nanos = memory_bytes = 0  # plain numbers: there may be 100,000 tasks
    generic: Counter[str] = Counter()
    for task in tasks:
        if version := view.version_of(task):
            amounts = version.spec.task.reservations
            cpu_nanos += amounts.cpu_nanos
            memory_bytes += amounts.memory_bytes
            if amounts.generic:
                generic.update(amounts.generic)
    return Resources(cpu_nanos=cpu_nanos, memory_bytes=memory_bytes, generic=dict(generic))


def _is_newest(view: View, service: Service, number: int) -> bool:
    version = view.versions.get((service.id, number))
    return version is not None and not needs_replacing(version.spec.task, service.spec.task)
