"""Any history of a job, however wild: exactly so many completions, never too many tasks at a time.

The world here is a dictionary of tasks and one status, as in ``test_services_plan``: plans are
applied to it, now and then only a part of them as when a leader dies between two commits; tasks
run, end and are lost as chance will; operators change the job and ask for runs; nodes drain, are
lost and come back; the clock jumps. What is checked is counted from what was seen to happen.
"""

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import lifecycle
from cluster.invariants import State
from cluster.invariants.places import one_current_task
from cluster.jobs import is_suspended
from cluster.model import (
    Availability,
    Concurrency,
    JobRun,
    JobSpec,
    JobStatus,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    RunCause,
    RunState,
    Schedule,
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
from cluster.schedules import latest_due, next_due
from manager.committer import Change
from manager.reconcilers import jobs, nodes, reaper
from tests.harness.judging import assert_decided_once
from tests.harness.leading import service_spec

NODES = [NodeId(name) for name in ("n1", "n2", "n3")]
SERVICE = ServiceId("j")
BAD_ENDS = [TaskState.FAILED, TaskState.REJECTED]
EVERY_FIVE_MINUTES = "*/5 * * * *"
BEGAN_AT = 1_800_000_000.0


@dataclass
class World:
    mode: ServiceMode
    job: JobSpec
    now: float = BEGAN_AT
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    status: JobStatus | None = None
    service: Service = field(init=False)
    versions: dict[int, ServiceVersion] = field(default_factory=dict)
    nodes: dict[NodeId, Node] = field(default_factory=dict)
    down: set[NodeId] = field(default_factory=set)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    runs: dict[int, JobRun] = field(default_factory=dict)  # every one that ever was
    completed: Counter[int] = field(default_factory=Counter)  # what was seen, by run
    failed: Counter[tuple[int, int | str]] = field(default_factory=Counter)  # likewise, by place
    gate_open: bool = True

    def __post_init__(self) -> None:
        for node_id in NODES:
            self.nodes[node_id] = Node(
                id=node_id,
                description=NodeDescription(hostname=node_id),
                status=NodeStatus(state=NodeState.READY),
            )
        self.submit(self.job)

    def submit(self, job: JobSpec) -> None:
        spec = self._spec(job)
        number = self.service.spec_version + 1 if self.versions else 1
        service = self.service if self.versions else Service(id=SERVICE, spec=spec)
        self.service = msgspec.structs.replace(
            service, spec=spec, spec_version=number, updated_at=self.now
        )
        self.versions[number] = ServiceVersion(service_id=SERVICE, number=number, spec=spec)

    def _spec(self, job: JobSpec) -> ServiceSpec:
        completions = 1 if self.mode.is_global else job.completions
        job = msgspec.structs.replace(job, completions=completions)
        return msgspec.structs.replace(service_spec(mode=self.mode), job=job)

    def facts(self) -> jobs.Facts:
        return jobs.Facts(
            service=self.service,
            status=self.status,
            versions=self.versions,
            tasks=list(self.tasks.values()),
            nodes=self.nodes,
            waits_for=lambda _: () if self.gate_open else ("service 'db' to be healthy (0 of 1)",),
            now=self.now,
            new_id=lambda: TaskId(f"t{next(self.numbers):04d}"),
            jitter=lambda: 0.5,
        )

    def plan(self) -> list[Change]:
        return list(jobs.plan(self.facts()).changes)

    def reap(self) -> list[Change]:
        facts = reaper.Facts(
            self.service, list(self.tasks.values()), {}, history_limit=1, job=self.status
        )
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

    def apply(self, changes: list[Change], share: float = 1.0) -> None:
        """Apply the first *share* of the changes; the leader that made the rest has died."""
        assert_decided_once(changes)
        for change in changes[: round(len(changes) * share)]:
            for value in change.drop:
                assert isinstance(value, Task)
                del self.tasks[value.id]
            for value in change.save:
                match value:
                    case Task():
                        self._save(value)
                    case JobStatus():
                        self._note(value)
                    case Node():
                        self.nodes[value.id] = value
        self.check()

    def _save(self, task: Task) -> None:
        before = self.tasks.get(task.id)
        assert before is None or task.desired_state >= before.desired_state
        assert before is None or task.status.state >= before.status.state  # I3
        released = lifecycle.let_start(task) and not (before and lifecycle.let_start(before))
        assert self.gate_open or not released, "I9"
        if before is None:
            self._judge_making(task)
        self.tasks[task.id] = task

    def _judge_making(self, made: Task) -> None:
        """Unless runs may overlap, nothing is made beside what is left of a run that is over."""
        schedule = self.service.spec.job.schedule
        if schedule is not None and schedule.concurrency is Concurrency.ALLOW:
            return
        for other in self.tasks.values():
            run = self.runs.get(other.run)
            is_over = run is None or run.state is not RunState.RUNNING
            if other.run != made.run and is_over:
                assert not lifecycle.occupies(other), (made, other)

    def _note(self, status: JobStatus) -> None:
        assert self.status is None or status.runs_made >= self.status.runs_made
        for run in status.runs:
            before = self.runs.get(run.number)
            if before is not None and before.state is not RunState.RUNNING:
                assert run == before, "what has ended stays so"
            if before is None:
                assert run.number > max(self.runs, default=0)
                self._judge_beginning(run)
            self.runs[run.number] = run
        remembered = {run.number for run in status.runs}
        for number, run in self.runs.items():
            if run.state is RunState.RUNNING and number not in remembered:  # ended, and forgotten
                self.runs[number] = msgspec.structs.replace(run, state=RunState.REPLACED)
        self.status = status

    def _judge_beginning(self, run: JobRun) -> None:
        for other in self.runs.values():
            if run.due_at:
                assert other.due_at != run.due_at, "a due time has one run"
            if run.request:
                assert other.request != run.request, "a request has one run"
        if run.due_at:
            assert run.due_at <= self.now
            assert not is_suspended(self.service)

    def check(self) -> None:
        state = State.of(self.tasks.values())
        for place in state.places():
            assert not list(one_current_task(state, place))  # I2
        open_tasks = [task for task in self.tasks.values() if not task.status.state.finished]
        for number, run in self.runs.items():
            job = self.versions[run.spec_version].spec.job
            of_run = [task for task in open_tasks if task.run == number]
            if job.max_concurrent:
                assert len(of_run) <= job.max_concurrent
            places = Counter(task.slot or task.node_id for task in of_run)
            assert all(count == 1 for count in places.values()), "one try at a time"
            if not self.mode.is_global:
                assert self.completed[number] <= run.completions
                if run.state is RunState.COMPLETE:
                    assert self.completed[number] == run.completions == run.completed
            if job.retries >= 0:
                assert all(
                    count <= job.retries + 1
                    for (of, _), count in self.failed.items()
                    if of == number
                )

    def step(self, share: float = 1.0) -> None:
        """One round of the leader."""
        self.apply(self.plan(), share)
        for node_id in NODES:
            self.apply(self.judge(node_id), share)
        self.apply(self.reap(), share)
        if share == 1.0:
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
                node_id = task.node_id or (ready[len(self.tasks) % len(ready)] if ready else "")
                if node_id in ready:
                    self.tasks[task.id] = msgspec.structs.replace(
                        task, node_id=NodeId(node_id), status=TaskStatus(state=TaskState.ASSIGNED)
                    )

    def end(self, task: Task, state: TaskState) -> None:
        """Let a task end as its agent would report it; only what was let to start can end well."""
        status = TaskStatus(state=state, error="bad" if state in BAD_ENDS else "")
        self.tasks[task.id] = msgspec.structs.replace(task, status=status)
        if state is TaskState.COMPLETE:
            self.completed[task.run] += 1
        elif state in BAD_ENDS and lifecycle.wanted(task):
            self.failed[task.run, task.slot or task.node_id] += 1

    def reachable(self) -> list[Task]:
        return [
            task
            for task in self.tasks.values()
            if task.status.state >= TaskState.ASSIGNED
            and task.node_id not in self.down
            and not task.status.state.finished
        ]

    def obey(self, *, to_the_end: bool) -> None:
        """Every reachable agent does what it is told, and tasks may come to their good end."""
        for task in self.reachable():
            if task.desired_state >= TaskState.SHUTDOWN:
                self.end(task, TaskState.SHUTDOWN)
            elif task.desired_state is TaskState.COMPLETE and to_the_end:
                self.end(task, TaskState.COMPLETE)
            elif task.desired_state is TaskState.COMPLETE:
                running = TaskStatus(state=TaskState.RUNNING)
                self.tasks[task.id] = msgspec.structs.replace(task, status=running)


JOBS = st.builds(
    JobSpec,
    completions=st.integers(1, 4),
    max_concurrent=st.integers(0, 3),
    retries=st.integers(-1, 2),
    time_limit_seconds=st.sampled_from([0.0, 0.0, 50.0]),
    history=st.integers(0, 3),
    schedule=st.none()
    | st.builds(
        Schedule,
        cron=st.just(EVERY_FIVE_MINUTES),
        concurrency=st.sampled_from(Concurrency),
        late_seconds_max=st.sampled_from([0.0, 1000.0]),
        suspended=st.sampled_from([False, False, True]),
    ),
)
AVAILABILITIES = st.sampled_from([Availability.DRAIN, Availability.DRAIN, *Availability])
ACTIONS = st.one_of(
    st.tuples(st.just("submit"), JOBS),
    st.tuples(st.just("run")),
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("end"), st.integers(0, 20), st.sampled_from([*BAD_ENDS, TaskState.COMPLETE])),
    st.tuples(st.just("node"), st.sampled_from(NODES), AVAILABILITIES),
    st.tuples(st.just("judge"), st.sampled_from(NODES)),
    st.tuples(st.just("lose"), st.sampled_from(NODES)),
    st.tuples(st.just("return"), st.sampled_from(NODES)),
    st.tuples(st.just("pass"), st.floats(0, 400)),
    st.tuples(st.just("jump"), st.sampled_from([-3600.0, 3600.0, -5.0])),
    st.tuples(st.just("gate"), st.booleans()),
    st.tuples(st.just("obey"), st.booleans()),
)
# What share of each commit of the leader's rounds after an action is made: two rounds, for one
# moves the status and the next the tasks.
SHARES = st.tuples(st.sampled_from([1.0, 1.0, 0.5, 0.0]), st.sampled_from([1.0, 0.0]))
HISTORIES = st.lists(st.tuples(ACTIONS, SHARES), min_size=10, max_size=25)


