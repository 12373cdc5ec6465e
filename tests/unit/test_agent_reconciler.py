"""Every cell of the reconciler's table, and the words that users read."""

from dataclasses import replace

import msgspec
import pytest

from agent.reconciler import CONTACT_LOST, Cancel, Facts, Prepare, Remove, Report, Start, Stop, plan
from agent.runtime.interface import Container, ContainerId, ContainerState, Health
from cluster.model import (
    Assignment,
    ContainerSpec,
    NodeId,
    ServiceId,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)

NOW = 1_000.0
ID = TaskId("t1")
SPEC = TaskSpec(container=ContainerSpec(image="web:1"))
TASK = Assignment(
    task_id=ID,
    service_id=ServiceId("s1"),
    service_name="web",
    spec_version=3,
    slot=2,
    node_id=NodeId("n1"),
    desired_state=TaskState.RUNNING,
    state=TaskState.ASSIGNED,
)
CREATED = Container(
    id=ContainerId("c1"),
    name="web.2.t1",
    task_id=ID,
    service_id=ServiceId("s1"),
    spec_version=3,
    state=ContainerState.CREATED,
)
ALIVE = replace(CREATED, state=ContainerState.RUNNING, started_at=900.0)
DEAD = replace(ALIVE, state=ContainerState.EXITED, exit_code=0, ended_at=990.0)

FINISHED = (
    TaskState.COMPLETE,
    TaskState.SHUTDOWN,
    TaskState.FAILED,
    TaskState.REJECTED,
    TaskState.ORPHANED,
)


def facts(
    *containers: Container,
    desired: TaskState = TaskState.RUNNING,
    state: TaskState = TaskState.ASSIGNED,
    **others: object,
) -> Facts:
    task = msgspec.structs.replace(TASK, desired_state=desired, state=state)
    known = Facts(
        now=NOW,
        is_complete=True,
        assignments={ID: task},
        specs={(ServiceId("s1"), 3): SPEC},
        containers=containers,
    )
    return replace(known, **others)  # type: ignore[arg-type]


def report_of(given: Facts) -> TaskStatus:
    """Return the one report that is planned, and nothing else."""
    (action,) = plan(given)
    assert isinstance(action, Report)
    return action.status


def task_of(given: Facts) -> Assignment:
    return given.assignments[ID]


# --- a wanted task ----------------------------------------------------------------------------


def test_a_new_task_is_accepted_and_prepared() -> None:
    given = facts()

    assert plan(given) == [
        Report(ID, TaskStatus(state=TaskState.ACCEPTED, at=NOW)),
        Prepare(task_of(given), SPEC),
    ]


def test_a_task_that_was_accepted_is_prepared_without_saying_so_again() -> None:
    given = facts(state=TaskState.PREPARING)

    assert plan(given) == [Prepare(task_of(given), SPEC)]


def test_a_prepared_task_is_started() -> None:
    given = facts(CREATED, state=TaskState.READY)

    assert plan(given) == [Start(task_of(given), SPEC, CREATED.id)]


def test_a_task_that_is_only_to_be_ready_is_not_started() -> None:
    assert plan(facts(CREATED, desired=TaskState.READY, state=TaskState.READY)) == []


def test_a_container_that_may_be_half_prepared_is_prepared_again() -> None:
    given = facts(CREATED, desired=TaskState.READY, state=TaskState.PREPARING)

    assert plan(given) == [Prepare(task_of(given), SPEC)]


def test_a_prepared_container_that_went_away_is_prepared_again() -> None:
    given = facts(desired=TaskState.READY, state=TaskState.READY)

    assert plan(given) == [Prepare(task_of(given), SPEC)]


def test_a_task_without_its_specification_waits() -> None:
    assert plan(facts(state=TaskState.ACCEPTED, specs={})) == []


def test_a_running_container_makes_a_running_task() -> None:
    assert report_of(facts(ALIVE)) == TaskStatus(state=TaskState.RUNNING, at=NOW, container_id="c1")


def test_a_paused_container_counts_as_running() -> None:
    paused = replace(ALIVE, state=ContainerState.PAUSED)

    assert report_of(facts(paused)).state is TaskState.RUNNING


