"""What the journal says of a job: its runs as they begin and end, and that its schedule rests."""

from collections.abc import Iterator

from cluster.model import JobRun, JobStatus, Object, RunCause, RunState
from manager.journal.entries import WHY_CHARACTERS_MAX, Group, Item
from manager.journal.names import service_names
from manager.view import View

KIND = "job"

_CAUSES = {
    RunCause.DEPLOYED: "the job is new, or has a new spec",
    RunCause.SCHEDULED: "it was due",
    RunCause.BY_HAND: "an operator asked for it",
}


def told(
    old: Object | None, new: Object | None, why: str, view: View
) -> Iterator[tuple[Group, Item]]:
    """Yield what a change of a job's status says.

    Args:
        old: as it stood; None: the job was not looked at yet.
        new: as it stands; None: the job is gone, which its service has told.
        why: what is to be said if it is neither of a run nor of a suspension.
        view: knows names, and the requests that versions go back to.
    """
    if not isinstance(new, JobStatus):
        return
    before = old if isinstance(old, JobStatus) else JobStatus(service_id=new.service_id)
    known = {run.number: run for run in before.runs}
    silent = True
    for run in new.runs:
        if run.number not in known or known[run.number].state is not run.state:
            silent = False
            yield _event(new, view, _word(run), _why(run), run)
    if before.suspended is not new.suspended:
        silent = False
        word = "suspended" if new.suspended else "resumed"
        yield _event(new, view, word, "an operator has said so")
    if silent and why:
        yield _event(new, view, "updated", why)


def _word(run: JobRun) -> str:
    return "began" if run.state is RunState.RUNNING else run.state.value


def _why(run: JobRun) -> str:
    """Return why a run began or ended so."""
    if run.state is RunState.RUNNING:
        return f"{_CAUSES[run.cause]}{'; ' * bool(run.message)}{run.message}"
    if run.state is RunState.COMPLETE:
        failures = f", {run.failures} had failed before" if run.failures else ""
        return f"{run.completed} of {run.completions} completed{failures}"
    return run.message


def _event(
    status: JobStatus, view: View, event: str, why: str, run: JobRun | None = None
) -> tuple[Group, Item]:
    service, stack = service_names(status.service_id, view)
    # What an operator asked of the job, and not of its spec, is another request: that told itself.
    asked = 0 if run is None or run.cause is RunCause.BY_HAND else run.spec_version
    version = view.versions.get((status.service_id, asked))
    group = Group(
        kind=KIND,
        event=event,
        items=(),
        why=why[:WHY_CHARACTERS_MAX],
        name=f"{service} run {run.number}" if run is not None else service,
        request_id=version.request_id if version is not None else "",
        service_id=status.service_id,
        service=service,
        stack=stack,
    )
    return group, Item(status.service_id, run=run.number if run is not None else 0)
