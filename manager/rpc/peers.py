"""Calls to the other managers, over one channel each that is kept."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from grpc import aio

from cluster.api.v1 import control_pb2, control_pb2_grpc
from cluster.errors import ClusterError
from cluster.model import Manager, ManagerId, TaskId
from cluster.status import error_of
from manager.dispatch.log_broker import LogBatch
from manager.dispatch.open_session import HeardUsage, LogsAsked
from manager.rpc import messages
from manager.rpc.transport import Transport

# Somebody waits at a prompt for what all managers know; one that hangs must not hold it up.
USAGE_SECONDS = 1.0

# Managers whose channels are kept; a cluster has five, but each restart is another one.
CHANNELS_MAX = 16


class GrpcPeers:
    """The other managers; see ``manager.control.peers.Peers``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._channels: dict[ManagerId, aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def usage(self, manager: Manager) -> Sequence[HeardUsage]:
        request = control_pb2.GetUsageRequest(local=True)
        try:
            answer = await self._stub(manager).GetUsage(request, timeout=USAGE_SECONDS)
        except aio.AioRpcError as error:
            raise _error(error) from error
        return [messages.heard_usage_from(each) for each in answer.nodes]

    async def logs(
        self, manager: Manager, task_ids: Sequence[TaskId], asked: LogsAsked
    ) -> AsyncGenerator[LogBatch, None]:
        request = control_pb2.StreamLogsRequest(
            tasks=task_ids, options=messages.logs_asked(asked), local=True
        )
        call = self._stub(manager).StreamLogs(request)
        try:
            async for message in call:
                yield LogBatch(
                    tuple(map(messages.log_entry_from, message.entries)), tuple(message.warnings)
                )
        except aio.AioRpcError as error:
            raise _error(error) from error
        finally:
            call.cancel()

    async def aclose(self) -> None:
        """Close every channel."""
        for manager_id in list(self._channels):
            self._forget(manager_id)
        await asyncio.gather(*self._closing)

    def _stub(self, manager: Manager) -> "control_pb2_grpc.ControlAsyncStub":
        channel = self._channels.pop(manager.id, None)
        if channel is None:
            channel = self._transport.channel(manager.address)
        self._channels[manager.id] = channel  # the latest used last
        if len(self._channels) > CHANNELS_MAX:
            self._forget(next(iter(self._channels)))
        return control_pb2_grpc.ControlStub(channel)

    def _forget(self, manager_id: ManagerId) -> None:
        closing = asyncio.create_task(self._channels.pop(manager_id).close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def _error(error: aio.AioRpcError) -> ClusterError:
    return error_of(error.code(), error.details() or "")
