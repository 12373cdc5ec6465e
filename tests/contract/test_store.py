"""Every store keeps the promises of manager/store/interface.py: in memory, and on a real etcd."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from itertools import pairwise

import pytest

from cluster.errors import InvalidError
from manager.store.etcd import EtcdStore
from manager.store.interface import (
    OPERATIONS_MAX,
    TRANSACTION_BYTES_MAX,
    Changed,
    CompactedError,
    Delete,
    Event,
    Guard,
    GuardFailedError,
    LeaseGoneError,
    LeaseId,
    Put,
    Removed,
    Revision,
    SameIncarnation,
    Store,
    StoreUnavailableError,
    TooLargeError,
    Unchanged,
    WatchBatch,
    Write,
)
from manager.store.memory import MemoryState, MemoryStore
from tests.harness.etcd import EtcdCluster

PROGRESS_SECONDS = 0.3
LEASE_SECONDS = 2  # the shortest that etcd grants

Connect = Callable[[], Store]


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdCluster]:
    often = ["--experimental-watch-progress-notify-interval", f"{PROGRESS_SECONDS}s"]
    with EtcdCluster(arguments=often) as cluster:
        yield cluster


@pytest.fixture(params=["memory", "etcd"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Make clients of one and the same store."""
    clients: list[Store] = []
    state = MemoryState()
    addresses = []
    if request.param == "etcd":
        addresses = request.getfixturevalue("etcd").endpoints

    def client() -> Store:
        clients.append(
            EtcdStore(addresses)
            if addresses
            else MemoryStore(state, progress_seconds=PROGRESS_SECONDS)
        )
        return clients[-1]

    yield client
    for one in clients:
        await one.aclose()


@pytest.fixture
def store(connect: Connect) -> Store:
    return connect()


@pytest.fixture
def root() -> str:
    """Return a prefix that no other test uses: etcd is shared."""
    return f"/{uuid.uuid4().hex}/"


async def events_of(batches: AsyncGenerator[WatchBatch, None], count: int) -> list[Event]:
    """Take at least *count* events, and check what must hold of every batch on the way."""
    events: list[Event] = []
    async with asyncio.timeout(20):
        while len(events) < count:
            batch = await anext(batches)
            for event in batch.events:
                assert event.mod_revision <= batch.revision
            events += batch.events
    return events


async def put(store: Store, key: str, value: bytes = b"", lease: LeaseId | None = None) -> Revision:
    return await store.commit([], [Put(key, value, lease) if lease else Put(key, value)])


# Reading


async def test_a_key_that_was_never_set_is_none(store: Store, root: str) -> None:
    assert await store.get(f"{root}a") is None


async def test_a_key_tells_its_value_and_revisions(store: Store, root: str) -> None:
    first = await put(store, f"{root}a", b"\x00\xff one")
    second = await put(store, f"{root}a", b"two")

    item = await store.get(f"{root}a")

    assert item is not None
    assert (item.key, item.value, item.lease) == (f"{root}a", b"two", 0)
    assert (item.create_revision, item.mod_revision) == (first, second)


async def test_a_key_that_is_set_again_after_a_deletion_is_a_new_one(
    store: Store, root: str
) -> None:
    await put(store, f"{root}a")
    await store.commit([], [Delete(f"{root}a")])
    again = await put(store, f"{root}a")

    item = await store.get(f"{root}a")

    assert item is not None
    assert item.create_revision == item.mod_revision == again


async def test_a_listing_is_sorted_and_holds_the_prefix_only(store: Store, root: str) -> None:
    names = ["b", "a/x", "a", "ä", "z", "aa", "\U0001f41f"]  # in no order, of one to four bytes
    revisions = [await put(store, f"{root}in{name}", name.encode()) for name in names]
    last = await put(store, f"{root}io")

    listing = await store.list(f"{root}in")

    assert [item.key for item in listing.items] == sorted(f"{root}in{name}" for name in names)
    assert {item.mod_revision for item in listing.items} == set(revisions)
    assert listing.revision == last


async def test_an_empty_prefix_lists_everything(store: Store, root: str) -> None:
    await store.commit([], [Put(f"{root}a", b""), Put(f"\x01{root}", b"")])

    keys = [item.key for item in (await store.list("")).items]

    assert {f"{root}a", f"\x01{root}"} <= set(keys)
    assert keys == sorted(keys)


