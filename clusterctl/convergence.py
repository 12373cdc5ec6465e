"""Whether the cluster has become what was asked for, and if not, why not.

Pure: a goal and a ``View`` in, a verdict out. A goal is made from what the managers answered to
the request, versions included; while the view is older than that, nothing has converged yet.

What a single service needs is said in ``replicas``, what a job needs in ``runs``, what becomes
of moves in ``moves``.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.lifecycle import live, occupies, wanted, was_stopped_regardless
from cluster.model import (
    Availability,
    Node,
    NodeState,
    Service,
    ServiceId,
    ServiceMode,
    Task,
    TaskId,
    TaskState,
)
from clusterctl.moves import Rebalanced, progress_of_moves
from clusterctl.replicas import BAD_ENDS, Progress, desired_of, progress_of, runs
from clusterctl.rollouts import judged
from clusterctl.runs import progress_of_job
from clusterctl.view import View

_UNSEEN = "not seen yet"


@dataclass(frozen=True, slots=True)
class Deployed:
    """Goal: services as they were stored run; those that were removed have no task left.

    Attributes:
        unchanged: those of the services that the request found as they should be.
        removed: id to name.
    """

    services: Sequence[Service]
    unchanged: frozenset[ServiceId] = frozenset()
    removed: Mapping[ServiceId, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Removed:
    """Goal: the services are gone, and all their tasks."""

    services: Mapping[ServiceId, str]  # id to name


@dataclass(frozen=True, slots=True)
class Drained:
    """Goal: the node runs nothing, and what it ran runs elsewhere.

    Attributes:
        node: as it was stored when the drain was asked for.
        running: of each service with a task there, how many tasks ran in all before.
        forgotten: the node itself shall be gone, too; *node* is as it was before.
    """

    node: Node
    running: Mapping[ServiceId, int]
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class RunEnded:
    """Goal: the run of a job that was asked for by hand has completed.

    Attributes:
        service: as it was stored when the run was asked for; its ``run_requests`` is which.
    """

    service: Service


Goal = Deployed | Removed | Drained | RunEnded | Rebalanced


@dataclass(frozen=True, slots=True)
class Verdict:
    """All parts of a goal; empty parts are a goal that is reached at once."""

    parts: tuple[Progress, ...]

    @property
    def done(self) -> bool:
        return all(part.done for part in self.parts)

    @property
    def failures(self) -> tuple[str, ...]:
        return tuple(part.failure for part in self.parts if part.failure)


def old_failures(view: View, goal: Goal) -> frozenset[TaskId]:
    """Return the bad ends that say nothing of the request; *view* is the first that was had."""
    match goal:
        case Deployed():
            services = goal.services
            unchanged = goal.unchanged
        case Removed() | RunEnded() | Rebalanced():
            return frozenset()
        case Drained():
            services = [view.services[each] for each in goal.running if each in view.services]
            unchanged = frozenset(goal.running)
    return frozenset(
        task.id
        for service in services
        for task in view.tasks_of(service.id)
        if task.status.state in BAD_ENDS
        and (service.id in unchanged or task.spec_version < service.spec_version)
    )


def converged(view: View, goal: Goal, old: Container[TaskId] = ()) -> Verdict:
    """Compare what is with what was asked for.

    Args:
        view: has had a whole snapshot.
        goal: what was asked for.
        old: what ``old_failures`` said at the beginning.
    """
    match goal:
        case Deployed():
            parts = [_service(view, service, old) for service in goal.services]
            gone = _removed(view, goal.removed)
            return Verdict((*parts, *(part for part in gone if not part.done)))
        case Removed():
            return Verdict(tuple(_removed(view, goal.services)))
        case Drained():
            return Verdict(tuple(_drained(view, goal, old)))
        case RunEnded():
            return Verdict((_run(view, goal.service),))
        case Rebalanced():
            return Verdict(tuple(progress_of_moves(view, goal)))


# --- services that shall run ---


def _service(view: View, asked: Service, old: Container[TaskId]) -> Progress:
    name = asked.spec.name
    known = view.services.get(asked.id)
    if known is not None and known.version >= asked.version:
        if known.spec_version == asked.spec_version and known.spec.mode.is_job:
            return progress_of_job(view, known)
        if known.spec_version == asked.spec_version:
            return judged(view, known, progress_of(view, known, old))
        failure = f"{name} was changed again meanwhile: `clusterctl service inspect {name}`"
    elif known is None and view.revision >= asked.version:
        failure = f"{name} was removed meanwhile"
    else:  # this manager does not know yet what another one has stored
        failure = ""
    return Progress(
        name,
        0,
        desired_of(asked, ()),
        done=False,
        doing=((_UNSEEN, desired_of(asked, ())),),
        failure=failure,
    )


def _run(view: View, asked: Service) -> Progress:
    gone = asked.id not in view.services and view.revision >= asked.version
    if gone:
        name = asked.spec.name
        return Progress(name, 0, 0, done=False, failure=f"{name} was removed meanwhile")
    return progress_of_job(view, asked, asked.run_requests)


# --- what shall be gone ---


def _removed(view: View, services: Mapping[ServiceId, str]) -> Iterable[Progress]:
    for service_id, name in services.items():
        left = [task for task in view.tasks_of(service_id) if occupies(task) or live(task)]
        there = service_id in view.services or any(True for _ in view.tasks_of(service_id))
        yield Progress(
            name,
            len(left),
            0,
            done=not there,
            leaving=True,
            doing=(("stopping", len(left)),) if left else (),
        )


# --- a node that shall be empty ---


def _drained(view: View, goal: Drained, old: Container[TaskId]) -> Iterable[Progress]:
    yield _forgotten(view, goal) if goal.forgotten else _emptied(view, goal)
    for service_id, running_before in goal.running.items():
        service = view.services.get(service_id)
        if service is None or service.spec.mode is not ServiceMode.REPLICATED:
            continue
        now = progress_of(view, service, old)
        enough = min(running_before, service.spec.replicas)
        elsewhere = sum(
            wanted(task) and runs(view, task) and task.node_id != goal.node.id
            for task in view.tasks_of(service_id)
        )
        yield Progress(
            service.spec.name,
            min(elsewhere, enough),
            enough,
            done=elsewhere >= enough,
            doing=now.doing,
            waiting=now.waiting,
            failure="" if elsewhere >= enough else now.failure,
        )


def _forgotten(view: View, goal: Drained) -> Progress:
    """Tell how far a node's removal is; a living agent's node comes back as another record."""
    known = view.nodes.get(goal.node.id)
    there = known is not None and known.created_at == goal.node.created_at
    return Progress(_name(goal.node), 0, 0, done=not there, leaving=True)


def _name(node: Node) -> str:
    return node.description.hostname or node.id[:12]


def _emptied(view: View, goal: Drained) -> Progress:
    name = _name(goal.node)
    known = view.nodes.get(goal.node.id)
    if known is None:
        gone = f"node {name} was removed meanwhile" if view.revision >= goal.node.version else ""
        return Progress(name, 0, 0, done=False, leaving=True, failure=gone)
    if known.version >= goal.node.version and known.spec.availability is not Availability.DRAIN:
        changed = f"node {name} is to take tasks again: somebody changed its availability"
        return Progress(name, 0, 0, done=False, leaving=True, failure=changed)
    left = [
        task
        for task in view.tasks.values()
        if task.node_id == goal.node.id
        and (live(task) or occupies(task))
        and not (known.status.state is NodeState.DOWN and wanted(task))  # a global service's
    ]
    return Progress(
        name,
        len(left),
        0,
        done=known.version >= goal.node.version and not left,
        leaving=True,
        doing=(("leaving", len(left)),) if left else (),
        waiting=(*_held_by_budgets(view, left), *_running_to_their_end(view, left)),
        note=_stopped_regardless(view, goal.node),
    )


def _running_to_their_end(view: View, left: Iterable[Task]) -> Iterator[tuple[str, str]]:
    """Yield the jobs of which tasks still run, which nobody stops before a deadline."""
    jobs: dict[str, int] = {}
    for task in left:
        service = view.services.get(task.service_id)
        if service is not None and service.spec.mode.is_job and live(task):
            jobs[service.spec.name] = jobs.get(service.spec.name, 0) + 1
    for name, count in jobs.items():
        yield f"{name} ({count})", "a job's task runs to its end: a `--deadline` would end it"


def _held_by_budgets(view: View, left: Iterable[Task]) -> Iterator[tuple[str, str]]:
    """Yield the services of which tasks could go, if another may be missing, and why they stay."""
    held: dict[ServiceId, int] = {}
    for task in left:
        if task.moving and live(task) and task.status.state is TaskState.RUNNING:
            service = view.services.get(task.service_id)
            is_global = service is not None and service.spec.mode is ServiceMode.GLOBAL
            if is_global or _is_held(task, view.tasks_of(task.service_id)):
                held[task.service_id] = held.get(task.service_id, 0) + 1
    for service_id, count in held.items():
        if (service := view.services.get(service_id)) is None:
            continue
        most = service.spec.max_unavailable
        reason = f"waits: its budget lets {most} be missing at a time"
        if not most:
            reason = (
                "stays: its budget lets none be missing, and it stops before its successor starts:"
                " a `--deadline` would move it"
            )
        yield f"{service.spec.name} ({count})", reason


def _is_held(task: Task, all_tasks: Iterable[Task]) -> bool:
    """Tell whether *task* stays only because others of its service are missing.

    It has an heir that could take over; or it gets none as long as others find no room.
    """
    others = [each for each in all_tasks if live(each) and each.id != task.id]
    if heirs := [each for each in others if each.slot == task.slot]:
        return any(_could_take_over(heir, task) for heir in heirs)
    return any(each.status.state is TaskState.PENDING for each in others)


def _could_take_over(heir: Task, task: Task) -> bool:
    """Tell whether *heir*, which lives in the same place, is made ready to start where *task* stops."""
    is_next = heir.created_at > task.created_at and not heir.start_first
    return is_next and heir.status.state is TaskState.READY


def _stopped_regardless(view: View, node: Node) -> str:
    count = sum(
        task.node_id == node.id and was_stopped_regardless(task) for task in view.tasks.values()
    )
    tasks = "1 task was" if count == 1 else f"{count} tasks were"
    return f"{tasks} stopped at the deadline, regardless of budgets" if count else ""
