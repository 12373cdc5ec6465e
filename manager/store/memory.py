"""The store in memory: etcd's semantics in one process, for tests and the simulator.

Rule: everything that happens here happens in an instant between two awaits, and all waiting is
the event loop's. So on a loop of virtual time it is deterministic, leases included.

One ``MemoryState`` is what etcd's members hold together; each ``MemoryStore`` is one client of
it, as each manager has its own. ``trip`` is the way there and back: it is awaited before and
after the effect of every call, and before each batch of a watch. A simulator delays or loses
calls with it: ``StoreUnavailableError`` raised on the way there leaves the state alone, raised
on the way back it does not.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cluster.errors import InvalidError
from manager.store.interface import (
    NO_LEASE,
    OPERATIONS_MAX,
    TRANSACTION_BYTES_MAX,
    Changed,
    CompactedError,
    Event,
    Guard,
    GuardFailedError,
    KeyValue,
    LeaseGoneError,
    LeaseId,
    Listing,
    Put,
    Removed,
    Revision,
    StoreUnavailableError,
    TooLargeError,
    Unchanged,
    WatchBatch,
    Write,
    check_transaction,
)

T = TypeVar("T")
Trip = Callable[[], Awaitable[None]]

# etcd grants no lease shorter than one and a half of its election time-outs, in whole seconds.
LEASE_SECONDS_MIN = 2

# What a guard or a write costs beside its key and value as it travels to etcd.
OPERATION_BYTES = 30

# Revisions of history that are kept at least. At twice as many the older half is compacted, as
# an etcd with automatic compaction does, so that a long simulation stays small.
HISTORY_REVISIONS = 100_000

# Revisions in one watch batch at most, for a consumer that lags: etcd's own number.
WATCH_REVISIONS_MAX = 1_000

# A watch without events tells of its progress this often: etcd's default.
PROGRESS_SECONDS = 600.0

# A watch whose way to the store is cut tries again this often.
RETRY_SECONDS = 0.1


async def one_turn() -> None:
    """Let others run once, so that callers never lean on a call being one instant."""
    await asyncio.sleep(0)


@dataclass(slots=True)
class _Lease:
    ttl_seconds: int
    timer: asyncio.TimerHandle
    keys: set[str] = field(default_factory=set)


class MemoryState:
    """Keys, revisions, leases and history; every method is atomic and takes no time."""

    def __init__(self) -> None:
        self.revision: Revision = 1  # an empty etcd's
        # One a watch, set when there is something new; in the order in which they came.
        self.listeners: dict[asyncio.Event, None] = {}
        self._items: dict[str, KeyValue] = {}
        self._leases: dict[LeaseId, _Lease] = {}
        self._leases_granted = 0
        self._compacted: Revision = 0
        self._history: list[tuple[Event, ...]] = []
        self._history_revisions: list[Revision] = []  # of the same length, for bisection

    def get(self, key: str) -> KeyValue | None:
        return self._items.get(key)

    def list(self, prefix: str) -> Listing:
        keys = sorted(key for key in self._items if key.startswith(prefix))
        return Listing(self.revision, [self._items[key] for key in keys])

    def commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Revision:
        if not all(self._holds(guard) for guard in guards):
            current = {guard.key: self._items.get(guard.key) for guard in guards}
            raise GuardFailedError(self.revision, current)
        named = {write.lease for write in writes if isinstance(write, Put)} - {NO_LEASE}
        if not named <= self._leases.keys():
            raise LeaseGoneError
        return self._apply(writes)

    def since(self, prefix: str, after: Revision) -> WatchBatch:
        """Return the next events under *prefix*; none if there are none up to the newest."""
        if after + 1 < self._compacted:
            raise CompactedError(
                f"changes after revision {after} are gone: the store is compacted"
                f" at {self._compacted}; list again"
            )
        events: list[Event] = []
        revisions = 0
        for index in range(bisect_right(self._history_revisions, after), len(self._history)):
            ours = [event for event in self._history[index] if event.key.startswith(prefix)]
            if ours:
                events += ours
                revisions += 1
            if revisions == WATCH_REVISIONS_MAX:
                break
        return WatchBatch(events[-1].mod_revision if events else self.revision, events)

    def compact(self, revision: Revision) -> None:
        if revision > self.revision:
            raise InvalidError(f"revision {revision} is still to come; now it is {self.revision}")
        if revision > self._compacted:
            self._compacted = revision
            first_kept = bisect_right(self._history_revisions, revision - 1)
            del self._history[:first_kept]
            del self._history_revisions[:first_kept]

    def grant_lease(self, ttl_seconds: int) -> LeaseId:
        self._leases_granted += 1
        lease = LeaseId(self._leases_granted)
        ttl = max(ttl_seconds, LEASE_SECONDS_MIN)
        self._leases[lease] = _Lease(ttl, self._end_later(lease, ttl))
        return lease

    def keep_alive(self, lease: LeaseId) -> float:
        held = self._leases.get(lease)
        if held is None:
            return 0.0
        held.timer.cancel()
        held.timer = self._end_later(lease, held.ttl_seconds)
        return float(held.ttl_seconds)

    def end_lease(self, lease: LeaseId) -> None:
        held = self._leases.pop(lease, None)
        if held is not None:
            held.timer.cancel()
            self._remove(sorted(held.keys))

    def _end_later(self, lease: LeaseId, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self.end_lease, lease)

    def _holds(self, guard: Guard) -> bool:
        item = self._items.get(guard.key)
        if isinstance(guard, Unchanged):
            return guard.mod_revision == (item.mod_revision if item else 0)
        return item is not None and guard.create_revision == item.create_revision

    def _apply(self, writes: Sequence[Write]) -> Revision:
        revision = self.revision + 1
        events: list[Event] = []
        for write in writes:
            old = self._items.pop(write.key, None)
            if old is not None and old.lease != NO_LEASE:
                self._leases[old.lease].keys.discard(write.key)
            if isinstance(write, Put):
                created = old.create_revision if old else revision
                item = KeyValue(write.key, write.value, created, revision, write.lease)
                self._items[write.key] = item
                if write.lease != NO_LEASE:
                    self._leases[write.lease].keys.add(write.key)
                events.append(Changed(item))
            elif old is not None:
                events.append(Removed(write.key, revision))
        self._record(revision, events)
        return self.revision

    def _remove(self, keys: Iterable[str]) -> None:
        """Delete keys whose lease has ended: it is no longer there to be told."""
        revision = self.revision + 1
        for key in keys:
            del self._items[key]
        self._record(revision, [Removed(key, revision) for key in keys])

    def _record(self, revision: Revision, events: Sequence[Event]) -> None:
        if not events:
            return
        self.revision = revision
        self._history.append(tuple(events))
        self._history_revisions.append(revision)
        if len(self._history) >= 2 * HISTORY_REVISIONS:
            self.compact(self._history_revisions[-HISTORY_REVISIONS])
        for listener in self.listeners:
            listener.set()


class MemoryStore:
    """One client of a ``MemoryState``; see ``manager.store.interface.Store``."""

    def __init__(
        self,
        state: MemoryState | None = None,
        *,
        trip: Trip = one_turn,
        progress_seconds: float = PROGRESS_SECONDS,
    ) -> None:
        self._state = state or MemoryState()
        self._trip = trip
        self._progress_seconds = progress_seconds
        self._watches: dict[asyncio.Event, None] = {}
        self._closed = False

    async def get(self, key: str) -> KeyValue | None:
        return await self._call(lambda: self._state.get(key))

    async def list(self, prefix: str) -> Listing:
        return await self._call(lambda: self._state.list(prefix))

    async def commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Revision:
        check_transaction(guards, writes)
        check_limits(guards, writes)
        guards, writes = tuple(guards), tuple(writes)
        return await self._call(lambda: self._state.commit(guards, writes))

    async def watch(self, prefix: str, after: Revision) -> AsyncGenerator[WatchBatch, None]:
        news = asyncio.Event()
        self._watches[news] = None
        self._state.listeners[news] = None
        progress_due = self._progress_due()
        try:
            while not self._closed:
                news.clear()
                found = self._found(prefix, after)
                if isinstance(found, WatchBatch) and not found.events:
                    after = max(after, found.revision)
                    if await _told(news, progress_due):
                        continue
                # What was found travels: by the time it is told there may be more.
                try:
                    await self._trip()
                except StoreUnavailableError:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if isinstance(found, CompactedError):
                    raise found
                after = max(after, found.revision)
                yield WatchBatch(after, found.events)
                progress_due = self._progress_due()
        finally:
            self._watches.pop(news, None)
            self._state.listeners.pop(news, None)

    def _found(self, prefix: str, after: Revision) -> WatchBatch | CompactedError:
        try:
            return self._state.since(prefix, after)
        except CompactedError as error:
            return error

    async def grant_lease(self, ttl_seconds: int) -> LeaseId:
        return await self._call(lambda: self._state.grant_lease(ttl_seconds))

    async def keep_alive(self, lease: LeaseId) -> float:
        return await self._call(lambda: self._state.keep_alive(lease))

    async def revoke_lease(self, lease: LeaseId) -> None:
        await self._call(lambda: self._state.end_lease(lease))

    async def compact(self, revision: Revision) -> None:
        await self._call(lambda: self._state.compact(revision))

    async def aclose(self) -> None:
        self._closed = True
        for news in self._watches:
            news.set()

    async def _call(self, effect: Callable[[], T]) -> T:
        await self._travel()
        try:
            return effect()
        finally:  # a refusal travels back as an answer does
            await self._travel()

    async def _travel(self) -> None:
        if not self._closed:
            await self._trip()
        if self._closed:
            raise StoreUnavailableError("this client of the store is closed")

    def _progress_due(self) -> float:
        return asyncio.get_running_loop().time() + self._progress_seconds


async def _told(news: asyncio.Event, until: float) -> bool:
    """Wait for news; return False if there are none *until* that time of the loop."""
    try:
        async with asyncio.timeout_at(until):
            await news.wait()
    except TimeoutError:
        return False
    return True


def check_limits(guards: Sequence[Guard], writes: Sequence[Write]) -> None:
    """Refuse what an etcd with default settings does."""
    operations = max(len(guards), len(writes))
    if operations > OPERATIONS_MAX:
        raise TooLargeError(f"{operations} operations in a transaction; {OPERATIONS_MAX} fit")
    size = sum(len(guard.key.encode()) + OPERATION_BYTES for guard in guards) + sum(
        len(write.key.encode())
        + OPERATION_BYTES
        + (len(write.value) if isinstance(write, Put) else 0)
        for write in writes
    )
    if size > TRANSACTION_BYTES_MAX:
        raise TooLargeError(f"{size} bytes in a transaction; {TRANSACTION_BYTES_MAX} fit")
