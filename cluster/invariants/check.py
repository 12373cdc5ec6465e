"""Which invariants to look at: all of them, or those that a step could have broken.

``everything`` judges a state by itself; ``after`` also judges what led to it, and costs what
the step touches. Where every state is followed from an empty cluster on, ``after`` each
transaction finds all that ``everything`` would, and more.
"""

from collections.abc import Iterable, Iterator

from cluster.invariants import binding, nodes, places, references, steps
from cluster.invariants.breach import Breach
from cluster.invariants.state import Name, Place, State, Step, takes_room
from cluster.model import Node, NodeId, Service, ServiceVersion, Stack, Task


def everything(state: State) -> Iterator[Breach]:
    """Yield every breach that can be told from *state* alone."""
    for node_id in state.nodes:
        yield from nodes.reservations_fit(state, node_id)
        yield from nodes.ports_have_one_holder(state, node_id)
    for place in state.places():
        yield from _in_place(state, place)
    for task in state.tasks.values():
        yield from steps.is_possible(state, task)
        yield from references.task_has_its_version(state, task)
        yield from references.task_has_a_service(state, task)
    for service in state.services.values():
        yield from references.service_is_whole(state, service)
    for stack in state.stacks.values():
        yield from references.stack_is_whole(state, stack)
    for name in state.names or ():
        yield from references.name_means_its_object(state, name)


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
        every_write: whether each step is one write, so that its writer can be judged; not so
            where steps in between may have been left out.
    """
    steps_done = tuple(done)
    for step in steps_done:
        yield from _step(state, step, every_write=every_write)
    for node_id in _nodes_touched(steps_done):
        yield from nodes.reservations_fit(state, node_id)
        yield from nodes.ports_have_one_holder(state, node_id)
    for place in _places_touched(steps_done):
        yield from _in_place(state, place)
    for name in names:
        yield from references.name_means_its_object(state, name)


def _step(state: State, step: Step, *, every_write: bool) -> Iterator[Breach]:
    match step.old, step.new:
        case (None | Task()) as old, Task() as new:
            yield from _task(state, old, new, every_write=every_write)
        case None, Service() as new:
            yield from references.service_is_whole(state, new)
        case Service() as old, Service() as new:
            yield from references.service_goes_on(old, new)
            yield from references.service_is_whole(state, new)
        case Service() as old, None:
            for task in state.of_service(old.id):
                yield from references.task_has_a_service(state, task)
        case ServiceVersion() as old, ServiceVersion() as new:
            yield from references.version_stays(state, old, new)
        case ServiceVersion() as old, None:
            yield from references.version_is_not_needed(state, old)
        case _, Stack() as new:
            yield from references.stack_is_whole(state, new)
        case Stack() as old, None:
            for service in state.services_in(old.name):
                yield from references.service_is_whole(state, service)


def _task(state: State, old: Task | None, new: Task, *, every_write: bool) -> Iterator[Breach]:
    yield from steps.is_possible(state, new)
    yield from references.task_has_its_version(state, new)
    yield from references.task_has_a_service(state, new)
    if old is not None:
        yield from steps.goes_forward(state, old, new)
    elif every_write:
        yield from places.is_made_behind_its_predecessors(state, new)
    if old is not None and every_write:
        yield from steps.has_one_owner(state, old, new)
    if binding.is_binding(old, new):
        yield from binding.fits(state, new)
        yield from binding.is_allowed(state, new)


def _in_place(state: State, place: Place) -> Iterator[Breach]:
    yield from places.one_current_task(state, place)
    yield from places.one_may_run(state, place)


def _nodes_touched(done: Iterable[Step]) -> Iterable[NodeId]:
    """Return the nodes whose tasks or capacity are others now, each once."""
    touched: dict[NodeId, None] = {}
    for old, new in done:
        if isinstance(new, Task) and takes_room(new):
            if not isinstance(old, Task) or not takes_room(old):
                touched[new.node_id] = None
        elif isinstance(new, Node):
            touched[new.id] = None
    return touched


def _places_touched(done: Iterable[Step]) -> Iterable[Place]:
    return {Place.of(step.new): None for step in done if isinstance(step.new, Task)}
