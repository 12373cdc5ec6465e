"""A service in a world that is a dictionary of tasks: plans are applied to it whole.

In between tasks advance or end as chance will, operators change the spec and steer, nodes drain
or are lost, leaders change, and the wall clock jumps. After every step the promises are checked
that a service's planner has to keep (I2, I3, I7); they are written here from docs/promises.md,
not from the planner.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from cluster import dependencies, lifecycle
from cluster.model import (
    Availability,
    FailureAction,
    Node,
    NodeDescription,
    NodeId,
    NodeState,
    NodeStatus,
    Rollout,
    RolloutState,
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
from manager import disruption
from manager.committer import Change
from manager.reconcilers import nodes, reaper, services
from manager.reconcilers.loop import Plan
from manager.reconcilers.services.turns import NEW_VERSION
from tests.harness.judging import assert_decided_once
from tests.harness.leading import service_spec

NODES = [NodeId(name) for name in ("n1", "n2", "n3")]
SERVICE = ServiceId("s")
replace = msgspec.structs.replace

ROUNDS_MAX = 400

GOOD = "12"  # tags of images that run
CRASHES = "3"  # runs for a moment, then fails
NO_IMAGE = "4"  # cannot be made ready
HANGS = "5"  # comes no further


@dataclass
class World:
    """Everything there is; ``step`` is one round of the leader, ``obey`` one of the agents.

    Attributes:
        mono: the leader's monotonic clock; ``now`` is its wall clock.
        one_per_node: no node takes two tasks of the service.
        is_gate_open: what the service depends on is as it asks.
        leaving: whom somebody else is just telling to stop.
    """

    mode: ServiceMode
    one_per_node: bool = False
    is_gate_open: bool = True
    now: float = 1e6
    mono: float = 0.0
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    service: Service | None = None
    rollout: Rollout | None = None
    versions: dict[int, ServiceVersion] = field(default_factory=dict)
    nodes: dict[NodeId, Node] = field(default_factory=dict)
    down: set[NodeId] = field(default_factory=set)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    sightings: services.Sightings = field(default_factory=services.Sightings)
    held_since: dict[TaskId, float] = field(default_factory=dict)
    ends_since: dict[TaskId, float] = field(default_factory=dict)
    leaving: set[TaskId] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for node_id in NODES:
            self.nodes[node_id] = Node(
                id=node_id,
                description=NodeDescription(hostname=node_id),
                status=NodeStatus(state=NodeState.READY),
            )

    # --- operators ---

    def spec(self, replicas: int, tag: str, update: UpdateConfig) -> ServiceSpec:
        rollback = replace(update, failure_action=FailureAction.PAUSE, canary=0)
        spec = service_spec(replicas=replicas, mode=self.mode, update=update, rollback=rollback)
        container = replace(spec.task.container, image=f"app:{tag}")
        return replace(spec, task=replace(spec.task, container=container))

    def submit(self, spec: ServiceSpec) -> None:
        number = self.service.spec_version + 1 if self.service else 1
        old = self.service or Service(id=SERVICE, spec=spec)
        paused = old.paused and spec.task == old.spec.task
        self.service = replace(old, spec=spec, spec_version=number, paused=paused)
        self.versions[number] = ServiceVersion(service_id=SERVICE, number=number, spec=spec)

    def steer(self, action: str) -> None:
        assert self.service is not None
        match action:
            case "promote":
                self.service = replace(self.service, promoted_version=self.service.spec_version)
            case "pause":
                self.service = replace(self.service, paused=True)
            case "resume":
                at = max(self.now, self.service.resumed_at + 1)
                self.service = replace(self.service, paused=False, resumed_at=at)

    # --- the leader ---

    def plan(self) -> Plan:
        assert self.service is not None
        tasks = list(self.tasks.values())
        for task in tasks:
            ends = not lifecycle.wanted(task) and lifecycle.occupies(task)
            for since, applies in (
                (self.held_since, task.desired_state is TaskState.READY),
                (self.ends_since, ends),
            ):
                if applies:
                    since.setdefault(task.id, self.mono)
                else:
                    since.pop(task.id, None)
        facts = services.Facts(
            service=self.service,
            versions=self.versions,
            tasks=tasks,
            nodes=self.nodes,
            now=self.now,
            new_id=lambda: TaskId(f"t{next(self.numbers):04d}"),
            jitter=lambda: 0.5,
            rollout=self.rollout,
            seen=self.sightings.look(SERVICE, tasks, self.mono),
            held_seconds=self.held_seconds,
            fits_without=self.fits_without,
            waits_for=self.waits_for(),
            leaving=self.leaving,
        )
        return services.plan(facts)

    def held_seconds(self, task_id: TaskId) -> float:
        since = self.held_since.get(task_id, self.ends_since.get(task_id, self.mono))
        return self.mono - since

    def waits_for(self) -> tuple[str, ...]:
        """Return what the current version waits for; nothing once one of its tasks was let go."""
        assert self.service is not None
        number = self.service.spec_version
        is_through = any(
            self.alike(task.spec_version, number) and dependencies.is_through(task)
            for task in self.tasks.values()
        )
        return () if self.is_gate_open or is_through else ("service 'db' to be healthy",)

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

    def step(self) -> float | None:
        """One round of the leader; return when it wants to look again."""
        look_again = self.decide()
        for node_id in NODES:
            self.apply(self.judge(node_id))
        self.apply(self.reap())
        self.schedule()
        return look_again

    def decide(self) -> float | None:
        """Plan the service, apply it, and hold the outcome against I7."""
        before, is_held = Moment.of(self), bool(self.waits_for())
        plan = self.plan()
        self.apply(plan.changes)
        self.check_rollout(before, plan.changes)
        if is_held:
            self.check_gate(before)
        self.check_moves(before, plan.changes)
        return plan.look_again_seconds

    def decide_while_another_takes(self, victim: Task) -> None:
        """Plan while somebody else is telling *victim* to stop, and is written first."""
        assert self.service is not None
        if not disruption.allowance(self.service, self.tasks.values()):
            return
        before = Moment.of(self)
        self.leaving = {victim.id}
        changes = self.plan().changes
        self.leaving = set()
        self.tasks[victim.id] = replace(victim, desired_state=TaskState.SHUTDOWN)
        fresh = [
            each
            for each in changes
            if victim not in each.expect and victim.id not in self.saved(each)
        ]
        self.apply(fresh)
        self.check_rollout(before, fresh)
        self.check_moves(before, fresh)

    def schedule(self) -> None:
        for task in list(self.tasks.values()):
            if not lifecycle.wanted(task) or task.status.state >= TaskState.ASSIGNED:
                continue
            open_ = [n for n in NODES if self.takes(n)]
            if task.node_id:
                open_ = [n for n in open_ if n == task.node_id]
            if open_:
                node_id = open_[sum(task.id.encode()) % len(open_)]
                status = TaskStatus(state=TaskState.ASSIGNED)
                self.tasks[task.id] = replace(task, node_id=node_id, status=status)
            else:
                status = TaskStatus(state=TaskState.PENDING, error="no node fits")
                self.tasks[task.id] = replace(task, status=status)

    def takes(self, node_id: NodeId, *, but: Task | None = None) -> bool:
        if not self.is_open(node_id):
            return False
        there = [t for t in self.tasks.values() if t.node_id == node_id and lifecycle.occupies(t)]
        return not self.one_per_node or all(but and t.id == but.id for t in there)

    def is_open(self, node_id: NodeId) -> bool:
        node = self.nodes[node_id]
        is_active = node.spec.availability is Availability.ACTIVE
        return is_active and node.status.state is NodeState.READY

    def fits_without(self, _successor: Task, holder: Task) -> bool:
        return bool(holder.node_id) and self.takes(holder.node_id, but=holder)

    # --- the agents ---

    def tag(self, task: Task) -> str:
        image = self.versions[task.spec_version].spec.task.container.image
        return image.rpartition(":")[2]

    def obey(self) -> None:
        """Every reachable agent does what it is told, as far as the image lets it."""
        for task in list(self.tasks.values()):
            state = task.status.state
            if state < TaskState.ASSIGNED or state.finished or task.node_id in self.down:
                continue
            desired = min(task.desired_state, TaskState.SHUTDOWN)
            tag = self.tag(task)
            if desired <= TaskState.RUNNING:
                if tag == NO_IMAGE:
                    desired = TaskState.REJECTED
                elif tag == CRASHES and desired is TaskState.RUNNING:
                    desired = TaskState.FAILED
                elif tag == HANGS:
                    desired = TaskState.PREPARING
            if desired > state:
                self.tasks[task.id] = replace(
                    task, status=TaskStatus(state=desired, at=self.now, error="as told")
                )

    # --- what must hold ---

    def apply(self, changes: Sequence[Change]) -> None:
        assert_decided_once(changes)
        for change in changes:
            self.check_it_may_start(change)
            for value in change.drop:
                assert isinstance(value, Task)
                del self.tasks[value.id]
            for value in change.save:
                match value:
                    case Task():
                        before = self.tasks.get(value.id)
                        assert before is None or value.desired_state >= before.desired_state
                        assert before is None or value.status.state >= before.status.state  # I3
                        self.tasks[value.id] = value
                    case Node():
                        self.nodes[value.id] = value
                    case Rollout():
                        assert value.version == (self.rollout.version if self.rollout else 0)
                        self.rollout = replace(value, version=value.version + 1)
                        self.messages.append(value.message)
                    case _:
                        raise AssertionError(value)
        self.check()

    def check_it_may_start(self, change: Change) -> None:
        """I2: who is to start beside a task that moves does not if that is told to stay just now."""
        for value in change.save:
            if isinstance(value, Task) and value.start_first and lifecycle.let_start(value):
                before = self.tasks.get(value.id)
                if before is None or not lifecycle.let_start(before):
                    for task in self.tasks.values():
                        is_left = task.moving and lifecycle.live(task) and task.id != value.id
                        if is_left and self.place(task) == self.place(value):
                            is_move = self.alike(task.spec_version, value.spec_version)
                            assert not is_move or task in change.expect, change

    def place(self, task: Task) -> NodeId | int:
        return task.node_id if self.mode is ServiceMode.GLOBAL else task.slot

    def check(self) -> None:
        """I2: one live task a place, and at most one more that is to replace it."""
        places: dict[NodeId | int, list[Task]] = {}
        for task in self.tasks.values():
            places.setdefault(self.place(task), []).append(task)
        for tasks in places.values():
            live = sorted(filter(lifecycle.live, tasks), key=lambda task: task.created_at)
            assert len(live) <= 2, live
            for _, successor in itertools.pairwise(live):
                assert successor.start_first or successor.desired_state is TaskState.READY, live
            for task in live:
                if task.desired_state is TaskState.RUNNING and self.now - task.created_at < 50:
                    beside = [
                        other
                        for other in tasks
                        if other.id != task.id
                        and lifecycle.occupies(other)
                        and other.created_at < task.created_at
                    ]
                    assert len(beside) <= task.start_first, (task, beside)

    def check_rollout(self, before: "Moment", changes: Sequence[Change]) -> None:
        """I7: what the planner itself took away was its to take."""
        assert self.service is not None
        after = Moment.of(self)
        why = {
            value.id
            for change in changes
            if change.why == NEW_VERSION
            for value in (*change.save, *change.drop)
            if isinstance(value, Task) and value.id in before.running
        }
        stopped = [before.running[task_id] for task_id in why if task_id not in after.running]
        if not stopped:
            return
        assert after.rollout is not None
        state = after.rollout.state
        assert state not in (RolloutState.PAUSED, RolloutState.ROLLBACK_PAUSED), stopped
        is_return = state in (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK)
        config = self.service.spec.rollback if is_return else self.service.spec.update
        wanted = before.wanted
        parallelism = config.parallelism or wanted
        served = {self.place(task) for task in after.running.values()}
        borne = {str(place) for place in served} | set(after.rollout.failed)
        bare = wanted - len(borne)
        alone = [task for task in stopped if self.place(task) not in served]
        assert not alone or bare <= parallelism, (alone, bare)
        base = before.base or after.rollout.base
        if is_return or not base or self.alike(base, after.rollout.target):
            return
        good = [task for task in before.running.values() if self.alike(task.spec_version, base)]
        left = [task for task in good if task.id in after.running]
        if good and not left and any(self.alike(task.spec_version, base) for task in stopped):
            seen = self.sightings.look(SERVICE, list(self.tasks.values()), self.mono)
            proven = any(
                self.alike(task.spec_version, after.rollout.target)
                and (seen[task.id].running_seconds or 0.0) >= config.monitor_seconds
                for task in after.running.values()
            )
            at_once = alone and (wanted == 1 or parallelism >= wanted)
            assert proven or at_once, (good, stopped)

    def check_gate(self, before: "Moment") -> None:
        """I9: nothing of the current version was let to start, and it took nothing away."""
        assert self.service is not None
        for task in self.tasks.values():
            if self.alike(task.spec_version, self.service.spec_version):
                assert not lifecycle.let_start(task), task
        if self.rollout and self.alike(self.rollout.target, self.service.spec_version):
            base = before.base or self.rollout.base
            wanted = before.wanted
            good = [t for t in before.running.values() if base and self.alike(t.spec_version, base)]
            left = {task.id for task in Moment.of(self).running.values()}
            assert len(good) > wanted or all(task.id in left for task in good)

    def check_moves(self, before: "Moment", changes: Sequence[Change]) -> None:
        """I8: for the sake of others no more is missing than the budget allows."""
        assert self.service is not None
        after = Moment.of(self)
        served = {self.place(task) for task in after.running.values()}
        taken = [
            task
            for change in changes
            for task in map(before.running.get, self.saved(change))
            if task and task.moving and change.why == task.moving and task.id not in after.running
        ]
        alone = [task for task in taken if self.place(task) not in served]
        budget = self.service.spec.max_unavailable
        assert len(alone) <= budget, alone
        if alone and self.mode is ServiceMode.REPLICATED:
            assert before.wanted - len(served) <= budget, (alone, served)

    @staticmethod
    def saved(change: Change) -> list[TaskId]:
        return [value.id for value in (*change.save, *change.drop) if isinstance(value, Task)]

    def alike(self, one: int, other: int) -> bool:
        was, shall = self.versions[one].spec.task, self.versions[other].spec.task
        return not lifecycle.needs_replacing(was, shall)

    def running(self) -> list[Task]:
        return [t for t in self.tasks.values() if t.status.state is TaskState.RUNNING]

    def settle(self) -> None:
        """Let leader and agents work until nothing is left to do, or to wait for.

        Time passes only as far as the leader asked to look again: it must not need more.
        """
        for _ in range(ROUNDS_MAX):
            before = dict(self.tasks), self.rollout
            look_again = self.step()
            self.obey()
            self.check()
            if (self.tasks, self.rollout) == before:
                if look_again is None:
                    return
                self.wait(look_again + 0.001)
        raise AssertionError(f"not settled after {ROUNDS_MAX} rounds: {self.rollout}")

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.mono += seconds

    def run(self, rounds: int) -> None:
        """Let leader and agents work for so many seconds."""
        for _ in range(rounds):
            self.wait(1.0)
            self.step()
            self.obey()
            self.check()


@dataclass
class Moment:
    """What ran, and what was to, at one moment."""

    running: dict[TaskId, Task]
    wanted: int
    rollout: Rollout | None
    base: int

    @classmethod
    def of(cls, world: World) -> "Moment":
        assert world.service is not None
        running = {
            task.id: task
            for task in world.tasks.values()
            if lifecycle.live(task) and task.status.state is TaskState.RUNNING
        }
        wanted = world.service.spec.replicas
        if world.mode is ServiceMode.GLOBAL:
            wanted = sum(world.is_open(node_id) for node_id in NODES)
        return cls(running, wanted, world.rollout, world.rollout.base if world.rollout else 0)
