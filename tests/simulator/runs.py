"""I20: a due time of a schedule gets one run, or one reason why it has none; and runs overlap only
where their job lets them.

Whoever leads, however often it looks, and wherever clocks jump meanwhile.
"""

from collections.abc import Iterable, Iterator

from cluster.invariants import Breach, State, Step
from cluster.model import Concurrency, JobRun, JobStatus, RunCause, RunState, Service, ServiceId


class Runs:
    """Remembers which due times have had their turn; feed it every transaction, once it is made."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._due: dict[ServiceId, dict[float, int]] = {}  # to the number of the run

    def breaches(self, steps: Iterable[Step]) -> Iterator[Breach]:
        """Take the steps of a transaction; yield runs that should not have been made."""
        for old, new in steps:
            if isinstance(new, JobStatus):
                before = old.runs_made if isinstance(old, JobStatus) else 0
                for run in new.runs:
                    if run.number > before and run.cause is RunCause.SCHEDULED:
                        yield from self._made(new, run)
            elif isinstance(old, Service) and new is None:
                self._due.pop(old.id, None)

    def _made(self, status: JobStatus, run: JobRun) -> Iterator[Breach]:
        service = self._state.services.get(status.service_id)
        name = service.spec.name if service else status.service_id
        known = self._due.setdefault(status.service_id, {})
        other = known.setdefault(run.due_at, run.number)
        if other != run.number:
            text = f"runs {other} and {run.number} of job {name} are both of the same due time"
            yield Breach("I20", (status.service_id,), text)
        schedule = service.spec.job.schedule if service else None
        if schedule is None or schedule.concurrency is Concurrency.ALLOW:
            return
        under_way = [each.number for each in status.runs if each.state is RunState.RUNNING]
        if run.state is RunState.RUNNING and len(under_way) > 1:
            numbers = ", ".join(map(str, under_way))
            text = f"runs {numbers} of job {name} are under way, which must not overlap"
            yield Breach("I20", (status.service_id,), text)
