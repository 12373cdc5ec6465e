"""What-if: losses, drains, scaling and new stacks, and how much more there is room for."""

import pytest

from cluster.constraints import NodeFacts, parse
from cluster.model import Availability, NodeId, NodeState, ServiceId, TaskId
from cluster.resources import NANOS_PER_CPU, Resources
from scheduler import (
    Demand,
    Drain,
    Group,
    LoseNodes,
    LosePlace,
    NodeSnapshot,
    Scale,
    Snapshot,
    Submit,
    headroom,
    not_survived,
    simulate,
    without,
)
from scheduler.simulate import HEADROOM_MAX

ONE = Resources(cpu_nanos=NANOS_PER_CPU)
WEB = Demand(ServiceId("web"), ONE, service="web")
AGENT = Demand(ServiceId("agent"), service="agent", pinned=True)


def node(name: str, cpus: int = 4, tasks: dict[str, Demand] | None = None) -> NodeSnapshot:
    here = {TaskId(id_): demand for id_, demand in (tasks or {}).items()}
    replicas: dict[ServiceId, int] = {}
    for demand in here.values():
        replicas[demand.service_id] = replicas.get(demand.service_id, 0) + 1
    return NodeSnapshot(
        NodeFacts(NodeId(name), hostname=name, labels={"zone": name[0]}),
        capacity=Resources(cpu_nanos=cpus * NANOS_PER_CPU),
        reserved=sum((demand.reservations for demand in here.values()), Resources()),
        replicas=replicas,
        task_count=len(here),
        tasks=here,
    )


def webs(*names: str) -> dict[str, Demand]:
    return dict.fromkeys(names, WEB)


CLUSTER = Snapshot.of(
    [node("a1", tasks=webs("w1", "w2")), node("a2", tasks=webs("w3")), node("b1", tasks=webs("w4"))]
)


def test_the_tasks_of_a_lost_node_go_where_there_is_room() -> None:
    outcome = simulate(CLUSTER, [LoseNodes((NodeId("a1"),))])
    assert outcome.displaced == {"w1": "a1", "w2": "a1"}
    assert set(outcome.plan.placements) == {"w1", "w2"}
    assert outcome.unplaceable == ()
    assert outcome.after.nodes[NodeId("a1")].state is NodeState.DOWN
    there = [outcome.after.nodes[NodeId(id_)].task_count for id_ in ("a2", "b1")]
    assert sum(there) == 4
    assert CLUSTER.nodes[NodeId("a1")].task_count == 2, "nothing has really changed"


def test_what_has_no_place_after_the_loss_of_a_zone_is_named_with_why() -> None:
    cluster = Snapshot.of([*CLUSTER.nodes.values(), node("b2", 1)])
    small = cluster.changed({NodeId("b1"): node("b1", 2, webs("w4"))})
    outcome = simulate(small, [LosePlace("node.labels.zone", "a")])
    assert sorted(outcome.displaced) == ["w1", "w2", "w3"]
    assert outcome.unplaceable == ("w3",)
    assert "short of 1 CPU" in str(outcome.plan.unplaced[0])


def test_a_drained_node_keeps_what_belongs_to_it() -> None:
    cluster = Snapshot.of([node("a1", tasks={"w1": WEB, "agent.a1": AGENT}), node("a2")])
    outcome = simulate(cluster, [Drain((NodeId("a1"),))])
    assert outcome.plan.placements == {"w1": "a2"}
    drained = outcome.after.nodes[NodeId("a1")]
    assert drained.availability is Availability.DRAIN
    assert set(drained.tasks) == {"agent.a1"}


def test_scaling_up_asks_for_more_and_scaling_down_takes_from_where_there_are_most() -> None:
    more = simulate(CLUSTER, [Scale(WEB, 6)])
    assert sorted(more.plan.placements) == ["web+1", "web+2"]
    less = simulate(CLUSTER, [Scale(WEB, 3)])
    assert less.removed == ("w2",)
    assert less.after.nodes[NodeId("a1")].reserved == ONE
    assert less.after.nodes[NodeId("a1")].replicas == {"web": 1}


def test_changes_add_up_in_their_order() -> None:
    """What was displaced is the first to go when its service is made smaller."""
    outcome = simulate(CLUSTER, [LoseNodes((NodeId("a1"),)), Scale(WEB, 3)])
    assert outcome.removed == ("w2",)
    assert list(outcome.plan.placements) == ["w1"]
    stack = Group(Demand(ServiceId("db"), ONE, service="db"), (TaskId("db.1"),))
    with_stack = simulate(CLUSTER, [Drain((NodeId("b1"),)), Submit((stack,))])
    assert sorted(with_stack.plan.placements) == ["db.1", "w4"]
    assert with_stack.after.service_ids["db"] == ("db",)


def test_an_unknown_node_is_no_change() -> None:
    assert simulate(CLUSTER, [LoseNodes((NodeId("x"),))]).displaced == {}


@pytest.mark.parametrize(
    ("demand", "more"),
    [
        (WEB, 8),
        (Demand(ServiceId("s"), ONE, max_replicas_per_node=1), 3),
        (Demand(ServiceId("s"), ONE, constraints=(parse("node.labels.zone == b"),)), 3),
        (Demand(ServiceId("s"), Resources(cpu_nanos=5 * NANOS_PER_CPU)), 0),
        (Demand(ServiceId("s"), Resources(cpu_nanos=-1)), 0),
        (Demand(ServiceId("s")), HEADROOM_MAX),
    ],
)
def test_headroom_is_how_many_more_would_be_placed(demand: Demand, more: int) -> None:
    assert headroom(CLUSTER, demand) == more


def test_the_loss_of_a_node_is_survived_if_the_others_have_room_for_its_tasks() -> None:
    assert not_survived(CLUSTER) == {}
    full = Snapshot.of([node("a1", 3, webs("w1", "w2")), node("a2", 2, webs("w3"))])
    assert not_survived(full) == {"a1": ("w2",)}


def test_a_snapshot_without_a_task_has_its_room() -> None:
    left = without(CLUSTER, TaskId("w1"))
    assert left.nodes[NodeId("a1")] == node("a1", tasks=webs("w2"))
    assert without(CLUSTER, TaskId("never heard of")) is CLUSTER
