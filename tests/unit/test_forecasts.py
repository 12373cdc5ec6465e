"""Plans that are carried out or refused, and what a forecast says of what does not fit."""

from collections.abc import Awaitable

import msgspec
import pytest

from cluster.errors import ConflictError, InvalidError, NotFoundError
from cluster.model import (
    Availability,
    ClusterId,
    ContainerSpec,
    Dependency,
    DependencyCondition,
    FailureAction,
    JobSpec,
    PublishedPort,
    Schedule,
    ServiceMode,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
    UpdateConfig,
)
from cluster.resources import Resources
from manager.control.nodes import NodeChange
from manager.control.rollouts import RolloutAction
from manager.forecast.desk import Forecast, Trial
from manager.forecast.outcome import Effect, PlannedTask
from tests.fakes.virtual_time import in_virtual_time
from tests.harness.foretelling import Desk, pin_of, with_nodes
from tests.harness.leading import leading, obey

replace = msgspec.structs.replace
DRAIN = NodeChange(availability=Availability.DRAIN)


def web(replicas: int = 1, image: str = "a:1", cpus: int = 1) -> ServiceSpec:
    return ServiceSpec(
        name="s_web",
        stack="s",
        replicas=replicas,
        task=TaskSpec(
            container=ContainerSpec(image=image), reservations=Resources(cpu_nanos=cpus * 10**9)
        ),
    )


async def planned(desk: Desk, spec: ServiceSpec) -> Forecast:
    async def deploy(trial: Trial) -> object:
        return await trial.stacks.deploy("s", [spec], prune=True)

    return await desk.foretold(deploy)


async def deploy(desk: Desk, spec: ServiceSpec, forecast: Forecast) -> None:
    await desk.pinned.deploy("s", [spec], prune=True, pinned=pin_of(forecast))


@in_virtual_time
async def test_what_is_as_asked_for_has_nothing_to_do() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a")])
        await desk.stacks.deploy("s", [web()], prune=True)
        await desk.calm()
        assert (await planned(desk, web())).outcome.is_empty


@in_virtual_time
async def test_what_will_not_fit_is_told_with_the_reason_and_the_rest_still_is() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(2, "a")])
        found = (await planned(desk, web(3))).outcome
        assert [each.effect for each in found.tasks] == [Effect.CREATE, Effect.CREATE, Effect.WAIT]
        assert found.tasks[2].why == "no node fits; 1 node: short of 1 CPU"


@in_virtual_time
async def test_who_has_to_wait_for_others_to_leave_is_counted() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(2, "a")])
        await desk.stacks.deploy("s", [web(2)], prune=True)
        await desk.calm()
        other = replace(web(1), name="s_other")

        async def swap(trial: Trial) -> object:
            return await trial.stacks.deploy("s", [other], prune=True)

        found = (await desk.foretold(swap)).outcome
        assert [each.effect for each in found.tasks] == [Effect.CREATE, *[Effect.REMOVE] * 2]
        assert found.awaiting_room == 1


@in_virtual_time
async def test_what_stays_is_counted_and_what_moves_says_whence() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a"), (4, "a")])
        await desk.stacks.deploy("s", [web(2)], prune=True)
        await desk.calm()
        (there, *_) = [task.node_id for task in core.view.tasks.values()]
        found = (await desk.foretold(lambda trial: trial.nodes.update(there, DRAIN))).outcome
        other = "n1" if there == "n0" else "n0"
        moved = [task for task in found.tasks if task.effect is Effect.MOVE]
        assert {(task.from_node, task.to_node) for task in moved} == {(there, other)}
        assert found.tasks_kept == 2 - len(moved)
        assert [(each.hostname, each.effect) for each in found.nodes] == [(there, Effect.UPDATE)]


@in_virtual_time
async def test_a_plan_is_refused_once_its_service_has_changed() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a")])
        await desk.stacks.deploy("s", [web()], prune=True)
        await desk.calm()
        forecast = await planned(desk, web(2))
        await desk.services.scale({"s_web": 3})
        with pytest.raises(ConflictError, match="service 's_web' has changed"):
            await deploy(desk, web(2), forecast)
        assert core.view.service_by_name("s_web").spec.replicas == 3  # type: ignore[union-attr]