def act(world: World, action: tuple[Any, ...]) -> None:
    match action:
        case ("submit", job):
            world.submit(job)
        case ("run",):
            asked = world.service.run_requests + 1
            world.service = msgspec.structs.replace(world.service, run_requests=asked)
        case ("suspend", suspended):
            world.service = msgspec.structs.replace(
                world.service, suspended=suspended, updated_at=world.now
            )
        case ("end", index, state):
            open_ = [
                task
                for task in world.reachable()
                if state is not TaskState.COMPLETE or lifecycle.let_start(task)
            ]
            if open_:
                world.end(open_[index % len(open_)], state)
        case ("node", node_id, availability):
            world.nodes[node_id] = msgspec.structs.replace(
                world.nodes[node_id], spec=NodeSpec(availability=availability)
            )
        case ("judge", node_id):  # the job is planned by what the node's planner has just written
            world.apply(world.judge(node_id))
        case ("lose", node_id):
            world.down.add(node_id)
        case ("return", node_id):
            world.down.discard(node_id)
            world.nodes[node_id] = msgspec.structs.replace(
                world.nodes[node_id], status=NodeStatus(state=NodeState.READY)
            )
        case ("pass" | "jump", seconds):
            world.now += seconds
        case ("gate", is_open):
            world.gate_open = is_open
        case ("obey", to_the_end):
            world.obey(to_the_end=to_the_end)


