"""Moves for a better layout: who may be moved, how the leader sees moves through, and when it asks."""

import asyncio
from collections.abc import Hashable
from dataclasses import replace as with_facts

import msgspec
import pytest

from cluster.model import (
    NO_NODE,
    AskedMove,
    Availability,
    Cluster,
    ClusterId,
    ClusterSpec,
    LostNode,
    LostNodePolicy,
    MoveState,
    Node,
    NodeId,
    NodeSpec,
    NodeState,
    NodeStatus,
    Rebalancing,
    Rollout,
    RolloutState,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    Task,
    TaskId,
    TaskState,
    TaskStatus,
    UpdateConfig,
    UpdateOrder,
)
from manager import rebalancing
from manager.reconcilers import unasked
from manager.reconcilers.rebalancing import AT_ONCE_MAX, WAITS_SECONDS_MAX, Facts, plan, said
from scheduler import Move
from tests.fakes.virtual_time import in_virtual_time
from tests.harness.leading import Leading, leading, obey, service_spec

replace = msgspec.structs.replace

A, B = NodeId("a"), NodeId("b")
WEB = ServiceId("id-web")
DAY = 86_400.0


def running(number: int, on: NodeId = A, **changes: object) -> Task:
    task = Task(
        id=TaskId(f"t{number}"),
        service_id=WEB,
        spec_version=1,
        slot=number,
        node_id=on,
        status=TaskStatus(state=TaskState.RUNNING),
        created_at=float(number),
    )
    return replace(task, **changes)


def node(node_id: NodeId, **changes: object) -> Node:
    return replace(Node(id=node_id, status=NodeStatus(state=NodeState.READY)), **changes)


def move(number: int, state: MoveState = MoveState.ASKED, to: NodeId = B) -> AskedMove:
    return AskedMove(task_id=TaskId(f"t{number}"), node_id=to, why="beyond", state=state)


def facts(*moves: AskedMove, tasks: tuple[Task, ...] = (), **changes: object) -> Facts:
    """Return a world in which nothing is in anybody's way."""
    base = Facts(
        cluster=Cluster(id=ClusterId("c"), moves=moves),
        tasks={task.id: task for task in tasks},
        nodes={A: node(A), B: node(B)},
        rollouts={},
        hindrance=lambda _: "",
        heir_of=lambda _: None,
        update_of=lambda _: UpdateConfig(progress_deadline_seconds=600.0),
        stood_seconds=lambda *_: 0.0,
        now=50.0,
    )
    return with_facts(base, **changes)  # type: ignore[arg-type]


def under_way(number: int, to: NodeId = B) -> Task:
    return running(number, moving=said(move(number)), aims_at=to)


def carried_out(given: Facts) -> tuple[Facts, list[Task]]:
    """Return the facts after the plan, and the tasks that it changed."""
    (change,) = plan(given).changes
    record, *tasks = change.save
    assert isinstance(record, Cluster)
    changed = [task for task in tasks if isinstance(task, Task)]
    assert len(changed) == len(tasks)
    after = {**given.tasks, **{task.id: task for task in changed}}
    return with_facts(given, cluster=record, tasks=after), changed


# --- the plan of the leader -----------------------------------------------------------------------


def test_a_move_is_begun_together_with_its_record_and_only_once() -> None:
    given = facts(move(1), tasks=(running(1),))
    after, (task,) = carried_out(given)
    assert (task.moving, task.aims_at) == ("rebalancing: its node has more than its share", B)
    assert [each.state for each in after.cluster.moves] == [MoveState.UNDER_WAY]
    assert plan(after).changes == ()


def test_a_few_are_under_way_at_a_time_and_the_next_follows_one_that_is_done() -> None:
    many = AT_ONCE_MAX + 2
    given = facts(*map(move, range(many)), tasks=tuple(map(running, range(many))))
    after, begun = carried_out(given)
    assert [task.id for task in begun] == [f"t{number}" for number in range(AT_ONCE_MAX)]
    assert plan(after).changes == ()

    gone = replace(after.tasks[TaskId("t1")], desired_state=TaskState.SHUTDOWN)
    after, begun = carried_out(with_facts(after, tasks={**after.tasks, gone.id: gone}))
    assert [task.id for task in begun] == [f"t{AT_ONCE_MAX}"]
    assert TaskId("t1") not in [each.task_id for each in after.cluster.moves]


