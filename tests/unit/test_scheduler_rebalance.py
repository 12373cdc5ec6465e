"""What is not worth a move, and which nodes are not emptied."""

from collections.abc import Mapping
from dataclasses import replace

from cluster.constraints import NodeFacts
from cluster.model import NodeId, ServiceId, TaskId
from cluster.resources import Resources
from scheduler import Demand, NodeSnapshot, Snapshot, rebalance

WEB = Demand(ServiceId("web"), Resources(cpu_nanos=1), service="web")
JOB = Demand(ServiceId("job"), Resources(cpu_nanos=1), service="job")
API = Demand(ServiceId("api"), Resources(cpu_nanos=1), service="api")


def node(name: str, tasks: Mapping[str, Demand]) -> NodeSnapshot:
    replicas: dict[ServiceId, int] = {}
    for demand in tasks.values():
        replicas[demand.service_id] = replicas.get(demand.service_id, 0) + 1
    return NodeSnapshot(
        NodeFacts(NodeId(name)),
        capacity=Resources(cpu_nanos=8),
        reserved=Resources(cpu_nanos=len(tasks)),
        replicas=replicas,
        task_count=len(tasks),
        tasks={TaskId(id_): demand for id_, demand in tasks.items()},
    )


FULLER = node("b", {"j1": JOB, "j2": API})


def test_a_node_is_emptied_onto_another_in_use() -> None:
    moves = rebalance(Snapshot.of([node("a", {"w": WEB}), FULLER]), 5)
    assert [(move.task_id, move.source, move.target, move.why) for move in moves] == [
        ("w", "a", "b", "node emptied")
    ]


def test_replicas_that_are_apart_are_not_brought_together_to_empty_a_node() -> None:
    nodes = [node("a", {"w1": WEB}), node("b", {"w2": WEB})]
    assert rebalance(Snapshot.of(nodes), 5) == ()


def test_a_node_with_tasks_of_which_nothing_is_known_is_not_emptied() -> None:
    unknown = replace(node("a", {"w": WEB}), task_count=2)
    assert rebalance(Snapshot.of([unknown, replace(FULLER, task_count=3)]), 5) == ()


def test_of_nodes_that_are_as_badly_off_one_whose_tasks_can_move_is_found() -> None:
    leaving = node("a", dict.fromkeys(("w1", "w2", "w3"), WEB))
    nodes = [
        replace(leaving, leaving=frozenset(leaving.tasks)),
        node("b", dict.fromkeys(("w4", "w5", "w6"), WEB)),
        node("c", {"j1": JOB}),
    ]
    (move,) = rebalance(Snapshot.of(nodes), 1)
    assert (move.task_id, move.source, move.target, move.why) == ("w4", "b", "c", "beyond")
