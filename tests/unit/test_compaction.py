"""The store's history is cut off behind the leader, and never right behind."""

import asyncio
from contextlib import aclosing

import pytest

from manager.reconcilers.compaction import PERIOD_SECONDS, compact_now_and_then
from manager.store.interface import CompactedError, Listing, Put, Unchanged
from manager.store.keys import PREFIX
from manager.store.memory import MemoryState, MemoryStore
from manager.view import View
from tests.fakes.virtual_time import in_virtual_time


async def follows_from(store: MemoryStore, revision: int) -> bool:
    try:
        async with aclosing(store.watch(PREFIX, revision)) as batches:
            await anext(batches)
    except CompactedError:
        return False
    return True


@in_virtual_time
async def test_history_of_the_last_period_is_kept_and_older_is_not() -> None:
    store, view = MemoryStore(MemoryState()), View()

    async def write(key: str) -> int:
        revision = await store.commit([Unchanged(key, 0)], [Put(key, b"")])
        view.listed(await store.list(PREFIX))
        return revision

    first = await write(f"{PREFIX}x/a")
    compacting = asyncio.create_task(compact_now_and_then(store, view))
    await asyncio.sleep(PERIOD_SECONDS / 2)
    second = await write(f"{PREFIX}x/b")
    await asyncio.sleep(PERIOD_SECONDS)
    third = await write(f"{PREFIX}x/c")
    assert await follows_from(store, first)
    await asyncio.sleep(PERIOD_SECONDS)
    assert not await follows_from(store, first - 1)
    assert await follows_from(store, second)
    assert third > second
    compacting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await compacting


@in_virtual_time
async def test_a_store_that_was_restored_from_a_backup_is_compacted_no_further_than_it_is() -> None:
    store, view = MemoryStore(MemoryState()), View()
    view.listed(Listing(1_000, []))
    compacting = asyncio.create_task(compact_now_and_then(store, view))
    await asyncio.sleep(PERIOD_SECONDS / 2)
    view.listed(await store.list(PREFIX))  # the store has gone back
    await asyncio.sleep(2 * PERIOD_SECONDS)
    assert not compacting.done(), "it was asked to forget what is still to come"
    compacting.cancel()
    await asyncio.wait([compacting])
