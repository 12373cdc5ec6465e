"""The manager's copy of the store in memory: a snapshot, then every later change, no gap.

Everything that decides reads the view and never the store. ``follow`` feeds it: list, then
watch from the listing's revision; list again when the history is compacted, and now and then
regardless, because a watch alone is not to be trusted.

What this manager itself commits it applies at once (``committed``). So a key may be ahead of
the watch; the echo, and anything older, is told by its revision and passed over. The other way
round, the watch may be ahead of the answer to a commit: then it has told that and perhaps what
came after, such as a deletion, and the answer is passed over.
"""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from cluster.model import (
    Cluster,
    JobStatus,
    Manager,
    ManagerId,
    Node,
    NodeId,
    Object,
    Rollout,
    Scaling,
    Service,
    ServiceId,
    ServiceVersion,
    Session,
    Stack,
    StackId,
    Task,
    TaskId,
)
from cluster.scaling import as_scaled
from manager import records
from manager.store import keys
from manager.store.interface import (
    Changed,
    CompactedError,
    Delete,
    KeyValue,
    Listing,
    Removed,
    Revision,
    Store,
    StoreUnavailableError,
    WatchBatch,
    Write,
)

log = logging.getLogger(__name__)

RELIST_SECONDS = 600.0  # a lost watch event is repaired within this; a listing of 100k keys: 0.2 s
RETRY_SECONDS = 0.5  # between attempts while no store member answers

