"""Rollouts as the leader brings them about, with nodes that have room, ports and bad days."""

import asyncio
from typing import Any

import msgspec
import pytest

from cluster import lifecycle
from cluster.model import (
    Availability,
    FailureAction,
    NodeId,
    NodeSpec,
    Placement,
    PublishedPort,
    RestartCondition,
    RestartPolicy,
    Rollout,
    RolloutState,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    Task,
    TaskState,
    TaskStatus,
    UpdateConfig,
    UpdateOrder,
)
from cluster.resources import Resources
from manager import records
from manager.store.interface import Unchanged
from manager.view import Batch
from tests.fakes.virtual_time import LoopClock, in_virtual_time
from tests.harness.leading import Behaviour, Leading, leading, obey, service_spec

replace = msgspec.structs.replace
WEB = ServiceId("id-web")
QUICK = UpdateConfig(monitor_seconds=0.5)
BACK = replace(QUICK, failure_action=FailureAction.ROLLBACK)
START_FIRST = replace(QUICK, order=UpdateOrder.START_FIRST)


def web(image: str = "app:1", update: UpdateConfig = QUICK, **task: Any) -> ServiceSpec:
    """Return a service of three; fields of the template by name, ``replicas`` beside them."""
    fields: dict[str, Any] = {"replicas": 3, "update": update, "rollback": QUICK}
    fields |= {name: task.pop(name) for name in ("replicas", "mode") if name in task}
    spec = service_spec(**fields)
    container = replace(spec.task.container, image=image)
    return replace(spec, task=replace(spec.task, container=container, **task))


def image_of(core: Leading, task: Task) -> str:
    version = core.view.version_of(task)
    assert version is not None
    return version.spec.task.container.image


def images(core: Leading) -> list[str]:
    return sorted(image_of(core, task) for task in core.running("web"))


def rollout(core: Leading) -> Rollout:
    return core.view.rollouts.get(WEB) or Rollout(service_id=WEB, state=RolloutState.UPDATING)


def bad(core: Leading, image: str, report: TaskStatus, *, prepares: bool = True) -> Behaviour:
    """Return agents on which *image* comes to *report*, from its start or before."""

    def behave(task: Task) -> TaskStatus | None:
        starts = task.desired_state is TaskState.RUNNING or not prepares
        is_wanted = task.desired_state <= TaskState.RUNNING
        if not (is_wanted and starts and image_of(core, task) == image):
            return obey(task)
        is_news = task.status.state < report.state
        return replace(report, at=LoopClock().now()) if is_news else None

    return behave


CRASH = TaskStatus(state=TaskState.FAILED, error="exit code 7", exit_code=7)
NO_IMAGE = TaskStatus(state=TaskState.REJECTED, error="image 'app:2' cannot be had")
HANG = TaskStatus(state=TaskState.PREPARING, message="pulling")


async def settled(core: Leading, state: RolloutState, number: int) -> Rollout:
    await core.until(lambda: rollout(core).state is state and rollout(core).spec_version == number)
    return rollout(core)


async def up(core: Leading, spec: ServiceSpec, nodes: int = 3) -> None:
    """Run the first version until it has run well."""
    for i in range(1, nodes + 1):
        await core.add_node(f"n{i}")
    await core.submit(spec)
    assert (await settled(core, RolloutState.COMPLETED, 1)).healthy == (1,)


@in_virtual_time
async def test_an_update_goes_through_and_is_remembered_as_good() -> None:
    async with leading() as core:
        await up(core, web())
        await core.submit(web("app:2"))
        done = await settled(core, RolloutState.COMPLETED, 2)
        assert images(core) == ["app:2"] * 3
        assert done.healthy == (1, 2)