def test_a_task_is_starting_until_its_health_check_says_healthy() -> None:
    checked = replace(ALIVE, health=Health.STARTING)

    status = report_of(facts(checked))
    assert status.state is TaskState.STARTING
    assert status.message == "waiting for its health check"
    assert plan(facts(checked, state=TaskState.STARTING)) == []
    healthy = replace(ALIVE, health=Health.HEALTHY)
    assert report_of(facts(healthy, state=TaskState.STARTING)).state is TaskState.RUNNING


@pytest.mark.parametrize("health", [Health.NONE, Health.HEALTHY])
def test_nothing_is_done_about_a_task_that_runs_well(health: Health) -> None:
    assert plan(facts(replace(ALIVE, health=health), state=TaskState.RUNNING)) == []


def test_what_was_reported_here_counts_though_the_manager_does_not_know_it_yet() -> None:
    statuses = {ID: TaskStatus(state=TaskState.RUNNING)}

    assert plan(facts(ALIVE, statuses=statuses)) == []


def test_an_unhealthy_container_is_stopped_first_and_failed_when_it_is_dead() -> None:
    sick = replace(ALIVE, health=Health.UNHEALTHY, health_output="connection refused")

    assert plan(facts(sick, state=TaskState.RUNNING)) == [
        Stop(ID, sick.id, "unhealthy: connection refused")
    ]
    dead = replace(DEAD, health=Health.UNHEALTHY, health_output="connection refused")
    status = report_of(facts(dead, state=TaskState.RUNNING))
    assert status.state is TaskState.FAILED
    assert status.error == "unhealthy: connection refused"
    assert status.exit_code == 0


def test_an_unhealthy_container_need_not_have_said_why() -> None:
    sick = replace(ALIVE, health=Health.UNHEALTHY)

    assert plan(facts(sick, state=TaskState.RUNNING)) == [Stop(ID, sick.id, "unhealthy")]


# --- its end ----------------------------------------------------------------------------------


def test_exit_code_0_is_complete() -> None:
    assert report_of(facts(DEAD, state=TaskState.RUNNING)) == TaskStatus(
        state=TaskState.COMPLETE,
        at=NOW,
        message="exited with code 0",
        exit_code=0,
        container_id="c1",
    )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"exit_code": 3}, "exited with code 3"),
        ({"exit_code": 137}, "exited with code 137 (SIGKILL)"),
        ({"exit_code": 143}, "exited with code 143 (SIGTERM)"),
        ({"exit_code": 255, "error": "lost"}, "exited with code 255: lost"),
        (
            {"exit_code": 137, "oom_killed": True, "memory_limit_bytes": 64 << 20},
            "out of memory: killed at its limit of 64 MiB",
        ),
        ({"exit_code": 137, "oom_killed": True}, "out of memory: killed by the host's kernel"),
    ],
)
def test_a_bad_end_says_why(change: dict[str, object], error: str) -> None:
    dead = replace(DEAD, **change)  # type: ignore[arg-type]

    status = report_of(facts(dead, state=TaskState.RUNNING))

    assert status.state is TaskState.FAILED
    assert status.error == error
    assert status.exit_code == change["exit_code"]


def test_an_end_before_anybody_saw_it_run_is_an_end_all_the_same() -> None:
    assert report_of(facts(DEAD, state=TaskState.READY)).state is TaskState.COMPLETE


@pytest.mark.parametrize("state", [TaskState.STARTING, TaskState.RUNNING])
def test_a_container_that_vanished_is_a_failure(state: TaskState) -> None:
    status = report_of(facts(state=state))

    assert status.state is TaskState.FAILED
    assert status.error == "its container is gone"


def test_exit_code_0_after_somebody_elses_signal_is_a_failure() -> None:
    """A daemon that shuts down stops its containers, which then exit as they were taught to."""
    soon = {DEAD.id: DEAD.ended_at - 1}

    status = report_of(facts(DEAD, state=TaskState.RUNNING, signalled_at=soon))

    assert status.state is TaskState.FAILED
    assert status.error == "was stopped from outside the cluster"


