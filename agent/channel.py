"""gRPC channels to managers."""

from pathlib import Path

import grpc
from grpc import aio

from cluster.errors import InvalidError
from cluster.settings import TlsFiles

# A set of ten thousand assignments with their specs takes a few megabytes.
MESSAGE_BYTES_MAX = 64 * 1024 * 1024

WINDOW_BYTES = 1024 * 1024  # 20 MB/s from a manager that is 50 ms away

OPTIONS = (
    # A silent peer is found by pings even if no heartbeat is due. Without ping_timeout_ms that
    # took over a minute, whatever the keepalive time-out said.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    # Instead of measuring the line with pings whenever something comes in: see the manager's.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # Retries and the choice of a manager are ours, and each try is to be a fresh connection: a
    # shared one would wait out the back-off of the try before.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class Dialer:
    """Opens channels, with TLS if there are files for it."""

    def __init__(self, tls: TlsFiles | None) -> None:
        self._credentials = None if tls is None else _credentials(tls)

    def dial(self, address: str) -> aio.Channel:
        """Return a channel to *address*; it connects when first used."""
        if self._credentials is None:
            return aio.insecure_channel(address, options=OPTIONS)
        return aio.secure_channel(address, self._credentials, options=OPTIONS)


def _credentials(tls: TlsFiles) -> grpc.ChannelCredentials:
    try:
        ca, key, cert = (Path(path).read_bytes() for path in (tls.ca, tls.key, tls.cert))
    except OSError as error:
        raise InvalidError(f"cannot read {error.filename}: {error.strerror}") from error
    return grpc.ssl_channel_credentials(ca, key, cert)
