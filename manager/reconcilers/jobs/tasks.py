"""Which tasks the runs of a job have.

A place of a run gets its next task only when every one before it was seen to have ended, or was
lost with its node: so a completion is never counted twice, and there are never more tasks than
``max_concurrent``, whatever stops and starts. A new run waits likewise for what is left of runs
that were stopped, unless runs may overlap.

A task that shall leave its node (``Task.moving``) runs to its end there, for what it has done would
be lost; one that has not begun starts elsewhere. Only a drain's deadline ends it before.
"""

from collections.abc import Iterable, Sequence

import msgspec

from cluster import lifecycle
from cluster.jobs import newest_begun
from cluster.model import (
    NO_NODE,
    Concurrency,
    JobRun,
    JobStatus,
    NodeId,
    RunState,
    ServiceMode,
    Task,
    TaskId,
    TaskState,
    TaskStatus,
)
from manager.committer import Change
from manager.reconcilers import restart
from manager.reconcilers.dependents import waiting
from manager.reconcilers.jobs.facts import (
    Facts,
    Place,
    RunTasks,
    comes_to,
    failures_with,
    has_failed,
)
from manager.reconcilers.loop import Plan
from manager.reconcilers.services.tasks import TICK_SECONDS, discard, stop

CLOCK_SLACK_SECONDS = 1.0  # a task made this much ahead of now tells of a clock that went back

_replace = msgspec.structs.replace


def plan_tasks(facts: Facts) -> Plan:
    """Return the changes that bring the tasks to what the job's status asks for."""
    assert facts.status is not None
    changes: list[Change] = []
    waits: list[float] = []
    stopped: set[TaskId] = set()  # nothing else is decided about them
    runs = _runs_with_tasks(facts, facts.status)
    for task in facts.tasks:
        run = runs.get(task.run)
        if run is None:
            changes += discard(task, "its run is over")
        elif lifecycle.live(task) and (why := _ends_for(task, run)):
            changes.append(stop(task, why))
            stopped.add(task.id)
    room_is_clear = _overlaps(facts) or not any(
        lifecycle.occupies(task)
        for task in facts.tasks
        if (run := runs.get(task.run)) is None or run.state is not RunState.RUNNING
    )
    for run in runs.values():
        if run.state is RunState.RUNNING or _takes_late_nodes(facts, run):
            tasks = RunTasks.of(facts, run)
            left = [task for task in tasks.unfinished if task.id not in stopped]
            changes += _abandon(facts, tasks, left)
            changes += _release(facts, tasks, left, waits)
            if room_is_clear or run.state is not RunState.RUNNING:
                changes += _fill(facts, tasks, waits)
    return Plan(changes, min(waits, default=None))


def _ends_for(task: Task, run: JobRun) -> str:
    """Return why a live task is to end; empty if it is not."""
    if run.state in (RunState.FAILED, RunState.REPLACED):
        return f"its run is {run.state.value}"
    return task.moving if task.status.state < TaskState.STARTING else ""


def _runs_with_tasks(facts: Facts, status: JobStatus) -> dict[int, JobRun]:
    """Return the runs whose tasks are kept: without a schedule, only those of the newest one."""
    runs = status.runs
    if facts.service.spec.job.schedule is None:
        newest = newest_begun(status)
        runs = (newest,) if newest is not None else ()
    return {run.number: run for run in runs if run.state is not RunState.SKIPPED}


def _overlaps(facts: Facts) -> bool:
    schedule = facts.service.spec.job.schedule
    return schedule is not None and schedule.concurrency is Concurrency.ALLOW


def _takes_late_nodes(facts: Facts, run: JobRun) -> bool:
    """Tell whether nodes that come after the run's end get its task too, as in Swarm."""
    spec = facts.service.spec
    is_global = spec.mode is ServiceMode.GLOBAL_JOB
    return is_global and run.state is RunState.COMPLETE and spec.job.schedule is None


