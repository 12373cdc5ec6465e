"""What the client of etcd does when members die, hang, forget, or ask for credentials."""

import asyncio
import shutil
import subprocess
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from cluster.errors import ForbiddenError, InvalidError
from manager.store.etcd import EtcdStore, TlsFiles
from manager.store.interface import (
    CompactedError,
    Event,
    GuardFailedError,
    Put,
    Revision,
    StoreUnavailableError,
    Unchanged,
    WatchBatch,
)
from tests.harness.etcd import EtcdCluster, EtcdProcess
from tests.harness.tcp_proxy import TcpProxy

# The promise is three seconds; the machine that runs the tests is shared.
FAILOVER_SECONDS = 5.0
PATIENCE_SECONDS = 40.0

Connect = Callable[..., EtcdStore]


@pytest.fixture(scope="module")
def shared() -> Iterator[EtcdCluster]:
    with EtcdCluster() as cluster:
        yield cluster


@pytest.fixture
def single() -> Iterator[EtcdCluster]:
    with EtcdCluster() as cluster:
        yield cluster


@pytest.fixture
def three() -> Iterator[EtcdCluster]:
    with EtcdCluster(3) as cluster:
        yield cluster


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        def client(endpoints: Sequence[str], **options: object) -> EtcdStore:
            store = EtcdStore(endpoints, **options)  # type: ignore[arg-type]
            stack.push_async_callback(store.aclose)
            return store

        yield client


@pytest.fixture
def root() -> str:
    return f"/{uuid.uuid4().hex}/"


async def put(store: EtcdStore, key: str, value: bytes = b"") -> Revision:
    return await store.commit([], [Put(key, value)])


async def put_somehow(store: EtcdStore, key: str, number: int) -> None:
    """Set *key* from one number to the next, once, however often the store fails to answer."""
    before = b"" if number == 0 else str(number - 1).encode()
    wanted = str(number).encode()
    while True:
        try:
            item = await store.get(key)
            if item is not None and item.value == wanted:
                return  # what had got no answer was done
            assert (item.value if item else b"") == before
            await store.commit(
                [Unchanged(key, item.mod_revision if item else 0)], [Put(key, wanted)]
            )
        except (StoreUnavailableError, GuardFailedError):
            continue
        return


async def numbers_of(watch: AsyncGenerator[WatchBatch, None], last: int) -> list[int]:
    """Read numbers until *last* has come."""
    numbers: list[int] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for batch in watch:
            numbers += [int(event.item.value) for event in batch.events]  # type: ignore[union-attr]
            if numbers and numbers[-1] >= last:
                return numbers
    raise AssertionError("the watch ended")


async def events_of(watch: AsyncGenerator[WatchBatch, None], count: int) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(events) < count:
            events += (await anext(watch)).events
    return events


def in_use(cluster: EtcdCluster, store: EtcdStore) -> EtcdProcess:
    return next(member for member in cluster.members if member.endpoint == store.endpoint)


# Members that die or hang


async def test_a_watch_loses_and_repeats_nothing_while_members_die_and_hang(
    three: EtcdCluster, connect: Connect, root: str
) -> None:
    writer, reader = connect(three.endpoints), connect(three.endpoints)
    await reader.get(root)
    faults = {30: "kill", 60: "pause", 90: "kill", 120: "pause"}
    last = 150

    async def write() -> None:
        for number in range(last + 1):
            await put_somehow(writer, f"{root}n", number)
            if number in faults:
                member = in_use(three, reader if faults[number] == "pause" else writer)
                if faults[number] == "kill":
                    member.kill()
                    await asyncio.to_thread(member.start)
                else:
                    member.pause()
                    pausing.append(asyncio.create_task(resume_later(member)))

    async def resume_later(member: EtcdProcess) -> None:
        await asyncio.sleep(4)  # longer than anyone's patience with one member
        member.resume()

    pausing: list[asyncio.Task[None]] = []
    writing = asyncio.create_task(write())
    async with aclosing(reader.watch(root, 0)) as watch:
        numbers = await numbers_of(watch, last)
    await writing
    await asyncio.gather(*pausing)

    assert numbers == list(range(last + 1))


