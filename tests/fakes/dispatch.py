"""A manager as agents see it: the Dispatch API on loopback, with nothing behind it.

A test says what is assigned and reads what was reported; knobs make the manager misbehave.

    async with FakeManager() as manager:
        manager.assign(assignment, spec)
        await manager.reported(task_id, TaskState.RUNNING)
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

import grpc
from grpc import aio

from cluster import codec
from cluster.api.v1 import dispatch_pb2 as pb
from cluster.api.v1 import types_pb2
from cluster.api.v1.dispatch_pb2_grpc import DispatchServicer, add_DispatchServicer_to_server
from cluster.model import (
    Assignment,
    NodeUsage,
    ServiceId,
    ServiceSpec,
    ServiceVersion,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)

SECONDS_MAX = 30.0
CLUSTER = "c" * 25


class FakeManager(DispatchServicer):
    """One manager, on a port that it keeps over restarts.

    Attributes:
        opened: each session's request, in order.
        beats: how many heartbeats came, by session.
        answers: how many of them asked for an answer.
        usage: measurements that came with them.
        sets_asked: how many streams of assignments were opened.
        statuses: the latest report of each task.
        reports: how many calls came with reports.
        images: what each session said last, by session.
        knows_images: it is of a version that asks for them.
        images_refused: how often it did not.
        logs: what was published, by subscription; None after its end.
        refuses: the code that sessions are refused with, if any.
        is_mute: heartbeats are not answered.
        is_storeless: reports fail.
        forgets: the next heartbeats are refused, for the session is not known.
    """

    def __init__(self, cluster_id: str = CLUSTER, managers: tuple[str, ...] = ()) -> None:
        self.cluster_id = cluster_id
        self.managers = managers
        self.opened: list[pb.SessionRequest] = []
        self.beats: dict[str, int] = {}
        self.answers = 0
        self.usage: list[NodeUsage] = []
        self.sets_asked = 0
        self.statuses: dict[TaskId, TaskStatus] = {}
        self.reports = 0
        self.images: dict[str, tuple[str, ...]] = {}
        self.knows_images = True
        self.images_refused = 0
        self.logs: dict[str, list[pb.PublishLogsRequest | None]] = {}
        self.refuses: grpc.StatusCode | None = None
        self.is_mute = False
        self.is_storeless = False
        self.forgets = False
        self.period_seconds = 0.1
        self.address = ""
        self._server: aio.Server | None = None
        self._tasks: dict[TaskId, Assignment] = {}
        self._specs: dict[ServiceId, TaskSpec] = {}
        self._sessions: dict[str, asyncio.Queue[pb.SessionMessage | None]] = {}
        self._streams: list[asyncio.Queue[pb.AssignmentsMessage | None]] = []
        self._number = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self._server = aio.server()
        add_DispatchServicer_to_server(self, self._server)
        wanted = self.address or "127.0.0.1:0"
        if credentials is None:
            port = self._server.add_insecure_port(wanted)
        else:
            port = self._server.add_secure_port(wanted, credentials)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        """Go away as if killed; everything in memory is forgotten."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        self._sessions.clear()
        self._streams.clear()

    # --- what a test says and sees ------------------------------------------------------------

    @property
    def session(self) -> str:
        """The session that was opened last."""
        return f"session{len(self.opened)}"

    def assign(self, task: Assignment, spec: TaskSpec) -> None:
        self._specs[task.service_id] = spec
        self._tasks[task.task_id] = task
        self._send_change([task.task_id])

    def drop(self, task_id: TaskId) -> None:
        del self._tasks[task_id]
        self._send_change([], removed=[task_id])

    def send_gap(self) -> None:
        """Lose a message of the chain."""
        self._number += 1
        self._send_change([])

    def break_assignments(self) -> None:
        """End the streams of assignments."""
        for stream in self._streams:
            stream.put_nowait(None)

    def tell(self, **fields: Any) -> None:
        """Send a message on the last session's stream."""
        self._sessions[self.session].put_nowait(self._message(self.session, **fields))

    def end_session(self) -> None:
        self._sessions[self.session].put_nowait(None)

    async def reported(self, task_id: TaskId, state: TaskState) -> TaskStatus:
        await until(lambda: self.statuses.get(task_id, TaskStatus()).state >= state)
        status = self.statuses[task_id]
        assert status.state is state, status
        return status

    async def has_sessions(self, count: int) -> None:
        """Wait until so many were opened, and the last one has beaten."""
        await until(lambda: len(self.opened) >= count and self.beats.get(self.session, 0) > 0)

    # --- the API ------------------------------------------------------------------------------

    async def Session(  # noqa: N802 - the wire's name
        self, request: pb.SessionRequest, context: Any
    ) -> AsyncIterator[pb.SessionMessage]:
        if self.refuses is not None:
            await context.abort(self.refuses, "refused by the test")
        self.opened.append(request)
        session, messages = self.session, asyncio.Queue[pb.SessionMessage | None]()
        self._sessions[session] = messages
        yield self._message(session)
        while (message := await messages.get()) is not None:
            yield message

    async def Heartbeats(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.HeartbeatRequest], context: Any
    ) -> AsyncIterator[pb.HeartbeatResponse]:
        async for request in request_iterator:
            await self._check(request.session_id, context)
            if self.is_mute:
                await asyncio.sleep(SECONDS_MAX)
            self.beats[request.session_id] = self.beats.get(request.session_id, 0) + 1
            if request.HasField("usage"):
                self.usage.append(codec.from_wire(request.usage, NodeUsage))
            if request.answer:
                self.answers += 1
                yield pb.HeartbeatResponse(heartbeat_period_seconds=self.period_seconds)

    async def Assignments(  # noqa: N802
        self, request: pb.AssignmentsRequest, context: Any
    ) -> AsyncIterator[pb.AssignmentsMessage]:
        await self._check(request.session_id, context)
        self.sets_asked += 1
        stream: asyncio.Queue[pb.AssignmentsMessage | None] = asyncio.Queue()
        self._streams.append(stream)
        complete = self._change(list(self._tasks), pb.ASSIGNMENTS_KIND_COMPLETE)
        yield complete
        while (message := await stream.get()) is not None:
            yield message
        self._streams.remove(stream)

    async def UpdateTaskStatus(  # noqa: N802
        self, request: pb.UpdateTaskStatusRequest, context: Any
    ) -> pb.UpdateTaskStatusResponse:
        self.reports += 1
        await self._check(request.session_id, context)
        if self.is_storeless:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the store does not answer")
        for report in request.reports:
            self.statuses[TaskId(report.task_id)] = codec.from_wire(report.status, TaskStatus)
        return pb.UpdateTaskStatusResponse()

    async def UpdateImages(  # noqa: N802
        self, request: pb.UpdateImagesRequest, context: Any
    ) -> pb.UpdateImagesResponse:
        await self._check(request.session_id, context)
        if not self.knows_images:
            self.images_refused += 1
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "an older manager")
        self.images[request.session_id] = tuple(request.images)
        return pb.UpdateImagesResponse()

    async def PublishLogs(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.PublishLogsRequest], context: Any
    ) -> pb.PublishLogsResponse:
        subscription = ""
        async for message in request_iterator:
            await self._check(message.session_id, context)
            subscription = message.subscription_id
            self.logs.setdefault(subscription, []).append(message)
        self.logs.setdefault(subscription, []).append(None)
        return pb.PublishLogsResponse()

    # --- inside -------------------------------------------------------------------------------

    async def _check(self, session: str, context: Any) -> None:
        if session not in self._sessions or self.forgets:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such session")

    def _message(self, session: str, **fields: Any) -> pb.SessionMessage:
        return pb.SessionMessage(
            session_id=session,
            cluster_id=self.cluster_id,
            managers=self.managers or (self.address,),
            heartbeat_period_seconds=self.period_seconds,
            **fields,
        )

    def _send_change(self, task_ids: list[TaskId], removed: list[TaskId] | None = None) -> None:
        before = self._number
        message = self._change(task_ids, pb.ASSIGNMENTS_KIND_INCREMENTAL)
        message.applies_to = before
        message.removed_task_ids.extend(removed or [])
        for stream in self._streams:
            stream.put_nowait(message)

    def _change(self, task_ids: list[TaskId], kind: Any) -> pb.AssignmentsMessage:
        self._number += 1
        tasks = [self._tasks[task_id] for task_id in task_ids]
        specs = [
            ServiceVersion(
                service_id=task.service_id,
                number=task.spec_version,
                spec=ServiceSpec(name=task.service_name, task=self._specs[task.service_id]),
            )
            for task in tasks
        ]
        return pb.AssignmentsMessage(
            kind=kind,
            results_in=self._number,
            tasks=[codec.to_wire(task, types_pb2.Assignment) for task in tasks],
            specs=[codec.to_wire(spec, types_pb2.ServiceVersion) for spec in specs],
        )


async def until(condition: Callable[[], object], seconds_max: float = SECONDS_MAX) -> None:
    """Wait for *condition* in real time."""
    async with asyncio.timeout(seconds_max):
        while not condition():
            await asyncio.sleep(0.005)
