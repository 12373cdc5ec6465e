"""Jobs and services that wait for services, as a whole leader brings them about in virtual time."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator

import msgspec

from cluster.ids import IdSource
from cluster.jobs import newest_begun
from cluster.lifecycle import live
from cluster.model import (
    Autoscale,
    Availability,
    Concurrency,
    Dependency,
    DependencyCondition,
    JobRun,
    JobSpec,
    NodeId,
    NodeSpec,
    NodeState,
    RunCause,
    RunState,
    Scaling,
    Schedule,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    Task,
    TaskState,
    TaskStatus,
)
from manager import reconcilers
from manager.control.picture import Picture
from manager.reconcilers.removals import Leaving
from manager.reconcilers.removals import plan as plan_removals
from manager.reconcilers.services import ServiceReconciler
from manager.reconcilers.services.tasks import STOP_SECONDS_MAX
from manager.store import keys
from manager.store.interface import Delete, Put, Unchanged
from manager.view import Change
from tests.fakes.virtual_time import LoopClock, in_virtual_time
from tests.harness.leading import Leading, leading, obey, service_spec


def job_spec(name: str = "batch", *, is_global: bool = False, **job: object) -> ServiceSpec:
    mode = ServiceMode.GLOBAL_JOB if is_global else ServiceMode.REPLICATED_JOB
    return service_spec(name, mode=mode, job=msgspec.structs.replace(JobSpec(), **job))


async def nodes(core: Leading, count: int = 2) -> list[NodeId]:
    found = [await core.add_node(f"n{index}") for index in range(1, count + 1)]
    await core.until(
        lambda: all(node.status.state is NodeState.READY for node in core.view.nodes.values())
    )
    return found


@in_virtual_time
async def test_who_waits_for_a_service_that_scales_itself_waits_for_what_it_shall_have() -> None:
    async with leading() as core:
        await nodes(core)
        scale = Autoscale(min_replicas=1, max_replicas=9, cpu_percent=50)
        core.behaviour = lambda task: obey(task) if task.slot <= 2 else None
        db = await core.submit(service_spec("db", replicas=3, autoscale=scale))
        needs = Dependency(service="db", condition=DependencyCondition.HEALTHY)
        await core.submit(service_spec("web", depends_on=(needs,)))
        await core.until(lambda: len(core.running("db")) == 2 and bool(core.tasks("web")))
        assert not core.running("web")
        await core.write(Scaling(service_id=db, replicas=2))
        await core.until(lambda: bool(core.running("web")))
        (scaling,) = core.view.scalings.values()
        woken = ServiceReconciler(core.view, IdSource(random.Random(1)), random.random, LoopClock())
        assert set(woken.concerned(Change(None, scaling))) == {db, ServiceId("id-web")}


def run(core: Leading, name: str = "batch") -> JobRun:
    status = core.view.jobs.get(ServiceId(f"id-{name}"))
    newest = newest_begun(status) if status else None
    return newest or JobRun(number=0, cause=RunCause.DEPLOYED, spec_version=0)


def runs(core: Leading, name: str = "batch") -> list[JobRun]:
    status = core.view.jobs.get(ServiceId(f"id-{name}"))
    return list(status.runs) if status else []


@contextlib.asynccontextmanager
async def another_leader(core: Leading) -> AsyncIterator[None]:
    """Let somebody else win the election, and lead."""
    item = await core.store.get(keys.LEADER)
    assert item is not None
    await core.store.commit([Unchanged(keys.LEADER, item.mod_revision)], [Delete(keys.LEADER)])
    await core.store.commit([Unchanged(keys.LEADER, 0)], [Put(keys.LEADER, b"m2")])
    item = await core.store.get(keys.LEADER)
    assert item is not None
    leading = reconcilers.lead(
        item.create_revision,
        core.store,
        core.view,
        LoopClock(),
        random.Random(2),
        joined_at=float("-inf"),
        find_moves=Picture(core.view).moves,
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(leading)
        yield
        task.cancel()


def runs_on(task: Task) -> TaskStatus | None:
    """Start, and go on for ever: what jobs do that take long."""
    if task.desired_state is TaskState.COMPLETE:
        started = TaskStatus(state=TaskState.RUNNING, at=LoopClock().now())
        return started if task.status.state < TaskState.RUNNING else None
    return obey(task)


@in_virtual_time
async def test_a_job_completes_as_often_as_asked_for_and_runs_anew_when_it_changes() -> None:
    async with leading() as core:
        await nodes(core)
        await core.submit(job_spec(completions=4, max_concurrent=2))
        await core.until(lambda: run(core).state is RunState.COMPLETE)
        assert run(core).completed == 4
        assert sorted(task.slot for task in core.tasks("batch")) == [1, 2, 3, 4]

        await core.submit(job_spec(completions=2))
        await core.until(lambda: run(core).number == 2 and run(core).state is RunState.COMPLETE)
        await core.until(lambda: {task.run for task in core.tasks("batch")} == {2})
        assert [each.state for each in runs(core)] == [RunState.COMPLETE, RunState.COMPLETE]


@in_virtual_time
async def test_failures_are_tried_again_later_and_later_and_then_the_run_fails() -> None:
    async with leading() as core:
        await nodes(core)

        def fails(task: Task) -> TaskStatus | None:
            if task.status.state.finished or task.desired_state is not TaskState.COMPLETE:
                return obey(task)
            return TaskStatus(state=TaskState.FAILED, error="exited with code 3", exit_code=3)

        core.behaviour = fails
        await core.submit(job_spec(completions=2, max_concurrent=1, retries=3))
        await core.until(lambda: run(core).state is RunState.FAILED)
        assert run(core).message == "completion 1 failed 4 times: exited with code 3"
        assert run(core).failures == 4
        pauses = [task.start_after - task.created_at for task in core.tasks("batch")[1:]]
        assert len(pauses) == 3
        assert pauses == sorted(pauses)
        assert pauses[-1] > 1.0

        core.behaviour = obey
        service = core.view.services[ServiceId("id-batch")]
        await core.write(msgspec.structs.replace(service, run_requests=1))
        await core.until(lambda: run(core).state is RunState.COMPLETE)
        assert (run(core).cause, run(core).request) == (RunCause.BY_HAND, 1)


@in_virtual_time
async def test_what_a_lost_node_ran_is_run_again_elsewhere_and_is_no_failure() -> None:
    async with leading() as core:
        await nodes(core)
        core.behaviour = runs_on
        await core.submit(job_spec(completions=2, retries=0))
        await core.until(lambda: len(core.running("batch")) == 2)
        lost = core.running("batch")[0].node_id
        core.silent.add(lost)
        await core.drop_session(lost)
        await core.until(lambda: bool(core.tasks("batch", TaskState.ORPHANED)))
        await core.until(lambda: len(core.running("batch")) == 2)
        assert all(task.node_id != lost for task in core.running("batch"))

        core.behaviour = obey
        for task in core.running("batch"):
            done = TaskStatus(state=TaskState.COMPLETE, exit_code=0)
            await core.write(msgspec.structs.replace(task, status=done))
        await core.until(lambda: run(core).state is RunState.COMPLETE)
        assert (run(core).completed, run(core).failures) == (2, 0)


@in_virtual_time
async def test_on_a_drained_node_a_task_runs_to_its_end_and_one_that_has_not_begun_leaves() -> None:
    async with leading() as core:
        await nodes(core)
        core.behaviour = lambda task: runs_on(task) if task.slot == 1 else None
        await core.submit(job_spec(completions=2, retries=0))
        await core.until(
            lambda: (
                len(core.running("batch")) == 1
                and all(task.status.state >= TaskState.ASSIGNED for task in core.tasks("batch"))
            )
        )
        running = core.running("batch")[0]
        for node_id in list(core.view.nodes):
            await core.set_node(node_id, NodeSpec(availability=Availability.DRAIN))
        await core.until(lambda: all(task.moving for task in core.tasks("batch") if live(task)))
        await core.until(
            lambda: any(
                task.slot == 2 and task.desired_state is TaskState.SHUTDOWN
                for task in core.tasks("batch")
            )
        )
        now = core.view.tasks[running.id]
        assert (now.desired_state, now.node_id) == (TaskState.COMPLETE, running.node_id)


@in_virtual_time
async def test_a_completion_has_no_second_task_until_the_first_was_seen_to_end() -> None:
    async with leading() as core:
        await nodes(core)
        core.behaviour = lambda task: (
            None if task.desired_state >= TaskState.SHUTDOWN else runs_on(task)
        )
        await core.submit(job_spec(retries=0))
        await core.until(lambda: len(core.running("batch")) == 1)
        (deaf,) = core.running("batch")
        overdue = NodeSpec(availability=Availability.DRAIN, drain_deadline_seconds=1.0)
        await core.set_node(deaf.node_id, overdue)
        await asyncio.sleep(300.0)  # longer than any other wait for a task that stops
        assert len(core.tasks("batch")) == 1

        core.behaviour = obey
        stopped = TaskStatus(state=TaskState.SHUTDOWN, exit_code=0)
        await core.write(msgspec.structs.replace(core.tasks("batch")[0], status=stopped))
        await core.until(lambda: run(core).state is RunState.COMPLETE)


@in_virtual_time
async def test_the_time_limit_ends_a_run_and_stops_its_tasks() -> None:
    async with leading() as core:
        await nodes(core)
        core.behaviour = runs_on
        await core.submit(job_spec(completions=3, time_limit_seconds=60.0))
        await core.until(lambda: run(core).state is RunState.FAILED)
        assert run(core).message == "not done within 1m: 0 of 3 had completed"
        assert run(core).ended_at - run(core).started_at >= 60.0
        await core.until(lambda: len(core.tasks("batch", TaskState.SHUTDOWN)) == 3)


@in_virtual_time
async def test_a_global_job_completes_once_on_each_node_and_on_nodes_that_come_later() -> None:
    async with leading() as core:
        n1, n2 = await nodes(core)
        await core.set_node(n2, NodeSpec(availability=Availability.DRAIN))
        await core.submit(job_spec(is_global=True))
        await core.until(lambda: run(core).state is RunState.COMPLETE)
        assert [task.node_id for task in core.tasks("batch")] == [n1]

        await core.set_node(n2, NodeSpec())
        await core.until(lambda: len(core.tasks("batch", TaskState.COMPLETE)) == 2)
        assert run(core).number == 1


@in_virtual_time
async def test_a_schedule_makes_a_run_at_each_due_time_through_a_change_of_leaders() -> None:
    schedule = Schedule(cron="* * * * *", concurrency=Concurrency.ALLOW)
    async with leading() as core:
        await nodes(core)
        await core.submit(job_spec(schedule=schedule, history=3))
        await core.until(lambda: run(core).number == 2)
        async with another_leader(core):
            await core.until(lambda: run(core).number == 5)
            await core.until(lambda: run(core).state is RunState.COMPLETE)
            await core.until(lambda: {task.run for task in core.tasks("batch")} == {3, 4, 5})
        dues = [each.due_at for each in runs(core)]
        assert [each.number for each in runs(core)] == [3, 4, 5], "as many as are remembered"
        assert [later - earlier for earlier, later in itertools.pairwise(dues)] == [60.0, 60.0]
        assert all(each.started_at - each.due_at < 1.0 for each in runs(core))


@in_virtual_time
async def test_a_run_that_is_due_while_another_one_is_under_way_is_skipped_if_forbidden() -> None:
    async with leading() as core:
        await nodes(core)
        core.behaviour = runs_on
        schedule = Schedule(cron="* * * * *", concurrency=Concurrency.FORBID)
        await core.submit(job_spec(schedule=schedule))
        await core.until(lambda: len(runs(core)) == 3)
        assert [each.state for each in runs(core)] == [
            RunState.RUNNING,
            RunState.SKIPPED,
            RunState.SKIPPED,
        ]
        assert runs(core)[2].message == "skipped: run 1 was under way"
        assert len(core.running("batch")) == 1

        replacing = msgspec.structs.replace(schedule, concurrency=Concurrency.REPLACE)
        await core.submit(job_spec(schedule=replacing))
        await core.until(lambda: len(runs(core)) == 5)
        await core.until(lambda: {task.run for task in core.running("batch")} == {5})
        assert runs(core)[0].state is RunState.REPLACED


def needing(name: str, condition: DependencyCondition, *needed: str) -> ServiceSpec:
    depends_on = tuple(Dependency(service=each, condition=condition) for each in needed)
    return service_spec(name, depends_on=depends_on)


@in_virtual_time
async def test_services_start_one_after_the_other_and_leave_the_other_way_round() -> None:
    async with leading() as core:
        await nodes(core)
        order: list[str] = []

        def noting(task: Task) -> TaskStatus | None:
            report = obey(task)
            if report and report.state in (TaskState.RUNNING, TaskState.SHUTDOWN):
                order.append(task.service_id.removeprefix("id-"))
            if report and report.state is TaskState.COMPLETE:
                order.append("migrate")
            return report

        core.behaviour = noting
        job = job_spec("migrate")
        healthy = DependencyCondition.HEALTHY
        depends = (Dependency(service="db", condition=healthy),)
        await core.submit(needing("web", DependencyCondition.COMPLETED, "migrate"))
        await core.submit(msgspec.structs.replace(job, depends_on=depends))
        await core.until(lambda: len(core.tasks("web", TaskState.READY)) == 1)
        assert core.tasks("migrate", TaskState.COMPLETE) == []
        await core.submit(service_spec("db"))
        await core.until(lambda: len(core.running("web")) == 1)
        assert list(dict.fromkeys(order)) == ["db", "migrate", "web"]

        order.clear()
        await core.remove("db", "migrate", "web")
        await core.until(lambda: not core.view.tasks)
        assert [name for name in dict.fromkeys(order) if name != "migrate"] == ["web", "db"]
        await core.until(lambda: not core.view.jobs)


@in_virtual_time
async def test_an_update_waits_for_what_it_needs_and_takes_nothing_away_meanwhile() -> None:
    async with leading() as core:
        await nodes(core)
        await core.submit(service_spec("db"))
        web = needing("web", DependencyCondition.HEALTHY, "db")
        await core.submit(web)
        await core.until(lambda: len(core.running("web")) == 1)
        (old,) = core.running("web")

        core.behaviour = lambda task: None if task.service_id == "id-db" else obey(task)
        forced = msgspec.structs.replace(service_spec("db").task, force_update=1)
        await core.submit(service_spec("db", task=forced))
        await core.submit(msgspec.structs.replace(web, task=forced))
        await core.until(lambda: len(core.tasks("db")) == 2)
        await asyncio.sleep(60.0)  # several looks at everything
        assert core.running("web") == [old]

        core.behaviour = obey
        (db,) = [task for task in core.tasks("db") if task.spec_version == 2]
        await core.write(msgspec.structs.replace(db, status=TaskStatus(state=TaskState.READY)))
        await core.until(lambda: [task.spec_version for task in core.running("web")] == [2])


def test_a_dependent_on_a_host_that_hangs_is_waited_for_so_long_and_no_longer() -> None:
    def task(name: str, state: TaskState) -> Task:
        status = TaskStatus(state=state)
        return Task(id=name, service_id=ServiceId(name), spec_version=1, slot=1, status=status)  # type: ignore[arg-type]

    web = Leaving(
        needing("web", DependencyCondition.STARTED, "db"), [task("web", TaskState.RUNNING)]
    )
    db = Leaving(service_spec("db"), [task("db", TaskState.RUNNING)])
    both = {ServiceId("web"): web, ServiceId("db"): db}

    held = plan_removals(both)
    assert [change.save[0].id for change in held.changes] == ["web"]  # type: ignore[attr-defined]
    assert held.look_again_seconds == STOP_SECONDS_MAX + 10.0

    patient = Leaving(db.spec, db.tasks, waited_seconds=STOP_SECONDS_MAX + 10.0)
    assert len(plan_removals({**both, ServiceId("db"): patient}).changes) == 2
    assert len(plan_removals({ServiceId("db"): db}).changes) == 1
