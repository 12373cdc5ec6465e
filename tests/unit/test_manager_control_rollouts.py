"""Going back, and words about rollouts: guarded, clear when refused, whole or not at all."""

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from cluster.errors import InvalidError, NotFoundError, StateError
from cluster.model import Rollout, RolloutState, Service, ServiceSpec, UpdateConfig
from manager.control.rollouts import RolledBack, RolloutAction, Rollouts
from manager.control.services import Services
from manager.control.stacks import Stacks
from tests.fakes.sites import Site, sites, spec
from tests.fakes.virtual_time import LoopClock, in_virtual_time

replace = msgspec.structs.replace
PROMOTE, PAUSE, RESUME = RolloutAction


@dataclass
class Desk:
    """The parts of the Control API that this is about, at one manager."""

    site: Site

    def __post_init__(self) -> None:
        access = self.site.access
        self.rollouts = Rollouts(access, LoopClock())
        self.services = Services(access, self.site.ids, LoopClock())
        self.stacks = Stacks(access, self.site.ids, LoopClock())

    async def history(self, *images: str, **fields: Any) -> Service:
        """Make service web, and give it one image after the other."""
        service = await self.services.create(replace(spec("web", images[0]), **fields))
        for image in images[1:]:
            service = await self.services.update(
                "web", service.version, replace(spec("web", image), **fields)
            )
        return service

    async def rolled(self, service: Service, state: RolloutState, *healthy: int) -> None:
        """Write what the leader would."""
        await self.site.write(
            Rollout(
                service_id=service.id,
                spec_version=service.spec_version,
                target=service.spec_version,
                state=state,
                healthy=healthy,
            )
        )

    async def back(self, to: int = 0) -> RolledBack:
        (done,) = await self.rollouts.rollback({"web": to})
        return done


def image(service: Service) -> str:
    return service.spec.task.container.image


@in_virtual_time
async def test_a_rollback_gives_the_last_version_that_ran_well_again_as_a_new_one() -> None:
    async with sites() as [site]:
        desk = Desk(site)
        service = await desk.history("image:1", "image:2", "image:3", "image:4")
        await desk.rolled(service, RolloutState.PAUSED, 1, 2)
        (service,) = await desk.services.scale({"web": 7})

        done = await desk.back()

        assert done.to == 2
        assert image(done.service) == "image:2"
        assert done.service.spec_version == 6
        assert done.service.spec.replicas == 7, "how many there are was asked for since"
        assert done.service.rolls_back
        assert site.view.services[service.id] == done.service
        assert site.view.versions[service.id, 6].spec == done.service.spec


@in_virtual_time
async def test_of_versions_alike_the_newest_is_gone_back_to() -> None:
    """Another constraint was asked for after it had run well: that stays."""
    async with sites() as [site]:
        desk = Desk(site)
        service = await desk.history("image:1")
        await desk.rolled(service, RolloutState.COMPLETED, 1)
        (service,) = await desk.services.scale({"web": 2})
        await desk.services.update("web", service.version, spec("web", "image:2", replicas=2))
        assert (await desk.back()).to == 2


@in_virtual_time
async def test_a_rollback_to_any_version_that_is_kept() -> None:
    async with sites() as [site]:
        desk = Desk(site)
        await desk.history("image:1", "image:2", "image:3")
        done = await desk.back(to=1)
        assert (done.to, image(done.service)) == (1, "image:1")


@in_virtual_time
async def test_what_there_is_no_going_back_to_is_refused_and_nothing_is_written() -> None:
    async with sites() as [site]:
        desk = Desk(site)
        service = await desk.history("image:1", "image:2")
        before = site.stored()
        with pytest.raises(NotFoundError, match="version 9 of service 'web' never was"):
            await desk.back(to=9)
        with pytest.raises(StateError, match="as it was at version 2 already"):
            await desk.back(to=2)
        with pytest.raises(NotFoundError, match="no service 'wbe'"):
            await desk.rollouts.rollback({"web": 1, "wbe": 0})
        with pytest.raises(InvalidError, match="named twice"):
            await desk.rollouts.rollback({"web": 1, service.id: 1})
        assert site.stored() == before
        await desk.rolled(service, RolloutState.COMPLETED, 2)
        with pytest.raises(StateError, match="no other template that ran well"):
            await desk.back()


