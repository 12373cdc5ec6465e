"""I6: a task that must be near others is bound where the leader may believe that they are.

The invariants do not judge that: whom it was near may have ended a moment before. Here it is
known when any of them did.
"""

from cluster.invariants import State, Step
from cluster.lifecycle import occupies
from cluster.model import Node, Task, TaskId
from tests.simulator.takings import NEWS_SECONDS_MAX


class Neighbours:
    """Remembers who left when; feed it every step."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._left_at: dict[str, float] = {}  # when a service last lost a task, by its name

    def note(self, step: Step, now: float) -> None:
        match step:
            case (Node() as gone, None):
                for task in self._state.on_node(gone.id):
                    self._leave(task, now)
            case (Task() as old, new) if occupies(old):
                if not isinstance(new, Task) or not occupies(new):
                    self._leave(old, now)

    def _leave(self, task: Task, now: float) -> None:
        version = self._state.versions.get((task.service_id, task.spec_version))
        if version is not None:
            self._left_at[version.spec.name] = now

    def are_believed(self, task_id: TaskId, now: float) -> bool:
        """Tell whether a leader may not have heard that whom a task must be near has ended."""
        task = self._state.tasks.get(task_id)
        spec = self._state.spec_of(task) if task else None
        names = [each.service for each in spec.placement.affinities] if spec else []
        return any(self._left_at.get(name, 0.0) >= now - NEWS_SECONDS_MAX for name in names)
