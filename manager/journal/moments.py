"""What a change of an object is called, and what is worth saying of it. Pure.

An object of a kind that is not treated here is "created", "updated" or "removed", for the
reason that its change was given: so a new kind of object has its events from its first day.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cluster.model import (
    Cluster,
    JobStatus,
    Node,
    Object,
    Rollout,
    Service,
    ServiceVersion,
    Session,
    Stack,
    Task,
    TaskState,
)
from manager.journal import job
from manager.journal.entries import CONTAINER_ID_CHARACTERS, WHY_CHARACTERS_MAX, Group, Item
from manager.journal.names import service_names
from manager.view import View

# These say nothing of their own: a version comes with its service, a session with its node.
_SILENT = (ServiceVersion, Session)

_WISHES = {
    # It may start: until then it was only made ready. A task of a job is to come to its end.
    TaskState.RUNNING: "released",
    TaskState.COMPLETE: "released",
    TaskState.SHUTDOWN: "stopping",
    TaskState.REMOVE: "removing",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """A change of one object; ``old`` is None for a new one, ``new`` for one that is gone."""

    old: Object | None
    new: Object | None
    why: str = ""
    request_id: str = ""


def told(moment: Moment, view: View) -> Iterable[tuple[Group, Item]]:
    """Return what the journal says of a change; nothing if there is nothing to say.

    Args:
        moment: the change.
        view: knows names, and the request that a task goes back to.
    """
    value = moment.new if moment.new is not None else moment.old
    if value is None or isinstance(value, _SILENT):
        return ()
    if isinstance(value, Task):
        return _task(moment, value, view)
    if isinstance(value, JobStatus):
        return job.told(moment.old, moment.new, moment.why, view)
    return (_other(moment, value, view),)


def _other(moment: Moment, value: Object, view: View) -> tuple[Group, Item]:
    why = moment.why
    event = "updated"
    if moment.old is None:
        event = "created"
    elif moment.new is None:
        event = "removed"
    name = stack = service = service_id = node_id = ""
    match value:
        case Service(id=id_, spec=spec):
            name = service = spec.name
            service_id, stack = id_, spec.stack
        case Stack():
            name = stack = value.name
        case Node():
            name = value.description.hostname or value.id
            node_id = value.id
            old = moment.old
            if isinstance(old, Node) and moment.new is not None and old.status != value.status:
                event, why = value.status.state.value, value.status.message or why
        case Rollout(service_id=service_id):
            service, stack = service_names(service_id, view)
            name = service
            old = moment.old
            if moment.new is not None and not (
                isinstance(old, Rollout) and old.state is value.state
            ):
                event = value.state.value
        case Cluster():
            name = "cluster"
        case _:
            service_id = getattr(value, "service_id", "")
            service, stack = service_names(service_id, view)
            name = service or getattr(value, "name", "")
    return (
        Group(
            kind=type(value).__name__.lower(),
            event=event,
            items=(),
            why=why[:WHY_CHARACTERS_MAX],
            name=name,
            request_id=moment.request_id,
            service_id=service_id,
            service=service,
            stack=stack,
        ),
        Item(id=getattr(value, "id", "") or service_id, node_id=node_id),
    )


def _task(moment: Moment, task: Task, view: View) -> Iterator[tuple[Group, Item]]:
    old = moment.old if isinstance(moment.old, Task) else None
    event, why, at, container = "", moment.why, 0.0, ""
    if moment.new is None:
        event = "forgotten"
    elif old is None:
        event = "created"
    elif old.status.state is not task.status.state:
        event, at = task.status.state.value, round(task.status.at, 3)
        why = why or task.status.error or task.status.message
    elif old.desired_state is not task.desired_state:
        event = _WISHES.get(task.desired_state, task.desired_state.value)
    elif old.moving != task.moving:
        event, why = "moving" if task.moving else "staying", task.moving or why
    elif old.status.error != task.status.error:
        event = task.status.state.value
    else:
        return
    if old is not None and task.status.container_id != old.status.container_id:
        container = task.status.container_id[:CONTAINER_ID_CHARACTERS]
    version = view.version_of(task)
    service, stack = service_names(task.service_id, view)
    yield (
        Group(
            kind="task",
            event=event,
            items=(),
            why=why[:WHY_CHARACTERS_MAX],
            request_id=version.request_id if version else moment.request_id,
            service_id=task.service_id,
            service=service or (version.spec.name if version else ""),
            stack=stack or (version.spec.stack if version else ""),
        ),
        Item(task.id, task.slot, task.node_id, at, container, task.run),
    )
