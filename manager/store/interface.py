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
* ``TooLargeError``: a transaction beyond the store's limits; nothing was written.

``tests/contract/test_store.py`` holds every implementation to this page.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from cluster.errors import ConflictError, InternalError, InvalidError, UnavailableError

Revision = int
LeaseId = NewType("LeaseId", int)

NO_LEASE = LeaseId(0)


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


class TooLargeError(InvalidError):
    """A transaction beyond the store's limits; nothing was written."""


class Store(Protocol):
    """What the manager needs of etcd. Keys are text; values are bytes."""

    async def get(self, key: str) -> KeyValue | None:
        """Read one key at the newest revision (linearizable)."""

    async def list(self, prefix: str) -> Listing:
        """Read all keys that start with *prefix*, at one revision (linearizable)."""

    async def commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Revision:
        """Apply all *writes* at one new revision if every guard holds; return that revision.

        Atomic. A key may be written only once in a transaction.

        Raises:
            GuardFailedError: a guard did not hold; nothing was written.
            StoreUnavailableError: outcome unknown.
            TooLargeError: more guards or writes, or more bytes, than the store takes at once.
        """

    def watch(self, prefix: str, after: Revision) -> AsyncIterator[WatchBatch]:
        """Yield every later change under *prefix*, in order, with no gap and no repetition.

        Rides out lost connections and members by resuming after the last delivered
        revision; while no member answers it waits. Progress batches arrive now and then.
        End it by closing the iterator (``aclose``) or by cancelling its task.

        Raises:
            CompactedError: revisions after *after* are no longer known.
        """

    async def grant_lease(self, ttl_seconds: int) -> LeaseId:
        """Open a lease that ends unless it is kept alive within *ttl_seconds*."""

    async def keep_alive(self, lease: LeaseId) -> float:
        """Renew *lease* once; return its remaining seconds, or 0.0 if it is gone."""

    async def revoke_lease(self, lease: LeaseId) -> None:
        """End *lease* and delete its keys at once; a lease that is gone is no error."""

    async def aclose(self) -> None:
        """Close connections; every open watch ends."""
