"""Whatever is done to them, the store in memory and a real etcd tell the same story."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manager.store.etcd import EtcdStore
from manager.store.interface import (
    NO_LEASE,
    Changed,
    Delete,
    Event,
    Guard,
    GuardFailedError,
    KeyValue,
    LeaseGoneError,
    LeaseId,
    Put,
    Revision,
    SameIncarnation,
    Store,
    Unchanged,
    Write,
)
from manager.store.memory import MemoryStore
from tests.harness.etcd import EtcdCluster

ROOT = "/alike/"
KEYS = [f"{ROOT}{name}" for name in "abc"]
LEASES = 3


@dataclass(frozen=True)
class Commit:
    """Guards say how the revision that they name lies to the true one."""

    guards: Sequence[tuple[str, bool, int]]  # key, by incarnation?, off by
    writes: Sequence[tuple[str, bytes | None, int | None]]  # key, value or delete, lease


@dataclass(frozen=True)
class Revoke:
    lease: int


keys = st.sampled_from(KEYS)
commits = st.builds(
    Commit,
    st.lists(st.tuples(keys, st.booleans(), st.sampled_from([0, 0, 0, 0, 0, -1, 1])), max_size=3),
    st.lists(
        st.tuples(
            keys,
            st.one_of(st.none(), st.binary(max_size=3)),
            st.one_of(st.none(), st.integers(0, LEASES - 1)),
        ),
        unique_by=lambda write: write[0],
        min_size=1,
        max_size=3,
    ),
)
steps = st.lists(
    st.one_of(commits, commits, commits, st.builds(Revoke, st.integers(0, 2))), max_size=15
)


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdCluster]:
    with EtcdCluster() as cluster:
        yield cluster


async def story(store: Store, todo: Sequence[Commit | Revoke]) -> list[object]:
    """Do it all and tell all there is to see, with revisions counted from the start."""
    leases = [await store.grant_lease(60) for _ in range(LEASES)]
    left = [Delete(item.key) for item in (await store.list(ROOT)).items]
    start = await store.commit([], left or [Delete(f"{ROOT}none")])
    told: list[object] = []

    def counted(item: KeyValue) -> KeyValue:
        return replace(
            item,
            create_revision=item.create_revision - start,
            mod_revision=item.mod_revision - start,
            lease=LeaseId(leases.index(item.lease) + 1) if item.lease else NO_LEASE,
        )

    for step in todo:
        if isinstance(step, Revoke):
            await store.revoke_lease(leases[step.lease])
        else:
            here = {item.key: item for item in (await store.list(ROOT)).items}
            guards = [
                guard(key, here.get(key), by_incarnation=by_incarnation, off_by=off_by)
                for key, by_incarnation, off_by in step.guards
            ]
            writes: list[Write] = [
                Delete(key)
                if value is None
                else Put(key, value, NO_LEASE if lease is None else leases[lease])
                for key, value, lease in step.writes
            ]
            try:
                told.append(await store.commit(guards, writes) - start)
            except GuardFailedError as failure:
                told.append({key: item and counted(item) for key, item in failure.current.items()})
            except LeaseGoneError:
                told.append("lease gone")
        listing = await store.list(ROOT)
        told.append((listing.revision - start, [counted(item) for item in listing.items]))

    end = await store.commit([], [Put(f"{ROOT}end", b"")])
    events: list[Event] = []
    async with asyncio.timeout(20), aclosing(store.watch(ROOT, start)) as watch:
        async for batch in watch:
            events += batch.events
            if batch.revision >= end:
                break
    told += [
        Changed(counted(event.item))
        if isinstance(event, Changed)
        else replace(event, mod_revision=event.mod_revision - start)
        for event in events
    ]
    for lease in leases:
        await store.revoke_lease(lease)
    await store.aclose()
    return told


def guard(key: str, item: KeyValue | None, *, by_incarnation: bool, off_by: int) -> Guard:
    if by_incarnation and item is not None:
        return SameIncarnation(key, item.create_revision + off_by)
    true: Revision = item.mod_revision if item else 0
    return Unchanged(key, max(0, true + off_by))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(todo=steps)
def test_memory_and_etcd_tell_the_same_story(
    etcd: EtcdCluster, todo: Sequence[Commit | Revoke]
) -> None:
    async def both() -> tuple[list[object], list[object]]:
        return await story(MemoryStore(), todo), await story(EtcdStore(etcd.endpoints), todo)

    in_memory, on_etcd = asyncio.run(both())

    assert in_memory == on_etcd
