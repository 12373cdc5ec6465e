"""What this leader has seen of tasks, by its own monotonic clock.

A rollout asks for how long a task has run, and for how long it has come no further. The times in
the records are of the hosts' clocks, and a leader's wall clock may jump; so the leader measures
itself, from when it first sees a task. It keeps this in memory alone: whoever leads next begins
anew, and only waits the longer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster.model import ServiceId, Task, TaskId, TaskState
from manager.reconcilers.services.facts import Sighting


@dataclass(slots=True)
class _Seen:
    state: TaskState
    desired_state: TaskState
    changed_at: float
    running_since: float | None
    ran_seconds: float | None
    is_whole: bool


class Sightings:
    """Remembers the tasks of those services that were looked at last."""

    def __init__(self) -> None:
        self._seen: dict[ServiceId, dict[TaskId, _Seen]] = {}

    def forget(self, service_id: ServiceId) -> None:
        self._seen.pop(service_id, None)

    def look(
        self, service_id: ServiceId, tasks: Iterable[Task], now: float
    ) -> Mapping[TaskId, Sighting]:
        """Look at all tasks of a service; *now* is monotonic, in seconds."""
        before = self._seen.get(service_id, {})
        after = {task.id: _looked_at(before.get(task.id), task, now) for task in tasks}
        self._seen[service_id] = after
        return {task_id: _sighting(seen, now) for task_id, seen in after.items()}


def _looked_at(seen: _Seen | None, task: Task, now: float) -> _Seen:
    state = task.status.state
    if seen is None:
        seen = _Seen(state, task.desired_state, now, None, None, not state.finished)
    elif (seen.state, seen.desired_state) != (state, task.desired_state):
        seen.state, seen.desired_state, seen.changed_at = state, task.desired_state, now
    if state is TaskState.RUNNING and seen.running_since is None:
        seen.running_since = now
    if state.finished and seen.running_since is not None and seen.ran_seconds is None:
        seen.ran_seconds = now - seen.running_since
    return seen


def _sighting(seen: _Seen, now: float) -> Sighting:
    running = seen.ran_seconds
    if running is None and seen.running_since is not None:
        running = now - seen.running_since
    return Sighting(now - seen.changed_at, running, seen.is_whole)
