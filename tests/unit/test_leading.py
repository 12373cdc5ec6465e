"""What the leader brings about, with agents that do as they are told."""

import asyncio
from collections import Counter
from functools import partial
from itertools import pairwise

import msgspec
import pytest

from cluster.lifecycle import live, was_stopped_regardless
from cluster.model import (
    Availability,
    DisruptionBudget,
    NodeId,
    NodeSpec,
    NodeState,
    Placement,
    PublishedPort,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    Task,
    TaskId,
    TaskState,
    TaskStatus,
    UpdateConfig,
    UpdateOrder,
)
from cluster.resources import Resources
from manager.reconcilers.nodes import BEATS_MISSED_MAX, MASS_LOOK_SECONDS, RETURN_SECONDS
from tests.fakes.virtual_time import LoopClock, in_virtual_time
from tests.harness.leading import Behaviour, Leading, leading, obey, service_spec


def with_task(name: str = "web", **changes: object) -> ServiceSpec:
    spec = service_spec(name)
    return msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, **changes))


def with_image(image: str, **changes: object) -> ServiceSpec:
    spec = msgspec.structs.replace(service_spec(), **changes)
    container = msgspec.structs.replace(spec.task.container, image=image)
    return msgspec.structs.replace(
        spec, task=msgspec.structs.replace(spec.task, container=container)
    )


async def three_nodes(core: Leading) -> list[NodeId]:
    nodes = [await core.add_node(f"n{i}") for i in (1, 2, 3)]
    await core.until(
        lambda: all(node.status.state is NodeState.READY for node in core.view.nodes.values())
    )
    return nodes


def slots(tasks: list[Task]) -> list[int]:
    return sorted(task.slot for task in tasks)


@in_virtual_time
async def test_replicas_run_one_in_each_slot_and_scale_both_ways() -> None:
    async with leading() as core:
        await three_nodes(core)
        await core.submit(service_spec(replicas=12))
        await core.until(lambda: len(core.running("web")) == 12)
        assert slots(core.running("web")) == list(range(1, 13))
        assert {task.node_id for task in core.running("web")} == {"n1", "n2", "n3"}

        await core.submit(service_spec(replicas=30))
        await core.until(lambda: len(core.running("web")) == 30)
        before = {task.id for task in core.running("web")}

        await core.submit(service_spec(replicas=5))
        await core.until(lambda: len(core.tasks("web")) == 5)
        assert {task.id for task in core.running("web")} <= before
        assert len({task.node_id for task in core.running("web")}) == 3


@in_virtual_time
async def test_what_is_all_well_is_not_written_again() -> None:
    async with leading() as core:
        await three_nodes(core)
        await core.submit(service_spec(replicas=3))
        await core.until(lambda: len(core.running("web")) == 3)
        await core.until(lambda: bool(core.view.rollouts))  # it has run well
        revision = (await core.store.list("/")).revision
        await core.submit(service_spec(replicas=3))  # one commit: the same, as a new version
        await core.view.reached(revision + 1)
        for _ in range(50):
            await asyncio.sleep(0)
        assert (await core.store.list("/")).revision == revision + 1


@in_virtual_time
async def test_a_failed_task_is_replaced_in_its_slot_and_remembered() -> None:
    async with leading() as core:
        await three_nodes(core)
        await core.submit(service_spec(replicas=2))
        await core.until(lambda: len(core.running("web")) == 2)
        victim = core.running("web")[0]
        failed = msgspec.structs.replace(
            victim, status=TaskStatus(state=TaskState.FAILED, error="exit code 1", exit_code=1)
        )
        await core.write(failed)
        await core.until(lambda: len(core.running("web")) == 2 and len(core.tasks("web")) == 3)
        (successor,) = [t for t in core.running("web") if t.slot == victim.slot]
        assert successor.failures == 1
        assert core.view.tasks[victim.id].status.error == "exit code 1"


