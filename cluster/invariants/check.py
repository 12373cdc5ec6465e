"""Which invariants to look at: all of them, or those that a step could have broken.

``everything`` judges a state by itself; ``after`` also judges what led to it, and costs what
the step touches. Where every state is followed from an empty cluster on, ``after`` each
transaction finds all that ``everything`` would, and more.
"""

from collections.abc import Iterable, Iterator

from cluster.invariants import binding, gates, nodes, places, references, steps
from cluster.invariants.breach import Breach
from cluster.invariants.references import SERVICES, STACKS
from cluster.invariants.state import Name, Place, State, Step, takes_room
from cluster.model import Node, NodeId, Service, ServiceVersion, Stack, Task


def everything(state: State) -> Iterator[Breach]:
    """Yield every breach that can be told from *state* alone."""
    for node_id in state.nodes:
        yield from _on_node(state, node_id)
    for place in state.places():
        yield from _in_place(state, place)
    for task in state.tasks.values():
        yield from steps.is_possible(state, task)
        yield from references.task_has_its_version(state, task)
        yield from references.task_has_a_service(state, task)
    for service in state.services.values():
        yield from references.service_is_whole(state, service)
    of_services = (Name(SERVICES, service.spec.name) for service in state.services.values())
    of_stacks = (Name(STACKS, stack.name) for stack in state.stacks.values())
    for name in dict.fromkeys((*of_services, *of_stacks, *(state.names or ()))):
        yield from references.name_means_one_object(state, name)


def after(
    state: State,
    done: Iterable[Step],
    names: Iterable[Name] = (),
    *,
    every_write: bool = True,
) -> Iterator[Breach]:
    """Yield every breach that steps made at once have brought about, each once.

    Args:
        state: as it is after them.
        done: the steps of one transaction, as ``State.put`` and ``State.drop`` returned them.
        names: whose keys were written or deleted in it.
        every_write: whether each step is one write and the state what it was written into. If
            not, steps in between may have been left out: nobody's part in them is judged, and
            no task whose node is gone by now.
    """
    steps_done = tuple(done)
    for step in steps_done:
        yield from _step(state, step, every_write=every_write)
    for node_id in _nodes_touched(state, steps_done):
        yield from _on_node(state, node_id)
    for place in _places_touched(steps_done):
        yield from _in_place(state, place)
    for name in dict.fromkeys((*names, *_names_touched(steps_done))):
        yield from references.name_means_one_object(state, name)
    if every_write:
        yield from gates.starts_behind_what_it_needs(state, _released(steps_done))


def _released(done: Iterable[Step]) -> Iterator[Task]:
    for old, new in done:
        if isinstance(new, Task) and gates.is_release(old if isinstance(old, Task) else None, new):
            yield new


def _step(state: State, step: Step, *, every_write: bool) -> Iterator[Breach]:
    match step.old, step.new:
        case (None | Task()) as old, Task() as new:
            yield from _task(state, old, new, every_write=every_write)
        case None, Service() as new:
            yield from references.service_is_whole(state, new)
            for task in state.of_service(new.id):
                yield from references.task_has_its_version(state, task)
        case Service() as old, Service() as new:
            yield from references.service_goes_on(old, new)
            yield from references.service_is_whole(state, new)
        case Service() as old, None:
            for task in state.of_service(old.id):
                yield from references.task_has_a_service(state, task)
        case _, ServiceVersion() as new:
            if isinstance(step.old, ServiceVersion):
                yield from references.version_stays(state, step.old, new)
            yield from _service_of(state, new)
        case ServiceVersion() as old, None:
            yield from references.version_is_not_needed(state, old)
            yield from _service_of(state, old)
        case Stack() as old, new if not isinstance(new, Stack) or new.name != old.name:
            for service in state.services_in(old.name):
                yield from references.service_is_whole(state, service)


def _task(state: State, old: Task | None, new: Task, *, every_write: bool) -> Iterator[Breach]:
    yield from steps.is_possible(state, new)
    yield from references.task_has_its_version(state, new)
    yield from references.task_has_a_service(state, new)
    if old is not None:
        yield from steps.goes_forward(state, old, new)
    else:
        yield from places.is_made_behind_its_predecessors(state, new)
    if old is not None and every_write:
        yield from steps.has_one_owner(state, old, new)
    if binding.is_binding(old, new) and (every_write or new.node_id in state.nodes):
        yield from binding.fits(state, new)
        yield from binding.is_allowed(state, new)


def _service_of(state: State, version: ServiceVersion) -> Iterator[Breach]:
    service = state.services.get(version.service_id)
    if service is not None and service.spec_version == version.number:
        yield from references.service_is_whole(state, service)


def _on_node(state: State, node_id: NodeId) -> Iterator[Breach]:
    yield from nodes.reservations_fit(state, node_id)
    yield from nodes.ports_have_one_holder(state, node_id)
    yield from nodes.items_have_one_holder(state, node_id)


def _in_place(state: State, place: Place) -> Iterator[Breach]:
    yield from places.one_current_task(state, place)
    yield from places.one_may_run(state, place)


def _nodes_touched(state: State, done: Iterable[Step]) -> Iterable[NodeId]:
    """Return the nodes that now offer or give away something else, each once."""
    touched: dict[NodeId, None] = {}
    for old, new in done:
        match new:
            case Task():
                if takes_room(new) and _taken(new) != (isinstance(old, Task) and _taken(old)):
                    touched[new.node_id] = None
            case Node():
                touched[new.id] = None
            case ServiceVersion():
                for task in state.of_service(new.service_id):
                    if takes_room(task) and task.spec_version == new.number:
                        touched[task.node_id] = None
    return touched


def _taken(task: Task) -> object:
    """Return what decides how much the task takes, and where."""
    what = (task.node_id, task.service_id, task.spec_version, task.generic_items)
    return takes_room(task) and what


def _places_touched(done: Iterable[Step]) -> Iterable[Place]:
    return {Place.of(step.new): None for step in done if isinstance(step.new, Task)}


def _names_touched(done: Iterable[Step]) -> Iterable[Name]:
    for step in done:
        for value in step:
            match value:
                case Service():
                    yield Name(SERVICES, value.spec.name)
                case Stack():
                    yield Name(STACKS, value.name)
