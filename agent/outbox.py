"""What we know of each task, and what of it the manager does not know yet.

One status a task, the furthest: while the manager is away, a hundred changes of a task stay
one report. A report leaves only when a manager has said that it is stored; if the task has
moved on meanwhile, the newer one stays.
"""

import asyncio
from collections.abc import Collection, Mapping

from cluster.lifecycle import advance
from cluster.model import TaskId, TaskStatus

# In one message: far below gRPC's 4 MiB even if each error is as long as it may be.
REPORTS_MAX = 500
# Of one error or message: Docker's can quote whole programs.
TEXT_CHARACTERS_MAX = 1_000


class Outbox:
    """The latest status of each of our tasks."""

    def __init__(self) -> None:
        self._known: dict[TaskId, TaskStatus] = {}
        self._unsent: dict[TaskId, TaskStatus] = {}  # oldest first
        self._filled = asyncio.Event()

    @property
    def known(self) -> Mapping[TaskId, TaskStatus]:
        """What we know of each task, reported or not."""
        return self._known

    @property
    def unsent(self) -> Mapping[TaskId, TaskStatus]:
        return self._unsent

    def report(self, task_id: TaskId, status: TaskStatus) -> bool:
        """Take a status if it is a step forward (I3); tell whether it was."""
        known = self._known.get(task_id)
        if known is not None and advance(known, status) is known:
            return False
        self._known[task_id] = _cut(status)
        self.renew(task_id)
        return True

    def renew(self, task_id: TaskId) -> None:
        """Report a task's status again: the manager turned out not to know it."""
        if task_id in self._known:
            self._unsent[task_id] = self._known[task_id]
            self._filled.set()

    def forget_all_but(self, task_ids: Collection[TaskId]) -> None:
        """Drop what concerns tasks that are not ours any more."""
        for task_id in self._known.keys() - set(task_ids):
            del self._known[task_id]
            self._unsent.pop(task_id, None)

    async def batch(self) -> Mapping[TaskId, TaskStatus]:
        """Return the next reports to send, as soon as there are any."""
        while not self._unsent:
            self._filled.clear()
            await self._filled.wait()
        task_ids = list(self._unsent)[:REPORTS_MAX]
        return {task_id: self._unsent[task_id] for task_id in task_ids}

    def acknowledge(self, batch: Mapping[TaskId, TaskStatus]) -> None:
        """Take note that a manager has stored *batch*."""
        for task_id, status in batch.items():
            if self._unsent.get(task_id) is status:
                del self._unsent[task_id]


def _cut(status: TaskStatus) -> TaskStatus:
    if max(len(status.message), len(status.error)) <= TEXT_CHARACTERS_MAX:
        return status
    return TaskStatus(
        state=status.state,
        at=status.at,
        message=status.message[:TEXT_CHARACTERS_MAX],
        error=status.error[:TEXT_CHARACTERS_MAX],
        exit_code=status.exit_code,
        container_id=status.container_id,
    )
