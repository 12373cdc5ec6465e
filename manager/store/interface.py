"""The store: the cluster's only state, as keys with revisions.

Semantics are etcd's. Every change of any key gives the whole store a new *revision*; a key
remembers the revision that created it and the one that last changed it. Writes happen only
in transactions that are guarded by revisions: there is no blind put, because a write whose
caller saw a time-out may still be applied much later.

What may fail, and how:

* ``GuardFailedError``: a guard did not hold; nothing was written. Carries what stood there.
* ``StoreUnavailableError``: no answer in time. A ``commit`` may or may not have been applied,
  now or later: read again before deciding anew.
* ``CompactedError``: the history asked for is gone; list again and watch from there.
* ``LeaseGoneError``: a write names a lease that has ended; nothing was written.
* ``TooLargeError``: a transaction beyond the store's limits; nothing was written.
* ``InvalidError``: a transaction that can never be right; nothing was sent.

Keys are text that is not empty; they sort by code point, as their bytes do. ``tests/contract/test_store.py`` holds every implementation to this page.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from cluster.errors import ConflictError, InternalError, InvalidError, UnavailableError

Revision = int
LeaseId = NewType("LeaseId", int)

NO_LEASE = LeaseId(0)

OPERATIONS_MAX = 128
"""Guards, or writes, in one transaction: what an etcd takes that was not told otherwise."""

TRANSACTION_BYTES_MAX = 1_572_864
"""One transaction as it travels (keys, values and some 30 bytes a guard or write): as above."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as it stood at some revision."""

    key: str
    value: bytes
    create_revision: Revision
    mod_revision: Revision
    lease: LeaseId = NO_LEASE


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Guard: *key* was last changed at *mod_revision*; 0 means that it must not exist."""

    key: str
    mod_revision: Revision


@dataclass(frozen=True, slots=True)
class SameIncarnation:
    """Guard: *key* exists and was created at *create_revision*, however often changed since.

    This is the fence: a leader compares the election key's create-revision in every write.
    """

    key: str
    create_revision: Revision


Guard = Unchanged | SameIncarnation


@dataclass(frozen=True, slots=True)
class Put:
    """Write: set *key*; the key vanishes with *lease*, if one is given."""

    key: str
    value: bytes
    lease: LeaseId = NO_LEASE


@dataclass(frozen=True, slots=True)
class Delete:
    """Write: remove *key*; no change if there is none."""

    key: str


Write = Put | Delete


@dataclass(frozen=True, slots=True)
class Listing:
    """All keys under a prefix as of one revision, sorted by key."""

    revision: Revision
    items: Sequence[KeyValue]


@dataclass(frozen=True, slots=True)
class Changed:
    """Event: a key was set."""

    item: KeyValue

    @property
    def key(self) -> str:
        return self.item.key

    @property
    def mod_revision(self) -> Revision:
        return self.item.mod_revision


@dataclass(frozen=True, slots=True)
class Removed:
    """Event: a key was deleted, or its lease ran out."""

    key: str
    mod_revision: Revision


Event = Changed | Removed


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Events in revision order; every event up to *revision* has now been delivered.

    A revision is never split over two batches. ``events`` is empty for a mere sign of
    progress, which tells that nothing under the prefix changed up to *revision*.
    """

    revision: Revision
    events: Sequence[Event]


class GuardFailedError(ConflictError):
    """A guard did not hold; nothing was written.

    ``current`` holds every guarded key as it stands (None: it does not exist), so that the
    caller can decide anew without another read.
    """

    def __init__(self, revision: Revision, current: Mapping[str, KeyValue | None]) -> None:
        super().__init__(f"the store had moved on at revision {revision}")
        self.revision = revision
        self.current = current


class StoreUnavailableError(UnavailableError):
    """No store endpoint answered in time; the outcome of a write is unknown."""


class CompactedError(InternalError):
    """The history from the asked revision is compacted away: list again."""


class LeaseGoneError(ConflictError):
    """A write names a lease that has ended, or never was; nothing was written."""

    def __init__(self) -> None:
        super().__init__("the lease of a write has ended: take a new one and write again")


