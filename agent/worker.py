"""The agent's inner loop: look at the containers, decide, act; forever, manager or no manager.

Two things wake it: news from the manager (``assign``) and news from the engine. The engine's
events are only hints at which container to look at; a listing every few seconds, and after
each break, finds whatever they missed. While the engine gives no answer nothing is decided
anew about containers, for what was last seen still stands.
"""

import asyncio
import contextlib
import logging
import random
import subprocess
from collections.abc import AsyncIterator, Callable, Collection, Hashable
from typing import NoReturn

from agent import reconciler
from agent.assignments import AssignmentSet
from agent.executor import Executor
from agent.fence import Fence
from agent.observed import Observed
from agent.outbox import Outbox
from agent.reconciler import Facts, Prepare, Remove, Start, Stop
from agent.runtime.interface import (
    Container,
    ContainerHint,
    ContainerId,
    ContainerState,
    Owner,
    Runtime,
    RuntimeFailedError,
    RuntimeUnavailableError,
)
from cluster.clock import Clock
from cluster.model import TaskId
from cluster.task_group import TaskGroup

log = logging.getLogger(__name__)

LISTING_SECONDS = 10.0  # between listings: how long a missed hint can go unnoticed
RETRY_SECONDS_MIN = 0.1  # after a break: a restarting daemon is missed for a fraction of a second
RETRY_SECONDS_MAX = 5.0  # and one that is away longer is asked now and then
LOOKS_MAX = 16  # hinted containers looked at at once; the rest wait their turn
LEASES_SECONDS = (0.25, 2.0)  # between two looks at leases: the nearer an end, the shorter
NETWORKS_SECONDS = 30.0  # between two searches for networks that nobody uses any more
NETWORKS_PAUSE_SECONDS = 1.0  # and at least: a hundred containers that go are one or two searches


