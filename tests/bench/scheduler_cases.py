"""What the scheduler's benchmark measures: clusters and waiting tasks, as its peers measure them.

Nothing here is timed. A case makes its fixture anew for each sample and returns a function that
does the measured work once, and no more, and tells how many decisions that were.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from cluster.constraints import NodeFacts, parse
from cluster.model import (
    Affinity,
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
    SpreadPreference,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import NANOS_PER_CPU, Resources
from scheduler import (
    Demand,
    Group,
    Ledger,
    NodeSnapshot,
    PendingTask,
    Snapshot,
    explain,
    group,
    place,
)

MIB, GIB = 1 << 20, 1 << 30
ZONES = 10
ZONE = "node.labels.zone"

Work = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Goal:
    """At least so many decisions a second, or at most so many seconds."""

    per_s: float = 0.0
    s: float = 0.0

    def __str__(self) -> str:
        return f">= {self.per_s:,.0f}/s" if self.per_s else f"<= {self.s:g} s"


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement.

    Attributes:
        tasks: that wait; decisions that are made.
        boundary: what is inside the measured time.
        prepare: makes the fixture.
        peer: what a peer was measured to make on such a machine, per second.
    """

    name: str
    nodes: int
    tasks: int
    services: int
    prepare: Callable[[], Work]
    boundary: str = "decide"
    goal: Goal | None = None
    peer: str = ""


def cases() -> Iterator[Case]:
    """Yield every case."""
    yield from _swarm()
    yield from _anonymous()
    yield from _kubernetes()
    yield from _nomad()
    yield Case("explain-5k", 5000, 1, 1, _explaining, "explain one task", Goal(s=0.05))
    yield Case("scan-1k-2k", 1000, 2000, 1, _scanning, "look at every node, in numpy, per task")


# --- clusters -----------------------------------------------------------------------------------


def node(number: int, capacity: Resources, **fields: object) -> NodeSnapshot:
    facts = NodeFacts(
        NodeId(f"node-{number:06}"),
        hostname=f"host{number}",
        labels={"zone": f"zone{number % ZONES}"},
    )
    return NodeSnapshot(facts, capacity=capacity, **fields)  # type: ignore[arg-type]


