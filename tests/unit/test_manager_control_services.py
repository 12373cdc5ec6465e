"""Requests about services: guarded, decided anew where that is harmless, whole or not at all."""

import asyncio

import pytest

from cluster.errors import ConflictError, ExistsError, InvalidError, NotFoundError
from cluster.model import Service, ServiceMode, ServiceSpec, TaskState
from manager.control.access import ATTEMPTS_MAX
from manager.control.services import Services
from manager.store.interface import StoreUnavailableError
from tests.fakes.sites import Site, service, sites, spec, task, until
from tests.fakes.virtual_time import LoopClock, in_virtual_time


def services_of(site: Site) -> Services:
    return Services(site.access, site.ids, LoopClock())


@in_virtual_time
async def test_a_service_is_made_with_its_first_version_and_its_name_at_once() -> None:
    async with sites() as [site]:
        made = await services_of(site).create(spec("web", replicas=3))

        assert len(site.store.commits) == 1
        assert site.view.service_by_name("web") == made
        assert site.view.versions[made.id, 1].spec == made.spec
        assert made.version == site.state.revision
        assert made.created_at == LoopClock().now()
        assert sorted(site.stored("/shoal/v1/names/")) == ["/shoal/v1/names/services/web"]


@in_virtual_time
async def test_of_two_managers_that_are_asked_for_the_same_name_one_refuses() -> None:
    async with sites(2) as [one, other]:
        outcomes = await asyncio.gather(
            services_of(one).create(spec("web", "image:1")),
            services_of(other).create(spec("web", "image:2")),
            return_exceptions=True,
        )

        refused = [outcome for outcome in outcomes if isinstance(outcome, ExistsError)]
        made = [outcome for outcome in outcomes if isinstance(outcome, Service)]
        assert (len(refused), len(made)) == (1, 1)
        assert "'web' is in use" in str(refused[0])
        assert made[0].id in str(refused[0])


@in_virtual_time
async def test_a_service_that_cannot_work_is_refused_with_all_its_flaws_and_nothing_is_written() -> (
    None
):
    async with sites() as [site]:
        before = site.stored()
        with pytest.raises(InvalidError) as refusal:
            await services_of(site).create(spec("we b", "", replicas=-1))
        assert len(str(refusal.value).splitlines()) == 3
        assert site.stored() == before


@in_virtual_time
async def test_services_of_stacks_are_made_by_deploying_the_stack() -> None:
    async with sites() as [site]:
        with pytest.raises(InvalidError, match="stack deploy"):
            await services_of(site).create(spec("shop_web", stack="shop"))


@in_virtual_time
async def test_what_was_made_at_one_manager_is_found_at_another_that_lags() -> None:
    async with sites(2) as [one, other]:
        await other.lag()
        made = await services_of(one).create(spec("web"))
        async with asyncio.TaskGroup() as group:
            group.create_task(other.follow_in(0.5))
            assert (await services_of(other).get("web")).service == made


@in_virtual_time
async def test_a_missing_service_is_refused_with_the_nearest_name() -> None:
    async with sites() as [site]:
        await site.write(*service("web"), *service("database"))
        with pytest.raises(NotFoundError, match=r"no service 'wbe'; did you mean 'web'\?"):
            await services_of(site).get("wbe")


@in_virtual_time
async def test_a_missing_service_is_missing_even_while_the_store_is_away() -> None:
    async with sites() as [site]:
        await site.store.aclose()
        with pytest.raises(NotFoundError):
            await services_of(site).get("web")


@in_virtual_time
async def test_an_update_makes_a_new_version_and_keeps_the_old() -> None:
    async with sites() as [site]:
        services = services_of(site)
        old = await services.create(spec("web", "image:1"))
        new = await services.update("web", old.version, spec("web", "image:2"))

        assert new.spec_version == 2
        assert new.id == old.id
        assert site.view.versions[old.id, 1].spec.task.container.image == "image:1"
        assert site.view.versions[old.id, 2].spec.task.container.image == "image:2"


@in_virtual_time
async def test_an_update_decided_on_an_old_version_shows_both_and_what_differs() -> None:
    async with sites() as [site]:
        services = services_of(site)
        old = await services.create(spec("web", "image:1"))
        [scaled] = await services.scale({"web": 5})
        before = site.stored()

        with pytest.raises(ConflictError) as refusal:
            await services.update("web", old.version, spec("web", "image:2"))

        text = str(refusal.value)
        assert f"version {old.version}," in text
        assert f"version {scaled.version} now" in text
        assert "replicas (1, now 5)" in text
        assert site.stored() == before


@in_virtual_time
async def test_an_update_that_loses_a_race_is_refused_and_not_decided_anew() -> None:
    async with sites(2) as [one, other]:
        old = await services_of(one).create(spec("web"))
        await other.caught_up()
        outcomes = await asyncio.gather(
            services_of(one).update("web", old.version, spec("web", "image:2")),
            services_of(other).update("web", old.version, spec("web", "image:3")),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes].count(ConflictError) == 1


