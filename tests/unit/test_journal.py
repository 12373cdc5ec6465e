"""The journal: what is written with which changes, what it costs, and what it never holds."""

import msgspec
import pytest

from cluster.model import (
    ContainerSpec,
    Event,
    NodeState,
    NodeStatus,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from manager.committer import ERASED_TOGETHER_MAX, Change, Committer, Fence, FenceBrokenError
from manager.control.events import Asked, Events
from manager.control.picture import Picture
from manager.control.services import Services
from manager.control.tasks import Tasks
from manager.dispatch.statuses import Report, Statuses
from manager.journal import pruning
from manager.journal.entries import events_of
from manager.journal.moments import Moment, told
from manager.journal.pruning import surplus
from manager.store import keys
from manager.store.interface import Delete, KeyValue, Put, Unchanged
from manager.store.memory import MemoryStore
from tests.fakes.sites import Site, node, node_id, service, sites, spec, task
from tests.fakes.virtual_time import LoopClock, in_virtual_time

replace = msgspec.structs.replace


async def committer_of(site: Site) -> Committer:
    store = MemoryStore(site.state)
    await store.commit([Unchanged(keys.LEADER, 0)], [Put(keys.LEADER, b"m0")])
    item = await store.get(keys.LEADER)
    assert item is not None
    return Committer(site.store, site.view, Fence(item), site.journal)


def events_at(site: Site, hostname: str = "n1") -> list[Event]:
    items = sorted(site.state.list(keys.JOURNAL).items, key=lambda item: item.mod_revision)
    return [event for item in items for event in events_of(item, lambda _: hostname)]


def events_api(site: Site) -> Events:
    return Events(site.store, site.access, Tasks(site.access, Picture(site.view), LoopClock()))


async def all_of(site: Site, asked: Asked) -> list[Event]:
    return [event async for told in events_api(site).stream(asked) for event in told.events]


# --- what a change is called ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "event"),
    [
        (None, task("t"), "created"),
        (task("t"), None, "forgotten"),
        (task("t"), task("t", on="n1", state=TaskState.ASSIGNED), "assigned"),
        (task("t", desired=TaskState.READY), task("t"), "released"),
        (task("t", desired=TaskState.READY), task("t", desired=TaskState.COMPLETE), "released"),
        (task("t"), replace(task("t"), moving="because"), "moving"),
        (replace(task("t"), moving="node n1 is drained"), task("t"), "staying"),
        (task("t"), task("t", desired=TaskState.SHUTDOWN), "stopping"),
        (task("t"), task("t", desired=TaskState.REMOVE), "removing"),
        (
            task("t", state=TaskState.RUNNING),
            task("t", state=TaskState.ORPHANED, desired=TaskState.SHUTDOWN),
            "orphaned",
        ),
    ],
)
@in_virtual_time
async def test_what_becomes_of_a_task_has_a_name(old: object, new: object, event: str) -> None:
    async with sites() as (site,):
        (found,) = told(Moment(old, new, "because"), site.view)  # type: ignore[arg-type]
        assert (found[0].event, found[0].why) == (event, "because")


@in_virtual_time
async def test_a_task_that_stays_as_it_is_says_nothing() -> None:
    async with sites() as (site,):
        assert not list(told(Moment(task("t"), replace(task("t"), failures=1)), site.view))


@in_virtual_time
async def test_a_node_that_is_lost_says_so_and_why() -> None:
    async with sites() as (site,):
        down = replace(node("n1"), status=NodeStatus(state=NodeState.DOWN, message="no heartbeat"))
        (found,) = told(Moment(node("n1"), down, "the node is down"), site.view)
        assert (found[0].kind, found[0].event, found[0].why) == ("node", "down", "no heartbeat")


# --- with the changes, and only with them -----------------------------------------------------


@in_virtual_time
async def test_a_hundred_decisions_are_one_key_in_their_own_transaction() -> None:
    async with sites() as (site,):
        committer = await committer_of(site)
        made = [Change(save=(task(f"t{n}", slot=n),), why="no live task") for n in range(1, 101)]
        assert await committer.commit(made) == 0
        ((_, writes),) = site.store.commits
        assert len(writes) == 100 + 1
        (item,) = site.state.list(keys.JOURNAL).items
        tasks = site.state.list(f"{keys.PREFIX}tasks/").items
        assert {each.mod_revision for each in tasks} == {item.mod_revision}
        assert [event.slot for event in events_of(item, str)] == list(range(1, 101))
        # What is alike is said once: an event takes little more than the id of its object.
        assert len(item.value) < 100 * 45


