"""What agents report of their tasks, on its way into the store.

A report is answered only once it is stored, so an agent that gets no answer simply reports
again. Reports are merged: the first is written at once, those that come while transactions are
on their way are gathered, the latest of each task, and go together. Every write is guarded by
the revision of the task that it was decided on; where that has moved on the failed guard shows
how the task stands, and the report is weighed again against that.
"""

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec

from cluster.errors import ClusterError, ConflictError, OverloadedError, UnavailableError
from cluster.lifecycle import advance
from cluster.model import NodeId, Task, TaskId, TaskState, TaskStatus
from manager import records
from manager.journal.moments import Moment
from manager.journal.writer import Journal
from manager.store.interface import GuardFailedError, Store, Unchanged
from manager.view import View

log = logging.getLogger(__name__)

# etcd takes 128 operations a transaction unless told otherwise.
TASKS_TOGETHER_MAX = 100

# Measured: more transactions at a time bring no more keys a second. While fewer are on their
# way a report waits for nothing.
IN_FLIGHT_MAX = 4

# Tasks whose report is not stored yet. Agents report again; memory is bounded: some 50 MB.
WAITING_MAX = 100_000

# A task's other writer is the leader, and it writes seldom.
ATTEMPTS_MAX = 5

# Docker's messages are a line or two; a task's record stays small.
TEXT_CHARACTERS_MAX = 1_000

_ID_CHARACTERS_MAX = 128


@dataclass(frozen=True, slots=True)
class Report:
    """How far a task has come, as its agent says."""

    task_id: TaskId
    status: TaskStatus


@dataclass(slots=True)
class _Waiting:
    """The latest report of one task, and who is to be told that it is stored."""

    node_id: NodeId
    status: TaskStatus
    stored: asyncio.Future[None]


