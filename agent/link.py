"""Keep a session with some manager, whatever becomes of managers, for ever."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NoReturn, Protocol

import grpc
from grpc import aio

from agent.channel import Dialer
from agent.managers import Managers
from agent.session import error_of
from cluster import codec
from cluster.api.v1 import dispatch_pb2 as pb
from cluster.api.v1 import types_pb2
from cluster.api.v1.dispatch_pb2_grpc import DispatchStub
from cluster.clock import Clock
from cluster.errors import ClusterError, UnavailableError
from cluster.model import ClusterId, NodeDescription, NodeId

if TYPE_CHECKING:  # it exists only for type checkers
    from cluster.api.v1.dispatch_pb2_grpc import DispatchAsyncStub

log = logging.getLogger(__name__)

CONNECT_SECONDS_MAX = 2.0  # a host that is up answers at once; one that is not, never
OPEN_SECONDS_MAX = 8.0  # the manager stores the session first and may wait for its store

SessionCall = aio.UnaryStreamCall[pb.SessionRequest, pb.SessionMessage]


class Speaker(Protocol):
    """What a link opens sessions for."""

    @property
    def cluster_id(self) -> ClusterId:
        """The cluster that the node belongs to; empty if none yet."""

    async def describe(self) -> NodeDescription:
        """Return the host's description, once the engine answers."""

    async def speak(
        self,
        description: NodeDescription,
        first: pb.SessionMessage,
        stub: "DispatchAsyncStub",
        call: SessionCall,
    ) -> NoReturn:
        """Use a session that was opened with *description*, until it ends.

        Raises:
            ClusterError: why it has ended.
        """


class Link:
    """Opens one session after the other."""

    def __init__(
        self,
        speaker: Speaker,
        node_id: NodeId,
        labels: Mapping[str, str],
        *,
        managers: Managers,
        dialer: Dialer,
        clock: Clock,
        tell: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._speaker = speaker
        self._node_id = node_id
        self._labels = dict(labels)
        self._managers = managers
        self._dialer = dialer
        self._clock = clock
        self._tell = tell
        self._sleep = sleep
        self._last_failure = ""

    async def run(self) -> NoReturn:
        """Hold a session for ever, with whatever manager will have it."""
        while True:
            self._tell("waits for Docker")
            description = await self._speaker.describe()
            address = self._managers.next()
            lasted_seconds = await self._attempt(address, description)
            await self._sleep(self._managers.ended(address, lasted_seconds))

    async def _attempt(self, address: str, description: NodeDescription) -> float:
        """Try one manager; return for how many seconds there was a session."""
        self._tell(f"waits for a manager: {self._last_failure or address}")
        channel = self._dialer.dial(address)
        opened_at = None
        try:
            await _settle(channel)
            stub = DispatchStub(channel)
            call = stub.Session(self._request(description))
            try:
                first = await _first_message(call)
                opened_at = self._clock.monotonic()
                log.info("has a session", extra={"manager": address, "session": first.session_id})
                self._last_failure = ""
                await self._speaker.speak(description, first, stub, call)
            finally:
                call.cancel()
        except (ClusterError, aio.AioRpcError) as error:
            self._note(address, error, was_open=opened_at is not None)
        finally:
            await channel.close()
        return 0.0 if opened_at is None else self._clock.monotonic() - opened_at

    def _request(self, description: NodeDescription) -> pb.SessionRequest:
        return pb.SessionRequest(
            node_id=self._node_id,
            description=codec.to_wire(description, types_pb2.NodeDescription),
            labels=self._labels,
            cluster_id=self._speaker.cluster_id,
        )

    def _note(self, address: str, error: Exception, *, was_open: bool) -> None:
        """Log why there is no session (any more), but not the same reason over and over."""
        if isinstance(error, aio.AioRpcError):
            error = error_of(error)
        failure = f"{address}: {error}"
        if was_open:
            log.warning("the session has ended", extra={"manager": address, "why": str(error)})
        elif failure != self._last_failure:
            log.warning("no session", extra={"manager": address, "why": str(error)})
        self._last_failure = failure


async def _settle(channel: aio.Channel) -> None:
    """Return when the channel is connected, or has failed to; the next call then says why.

    Raises:
        UnavailableError: neither happened in time.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            state = channel.get_state(try_to_connect=True)
            while state in (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING):
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        raise UnavailableError(f"no connection within {CONNECT_SECONDS_MAX:g} s") from None


async def _first_message(call: SessionCall) -> pb.SessionMessage:
    try:
        async with asyncio.timeout(OPEN_SECONDS_MAX):
            first = await call.read()
    except TimeoutError:
        raise UnavailableError(f"no session within {OPEN_SECONDS_MAX:g} s") from None
    if not isinstance(first, pb.SessionMessage):
        raise UnavailableError("the manager has ended the session at once")
    return first