def test_a_move_whose_task_is_gone_is_done() -> None:
    after, changed = carried_out(facts(move(1), move(2), tasks=(running(2),)))
    assert [each.task_id for each in after.cluster.moves] == ["t2"]
    assert [task.id for task in changed] == ["t2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"hindrance": lambda _: "its service lacks 1 of 3 replicas"},
        {"nodes": {A: node(A), B: node(B, spec=NodeSpec(availability=Availability.PAUSE))}},
        {"nodes": {A: node(A)}},
    ],
)
def test_what_is_in_the_way_is_waited_out_and_then_the_move_is_given_up(
    changes: dict[str, object],
) -> None:
    given = facts(move(1), tasks=(running(1),), **changes)
    first = plan(given)
    assert (first.changes, first.look_again_seconds) == ((), WAITS_SECONDS_MAX)
    given = with_facts(given, stood_seconds=lambda *_: WAITS_SECONDS_MAX)
    after, changed = carried_out(given)
    assert not changed
    (given_up,) = after.cluster.moves
    assert given_up.state is MoveState.GIVEN_UP
    assert given_up.message
    assert given_up.changed_at == given.now
    assert plan(after).changes == ()


def test_what_waits_lets_the_others_begin() -> None:
    given = facts(
        move(1),
        move(2),
        tasks=(running(1), running(2)),
        hindrance=lambda task: "no" if task.slot == 1 else "",
    )
    after, changed = carried_out(given)
    assert [task.id for task in changed] == ["t2"]
    assert [each.state for each in after.cluster.moves] == [MoveState.ASKED, MoveState.UNDER_WAY]


HEIR = running(1, on=B, id=TaskId("heir"), created_at=9.0)


def heir(state: TaskState, error: str = "") -> dict[str, object]:
    found = replace(HEIR, status=TaskStatus(state=state, error=error))
    return {"heir_of": lambda _: found}


ROLLOUT = Rollout(service_id=WEB, spec_version=2, target=2, state=RolloutState.UPDATING)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (heir(TaskState.FAILED, "exit code 1"), "its successor is failed: exit code 1"),
        (heir(TaskState.REJECTED, "no image"), "its successor is rejected: no image"),
        (heir(TaskState.COMPLETE), "its successor is complete"),
        ({"rollouts": {WEB: ROLLOUT}}, "the rollout of its service is updating"),
        (
            {"nodes": {A: node(A), B: node(B, status=NodeStatus(state=NodeState.DOWN))}},
            "node b is down",
        ),
        (
            {"stood_seconds": lambda *_: WAITS_SECONDS_MAX, **heir(TaskState.PENDING, "no room")},
            "its successor is pending since 1m (no room)",
        ),
        (
            {"stood_seconds": lambda *_: 600.0, **heir(TaskState.PREPARING)},
            "its successor is preparing since 10m",
        ),
    ],
)
def test_a_move_that_comes_to_nothing_is_given_up_and_its_task_stays(
    changes: dict[str, object], why: str
) -> None:
    given = facts(move(1, MoveState.UNDER_WAY), tasks=(under_way(1),), **changes)
    after, (task,) = carried_out(given)
    assert (task.moving, task.aims_at) == ("", NO_NODE)
    (given_up,) = after.cluster.moves
    assert (given_up.state, given_up.message) == (MoveState.GIVEN_UP, why)
    assert plan(after).changes == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"stood_seconds": lambda *_: 1e9, **heir(TaskState.RUNNING)},
        {"stood_seconds": lambda *_: WAITS_SECONDS_MAX, **heir(TaskState.PREPARING)},
        {"stood_seconds": lambda *_: WAITS_SECONDS_MAX - 1, **heir(TaskState.READY)},
    ],
)
def test_a_move_that_comes_on_goes_on(changes: dict[str, object]) -> None:
    given = facts(move(1, MoveState.UNDER_WAY), tasks=(under_way(1),), **changes)
    assert plan(given).changes == ()


def test_who_failed_before_the_move_began_was_not_to_take_over() -> None:
    begun = replace(move(1, MoveState.UNDER_WAY), changed_at=HEIR.created_at + 1.0)
    given = facts(begun, tasks=(under_way(1),), **heir(TaskState.REJECTED))
    assert plan(given).changes == ()


def test_a_move_yields_to_a_drain_and_to_whoever_lets_its_task_stay() -> None:
    for moving, aim in (("node a is drained", NO_NODE), ("", NO_NODE)):
        task = replace(under_way(1), moving=moving, aims_at=aim)
        after, changed = carried_out(facts(move(1, MoveState.UNDER_WAY), tasks=(task,)))
        assert not changed
        (given_up,) = after.cluster.moves
        assert given_up.state is MoveState.GIVEN_UP
        assert given_up.message == (moving or "it was told to stay")


def test_each_stage_has_its_own_time() -> None:
    stages: list[Hashable] = []

    def stood_seconds(_: TaskId, stage: Hashable) -> float:
        stages.append(stage)
        return 0.0

    for changes in ({}, heir(TaskState.PENDING), heir(TaskState.READY)):
        given = facts(move(1, MoveState.UNDER_WAY), tasks=(under_way(1),), **changes)
        plan(with_facts(given, stood_seconds=stood_seconds))
    assert len(set(stages)) == 3


