"""Watching: a snapshot, then every change, none twice, none lost, and the slow are let go."""

import asyncio
import random

import pytest

from cluster.errors import InvalidError, OverloadedError, UnavailableError
from cluster.model import Object, Task, TaskState
from manager import records
from manager.control import watching
from manager.control.services import Services
from manager.control.watching import Seen, Watching
from manager.store import keys
from manager.store.interface import Listing
from tests.fakes.sites import Site, node, service, sites, task
from tests.fakes.virtual_time import LoopClock, in_virtual_time


class Reader:
    """Keeps what it is told, as a client does."""

    def __init__(self) -> None:
        self.known: dict[str, Object] = {}
        self.revision = 0
        self.messages: list[Seen] = []

    def take(self, seen: Seen) -> None:
        self.messages.append(seen)
        if seen.snapshot:
            self.known.clear()
        for change in seen.changes:
            key = records.key_of(change.either)
            if change.new is None:
                del self.known[key]
            else:
                self.known[key] = change.new
        assert seen.revision in (0, *range(self.revision, seen.revision + 1)), "goes back"
        self.revision = seen.revision or self.revision


def everything(site: Site) -> dict[str, Object]:
    values = [records.decode(item) for item in site.state.list(keys.PREFIX).items]
    return {records.key_of(value): value for value in values if value is not None}


@in_virtual_time
async def test_a_reader_knows_at_each_revision_what_the_store_held_then() -> None:
    random_source = random.Random(7)
    async with sites() as [site]:
        await site.write(*service("web"), node("n1"))
        stream = Watching(site.view).watch(())
        reader = Reader()
        reader.take(await anext(stream))
        assert reader.known == everything(site)
        services = Services(site.access, site.ids, LoopClock())
        for step in range(200):
            choice = random_source.random()
            if choice < 0.3:  # our own write: shown before the watch has brought it
                await services.scale({"web": step})
            elif choice < 0.8:
                await site.write(task(f"t{random_source.randrange(20)}", created_at=step))
            elif site.view.tasks:
                await site.erase(random_source.choice(list(site.view.tasks.values())))
            if random_source.random() < 0.5:
                while reader.revision < site.state.revision:
                    reader.take(await anext(stream))
                assert reader.known == everything(site)
        await stream.aclose()


@in_virtual_time
async def test_a_large_snapshot_comes_in_parts_of_which_only_the_last_is_complete() -> None:
    async with sites() as [site]:
        for start in range(0, 2_500, 100):
            await site.write(*(task(f"t{n}") for n in range(start, start + 100)))
        stream = Watching(site.view).watch(["task"])
        parts = [await anext(stream) for _ in range(3)]
        assert [part.snapshot for part in parts] == [True, False, False]
        assert [part.revision for part in parts] == [0, 0, site.state.revision]
        assert sum(len(part.changes) for part in parts) == 2_500
        await stream.aclose()


@in_virtual_time
async def test_changes_during_a_snapshot_in_parts_come_after_it() -> None:
    async with sites() as [site]:
        for start in range(0, 1_100, 100):
            await site.write(*(task(f"t{n}") for n in range(start, start + 100)))
        stream = Watching(site.view).watch(["task"])
        reader = Reader()
        reader.take(await anext(stream))
        await site.write(task("t0", state=TaskState.PENDING), task("new"))
        await site.erase(task("t1"))
        while reader.revision < site.state.revision:
            reader.take(await anext(stream))
        assert set(reader.known) == {records.key_of(value) for value in site.view.tasks.values()}
        kept = reader.known["/shoal/v1/tasks/t0"]
        assert isinstance(kept, Task)
        assert kept.status.state is TaskState.PENDING
        await stream.aclose()


@in_virtual_time
async def test_a_revision_that_brings_nothing_for_the_reader_is_told() -> None:
    async with sites() as [site]:
        await site.write(*service("web"))
        services = Services(site.access, site.ids, LoopClock())
        stream = Watching(site.view).watch(["node"])
        await anext(stream)
        [scaled] = await services.scale({"web": 3})
        async with asyncio.timeout(5):
            while (seen := await anext(stream)).revision < scaled.version:
                assert not seen.changes
        await stream.aclose()


@in_virtual_time
async def test_a_stack_s_watcher_sees_its_own_also_when_the_service_is_gone() -> None:
    async with sites() as [site]:
        ours, ours_version = service("shop_a", stack="shop")
        await site.write(ours, ours_version, *service("web"), task("mine", of="shop_a"), node("n1"))
        reader = Reader()
        stream = Watching(site.view).watch((), "shop")
        reader.take(await anext(stream))
        assert set(reader.known) == {
            records.key_of(value) for value in (ours, ours_version, task("mine"))
        }
        await site.write(task("other", of="web"), task("second", of="shop_a"))
        await site.erase(site.view.services[ours.id], site.view.versions[ours.id, 1])
        await site.erase(task("mine"), task("second"))
        while reader.revision < site.state.revision:
            reader.take(await anext(stream))
        assert not reader.known

        named = Watching(site.view).watch(["node", "task"], "shop")
        assert [type(c.either).__name__ for c in (await anext(named)).changes] == ["Node"]
        await named.aclose()
        await stream.aclose()


@in_virtual_time
async def test_a_reader_that_is_too_slow_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "CHANGES_WAITING_MAX", 5)
    async with sites() as [site]:
        stream = Watching(site.view).watch(())
        await anext(stream)
        for number in range(6):
            await site.write(task(f"t{number}"))
        with pytest.raises(OverloadedError, match="too slow"):
            await anext(stream)


@in_virtual_time
async def test_when_the_store_was_restored_from_a_backup_readers_begin_anew() -> None:
    async with sites() as [site]:
        await site.write(*service("web"), node("n1"))
        stream = Watching(site.view).watch(())
        await anext(stream)
        site.view.listed(Listing(site.view.revision - 1, []))
        with pytest.raises(UnavailableError, match="restored from a backup"):
            await anext(stream)


@in_virtual_time
async def test_a_stopping_manager_ends_its_watches_and_takes_no_more() -> None:
    async with sites() as [site]:
        all_watches = Watching(site.view)
        stream = all_watches.watch(())
        await anext(stream)
        waiting = asyncio.create_task(anext(stream))
        await asyncio.sleep(1)
        all_watches.close(UnavailableError("stops"))
        with pytest.raises(UnavailableError):
            await waiting
        with pytest.raises(UnavailableError):
            await anext(all_watches.watch(()))


@in_virtual_time
async def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    async with sites() as [site]:
        with pytest.raises(InvalidError, match=r"no kind 'tasks'; did you mean 'task'\?"):
            await anext(Watching(site.view).watch(["tasks"]))


@in_virtual_time
async def test_a_watch_that_ends_leaves_nothing_behind() -> None:
    async with sites() as [site]:
        stream = Watching(site.view).watch(())
        await anext(stream)
        await stream.aclose()
        assert not site.view._listeners
