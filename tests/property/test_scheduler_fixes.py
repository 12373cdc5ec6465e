"""Fixes against trying them: each works, alone, and if any single change would, one is found."""

import random

import msgspec
from hypothesis import example, settings
from hypothesis import given as draw
from hypothesis import strategies as st

from cluster.model import Availability, Node, NodeState, ServiceId, ServiceSpec
from cluster.resources import Resources
from scheduler import Fix, FixKind, ReasonKind, explain
from tests.property.scheduler_reference import Reference, is_sensible, lacking
from tests.property.scheduler_worlds import World, world


@settings(max_examples=200, deadline=None)
@draw(st.integers(0, 2**32), st.integers(0, 4))
@example(2120, 3)  # an affinity written twice
@example(1000088, 4)  # tasks on a node that is gone
def test_every_fix_works_and_the_smallest_room_is_found(seed: int, index: int) -> None:
    given = world(random.Random(seed))
    service_id = list(given.specs)[index]
    explanation = explain(given.snapshot(), given.demand(service_id))
    if explanation.chosen or explanation.defects:
        assert not explanation.fixes
        return
    for fix in explanation.fixes:
        if fix.kind is FixKind.PORT:
            continue  # see ``possible``
        assert takers(mended(given, service_id, fix), service_id) > 0, str(fix)
    found = {fix.kind for fix in explanation.fixes}
    assert found == possible(given, service_id)
    rooms = [fix for fix in explanation.fixes if fix.kind is FixKind.FREE]
    if rooms:
        need = dict(given.demand(service_id).need) | {"task slots": 1}
        sizes = [sum(n / need[name] for name, n in fix.amounts) for fix in rooms]
        assert sizes == sorted(sizes)


def takers(given: World, service_id: ServiceId) -> int:
    state = Reference(given)
    return len([node for node in given.nodes if not state.refusals(node, service_id)])


def with_node(given: World, name: str, change: dict[str, object]) -> World:
    """Return the cluster with some fields of a node's spec changed."""
    nodes = [
        msgspec.structs.replace(node, spec=msgspec.structs.replace(node.spec, **change))
        if node.description.hostname == name
        else node
        for node in given.nodes
    ]
    return World(nodes, given.specs, given.tasks, [])


def with_placement(given: World, service_id: ServiceId, **change: object) -> World:
    spec = given.specs[service_id]
    placement = msgspec.structs.replace(spec.task.placement, **change)
    task = msgspec.structs.replace(spec.task, placement=placement)
    changed = msgspec.structs.replace(spec, task=task)
    return World(given.nodes, {**given.specs, service_id: changed}, given.tasks, [])


def mended(given: World, service_id: ServiceId, fix: Fix) -> World:
    """Return the cluster with the change made."""
    spec = given.specs[service_id]
    placement = spec.task.placement
    node = next((n for n in given.nodes if n.description.hostname == fix.node_name), None)
    match fix.kind:
        case FixKind.FREE:
            assert node is not None
            return larger(given, node, dict(fix.amounts))
        case FixKind.LABEL:
            assert node is not None
            name, _, value = fix.subject.partition("=")
            return with_node(given, fix.node_name, {"labels": {**node.spec.labels, name: value}})
        case FixKind.OPEN:
            return with_node(given, fix.node_name, {"availability": Availability.ACTIVE})
        case FixKind.TOLERATE:
            names = fix.subject.split(" and ")
            return with_placement(given, service_id, tolerates=(*placement.tolerates, *names))
    return relaxed(given, service_id, spec, fix.subject)


def relaxed(given: World, service_id: ServiceId, spec: ServiceSpec, subject: str) -> World:
    """Return the cluster with one demand of the service dropped, the one that *subject* names."""
    placement = spec.task.placement
    for text in placement.constraints:
        if text in subject:
            left = tuple(each for each in placement.constraints if each != text)
            return with_placement(given, service_id, constraints=left)
    for affinity in placement.affinities:
        near = (
            f"{'is' if affinity.anti else 'is not'} near {affinity.service} ({affinity.topology})"
        )
        if near == subject and not affinity.weight:
            kept = tuple(each for each in placement.affinities if each != affinity)
            return with_placement(given, service_id, affinities=kept)
    if "platform" in subject:
        return with_placement(given, service_id, platforms=())
    assert "per node" in subject
    return with_placement(given, service_id, max_replicas_per_node=0)


