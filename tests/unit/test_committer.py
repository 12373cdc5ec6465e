"""Commits of the leader: guarded, fenced, all or nothing, and never twice."""

import asyncio
import random
from collections.abc import Sequence

import msgspec
import pytest

from cluster.ids import IdSource
from cluster.model import ManagerId, ServiceId, Task, TaskId, TaskState
from manager import records
from manager.committer import (
    GUARDS_MAX,
    Change,
    Committer,
    Fence,
    FenceBrokenError,
    _gravest,
)
from manager.journal.writer import Journal
from manager.store import keys
from manager.store.interface import (
    NO_LEASE,
    Delete,
    Guard,
    GuardFailedError,
    Put,
    Revision,
    StoreUnavailableError,
    Unchanged,
    Write,
)
from manager.store.memory import MemoryState, MemoryStore
from manager.view import View
from tests.fakes.virtual_time import LoopClock


def task(name: str, **changes: object) -> Task:
    return msgspec.structs.replace(
        Task(id=TaskId(name), service_id=ServiceId("s"), spec_version=1), **changes
    )


class LossyStore(MemoryStore):
    """Loses the answer of the next commit, or holds its request back to be sent later."""

    lose_answer = False
    hold_request = False
    held: tuple[Sequence[Guard], Sequence[Write]] | None = None

    async def commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Revision:
        if self.hold_request:
            self.hold_request = False
            self.held = (guards, writes)
            raise StoreUnavailableError("no answer in time")
        revision = await super().commit(guards, writes)
        if self.lose_answer:
            self.lose_answer = False
            raise StoreUnavailableError("no answer in time")
        return revision


class World:
    def __init__(self) -> None:
        self.state = MemoryState()
        self.store = LossyStore(self.state)
        self.view = View()

    async def lead(self) -> Committer:
        item = await self.store.get(keys.LEADER)
        if item is not None:
            await self.store.commit(
                [Unchanged(keys.LEADER, item.mod_revision)], [Delete(keys.LEADER)]
            )
        await self.store.commit([Unchanged(keys.LEADER, 0)], [Put(keys.LEADER, b"m", NO_LEASE)])
        item = await self.store.get(keys.LEADER)
        assert item is not None
        journal = Journal(self.view, LoopClock(), IdSource(random.Random(1)), ManagerId("m"))
        return Committer(self.store, self.view, Fence(item), journal)

    async def catch_up(self) -> None:
        self.view.listed(await self.store.list(keys.PREFIX))

    async def stored(self, value: Task) -> bool:
        return await self.store.get(records.key_of(value)) is not None


async def test_a_commit_shows_in_the_view_before_the_watch_tells() -> None:
    world = World()
    committer = await world.lead()
    assert await committer.commit([Change(save=(task("a"),))]) == 0
    assert world.view.tasks[TaskId("a")].version > 0
    assert world.view.revision == 0


async def test_a_stale_change_is_left_out_whole_and_the_others_are_written() -> None:
    world = World()
    committer = await world.lead()
    await committer.commit([Change(save=(task("old"),))])
    stale = world.view.tasks[TaskId("old")]
    newer = msgspec.structs.replace(stale, failures=1)
    await committer.commit([Change(save=(newer,))])
    stopped = msgspec.structs.replace(stale, desired_state=TaskState.SHUTDOWN)
    both = Change(save=(stopped, task("successor")))
    assert await committer.commit([both, Change(save=(task("other"),))]) == 1
    assert not await world.stored(task("successor"))
    assert await world.stored(task("other"))
    assert world.view.tasks[TaskId("old")].failures == 1


async def test_a_change_is_not_written_when_what_it_rests_on_has_changed() -> None:
    world = World()
    committer = await world.lead()
    await committer.commit([Change(save=(task("ground"),))])
    ground = world.view.tasks[TaskId("ground")]
    resting = Change(save=(task("a"),), expect=(ground,))
    assert await committer.commit([resting]) == 0
    await committer.commit([Change(save=(msgspec.structs.replace(ground, failures=1),))])
    assert await committer.commit([Change(save=(task("b"),), expect=(ground,))]) == 1
    assert not await world.stored(task("b"))


async def test_what_many_changes_rest_on_is_guarded_once() -> None:
    world = World()
    committer = await world.lead()
    await committer.commit([Change(save=(task("ground"),))])
    ground = world.view.tasks[TaskId("ground")]
    many = [Change(save=(task(f"t{i}"),), expect=(ground,)) for i in range(2 * GUARDS_MAX)]
    assert await committer.commit(many) == 0


async def test_more_than_one_transaction_holds_is_written_in_several() -> None:
    world = World()
    committer = await world.lead()
    many = [Change(save=(task(f"t{i}"),)) for i in range(3 * GUARDS_MAX + 1)]
    assert await committer.commit(many) == 0
    assert len((await world.store.list(keys.PREFIX + "tasks/")).items) == len(many)


async def test_of_two_decisions_about_one_object_the_first_is_written() -> None:
    world = World()
    committer = await world.lead()
    await committer.commit([Change(save=(task("one"),))])
    one = world.view.tasks[TaskId("one")]
    failed = msgspec.structs.replace(one, failures=1)
    both = [Change(save=(failed,)), Change(drop=(one,)), Change(save=(task("other"),))]
    assert await committer.commit(both) == 1
    assert world.view.tasks[TaskId("one")].failures == 1
    assert await world.stored(task("other"))


async def test_a_deposed_leader_writes_nothing() -> None:
    world = World()
    old = await world.lead()
    new = await world.lead()
    with pytest.raises(FenceBrokenError):
        await old.commit([Change(save=(task("a"),))])
    with pytest.raises(FenceBrokenError):
        await old.settle()
    assert not await world.stored(task("a"))
    assert await new.commit([Change(save=(task("a"),))]) == 0


def test_of_what_came_of_writes_side_by_side_the_gravest_is_told() -> None:
    lost, broken, defect = StoreUnavailableError("?"), FenceBrokenError("!"), KeyError("a bug")
    assert _gravest(ExceptionGroup("", [lost, broken])) is broken
    assert _gravest(ExceptionGroup("", [lost, broken, defect])) is defect
    assert _gravest(ExceptionGroup("", [lost])) is lost


async def test_what_was_applied_unheard_is_in_the_view_once_settled() -> None:
    world = World()
    committer = await world.lead()
    world.store.lose_answer = True
    with pytest.raises(StoreUnavailableError):
        await committer.commit([Change(save=(task("a"),))])
    assert not world.view.tasks
    await settle(world, committer)
    assert TaskId("a") in world.view.tasks


async def test_a_ghost_that_arrives_after_settling_does_not_commit() -> None:
    world = World()
    committer = await world.lead()
    world.store.hold_request = True
    with pytest.raises(StoreUnavailableError):
        await committer.commit([Change(save=(task("ghost"),))])
    await settle(world, committer)
    assert world.store.held is not None
    guards, writes = world.store.held
    with pytest.raises(GuardFailedError):
        await MemoryStore.commit(world.store, guards, writes)
    assert not await world.stored(task("ghost"))
    assert await committer.commit([Change(save=(task("b"),))]) == 0


async def settle(world: World, committer: Committer) -> None:
    settling = asyncio.create_task(committer.settle())
    while not settling.done():
        await world.catch_up()
        await asyncio.sleep(0)
    await settling