async def test_a_listing_of_nothing_still_tells_the_revision(store: Store, root: str) -> None:
    revision = await put(store, f"{root}a")
    listing = await store.list(f"{root}b")
    assert (list(listing.items), listing.revision) == ([], revision)


async def test_clients_see_what_each_other_wrote(connect: Connect, root: str) -> None:
    one, other = connect(), connect()
    revision = await put(one, f"{root}a")
    item = await other.get(f"{root}a")
    assert item is not None
    assert item.mod_revision == revision


# Transactions


async def test_all_writes_of_a_transaction_have_one_new_revision(store: Store, root: str) -> None:
    before = await put(store, f"{root}gone")

    revision = await store.commit(
        [], [Put(f"{root}a", b""), Put(f"{root}b", b""), Delete(f"{root}gone")]
    )

    listing = await store.list(root)
    assert revision == before + 1 == listing.revision
    assert {item.key: item.mod_revision for item in listing.items} == {
        f"{root}a": revision,
        f"{root}b": revision,
    }


async def test_where_nothing_changes_there_is_no_new_revision(store: Store, root: str) -> None:
    revision = await put(store, f"{root}a")

    assert await store.commit([], [Delete(f"{root}none")]) == revision
    assert await store.commit([Unchanged(f"{root}a", revision)], []) == revision
    assert (await store.list(root)).revision == revision


async def test_guards_that_hold_let_the_writes_through(store: Store, root: str) -> None:
    created = await store.commit([Unchanged(f"{root}a", 0)], [Put(f"{root}a", b"1")])
    changed = await store.commit([Unchanged(f"{root}a", created)], [Put(f"{root}a", b"2")])
    await store.commit(
        [Unchanged(f"{root}a", changed), SameIncarnation(f"{root}a", created)],
        [Put(f"{root}b", b"3")],
    )
    item = await store.get(f"{root}b")
    assert item is not None


@pytest.mark.parametrize(
    "broken", ["exists", "missing", "moved on", "recreated", "missing incarnation"]
)
async def test_a_guard_that_does_not_hold_stops_every_write(
    store: Store, root: str, broken: str
) -> None:
    old = await put(store, f"{root}a")
    await store.commit([], [Delete(f"{root}a")])
    created = await put(store, f"{root}a")
    newest = await put(store, f"{root}a", b"now")
    good: list[Guard] = [Unchanged(f"{root}a", newest), SameIncarnation(f"{root}a", created)]
    bads: dict[str, Guard] = {
        "exists": Unchanged(f"{root}a", 0),
        "missing": Unchanged(f"{root}none", newest),
        "moved on": Unchanged(f"{root}a", created),
        "recreated": SameIncarnation(f"{root}a", old),
        "missing incarnation": SameIncarnation(f"{root}none", created),
    }

    with pytest.raises(GuardFailedError) as failure:
        await store.commit(
            [*good, bads[broken], Unchanged(f"{root}other", 0)],
            [Put(f"{root}b", b""), Delete(f"{root}a"), Put(f"{root}c", b"")],
        )

    item = await store.get(f"{root}a")
    assert item is not None
    assert (item.value, item.mod_revision) == (b"now", newest)
    assert [one.key for one in (await store.list(root)).items] == [f"{root}a"]
    assert failure.value.revision == newest
    expected = {f"{root}a": item, f"{root}other": None}
    if "missing" in broken:
        expected[f"{root}none"] = None
    assert failure.value.current == expected


async def test_of_many_that_decided_on_the_same_revision_one_writes(
    connect: Connect, root: str
) -> None:
    clients = [connect() for _ in range(5)]
    start = await put(clients[0], f"{root}n", b"0")

    async def claim(client: Store) -> bool:
        try:
            await client.commit([Unchanged(f"{root}n", start)], [Put(f"{root}n", b"1")])
        except GuardFailedError:
            return False
        return True

    claims = await asyncio.gather(*(claim(client) for client in clients * 4))

    assert claims.count(True) == 1


async def test_increments_that_decide_anew_are_never_lost(connect: Connect, root: str) -> None:
    async def add_ten(client: Store) -> None:
        guard, number = Unchanged(f"{root}n", 0), 0
        for _ in range(10):
            while True:
                try:
                    revision = await client.commit(
                        [guard], [Put(f"{root}n", str(number + 1).encode())]
                    )
                except GuardFailedError as failure:
                    found = failure.current[f"{root}n"]
                    assert found is not None
                    guard, number = Unchanged(f"{root}n", found.mod_revision), int(found.value)
                else:
                    guard, number = Unchanged(f"{root}n", revision), number + 1
                    break

    clients = [connect() for _ in range(4)]
    await asyncio.gather(*(add_ten(client) for client in clients))

    item = await clients[0].get(f"{root}n")
    assert item is not None
    assert item.value == b"40"


