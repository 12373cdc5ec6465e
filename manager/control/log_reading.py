"""One reader's logs: a task for each node, which all write into one bounded channel.

So a slow reader slows the agents down. With *follow*, tasks that a service gets later join in,
and a log that broke off is read on from there once its agent is back.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace

from cluster.errors import ClusterError, InternalError
from cluster.model import NO_NODE, NodeId, ServiceId, Task, TaskId
from manager.control import summaries
from manager.control.references import node_name, task_name
from manager.control.summaries import TaskSummary
from manager.dispatch.assignments import bound_to
from manager.dispatch.channel import Channel
from manager.dispatch.log_broker import LogBatch, LogEntry
from manager.dispatch.open_session import LogsAsked
from manager.view import Batch, View

log = logging.getLogger(__name__)

# Nobody reads more at once, and every task costs its agent an open log.
TASKS_MAX = 1_000

# Batches of all nodes that wait for the reader, some 100 KB each at most.
CHUNKS_MAX = 16

# Before a log that broke off is asked for again: agents and managers take about as long to meet.
AGAIN_SECONDS = 1.0

ReadNode = Callable[[NodeId, Sequence[Task], LogsAsked], AsyncGenerator[LogBatch, None]]


@dataclass(frozen=True, slots=True)
class LogChunk:
    """What a reader is sent at once.

    Attributes:
        entries: in order, task by task.
        tasks: who is who; told before their first entry.
        warnings: logs that cannot be had, and why.
    """

    entries: tuple[LogEntry, ...] = ()
    tasks: tuple[TaskSummary, ...] = ()
    warnings: tuple[str, ...] = ()


class Reading:
    """Reads logs into ``channel``.

    Args:
        read_node: reads logs of tasks of one node, until their end.
        asked: what part of each log.
        mend: tell of a log that breaks off, and go on with it and the others; else the
            whole reading fails with it.
    """

    def __init__(self, view: View, read_node: ReadNode, asked: LogsAsked, *, mend: bool) -> None:
        self.channel: Channel[LogChunk] = Channel(CHUNKS_MAX)
        self._view = view
        self._read_node = read_node
        self._asked = asked
        self._mend = mend
        self._known: set[TaskId] = set()
        self._readers: set[asyncio.Task[None]] = set()
        self._unsubscribe: Callable[[], None] | None = None

    def begin(self, tasks: Iterable[Task], service_id: ServiceId | None) -> None:
        """Start to read *tasks*, and following a service also those that it gets later."""
        if self._asked.follow and service_id is not None:
            self._unsubscribe = self._view.subscribe(lambda batch: self._join(batch, service_id))
        by_node: dict[NodeId, list[Task]] = {}
        for task in tasks:
            node_id = task.node_id if bound_to(task, task.node_id) else NO_NODE
            by_node.setdefault(node_id, []).append(task)
        if (unbound := by_node.pop(NO_NODE, [])) and service_id is None:
            names = ", ".join(f"{task_name(self._view, task)} ({task.id})" for task in unbound)
            self._start(self._warn(f"not placed on a node yet: {names}"))
        for node_id, there in by_node.items():
            self._read(node_id, there, self._asked)
        self._end_if_idle()

    async def end(self) -> None:
        """Stop reading."""
        if self._unsubscribe:
            self._unsubscribe()
        self.channel.end()
        readers = list(self._readers)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    def _join(self, batch: Batch, service_id: ServiceId) -> None:
        for change in batch.changes:
            task = change.new
            if (
                isinstance(task, Task)
                and task.service_id == service_id
                and bound_to(task, task.node_id)
                and task.id not in self._known
                and len(self._known) < TASKS_MAX
            ):
                self._read(task.node_id, [task], LogsAsked(follow=True))

    def _read(self, node_id: NodeId, tasks: Sequence[Task], asked: LogsAsked) -> None:
        self._known.update(task.id for task in tasks)
        self._start(self._read_tasks(node_id, tasks, asked))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        reader = asyncio.create_task(work)
        self._readers.add(reader)
        reader.add_done_callback(self._done)

    def _done(self, reader: asyncio.Task[None]) -> None:
        self._readers.discard(reader)
        failure = None if reader.cancelled() else reader.exception()
        if isinstance(failure, ClusterError):
            self.channel.end(failure)
        elif failure is not None:
            log.error("reading logs failed", exc_info=failure)
            self.channel.end(InternalError("reading logs failed: see the manager's log"))
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self._readers and self._unsubscribe is None:
            self.channel.end()

    async def _warn(self, text: str) -> None:
        await self.channel.put(LogChunk(warnings=(text,)))

    async def _read_tasks(self, node_id: NodeId, tasks: Sequence[Task], asked: LogsAsked) -> None:
        who = tuple(summaries.of_task(self._view, task) for task in tasks)
        await self.channel.put(LogChunk(tasks=who))
        last_at: dict[TaskId, float] = {}
        told = ""
        while True:
            try:
                await self._copy(node_id, tasks, asked, last_at)
            except ClusterError as error:
                if not self._mend:
                    raise
                if str(error) != told:  # once for each reason, however long it takes
                    told = str(error)
                    await self._warn(f"no logs from node {node_name(self._view, node_id)}: {error}")
            else:
                return
            if not self._asked.follow or not any(self._goes_on(task) for task in tasks):
                return
            await asyncio.sleep(AGAIN_SECONDS)
            if last_at:
                asked = replace(asked, tail=-1, since=max(asked.since, min(last_at.values())))

    async def _copy(
        self,
        node_id: NodeId,
        tasks: Sequence[Task],
        asked: LogsAsked,
        last_at: dict[TaskId, float],
    ) -> None:
        """Copy what the node sends until its end, save for what was read before."""
        before = dict(last_at)
        async with contextlib.aclosing(self._read_node(node_id, tasks, asked)) as batches:
            async for batch in batches:
                entries = tuple(e for e in batch.entries if e.at > before.get(e.task_id, -1.0))
                last_at.update((entry.task_id, entry.at) for entry in entries)
                name = node_name(self._view, node_id)
                warnings = tuple(f"node {name}: {text}" for text in batch.warnings)
                if (entries or warnings) and not await self.channel.put(
                    LogChunk(entries=entries, warnings=warnings)
                ):
                    return

    def _goes_on(self, task: Task) -> bool:
        now = self._view.tasks.get(task.id)
        return now is not None and not now.status.state.finished
