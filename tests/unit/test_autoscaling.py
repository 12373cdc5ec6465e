"""Autoscaling: who writes what, what is refused, and how it shows."""

import asyncio
import dataclasses

import msgspec
import pytest

from cluster.errors import InvalidError, StateError
from cluster.model import (
    Autoscale,
    ContainerSpec,
    NodeId,
    NodeUsage,
    Scaling,
    Service,
    ServiceId,
    ServiceMode,
    ServiceSpec,
    TaskId,
    TaskSpec,
    TaskState,
    TaskUsage,
)
from cluster.resources import Resources
from cluster.scaling import as_scaled, wanted_replicas
from cluster.validation import check_service
from clusterctl.answers import ServiceSummary
from clusterctl.render.details import service as details
from clusterctl.render.kinds import replicas as replicas_shown
from clusterctl.specs import Edit, edited
from manager.control.services import Services
from manager.control.stacks import Stacks
from manager.dispatch.open_session import HeardUsage
from manager.reconcilers.autoscaling import (
    PERIOD_SECONDS,
    WARM_SECONDS,
    Autoscaler,
    Called,
    Facts,
    plan,
)
from tests.fakes.sites import Site, node, node_id, sites, task
from tests.fakes.virtual_time import LoopClock, in_virtual_time
from tests.harness.leading import leading
from tests.unit.test_journal import committer_of, events_at

replace = msgspec.structs.replace
CPU = 10**9
SCALE = Autoscale(min_replicas=1, max_replicas=10, cpu_percent=50, up_window_seconds=0.0)
TASK = TaskSpec(container=ContainerSpec(image="a:1"), reservations=Resources(cpu_nanos=CPU))


def web(scale: Autoscale | None = SCALE, replicas: int = 2, task: TaskSpec = TASK) -> ServiceSpec:
    return ServiceSpec(name="s_web", stack="s", task=task, replicas=replicas, autoscale=scale)


