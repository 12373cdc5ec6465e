"""A Control API and forecasts over the leader of ``tests.harness.leading``."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from cluster.ids import IdSource
from cluster.model import ClusterId, ManagerId, NodeDescription, NodeSpec, Platform
from cluster.resources import Resources
from manager.control.access import Access
from manager.control.nodes import Nodes
from manager.control.rollouts import Rollouts
from manager.control.services import Services
from manager.control.stacks import Stacks
from manager.control.usage import Usages
from manager.forecast.desk import Forecast, Forecasts, Trial
from manager.forecast.outcome import Effect, Outcome, outcome
from manager.forecast.pinned import PinnedDeploys, PinnedPlan
from manager.journal.writer import Journal
from manager.rpc.peers import GrpcPeers
from manager.rpc.transport import GrpcTransport
from manager.view import View
from tests.fakes.virtual_time import LoopClock
from tests.harness.leading import Leading

T = TypeVar("T")

# Longer than the leader takes for all that follows from one thing: it decides in milliseconds, and a
# container takes longer to stop or start. That is what a forecast rests on.
AGENTS_TAKE_SECONDS = 0.2

CALM_SECONDS = 40.0  # longer than any wait of the reconcilers' while all is well


async def at_once(function: Callable[[], T]) -> T:
    return function()


class Desk:
    """The Control API of the harness's one manager."""

    def __init__(self, core: Leading) -> None:
        source = random.Random(3)
        clock, ids = LoopClock(), IdSource(source)
        access = Access(core.store, core.view, Journal(core.view, clock, ids, ManagerId("m")))
        usages = Usages(core.view, ManagerId("m"), list, GrpcPeers(GrpcTransport(None)))
        self.core = core
        self.stacks = Stacks(access, ids, clock)
        self.services = Services(access, ids, clock)
        self.nodes = Nodes(access, usages, clock)
        self.rollouts = Rollouts(access, clock)
        self.forecasts = Forecasts(access, usages, clock, source, at_once)
        self.pinned = PinnedDeploys(core.view, self.stacks, self.forecasts)

    @property
    def real(self) -> Trial:
        """The same parts over what is real."""
        return Trial(self.services, self.stacks, self.nodes, self.rollouts)

    async def calm(self) -> View:
        """Return the view once nothing has changed for a while."""
        seen = -1
        while self.core.view.revision != seen:
            seen = self.core.view.revision
            await asyncio.sleep(CALM_SECONDS)
        return self.core.view.fork()

    async def foretold(self, request: Callable[[Trial], Awaitable[object]]) -> Forecast:
        before = self.core.view.revision
        forecast = await self.forecasts.of(request)
        assert self.core.view.revision == before == self.core.state.revision, "it wrote something"
        assert forecast.outcome.is_complete
        return forecast

    async def comes_true(self, forecast: Forecast, request: Awaitable[object]) -> Outcome:
        """Do it; return what really became of it, once that is as it was foretold."""
        before = self.core.view.fork()
        await request
        after = await self.calm()
        real = outcome(before, after, [*before.services, *after.services])
        # Which host is free first, and who of two gets the last port or room, is the doing of agents
        # and of the moment; and so is what becomes of those two, and who waits for them.
        if not (forecast.outcome.awaiting_room or _wait(real, forecast.outcome)):
            assert real.tasks == forecast.outcome.tasks
            assert [(s.name, s.waits_for) for s in real.services] == [
                (s.name, s.waits_for) for s in forecast.outcome.services
            ]
        assert [(s.effect, s.name, s.before, s.after) for s in real.services] == [
            (s.effect, s.name, s.before, s.after) for s in forecast.outcome.services
        ]
        assert real.nodes == forecast.outcome.nodes
        return real


def _wait(*found: Outcome) -> bool:
    return any(task.effect is Effect.WAIT for each in found for task in each.tasks)


def pin_of(forecast: Forecast, **changes: object) -> PinnedPlan:
    found = forecast.outcome
    pin = PinnedPlan(
        ClusterId("c"),
        forecast.revision,
        {each.name: each.service_id for each in found.services if each.before is None},
        found.tasks,
    )
    return PinnedPlan(**{**{n: getattr(pin, n) for n in pin.__slots__}, **changes})


async def with_nodes(core: Leading, nodes: Sequence[tuple[int, str]]) -> Desk:
    for number, (cpus, zone) in enumerate(nodes):
        name = f"n{number}"
        description = NodeDescription(
            hostname=name,
            capacity=Resources(cpu_nanos=cpus * 10**9, memory_bytes=1 << 30),
            platform=Platform(os="linux", architecture="amd64"),
        )
        spec = NodeSpec(labels={"zone": zone})
        await core.add_node(name, description=description, spec=spec)
    core.agents_take_seconds = AGENTS_TAKE_SECONDS
    desk = Desk(core)
    await desk.calm()
    return desk
