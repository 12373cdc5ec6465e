"""Jobs and their runs: columns, rows, and what ``inspect`` shows of them."""

from collections.abc import Iterator
from typing import Any

from cluster.jobs import is_suspended, newest_begun, run_due_next
from cluster.model import JobRun, RunState
from cluster.quantities import format_duration
from clusterctl.answers import ServiceSummary
from clusterctl.render.kinds import Id, replicas
from clusterctl.render.output import Kind
from clusterctl.render.people import ago, moment, short


def jobs(now: float, show_id: Id = short) -> Kind[ServiceSummary]:
    return Kind(
        columns=(
            ("ID", lambda each: show_id(each.service.id)),
            ("NAME", lambda each: each.service.spec.name),
            ("SCHEDULE", schedule),
            ("NEXT DUE", lambda each: _next(each, now)),
            ("LAST RUN", lambda each: _last(each, now)),
            ("TASKS", replicas),
        ),
        row=lambda each: _row(each, now),
        identity=lambda each: each.service.id,
    )


def schedule(each: ServiceSummary) -> str:
    """Return ``30 2 * * * Europe/Vienna``; nothing for a job without a schedule."""
    asked = each.service.spec.job.schedule
    if asked is None:
        return ""
    return f"{asked.cron} {asked.time_zone}{' (suspended)' if is_suspended(each.service) else ''}"


def _next(each: ServiceSummary, now: float) -> str:
    due = run_due_next(each.service, each.job, now)
    if due is None:
        return ""
    return f"{moment(due)} (in {format_duration(max(0, round(due - now)))})"


def _last(each: ServiceSummary, now: float) -> str:
    run = newest_begun(each.job) if each.job else None
    if run is None:
        return ""
    return f"{run.number}: {run.state.value} {ago(run.ended_at or run.started_at, now)}".rstrip()


def _row(each: ServiceSummary, now: float) -> dict[str, Any]:
    spec = each.service.spec
    due = run_due_next(each.service, each.job, now)
    run = newest_begun(each.job) if each.job else None
    return {
        "id": each.service.id,
        "name": spec.name,
        "stack": spec.stack,
        "mode": spec.mode.value,
        "schedule": spec.job.schedule.cron if spec.job.schedule else "",
        "time_zone": spec.job.schedule.time_zone if spec.job.schedule else "",
        "suspended": is_suspended(each.service),
        "next_due_at": moment(due) if due else None,
        "last_run": _run_row(run) if run else None,
        "completions": each.tasks_desired,
        "completed": each.tasks_completed,
        "running": each.tasks_running,
    }


def runs(now: float) -> Kind[JobRun]:
    return Kind(
        columns=(
            ("RUN", lambda run: str(run.number)),
            ("STATE", lambda run: run.state.value),
            ("CAUSE", lambda run: run.cause.value),
            ("DUE", lambda run: moment(run.due_at) if run.due_at else ""),
            ("STARTED", lambda run: ago(run.started_at, now)),
            ("DURATION", lambda run: _duration(run, now)),
            ("COMPLETED", _completed),
            ("FAILURES", lambda run: str(run.failures or "")),
            ("MESSAGE", lambda run: run.message),
        ),
        row=_run_row,
        identity=lambda run: str(run.number),
    )


def _duration(run: JobRun, now: float) -> str:
    if run.state is RunState.SKIPPED:
        return ""
    seconds = (run.ended_at or now) - run.started_at
    return format_duration(max(0.0, round(seconds, 1)))


def _completed(run: JobRun) -> str:
    if run.state in (RunState.RUNNING, RunState.SKIPPED):
        return ""
    return f"{run.completed}/{run.completions}"


def _run_row(run: JobRun) -> dict[str, Any]:
    return {
        "number": run.number,
        "state": run.state.value,
        "cause": run.cause.value,
        "request": run.request,
        "due_at": moment(run.due_at) if run.due_at else None,
        "started_at": moment(run.started_at),
        "ended_at": moment(run.ended_at) if run.ended_at else None,
        "duration_seconds": round(run.ended_at - run.started_at, 3) if run.ended_at else None,
        "completions": run.completions,
        "completed": run.completed,
        "failures": run.failures,
        "spec_version": run.spec_version,
        "message": run.message,
    }


def facts_of(each: ServiceSummary, now: float) -> Iterator[tuple[str, str]]:
    """Yield what ``inspect`` shows of a job beside what any service has."""
    job = each.service.spec.job
    at_a_time = f", {job.max_concurrent} at a time" if job.max_concurrent else ""
    retries = "no limit" if job.retries < 0 else str(job.retries)
    if not each.service.spec.mode.is_global:
        yield "Completions", f"{job.completions}{at_a_time}"
    yield "Retries", retries
    yield "Time limit", format_duration(job.time_limit_seconds) if job.time_limit_seconds else ""
    yield "Schedule", schedule(each)
    if job.schedule is not None:
        yield "Overlaps", job.schedule.concurrency.value
        yield "Late", f"at most {format_duration(job.schedule.late_seconds_max)}"
    yield "Next due", _next(each, now)
    yield "Last run", _last(each, now)
