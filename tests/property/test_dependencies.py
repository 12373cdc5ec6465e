"""Any stack of services that wait for each other starts in order, whatever happens meanwhile.

The real plans of services and jobs run over a dictionary of tasks. Each commit is judged by the
invariant (I9), which is written over the same objects, and by what the tasks had come to.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import dependencies, lifecycle
from cluster.invariants import State, Step
from cluster.invariants.check import after
from cluster.model import (
    Dependency,
    DependencyCondition,
    JobSpec,
    Node,
    NodeId,
    NodeState,
    NodeStatus,
    Object,
    RestartCondition,
    RestartPolicy,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    ServiceVersion,
    Task,
    TaskId,
    TaskState,
    TaskStatus,
)
from manager.committer import Change
from manager.reconcilers import jobs, services
from tests.harness.leading import service_spec

NAMES = ("a", "b", "c", "d")
NODE = NodeId("n1")
CONDITIONS = DependencyCondition


@dataclass
class World:
    specs: dict[str, ServiceSpec]
    now: float = 1000.0
    state: State = field(default_factory=State)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    first_starts: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state.put(Node(id=NODE, status=NodeStatus(state=NodeState.READY)))
        for spec in self.specs.values():
            self.submit(spec)

    def submit(self, spec: ServiceSpec) -> None:
        service_id = ServiceId(f"id-{spec.name}")
        old = self.state.services.get(service_id)
        number = old.spec_version + 1 if old else 1
        self.state.put(ServiceVersion(service_id=service_id, number=number, spec=spec))
        self.state.put(Service(id=service_id, spec=spec, spec_version=number, updated_at=self.now))

    def plan(self, service: Service) -> list[Change]:
        world = self.world()
        versions = {
            number: version
            for (of, number), version in self.state.versions.items()
            if of == service.id
        }
        tasks = list(self.state.of_service(service.id))
        if service.spec.mode.is_job:
            return list(
                jobs.plan(
                    jobs.Facts(
                        service=service,
                        status=self.state.jobs.get(service.id),
                        versions=versions,
                        tasks=tasks,
                        nodes=self.state.nodes,
                        waits_for=lambda run: dependencies.waits_for(service, world, run),
                        now=self.now,
                        new_id=self.new_id,
                        jitter=lambda: 0.5,
                    )
                ).changes
            )
        return list(
            services.plan(
                services.Facts(
                    service=service,
                    versions=versions,
                    tasks=tasks,
                    nodes=self.state.nodes,
                    now=self.now,
                    new_id=self.new_id,
                    jitter=lambda: 0.5,
                    waits_for=dependencies.waits_for(service, world),
                )
            ).changes
        )

    def world(self) -> dependencies.World:
        return dependencies.World(
            named=lambda name: next(iter(self.state.services_named(name)), None),
            tasks_of=self.state.of_service,
            version=lambda service_id, number: self.state.versions.get((service_id, number)),
            job=self.state.jobs.get,
            nodes=self.state.nodes.values,
        )

    def new_id(self) -> TaskId:
        return TaskId(f"t{next(self.numbers):04d}")

    def step(self, name: str) -> None:
        service = self.state.services[ServiceId(f"id-{name}")]
        running_before = {
            task.id for task in self.state.of_service(service.id) if lifecycle.serves(task)
        }
        is_held = bool(dependencies.waits_for(service, self.world()))
        done = [step for change in self.plan(service) for step in self._apply(change)]
        breaches = [each for each in after(self.state, done) if each.invariant == "I9"]
        assert breaches == []
        if is_held and not service.spec.mode.is_job:
            still = {t.id for t in self.state.of_service(service.id) if lifecycle.wanted(t)}
            replicas = service.spec.replicas
            assert len(still & running_before) >= min(replicas, len(running_before)), (
                "what is held replaces nothing that runs"
            )

    def _apply(self, change: Change) -> list[Step]:
        values: list[Object] = list(change.save)
        done = [self.state.put(self._bound(value)) for value in values]
        return done + [self.state.drop(value) for value in change.drop]

    def _bound(self, value: Object) -> Object:
        """Play the scheduler: whatever is new has its node at once."""
        if isinstance(value, Task) and value.status.state < TaskState.ASSIGNED:
            status = TaskStatus(state=TaskState.ASSIGNED)
            return msgspec.structs.replace(value, node_id=NODE, status=status)
        return value

    def report(self, task: Task, state: TaskState) -> None:
        if state > task.status.state and not task.status.state.finished:
            code = (
                0
                if state is TaskState.SHUTDOWN and task.status.state >= TaskState.STARTING
                else None
            )
            status = TaskStatus(state=state, exit_code=code)
            self.state.put(msgspec.structs.replace(task, status=status))

    def obey(self, name: str) -> None:
        """Every task of the service does at once what it is told."""
        for task in list(self.state.of_service(ServiceId(f"id-{name}"))):
            self.report(task, min(task.desired_state, TaskState.SHUTDOWN))


@st.composite
def stacks(draw: st.DrawFn) -> dict[str, ServiceSpec]:
    """Services of which each may wait for those before it."""
    specs: dict[str, ServiceSpec] = {}
    for index, name in enumerate(NAMES):
        mode = draw(st.sampled_from([ServiceMode.REPLICATED, ServiceMode.REPLICATED_JOB]))
        needed = draw(st.lists(st.sampled_from(NAMES[:index]), unique=True)) if index else []
        spec = service_spec(
            name,
            mode=mode,
            replicas=draw(st.integers(0, 2)) if mode is ServiceMode.REPLICATED else 1,
            job=JobSpec(completions=2, retries=-1) if mode.is_job else JobSpec(),
            depends_on=tuple(
                Dependency(
                    service=other,
                    condition=draw(
                        st.sampled_from(
                            CONDITIONS
                            if specs[other].mode.is_job
                            else [CONDITIONS.STARTED, CONDITIONS.HEALTHY]
                        )
                    ),
                    required=draw(st.booleans()),
                )
                for other in needed
            ),
        )
        restart = RestartPolicy(
            condition=draw(st.sampled_from([RestartCondition.ANY, RestartCondition.ON_FAILURE]))
        )
        specs[name] = msgspec.structs.replace(
            spec, task=msgspec.structs.replace(spec.task, restart=restart)
        )
    return specs


ACTIONS = st.one_of(
    st.tuples(st.just("obey"), st.sampled_from(NAMES)),
    st.tuples(st.just("fail"), st.integers(0, 20)),
    st.tuples(st.just("force"), st.sampled_from(NAMES)),
    st.tuples(st.just("lose"), st.integers(0, 20)),
    st.tuples(st.just("pass")),
)


HISTORIES = st.lists(
    st.tuples(ACTIONS, st.lists(st.sampled_from(NAMES), min_size=1, max_size=8)),
    min_size=5,
    max_size=20,
)


def act(world: World, action: tuple[Any, ...]) -> None:
    match action:
        case ("obey", name):
            world.obey(name)
        case ("fail" | "lose" as what, index):
            open_ = [t for t in world.state.tasks.values() if not t.status.state.finished]
            if open_ and what == "fail":
                task = open_[index % len(open_)]
                was_up = task.status.state >= TaskState.STARTING
                world.report(task, TaskState.FAILED if was_up else TaskState.REJECTED)
            elif open_:
                task = open_[index % len(open_)]
                lost = msgspec.structs.replace(
                    task, desired_state=max(task.desired_state, TaskState.SHUTDOWN)
                )
                world.state.put(lost)
                world.report(lost, TaskState.ORPHANED)
        case ("force", name):
            spec = world.state.services[ServiceId(f"id-{name}")].spec
            task = msgspec.structs.replace(spec.task, force_update=spec.task.force_update + 1)
            world.submit(msgspec.structs.replace(spec, task=task))
        case ("pass",):
            world.now += 100.0


@settings(max_examples=80, deadline=None)
@given(specs=stacks(), history=HISTORIES)
def test_any_stack_starts_in_order_and_comes_up(
    specs: dict[str, ServiceSpec], history: list[tuple[tuple[Any, ...], list[str]]]
) -> None:
    world = World(specs)
    for action, looked_at in history:
        act(world, action)
        for name in looked_at:
            world.step(name)
    for _ in range(25):
        world.now += 100.0
        for name in reversed(NAMES):
            world.step(name)
            world.step(name)
            world.obey(name)
    for name, spec in specs.items():
        service = world.state.services[ServiceId(f"id-{name}")]
        assert dependencies.waits_for(service, world.world()) == []
        tasks = list(world.state.of_service(service.id))
        if spec.mode.is_job:
            assert world.state.jobs[service.id].completed_version == service.spec_version
        else:
            up = [task for task in tasks if lifecycle.serves(task)]
            assert len(up) == spec.replicas
            assert {task.spec_version for task in up} <= {service.spec_version}