_EMPTY: Mapping[TaskId, Task] = {}
_NO_VERSIONS: Mapping[int, ServiceVersion] = {}


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one object; ``old`` is None for a new one, ``new`` for one that is gone."""

    old: Object | None
    new: Object | None

    @property
    def either(self) -> Object:
        """The object as it is, or as it was when it went."""
        value = self.new if self.new is not None else self.old
        assert value is not None
        return value


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that were applied together; each key at most once."""

    revision: Revision
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads, and since which revision (the fence of its writes)."""

    manager_id: ManagerId
    create_revision: Revision


Listener = Callable[[Batch], None]
K = TypeVar("K")
V = TypeVar("V", bound=Object)


class View:
    """The objects of the cluster as of ``revision``, or later where this manager wrote.

    The mappings are live: read them, never change them, and do not keep them over an await.
    """

    def __init__(self) -> None:
        self.revision: Revision = 0
        self.listings = 0  # how often everything was read anew, so that events may be missing
        self.cluster: Cluster | None = None
        self.leader: Leader | None = None
        self.managers: dict[ManagerId, Manager] = {}
        self.nodes: dict[NodeId, Node] = {}
        self.sessions: dict[NodeId, Session] = {}
        self.services: dict[ServiceId, Service] = {}
        self.versions: dict[tuple[ServiceId, int], ServiceVersion] = {}
        self.rollouts: dict[ServiceId, Rollout] = {}
        self.tasks: dict[TaskId, Task] = {}
        self.stacks: dict[StackId, Stack] = {}
        self.scalings: dict[ServiceId, Scaling] = {}
        self.jobs: dict[ServiceId, JobStatus] = {}
        self.leaving: Counter[TaskId] = Counter()  # being told to stop, by writes under way
        self._objects: dict[str, Object] = {}
        self._gone: dict[str, Revision] = {}  # own deletions that the watch has not echoed yet
        self._versions_of_service: dict[ServiceId, dict[int, ServiceVersion]] = {}
        self._tasks_of_service: dict[ServiceId, dict[TaskId, Task]] = {}
        self._tasks_on_node: dict[NodeId, dict[TaskId, Task]] = {}
        self._service_names: dict[str, ServiceId] = {}
        self._stack_names: dict[str, StackId] = {}
        self._listeners: list[Listener] = []
        self._waiting: list[tuple[Revision, asyncio.Future[None]]] = []
        self._causes_up_to: Revision = 0

    # --- reading ---

    def service_by_name(self, name: str) -> Service | None:
        service_id = self._service_names.get(name)
        return self.services[service_id] if service_id is not None else None

    def stack_by_name(self, name: str) -> Stack | None:
        stack_id = self._stack_names.get(name)
        return self.stacks[stack_id] if stack_id is not None else None

    def services_of_stack(self, name: str) -> list[Service]:
        return [service for service in self.services.values() if service.spec.stack == name]

    def as_scaled(self, service: Service) -> Service:
        """Return *service* with the replicas that it shall have, also if it scales itself."""
        return as_scaled(service, self.scalings.get(service.id))

    def tasks_of_service(self, service_id: ServiceId) -> Iterable[Task]:
        return self._tasks_of_service.get(service_id, _EMPTY).values()

    def tasks_on_node(self, node_id: NodeId) -> Iterable[Task]:
        return self._tasks_on_node.get(node_id, _EMPTY).values()

    def versions_of_service(self, service_id: ServiceId) -> Mapping[int, ServiceVersion]:
        """Return the versions of a service that are kept, by number, in no order."""
        return self._versions_of_service.get(service_id, _NO_VERSIONS)

    def version_of(self, task: Task) -> ServiceVersion | None:
        """Return the version that *task* runs; None only if the store was tampered with."""
        return self.versions.get((task.service_id, task.spec_version))

    def stored(self, key: str) -> Object | None:
        """Return what stands under a key of the store, of whatever kind."""
        return self._objects.get(key)

    async def reached(self, revision: Revision) -> None:
        """Wait until every change up to *revision* is in the view."""
        if self.revision >= revision:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, future))
        await future

    async def whole(self) -> None:
        """Wait until nothing is in the view whose causes may be missing.

        What others wrote, or operators through this manager, may rest on earlier changes. If it
        is known ahead of the watch, those may still be on their way.
        """
        await self.reached(self._causes_up_to)

    @contextlib.contextmanager
    def parting(self, task_ids: Iterable[TaskId]) -> Iterator[None]:
        """Note whom a write stops whose outcome is not known before the end of the block."""
        noted = Counter(task_ids)
        self.leaving += noted
        try:
            yield
        finally:
            self.leaving -= noted

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call *listener* with every later batch, at once; return what ends that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return unsubscribe

    def fork(self) -> "View":
        """Return a copy that goes its own way; it costs the dictionaries, not the objects."""
        other = View()
        for name, value in vars(self).items():
            if not isinstance(value, dict):
                continue
            is_index = isinstance(next(iter(value.values()), None), dict)
            copied = {key: dict(part) for key, part in value.items()} if is_index else dict(value)
            setattr(other, name, copied)
        other.revision, other.cluster, other.leader = self.revision, self.cluster, self.leader
        return other

    # --- feeding ---

    def supposed(self, revision: Revision, save: Iterable[Object], drop: Iterable[Object]) -> None:
        """Apply what is not stored anywhere: of a fork, to see what would come of it."""
        changes = [self._put(records.key_of(each), _at(each, revision)) for each in save]
        changes += [self._drop(records.key_of(each), revision) for each in drop]
        self._tell(changes)

    def listed(self, listing: Listing) -> None:
        """Take everything from *listing*, save for what we know to be newer.

        A store that has gone back was restored from a backup: nothing that we know is its history.
        """
        self.listings += 1
        if listing.revision < self.revision:
            self._begin_anew(listing)
            return
        present = {item.key for item in listing.items}
        changes = [self._take(item) for item in listing.items]
        for key, value in list(self._objects.items()):
            if key not in present and value.version <= listing.revision:
                changes.append(self._drop(key, listing.revision))
        if self.leader and keys.LEADER not in present:
            self.leader = None
        self._advance(listing.revision, changes)

    def watched(self, batch: WatchBatch) -> None:
        """Apply what the watch brought."""
        changes: list[Change | None] = []
        for event in batch.events:
            match event:
                case Changed(item):
                    changes.append(self._take(item))
                case Removed(key, revision):
                    changes.append(self._drop(key, revision))
        self._advance(batch.revision, changes)

    def committed(
        self, revision: Revision, writes: Sequence[Write], *, by_operator: bool = False
    ) -> None:
        """Apply what this manager has just committed, ahead of the watch."""
        if revision <= self.revision:
            return
        if by_operator:
            self._causes_up_to = max(self._causes_up_to, revision)
        changes: list[Change | None] = []
        for write in writes:
            if isinstance(write, Delete):
                changes.append(self._drop(write.key, revision))
                self._gone[write.key] = revision
            elif write.key != keys.LEADER:  # its create-revision is the watch's to tell
                item = KeyValue(write.key, write.value, 0, revision, write.lease)
                changes.append(self._take(item))
        self._tell(changes)

    def learned(self, current: Mapping[str, KeyValue | None], revision: Revision) -> None:
        """Apply what a failed guard has shown to stand in the store at *revision*."""
        if revision <= self.revision:
            return
        changes: list[Change | None] = []
        for key, item in current.items():
            if item is not None:
                changes.append(self._take(item))
                self._causes_up_to = max(self._causes_up_to, item.mod_revision)
            else:
                changes.append(self._drop(key, revision))
        self._tell(changes)

    def _begin_anew(self, listing: Listing) -> None:
        log.warning(
            "the store was restored from a backup: beginning anew",
            extra={"was": self.revision, "is": listing.revision},
        )
        found = {item.key: item for item in listing.items}
        leader = found.pop(keys.LEADER, None)
        self.leader = None
        if leader is not None:
            self._take(leader)
        self._gone.clear()
        self._causes_up_to = 0
        self.revision = listing.revision
        changes = []
        for key in dict.fromkeys((*self._objects, *found)):
            old = self._objects.pop(key, None)
            new = records.decode(found[key]) if key in found else None
            if new is not None:
                self._objects[key] = new
            if old != new:
                self._index(old, new)
                changes.append(Change(old, new))
        self._advance(listing.revision, changes)

    def _take(self, item: KeyValue) -> Change | None:
        if item.key == keys.LEADER:
            self.leader = Leader(ManagerId(item.value.decode()), item.create_revision)
            return None
        old = self._objects.get(item.key)
        if old is not None and old.version >= item.mod_revision:
            return None
        if self._gone.get(item.key, -1) >= item.mod_revision:
            return None
        new = records.decode(item)
        return None if new is None else self._put(item.key, new)

    def _put(self, key: str, new: Object) -> Change | None:
        old = self._objects.get(key)
        self._objects[key] = new
        self._index(old, new)
        return Change(old, new)

    def _drop(self, key: str, revision: Revision) -> Change | None:
        if key == keys.LEADER:
            self.leader = None
            return None
        old = self._objects.get(key)
        if old is None or old.version > revision:
            return None
        del self._objects[key]
        self._index(old, None)
        return Change(old, None)

    def _advance(self, revision: Revision, changes: Iterable[Change | None]) -> None:
        self.revision = max(self.revision, revision)
        self._gone = {key: at for key, at in self._gone.items() if at > self.revision}
        self._tell(changes)
        still: list[tuple[Revision, asyncio.Future[None]]] = []
        for wanted, future in self._waiting:
            if wanted > self.revision:
                still.append((wanted, future))
            elif not future.done():
                future.set_result(None)
        self._waiting = still

    def _tell(self, changes: Iterable[Change | None]) -> None:
        real = [change for change in changes if change is not None]
        if real:
            batch = Batch(self.revision, real)
            for listener in list(self._listeners):
                listener(batch)

    def _index(self, old: Object | None, new: Object | None) -> None:
        match new if new is not None else old:
            case Task():
                self._index_task(old, new)
            case Service() as service:
                assert old is None or isinstance(old, Service)
                if old is not None and self._service_names.get(old.spec.name) == old.id:
                    del self._service_names[old.spec.name]
                _set(self.services, service.id, new)
                if new is not None:
                    self._service_names[service.spec.name] = service.id
            case Stack() as stack:
                if new is None and self._stack_names.get(stack.name) == stack.id:
                    del self._stack_names[stack.name]
                _set(self.stacks, stack.id, new)
                if new is not None:
                    self._stack_names[stack.name] = stack.id
            case ServiceVersion() as version:
                _set(self.versions, (version.service_id, version.number), new)
                numbers = self._versions_of_service.setdefault(version.service_id, {})
                _set(numbers, version.number, new)
                if not numbers:
                    del self._versions_of_service[version.service_id]
            case Scaling() as scaling:
                _set(self.scalings, scaling.service_id, new)
            case Rollout() as rollout:
                _set(self.rollouts, rollout.service_id, new)
            case JobStatus() as job:
                _set(self.jobs, job.service_id, new)
            case Node() as node:
                _set(self.nodes, node.id, new)
            case Session() as session:
                _set(self.sessions, session.node_id, new)
            case Manager() as manager:
                _set(self.managers, manager.id, new)
            case Cluster():
                assert new is None or isinstance(new, Cluster)
                self.cluster = new

    def _index_task(self, old: Object | None, new: Object | None) -> None:
        if isinstance(old, Task):
            self.tasks.pop(old.id, None)
            _forget(self._tasks_of_service, old.service_id, old.id)
            _forget(self._tasks_on_node, old.node_id, old.id)
        if isinstance(new, Task):
            self.tasks[new.id] = new
            self._tasks_of_service.setdefault(new.service_id, {})[new.id] = new
            if new.node_id:
                self._tasks_on_node.setdefault(new.node_id, {})[new.id] = new


def _at(value: Object, revision: Revision) -> Object:
    return msgspec.structs.replace(value, version=revision)


def _set(mapping: dict[K, V], key: K, value: Object | None) -> None:
    if value is None:
        mapping.pop(key, None)
    else:
        mapping[key] = value  # type: ignore[assignment]


def _forget(index: dict[K, dict[TaskId, Task]], key: K, task_id: TaskId) -> None:
    tasks = index.get(key)
    if tasks is not None:
        tasks.pop(task_id, None)
        if not tasks:
            del index[key]


async def follow(store: Store, view: View, source: random.Random) -> None:
    """Keep *view* up to date for ever; rides out a store that is away."""
    while True:
        try:
            view.listed(await store.list(keys.PREFIX))
            # A part of every period at random, so that managers do not list all at once.
            async with asyncio.timeout(RELIST_SECONDS * source.uniform(0.75, 1.25)):
                await _watch(store, view)
        except TimeoutError:
            continue
        except CompactedError:
            log.info("the history was compacted: listing again", extra={"after": view.revision})
        except StoreUnavailableError as error:
            log.warning("the store does not answer", extra={"error": str(error)})
            await asyncio.sleep(RETRY_SECONDS * source.uniform(0.75, 1.25))


async def _watch(store: Store, view: View) -> None:
    batches = store.watch(keys.PREFIX, view.revision)
    try:
        async for batch in batches:
            view.watched(batch)
    finally:
        if hasattr(batches, "aclose"):
            await batches.aclose()
