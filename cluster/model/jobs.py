"""Jobs: services that come to an end, now or by a schedule; and what services wait for."""

from enum import Enum

from cluster.model.base import Object, ServiceId, Value


class Concurrency(Enum):
    """What becomes of a run that is due while another one of the job is under way."""

    ALLOW = "allow"  # both run
    FORBID = "forbid"  # the new one is skipped
    REPLACE = "replace"  # the old one is stopped


class Schedule(Value, frozen=True):
    """When a job runs by itself.

    Attributes:
        cron: minute, hour, day of the month, month, day of the week, as Debian's cron reads
            them (``cluster.schedules``).
        time_zone: of the IANA database ("Europe/Vienna"); its changes of the clock are followed.
        concurrency: whether runs may overlap.
        late_seconds_max: a run that was missed (no manager led, the clock was put forward) is
            made up for once if it is no later than this, else it is skipped. Never less than
            ``cluster.schedules.LATE_SECONDS_MIN``, which a change of leaders may take.
        suspended: nothing becomes due, and is not made up for afterwards.
    """

    cron: str
    time_zone: str = "UTC"
    concurrency: Concurrency = Concurrency.FORBID
    late_seconds_max: float = 3600.0
    suspended: bool = False


class JobSpec(Value, frozen=True):
    """How a job runs; of no use to services that are none.

    Attributes:
        completions: tasks of a replicated job that must end well.
        max_concurrent: tasks of a run that are there at a time, those that wait for another try
            among them; 0 is no limit.
        retries: how often each completion is tried again after a failure; -1 is no limit. A
            task that was lost with its node, or stopped by a drain, has not failed.
        time_limit_seconds: how long a run may take from when it was made; 0 is no limit.
        history: runs that are remembered after their end, and as many that were skipped.
        schedule: None runs the job once for each version of its spec.
    """

    completions: int = 1
    max_concurrent: int = 0
    retries: int = 3
    time_limit_seconds: float = 0.0
    history: int = 10
    schedule: Schedule | None = None


class RunState(Enum):
    RUNNING = "running"
    COMPLETE = "complete"  # every completion ended well
    FAILED = "failed"  # a completion has no tries left, or the time limit is over
    REPLACED = "replaced"  # stopped for a later run
    SKIPPED = "skipped"  # never began: too late, or another one was under way


class RunCause(Enum):
    DEPLOYED = "deployed"  # the job is new, or has a new spec
    SCHEDULED = "scheduled"
    BY_HAND = "by-hand"


class JobRun(Value, frozen=True):
    """One run of a job.

    Attributes:
        number: counts the runs of the job from 1.
        spec_version: that its tasks run.
        due_at: when it was due by the schedule, which is what makes it the run that it is; else 0.
        request: by which of ``Service.run_requests`` it was asked for; else 0.
        started_at: when it was made.
        ended_at: 0 while it runs.
        completions: tasks that must end well; of a global job known at its end, 0 until then.
        completed: of these, those that have; counted when it ends.
        failures: tasks that failed; counted when it ends.
        message: why it ended so, or what there is to know of its beginning.
    """

    number: int
    cause: RunCause
    spec_version: int
    state: RunState = RunState.RUNNING
    due_at: float = 0.0
    request: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    completions: int = 0
    completed: int = 0
    failures: int = 0
    message: str = ""


class JobStatus(Object, frozen=True):
    """How a job does. Written by the leader alone, a step at a time under its own guard.

    Attributes:
        spec_version: of the service, up to which its changes have been taken note of.
        scheduled_from: due times after this one are still to come.
        requests_done: of ``Service.run_requests``, those that have their run.
        runs_made: the number of the last run.
        completed_version: the newest spec version of which a run has completed; 0 if none has.
        runs: the oldest first; those under way, and as many others as are remembered.
        suspended: as ``Service.suspended`` was when it was last taken note of.
    """

    service_id: ServiceId
    spec_version: int = 0
    scheduled_from: float = 0.0
    requests_done: int = 0
    runs_made: int = 0
    completed_version: int = 0
    runs: tuple[JobRun, ...] = ()
    suspended: bool = False


class DependencyCondition(Enum):
    """What a service waits for, as the Compose Specification calls it."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


class Dependency(Value, frozen=True):
    """A service that is waited for.

    Attributes:
        service: full name.
        condition: what must be true of it before a task of ours may start.
        required: not so, ours start also if it is not there or has failed.
        restart: ours are restarted after it was updated or restarted by an operator.
    """

    service: str
    condition: DependencyCondition = DependencyCondition.STARTED
    required: bool = True
    restart: bool = False
