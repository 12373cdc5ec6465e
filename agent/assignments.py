"""What the manager wants of this node: a complete set, then changes chained to it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.reconciler import SpecKey
from cluster.errors import ConflictError
from cluster.model import Assignment, ServiceVersion, TaskId, TaskSpec, TaskState


class GapError(ConflictError):
    """A message does not build on what we have: ask for a complete set."""


@dataclass(frozen=True, slots=True)
class Complete:
    """All there is; what was known before counts no more."""

    number: int
    tasks: Sequence[Assignment]
    specs: Sequence[ServiceVersion]


@dataclass(frozen=True, slots=True)
class Incremental:
    """Changes to the set of number *applies_to*."""

    applies_to: int
    number: int
    tasks: Sequence[Assignment]
    specs: Sequence[ServiceVersion]
    removed: Sequence[TaskId]


@dataclass(frozen=True, slots=True)
class AssignmentSet:
    """The tasks of this node, with what they run; begins incomplete, then nothing is done."""

    is_complete: bool = False
    number: int = 0
    tasks: Mapping[TaskId, Assignment] = field(default_factory=dict)
    specs: Mapping[SpecKey, TaskSpec] = field(default_factory=dict)

    def after(self, message: Complete | Incremental) -> "AssignmentSet":
        """Return the set after *message*.

        Raises:
            GapError: it does not follow on this one.
        """
        if isinstance(message, Complete):
            tasks: dict[TaskId, Assignment] = {}
            specs: dict[SpecKey, TaskSpec] = {}
        else:
            if not self.is_complete or message.applies_to != self.number:
                raise GapError(f"changes to set {message.applies_to}, but we have {self.number}")
            tasks = {**self.tasks}
            specs = {**self.specs}
            for task_id in message.removed:
                tasks.pop(task_id, None)
        tasks.update((task.task_id, task) for task in message.tasks)
        specs.update(
            ((version.service_id, version.number), version.spec.task) for version in message.specs
        )
        needed = {(task.service_id, task.spec_version) for task in tasks.values()}
        return AssignmentSet(
            is_complete=True,
            number=message.number,
            tasks=tasks,
            specs={key: spec for key, spec in specs.items() if key in needed},
        )

    def lacking_spec(self) -> Sequence[TaskId]:
        """Return the tasks that are to run and whose spec never came; there should be none."""
        return [
            task.task_id
            for task in self.tasks.values()
            if task.desired_state <= TaskState.COMPLETE
            and not task.state.finished
            and (task.service_id, task.spec_version) not in self.specs
        ]
