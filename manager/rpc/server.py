"""The gRPC server: what it serves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cluster.api.v1 import control_pb2, dispatch_pb2
from cluster.api.v1.control_pb2_grpc import ControlServicer, add_ControlServicer_to_server
from cluster.api.v1.dispatch_pb2_grpc import DispatchServicer, add_DispatchServicer_to_server
from manager.rpc.transport import Transport

SERVICES = (
    control_pb2.DESCRIPTOR.services_by_name["Control"].full_name,
    dispatch_pb2.DESCRIPTOR.services_by_name["Dispatch"].full_name,
)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that may be started.

    Attributes:
        port: that it is bound to.
    """

    grpc_server: aio.Server
    port: int
    health: health.aio.HealthServicer

    async def start(self) -> None:
        """Serve, and say so."""
        await self.grpc_server.start()
        for name in ("", *SERVICES):
            await self.health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_seconds: float) -> None:
        """Take no more calls at once, and give those that run so long to end."""
        await self.health.enter_graceful_shutdown()
        await self.grpc_server.stop(grace_seconds)


def make_server(
    control: ControlServicer, dispatch: DispatchServicer, listen: str, transport: Transport
) -> Server:
    """Bind a server to *listen* ("host:port"; port 0 takes any that is free).

    Raises:
        InvalidError: the address cannot be bound.
    """
    server, port = transport.bound_server(listen)
    by_name = cast(aio.Server, _ByName(server))
    add_ControlServicer_to_server(control, by_name)
    add_DispatchServicer_to_server(dispatch, by_name)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection(
        (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    return Server(server, port, healthy)


class _ByName:
    """A server as the generated code sees it: handlers are found by name, not registered.

    gRPC waits for a call of each registered method separately. With thirty of them every
    heartbeat cost a fifth more than by one wait for any call.
    """

    def __init__(self, server: aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(tuple(handlers))

    def add_registered_method_handlers(self, *_: object) -> None:
        """Leave them out; the generic ones serve the same methods."""
