"""One member of etcd as this client sees it: an address, a connection, calls and streams.

Rule: nothing of grpc's leaves this module but its status codes' verdict. A call either
answers, or raises a ``ClusterError`` that is etcd's own refusal, or a ``CallFailedError`` that
says what is known of its effect.
"""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from cluster.errors import ClusterError, InvalidError
from manager.store.etcd.wire import Outcome, refusal

Ask = TypeVar("Ask", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Metadata = Sequence[tuple[str, str]]

# A ping at this distance while a call or a watch is open; etcd refuses more than one in 5 s.
PING_MILLISECONDS = 6_000

# A peer that leaves a ping unanswered so long hangs. Both options are needed: by the first alone
# a stopped process was noticed after more than a minute.
PING_ANSWER_MILLISECONDS = 2_000

# One attempt to connect, then the pause before the next, grown up to this. Both short: a member
# that comes back should be used soon, and there are only a handful of members and managers.
CONNECT_MILLISECONDS = 1_000
RECONNECT_MILLISECONDS = (100, 1_000)

CHANNEL_OPTIONS: list[tuple[str, int]] = [
    ("grpc.keepalive_time_ms", PING_MILLISECONDS),
    ("grpc.keepalive_timeout_ms", PING_ANSWER_MILLISECONDS),
    ("grpc.http2.ping_timeout_ms", PING_ANSWER_MILLISECONDS),
    # Pings on a connection without calls make etcd hang up; the open watch keeps them legal.
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    # This one is the time that a connection attempt gets, whatever its name.
    ("grpc.min_reconnect_backoff_ms", CONNECT_MILLISECONDS),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MILLISECONDS[0]),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MILLISECONDS[1]),
    # A page of a listing or a batch of a watch may be large, and comes from our own store.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Whether a call may be tried again is decided here, by its meaning.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    # An HTTP proxy of the environment is not for the cluster's own store.
    ("grpc.enable_http_proxy", 0),
    # No connection is shared with another client in this process.
    ("grpc.use_local_subchannel_pool", 1),
]


# There is no connection, and none comes at once.
DEAD = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the authority that signs etcd's certificates, and our own certificate."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None  # expected in etcd's certificate instead of the address

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            InvalidError: one cannot be read, or a certificate comes without its key.
        """
        if (self.cert is None) != (self.key is None):
            raise InvalidError("TLS to etcd needs both a certificate and its key, or neither")
        try:
            return grpc.ssl_channel_credentials(
                root_certificates=self.ca.read_bytes(),
                private_key=self.key.read_bytes() if self.key else None,
                certificate_chain=self.cert.read_bytes() if self.cert else None,
            )
        except OSError as error:
            raise InvalidError(f"TLS to etcd: {error}") from error


@dataclass(frozen=True, slots=True)
class Method(Generic[Ask, Answer]):
    """A method of etcd's API, by its path."""

    path: str
    answer: type[Answer]


class CallFailedError(Exception):
    """A call brought no verdict of etcd's; *outcome* says what is known of its effect."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class Stream(Generic[Ask, Answer]):
    """An open stream of asks and answers."""

    def __init__(self, address: str, call: "grpc.aio.StreamStreamCall[Ask, Answer]") -> None:
        self._address = address
        self._call = call

    async def write(self, ask: Ask) -> None:
        with _translated(self._address):
            await self._call.write(ask)

    async def read(self) -> Answer:
        """Return the next answer; a stream that ends is a call that failed."""
        with _translated(self._address):
            message: Any = await self._call.read()
        if message is grpc.aio.EOF:
            raise CallFailedError(Outcome.UNKNOWN, f"{self._address}: ended the stream")
        answer: Answer = message
        return answer


class Endpoint:
    """The connection to one member. It connects when it is used, and again when it is lost."""

    def __init__(self, address: str, tls: TlsFiles | None) -> None:
        self.address = address
        options: list[tuple[str, Any]] = list(CHANNEL_OPTIONS)
        if tls is None:
            self._channel = grpc.aio.insecure_channel(address, options)
        else:
            if tls.server_name is not None:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            self._channel = grpc.aio.secure_channel(address, tls.credentials(), options)
        self._methods: dict[str, Callable[..., Any]] = {}
        self._streams: set[Any] = set()

    async def connect(self, seconds: float) -> bool:
        """Return whether there is a connection, or comes to be one within *seconds*."""
        state = self._channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return True
        try:
            async with asyncio.timeout(seconds):
                while state is not grpc.ChannelConnectivity.READY:
                    if state in DEAD:
                        return False
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except (TimeoutError, grpc.aio.UsageError):
            return False
        return True

    async def call(
        self, method: Method[Ask, Answer], ask: Ask, metadata: Metadata, seconds: float
    ) -> Answer:
        """Ask once, and wait at most *seconds* for the answer.

        Raises:
            CallFailedError: what is known of the effect.
            ClusterError: etcd's own refusal.
        """
        with _translated(self.address):
            call = self._method(self._channel.unary_unary, method)
            answer: Answer = await call(ask, metadata=metadata, timeout=seconds)
            return answer

    @contextmanager
    def stream(
        self, method: Method[Ask, Answer], metadata: Metadata
    ) -> Generator[Stream[Ask, Answer], None, None]:
        """Open a stream for the time of the context."""
        with _translated(self.address):
            call = self._method(self._channel.stream_stream, method)(metadata=metadata)
        self._streams.add(call)
        try:
            yield Stream(self.address, call)
        finally:
            self._streams.discard(call)
            call.cancel()

    def hang_up(self) -> None:
        """End all streams, so that who reads them goes elsewhere."""
        for call in self._streams:
            call.cancel()

    async def aclose(self) -> None:
        self.hang_up()
        await self._channel.close()

    def _method(self, kind: Callable[..., Any], method: Method[Ask, Answer]) -> Callable[..., Any]:
        if method.path not in self._methods:
            self._methods[method.path] = kind(
                method.path,
                request_serializer=_serialized,
                response_deserializer=method.answer.FromString,
            )
        return self._methods[method.path]


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


@contextmanager
def _translated(address: str) -> Generator[None, None, None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        verdict = refusal(error.code(), error.details() or "")
        if isinstance(verdict, ClusterError):
            raise verdict from error
        reason = f"{address}: {error.code().name.lower()}: {error.details()}"
        raise CallFailedError(verdict, reason) from error
    except grpc.aio.UsageError as error:  # the channel is closed
        raise CallFailedError(Outcome.UNKNOWN, f"{address}: {error}") from error
    except asyncio.CancelledError:
        # grpc says so too of a call that was hung up here, without anyone cancelling our task.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise CallFailedError(Outcome.UNKNOWN, f"{address}: hung up") from None