@pytest.mark.parametrize(
    ("guards", "writes"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([], [Put("a", b""), Put("a", b"")], id="a key written twice"),
        pytest.param([], [Put("a", b""), Delete("a")], id="a key written and deleted"),
        pytest.param([], [Put("", b"")], id="an empty key written"),
        pytest.param([Unchanged("", 0)], [], id="an empty key guarded"),
        pytest.param([SameIncarnation("a", 0)], [Put("b", b"")], id="no incarnation"),
    ],
)
async def test_what_can_never_be_right_is_refused(
    store: Store, guards: list[Guard], writes: list[Write]
) -> None:
    with pytest.raises(InvalidError):
        await store.commit(guards, writes)


async def test_a_transaction_may_be_as_large_as_the_limits_say(store: Store, root: str) -> None:
    keys = [f"{root}{number:03}" for number in range(OPERATIONS_MAX)]
    share = (TRANSACTION_BYTES_MAX - 200 * len(keys)) // len(keys)
    await store.commit(
        [Unchanged(key, 0) for key in keys], [Put(key, b"x" * share) for key in keys]
    )
    assert len((await store.list(root)).items) == OPERATIONS_MAX


@pytest.mark.parametrize("too_much", ["writes", "guards", "bytes", "far more bytes"])
async def test_a_transaction_beyond_the_limits_is_refused_whole(
    store: Store, root: str, too_much: str
) -> None:
    keys = [f"{root}{number:03}" for number in range(OPERATIONS_MAX + 1)]
    guards = [Unchanged(key, 0) for key in keys] if too_much == "guards" else []
    size = {"bytes": TRANSACTION_BYTES_MAX, "far more bytes": 3 * TRANSACTION_BYTES_MAX}
    writes = [Put(key, b"") for key in (keys if too_much == "writes" else keys[:1])]
    if too_much in size:
        writes = [Put(keys[0], b"x" * size[too_much])]

    with pytest.raises(TooLargeError):
        await store.commit(guards, writes)

    assert list((await store.list(root)).items) == []


# Watches


async def test_a_watch_yields_all_that_came_after(store: Store, root: str) -> None:
    start = await put(store, f"{root}a", b"before")
    changed = await put(store, f"{root}a", b"after")
    removed = await store.commit([], [Delete(f"{root}a")])
    again = await put(store, f"{root}a", b"again")

    async with aclosing(store.watch(root, start)) as watch:
        events = await events_of(watch, 3)
        live = await put(store, f"{root}a", b"live")
        events += await events_of(watch, 1)

    assert [event.mod_revision for event in events] == [changed, removed, again, live]
    assert events[1] == Removed(f"{root}a", removed)
    values = [event.item.value for event in events if isinstance(event, Changed)]
    created = [event.item.create_revision for event in events if isinstance(event, Changed)]
    assert values == [b"after", b"again", b"live"]
    assert created == [start, again, again]


async def test_a_watch_sees_its_prefix_only(store: Store, root: str) -> None:
    start = await put(store, f"{root}in/0")
    await put(store, f"{root}io")
    await store.commit([], [Put(f"{root}i", b""), Put(f"{root}in/1", b""), Put(f"{root}j", b"")])
    await put(store, f"{root}in/2")

    async with aclosing(store.watch(f"{root}in/", start)) as watch:
        events = await events_of(watch, 2)

    assert [event.key for event in events] == [f"{root}in/1", f"{root}in/2"]


async def test_a_revision_is_never_split_over_batches(store: Store, root: str) -> None:
    start = await put(store, f"{root}0")
    revisions = [
        await store.commit([], [Put(f"{root}{number:03}", b"x" * 1000) for number in range(100)])
        for _ in range(30)
    ]
    seen: list[Revision] = []
    async with asyncio.timeout(20), aclosing(store.watch(root, start)) as watch:
        async for batch in watch:
            for revision in sorted({event.mod_revision for event in batch.events}):
                of_it = [event for event in batch.events if event.mod_revision == revision]
                assert [event.key for event in of_it] == [f"{root}{n:03}" for n in range(100)]
                seen.append(revision)
            if len(seen) == 30:
                break
    assert seen == revisions


