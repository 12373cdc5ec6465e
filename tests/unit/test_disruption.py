"""How much may be taken away: one count for updates and for everybody else."""

from typing import Any

import msgspec
import pytest

from cluster.model import (
    DisruptionBudget,
    NodeId,
    Service,
    ServiceId,
    ServiceMode,
    Task,
    TaskId,
    TaskState,
    TaskStatus,
)
from manager.committer import Change
from manager.disruption import allowance, missing, taken_by, update_allowance
from tests.harness.leading import service_spec

S = TaskState
WEB = ServiceId("web")


def service(budget: int = 1, **fields: Any) -> Service:
    spec = service_spec(budget=DisruptionBudget(max_unavailable=budget), replicas=3, **fields)
    return Service(id=WEB, spec=spec)


def task(place: int, state: TaskState = S.RUNNING, desired: TaskState = S.RUNNING) -> Task:
    return Task(
        id=TaskId(f"{place}-{state.value}-{desired.value}"),
        service_id=WEB,
        spec_version=1,
        slot=place,
        node_id=NodeId(f"n{place}"),
        desired_state=desired,
        status=TaskStatus(state=state),
    )


@pytest.mark.parametrize(
    ("budget", "tasks", "allowed"),
    [
        (1, [task(1), task(2), task(3)], 1),
        (0, [task(1), task(2), task(3)], 0),
        (5, [task(1), task(2), task(3)], 5),
        (2, [task(1), task(2)], 1),  # one has no task at all
        (2, [task(1), task(2), task(3, S.STARTING)], 1),
        (2, [task(1), task(2), task(3, S.RUNNING, S.SHUTDOWN)], 1),  # told to stop: gone
        (1, [task(1), task(2), task(2, S.READY, S.READY), task(3)], 1),  # an update prepares
        (2, [task(1), task(1, S.FAILED), task(2), task(3)], 2),  # its past does not count
        (1, [task(1), task(2, S.FAILED), task(3, S.FAILED)], 0),  # never below nothing
    ],
)
def test_what_others_may_take(budget: int, tasks: list[Task], allowed: int) -> None:
    assert allowance(service(budget), tasks) == allowed


def test_whom_somebody_else_is_telling_to_stop_is_missing() -> None:
    tasks = [task(1), task(2), task(3)]
    assert missing(service(), tasks, {tasks[0].id}) == 1
    assert allowance(service(2), tasks, {tasks[0].id, TaskId("another")}) == 1
    stopped = msgspec.structs.replace(tasks[0], desired_state=S.SHUTDOWN)
    told = Change(save=(stopped, tasks[1]), expect=(tasks[2],))
    assert list(taken_by([told])) == [tasks[0].id]


def test_a_global_service_misses_who_does_not_run_where_it_is() -> None:
    everywhere = service(mode=ServiceMode.GLOBAL)
    tasks = [task(1), task(2, S.STARTING), task(3, S.RUNNING, S.SHUTDOWN)]
    assert missing(everywhere, tasks) == 1


def test_an_update_takes_what_nobody_else_has_taken() -> None:
    assert [update_allowance(2, gone) for gone in range(4)] == [2, 1, 0, 0]


@pytest.mark.parametrize(("replicas", "may_go"), [(1, 1), (7, 1), (8, 2), (30, 7)])
def test_a_service_that_does_not_say_can_spare_a_quarter_and_at_least_one(
    replicas: int, may_go: int
) -> None:
    assert service_spec(replicas=replicas).max_unavailable == may_go
    assert (
        service_spec(replicas=replicas, budget=DisruptionBudget(max_unavailable=0)).max_unavailable
        == 0
    )