@pytest.mark.parametrize("ending", [1, 2])
@in_virtual_time
async def test_places_whose_tasks_have_ended_for_good_hold_nobody_up(ending: int) -> None:
    """They end well while another place waits for its turn: nobody runs there, and none is missed."""
    async with leading() as core:
        await up(core, web(restart=RestartPolicy(condition=RestartCondition.ON_FAILURE)))

        ended: set[int] = set()

        def some_end(task: Task) -> TaskStatus | None:
            of_new = {each.slot for each in core.tasks("web") if image_of(core, each) == "app:2"}
            is_idle = task.status.state is TaskState.RUNNING and task.slot not in of_new
            if of_new and is_idle and len(ended) < ending:
                ended.add(task.slot)
            if task.slot in ended and image_of(core, task) == "app:1" and is_idle:
                return TaskStatus(state=TaskState.COMPLETE, at=LoopClock().now(), exit_code=0)
            return obey(task)

        core.behaviour = some_end
        new = web("app:2", restart=RestartPolicy(condition=RestartCondition.ON_FAILURE))
        await core.submit(new)
        await settled(core, RolloutState.COMPLETED, 2)
        assert core.tasks("web", TaskState.COMPLETE)


@pytest.mark.parametrize("order", UpdateOrder)
@pytest.mark.parametrize(("report", "prepares"), [(CRASH, True), (NO_IMAGE, False)])
@in_virtual_time
async def test_a_bad_version_is_rolled_back_to_the_last_that_ran_well(
    order: UpdateOrder, report: TaskStatus, *, prepares: bool
) -> None:
    async with leading() as core:
        await up(core, web())
        core.behaviour = bad(core, "app:2", report, prepares=prepares)
        fewest = 3

        def count(_: object) -> None:
            nonlocal fewest
            fewest = min(fewest, images(core).count("app:1"))

        core.view.subscribe(count)
        await core.submit(web("app:2", replace(BACK, order=order)))
        done = await settled(core, RolloutState.ROLLED_BACK, 2)
        assert done.target == 1
        assert report.error in done.message
        assert "rolled back to version 1" in done.message
        assert images(core) == ["app:1"] * 3
        serves_on = order is UpdateOrder.START_FIRST or report is NO_IMAGE
        assert fewest == (3 if serves_on else 2), "one at a time, and none for a missing image"

        await core.submit(web("app:2", BACK, replicas=5))
        await core.until(lambda: images(core) == ["app:1"] * 5)  # scaled, and still the good one
        await core.submit(web("app:3", BACK, replicas=5))
        await settled(core, RolloutState.COMPLETED, 4)
        assert images(core) == ["app:3"] * 5


@in_virtual_time
async def test_a_successor_that_is_overtaken_is_gone_before_the_next_is_made() -> None:
    async with leading() as core:
        await up(core, web(replicas=1), nodes=1)
        core.behaviour = bad(core, "app:2", HANG, prepares=False)
        await core.submit(web("app:2", replicas=1))
        await core.until(lambda: bool(core.tasks("web", TaskState.PREPARING)))
        most = 0

        def look(batch: Batch) -> None:
            nonlocal most
            most = max(most, sum(map(lifecycle.live, core.tasks("web"))))
            if any(isinstance(change.new, Service) for change in batch.changes):
                # News of it that the leader has not heard when it decides that it is to go.
                (hangs,) = core.tasks("web", TaskState.PREPARING)
                news = replace(hangs, status=replace(hangs.status, message="pulled a layer"))
                guard = Unchanged(records.key_of(hangs), hangs.version)
                core.state.commit([guard], [records.put(news)])

        core.view.subscribe(look)
        await core.submit(web("app:3", replicas=1))
        await settled(core, RolloutState.COMPLETED, 3)
        assert images(core) == ["app:3"]
        assert most == 2, "who serves, and one who waits"


@in_virtual_time
async def test_the_last_good_version_is_not_simply_the_one_before() -> None:
    async with leading() as core:
        await up(core, web())
        core.behaviour = bad(core, "app:2", CRASH)
        await core.submit(web("app:2"))
        await settled(core, RolloutState.PAUSED, 2)
        core.behaviour = bad(core, "app:3", CRASH)
        await core.submit(web("app:3", BACK))
        done = await settled(core, RolloutState.ROLLED_BACK, 3)
        assert done.target == 1
        assert images(core) == ["app:1"] * 3