@in_virtual_time
async def test_what_was_not_written_is_not_told() -> None:
    async with sites() as (site,):
        committer = await committer_of(site)
        await site.write(task("stale", desired=TaskState.SHUTDOWN))
        changes = [Change(save=(task("stale"),)), Change(save=(task("fresh"),))]
        assert await committer.commit(changes) == 1
        assert [event.id for event in events_at(site)] == ["fresh"]


@in_virtual_time
async def test_a_deposed_leader_writes_no_entry() -> None:
    async with sites() as (site,):
        committer = await committer_of(site)
        item = await site.store.get(keys.LEADER)
        assert item is not None
        store = MemoryStore(site.state)
        await store.commit([Unchanged(keys.LEADER, item.mod_revision)], [Delete(keys.LEADER)])
        for attempt in (
            committer.commit([Change(save=(task("t"),))]),
            committer.note("manager", "leads", id_="m0", name="m0"),
            committer.erase(["x"]),
        ):
            with pytest.raises(FenceBrokenError):
                await attempt
        assert not events_at(site)


# --- from the request to the container --------------------------------------------------------


@in_virtual_time
async def test_all_that_a_request_leads_to_names_it() -> None:
    async with sites() as (site,):
        committer = await committer_of(site)
        await site.write(node("n1"))
        services = Services(site.access, site.ids, LoopClock())
        made = await services.create(spec())
        (version,) = site.view.versions.values()
        assert version.request_id
        fresh = replace(task("t"), service_id=made.id)
        await committer.commit([Change(save=(fresh,), why="its place has no live task")])
        bound = replace(
            site.view.tasks[fresh.id],
            node_id=node_id("n1"),
            status=TaskStatus(state=TaskState.ASSIGNED),
        )
        await committer.commit([Change(save=(bound,), why="it fits there")])
        statuses = Statuses(site.store, site.view, site.journal)
        running = TaskStatus(state=TaskState.RUNNING, at=5.0, container_id="c" * 64)
        await statuses.report(node_id("n1"), [Report(fresh.id, running)])
        await statuses.close()
        told_of = await all_of(site, Asked(request_id=version.request_id))
        assert [(each.kind, each.event) for each in told_of] == [
            ("service", "created"),
            ("task", "created"),
            ("task", "assigned"),
            ("task", "running"),
        ]
        assert told_of[-1].container_id == "c" * 12
        assert told_of[-1].at == 5.0
        assert told_of[-1].node == "n1"


@in_virtual_time
async def test_no_secret_gets_into_the_journal() -> None:
    """I16: environment and command of a service that is made, changed and removed."""
    secret = "correct-horse-battery"

    def with_secret(number: int) -> TaskSpec:
        return TaskSpec(
            container=ContainerSpec(
                image="app:1",
                environment={"TOKEN": f"{secret}{number}"},
                command=("serve", f"{secret}{number}"),
            )
        )

    async with sites() as (site,):
        services = Services(site.access, site.ids, LoopClock())
        made = await services.create(spec(task=with_secret(1)))
        await services.update(made.id, made.version, spec(task=with_secret(2)))
        await services.remove([made.id])
        items = site.state.list(keys.JOURNAL).items
        assert len(items) == 3
        assert not [item for item in items if secret.encode() in item.value]
        assert "environment.TOKEN" in events_at(site)[1].why


# --- asking -----------------------------------------------------------------------------------


@in_virtual_time
async def test_events_are_found_by_what_they_concern_also_when_it_is_gone() -> None:
    async with sites() as (site,):
        committer = await committer_of(site)
        await site.write(*service("web"), *service("db"))
        for each in (task("a"), task("b", of="db")):
            await committer.commit([Change(save=(each,))])
        await site.erase(service("web")[0])
        assert [e.id for e in await all_of(site, Asked(service="db"))] == ["b"]
        assert [e.id for e in await all_of(site, Asked(service="web"))] == ["a"]
        assert [e.id for e in await all_of(site, Asked(task="b"))] == ["b"]
        assert [e.id for e in await all_of(site, Asked(tail=1))] == ["b"]
        assert not await all_of(site, Asked(kinds=("node",)))
        assert not await all_of(site, Asked(since=LoopClock().now() + 1))