@settings(max_examples=150, deadline=None)
@given(
    mode=st.sampled_from([ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB]),
    job=JOBS,
    history=HISTORIES,
)
def test_any_history_completes_as_often_as_asked_for_and_never_more(
    mode: ServiceMode, job: JobSpec, history: list[tuple[tuple[Any, ...], tuple[float, ...]]]
) -> None:
    world = World(mode, job)
    for action, shares in history:
        act(world, action)
        for share in shares:
            world.step(share)
    calm = msgspec.structs.replace(job, schedule=None, retries=-1, time_limit_seconds=0.0)
    world.submit(calm)
    world.gate_open = True
    for node_id in NODES:
        act(world, ("return", node_id))
        act(world, ("node", node_id, Availability.ACTIVE))
    for _ in range(40):
        world.now += 100.0  # beyond every delay
        world.step()
        world.obey(to_the_end=True)
        world.check()
    last = world.runs[max(world.runs)]
    assert last.state is RunState.COMPLETE
    assert last.spec_version == world.service.spec_version
    assert last.completed == (len(NODES) if mode.is_global else world.service.spec.job.completions)
    assert {task.run for task in world.tasks.values()} == {last.number}, "older tasks are removed"
    # I18: when all is well, nothing is decided any more.
    assert world.plan() == []
    assert world.reap() == []


