"""gRPC in memory: channels and servers that the generated code takes for those of ``grpc.aio``.

Held to the real ones by ``tests/contract/test_rpc.py``, as far as the project uses them. Messages
are handed over as they are: what is sent is not changed afterwards. ``copies`` makes the wire
encode and decode them, which proves that.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from types import SimpleNamespace
from typing import Any

import grpc
from grpc import aio

from tests.simulator.loop import Process, SimulatorLoop
from tests.simulator.network import Connection, End, Flow, Network

OK = grpc.StatusCode.OK

# After a connection could not be made, calls are refused at once for so long.
BACKOFF_SECONDS = 1.0

Status = tuple[grpc.StatusCode, str]


class Wire:
    """What one process sends and receives calls over.

    Attributes:
        copies: encode and decode every message.
    """

    def __init__(
        self, loop: SimulatorLoop, network: Network, process: Process, host: str, *, copies: bool
    ) -> None:
        self.loop = loop
        self.network = network
        self.process = process
        self.host = host
        self.copies = copies

    def channel(self, address: str) -> "Channel":
        return Channel(self, address)

    def dial(self, address: str) -> "Channel":
        return Channel(self, address)

    def bound_server(self, listen: str) -> tuple["Server", int]:
        return Server(self, listen), int(listen.rpartition(":")[2])


# --- the client's side ----------------------------------------------------------------------------


class Channel:
    """Stands in for ``aio.Channel``."""

    def __init__(self, wire: Wire, address: str) -> None:
        self.wire = wire
        self._address = address
        self._state = grpc.ChannelConnectivity.IDLE
        self._connection: Connection | None = None
        self._end: End | None = None
        self._calls: dict[Call, None] = {}  # that are open, or wait for the connection
        self._failed_at = float("-inf")
        self._failure = ""
        self._waiters: list[asyncio.Future[None]] = []

    def unary_unary(self, method: str, *codecs: Any, **more: Any) -> Callable[..., "Call"]:
        return self._method(method, UnaryUnaryCall, *codecs, **more)

    def unary_stream(self, method: str, *codecs: Any, **more: Any) -> Callable[..., "Call"]:
        return self._method(method, UnaryStreamCall, *codecs, **more)

    def stream_unary(self, method: str, *codecs: Any, **more: Any) -> Callable[..., "Call"]:
        return self._method(method, StreamUnaryCall, *codecs, **more)

    def stream_stream(self, method: str, *codecs: Any, **more: Any) -> Callable[..., "Call"]:
        return self._method(method, StreamStreamCall, *codecs, **more)

    def _method(
        self,
        method: str,
        kind: type["Call"],
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_: Any,
    ) -> Callable[..., "Call"]:
        def call(request: Any = None, *, timeout: float | None = None, **_: Any) -> Call:
            return kind(self, method, request, timeout, request_serializer, response_deserializer)

        return call

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        if try_to_connect and self._state is grpc.ChannelConnectivity.IDLE:
            self._connect()
        return self._state

    async def wait_for_state_change(self, last: grpc.ChannelConnectivity) -> None:
        while self._state is last:
            waiter = self.wire.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    async def close(self, grace: float | None = None) -> None:
        self._set(grpc.ChannelConnectivity.SHUTDOWN)
        for call in list(self._calls):
            call.cancel()
        self._hang_up()

    # --- for calls ---

    def begin(self, call: "Call") -> None:
        match self._state:
            case grpc.ChannelConnectivity.SHUTDOWN:
                raise aio.UsageError("Channel is closed.")
            case grpc.ChannelConnectivity.READY:
                self._calls[call] = None
                assert self._connection is not None
                assert self._end is not None
                call.opened(self._connection, self._end)
            case grpc.ChannelConnectivity.TRANSIENT_FAILURE if (
                self.wire.loop.now < self._failed_at + BACKOFF_SECONDS
            ):
                call.finish(grpc.StatusCode.UNAVAILABLE, self._failure)
            case _:
                self._calls[call] = None
                if self._state is not grpc.ChannelConnectivity.CONNECTING:
                    self._connect()

    def ended(self, call: "Call") -> None:
        self._calls.pop(call, None)

    # --- the connection ---

    def _connect(self) -> None:
        self._set(grpc.ChannelConnectivity.CONNECTING)
        self._end = End(self.wire.process, self.wire.host)
        self._end.peer = self
        self.wire.network.connect(self._address, self._end, self._connected, self._failed)

    def _connected(self, connection: Connection) -> None:
        self._connection = connection
        self._set(grpc.ChannelConnectivity.READY)
        for call in list(self._calls):
            call.opened(connection, connection.client)

    def _failed(self, why: str) -> None:
        if self._state is not grpc.ChannelConnectivity.CONNECTING:
            return
        self._failed_at = self.wire.loop.now
        self._failure = f"failed to connect to {self._address}: {why}"
        self._set(grpc.ChannelConnectivity.TRANSIENT_FAILURE)
        self._fail_calls(self._failure)

    def lost(self, why: str) -> None:
        """See ``network.Peer``."""
        self._connection = None
        if self._state is not grpc.ChannelConnectivity.SHUTDOWN:
            self._set(grpc.ChannelConnectivity.IDLE)
        self._fail_calls(why)

    def _fail_calls(self, why: str) -> None:
        for call in list(self._calls):
            call.finish(grpc.StatusCode.UNAVAILABLE, why)

    def _hang_up(self) -> None:
        if self._connection is not None and self._end is not None:
            self._connection.close(self._end, "channel closed")
            self._connection = None
        elif self._end is not None:
            self._end.is_open = False

    def _set(self, state: grpc.ChannelConnectivity) -> None:
        self._state = state
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Call:
    """One call as its client sees it; kinds of calls mix in what they offer."""

    streams_requests = False

    def __init__(
        self,
        channel: Channel,
        method: str,
        request: Any,
        timeout: float | None,
        encode: Callable[[Any], bytes],
        decode: Callable[[bytes], Any],
    ) -> None:
        self.method = method
        self._channel = channel
        self._loop = channel.wire.loop
        self._request = request
        self._encode = encode
        self._decode = decode
        self._copies = channel.wire.copies
        self._status: Status | None = None
        self._ending: Status | None = None  # has come, after messages that are still to be read
        self._cancelled = False
        self._inbox: deque[Any] = deque()
        self._outbox: list[Any] = []  # before there is a connection
        self._flow = Flow()
        self._connection: Connection | None = None
        self._end: End | None = None
        self._served: ServedCall | None = None
        self._half_closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._open_waiter: asyncio.Future[None] | None = None
        self._deadline = None
        if timeout is not None:
            self._deadline = self._loop.call_later(timeout, self._expire)
        channel.begin(self)

    # --- what grpc.aio.Call offers ---

    def cancel(self) -> bool:
        if self.done():
            return False
        self._cancelled = True
        self._tell_of_end()
        self.finish(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
        return True

    def cancelled(self) -> bool:
        return self._status is not None and self._status[0] is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._status is not None

    async def code(self) -> grpc.StatusCode:
        await self._finished()
        assert self._status is not None
        return self._status[0]

    async def details(self) -> str:
        await self._finished()
        assert self._status is not None
        return self._status[1]

    # --- between the two sides ---

    def opened(self, connection: Connection, end: End) -> None:
        """Go out: there is a connection."""
        self._connection, self._end = connection, end
        server = connection.server.peer
        assert isinstance(server, ServedConnection)
        request = None if self.streams_requests else self._encoded(self._request)
        connection.send(end, self._flow, server.called, self, request)
        if self._open_waiter is not None and not self._open_waiter.done():
            self._open_waiter.set_result(None)

    def taken(self, served: "ServedCall") -> None:
        """Know the other side; called when it comes to be, which our messages come after."""
        self._served = served

    def received(self, message: Any) -> None:
        if self._status is None:
            self._inbox.append(self._decode(message) if self._copies else message)
            self._wake()

    def ended_by_server(self, code: grpc.StatusCode, details: str) -> None:
        if self._status is not None:
            return
        if self._inbox:
            self._ending = code, details
            self._wake()
        else:
            self.finish(code, details)

    def finish(self, code: grpc.StatusCode, details: str) -> None:
        """End the call for its client, now."""
        if self._status is not None:
            return
        self._status = code, details
        if code is not OK:
            self._inbox.clear()
        self._channel.ended(self)
        if self._deadline is not None:
            self._deadline.cancel()
        self._wake()
        if self._open_waiter is not None and not self._open_waiter.done():
            self._open_waiter.set_result(None)

    def _expire(self) -> None:
        self._tell_of_end()
        self.finish(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _tell_of_end(self) -> None:
        if self._connection is not None and self._end is not None:
            self._connection.send(self._end, self._flow, self._abandon)

    def _abandon(self) -> None:
        if self._served is not None:
            self._served.cancelled_by_client()

    def _encoded(self, message: Any) -> Any:
        return self._encode(message) if self._copies else message

    # --- waiting ---

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _news(self) -> None:
        """Wait until something has come; cancelling that cancels the call."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self._waiter = None

    async def _finished(self) -> None:
        while self._status is None:
            await self._news()

    def _raise_for_status(self) -> None:
        assert self._status is not None
        if self._cancelled:
            raise asyncio.CancelledError
        if self._status[0] is not OK:
            raise _error(self._status)

    async def _read(self) -> Any:
        while True:
            if self._inbox:
                message = self._inbox.popleft()
                if self._ending is not None and not self._inbox:
                    self.finish(*self._ending)
                return message
            if self._status is not None:
                self._raise_for_status()
                return aio.EOF
            await self._news()

    async def _write(self, message: Any) -> None:
        if self.done():
            raise asyncio.InvalidStateError("RPC already finished.")
        if self._half_closed:
            raise asyncio.InvalidStateError('RPC is half closed after calling "done_writing".')
        while self._connection is None:
            await self._opening()
            if self.done():
                self._raise_for_status()
        self._send(self._encoded(message))

    def _send(self, message: Any) -> None:
        assert self._connection is not None
        assert self._end is not None
        served = self._served
        deliver = self._pass_on if served is None else served.received
        self._connection.send(self._end, self._flow, deliver, message)

    def _pass_on(self, message: Any) -> None:
        if self._served is not None:
            self._served.received(message)

    async def _opening(self) -> None:
        self._open_waiter = self._loop.create_future()
        try:
            await self._open_waiter
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self._open_waiter = None

    async def _done_writing(self) -> None:
        if self.done() or self._half_closed:
            return
        self._half_closed = True
        while self._connection is None and not self.done():
            await self._opening()
        if not self.done():
            self._send(aio.EOF)

    async def _response(self) -> Any:
        message = await self._read()
        if message is aio.EOF:
            raise _error((grpc.StatusCode.INTERNAL, "the server sent no message"))
        await self._finished()
        self._raise_for_status()
        return message


