"""How far a single service is.

A service is as it should be when each of its places (slots, or nodes of a global service) has a
running task of the current template, or one that has completed and is not to be run again, and
when nothing of it runs beside these, not even a task that is just being stopped. It fails when a
place cannot get there by itself: its task failed and is not to be restarted, or has failed
``FAILURES_MAX`` times in a row since the request.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from cluster import dependencies
from cluster.eligibility import eligible
from cluster.lifecycle import live, needs_replacing, occupies, wanted
from cluster.model import (
    Availability,
    Node,
    NodeState,
    RestartCondition,
    Service,
    ServiceMode,
    Task,
    TaskId,
    TaskState,
)
from clusterctl.view import View

# After so many bad ends in a row a place is in a crash loop; another try will not mend it.
FAILURES_MAX = 3

# Different reasons told of one service; tasks that wait for the same reason are told together.
REASONS_MAX = 3

BAD_ENDS = (TaskState.FAILED, TaskState.REJECTED)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one service, or one node, is.

    Attributes:
        reached: of ``wanted`` tasks, for a bar; with *leaving*, tasks that are still there.
        doing: what goes on: a word and how many tasks it is true of.
        waiting: which tasks wait, and why, a sentence.
        failure: why it will not get there by itself; empty while it may.
        note: what there is to know though it is done, a sentence.
        verb: what is true of those that are reached.
        instead: what to say instead of numbers; empty where these say something.
    """

    name: str
    reached: int
    wanted: int
    done: bool
    leaving: bool = False
    doing: tuple[tuple[str, int], ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()
    failure: str = ""
    note: str = ""
    verb: str = "running"
    instead: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one replica belongs: its tasks, the newest first."""

    label: str
    history: Sequence[Task]


def progress_of(view: View, service: Service, old: Container[TaskId]) -> Progress:
    tasks = list(view.tasks_of(service.id))
    places = _places(view, service, tasks)
    held = [(place, task) for place in places if (task := _holder(view, service, place))]
    current = {task.id for _, task in held}
    others = [
        task
        for task in tasks
        if (live(task) or occupies(task))
        and task.id not in current
        and not _is_out_of_reach(view, service, task)
    ]
    outdated = sum(live(task) for task in others)
    ended = sum(_ended_well(view, service, place) for place in places)
    reached = ended + sum(runs(view, task) for _, task in held)
    desired = desired_of(service, places)
    return Progress(
        service.spec.name,
        reached,
        desired,
        done=reached == desired and not others,
        doing=_doing((task for _, task in held), outdated, len(others) - outdated),
        waiting=(
            *((service.spec.name, f"waits for {needed}") for needed in gate(view, service)),
            *_waiting(held),
        )[:REASONS_MAX],
        failure=next(filter(None, (_failure(view, service, place, old) for place in places)), ""),
    )


def gate(view: View, service: Service, run: int = 0) -> list[str]:
    """Return what the tasks of a service, or of a job's run, wait for before they may start."""
    return dependencies.waits_for(service, view.world(), run)


def runs(view: View, task: Task) -> bool:
    node = view.nodes.get(task.node_id)
    is_down = node is not None and node.status.state is NodeState.DOWN
    return task.status.state is TaskState.RUNNING and not is_down


def desired_of(service: Service, places: Sequence[_Place]) -> int:
    if service.spec.mode is ServiceMode.REPLICATED_JOB:
        return service.spec.job.completions
    return service.spec.replicas if service.spec.mode is ServiceMode.REPLICATED else len(places)


def _places(view: View, service: Service, tasks: Iterable[Task]) -> list[_Place]:
    is_global = service.spec.mode is ServiceMode.GLOBAL
    histories: dict[str, list[Task]] = {}
    for task in tasks:
        histories.setdefault(task.node_id if is_global else str(task.slot), []).append(task)
    for history in histories.values():
        history.sort(
            key=lambda task: (live(task), task.spec_version, task.created_at, task.id), reverse=True
        )
    name = service.spec.name
    if not is_global:
        return [
            _Place(f"{name}.{slot}", history)
            for slot, history in histories.items()
            if wanted(history[0])
        ]
    return [
        _Place(f"{name} on {view.hostname(node.id)}", histories.get(node.id, ()))
        for node in view.nodes.values()
        if _belongs_on(service, node, histories.get(node.id, ()))
    ]


def _belongs_on(service: Service, node: Node, history: Sequence[Task]) -> bool:
    """Tell whether a global service shall have a task on a node that can be reached."""
    if node.status.state is not NodeState.READY or not eligible(service.spec.task, node):
        return False
    stays = bool(history) and wanted(history[0])
    match node.spec.availability:
        case Availability.ACTIVE:
            return True
        case Availability.PAUSE:
            return stays
        case Availability.DRAIN:
            return False


def _is_current(view: View, service: Service, task: Task) -> bool:
    if task.spec_version == service.spec_version:
        return True
    version = view.versions.get((service.id, task.spec_version))
    return version is not None and not needs_replacing(version.spec.task, service.spec.task)


def _holder(view: View, service: Service, place: _Place) -> Task | None:
    """Return the live task of the current template that holds the place."""
    task = place.history[0] if place.history else None
    if task is None or not live(task) or not _is_current(view, service, task):
        return None
    return task


def _ended_well(view: View, service: Service, place: _Place) -> bool:
    """Tell whether the place's task has completed and is not to be run again."""
    last = place.history[0] if place.history else None
    return (
        last is not None
        and wanted(last)
        and last.status.state is TaskState.COMPLETE
        and service.spec.task.restart.condition is not RestartCondition.ANY
        and _is_current(view, service, last)
    )


def _is_out_of_reach(view: View, service: Service, task: Task) -> bool:
    """Tell whether a task is a global service's on a node that is down: it stays as it is."""
    node = view.nodes.get(task.node_id)
    is_global = service.spec.mode is ServiceMode.GLOBAL
    return is_global and node is not None and node.status.state is NodeState.DOWN


def _failure(view: View, service: Service, place: _Place, old: Container[TaskId]) -> str:
    """Return why a place will not get a running task by itself; empty while it may."""
    history = [task for task in place.history if _is_current(view, service, task)]
    if not history or not wanted(history[0]) or history[0].status.state is TaskState.RUNNING:
        return ""
    bad = [task for task in history if task.status.state in BAD_ENDS]
    if not bad:
        return ""
    look = (
        f"`clusterctl service ps {service.spec.name}`, `clusterctl task explain {bad[0].id[:12]}`"
    )
    in_a_row = _bad_ends_in_a_row(history, old)
    if in_a_row >= FAILURES_MAX:
        return f"{place.label} failed {in_a_row} times in a row: {reason_of(bad[0])}; look: {look}"
    if bad[0] is history[0] and not _may_restart(service, history):
        return f"{place.label} failed and is not restarted: {reason_of(bad[0])}; look: {look}"
    return ""


def reason_of(task: Task) -> str:
    """Return why a task ended badly."""
    status = task.status
    return status.error or status.message or status.state.value


def _bad_ends_in_a_row(history: Sequence[Task], old: Container[TaskId]) -> int:
    count = 0
    for task in history:
        if task.status.state in BAD_ENDS and task.id not in old:
            count += 1
        elif task.status.state >= TaskState.RUNNING:
            break
    return count


def _may_restart(service: Service, history: Sequence[Task]) -> bool:
    policy = service.spec.task.restart
    if policy.condition is RestartCondition.NONE:
        return False
    if policy.max_attempts == 0:
        return True
    newest = history[0]
    since = newest.status.at - policy.window_seconds if policy.window_seconds else float("-inf")
    attempts = sum(
        task.failures > 0 and task.spec_version == newest.spec_version and task.created_at >= since
        for task in history
    )
    return attempts < policy.max_attempts


def _doing(current: Iterable[Task], old: int, stopping: int) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for task in current:
        if task.status.state is not TaskState.RUNNING:
            word = state_word(task)
            counts[word] = counts.get(word, 0) + 1
    if old:
        counts["to be replaced"] = old
    if stopping:
        counts["stopping"] = stopping
    return tuple(counts.items())


def state_word(task: Task) -> str:
    """Return what a task is at, no finer than people care for."""
    if task.status.state is TaskState.RUNNING:
        return "running"
    if task.desired_state is TaskState.READY and task.failures:
        return "to be restarted"
    if task.status.state <= TaskState.PENDING:
        return "to be placed"
    return "preparing" if task.status.state <= TaskState.PREPARING else "starting"


def _waiting(held: Iterable[tuple[_Place, Task]]) -> tuple[tuple[str, str], ...]:
    reasons: dict[str, list[str]] = {}
    for place, task in held:
        reason = ""
        if task.status.state <= TaskState.PENDING and task.status.error:
            reason = f"cannot be placed: {task.status.error}"
        elif task.failures and task.desired_state is TaskState.READY:
            bad = next((each for each in place.history if each.status.state in BAD_ENDS), None)
            reason = f"failed and will be tried again: {reason_of(bad)}" if bad else ""
        if reason:
            reasons.setdefault(reason, []).append(f"{place.label} ({task.id[:12]})")
    return tuple(
        (labels[0] if len(labels) == 1 else f"{labels[0]} and {len(labels) - 1} more", reason)
        for reason, labels in list(reasons.items())[:REASONS_MAX]
    )
