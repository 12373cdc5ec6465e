"""A manager's lease: kept, lost, taken anew and given back, on virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from cluster.model import Manager, ManagerId
from manager import records
from manager.membership import LEASE_SECONDS, HeldLease, Membership
from manager.store import keys
from manager.store.interface import StoreUnavailableError
from manager.store.memory import MemoryState, MemoryStore
from tests.fakes.virtual_time import LoopClock, in_virtual_time

MANAGER = Manager(id=ManagerId("m1"), address="198.18.0.1:7420", hostname="one")
KEY = keys.manager(MANAGER.id)


class Member:
    """A membership whose way to the store can be cut, and an observer's store beside it."""

    def __init__(self) -> None:
        self.state = MemoryState()
        self.cut = False
        self.observer = MemoryStore(self.state)
        self.membership = Membership(
            MemoryStore(self.state, trip=self._trip), LoopClock(), MANAGER, random.Random(1)
        )
        self.told: list[HeldLease | None] = []
        self.membership.subscribe(self.told.append)

    async def _trip(self) -> None:
        await asyncio.sleep(0.001)
        if self.cut:
            raise StoreUnavailableError("cut")

    async def lost(self, lease: HeldLease) -> float:
        """Wait until *lease* is lost; return when that was."""
        async with asyncio.timeout(60):
            await lease.lost.wait()
        return asyncio.get_running_loop().time()


@asynccontextmanager
async def member() -> AsyncIterator[Member]:
    one = Member()
    running = asyncio.create_task(one.membership.run())
    try:
        await one.membership.held()
        yield one
    finally:
        one.cut = False
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def now() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_the_record_stands_under_the_lease_for_as_long_as_we_run() -> None:
    async with member() as one:
        lease = await one.membership.held()
        await asyncio.sleep(3600)
        item = await one.observer.get(KEY)
        assert item is not None
        assert item.lease == lease.id
        stored = records.decode(item)
        assert isinstance(stored, Manager)
        assert msgspec.structs.replace(stored, version=0) == MANAGER
        assert one.membership.lease is lease
        assert one.told == [None, lease]
        assert 0 < lease.seconds_left() <= LEASE_SECONDS
    assert await one.observer.get(KEY) is None
    assert one.told == [None, lease, None]
    assert lease.lost.is_set()
    assert lease.seconds_left() == 0


@in_virtual_time
async def test_a_stop_waits_only_so_long_for_a_store_that_is_away() -> None:
    one = Member()
    running = asyncio.create_task(one.membership.run())
    lease = await one.membership.held()
    one.cut = True
    stopped_at = now()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert now() - stopped_at < 2.5
    assert lease.lost.is_set()
    await asyncio.sleep(LEASE_SECONDS)
    assert await one.observer.get(KEY) is None


@in_virtual_time
async def test_a_lease_that_cannot_be_renewed_is_lost_before_the_store_ends_it() -> None:
    async with member() as one:
        first = await one.membership.held()
        await asyncio.sleep(10)
        one.cut = True
        lost_at = await one.lost(first)
        assert await one.observer.get(KEY) is not None
        while await one.observer.get(KEY):
            await asyncio.sleep(0.001)
        assert now() >= lost_at
        one.cut = False
        second = await one.membership.held()
        item = await one.observer.get(KEY)
        assert item is not None
        assert item.lease == second.id != first.id
        assert one.told == [None, first, None, second]


@in_virtual_time
async def test_a_lease_that_someone_ends_is_noticed_at_the_next_renewal() -> None:
    async with member() as one:
        first = await one.membership.held()
        ended_at = now()
        await one.observer.revoke_lease(first.id)
        assert await one.lost(first) - ended_at <= LEASE_SECONDS / 3 + 0.1
        second = await one.membership.held()
        assert second.id != first.id
        assert await one.observer.get(KEY) is not None


@in_virtual_time
async def test_the_old_lease_is_ended_before_a_new_one_is_taken() -> None:
    async with member() as one:
        first = await one.membership.held()
        one.cut = True
        # Something of ours under the old lease, which the store would keep for a moment longer.
        await one.lost(first)
        assert await one.observer.keep_alive(first.id) > 0
        one.cut = False
        await one.membership.held()
        assert await one.observer.keep_alive(first.id) == 0.0


@in_virtual_time
async def test_joining_waits_for_the_store() -> None:
    one = Member()
    one.cut = True
    running = asyncio.create_task(one.membership.run())
    await asyncio.sleep(100)
    assert one.membership.lease is None
    one.cut = False
    async with asyncio.timeout(1):
        await one.membership.held()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@in_virtual_time
async def test_who_subscribes_late_is_told_how_it_stands() -> None:
    async with member() as one:
        told: list[HeldLease | None] = []
        one.membership.subscribe(told.append)
        assert told == [one.membership.lease]
        assert told[0] is not None


@in_virtual_time
async def test_a_renewal_counts_from_when_it_was_asked_for() -> None:
    lease = HeldLease(MemoryState().grant_lease(3), 3.0, now(), LoopClock())
    asked_at = now()
    await asyncio.sleep(2)
    lease.renewed(asked_at, 3.0)
    assert lease.seconds_left() == 1.0
    await asyncio.sleep(1.5)
    assert lease.seconds_left() == 0.0