# --- who may be moved -----------------------------------------------------------------------------

SERVICE = Service(id=WEB, spec=replace(service_spec(replicas=2), name="web"))


def movable(
    service: Service = SERVICE,
    tasks: tuple[Task, ...] = (running(1), running(2)),
    nodes: tuple[Node, ...] = (node(A), node(B)),
    rollout: Rollout | None = None,
    own: ServiceSpec | None = None,
) -> set[str]:
    given = rebalancing.Facts(
        nodes={each.id: each for each in nodes},
        services={service.id: service},
        rollouts={service.id: rollout} if rollout else {},
        tasks_of=lambda _: tasks,
        spec_of=lambda _: own or service.spec,
    )
    found = rebalancing.movable(given)
    assert found == {task.id for task in tasks if not rebalancing.hindrance(given, task)}
    return set(found)


def test_what_runs_and_is_whole_may_be_moved() -> None:
    assert movable() == {"t1", "t2"}
    settled = replace(ROLLOUT, state=RolloutState.COMPLETED)
    assert movable(rollout=settled) == {"t1", "t2"}


def test_who_may_not_be_moved() -> None:
    spec = SERVICE.spec
    fenced = replace(spec, task=replace(spec.task, lost_node=LostNode(policy=LostNodePolicy.FENCE)))
    assert not movable(replace(SERVICE, spec=replace(spec, mode=ServiceMode.GLOBAL)))
    assert not movable(replace(SERVICE, spec=replace(spec, mode=ServiceMode.REPLICATED_JOB)))
    assert not movable(replace(SERVICE, spec=fenced))
    assert not movable(rollout=ROLLOUT)
    assert not movable(tasks=(running(1),)), "the service lacks one"
    moving = running(2, moving="node a is drained")
    assert movable(tasks=(running(1), moving)) == {"t1"}
    assert not movable(nodes=(node(A, spec=NodeSpec(availability=Availability.PAUSE)), node(B)))
    image = replace(spec.task.container, image="app:2")
    newer = replace(
        SERVICE, spec_version=2, spec=replace(spec, task=replace(spec.task, container=image))
    )
    assert not movable(newer, own=spec)


def test_the_record_holds_so_many_and_keeps_what_was_given_up() -> None:
    stuck = move(7, MoveState.GIVEN_UP)
    before = Cluster(id=ClusterId("c"), moves=(stuck, move(1, MoveState.GIVEN_UP)))
    wanted = [Move(TaskId("t1"), A, B, 1.0, "beyond")]
    after = rebalancing.with_moves(before, wanted, 5.0)
    assert [(each.task_id, each.state) for each in after.moves] == [
        ("t1", MoveState.ASKED),
        ("t7", MoveState.GIVEN_UP),
    ]
    many = [Move(TaskId(f"x{n}"), A, B, 1.0, "beyond") for n in range(rebalancing.MOVES_MAX)]
    assert len(rebalancing.with_moves(after, many, 5.0).moves) == rebalancing.MOVES_MAX


# --- with a leader --------------------------------------------------------------------------------


async def unbalanced(core: Leading, order: UpdateOrder = UpdateOrder.STOP_FIRST) -> None:
    """Make a service whose tasks all ran on two nodes when a third came."""
    for name in ("n1", "n2"):
        await core.add_node(name)
    await core.submit(service_spec(replicas=6, update=UpdateConfig(order=order)))
    await core.until(lambda: len(core.running("web")) == 6)
    await core.add_node("n3")
    await core.until(lambda: bool(core.view.rollouts))
    await core.until(lambda: core.view.nodes[NodeId("n3")].status.state is NodeState.READY)


def counts(core: Leading) -> list[int]:
    on = [task.node_id for task in core.running("web")]
    return sorted(on.count(NodeId(name)) for name in ("n1", "n2", "n3"))


async def ask(core: Leading, **to: str) -> None:
    """Ask for the first tasks of nodes to be moved to others."""
    moves: list[AskedMove] = []
    for source, target in to.items():
        first = next(task for task in core.running("web") if task.node_id == source)
        moves.append(AskedMove(task_id=first.id, node_id=NodeId(target), why="beyond"))
    cluster = core.view.cluster
    assert cluster is not None
    await core.write(replace(cluster, moves=tuple(moves)))


def moves_left(core: Leading) -> tuple[AskedMove, ...]:
    assert core.view.cluster is not None
    return core.view.cluster.moves


