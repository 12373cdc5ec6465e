"""The worker on a fake engine, in virtual time: what becomes of tasks and containers."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Collection, Hashable
from dataclasses import dataclass, field

import msgspec
import pytest

from agent.assignments import AssignmentSet, Complete
from agent.executor import FAILURES_MAX
from agent.runtime import labels
from agent.runtime.interface import Container, ContainerId, ContainerState, Health, Owner
from agent.worker import LISTING_SECONDS, Worker
from cluster.model import (
    Assignment,
    ClusterId,
    ContainerSpec,
    NetworkAttachment,
    NodeId,
    PublishedPort,
    PullPolicy,
    ServiceId,
    ServiceSpec,
    ServiceVersion,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from tests.fakes.runtime import FakeEngine, FakeRuntime, Program
from tests.fakes.virtual_time import LoopClock, in_virtual_time

OWNER = Owner(ClusterId("cluster"), NodeId("node"))
IMAGE = "web:1"
SECONDS_MAX = 600.0  # virtual ones

TOUCHES = {"create", "start", "stop", "kill", "remove"}


@dataclass
class Bench:
    """An agent's worker, its host, and what a manager would tell it."""

    engine: FakeEngine
    worker: Worker
    tasks: dict[TaskId, Assignment] = field(default_factory=dict)
    specs: dict[ServiceId, TaskSpec] = field(default_factory=dict)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def add(self, spec: TaskSpec | None = None, **changes: object) -> TaskId:
        number = next(self.numbers)
        service_id = ServiceId(f"s{number}")
        self.specs[service_id] = spec or task()
        assignment = Assignment(
            task_id=TaskId(f"t{number}"),
            service_id=service_id,
            service_name=f"app_web{number}",
            stack="app",
            spec_version=1,
            slot=1,
            node_id=OWNER.node_id,
            desired_state=TaskState.RUNNING,
            state=TaskState.ASSIGNED,
        )
        self.tasks[assignment.task_id] = msgspec.structs.replace(assignment, **changes)
        return assignment.task_id

    def desire(self, task_id: TaskId, desired: TaskState) -> None:
        self.tasks[task_id] = msgspec.structs.replace(self.tasks[task_id], desired_state=desired)

    def tell(self) -> None:
        """Send the complete set, with what the manager has stored by now."""
        for task_id, known in self.worker.outbox.known.items():
            if task_id in self.tasks:
                self.tasks[task_id] = msgspec.structs.replace(
                    self.tasks[task_id], state=max(self.tasks[task_id].state, known.state)
                )
        assign(self.worker, self.tasks.values(), self.specs)

    def status(self, task_id: TaskId) -> TaskStatus:
        return self.worker.outbox.known.get(task_id, TaskStatus())

    def state(self, task_id: TaskId) -> TaskState:
        return self.status(task_id).state

    def container(self, task_id: TaskId) -> Container:
        (found,) = (one for one in self.engine.containers() if one.task_id == task_id)
        return found

    async def reaches(self, task_id: TaskId, state: TaskState) -> TaskStatus:
        await until(lambda: self.state(task_id) >= state)
        assert self.state(task_id) is state, self.status(task_id)
        return self.status(task_id)

    async def running(self, spec: TaskSpec | None = None) -> TaskId:
        task_id = self.add(spec)
        self.tell()
        await self.reaches(task_id, TaskState.RUNNING)
        return task_id

    def touched(self) -> list[str]:
        return [call for call in self.engine.calls if call in TOUCHES]


def task(image: str = IMAGE, **others: object) -> TaskSpec:
    container = {key: others.pop(key) for key in list(others) if key not in _OF_TASK}
    return TaskSpec(
        container=ContainerSpec(image=image, **container),  # type: ignore[arg-type]
        **others,  # type: ignore[arg-type]
    )


_OF_TASK = {"networks", "ports"}


def assign(worker: Worker, tasks: Collection[Assignment], specs: dict[ServiceId, TaskSpec]) -> None:
    versions = [
        ServiceVersion(service_id=key, number=1, spec=ServiceSpec(name=key, task=spec))
        for key, spec in specs.items()
    ]
    message = Complete(number=1, tasks=list(tasks), specs=versions)
    worker.assign(AssignmentSet().after(message), is_whole=True)


async def until(condition: Callable[[], bool], seconds_max: float = SECONDS_MAX) -> None:
    async with asyncio.timeout(seconds_max):
        while not condition():
            await asyncio.sleep(0.01)


