"""Events as lines, and a task's story as a page."""

from collections.abc import Iterable, Iterator

from cluster.model import Event
from clusterctl.answers import TaskStory
from clusterctl.render.people import moment, short
from clusterctl.render.table import clean


def line(event: Event) -> str:
    """Return ``<time>  task  web.3 4k2m…  running on node1: why``."""
    name = f"{event.name} {short(event.id)}" if event.kind == "task" else event.name
    request = f"  [request {short(event.request_id)}]" if event.kind != "task" else ""
    asked = request if event.request_id else ""
    return clean(f"{moment(event.at)}  {event.kind:<8} {name}  {_happened(event)}{asked}")


def told(story: TaskStory, reference: str) -> str:
    """Return a task's history for people: the request, what came before, the task itself."""
    return "".join(f"{each}\n" for each in _page(story, reference))


def _page(story: TaskStory, reference: str) -> Iterator[str]:
    mine = story.events
    name = mine[0].name if mine else reference
    task_id = mine[0].id if mine else (story.task.task.id if story.task else reference)
    yield clean(story.explanation or f"{name} is gone") + f" (task {task_id})"
    if story.request_id:
        yield ""
        yield f"Request {story.request_id}:"
        yield from _indented(story.request, named=True) or ["  no longer kept"]
    if story.predecessors:
        yield ""
        yield "Before it in its place:"
        yield from _indented(story.predecessors, named=True)
    yield ""
    yield "The task:"
    yield from _indented(mine, named=False) or ["  no longer kept"]


def _indented(events: Iterable[Event], *, named: bool) -> list[str]:
    return [
        clean(f"  {moment(each.at)}  {_subject(each) if named else ''}{_happened(each)}")
        for each in events
    ]


def _subject(event: Event) -> str:
    name = short(event.id) if event.kind == "task" else event.name
    return f"{event.kind} {name}  "


def _happened(event: Event) -> str:
    where = f" on {event.node or short(event.node_id)}" if _has_place(event) else ""
    container = f" in container {event.container_id}" if event.container_id else ""
    return f"{event.event}{where}{container}{': ' if event.why else ''}{event.why}"


def _has_place(event: Event) -> bool:
    return event.kind == "task" and bool(event.node_id)
