"""Which object a user means: by id, by name, or by the beginning of an id.

An id wins over a name, a name over the beginning of an id. Whoever names several objects at
once is told which, whoever names none is told the nearest.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TypeVar

from cluster.errors import InvalidError, NotFoundError, did_you_mean
from cluster.ids import LENGTH
from cluster.lifecycle import wanted
from cluster.model import Node, NodeId, Service, ServiceId, Stack, StackId, Task, TaskId
from manager.view import View

T_id = TypeVar("T_id", bound=str)

# Fewer characters name no object by its id: a mistyped short name, `s7`, would often hit one.
BEGINNING_MIN = 4

# A wrong reference is compared with this many names for the nearest: some 20 ms.
NAMES_COMPARED_MAX = 2_000

# Objects that one reference may mean and that are all named to the user.
MEANT_SHOWN_MAX = 4


def find_service(view: View, reference: str) -> Service:
    """Return the service that *reference* means.

    Raises:
        NotFoundError: none; names the nearest.
        InvalidError: *reference* is empty, or begins several ids.
    """
    found = view.services.get(ServiceId(reference)) or view.service_by_name(reference)
    if found is not None:
        return found
    names = {service.id: service.spec.name for service in view.services.values()}
    return view.services[ServiceId(_by_beginning("service", reference, names, "service ls"))]


def find_node(view: View, reference: str) -> Node:
    """Return the node that *reference* means; likewise.

    Raises:
        InvalidError: also if several nodes have that host name.
    """
    if found := view.nodes.get(NodeId(reference)):
        return found
    names = {node.id: node.description.hostname for node in view.nodes.values()}
    named = [node_id for node_id, name in names.items() if name == reference]
    if reference and len(named) > 1:
        raise InvalidError(_ambiguous("node", reference, {id_: names[id_] for id_ in named}))
    if reference and named:
        return view.nodes[named[0]]
    return view.nodes[NodeId(_by_beginning("node", reference, names, "node ls"))]


def find_stack(view: View, reference: str) -> Stack:
    """Return the stack that *reference* means; likewise."""
    found = view.stacks.get(StackId(reference)) or view.stack_by_name(reference)
    if found is not None:
        return found
    names = {stack.id: stack.name for stack in view.stacks.values()}
    return view.stacks[StackId(_by_beginning("stack", reference, names, "stack ls"))]


def find_task(view: View, reference: str) -> Task:
    """Return the task that *reference* means; likewise.

    ``web.3`` is the task in slot 3 of service web: the one that is meant to run, or else the
    newest. ``web.host1`` is that of a global service on a node.
    """
    if found := view.tasks.get(TaskId(reference)):
        return found
    if found := _in_slot(view, reference):
        return found
    if "." in reference:
        service_name, _, _ = reference.rpartition(".")
        raise NotFoundError(
            f"no task '{reference}': service '{service_name}' has none in that place"
            if view.service_by_name(service_name)
            else f"no task '{reference}': no service '{service_name}'"
        )
    names = dict.fromkeys(view.tasks, "")
    return view.tasks[TaskId(_by_beginning("task", reference, names, "task ls"))]


def task_name(view: View, task: Task) -> str:
    """Return what people call *task*: its service, and its slot or its node."""
    version = view.version_of(task)
    service = version.spec.name if version else task.service_id
    if task.slot:
        return f"{service}.{task.slot}"
    node = view.nodes.get(task.node_id)
    return f"{service}.{node.description.hostname if node else task.node_id}"


def node_name(view: View, node_id: NodeId) -> str:
    """Return what people call a node; its id if it is gone or nameless, empty for none."""
    node = view.nodes.get(node_id)
    return node.description.hostname or node_id if node else node_id


def _in_slot(view: View, reference: str) -> Task | None:
    name, dot, place = reference.rpartition(".")
    service = view.service_by_name(name) if dot else None
    if service is None:
        return None
    there = [
        task
        for task in view.tasks_of_service(service.id)
        if place in ((str(task.slot),) if task.slot else (task.node_id, _host(view, task)))
    ]
    return max(there, key=lambda task: (wanted(task), task.created_at, task.id), default=None)


def _host(view: View, task: Task) -> str:
    node = view.nodes.get(task.node_id)
    return node.description.hostname if node else ""


def _by_beginning(kind: str, reference: str, names: Mapping[T_id, str], command: str) -> str:
    if not reference:
        raise InvalidError(f"which {kind}? give its id or its name")
    is_beginning = BEGINNING_MIN <= len(reference) < LENGTH
    meant = [id_ for id_ in names if id_.startswith(reference)] if is_beginning else []
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise InvalidError(_ambiguous(kind, reference, {id_: names[id_] for id_ in meant}))
    near = did_you_mean(reference, islice(filter(None, names.values()), NAMES_COMPARED_MAX))
    raise NotFoundError(f"no {kind} '{reference}';{near} `clusterctl {command}` lists them")


def _ambiguous(kind: str, reference: str, meant: Mapping[T_id, str]) -> str:
    shown = [f"{id_} ({name})" if name else id_ for id_, name in meant.items()]
    return (
        f"'{reference}' could be {len(shown)} {kind}s: {_listed(sorted(shown))};"
        " give more of the id"
    )


def _listed(shown: Iterable[str]) -> str:
    shown = list(shown)
    more = len(shown) - MEANT_SHOWN_MAX
    return ", ".join(shown[:MEANT_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