@in_virtual_time
async def test_a_plan_is_refused_once_a_node_of_it_is_drained() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a"), (4, "a")])
        forecast = await planned(desk, web())
        (task,) = forecast.outcome.tasks
        await desk.nodes.update(task.to_node, DRAIN)
        await desk.calm()
        with pytest.raises(ConflictError) as refused:
            await deploy(desk, web(), forecast)
        other = "n1" if task.to_node == "n0" else "n0"
        assert f"s_web.1 was to create to {task.to_node}, now it would create to {other}" in str(
            refused.value
        )
        assert f"node '{task.to_node}' is set to drain" in str(refused.value)
        assert core.view.service_by_name("s_web") is None


@in_virtual_time
async def test_a_plan_does_not_care_what_else_has_changed() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a")])
        forecast = await planned(desk, web())
        await desk.nodes.update("n0", NodeChange(set_labels={"note": "x"}))
        await desk.stacks.deploy("t", [replace(web(), name="t_web", stack="t")], prune=True)
        await desk.calm()
        await deploy(desk, web(), forecast)
        service = core.view.service_by_name("s_web")
        assert service is not None
        assert service.id == forecast.outcome.services[0].service_id


@in_virtual_time
async def test_a_plan_is_carried_out_once() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a")])
        forecast = await planned(desk, web())
        await deploy(desk, web(), forecast)
        with pytest.raises(ConflictError, match="is there already"):
            await deploy(desk, web(), forecast)


@in_virtual_time
async def test_who_waits_already_and_comes_when_others_leave_is_counted_too() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(1, "a")])
        waits = replace(web(1), name="s_y")
        await desk.stacks.deploy("s", [web(1), waits], prune=True)
        await desk.calm()

        async def leave_one(trial: Trial) -> object:
            return await trial.stacks.deploy("s", [waits], prune=True)

        found = (await desk.foretold(leave_one)).outcome
        assert {each.effect for each in found.tasks} == {Effect.CREATE, Effect.REMOVE}
        assert found.awaiting_room == 1


@in_virtual_time
async def test_another_outcome_than_the_one_shown_is_never_carried_out() -> None:
    """Whatever the client claims was shown: a changed plan is no plan."""
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a")])
        forecast = await planned(desk, web())
        forged = PlannedTask(Effect.CREATE, "s_web", 1, "", "elsewhere")
        with pytest.raises(ConflictError, match="now it would create to n0"):
            await desk.pinned.deploy(
                "s", [web()], prune=True, pinned=pin_of(forecast, tasks=(forged,))
            )
        pin = pin_of(forecast, cluster_id=ClusterId("other"))
        with pytest.raises(InvalidError, match="made for cluster other"):
            await desk.pinned.deploy("s", [web()], prune=True, pinned=pin)
        pin = pin_of(forecast, revision=10**9)
        with pytest.raises(ConflictError, match="restored from a backup"):
            await desk.pinned.deploy("s", [web()], prune=True, pinned=pin)
        assert not core.view.services


@in_virtual_time
async def test_a_trial_is_refused_as_the_request_would_be() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a")])
        with pytest.raises(NotFoundError, match="no service 'nope'"):
            await desk.forecasts.of(lambda trial: trial.services.scale({"nope": 1}))


@in_virtual_time
async def test_a_node_between_two_sessions_is_not_foretold_to_be_lost() -> None:
    async with leading(period=60.0) as core:
        desk = await with_nodes(core, [(4, "a"), (4, "a")])
        for node_id in list(core.view.nodes):
            await core.drop_session(node_id)
        found = (await planned(desk, web(2))).outcome
        assert {each.effect for each in found.tasks} == {Effect.CREATE}