def new_worker(engine: FakeEngine) -> Worker:
    return Worker(FakeRuntime(engine), OWNER, clock=LoopClock(), source=random.Random(7))


@contextlib.asynccontextmanager
async def at_work(worker: Worker) -> AsyncIterator[None]:
    job = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        job.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await job


@contextlib.asynccontextmanager
async def bench(**programs: Program) -> AsyncIterator[Bench]:
    """Yield a bench; programs are named after the images (``web`` for ``web:1``) that run them."""
    images: dict[Hashable, Program] = {f"{name}:1": program for name, program in programs.items()}
    engine = FakeEngine(programs=images, images=[IMAGE, *map(str, images)], clock=LoopClock())
    made = Bench(engine, new_worker(engine))
    async with at_work(made.worker):
        yield made


# --- from assignment to running ---------------------------------------------------------------


@in_virtual_time
async def test_an_assigned_task_runs() -> None:
    async with bench() as b:
        task_id = await b.running()

        container = b.container(task_id)
        assert container.name == "app_web1.1.t1"
        assert b.engine.labels_of(container.id)[labels.NODE] == OWNER.node_id
        assert b.status(task_id).container_id == container.id
        assert b.status(task_id).at > 0


@in_virtual_time
async def test_a_task_is_running_only_once_it_is_healthy() -> None:
    async with bench(slow=Program(health=[(5.0, Health.HEALTHY)])) as b:
        task_id = b.add(task("slow:1"))
        b.tell()
        status = await b.reaches(task_id, TaskState.STARTING)
        assert status.message == "waiting for its health check"
        began = LoopClock().monotonic()

        await b.reaches(task_id, TaskState.RUNNING)

        assert 4.5 < LoopClock().monotonic() - began < 5.5


@in_virtual_time
async def test_a_task_that_shall_be_ready_waits_for_the_word() -> None:
    async with bench() as b:
        task_id = b.add(desired_state=TaskState.READY)
        b.tell()
        await b.reaches(task_id, TaskState.READY)
        made = b.container(task_id)
        await asyncio.sleep(60)
        assert b.container(task_id).state is ContainerState.CREATED

        b.desire(task_id, TaskState.RUNNING)
        b.tell()
        await b.reaches(task_id, TaskState.RUNNING)

        assert b.container(task_id).id == made.id


@in_virtual_time
async def test_being_told_again_changes_nothing() -> None:
    async with bench() as b:
        await b.running()
        before = list(b.touched())

        for _ in range(3):
            b.tell()
            await asyncio.sleep(LISTING_SECONDS * 3)

        assert b.touched() == before


@in_virtual_time
async def test_a_start_is_looked_at_by_nobody_but_its_own_step() -> None:
    async with bench() as b:
        for _ in range(5):
            await b.running()

        assert b.engine.calls.count("inspect") == b.engine.calls.count("start") == 5


@in_virtual_time
async def test_a_hint_that_comes_late_does_not_make_a_step_be_repeated() -> None:
    async with bench(slow=Program(start_seconds=0.5)) as b:
        b.engine.hint_seconds = 0.1  # at the making, while it starts
        await b.running(task("slow:1"))
        await asyncio.sleep(60)

        assert b.engine.calls.count("start") == 1


@pytest.mark.parametrize("call", ["create", "start"])
def test_what_a_step_did_before_it_was_given_up_is_found_at_once(call: str) -> None:
    """The engine has done it and hinted at it, but has not answered yet."""

    @in_virtual_time
    async def check() -> None:
        async with bench() as b:
            b.engine.answers_late[call] = 30.0
            task_id = b.add()
            b.tell()
            await until(lambda: any(one.alive or call == "create" for one in b.engine.containers()))
            await asyncio.sleep(1)

            del b.tasks[task_id]
            b.tell()

            await until(lambda: not b.engine.containers(), seconds_max=1.0)

    check()


# --- images -----------------------------------------------------------------------------------


@in_virtual_time
async def test_tasks_share_one_pull() -> None:
    async with bench() as b:
        b.engine.registry.add("app:2")
        b.engine.pull_seconds = 20.0
        tasks = [b.add(task("app:2")) for _ in range(10)]
        b.tell()

        for task_id in tasks:
            await b.reaches(task_id, TaskState.RUNNING)

        assert b.engine.calls.count("pull") == 1