async def test_a_watch_in_the_midst_of_writes_misses_and_repeats_nothing(
    connect: Connect, root: str
) -> None:
    writer, reader = connect(), connect()
    start = await put(writer, f"{root}start")
    written: list[Revision] = []

    async def write() -> None:
        written.extend([await put(writer, f"{root}{number % 7}") for number in range(300)])

    writing = asyncio.create_task(write())
    async with aclosing(reader.watch(root, start)) as one:
        first = [event.mod_revision for event in await events_of(one, 20)]
        async with aclosing(reader.watch(root, first[9])) as two:  # begun amidst
            second = [event.mod_revision for event in await events_of(two, 290)]
        first += [event.mod_revision for event in await events_of(one, 300 - len(first))]
    await writing

    assert first == written
    assert second == written[10:]


async def test_a_watch_tells_of_its_progress_when_nothing_happens_to_its_keys(
    store: Store, root: str
) -> None:
    start = await put(store, f"{root}a")
    async with asyncio.timeout(20), aclosing(store.watch(f"{root}none/", start)) as watch:
        elsewhere = await put(store, f"{root}b")
        async for batch in watch:
            assert not batch.events
            if batch.revision >= elsewhere:
                break


async def test_progress_is_never_told_before_the_events(store: Store, root: str) -> None:
    start = await put(store, f"{root}a")
    revisions = []
    position = start
    async with asyncio.timeout(20), aclosing(store.watch(root, start)) as watch:
        for _ in range(5):
            revisions.append(await put(store, f"{root}a"))
            while position < revisions[-1]:
                batch = await anext(watch)
                assert batch.revision >= position
                assert [event.mod_revision for event in batch.events] == [
                    revision for revision in revisions if position < revision <= batch.revision
                ]
                position = batch.revision
            await asyncio.sleep(PROGRESS_SECONDS / 2)  # so that both kinds of batch come


async def test_a_watch_ends_when_its_task_is_cancelled(store: Store, root: str) -> None:
    start = await put(store, f"{root}a")
    seen = asyncio.Event()

    async def read() -> None:
        async for _ in store.watch(root, start - 1):
            seen.set()

    reading = asyncio.create_task(read())
    await asyncio.wait_for(seen.wait(), 20)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert await store.get(f"{root}a") is not None


async def test_a_closed_client_ends_its_watches_and_answers_no_more(
    connect: Connect, root: str
) -> None:
    client, other = connect(), connect()
    start = await put(client, f"{root}a")
    watch, others_watch = client.watch(root, start - 1), other.watch(root, start - 1)
    await asyncio.gather(events_of(watch, 1), events_of(others_watch, 1))  # both are open
    waiting = asyncio.create_task(events_of(watch, 1))
    others = asyncio.create_task(events_of(others_watch, 1))
    await asyncio.sleep(0)  # both wait

    await client.aclose()

    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(StoreUnavailableError):
        await client.get(f"{root}a")
    with pytest.raises(StoreUnavailableError):
        await put(client, f"{root}a")
    revision = await put(other, f"{root}a")
    assert [event.mod_revision for event in await others] == [revision]
    await others_watch.aclose()


# Compaction


async def test_a_watch_from_before_a_compaction_is_told(store: Store, root: str) -> None:
    revisions = [await put(store, f"{root}a") for _ in range(5)]
    await store.compact(revisions[3])

    async with aclosing(store.watch(root, revisions[1])) as watch:
        with pytest.raises(CompactedError):
            await asyncio.wait_for(anext(watch), 20)
    async with aclosing(store.watch(root, revisions[2])) as watch:  # the first that is kept
        events = await events_of(watch, 2)

    assert [event.mod_revision for event in events] == revisions[3:]


async def test_a_compaction_does_not_disturb_a_live_watch(store: Store, root: str) -> None:
    start = await put(store, f"{root}a")
    async with aclosing(store.watch(root, start)) as watch:
        first = await put(store, f"{root}a")
        events = await events_of(watch, 1)
        await store.compact(first)
        second = await put(store, f"{root}a")
        events += await events_of(watch, 1)

    assert [event.mod_revision for event in events] == [first, second]


