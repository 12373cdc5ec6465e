"""The reconcilers' loop: how often it plans, and on what."""

import asyncio
import random
from collections.abc import Iterable

import msgspec

from cluster.ids import IdSource
from cluster.model import ManagerId, TaskId, TaskState
from manager import records
from manager import view as views
from manager.committer import Change, Committer, Fence
from manager.journal.writer import Journal
from manager.reconcilers.loop import PLANNING_SHARE_MAX, Plan, ReconcileLoop
from manager.store import keys
from manager.store.interface import NO_LEASE, KeyValue, Put, Store, WatchBatch
from manager.store.memory import MemoryState, MemoryStore
from tests.fakes.sites import LossyStore, task
from tests.fakes.virtual_time import LoopClock, in_virtual_time

SECONDS = 10.0
CHANGE_SECONDS = 0.001
PLAN_SECONDS = 0.05

LEADER = KeyValue(keys.LEADER, b"", 1, 1)


class BusyClock(LoopClock):
    """The loop's time and the work that was done, which takes none of the loop's."""

    def __init__(self) -> None:
        self.work_seconds = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.work_seconds


class Large:
    """Decides for one service that is so large that a look at it takes a while."""

    name = "large"

    def __init__(self, clock: BusyClock) -> None:
        self._clock = clock
        self.plans = 0

    def concerned(self, _: views.Change) -> Iterable[str]:
        return ["web"]

    def everything(self) -> Iterable[str]:
        return []

    def plan(self, key: str, now: float) -> Plan:
        assert key
        assert now
        self.plans += 1
        self._clock.work_seconds += PLAN_SECONDS
        return Plan()


def loop_of(
    reconciler: "Large",
    view: views.View,
    clock: BusyClock,
    store: Store | None = None,
    leader: KeyValue = LEADER,
) -> ReconcileLoop:
    source = random.Random(1)
    journal = Journal(view, clock, IdSource(source), ManagerId("m"))
    committer = Committer(store or MemoryStore(), view, Fence(leader), journal)
    return ReconcileLoop(reconciler, view, committer, clock, source)


class Stopping(Large):
    """Tells a task to stop, once."""

    def everything(self) -> Iterable[str]:
        return ["web"]

    def plan(self, key: str, now: float) -> Plan:
        super().plan(key, now)
        stopped = msgspec.structs.replace(task("t"), desired_state=TaskState.SHUTDOWN)
        return Plan([Change(save=(stopped,))] if self.plans == 1 else [])


@in_virtual_time
async def test_whom_a_write_stops_is_leaving_until_it_is_known_what_became_of_it() -> None:
    clock, view, store = BusyClock(), views.View(), LossyStore(MemoryState())
    await store.commit([], [Put(keys.LEADER, b"m", NO_LEASE)])
    leader = await store.get(keys.LEADER)
    assert leader is not None
    store.answers_lost = 1
    store.gate.clear()
    loop = asyncio.create_task(loop_of(Stopping(clock), view, clock, store, leader).run())
    await asyncio.sleep(1.0)
    assert set(view.leaving) == {"t"}
    store.away = True
    store.gate.set()
    await asyncio.sleep(1.0)
    assert set(view.leaving) == {"t"}, "it may be written yet"
    store.away = False
    await asyncio.sleep(1.0)
    assert set(view.leaving) == {"t"}, "the view does not show it yet"
    view.listed(await store.list(keys.PREFIX))
    await asyncio.sleep(0)
    assert not view.leaving
    loop.cancel()


@in_virtual_time
async def test_nothing_is_decided_on_what_is_known_before_its_causes() -> None:
    clock, view = BusyClock(), views.View()
    large = Large(clock)
    loop = asyncio.create_task(loop_of(large, view, clock).run())
    await asyncio.sleep(0)
    key = keys.task(TaskId("t"))
    view.learned({key: KeyValue(key, records.encode(task("t")), 7, 7)}, 7)
    await asyncio.sleep(SECONDS)
    assert (large.plans, view.revision) == (0, 0)
    view.watched(WatchBatch(7, []))
    await asyncio.sleep(SECONDS)
    assert (large.plans, view.revision) == (1, 7)
    loop.cancel()


@in_virtual_time
async def test_a_large_service_that_keeps_changing_is_not_looked_at_all_the_time() -> None:
    clock, view = BusyClock(), views.View()
    large = Large(clock)
    loop = asyncio.create_task(loop_of(large, view, clock).run())
    await asyncio.sleep(0)
    changed = views.Batch(1, [views.Change(None, task("t"))])
    for _ in range(round(SECONDS / CHANGE_SECONDS)):
        for listener in view._listeners:
            listener(changed)
        await asyncio.sleep(CHANGE_SECONDS)
    loop.cancel()

    longest = SECONDS / PLAN_SECONDS * PLANNING_SHARE_MAX / (1 - PLANNING_SHARE_MAX)
    assert longest / 2 < large.plans <= longest + 1