@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_a_write_goes_elsewhere_soon_after_a_member_hangs(
    three: EtcdCluster, connect: Connect, root: str, role: str
) -> None:
    leader = three.leader()
    victim = next(m for m in three.members if (m is leader) == (role == "leader"))
    others = [member.endpoint for member in three.members if member is not victim]
    store = connect([victim.endpoint, *others])
    while store.endpoint != victim.endpoint:  # each client begins with a member of its own
        store = connect([victim.endpoint, *others])
    start = await put(store, f"{root}a")
    watch = store.watch(root, start - 1)
    await events_of(watch, 1)

    victim.pause()
    hung_at = asyncio.get_running_loop().time()
    reading = asyncio.create_task(events_of(watch, 1))
    while True:
        try:
            revision = await store.commit([Unchanged(f"{root}b", 0)], [Put(f"{root}b", b"")])
        except StoreUnavailableError:
            continue
        except GuardFailedError as failure:  # one that got no answer was done
            item = failure.current[f"{root}b"]
            assert item is not None
            revision = item.mod_revision
        break
    written_at = asyncio.get_running_loop().time()
    [event] = await reading
    watched_at = asyncio.get_running_loop().time()
    victim.resume()
    await watch.aclose()

    assert event.mod_revision == revision
    assert written_at - hung_at < FAILOVER_SECONDS
    assert watched_at - written_at < FAILOVER_SECONDS


async def test_an_idle_watch_leaves_a_member_that_hangs(
    three: EtcdCluster, connect: Connect, root: str
) -> None:
    reader = connect(three.endpoints)
    start = await put(reader, f"{root}a")
    watch = reader.watch(root, start - 1)
    await events_of(watch, 1)
    victim = in_use(three, reader)
    writer = connect([member.endpoint for member in three.members if member is not victim])

    victim.pause()
    hung_at = asyncio.get_running_loop().time()
    reading = asyncio.create_task(events_of(watch, 1))
    await put_somehow(writer, f"{root}n", 0)
    await reading
    seen_at = asyncio.get_running_loop().time()
    victim.resume()
    await watch.aclose()

    # A ping after 6 s, 2 s for its answer, then a new stream; without ping_timeout: a minute.
    assert seen_at - hung_at < 15


async def test_a_lease_is_kept_alive_while_a_member_hangs(
    three: EtcdCluster, connect: Connect
) -> None:
    store = connect(three.endpoints)
    lease = await store.grant_lease(10)
    assert await store.keep_alive(lease) == 10.0
    leader = three.leader()
    victim = in_use(three, store)
    if victim is leader:  # its hang would be an election's matter
        store = connect([member.endpoint for member in three.members if member is not leader])
        assert await store.keep_alive(lease) == 10.0
        victim = in_use(three, store)

    victim.pause()
    async with asyncio.timeout(FAILOVER_SECONDS):
        assert await store.keep_alive(lease) == 10.0
    victim.resume()


async def test_a_member_that_is_down_from_the_start_costs_no_call(
    three: EtcdCluster, connect: Connect, root: str
) -> None:
    leader = three.leader()
    next(member for member in three.members if member is not leader).kill()
    for number in range(6):  # so that some begin with the dead one
        store = connect(three.endpoints)
        await put(store, f"{root}{number}")
        assert await store.get(f"{root}{number}") is not None


async def test_without_a_majority_calls_fail_in_time_and_a_watch_waits(
    three: EtcdCluster, connect: Connect, root: str
) -> None:
    store = connect(three.endpoints)
    start = await put(store, f"{root}a")
    watch = store.watch(root, start - 1)
    await events_of(watch, 1)
    reading = asyncio.create_task(events_of(watch, 1))
    for member in three.members[:2]:
        member.kill()

    async with asyncio.timeout(20):
        with pytest.raises(StoreUnavailableError):
            await store.commit([Unchanged(f"{root}b", 0)], [Put(f"{root}b", b"")])
        with pytest.raises(StoreUnavailableError):
            await store.get(f"{root}a")
    assert not reading.done()

    for member in three.members[:2]:
        member.spawn_again()
    await put_somehow(store, f"{root}n", 0)
    events = await reading
    await watch.aclose()
    # The commit that failed may have been done after all.
    assert [event.key for event in events] in ([f"{root}b"], [f"{root}n"], [f"{root}b", f"{root}n"])


async def test_a_watch_outlives_the_restart_of_a_single_etcd(
    single: EtcdCluster, connect: Connect, root: str
) -> None:
    store = connect(single.endpoints)
    async with aclosing(store.watch(root, await put(store, f"{root}start"))) as watch:
        for number in range(3):
            await put_somehow(store, f"{root}n", number)
            assert await numbers_of(watch, number) == [number]
            single.members[0].kill()
            await asyncio.to_thread(single.members[0].start)


# Writes without an answer