async def test_compacting_keeps_what_stands_and_may_be_repeated(store: Store, root: str) -> None:
    await put(store, f"{root}a", b"old")
    revision = await put(store, f"{root}a", b"new")

    await store.compact(revision)
    await store.compact(revision)
    await store.compact(revision - 1)

    item = await store.get(f"{root}a")
    assert item is not None
    assert item.value == b"new"


async def test_the_future_cannot_be_compacted(store: Store, root: str) -> None:
    revision = await put(store, f"{root}a")
    with pytest.raises(InvalidError):
        await store.compact(revision + 1000)


# Leases


async def test_a_lease_that_runs_out_takes_its_keys_at_one_revision(
    store: Store, root: str
) -> None:
    loop = asyncio.get_running_loop()
    granted_at = loop.time()
    lease = await store.grant_lease(LEASE_SECONDS)
    start = await store.commit(
        [], [Put(f"{root}b", b"", lease), Put(f"{root}a", b"", lease), Put(f"{root}c", b"")]
    )

    async with aclosing(store.watch(root, start)) as watch:
        events = await events_of(watch, 2)

    assert loop.time() - granted_at >= LEASE_SECONDS
    assert events == [
        Removed(f"{root}a", events[0].mod_revision),
        Removed(f"{root}b", events[0].mod_revision),
    ]
    assert [item.key for item in (await store.list(root)).items] == [f"{root}c"]
    assert await store.keep_alive(lease) == 0.0


async def test_a_lease_that_is_kept_alive_stays(store: Store, root: str) -> None:
    lease = await store.grant_lease(LEASE_SECONDS)
    left_alone = await store.grant_lease(LEASE_SECONDS)
    start = await store.commit(
        [], [Put(f"{root}a", b"", lease), Put(f"{root}alone", b"", left_alone)]
    )
    item = await store.get(f"{root}a")
    assert item is not None
    assert item.lease == lease

    async def keep() -> None:
        while True:
            assert LEASE_SECONDS <= await store.keep_alive(lease) <= 2 * LEASE_SECONDS
            await asyncio.sleep(LEASE_SECONDS / 4)

    keeping = asyncio.create_task(keep())
    async with aclosing(store.watch(root, start)) as watch:
        assert [event.key for event in await events_of(watch, 1)] == [f"{root}alone"]
    assert not keeping.done()
    keeping.cancel()
    assert await store.get(f"{root}a") is not None


async def test_a_revoked_lease_takes_its_keys_at_once(store: Store, root: str) -> None:
    lease = await store.grant_lease(60)
    await store.commit([], [Put(f"{root}a", b"", lease), Put(f"{root}b", b"", lease)])

    await store.revoke_lease(lease)

    assert list((await store.list(root)).items) == []
    await store.revoke_lease(lease)
    assert await store.keep_alive(lease) == 0.0


async def test_a_key_goes_with_the_lease_of_its_last_put(store: Store, root: str) -> None:
    first, second = await store.grant_lease(60), await store.grant_lease(60)
    for key in ("moved", "freed", "deleted"):
        await put(store, f"{root}{key}", lease=first)
    await put(store, f"{root}moved", lease=second)
    await put(store, f"{root}freed")
    await store.commit([], [Delete(f"{root}deleted")])
    await put(store, f"{root}deleted")

    await store.revoke_lease(first)
    assert len((await store.list(root)).items) == 3

    await store.revoke_lease(second)
    keys = [item.key for item in (await store.list(root)).items]
    assert keys == [f"{root}deleted", f"{root}freed"]


async def test_a_write_under_a_lease_that_is_gone_writes_nothing(store: Store, root: str) -> None:
    gone, here = await store.grant_lease(60), await store.grant_lease(60)
    await store.revoke_lease(gone)

    with pytest.raises(LeaseGoneError):
        await store.commit([], [Put(f"{root}a", b"", here), Put(f"{root}b", b"", gone)])
    with pytest.raises(GuardFailedError):  # the guard comes first
        await store.commit([Unchanged(f"{root}a", 7)], [Put(f"{root}b", b"", gone)])

    assert list((await store.list(root)).items) == []
    await store.revoke_lease(here)


async def test_no_two_leases_are_the_same(connect: Connect) -> None:
    clients = [connect(), connect()]
    leases = [await client.grant_lease(60) for client in clients * 3]
    assert len(set(leases)) == len(leases)
    assert all(one != other for one, other in pairwise(leases))
    for lease in leases:
        await clients[0].revoke_lease(lease)