@in_virtual_time
async def test_a_paused_update_keeps_what_runs_and_goes_on_when_told() -> None:
    async with leading() as core:
        await up(core, web())
        core.behaviour = bad(core, "app:2", CRASH)
        await core.submit(web("app:2"))
        paused = await settled(core, RolloutState.PAUSED, 2)
        assert "failed in 1 of 3 places" in paused.message
        await core.until(lambda: images(core) == ["app:1"] * 3)  # where it failed, too
        core.behaviour = obey
        service = core.view.services[WEB]
        await core.write(replace(service, resumed_at=service.resumed_at + 1))
        await settled(core, RolloutState.COMPLETED, 2)
        assert images(core) == ["app:2"] * 3


@in_virtual_time
async def test_a_task_that_comes_no_further_fails_at_the_deadline() -> None:
    async with leading() as core:
        await up(core, web())
        core.behaviour = bad(core, "app:2", HANG, prepares=False)
        await core.submit(web("app:2", replace(BACK, progress_deadline_seconds=30.0)))
        done = await settled(core, RolloutState.ROLLED_BACK, 2)
        assert "still preparing after 30s" in done.message
        assert images(core) == ["app:1"] * 3


@pytest.mark.parametrize(
    ("replicas", "canary", "end"),
    [(3, 0, RolloutState.COMPLETED), (4, 1, RolloutState.CANARY)],
)
@in_virtual_time
async def test_tasks_that_have_ended_for_good_do_not_keep_an_update_from_going_on(
    replicas: int, canary: int, end: RolloutState
) -> None:
    update = replace(QUICK, canary=canary)
    once: dict[str, Any] = {
        "restart": RestartPolicy(condition=RestartCondition.ON_FAILURE),
        "replicas": replicas,
    }
    async with leading() as core:
        await up(core, web(update=update, **once), nodes=4)
        core.behaviour = bad(core, "app:2", HANG, prepares=False)
        await core.submit(web("app:2", update, **once))
        await core.until(lambda: bool(core.tasks("web", TaskState.PREPARING)))
        (successor,) = core.tasks("web", TaskState.PREPARING)
        for task in [task for task in core.running("web") if task.slot != successor.slot][:2]:
            done = TaskStatus(state=TaskState.COMPLETE, exit_code=0)
            await core.write(replace(task, status=done))
        core.behaviour = obey
        await settled(core, end, 2)
        assert images(core).count("app:2") == (canary or replicas)


@in_virtual_time
async def test_start_first_a_new_version_that_ends_well_supersedes_the_old() -> None:
    once: dict[str, Any] = {"restart": RestartPolicy(condition=RestartCondition.ON_FAILURE)}
    done = TaskStatus(state=TaskState.COMPLETE, exit_code=0)
    async with leading() as core:
        await up(core, web(**once))
        core.behaviour = bad(core, "app:2", done)
        await core.submit(web("app:2", START_FIRST, **once))
        await settled(core, RolloutState.COMPLETED, 2)
        await core.until(lambda: not core.running("web"))


@in_virtual_time
async def test_a_template_that_fits_nowhere_stops_nothing() -> None:
    async with leading() as core:
        await up(core, web())
        before = {task.id for task in core.running("web")}
        huge = web("app:2", replace(QUICK, progress_deadline_seconds=30.0))
        reservations = Resources(memory_bytes=64 << 30)
        await core.submit(replace(huge, task=replace(huge.task, reservations=reservations)))
        paused = await settled(core, RolloutState.PAUSED, 2)
        assert "short of 56 GiB memory" in paused.message
        assert {task.id for task in core.running("web")} == before
        await core.until(lambda: not core.tasks("web", TaskState.PENDING))  # it is withdrawn


PORT: dict[str, Any] = {"ports": (PublishedPort(target=80, published=8080),)}
ONE_PER_NODE = {"placement": Placement(max_replicas_per_node=1)}
ROOM = {"reservations": Resources(memory_bytes=6 << 30)}


@pytest.mark.parametrize("mode", [ServiceMode.REPLICATED, ServiceMode.GLOBAL])
@pytest.mark.parametrize("needs", [PORT, ONE_PER_NODE, ROOM], ids=["port", "limit", "room"])
@in_virtual_time
async def test_start_first_stops_first_where_the_old_task_is_in_the_way(
    needs: dict[str, Any], mode: ServiceMode
) -> None:
    async with leading() as core:
        await up(core, web(mode=mode, **needs))
        notes: list[str] = []
        fewest = 3

        def look(_: object) -> None:
            nonlocal fewest
            fewest = min(fewest, len(core.running("web")))
            notes.append(rollout(core).message)

        core.view.subscribe(look)
        await core.submit(web("app:2", START_FIRST, mode=mode, **needs))
        await settled(core, RolloutState.COMPLETED, 2)
        assert images(core) == ["app:2"] * 3
        assert fewest == 2, "one at a time"
        told = [note for note in notes if "stop-first where" in note]
        assert told
        assert any(word in told[0] for word in ("8080", "limit of 1", "short of"))


