"""What operators ask of jobs, and of services that wait for services."""

import msgspec
import pytest

from cluster.errors import InvalidError, StateError
from cluster.model import (
    Concurrency,
    Dependency,
    DependencyCondition,
    JobRun,
    JobSpec,
    JobStatus,
    RestartCondition,
    RestartPolicy,
    RunCause,
    Schedule,
    ServiceMode,
    ServiceSpec,
    TaskState,
)
from manager.control.picture import Picture
from manager.control.services import Services
from manager.control.stacks import REMOVED_TOGETHER_MAX, DeployAction, Stacks
from manager.control.tasks import Tasks
from tests.fakes.sites import Site, node, service, sites, spec, task
from tests.fakes.virtual_time import LoopClock, in_virtual_time


def services_of(site: Site) -> Services:
    return Services(site.access, site.ids, LoopClock())


def stacks_of(site: Site) -> Stacks:
    return Stacks(site.access, site.ids, LoopClock())


def job(name: str = "batch", **fields: object) -> ServiceSpec:
    return spec(name, mode=ServiceMode.REPLICATED_JOB, job=JobSpec(**fields))  # type: ignore[arg-type]


def needs(name: str, *others: str, stack: str = "", **fields: object) -> ServiceSpec:
    depends_on = tuple(Dependency(service=other, **fields) for other in others)  # type: ignore[arg-type]
    return spec(name, stack=stack, depends_on=depends_on)


@in_virtual_time
async def test_each_request_for_a_run_is_another_one_and_no_new_version() -> None:
    async with sites() as [site]:
        made = await services_of(site).create(job())
        asked = [await services_of(site).run_job("batch") for _ in range(2)]
        assert [each.run_requests for each in asked] == [1, 2]
        assert {each.spec_version for each in asked} == {made.spec_version}


@in_virtual_time
async def test_a_run_is_refused_for_what_is_no_job_and_where_overlaps_are_forbidden() -> None:
    async with sites() as [site]:
        await services_of(site).create(spec("web"))
        with pytest.raises(InvalidError, match="'web' is no job"):
            await services_of(site).run_job("web")

        schedule = Schedule(cron="0 0 1 1 *", concurrency=Concurrency.FORBID)
        made = await services_of(site).create(job(schedule=schedule))
        run = JobRun(number=7, cause=RunCause.SCHEDULED, spec_version=1)
        await site.write(JobStatus(service_id=made.id, runs=(run,)))
        with pytest.raises(StateError, match="run 7 of job 'batch' is under way"):
            await services_of(site).run_job("batch")


@in_virtual_time
async def test_what_an_operator_suspended_stays_so_when_it_is_deployed_again() -> None:
    async with sites() as [site]:
        schedule = Schedule(cron="0 2 * * *")
        nightly = msgspec.structs.replace(job("shop_nightly", schedule=schedule), stack="shop")
        await stacks_of(site).deploy("shop", [nightly], prune=False)
        suspended = await services_of(site).suspend_job("shop_nightly", suspended=True)
        assert suspended.suspended
        again = await services_of(site).suspend_job("shop_nightly", suspended=True)
        assert again.version == suspended.version

        later = msgspec.structs.replace(schedule, cron="0 3 * * *")
        changed = msgspec.structs.replace(nightly, job=JobSpec(schedule=later))
        deployment = await stacks_of(site).deploy("shop", [changed], prune=False)
        (deployed,) = deployment.services
        assert deployed.action is DeployAction.UPDATED
        assert deployed.service.suspended

        assert not (await services_of(site).suspend_job("shop_nightly", suspended=False)).suspended


@in_virtual_time
async def test_only_schedules_are_suspended_and_go_on_only_if_their_file_lets_them() -> None:
    async with sites() as [site]:
        await services_of(site).create(job())
        with pytest.raises(InvalidError, match="'batch' has no schedule"):
            await services_of(site).suspend_job("batch", suspended=True)
        await services_of(site).create(spec("web"))
        with pytest.raises(InvalidError, match="'web' is no job"):
            await services_of(site).suspend_job("web", suspended=True)
        by_file = Schedule(cron="0 2 * * *", suspended=True)
        await services_of(site).create(job("idle", schedule=by_file))
        with pytest.raises(StateError, match="deployed with `suspended: true`"):
            await services_of(site).suspend_job("idle", suspended=False)


@in_virtual_time
async def test_a_job_is_neither_scaled_nor_turned_into_something_else() -> None:
    async with sites() as [site]:
        made = await services_of(site).create(job())
        with pytest.raises(InvalidError, match="--completions"):
            await services_of(site).scale({"batch": 3})
        with pytest.raises(InvalidError, match="mode of service 'batch' cannot change"):
            await services_of(site).update("batch", made.version, spec("batch"))