@pytest.mark.parametrize(
    ("policy", "known", "state", "pulls"),
    [
        (PullPolicy.MISSING, {"host"}, TaskState.RUNNING, 0),
        (PullPolicy.MISSING, {"registry"}, TaskState.RUNNING, 1),
        (PullPolicy.MISSING, set(), TaskState.REJECTED, 1),
        (PullPolicy.ALWAYS, {"host", "registry"}, TaskState.RUNNING, 1),
        (PullPolicy.ALWAYS, {"host"}, TaskState.RUNNING, 1),
        (PullPolicy.ALWAYS, set(), TaskState.REJECTED, 1),
        (PullPolicy.NEVER, {"host"}, TaskState.RUNNING, 0),
        (PullPolicy.NEVER, {"registry"}, TaskState.REJECTED, 0),
    ],
)
def test_pull_policies(policy: PullPolicy, known: set[str], state: TaskState, pulls: int) -> None:
    @in_virtual_time
    async def check() -> None:
        async with bench() as b:
            if "host" in known:
                b.engine.images.add("app:2")
            if "registry" in known:
                b.engine.registry.add("app:2")
            task_id = b.add(task("app:2", pull_policy=policy))
            b.tell()

            status = await b.reaches(task_id, state)

            assert b.engine.calls.count("pull") == pulls
            if state is TaskState.REJECTED:
                assert "image 'app:2'" in status.error

    check()


@in_virtual_time
async def test_a_pull_that_never_ends_holds_up_only_its_own_task() -> None:
    async with bench() as b:
        b.engine.registry.add("app:2")
        b.engine.pull_seconds = 1e6
        stuck = b.add(task("app:2"))
        b.tell()
        await b.reaches(stuck, TaskState.PREPARING)

        await b.running()

        b.desire(stuck, TaskState.SHUTDOWN)
        b.tell()
        await b.reaches(stuck, TaskState.SHUTDOWN)
        assert [one.task_id for one in b.engine.containers()] == [TaskId("t2")]


@in_virtual_time
async def test_a_dropped_task_ceases_to_be_pulled_for() -> None:
    async with bench() as b:
        b.engine.registry.add("app:2")
        b.engine.pull_seconds = 30.0
        dropped = b.add(task("app:2"))
        b.tell()
        await b.reaches(dropped, TaskState.PREPARING)

        del b.tasks[dropped]
        b.tell()
        await asyncio.sleep(60)

        assert "app:2" not in b.engine.images
        assert b.engine.containers() == []
        assert dropped not in b.worker.outbox.known


# --- what cannot start ------------------------------------------------------------------------


@in_virtual_time
async def test_a_task_that_cannot_start_is_rejected_with_the_reason() -> None:
    async with bench(broken=Program(start_error="cannot execute 'x': not found")) as b:
        task_id = b.add(task("broken:1"))
        b.tell()

        status = await b.reaches(task_id, TaskState.REJECTED)

        assert status.error == "cannot execute 'x': not found"
        await asyncio.sleep(60)
        assert b.engine.calls.count("start") == 1


@in_virtual_time
async def test_a_port_in_use_rejects() -> None:
    async with bench() as b:
        port = (PublishedPort(target=80, published=8080),)
        await b.running(task(ports=port))
        second = b.add(task(ports=port))
        b.tell()

        assert "8080" in (await b.reaches(second, TaskState.REJECTED)).error


@in_virtual_time
async def test_a_few_failures_of_the_engine_are_borne() -> None:
    async with bench() as b:
        b.engine.failures = {"create": FAILURES_MAX - 1, "start": FAILURES_MAX - 1}

        await b.running()


@in_virtual_time
async def test_an_engine_that_keeps_failing_rejects_the_task() -> None:
    async with bench() as b:
        b.engine.failures = {"start": 1_000}
        task_id = b.add()
        b.tell()

        status = await b.reaches(task_id, TaskState.REJECTED)

        assert "told to fail" in status.error
        assert b.engine.calls.count("start") == FAILURES_MAX


@in_virtual_time
async def test_what_runs_is_not_rejected_because_the_engine_does_not_show_it() -> None:
    """It was started, only the look at it failed: a successor would run beside it."""
    async with bench() as b:
        b.engine.failures = {"inspect": 3 * FAILURES_MAX}
        task_id = b.add()
        b.tell()

        await b.reaches(task_id, TaskState.RUNNING)


# --- ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "state"), [(0, TaskState.COMPLETE), (3, TaskState.FAILED)])
def test_an_end_is_reported_and_never_mended(code: int, state: TaskState) -> None:
    @in_virtual_time
    async def check() -> None:
        async with bench() as b:
            task_id = await b.running()

            b.engine.exit(b.container(task_id).id, code)
            status = await b.reaches(task_id, state)
            await asyncio.sleep(60)

            assert status.exit_code == code
            assert b.container(task_id).state is ContainerState.EXITED
            assert b.engine.calls.count("start") == 1

    check()


