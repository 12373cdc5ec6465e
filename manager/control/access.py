"""How a request reads and changes the cluster, at whichever manager it arrives.

Requests are decided on this manager's view and written as one guarded transaction. If the view
was behind, the guards fail, the view learns what stands in the store, and the request is
decided anew: what it asks for is a level ("5 replicas"), so deciding twice is harmless, and a
request that was decided on one particular version finds another and says so.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from cluster.errors import ConflictError, NotFoundError, StateError
from cluster.model import Object
from manager import records
from manager.journal.moments import Moment
from manager.journal.writer import Journal
from manager.store import keys
from manager.store.interface import (
    Delete,
    Guard,
    GuardFailedError,
    Put,
    Revision,
    Store,
    StoreUnavailableError,
    TooLargeError,
    Unchanged,
    Write,
)
from manager.view import View

log = logging.getLogger(__name__)

T = TypeVar("T")
Stored = TypeVar("Stored", bound=Object)

# Each attempt that fails means that somebody else has succeeded; five in a row mean a fight.
ATTEMPTS_MAX = 5

# The watch is milliseconds behind the store. If it is this far behind, a refusal that may be
# out of date serves the user better than more waiting.
CATCH_UP_SECONDS = 1.0


@dataclass(slots=True)
class Changes:
    """Writes that stand or fall together, each with the guard it was decided under.

    Attributes:
        request_id: of the request that asks for them; all that they lead to names it.
        said: of each object that changes, what the journal is to tell.
    """

    request_id: str = ""
    guards: list[Guard] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    said: list[tuple[Object | None, Object | None, str]] = field(default_factory=list)

    def save(self, *values: Object, old: Object | None = None, why: str = "") -> None:
        """Write objects; ``version`` is the revision decided on, 0 for new ones.

        Args:
            values: as they shall stand.
            old: as the first of them stood.
            why: of the first of them, for the journal.
        """
        for index, value in enumerate(values):
            self.expect(value)
            self.writes.append(records.put(value))
            self.said.append((None if index else old, value, "" if index else why))

    def drop(self, *values: Object, why: str = "") -> None:
        """Delete objects as they stood."""
        for value in values:
            self.expect(value)
            self.writes.append(Delete(records.key_of(value)))
            self.said.append((value, None, why))

    def expect(self, value: Object) -> None:
        """Let nothing be written unless *value* still stands as it is."""
        self.guards.append(Unchanged(records.key_of(value), value.version))

    def take_name(self, kind: str, name: str, owner_id: str) -> None:
        """Make *name* the owner's; nothing is written if somebody has it."""
        key = keys.name(kind, name)
        self.guards.append(Unchanged(key, 0))
        self.writes.append(Put(key, owner_id.encode()))

    def free_name(self, kind: str, name: str) -> None:
        """Give *name* up, together with its owner."""
        self.writes.append(Delete(keys.name(kind, name)))


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """What a request comes to.

    Attributes:
        changes: none if all is as asked for.
        answer: what to tell the caller once the changes stand at a revision.
    """

    changes: Changes
    answer: Callable[[Revision], T]


def as_stored(value: Stored, revision: Revision) -> Stored:
    """Return *value* as it stands after it was written at *revision*."""
    return msgspec.structs.replace(value, version=revision)


class Access:
    """Reads from the view and writes through it."""

    def __init__(self, store: Store, view: View, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self.view = view

    def begin(self) -> Changes:
        """Return changes of a request that is being accepted, still empty."""
        return Changes(request_id=self._journal.new_request())

    async def read(self, lookup: Callable[[], T]) -> T:
        """Return what *lookup* finds in the view; ask the store before it says no to a state.

        Whoever has just made something at another manager finds it here too.

        Raises:
            NotFoundError, StateError: as *lookup* raised it.
        """
        try:
            return lookup()
        except (NotFoundError, StateError):
            if not await self._caught_up():
                raise
            return lookup()

    async def change(self, decide: Callable[[], Decision[T]]) -> T:
        """Do what *decide* says, which is asked again when the view was behind.

        Raises:
            ConflictError: the objects keep changing.
            StoreUnavailableError: the store did not answer: what became of it is unknown.
            TooLargeError: it does not fit into one transaction.
        """
        decision = await self.read(decide)
        for _ in range(ATTEMPTS_MAX):
            changes = decision.changes
            if not changes.writes:
                return decision.answer(self.view.revision)
            entry = self._journal.entry(
                Moment(old, new, why, changes.request_id) for old, new, why in changes.said
            )
            try:
                revision = await self._store.commit(changes.guards, [*changes.writes, *entry])
            except GuardFailedError as error:
                await self._learn(error)
            except TooLargeError as error:
                raise TooLargeError(too_large(changes.writes)) from error
            except StoreUnavailableError as error:
                raise StoreUnavailableError(
                    f"{error}; whether the change was made is not known: look before you repeat it"
                ) from error
            else:
                self.view.committed(revision, changes.writes, by_operator=True)
                log.info(
                    "a request was carried out",
                    extra={"request": changes.request_id, "revision": revision},
                )
                return decision.answer(revision)
            decision = decide()
        raise ConflictError(
            f"others keep changing the same objects: gave up after {ATTEMPTS_MAX} attempts;"
            " try again"
        )

    async def reached(self, revision: Revision) -> bool:
        """Wait for the view to reach *revision*, a moment at most; tell whether it has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await self.view.reached(revision)
        return self.view.revision >= revision

    async def _learn(self, error: GuardFailedError) -> None:
        self.view.learned(error.current, error.revision)
        # A name's owner was written together with it, so it is not far.
        newest = max((item.mod_revision for item in error.current.values() if item), default=0)
        await self.reached(newest)

    async def _caught_up(self) -> bool:
        """Bring the view to where the store is; tell whether it was behind."""
        before = self.view.revision
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                listing = await self._store.list(keys.CLUSTER)
        except (StoreUnavailableError, TimeoutError):
            return False
        await self.reached(listing.revision)
        return self.view.revision > before


def too_large(writes: Sequence[Write]) -> str:
    size = sum(len(write.value) for write in writes if isinstance(write, Put))
    return (
        f"this takes {len(writes)} writes and {size} bytes in one transaction, more than etcd"
        " is set to take: split it, or start etcd with a larger --max-txn-ops (128 unless set)"
        " or --max-request-bytes (1.5 MiB unless set)"
    )
