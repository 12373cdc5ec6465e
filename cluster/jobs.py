"""What can be said of a job from its status. Pure."""

from cluster.model import JobRun, JobStatus, RunState, Service
from cluster.schedules import next_due


def newest_begun(status: JobStatus) -> JobRun | None:
    """Return the last run that was not skipped."""
    begun = (run for run in reversed(status.runs) if run.state is not RunState.SKIPPED)
    return next(begun, None)


def is_suspended(service: Service) -> bool:
    """Tell whether nothing of the job's schedule becomes due: its file or an operator says so."""
    schedule = service.spec.job.schedule
    return schedule is not None and (schedule.suspended or service.suspended)


def run_due_next(service: Service, status: JobStatus | None, now: float) -> float | None:
    """Return when the next run is due; None if none ever is by itself."""
    schedule = service.spec.job.schedule
    if schedule is None or is_suspended(service):
        return None
    decided_until = status.scheduled_from if status is not None else service.updated_at
    return next_due(schedule, max(decided_until, now))