@in_virtual_time
async def test_start_first_never_has_fewer_running_and_one_more_at_most() -> None:
    async with leading() as core:
        await up(core, web())
        counts: set[int] = set()
        core.view.subscribe(lambda _: counts.add(len(core.running("web"))))
        await core.submit(web("app:2", START_FIRST))
        await settled(core, RolloutState.COMPLETED, 2)
        assert counts == {3, 4}


@in_virtual_time
async def test_a_new_spec_takes_over_from_any_mix_of_versions() -> None:
    async with leading() as core:
        await up(core, web())
        await core.submit(web("app:2", replace(START_FIRST, delay_seconds=60.0)))
        await core.until(lambda: images(core) == ["app:1", "app:1", "app:2"])
        await core.submit(web("app:3"))
        await settled(core, RolloutState.COMPLETED, 3)
        assert images(core) == ["app:3"] * 3
        await core.submit(web("app:4", replace(START_FIRST, delay_seconds=60.0)))
        await core.until(lambda: images(core) == ["app:3", "app:3", "app:4"])
        kept = {task.id for task in core.running("web") if image_of(core, task) == "app:3"}
        await core.submit(web("app:3"))  # back: what still runs it is left alone
        await settled(core, RolloutState.COMPLETED, 5)
        assert images(core) == ["app:3"] * 3
        assert kept <= {task.id for task in core.running("web")}


@in_virtual_time
async def test_a_canary_waits_and_promotes_itself_after_a_while() -> None:
    async with leading() as core:
        await up(core, web())
        asked_at = LoopClock().monotonic()
        await core.submit(web("app:2", replace(QUICK, canary=1, promote_after_seconds=40.0)))
        waits = await settled(core, RolloutState.CANARY, 2)
        assert "1 of 3 places run version 2" in waits.message
        assert "after 40s" in waits.message
        assert images(core) == ["app:1", "app:1", "app:2"]
        await settled(core, RolloutState.COMPLETED, 2)
        assert LoopClock().monotonic() - asked_at >= 40.0
        assert images(core) == ["app:2"] * 3


@in_virtual_time
async def test_a_canary_that_has_ended_well_promotes_itself_as_if_it_ran_on() -> None:
    once: dict[str, Any] = {"restart": RestartPolicy(condition=RestartCondition.ON_FAILURE)}
    async with leading() as core:
        await up(core, web(**once))
        asked_at = LoopClock().monotonic()
        update = replace(QUICK, canary=1, promote_after_seconds=40.0)
        await core.submit(web("app:2", update, **once))
        await settled(core, RolloutState.CANARY, 2)
        (canary,) = (task for task in core.running("web") if image_of(core, task) == "app:2")
        done = TaskStatus(state=TaskState.COMPLETE, at=LoopClock().now(), exit_code=0)
        await core.write(replace(canary, status=done))
        await settled(core, RolloutState.COMPLETED, 2)
        assert 40.0 <= LoopClock().monotonic() - asked_at < 50.0
        assert images(core) == ["app:2"] * 2, "who has done its work does not do it again"


@in_virtual_time
async def test_what_has_not_had_its_turn_is_replaced_by_the_policy_of_its_own_version() -> None:
    """The new one's says that who ends well is done; the old one's, that it is to run on."""
    once = RestartPolicy(condition=RestartCondition.ON_FAILURE)
    async with leading() as core:
        await up(core, web())
        await core.submit(web("app:2", replace(QUICK, canary=1), restart=once))
        await settled(core, RolloutState.CANARY, 2)
        old = next(task for task in core.running("web") if image_of(core, task) == "app:1")
        done = TaskStatus(state=TaskState.COMPLETE, at=LoopClock().now(), exit_code=0)
        await core.write(replace(old, status=done))
        await core.until(lambda: bool(core.tasks("web", TaskState.COMPLETE)))
        await core.until(lambda: images(core) == ["app:1", "app:1", "app:2"])


