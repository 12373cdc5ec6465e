"""The simulator's gRPC behaves as grpc.aio does, in all that the project leans on."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Self, cast

import grpc
import pytest
from grpc import aio

from tests.simulator.loop import Process, SimulatorLoop
from tests.simulator.network import Network
from tests.simulator.rpc import Wire

SECONDS_MAX = 20.0
SERVICE = "test.Service"

Scenario = Callable[["Pair"], Coroutine[Any, Any, None]]


class Servicer:
    """Does little, and notes what becomes of its calls."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.heard: list[bytes] = []
        self.half_closed = asyncio.Event()

    async def echo(self, request: bytes, _: Any) -> bytes:
        return request

    async def refuse(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        return request

    async def break_down(self, request: bytes, _: Any) -> bytes:
        raise ValueError(request)

    async def hang(self, request: bytes, _: Any) -> bytes:
        await self._never()
        return request

    async def count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield str(number).encode()
        if int(request) > 2:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "cannot count further")

    async def trickle(self, request: bytes, _: Any) -> AsyncIterator[bytes]:
        yield request
        await self._never()

    async def collect(self, requests: AsyncIterator[bytes], _: Any) -> bytes:
        self.heard = [request async for request in requests]
        self.half_closed.set()
        return b"".join(self.heard)

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            if request == b"go away":
                await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
            yield request.upper()

    async def _never(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def handler(self) -> grpc.GenericRpcHandler:
        kinds = {
            grpc.unary_unary_rpc_method_handler: ("echo", "refuse", "break_down", "hang"),
            grpc.unary_stream_rpc_method_handler: ("count", "trickle"),
            grpc.stream_unary_rpc_method_handler: ("collect",),
            grpc.stream_stream_rpc_method_handler: ("chat",),
        }
        handlers = {
            name: kind(getattr(self, name), _same, _same)
            for kind, names in kinds.items()
            for name in names
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _same(value: bytes) -> bytes:
    return value


class Pair:
    """A server and a channel to it."""

    def __init__(self, server: aio.Server, channel: aio.Channel, lost: aio.Channel) -> None:
        self.servicer = Servicer()
        self.server = server
        self.channel = channel
        self.lost = lost  # leads nowhere

    async def __aenter__(self) -> Self:
        self.server.add_generic_rpc_handlers((self.servicer.handler(),))
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        await self.lost.close()
        await self.server.stop(None)

    def call(self, kind: str, name: str, channel: aio.Channel | None = None) -> Any:
        make = getattr(channel or self.channel, kind)
        return make(f"/{SERVICE}/{name}", _same, _same)


async def _real() -> Pair:
    server = aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nowhere = probe.getsockname()[1]
    return Pair(
        server,
        aio.insecure_channel(f"127.0.0.1:{port}"),
        aio.insecure_channel(f"127.0.0.1:{nowhere}"),
    )


def _run_real(scenario: Scenario) -> None:
    async def main() -> None:
        async with asyncio.timeout(SECONDS_MAX), await _real() as pair:
            await scenario(pair)

    asyncio.run(main())


def _run_simulated(scenario: Scenario, *, copies: bool = False) -> None:
    loop = SimulatorLoop()  # type: ignore[abstract]
    network = Network(loop, random.Random(1))

    async def main() -> None:
        wires = [
            Wire(loop, network, Process(name), name, copies=copies) for name in ("server", "client")
        ]
        server, _ = wires[0].bound_server("server:1")
        pair = Pair(
            cast(aio.Server, server),
            cast(aio.Channel, wires[1].channel("server:1")),
            cast(aio.Channel, wires[1].channel("server:2")),
        )
        async with asyncio.timeout(SECONDS_MAX), pair:
            await scenario(pair)

    loop.run(main())
    assert not loop.failures


RUNS: dict[str, Callable[[Scenario], None]] = {
    "grpc": _run_real,
    "simulated": _run_simulated,
    "simulated, encoded": lambda scenario: _run_simulated(scenario, copies=True),
}


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    return RUNS[request.param]


async def failure(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


def test_a_call_is_answered(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        assert await pair.call("unary_unary", "echo")(b"hello") == b"hello"
        call = pair.call("unary_unary", "echo")(b"again")
        assert await call == b"again"
        assert call.done()
        assert await call.code() is grpc.StatusCode.OK
        assert not call.cancel()

    run(scenario)


def test_a_refusal_comes_as_its_code_and_words(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        found = await failure(pair.call("unary_unary", "refuse")(b""))
        assert found == (grpc.StatusCode.NOT_FOUND, "no such thing")
        code, _ = await failure(pair.call("unary_unary", "unheard_of")(b""))
        assert code is grpc.StatusCode.UNIMPLEMENTED

    run(scenario)


def test_a_defect_of_the_server_is_an_unknown_error(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        code, _ = await failure(pair.call("unary_unary", "break_down")(b"bad"))
        assert code is grpc.StatusCode.UNKNOWN

    run(scenario)


def test_a_deadline_ends_both_sides(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        code, _ = await failure(pair.call("unary_unary", "hang")(b"", timeout=0.2))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        await pair.servicer.cancelled.wait()

    run(scenario)


def test_a_cancelled_call_ends_both_sides(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        call = pair.call("unary_stream", "trickle")(b"drop")
        assert await call.read() == b"drop"
        assert call.cancel()
        assert call.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await call.read()
        await pair.servicer.cancelled.wait()

    run(scenario)


def test_who_is_cancelled_while_reading_cancels_the_call(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        call = pair.call("unary_stream", "trickle")(b"drop")
        assert await call.read() == b"drop"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await call.read()
        assert call.cancelled()
        await pair.servicer.cancelled.wait()

    run(scenario)


def test_a_stream_is_read_to_its_end(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        call = pair.call("unary_stream", "count")(b"2")
        assert [await call.read(), await call.read()] == [b"0", b"1"]
        assert await call.read() is aio.EOF
        assert await call.read() is aio.EOF
        assert [one async for one in pair.call("unary_stream", "count")(b"2")] == [b"0", b"1"]

    run(scenario)


def test_a_stream_that_fails_says_why_after_its_messages(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        call = pair.call("unary_stream", "count")(b"3")
        seen = []
        for _ in range(3):
            await asyncio.sleep(0.1)
            seen.append(await call.read())
        assert seen == [b"0", b"1", b"2"]
        assert (await failure(call.read()))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(scenario)


def test_requests_are_streamed_until_the_client_is_done(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        call = pair.call("stream_unary", "collect")()
        for word in (b"a", b"b", b"c"):
            await call.write(word)
        assert not pair.servicer.half_closed.is_set()
        await call.done_writing()
        assert await call == b"abc"
        assert pair.servicer.heard == [b"a", b"b", b"c"]

    run(scenario)


def test_two_streams_go_side_by_side_until_one_ends(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        call = pair.call("stream_stream", "chat")()
        await call.write(b"hello")
        assert await call.read() == b"HELLO"
        await call.write(b"go away")
        assert (await failure(call.read())) == (grpc.StatusCode.NOT_FOUND, "gone")
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"more")
        assert (await failure(call.read()))[0] is grpc.StatusCode.NOT_FOUND

    run(scenario)


def test_a_channel_tells_whether_it_is_connected(run: Callable[[Scenario], None]) -> None:
    async def settled(channel: aio.Channel) -> grpc.ChannelConnectivity:
        state = channel.get_state(try_to_connect=True)
        while state in (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING):
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)
        return state

    async def scenario(pair: Pair) -> None:
        assert pair.channel.get_state() is grpc.ChannelConnectivity.IDLE
        assert await settled(pair.channel) is grpc.ChannelConnectivity.READY
        assert await settled(pair.lost) is grpc.ChannelConnectivity.TRANSIENT_FAILURE

    run(scenario)


def test_a_call_to_nobody_is_unavailable(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        for _ in range(2):
            code, _ = await failure(pair.call("unary_unary", "echo", pair.lost)(b""))
            assert code is grpc.StatusCode.UNAVAILABLE
        call = pair.call("stream_stream", "chat", pair.lost)()
        with pytest.raises((aio.AioRpcError, asyncio.InvalidStateError)):
            await call.write(b"hello")

    run(scenario)


def test_a_server_that_stops_ends_its_streams(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        call = pair.call("unary_stream", "trickle")(b"drop")
        assert await call.read() == b"drop"
        await pair.server.stop(0)
        code, _ = await failure(call.read())  # which of them, is a matter of who is quicker
        assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        await pair.servicer.cancelled.wait()
        code, _ = await failure(pair.call("unary_unary", "echo")(b""))
        assert code is grpc.StatusCode.UNAVAILABLE

    run(scenario)


def test_a_channel_that_is_closed_cancels_its_calls(run: Callable[[Scenario], None]) -> None:
    async def scenario(pair: Pair) -> None:
        call = pair.call("unary_stream", "trickle")(b"drop")
        assert await call.read() == b"drop"
        await pair.channel.close()
        assert call.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await call.read()
        await pair.servicer.cancelled.wait()
        with pytest.raises(aio.UsageError):
            pair.call("unary_unary", "echo")(b"")

    run(scenario)