class Statuses:
    """Stores reports. ``close`` it when no more come."""

    def __init__(self, store: Store, view: View, journal: Journal) -> None:
        self._store = store
        self._view = view
        self._journal = journal
        self._waiting: dict[TaskId, _Waiting] = {}
        self._on_their_way: dict[TaskId, _Waiting] = {}
        self._writers: set[asyncio.Task[None]] = set()
        self._closed = False

    async def report(self, node_id: NodeId, reports: Sequence[Report]) -> None:
        """Store what the agent of *node_id* reports; return once it is stored.

        Reports that are not news are passed over, as are those of tasks that are not (any
        more) the node's: only its own agent speaks for a task.

        Raises:
            UnavailableError: not stored, or not known to be: report again.
        """
        if self._closed:
            raise UnavailableError("this manager is stopping: report elsewhere")
        stored: dict[asyncio.Future[None], None] = {}
        for report in reports:
            future = self._accept(node_id, report)
            if future is not None:
                stored[future] = None
        self._write_more()
        if stored:
            await asyncio.wait(stored)
            for future in stored:
                future.result()

    async def close(self) -> None:
        """End the writers; what they had not stored is reported again, elsewhere."""
        self._closed = True
        for writer in self._writers:
            writer.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)
        for waiting in self._waiting.values():
            _settle(waiting.stored, UnavailableError("this manager is stopping: report again"))
        self._waiting.clear()

    def _accept(self, node_id: NodeId, report: Report) -> asyncio.Future[None] | None:
        """Note a report; return what is done once it is stored, None if it already is."""
        task = self._view.tasks.get(report.task_id)
        if task is None:
            return None
        if refusal := _refusal(task, node_id, report.status):
            log.warning(refusal, extra={"node": node_id, "task": report.task_id})
            return None
        status = _bounded(report.status)
        ahead = self._waiting.get(task.id)
        if ahead is not None:
            ahead.status = advance(ahead.status, status)
            return ahead.stored
        leaving = self._on_their_way.get(task.id)
        if leaving is not None and advance(leaving.status, status) is leaving.status:
            return leaving.stored
        if advance(task.status, status) is task.status:
            return None
        if len(self._waiting) >= WAITING_MAX:
            raise OverloadedError(f"{WAITING_MAX} reports wait to be stored: report again")
        future = asyncio.get_running_loop().create_future()
        # Whoever waited may have left; then nobody asks how it went.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._waiting[task.id] = _Waiting(node_id, status, future)
        return future

    def _write_more(self) -> None:
        """Start transactions for what waits, as many as may be on their way at once."""
        while len(self._writers) < IN_FLIGHT_MAX and not self._closed:
            # Of one task only one report at a time is on its way, so that none overtakes.
            ready = (task_id for task_id in self._waiting if task_id not in self._on_their_way)
            next_ones = list(islice(ready, TASKS_TOGETHER_MAX))
            batch = {task_id: self._waiting.pop(task_id) for task_id in next_ones}
            if not batch:
                return
            self._on_their_way |= batch
            writer = asyncio.create_task(self._write(batch))
            self._writers.add(writer)
            writer.add_done_callback(self._written)

    def _written(self, writer: asyncio.Task[None]) -> None:
        self._writers.discard(writer)
        self._write_more()

    async def _write(self, batch: dict[TaskId, _Waiting]) -> None:
        failure: Exception | None = UnavailableError("this manager is stopping: report again")
        try:
            await self._commit(batch)
            failure = None
        except ClusterError as error:
            failure = error
        except Exception as error:  # those who wait must not wait for ever
            log.exception("reports could not be stored", extra={"tasks": len(batch)})
            failure = error
        finally:
            for task_id, waiting in batch.items():
                del self._on_their_way[task_id]
                _settle(waiting.stored, failure)

    async def _commit(self, batch: dict[TaskId, _Waiting]) -> None:
        for _ in range(ATTEMPTS_MAX):
            tasks = [task for each in batch.items() if (task := self._advanced(*each))]
            if not tasks:
                return
            writes = [records.put(task) for task in tasks]
            guards = [
                Unchanged(write.key, task.version)
                for write, task in zip(writes, tasks, strict=True)
            ]
            entry = self._journal.entry(
                Moment(self._view.tasks.get(task.id), task) for task in tasks
            )
            try:
                revision = await self._store.commit(guards, [*writes, *entry])
            except GuardFailedError as error:
                self._view.learned(error.current, error.revision)
            else:
                self._view.committed(revision, writes)
                return
        raise ConflictError(f"the tasks keep changing: gave up after {ATTEMPTS_MAX} attempts")

    def _advanced(self, task_id: TaskId, waiting: _Waiting) -> Task | None:
        """Return the task with its report as of now; None if that is no news (any more)."""
        task = self._view.tasks.get(task_id)
        if task is None or _refusal(task, waiting.node_id, waiting.status):
            return None
        status = advance(task.status, waiting.status)
        if status is task.status:
            return None
        return msgspec.structs.replace(task, status=status)


def _settle(stored: asyncio.Future[None], failure: Exception | None) -> None:
    if stored.done():
        return
    if failure is None:
        stored.set_result(None)
    else:
        stored.set_exception(failure)


def _refusal(task: Task, node_id: NodeId, status: TaskStatus) -> str:
    """Return why the node may not report that; empty if it may."""
    if task.node_id != node_id or task.status.state < TaskState.ASSIGNED:
        return "an agent reports on a task that is not its node's"
    if not TaskState.ACCEPTED <= status.state <= TaskState.REJECTED:
        return f"an agent reports a state that is not its own to say: {status.state.value}"
    return ""


def _bounded(status: TaskStatus) -> TaskStatus:
    """Return *status* as it can be stored, whatever the agent has sent."""
    return msgspec.structs.replace(
        status,
        at=status.at if math.isfinite(status.at) else 0.0,
        message=status.message[:TEXT_CHARACTERS_MAX],
        error=status.error[:TEXT_CHARACTERS_MAX],
        container_id=status.container_id[:_ID_CHARACTERS_MAX],
    )