async def test_a_commit_without_an_answer_is_unknown_and_never_done_twice(
    single: EtcdCluster, connect: Connect, root: str
) -> None:
    store = connect(single.endpoints)
    start = await store.commit([Unchanged(f"{root}n", 0)], [Put(f"{root}n", b"0")])
    guards, writes = [Unchanged(f"{root}n", start)], [Put(f"{root}n", b"1")]

    single.members[0].pause()
    async with asyncio.timeout(FAILOVER_SECONDS):
        with pytest.raises(StoreUnavailableError, match="outcome is unknown"):
            await store.commit(guards, writes)
    single.members[0].resume()

    # The first may be done now, later or never; whichever, the two together change n once.
    while True:
        try:
            await store.commit(guards, writes)
        except StoreUnavailableError:
            continue
        except GuardFailedError as failure:
            item = failure.current[f"{root}n"]
            assert item is not None
            assert item.value == b"1"
        break
    end = await put(store, f"{root}end")
    async with aclosing(store.watch(root, start)) as watch:
        seen = [event async for batch in upto(watch, end) for event in batch.events]
    assert [event.key for event in seen] == [f"{root}n", f"{root}end"]


async def upto(watch: AsyncGenerator[WatchBatch, None], end: Revision) -> AsyncIterator[WatchBatch]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for batch in watch:
            yield batch
            if batch.revision >= end:
                return


async def test_a_commit_is_sent_once(shared: EtcdCluster, connect: Connect, root: str) -> None:
    async with TcpProxy(shared.endpoints[0]) as proxy:
        store = connected_to(proxy, shared, connect)
        await put(store, f"{root}a")
        proxy.hold()
        with pytest.raises(StoreUnavailableError, match="outcome is unknown"):
            await put(store, f"{root}b")
        assert await store.get(f"{root}b") is None  # nor was it sent elsewhere
        revision = await put(store, f"{root}c")
        proxy.release()  # what was on its way may arrive now
        listing = await store.list(root)
    assert listing.revision <= revision + 1


def connected_to(proxy: TcpProxy, cluster: EtcdCluster, connect: Connect) -> EtcdStore:
    """Return a client that knows the proxy and the member itself, and uses the proxy."""
    while True:  # each client begins with a member of its own
        store = connect([proxy.endpoint, *cluster.endpoints])
        if store.endpoint == proxy.endpoint:
            return store


# Watches that are cut


async def test_a_watch_that_is_cut_while_it_catches_up_loses_and_repeats_nothing(
    shared: EtcdCluster, connect: Connect, root: str
) -> None:
    direct = connect(shared.endpoints)
    start = await put(direct, f"{root}start")
    count, at_once = 6_000, 50
    written: list[Revision] = []
    for first in range(0, count, at_once):
        written += await asyncio.gather(
            *(put(direct, f"{root}{n % 100}", b"x" * 1000) for n in range(first, first + at_once))
        )
    written.sort()

    async with TcpProxy(shared.endpoints[0]) as proxy:
        store = connect([proxy.endpoint])
        seen: list[Revision] = []
        cuts = 0
        async with aclosing(store.watch(root, start)) as watch:
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for batch in watch:
                    seen += [event.mod_revision for event in batch.events]
                    if len(seen) == count:
                        break
                    proxy.cut()  # in the midst: the rest was on its way
                    cuts += 1
                    await proxy.heal()

    assert seen == written
    assert cuts >= 3


async def test_a_watch_that_was_away_during_a_compaction_is_told(
    shared: EtcdCluster, connect: Connect, root: str
) -> None:
    direct = connect(shared.endpoints)
    async with TcpProxy(shared.endpoints[0]) as proxy:
        store = connect([proxy.endpoint])
        start = await put(direct, f"{root}a")
        async with aclosing(store.watch(root, start - 1)) as watch:
            await events_of(watch, 1)
            proxy.cut()
            for _ in range(5):
                newest = await put(direct, f"{root}a")
            await direct.compact(newest)
            await proxy.heal()
            with pytest.raises(CompactedError):
                await events_of(watch, 1)


async def test_a_watch_leaves_a_member_as_soon_as_another_call_finds_it_silent(
    shared: EtcdCluster, connect: Connect, root: str
) -> None:
    loop = asyncio.get_running_loop()
    direct = connect(shared.endpoints)
    async with TcpProxy(shared.endpoints[0]) as proxy:
        store = connected_to(proxy, shared, connect)
        start = await put(store, f"{root}a")
        async with aclosing(store.watch(root, start - 1)) as watch:
            await events_of(watch, 1)
            proxy.hold()
            revision = await put(direct, f"{root}a")
            reading = asyncio.create_task(events_of(watch, 1))
            assert await store.get(f"{root}a") is not None
            found_at = loop.time()
            [event] = await reading
            moved_at = loop.time()
    assert event.mod_revision == revision
    assert moved_at - found_at < 0.7  # pings need a second more, or seven