@in_virtual_time
async def test_an_end_is_noticed_at_once() -> None:
    async with bench() as b:
        task_id = await b.running()
        b.engine.exit(b.container(task_id).id, 1)

        await until(lambda: b.state(task_id) is TaskState.FAILED, seconds_max=0.1)


@in_virtual_time
async def test_an_unhealthy_task_is_stopped_and_failed() -> None:
    async with bench() as b:
        task_id = await b.running()

        b.engine.set_health(b.container(task_id).id, Health.UNHEALTHY, "refused")
        status = await b.reaches(task_id, TaskState.FAILED)

        assert status.error == "unhealthy: refused"
        assert not b.container(task_id).alive


@in_virtual_time
async def test_a_container_that_was_removed_by_hand_is_a_failure() -> None:
    async with bench() as b:
        task_id = await b.running()

        b.engine.remove_by_hand(b.container(task_id).id)

        await b.reaches(task_id, TaskState.FAILED)


@in_virtual_time
async def test_a_container_that_was_stopped_by_hand_is_a_failure_whatever_its_exit_code() -> None:
    async with bench() as b:
        task_id = await b.running()

        b.engine.stop_by_hand(b.container(task_id).id)
        status = await b.reaches(task_id, TaskState.FAILED)

        assert (status.error, status.exit_code) == ("was stopped from outside the cluster", 0)


@in_virtual_time
async def test_a_loss_without_any_event_is_noticed_by_the_next_listing() -> None:
    async with bench() as b:
        task_id = await b.running()

        b.engine.lose(b.container(task_id).id)
        await until(lambda: b.state(task_id).finished, seconds_max=LISTING_SECONDS * 1.3)

        assert b.status(task_id).error == "its container is gone"


@in_virtual_time
async def test_a_stop_keeps_the_container_until_the_task_is_dropped() -> None:
    async with bench() as b:
        task_id = await b.running()
        b.desire(task_id, TaskState.SHUTDOWN)
        b.tell()
        status = await b.reaches(task_id, TaskState.SHUTDOWN)
        assert status.exit_code == 0
        assert b.container(task_id).state is ContainerState.EXITED

        del b.tasks[task_id]
        b.tell()

        await until(lambda: not b.engine.containers())


@in_virtual_time
async def test_a_task_to_be_removed_is_stopped_reported_and_removed() -> None:
    async with bench() as b:
        task_id = await b.running()
        b.desire(task_id, TaskState.REMOVE)
        b.tell()

        await b.reaches(task_id, TaskState.SHUTDOWN)

        await until(lambda: not b.engine.containers())


@in_virtual_time
async def test_stubborn_containers_are_stopped_side_by_side() -> None:
    async with bench(stubborn=Program(ignores_stop=True)) as b:
        tasks = [b.add(task("stubborn:1", stop_grace_seconds=10.0)) for _ in range(40)]
        b.tell()
        for task_id in tasks:
            await b.reaches(task_id, TaskState.RUNNING)
            b.desire(task_id, TaskState.SHUTDOWN)
        began = LoopClock().monotonic()
        b.tell()

        for task_id in tasks:
            await b.reaches(task_id, TaskState.SHUTDOWN)

        assert 10.0 <= LoopClock().monotonic() - began < 12.0


@in_virtual_time
async def test_a_stop_that_the_engine_fails_at_is_tried_until_it_works() -> None:
    async with bench() as b:
        task_id = await b.running()
        b.engine.failures = {"stop": 3 * FAILURES_MAX}
        b.desire(task_id, TaskState.SHUTDOWN)
        b.tell()

        await b.reaches(task_id, TaskState.SHUTDOWN)


@in_virtual_time
async def test_a_finished_task_that_somebody_starts_again_is_stopped() -> None:
    async with bench() as b:
        task_id = await b.running()
        container = b.container(task_id)
        b.engine.exit(container.id, 1)
        await b.reaches(task_id, TaskState.FAILED)

        held = b.engine.held(container.id)
        assert held is not None
        b.engine.run(held)

        await until(lambda: not b.container(task_id).alive)


# --- whose containers -------------------------------------------------------------------------


