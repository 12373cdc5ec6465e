"""Committing what was decided: guarded, fenced, in batches.

Every object carries in ``version`` the revision it was decided on, and its write is guarded by
that revision. A change that finds something else there is not written and comes back to be
decided anew. The leader's writes are fenced besides: its election key must stand as it knows
it (I4).

A commit whose outcome is unknown may still be applied later. So before the leader decides
anything again it moves the fence: it rewrites its election key, after which nothing that was
sent before can commit, and waits until its view has seen that. Otherwise a task that was made
twice under two ids would be two holders of one slot (I2).
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.errors import ConflictError
from cluster.model import Object
from cluster.task_group import TaskGroup
from manager import records
from manager.journal.moments import Moment
from manager.journal.writer import Journal
from manager.store import keys
from manager.store.interface import (
    Delete,
    Guard,
    GuardFailedError,
    KeyValue,
    Put,
    Store,
    StoreUnavailableError,
    Unchanged,
    Write,
)
from manager.view import View

# etcd takes 128 guards and 128 writes a transaction by default; one guard is the fence's, one write
# the journal's, and what else is written is guarded.
GUARDS_MAX = 100
ERASED_TOGETHER_MAX = 100  # entries of the journal, in one transaction
IN_FLIGHT_MAX = 4  # measured: more transactions at a time bring no more keys a second
ATTEMPTS_MAX = 5  # a transaction loses its stale changes and is tried again at most so often

log = logging.getLogger(__name__)


class FenceBrokenError(ConflictError):
    """Somebody else leads: nothing was written, and nothing more may be."""


@dataclass(frozen=True, slots=True)
class Change:
    """Objects that are written together or not at all.

    Attributes:
        save: as they shall stand; ``version`` is the revision decided on, 0 for new ones.
        drop: as they stood when it was decided that they go.
        expect: others that the decision rests on: nothing is written unless they still stand so.
        why: a sentence that users read in the journal: "node n3 is drained".
    """

    save: tuple[Object, ...] = ()
    drop: tuple[Object, ...] = ()
    expect: tuple[Object, ...] = ()
    why: str = ""

    def __len__(self) -> int:
        return len(self.save) + len(self.drop) + len(self.expect)

    def guards(self) -> list[Guard]:
        return [
            Unchanged(records.key_of(value), value.version)
            for value in (*self.save, *self.drop, *self.expect)
        ]

    def written_keys(self) -> list[str]:
        """Return the keys of what is saved and dropped."""
        return [records.key_of(value) for value in (*self.save, *self.drop)]

    def writes(self) -> list[Write]:
        return [
            *(records.put(value) for value in self.save),
            *(Delete(records.key_of(value)) for value in self.drop),
        ]


class Fence:
    """The leader's election key as it last stood; every write of the leader is guarded by it."""

    def __init__(self, item: KeyValue) -> None:
        self._create_revision = item.create_revision
        self._item = item

    def guard(self) -> Guard:
        return Unchanged(keys.LEADER, self._item.mod_revision)

    def renewed(self, item: KeyValue | None) -> bool:
        """Take the key as it stands now; tell whether it is still ours."""
        if item is None or item.create_revision != self._create_revision:
            return False
        self._item = item
        return True

    async def move(self, store: Store) -> int:
        """Make sure that nothing sent so far can commit any more; return the revision.

        Raises:
            FenceBrokenError: somebody else leads.
            StoreUnavailableError: unknown; move it again.
        """
        for _ in range(ATTEMPTS_MAX):
            item = self._item
            try:
                revision = await store.commit(
                    [self.guard()], [Put(keys.LEADER, item.value, item.lease)]
                )
            except GuardFailedError as error:
                if not self.renewed(error.current.get(keys.LEADER)):
                    raise FenceBrokenError("somebody else leads") from error
            else:
                self._item = KeyValue(
                    item.key, item.value, item.create_revision, revision, item.lease
                )
                return revision
        raise StoreUnavailableError("the fence could not be moved: the election key keeps changing")


