"""The invariants over a store's own history: each transaction is judged as it comes by.

Where every write is seen, so is who wrote what; a manager's view, or its clients', may skip some.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from cluster.invariants import Breach, Name, State, Step, after
from cluster.model import Object
from manager import records
from manager.committer import Change
from manager.store import keys
from manager.store.interface import Changed, Event, KeyValue, Listing, Removed, WatchBatch


class Judge:
    """Keeps what the store holds, and every breach that a transaction has brought about.

    Attributes:
        breaches: those that are certain, with the revision of each.
        revision: up to which everything was judged; 0 before anything was.
        transactions: that were judged.
    """

    def __init__(self) -> None:
        self.breaches: list[tuple[int, Breach]] = []
        self.revision = 0
        self.transactions = 0
        self._state = State(with_names=True)
        self._objects: dict[str, Object] = {}

    def objects(self) -> list[Object]:
        """Return all that the store holds."""
        return list(self._objects.values())

    def begin(self, listing: Listing) -> None:
        """Take what is there as it is."""
        self._state = State(with_names=True)
        self._objects.clear()
        for item in listing.items:
            self._take(item)
        self.revision = listing.revision

    def judge(self, batch: WatchBatch) -> list[Object]:
        """Judge what came next; return every state of an object in it."""
        values: list[Object] = []
        for revision, events in groupby(batch.events, key=lambda event: event.mod_revision):
            values += self._judge(revision, list(events))
        self.revision = batch.revision
        return values

    def _judge(self, revision: int, events: Sequence[Event]) -> list[Object]:
        steps: list[Step] = []
        names: list[Name] = []
        for event in events:
            match event:
                case Changed(item):
                    done = self._take(item)
                case Removed(key):
                    done = self._lose(key)
            if isinstance(done, Name):
                names.append(done)
            elif done is not None:
                steps.append(done)
        self.transactions += 1
        self.breaches += [
            (revision, breach) for breach in after(self._state, steps, names) if breach.certain
        ]
        return [step.new for step in steps if step.new is not None]

    def _take(self, item: KeyValue) -> Step | Name | None:
        if (name := _name(item.key)) is not None:
            self._state.name(name, item.value.decode())
            return name
        value = records.decode(item)
        if value is None:
            return None
        self._objects[item.key] = value
        return self._state.put(value)

    def _lose(self, key: str) -> Step | Name | None:
        if (name := _name(key)) is not None:
            self._state.name(name, None)
            return name
        value = self._objects.pop(key, None)
        return None if value is None else self._state.drop(value)


def _name(key: str) -> Name | None:
    kind, rest = keys.split(key)
    if kind != "names":
        return None
    of, _, text = rest.partition("/")
    return Name(of, text)


def assert_decided_once(changes: Iterable[Change]) -> None:
    """No two changes of a plan are of one object: a transaction could not hold them."""
    written = Counter(key for change in changes for key in change.written_keys())
    assert not [key for key, count in written.items() if count > 1], changes
