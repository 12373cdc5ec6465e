"""How far a job is: its newest run, or the one that was asked for by hand.

A run is done when the leader says that it has completed, and has failed when it says so: how
often a task is tried again is the leader's business. A job with a schedule has nothing to wait
for once the leader has taken note of it.
"""

from collections import Counter
from collections.abc import Iterable

from cluster.jobs import newest_begun
from cluster.lifecycle import live
from cluster.model import JobRun, JobStatus, RunState, Service, Task, TaskState
from clusterctl.replicas import BAD_ENDS, REASONS_MAX, Progress, gate, reason_of, state_word
from clusterctl.view import View

DONE = "done"

_TO_BEGIN = "to begin"


def progress_of_job(view: View, service: Service, request: int = 0) -> Progress:
    """Tell how far a job is.

    Args:
        view: has had a whole snapshot.
        service: as it was stored.
        request: the request by hand whose run is meant; 0: what its present spec asks for.
    """
    status = view.jobs.get(service.id)
    if request:
        run = _answering(status, request)
    elif status is None or status.spec_version != service.spec_version:
        run = None
    elif service.spec.job.schedule is not None:
        return Progress(service.spec.name, 0, 0, done=True, instead="scheduled")
    else:
        run = newest_begun(status)
    if run is None:
        wanted = 0 if service.spec.mode.is_global else service.spec.job.completions
        doing = ((_TO_BEGIN, wanted),)
        return Progress(service.spec.name, 0, wanted, done=False, doing=doing, verb=DONE)
    return _progress_of_run(view, service, run)


def _answering(status: JobStatus | None, request: int) -> JobRun | None:
    runs = status.runs if status is not None else ()
    return next((run for run in runs if run.request == request), None)


def _progress_of_run(view: View, service: Service, run: JobRun) -> Progress:
    name = service.spec.name
    if run.state is not RunState.RUNNING:
        look = f"`clusterctl job history {name}`, `clusterctl job ps --all {name}`"
        what = f"{name}: run {run.number} is {run.state.value}"
        is_done = run.state is RunState.COMPLETE
        return Progress(
            name,
            run.completed,
            run.completions,
            done=is_done,
            verb=DONE,
            failure="" if is_done else f"{what}: {run.message}; look: {look}",
        )
    tasks = [task for task in view.tasks_of(service.id) if task.run == run.number]
    places = {(task.slot, "" if task.slot else task.node_id) for task in tasks}
    completed = {
        (task.slot, "" if task.slot else task.node_id)
        for task in tasks
        if task.status.state is TaskState.COMPLETE
    }
    words = Counter(state_word(task) for task in tasks if live(task))
    return Progress(
        name,
        len(completed),
        run.completions or len(places),
        done=False,
        doing=tuple(words.items()),
        waiting=_waiting(view, service, run, tasks),
        verb=DONE,
    )


def _waiting(
    view: View, service: Service, run: JobRun, tasks: Iterable[Task]
) -> tuple[tuple[str, str], ...]:
    name = service.spec.name
    told = [(name, f"waits for {needed}") for needed in gate(view, service, run.number)]
    for task in tasks:
        who = f"{name}.{task.slot or view.hostname(task.node_id)} ({task.id[:12]})"
        if live(task) and task.status.state <= TaskState.PENDING and task.status.error:
            told.append((who, f"cannot be placed: {task.status.error}"))
        elif task.status.state in BAD_ENDS:
            told.append((who, f"failed: {reason_of(task)}"))
    return tuple(told[:REASONS_MAX])
