"""Connections to managers: to the first of several endpoints that really answers.

The endpoints are tried in turn, the next one as soon as one has failed or has not answered for a
moment; whichever is ready first is taken. "Ready" means that HTTP/2 answers, so a manager that
hangs, whose kernel still accepts connections, does not pass.
"""

import queue
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from cluster.api.v1.control_pb2_grpc import ControlStub
from cluster.clock import Clock
from cluster.errors import InvalidError, UnavailableError
from clusterctl.settings import Target, TlsPaths

# A manager on the same continent answers within a tenth of this.
CONNECT_SECONDS = 1.0

# When the next endpoint is tried beside one that has not answered yet.
STAGGER_SECONDS = 0.25

# Only to say why an endpoint did not answer, after all have failed.
PROBE_SECONDS = 0.3

# The latest that were learnt of; a cluster has five managers at most, but addresses change.
ENDPOINTS_MAX = 32

MESSAGE_BYTES_MAX = 512 * 1024**2  # a snapshot of a million tasks

OPTIONS: Sequence[tuple[str, int]] = (
    # Without the first of these a peer that hangs is noticed after more than a minute.
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.enable_retries", 0),  # what may be sent twice is decided in ``calls``
    ("grpc.use_local_subchannel_pool", 1),  # no back-off left over from an earlier attempt
    ("grpc.enable_http_proxy", 0),  # managers are inside; proxies are for what is outside
)


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """A channel to one manager that has answered."""

    endpoint: str
    channel: grpc.Channel
    stub: ControlStub


class Connector:
    """Opens connections; knows the endpoints, and those that are learnt of later."""

    def __init__(self, target: Target, clock: Clock) -> None:
        self._endpoints = list(target.endpoints)
        self._given = target.endpoints
        self._origin = target.origin
        self._credentials = _credentials(target.tls) if target.tls else None
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def endpoints(self) -> Sequence[str]:
        return tuple(self._endpoints)

    def learn(self, endpoints: Sequence[str]) -> None:
        """Add endpoints to be tried after those that were given."""
        with self._lock:
            learnt = [each for each in (*endpoints, *self._endpoints) if each not in self._given]
            self._endpoints = [*self._given, *dict.fromkeys(learnt)][:ENDPOINTS_MAX]

    def connect(self, after: str = "") -> Connection:
        """Return a connection to the first endpoint that answers.

        Args:
            after: the endpoint to try last, because it has just failed.

        Raises:
            UnavailableError: none answers; names them all, with the reasons.
        """
        with self._lock:
            order = [endpoint for endpoint in self._endpoints if endpoint != after]
            if after in self._endpoints:
                order.append(after)
        return self._race(order)

    def _race(self, waiting: list[str]) -> Connection:
        events: queue.SimpleQueue[tuple[str, grpc.ChannelConnectivity]] = queue.SimpleQueue()
        running: dict[str, tuple[grpc.Channel, float]] = {}  # with when it is given up
        failures: dict[str, str] = {}
        next_start = self._clock.monotonic()
        try:
            while waiting or running:
                now = self._clock.monotonic()
                if waiting and (now >= next_start or not running):
                    endpoint = waiting.pop(0)
                    running[endpoint] = (self._open(endpoint, events), now + CONNECT_SECONDS)
                    next_start = now + STAGGER_SECONDS
                    continue
                ends = [end for _, end in running.values()]
                until = min([*ends, next_start] if waiting else ends)
                try:
                    endpoint, state = events.get(timeout=max(0.0, until - now))
                except queue.Empty:
                    now = self._clock.monotonic()
                    for late in [name for name, (_, end) in running.items() if end <= now]:
                        running.pop(late)[0].close()
                        failures[late] = f"no answer within {CONNECT_SECONDS:g}s"
                    continue
                if endpoint not in running:
                    continue
                if state is grpc.ChannelConnectivity.READY:
                    channel, _ = running.pop(endpoint)
                    return Connection(endpoint, channel, ControlStub(channel))
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    running.pop(endpoint)[0].close()
                    failures[endpoint] = self._probe(endpoint)
        finally:
            for channel, _ in running.values():
                channel.close()
        raise UnavailableError(self._nobody(failures))

    def _open(
        self, endpoint: str, events: "queue.SimpleQueue[tuple[str, grpc.ChannelConnectivity]]"
    ) -> grpc.Channel:
        options = list(OPTIONS)
        if self._credentials is None:
            channel = grpc.insecure_channel(endpoint, options)
        else:
            channel = grpc.secure_channel(endpoint, self._credentials, options)
        channel.subscribe(lambda state: events.put((endpoint, state)), try_to_connect=True)
        return channel

    def _probe(self, endpoint: str) -> str:
        """Return why an endpoint failed, which gRPC does not tell."""
        host, _, port = endpoint.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()
        except TimeoutError:
            return "no answer"
        except OSError as error:
            return (error.strerror or str(error)).lower()
        if self._credentials is not None:
            return "no TLS, or certificates that do not match"
        return "something answers, but no manager without TLS"

    def _nobody(self, failures: dict[str, str]) -> str:
        reasons = ", ".join(f"{endpoint} ({failures[endpoint]})" for endpoint in failures)
        source = f" of {self._origin}" if self._origin else ""
        return (
            f"no manager answers at {reasons}{source}; is it running? `--endpoint` names others, "
            "`clusterctl dev up` starts a cluster here"
        )


def _credentials(tls: TlsPaths) -> grpc.ChannelCredentials:
    def content(path: str) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise InvalidError(f"cannot read the TLS file {path}: {error.strerror}") from error

    return grpc.ssl_channel_credentials(content(tls.ca), content(tls.key), content(tls.cert))