@in_virtual_time
async def test_what_finds_no_node_is_shown_not_what_comes_of_it_once_it_is_given_up() -> None:
    """The rollout would take itself back in the end; whoever plans wants to see that it would."""
    async with leading() as core:
        desk = await with_nodes(core, [(2, "a")])
        update = UpdateConfig(failure_action=FailureAction.ROLLBACK, progress_deadline_seconds=60.0)
        wanted = replace(web(), update=update)
        await desk.stacks.deploy("s", [wanted], prune=True)
        await desk.calm()
        too_large = replace(web(image="a:2", cpus=3), update=update)
        found = (await planned(desk, too_large)).outcome
        (task,) = found.tasks
        assert (task.effect, task.from_node) == (Effect.WAIT, "n0")
        assert task.why.startswith("no node fits; 1 node: short of")


@in_virtual_time
async def test_what_leaves_is_still_there_while_others_are_placed() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(1, "a"), (1, "a")])
        await desk.stacks.deploy("s", [web(3, cpus=0)], prune=True)
        await desk.calm()

        def swap(to: Trial) -> Awaitable[object]:
            spec = replace(web(cpus=0), name="s_job", mode=ServiceMode.REPLICATED_JOB)
            return to.stacks.deploy("s", [spec], prune=True)

        await desk.comes_true(await desk.foretold(swap), swap(desk.real))


@in_virtual_time
async def test_who_lacks_only_the_port_of_its_predecessor_once_others_have_left_is_no_waiter() -> (
    None
):
    async with leading() as core:
        desk = await with_nodes(core, [(1, "a")])
        port = (PublishedPort(target=80, published=8080),)
        narrow = replace(web(cpus=0), name="s_x", update=UpdateConfig(parallelism=0))
        narrow = replace(narrow, task=replace(narrow.task, ports=port))
        await desk.stacks.deploy("s", [web(cpus=1), narrow], prune=True)
        await desk.calm()
        wide = replace(narrow, task=replace(web(cpus=1).task, ports=port))

        def swap(to: Trial) -> Awaitable[object]:
            return to.stacks.deploy("s", [web(0), wide], prune=True)

        forecast = await desk.foretold(swap)
        assert [each.effect for each in forecast.outcome.tasks] == [Effect.REMOVE, Effect.RESTART]
        await desk.comes_true(forecast, swap(desk.real))


# --- versions and rollouts ---------------------------------------------------------------------


@in_virtual_time
async def test_going_back_does_what_its_dry_run_shows() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a"), (4, "a")])
        for image in ("a:1", "a:2"):
            await desk.stacks.deploy("s", [web(3, image=image)], prune=True)
            await desk.calm()

        def back(to: Trial) -> Awaitable[object]:
            return to.rollouts.rollback_stack("s")

        forecast = await desk.foretold(back)
        (service,) = forecast.outcome.services
        assert service.after is not None
        assert service.after.task.container.image == "a:1"
        assert len(forecast.outcome.tasks) == 3
        await desk.comes_true(forecast, back(desk.real))


@in_virtual_time
@pytest.mark.parametrize("action", [RolloutAction.PROMOTE, RolloutAction.RESUME])
async def test_a_word_about_a_rollout_does_what_its_dry_run_shows(action: RolloutAction) -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a"), (4, "a")])
        spec = replace(web(3), update=UpdateConfig(canary=1, monitor_seconds=1.0))
        await desk.stacks.deploy("s", [spec], prune=True)
        await desk.calm()
        newer = replace(web(3, image="a:2"), update=spec.update)
        await desk.stacks.deploy("s", [newer], prune=True)
        await desk.calm()
        if action is RolloutAction.RESUME:
            await desk.rollouts.steer("s_web", RolloutAction.PAUSE)
            without_canary = replace(newer, update=UpdateConfig())
            await desk.stacks.deploy("s", [without_canary], prune=True)
            await desk.calm()

        def steer(to: Trial) -> Awaitable[object]:
            return to.rollouts.steer("s_web", action)

        forecast = await desk.foretold(steer)
        assert len(forecast.outcome.tasks) == 2, "the canary stays"
        await desk.comes_true(forecast, steer(desk.real))


# --- jobs, and services that wait for others --------------------------------------------------


def job(**asked: object) -> ServiceSpec:
    spec = replace(web(), name="s_job", mode=ServiceMode.REPLICATED_JOB, replicas=1)
    return replace(spec, job=JobSpec(**asked))  # type: ignore[arg-type]


