"""Rules for jobs, their schedules, and what services depend on."""

import math
from collections.abc import Iterator

from cluster import schedules
from cluster.model import JobSpec, ServiceSpec, UpdateConfig
from cluster.quantities import DURATION_SECONDS_MAX
from cluster.validation.flaws import Flaw, not_negative

# What a whole cluster is built for, as for replicas.
COMPLETIONS_MAX = 1_000_000

# Each run that is remembered takes some 200 bytes of one record, and its tasks are kept too.
HISTORY_MAX = 100


def job_flaws(spec: ServiceSpec) -> Iterator[Flaw]:
    """Find what can never work of a job, or what only a job can have."""
    if not spec.mode.is_job:
        if spec.job != JobSpec():
            yield Flaw("job", f"must not be given with mode {spec.mode.value}, which is no job")
        return
    job = spec.job
    if not 1 <= job.completions <= COMPLETIONS_MAX:
        yield Flaw("job.completions", f"must be 1 to {COMPLETIONS_MAX}, is {job.completions}")
    elif spec.mode.is_global and job.completions != JobSpec().completions:
        yield Flaw("job.completions", "has no use with mode global-job, one task on each node")
    yield from not_negative("job.max_concurrent", job.max_concurrent)
    if job.retries < -1:
        yield Flaw("job.retries", f"must be -1 (no limit) or more, is {job.retries}")
    yield from _seconds("job.time_limit_seconds", job.time_limit_seconds)
    if not 0 <= job.history <= HISTORY_MAX:
        yield Flaw("job.history", f"must be 0 to {HISTORY_MAX}, is {job.history}")
    for field in ("update", "rollback"):
        if getattr(spec, field) != UpdateConfig():
            yield Flaw(field, "must not be given: a job is not updated, it is run anew")
    restart = spec.task.restart
    if restart.max_attempts or restart.window_seconds:
        yield Flaw("task.restart", "must leave attempts and window alone: a job has `retries`")
    if job.schedule is not None:
        yield from _seconds("job.schedule.late_seconds_max", job.schedule.late_seconds_max)
        for field, message in schedules.flaws(job.schedule):
            yield Flaw(f"job.schedule.{field}", message)


def dependency_flaws(spec: ServiceSpec) -> Iterator[Flaw]:
    """Find dependencies that can never be, as far as one service can tell."""
    seen: set[str] = set()
    for index, each in enumerate(spec.depends_on):
        at = f"depends_on[{index}].service"
        if not each.service:
            yield Flaw(at, "must be the full name of a service")
        elif each.service == spec.name:
            yield Flaw(at, f"{spec.name} cannot wait for itself")
        elif each.service in seen:
            yield Flaw(at, f"{each.service} is waited for twice")
        seen.add(each.service)


def _seconds(path: str, seconds: float) -> Iterator[Flaw]:
    if math.isfinite(seconds) and not 0 <= seconds <= DURATION_SECONDS_MAX:
        yield Flaw(path, f"must be 0s to 100 years, is {seconds:g}s")
