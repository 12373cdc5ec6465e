"""Election among real processes on a real etcd: killed, paused, stopped, and etcd itself failing."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import pytest

from cluster.model import ManagerId
from manager.membership import LEASE_SECONDS
from manager.store import keys
from manager.store.etcd import EtcdStore
from manager.store.interface import Changed, Put
from tests.harness.etcd import EtcdCluster

ROOT = "/"
WRITTEN, WRITTEN_LATE = "/candidate", "/late"  # see tests.harness.candidate

# Etcd looks for leases that have run out twice a second, and the machine is shared.
EXPIRY_SECONDS = LEASE_SECONDS + 4.0


class Candidate:
    """A process of ``tests.harness.candidate``, and what it has said."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self.said: list[str] = []

    async def says(self, word: str, seconds: float = 20.0) -> str:
        """Wait for a line that begins with *word*; return the line."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            while line := (await self.process.stdout.readline()).decode().strip():
                self.said.append(line)
                if line.split()[0] == word:
                    return line
        raise AssertionError(f"{self.name} ended without saying {word!r}, but {self.said}")

    async def end(self) -> None:
        """Read what is left until the process has ended."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            rest = (await self.process.stdout.read()).decode().splitlines()
            await self.process.wait()
        self.said += rest


Launch = Callable[..., Awaitable[Candidate]]


@pytest.fixture
def etcd() -> Iterator[EtcdCluster]:
    with EtcdCluster() as cluster:
        yield cluster


@asynccontextmanager
async def launching(cluster: EtcdCluster) -> AsyncIterator[Launch]:
    async with AsyncExitStack() as stack:

        async def launch(name: str) -> Candidate:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.harness.candidate", name, *cluster.endpoints),
                stdout=asyncio.subprocess.PIPE,
            )

            async def finish() -> None:
                if process.returncode is None:
                    process.kill()
                await process.communicate()

            stack.push_async_callback(finish)
            candidate = Candidate(name, process)
            await candidate.says("joined")
            return candidate

        yield launch


@pytest.fixture
async def store(etcd: EtcdCluster) -> AsyncIterator[EtcdStore]:
    client = EtcdStore(etcd.endpoints)
    yield client
    await client.aclose()


async def writers(store: EtcdStore) -> list[str]:
    """Return who wrote, one after the other; check that each wrote only while it led (I4)."""
    end = await store.commit([], [Put(f"{ROOT}end", b"")])
    leader = ""
    order: list[str] = []
    async with asyncio.timeout(20), aclosing(store.watch(ROOT, 0)) as watch:
        async for batch in watch:
            for event in batch.events:
                value = event.item.value.decode() if isinstance(event, Changed) else ""
                if event.key == keys.LEADER:
                    leader = value
                elif event.key in (WRITTEN, WRITTEN_LATE):
                    assert value == leader
                    order += [value] if order[-1:] != [value] else []
            if batch.revision >= end:
                return order
    raise AssertionError("the watch ended")


async def test_a_killed_leader_is_followed_when_its_lease_has_run_out(
    etcd: EtcdCluster, store: EtcdStore
) -> None:
    loop = asyncio.get_running_loop()
    async with launching(etcd) as launch:
        first = await launch("m1")
        await first.says("leads")
        second = await launch("m2")
        first.process.kill()
        killed_at = loop.time()
        await second.says("leads")
        assert loop.time() - killed_at < EXPIRY_SECONDS
        item = await store.get(keys.LEADER)
        assert item is not None
        assert item.value == b"m2"
        listing = await store.list(f"{keys.PREFIX}managers/")
        assert [item.key for item in listing.items] == [keys.manager(ManagerId("m2"))]
        assert await writers(store) in (["m1"], ["m1", "m2"])


async def test_a_stopped_leader_is_followed_at_once(etcd: EtcdCluster, store: EtcdStore) -> None:
    loop = asyncio.get_running_loop()
    async with launching(etcd) as launch:
        first = await launch("m1")
        await first.says("leads")
        second = await launch("m2")
        first.process.terminate()
        await first.says("lost")
        lost_at = loop.time()
        await second.says("leads")
        assert loop.time() - lost_at < 1  # by the watch: the lease would last some seconds more
        await first.end()
        assert first.process.returncode == 0
        assert await store.get(keys.manager(ManagerId("m1"))) is None
        await writers(store)


async def test_a_paused_leader_wakes_up_deposed_and_writes_nothing(
    etcd: EtcdCluster, store: EtcdStore
) -> None:
    async with launching(etcd) as launch:
        candidates = [await launch("m1")]
        await candidates[0].says("leads")
        candidates.append(await launch("m2"))
        for leader, other in (candidates, candidates[::-1]):
            os.kill(leader.process.pid, signal.SIGSTOP)
            await other.says("leads")
            os.kill(leader.process.pid, signal.SIGCONT)
            await leader.says("fenced")
            if "joined" not in leader.said[2:]:
                await leader.says("joined")  # with a new lease
        for candidate in reversed(candidates):
            candidate.process.terminate()
            await candidate.end()
    assert (await writers(store))[:3] == ["m1", "m2", "m1"]
    assert await store.get(keys.LEADER) is None


async def test_the_leader_goes_on_after_a_restart_of_etcd(
    etcd: EtcdCluster, store: EtcdStore
) -> None:
    async with launching(etcd) as launch:
        first = await launch("m1")
        await first.says("leads")
        etcd.members[0].kill()
        await asyncio.to_thread(etcd.members[0].start)
        restarted = (await store.list(ROOT)).revision
        async with asyncio.timeout(20), aclosing(store.watch(WRITTEN, restarted)) as watch:
            await anext(watch)  # it writes again
        first.process.terminate()
        await first.end()
        assert await writers(store) == ["m1"]


async def test_leading_goes_on_soon_after_the_leader_of_etcd_hangs() -> None:
    loop = asyncio.get_running_loop()
    with EtcdCluster(3) as etcd:
        async with launching(etcd) as launch:
            first, second = await launch("m1"), await launch("m2")
            await first.says("leads")
            paused = etcd.leader()
            paused.pause()
            paused_at = loop.time()
            store = EtcdStore([m.endpoint for m in etcd.members if m is not paused])
            # Whoever leads: what is written long after the pause is a working leader's.
            async with asyncio.timeout(20), aclosing(store.watch(WRITTEN, 0)) as watch:
                async for batch in watch:
                    if batch.events and loop.time() > paused_at + 2 * LEASE_SECONDS:
                        break
            paused.resume()
            for candidate in (second, first):
                candidate.process.terminate()
                await candidate.end()
            assert set(await writers(store)) <= {"m1", "m2"}
            await store.aclose()
