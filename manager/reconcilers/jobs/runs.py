"""Which runs a job has: when they begin, and how they end.

All that was decided is in the job's ``JobStatus``, and each step is one write of it under the
revision that it was decided on. A scheduled run is the one of its due time; the status says up
to which due time all is decided. So whoever leads, and however often it looks, a due time gets
one run or one reason why it has none; the clock may jump to and fro meanwhile.
"""

from dataclasses import dataclass, field

import msgspec

from cluster.jobs import is_suspended, newest_begun
from cluster.model import (
    Concurrency,
    JobRun,
    JobStatus,
    NodeId,
    RunCause,
    RunState,
    Schedule,
)
from cluster.quantities import format_duration
from cluster.schedules import LATE_SECONDS_MIN, latest_due, next_due
from manager.reconcilers.jobs.facts import Facts, RunTasks, comes_to, failures_with

# Where runs may overlap, so many may: one that never ends must not fill the cluster.
RUNS_AT_ONCE_MAX = 10

# A clock that went back by more was absurdly wrong before: what was decided by it would keep the
# schedule silent until that time comes. Up to it, no due time is ever decided on twice.
CLOCK_ERROR_SECONDS_MAX = 86400.0

ERROR_CHARACTERS_MAX = 200  # of a task's error in a run's message: its end is what is read

_replace = msgspec.structs.replace


@dataclass(slots=True)
class Step:
    """A status on its way to the next one, and why."""

    status: JobStatus
    now: float
    why: list[str] = field(default_factory=list)

    def change(self, why: str = "", **fields: object) -> None:
        self.status = _replace(self.status, **fields)
        if why:
            self.why.append(why)

    @property
    def under_way(self) -> list[JobRun]:
        return [run for run in self.status.runs if run.state is RunState.RUNNING]


def next_status(facts: Facts) -> tuple[JobStatus, str]:
    """Return the job's status as it has to be now, and why it differs."""
    before = facts.status or JobStatus(service_id=facts.service.id)
    step = Step(before, facts.now)
    for run in step.under_way:
        _end(facts, step, run)
    _note_version(facts, step)
    _note_suspension(facts, step)
    _answer_requests(facts, step)
    _follow_schedule(facts, step)
    _forget(step, facts.service.spec.job.history)
    return step.status, "; ".join(step.why)


def look_again_seconds(facts: Facts) -> float | None:
    """Return after which time the runs have to be looked at though nothing happens."""
    assert facts.status is not None
    times = [
        run.started_at + limit
        for run in facts.status.runs
        if run.state is RunState.RUNNING and (limit := facts.spec_of(run).job.time_limit_seconds)
    ]
    schedule = facts.service.spec.job.schedule
    if schedule is not None and facts.has_time and not is_suspended(facts.service):
        times.append(next_due(schedule, max(facts.status.scheduled_from, facts.now)))
    return max(0.0, min(times) - facts.now) if times else None


# --- beginnings ---


def _note_version(facts: Facts, step: Step) -> None:
    """Begin a run for a new spec, or follow its schedule from when it was given."""
    service, status = facts.service, step.status
    if service.spec_version == status.spec_version:
        return
    schedule = service.spec.job.schedule
    noted = facts.versions.get(status.spec_version)
    step.change(spec_version=service.spec_version)
    if schedule is None:
        _begin(facts, step, RunCause.DEPLOYED)
    elif noted is None or noted.spec.job.schedule != schedule:
        step.change(
            f"the schedule is {schedule.cron!r} in {schedule.time_zone}",
            scheduled_from=max(service.updated_at, _decided_until(step)),
        )


def _note_suspension(facts: Facts, step: Step) -> None:
    """Follow a schedule that goes on from when an operator said so."""
    service = facts.service
    if service.suspended == step.status.suspended:
        return
    step.change(
        "it is suspended" if service.suspended else "it goes on", suspended=service.suspended
    )
    if not service.suspended:
        step.change(scheduled_from=max(service.updated_at, _decided_until(step)))


def _answer_requests(facts: Facts, step: Step) -> None:
    for request in range(step.status.requests_done + 1, facts.service.run_requests + 1):
        step.change(requests_done=request)
        _begin(facts, step, RunCause.BY_HAND, request=request)


def _follow_schedule(facts: Facts, step: Step) -> None:
    """Begin the run that is due, or say why not; those due before it are past."""
    schedule = facts.service.spec.job.schedule
    if schedule is None or is_suspended(facts.service) or not facts.has_time:
        return
    decided_until = _decided_until(step)
    if decided_until < step.status.scheduled_from:
        step.change("the clock was wrong before", scheduled_from=decided_until)
    due = latest_due(schedule, decided_until, step.now)
    if due is None:
        return
    message = "" if next_due(schedule, decided_until) == due else "those before it were missed"
    step.change(scheduled_from=due)
    late_seconds = step.now - due
    if late_seconds > max(LATE_SECONDS_MIN, schedule.late_seconds_max):
        late = format_duration(round(late_seconds))
        _skip(
            facts, step, RunCause.SCHEDULED, f"missed: it would have begun {late} late", due_at=due
        )
    else:
        _begin(facts, step, RunCause.SCHEDULED, message, due_at=due)


def _decided_until(step: Step) -> float:
    """Return the due time up to which everything is decided."""
    until = step.status.scheduled_from
    return until if until <= step.now + CLOCK_ERROR_SECONDS_MAX else step.now