@in_virtual_time
async def test_nothing_is_touched_before_a_complete_set_has_come() -> None:
    async with bench() as b:
        await b.running()
        successor = new_worker(b.engine)
        before = b.touched()
        async with at_work(successor):
            await asyncio.sleep(600)

            assert b.touched() == before


@in_virtual_time
async def test_orphans_are_removed_once_a_complete_set_has_come() -> None:
    async with bench() as b:
        orphan, kept = await b.running(), await b.running()

        del b.tasks[orphan]
        b.tell()

        await until(lambda: [one.task_id for one in b.engine.containers()] == [kept])
        assert b.container(kept).alive


@in_virtual_time
async def test_the_containers_of_others_are_never_touched() -> None:
    async with bench() as b:
        others = [
            b.engine.add_foreign("db", {}),
            b.engine.add_foreign("x.1.t9", {**_marks("t9"), labels.NODE: "another"}),
            b.engine.add_foreign("x.1.t8", {**_marks("t8"), labels.CLUSTER: "another"}),
            b.engine.add_foreign("copy", _marks("t7")),
        ]
        task_id = await b.running()
        b.desire(task_id, TaskState.REMOVE)
        b.tell()
        await until(lambda: task_id not in {one.task_id for one in b.engine.containers()})
        b.tasks.clear()
        b.tell()
        await asyncio.sleep(60)

        there = {one.id: one for one in b.engine.containers()}
        assert all(there[other].alive for other in others)


def _marks(task_id: str) -> dict[str, str]:
    return {
        labels.CLUSTER: OWNER.cluster_id,
        labels.NODE: OWNER.node_id,
        labels.TASK: task_id,
    }


# --- restarts ---------------------------------------------------------------------------------


@in_virtual_time
async def test_a_restarted_agent_adopts_and_touches_nothing() -> None:
    async with bench() as b:
        tasks = [await b.running() for _ in range(3)]
    before = [one.id for one in b.engine.containers()]
    b.engine.calls.clear()
    b.tell()
    successor = new_worker(b.engine)
    async with at_work(successor):
        assign(successor, b.tasks.values(), b.specs)
        await asyncio.sleep(60)

    assert [one.id for one in b.engine.containers() if one.alive] == before
    assert b.touched() == []
    assert successor.outbox.unsent == {}
    assert len(tasks) == len(before)


@in_virtual_time
async def test_a_restarted_agent_tells_what_the_manager_missed() -> None:
    async with bench() as b:
        lives, died = await b.running(), await b.running()
    b.engine.exit(b.container(died).id, 4)
    as_at_first = [
        msgspec.structs.replace(each, state=TaskState.ASSIGNED) for each in b.tasks.values()
    ]
    successor = new_worker(b.engine)
    async with at_work(successor):
        assign(successor, as_at_first, b.specs)
        await until(lambda: len(successor.outbox.known) == 2)

    assert successor.outbox.known[lives].state is TaskState.RUNNING
    assert successor.outbox.known[died].state is TaskState.FAILED
    assert successor.outbox.known[died].exit_code == 4


@in_virtual_time
async def test_an_agent_that_was_killed_half_way_goes_on_where_it_was() -> None:
    async with bench(slow=Program(start_seconds=30.0)) as b:
        task_id = b.add(task("slow:1"))
        b.tell()
        await b.reaches(task_id, TaskState.READY)
    made = b.container(task_id)
    assert made.state is ContainerState.CREATED
    successor = Bench(b.engine, new_worker(b.engine), b.tasks, b.specs)
    async with at_work(successor.worker):
        successor.tell()
        await successor.reaches(task_id, TaskState.RUNNING)

    assert [one.id for one in b.engine.containers()] == [made.id]


# --- an engine in trouble ---------------------------------------------------------------------


@in_virtual_time
async def test_containers_that_outlive_their_daemon_are_kept() -> None:
    async with bench() as b:
        task_id = await b.running()
        before = b.container(task_id)
        b.engine.crash()
        await asyncio.sleep(300)
        b.engine.come_back()
        await asyncio.sleep(60)

        assert b.state(task_id) is TaskState.RUNNING
        assert b.container(task_id) == before
        assert "stop" not in b.engine.calls


@in_virtual_time
async def test_containers_that_ended_with_their_daemon_are_failures() -> None:
    async with bench() as b:
        tasks = [await b.running() for _ in range(3)]
        b.engine.crash()
        await asyncio.sleep(2)
        b.engine.come_back(with_containers=False)

        for task_id in tasks:
            assert (await b.reaches(task_id, TaskState.FAILED)).exit_code == 137