@in_virtual_time
async def test_circles_and_strangers_are_refused_and_nothing_is_written() -> None:
    async with sites() as [site]:
        circle = [
            needs("shop_a", "shop_b", stack="shop"),
            needs("shop_b", "shop_c", stack="shop"),
            needs("shop_c", "shop_a", stack="shop"),
        ]
        with pytest.raises(InvalidError, match="shop_a -> shop_b -> shop_c -> shop_a"):
            await stacks_of(site).deploy("shop", circle, prune=False)
        with pytest.raises(InvalidError, match="'shop_db', which is not there; did you mean"):
            await stacks_of(site).deploy(
                "shop",
                [needs("shop_a", "shop_db", stack="shop"), spec("shop_dbs", stack="shop")],
                prune=False,
            )
        completed = DependencyCondition.COMPLETED
        with pytest.raises(InvalidError, match="never completes"):
            await stacks_of(site).deploy(
                "shop",
                [
                    needs("shop_a", "shop_b", stack="shop", condition=completed),
                    spec("shop_b", stack="shop"),
                ],
                prune=False,
            )
        assert site.view.services == {}

        once = RestartPolicy(condition=RestartCondition.NONE)
        ends = msgspec.structs.replace(spec("shop_b").task, restart=once)
        await stacks_of(site).deploy(
            "shop",
            [
                needs("shop_a", "shop_b", stack="shop", condition=completed),
                spec("shop_b", stack="shop", task=ends),
                needs("shop_c", "elsewhere", stack="shop", required=False),
            ],
            prune=False,
        )


@in_virtual_time
async def test_a_pruned_service_that_is_needed_is_refused() -> None:
    async with sites() as [site]:
        both = [needs("shop_a", "shop_b", stack="shop"), spec("shop_b", stack="shop")]
        await stacks_of(site).deploy("shop", both, prune=False)
        with pytest.raises(InvalidError, match="'shop_b', which is not there"):
            await stacks_of(site).deploy("shop", both[:1], prune=True)


@in_virtual_time
async def test_dependents_are_restarted_with_what_an_operator_replaces_and_with_nothing_else() -> (
    None
):
    async with sites() as [site]:

        def shop(db_image: str, replicas: int = 1) -> list[ServiceSpec]:
            return [
                spec("shop_db", db_image, stack="shop", replicas=replicas),
                needs("shop_api", "shop_db", stack="shop", restart=True),
                needs("shop_web", "shop_api", stack="shop", restart=True),
                needs("shop_other", "shop_db", stack="shop"),
            ]

        async def deploy(specs: list[ServiceSpec]) -> dict[str, str]:
            done = await stacks_of(site).deploy("shop", specs, prune=False)
            return {each.service.spec.name: each.action.value for each in done.services}

        await deploy(shop("db:1"))
        assert await deploy(shop("db:2")) == {
            "shop_db": "updated",
            "shop_api": "updated",
            "shop_web": "updated",
            "shop_other": "unchanged",
        }
        assert set((await deploy(shop("db:2"))).values()) == {"unchanged"}
        scaled = await deploy(shop("db:2", replicas=3))
        assert [name for name, action in scaled.items() if action == "updated"] == ["shop_db"]

        db = site.view.service_by_name("shop_db")
        assert db is not None
        forced = msgspec.structs.replace(db.spec.task, force_update=1)
        await services_of(site).update(
            "shop_db", db.version, msgspec.structs.replace(db.spec, task=forced)
        )
        counters = {s.spec.name: s.spec.task.force_update for s in site.view.services.values()}
        assert counters == {"shop_db": 1, "shop_api": 2, "shop_web": 2, "shop_other": 0}


@in_virtual_time
async def test_of_a_large_stack_dependents_are_removed_first() -> None:
    async with sites() as [site]:
        count = REMOVED_TOGETHER_MAX + 5
        specs = [spec("shop_db", stack="shop")]
        specs += [needs(f"shop_{index}", "shop_db", stack="shop") for index in range(count)]
        for start in range(0, len(specs), 20):
            await stacks_of(site).deploy("shop", specs[start : start + 20], prune=False)
        gone: list[str] = []
        site.view.subscribe(
            lambda batch: gone.extend(
                each.old.spec.name  # type: ignore[union-attr]
                for each in batch.changes
                if each.new is None and hasattr(each.old, "spec_version")
            )
        )
        await stacks_of(site).remove("shop")
        assert "shop_db" in gone[-6:]
        assert "shop_db" not in gone[:REMOVED_TOGETHER_MAX]


async def test_a_task_that_is_held_back_says_what_for() -> None:
    async with sites() as [site]:
        waiting = Dependency(service="db", condition=DependencyCondition.HEALTHY)
        await site.write(
            node("n1"),
            *service("db"),
            *service("web", depends_on=(waiting,)),
            task("t1", of="web", on="n1", state=TaskState.READY, desired=TaskState.READY),
            task("t2", of="db", on="n1", state=TaskState.STARTING),
        )
        tasks = Tasks(site.access, Picture(site.view), LoopClock())
        assert [each.waits_for for each in await tasks.all(service="web")] == [
            "service 'db' to be healthy (0 of 1)"
        ]
        told = (await tasks.explain("t1")).text
        assert told.endswith("it waits for service 'db' to be healthy (0 of 1)")