def _begin(
    facts: Facts,
    step: Step,
    cause: RunCause,
    message: str = "",
    *,
    due_at: float = 0.0,
    request: int = 0,
) -> None:
    """Begin a run beside those under way, instead of them, or not at all."""
    under_way = step.under_way
    number = step.status.runs_made + 1
    match _concurrency(facts.service.spec.job.schedule):
        case Concurrency.FORBID if under_way:
            skipped = f"skipped: run {under_way[-1].number} was under way"
        case Concurrency.ALLOW if len(under_way) >= RUNS_AT_ONCE_MAX:
            skipped = f"skipped: {len(under_way)} runs were under way"
        case Concurrency.REPLACE:
            skipped = ""
            for run in under_way:
                tasks = RunTasks.of(facts, run)
                _finish(step, tasks, RunState.REPLACED, f"run {number} took its place")
        case _:
            skipped = ""
    if skipped:
        _skip(facts, step, cause, skipped, due_at=due_at, request=request)
        return
    spec = facts.service.spec
    run = JobRun(
        number=number,
        cause=cause,
        spec_version=facts.service.spec_version,
        due_at=due_at,
        request=request,
        started_at=step.now,
        completions=0 if spec.mode.is_global else spec.job.completions,
        message=message,
    )
    step.change(
        f"run {number} begins ({cause.value})",
        runs_made=number,
        runs=(*step.status.runs, run),
    )


def _skip(
    facts: Facts,
    step: Step,
    cause: RunCause,
    why: str,
    *,
    due_at: float = 0.0,
    request: int = 0,
) -> None:
    """Remember a run that does not take place."""
    number = step.status.runs_made + 1
    run = JobRun(
        number=number,
        cause=cause,
        spec_version=facts.service.spec_version,
        state=RunState.SKIPPED,
        due_at=due_at,
        request=request,
        started_at=step.now,
        ended_at=step.now,
        message=why,
    )
    step.change(f"run {number} is {why}", runs_made=number, runs=(*step.status.runs, run))


def _concurrency(schedule: Schedule | None) -> Concurrency:
    """Return what goes for overlaps; a job without a schedule has one run at a time, the last."""
    return Concurrency.REPLACE if schedule is None else schedule.concurrency


# --- ends ---


def _end(facts: Facts, step: Step, run: JobRun) -> None:
    """End *run* if all is done, or nothing can be done any more."""
    tasks = RunTasks.of(facts, run)
    wanted = _wanted(facts, tasks)
    limit = tasks.spec.job.time_limit_seconds
    if failure := _failure(facts, tasks, wanted):
        _finish(step, tasks, RunState.FAILED, failure)
    elif _is_done(tasks, wanted):
        _finish(step, tasks, RunState.COMPLETE, run.message)
        newest = max(step.status.completed_version, run.spec_version)
        step.change(completed_version=newest)
    elif limit and step.now >= run.started_at + limit:
        done = f"{len(tasks.completed)} of {len(wanted)}"
        late = f"not done within {format_duration(limit)}: {done} had completed"
        _finish(step, tasks, RunState.FAILED, late)


def _wanted(facts: Facts, tasks: RunTasks) -> range | set[NodeId]:
    """Return the places that have to complete; of a global job, as the nodes are now."""
    if not tasks.spec.mode.is_global:
        return range(1, tasks.run.completions + 1)
    nodes = {node.id for node in facts.nodes.values() if comes_to(tasks.spec, node)}
    return nodes | {task.node_id for task in tasks.unfinished}


def _is_done(tasks: RunTasks, wanted: range | set[NodeId]) -> bool:
    # Without any node there is nothing to be done, and nothing done either: it waits for one.
    return bool(wanted) and tasks.completed.issuperset(wanted)


def _failure(facts: Facts, tasks: RunTasks, wanted: range | set[NodeId]) -> str:
    """Return why the run has failed for good; empty if it has not."""
    given_up = tasks.given_up
    if not given_up:
        return ""
    if tasks.spec.mode.is_global and not (given_up.keys() | tasks.completed).issuperset(wanted):
        return ""  # each node is on its own: what fails on one does not stop the others
    place, last = next(iter(given_up.items()))
    node = facts.nodes.get(last.node_id)
    hostname = (node.description.hostname if node else "") or last.node_id
    what = f"node '{hostname}'" if tasks.spec.mode.is_global else f"completion {place}"
    count = failures_with(last)
    times = "once" if count == 1 else f"{count} times"
    error = last.status.error or last.status.message or last.status.state.value
    return f"{what} failed {times}: {error[:ERROR_CHARACTERS_MAX]}"


def _finish(step: Step, tasks: RunTasks, state: RunState, message: str) -> None:
    run = tasks.run
    ended = _replace(
        run,
        state=state,
        ended_at=max(step.now, run.started_at),
        completions=len(tasks.places) if tasks.spec.mode.is_global else run.completions,
        completed=len(tasks.completed),
        failures=tasks.failures,
        message=message,
    )
    runs = tuple(ended if old.number == run.number else old for old in step.status.runs)
    told = f": {message}" if message and state is not RunState.COMPLETE else ""
    step.change(f"run {run.number} is {state.value}{told}", runs=runs)


def _forget(step: Step, history: int) -> None:
    """Forget the oldest runs that are over, those that took place apart from the skipped."""
    runs = step.status.runs
    newest = newest_begun(step.status)
    took_place = [run for run in runs if run.state not in (RunState.RUNNING, RunState.SKIPPED)]
    skipped = [run for run in runs if run.state is RunState.SKIPPED]
    gone = {
        run.number
        for past in (took_place, skipped)
        for run in past[: max(0, len(past) - history)]
        if run is not newest
    }
    if gone:
        step.change(runs=tuple(run for run in runs if run.number not in gone))