@in_virtual_time
async def test_an_update_waits_for_a_version_that_came_from_another_manager() -> None:
    async with sites(2) as [one, other]:
        await services_of(one).create(spec("web"))
        await other.caught_up()
        await other.lag()
        [scaled] = await services_of(one).scale({"web": 2})
        async with asyncio.TaskGroup() as group:
            group.create_task(other.follow_in(0.5))
            new = await services_of(other).update("web", scaled.version, spec("web", replicas=3))
        assert new.spec.replicas == 3


@in_virtual_time
async def test_an_update_to_the_same_writes_nothing() -> None:
    async with sites() as [site]:
        services = services_of(site)
        old = await services.create(spec("web"))
        assert await services.update("web", old.version, spec("web")) == old
        assert len(site.store.commits) == 1


@pytest.mark.parametrize(
    "changed",
    [spec("other"), spec("web", mode=ServiceMode.GLOBAL), spec("shop_web", stack="shop")],
)
@in_virtual_time
async def test_name_mode_and_stack_of_a_service_last(changed: ServiceSpec) -> None:
    async with sites() as [site]:
        services = services_of(site)
        old = await services.create(spec("web"))
        with pytest.raises(InvalidError, match="cannot change"):
            await services.update("web", old.version, changed)


@in_virtual_time
async def test_a_scale_holds_whatever_else_has_changed_meanwhile() -> None:
    async with sites(2) as [one, other]:
        old = await services_of(one).create(spec("web", "image:1"))
        await other.caught_up()
        await other.lag()
        await services_of(one).update("web", old.version, spec("web", "image:2"))

        [scaled] = await services_of(other).scale({"web": 7})

        assert scaled.spec.replicas == 7
        assert scaled.spec.task.container.image == "image:2"
        assert scaled.spec_version == 3


@in_virtual_time
async def test_a_scale_gives_up_when_others_win_every_time() -> None:
    async with sites() as [site]:
        await services_of(site).create(spec("web"))
        site.store.gate.clear()

        async def meddle() -> None:
            for count in range(ATTEMPTS_MAX):
                await until(lambda count=count: len(site.store.commits) == 2 + count)  # type: ignore[misc]
                await site.write(*service("other", replicas=count))
                found = site.view.service_by_name("web")
                assert found is not None
                await site.write(found)
                site.store.gate.set()
                site.store.gate.clear()

        meddling = asyncio.create_task(meddle())
        with pytest.raises(ConflictError, match="others keep changing"):
            await services_of(site).scale({"web": 9})
        await meddling


@in_virtual_time
async def test_scaling_several_services_is_all_or_none() -> None:
    async with sites() as [site]:
        services = services_of(site)
        await services.create(spec("web"))
        await services.create(spec("agent", mode=ServiceMode.GLOBAL))
        before = site.stored()
        for wrong in ({"web": 3, "wbe": 3}, {"web": 3, "agent": 3}, {"web": -1}):
            with pytest.raises((NotFoundError, InvalidError)):
                await services.scale(wrong)
        assert site.stored() == before

        web = site.view.service_by_name("web")
        assert web is not None
        with pytest.raises(InvalidError, match="named twice"):
            await services.scale({"web": 3, web.id: 4})


@in_virtual_time
async def test_removing_frees_the_name_and_is_all_or_none() -> None:
    async with sites() as [site]:
        services = services_of(site)
        web = await services.create(spec("web"))
        await services.create(spec("db"))
        before = site.stored()
        with pytest.raises(NotFoundError):
            await services.remove(["web", "nothing"])
        assert site.stored() == before

        await services.remove(["web", web.id, "db"])
        assert not site.view.services
        assert not site.stored("/shoal/v1/names/")
        await services.create(spec("web"))


@in_virtual_time
async def test_a_write_without_an_answer_says_that_its_outcome_is_unknown() -> None:
    async with sites() as [site]:
        site.store.answers_lost = 1
        with pytest.raises(StoreUnavailableError, match="not known: look before you repeat"):
            await services_of(site).create(spec("web"))
        # It was applied, and whoever repeats it is told so.
        with pytest.raises(ExistsError):
            await services_of(site).create(spec("web"))


@in_virtual_time
async def test_a_summary_counts_what_should_run_what_does_and_what_is_current() -> None:
    async with sites() as [site]:
        old, first = service("web", image="image:1", replicas=4)
        await site.write(old, first)
        await services_of(site).update(
            "web", site.view.services[old.id].version, spec("web", "image:2", replicas=4)
        )
        await site.write(
            task("a", on="n1", slot=1, state=TaskState.RUNNING),
            task("b", on="n1", slot=2, state=TaskState.STARTING),
            task("c", on="n1", slot=3, state=TaskState.RUNNING, desired=TaskState.SHUTDOWN),
            task("d", on="n1", slot=4, state=TaskState.FAILED),
        )
        summary = await services_of(site).get("web")
        assert (summary.tasks_desired, summary.tasks_running, summary.tasks_current) == (4, 1, 0)

        [(only)] = await services_of(site).all()
        assert only == summary


@in_virtual_time
async def test_a_change_of_scale_leaves_running_tasks_current() -> None:
    async with sites() as [site]:
        await site.write(*service("web", replicas=1), task("a", on="n1", state=TaskState.RUNNING))
        await services_of(site).scale({"web": 2})
        summary = await services_of(site).get("web")
        assert (summary.tasks_desired, summary.tasks_current) == (2, 1)
