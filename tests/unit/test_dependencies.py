"""What holds a version back, condition by condition; and what is kept of a job's runs."""

import msgspec
import pytest

from cluster import dependencies
from cluster.dependencies import World, cycle_in, dependents_first
from cluster.model import (
    Dependency,
    DependencyCondition,
    JobRun,
    JobStatus,
    RunCause,
    RunState,
    Schedule,
    Service,
    ServiceId,
    ServiceMode,
    ServiceVersion,
    Task,
    TaskId,
    TaskState,
    TaskStatus,
)
from manager.reconcilers import reaper
from tests.harness.leading import service_spec

S, C = TaskState, DependencyCondition


def service(name: str, number: int = 1, **fields: object) -> Service:
    spec = service_spec(name, **fields)
    return Service(id=ServiceId(name), spec=spec, spec_version=number)


def task(of: str, slot: int, state: TaskState, desired: TaskState = S.RUNNING, **more: int) -> Task:
    return Task(
        id=TaskId(f"{of}{slot}{state.value}{more}"),
        service_id=ServiceId(of),
        spec_version=more.get("version", 1),
        slot=slot,
        desired_state=desired,
        status=TaskStatus(state=state),
        run=more.get("run", 0),
    )


def waits(
    condition: DependencyCondition,
    other: Service | None,
    *tasks: Task,
    job: JobStatus | None = None,
    required: bool = True,
) -> list[str]:
    needed = Dependency(service="db", condition=condition, required=required)
    web = service("web", depends_on=(needed,))
    world = World(
        named=lambda name: other if name == "db" else None,
        tasks_of=lambda service_id: [each for each in tasks if each.service_id == service_id],
        version=lambda service_id, number: ServiceVersion(
            service_id=service_id, number=number, spec=service_spec("old", replicas=number)
        ),
        job=lambda _: job,
        nodes=lambda: (),
    )
    return dependencies.waits_for(web, world)


def test_all_replicas_of_a_service_have_to_be_so_far() -> None:
    db = service("db", replicas=2)
    starting = task("db", 1, S.STARTING), task("db", 2, S.STARTING)
    assert waits(C.STARTED, db, *starting) == []
    assert waits(C.HEALTHY, db, *starting) == ["service 'db' to be healthy (0 of 2)"]
    half = task("db", 1, S.RUNNING), task("db", 2, S.PENDING)
    assert waits(C.HEALTHY, db, *half) == ["service 'db' to be healthy (1 of 2)"]
    assert waits(C.HEALTHY, service("db", replicas=0)) == []


def test_who_has_started_is_not_held_again() -> None:
    db = service("db")
    assert waits(C.HEALTHY, db, task("web", 1, S.READY, S.READY)) != []
    assert waits(C.HEALTHY, db, task("web", 1, S.FAILED)) == []


def test_what_is_not_required_may_be_missing_or_fail_but_is_waited_for_on_its_way() -> None:
    assert waits(C.HEALTHY, None) == ["service 'db', which is not there"]
    assert waits(C.HEALTHY, None, required=False) == []
    db = service("db")
    assert waits(C.HEALTHY, db, task("db", 1, S.PREPARING), required=False) != []
    assert waits(C.HEALTHY, db, task("db", 1, S.FAILED), required=False) == []


@pytest.mark.parametrize(
    ("number", "completed", "schedule", "is_held"),
    [
        (1, 0, None, True),
        (1, 1, None, False),
        (2, 1, None, True),  # its present version is still at work
        (2, 1, Schedule(cron="* * * * *"), False),
    ],
)
def test_a_job_has_to_have_completed_in_its_present_version(
    number: int, completed: int, schedule: Schedule | None, *, is_held: bool
) -> None:
    db = service("db", number, mode=ServiceMode.REPLICATED_JOB)
    job = msgspec.structs.replace(db.spec.job, schedule=schedule)
    db = msgspec.structs.replace(db, spec=msgspec.structs.replace(db.spec, job=job))
    status = JobStatus(service_id=db.id, completed_version=completed)
    assert bool(waits(C.COMPLETED, db, job=status)) is is_held


def test_a_job_that_failed_says_so_and_holds_nobody_who_does_not_require_it() -> None:
    db = service("db", mode=ServiceMode.REPLICATED_JOB)
    failed = JobRun(
        number=3, cause=RunCause.DEPLOYED, spec_version=1, state=RunState.FAILED, message="boom"
    )
    status = JobStatus(service_id=db.id, runs=(failed,))
    assert waits(C.COMPLETED, db, job=status) == [
        "job 'db' to complete successfully (its run 3 failed: boom)"
    ]
    assert waits(C.COMPLETED, db, job=status, required=False) == []


def test_circles_are_told_in_the_order_of_waiting() -> None:
    assert cycle_in({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) in (
        ["a", "b", "c", "a"],
        ["b", "c", "a", "b"],
        ["c", "a", "b", "c"],
    )
    assert cycle_in({"a": ["b", "c"], "b": ["c"]}) == []
    assert dependents_first({"web": ["api", "db"], "api": ["db"], "db": []}) == ["web", "api", "db"]


def test_each_run_keeps_its_own_past_of_a_slot_and_its_version() -> None:
    job = service("db", 2, mode=ServiceMode.REPLICATED_JOB)
    run = JobRun(number=1, cause=RunCause.SCHEDULED, spec_version=1, state=RunState.COMPLETE)
    tasks = [task("db", 1, S.COMPLETE, S.COMPLETE, run=number) for number in (1, 2, 3)]
    versions = {
        number: ServiceVersion(service_id=job.id, number=number, spec=job.spec)
        for number in range(1, reaper.VERSIONS_KEPT + 3)
    }
    status = JobStatus(service_id=job.id, runs=(run,))
    facts = reaper.Facts(job, [], versions, history_limit=0, job=status)
    gone = [change.drop[0] for change in reaper.plan(facts).changes]
    assert gone == []  # 1 is of a run that is remembered, 2 is the present one
    facts = reaper.Facts(job, tasks, {}, history_limit=0, job=status)
    assert reaper.plan(facts).changes == []
