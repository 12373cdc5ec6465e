"""What becomes of tasks of a lost node, and which tasks must leave one that is well. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec
import pytest

from cluster.model import (
    Availability,
    ContainerSpec,
    LostNode,
    LostNodePolicy,
    ManagerId,
    Node,
    NodeDescription,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    Placement,
    ServiceId,
    Session,
    SessionId,
    Task,
    TaskId,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from cluster.resources import Resources
from manager.committer import Change
from manager.reconcilers import leaving, lost, nodes
from manager.reconcilers.lost import BURST_SECONDS, STARTS_PER_SECOND, Pace, fence_seconds

REPLACE = LostNode()
FENCE = LostNode(policy=LostNodePolicy.FENCE, seconds=30)
WAIT = LostNode(policy=LostNodePolicy.WAIT, seconds=60)
DOWN = Node(
    id=NodeId("n1"),
    description=NodeDescription(hostname="n1"),
    status=NodeStatus(state=NodeState.DOWN),
    version=7,
)


def task(
    name: str,
    *,
    desired: TaskState = TaskState.RUNNING,
    state: TaskState = TaskState.RUNNING,
    moving: str = "",
) -> Task:
    return Task(
        id=TaskId(name),
        service_id=ServiceId("s"),
        spec_version=1,
        slot=1,
        node_id=NodeId("n1"),
        desired_state=desired,
        status=TaskStatus(state=state),
        moving=moving,
    )


def facts(*tasks: Task, policy: LostNode = REPLACE, **changes: object) -> lost.Facts:
    known = lost.Facts(
        node=DOWN,
        tasks=tasks,
        down_seconds=0.0,
        away_seconds=0.0,
        is_on_record=True,
        policy_of=lambda _: policy,
        priority_of=lambda each: int(each.id[1:]),
        stays=lambda _: False,
        room=100,
        now=1.0,
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def saved(changes: Iterable[Change]) -> list[Task]:
    return [each for change in changes for each in change.save if isinstance(each, Task)]


def given_up(decision: lost.Decision) -> list[str]:
    return [each.id for each in saved(decision.changes)]


def test_a_task_is_replaced_at_once_unless_its_service_says_otherwise() -> None:
    assert given_up(lost.decide(facts(task("t1")))) == ["t1"]
    assert given_up(lost.decide(facts(task("t1"), stays=lambda _: True))) == []


def test_a_node_gets_the_time_to_come_back_that_its_task_waits() -> None:
    early = lost.decide(facts(task("t1"), policy=WAIT, down_seconds=59.0))
    assert (given_up(early), early.look_again_seconds) == ([], 1.0)
    assert given_up(lost.decide(facts(task("t1"), policy=WAIT, down_seconds=60.0))) == ["t1"]


@pytest.mark.parametrize("desired", [TaskState.RUNNING, TaskState.SHUTDOWN, TaskState.REMOVE])
def test_a_fenced_task_is_given_up_only_when_its_host_has_surely_ended_it(
    desired: TaskState,
) -> None:
    enough = fence_seconds(30)
    assert enough > 30 * 7 / 6
    one = task("t1", desired=desired)
    assert given_up(lost.decide(facts(one, policy=FENCE, away_seconds=enough - 0.1))) == []
    unseen = facts(one, policy=FENCE, away_seconds=enough, is_on_record=False)
    assert given_up(lost.decide(unseen)) == []
    decision = lost.decide(facts(one, policy=FENCE, away_seconds=enough))
    assert given_up(decision) == ["t1"]
    assert decision.changes[0].expect == (DOWN,), "nothing is written if its session came back"


def test_what_is_important_goes_first_and_no_more_than_there_is_room_for() -> None:
    tasks = [task(f"t{number}") for number in range(5)]
    decision = lost.decide(facts(*tasks, room=2))
    assert given_up(decision) == ["t4", "t3"]
    assert (decision.given_up, decision.held_up) == (2, 3)


def test_the_pace_is_what_the_nodes_that_are_left_can_start() -> None:
    pace = Pace()
    burst = int(2 * STARTS_PER_SECOND * BURST_SECONDS)
    assert pace.room(2, 0.0) == burst
    pace.take(burst)
    assert pace.room(2, 0.0) == 0
    assert pace.room(2, 1.0) == int(2 * STARTS_PER_SECOND)
    assert pace.room(2, 100.0) == burst


# --- leaving ----------------------------------------------------------------------------------


def spec(cpus: int = 0, *, constraint: str = "") -> TaskSpec:
    return TaskSpec(
        container=ContainerSpec(image="app:1"),
        reservations=Resources(cpu_nanos=cpus),
        placement=Placement(constraints=(constraint,) if constraint else ()),
    )


def who_leaves(
    node: Node, sizes: Mapping[str, int], *, constraint: str = "", marked: str = ""
) -> dict[str, str]:
    tasks = [task(name, moving="so" if name == marked else "") for name in sizes]
    found = leaving.leaving(
        leaving.Facts(
            node=node,
            tasks=tasks,
            spec_of=lambda each: spec(sizes[each.id]),
            held_to=lambda each: spec(sizes[each.id], constraint=constraint),
            priority_of=lambda each: 0 if marked else int(each.id[1:]),
        )
    )
    return {str(key): why for key, why in found.items()}


def node(cpus: int = 10, **changes: object) -> Node:
    return Node(
        id=NodeId("n1"),
        spec=NodeSpec(**changes),  # type: ignore[arg-type]
        description=NodeDescription(hostname="n1", capacity=Resources(cpu_nanos=cpus)),
        status=NodeStatus(state=NodeState.READY),
    )


def test_all_leave_a_node_that_is_drained_and_nobody_one_that_is_well() -> None:
    assert who_leaves(node(), {"t1": 5, "t2": 5}) == {}
    drained = node(availability=Availability.DRAIN)
    assert who_leaves(drained, {"t1": 5}) == {"t1": "node n1 is drained"}


def test_who_breaks_a_rule_that_its_successor_would_be_held_to_leaves() -> None:
    rule = "node.labels.disk == ssd"
    assert who_leaves(node(labels={"disk": "ssd"}), {"t1": 1}, constraint=rule) == {}
    assert who_leaves(node(), {"t1": 1}, constraint=rule) == {
        "t1": f"constraint {rule} does not hold on node n1"
    }
    assert who_leaves(node(reserved_for=("gpu",)), {"t1": 1}) == {
        "t1": "node n1 is reserved for gpu"
    }


def test_the_fewest_of_the_lowest_priority_leave_a_node_that_offers_less() -> None:
    sizes = {"t1": 1, "t2": 4, "t3": 4}
    assert set(who_leaves(node(8), sizes)) == {"t1"}
    assert set(who_leaves(node(5), sizes)) == {"t2"}, "one large instead of two"
    assert set(who_leaves(node(4), sizes)) == {"t1", "t2"}
    assert set(who_leaves(node(task_slots=2), sizes)) <= {"t1", "t2"}
    assert len(who_leaves(node(task_slots=2), sizes)) == 1


def test_a_limit_of_one_version_moves_nobody_of_another() -> None:
    """In a rollout; and what would move would come back, for nothing forbids it."""
    limits = {"t1": 1, "t2": 1, "t3": 0, "t4": 0}

    def held_to(each: Task) -> TaskSpec:
        return msgspec.structs.replace(
            spec(), placement=Placement(max_replicas_per_node=limits[each.id])
        )

    tasks = [task(name) for name in limits]
    found = leaving.leaving(
        leaving.Facts(node(), tasks, lambda _: spec(), held_to, priority_of=lambda _: 0)
    )
    assert list(found) == ["t1"]


def test_who_is_on_its_way_already_is_not_spared_for_another() -> None:
    assert set(who_leaves(node(8), {"t1": 2, "t2": 2, "t3": 6}, marked="t2")) == {"t2"}


def seen(left: float, *, availability: Availability = Availability.DRAIN) -> nodes.Facts:
    """Return what is looked at of a node that is reached, so long before its drain's deadline."""
    return nodes.Facts(
        node=node(availability=availability, drain_deadline_seconds=60.0),
        session=Session(id=SessionId("s"), node_id=NodeId("n1"), manager_id=ManagerId("m")),
        absent_seconds=0.0,
        usual_grace_seconds=3.0,
        grace_seconds=3.0,
        tasks=[task("t1"), task("t2", state=TaskState.NEW)],
        is_global=lambda _: False,
        now=1.0,
        drain_seconds_left=left,
    )


def test_a_drains_deadline_ends_what_is_left_and_is_not_looked_at_again() -> None:
    before = nodes.plan(seen(5.0))
    assert before.look_again_seconds == 5.0
    assert {each.desired_state for each in saved(before.changes)} == {TaskState.RUNNING}

    after = nodes.plan(seen(-0.1))
    assert after.look_again_seconds is None
    assert [(each.id, each.desired_state) for each in saved(after.changes)] == [
        ("t1", TaskState.SHUTDOWN)
    ]
    forgotten = [each for change in after.changes for each in change.drop]
    assert forgotten == [task("t2", state=TaskState.NEW)], "no agent knows of it"
