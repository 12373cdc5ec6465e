"""What happened, as people ask for it: filtered, followed, and one task's story.

The journal is read from the store when somebody asks, and by nobody else. An event stands at the
revision of the changes it explains; that is the order in which things are told, for clocks differ.
"""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from cluster.errors import NotFoundError, OverloadedError
from cluster.model import Event, NodeId, ServiceId, Task
from manager.control import summaries
from manager.control.access import Access
from manager.control.references import find_node, find_service, find_task
from manager.control.summaries import TaskSummary
from manager.control.tasks import Tasks
from manager.journal.entries import events_of
from manager.store import keys
from manager.store.interface import (
    Changed,
    CompactedError,
    KeyValue,
    Revision,
    Store,
)

# Each is a watch of the store's; a hundred are more people than follow a cluster.
FOLLOWERS_MAX = 100

# Events in one message: some 300 KB.
EVENTS_TOGETHER_MAX = 1_000

# Tasks before a task in its place whose end is part of its story; a crash loop has many.
PREDECESSORS_TOLD_MAX = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """Which events are wanted; what is empty holds for any.

    Attributes:
        since: seconds since 1970 UTC.
        tail: so many of the latest to begin with; -1: all that are kept.
        after: only of later revisions.
    """

    since: float = 0.0
    service: str = ""
    node: str = ""
    task: str = ""
    stack: str = ""
    request_id: str = ""
    kinds: Collection[str] = ()
    tail: int = -1
    follow: bool = False
    after: Revision = 0


@dataclass(frozen=True, slots=True)
class Told:
    """Events, and the revision up to which all were told."""

    events: Sequence[Event]
    revision: Revision


@dataclass(frozen=True, slots=True)
class Story:
    """One task's history.

    Attributes:
        summary: None if the task is gone.
        request_id: that it goes back to; empty if that is not known any more.
        request: what that request did.
        predecessors: of the tasks before it in its place, the last few.
        events: its own.
        explanation: how it is.
    """

    summary: TaskSummary | None
    request_id: str
    request: Sequence[Event]
    predecessors: Sequence[Event]
    events: Sequence[Event]
    explanation: str


class Events:
    """The part of the Control API that is about what happened."""

    def __init__(self, store: Store, access: Access, tasks: Tasks) -> None:
        self._store = store
        self._view = access.view
        self._tasks = tasks
        self._followers = 0

    async def stream(self, asked: Asked) -> AsyncGenerator[Told, None]:
        """Yield what is kept, then what comes if that is asked for.

        Raises:
            OverloadedError: too many follow.
            StoreUnavailableError: the store does not answer.
        """
        wanted = self._filter(asked)
        listing = await self._store.list(keys.JOURNAL)
        kept = [event for event in self._read(listing.items) if wanted(event)]
        if asked.tail >= 0:
            kept = list(deque(kept, maxlen=asked.tail))
        for part in _parts(kept):
            yield Told(part, part[-1].revision)
        yield Told((), listing.revision)
        if asked.follow:
            if self._followers >= FOLLOWERS_MAX:
                raise OverloadedError(f"{FOLLOWERS_MAX} clients follow events here already")
            self._followers += 1
            try:
                async with aclosing(self._follow(listing.revision)) as told:
                    async for each in told:
                        events = [event for event in each.events if wanted(event)]
                        if events:
                            yield Told(events, each.revision)
            finally:
                self._followers -= 1

    async def story(self, reference: str) -> Story:
        """Tell a task's history, as far as the journal reaches.

        Raises:
            NotFoundError: there is no such task, and the journal knows of none.
        """
        listing = await self._store.list(keys.JOURNAL)
        events = list(self._read(listing.items))
        try:
            task = find_task(self._view, reference)
        except NotFoundError:
            mine = [event for event in events if event.kind == "task" and event.id == reference]
            if not mine:
                raise
            return _story(events, reference, None, mine[-1].request_id, "")
        version = self._view.version_of(task)
        explained = await self._tasks.explain(task.id)
        return _story(
            events,
            task.id,
            summaries.of_task(self._view, task),
            version.request_id if version else "",
            explained.text,
        )

    async def _follow(self, after: Revision) -> AsyncGenerator[Told, None]:
        while True:
            try:
                async with aclosing(self._store.watch(keys.JOURNAL, after)) as batches:
                    async for batch in batches:
                        after = batch.revision
                        items = [each.item for each in batch.events if isinstance(each, Changed)]
                        yield Told(list(self._read(items)), after)
            except CompactedError:
                listing = await self._store.list(keys.JOURNAL)
                missed = [item for item in listing.items if item.mod_revision > after]
                after = listing.revision
                yield Told(list(self._read(missed)), after)

    def _read(self, items: Iterable[KeyValue]) -> Iterable[Event]:
        for item in sorted(items, key=lambda each: (each.mod_revision, each.key)):
            yield from events_of(item, self._hostname)

    def _hostname(self, node_id: str) -> str:
        node = self._view.nodes.get(NodeId(node_id))
        return node.description.hostname if node is not None else ""

    def _filter(self, asked: Asked) -> Callable[[Event], bool]:
        """Return what tells whether an event is wanted; names of what is gone count as they are."""
        service = _resolved(lambda: find_service(self._view, asked.service).id, asked.service)
        node = _resolved(lambda: find_node(self._view, asked.node).id, asked.node)
        task = _resolved(lambda: find_task(self._view, asked.task).id, asked.task)

        def wanted(event: Event) -> bool:
            return (
                event.revision > asked.after
                and event.at >= asked.since
                and (not service or service in (event.service_id, event.service))
                and (not node or node in (event.node_id, event.node))
                and (not task or (event.kind == "task" and event.id.startswith(task)))
                and asked.stack in ("", event.stack)
                and event.request_id.startswith(asked.request_id)
                and (not asked.kinds or event.kind in asked.kinds)
            )

        return wanted


