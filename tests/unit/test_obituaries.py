"""What becomes of the lease of a manager whose process is gone."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from cluster.model import Manager, ManagerId
from manager import records
from manager.obituaries import Obituaries, until_refused
from manager.store import keys
from manager.store.interface import Put, Unchanged
from manager.store.memory import MemoryState, MemoryStore
from manager.view import View, follow
from tests.fakes.virtual_time import in_virtual_time

OWN = Manager(id=ManagerId("own"), address="a:1", hostname="a", started_at=2.0)


class World:
    def __init__(self) -> None:
        self.store = MemoryStore(MemoryState())
        self.view = View()
        self.gone: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.asked: list[str] = []

    async def until_gone(self, address: str) -> None:
        self.asked.append(address)
        await self.gone[address].wait()

    async def join(self, manager: Manager) -> None:
        lease = await self.store.grant_lease(60)
        key = records.key_of(manager)
        await self.store.commit([Unchanged(key, 0)], [records.put(manager, lease)])
        await self.store.commit(
            [Unchanged(f"{key}/own", 0)], [Put(f"{keys.PREFIX}names/{manager.id}", b"", lease)]
        )

    async def stands(self, manager_id: str) -> bool:
        await asyncio.sleep(1)
        stored = {item.key for item in (await self.store.list(keys.PREFIX)).items}
        marks = {keys.manager(ManagerId(manager_id)), f"{keys.PREFIX}names/{manager_id}"}
        assert marks & stored in (marks, set())
        return marks <= stored


@asynccontextmanager
async def minding() -> AsyncIterator[World]:
    world = World()
    await world.join(OWN)
    obituaries = Obituaries(world.store, world.view, OWN, world.until_gone)
    tasks = [
        asyncio.create_task(follow(world.store, world.view, random.Random(1))),
        asyncio.create_task(obituaries.run()),
    ]
    try:
        yield world
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@in_virtual_time
async def test_who_is_gone_loses_all_that_stands_under_its_lease() -> None:
    async with minding() as world:
        await world.join(Manager(id=ManagerId("one"), address="b:1", hostname="b"))
        await world.join(Manager(id=ManagerId("two"), address="c:1", hostname="c"))
        assert await world.stands("one")
        assert await world.stands("two")

        world.gone["b:1"].set()
        assert not await world.stands("one")
        assert await world.stands("two")
        assert await world.stands("own")


@in_virtual_time
async def test_who_had_our_address_before_us_is_gone() -> None:
    async with minding() as world:
        for name, hostname, started_at in (
            ("before", "a", 1.0),
            ("after", "a", 3.0),  # and is told so itself: it is we who are gone
            ("elsewhere", "b", 1.0),  # behind an address that balances
        ):
            await world.join(
                Manager(
                    id=ManagerId(name),
                    address=OWN.address,
                    hostname=hostname,
                    started_at=started_at,
                )
            )
        assert not await world.stands("before")
        assert await world.stands("after")
        assert await world.stands("elsewhere")


@in_virtual_time
async def test_a_manager_that_left_is_minded_no_more_and_one_that_comes_back_is_minded_anew() -> (
    None
):
    async with minding() as world:
        other = Manager(id=ManagerId("one"), address="b:1", hostname="b")
        for times in (1, 2):
            await world.join(other)
            assert await world.stands("one")
            assert world.asked == ["b:1"] * times
            item = await world.store.get(keys.manager(other.id))
            assert item is not None
            await world.store.revoke_lease(item.lease)
            assert not await world.stands("one")


async def test_a_port_that_is_closed_was_left_and_one_that_never_opened_tells_nothing() -> None:
    connected = asyncio.Event()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        connected.set()
        await asyncio.sleep(0)
        writer.close()  # as a server does with a client that says nothing

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    waiting = asyncio.create_task(until_refused(f"127.0.0.1:{port}"))
    await connected.wait()
    connected.clear()
    await connected.wait()  # it came again
    assert not waiting.done()
    server.close()
    await server.wait_closed()
    async with asyncio.timeout(10):
        await waiting

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.2):
            await until_refused(f"127.0.0.1:{port}")
