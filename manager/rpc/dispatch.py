"""The Dispatch API's edge: decode, call, encode."""
# ruff: noqa: N802 - the names are gRPC's

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from cluster import codec
from cluster.api.v1 import dispatch_pb2 as pb
from cluster.api.v1 import types_pb2
from cluster.api.v1.dispatch_pb2_grpc import DispatchServicer
from cluster.errors import InvalidError, UnavailableError
from cluster.model import NodeDescription, NodeId, NodeUsage, TaskId, TaskStatus
from manager.dispatch.assignments import Assignments, Update
from manager.dispatch.log_broker import LogBroker
from manager.dispatch.open_session import LogsWanted, Told
from manager.dispatch.sessions import Sessions
from manager.dispatch.statuses import Report, Statuses
from manager.rpc import messages
from manager.rpc.refusals import refusals

Context = Any  # grpc.aio's context; the generated code asks for a mixture that does not exist

# Reports in one call: what an agent of the largest kind has tasks, twice over.
REPORTS_MAX = 2_000


class DispatchEdge(DispatchServicer):
    """Serves the Dispatch API."""

    def __init__(
        self, sessions: Sessions, assignments: Assignments, statuses: Statuses, broker: LogBroker
    ) -> None:
        self._sessions = sessions
        self._assignments = assignments
        self._statuses = statuses
        self._broker = broker

    async def Session(
        self, request: pb.SessionRequest, context: Context
    ) -> AsyncGenerator[pb.SessionMessage, None]:
        async with refusals(context):
            session = await self._sessions.open(
                NodeId(request.node_id),
                codec.from_wire(request.description, NodeDescription),
                dict(request.labels),
                request.cluster_id,
            )
            try:
                async with aclosing(session.messages()) as told:
                    async for each in told:
                        yield _session_message(each)
            finally:
                self._sessions.ended(session)

    async def Heartbeats(
        self, request_iterator: AsyncIterator[pb.HeartbeatRequest], context: Context
    ) -> AsyncGenerator[pb.HeartbeatResponse, None]:
        async with refusals(context):
            async for request in request_iterator:
                usage = None
                if request.HasField("usage"):
                    usage = codec.from_wire(request.usage, NodeUsage)
                period = self._sessions.heartbeat(
                    request.session_id, usage, is_answered=request.answer
                )
                if request.answer:
                    yield pb.HeartbeatResponse(
                        heartbeat_period_seconds=period,
                        vouched=self._sessions.vouches_for(request.session_id),
                    )

    async def Assignments(
        self, request: pb.AssignmentsRequest, context: Context
    ) -> AsyncGenerator[pb.AssignmentsMessage, None]:
        async with refusals(context):
            session = self._sessions.find(request.session_id)
            async with aclosing(self._assignments.follow(session)) as updates:
                async for update in updates:
                    yield _assignments_message(update)

    async def UpdateTaskStatus(
        self, request: pb.UpdateTaskStatusRequest, context: Context
    ) -> pb.UpdateTaskStatusResponse:
        async with refusals(context):
            session = self._sessions.find(request.session_id)
            if len(request.reports) > REPORTS_MAX:
                raise InvalidError(f"a call takes at most {REPORTS_MAX} reports: send several")
            reports = [
                Report(TaskId(report.task_id), codec.from_wire(report.status, TaskStatus))
                for report in request.reports
            ]
            await self._statuses.report(session.node_id, reports)
            return pb.UpdateTaskStatusResponse()

    async def UpdateImages(
        self, request: pb.UpdateImagesRequest, context: Context
    ) -> pb.UpdateImagesResponse:
        async with refusals(context):
            await self._sessions.images(request.session_id, tuple(request.images))
            return pb.UpdateImagesResponse()

    async def PublishLogs(
        self, request_iterator: AsyncIterator[pb.PublishLogsRequest], context: Context
    ) -> pb.PublishLogsResponse:
        async with refusals(context):
            whose = ("", "")
            try:
                async for request in request_iterator:
                    whose = request.session_id, request.subscription_id
                    entries = [messages.log_entry_from(entry) for entry in request.entries]
                    await self._broker.publish(*whose, entries, request.error)
            except BaseException:
                self._broker.finished(*whose, UnavailableError("its agent broke off"))
                raise
            self._broker.finished(*whose)
            return pb.PublishLogsResponse()


def _session_message(told: Told) -> pb.SessionMessage:
    return pb.SessionMessage(
        session_id=told.session_id,
        cluster_id=told.cluster_id,
        managers=told.managers,
        heartbeat_period_seconds=told.heartbeat_period_seconds,
        logs=map(_logs_wanted, told.logs),
    )


def _logs_wanted(wish: LogsWanted) -> pb.LogsWanted:
    return pb.LogsWanted(
        subscription_id=wish.subscription_id,
        task_ids=wish.task_ids,
        options=messages.logs_asked(wish.asked),
        cancelled=wish.cancelled,
    )


def _assignments_message(update: Update) -> pb.AssignmentsMessage:
    return pb.AssignmentsMessage(
        kind=(pb.ASSIGNMENTS_KIND_COMPLETE if update.complete else pb.ASSIGNMENTS_KIND_INCREMENTAL),
        applies_to=update.applies_to,
        results_in=update.results_in,
        specs=[codec.to_wire(spec, types_pb2.ServiceVersion) for spec in update.specs],
        tasks=[codec.to_wire(task, types_pb2.Assignment) for task in update.tasks],
        removed_task_ids=update.removed,
    )