def _parts(events: Sequence[Event]) -> Iterable[Sequence[Event]]:
    """Cut into messages, never between events of one revision: a reader goes on behind one."""
    part: list[Event] = []
    for event in events:
        if len(part) >= EVENTS_TOGETHER_MAX and event.revision != part[-1].revision:
            yield part
            part = []
        part.append(event)
    if part:
        yield part


def _resolved(find: Callable[[], str], reference: str) -> str:
    if not reference:
        return ""
    try:
        return find()
    except NotFoundError:
        return reference


def _story(
    events: Sequence[Event],
    task_id: str,
    summary: TaskSummary | None,
    request_id: str,
    explanation: str,
) -> Story:
    mine = [event for event in events if event.kind == "task" and event.id == task_id]
    first = mine[0] if mine else None
    before = _before(events, task_id, first, summary.task if summary else None)
    return Story(
        summary=summary,
        request_id=request_id,
        request=[
            event
            for event in events
            if request_id and event.request_id == request_id and event.kind != "task"
        ],
        predecessors=before,
        events=mine,
        explanation=explanation,
    )


def _before(
    events: Sequence[Event], task_id: str, first: Event | None, task: Task | None
) -> list[Event]:
    """Return the events of the last tasks in the same place that came before this one."""
    if first is None and task is None:
        return []
    service_id = first.service_id if first else ServiceId(task.service_id if task else "")
    slot = first.slot if first else (task.slot if task else 0)
    run = first.run if first else (task.run if task else 0)
    node_id = first.node_id if first else (task.node_id if task else NodeId(""))
    until = first.revision if first else 0
    there = [
        event
        for event in events
        if event.kind == "task"
        and event.service_id == service_id
        and event.slot == slot
        and event.run == run
        and (slot or event.node_id == node_id)
        and event.id != task_id
    ]
    # Those that were there first: what began later is no predecessor.
    began: dict[str, int] = {}
    for event in there:
        began.setdefault(event.id, event.revision)
    earlier = [id_ for id_, revision in began.items() if revision <= until or not until]
    told = set(earlier[-PREDECESSORS_TOLD_MAX:])
    return [event for event in there if event.id in told]