SWARM_NODE = Resources(cpu_nanos=64 * NANOS_PER_CPU, memory_bytes=256 * GIB)
K8S_NODE = Resources(cpu_nanos=4 * NANOS_PER_CPU, memory_bytes=32 * GIB)
SMALL = Resources(cpu_nanos=NANOS_PER_CPU // 10, memory_bytes=64 * MIB)
POD = Resources(cpu_nanos=NANOS_PER_CPU // 10, memory_bytes=500 * MIB)


def service(number: int, replicas: int, **demand: object) -> Group:
    asked = Demand(
        ServiceId(f"service-{number:06}"),
        service=f"service-{number:06}",
        **demand,  # type: ignore[arg-type]
    )
    return Group(asked, tuple(TaskId(f"task-{number:06}-{slot:07}") for slot in range(replicas)))


def deciding(nodes: Sequence[NodeSnapshot], groups: Sequence[Group]) -> Work:
    """Return the work of one pass, all columns filled and nothing of the classes known yet."""
    snapshot = Snapshot.of(nodes)
    assert len(snapshot.table) == len(nodes)
    return lambda: len(place(snapshot, groups).placements)


# --- SwarmKit's ---------------------------------------------------------------------------------


def _swarm() -> Iterator[Case]:
    grouped = [
        (1_000, 1, 1_000, None, "466,000"),
        (1_000, 1, 10_000, None, "436,000"),
        (1_000, 1, 100_000, Goal(2_000_000), "282,000"),
        (10_000, 1, 100_000, None, "163,000"),
        (1_000, 100, 100, None, ""),
    ]
    for count, services, replicas, goal, peer in grouped:
        yield _swarm_case("grouped", count, services, replicas, goal=goal, peer=peer)
    yield _swarm_case("reserve", 1_000, 100, 100, peer="237,000", reservations=SMALL)
    yield _swarm_case(
        "reserve", 1_000, 100, 1_000, goal=Goal(1_000_000), peer="218,000", reservations=SMALL
    )
    yield _swarm_case(
        "spread",
        1_000,
        100,
        100,
        goal=Goal(500_000),
        peer="84,600",
        reservations=SMALL,
        spread=(ZONE,),
    )
    yield _swarm_case(
        "hetero", 1_000, 10_000, 1, goal=Goal(100_000), peer="8,070 (17,000)", reservations=SMALL
    )
    yield Case("hetero-mixed-1k-10kx1", 1_000, 10_000, 10_000, _mixed)


def _swarm_case(
    kind: str,
    count: int,
    services: int,
    replicas: int,
    *,
    goal: Goal | None = None,
    peer: str = "",
    **demand: object,
) -> Case:
    def prepare() -> Work:
        groups = [service(number, replicas, **demand) for number in range(services)]
        return deciding([node(i, SWARM_NODE) for i in range(count)], groups)

    name = f"{kind}-{_short(count)}-{_short(services)}x{_short(replicas)}"
    return Case(name, count, services * replicas, services, prepare, goal=goal, peer=peer)


def _mixed() -> Work:
    """Every service asks for something else."""
    chance = random.Random(1)
    groups = [
        service(
            number,
            1,
            reservations=Resources(
                cpu_nanos=chance.randint(1, 20) * NANOS_PER_CPU // 10,
                memory_bytes=chance.randint(64, 4096) * MIB,
            ),
        )
        for number in range(10_000)
    ]
    return deciding([node(i, SWARM_NODE) for i in range(1_000)], groups)


def _anonymous() -> Iterator[Case]:
    sizes = [
        (1_000, 1_000, None, "5,700"),
        (1_000, 10_000, None, "6,840"),
        (1_000, 100_000, None, "5,500"),
        (100_000, 1_000, None, "37"),
        (100_000, 100_000, None, ""),
        (100_000, 1_000_000, Goal(s=60), ""),
    ]
    for nodes, tasks, goal, peer in sizes:

        def prepare(nodes: int = nodes, tasks: int = tasks) -> Work:
            waiting = Group(Demand(), tuple(TaskId(f"task-{i:07}") for i in range(tasks)))
            return deciding([node(i, SWARM_NODE) for i in range(nodes)], [waiting])

        name = f"anon-{_short(nodes)}-{_short(tasks)}"
        yield Case(name, nodes, tasks, 0, prepare, goal=goal, peer=peer)


# --- Kubernetes' --------------------------------------------------------------------------------


def _kubernetes() -> Iterator[Case]:
    def case(
        name: str, services: int, replicas: int, per_s: float = 0, peer: str = "", **demand: object
    ) -> Case:
        def prepare() -> Work:
            pods = [
                service(n, replicas, **{"reservations": POD, **demand}) for n in range(services)
            ]
            return deciding(k8s_nodes(), pods)

        tasks, goal = services * replicas, Goal(per_s) if per_s else None
        return Case(f"k8s-{name}", 5_000, tasks, services, prepare, goal=goal, peer=peer)

    own = "service-000000"
    apart = (Affinity(service=own, topology="node.id", anti=True),)
    near = (Affinity(service=own, topology=ZONE),)
    yield case("basic", 100, 100, 100_000, "680")
    yield case("basic-50k", 500, 100, 100_000, "680")
    yield case("antiaffinity", 1, 4_000, 10_000, "24-90", affinities=apart)
    yield case("affinity", 1, 10_000, 10_000, "24-90", affinities=near)
    yield case("topology", 1, 10_000, 50_000, "460", spread=(ZONE,))
    yield case("topology-50k", 1, 50_000, 50_000, "460", spread=(ZONE,))
    yield case("preferred-topology", 100, 100, 50_000, spread=(ZONE,))
    yield case("nested-topology", 100, 100, spread=(ZONE, "node.id"))
    both = (parse(f"{ZONE} in (zone1, zone2)"),)
    yield case("nodeaffinity", 100, 100, 10_000, constraints=both)
    yield Case("k8s-unschedulable", 5_000, 10_200, 300, _unschedulable)
    yield Case("k8s-preemption", 5_000, 1_000, 1, _preempting, "decide, with whom to stop")
    yield Case("k8s-churn", 5_000, 5_000, 100, _churning, "50 passes: changes, snapshot, decide")


def k8s_nodes() -> list[NodeSnapshot]:
    return [node(number, K8S_NODE, task_slots=110) for number in range(5_000)]


def _unschedulable() -> Work:
    """Two hundred tasks that no node could ever take wait among others."""
    far_too_large = Resources(cpu_nanos=9 * NANOS_PER_CPU)
    groups = [
        each
        for number in range(100)
        for each in (
            service(number, 100, reservations=POD),
            service(1_000 + number, 1, reservations=far_too_large),
            service(2_000 + number, 1, reservations=far_too_large),
        )
    ]
    work = deciding(k8s_nodes(), groups)

    def decided() -> int:
        assert work() == 10_000
        return 10_200

    return decided


def _preempting() -> Work:
    """Every node is full of four tasks of a low priority; those that wait each need three."""
    low = Demand(reservations=Resources(cpu_nanos=9 * NANOS_PER_CPU // 10), priority=0)
    nodes = [
        replace(
            each,
            reserved=Resources(cpu_nanos=36 * NANOS_PER_CPU // 10),
            task_count=4,
            tasks={TaskId(f"low-{each.id}-{n}"): low for n in range(4)},
        )
        for each in k8s_nodes()
    ]
    high = service(
        0,
        1_000,
        reservations=Resources(cpu_nanos=3 * NANOS_PER_CPU),
        priority=10,
        preempts=True,
    )
    snapshot = Snapshot.of(nodes)
    assert len(snapshot.table) == len(nodes)

    def decided() -> int:
        plan = place(snapshot, [high])
        assert len(plan.evictions) == 3 * len(plan.holds)
        return len(plan.holds)

    return decided


PASSES, CHURNED = 50, 100


def _churning() -> Work:
    """A hundred tasks end, as many come and a node is relabelled, between one pass and the next."""
    specs = {
        ServiceId(f"service-{n:06}"): ServiceSpec(
            name=f"service-{n:06}",
            task=TaskSpec(
                container=ContainerSpec(image="i"),
                reservations=POD,
                placement=Placement(preferences=(SpreadPreference(key=ZONE),) if n % 2 else ()),
            ),
        )
        for n in range(100)
    }
    ledger = Ledger(lambda task: specs[task.service_id])
    nodes = [_stored_node(number) for number in range(5_000)]
    for each in nodes:
        ledger.apply_node(each)
    ids = list(specs)
    running: list[Task] = []
    for number in range(20_000):
        task = _task(f"old-{number}", ids[number % 100], nodes[number % 5_000].id)
        running.append(task)
        ledger.apply_task(task)
    assert len(ledger.snapshot().table) == len(nodes)
    chance = random.Random(2)
    chance.shuffle(running)

    def churn() -> int:
        decided = 0
        for number in range(PASSES):
            for ended in running[number * CHURNED : (number + 1) * CHURNED]:
                ledger.remove_task(ended.id)
            ledger.apply_node(_stored_node(number, disk="ssd"))
            new = [_task(f"new-{number}-{n}", ids[n]) for n in range(CHURNED)]
            waiting = [PendingTask(task.id, ledger.demand_of(task)) for task in new]
            plan = place(ledger.snapshot(), group(waiting))
            for task in new:
                ledger.apply_task(_task(task.id, task.service_id, plan.placements[task.id]))
            decided += len(plan.placements)
        return decided

    return churn


def _stored_node(number: int, **labels: str) -> Node:
    return Node(
        id=NodeId(f"node-{number:06}"),
        spec=NodeSpec(labels={"zone": f"zone{number % ZONES}", **labels}, task_slots=110),
        description=NodeDescription(hostname=f"host{number}", capacity=K8S_NODE),
        status=NodeStatus(state=NodeState.READY),
    )


def _task(name: str, service_id: ServiceId, node_id: str = "") -> Task:
    state = TaskState.RUNNING if node_id else TaskState.PENDING
    return Task(
        id=TaskId(name),
        service_id=service_id,
        spec_version=1,
        node_id=NodeId(node_id),
        status=TaskStatus(state=state),
    )


# --- Nomad's, and the rest ----------------------------------------------------------------------


def _nomad() -> Iterator[Case]:
    for nodes in (500, 1_000, 5_000, 10_000):
        for tasks in (50, 300, 600, 1_200):

            def prepare(nodes: int = nodes, tasks: int = tasks) -> Work:
                machines = [node(i, SWARM_NODE) for i in range(nodes)]
                return deciding(machines, [service(0, tasks, reservations=POD)])

            yield Case(f"nomad-{_short(nodes)}-{_short(tasks)}", nodes, tasks, 1, prepare)


def _explaining() -> Work:
    """No node takes it, each for one of five reasons."""
    nodes = [
        replace(
            each,
            reserved=Resources(cpu_nanos=(2 + number % 3) * NANOS_PER_CPU),
            reserved_for=("gpu",) if number % 7 == 0 else (),
            state=NodeState.DOWN if number % 11 == 0 else NodeState.READY,
        )
        for number, each in enumerate(k8s_nodes())
    ]
    demand = Demand(
        ServiceId("s"),
        Resources(cpu_nanos=3 * NANOS_PER_CPU),
        constraints=(parse(f"{ZONE} != zone3"),),
        service="s",
    )
    snapshot = Snapshot.of(nodes)
    assert len(snapshot.table) == len(nodes)

    def explained() -> int:
        explanation = explain(snapshot, demand)
        assert explanation.chosen is None
        assert explanation.nearest is not None
        assert explanation.fixes
        return 1

    return explained


def _scanning() -> Work:
    """The simplest thing that would do, for comparison: a look at all nodes for every task."""
    import numpy as np  # noqa: PLC0415

    free = np.array([[SWARM_NODE.cpu_nanos] * 1_000, [SWARM_NODE.memory_bytes] * 1_000])
    per_unit = 1 / free
    need = np.array([[POD.cpu_nanos], [POD.memory_bytes]])

    def scan() -> int:
        for _ in range(2_000):
            fits = (free >= need).all(axis=0)
            left = (((free - need) * per_unit) ** 2).sum(axis=0)
            free[:, np.where(fits, left, np.inf).argmin()] -= need[:, 0]
        return 2_000

    return scan


def _short(number: int) -> str:
    if number >= 1_000_000:
        return f"{number // 1_000_000}M"
    return f"{number // 1_000}k" if number % 1_000 == 0 else str(number)
