"""Deploying and removing stacks: one transaction, nothing mixed, nothing written twice."""

import asyncio

import msgspec
import pytest

from cluster.errors import ExistsError, InvalidError, NotFoundError
from cluster.model import ServiceSpec
from manager.control.services import Services
from manager.control.stacks import REMOVED_TOGETHER_MAX, DeployAction, Stacks
from manager.store.interface import TooLargeError
from tests.fakes.sites import Site, sites, spec
from tests.fakes.virtual_time import LoopClock, in_virtual_time


def stacks_of(site: Site) -> Stacks:
    return Stacks(site.access, site.ids, LoopClock())


def services_of(site: Site) -> Services:
    return Services(site.access, site.ids, LoopClock())


def shop(*images: str) -> list[ServiceSpec]:
    """Return services a, b, ... of the stack shop."""
    return [
        spec(f"shop_{name}", image, stack="shop")
        for name, image in zip("abcdefg", images, strict=False)
    ]


async def deploy(site: Site, specs: list[ServiceSpec], *, prune: bool = False) -> dict[str, str]:
    done = await stacks_of(site).deploy("shop", specs, prune=prune)
    return {each.service.spec.name: each.action.value for each in done.services}


@in_virtual_time
async def test_a_deploy_makes_updates_and_leaves_alone_in_one_transaction() -> None:
    async with sites() as [site]:
        assert await deploy(site, shop("1", "1")) == {"shop_a": "created", "shop_b": "created"}
        assert len(site.store.commits) == 1

        done = await stacks_of(site).deploy("shop", shop("1", "2", "1"), prune=False)
        assert [(each.service.spec.name, each.action) for each in done.services] == [
            ("shop_a", DeployAction.UNCHANGED),
            ("shop_b", DeployAction.UPDATED),
            ("shop_c", DeployAction.CREATED),
        ]
        assert len(site.store.commits) == 2
        assert done.revision == site.state.revision
        for each in done.services:
            assert each.service == site.view.services[each.service.id]
        assert done.services[0].service.spec_version == 1


@in_virtual_time
async def test_a_deploy_of_what_there_is_writes_nothing() -> None:
    async with sites() as [site]:
        await deploy(site, shop("1", "2"))
        before = site.stored()
        assert set((await deploy(site, shop("1", "2"))).values()) == {"unchanged"}
        assert site.stored() == before
        assert len(site.store.commits) == 1


@in_virtual_time
async def test_what_is_left_over_is_named_and_goes_only_if_asked() -> None:
    async with sites() as [site]:
        await deploy(site, shop("1", "1"))
        done = await stacks_of(site).deploy("shop", shop("1"), prune=False)
        assert done.left_over == ["shop_b"]
        assert site.view.service_by_name("shop_b")

        assert await deploy(site, shop("1"), prune=True) == {
            "shop_a": "unchanged",
            "shop_b": "removed",
        }
        assert not site.view.service_by_name("shop_b")
        assert "/shoal/v1/names/services/shop_b" not in site.stored()


@in_virtual_time
async def test_a_name_that_another_stack_or_nobody_s_service_has_is_refused() -> None:
    async with sites() as [site]:
        await services_of(site).create(spec("shop_a"))
        before = site.stored()
        with pytest.raises(ExistsError, match="'shop_a' is in use by a service of no stack"):
            await deploy(site, shop("1", "1"))
        assert site.stored() == before


@in_virtual_time
async def test_everything_wrong_with_a_stack_is_told_at_once_and_nothing_is_written() -> None:
    async with sites() as [site]:
        before = site.stored()
        bad = [*shop("", "1"), spec("shop_b", stack="shop"), spec("other_c", stack="other")]
        with pytest.raises(InvalidError) as refusal:
            await deploy(site, bad)
        text = str(refusal.value)
        assert "shop_a" in text
        assert "'shop_b': there are two" in text
        assert "its stack is 'other', not 'shop'" in text
        assert site.stored() == before
        with pytest.raises(InvalidError, match="stack name"):
            await stacks_of(site).deploy("sh op", [], prune=False)


@in_virtual_time
async def test_a_stack_too_large_for_the_store_is_refused_with_what_to_do() -> None:
    async with sites() as [site]:
        before = site.stored()
        many = [spec(f"shop_{number}", stack="shop") for number in range(60)]
        with pytest.raises(TooLargeError, match="--max-txn-ops"):
            await deploy(site, many)
        assert site.stored() == before


@in_virtual_time
async def test_two_deploys_of_one_stack_do_not_mix() -> None:
    async with sites(2) as [one, other]:
        await deploy(one, shop("0", "0"))
        await other.caught_up()
        # Each changes another service, and finds the other one as it wants it.
        await asyncio.gather(deploy(one, shop("1", "0")), deploy(other, shop("0", "1")))
        await one.caught_up()
        images = [
            one.view.services_of_stack("shop")[index].spec.task.container.image
            for index in range(2)
        ]
        assert sorted(images) == ["0", "1"], "a mixture of both: neither was deployed whole"


@in_virtual_time
async def test_a_deploy_keeps_the_counter_of_forced_replacements() -> None:
    async with sites() as [site]:
        await deploy(site, shop("1"))
        found = site.view.service_by_name("shop_a")
        assert found is not None
        forced = msgspec.structs.replace(
            found.spec, task=msgspec.structs.replace(found.spec.task, force_update=3)
        )
        await services_of(site).update("shop_a", found.version, forced)
        assert await deploy(site, shop("1")) == {"shop_a": "unchanged"}


@in_virtual_time
async def test_removing_a_stack_takes_its_services_and_all_names() -> None:
    async with sites() as [site]:
        await deploy(site, shop("1", "1"))
        await services_of(site).create(spec("other"))
        assert await stacks_of(site).remove("shop") == ["shop_a", "shop_b"]
        assert list(site.stored("/shoal/v1/names/")) == ["/shoal/v1/names/services/other"]
        assert not site.view.stacks
        with pytest.raises(NotFoundError, match="no stack 'shop'"):
            await stacks_of(site).remove("shop")


@in_virtual_time
async def test_a_stack_of_many_services_is_removed_whole() -> None:
    async with sites() as [site]:
        for start in range(0, REMOVED_TOGETHER_MAX + 10, 30):
            some = [spec(f"shop_{n}", stack="shop") for n in range(start, start + 30)]
            await deploy(site, some)
        count = len(site.view.services)
        assert count > REMOVED_TOGETHER_MAX
        assert len(await stacks_of(site).remove("shop")) == count
        assert not site.stored("/shoal/v1/names/")


@in_virtual_time
async def test_stacks_are_listed_with_what_they_have() -> None:
    async with sites() as [site]:
        await deploy(site, shop("1", "1"))
        [summary] = stacks_of(site).all()
        assert (summary.stack.name, summary.services, summary.tasks_desired) == ("shop", 2, 2)
