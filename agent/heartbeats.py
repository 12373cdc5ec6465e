"""The agent's heartbeats to one manager.

All agents beat at the same moments: twice in a second, by the wall clock, an agent at one of the
moments of its period. For what comes together is read together: that halves what heartbeats
cost a manager, while no burst is larger than what half a second would have brought anyway. Where
clocks differ only that saving is lost.

Most heartbeats are not answered; every few seconds one asks for an answer, by which the agent
sees that the manager is alive too. Leases need answers more often, and one at once when a fenced
container is to start.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from grpc import aio

from agent.fence import Fence
from cluster import codec, status
from cluster.api.v1 import dispatch_pb2 as pb
from cluster.api.v1 import types_pb2
from cluster.clock import Clock
from cluster.errors import UnavailableError
from cluster.model import NodeUsage, SessionId

if TYPE_CHECKING:  # it exists only for type checkers
    from cluster.api.v1.dispatch_pb2_grpc import DispatchAsyncStub

# The manager says how often; this holds whatever it says.
PERIOD_SECONDS_MIN, PERIOD_SECONDS_MAX = 0.1, 60.0
# Between the moments at which agents beat.
MOMENT_SECONDS = 0.5
# How often one asks for an answer: if each did, they would cost the manager twice as much.
ANSWER_SECONDS = 2.0
# It is answered from memory, in a millisecond; a manager that takes longer hangs.
PATIENCE_SECONDS = 2.0

Call = aio.StreamStreamCall[pb.HeartbeatRequest, pb.HeartbeatResponse]


class Heartbeats:
    """Says that the agent lives, for as long as a session lasts."""

    def __init__(
        self,
        stub: "DispatchAsyncStub",
        session_id: SessionId,
        period_seconds: float,
        *,
        take_usage: Callable[[], NodeUsage | None],
        clock: Clock,
        source: random.Random,
        fence: Fence | None = None,
    ) -> None:
        """Send nothing yet.

        Args:
            stub: of the manager.
            session_id: whose heartbeats these are.
            period_seconds: between two of them.
            take_usage: returns a new measurement, if there is one.
            clock: the time.
            source: of the place among all agents.
            fence: is told which heartbeats a manager has vouched for.
        """
        self._stub = stub
        self._session_id = session_id
        self._take_usage = take_usage
        self._clock = clock
        self._place = source.random()
        self._fence = fence
        self._period_seconds = PERIOD_SECONDS_MIN
        self.set_period(period_seconds)
        self._nap: asyncio.Future[None] | None = None
        self._answer_due_at = clock.monotonic()

    def set_period(self, seconds: float) -> None:
        """Beat so often from the next time on; what is not positive says nothing."""
        if seconds > 0:
            self._period_seconds = min(max(seconds, PERIOD_SECONDS_MIN), PERIOD_SECONDS_MAX)

    async def run(self) -> NoReturn:
        """Beat for ever.

        Raises:
            ClusterError: the manager takes no more, or hangs.
        """
        stream = self._stub.Heartbeats()
        if self._fence:
            self._fence.ask = self._hurry
        try:
            await self._beat(stream)
        except aio.AioRpcError as error:
            raise status.error_of(error.code(), error.details() or "") from error
        except TimeoutError:
            raise UnavailableError("the manager does not answer heartbeats") from None
        finally:
            stream.cancel()
        raise AssertionError  # it never returns

    async def _beat(self, stream: Call) -> NoReturn:
        while True:
            is_due = self._clock.monotonic() >= self._answer_due_at
            request = pb.HeartbeatRequest(session_id=self._session_id, answer=is_due)
            if (usage := self._take_usage()) is not None:
                request.usage.CopyFrom(codec.to_wire(usage, types_pb2.NodeUsage))
            sent_at = self._fence.now() if self._fence else 0.0
            async with asyncio.timeout(max(PATIENCE_SECONDS, self._period_seconds)):
                answer = await _said(stream, request)
            if answer is not None:
                self.set_period(answer.heartbeat_period_seconds)
                if answer.vouched and self._fence:
                    self._fence.heard(sent_at)
                self._answer_due_at = self._clock.monotonic() + min(
                    ANSWER_SECONDS, self._ask_seconds
                )
            now = self._clock.now()
            wait = seconds_to_next(now, self._period_seconds, self._place)
            await self._pause(min(wait, self._ask_seconds))

    async def _pause(self, seconds: float) -> None:
        """Wait for so long, or until a lease needs an answer."""
        loop = asyncio.get_running_loop()
        self._nap = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._nap
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self._nap is not None and not self._nap.done():
            self._nap.set_result(None)

    def _hurry(self) -> None:
        """Beat at once, and ask for an answer."""
        self._answer_due_at = self._clock.monotonic()
        self._wake()

    @property
    def _ask_seconds(self) -> float:
        """For how long at most no answer is asked for, for the sake of leases."""
        return self._fence.ask_seconds if self._fence else float("inf")


def seconds_to_next(now: float, period_seconds: float, place: float) -> float:
    """Return how long to wait from *now*, the wall clock's, for the next of an agent's moments.

    It is half a period to one and a half, about a whole one after a heartbeat that was in time.

    Args:
        now: seconds since 1970 UTC.
        period_seconds: between two heartbeats.
        place: of the agent among all, in [0, 1): it picks the moment within the period.
    """
    moments = max(1, int(period_seconds / MOMENT_SECONDS))
    offset_seconds = int(place * moments) * period_seconds / moments
    wait = (offset_seconds - now) % period_seconds
    return wait if wait >= period_seconds / 2 else wait + period_seconds


async def _said(stream: Call, request: pb.HeartbeatRequest) -> pb.HeartbeatResponse | None:
    """Send a heartbeat; return the answer if it asks for one.

    Raises:
        AioRpcError: the stream has broken.
        UnavailableError: the manager has ended it.
    """
    with contextlib.suppress(asyncio.InvalidStateError):  # it is over: reading tells why
        await stream.write(request)
        if not request.answer:
            return None
    answer = await stream.read()
    if isinstance(answer, pb.HeartbeatResponse):
        return answer
    raise UnavailableError("the manager takes no more heartbeats")