class Worker:
    """Runs the tasks assigned to one node of one cluster.

    Attributes:
        outbox: what is to be reported.
        assigned: what was last assigned.
    """

    def __init__(
        self,
        runtime: Runtime,
        owner: Owner,
        *,
        clock: Clock,
        source: random.Random,
        booted_at: float = 0.0,
        on_connected: Callable[[], None] = lambda: None,
        fence: Fence | None = None,
    ) -> None:
        self.outbox = Outbox()
        self.assigned = AssignmentSet()
        self._runtime = runtime
        self._owner = owner
        self._clock = clock
        self._source = source
        self._booted_at = booted_at
        self._on_connected = on_connected
        self._observed = Observed()
        self._news = asyncio.Event()
        self._listing_due = asyncio.Event()
        self._executor = Executor(
            runtime,
            owner,
            self._observed,
            self.outbox,
            clock=clock,
            source=source,
            wake=self._news.set,
            lost_sight=self._listing_due.set,
            request_of=self._request_of,
            fence=fence,
        )
        self._fence = fence
        self._has_looked = False
        self._found_dead: frozenset[ContainerId] = frozenset()
        self._interrupted: frozenset[ContainerId] = frozenset()
        self._signalled_at: dict[ContainerId, float] = {}
        self._hinted: dict[ContainerId, None] = {}  # in order
        self._hint_came = asyncio.Event()
        self._answered_at: float | None = None
        self._networks_freed = asyncio.Event()
        self._users: frozenset[Hashable] = frozenset()
        self._breaks = 0

    # --- what others see ----------------------------------------------------------------------

    @property
    def containers(self) -> Collection[Container]:
        """Our containers as last seen."""
        return self._observed.containers

    def container_of(self, task_id: TaskId) -> Container | None:
        """Return a task's container, if there is one."""
        return next((one for one in self.containers if one.task_id == task_id), None)

    def silence_seconds(self) -> float:
        """Return for how long the engine has not answered; infinite if it never has."""
        if self._answered_at is None:
            return float("inf")
        return self._clock.monotonic() - self._answered_at

    def assign(self, assigned: AssignmentSet, *, is_whole: bool) -> None:
        """Take what the manager wants now; *is_whole*: it also said how far each task has come."""
        self.assigned = assigned
        self.outbox.forget_all_but(assigned.tasks.keys())
        if is_whole:
            for task_id, status in self.outbox.known.items():
                if status.state > assigned.tasks[task_id].state:
                    self.outbox.renew(task_id)
        self._news.set()

    async def run(self) -> NoReturn:
        """Work until cancelled; containers then stay as they are."""
        try:
            async with TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._look_at_hinted())
                group.create_task(self._reconcile())
                if self._fence is not None:
                    group.create_task(self._mind_leases(self._fence))
        finally:
            await self._executor.aclose()
        raise AssertionError  # none of them returns

    def _request_of(self, task_id: TaskId) -> str:
        assignment = self.assigned.tasks.get(task_id)
        return "" if assignment is None else assignment.request_id

    # --- decide, then do ----------------------------------------------------------------------

    async def _reconcile(self) -> NoReturn:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._has_looked:
                self._executor.apply(reconciler.plan(self._facts()))
                self._mind_networks()

    def _facts(self) -> Facts:
        return Facts(
            now=self._clock.now(),
            is_complete=self.assigned.is_complete,
            assignments=self.assigned.tasks,
            specs=self.assigned.specs,
            containers=self._observed.containers,
            statuses=self.outbox.known,
            busy=self._executor.busy,
            signalled_at=self._signalled_at,
            found_dead=self._found_dead,
            interrupted=self._interrupted,
            booted_at=self._booted_at,
            overdue=self._fence.overdue() if self._fence else (),
        )

    # --- leases -------------------------------------------------------------------------------

    async def _mind_leases(self, fence: Fence) -> NoReturn:
        """See that fenced containers are guarded, and stop when their time is over."""
        while True:
            await fence.until_needed()
            shortest, longest = LEASES_SECONDS
            await asyncio.sleep(min(max(shortest, fence.seconds_left()), longest))
            if self._has_looked:
                self._note_leases(fence)
            try:
                await fence.mind()
            except (RuntimeUnavailableError, OSError, subprocess.SubprocessError) as error:
                log.warning("fenced containers are not guarded", extra={"error": str(error)})
            overdue = fence.overdue()
            if overdue and any(one.alive for one in self._observed.containers if one.id in overdue):
                self._news.set()

    def _note_leases(self, fence: Fence) -> None:
        starting = {s.container_id for s in self._executor.busy.values() if isinstance(s, Start)}
        seen = self._observed.containers
        fence.ended({one.id for one in seen if one.state is ContainerState.EXITED} - starting)
        fence.keep_only({one.id for one in seen} | starting)

    # --- networks -----------------------------------------------------------------------------

    def _mind_networks(self) -> None:
        """Note when something that may have used a network is gone."""
        users = frozenset((*self.assigned.specs, *(one.id for one in self._observed.containers)))
        if self._users - users:
            self._networks_freed.set()
        self._users = users

    async def _tidy_networks(self) -> NoReturn:
        """Remove networks that nobody uses any more: Docker has room for some thirty only."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NETWORKS_SECONDS * self._source.uniform(0.8, 1.2)):
                    await self._networks_freed.wait()
            self._networks_freed.clear()
            if self.assigned.is_complete:
                specs = self.assigned.specs.values()
                keep = {one.network for spec in specs for one in spec.networks}
                try:
                    await self._runtime.remove_unused_networks(self._owner, keep)
                except RuntimeFailedError as error:
                    log.warning("cannot remove a network", extra={"error": str(error)})
            await asyncio.sleep(NETWORKS_PAUSE_SECONDS)

    # --- looking ------------------------------------------------------------------------------

    async def _watch(self) -> NoReturn:
        """Listen and list; after each break anew."""
        while True:
            try:
                async with self._runtime.listen(self._owner) as hints:
                    await self._list(after_break=True)
                    self._executor.unbar()
                    self._on_connected()
                    self._breaks = 0
                    async with TaskGroup() as group:
                        group.create_task(self._hear(hints))
                        group.create_task(self._list_now_and_then())
                        group.create_task(self._tidy_networks())
            except* (RuntimeUnavailableError, RuntimeFailedError) as errors:
                self._breaks += 1
                if self._breaks == 1:
                    log.warning("lost Docker", extra={"error": str(errors.exceptions[0])})
            longest = min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2 ** min(self._breaks, 10))
            await asyncio.sleep(self._source.uniform(0.5, 1.0) * longest)

    async def _list_now_and_then(self) -> NoReturn:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LISTING_SECONDS * self._source.uniform(0.8, 1.2)):
                    await self._listing_due.wait()
            self._listing_due.clear()
            await self._list()

    async def _list(self, *, after_break: bool = False) -> None:
        ticket = self._observed.begin()
        containers = await self._runtime.list(self._owner)
        self._answered()
        dead = frozenset(one.id for one in containers if not one.alive)
        if not self._has_looked:
            self._found_dead = dead
            log.info("found containers", extra={"count": len(containers)})
            self._has_looked = True
        elif after_break:
            alive = {one.id for one in self._observed.containers if one.alive}
            self._interrupted |= dead & alive
        if self._observed.note_all(ticket, containers):
            self._news.set()
        self._forget_what_is_gone()

    def _forget_what_is_gone(self) -> None:
        seen = self._observed.containers
        ids = {one.id for one in seen}
        self._signalled_at = {key: at for key, at in self._signalled_at.items() if key in ids}
        self._found_dead &= ids
        self._interrupted &= ids
        self._executor.forget_all_but(self.assigned.tasks.keys() | {one.task_id for one in seen})

    async def _hear(self, hints: AsyncIterator[ContainerHint]) -> None:
        async for hint in hints:
            self._answered()
            if hint.signalled and not self._is_our_signal(hint.container_id):
                self._signalled_at[hint.container_id] = self._clock.now()
            if not self._is_known_to_begin(hint):
                self._hinted[hint.container_id] = None
                self._hint_came.set()

    def _is_known_to_begin(self, hint: ContainerHint) -> bool:
        """Tell whether a look would only show what a step of ours shows anyway."""
        if not hint.began:
            return False
        seen = self._observed.get(hint.container_id)
        is_begun_by_us = isinstance(self._executor.busy.get(hint.task_id), Prepare | Start)
        return is_begun_by_us or (seen is not None and seen.alive)

    def _is_our_signal(self, container_id: ContainerId) -> bool:
        return any(
            isinstance(step, Stop | Remove) and step.container_id == container_id
            for step in self._executor.busy.values()
        )

    async def _look_at_hinted(self) -> NoReturn:
        while True:
            await self._hint_came.wait()
            self._hint_came.clear()
            while self._hinted:
                batch = list(self._hinted)[:LOOKS_MAX]
                for container_id in batch:
                    del self._hinted[container_id]
                await asyncio.gather(*map(self._look, batch))

    async def _look(self, container_id: ContainerId) -> None:
        ticket = self._observed.begin()
        try:
            seen = await self._runtime.inspect(container_id)
        except (RuntimeUnavailableError, RuntimeFailedError):
            return  # the next listing will tell
        self._answered()
        if seen is None:
            has_changed = self._observed.note_gone(ticket, container_id)
        else:
            has_changed = self._observed.note(ticket, seen)
        if has_changed:
            self._news.set()

    def _answered(self) -> None:
        self._answered_at = self._clock.monotonic()
