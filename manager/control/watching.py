"""Following the cluster: first everything as it is, then every change, without a gap.

Snapshot and subscription are taken in one instant of the view, so nothing falls between them.
A manager shows its own writes before older ones of others have come by. So a message says
separately what has changed and up to which revision the reader now knows everything; a
revision that brings nothing for the reader is told by a message without events.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass

from cluster.errors import (
    ClusterError,
    InvalidError,
    OverloadedError,
    UnavailableError,
    did_you_mean,
)
from cluster.model import (
    Cluster,
    JobStatus,
    Manager,
    Node,
    Object,
    Rollout,
    Scaling,
    Service,
    ServiceId,
    ServiceVersion,
    Session,
    Stack,
    Task,
)
from manager.store.interface import Revision
from manager.view import Batch, Change, View

KINDS: dict[str, type[Object]] = {
    "cluster": Cluster,
    "manager": Manager,
    "node": Node,
    "session": Session,
    "service": Service,
    "service_version": ServiceVersion,
    "task": Task,
    "stack": Stack,
    "scaling": Scaling,
    "rollout": Rollout,
    "job_status": JobStatus,
}

EVERY_KIND = tuple(KINDS.values())
OF_STACKS = (Service, ServiceVersion, Rollout, Scaling, JobStatus, Task, Stack)

# Changes that wait for one reader: some 20 MB. A reader that far behind is better off anew.
CHANGES_WAITING_MAX = 20_000

# Objects in one message: some 300 KB of tasks, well below what gRPC takes.
SNAPSHOT_OBJECTS_MAX = 1_000

# Every watcher costs each change a look; a thousand are more users than a cluster has.
WATCHERS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reader is told at once.

    Attributes:
        revision: up to which the reader now knows everything; 0: more of it follows.
        snapshot: this begins everything there is: forget what you knew.
        changes: of the snapshot, all new.
    """

    revision: Revision
    snapshot: bool
    changes: tuple[Change, ...]