@in_virtual_time
async def test_a_crash_loop_is_slowed_down_and_stopped_at_max_attempts() -> None:
    def crash(task: Task) -> TaskStatus | None:
        if task.status.state.finished or task.desired_state is not TaskState.RUNNING:
            return obey(task)
        return TaskStatus(state=TaskState.FAILED, error="exit code 7", exit_code=7)

    async with leading() as core:
        core.behaviour = crash
        await three_nodes(core)
        await core.submit(with_task(restart=RestartPolicy(max_attempts=2)))
        await core.until(lambda: len(core.tasks("web", TaskState.FAILED)) == 3)
        created = [task.created_at for task in core.tasks("web")]
        started = [max(task.created_at, task.start_after) for task in core.tasks("web")]
        assert started[1] - created[0] < 0.5, "the first failure is replaced at once"
        assert started[2] - created[1] >= 0.75, "the second is not"
        assert not [task for task in core.tasks("web") if not task.status.state.finished]


def rejected(task: Task) -> TaskStatus | None:
    """What a host that cannot get the image reports, however long the task has yet to wait."""
    if task.status.state.finished:
        return None
    return TaskStatus(state=TaskState.REJECTED, error="image 'app:1' cannot be had")


def crashed(task: Task) -> TaskStatus | None:
    if task.status.state.finished or task.desired_state is not TaskState.RUNNING:
        return obey(task)
    return TaskStatus(state=TaskState.FAILED, error="exit code 7", exit_code=7)


@pytest.mark.parametrize("behaviour", [rejected, crashed])
@in_virtual_time
async def test_what_never_works_is_tried_less_and_less_often(behaviour: Behaviour) -> None:
    async with leading() as core:
        core.behaviour = behaviour
        await three_nodes(core)
        made: dict[TaskId, float] = {}

        def note(_: object) -> None:
            now = LoopClock().monotonic()
            for task in core.tasks("web"):
                if task.desired_state is TaskState.RUNNING or behaviour is rejected:
                    made.setdefault(task.id, now)

        core.view.subscribe(note)
        await core.submit(service_spec())
        await asyncio.sleep(600)

        times = sorted(made.values())
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert len([at for at in times if at < times[0] + 5]) <= 6
        assert len(times) <= 24
        assert all(40 < gap < 80 for gap in gaps[-4:]), gaps


@pytest.mark.parametrize(
    ("condition", "state", "restarts"),
    [
        (RestartCondition.NONE, TaskState.FAILED, False),
        (RestartCondition.ON_FAILURE, TaskState.COMPLETE, False),
        (RestartCondition.ON_FAILURE, TaskState.REJECTED, True),
        (RestartCondition.ANY, TaskState.COMPLETE, True),
    ],
)
@in_virtual_time
async def test_the_restart_condition_decides(
    condition: RestartCondition, state: TaskState, restarts: bool
) -> None:
    async with leading() as core:
        await three_nodes(core)
        await core.submit(with_task(restart=RestartPolicy(condition=condition)))
        await core.until(lambda: len(core.running("web")) == 1)
        (task,) = core.running("web")
        await core.write(msgspec.structs.replace(task, status=TaskStatus(state=state)))
        marker = service_spec("marker")
        await core.submit(marker)
        await core.until(lambda: len(core.running("marker")) == 1)
        assert bool(core.running("web")) is restarts


@in_virtual_time
async def test_a_lost_node_s_tasks_run_elsewhere_and_are_orphaned() -> None:
    async with leading() as core:
        nodes = await three_nodes(core)
        await core.submit(service_spec(replicas=9))
        await core.until(lambda: len(core.running("web")) == 9)
        lost = [task.id for task in core.running("web") if task.node_id == nodes[0]]
        assert lost
        core.silent.add(nodes[0])
        await core.drop_session(nodes[0])
        await core.until(
            lambda: (
                len([t for t in core.running("web") if t.node_id != nodes[0]]) == 9
                and core.view.nodes[nodes[0]].status.state is NodeState.DOWN
            )
        )
        assert {core.view.tasks[id_].status.state for id_ in lost} == {TaskState.ORPHANED}
        assert slots(core.running("web")) == list(range(1, 10))


@in_virtual_time
async def test_a_short_absence_moves_nothing() -> None:
    async with leading(period=1.0) as core:
        nodes = await three_nodes(core)
        await core.submit(service_spec(replicas=3))
        await core.until(lambda: len(core.running("web")) == 3)
        before = {task.id for task in core.running("web")}
        session = core.view.sessions[nodes[0]]
        await core.drop_session(nodes[0])
        await core.write(msgspec.structs.replace(session, version=0))
        await core.submit(service_spec("marker"))
        await core.until(lambda: len(core.running("marker")) == 1)
        assert {task.id for task in core.running("web")} == before


