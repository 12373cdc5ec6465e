"""What the store in memory offers to tests and the simulator beyond the contract."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from manager.store import memory
from manager.store.interface import CompactedError, Put, StoreUnavailableError
from manager.store.memory import MemoryState, MemoryStore
from tests.fakes.virtual_time import in_virtual_time


def losing(*trips: int) -> Callable[[], Awaitable[None]]:
    """Lose these trips, counted from one; there and back are two."""
    count = 0

    async def trip() -> None:
        nonlocal count
        count += 1
        if count in trips:
            raise StoreUnavailableError("lost")

    return trip


async def test_a_call_lost_on_the_way_there_leaves_the_state_alone() -> None:
    state = MemoryState()
    with pytest.raises(StoreUnavailableError):
        await MemoryStore(state, trip=losing(1)).commit([], [Put("a", b"")])
    assert state.get("a") is None


async def test_a_call_lost_on_the_way_back_is_done() -> None:
    state = MemoryState()
    with pytest.raises(StoreUnavailableError):
        await MemoryStore(state, trip=losing(2)).commit([], [Put("a", b"")])
    assert state.get("a") is not None


@in_virtual_time
async def test_a_watch_rides_out_lost_trips() -> None:
    state = MemoryState()
    writer = MemoryStore(state)
    store = MemoryStore(state, trip=losing(1, 2, 4, 5))
    revisions = [await writer.commit([], [Put("a", b"")]) for _ in range(3)]
    async with asyncio.timeout(10), aclosing(store.watch("", 0)) as watch:
        batch = await anext(watch)
        seen = [event.mod_revision for event in batch.events]
        revisions.append(await writer.commit([], [Put("a", b"")]))
        seen += [event.mod_revision for event in (await anext(watch)).events]
    assert seen == revisions


@in_virtual_time
async def test_leases_end_in_virtual_time() -> None:
    store = MemoryStore()
    lease = await store.grant_lease(1000)
    await store.commit([], [Put("a", b"", lease)])
    await asyncio.sleep(999)
    assert await store.get("a") is not None
    assert await store.keep_alive(lease) == 1000
    await asyncio.sleep(999)
    assert await store.get("a") is not None
    await asyncio.sleep(2)
    assert await store.get("a") is None


@in_virtual_time
async def test_an_idle_watch_tells_of_progress_every_ten_minutes() -> None:
    store = MemoryStore()
    revision = await store.commit([], [Put("b", b"")])
    async with aclosing(store.watch("a", 0)) as watch:
        for count in (1, 2, 3):
            batch = await anext(watch)
            assert (batch.revision, list(batch.events)) == (revision, [])
            assert 600 * count <= asyncio.get_running_loop().time() < 600 * count + 1


async def test_history_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "HISTORY_REVISIONS", 10)
    store = MemoryStore()
    revisions = [await store.commit([], [Put("a", b"")]) for _ in range(25)]
    with pytest.raises(CompactedError):
        await anext(store.watch("", 0))
    async with aclosing(store.watch("", revisions[-11])) as watch:
        batch = await anext(watch)
    assert [event.mod_revision for event in batch.events] == revisions[-10:]
