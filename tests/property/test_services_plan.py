"""Any history of a service, however wild, keeps one live task a place and ends where it should.

The world here is a dictionary of tasks: plans are applied to it whole, in between tasks
advance or end as chance will, operators change the spec, and nodes drain or are lost.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import lifecycle
from cluster.model import (
    Availability,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    ServiceVersion,
    Task,
    TaskId,
    TaskState,
    TaskStatus,
    UpdateConfig,
)
from manager.committer import Change
from manager.reconcilers import nodes, reaper, services
from tests.harness.leading import service_spec

NODES = [NodeId(name) for name in ("n1", "n2", "n3")]
SERVICE = ServiceId("s")
BAD_ENDS = [TaskState.FAILED, TaskState.COMPLETE, TaskState.REJECTED]


@dataclass
class World:
    mode: ServiceMode
    now: float = 1000.0
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    service: Service | None = None
    versions: dict[int, ServiceVersion] = field(default_factory=dict)
    nodes: dict[NodeId, Node] = field(default_factory=dict)
    down: set[NodeId] = field(default_factory=set)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for node_id in NODES:
            self.nodes[node_id] = Node(
                id=node_id,
                description=NodeDescription(hostname=node_id),
                status=NodeStatus(state=NodeState.READY),
            )
        self.submit(self.spec(1, "app:1", 1))

    def spec(self, replicas: int, image: str, parallelism: int) -> ServiceSpec:
        spec = service_spec(
            replicas=replicas, mode=self.mode, update=UpdateConfig(parallelism=parallelism)
        )
        container = msgspec.structs.replace(spec.task.container, image=image)
        task = msgspec.structs.replace(spec.task, container=container)
        return msgspec.structs.replace(spec, task=task)

    def submit(self, spec: ServiceSpec) -> None:
        number = self.service.spec_version + 1 if self.service else 1
        self.service = Service(id=SERVICE, spec=spec, spec_version=number)
        self.versions[number] = ServiceVersion(service_id=SERVICE, number=number, spec=spec)

    def plan(self) -> list[Change]:
        assert self.service is not None
        facts = services.Facts(
            service=self.service,
            versions=self.versions,
            tasks=list(self.tasks.values()),
            nodes=self.nodes,
            now=self.now,
            new_id=lambda: TaskId(f"t{next(self.numbers):04d}"),
            jitter=lambda: 0.5,
        )
        return list(services.plan(facts).changes)

    def reap(self) -> list[Change]:
        facts = reaper.Facts(self.service, list(self.tasks.values()), {}, history_limit=2)
        return list(reaper.plan(facts).changes)

    def judge(self, node_id: NodeId) -> list[Change]:
        facts = nodes.Facts(
            node=self.nodes[node_id],
            session=None,
            absent_seconds=99.0 if node_id in self.down else 0.0,
            usual_grace_seconds=3.0,
            grace_seconds=3.0,
            tasks=[task for task in self.tasks.values() if task.node_id == node_id],
            is_global=lambda _: self.mode is ServiceMode.GLOBAL,
            now=self.now,
        )
        return list(nodes.plan(facts).changes)

    def apply(self, changes: list[Change]) -> None:
        for change in changes:
            for value in change.drop:
                assert isinstance(value, Task)
                del self.tasks[value.id]
            for value in change.save:
                if isinstance(value, Task):
                    before = self.tasks.get(value.id)
                    assert before is None or value.desired_state >= before.desired_state
                    assert before is None or value.status.state >= before.status.state  # I3
                    self.tasks[value.id] = value
                else:
                    assert isinstance(value, Node)
                    self.nodes[value.id] = value
        self.check()

    def check(self) -> None:
        """I2: one live task a place; and none runs beside a predecessor that still might."""
        live: dict[NodeId | int, Task] = {}
        for task in self.tasks.values():
            if lifecycle.live(task):
                place: NodeId | int = task.node_id if self.mode is ServiceMode.GLOBAL else task.slot
                assert place not in live, (task, live[place])
                live[place] = task
        for place, task in live.items():
            if task.desired_state is TaskState.RUNNING:
                for other in self.tasks.values():
                    same = place in (other.node_id, other.slot)
                    if same and other.id != task.id and self.now - task.created_at < 50:
                        assert not lifecycle.occupies(other), (task, other)

    def step(self) -> None:
        """One round of the leader."""
        self.apply(self.plan())
        for node_id in NODES:
            self.apply(self.judge(node_id))
        self.apply(self.reap())
        self.schedule()

    def schedule(self) -> None:
        ready = [
            node.id
            for node in self.nodes.values()
            if node.status.state is NodeState.READY
            and node.spec.availability is Availability.ACTIVE
        ]
        for task in list(self.tasks.values()):
            if lifecycle.wanted(task) and task.status.state < TaskState.ASSIGNED:
                node_id = task.node_id or (ready[len(task.id) % len(ready)] if ready else "")
                if node_id in ready:
                    self.tasks[task.id] = msgspec.structs.replace(
                        task, node_id=NodeId(node_id), status=TaskStatus(state=TaskState.ASSIGNED)
                    )

    def obey(self) -> None:
        """Every reachable agent does what it is told."""
        for task in list(self.tasks.values()):
            bound = task.status.state >= TaskState.ASSIGNED
            if not bound or task.node_id in self.down or task.status.state.finished:
                continue
            desired = min(task.desired_state, TaskState.SHUTDOWN)
            if desired > task.status.state:
                self.tasks[task.id] = msgspec.structs.replace(
                    task, status=TaskStatus(state=desired)
                )


ACTIONS = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, 4), st.sampled_from("12"), st.integers(0, 2)),
    st.tuples(st.just("end"), st.integers(0, 20), st.sampled_from(BAD_ENDS)),
    st.tuples(st.just("node"), st.sampled_from(NODES), st.sampled_from(list(Availability))),
    st.tuples(st.just("lose"), st.sampled_from(NODES)),
    st.tuples(st.just("return"), st.sampled_from(NODES)),
    st.tuples(st.just("pass"), st.floats(0, 40)),
    st.tuples(st.just("obey")),
    st.tuples(st.just("step")),
)


def act(world: World, action: tuple[Any, ...]) -> None:
    match action:
        case ("submit", replicas, tag, parallelism):
            world.submit(world.spec(replicas, f"app:{tag}", parallelism))
        case ("end", index, state):
            open_ = [
                task
                for task in world.tasks.values()
                if task.status.state >= TaskState.ASSIGNED and not task.status.state.finished
            ]
            if open_:
                task = open_[index % len(open_)]
                world.tasks[task.id] = msgspec.structs.replace(task, status=TaskStatus(state=state))
        case ("node", node_id, availability):
            world.nodes[node_id] = msgspec.structs.replace(
                world.nodes[node_id], spec=NodeSpec(availability=availability)
            )
        case ("lose", node_id):
            world.down.add(node_id)
        case ("return", node_id):
            world.down.discard(node_id)
            world.nodes[node_id] = msgspec.structs.replace(
                world.nodes[node_id], status=NodeStatus(state=NodeState.READY)
            )
        case ("pass", seconds):
            world.now += seconds
        case ("obey",):
            world.obey()
        case ("step",):
            world.step()


@settings(max_examples=150, deadline=None)
@given(mode=st.sampled_from(ServiceMode), actions=st.lists(ACTIONS, max_size=40))
def test_any_history_keeps_one_task_a_place_and_converges(
    mode: ServiceMode, actions: list[tuple[Any, ...]]
) -> None:
    world = World(mode)
    for action in actions:
        act(world, action)
        world.check()
    for node_id in NODES:
        act(world, ("return", node_id))
        act(world, ("node", node_id, Availability.ACTIVE))
    for _ in range(40):
        world.now += 100.0  # beyond every delay
        world.step()
        world.obey()
    assert world.service is not None
    running = [task for task in world.tasks.values() if task.status.state is TaskState.RUNNING]
    count = len(NODES) if mode is ServiceMode.GLOBAL else world.service.spec.replicas
    assert len(running) == count
    current = world.service.spec.task
    for task in running:
        assert not lifecycle.needs_replacing(world.versions[task.spec_version].spec.task, current)
    # I18: when all is well, nothing is decided any more.
    assert world.plan() == []
    assert world.reap() == []
