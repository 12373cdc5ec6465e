"""The gRPC server: what it serves, whom it trusts, and how it notices that a peer is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cluster.api.v1 import control_pb2, dispatch_pb2
from cluster.api.v1.control_pb2_grpc import ControlServicer, add_ControlServicer_to_server
from cluster.api.v1.dispatch_pb2_grpc import DispatchServicer, add_DispatchServicer_to_server
from cluster.errors import InvalidError
from cluster.settings import TlsFiles

# The largest that somebody may send us: a stack of some hundred services is half a megabyte.
RECEIVE_BYTES_MAX = 16 * 1024**2

# The largest that we may send: a list of a million tasks.
SEND_BYTES_MAX = 512 * 1024**2

# A peer that hangs is noticed within a quarter of a minute; agents tell by heartbeats before.
PING_MILLISECONDS = 10_000
PING_ANSWER_MILLISECONDS = 3_000

# Clients and agents ping every few seconds while their streams are quiet.
PING_MILLISECONDS_MIN = 1_000

# Calls of one connection at once; an agent has five, a manager asks others for logs.
STREAMS_PER_CONNECTION_MAX = 2_000

# 20 MB/s to a host that is 50 ms away; logs are what is sent to us in bulk.
WINDOW_BYTES = 1024**2

OPTIONS = (
    ("grpc.keepalive_time_ms", PING_MILLISECONDS),
    ("grpc.keepalive_timeout_ms", PING_ANSWER_MILLISECONDS),
    # Without it a peer that hangs was noticed after 64 s, whatever the two above say.
    ("grpc.http2.ping_timeout_ms", PING_ANSWER_MILLISECONDS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", PING_MILLISECONDS_MIN),
    ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
    ("grpc.max_send_message_length", SEND_BYTES_MAX),
    # By default gRPC measures the line with pings of its own whenever something comes in: that
    # made half of what a heartbeat costs it. Instead, each stream may have so much on its way.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
    # Another process that listens on our port is a mistake, not a colleague.
    ("grpc.so_reuseport", 0),
)

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
    control: ControlServicer, dispatch: DispatchServicer, listen: str, tls: TlsFiles | None
) -> Server:
    """Bind a server to *listen* ("host:port"; port 0 takes any that is free).

    Raises:
        InvalidError: the address cannot be bound, or a file of *tls* cannot be read.
    """
    server = aio.server(options=OPTIONS)
    by_name = cast(aio.Server, _ByName(server))
    add_ControlServicer_to_server(control, by_name)
    add_DispatchServicer_to_server(dispatch, by_name)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection(
        (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    try:
        if tls is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, server_credentials(tls))
    except RuntimeError as error:
        raise InvalidError(f"cannot listen on {listen}: is the port in use?") from error
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


def server_credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that ask every peer for a certificate of the same CA.

    Raises:
        InvalidError: a file cannot be read.
    """
    return grpc.ssl_server_credentials(
        [(_read(tls.key), _read(tls.cert))],
        root_certificates=_read(tls.ca),
        require_client_auth=True,
    )


def channel_credentials(tls: TlsFiles) -> grpc.ChannelCredentials:
    """Return credentials for calls to other managers.

    Raises:
        InvalidError: a file cannot be read.
    """
    return grpc.ssl_channel_credentials(_read(tls.ca), _read(tls.key), _read(tls.cert))


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidError(f"cannot read {path}: {error.strerror}") from error