def _error(status: Status) -> aio.AioRpcError:
    return aio.AioRpcError(status[0], aio.Metadata(), aio.Metadata(), details=status[1])


class UnaryUnaryCall(Call):
    def __await__(self) -> Generator[Any, None, Any]:
        return self._response().__await__()


class UnaryStreamCall(Call):
    async def read(self) -> Any:
        return await self._read()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self._read()) is not aio.EOF:
            yield message


class StreamUnaryCall(Call):
    streams_requests = True

    async def write(self, message: Any) -> None:
        await self._write(message)

    async def done_writing(self) -> None:
        await self._done_writing()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._response().__await__()


class StreamStreamCall(Call):
    streams_requests = True

    async def write(self, message: Any) -> None:
        await self._write(message)

    async def done_writing(self) -> None:
        await self._done_writing()

    async def read(self) -> Any:
        return await self._read()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self._read()) is not aio.EOF:
            yield message


# --- the server's side ----------------------------------------------------------------------------


class Server:
    """Stands in for ``aio.Server``."""

    def __init__(self, wire: Wire, listen: str) -> None:
        self.wire = wire
        self.process = wire.process
        self.host = wire.host
        self._address = listen
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._found: dict[str, Any] = {}
        self._connections: dict[ServedConnection, None] = {}
        self._stopped = False
        self.failures: list[tuple[str, BaseException]] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._handlers += handlers

    def add_registered_method_handlers(self, *_: object) -> None:
        """Leave them out: the generic ones serve the same methods."""

    async def start(self) -> None:
        self.wire.network.listen(self._address, self)

    async def stop(self, grace: float | None) -> None:
        self._stopped = True
        self.wire.network.unlisten(self._address, self)
        serving = [call.task for each in self._connections for call in each.calls]
        running = [task for task in serving if task is not None and not task.done()]
        if running and grace:
            await asyncio.wait(running, timeout=grace)
        for connection in list(self._connections):
            connection.close("server stopped")

    # --- inside ---

    def accepted(self, connection: Connection) -> "ServedConnection":
        served = ServedConnection(self, connection)
        self._connections[served] = None
        return served

    def forget(self, connection: "ServedConnection") -> None:
        self._connections.pop(connection, None)

    @property
    def is_stopped(self) -> bool:
        return self._stopped

    def handler(self, method: str) -> Any:
        if method not in self._found:
            details = SimpleNamespace(method=method, invocation_metadata=())
            found = (handler.service(details) for handler in self._handlers)
            self._found[method] = next((each for each in found if each is not None), None)
        return self._found[method]


