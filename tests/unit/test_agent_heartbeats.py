"""When an agent beats: each once a period, all together in few moments, at once for a lease."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.fence import NEVER, Fence
from agent.heartbeats import MOMENT_SECONDS, PERIOD_SECONDS_MAX, Heartbeats, seconds_to_next
from agent.runtime.interface import ContainerId, RuntimeUnavailableError
from cluster.api.v1 import dispatch_pb2 as pb
from cluster.model import SessionId
from tests.fakes.virtual_time import LoopClock, in_virtual_time

PERIODS = st.floats(0.1, PERIOD_SECONDS_MAX)
PLACES = st.floats(0.0, 1.0, exclude_max=True)
NOW = st.floats(1e9, 2e9)


@given(now=NOW, period=PERIODS, place=PLACES)
def test_the_wait_is_about_a_period_whatever_the_clock_says(
    now: float, period: float, place: float
) -> None:
    assert period / 2 <= seconds_to_next(now, period, place) <= period * 1.5


@given(period=PERIODS, place=PLACES, late=st.floats(0.0, 0.05))
def test_who_beats_in_time_waits_a_whole_period(period: float, place: float, late: float) -> None:
    now = 1_000.0 + seconds_to_next(1_000.0, period, place)
    wait = seconds_to_next(now + late * period, period, place)
    assert wait == pytest.approx(period * (1.0 - late), abs=1e-6)


@pytest.mark.parametrize(("period", "moments"), [(0.3, 1), (1.0, 2), (3.3, 6)])
def test_agents_share_few_moments_evenly(period: float, moments: int) -> None:
    agents = 300
    starts = [1_000.0 + i * 0.0371 for i in range(agents)]
    beats = Counter(
        round((now + seconds_to_next(now, period, i / agents)) % period, 3) % period
        for i, now in enumerate(starts)
    )
    assert len(beats) == moments
    assert moments == max(1, int(period / MOMENT_SECONDS))
    assert set(beats.values()) == {agents // moments}


# --- leases ---------------------------------------------------------------------------------------

SLOW = 20.0  # a period that is longer than leases may be
LEASE = 12.0
CONTAINER = ContainerId("c1")


class Manager:
    """Takes heartbeats, and vouches for whoever asks; stands in for a stub and its stream."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, bool]] = []  # when, and whether an answer was asked for

    def Heartbeats(self) -> "Manager":  # noqa: N802 - gRPC's name
        return self

    async def write(self, request: pb.HeartbeatRequest) -> None:
        self.heard.append((asyncio.get_running_loop().time(), request.answer))

    async def read(self) -> pb.HeartbeatResponse:
        return pb.HeartbeatResponse(heartbeat_period_seconds=SLOW, vouched=True)

    def cancel(self) -> None:
        pass


class NoGuard:
    """Keeps nothing: it is not what is looked at here."""

    def load(self) -> tuple[float, dict[ContainerId, float]]:
        return NEVER, {}

    def save(self, *_: object) -> None:
        pass

    async def ensure(self) -> None:
        pass


@asynccontextmanager
async def beating(manager: Manager, fence: Fence) -> AsyncIterator[None]:
    """Beat once, and then let the agent wait for its next moment, which is far off."""
    beats = Heartbeats(
        manager,  # type: ignore[arg-type]
        SessionId("s"),
        SLOW,
        take_usage=lambda: None,
        clock=LoopClock(),
        source=random.Random(1),
        fence=fence,
    )
    running = asyncio.create_task(beats.run())
    await asyncio.sleep(0.001)
    assert manager.heard == [(0.0, True)]
    try:
        yield
    finally:
        running.cancel()


def fence_in_virtual_time() -> Fence:
    return Fence(NoGuard(), asyncio.get_running_loop().time)


@in_virtual_time
async def test_a_lease_that_begins_between_two_heartbeats_is_kept_alive() -> None:
    manager, fence = Manager(), fence_in_virtual_time()
    async with beating(manager, fence):
        await asyncio.sleep(5.0)
        await fence.hold(CONTAINER, LEASE)
        await asyncio.sleep(0.001)
        assert [answered for _, answered in manager.heard] == [True, True]
        await asyncio.sleep(10 * LEASE)
        assert not fence.overdue()


@in_virtual_time
async def test_a_start_that_lacks_a_managers_word_asks_for_one() -> None:
    manager, fence = Manager(), fence_in_virtual_time()
    async with beating(manager, fence):
        await asyncio.sleep(LEASE)
        with pytest.raises(RuntimeUnavailableError, match="a manager's word"):
            await fence.hold(CONTAINER, LEASE)
        await asyncio.sleep(0.001)
        await fence.hold(CONTAINER, LEASE)  # tried again, as the executor does
        assert not fence.overdue()
