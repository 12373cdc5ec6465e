"""One session with one manager: from its opening to whatever ends it.

Six things go on in a session, and the end of any ends them all: its stream (managers, wishes
for logs), heartbeats, the stream of assignments, reports, a look at whether Docker answers at
all, and news of the host's images. A session is worth nothing by itself: whatever ends it, the next one begins with a
complete set of assignments and all reports that were not acknowledged.

A failed report or a broken stream of assignments does not end it while heartbeats get through:
the manager may be well and its store not.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from grpc import aio

from agent.assignments import AssignmentSet, Complete, GapError, Incremental
from agent.heartbeats import Heartbeats
from agent.log_publisher import LogPublisher
from agent.worker import Worker
from cluster import codec, status
from cluster.api.v1 import dispatch_pb2 as pb
from cluster.api.v1 import types_pb2
from cluster.errors import ClusterError, NotFoundError, UnavailableError
from cluster.model import (
    Assignment,
    ServiceVersion,
    SessionId,
    TaskId,
    TaskStatus,
)
from cluster.task_group import TaskGroup

if TYPE_CHECKING:  # it exists only for type checkers
    from cluster.api.v1.dispatch_pb2_grpc import DispatchAsyncStub

log = logging.getLogger(__name__)

REPORT_SECONDS_MAX = 15.0  # a report waits for the store, which may be electing a leader
RETRY_SECONDS_MIN = 0.1  # after a failed report or stream; doubles
RETRY_SECONDS_MAX = 5.0
SPEC_SECONDS = 5.0  # before asking for a set anew because a specification was missing in it
# Docker may restart, and an upgrade of it take a while. Beyond that the host cannot do what it
# is there for, and its tasks should run elsewhere.
ENGINE_SILENCE_SECONDS_MAX = 30.0
ENGINE_LOOK_SECONDS = 1.0  # how late that may be noticed


@dataclass(frozen=True, slots=True)
class Opened:
    """What a session was opened with.

    Attributes:
        engine_silence: for how many seconds Docker has not answered.
        told_managers: is called with the managers that are up.
        stale: is set once the description that the session was opened with is outdated.
    """

    id: SessionId
    engine_silence: Callable[[], float]
    told_managers: Callable[[list[str]], None]
    stale: asyncio.Event


class Session:
    """Speaks for a worker to one manager."""

    def __init__(
        self,
        opened: Opened,
        stub: "DispatchAsyncStub",
        stream: aio.UnaryStreamCall[pb.SessionRequest, pb.SessionMessage],
        worker: Worker,
        *,
        heartbeats: Heartbeats,
        logs: LogPublisher,
        tell_images: Callable[[], Coroutine[Any, Any, NoReturn]],
        source: random.Random,
    ) -> None:
        self._opened = opened
        self._stub = stub
        self._stream = stream
        self._worker = worker
        self._heartbeats = heartbeats
        self._logs = logs
        self._tell_images = tell_images
        self._source = source

    async def run(self) -> NoReturn:
        """Keep the session up.

        Raises:
            ClusterError: why it has ended.
        """
        try:
            async with TaskGroup() as group:
                for part in (
                    self._follow,
                    self._heartbeats.run,
                    self._follow_assignments,
                    self._report,
                    self._mind_the_engine,
                    self._tell_images,
                ):
                    group.create_task(part())
        except BaseExceptionGroup as ends:
            raise _first_of(ends) from ends
        finally:
            await self._logs.aclose()
        raise AssertionError  # none of them returns

    async def _follow(self) -> NoReturn:
        try:
            # Read one by one, as the first message was: gRPC wants one way of reading a stream.
            while isinstance(message := await self._stream.read(), pb.SessionMessage):
                self._take(message)
        except aio.AioRpcError as error:
            raise error_of(error) from error
        raise UnavailableError("the manager has ended the session")

    def _take(self, message: pb.SessionMessage) -> None:
        self._opened.told_managers(list(message.managers))
        self._heartbeats.set_period(message.heartbeat_period_seconds)
        for wish in message.logs:
            self._logs.wanted(wish)

    async def _mind_the_engine(self) -> NoReturn:
        while (left := ENGINE_SILENCE_SECONDS_MAX - self._opened.engine_silence()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left + ENGINE_LOOK_SECONDS):
                    await self._opened.stale.wait()
                    raise NotFoundError("the host has changed: its description is told anew")
        raise UnavailableError("Docker does not answer on this host")

    # --- reports ------------------------------------------------------------------------------

    async def _report(self) -> NoReturn:
        outbox = self._worker.outbox
        waits = _waits(self._source)
        while True:
            batch = await outbox.batch()
            request = pb.UpdateTaskStatusRequest(
                session_id=self._opened.id,
                reports=[_report(task_id, known) for task_id, known in batch.items()],
            )
            try:
                await self._stub.UpdateTaskStatus(request, timeout=REPORT_SECONDS_MAX)
            except aio.AioRpcError as error:
                _end_if_gone(error)
                log.warning("reports are not stored yet", extra={"error": error.details()})
                await asyncio.sleep(next(waits))
            else:
                outbox.acknowledge(batch)
                waits = _waits(self._source)

    # --- assignments --------------------------------------------------------------------------

    async def _follow_assignments(self) -> NoReturn:
        """Follow the stream; after a break or a gap anew, which begins with a complete set."""
        loop = asyncio.get_running_loop()
        waits = _waits(self._source)
        while True:
            began_at = loop.time()
            stream = self._stub.Assignments(pb.AssignmentsRequest(session_id=self._opened.id))
            try:
                await self._take_assignments(stream)
            except GapError as error:
                log.warning("asks for all assignments anew", extra={"error": str(error)})
            except aio.AioRpcError as error:
                _end_if_gone(error)
                log.warning("assignments broke off", extra={"error": error.details()})
            finally:
                stream.cancel()
            if loop.time() - began_at > RETRY_SECONDS_MAX:
                waits = _waits(self._source)
            await asyncio.sleep(next(waits))

    async def _take_assignments(
        self, stream: aio.UnaryStreamCall[pb.AssignmentsRequest, pb.AssignmentsMessage]
    ) -> None:
        known = AssignmentSet()
        async for message in stream:
            known = known.after(decoded(message))
            is_whole = message.kind == pb.ASSIGNMENTS_KIND_COMPLETE
            self._worker.assign(known, is_whole=is_whole)
            if lacking := known.lacking_spec():
                log.error("tasks came without their specifications", extra={"tasks": lacking})
                await asyncio.sleep(SPEC_SECONDS)
                return


def decoded(message: pb.AssignmentsMessage) -> Complete | Incremental:
    """Return what a manager's message says.

    Raises:
        InvalidError: it says something that we cannot read.
    """
    tasks = [codec.from_wire(task, Assignment) for task in message.tasks]
    specs = [codec.from_wire(spec, ServiceVersion) for spec in message.specs]
    if message.kind == pb.ASSIGNMENTS_KIND_COMPLETE:
        return Complete(number=message.results_in, tasks=tasks, specs=specs)
    return Incremental(
        applies_to=message.applies_to,
        number=message.results_in,
        tasks=tasks,
        specs=specs,
        removed=[TaskId(task_id) for task_id in message.removed_task_ids],
    )


def error_of(error: aio.AioRpcError) -> ClusterError:
    """Return what a failed call means."""
    return status.error_of(error.code(), error.details() or "")


def _report(task_id: TaskId, known: TaskStatus) -> pb.TaskReport:
    return pb.TaskReport(task_id=task_id, status=codec.to_wire(known, types_pb2.TaskStatus))


def _end_if_gone(error: aio.AioRpcError) -> None:
    """Let the session end if the manager does not know it any more."""
    if error.code() is grpc.StatusCode.NOT_FOUND:
        raise error_of(error) from error


def _waits(source: random.Random) -> Iterator[float]:
    longest = RETRY_SECONDS_MIN
    while True:
        yield source.uniform(0.5, 1.0) * longest
        longest = min(RETRY_SECONDS_MAX, 2 * longest)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error that is not ours to wonder about, else the first of all."""
    errors = list(_flat(group))
    unknown = [error for error in errors if not isinstance(error, ClusterError)]
    return (unknown or errors)[0]


def _flat(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _flat(error)
        else:
            yield error
