"""Room that is set aside for tasks that wait, and whom several of them have stopped at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from cluster.constraints import NodeFacts
from cluster.model import Affinity, NodeId, ServiceId, TaskId
from cluster.resources import Resources
from scheduler import Demand, HostPort, NodeSnapshot, PendingTask, Plan, Snapshot, group, place

SMALL = Demand(ServiceId("small"), Resources(cpu_nanos=1))
LARGE = Demand(ServiceId("large"), Resources(cpu_nanos=6))
URGENT = Demand(ServiceId("urgent"), Resources(cpu_nanos=4), priority=5, preempts=True)


def node(
    name: str, tasks: Mapping[str, Demand], *, cpus: int = 8, leaving: Sequence[str] = ()
) -> NodeSnapshot:
    """Return a node that holds these tasks, by name."""
    sizes = [demand.reservations for demand in tasks.values()]
    replicas: dict[ServiceId, int] = {}
    ports: dict[tuple[int, str], tuple[str, ...]] = {}
    for demand in tasks.values():
        replicas[demand.service_id] = replicas.get(demand.service_id, 0) + 1
        for port in demand.ports:
            ports[port.port, port.protocol] = (port.address,)
    return NodeSnapshot(
        NodeFacts(NodeId(name)),
        capacity=Resources(cpu_nanos=cpus, memory_bytes=8),
        reserved=sum(sizes, start=Resources()),
        replicas=replicas,
        ports=ports,
        task_count=len(tasks),
        tasks={TaskId(id_): demand for id_, demand in tasks.items()},
        leaving=frozenset(map(TaskId, leaving)),
    )


def runs(service: str, cpus: int, **fields: object) -> Demand:
    """Return the demand of a task that runs already, and may be stopped unless fields say else."""
    return Demand(ServiceId(service), Resources(cpu_nanos=cpus), **fields)  # type: ignore[arg-type]


def waiting(demand: Demand, count: int = 1, at: str = "") -> list[PendingTask]:
    ids = [TaskId(f"{demand.service_id}{number}") for number in range(1, count + 1)]
    return [PendingTask(id_, demand, NodeId(at)) for id_ in ids]


def planned(nodes: Sequence[NodeSnapshot], tasks: Sequence[PendingTask], before: Plan) -> Plan:
    return place(Snapshot.of(nodes), group(tasks), holds=before.holds)


def many(count: int, first: int = 0) -> dict[str, Demand]:
    return {f"{number}": SMALL for number in range(first, first + count)}


# --- waiting ----------------------------------------------------------------------------------


def test_only_what_comes_free_from_now_on_is_set_aside() -> None:
    five, four = node("a", many(5)), node("a", many(4))
    first = planned([five], waiting(LARGE), Plan())
    assert [(hold.task_id, hold.node_id) for hold in first.holds] == [("large1", "a")]
    tasks = [*waiting(LARGE), *waiting(SMALL, 8)]
    assert len(planned([five], tasks, first).placements) == 3
    later = planned([four], tasks, first)
    assert len(later.placements) == 3
    assert dict(later.holds[0].room)["cpu_nanos"] == 1


def test_what_is_set_aside_is_not_counted_as_gained_again() -> None:
    first = planned([node("a", many(5))], waiting(LARGE), Plan())
    second = planned([node("a", many(4))], waiting(LARGE), first)
    third = planned([node("a", many(4))], waiting(LARGE), second)
    assert dict(third.holds[0].room)["cpu_nanos"] == 1


def test_nothing_is_set_aside_where_more_is_promised_than_there_is() -> None:
    first = planned([node("a", many(5))], waiting(LARGE), Plan())
    second = planned([node("a", many(4))], waiting(LARGE), first)
    shrunk = planned([node("a", many(8), cpus=6)], waiting(LARGE), second)
    assert dict(shrunk.holds[0].room)["cpu_nanos"] == 0


def test_the_node_that_lacks_least_is_held_of_those_that_are_large_enough() -> None:
    nodes = [node("a", many(8)), node("b", many(4, 10)), node("c", {}, cpus=5)]
    (hold,) = planned(nodes, waiting(LARGE), Plan()).holds
    assert hold.node_id == "b"


def test_two_classes_do_not_wait_for_one_node() -> None:
    nodes = [node("a", many(8)), node("b", many(8, 10))]
    other = Demand(ServiceId("other"), Resources(cpu_nanos=7))
    holds = planned(nodes, [*waiting(LARGE), *waiting(other)], Plan()).holds
    assert {hold.task_id: hold.node_id for hold in holds} == {"large1": "a", "other1": "b"}


def test_a_task_with_a_node_of_its_own_holds_none() -> None:
    assert planned([node("a", many(8))], waiting(LARGE, at="a"), Plan()).holds == ()


# --- preemption -------------------------------------------------------------------------------


def evicted(
    nodes: Sequence[NodeSnapshot], count: int, demand: Demand = URGENT
) -> Mapping[TaskId, TaskId]:
    return planned(nodes, waiting(demand, count), Plan()).evictions


def test_each_task_of_a_class_has_its_own_victims_and_they_are_in_its_hold() -> None:
    plan = planned(
        [node("a", dict.fromkeys("xy", runs("s", 4, max_unavailable=2)))],
        waiting(URGENT, 2),
        Plan(),
    )
    assert plan.evictions == {"x": "urgent1", "y": "urgent2"}
    assert [hold.victims for hold in plan.holds] == [("x",), ("y",)]
    assert [unplaced.making_room for unplaced in plan.unplaced] == [("a",)]


def test_nobody_is_stopped_for_the_sake_of_a_task_that_must_be_near_it() -> None:
    near = replace(URGENT, affinities=(Affinity("base"),))
    base = replace(runs("base", 4, max_unavailable=9), service="base")
    nodes = [node("a", {"b1": base, "b2": base}), node("b", {"b3": base, "x": runs("x", 4)})]
    assert evicted(nodes, 1, near) == {"x": "urgent1"}
    assert evicted(nodes[:1], 1, near) == {}
    assert evicted(nodes[:1], 1, replace(near, affinities=(Affinity("base", weight=1),)))


def test_a_budget_is_spent_once_in_a_pass() -> None:
    nodes = [node("a", {"x": runs("s", 8)}), node("b", {"y": runs("s", 8)})]
    assert evicted(nodes, 2) == {"x": "urgent1"}


def test_versions_of_a_service_share_its_budget() -> None:
    one, two = (runs("s", 2, version=v, max_unavailable=3) for v in (1, 2))
    nodes = [
        node("a", {"x1": one, "x2": one, "x3": two, "x4": two}),
        node("b", {"y": runs("s", 8, max_unavailable=3)}),
    ]
    six = Demand(URGENT.service_id, Resources(cpu_nanos=6), priority=5, preempts=True)
    assert evicted(nodes, 2, six) == {"y": "urgent1"}


def test_an_offer_that_has_become_dearer_is_compared_again() -> None:
    nodes = [
        node("a", {"x": runs("s", 4), "y": runs("t", 4, priority=1)}),
        node("b", {"z": runs("u", 8)}),
    ]
    assert evicted(nodes, 2) == {"x": "urgent1", "z": "urgent2"}


def test_of_as_many_tasks_the_smallest_are_stopped() -> None:
    assert evicted([node("a", {"x": runs("s", 4), "y": runs("t", 5)}, cpus=9)], 1) == {
        "x": "urgent1"
    }


def test_two_of_a_low_priority_go_before_one_of_a_higher() -> None:
    here = {"x": runs("s", 4, priority=1), "y": runs("t", 2), "z": runs("u", 2)}
    assert evicted([node("a", here)], 1) == {"y": "urgent1", "z": "urgent1"}


def test_what_leaves_anyway_is_promised_to_one_task_only() -> None:
    leaves = node("a", {"x": runs("s", 8, max_unavailable=0)}, leaving=["x"])
    eight = Demand(URGENT.service_id, Resources(cpu_nanos=8), priority=5, preempts=True)
    plan = planned([leaves], waiting(eight, 2), Plan())
    assert not plan.evictions
    told = {unplaced.task_ids: unplaced.making_room for unplaced in plan.unplaced}
    assert told == {("urgent1",): ("a",), ("urgent2",): ()}


def test_nobody_makes_room_where_only_a_task_of_this_pass_is_in_the_way() -> None:
    first, second = (
        Demand(ServiceId(name), ports=(HostPort(80),), priority=priority, preempts=True)
        for name, priority in (("first", 9), ("second", 8))
    )
    plan = planned([node("a", {})], [*waiting(first), *waiting(second)], Plan())
    assert plan.placements == {"first1": "a"}
    assert [unplaced.making_room for unplaced in plan.unplaced] == [()]


# More sets than are looked at one by one: who helps most goes first.
BYSTANDERS = {f"w{number:02}": runs(f"w{number:02}", 0) for number in range(13)}


def test_who_turns_out_not_to_be_needed_is_spared() -> None:
    def sized(service: str, cpus: int, memory: int, budget: int = 1) -> Demand:
        size = Resources(cpu_nanos=cpus, memory_bytes=memory)
        return Demand(ServiceId(service), size, max_unavailable=budget)

    here = {"x": sized("x", 3, 2), "y": sized("y", 4, 0), "z": sized("z", 0, 4)}
    full = node("a", {**here, **BYSTANDERS, "stays": sized("stays", 1, 2, budget=0)})
    four = Demand(
        URGENT.service_id, Resources(cpu_nanos=4, memory_bytes=4), priority=5, preempts=True
    )
    assert evicted([full], 1, four) == {"y": "urgent1", "z": "urgent1"}


@pytest.mark.parametrize("others", [{}, BYSTANDERS])
@pytest.mark.parametrize(("budget", "expected"), [(1, set()), (2, {"x", "y"})])
def test_two_holders_of_a_port_go_only_if_their_service_can_miss_both(
    others: dict[str, Demand], budget: int, expected: set[str]
) -> None:
    here = {
        id_: runs("s", 0, version=v, ports=(HostPort(80, "tcp", ip),), max_unavailable=budget)
        for v, (id_, ip) in enumerate([("x", "198.18.0.1"), ("y", "198.18.0.2")])
    }
    held = node("a", {**here, **others})
    wanted = Demand(ServiceId("urgent"), ports=(HostPort(80),), priority=5, preempts=True)
    assert set(evicted([held], 1, wanted)) == expected