@in_virtual_time
async def test_what_is_followed_begins_with_the_past_and_misses_nothing() -> None:
    async with sites() as (site,):
        committer = await committer_of(site)
        await committer.commit([Change(save=(task("a"),))])
        stream = events_api(site).stream(Asked(follow=True))
        seen: list[str] = []
        wanted = ["a"]
        async for told_now in stream:
            seen += [event.id for event in told_now.events]
            if seen == wanted and len(wanted) < 4:
                name = f"t{len(wanted)}"
                wanted.append(name)
                await committer.commit([Change(save=(task(name),))])
                if len(wanted) == 3:  # the history that the watch needs is forgotten
                    await site.store.compact(site.state.revision)
            if len(seen) == 4:
                break
        await stream.aclose()
        assert seen == wanted


async def test_a_story_has_the_request_the_predecessors_and_the_task() -> None:
    """In real time: how a task is, is explained in a thread, which virtual time does not wait for."""
    async with sites() as (site,):
        committer = await committer_of(site)
        made = await Services(site.access, site.ids, LoopClock()).create(spec())
        first, second = (replace(task(name), service_id=made.id) for name in ("t1", "t2"))
        other = replace(task("o", slot=2), service_id=made.id)
        await committer.commit([Change(save=(first,)), Change(save=(other,))])
        stopped = replace(site.view.tasks[first.id], desired_state=TaskState.SHUTDOWN)
        await committer.commit([Change(save=(stopped, second), why="its node is drained")])
        story = await events_api(site).story("t2")
        assert [event.event for event in story.request] == ["created"]
        assert [(e.id, e.event) for e in story.predecessors] == [
            ("t1", "created"),
            ("t1", "stopping"),
        ]
        assert [(e.event, e.why) for e in story.events] == [("created", "its node is drained")]
        assert story.explanation
        await committer.commit([Change(drop=(site.view.tasks[first.id],))])
        gone = await events_api(site).story("t1")
        assert gone.summary is None
        assert [event.event for event in gone.events] == ["created", "stopping", "forgotten"]
        assert not gone.predecessors


async def test_a_run_of_a_job_is_no_predecessor_of_the_next() -> None:
    """In real time, as above: slot 1 of another run is another place."""
    async with sites() as (site,):
        committer = await committer_of(site)
        await site.write(*service("web"))
        for name, run in (("t1", 1), ("t2", 2), ("t3", 2)):
            await committer.commit([Change(save=(replace(task(name), run=run),))])
        story = await events_api(site).story("t3")
        assert [event.id for event in story.predecessors] == ["t2"]
        assert story.events[0].name.endswith(".1 of run 2")


# --- bounds -----------------------------------------------------------------------------------


def entry(revision: int, *, at: float = 1_000_000.0, size: int = 10) -> KeyValue:
    return KeyValue(keys.journal(at, f"{revision:012d}"), b"x" * size, revision, revision)


def test_within_its_bounds_nothing_goes() -> None:
    assert not surplus([entry(n) for n in range(1, 100)], 1_000_000.0)


def test_what_is_too_old_goes() -> None:
    now = 1_000_000.0 + pruning.AGE_SECONDS_MAX + 1
    items = [entry(1), entry(2), entry(3, at=now)]
    assert surplus(items, now) == [items[0].key, items[1].key]


def test_of_too_many_the_first_go_whatever_their_clocks_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning, "ENTRIES_MAX", 2)
    items = [entry(3), entry(1, at=1_000_060.0), entry(2), entry(4)]
    assert surplus(items, 1_000_000.0) == [items[1].key, items[2].key]


def test_what_is_too_large_in_all_shrinks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BYTES_MAX", 25)
    items = [entry(1), entry(2), entry(3)]
    assert surplus(items, 1_000_000.0) == [items[0].key]


@in_virtual_time
async def test_the_leader_prunes_in_transactions_that_etcd_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning, "ENTRIES_MAX", 5)
    async with sites() as (site,):
        committer = await committer_of(site)
        store = MemoryStore(site.state)
        for number in range(3 * ERASED_TOGETHER_MAX):
            await store.commit([], [Put(keys.journal(number, "x"), b"{}")])
        gone = surplus(site.state.list(keys.JOURNAL).items, 0.0)
        await committer.erase(gone)
        left = site.state.list(keys.JOURNAL).items
        assert len(left) == 5
        assert left[-1].key == keys.journal(3 * ERASED_TOGETHER_MAX - 1, "x")
        assert max(len(writes) for _, writes in site.store.commits) == ERASED_TOGETHER_MAX