class ServedConnection:
    """A server's end of a connection."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self.server = server
        self.connection = connection
        self.calls: dict[ServedCall, None] = {}

    def called(self, call: Call, request: Any) -> None:
        served = ServedCall(self, call)
        call.taken(served)
        handler = self.server.handler(call.method)
        if self.server.is_stopped:
            served.refuse(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        elif handler is None:
            served.refuse(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        else:
            self.calls[served] = None
            served.begin(handler, request)

    def lost(self, why: str) -> None:
        """See ``network.Peer``."""
        self.server.forget(self)
        for call in list(self.calls):
            call.cancelled_by_client()

    def close(self, why: str) -> None:
        self.connection.close(self.connection.server, why)
        self.lost(why)


class ServedCall:
    """One call as its server sees it."""

    def __init__(self, connection: ServedConnection, call: Call) -> None:
        self._served_by = connection
        self._connection = connection.connection
        self._loop = connection.server.wire.loop
        self._copies = connection.server.wire.copies
        self._call = call
        self._flow = Flow()
        self._requests: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._handler: Any | None = None
        self.task: asyncio.Task[None] | None = None

    def begin(self, handler: Any, request: Any) -> None:
        self._handler = handler
        self.task = self._loop.start(self._served_by.server.process, self._run(handler, request))

    def refuse(self, code: grpc.StatusCode, details: str) -> None:
        self._send(self._call.ended_by_server, code, details)

    def received(self, message: Any) -> None:
        self._requests.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def cancelled_by_client(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def _run(self, handler: Any, request: Any) -> None:
        context = Context()
        code, details = OK, ""
        try:
            argument = self._iterate() if handler.request_streaming else self._decoded(request)
            if handler.response_streaming:
                method = handler.stream_stream or handler.unary_stream
                async for message in method(argument, context):
                    self._send(self._call.received, self._encoded(message))
            else:
                method = handler.stream_unary or handler.unary_unary
                message = await method(argument, context)
                self._send(self._call.received, self._encoded(message))
        except aio.AbortError:
            code, details = context.status
        except asyncio.CancelledError:
            code, details = grpc.StatusCode.CANCELLED, "CANCELLED"
        except Exception as error:  # noqa: BLE001 - as gRPC does
            code, details = grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}"
            self._served_by.server.failures.append((self._call.method, error))
        finally:
            self._served_by.calls.pop(self, None)
        self._send(self._call.ended_by_server, code, details)

    async def _iterate(self) -> AsyncIterator[Any]:
        while True:
            while not self._requests:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message = self._requests.popleft()
            if message is aio.EOF:
                return
            yield self._decoded(message)

    def _decoded(self, message: Any) -> Any:
        return self._codecs().request_deserializer(message) if self._copies else message

    def _encoded(self, message: Any) -> Any:
        return self._codecs().response_serializer(message) if self._copies else message

    def _codecs(self) -> Any:
        return self._handler

    def _send(self, deliver: Callable[..., None], *args: Any) -> None:
        self._connection.send(self._connection.server, self._flow, deliver, *args)


class Context:
    """Stands in for ``aio.ServicerContext``."""

    def __init__(self) -> None:
        self.status: Status = (OK, "")

    async def abort(self, code: grpc.StatusCode, details: str = "", *_: object) -> None:
        self.status = code, details
        raise aio.AbortError