@in_virtual_time
async def test_drain_moves_what_runs_and_pause_does_not() -> None:
    async with leading() as core:
        nodes = await three_nodes(core)
        await core.submit(service_spec(replicas=6))
        await core.until(lambda: len(core.running("web")) == 6)
        before = {task.id for task in core.running("web")}

        await core.set_node(nodes[0], NodeSpec(availability=Availability.PAUSE))
        await core.submit(service_spec("marker", replicas=4))
        await core.until(lambda: len(core.running("marker")) == 4)
        assert nodes[0] not in {task.node_id for task in core.running("marker")}
        assert {task.id for task in core.running("web")} == before

        await core.set_node(nodes[0], NodeSpec(availability=Availability.DRAIN))
        await core.until(
            lambda: len([t for t in core.running("web") if t.node_id != nodes[0]]) == 6
        )


@in_virtual_time
async def test_a_global_service_follows_the_nodes() -> None:
    async with leading() as core:
        await core.add_node("n1")
        spec = service_spec(mode=ServiceMode.GLOBAL)
        constrained = msgspec.structs.replace(
            spec.task, placement=Placement(constraints=("node.labels.disk != hdd",))
        )
        await core.submit(msgspec.structs.replace(spec, task=constrained))
        await core.until(lambda: len(core.running("web")) == 1)
        n2 = await core.add_node("n2")
        await core.until(lambda: len(core.running("web")) == 2)
        await core.set_node(n2, NodeSpec(labels={"disk": "hdd"}))
        await core.until(lambda: [t.node_id for t in core.running("web")] == ["n1"])
        await core.until(lambda: len(core.tasks("web")) == 1)


@in_virtual_time
async def test_a_node_that_is_down_keeps_its_global_task() -> None:
    async with leading() as core:
        n1 = await core.add_node("n1")
        await core.submit(service_spec(mode=ServiceMode.GLOBAL))
        await core.until(lambda: len(core.running("web")) == 1)
        (task,) = core.running("web")
        core.silent.add(n1)
        await core.drop_session(n1)
        await core.until(lambda: core.view.nodes[n1].status.state is NodeState.DOWN)
        assert [t.id for t in core.running("web")] == [task.id]


@in_virtual_time
async def test_a_new_image_replaces_no_more_at_a_time_than_allowed() -> None:
    async with leading() as core:
        await three_nodes(core)
        await core.submit(service_spec(replicas=6))
        await core.until(lambda: len(core.running("web")) == 6)
        fewest = 6

        def count(_: object) -> None:
            nonlocal fewest
            fewest = min(fewest, len(core.running("web")))

        core.view.subscribe(count)
        await core.submit(with_image("app:2", replicas=6, update=UpdateConfig(parallelism=2)))
        await core.until(lambda: [task.spec_version for task in core.running("web")] == [2] * 6)
        assert fewest == 4
        await core.until(
            lambda: (
                not [
                    t
                    for t in core.tasks("web")
                    if t.spec_version == 1 and not t.status.state.finished
                ]
            )
        )


@in_virtual_time
async def test_a_successor_starts_only_after_its_predecessor_has_stopped() -> None:
    may_stop = asyncio.Event()

    def slow_stop(task: Task) -> TaskStatus | None:
        if task.desired_state >= TaskState.SHUTDOWN and not may_stop.is_set():
            return None
        return obey(task)

    async with leading() as core:
        core.behaviour = slow_stop
        await three_nodes(core)
        await core.submit(service_spec())
        await core.until(lambda: len(core.running("web")) == 1)
        (old,) = core.running("web")
        await core.submit(with_image("app:2"))
        await core.until(lambda: core.view.tasks[old.id].desired_state is TaskState.SHUTDOWN)
        (new,) = core.tasks("web", TaskState.READY)
        assert new.desired_state is TaskState.READY
        may_stop.set()
        await core.submit(service_spec("marker"))  # lets the agents look again
        await core.until(lambda: [t.id for t in core.running("web")] == [new.id])


