"""I9 over all steps since a version came: what was never as it is asked lets nobody start."""

import msgspec

from cluster.invariants import Breach, Gates, State
from cluster.model import (
    Autoscale,
    ContainerSpec,
    Dependency,
    DependencyCondition,
    JobStatus,
    Object,
    Scaling,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    ServiceVersion,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)

S = TaskState
replace = msgspec.structs.replace

NEEDS_DB = (Dependency(service="db", condition=DependencyCondition.HEALTHY),)


class Followed:
    """A cluster, each of whose transactions is judged."""

    def __init__(self, *there: Object) -> None:
        self.state = State.of(there)
        self.gates = Gates(self.state)

    def commits(self, *values: Object) -> list[Breach]:
        done = [self.state.put(value) for value in values]
        for step in done:
            self.gates.note(step)
        return self.gates.breaches(done)


def service(name: str, number: int = 1, image: str = "app:1", **fields: object) -> list[Object]:
    spec = ServiceSpec(name=name, task=TaskSpec(container=ContainerSpec(image=image)), **fields)  # type: ignore[arg-type]
    service_id = ServiceId(f"id-{name}")
    return [
        Service(id=service_id, spec=spec, spec_version=number),
        ServiceVersion(service_id=service_id, number=number, spec=spec),
    ]


def task(of: str, state: TaskState, desired: TaskState = S.RUNNING, number: int = 1) -> Task:
    return Task(
        id=TaskId(f"{of}-{number}"),
        service_id=ServiceId(f"id-{of}"),
        spec_version=number,
        slot=1,
        desired_state=desired,
        status=TaskStatus(state=state),
    )


HELD = task("web", S.READY, S.READY)
LET_START = task("web", S.READY)
WEB = service("web", depends_on=NEEDS_DB)


def test_who_starts_before_what_it_needs_was_ever_well_breaks_a_promise() -> None:
    cluster = Followed()
    assert cluster.commits(*service("db"), *WEB) == []
    assert cluster.commits(task("db", S.STARTING)) == []
    assert cluster.commits(HELD) == []
    (breach,) = cluster.commits(LET_START)
    assert (breach.invariant, breach.certain) == ("I9", True)
    assert breach.objects == (HELD.id, ServiceId("id-web"))
    assert "'db' was never as it asks (service_healthy)" in breach.text


def test_what_was_well_for_a_moment_since_the_version_came_is_enough() -> None:
    cluster = Followed()
    cluster.commits(*service("db"), *WEB, HELD)
    cluster.commits(task("db", S.RUNNING))
    cluster.commits(task("db", S.FAILED))
    assert cluster.commits(LET_START) == []


def test_what_was_well_before_the_version_came_is_not() -> None:
    cluster = Followed(*service("db"), *service("web"), task("web", S.RUNNING))
    cluster.commits(task("db", S.RUNNING))
    cluster.commits(task("db", S.FAILED))
    cluster.commits(*service("web", 2, "app:2", depends_on=NEEDS_DB))
    assert cluster.commits(task("web", S.NEW, number=2)) != []


def test_a_service_that_is_not_there_is_waited_for_if_it_is_required() -> None:
    assert Followed(*WEB).commits(LET_START) == [], "it was there before: nobody knows"
    for required in (True, False):
        cluster = Followed()
        cluster.commits(*service("web", depends_on=(replace(NEEDS_DB[0], required=required),)))
        assert bool(cluster.commits(LET_START)) is required


def test_a_version_that_has_begun_goes_on_and_is_returned_to_whatever_happens() -> None:
    cluster = Followed(*service("db"), *WEB, task("db", S.FAILED), task("web", S.RUNNING))
    assert cluster.commits(replace(LET_START, id=TaskId("another"), slot=2)) == []
    cluster.state.drop(task("web", S.RUNNING))
    cluster.state.drop(replace(LET_START, id=TaskId("another")))
    cluster.commits(*service("web", 2, "app:2", depends_on=NEEDS_DB))
    assert cluster.commits(task("web", S.NEW, number=1)) == [], "a return by the leader"
    cluster.state.drop(task("web", S.NEW, number=1))
    cluster.commits(*service("web", 3, depends_on=NEEDS_DB))
    assert cluster.commits(task("web", S.NEW, number=3)) == [], "a return by an operator"


def test_a_job_is_waited_for_until_it_has_completed() -> None:
    needs = (Dependency(service="db", condition=DependencyCondition.COMPLETED),)
    job = service("db", mode=ServiceMode.REPLICATED_JOB)
    waits = service("web", depends_on=needs)
    status = JobStatus(service_id=ServiceId("id-db"), runs_made=1)
    for completed in (0, 1):
        cluster = Followed()
        cluster.commits(*job, *waits)
        cluster.commits(replace(status, completed_version=completed))
        assert bool(cluster.commits(LET_START)) is not bool(completed)


def test_who_may_not_have_seen_the_new_version_is_not_judged_by_it() -> None:
    cluster = Followed()
    cluster.commits(*service("web"), task("web", S.READY, S.READY))
    cluster.commits(*service("web", 2, depends_on=NEEDS_DB))
    assert cluster.commits(task("web", S.READY, S.RUNNING)) == []


def test_of_a_service_that_scales_itself_as_many_are_needed_as_it_shall_have() -> None:
    """Also if that is fewer than its spec begins with, or becomes so while others wait for it."""
    scale = Autoscale(min_replicas=1, max_replicas=9, cpu_percent=50)
    db = service("db", replicas=2, autoscale=scale)
    cluster = Followed()
    assert cluster.commits(*db, *WEB) == []
    assert cluster.commits(task("db", S.RUNNING)) == []
    assert cluster.commits(HELD) == []
    assert cluster.commits(Scaling(service_id=ServiceId("id-db"), replicas=1)) == []
    assert cluster.commits(LET_START) == []
