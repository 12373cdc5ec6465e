"""Connections to managers: to the first of several endpoints that really answers.

The endpoints are asked for their health in turn, the next one as soon as one has failed or has
not answered for a moment; whichever answers first is taken. So a manager that hangs, whose kernel
still accepts connections, does not pass, nor one that is about to stop.
"""

import queue
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from cluster.api.v1.control_pb2_grpc import ControlStub
from cluster.clock import Clock
from cluster.errors import InvalidError, UnavailableError
from clusterctl.settings import Target, TlsPaths

# A manager on the same continent answers within a thirtieth of this; one that has just been given
# ten thousand tasks on a small machine may take a second or two.
CONNECT_SECONDS = 3.0

# When the next endpoint is tried beside one that has not answered yet.
STAGGER_SECONDS = 0.25

# The standard health service; asked without a name it speaks for the whole manager.
HEALTH = "/grpc.health.v1.Health/Check"
NOT_SERVING = b"\x08\x02"  # the answer's field 1, status, is 2

# The latest that were learnt of; a cluster has five managers at most, but addresses change.
ENDPOINTS_MAX = 32

_SOCKET_ERROR = re.compile(r"(Connection refused|No route to host|[A-Z][a-z]+ unreachable)")

MESSAGE_BYTES_MAX = 512 * 1024**2  # a snapshot of a million tasks

OPTIONS: Sequence[tuple[str, int]] = (
    # Without the first of these a peer that hangs is noticed after more than a minute.
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.keepalive_time_ms", 3_000),
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
        answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        running: dict[str, grpc.Channel] = {}
        failures: dict[str, str] = {}
        next_start = self._clock.monotonic()
        try:
            while waiting or running:
                now = self._clock.monotonic()
                if waiting and (now >= next_start or not running):
                    endpoint = waiting.pop(0)
                    running[endpoint] = self._ask(endpoint, answers)
                    next_start = now + STAGGER_SECONDS
                    continue
                try:
                    endpoint, trouble = answers.get(
                        timeout=next_start - now if waiting else CONNECT_SECONDS + 1
                    )
                except queue.Empty:
                    continue
                channel = running.pop(endpoint)
                if not trouble:
                    return Connection(endpoint, channel, ControlStub(channel))
                channel.close()
                failures[endpoint] = trouble
        finally:
            for channel in running.values():
                channel.close()
        raise UnavailableError(self._nobody(failures))

    def _ask(self, endpoint: str, answers: "queue.SimpleQueue[tuple[str, str]]") -> grpc.Channel:
        """Open a channel; what is wrong with it, or nothing, comes to *answers* in a moment."""
        options = list(OPTIONS)
        if self._credentials is None:
            channel = grpc.insecure_channel(endpoint, options)
        else:
            channel = grpc.secure_channel(endpoint, self._credentials, options)
        health: Any = channel.unary_unary(HEALTH)
        check = health.future(b"", timeout=CONNECT_SECONDS)
        check.add_done_callback(lambda done: answers.put((endpoint, _trouble(done))))
        return channel

    def _nobody(self, failures: dict[str, str]) -> str:
        reasons = ", ".join(f"{endpoint} ({failures[endpoint]})" for endpoint in failures)
        source = f" of {self._origin}" if self._origin else ""
        return (
            f"no manager answers at {reasons}{source}; is it running? `--endpoint` names others, "
            "`clusterctl dev up` starts a cluster here"
        )


def _trouble(check: Any) -> str:
    """Return what a health check found wrong; empty if the manager answered and serves."""
    if check.cancelled():
        return "given up"
    code = check.code()
    if code is grpc.StatusCode.OK:
        return "is stopping" if check.result() == NOT_SERVING else ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer within {CONNECT_SECONDS:g}s"
    if code is not grpc.StatusCode.UNAVAILABLE:
        return ""  # it answered; what it thinks of us it will say to the real question
    details = check.details() or ""
    if found := _SOCKET_ERROR.search(details):
        return found[1].lower()
    if "handshake" in details or "SSL" in details or "certificate" in details.lower():
        return "TLS is refused: see --tls-ca, --tls-cert and --tls-key"
    reason = details.rpartition(": ")[2].rstrip("]").lower()
    if reason == "socket closed":
        return "it closes the connection: does it want TLS, or another certificate?"
    return reason or "unavailable"


def _credentials(tls: TlsPaths) -> grpc.ChannelCredentials:
    def content(path: str) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise InvalidError(f"cannot read the TLS file {path}: {error.strerror}") from error

    return grpc.ssl_channel_credentials(content(tls.ca), content(tls.key), content(tls.cert))