def test_a_signal_long_before_the_end_has_nothing_to_do_with_it() -> None:
    long_ago = {DEAD.id: DEAD.ended_at - DEAD.stop_grace_seconds - 6}

    status = report_of(facts(DEAD, state=TaskState.RUNNING, signalled_at=long_ago))

    assert status.state is TaskState.COMPLETE


def test_exit_code_0_when_the_host_went_down_is_a_failure() -> None:
    given = facts(DEAD, state=TaskState.RUNNING, found_dead={DEAD.id})

    status = report_of(replace(given, booted_at=DEAD.ended_at + 1))

    assert status.state is TaskState.FAILED
    assert status.error == "ended when the host went down"


def test_exit_code_0_across_an_absence_of_docker_is_a_failure() -> None:
    """A daemon that comes back may first stop what it finds running."""
    status = report_of(facts(DEAD, state=TaskState.RUNNING, interrupted={DEAD.id}))

    assert (status.state, status.error) == (TaskState.FAILED, "ended together with Docker")


def test_exit_code_0_while_only_the_agent_was_away_is_complete() -> None:
    given = facts(DEAD, state=TaskState.RUNNING, found_dead={DEAD.id})

    status = report_of(replace(given, booted_at=DEAD.started_at - 1))

    assert status.state is TaskState.COMPLETE


# --- a task that is not wanted any more -------------------------------------------------------


@pytest.mark.parametrize("desired", [TaskState.SHUTDOWN, TaskState.REMOVE])
@pytest.mark.parametrize("health", [Health.NONE, Health.STARTING, Health.UNHEALTHY])
def test_an_unwanted_container_is_stopped(desired: TaskState, health: Health) -> None:
    alive = replace(ALIVE, health=health)

    assert plan(facts(alive, desired=desired, state=TaskState.RUNNING)) == [
        Stop(ID, alive.id, "asked to stop")
    ]


@pytest.mark.parametrize("code", [0, 137])
def test_a_stop_that_was_asked_for_is_a_shutdown_whatever_the_exit_code(code: int) -> None:
    dead = replace(DEAD, exit_code=code)

    status = report_of(facts(dead, desired=TaskState.SHUTDOWN, state=TaskState.RUNNING))

    assert (status.state, status.exit_code) == (TaskState.SHUTDOWN, code)
    assert status.error == ""


def test_a_task_that_never_ran_is_shut_down_by_saying_so() -> None:
    status = report_of(facts(desired=TaskState.SHUTDOWN, state=TaskState.READY))

    assert (status.state, status.exit_code) == (TaskState.SHUTDOWN, None)


@pytest.mark.parametrize("desired", [TaskState.SHUTDOWN, TaskState.REMOVE])
def test_what_was_made_ready_is_gone_before_its_end_is_told(desired: TaskState) -> None:
    """A start that was called off may have happened though it was not seen."""
    assert plan(facts(CREATED, desired=desired, state=TaskState.READY)) == [Remove(ID, CREATED.id)]


def test_a_dead_container_stays_until_its_task_is_dropped_or_to_be_removed() -> None:
    assert plan(facts(DEAD, desired=TaskState.SHUTDOWN, state=TaskState.SHUTDOWN)) == []
    assert plan(facts(DEAD, desired=TaskState.REMOVE, state=TaskState.SHUTDOWN)) == [
        Remove(ID, DEAD.id)
    ]
    assert plan(facts(DEAD, assignments={})) == [Remove(ID, DEAD.id)]


def test_removing_reports_the_end_and_removes_the_container() -> None:
    report, remove = plan(facts(DEAD, desired=TaskState.REMOVE, state=TaskState.RUNNING))

    assert isinstance(report, Report)
    assert report.status.state is TaskState.SHUTDOWN
    assert remove == Remove(ID, DEAD.id)


def test_removing_what_is_gone_reports_the_end() -> None:
    given = facts(desired=TaskState.REMOVE, state=TaskState.RUNNING)

    assert report_of(given).state is TaskState.SHUTDOWN
    assert plan(facts(desired=TaskState.REMOVE, state=TaskState.SHUTDOWN)) == []


# --- what has finished ------------------------------------------------------------------------


