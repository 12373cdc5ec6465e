"""The loop that all reconcilers share: take what is due, plan, commit, forever.

A reconciler decides and never writes. The view's changes and a periodic resync only make keys
due, so a missed event costs delay, never correctness. Planning takes no await, so a plan is
made from one state of the view; everything due is planned together and committed in batches.
"""

import asyncio
import logging
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar

from cluster.clock import Clock
from manager import view as views
from manager.committer import Change, Committer
from manager.disruption import taken_by
from manager.reconcilers.keyqueue import KeyQueue
from manager.store.interface import StoreUnavailableError

log = logging.getLogger(__name__)

RESYNC_SECONDS = 30.0  # everything is looked at this often, whatever was or was not heard
SETTLE_RETRY_SECONDS = 0.5  # between attempts to learn the fate of unknown writes

# A service of thousands is looked at as a whole whenever one of its tasks moves. While it comes up
# that would be thousands of looks; so after each round there is a pause that keeps planning to
# this share of the time, and what moves meanwhile is looked at together. A small one waits for
# less than a millisecond.
PLANNING_SHARE_MAX = 0.2
PAUSE_SECONDS_MAX = 0.25  # what the largest may add to a reaction

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reconciler decided for one key.

    Attributes:
        changes: to commit.
        look_again_seconds: make the key due after that, if nothing else does before.
    """

    changes: Sequence[Change] = ()
    look_again_seconds: float | None = None


class Reconciler(Protocol[K]):
    """Decides for one kind of key."""

    name: str

    def concerned(self, change: views.Change) -> Iterable[K]:
        """Return the keys that *change* makes due."""

    def everything(self) -> Iterable[K]:
        """Return every key there is."""

    def plan(self, key: K, now: float) -> Plan:
        """Decide for *key* by the view as it stands; *now* is wall time in seconds."""


class ReconcileLoop:
    """Runs one reconciler as long as this manager leads."""

    def __init__(
        self,
        reconciler: Reconciler[K],
        view: views.View,
        committer: Committer,
        clock: Clock,
        source: random.Random,
    ) -> None:
        self._reconciler: Reconciler[object] = reconciler  # type: ignore[assignment]
        self._view = view
        self._committer = committer
        self._clock = clock
        self._queue: KeyQueue[object] = KeyQueue(source)

    async def run(self) -> NoReturn:
        """Reconcile whatever is due, for ever.

        Raises:
            FenceBrokenError: somebody else leads.
        """
        unsubscribe = self._view.subscribe(self._heard)
        resync = asyncio.create_task(self._resync())
        try:
            while True:
                planning_seconds = await self._round(await self._queue.take())
                pause = planning_seconds * (1 / PLANNING_SHARE_MAX - 1)
                await asyncio.sleep(min(pause, PAUSE_SECONDS_MAX))
        finally:
            resync.cancel()
            unsubscribe()
            self._queue.close()

    def _heard(self, batch: views.Batch) -> None:
        for change in batch.changes:
            for key in self._reconciler.concerned(change):
                self._queue.put(key)

    async def _resync(self) -> NoReturn:
        while True:
            for key in list(self._reconciler.everything()):
                self._queue.put(key)
            await asyncio.sleep(RESYNC_SECONDS)

    async def _round(self, keys: Sequence[object]) -> float:
        """Handle *keys*; return for how many seconds was planned."""
        await self._view.whole()
        now = self._clock.now()
        began_at = self._clock.monotonic()
        planned: list[tuple[object, Plan]] = []
        for key in keys:
            try:
                planned.append((key, self._reconciler.plan(key, now)))
            except Exception:
                log.exception(
                    "cannot decide", extra={"reconciler": self._reconciler.name, "key": key}
                )
                self._queue.retry(key)
        planning_seconds = self._clock.monotonic() - began_at
        changes = [change for _, plan in planned for change in plan.changes]
        for change in changes:
            log.debug("decided", extra={"reconciler": self._reconciler.name, "why": change.why})
        with self._view.parting(taken_by(changes)):
            stale = await self._commit(changes)
        for key, plan in planned:
            if stale and plan.changes:
                self._queue.retry(key)
                continue
            self._queue.done(key)
            if plan.look_again_seconds is not None:
                self._queue.put_later(key, plan.look_again_seconds)
        return planning_seconds

    async def _commit(self, changes: Sequence[Change]) -> int:
        """Write *changes*, if there are any; return how many have to be decided anew, or 1."""
        try:
            return await self._committer.commit(changes) if changes else 0
        except StoreUnavailableError as error:
            log.warning(
                "the outcome of a commit is unknown",
                extra={"reconciler": self._reconciler.name, "error": str(error)},
            )
            await settle(self._committer)
            return 1


async def settle(committer: Committer) -> None:
    """Learn what became of writes whose outcome is unknown, however long it takes.

    Raises:
        FenceBrokenError: somebody else leads.
    """
    while True:
        try:
            await committer.settle()
        except StoreUnavailableError:
            await asyncio.sleep(SETTLE_RETRY_SECONDS)
        else:
            return