@pytest.mark.parametrize("code", [0, 9])
def test_what_ended_while_the_engine_was_away_is_a_failure(code: int) -> None:
    @in_virtual_time
    async def check() -> None:
        async with bench() as b:
            ended, after = await b.running(), await b.running()
            b.engine.crash()
            b.engine.exit(b.container(ended).id, code)
            await asyncio.sleep(60)
            b.engine.come_back()

            assert (await b.reaches(ended, TaskState.FAILED)).exit_code == code
            b.engine.exit(b.container(after).id, 0)
            await b.reaches(after, TaskState.COMPLETE)

    check()


@in_virtual_time
async def test_what_is_assigned_while_the_engine_is_away_starts_soon_after_it_is_back() -> None:
    async with bench() as b:
        await b.running()
        b.engine.crash()
        late = b.add()
        b.tell()
        await asyncio.sleep(300)
        assert not b.state(late).finished
        b.engine.come_back()
        began = LoopClock().monotonic()

        await b.reaches(late, TaskState.RUNNING)

        assert LoopClock().monotonic() - began < 6.0


@in_virtual_time
async def test_a_hung_engine_costs_time_and_nothing_else() -> None:
    async with bench() as b:
        task_id = await b.running()
        b.engine.is_hung = True
        late = b.add()
        b.tell()
        await asyncio.sleep(300)
        assert b.worker.silence_seconds() > 250
        assert b.state(task_id) is TaskState.RUNNING
        assert not b.state(late).finished
        b.engine.is_hung = False

        await b.reaches(late, TaskState.RUNNING)
        await until(lambda: b.worker.silence_seconds() < 30, seconds_max=30)
        assert b.container(task_id).alive


@in_virtual_time
async def test_an_engine_that_was_never_there_is_infinitely_silent() -> None:
    engine = FakeEngine(clock=LoopClock())
    engine.crash()
    worker = new_worker(engine)
    async with at_work(worker):
        await asyncio.sleep(60)

        assert worker.silence_seconds() == float("inf")


# --- networks ---------------------------------------------------------------------------------


def on(*names: str) -> TaskSpec:
    return task(networks=tuple(NetworkAttachment(network=name) for name in names))


@in_virtual_time
async def test_networks_come_with_the_first_task_and_go_after_the_last() -> None:
    async with bench() as b:
        first, second = await b.running(on("app_front", "app_back")), await b.running(on("b"))
        assert set(b.engine.networks) == {"app_front", "app_back", "b"}

        b.desire(first, TaskState.REMOVE)
        b.tell()
        await b.reaches(first, TaskState.SHUTDOWN)
        del b.tasks[first]
        b.tell()

        # at once: whoever removes one stack and deploys the next needs the room
        await until(lambda: set(b.engine.networks) == {"b"}, seconds_max=1.5)
        assert b.state(second) is TaskState.RUNNING


@in_virtual_time
async def test_a_network_that_goes_between_preparing_and_starting_is_made_again() -> None:
    async with bench() as b:
        task_id = b.add(on("app_front"), desired_state=TaskState.READY)
        b.tell()
        await b.reaches(task_id, TaskState.READY)
        del b.engine.networks["app_front"]

        b.desire(task_id, TaskState.RUNNING)
        b.tell()

        await b.reaches(task_id, TaskState.RUNNING)


@in_virtual_time
async def test_a_network_that_is_not_ours_rejects() -> None:
    async with bench() as b:
        b.engine.networks["shared"] = {}
        task_id = b.add(on("shared"))
        b.tell()

        assert "network 'shared'" in (await b.reaches(task_id, TaskState.REJECTED)).error


# --- not in a tight loop ----------------------------------------------------------------------


@in_virtual_time
async def test_a_step_that_has_no_effect_is_not_repeated_in_a_tight_loop() -> None:
    async with bench() as b:
        task_id = await b.running(task(stop_grace_seconds=0.0))
        b.desire(task_id, TaskState.SHUTDOWN)
        b.engine.signal = lambda *_, **__: None  # type: ignore[method-assign]
        b.tell()

        await asyncio.sleep(60)

        assert b.engine.calls.count("stop") < 20


@in_virtual_time
async def test_ids_of_containers_are_told_apart_from_tasks() -> None:
    async with bench() as b:
        task_id = await b.running()

        found = b.worker.container_of(task_id)

        assert found is not None
        assert found.id == ContainerId(b.status(task_id).container_id)
        assert b.worker.container_of(TaskId("nobody")) is None