class TooLargeError(InvalidError):
    """A transaction beyond the store's limits; nothing was written."""


def check_transaction(guards: Sequence[Guard], writes: Sequence[Write]) -> None:
    """Refuse what no store may accept; every implementation calls this first.

    Raises:
        InvalidError: there is neither guard nor write, a key is written twice, a key is empty,
            or a ``SameIncarnation`` names no revision.
    """
    if not guards and not writes:
        raise InvalidError("a transaction needs a guard or a write")
    written: set[str] = set()
    for write in writes:
        if write.key in written:
            raise InvalidError(f"a transaction writes key {write.key!r} twice")
        written.add(write.key)
    if "" in written or any(not guard.key for guard in guards):
        raise InvalidError("a transaction has an empty key")
    if any(isinstance(guard, SameIncarnation) and guard.create_revision <= 0 for guard in guards):
        raise InvalidError("a SameIncarnation guard needs the revision that created its key")


class Store(Protocol):
    """What the manager needs of etcd. Keys are text; values are bytes."""

    async def get(self, key: str) -> KeyValue | None:
        """Read one key at the newest revision (linearizable).

        Raises:
            StoreUnavailableError: no answer in time; likewise for ``list``.
        """

    async def list(self, prefix: str) -> Listing:
        """Read all keys that start with *prefix* (all keys, if empty), at one revision.

        Linearizable, however many keys there are.
        """

    async def commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Revision:
        """Apply all *writes* at one new revision if every guard holds; return that revision.

        Atomic. A key may be written only once in a transaction. Where nothing changes (there
        are no writes, or only deletions of keys that do not exist) there is no new revision:
        the newest one is returned. A key keeps the lease of its last ``Put`` only: one without
        a lease unbinds it.

        Raises:
            GuardFailedError: a guard did not hold; nothing was written.
            LeaseGoneError: every guard held, but the lease of a write has ended; nothing was
                written.
            StoreUnavailableError: outcome unknown.
            TooLargeError: more guards or writes, or more bytes, than the store takes at once.
            InvalidError: see ``check_transaction``.
        """

    def watch(self, prefix: str, after: Revision) -> AsyncGenerator[WatchBatch, None]:
        """Yield every later change under *prefix*, in order, with no gap and no repetition.

        Rides out lost connections and members by resuming after the last delivered
        revision; while no member answers it waits. Progress batches arrive now and then.
        Nothing is asked of the store before the first batch is awaited. End it by closing the
        generator (``aclose``, from the task that iterates) or by cancelling that task.

        Raises:
            CompactedError: revisions after *after* are no longer known, or the store is not the
                one that it was (restored from a backup).
        """

    async def grant_lease(self, ttl_seconds: int) -> LeaseId:
        """Open a lease that ends unless it is kept alive within *ttl_seconds*.

        A store may grant more than was asked for (etcd: 2 s at least), never less, and may end
        the lease a second late, never early; ``keep_alive`` tells what was granted. When a
        lease ends, its keys are removed at one revision.

        Raises:
            StoreUnavailableError: no answer; a lease that nobody knows of may be left to end.
        """

    async def keep_alive(self, lease: LeaseId) -> float:
        """Renew *lease* once; return its remaining seconds, or 0.0 if it is gone.

        Raises:
            StoreUnavailableError: no answer; the lease may have been renewed all the same.
        """

    async def revoke_lease(self, lease: LeaseId) -> None:
        """End *lease* and delete its keys at once; a lease that is gone is no error.

        Raises:
            StoreUnavailableError: no answer; the lease may end now, or later.
        """

    async def compact(self, revision: Revision) -> None:
        """Forget all history before *revision*; no error if that was done already.

        An etcd that nobody compacts grows until it takes no more writes.

        Raises:
            InvalidError: *revision* is still to come.
            StoreUnavailableError: no answer; it may be done now, or later.
        """

    async def aclose(self) -> None:
        """Close connections; every open watch ends, every other call is unavailable."""
