"""Explanations: every reason of every node, the nearest miss, amounts that can be acted on."""

import pytest

from cluster.constraints import NodeFacts, parse
from cluster.model import Affinity, Availability, NodeId, NodeState, ServiceId, TaskId
from cluster.resources import Resources
from scheduler import (
    Demand,
    Group,
    NodeSnapshot,
    ReasonKind,
    Snapshot,
    Strategy,
    explain,
    place,
)
from scheduler.dimensions import SIZES, cpus, memory

WEB = ServiceId("web")
GIB = 1 << 30


def node(name: str, memory_bytes: int = 4 * GIB, **fields: object) -> NodeSnapshot:
    facts = NodeFacts(NodeId(name), hostname=f"host-{name}")
    capacity = Resources(cpu_nanos=4_000_000_000, memory_bytes=memory_bytes)
    return NodeSnapshot(facts, capacity=capacity, **fields)  # type: ignore[arg-type]


NEEDY = Demand(
    WEB,
    Resources(cpu_nanos=1_000_000_000, memory_bytes=2 * GIB),
    constraints=(parse("node.labels.disk == ssd"),),
)


def test_every_reason_of_a_node_is_named_and_the_nearest_miss_leads() -> None:
    nodes = [
        node("a", GIB, state=NodeState.DOWN, availability=Availability.DRAIN),
        node("b", GIB),
        node("c", GIB // 2),
        node("d"),
    ]
    explanation = explain(Snapshot.of(nodes), NEEDY)
    assert explanation.chosen is None
    assert [str(verdict) for verdict in explanation.verdicts] == [
        "host-d: constraint node.labels.disk == ssd not met",
        "host-b: constraint node.labels.disk == ssd not met; short of 1 GiB memory",
        "host-c: constraint node.labels.disk == ssd not met; short of 1.5 GiB memory",
        "host-a: down; draining; constraint node.labels.disk == ssd not met; short of 1 GiB memory",
    ]
    assert explanation.nearest == explanation.verdicts[0]
    assert [str(counted) for counted in explanation.counted] == [
        "4 nodes: constraint node.labels.disk == ssd not met",
        "3 nodes: short of at least 1 GiB memory",
        "1 node: down",
        "1 node: draining",
    ]


@pytest.mark.parametrize("strategy", Strategy)
def test_nodes_that_would_take_the_task_come_first_in_the_order_of_preference(
    strategy: Strategy,
) -> None:
    nodes = [node("a", GIB), node("b"), node("c", task_count=1), node("d", task_count=2)]
    demand = Demand(WEB, Resources(memory_bytes=2 * GIB))
    explanation = explain(Snapshot.of(nodes), demand, strategy=strategy)
    order = [verdict.node_id for verdict in explanation.verdicts]
    assert order == (["c", "d", "b", "a"] if strategy is Strategy.BINPACK else ["b", "c", "d", "a"])
    plan = place(Snapshot.of(nodes), [Group(demand, (TaskId("t"),))], strategy=strategy)
    assert explanation.chosen is not None
    assert plan.placements == {"t": explanation.chosen.node_id}
    assert str(explanation.chosen).endswith(": would take it")
    assert explanation.nearest is not None
    assert explanation.nearest.node_id == "a"


def test_a_task_with_one_node_is_explained_by_that_one() -> None:
    snapshot = Snapshot.of([node("a"), node("b", GIB)])
    demand = Demand(WEB, Resources(memory_bytes=2 * GIB))
    (verdict,) = explain(snapshot, demand, node_id=NodeId("b")).verdicts
    assert str(verdict) == "host-b: short of 1 GiB memory"
    (gone,) = explain(snapshot, demand, node_id=NodeId("x")).verdicts
    assert [reason.kind for reason in gone.reasons] == [ReasonKind.GONE]
    assert str(gone) == "x: no such node"


def test_a_demand_without_sense_is_explained_by_itself() -> None:
    explanation = explain(Snapshot.of([node("a")]), Demand(WEB, Resources(cpu_nanos=-1)))
    assert explanation.defects
    assert explanation.chosen is None
    assert explanation.verdicts == ()


@pytest.mark.parametrize(
    ("demand", "fix"),
    [
        (
            Demand(WEB, affinities=(Affinity(service="db"),) * 2),
            "do without: is not near db (node.id) (2 nodes)",
        ),
        (
            Demand(WEB, constraints=(parse("node.role == manager"), parse("node.role==manager"))),
            "do without: constraint node.role == manager not met (2 nodes)",
        ),
    ],
)
def test_what_is_demanded_twice_is_one_reason_and_has_its_fix(demand: Demand, fix: str) -> None:
    explanation = explain(Snapshot.of([node("a"), node("b")]), demand)
    assert [len(verdict.reasons) for verdict in explanation.verdicts] == [1, 1]
    assert [str(found) for found in explanation.fixes] == [fix]


def test_the_weights_of_one_wish_written_twice_add_up() -> None:
    twice = (Affinity(service="web", weight=10),) * 2
    explanation = explain(Snapshot.of([node("a")]), Demand(WEB, service="web", affinities=twice))
    assert explanation.chosen is not None
    assert dict(explanation.chosen.rank)["missed"] == 20


def test_an_empty_cluster_has_nothing_to_say() -> None:
    explanation = explain(Snapshot(), NEEDY)
    assert (explanation.chosen, explanation.nearest, explanation.counted) == (None, None, ())


def test_every_dimension_of_resources_is_counted() -> None:
    assert (*SIZES, "generic") == Resources.__struct_fields__


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (cpus(1), "0.001 CPU"),
        (cpus(1_500_000_000), "1.5 CPU"),
        (cpus(10_000_000_000), "10 CPU"),
        (memory(1), "1 bytes memory"),
        (memory(1025), "1.01 KiB memory"),
        (memory(180 << 20), "180 MiB memory"),
        (memory((180 << 20) + 1), "180.01 MiB memory"),
        (memory(100 << 30), "100 GiB memory"),
    ],
)
def test_amounts_are_rounded_up_so_that_freeing_them_suffices(text: str, expected: str) -> None:
    assert text == expected
