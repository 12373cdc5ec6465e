"""What the journal tells of jobs and of services that wait, as a whole leader writes it."""

import msgspec

from cluster.model import (
    Availability,
    Dependency,
    DependencyCondition,
    Event,
    JobSpec,
    JobStatus,
    Rollout,
    RolloutState,
    Schedule,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    ServiceVersion,
    Task,
    TaskState,
    TaskStatus,
)
from manager.journal.entries import events_of
from manager.journal.moments import Moment, told
from manager.store import keys
from tests.fakes.sites import service, sites
from tests.fakes.virtual_time import LoopClock, in_virtual_time
from tests.harness.leading import Leading, leading, obey, service_spec

replace = msgspec.structs.replace


def job_spec(name: str = "batch", **asked: object) -> ServiceSpec:
    job = replace(JobSpec(), **asked)
    return service_spec(name, mode=ServiceMode.REPLICATED_JOB, job=job)


def events(core: Leading, kind: str) -> list[Event]:
    items = sorted(core.state.list(keys.JOURNAL).items, key=lambda item: item.mod_revision)
    found = [event for item in items for event in events_of(item, str)]
    return [event for event in found if event.kind == kind]


@in_virtual_time
async def test_a_run_is_told_from_its_cause_to_its_end() -> None:
    async with leading() as core:
        await core.add_node("n1")
        await core.submit(job_spec(completions=2))
        await core.until(lambda: len(events(core, "job")) > 1)
        began, ended = events(core, "job")
        assert (began.event, began.name, began.run) == ("began", "batch run 1", 1)
        assert began.why == "the job is new, or has a new spec"
        assert (ended.event, ended.why) == ("complete", "2 of 2 completed")
        assert {each.name for each in events(core, "task")} == {
            "batch.1 of run 1",
            "batch.2 of run 1",
        }


@in_virtual_time
async def test_a_run_that_fails_says_which_completion_and_its_error() -> None:
    def fails(task: Task) -> TaskStatus | None:
        if task.status.state.finished:
            return None
        return TaskStatus(state=TaskState.FAILED, at=LoopClock().now(), exit_code=3, error="no db")

    async with leading() as core:
        core.behaviour = fails
        await core.add_node("n1")
        await core.submit(job_spec(retries=0))
        await core.until(lambda: len(events(core, "job")) > 1)
        last = events(core, "job")[-1]
        assert (last.event, last.why) == ("failed", "completion 1 failed once: no db")


@in_virtual_time
async def test_runs_by_schedule_and_suspensions_are_told() -> None:
    async with leading() as core:
        await core.add_node("n1")
        spec, service_id = job_spec(schedule=Schedule(cron="* * * * *")), ServiceId("id-batch")
        await core.write(
            Service(id=service_id, spec=spec, updated_at=LoopClock().now()),
            ServiceVersion(service_id=service_id, number=1, spec=spec, request_id="r1"),
        )
        await core.until(lambda: any(each.event == "complete" for each in events(core, "job")))
        found = [(each.event, each.why) for each in events(core, "job")]
        assert found[0] == ("updated", "the schedule is '* * * * *' in UTC")
        assert ("began", "it was due") in found
        assert {each.request_id for each in events(core, "job") if each.run} == {"r1"}
        await core.write(replace(core.view.services[service_id], suspended=True, run_requests=1))
        await core.until(lambda: any(each.why.startswith("an op") for each in events(core, "job")))
        by_hand = [each for each in events(core, "job") if each.why.startswith("an operator")]
        assert {each.event for each in by_hand} == {"suspended", "began"}
        assert not any(each.request_id for each in by_hand)


@in_virtual_time
async def test_a_task_before_a_gate_says_what_for_and_then_that_it_may_start() -> None:
    async with leading() as core:
        slow = True

        def db_takes_its_time(task: Task) -> TaskStatus | None:
            is_db = task.service_id == ServiceId("id-db")
            if not (is_db and slow):
                return obey(task)
            starting = TaskStatus(state=TaskState.STARTING, at=LoopClock().now())
            return starting if task.status.state < TaskState.STARTING else None

        core.behaviour = db_takes_its_time
        await core.add_node("n1")
        await core.submit(service_spec("db"))
        needs = Dependency(service="db", condition=DependencyCondition.HEALTHY)
        await core.submit(service_spec("web", depends_on=(needs,)))
        await core.until(lambda: bool(core.tasks("web", TaskState.READY)))
        (made,) = (each for each in events(core, "task") if (each.service, each.event) == NEW)
        assert made.why == (
            "its place has no live task; it waits for service 'db' to be healthy (0 of 1)"
        )
        slow = False
        (db,) = core.tasks("db")
        await core.write(replace(db, status=TaskStatus(state=TaskState.RUNNING)))
        await core.until(lambda: bool(core.running("web")))
        (let,) = (each for each in events(core, "task") if each.event == "released")
        assert let.why == "it may start now: what it depends on is ready"


NEW = ("web", "created")


@in_virtual_time
async def test_a_rollout_is_told_by_its_state() -> None:
    async with sites() as (site,):
        await site.write(*service("web"))
        (web,) = site.view.services.values()
        begun = Rollout(service_id=web.id, spec_version=2, target=2, state=RolloutState.UPDATING)
        paused = replace(begun, state=RolloutState.PAUSED)
        ((group, _),) = told(Moment(begun, paused, "task 1 failed"), site.view)
        assert (group.kind, group.event, group.name) == ("rollout", "paused", "web")
        ((group, _),) = told(Moment(paused, replace(paused, failed=("1",)), "more"), site.view)
        assert group.event == "updated"


@in_virtual_time
async def test_a_status_in_which_nothing_happened_says_nothing() -> None:
    async with sites() as (site,):
        status = JobStatus(service_id=ServiceId("s"))
        assert not list(told(Moment(status, replace(status, spec_version=2)), site.view))
        assert not list(told(Moment(status, None, "its job was removed"), site.view))


@in_virtual_time
async def test_a_drain_is_told_with_its_cause_at_each_step_of_a_move() -> None:
    async with leading() as core:
        for name in ("n1", "n2"):
            await core.add_node(name)
        await core.submit(service_spec("web"))
        await core.until(lambda: bool(core.running("web")))
        (task,) = core.running("web")
        spec = replace(core.view.nodes[task.node_id].spec, availability=Availability.DRAIN)
        await core.set_node(task.node_id, spec)
        await core.until(lambda: [t.node_id != task.node_id for t in core.running("web")] == [True])
        mine = [each for each in events(core, "task") if each.id == task.id]
        (moving,) = (each for each in mine if each.event == "moving")
        (stopping,) = (each for each in mine if each.event == "stopping")
        assert "drained" in moving.why
        assert stopping.why == moving.why
        (made,) = (e for e in events(core, "task") if e.event == "created" and e.id != task.id)
        assert made.why == f"is to take over: {moving.why}"
