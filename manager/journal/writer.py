"""Makes the entry that a transaction carries along."""

from collections.abc import Iterable

from cluster.clock import Clock
from cluster.ids import IdSource
from cluster.model import ManagerId
from manager.journal import entries
from manager.journal.entries import Entry, Group, Item
from manager.journal.moments import Moment, told
from manager.store import keys
from manager.store.interface import Put
from manager.view import View

# Of an id's 25: enough that two managers do not write the same key in the same millisecond.
SUFFIX_CHARACTERS = 12


class Journal:
    """One manager's pen. It writes nothing itself: a ``Put`` goes with the changes it explains."""

    def __init__(self, view: View, clock: Clock, ids: IdSource, own_id: ManagerId) -> None:
        self._view = view
        self._clock = clock
        self._ids = ids
        self._own_id = own_id

    def new_request(self) -> str:
        """Return the id by which all that a request leads to is found again."""
        return self._ids.new()

    def entry(self, moments: Iterable[Moment]) -> list[Put]:
        """Return the write that tells of *moments*, before the view shows them; none if silent."""
        said = [found for moment in moments for found in told(moment, self._view)]
        return self._put(said)

    def note(self, kind: str, event: str, *, id_: str, name: str, why: str = "") -> list[Put]:
        """Return the write that tells of something that is no change of an object."""
        group = Group(kind=kind, event=event, items=(), why=why, name=name)
        return self._put([(group, Item(id_))])

    def _put(self, said: Iterable[tuple[Group, Item]]) -> list[Put]:
        groups = entries.gathered(said)
        if not groups:
            return []
        now = self._clock.now()
        # To the millisecond, which is finer than clocks agree.
        entry = Entry(at=round(now, 3), by=self._own_id, groups=groups)
        key = keys.journal(now, self._ids.new()[:SUFFIX_CHARACTERS])
        return [Put(key, entries.encode(entry))]