class Committer:
    """Writes the leader's changes, with why, and shows them to its view at once."""

    def __init__(self, store: Store, view: View, fence: Fence, journal: Journal) -> None:
        self._store = store
        self._view = view
        self._fence = fence
        self._journal = journal
        self._in_flight = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._moving = asyncio.Lock()

    async def commit(self, changes: Iterable[Change]) -> int:
        """Write *changes*, in batches; return how many were stale and were not written.

        Raises:
            FenceBrokenError: somebody else leads.
            StoreUnavailableError: some may not have been written, or may be later: ``settle``
                before deciding anything again.
        """
        try:
            async with TaskGroup() as group:
                tasks = [group.create_task(self._write(batch)) for batch in _batches(changes)]
        except ExceptionGroup as errors:
            raise _gravest(errors) from errors
        return sum(task.result() for task in tasks)

    async def settle(self) -> None:
        """Learn what became of writes whose outcome is unknown: afterwards the view shows it.

        Raises:
            FenceBrokenError: somebody else leads.
            StoreUnavailableError: still unknown; settle again.
        """
        async with self._moving:
            await self._view.reached(await self._fence.move(self._store))

    async def note(self, kind: str, event: str, *, id_: str, name: str, why: str = "") -> None:
        """Write into the journal what is no change of an object.

        Raises:
            FenceBrokenError: somebody else leads.
            StoreUnavailableError: it may not have been written.
        """
        await self._fenced(self._journal.note(kind, event, id_=id_, name=name, why=why))

    async def erase(self, entries: Sequence[str]) -> None:
        """Delete entries of the journal, by their keys; one that is gone is no error.

        Raises:
            FenceBrokenError: somebody else leads.
            StoreUnavailableError: some may still be there.
        """
        for start in range(0, len(entries), ERASED_TOGETHER_MAX):
            together = entries[start : start + ERASED_TOGETHER_MAX]
            await self._fenced([Delete(key) for key in together])

    async def _fenced(self, writes: Sequence[Write]) -> None:
        """Write what nothing but the leadership guards."""
        for _ in range(ATTEMPTS_MAX):
            try:
                await self._store.commit([self._fence.guard()], writes)
            except GuardFailedError as error:
                if not self._fence.renewed(error.current.get(keys.LEADER)):
                    raise FenceBrokenError("somebody else leads") from error
            else:
                return
        raise StoreUnavailableError("the election key keeps changing")

    def _moments(self, batch: Sequence[Change]) -> Iterable[Moment]:
        for change in batch:
            for value in change.save:
                yield Moment(self._view.stored(records.key_of(value)), value, change.why)
            for value in change.drop:
                yield Moment(value, None, change.why)

    async def _write(self, batch: Sequence[Change]) -> int:
        stale = 0
        async with self._in_flight:
            for _ in range(ATTEMPTS_MAX):
                if not batch:
                    break
                guards = dict.fromkeys(guard for change in batch for guard in change.guards())
                writes = [write for change in batch for write in change.writes()]
                entry = self._journal.entry(self._moments(batch))
                try:
                    revision = await self._store.commit(
                        [self._fence.guard(), *guards], [*writes, *entry]
                    )
                except GuardFailedError as error:
                    current = dict(error.current)
                    if not self._fence.renewed(current.pop(keys.LEADER)):
                        raise FenceBrokenError("somebody else leads") from error
                    self._view.learned(current, error.revision)
                    fresh = [change for change in batch if _holds(change, current)]
                    stale += len(batch) - len(fresh)
                    batch = fresh
                else:
                    self._view.committed(revision, writes)
                    break
            else:
                stale += len(batch)
        return stale


def _holds(change: Change, current: dict[str, KeyValue | None]) -> bool:
    for guard in change.guards():
        assert isinstance(guard, Unchanged)
        item = current[guard.key]
        if (item.mod_revision if item else 0) != guard.mod_revision:
            return False
    return True


def _gravest(errors: ExceptionGroup[Exception]) -> Exception:
    """Return what came of writes side by side: a defect before that somebody else leads."""
    raised = errors.exceptions
    known = FenceBrokenError, StoreUnavailableError
    defects = [error for error in raised if not isinstance(error, known)]
    broken = [error for error in raised if isinstance(error, FenceBrokenError)]
    return (defects or broken or raised)[0]


def _batches(changes: Iterable[Change]) -> Iterable[list[Change]]:
    """Yield changes that fit into one transaction together.

    Two decisions about one object are a defect of who decided. A transaction cannot hold both; in
    two, the later is stale, and decided anew.
    """
    batch: list[Change] = []
    guards: set[Guard] = set()
    written: set[str] = set()
    for change in changes:
        more = [guard for guard in change.guards() if guard not in guards]
        keys_of_it = change.written_keys()
        is_twice = not written.isdisjoint(keys_of_it)
        if is_twice:
            log.error("two decisions about one object", extra={"why": change.why})
        if batch and (is_twice or len(guards) + len(more) > GUARDS_MAX):
            yield batch
            batch, guards, written, more = [], set(), set(), change.guards()
        batch.append(change)
        guards.update(more)
        written.update(keys_of_it)
    if batch:
        yield batch
