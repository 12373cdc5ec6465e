"""What carries calls to and from a manager: whom it trusts, and how a dead peer is noticed."""

from pathlib import Path
from typing import Protocol

import grpc
from grpc import aio

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

SERVER_OPTIONS = (
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

# Of channels to other managers.
CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", PING_MILLISECONDS),
    ("grpc.keepalive_timeout_ms", PING_ANSWER_MILLISECONDS),
    ("grpc.http2.ping_timeout_ms", PING_ANSWER_MILLISECONDS),
    ("grpc.max_receive_message_length", SEND_BYTES_MAX),
    ("grpc.enable_http_proxy", 0),  # managers are inside; proxies are for what is outside
)


class Transport(Protocol):
    """Makes the two ends of connections."""

    def bound_server(self, listen: str) -> tuple[aio.Server, int]:
        """Return a server bound to *listen* ("host:port"), and its port; port 0 takes any free.

        Raises:
            InvalidError: the address cannot be bound, or a TLS file cannot be read.
        """

    def channel(self, address: str) -> aio.Channel:
        """Return a channel to another manager; it connects when first used."""


class GrpcTransport:
    """gRPC over TCP, with TLS if there are files for it."""

    def __init__(self, tls: TlsFiles | None) -> None:
        """Read the files.

        Raises:
            InvalidError: one cannot be read.
        """
        self._server = server_credentials(tls) if tls else None
        self._channel = channel_credentials(tls) if tls else None

    def bound_server(self, listen: str) -> tuple[aio.Server, int]:
        server = aio.server(options=SERVER_OPTIONS)
        try:
            if self._server is None:
                return server, server.add_insecure_port(listen)
            return server, server.add_secure_port(listen, self._server)
        except RuntimeError as error:
            raise InvalidError(f"cannot listen on {listen}: is the port in use?") from error

    def channel(self, address: str) -> aio.Channel:
        if self._channel is None:
            return aio.insecure_channel(address, CHANNEL_OPTIONS)
        return aio.secure_channel(address, self._channel, CHANNEL_OPTIONS)


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
