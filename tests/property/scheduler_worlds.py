"""Small clusters with everything that a scheduler has to weigh, drawn by chance.

Capacities are powers of two, so that the scheduler's floats are exact and ties are ties.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from cluster.model import (
    Affinity,
    Availability,
    ContainerSpec,
    DisruptionBudget,
    Mount,
    MountKind,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    Placement,
    Platform,
    Preferred,
    PublishedPort,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    SpreadPreference,
    Strategy,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from scheduler import Demand, Group, PendingTask, Plan, Snapshot, group, place, snapshot_of

NAMES = ["web", "db", "cache", "job", "log"]
CAPACITIES = [0, 4, 8, 16, 16, 32]
STATES = list(TaskState)[: list(TaskState).index(TaskState.REMOVE)]
UNDECIDED = (TaskState.NEW, TaskState.PENDING)
TOPOLOGIES = ["node.id", "node.labels.zone", "node.labels.rack", "node.platform.arch"]
VOLUMES = ["data", "spool"]

Holds = Callable[[Node], bool]


def _label(node: Node, name: str) -> str:
    return node.spec.labels.get(name, "").lower()


CONSTRAINTS: dict[str, Holds] = {
    "node.labels.disk == ssd": lambda node: _label(node, "disk") == "ssd",
    "node.labels.disk != SSD": lambda node: _label(node, "disk") != "ssd",
    "node.labels.zone in (a, b)": lambda node: _label(node, "zone") in ("a", "b"),
    "node.labels.rack exists": lambda node: "rack" in node.spec.labels,
    "node.hostname =~ host[1-3]": lambda node: node.description.hostname[4:] in "123",
    "any(node.labels.zone == a; node.labels.disk == ssd)": lambda node: (
        _label(node, "zone") == "a" or _label(node, "disk") == "ssd"
    ),
    "engine.labels.storage == fast": lambda node: (
        node.description.engine_labels.get("storage") == "fast"
    ),
}


@dataclass(frozen=True)
class World:
    """A cluster with bound tasks, and tasks that wait; services have one version each."""

    nodes: list[Node]
    specs: dict[ServiceId, ServiceSpec]
    tasks: list[Task]
    pending: list[Task]
    by_id: dict[NodeId, Node] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_id", {node.id: node for node in self.nodes})

    def spec_of(self, task: Task) -> ServiceSpec:
        return self.specs[task.service_id]

    def snapshot(self) -> Snapshot:
        return snapshot_of(self.nodes, self.tasks, self.spec_of)

    def demand(self, service_id: ServiceId) -> Demand:
        return Demand.of(service_id, self.specs[service_id], 1)

    def groups(self) -> tuple[Group, ...]:
        return group(self.waiting())

    def waiting(self) -> Iterator[PendingTask]:
        demands = {service_id: self.demand(service_id) for service_id in self.specs}
        for task in self.pending:
            yield PendingTask(task.id, demands[task.service_id], task.node_id)

    def plan(self, strategy: Strategy = Strategy.BINPACK) -> Plan:
        return place(self.snapshot(), self.groups(), strategy=strategy)


def world(chance: random.Random, *, preempts: bool = False) -> World:
    """Return a cluster drawn by chance; a *plain* one without what upsets a simple order."""
    ids = [NodeId(f"n{i}") for i in range(chance.choice([0, 1, 2, 3, 4, 5, 6, 8]))]
    services = [ServiceId(f"s-{name}") for name in NAMES]
    somewhere = [*ids, NodeId("elsewhere")]
    tasks = [
        _task(chance, f"b{number}", chance.choice(services), chance.choice(somewhere), bound=True)
        for number in range(chance.choice([0, 3, 9]))
    ]
    for node_id in ids:
        if chance.random() < 0.15:  # a service that fails here time and again
            service_id = chance.choice(services)
            times = chance.choice([4, 5, 6])
            tasks += [_failed(f"f{node_id}{n}", service_id, node_id) for n in range(times)]
    pending = [
        _task(
            chance,
            f"p{number:02}",
            chance.choice(services),
            chance.choice([NodeId("")] * 6 + [chance.choice(somewhere)]),
            bound=False,
        )
        for number in range(chance.choice([1, 4, 8, 16, 24]))
    ]
    return World(
        nodes=[_node(chance, number) for number in range(len(ids))],
        specs={ServiceId(f"s-{name}"): _spec(chance, name, preempts=preempts) for name in NAMES},
        tasks=tasks,
        pending=pending,
    )


def calm(chance: random.Random) -> World:
    """Return a cluster without troubles: all nodes open and large, and many tasks of few services.

    So whole classes find room, which are worked out at once.
    """
    nodes = [
        Node(
            id=NodeId(f"n{number}"),
            spec=NodeSpec(labels=chance.choice([{"zone": "a"}, {"zone": "b"}, {"zone": "c"}])),
            description=NodeDescription(
                hostname=f"host{number}",
                capacity=Resources(
                    cpu_nanos=chance.choice([16, 32]), memory_bytes=chance.choice([16, 32])
                ),
                images=chance.choice([(), (), ("web:latest",)]),
            ),
            status=NodeStatus(state=NodeState.READY),
        )
        for number in range(chance.choice([3, 5, 8]))
    ]
    ids = [node.id for node in nodes]
    specs = {ServiceId(f"s-{name}"): _calm_spec(chance, name) for name in NAMES[:3]}
    failed = [
        _failed(f"f{node_id}{number}", chance.choice(list(specs)), node_id)
        for node_id in ids
        for number in range(chance.choice([0, 0, 0, 4, 6]))
    ]
    bound = [
        _task(chance, f"b{n}", chance.choice(list(specs)), chance.choice(ids), bound=True)
        for n in range(chance.choice([0, 3]))
    ]
    pending = [
        _task(chance, f"p{number:02}", chance.choice(list(specs)), NodeId(""), bound=False)
        for number in range(chance.choice([3, 12, 30]))
    ]
    return World(nodes, specs, [*failed, *bound], pending)


def _calm_spec(chance: random.Random, name: str) -> ServiceSpec:
    pick = chance.choice
    apart = (Affinity(service=name, topology=pick(TOPOLOGIES[:2]), anti=True),)
    wish = Preferred(constraint="node.labels.zone in (a, b)", weight=10)
    return ServiceSpec(
        name=name,
        task=TaskSpec(
            container=ContainerSpec(image=pick(["web", "db"])),
            reservations=Resources(cpu_nanos=pick([0, 1, 1, 2]), memory_bytes=pick([0, 1, 2])),
            placement=Placement(
                preferences=tuple(
                    SpreadPreference(key=key)
                    for key in pick([(), (TOPOLOGIES[1],), (TOPOLOGIES[1],), TOPOLOGIES[1::-1]])
                ),
                affinities=pick([(), (), (), apart]),
                prefer=pick([(), (), (wish,)]),
                strategy=pick([None, None, *Strategy]),
            ),
        ),
    )


def _node(chance: random.Random, number: int) -> Node:
    pick = chance.choice
    gpus = pick([0, 0, 2, 4])
    labels = pick([{}, {"disk": "ssd"}, {"disk": "hdd", "rack": ""}, {"rack": "r1"}])
    return Node(
        id=NodeId(f"n{number}"),
        spec=NodeSpec(
            availability=pick([Availability.ACTIVE] * 6 + list(Availability)),
            labels={**labels, **pick([{}, {"zone": "a"}, {"zone": "b"}, {"zone": "B"}])},
            task_slots=pick([0, 0, 0, 0, 1, 4]),
            reserved_for=pick([(), (), (), (), ("gpu",), ("gpu", "team")]),
            volumes=pick([(), (), (), ("data",)]),
        ),
        description=NodeDescription(
            hostname=f"host{number}",
            platform=Platform(os="linux", architecture=pick(["amd64", "arm64"])),
            capacity=Resources(
                cpu_nanos=pick(CAPACITIES),
                memory_bytes=pick(CAPACITIES),
                generic={"gpu": gpus} if gpus else {},
            ),
            engine_labels=pick([{}, {"storage": "fast"}]),
            generic_items={"gpu": tuple(f"GPU-{i}" for i in range(gpus))} if gpus == 4 else {},
            images=pick([(), ("web:latest",)]),
        ),
        status=NodeStatus(state=pick([NodeState.READY] * 8 + [NodeState.DOWN, NodeState.UNKNOWN])),
    )


def _spec(chance: random.Random, name: str, *, preempts: bool) -> ServiceSpec:
    pick = chance.choice

    def some(options: Sequence[object], share: float) -> tuple[object, ...]:
        count = chance.choice([1, 1, 2]) if chance.random() < share else 0
        return tuple(chance.sample(list(options), min(count, len(options))))

    affinities = [
        Affinity(
            service=pick([name, *NAMES]),
            topology=pick(TOPOLOGIES),
            anti=chance.random() < 0.6,
            weight=pick([0, 0, 10, 50]),
        )
        for _ in range(pick([0, 0, 0, 0, 1, 2]))
    ]
    ports = [
        PublishedPort(
            target=80,
            published=pick([0, 80, 81]),
            protocol=pick(["tcp", "udp"]),
            host_ip=pick(["", "0.0.0.0", "198.18.0.1", "198.18.0.2"]),
        )
        for _ in range(pick([0, 0, 0, 0, 0, 1, 2]))
    ]
    mounts = [
        Mount(kind=MountKind.VOLUME, target=f"/{volume}", source=volume, bound=True)
        for volume in some(VOLUMES, 0.15)
        if isinstance(volume, str)
    ]
    gpus = pick([0, 0, 0, 0, 1])
    return ServiceSpec(
        name=name,
        mode=ServiceMode.REPLICATED,
        task=TaskSpec(
            container=ContainerSpec(image=pick(["web", "db"]), mounts=tuple(mounts)),
            reservations=Resources(
                cpu_nanos=pick([0, 0, 1, 1, 2, 5]),
                memory_bytes=pick([0, 0, 1, 2, 4]),
                generic={"gpu": gpus} if gpus else {},
            ),
            ports=tuple(ports),
            placement=Placement(
                constraints=some([*CONSTRAINTS], 0.2),  # type: ignore[arg-type]
                platforms=pick(
                    [(), (), (), (), (), (Platform(os="linux", architecture="aarch64"),)]
                ),
                max_replicas_per_node=pick([0, 0, 0, 1, 2]),
                preferences=tuple(SpreadPreference(key=str(key)) for key in some(TOPOLOGIES, 0.25)),
                affinities=tuple(affinities),
                prefer=tuple(
                    Preferred(constraint=str(text), weight=pick([5, 60]))
                    for text in some([*CONSTRAINTS], 0.2)
                ),
                strategy=pick([None, None, None, *Strategy]),
                tolerates=pick([(), (), ("gpu",), ("gpu", "team")]),
            ),
        ),
        priority=pick([0, 0, 0, 1]),
        preempts=preempts and chance.random() < 0.4,
        gang=pick(["", "", "", "", "", "", "g"]),
        budget=DisruptionBudget(max_unavailable=pick([0, 1, 2])),
    )


def _task(
    chance: random.Random, name: str, service_id: ServiceId, node_id: NodeId, *, bound: bool
) -> Task:
    states = [TaskState.RUNNING] * 16 + STATES if bound else list(UNDECIDED)
    desired = [TaskState.RUNNING] * 7 + [TaskState.SHUTDOWN] if bound else [TaskState.RUNNING]
    return Task(
        id=TaskId(name),
        service_id=service_id,
        spec_version=1,
        node_id=node_id,
        desired_state=chance.choice(desired),
        status=TaskStatus(state=chance.choice(states)),
    )


def _failed(name: str, service_id: ServiceId, node_id: NodeId) -> Task:
    return Task(
        id=TaskId(name),
        service_id=service_id,
        spec_version=1,
        node_id=node_id,
        desired_state=TaskState.SHUTDOWN,
        status=TaskStatus(state=TaskState.FAILED, at=1.0),
    )
