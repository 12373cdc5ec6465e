"""Packing many classes together: a better layout, and nobody the worse for it."""

import random

from hypothesis import example, settings
from hypothesis import given as draw
from hypothesis import strategies as st

from cluster.constraints import NodeFacts
from cluster.model import (
    ContainerSpec,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    Placement,
    ServiceId,
    ServiceSpec,
    Strategy,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from scheduler import Demand, Group, NodeSnapshot, ReasonKind, Snapshot, place
from tests.property.scheduler_reference import Reference, lacking, reference_place
from tests.property.scheduler_worlds import CONSTRAINTS, World

LABELLED = "node.labels.disk == ssd"


def crowd(chance: random.Random) -> World:
    """Return a cluster for which many services of different sizes wait."""
    nodes = [_node(chance, number) for number in range(chance.choice([2, 3, 5, 8]))]
    services = [ServiceId(f"s{number:02}") for number in range(chance.choice([4, 10, 14]))]
    specs = {service_id: _spec(chance, service_id) for service_id in services}
    pending = [
        _task(f"{service_id}.{slot}", service_id, state=TaskState.PENDING)
        for service_id in services
        for slot in range(chance.choice([1, 1, 1, 2, 5]))
    ]
    bound = [
        _task(f"b{number}", chance.choice(services), chance.choice(nodes).id)
        for number in range(chance.choice([0, 3]))
    ]
    pending += [  # as a global service's, or one that a rebalance moves
        _task(f"{service_id}.{node.id}", service_id, node.id, TaskState.PENDING)
        for service_id in services
        if chance.random() < 0.1
        for node in nodes
    ]
    chance.shuffle(pending)
    return World(nodes, specs, bound, pending)


def _node(chance: random.Random, number: int) -> Node:
    return Node(
        id=NodeId(f"n{number:02}"),
        spec=NodeSpec(
            labels=chance.choice([{}, {"disk": "ssd"}]), task_slots=chance.choice([0, 0, 0, 6])
        ),
        description=NodeDescription(
            capacity=Resources(
                cpu_nanos=chance.choice([32, 64]), memory_bytes=chance.choice([32, 64])
            )
        ),
        status=NodeStatus(state=NodeState.READY),
    )


def _spec(chance: random.Random, name: str) -> ServiceSpec:
    size = Resources(cpu_nanos=chance.randint(0, 20), memory_bytes=chance.randint(0, 20))
    return ServiceSpec(
        name=name,
        task=TaskSpec(
            container=ContainerSpec(image="i"),
            reservations=size,
            placement=Placement(
                constraints=chance.choice([(), (), (), (LABELLED,)]),
                max_replicas_per_node=chance.choice([0, 0, 0, 1]),
            ),
        ),
        priority=chance.choice([0, 0, 0, 0, 1]),
    )


def _task(
    name: str,
    service_id: ServiceId,
    node_id: str = "",
    state: TaskState = TaskState.RUNNING,
) -> Task:
    return Task(
        id=TaskId(name),
        service_id=service_id,
        spec_version=1,
        node_id=NodeId(node_id),
        status=TaskStatus(state=state),
    )


@settings(max_examples=100, deadline=None)
@example(3852)
@example(16685)
@example(381)
@draw(st.integers(0, 2**32))
def test_what_is_packed_together_is_placed_as_rightly_as_in_order(seed: int) -> None:
    """I1 and I6 hold; nobody is left out who would have been placed in order, oldest first."""
    given = crowd(random.Random(seed))
    plan = given.plan()
    reference = reference_place(given, Strategy.BINPACK)
    assert plan.placements.keys() >= reference.keys()
    # Who fits nowhere, however much room there is, keeps nobody from being packed; nor does who
    # has one node only, for he is served before them.
    with_choice = {task.id for task in given.pending if not task.node_id}
    left = [unplaced for unplaced in plan.unplaced if with_choice & set(unplaced.task_ids)]
    reasons = [each.reason for unplaced in left for each in unplaced.counted]
    if any(reason.kind is ReasonKind.ROOM for reason in reasons):
        assert plan.placements == reference
    state = Reference(given)
    for task in given.pending:
        if task.id in plan.placements:
            node, spec = given.by_id[plan.placements[task.id]], given.spec_of(task)
            assert task.node_id in ("", node.id)
            assert not lacking(node, state.held[node.id], spec)
            assert all(CONSTRAINTS[text](node) for text in spec.task.placement.constraints)
            state.bind(task, node.id)
            here = len([1 for other, _ in state.held[node.id] if other == task.service_id])
            limit = spec.task.placement.max_replicas_per_node
            assert not limit or here <= limit
    again = place(given.snapshot(), given.groups())
    assert again.placements == plan.placements


@settings(max_examples=20, deadline=None)
@draw(st.integers(0, 2**32))
def test_packing_needs_fewer_nodes_than_the_best_fit_of_one_after_the_other(seed: int) -> None:
    chance = random.Random(seed)
    sizes = [(chance.randint(2, 60), chance.randint(2, 60)) for _ in range(300)]
    capacity = Resources(cpu_nanos=128, memory_bytes=128)
    nodes = [NodeSnapshot(NodeFacts(NodeId(f"n{i:03}")), capacity=capacity) for i in range(300)]
    groups = [
        Group(
            Demand(ServiceId(f"s{i}"), Resources(cpu_nanos=cpu, memory_bytes=memory)),
            (TaskId(f"t{i}"),),
        )
        for i, (cpu, memory) in enumerate(sizes)
    ]
    plan = place(Snapshot.of(nodes), groups)
    assert len(plan.placements) == len(sizes)
    assert len(set(plan.placements.values())) < best_fit(sizes, 128)


def best_fit(sizes: list[tuple[int, int]], capacity: int) -> int:
    """Return how many nodes it takes to put each on the node that it leaves least of."""
    free: list[tuple[int, int]] = []
    for cpu, memory in sizes:
        fits = [n for n, (c, m) in enumerate(free) if cpu <= c and memory <= m]
        if not fits:
            free.append((capacity, capacity))
            fits = [len(free) - 1]
        best = min(fits, key=lambda n: (free[n][0] - cpu) ** 2 + (free[n][1] - memory) ** 2)
        free[best] = (free[best][0] - cpu, free[best][1] - memory)
    return len(free)