@in_virtual_time
async def test_a_change_of_placement_or_restart_alone_replaces_nothing() -> None:
    async with leading() as core:
        await three_nodes(core)
        await core.submit(service_spec(replicas=3))
        await core.until(lambda: len(core.running("web")) == 3)
        before = {task.id for task in core.running("web")}
        spec = with_task(
            restart=RestartPolicy(delay_seconds=3),
            placement=Placement(constraints=("node.hostname != n9",)),
        )
        await core.submit(msgspec.structs.replace(spec, replicas=3))
        await core.submit(service_spec("marker"))
        await core.until(lambda: len(core.running("marker")) == 1)
        assert {task.id for task in core.running("web")} == before


@in_virtual_time
async def test_what_does_not_fit_waits_with_its_reason_and_is_placed_when_it_does() -> None:
    async with leading() as core:
        await core.add_node("n1")
        big = with_task(reservations=Resources(memory_bytes=6 << 30))
        await core.submit(msgspec.structs.replace(big, replicas=2))
        await core.until(lambda: len(core.running("web")) == 1)
        await core.until(lambda: len(core.tasks("web", TaskState.PENDING)) == 1)
        (waiting,) = core.tasks("web", TaskState.PENDING)
        assert "short of 4 GiB memory" in waiting.status.error
        await core.add_node("n2")
        await core.until(lambda: len(core.running("web")) == 2)


@in_virtual_time
async def test_a_host_port_is_held_by_one_task_of_a_node() -> None:
    async with leading() as core:
        await three_nodes(core)
        spec = with_task(ports=(PublishedPort(target=80, published=8080),))
        await core.submit(msgspec.structs.replace(spec, replicas=4))
        await core.until(
            lambda: len(core.running("web")) == 3 and len(core.tasks("web", TaskState.PENDING)) == 1
        )
        assert len({task.node_id for task in core.running("web")}) == 3


@in_virtual_time
async def test_a_removed_service_leaves_nothing() -> None:
    async with leading() as core:
        await three_nodes(core)
        spec = with_task(placement=Placement(constraints=("node.hostname == nowhere",)))
        await core.submit(service_spec(replicas=3))
        await core.submit(msgspec.structs.replace(spec, name="stuck"))
        await core.until(lambda: len(core.running("web")) == 3)
        await core.until(lambda: len(core.tasks("stuck", TaskState.PENDING)) == 1)
        await core.remove("web")
        await core.remove("stuck")
        await core.until(lambda: not (core.view.tasks or core.view.versions or core.view.rollouts))


@in_virtual_time
async def test_history_is_kept_within_its_limit() -> None:
    async with leading() as core:
        await three_nodes(core)
        await core.submit(with_task(restart=RestartPolicy()))
        for round_ in range(1, 9):
            await core.until(lambda: len(core.running("web")) == 1)
            (task,) = core.running("web")
            # Long ago made, so that none of these counts as a crash loop.
            aged = msgspec.structs.replace(
                task,
                created_at=task.created_at - 1000 + round_,
                status=TaskStatus(state=TaskState.FAILED, error=f"round {round_}"),
            )
            await core.write(aged)
            await core.until(partial(lambda old: old not in core.running("web"), task))
        await core.until(lambda: len(core.tasks("web")) == 6 and len(core.running("web")) == 1)
        errors = [task.status.error for task in core.tasks("web", TaskState.FAILED)]
        assert errors == [f"round {n}" for n in (4, 5, 6, 7, 8)]


@in_virtual_time
async def test_after_an_outage_of_managers_the_last_to_come_back_has_time_too() -> None:
    async with leading(period=1.0, joined_at=LoopClock().monotonic()) as core:
        nodes = await three_nodes(core)
        sessions = dict(core.view.sessions)
        for node in nodes:
            await core.drop_session(node)
        await asyncio.sleep(1)
        for node in nodes[:2]:
            await core.write(msgspec.structs.replace(sessions[node], version=0))
        await asyncio.sleep(BEATS_MISSED_MAX * 1.0 + 2)
        assert core.view.nodes[nodes[2]].status.state is NodeState.READY
        async with asyncio.timeout(RETURN_SECONDS - BEATS_MISSED_MAX * 1.0):
            await core.until(lambda: core.view.nodes[nodes[2]].status.state is NodeState.DOWN)