@pytest.mark.parametrize("state", FINISHED)
@pytest.mark.parametrize("desired", [TaskState.READY, TaskState.RUNNING, TaskState.SHUTDOWN])
@pytest.mark.parametrize("containers", [(), (CREATED,), (DEAD,)])
def test_a_finished_task_is_never_started_again(
    state: TaskState, desired: TaskState, containers: tuple[Container]
) -> None:
    assert plan(facts(*containers, desired=desired, state=state)) == []
    statuses = {ID: TaskStatus(state=state)}
    assert plan(facts(*containers, desired=desired, statuses=statuses)) == []


@pytest.mark.parametrize("state", FINISHED)
def test_a_finished_task_that_somebody_started_by_hand_is_stopped(state: TaskState) -> None:
    assert plan(facts(ALIVE, state=state)) == [Stop(ID, ALIVE.id, "the task has finished")]


# --- orphans ----------------------------------------------------------------------------------


def test_orphans_are_stopped_then_removed() -> None:
    assert plan(facts(ALIVE, assignments={})) == [
        Stop(ID, ALIVE.id, "not assigned to this node any more")
    ]
    assert plan(facts(DEAD, assignments={})) == [Remove(ID, DEAD.id)]
    assert plan(facts(CREATED, assignments={})) == [Remove(ID, CREATED.id)]


@pytest.mark.parametrize("container", [CREATED, ALIVE, DEAD])
def test_nothing_at_all_is_done_before_a_complete_set_has_come(container: Container) -> None:
    assert plan(facts(container, assignments={}, is_complete=False)) == []
    assert plan(facts(container, is_complete=False)) == []


def test_of_two_containers_for_one_task_the_live_one_stays() -> None:
    second = replace(DEAD, id=ContainerId("a0"))

    assert plan(facts(ALIVE, second, state=TaskState.RUNNING)) == [Remove(ID, second.id)]


# --- while a step is under way ----------------------------------------------------------------


def steps(given: Facts) -> tuple[Prepare, Start, Stop, Remove]:
    task = task_of(given)
    return (
        Prepare(task, SPEC),
        Start(task, SPEC, CREATED.id),
        Stop(ID, ALIVE.id, ""),
        Remove(ID, DEAD.id),
    )


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("containers", [(), (CREATED,), (ALIVE,), (DEAD,)])
def test_a_task_with_a_step_under_way_is_left_alone(
    which: int, containers: tuple[Container]
) -> None:
    given = facts(*containers, state=TaskState.ACCEPTED)

    assert plan(replace(given, busy={ID: steps(given)[which]})) == []


@pytest.mark.parametrize("which", range(4))
def test_getting_ready_is_given_up_when_the_task_is_not_wanted_any_more(which: int) -> None:
    given = facts(desired=TaskState.SHUTDOWN)
    busy = {ID: steps(given)[which]}
    expected = [Cancel(ID)] if which < 2 else []

    assert plan(replace(given, busy=busy)) == expected
    assert plan(replace(given, busy=busy, assignments={})) == expected


# --- leases -----------------------------------------------------------------------------------


def test_a_container_whose_lease_is_nearly_over_stops_with_or_without_a_manager() -> None:
    stop = [Stop(ID, ALIVE.id, CONTACT_LOST)]
    assert plan(facts(ALIVE, overdue={ALIVE.id})) == stop
    assert plan(Facts(now=NOW, containers=[ALIVE], overdue={ALIVE.id})) == stop
    assert plan(Facts(now=NOW, containers=[ALIVE])) == []
    assert plan(facts(ALIVE, state=TaskState.RUNNING, overdue={ContainerId("c9")})) == []


def test_a_start_under_way_is_given_up_when_its_lease_is_nearly_over() -> None:
    given = facts(ALIVE, overdue={ALIVE.id})
    busy = replace(given, busy={ID: Start(task_of(given), SPEC, ALIVE.id)})
    assert plan(busy) == [Cancel(ID)]
    stopping = replace(given, busy={ID: Stop(ID, ALIVE.id, CONTACT_LOST)})
    assert plan(stopping) == []


def test_what_a_lost_contact_has_ended_is_reported_as_that() -> None:
    killed = replace(DEAD, exit_code=137)
    status = report_of(facts(killed, state=TaskState.RUNNING, overdue={DEAD.id}))
    assert (status.state, status.error) == (TaskState.FAILED, CONTACT_LOST)