async def test_a_store_that_was_restored_from_a_backup_is_noticed(
    single: EtcdCluster, connect: Connect, root: str
) -> None:
    store = connect(single.endpoints)
    for _ in range(5):
        newest = await put(store, f"{root}a")
    async with aclosing(store.watch(root, newest - 1)) as watch:
        await events_of(watch, 1)
        single.members[0].kill()
        single.members[0].forget()
        await asyncio.to_thread(single.members[0].start)
        with pytest.raises(CompactedError, match="gone back"):
            await events_of(watch, 1)


# Large answers


async def test_a_listing_of_many_pages_is_of_one_revision(
    shared: EtcdCluster, connect: Connect, root: str
) -> None:
    writer, reader = connect(shared.endpoints), connect(shared.endpoints, page_keys=10)
    keys = [f"{root}{number:03}" for number in range(95)]
    done = asyncio.Event()

    async def write() -> None:
        number = 0
        while not done.is_set():
            await writer.commit([], [Put(key, str(number).encode()) for key in keys])
            number += 1

    await writer.commit([], [Put(key, b"start") for key in keys])
    writing = asyncio.create_task(write())
    seen = set()
    for _ in range(20):
        listing = await reader.list(root)
        assert [item.key for item in listing.items] == keys
        assert len({item.value for item in listing.items}) == 1
        assert all(item.mod_revision <= listing.revision for item in listing.items)
        seen.add(listing.revision)
    done.set()
    await writing
    assert len(seen) > 5


async def test_a_listing_begins_anew_when_its_revision_is_compacted(
    shared: EtcdCluster, connect: Connect, root: str
) -> None:
    store = connect(shared.endpoints, page_keys=10)
    keys = [f"{root}{number:03}" for number in range(25)]
    await store.commit([], [Put(key, b"") for key in keys])
    ask = store._list_once
    compacted: list[Revision] = []

    async def compact_between(prefix: bytes) -> object:
        if not compacted:
            compacted.append(await put(store, f"{root}999"))
            await store.compact(compacted[0])
            raise CompactedError("as etcd answers to a page")
        return await ask(prefix)

    store._list_once = compact_between  # type: ignore[method-assign,assignment]
    assert len((await store.list(root)).items) == 26


async def test_answers_may_be_far_larger_than_grpc_takes_by_default(
    shared: EtcdCluster, connect: Connect, root: str
) -> None:
    store = connect(shared.endpoints)
    start = await put(store, f"{root}start")
    for number in range(12):
        await put(store, f"{root}{number:02}", b"x" * 1_400_000)

    assert len((await store.list(root)).items) == 13
    async with aclosing(store.watch(root, start)) as watch:
        assert len(await events_of(watch, 12)) == 12


async def fill(store: EtcdStore, root: str) -> None:
    for number in range(200):
        await put(store, f"{root}{number}", b"x" * 500_000)


async def test_an_etcd_without_space_says_what_to_do(connect: Connect, root: str) -> None:
    with EtcdCluster(arguments=["--quota-backend-bytes", "2000000"]) as cluster:
        store = connect(cluster.endpoints)
        with pytest.raises(StoreUnavailableError, match="alarm disarm"):
            await fill(store, root)
        [member] = await store.members()
        assert "NOSPACE" in member.trouble


# What members say of themselves


async def test_members_tell_who_leads_and_who_is_down(three: EtcdCluster, connect: Connect) -> None:
    leader = three.leader()
    dead = next(member for member in three.members if member is not leader)
    dead.kill()
    store = connect(three.endpoints[:2] if dead is not three.members[2] else three.endpoints)
    left_out = [e for e in three.endpoints if e not in {m.endpoint for m in await store.members()}]

    statuses = await store.members()

    assert left_out == []
    assert {status.name for status in statuses} == {member.name for member in three.members}
    assert [status.name for status in statuses if status.leads] in ([leader.name], [])
    [down] = [status for status in statuses if status.name == dead.name]
    assert not down.reachable
    assert down.trouble
    up = [status for status in statuses if status.reachable]
    assert all(status.version.startswith("3.") and status.database_bytes > 0 for status in up)