def facts(*percent: int, replicas: int = 2, called: tuple[Called, ...] = ()) -> Facts:
    usages = [
        TaskUsage(task_id=TaskId(f"t{n}"), cpu_nanos=each * CPU // 100, memory_bytes=0)
        for n, each in enumerate(percent)
    ]
    return Facts(SCALE, TASK, replicas, usages, called, -1_000.0, 0.0)


def test_it_says_why() -> None:
    decision = plan(facts(100, 100))
    assert decision.replicas == 4
    assert decision.why == (
        "CPU is used to 100% on average, the target is 50%: 2 replicas become 4"
    )


def test_near_enough_is_enough() -> None:
    assert plan(facts(54, 54)).replicas == 2
    assert plan(facts(56, 56)).replicas == 3


def test_it_shrinks_to_the_most_that_was_called_for() -> None:
    assert plan(facts(5, 5)).replicas == 1
    assert plan(facts(5, 5, called=(Called(-299.0, 2, ""),))).replicas == 2
    assert plan(facts(5, 5, called=(Called(-301.0, 2, ""),))).replicas == 1


def test_who_has_not_watched_for_a_whole_window_does_not_shrink() -> None:
    assert plan(dataclasses.replace(facts(5, 5), watching_since=-299.0)).replicas == 2


def test_without_a_measurement_nothing_is_decided() -> None:
    decision = plan(facts())
    assert (decision.replicas, decision.why, decision.called) == (2, "", None)


def test_what_is_not_measured_is_taken_for_idle_on_the_way_up() -> None:
    assert plan(facts(80, 80, replicas=2)).replicas == 4
    assert plan(facts(80, 80, replicas=4)).replicas == 4
    assert plan(facts(130, 130, replicas=4)).replicas == 6


def test_limits_count_where_nothing_is_reserved_and_the_larger_call_wins() -> None:
    limited = TaskSpec(
        container=ContainerSpec(image="a:1"), limits=Resources(cpu_nanos=CPU, memory_bytes=100)
    )
    scale = replace(SCALE, memory_percent=50)
    usages = [TaskUsage(task_id=TaskId("t"), cpu_nanos=CPU, memory_bytes=150)]
    found = plan(Facts(scale, limited, 3, usages * 3, (), -1_000.0, 0.0))
    assert found.replicas == 6  # memory calls for nine; twice as many is the most at a time
    assert found.why.startswith("memory")


# --- two writers, two objects -----------------------------------------------------------------


def test_replicas_are_within_the_range_whoever_says_them() -> None:
    scaling = Scaling(service_id=ServiceId("s"), replicas=99)
    assert wanted_replicas(web(), scaling) == 10
    assert wanted_replicas(web(replicas=0), None) == 1
    assert wanted_replicas(web(None, 3), scaling) == 3


@in_virtual_time
async def test_a_deploy_of_the_same_file_undoes_nothing() -> None:
    async with sites() as (site,):
        stacks = Stacks(site.access, site.ids, LoopClock())
        await stacks.deploy("s", [web()], prune=True)
        service = site.view.service_by_name("s_web")
        assert service is not None
        await site.write(Scaling(service_id=service.id, replicas=7))
        before = site.state.revision
        await stacks.deploy("s", [web()], prune=True)
        assert site.state.revision == before
        assert as_scaled(service, site.view.scalings[service.id]).spec.replicas == 7


@in_virtual_time
async def test_scaling_by_hand_says_what_it_runs_into() -> None:
    async with sites() as (site,):
        await Stacks(site.access, site.ids, LoopClock()).deploy("s", [web()], prune=True)
        with pytest.raises(StateError) as refused:
            await Services(site.access, site.ids, LoopClock()).scale({"s_web": 5})
        assert "between 1 and 10 replicas, and has 2 now" in str(refused.value)
        assert "--no-autoscale" in str(refused.value)


@in_virtual_time
async def test_the_leader_follows_what_was_decided() -> None:
    async with leading() as core:
        await core.add_node("n1")
        service_id = await core.submit(replace(web(), name="web", stack=""))
        await core.until(lambda: len(core.running("web")) == 2)
        await core.write(Scaling(service_id=service_id, replicas=4))
        await core.until(lambda: len(core.running("web")) == 4)
        await core.write(Scaling(service_id=service_id, replicas=1))
        await core.until(lambda: len(core.running("web")) == 1)


# --- the loop ---------------------------------------------------------------------------------


async def scaler_of(site: Site) -> Autoscaler:
    await site.write(node("n1"))
    await Stacks(site.access, site.ids, LoopClock()).deploy("s", [web()], prune=True)
    service = site.view.service_by_name("s_web")
    assert service is not None
    for slot in (1, 2):
        running = task(f"t{slot}", on="n1", slot=slot, state=TaskState.RUNNING)
        await site.write(replace(running, service_id=service.id))

    async def measure() -> dict[NodeId, HeardUsage]:
        usages = tuple(TaskUsage(task_id=TaskId(f"t{n}"), cpu_nanos=CPU) for n in (1, 2))
        usage = NodeUsage(node_id=node_id("n1"), tasks=usages)
        return {node_id("n1"): HeardUsage(usage, 1.0)}

    return Autoscaler(site.view, await committer_of(site), LoopClock(), measure)


@in_virtual_time
async def test_tasks_count_once_they_are_warm_and_the_decision_is_an_event() -> None:
    async with sites() as (site,):
        scaler = await scaler_of(site)
        running = asyncio.create_task(scaler.run())
        await asyncio.sleep(WARM_SECONDS - 1)
        assert not site.view.scalings
        await asyncio.sleep(PERIOD_SECONDS + 1)
        (scaling,) = site.view.scalings.values()
        assert scaling.replicas == 4
        (event,) = [each for each in events_at(site) if each.kind == "scaling"]
        assert (event.name, event.stack) == ("s_web", "s")
        assert event.why.endswith("2 replicas become 4")
        service = site.view.service_by_name("s_web")
        assert service is not None
        await Stacks(site.access, site.ids, LoopClock()).deploy("s", [web(None)], prune=True)
        await asyncio.sleep(2 * PERIOD_SECONDS)
        assert not site.view.scalings
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@in_virtual_time
async def test_a_node_that_was_silent_says_nothing() -> None:
    async with sites() as (site,):
        scaler = await scaler_of(site)
        assert not scaler.changes({})


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "flaw"),
    [
        (web(replace(SCALE, min_replicas=0)), "1 <= min <= max"),
        (web(replace(SCALE, min_replicas=5, max_replicas=4)), "has min 5 and max 4"),
        (web(replace(SCALE, cpu_percent=0)), "needs a target"),
        (web(replace(SCALE, cpu_percent=-1)), "must be 0 to 1000"),
        (web(replace(SCALE, memory_percent=50)), "give it one of these"),
        (web(replace(SCALE, tolerance_percent=100)), "must be 0 to 99"),
        (web(replace(SCALE, down_window_seconds=-1.0)), "down_window_seconds"),
        (replace(web(), mode=ServiceMode.GLOBAL), "a global service runs once on every node"),
        (replace(web(), mode=ServiceMode.REPLICATED_JOB), "a replicated-job has completions"),
        (replace(web(), mode=ServiceMode.GLOBAL_JOB), "a global-job has completions"),
    ],
)
def test_a_range_that_can_never_work_is_refused(spec: ServiceSpec, flaw: str) -> None:
    with pytest.raises(InvalidError, match=flaw):
        check_service(spec)


def test_the_prompt_begins_changes_and_ends_a_range() -> None:
    begun = edited(web(None, 3), Edit(scale_max=8, scale_cpu=60)).autoscale
    assert begun == Autoscale(min_replicas=1, max_replicas=8, cpu_percent=60)
    assert edited(web(), Edit(scale_min=2)).autoscale == replace(SCALE, min_replicas=2)
    by_hand = edited(web(), Edit(autoscale=False, replicas=4))
    assert (by_hand.autoscale, by_hand.replicas) == (None, 4)
    for edit in (
        Edit(replicas=3),
        Edit(replicas=3, scale_min=1),
        Edit(autoscale=False, scale_min=1),
    ):
        with pytest.raises(InvalidError):
            edited(web(), edit)
    for mode in (ServiceMode.GLOBAL, ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB):
        with pytest.raises(InvalidError, match="only replicas scale"):
            edited(replace(web(None), mode=mode), Edit(scale_max=8, scale_cpu=60))


def test_it_shows() -> None:
    service = Service(id=ServiceId("s"), spec=web())
    scaling = Scaling(service_id=service.id, replicas=4, why="CPU is used to 100%")
    summary = ServiceSummary(service, 4, 3, 3, scaling)
    assert replicas_shown(summary) == "3/4 [1..10]"
    text = details(summary, 0.0)
    assert "1 to 10, CPU at 50%, give or take 10%; up after 0s, down after 5m" in text
    assert "CPU is used to 100%" in text