@in_virtual_time
async def test_a_version_whose_canary_is_larger_than_the_service_now_is_not_gone_back_to() -> None:
    async with sites() as [site]:
        desk = Desk(site)
        service = await desk.history("image:1", replicas=5, update=UpdateConfig(canary=4))
        service = await desk.services.update(
            "web", service.version, spec("web", "image:2", replicas=2)
        )
        with pytest.raises(InvalidError, match="at most the 2 replicas"):
            await desk.back(to=1)


@in_virtual_time
async def test_a_stack_goes_back_to_before_its_last_deploy_as_a_whole() -> None:
    def shop(*images: str) -> list[ServiceSpec]:
        names = zip("abc", images, strict=False)
        return [spec(f"shop_{name}", f"image:{tag}", stack="shop") for name, tag in names]

    async with sites() as [site]:
        desk = Desk(site)
        await desk.stacks.deploy("shop", shop("1", "1"), prune=False)
        await asyncio.sleep(1)
        await desk.stacks.deploy("shop", shop("1", "2", "1"), prune=False)
        await asyncio.sleep(1)
        await desk.services.scale({"shop_b": 4})
        commits = len(site.store.commits)

        done = await desk.rollouts.rollback_stack("shop")

        assert len(site.store.commits) == commits + 1
        assert [(each.service.spec.name, each.to) for each in done] == [
            ("shop_a", 0),
            ("shop_b", 1),
            ("shop_c", 0),
        ]
        b = site.view.service_by_name("shop_b")
        assert b is not None
        assert (image(b), b.spec.replicas) == ("image:1", 4)

        await asyncio.sleep(1)
        await desk.rollouts.rollback_stack("shop")  # that was a change, too
        b = site.view.service_by_name("shop_b")
        assert b is not None
        assert image(b) == "image:2"

        await asyncio.sleep(1)
        await desk.stacks.deploy("shop", shop("1", "2", "1", "1"), prune=False)
        before = site.stored()
        with pytest.raises(StateError, match="changed no service"):
            await desk.rollouts.rollback_stack("shop")
        assert site.stored() == before


@in_virtual_time
async def test_words_are_only_said_of_rollouts_of_which_they_are_true() -> None:
    async with sites() as [site]:
        desk = Desk(site)
        service = await desk.history("image:1", "image:2", replicas=3)
        for action in RolloutAction:
            with pytest.raises(StateError):
                await desk.rollouts.steer("web", action)
        await desk.rolled(service, RolloutState.UPDATING, 1)
        assert (await desk.rollouts.steer("web", PAUSE)).paused
        resumed = await desk.rollouts.steer("web", RESUME)
        assert not resumed.paused
        assert resumed.resumed_at > 0
        with pytest.raises(StateError, match="no rollout of service 'web' is paused"):
            await desk.rollouts.steer("web", RESUME)
        with pytest.raises(StateError, match="has no canary"):
            await desk.rollouts.steer("web", PROMOTE)


@in_virtual_time
async def test_a_word_lasts_as_long_as_the_template_it_was_said_of() -> None:
    async with sites() as [site]:
        desk = Desk(site)
        update = UpdateConfig(canary=1)
        service = await desk.history("image:1", "image:2", replicas=3, update=update)
        await desk.rolled(service, RolloutState.CANARY, 1)
        assert (await desk.rollouts.steer("web", PROMOTE)).promoted_version == 2
        await desk.rollouts.steer("web", PAUSE)

        (scaled,) = await desk.services.scale({"web": 4})
        assert (scaled.promoted_version, scaled.paused) == (3, True)

        other = replace(spec("web", "image:3"), replicas=4, update=update)
        new = await desk.services.update("web", scaled.version, other)
        assert new.promoted_version < new.spec_version
        assert not new.paused


@in_virtual_time
async def test_versions_are_listed_with_the_service_and_its_rollout() -> None:
    async with sites() as [site]:
        desk = Desk(site)
        service = await desk.history("image:1", "image:2")
        await desk.rolled(service, RolloutState.UPDATING, 1)
        summary, versions = await desk.rollouts.versions("web")
        assert [each.number for each in versions] == [1, 2]
        assert summary.rollout is not None
        assert summary.rollout.healthy == (1,)