# Credentials


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an authority, certificates of a server and a client, and another authority."""
    folder = tmp_path_factory.mktemp("certificates")
    assert shutil.which("openssl"), "there is no openssl on this machine: apt-get install openssl"

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for name in ("ca", "stranger"):
        openssl(
            *("req", "-x509", *new_key, "-subj", f"/CN={name}", "-days", "2"),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt"),
        )
    for name, alternative in (("server", "IP:127.0.0.1,DNS:etcd.test"), ("client", "DNS:client")):
        (folder / f"{name}.ext").write_text(f"subjectAltName={alternative}\n")
        openssl(
            *("req", *new_key, "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt"),
        )
    return folder


async def test_tls_with_certificates_on_both_sides(
    certificates: Path, connect: Connect, root: str
) -> None:
    def path(name: str) -> Path:
        return certificates / name

    arguments = [
        *("--cert-file", str(path("server.crt")), "--key-file", str(path("server.key"))),
        *("--trusted-ca-file", str(path("ca.crt")), "--client-cert-auth"),
    ]
    ours = TlsFiles(ca=path("ca.crt"), cert=path("client.crt"), key=path("client.key"))
    anonymous = TlsFiles(ca=path("ca.crt"))
    misled = TlsFiles(ca=path("stranger.crt"), cert=ours.cert, key=ours.key)
    elsewhere = TlsFiles(ours.ca, ours.cert, ours.key, server_name="other.test")
    by_name = TlsFiles(ours.ca, ours.cert, ours.key, server_name="etcd.test")
    with EtcdCluster(3, scheme="https", arguments=arguments) as cluster:
        store = connect([f"https://{endpoint}" for endpoint in cluster.endpoints], tls=ours)
        start = await put(store, f"{root}a")
        async with aclosing(store.watch(root, start - 1)) as watch:
            await events_of(watch, 1)
            in_use(cluster, store).kill()
            await put_somehow(store, f"{root}n", 0)
            assert len(await events_of(watch, 1)) == 1
        assert await connect(cluster.endpoints, tls=by_name).get(f"{root}a") is not None
        failures = await asyncio.gather(
            *(
                connect(cluster.endpoints[:1], tls=wrong).get(f"{root}a")
                for wrong in (anonymous, misled, elsewhere, None)
            ),
            return_exceptions=True,
        )
        assert [type(failure) for failure in failures] == [StoreUnavailableError] * 4


def test_tls_files_that_cannot_be_right_are_refused(certificates: Path) -> None:
    ca = certificates / "ca.crt"
    with pytest.raises(InvalidError, match="key"):
        TlsFiles(ca=ca, cert=certificates / "client.crt").credentials()
    with pytest.raises(InvalidError, match=r"none\.crt"):
        TlsFiles(ca=certificates / "none.crt").credentials()


async def test_users_and_passwords(connect: Connect) -> None:
    with EtcdCluster() as cluster:
        [member] = cluster.members
        before = connect(cluster.endpoints, user="shoal", password="right")
        await put(before, "/shoal/early")  # while etcd has no users yet
        member.api("auth/user/add", name="root", password="root")
        member.api("auth/user/grant", user="root", role="root")
        member.api("auth/role/add", name="shoal")
        ours = {"key": "L3Nob2FsLw==", "range_end": "L3Nob2FsMA=="}  # /shoal/ to /shoal0
        member.api("auth/role/grant", name="shoal", perm={"permType": "READWRITE", **ours})
        member.api("auth/user/add", name="shoal", password="right")
        member.api("auth/user/grant", user="shoal", role="shoal")
        member.api("auth/enable")

        store = connect(cluster.endpoints, user="shoal", password="right")
        start = await put(store, "/shoal/a")
        assert len((await store.list("/shoal/")).items) == 2
        lease = await store.grant_lease(30)
        assert await store.keep_alive(lease) == 30.0
        await store.revoke_lease(lease)
        await put(before, "/shoal/late")

        async with aclosing(store.watch("/shoal/", start)) as watch:
            assert len(await events_of(watch, 1)) == 1
            member.kill()  # and with it every token that it gave out
            await asyncio.to_thread(member.start)
            await put_somehow(store, "/shoal/n", 0)
            assert await numbers_of(watch, 0) == [0]

        with pytest.raises(ForbiddenError):
            await put(store, "/other")
        with pytest.raises(ForbiddenError):
            await anext(store.watch("/other", start))
        with pytest.raises(ForbiddenError):
            await connect(cluster.endpoints).get("/shoal/a")
        with pytest.raises(ForbiddenError):
            await connect(cluster.endpoints, user="shoal", password="wrong").get("/shoal/a")


def test_a_login_needs_both_parts() -> None:
    with pytest.raises(InvalidError):
        EtcdStore(["127.0.0.1:1"], user="shoal")
