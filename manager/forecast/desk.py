"""Requests on trial: decided by the code that decides real ones, over a copy of the view.

The copy is made in one instant of the view, at a revision that the view has reached in full;
the rest runs in a thread beside the manager's own work, one forecast at a time.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from cluster.clock import Clock
from cluster.errors import InternalError
from cluster.ids import IdSource
from cluster.model import ManagerId, Object
from manager.control.access import Access
from manager.control.nodes import Nodes
from manager.control.rollouts import Rollouts
from manager.control.services import Services
from manager.control.stacks import Stacks
from manager.control.usage import Usages
from manager.forecast.future import Future
from manager.forecast.outcome import Outcome, outcome
from manager.journal.writer import Journal
from manager.store.interface import Guard, Listing, Revision, Store, Write
from manager.view import View

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trial:
    """The Control API over a copy of the view: what is asked of it changes nothing real."""

    services: Services
    stacks: Stacks
    nodes: Nodes
    rollouts: Rollouts


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would come of a request.

    Attributes:
        revision: of the store, on which it rests.
        answer: that the request got.
    """

    revision: Revision
    outcome: Outcome
    answer: object


class Aside(Protocol):
    """Calls a function and returns its result."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]: ...


Request = Callable[[Trial], Awaitable[object]]


class Forecasts:
    """Tries requests out."""

    def __init__(
        self,
        access: Access,
        usages: Usages,
        clock: Clock,
        source: random.Random,
        aside: Aside = asyncio.to_thread,
    ) -> None:
        """Try nothing yet.

        Args:
            access: to the cluster as it is.
            usages: of nodes.
            clock: the time at which a forecast begins.
            source: of ids.
            aside: does lengthy work while the event loop goes on.
        """
        self._aside = aside
        self._access = access
        self._view = access.view
        self._usages = usages
        self._clock = clock
        self._source = source
        self._one_at_a_time = asyncio.Lock()

    async def of(self, request: Request) -> Forecast:
        """Return what would come of *request*, which raises what it would raise.

        Raises:
            ClusterError: the request would be refused.
        """
        async with self._one_at_a_time:
            await self._caught_up()
            before = self._view.fork()
            after = self._view.fork()
            now = self._clock.now()
            future = await self._aside(lambda: Future(after, now))
            answer = await request(self._trial(after))
            course = await self._aside(future.run)
            found = outcome(
                before,
                after,
                future.touched,
                seconds=course.seconds,
                awaiting_room=course.awaiting_room,
                is_complete=course.is_complete,
            )
            return Forecast(before.revision, found, answer)

    async def _caught_up(self) -> None:
        """Let the view reach what this manager has itself written, so that it is of one revision."""
        view = self._view
        written: Sequence[Object] = (
            *view.services.values(),
            *view.nodes.values(),
            *view.stacks.values(),
        )
        newest = max((each.version for each in written), default=0)
        await self._access.reached(newest)

    def _trial(self, fork: View) -> Trial:
        # New ids are not seeded: a plan that is carried out gives its services those very ids.
        ids = IdSource(self._source)
        store: Store = _Nowhere(fork)  # type: ignore[assignment]
        access = Access(store, fork, Journal(fork, self._clock, ids, ManagerId("")))
        return Trial(
            services=Services(access, ids, self._clock),
            stacks=Stacks(access, ids, self._clock),
            nodes=Nodes(access, self._usages, self._clock),
            rollouts=Rollouts(access, self._clock),
        )


class _Nowhere:
    """A store of which only commits are asked: all of them succeed, for the fork is all there is."""

    def __init__(self, fork: View) -> None:
        self._revision = fork.revision
        self._view = fork

    async def commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Revision:  # noqa: ARG002
        self._revision += 1
        return self._revision

    async def list(self, prefix: str) -> Listing:  # noqa: ARG002
        return Listing(self._view.revision, ())

    def __getattr__(self, name: str) -> object:
        raise InternalError(f"a forecast asked its store to {name}")