def after(name: str, condition: DependencyCondition) -> ServiceSpec:
    return replace(web(), depends_on=(Dependency(service=name, condition=condition),))


def takes_long(task: Task) -> TaskStatus | None:
    """What an agent reports of a job's task that goes on and on."""
    status = obey(task)
    if status is None or status.state is not TaskState.COMPLETE:
        return status
    if task.status.state is TaskState.RUNNING:
        return None
    return replace(status, state=TaskState.RUNNING)


async def planned_together(desk: Desk, *specs: ServiceSpec) -> Forecast:
    return await desk.foretold(lambda trial: trial.stacks.deploy("s", specs, prune=True))


@in_virtual_time
async def test_each_task_of_a_jobs_run_is_shown_and_who_waits_for_its_end_too() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a")])
        waiting = after("s_job", DependencyCondition.COMPLETED)
        found = (
            await planned_together(desk, job(completions=3, max_concurrent=2), waiting)
        ).outcome
        assert [(each.effect, each.service, each.run, each.slot) for each in found.tasks] == [
            *((Effect.CREATE, "s_job", 1, slot) for slot in (1, 2, 3)),
            (Effect.CREATE, "s_web", 0, 1),
        ]
        assert not any(each.waits_for for each in found.services)


@in_virtual_time
async def test_another_version_of_a_job_is_another_run_that_takes_the_place_of_the_last() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a")])
        core.behaviour = takes_long
        await desk.stacks.deploy("s", [job()], prune=True)
        await desk.calm()
        found = (await planned_together(desk, job(retries=1))).outcome
        assert [(each.effect, each.run, each.to_node) for each in found.tasks] == [
            (Effect.REMOVE, 1, ""),
            (Effect.CREATE, 2, "n0"),
        ]


@in_virtual_time
async def test_running_a_job_does_what_its_dry_run_shows() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a")])
        spec = job(completions=2, schedule=Schedule(cron="0 0 1 1 *"))
        await desk.stacks.deploy("s", [spec], prune=True)
        await desk.calm()

        def run(to: Trial) -> Awaitable[object]:
            return to.services.run_job("s_job")

        forecast = await desk.foretold(run)
        assert [(each.effect, each.run) for each in forecast.outcome.tasks] == [
            (Effect.CREATE, 1),
            (Effect.CREATE, 1),
        ]
        await desk.comes_true(forecast, run(desk.real))


@in_virtual_time
async def test_a_schedule_brings_nothing_into_a_plan_of_its_job() -> None:
    """Else a job of every minute were a day of runs, and its plan told of a day of delays."""
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a")])
        found = (await planned_together(desk, job(schedule=Schedule(cron="* * * * *")))).outcome
        assert [each.effect for each in found.services] == [Effect.CREATE]
        assert not found.tasks
        assert found.seconds == 0.0


@in_virtual_time
async def test_a_running_task_of_a_job_stays_on_a_node_that_is_drained_until_it_ends() -> None:
    """As it does in earnest; that its place were removed would be false."""
    async with leading() as core:
        desk = await with_nodes(core, [(4, "a"), (4, "a")])
        core.behaviour = takes_long
        await desk.stacks.deploy("s", [job()], prune=True)
        view = await desk.calm()
        (task,) = view.tasks.values()
        found = (
            await desk.foretold(lambda trial: trial.nodes.update(task.node_id, DRAIN, version=0))
        ).outcome
        assert [node.hostname for node in found.nodes] == [task.node_id]
        assert (found.tasks, found.tasks_kept) == ((), 1)


@in_virtual_time
async def test_a_plan_says_what_keeps_a_new_version_from_starting() -> None:
    async with leading() as core:
        desk = await with_nodes(core, [(2, "a")])
        too_large = replace(web(cpus=3), name="s_db")
        waiting = after("s_db", DependencyCondition.HEALTHY)
        found = (await planned_together(desk, too_large, waiting)).outcome
        assert {each.name: each.waits_for for each in found.services} == {
            "s_db": "",
            "s_web": "service 's_db' to be healthy (0 of 1)",
        }