@pytest.mark.parametrize("moves", [False, True], ids=["update", "drain"])
@in_virtual_time
async def test_who_is_only_prepared_gives_way_to_a_place_that_has_nobody(*, moves: bool) -> None:
    """Else each waits for the other: as many are missing as may be, and the last room is taken."""
    async with leading() as core:
        await up(core, web(**PORT))
        spare = await core.add_node("n4")
        core.agents_take_seconds = 5.0  # so that one can be lost before the next makes room
        if moves:
            await core.set_node(NodeId("n1"), NodeSpec(availability=Availability.DRAIN))
        else:
            await core.submit(web("app:2", **PORT))
        await core.until(lambda: bool(core.tasks("web", TaskState.ASSIGNED)))
        (prepared,) = core.tasks("web", TaskState.ASSIGNED)
        assert prepared.node_id == spare
        lost = next(task for task in core.running("web") if task.slot != prepared.slot)
        others = {task.id for task in core.running("web")} - {lost.id}
        core.silent.add(lost.node_id)
        await core.drop_session(lost.node_id)
        await core.until(lambda: lost.slot in {task.slot for task in on(core, spare)})
        assert others <= {task.id for task in core.running("web")}


def on(core: Leading, node_id: NodeId) -> list[Task]:
    return [task for task in core.running("web") if task.node_id == node_id]


@in_virtual_time
async def test_a_canary_that_was_promoted_is_an_update_like_any_other() -> None:
    async with leading() as core:
        await up(core, web())
        await core.submit(web("app:2", replace(QUICK, canary=1, delay_seconds=60.0)))
        await settled(core, RolloutState.CANARY, 2)
        states: list[RolloutState] = []
        core.view.subscribe(lambda _: states.append(rollout(core).state))
        await core.write(replace(core.view.services[WEB], promoted_version=2))
        await settled(core, RolloutState.COMPLETED, 2)
        assert [*dict.fromkeys(states)] == [
            RolloutState.CANARY,
            RolloutState.UPDATING,
            RolloutState.COMPLETED,
        ]
        assert images(core) == ["app:2"] * 3


@in_virtual_time
async def test_a_canary_that_fails_while_it_waits_is_taken_back() -> None:
    async with leading() as core:
        await up(core, web())
        await core.submit(web("app:2", replace(BACK, canary=1)))
        await settled(core, RolloutState.CANARY, 2)
        (canary,) = (task for task in core.running("web") if image_of(core, task) == "app:2")
        await core.write(replace(canary, status=replace(CRASH, at=LoopClock().now())))
        done = await settled(core, RolloutState.ROLLED_BACK, 2)
        assert "exit code 7" in done.message
        assert images(core) == ["app:1"] * 3


@in_virtual_time
async def test_the_last_good_task_goes_only_once_the_new_version_has_proved_itself() -> None:
    async with leading() as core:
        await up(core, web(replicas=2))
        core.behaviour = bad(core, "app:2", CRASH)

        def late(task: Task) -> TaskStatus | None:
            """Crash, but only three seconds after it ran."""
            runs = task.status.state is TaskState.RUNNING and image_of(core, task) == "app:2"
            if runs and LoopClock().now() - task.status.at > 3.0:
                return replace(CRASH, at=LoopClock().now())
            return obey(task)

        core.behaviour = late
        fewest = 2

        def count(_: object) -> None:
            nonlocal fewest
            fewest = min(fewest, images(core).count("app:1"))

        core.view.subscribe(count)
        await core.submit(web("app:2", UpdateConfig(monitor_seconds=5.0), replicas=2))
        await core.until(lambda: images(core) == ["app:1", "app:2"])
        for i in range(6):  # lets the agents look again
            await core.submit(service_spec(f"marker{i}"))
            await core.until(lambda i=i: len(core.running(f"marker{i}")) == 1)  # type: ignore[misc]
            await asyncio.sleep(1.0)
        await settled(core, RolloutState.PAUSED, 2)
        assert fewest == 1