@in_virtual_time
async def test_what_was_asked_for_is_done_where_it_was_asked_for() -> None:
    for order in UpdateOrder:
        async with leading() as core:
            await unbalanced(core, order)
            least = 6

            def watch(_: object, core: Leading = core) -> None:
                nonlocal least
                least = min(least, len(core.running("web")))

            core.view.subscribe(watch)
            await ask(core, n1="n3", n2="n3")
            await core.until(lambda core=core: not moves_left(core))  # type: ignore[misc]
            await core.until(lambda core=core: counts(core) == [2, 2, 2])  # type: ignore[misc]
            assert least >= (6 if order is UpdateOrder.START_FIRST else 5)


@in_virtual_time
async def test_a_move_whose_successor_fails_is_given_up_and_nothing_flaps() -> None:
    def behaviour(task: Task) -> TaskStatus | None:
        if task.node_id == "n3" and not task.status.state.finished:
            return TaskStatus(state=TaskState.FAILED, error="exit code 1")
        return obey(task)

    async with leading() as core:
        await unbalanced(core, UpdateOrder.START_FIRST)
        core.behaviour = behaviour
        before = {task.id for task in core.running("web")}
        await ask(core, n1="n3")
        await core.until(lambda: any(m.state is MoveState.GIVEN_UP for m in moves_left(core)))
        revision = core.view.revision
        await core.until(lambda: not any(task.moving for task in core.tasks("web")))
        assert "exit code 1" in moves_left(core)[0].message
        assert {task.id for task in core.running("web")} == before
        failed = [task for task in core.tasks("web") if task.status.state is TaskState.FAILED]
        assert len(failed) == 1
        assert core.view.revision - revision < 5


@in_virtual_time
async def test_a_successor_that_finds_no_room_goes_when_its_move_is_given_up() -> None:
    async with leading() as core:
        await unbalanced(core)
        await core.set_node(NodeId("n3"), NodeSpec(task_slots=1))
        await core.submit(service_spec("other"))
        await core.until(lambda: len(core.running("other")) == 1)
        assert core.running("other")[0].node_id == "n3"
        before = {task.id for task in core.running("web")}
        await ask(core, n1="n3")
        await core.until(lambda: len(core.tasks("web")) == 7)
        await core.until(lambda: any(m.state is MoveState.GIVEN_UP for m in moves_left(core)))
        await core.until(lambda: len(core.tasks("web")) == 6)
        assert {task.id for task in core.running("web")} == before
        assert "task slot" in moves_left(core)[0].message


async def automatic(core: Leading, **changes: object) -> None:
    cluster = core.view.cluster
    assert cluster is not None
    wanted = replace(Rebalancing(automatic=True, rest_seconds=60.0), **changes)
    await core.write(replace(cluster, spec=replace(cluster.spec, rebalancing=wanted)))


@in_virtual_time
async def test_unasked_it_evens_out_what_has_become_uneven_and_then_rests() -> None:
    async with leading() as core:
        await unbalanced(core)
        await automatic(core)
        await core.until(lambda: counts(core) == [2, 2, 2])
        await core.until(lambda: not moves_left(core))
        settled = {task.id for task in core.running("web")}
        await asyncio.sleep(3 * unasked.LOOK_SECONDS)
        assert {task.id for task in core.running("web")} == settled


# --- when it asks itself --------------------------------------------------------------------------


def test_it_is_off_unless_it_is_told_to_and_keeps_to_its_hours() -> None:
    cluster = Cluster(id=ClusterId("c"))
    assert not unasked.is_time(cluster, 0.0)
    nightly = Rebalancing(automatic=True, hours="22:00-06:00", time_zone="Europe/Vienna")
    cluster = replace(cluster, spec=ClusterSpec(rebalancing=nightly))
    winter = 20_000 * DAY  # a midnight in UTC, in October 2024: Vienna is two hours ahead
    assert unasked.is_time(cluster, winter)
    assert unasked.is_time(cluster, winter + 3.99 * 3600)
    assert not unasked.is_time(cluster, winter + 4 * 3600)
    assert not unasked.is_time(cluster, winter + 19.99 * 3600)
    assert unasked.is_time(cluster, winter + 20 * 3600)


def test_who_began_or_could_not_be_moved_a_short_while_ago_rests() -> None:
    cluster = Cluster(
        id=ClusterId("c"),
        spec=ClusterSpec(rebalancing=Rebalancing(rest_seconds=100.0)),
        moves=(
            replace(move(1, MoveState.GIVEN_UP), changed_at=950.0),
            replace(move(2, MoveState.GIVEN_UP), changed_at=850.0),
        ),
    )
    tasks = {
        task.id: task
        for task in (
            running(1, created_at=10.0),
            running(2, created_at=10.0),
            running(3, created_at=901.0),
            running(4, created_at=899.0),
            running(5, created_at=5000.0),  # made by a manager whose clock is ahead
        )
    }
    assert unasked.resting(cluster, tasks, 1000.0) == {"t1", "t3", "t5"}
