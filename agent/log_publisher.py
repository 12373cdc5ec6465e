"""Send the logs that somebody asked for, as fast as they are read and no faster."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc
from grpc import aio

from agent.runtime.interface import (
    Container,
    ContainerState,
    LogLine,
    LogRange,
    LogStream,
    Runtime,
)
from cluster.api.v1 import dispatch_pb2 as pb
from cluster.errors import ClusterError
from cluster.model import SessionId, TaskId
from cluster.task_group import TaskGroup

if TYPE_CHECKING:  # it exists only for type checkers
    from cluster.api.v1.dispatch_pb2_grpc import DispatchAsyncStub

log = logging.getLogger(__name__)

SUBSCRIPTIONS_MAX = 32  # at once: each task of one holds a thread and a connection to Docker
TASKS_MAX = 64  # followed at once by one of them
LINES_WAITING_MAX = 1_000  # read, but not sent yet, for each subscription
BATCH_LINES_MAX = 200  # in one message ...
BATCH_BYTES_MAX = 100_000  # ... and about so many bytes, so that logs of several tasks mix
START_LOOK_SECONDS = 0.5  # between looks whether a task that is followed has started

_STREAMS = {LogStream.STDOUT: pb.LOG_STREAM_STDOUT, LogStream.STDERR: pb.LOG_STREAM_STDERR}
_ENDS = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)

_Item = tuple[TaskId, LogLine] | str  # a line, or why a task's log cannot be had


class LogPublisher:
    """Serves one session's wishes."""

    def __init__(
        self,
        runtime: Runtime,
        container_of: Callable[[TaskId], Container | None],
        stub: "DispatchAsyncStub",
        session_id: SessionId,
    ) -> None:
        self._runtime = runtime
        self._container_of = container_of
        self._stub = stub
        self._session_id = session_id
        self._open: dict[str, asyncio.Task[None]] = {}

    def wanted(self, wish: pb.LogsWanted) -> None:
        """Begin to send what is wished for, or cease to."""
        if wish.cancelled:
            if wish.subscription_id in self._open:
                self._open[wish.subscription_id].cancel()
            return
        if wish.subscription_id in self._open:
            return
        job = asyncio.create_task(self._serve(wish))
        self._open[wish.subscription_id] = job
        job.add_done_callback(lambda done: self._ended(wish.subscription_id, done))

    async def aclose(self) -> None:
        """Cease to send anything."""
        jobs = list(self._open.values())
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    def _ended(self, subscription_id: str, job: asyncio.Task[None]) -> None:
        del self._open[subscription_id]
        if not job.cancelled() and (error := job.exception()) is not None:
            log.warning("a log broke off", extra={"error": str(error)})

    async def _serve(self, wish: pb.LogsWanted) -> None:
        call = self._stub.PublishLogs()
        try:
            await call.write(self._message(wish))  # an answer, even if there are no lines yet
            if len(self._open) > SUBSCRIPTIONS_MAX:
                error = f"this node sends {SUBSCRIPTIONS_MAX} logs already: try again later"
                await call.write(self._message(wish, error=error))
            else:
                async with aclosing(self._batches(wish)) as batches:
                    async for batch in batches:
                        await call.write(batch)
            await call.done_writing()
            await call
        except aio.AioRpcError as error:
            if error.code() not in _ENDS:
                raise
        except asyncio.InvalidStateError:
            pass  # the manager has ended the call: nobody wants the rest
        finally:
            call.cancel()

    async def _batches(self, wish: pb.LogsWanted) -> AsyncGenerator[pb.PublishLogsRequest, None]:
        """Yield messages: as many lines as have come meanwhile, at most a fair size."""
        lines: asyncio.Queue[_Item | None] = asyncio.Queue(LINES_WAITING_MAX)
        reader = asyncio.create_task(self._read_all(wish, lines))
        try:
            is_open = True
            while is_open:
                items = [await lines.get()]
                size = _size(items[0])
                while not lines.empty() and len(items) < BATCH_LINES_MAX and size < BATCH_BYTES_MAX:
                    items.append(lines.get_nowait())
                    size += _size(items[-1])
                is_open = items[-1] is not None
                entries = [_entry(*item) for item in items if isinstance(item, tuple)]
                errors = "; ".join(item for item in items if isinstance(item, str))
                if entries or errors:
                    yield self._message(wish, entries=entries, error=errors)
            await reader
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read_all(self, wish: pb.LogsWanted, lines: asyncio.Queue[_Item | None]) -> None:
        """Put all lines in the queue, then None: task by task, or mixed if followed."""
        wanted = LogRange(
            follow=wish.options.follow, tail=wish.options.tail, since=wish.options.since
        )
        tasks = [TaskId(task_id) for task_id in wish.task_ids]
        if wanted.follow:
            async with TaskGroup() as group:
                for task_id in tasks[:TASKS_MAX]:
                    group.create_task(self._read(task_id, wanted, lines))
                for task_id in tasks[TASKS_MAX:]:
                    await lines.put(f"task {task_id}: too many are followed at once")
        else:
            for task_id in tasks:
                await self._read(task_id, wanted, lines)
        await lines.put(None)

    async def _read(
        self, task_id: TaskId, wanted: LogRange, lines: asyncio.Queue[_Item | None]
    ) -> None:
        container = self._container_of(task_id)
        while wanted.follow and container is not None and _is_to_start(container):
            await asyncio.sleep(START_LOOK_SECONDS)
            container = self._container_of(task_id)
        if container is None:
            await lines.put(f"task {task_id} has no container here")
            return
        try:
            async with self._runtime.logs(container.id, wanted) as source:
                async for line in source:
                    await lines.put((task_id, line))
        except ClusterError as error:
            await lines.put(f"task {task_id}: {error}")
        except Exception:
            log.exception("a log cannot be read", extra={"task": task_id})
            await lines.put(f"task {task_id}: its log cannot be read; the agent's log tells why")

    def _message(
        self,
        wish: pb.LogsWanted,
        *,
        entries: Sequence[pb.LogEntry] = (),
        error: str = "",
    ) -> pb.PublishLogsRequest:
        return pb.PublishLogsRequest(
            session_id=self._session_id,
            subscription_id=wish.subscription_id,
            entries=entries,
            error=error,
        )


def _is_to_start(container: Container) -> bool:
    return container.state is ContainerState.CREATED


def _size(item: _Item | None) -> int:
    return len(item[1].line) if isinstance(item, tuple) else 0


def _entry(task_id: TaskId, line: LogLine) -> pb.LogEntry:
    return pb.LogEntry(task_id=task_id, stream=_STREAMS[line.stream], at=line.at, line=line.line)