def _abandon(facts: Facts, tasks: RunTasks, candidates: Iterable[Task]) -> Iterable[Change]:
    """Drop what waits for a node that a global job does not come to any more."""
    if not tasks.spec.mode.is_global:
        return []
    return [
        Change(drop=(task,), why="its node does not comply any more")
        for task in candidates
        if task.status.state < TaskState.ASSIGNED
        and not comes_to(tasks.spec, facts.nodes.get(task.node_id))
    ]


def _release(
    facts: Facts, tasks: RunTasks, candidates: Iterable[Task], waits: list[float]
) -> Iterable[Change]:
    """Let tasks start that were held back for their time, or for what the job depends on."""
    for task in candidates:
        if task.desired_state is not TaskState.READY:
            continue
        if (wait := _seconds_until_start(facts, task)) > 0:
            waits.append(wait)
        elif not facts.waits_for(tasks.run.number):
            started = _replace(task, desired_state=TaskState.COMPLETE)
            ready = ": what it depends on is ready" if facts.service.spec.depends_on else ""
            yield Change(save=(started,), why=f"it may start now{ready}")


def _fill(facts: Facts, tasks: RunTasks, waits: list[float]) -> Iterable[Change]:
    """Make tasks in places that have none, as far as there may be more at a time."""
    limit = tasks.spec.job.max_concurrent
    room = limit - len(tasks.unfinished) if limit else None
    completed, given_up = tasks.completed, tasks.given_up
    for place in _places(facts, tasks):
        if room is not None and room <= 0:
            return
        history = tasks.places.get(place, ())
        if place in completed or place in given_up:
            continue
        if any(not task.status.state.finished for task in history):
            continue
        last = history[0] if history else None
        # One that could not even be made ready has ended before its time to start; the next one
        # would as soon, so it is not made before that time either.
        if last and has_failed(last) and (wait := _seconds_until_start(facts, last)) > 0:
            waits.append(wait)
            continue
        made = _new_task(facts, tasks, place, history)
        if made.start_after:
            waits.append(made.start_after - facts.now)
        if room is not None:
            room -= 1
        gate = waiting(facts.waits_for(tasks.run.number))
        yield Change(save=(made,), why=f"{_why(history)}{gate}")


def _places(facts: Facts, tasks: RunTasks) -> Sequence[Place]:
    if not tasks.spec.mode.is_global:
        return range(1, tasks.run.completions + 1)
    return sorted(node.id for node in facts.nodes.values() if comes_to(tasks.spec, node))


def _new_task(facts: Facts, tasks: RunTasks, place: Place, history: Sequence[Task]) -> Task:
    last = history[0] if history else None
    failures = failures_with(last) if last is not None else 0
    delay = 0.0
    if last is not None and has_failed(last):
        delay = restart.delay_seconds(tasks.spec.task.restart, failures, facts.jitter)
    is_held = delay > 0 or bool(facts.waits_for(tasks.run.number))
    # Later than its predecessors', though the clock stood still or went back: it is their order.
    created_at = max([facts.now, *(task.created_at + TICK_SECONDS for task in history)])
    return Task(
        id=facts.new_id(),
        service_id=facts.service.id,
        spec_version=tasks.run.spec_version,
        slot=place if isinstance(place, int) else 0,
        node_id=NO_NODE if isinstance(place, int) else NodeId(place),
        desired_state=TaskState.READY if is_held else TaskState.COMPLETE,
        status=TaskStatus(state=TaskState.NEW, at=facts.now),
        created_at=created_at,
        start_after=facts.now + delay if delay > 0 else 0.0,
        failures=failures,
        run=tasks.run.number,
    )


def _why(history: Sequence[Task]) -> str:
    if not history:
        return "its place has no task yet"
    return "the task before it failed" if has_failed(history[0]) else "the task before it was lost"


def _seconds_until_start(facts: Facts, task: Task) -> float:
    """Return for how long a task is held back; not longer though the clock went back."""
    clock_went_back = facts.now < task.created_at - CLOCK_SLACK_SECONDS
    return 0.0 if clock_went_back else task.start_after - facts.now
