"""How much of a service may be taken away now: the one place where that is decided.

Two may take running tasks away from a service. Its owner does so by updating it, as many at a
time as ``update.parallelism`` says. Others do so for their own sake (a drain, a rebalance, a
task of a higher priority), as many at a time as ``budget.max_unavailable`` says. Both count the
same missing tasks, whoever took them or made them fail: so what an update has under way leaves
the others less, and the other way round.

They decide side by side, and what one has decided is in the view only once it is written. Until
then the view says of whom it is told (``View.leaving``), and the others count these as missing.

Pure. Who takes several tasks away in one plan subtracts what it has taken already.
"""

from collections.abc import Container, Iterable, Iterator

from cluster import lifecycle
from cluster.model import Service, ServiceMode, Task, TaskId, TaskState
from manager.committer import Change


def taken_by(changes: Iterable[Change]) -> Iterator[TaskId]:
    """Yield the tasks that *changes* tell to stop, or told so already."""
    for change in changes:
        for value in change.save:
            if isinstance(value, Task) and not lifecycle.wanted(value):
                yield value.id


def missing(service: Service, tasks: Iterable[Task], leaving: Container[TaskId] = ()) -> int:
    """Return how many of the service's places are without a task that runs and is to run.

    Args:
        service: as it is now.
        tasks: all of the service's; only the live ones count. A task that was told to stop is
            missing from that moment on.
        leaving: of these, whom somebody else is just telling to stop.
    """
    is_global = service.spec.mode is ServiceMode.GLOBAL
    places: set[int | str] = set()
    running: set[int | str] = set()
    for task in tasks:
        if lifecycle.live(task):
            place: int | str = task.node_id if is_global else task.slot
            places.add(place)
            if task.status.state is TaskState.RUNNING and task.id not in leaving:
                running.add(place)
    wanted = len(places) if is_global else service.spec.replicas
    return max(0, wanted - len(running))


def allowance(service: Service, tasks: Iterable[Task], leaving: Container[TaskId] = ()) -> int:
    """Return how many running tasks others may take away now, by the service's budget."""
    return max(0, service.spec.max_unavailable - missing(service, tasks, leaving))


def update_allowance(parallelism: int, missing_now: int) -> int:
    """Return how many running tasks the service's own update may stop now.

    Args:
        parallelism: places at a time, at least 1.
        missing_now: places without a running task, without those whose failure the update bears.
    """
    return max(0, parallelism - missing_now)
