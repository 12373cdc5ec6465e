"""What ``service update`` makes of a spec."""

import pytest

from cluster.errors import InvalidError, NotFoundError
from cluster.model import (
    ContainerSpec,
    FailureAction,
    Placement,
    RestartCondition,
    ServiceMode,
    ServiceSpec,
    Strategy,
    TaskSpec,
    UpdateOrder,
)
from cluster.resources import Resources
from clusterctl.specs import Edit, edited

SPEC = ServiceSpec(
    name="web",
    task=TaskSpec(
        container=ContainerSpec(
            image="web:1", command=("serve",), environment={"A": "1", "B": "2"}
        ),
        limits=Resources(cpu_nanos=5, memory_bytes=6),
        placement=Placement(constraints=("node.labels.disk == ssd", "node.role != manager")),
    ),
    labels={"team": "blue"},
    replicas=3,
)


def test_nothing_changes_nothing() -> None:
    assert edited(SPEC, Edit()) == SPEC


def test_image_replicas_and_args() -> None:
    new = edited(SPEC, Edit(image="web:2", replicas=0, args=("serve", "--fast")))
    assert new.task.container.image == "web:2"
    assert new.replicas == 0
    assert new.task.container.command == ("serve", "--fast")


def test_variables_and_labels_are_added_replaced_and_removed() -> None:
    edit = Edit(env_add=(("A", "9"), ("C", "x=y")), env_rm=("B",), label_add=(("new", ""),))
    new = edited(SPEC, edit)
    assert new.task.container.environment == {"A": "9", "C": "x=y"}
    assert new.labels == {"team": "blue", "new": ""}


def test_resources_are_changed_one_by_one() -> None:
    new = edited(SPEC, Edit(limit_cpu=0, reserve_memory=7))
    assert new.task.limits == Resources(cpu_nanos=0, memory_bytes=6)
    assert new.task.reservations == Resources(memory_bytes=7)


def test_generic_resources_and_where_tasks_run_are_changed_one_by_one() -> None:
    first = edited(
        SPEC,
        Edit(
            reserve_generic=(("gpu", 2), ("disk", 1)),
            spread_add=("node.labels.zone", "node.id"),
            tolerate_add=("gpu",),
            strategy="spread",
            priority=7,
            preempts=True,
            max_unavailable=3,
        ),
    )
    assert first.task.reservations.generic == {"gpu": 2, "disk": 1}
    assert [each.key for each in first.task.placement.preferences] == [
        "node.labels.zone",
        "node.id",
    ]
    assert first.task.placement.tolerates == ("gpu",)
    assert first.task.placement.strategy is Strategy.SPREAD
    assert (first.priority, first.preempts, first.budget.max_unavailable) == (7, True, 3)
    assert first.task.placement.constraints == SPEC.task.placement.constraints

    second = edited(
        first,
        Edit(
            reserve_generic=(("gpu", 0),),
            spread_rm=("node.labels.zone",),
            tolerate_rm=("gpu",),
            strategy="cluster",
            priority=0,
            preempts=False,
        ),
    )
    assert second.task.reservations.generic == {"disk": 1}
    assert [each.key for each in second.task.placement.preferences] == ["node.id"]
    assert second.task.placement.tolerates == ()
    assert second.task.placement.strategy is None
    assert (second.priority, second.preempts, second.budget.max_unavailable) == (0, False, 3)


def test_what_is_not_spread_over_or_tolerated_cannot_be_removed() -> None:
    with pytest.raises(NotFoundError, match=r"no spread 'node\.id' to remove"):
        edited(SPEC, Edit(spread_rm=("node.id",)))
    with pytest.raises(NotFoundError, match="no name to tolerate 'gpu' to remove"):
        edited(SPEC, Edit(tolerate_rm=("gpu",)))


def test_constraints_are_compared_without_their_spaces() -> None:
    edit = Edit(
        constraint_add=("node.role!=manager", "node.hostname == n1"),
        constraint_rm=("node.labels.disk==ssd",),
    )
    assert edited(SPEC, edit).task.placement.constraints == (
        "node.role != manager",
        "node.hostname == n1",
    )


def test_force_counts_up() -> None:
    once = edited(SPEC, Edit(force=True))
    assert edited(once, Edit(force=True)).task.force_update == 2


def test_policies() -> None:
    edit = Edit(
        restart_condition="on-failure",
        restart_delay=1.5,
        restart_max_attempts=3,
        update_order="start-first",
        update_failure_action="rollback",
        update_parallelism=0,
        update_max_failure_ratio=0.0,
        stop_grace_period=2.0,
    )
    new = edited(SPEC, edit)
    assert new.task.restart.condition is RestartCondition.ON_FAILURE
    assert (new.task.restart.delay_seconds, new.task.restart.max_attempts) == (1.5, 3)
    assert new.update.order is UpdateOrder.START_FIRST
    assert new.update.failure_action is FailureAction.ROLLBACK
    assert new.update.parallelism == 0
    assert new.task.container.stop_grace_seconds == 2.0
    assert new.rollback == SPEC.rollback


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (Edit(env_rm=("AA",)), "no variable 'AA' to remove; did you mean 'A'?"),
        (Edit(label_rm=("x",)), "no label 'x' to remove; there is team"),
        (Edit(constraint_rm=("node.role == manager",)), "no constraint 'node.role == manager'"),
    ],
)
def test_what_is_not_there_cannot_be_removed(edit: Edit, why: str) -> None:
    with pytest.raises(NotFoundError) as refusal:
        edited(SPEC, edit)
    assert why in str(refusal.value)


def test_a_global_service_has_no_replicas_to_set() -> None:
    spec = ServiceSpec(name="web", task=SPEC.task, mode=ServiceMode.GLOBAL)
    with pytest.raises(InvalidError, match="is global"):
        edited(spec, Edit(replicas=2))
