"""Whatever is handed in, what cannot be placed is a value with a reason, never an exception."""

import itertools

import pytest

from cluster.constraints import NodeFacts, parse
from cluster.model import Affinity, NodeId, ServiceId, Strategy, TaskId
from cluster.resources import Resources
from scheduler import (
    Demand,
    Group,
    NodeSnapshot,
    PendingTask,
    Snapshot,
    Wish,
    explain,
    group,
    headroom,
    place,
    rebalance,
)
from scheduler.dimensions import AMOUNT_MAX

HUGE = 2**70
ODD_AMOUNTS = [0, 1, -1, AMOUNT_MAX, AMOUNT_MAX + 1, -HUGE, HUGE, float("nan"), float("inf"), 1.5]


def resources(cpu: object, memory: object = 0, gpu: object = 0) -> Resources:
    return Resources(cpu_nanos=cpu, memory_bytes=memory, generic={"gpu": gpu})  # type: ignore[arg-type,dict-item]


def node(name: str, capacity: Resources, **fields: object) -> NodeSnapshot:
    return NodeSnapshot(NodeFacts(NodeId(name), hostname="same"), capacity=capacity, **fields)  # type: ignore[arg-type]


def waiting(demand: Demand, count: int = 3) -> Group:
    return Group(demand, tuple(TaskId(f"{demand.service_id}.{n}") for n in range(count)))


def test_no_amount_of_anything_raises_and_nothing_is_promised_that_is_not_there() -> None:
    nodes = [
        node(f"n{number}", resources(capacity, capacity, capacity), reserved=resources(taken))
        for number, (capacity, taken) in enumerate(itertools.product(ODD_AMOUNTS, ODD_AMOUNTS))
    ]
    snapshot = Snapshot.of(nodes)
    for strategy in Strategy:
        demands = [
            Demand(ServiceId(f"s{n}"), resources(amount, amount, amount), service=f"s{n}")
            for n, amount in enumerate(ODD_AMOUNTS)
        ]
        plan = place(snapshot, [waiting(demand) for demand in demands], strategy=strategy)
        told = [id_ for unplaced in plan.unplaced for id_ in unplaced.task_ids]
        assert len(plan.placements) + len(told) == 3 * len(demands)
        assert all(map(str, plan.unplaced))
        for demand in demands:
            explanation = explain(snapshot, demand, strategy=strategy)
            assert all(map(str, (*explanation.verdicts, *explanation.fixes)))
            assert headroom(snapshot, demand, strategy=strategy) >= 0
        needs = {id_: demand for demand in demands for id_ in waiting(demand).task_ids}
        for node_id, tasks in itertools.groupby(
            sorted(plan.placements, key=plan.placements.__getitem__), plan.placements.__getitem__
        ):
            here = snapshot.nodes[node_id]
            asked = sum(needs[id_].reservations.cpu_nanos for id_ in tasks)
            taken = here.reserved.cpu_nanos if isinstance(here.reserved.cpu_nanos, int) else 0
            assert asked == 0 or asked + taken <= here.capacity.cpu_nanos
        assert rebalance(snapshot, 3, strategy=strategy) == ()


def test_the_largest_amounts_are_counted_to_the_last_unit() -> None:
    snapshot = Snapshot.of([node("a", resources(AMOUNT_MAX), reserved=resources(1))])
    fits = Demand(ServiceId("s"), Resources(cpu_nanos=AMOUNT_MAX - 1))
    too_large = Demand(ServiceId("s"), Resources(cpu_nanos=AMOUNT_MAX))
    assert len(place(snapshot, [waiting(fits)]).placements) == 1
    (unplaced,) = place(snapshot, [waiting(too_large)]).unplaced
    assert unplaced.counted[0].reason.missing == (("cpu_nanos", 1),)


@pytest.mark.parametrize(
    "demand",
    [
        Demand(
            ServiceId("s"), constraints=(parse("node.hostname == a"), parse("node.hostname != a"))
        ),
        Demand(ServiceId("s"), constraints=(parse("node.labels.no.such exists"),)),
        Demand(ServiceId("s"), spread=("node.labels.no.such", "engine.labels.neither")),
        Demand(ServiceId("s"), wishes=(Wish(parse("node.labels.x == y"), 100),)),
        Demand(ServiceId("s"), service="s", affinities=(Affinity(service="never heard of"),)),
        Demand(ServiceId("s"), volumes=("nowhere", "neither")),
        Demand(ServiceId("s"), Resources(generic={"no such": 1})),
        Demand(ServiceId("s"), max_unavailable=-5, priority=-(2**80), preempts=True),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_no_node_knows_of_is_refused_or_does_not_matter(demand: Demand, count: int) -> None:
    nodes = [node(f"n{i}", resources(4)) for i in range(count)]
    plan = place(Snapshot.of(nodes), [waiting(demand)])
    assert len(plan.placements) + sum(len(each.task_ids) for each in plan.unplaced) == 3
    assert all(map(str, plan.unplaced))
    explain(Snapshot.of(nodes), demand)


def test_near_and_apart_at_once_is_a_defect() -> None:
    both = (Affinity(service="db"), Affinity(service="db", anti=True))
    (unplaced,) = place(Snapshot(), [waiting(Demand(ServiceId("s"), affinities=both))]).unplaced
    assert "must be both near db by node.id and apart from it" in str(unplaced)


def test_hosts_of_one_name_are_two_nodes() -> None:
    snapshot = Snapshot.of([node("a", resources(1)), node("b", resources(1))])
    plan = place(snapshot, [waiting(Demand(ServiceId("s"), Resources(cpu_nanos=1)))])
    assert sorted(plan.placements.values()) == ["a", "b"]


def test_a_task_that_belongs_to_a_node_that_is_not_there_is_told_so() -> None:
    pinned = PendingTask(TaskId("t"), Demand(ServiceId("s")), NodeId("x"))
    (unplaced,) = place(Snapshot(), group([pinned])).unplaced
    assert str(unplaced) == "its node x does not take it: no such node"