@in_virtual_time
async def test_a_node_that_alone_stays_away_has_the_usual_grace() -> None:
    async with leading(period=1.0) as core:
        nodes = await three_nodes(core)
        sessions = dict(core.view.sessions)
        for node in nodes[:2]:
            await core.drop_session(node)
        await asyncio.sleep(1)
        await core.write(msgspec.structs.replace(sessions[nodes[0]], version=0))
        async with asyncio.timeout(BEATS_MISSED_MAX * 1.0 - 1 + 0.1):
            await core.until(lambda: core.view.nodes[nodes[1]].status.state is NodeState.DOWN)


@in_virtual_time
async def test_when_most_nodes_are_away_they_get_longer_to_come_back() -> None:
    async with leading(period=1.0) as core:
        nodes = await three_nodes(core)
        await core.submit(service_spec(replicas=6))
        await core.until(lambda: len(core.running("web")) == 6)
        before = {task.id for task in core.running("web")}
        sessions = dict(core.view.sessions)
        for node in nodes[:2]:
            core.silent.add(node)
            await core.drop_session(node)
        await asyncio.sleep(10)
        assert {task.id for task in core.running("web")} == before
        core.silent.discard(nodes[0])
        await core.write(msgspec.structs.replace(sessions[nodes[0]], version=0))
        async with asyncio.timeout(MASS_LOOK_SECONDS + 0.1):  # it is alone in that now
            await core.until(lambda: core.view.nodes[nodes[1]].status.state is NodeState.DOWN)
        assert core.view.nodes[nodes[0]].status.state is NodeState.READY
        await core.until(lambda: len(core.running("web")) == 6)
        assert nodes[1] not in {task.node_id for task in core.running("web")}


# --- moving -----------------------------------------------------------------------------------


async def least_that_served(core: Leading, order: UpdateOrder, budget: int) -> int:
    """Drain the fullest of three nodes of a service of six; return the fewest that ever served."""
    await three_nodes(core)
    spec = service_spec(
        replicas=6,
        update=UpdateConfig(order=order),
        budget=DisruptionBudget(max_unavailable=budget),
    )
    await core.submit(spec)
    await core.until(lambda: len(core.running("web")) == 6)
    on_node = Counter(task.node_id for task in core.running("web"))
    ((node_id, count),) = on_node.most_common(1)
    assert count >= 2, "two must be able to go at a time"
    served: list[int] = []

    def note(_: object) -> None:
        served.append(len({t.slot for t in core.running("web") if live(t)}))

    unsubscribe = core.view.subscribe(note)
    deadline = 5.0 if order is UpdateOrder.STOP_FIRST and not budget else 0.0
    spec_of_node = NodeSpec(
        availability=Availability.DRAIN,
        drain_asked_at=LoopClock().now(),
        drain_deadline_seconds=deadline,
    )
    began_at = LoopClock().monotonic()
    await core.set_node(node_id, spec_of_node)
    await core.until(
        lambda: len([t for t in core.running("web") if t.node_id != node_id and live(t)]) == 6
    )
    unsubscribe()
    assert LoopClock().monotonic() - began_at >= deadline
    return min(served)


@pytest.mark.parametrize("budget", [1, 2])
@in_virtual_time
async def test_a_drain_takes_no_more_at_a_time_than_the_budget(budget: int) -> None:
    async with leading() as core:
        assert await least_that_served(core, UpdateOrder.STOP_FIRST, budget) >= 6 - budget


@in_virtual_time
async def test_a_start_first_service_is_whole_all_through_a_drain() -> None:
    async with leading() as core:
        assert await least_that_served(core, UpdateOrder.START_FIRST, 0) == 6


@in_virtual_time
async def test_only_a_deadline_takes_what_the_budget_does_not_give() -> None:
    async with leading() as core:
        await least_that_served(core, UpdateOrder.STOP_FIRST, 0)
        ended = [task for task in core.view.tasks.values() if was_stopped_regardless(task)]
        assert len(ended) >= 2


@in_virtual_time
async def test_a_node_without_a_session_gets_no_new_tasks_while_it_has_its_grace() -> None:
    async with leading(period=10.0) as core:
        nodes = await three_nodes(core)
        await core.drop_session(nodes[0])
        await core.submit(service_spec(replicas=6))
        await core.until(lambda: len(core.running("web")) == 6)
        assert core.view.nodes[nodes[0]].status.state is NodeState.READY
        assert nodes[0] not in {task.node_id for task in core.running("web")}
