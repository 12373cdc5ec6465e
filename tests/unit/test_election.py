"""Who leads when managers stop, crash, are cut off or delayed: on virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from cluster.model import Manager, ManagerId
from manager.election import Election, Leadership
from manager.membership import LEASE_SECONDS, Membership
from manager.store import keys
from manager.store.interface import (
    Delete,
    GuardFailedError,
    Put,
    StoreUnavailableError,
)
from manager.store.memory import MemoryState, MemoryStore
from tests.fakes.virtual_time import LoopClock, in_virtual_time


class Way:
    """The way between one manager and the store: open, cut, or slow."""

    def __init__(self) -> None:
        self.cut = False
        self.open = asyncio.Event()
        self.open.set()

    async def trip(self) -> None:
        await asyncio.sleep(0.001)
        await self.open.wait()
        if self.cut:
            raise StoreUnavailableError("cut")


class Candidate:
    """A manager that does nothing but lead."""

    def __init__(self, state: MemoryState, name: str, seed: int = 0) -> None:
        self.way = Way()
        self.store = MemoryStore(state, trip=self.way.trip)
        self.manager = Manager(id=ManagerId(name), address=f"{name}:1")
        source = random.Random(f"{name}{seed}")
        self.membership = Membership(self.store, LoopClock(), self.manager, source)
        self.election = Election(self.store, self.membership, source)
        self.terms: list[Leadership] = []
        self.began: list[float] = []
        self.ended: list[float] = []
        self.changed = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def work(self, leadership: Leadership) -> None:
        self.terms.append(leadership)
        self.began.append(now())
        self.changed.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(now())

    def start(self) -> None:
        self.tasks = [
            asyncio.create_task(self.membership.run()),
            asyncio.create_task(self.election.lead(self.work)),
        ]

    async def stop(self) -> None:
        """Stop as a service does: leadership and lease are given back."""
        for task in reversed(self.tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @property
    def leads(self) -> bool:
        """Whether it would act as the leader now."""
        return len(self.began) > len(self.ended) and self.terms[-1].seconds_left() > 0

    async def led(self) -> Leadership:
        """Wait until it begins a term that it has not begun yet."""
        async with asyncio.timeout(60):
            await self.changed.wait()
        self.changed.clear()
        return self.terms[-1]


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def candidates(count: int, seed: int = 0) -> AsyncIterator[list[Candidate]]:
    """Start candidates; the first leads."""
    state = MemoryState()
    all_of_them = [Candidate(state, f"m{number}", seed) for number in range(count)]
    try:
        for candidate in all_of_them:
            candidate.start()
            if candidate is all_of_them[0]:
                await candidate.led()
        yield all_of_them
    finally:
        for candidate in all_of_them:
            candidate.way.cut = False
            candidate.way.open.set()
            await candidate.stop()


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@in_virtual_time
async def test_one_leads_with_its_key_under_its_lease() -> None:
    async with candidates(3) as (first, *others):
        await asyncio.sleep(60)

        item = await first.store.get(keys.LEADER)
        assert item is not None
        assert item.value == b"m0"
        assert item.create_revision == first.terms[-1].create_revision
        assert first.membership.lease is not None
        assert item.lease == first.membership.lease.id
        assert (len(first.terms), first.leads) == (1, True)
        assert not any(other.terms for other in others)


@in_virtual_time
async def test_a_leader_that_stops_is_followed_at_once() -> None:
    async with candidates(2) as (first, second):
        await asyncio.sleep(10)
        await first.stop()
        await second.led()
        assert second.began[0] - first.ended[0] < 0.1
        assert await second.store.get(keys.manager(first.manager.id)) is None


@in_virtual_time
async def test_a_leader_that_is_cut_off_steps_down_before_the_next_leads() -> None:
    async with candidates(2) as (first, second):
        await asyncio.sleep(10)
        first.way.cut = True
        cut_at = now()
        await second.led()
        assert first.ended[0] < second.began[0]
        assert LEASE_SECONDS / 2 < first.ended[0] - cut_at < LEASE_SECONDS
        assert second.began[0] - cut_at < LEASE_SECONDS + 0.5


@in_virtual_time
async def test_who_was_cut_off_comes_back_as_a_candidate() -> None:
    async with candidates(2) as (first, second):
        old_lease = first.membership.lease
        first.way.cut = True
        await second.led()
        first.way.cut = False
        await until(lambda: first.membership.lease not in (None, old_lease))
        await asyncio.sleep(30)
        assert (len(first.terms), second.leads) == (1, True)

        await second.stop()
        leadership = await first.led()
        while len(first.terms) < 2:
            leadership = await first.led()
        assert leadership.lease is first.membership.lease


@in_virtual_time
async def test_a_short_cut_costs_nothing() -> None:
    async with candidates(2) as (first, second):
        for _ in range(20):
            first.way.cut = True
            await asyncio.sleep(1.2)
            first.way.cut = False
            await asyncio.sleep(1.5)
        assert (len(first.terms), len(second.terms), first.leads) == (1, 0, True)


@in_virtual_time
async def test_a_write_that_is_on_its_way_when_the_leader_is_deposed_does_not_commit() -> None:
    async with candidates(2) as (first, second):
        leadership = await_term(first)
        first.way.open.clear()  # everything it sends from now on is late
        late = asyncio.create_task(first.store.commit([leadership.fence], [Put("/late", b"")]))
        await second.led()
        await second.store.commit([second.terms[-1].fence], [Put("/new", b"")])
        first.way.open.set()
        with pytest.raises(GuardFailedError):
            await late
        assert await second.store.get("/late") is None
        assert await second.store.get("/new") is not None


def await_term(candidate: Candidate) -> Leadership:
    assert candidate.leads
    return candidate.terms[-1]


@in_virtual_time
async def test_an_election_that_got_no_answer_is_recognised_as_won() -> None:
    state = MemoryState()
    candidate = Candidate(state, "m0")
    lossy = MemoryStore(state, trip=candidate.way.trip)
    attempts = 0

    async def commit(guards: object, writes: list[Put | Delete]) -> int:
        nonlocal attempts
        revision = await lossy.commit(guards, writes)  # type: ignore[arg-type]
        if writes[0].key == keys.LEADER:
            attempts += 1
            if attempts == 1:
                raise StoreUnavailableError("the answer got lost")
        return revision

    candidate.store.commit = commit  # type: ignore[method-assign,assignment]
    candidate.start()
    leadership = await candidate.led()
    item = await lossy.get(keys.LEADER)
    assert item is not None
    assert leadership.create_revision == item.create_revision
    assert item.create_revision == item.mod_revision
    await candidate.stop()


@in_virtual_time
async def test_a_key_that_someone_removes_ends_the_term() -> None:
    async with candidates(2) as (first, second):
        removed_at = now()
        await second.store.commit([], [Delete(keys.LEADER)])
        await until(first.terms[0].lost.is_set)
        assert now() - removed_at < 0.1
        await until(lambda: first.leads or second.leads)


@in_virtual_time
async def test_a_leader_may_rewrite_its_key() -> None:
    async with candidates(2) as (first, second):
        item = await first.store.get(keys.LEADER)
        assert item is not None
        for _ in range(3):
            await first.store.commit(
                [await_term(first).fence], [Put(keys.LEADER, item.value, item.lease)]
            )
        await asyncio.sleep(30)
        assert (len(first.terms), len(second.terms), first.leads) == (1, 0, True)
        await first.stop()
        await second.led()


@in_virtual_time
async def test_the_history_may_be_compacted_under_a_waiting_candidate() -> None:
    state = MemoryState()
    first, second = Candidate(state, "m0"), Candidate(state, "m1")
    first.start()
    await first.led()
    second.start()
    await asyncio.sleep(5)
    second.way.cut = True
    await asyncio.sleep(0.5)
    for number in range(10):
        await first.store.commit([], [Put("/other", str(number).encode())])
    state.compact(state.revision)
    second.way.cut = False
    await asyncio.sleep(5)
    assert not second.terms

    second.way.cut = True
    await asyncio.sleep(0.5)
    await first.stop()
    for number in range(10):
        await first.store.commit([], [Put("/other", str(number).encode())])
    state.compact(state.revision)
    second.way.cut = False
    await second.led()
    await second.stop()


@in_virtual_time
async def test_work_that_ends_gives_the_leadership_back() -> None:
    state = MemoryState()
    first, second = Candidate(state, "m0"), Candidate(state, "m1")
    terms = 0

    async def little_work(leadership: Leadership) -> None:
        nonlocal terms
        terms += 1

    first.work = little_work  # type: ignore[method-assign]
    first.start()
    await until(lambda: terms)
    second.start()
    await second.led()
    await asyncio.sleep(10)
    assert second.leads
    await first.stop()
    await second.stop()


@in_virtual_time
async def test_work_that_finds_the_store_away_is_begun_again() -> None:
    state = MemoryState()
    candidate = Candidate(state, "m0")
    terms = 0

    async def unlucky_work(leadership: Leadership) -> None:
        nonlocal terms
        terms += 1
        if terms < 3:
            raise StoreUnavailableError("not now")
        await asyncio.Event().wait()

    candidate.work = unlucky_work  # type: ignore[method-assign]
    candidate.start()
    await until(lambda: terms == 3)
    await candidate.stop()


@in_virtual_time
async def test_work_with_a_defect_ends_the_candidate_and_its_leadership() -> None:
    state = MemoryState()
    candidate = Candidate(state, "m0")

    async def broken_work(leadership: Leadership) -> None:
        raise ZeroDivisionError

    candidate.work = broken_work  # type: ignore[method-assign]
    candidate.start()
    with pytest.raises(ZeroDivisionError):
        await candidate.tasks[1]
    assert await candidate.store.get(keys.LEADER) is None
    candidate.tasks.pop()
    await candidate.stop()


@in_virtual_time
async def test_work_that_is_slow_to_end_does_not_keep_the_leadership() -> None:
    state = MemoryState()
    first, second = Candidate(state, "m0"), Candidate(state, "m1")
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow_work(leadership: Leadership) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await ended.wait()

    first.work = slow_work  # type: ignore[method-assign]
    first.start()
    await begun.wait()
    second.start()
    await asyncio.sleep(1)
    stopping = asyncio.create_task(first.stop())
    await second.led()
    assert not stopping.done()
    ended.set()
    await stopping
    await second.stop()


@pytest.mark.parametrize("seed", range(10))
def test_never_two_at_a_time_whatever_is_cut_or_slow(seed: int) -> None:
    @in_virtual_time
    async def run() -> None:
        source = random.Random(seed)
        async with candidates(3, seed) as all_of_them:
            leaders = set()
            for _ in range(200):
                victim = source.choice(all_of_them)
                match source.choice(["cut", "slow", "heal", "heal"]):
                    case "cut":
                        victim.way.cut = True
                    case "slow":
                        victim.way.open.clear()
                    case "heal":
                        victim.way.cut = False
                        victim.way.open.set()
                until_then = now() + source.uniform(0, 3)
                while now() < until_then:
                    acting = [candidate for candidate in all_of_them if candidate.leads]
                    assert len(acting) <= 1
                    leaders |= {candidate.manager.id for candidate in acting}
                    await asyncio.sleep(0.05)
            for candidate in all_of_them:
                candidate.way.cut = False
                candidate.way.open.set()
            await until(lambda: any(one.leads for one in all_of_them), 10)
            assert len(leaders) == 3

    run()
