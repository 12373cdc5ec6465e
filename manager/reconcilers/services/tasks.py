"""Single tasks: made, let to start, stopped, and replaced when they ended by themselves."""

import msgspec

from cluster.model import (
    NO_NODE,
    LostNodePolicy,
    NodeId,
    ServiceMode,
    Task,
    TaskState,
    TaskStatus,
)
from manager.committer import Change
from manager.reconcilers import restart
from manager.reconcilers.services.facts import Facts
from manager.reconcilers.services.places import Stand, Survey

# Beyond its grace period, so long may a task take to stop before its successor starts anyway.
# It stands for a Docker daemon that hangs: waiting for ever would leave the place empty.
STOP_SECONDS_MAX = 60.0

TICK_SECONDS = 1e-6  # the least by which two times of records are told apart


def discard(task: Task, why: str) -> list[Change]:
    """Return what makes *task* vanish: at once if nothing of it runs, else after its end."""
    if task.status.state < TaskState.ASSIGNED or task.status.state.finished:
        return [Change(drop=(task,), why=why)]
    if task.desired_state is TaskState.REMOVE:
        return []
    removed = msgspec.structs.replace(task, desired_state=TaskState.REMOVE)
    return [Change(save=(removed,), why=why)]


def stop(task: Task, why: str, *, successor: tuple[Task, ...] = ()) -> Change:
    """Return what ends *task*, in one go with the making of its successor."""
    if task.status.state < TaskState.ASSIGNED:
        return Change(save=successor, drop=(task,), why=why)
    stopped = msgspec.structs.replace(
        task, desired_state=max(task.desired_state, TaskState.SHUTDOWN)
    )
    return Change(save=(stopped, *successor), why=why)


def released(task: Task, *, depends: bool = False) -> Change:
    """Return what lets a task run that was held back; *depends*: for other services too."""
    return Change(
        save=(msgspec.structs.replace(task, desired_state=TaskState.RUNNING),),
        why=f"it may start now{': what it depends on is ready' if depends else ''}",
    )


def make(
    look: Survey,
    stand: Stand,
    number: int,
    *,
    failures: int = 0,
    delay: float = 0.0,
    beside: bool = False,
    start_first: bool = False,
) -> Task:
    """Return the next task of a place.

    Args:
        look: the places.
        stand: the place.
        number: of the version it runs.
        failures: early ends in a row before it.
        delay: seconds before it may start.
        beside: the holder goes on for now: only the holder may be there when it starts first.
        start_first: it may start beside the holder.
    """
    facts = look.facts
    is_global = facts.service.spec.mode is ServiceMode.GLOBAL
    others = [task for task in stand.occupants() if not (beside and task is stand.holder)]
    may_start = delay <= 0 and not others and (not beside or start_first)
    may_start = may_start and not look.is_held(number)
    # Later than its predecessors', though the clock stood still or went back: it is their order.
    before = (task.created_at + TICK_SECONDS for task in (*stand.history, *stand.leaving))
    created_at = max([facts.now, look.rollout.started_at, *before])
    return Task(
        id=facts.new_id(),
        service_id=facts.service.id,
        spec_version=number,
        slot=0 if is_global else int(stand.place),
        node_id=NodeId(stand.place) if is_global else NO_NODE,
        desired_state=TaskState.RUNNING if may_start else TaskState.READY,
        status=TaskStatus(state=TaskState.NEW, at=facts.now),
        created_at=created_at,
        start_after=created_at + delay if delay > 0 else 0.0,
        failures=failures,
        start_first=start_first,
    )


def aimed(task: Task, node_id: NodeId) -> Task:
    """Return a new task as one that may only be bound to that node; empty is any."""
    return msgspec.structs.replace(task, aims_at=node_id) if node_id else task


def pause_seconds(facts: Facts, last: Task) -> float:
    """Return for how many seconds the place stays as it is though *last* has ended.

    A task that ended before it was let to start could not even be made ready, for instance for
    want of its image. The next one would fail as soon, so it is not made before its time either.
    """
    return delay_left(facts, last) if last.desired_state is TaskState.READY else 0.0


def again(
    look: Survey,
    stand: Stand,
    last: Task,
    number: int,
    *,
    beside: bool = False,
    start_first: bool = False,
) -> Task | None:
    """Return who replaces *last*, which ended by itself; None if its policy says nobody."""
    facts = look.facts
    policy = look.restart_policy(number)
    if not restart.may_restart(policy, last, stand.history, facts.now):
        return None
    failures = restart.failures_after(last, facts.now)
    delay = restart.delay_seconds(policy, failures, facts.jitter)
    return make(
        look,
        stand,
        number,
        failures=failures,
        delay=delay,
        beside=beside,
        start_first=start_first,
    )


def release(look: Survey, stand: Stand, holder: Task) -> tuple[list[Change], list[float]]:
    """Let a task that was held back run, or tell in how many seconds to look again."""
    facts = look.facts
    if (wait := delay_left(facts, holder)) > 0:
        return [], [wait]
    if look.is_held(holder.spec_version):
        return [], []  # what it waits for will wake us
    others = [task for task in stand.occupants() if task is not holder]
    if any(_is_fenced(facts, task) for task in others):
        return [], []  # however long it takes: never two at a time
    if others:
        asked_seconds = min(facts.held_seconds(task.id) for task in others)
        over_in = _stop_seconds(facts) - asked_seconds
        if over_in > 0:
            return [], [over_in]
    return [released(holder, depends=bool(facts.service.spec.depends_on))], []


def delay_left(facts: Facts, task: Task) -> float:
    """Return how much of its restart delay a task has still to wait; none if not positive.

    Whatever the clocks of this leader and of the one before it say, it waits no longer than the
    delay from when this leader first saw it.
    """
    delay = task.start_after - task.created_at
    return min(task.start_after - facts.now, delay - facts.held_seconds(task.id))


def _is_fenced(facts: Facts, task: Task) -> bool:
    template = facts.template(task.spec_version)
    return template is not None and template.lost_node.policy is LostNodePolicy.FENCE


def _stop_seconds(facts: Facts) -> float:
    templates = map(facts.template, {task.spec_version for task in facts.tasks})
    graces = [spec.container.stop_grace_seconds for spec in templates if spec is not None]
    return STOP_SECONDS_MAX + max(graces, default=0.0)
