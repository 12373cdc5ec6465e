"""What is shown of an object beside its own record: counted over the view, nothing stored."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster.lifecycle import needs_replacing, occupies, wanted
from cluster.model import (
    ManagerId,
    Node,
    NodeId,
    Rollout,
    Service,
    ServiceMode,
    Stack,
    Task,
    TaskState,
)
from cluster.resources import Resources
from manager.control.references import node_name
from manager.dispatch.open_session import HeardUsage
from manager.view import View


@dataclass(frozen=True, slots=True)
class ServiceSummary:
    """A service with how far it is; the counts are of tasks.

    Attributes:
        tasks_desired: that should run.
        tasks_running: that do, and should.
        tasks_current: of these, that run the newest template.
        rollout: where it stands; None before the first version ran well.
    """

    service: Service
    tasks_desired: int
    tasks_running: int
    tasks_current: int
    rollout: Rollout | None = None


@dataclass(frozen=True, slots=True)
class StackSummary:
    stack: Stack
    services: int
    tasks_desired: int
    tasks_running: int


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task with the names that people know things by; empty where a thing is gone."""

    task: Task
    service_name: str
    node_hostname: str
    image: str


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
    tasks = [task for task in view.tasks_of_service(service.id) if wanted(task)]
    running = [task for task in tasks if task.status.state is TaskState.RUNNING]
    newest = {
        number: _is_newest(view, service, number) for number in {t.spec_version for t in running}
    }
    if service.spec.mode is ServiceMode.REPLICATED:
        desired = service.spec.replicas
    else:
        desired = len({task.node_id for task in tasks})
    return ServiceSummary(
        service,
        desired,
        len(running),
        sum(newest[task.spec_version] for task in running),
        view.rollouts.get(service.id),
    )


def of_stack(view: View, stack: Stack) -> StackSummary:
    """Count the tasks of a stack's services."""
    services = [of_service(view, service) for service in view.services_of_stack(stack.name)]
    return StackSummary(
        stack,
        len(services),
        sum(service.tasks_desired for service in services),
        sum(service.tasks_running for service in services),
    )


def of_task(view: View, task: Task) -> TaskSummary:
    """Name what *task* is of."""
    version = view.version_of(task)
    service = view.services.get(task.service_id)
    spec = service.spec if service else None
    return TaskSummary(
        task,
        spec.name if spec else (version.spec.name if version else ""),
        node_name(view, task.node_id),
        version.spec.task.container.image if version else "",
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