def larger(given: World, node: Node, more: dict[str, int]) -> World:
    capacity = node.description.capacity + Resources(
        cpu_nanos=more.get("cpu_nanos", 0),
        memory_bytes=more.get("memory_bytes", 0),
        generic={"gpu": more.get("gpu", 0)},
    )
    slots = node.spec.task_slots + more.get("task slots", 0) if node.spec.task_slots else 0
    changed = msgspec.structs.replace(
        node,
        description=msgspec.structs.replace(node.description, capacity=capacity),
        spec=msgspec.structs.replace(node.spec, task_slots=slots),
    )
    nodes = [changed if each.id == node.id else each for each in given.nodes]
    return World(nodes, given.specs, given.tasks, [])


def possible(given: World, service_id: ServiceId) -> set[FixKind]:
    """Return the kinds of changes of which one alone would place the task, by trying them all."""
    spec, state = given.specs[service_id], Reference(given)
    assert is_sensible(spec)
    placement, found = spec.task.placement, set[FixKind]()

    def works(kind: FixKind, changed: World) -> None:
        if takers(changed, service_id):
            found.add(kind)

    for node in given.nodes:
        name = node.description.hostname
        if lacking(node, state.held[node.id], spec):
            much = {"cpu_nanos": 99, "memory_bytes": 99, "gpu": 99, "task slots": 99}
            works(FixKind.FREE, larger(given, node, much))
        if node.status.state is NodeState.READY:
            works(FixKind.OPEN, with_node(given, name, {"availability": Availability.ACTIVE}))
        for label, values in (("disk", ["ssd"]), ("zone", ["a", "b"])):
            used = {f"node.labels.{label}"} & topologies(state, spec)
            for value in values if not used else []:
                labels = {**node.spec.labels, label: value}
                works(FixKind.LABEL, with_node(given, name, {"labels": labels}))
        only_ports = state.refusals(node, service_id) == {ReasonKind.PORT}
        if only_ports and one_port(given, state, node, service_id):
            found.add(FixKind.PORT)
        missing = set(node.spec.reserved_for) - set(placement.tolerates)
        tolerant = (*placement.tolerates, *sorted(missing))
        works(FixKind.TOLERATE, with_placement(given, service_id, tolerates=tolerant))
    for text in placement.constraints:
        works(FixKind.RELAX, relaxed(given, service_id, spec, text))
    for affinity in placement.affinities:
        kept = tuple(each for each in placement.affinities if each != affinity)
        works(FixKind.RELAX, with_placement(given, service_id, affinities=kept))
    works(FixKind.RELAX, with_placement(given, service_id, platforms=()))
    works(FixKind.RELAX, with_placement(given, service_id, max_replicas_per_node=0))
    return found


def topologies(state: Reference, spec: ServiceSpec) -> set[str]:
    """Return what is more to the task than a label: giving it could change something else."""
    bound = [other for node in state.world.nodes for _, other in state.held[node.id]]
    musts = (
        a for other in bound for a in other.task.placement.affinities if a.anti and not a.weight
    )
    return {a.topology for a in (*spec.task.placement.affinities, *musts)}


def one_port(given: World, state: Reference, node: Node, service_id: ServiceId) -> bool:
    """Tell whether it is just one of the task's ports that is taken on the node."""
    spec = given.specs[service_id]
    taken = 0
    for port in spec.task.ports:
        alone = msgspec.structs.replace(
            spec, task=msgspec.structs.replace(spec.task, ports=(port,))
        )
        single = World(given.nodes, {**given.specs, service_id: alone}, given.tasks, [])
        only = Reference(single)
        only.held = state.held
        taken += any(kind.name == "PORT" for kind in only.refusals(node, service_id))
    return taken == 1
