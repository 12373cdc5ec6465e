"""The scheduler against a slow one that is plainly right, on random small clusters.

The reference works on the stored objects, looks at every node for every single task, and
shares no code with the scheduler: not its filters, its ledger, its ranks or its constraints.
Capacities are powers of two, so that the scheduler's floats are exact and ties are ties.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.model import (
    Availability,
    ContainerSpec,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    Placement,
    Platform,
    PublishedPort,
    ServiceId,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from scheduler import (
    Demand,
    Ledger,
    PendingTask,
    Plan,
    ReasonKind,
    Snapshot,
    Strategy,
    explain,
    group,
    place,
    snapshot_of,
)

SERVICES = [ServiceId(f"s{i}") for i in range(4)]
CAPACITIES = [0, 4, 8, 16]
STATES = list(TaskState)[: list(TaskState).index(TaskState.REMOVE)]
UNDECIDED = (TaskState.NEW, TaskState.PENDING)
BOUND = ("assigned", "accepted", "preparing", "ready", "starting", "running")
CONSTRAINTS = [
    "node.labels.disk == ssd",
    "node.labels.disk != SSD",
    "node.labels.zone == a",
    "node.hostname != host1",
    "engine.labels.storage == fast",
    "node.platform.os == linux",
]


@dataclass(frozen=True)
class World:
    """A cluster with bound tasks, and tasks that wait; services have one spec each."""

    nodes: list[Node]
    specs: dict[ServiceId, TaskSpec]
    tasks: list[Task]
    pending: list[Task]

    def spec_of(self, task: Task) -> TaskSpec:
        return self.specs[task.service_id]

    def snapshot(self) -> Snapshot:
        return snapshot_of(self.nodes, self.tasks, self.spec_of)

    def demand(self, service_id: ServiceId) -> Demand:
        return Demand.of(service_id, self.specs[service_id])

    def plan(self, strategy: Strategy = Strategy.BINPACK) -> Plan:
        return place(self.snapshot(), group(self.waiting()), strategy=strategy)

    def waiting(self) -> Iterator[PendingTask]:
        for task in self.pending:
            yield PendingTask(task.id, self.demand(task.service_id), task.node_id)


resources = st.builds(
    Resources,
    cpu_nanos=st.sampled_from([0, 0, 1, 2, 3, 5]),
    memory_bytes=st.sampled_from([0, 0, 1, 2, 4]),
)
ports = st.builds(
    PublishedPort,
    target=st.just(80),
    published=st.sampled_from([0, 80, 81]),
    protocol=st.sampled_from(["tcp", "udp"]),
    host_ip=st.sampled_from(["", "0.0.0.0", "198.18.0.1", "198.18.0.2"]),
)
platforms = st.builds(
    Platform, os=st.sampled_from(["", "linux"]), architecture=st.sampled_from(["amd64", "arm64"])
)
specs = st.builds(
    TaskSpec,
    container=st.just(ContainerSpec(image="i")),
    reservations=resources,
    ports=st.lists(ports, max_size=2).map(tuple),
    placement=st.builds(
        Placement,
        constraints=st.lists(st.sampled_from(CONSTRAINTS), max_size=2).map(tuple),
        platforms=st.lists(platforms, max_size=2).map(tuple),
        max_replicas_per_node=st.sampled_from([0, 0, 1, 2]),
    ),
)


@st.composite
def nodes(draw: st.DrawFn, number: int) -> Node:
    state = draw(st.sampled_from([NodeState.READY] * 4 + [NodeState.DOWN, NodeState.UNKNOWN]))
    cpu, memory = draw(st.sampled_from(CAPACITIES)), draw(st.sampled_from(CAPACITIES))
    return Node(
        id=NodeId(f"n{number}"),
        spec=NodeSpec(
            availability=draw(st.sampled_from([Availability.ACTIVE] * 3 + list(Availability))),
            labels=draw(st.sampled_from([{}, {"disk": "ssd"}, {"disk": "hdd", "zone": "a"}])),
        ),
        description=NodeDescription(
            hostname=f"host{number}",
            platform=Platform(os="linux", architecture=draw(st.sampled_from(["amd64", "arm64"]))),
            capacity=Resources(cpu_nanos=cpu, memory_bytes=memory),
            engine_labels=draw(st.sampled_from([{}, {"storage": "fast"}])),
        ),
        status=NodeStatus(state=state),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    ids = [NodeId(f"n{i}") for i in range(draw(st.integers(0, 5)))]
    somewhere = st.sampled_from([*ids, NodeId("elsewhere")])
    specs_by_service = {service_id: draw(specs) for service_id in SERVICES}

    def task(number: int, *, bound: bool) -> Task:
        states = st.sampled_from([TaskState.RUNNING] * 5 + STATES)
        anywhere = st.just(NodeId("")) | st.just(NodeId("")) | somewhere
        return Task(
            id=TaskId(f"{'b' if bound else 'p'}{number}"),
            service_id=draw(st.sampled_from(SERVICES)),
            spec_version=1,
            node_id=draw(somewhere if bound else anywhere),
            status=TaskStatus(state=draw(states if bound else st.sampled_from(UNDECIDED))),
        )

    return World(
        nodes=[draw(nodes(number)) for number in range(len(ids))],
        specs=specs_by_service,
        tasks=[task(number, bound=True) for number in range(draw(st.integers(0, 8)))],
        pending=[task(number, bound=False) for number in range(draw(st.integers(0, 14)))],
    )


# --- the reference ----------------------------------------------------------------------------

Held = dict[NodeId, list[tuple[ServiceId, TaskSpec]]]  # who is bound to each node


def held(world: World, placements: Sequence[tuple[TaskId, NodeId]] = ()) -> Held:
    """Return what takes room on each node, with some of the waiting tasks bound."""
    here: Held = {node.id: [] for node in world.nodes}
    for task in world.tasks:
        if task.status.state.value in BOUND:
            here.setdefault(task.node_id, []).append((task.service_id, world.spec_of(task)))
    waiting = {task.id: task for task in world.pending}
    for task_id, node_id in placements:
        task = waiting[task_id]
        here[node_id].append((task.service_id, world.spec_of(task)))
    return here


def sum_of(bound: Sequence[tuple[ServiceId, TaskSpec]], field: str) -> int:
    return sum(getattr(spec.reservations, field) for _, spec in bound)


def claims(spec: TaskSpec) -> list[tuple[str, int, str]]:
    """Return address, port and protocol of each host port, "*" for all addresses."""
    addresses = {"": "*", "0.0.0.0": "*"}
    return [
        (addresses.get(port.host_ip, port.host_ip), port.published, port.protocol)
        for port in spec.ports
        if port.published != 0
    ]


def clash(one: tuple[str, int, str], other: tuple[str, int, str]) -> bool:
    return one[1:] == other[1:] and ("*" in (one[0], other[0]) or one[0] == other[0])


def port_holders_clash(all_claims: list[tuple[str, int, str]]) -> bool:
    pairs = [(one, other) for i, one in enumerate(all_claims) for other in all_claims[:i]]
    return any(clash(one, other) for one, other in pairs)


def constraint_holds(expression: str, node: Node) -> bool:
    key, operator, value = expression.split()
    found = {
        "node.hostname": node.description.hostname,
        "node.platform.os": node.description.platform.os,
        "node.labels.disk": node.spec.labels.get("disk", ""),
        "node.labels.zone": node.spec.labels.get("zone", ""),
        "engine.labels.storage": node.description.engine_labels.get("storage", ""),
    }[key]
    return (found.lower() == value.lower()) == (operator == "==")


def refusals(
    node: Node, bound: list[tuple[ServiceId, TaskSpec]], service_id: ServiceId, spec: TaskSpec
) -> set[ReasonKind]:
    """Return what keeps one more task of the service off the node."""
    placement, here, capacity = spec.placement, node.description, node.description.capacity
    why: set[ReasonKind] = set()
    if node.status.state != NodeState.READY or node.spec.availability != Availability.ACTIVE:
        why.add(ReasonKind.NODE)
    runs = [
        p.os in ("", here.platform.os) and p.architecture in ("", here.platform.architecture)
        for p in placement.platforms
    ]
    if runs and not any(runs):
        why.add(ReasonKind.PLATFORM)
    if not all(constraint_holds(expression, node) for expression in placement.constraints):
        why.add(ReasonKind.CONSTRAINT)
    count = len([1 for other, _ in bound if other == service_id])
    if placement.max_replicas_per_node and count + 1 > placement.max_replicas_per_node:
        why.add(ReasonKind.REPLICAS)
    taken = [claim for _, other in bound for claim in claims(other)]
    if any(clash(mine, other) for mine in claims(spec) for other in taken):
        why.add(ReasonKind.PORT)
    for field in ("cpu_nanos", "memory_bytes"):
        need = getattr(spec.reservations, field)
        if need and sum_of(bound, field) + need > getattr(capacity, field):
            why.add(ReasonKind.ROOM)
    return why


def reference_rank(
    node: Node, here: Held, task: Task, spec: TaskSpec, *, total: int, strategy: Strategy
) -> tuple[object, ...]:
    bound = here[node.id]
    replicas = len([1 for other, _ in bound if other == task.service_id])
    if strategy is Strategy.SPREAD or spec.reservations == Resources():
        return replicas, len(bound), node.id
    over = max(0, replicas + 1 - -(-total // 3))
    squares = Fraction(0)
    for field in ("cpu_nanos", "memory_bytes"):
        capacity = getattr(node.description.capacity, field)
        left = capacity - sum_of(bound, field) - getattr(spec.reservations, field)
        if capacity:
            squares += Fraction(left, capacity) ** 2
    return over, 1 if len(bound) == 0 else 0, squares, node.id


def reference_place(world: World, strategy: Strategy) -> dict[TaskId, NodeId]:
    here = held(world)
    by_id = {node.id: node for node in world.nodes}
    placed: dict[TaskId, NodeId] = {}

    def bind(task: Task, node_id: NodeId) -> None:
        placed[task.id] = node_id
        here[node_id].append((task.service_id, world.spec_of(task)))

    def takes(task: Task, node: Node) -> bool:
        return not refusals(node, here[node.id], task.service_id, world.spec_of(task))

    sensible = [t for t in world.pending if not port_holders_clash(claims(world.spec_of(t)))]
    order = list(dict.fromkeys((bool(t.node_id), t.service_id) for t in sensible))
    sensible.sort(key=lambda t: (not t.node_id, order.index((bool(t.node_id), t.service_id))))
    for _, tasks in groupby(sensible, key=lambda t: (bool(t.node_id), t.service_id)):
        wave = list(tasks)
        alive = [n for n in world.nodes if n.status.state is NodeState.READY]
        mates = [s for n in alive for s, _ in here[n.id] if s == wave[0].service_id]
        total = len(mates) + len(wave)
        for task in wave:
            if task.node_id:
                if task.node_id in by_id and takes(task, by_id[task.node_id]):
                    bind(task, task.node_id)
                continue
            spec = world.spec_of(task)
            takers = [node for node in world.nodes if takes(task, node)]
            ranks = [
                reference_rank(n, here, task, spec, total=total, strategy=strategy) for n in takers
            ]
            if takers:
                bind(task, takers[ranks.index(min(ranks))].id)
    return placed


# --- the properties ---------------------------------------------------------------------------

many = settings(max_examples=150, deadline=None)


@many
@given(worlds(), st.sampled_from(Strategy))
def test_the_plan_is_the_one_that_looking_at_every_node_for_every_task_gives(
    world: World, strategy: Strategy
) -> None:
    plan = world.plan(strategy)
    assert plan.placements == reference_place(world, strategy)


@many
@given(worlds())
def test_i1_no_node_gives_more_than_it_has(world: World) -> None:
    plan = world.plan()
    before, after = held(world), held(world, list(plan.placements.items()))
    for node in world.nodes:
        for field in ("cpu_nanos", "memory_bytes"):
            reserved = sum_of(after[node.id], field)
            grown = reserved > sum_of(before[node.id], field)
            assert not grown or reserved <= getattr(node.description.capacity, field)
        new = after[node.id][len(before[node.id]) :]
        for index, (_, spec) in enumerate(new):
            others = [*before[node.id], *new[:index]]
            held_ports = [claim for _, other in others for claim in claims(other)]
            assert not any(clash(mine, one) for mine in claims(spec) for one in held_ports)
            assert not port_holders_clash(claims(spec))


@many
@given(worlds())
def test_i6_hard_constraints_hold_where_a_task_is_bound(world: World) -> None:
    plan = world.plan()
    after = held(world, list(plan.placements.items()))
    by_id = {node.id: node for node in world.nodes}
    for task in world.pending:
        if task.id not in plan.placements:
            continue
        node, placement = by_id[plan.placements[task.id]], world.spec_of(task).placement
        assert task.node_id in ("", node.id)
        assert node.status.state is NodeState.READY
        assert node.spec.availability is Availability.ACTIVE
        assert all(constraint_holds(expression, node) for expression in placement.constraints)
        replicas = len([1 for other, _ in after[node.id] if other == task.service_id])
        assert not placement.max_replicas_per_node or replicas <= placement.max_replicas_per_node


@many
@given(worlds(), st.randoms(use_true_random=False), st.sampled_from(Strategy))
def test_i15_the_same_state_gives_the_same_plan(
    world: World, chance: random.Random, strategy: Strategy
) -> None:
    tasks, mixed = list(world.tasks), list(world.nodes)
    chance.shuffle(tasks)
    chance.shuffle(mixed)
    again = World(mixed, world.specs, tasks, world.pending)
    snapshot = world.snapshot()
    assert world.plan(strategy) == again.plan(strategy)
    assert place(snapshot, group(world.waiting())) == place(snapshot, group(world.waiting()))
    assert snapshot == world.snapshot(), "a plan leaves the snapshot as it was"


@many
@given(worlds())
def test_each_task_is_placed_or_told_why_it_could_not_be(world: World) -> None:
    plan = world.plan()
    told = [task_id for unplaced in plan.unplaced for task_id in unplaced.task_ids]
    assert sorted([*plan.placements, *told]) == sorted(task.id for task in world.pending)
    after = held(world, list(plan.placements.items()))
    tasks = {task.id: task for task in world.pending}
    for unplaced in plan.unplaced:
        assert str(unplaced)
        for task_id in unplaced.task_ids:
            task, spec = tasks[task_id], world.spec_of(tasks[task_id])
            asked = [node for node in world.nodes if task.node_id in ("", node.id)]
            if port_holders_clash(claims(spec)):
                assert unplaced.defects
                continue
            kinds = [refusals(n, after[n.id], task.service_id, spec) for n in asked]
            assert all(kinds), "a node would still take it"
            if not task.node_id:
                assert sum(counted.node_count for counted in unplaced.counted) == len(asked)


@many
@given(worlds(), st.sampled_from(SERVICES))
def test_an_explanation_has_every_reason_and_says_what_place_does(
    world: World, service_id: ServiceId
) -> None:
    snapshot, demand, spec = world.snapshot(), world.demand(service_id), world.specs[service_id]
    explanation = explain(snapshot, demand)
    plan = place(snapshot, group([PendingTask(TaskId("t"), demand)]))
    chosen = explanation.chosen
    assert plan.placements == ({TaskId("t"): chosen.node_id} if chosen else {})
    assert bool(explanation.defects) == port_holders_clash(claims(spec))
    if explanation.defects:
        return
    here, by_id = held(world), {node.id: node for node in world.nodes}
    assert {verdict.node_id for verdict in explanation.verdicts} == by_id.keys()
    for verdict in explanation.verdicts:
        node = by_id[verdict.node_id]
        kinds = {reason.kind for reason in verdict.reasons}
        assert kinds == refusals(node, here[node.id], service_id, spec)
        for reason in verdict.reasons:
            if reason.kind is ReasonKind.ROOM:
                short = dict(zip(("cpu_nanos", "memory_bytes"), reason.missing, strict=True))
                assert fits_with(node, here, service_id, spec, short)
                for field in [field for field, amount in short.items() if amount]:
                    less = {**short, field: short[field] - 1}
                    assert not fits_with(node, here, service_id, spec, less)


def fits_with(
    node: Node, here: Held, service_id: ServiceId, spec: TaskSpec, more: dict[str, int]
) -> bool:
    """Tell whether the node would have room if its capacity were that much larger."""
    capacity = node.description.capacity + msgspec.convert(more, Resources)
    larger = msgspec.structs.replace(
        node, description=msgspec.structs.replace(node.description, capacity=capacity)
    )
    return ReasonKind.ROOM not in refusals(larger, here[node.id], service_id, spec)


@many
@given(worlds(), st.lists(st.integers(0, 10_000), max_size=40))
def test_the_ledger_forgets_how_it_came_to_know(world: World, moves: list[int]) -> None:
    """However objects came, moved and went before, the last word on each is what counts."""
    ledger = Ledger(world.spec_of)
    objects = [*world.nodes, *world.tasks]
    for move in moves if objects else []:
        thing = objects[move % len(objects)]
        if isinstance(thing, Node):
            if move % 3:
                ledger.apply_node(thing)
            else:
                ledger.remove_node(thing.id)
        elif not isinstance(thing, Task):
            raise TypeError(thing)
        elif move % 5 == 0:
            ledger.remove_task(thing.id)
        else:
            state = STATES[move % len(STATES)]
            node_id = NodeId(f"n{move % 4}")
            elsewhere = msgspec.structs.replace(
                thing, node_id=node_id, status=TaskStatus(state=state)
            )
            ledger.apply_task(elsewhere if move % 2 else thing)
        if move % 7 == 0:
            ledger.snapshot()
    for task in world.tasks:
        ledger.apply_task(task)
    for node in world.nodes:
        ledger.apply_node(node)
    snapshot = ledger.snapshot()
    assert snapshot.nodes == world.snapshot().nodes
    assert ledger.snapshot() is snapshot