@pytest.mark.parametrize("suspends_by_file", [False, True])
def test_what_would_have_been_due_while_suspended_is_not_made_up_for(
    *, suspends_by_file: bool
) -> None:
    schedule = Schedule(cron=EVERY_FIVE_MINUTES)
    world = World(ServiceMode.REPLICATED_JOB, JobSpec(schedule=schedule))
    world.step()

    def suspend(*, suspended: bool) -> None:
        if suspends_by_file:
            world.submit(JobSpec(schedule=msgspec.structs.replace(schedule, suspended=suspended)))
        else:
            act(world, ("suspend", suspended))

    suspend(suspended=True)
    for _ in range(3):
        world.step()
        world.now += 300.0
    suspend(suspended=False)
    resumed_at = world.now
    world.now += 300.0  # nobody led for a while: that is made up for
    world.step()
    (run,) = world.runs.values()
    assert run.due_at > resumed_at
    assert run.message == "", "nothing before it counts as missed"


def test_a_clock_that_was_absurdly_wrong_silences_no_schedule() -> None:
    world = World(ServiceMode.REPLICATED_JOB, JobSpec(schedule=Schedule(cron=EVERY_FIVE_MINUTES)))
    world.now += 365 * 86400.0
    world.submit(JobSpec(schedule=Schedule(cron=EVERY_FIVE_MINUTES, late_seconds_max=60.0)))
    world.step()
    world.now = BEGAN_AT
    world.step()
    world.now += 301.0
    world.step()
    assert [BEGAN_AT < run.due_at <= world.now for run in world.runs.values()] == [True]


@settings(max_examples=100, deadline=None)
@given(
    late=st.sampled_from([0.0, 7200.0]),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["pass", "jump", "away"]),
            st.floats(1, 200),
            st.sampled_from([-3600.0, 3600.0]),
        ),
        max_size=30,
    ),
)
def test_each_due_time_is_decided_on_once_and_in_order(
    late: float, steps: list[tuple[str, float, float]]
) -> None:
    """Whoever leads, and however the clock jumps by an hour."""
    schedule = Schedule(
        cron=EVERY_FIVE_MINUTES, concurrency=Concurrency.ALLOW, late_seconds_max=late
    )
    job = JobSpec(schedule=schedule, history=100)
    world = World(ServiceMode.REPLICATED_JOB, job)
    world.step()
    for kind, seconds, jump in steps:
        world.now += jump if kind == "jump" else seconds
        if kind != "away":
            for _ in range(2):
                world.step()
                world.obey(to_the_end=True)
    dues = [run.due_at for run in world.runs.values() if run.cause is RunCause.SCHEDULED]
    assert dues == sorted(set(dues))
    assert all(next_due(schedule, due - 1) == due for due in dues)
    # Nothing is skipped: whenever somebody looked, the last due time was decided on.
    world.step()
    last = latest_due(schedule, BEGAN_AT, world.now)
    if last is not None:
        assert world.status is not None
        assert world.status.scheduled_from >= last
        decided = {run.due_at for run in world.runs.values()}
        assert last in decided or last < max(decided)
        if late:
            assert all(run.state is not RunState.SKIPPED for run in world.runs.values())


@pytest.mark.parametrize("mode", [ServiceMode.GLOBAL_JOB, ServiceMode.REPLICATED_JOB])
def test_about_who_leaves_before_it_has_begun_one_thing_is_decided(mode: ServiceMode) -> None:
    world = World(mode, JobSpec(completions=2))
    for _ in range(2):  # its status, then its tasks
        world.apply(world.plan())
    if mode is ServiceMode.REPLICATED_JOB:
        world.schedule()
    assert world.tasks
    for node_id in NODES:
        act(world, ("node", node_id, Availability.DRAIN))
        act(world, ("judge", node_id))
    world.apply(world.plan())
    assert not [task for task in world.tasks.values() if lifecycle.live(task) and task.node_id]