class Watching:
    """All who follow the cluster at this manager."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._watchers: dict[_Watcher, None] = {}
        self._closed: ClusterError | None = None

    async def watch(self, kinds: Collection[str], stack: str = "") -> AsyncGenerator[Seen, None]:
        """Yield a snapshot in one or more parts, then changes for as long as the reader stays.

        Args:
            kinds: see ``KINDS``; none means all.
            stack: name; of what belongs to stacks only what belongs to this one, and what cannot
                belong to any (nodes, managers, ...) only if its kind is named.

        Raises:
            InvalidError: there is no such kind.
            OverloadedError: the reader is too slow, or there are too many.
        """
        for kind in kinds:
            if kind not in KINDS:
                raise InvalidError(
                    f"no kind '{kind}';{did_you_mean(kind, KINDS)} there are {', '.join(KINDS)}"
                )
        if self._closed:
            raise self._closed
        if len(self._watchers) >= WATCHERS_MAX:
            raise OverloadedError(f"this manager has {WATCHERS_MAX} watchers already")
        types = tuple(KINDS[kind] for kind in kinds) or (OF_STACKS if stack else EVERY_KIND)
        with closing(_Watcher(self._view, types, stack)) as watcher:
            self._watchers[watcher] = None
            try:
                for part in watcher.snapshot():
                    yield part
                while True:
                    yield await watcher.next()
            finally:
                self._watchers.pop(watcher, None)

    def close(self, why: ClusterError) -> None:
        """Let every reader end with *why*, and take no more."""
        self._closed = why
        for watcher in self._watchers:
            watcher.fail(why)


class _Watcher:
    """One reader: what waits for it, and up to where it has been told."""

    def __init__(self, view: View, types: tuple[type[Object], ...], stack: str) -> None:
        self._view = view
        self._types = types
        self._belongs = _belonging(view, stack) if stack else _any
        self._waiting: deque[tuple[Revision, tuple[Change, ...]]] = deque()
        self._waiting_changes = 0
        self._told: Revision = view.revision
        self._newest: Revision = view.revision
        self._failure: ClusterError | None = None
        self._news = asyncio.Event()
        self._unsubscribe = view.subscribe(self._take)
        self._following = asyncio.create_task(self._follow_revision())

    def close(self) -> None:
        self._unsubscribe()
        self._following.cancel()

    def fail(self, why: ClusterError) -> None:
        self._failure = self._failure or why
        self._news.set()

    def snapshot(self) -> Iterator[Seen]:
        """Return everything there is, as of now: taken at once, handed out in parts."""
        revision = self._view.revision
        changes = [Change(None, value) for value in _everything(self._view) if self._wants(value)]
        parts = [
            tuple(changes[start : start + SNAPSHOT_OBJECTS_MAX])
            for start in range(0, len(changes), SNAPSHOT_OBJECTS_MAX)
        ] or [()]
        last = len(parts) - 1
        return iter(
            [
                Seen(revision if index == last else 0, index == 0, part)
                for index, part in enumerate(parts)
            ]
        )

    async def next(self) -> Seen:
        while True:
            if self._failure:
                raise self._failure
            if self._waiting:
                self._told, changes = self._waiting.popleft()
                self._waiting_changes -= len(changes)
                return Seen(self._told, False, changes)
            if self._view.revision > self._told:
                self._told = self._view.revision
                return Seen(self._told, False, ())
            self._news.clear()
            await self._news.wait()

    def _take(self, batch: Batch) -> None:
        if batch.revision < self._newest:
            self.fail(UnavailableError("the store was restored from a backup: begin anew"))
        self._newest = batch.revision
        changes = tuple(change for change in batch.changes if self._wants(change.either))
        if not changes or self._failure:
            return
        self._waiting.append((batch.revision, changes))
        self._waiting_changes += len(changes)
        if self._waiting_changes > CHANGES_WAITING_MAX:
            self._waiting.clear()
            self._failure = OverloadedError(
                f"more than {CHANGES_WAITING_MAX} changes wait for this reader, which is too slow:"
                " begin anew"
            )
        self._news.set()

    def _wants(self, value: Object) -> bool:
        return isinstance(value, self._types) and self._belongs(value)

    async def _follow_revision(self) -> None:
        while True:
            await self._view.reached(self._view.revision + 1)
            self._news.set()


def _any(_: Object) -> bool:
    return True


def _belonging(view: View, stack: str) -> Callable[[Object], bool]:
    """Return what tells whether an object is the stack's, also once its service is gone."""
    services: set[ServiceId] = set()

    def belongs(value: Object) -> bool:
        match value:
            case Stack(name=name):
                return name == stack
            case (
                Service(id=service_id, spec=spec) | ServiceVersion(service_id=service_id, spec=spec)
            ):
                if spec.stack == stack:
                    services.add(service_id)
                return spec.stack == stack
            case Scaling(service_id=service_id):
                service = view.services.get(service_id)
                return service_id in services or (
                    service is not None and service.spec.stack == stack
                )
            case Task(service_id=service_id):
                version = view.version_of(value)
                if version is not None and version.spec.stack == stack:
                    services.add(service_id)
                return service_id in services
            case Rollout(service_id=service_id) | JobStatus(service_id=service_id):
                service = view.services.get(service_id)
                if service is not None and service.spec.stack == stack:
                    services.add(service_id)
                return service_id in services
        return True

    return belongs


def _everything(view: View) -> Iterator[Object]:
    """Yield all objects: what others refer to comes first."""
    if view.cluster is not None:
        yield view.cluster
    yield from view.managers.values()
    yield from view.nodes.values()
    yield from view.sessions.values()
    yield from view.stacks.values()
    yield from view.services.values()
    yield from view.versions.values()
    yield from view.scalings.values()
    yield from view.rollouts.values()
    yield from view.jobs.values()
    yield from view.tasks.values()
