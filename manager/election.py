"""Who leads: the manager whose lease holds the election key.

The key is created only where there is none, under the manager's one lease, and goes with it.
Safety rests on two things, neither of which trusts the other's clock:

* the fence: every write of a leader is guarded by the incarnation of the key that made it one,
  so that what a deposed leader still sends cannot commit (I4);
* the step down: a leader stops by its own monotonic clock a margin before its lease can end, so
  that as a rule two never work at the same time.

A candidate waits for the key to go by watching it: a leader that resigns is followed at once.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import NoReturn

from manager.membership import HeldLease, Membership
from manager.store import keys
from manager.store.interface import (
    Changed,
    CompactedError,
    Delete,
    GuardFailedError,
    LeaseGoneError,
    Listing,
    Put,
    Revision,
    SameIncarnation,
    Store,
    StoreUnavailableError,
    Unchanged,
)

log = logging.getLogger(__name__)

# The part of a lease's life that a leader gives up to be surely gone before another leads.
MARGIN = 1 / 6

# Before a campaign begins anew, so that a leader that cannot lead gives others a chance.
RETRY_SECONDS = (0.1, 0.3)

# What a leader's work gets to end itself before the key is given back: the fence stays.
STOP_SECONDS = 1.0

# What the store gets to take the key back: without that it goes with the lease.
RESIGN_SECONDS = 1.0


class Leadership:
    """One term of leading.

    Attributes:
        create_revision: of the election key: it names the term, and orders terms.
        lost: set when it is over, for good.
    """

    def __init__(self, create_revision: Revision, lease: HeldLease) -> None:
        self.create_revision = create_revision
        self.lost = asyncio.Event()
        self.lease = lease

    @property
    def fence(self) -> SameIncarnation:
        """Return the guard that every write of this term must carry."""
        return SameIncarnation(keys.LEADER, self.create_revision)

    def seconds_left(self) -> float:
        """Return how long this term lasts from now unless the lease is renewed; 0 if it is over."""
        if self.lost.is_set():
            return 0.0
        return max(0.0, self.lease.seconds_left() - MARGIN * self.lease.ttl_seconds)


Work = Callable[[Leadership], Awaitable[None]]


class Election:
    """One candidate."""

    def __init__(self, store: Store, membership: Membership, source: random.Random) -> None:
        """Prepare to stand for election with the lease of *membership*; *source* is of jitter."""
        self._store = store
        self._membership = membership
        self._source = source

    async def lead(self, work: Work) -> NoReturn:
        """Do *work* whenever we lead, until cancelled.

        The work is cancelled when the leadership is lost. If it returns, another gets the
        chance to lead. If it fails, we resign and its exception is ours: a manager with a defect
        should not lead idly.
        """
        while True:
            leadership = await self._campaign()
            log.info("leads since revision %d", leadership.create_revision)
            await self._reign(leadership, work)
            log.info("no longer leads")
            await self._pause()

    async def _campaign(self) -> Leadership:
        while True:
            lease = await self._membership.held()
            if Leadership(0, lease).seconds_left() <= 0:  # it would be over at once
                await self._pause()
                continue
            own = self._membership.manager.id
            try:
                revision = await self._store.commit(
                    [Unchanged(keys.LEADER, 0)], [Put(keys.LEADER, own.encode(), lease.id)]
                )
            except GuardFailedError as failure:
                holder = failure.current[keys.LEADER]
                assert holder is not None  # the guard was that there is none
                if holder.lease == lease.id:  # by a commit of ours that got no answer
                    return Leadership(holder.create_revision, lease)
                await self._until_gone(holder.create_revision, failure.revision)
            except (StoreUnavailableError, LeaseGoneError) as error:
                log.info("cannot stand for election now: %s", error)
                await self._pause()
            else:
                return Leadership(revision, lease)

    async def _reign(self, leadership: Leadership, work: Work) -> None:
        working = asyncio.ensure_future(work(leadership))
        tasks = {
            working,
            asyncio.create_task(_until_over(leadership)),
            asyncio.create_task(
                self._until_gone(leadership.create_revision, leadership.create_revision)
            ),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leadership.lost.set()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
            await self._resign(leadership)
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                try:
                    task.result()
                except StoreUnavailableError as error:
                    log.warning("stops leading: %s", error)

    async def _until_gone(self, create_revision: Revision, after: Revision) -> None:
        """Wait until that incarnation of the key, which stood at *after*, no longer stands."""
        while True:
            try:
                async with aclosing(self._store.watch(keys.LEADER, after)) as batches:
                    async for batch in batches:
                        for event in batch.events:
                            if event.key == keys.LEADER and not (
                                isinstance(event, Changed)
                                and event.item.create_revision == create_revision
                            ):
                                return
            except CompactedError:
                listing = await self._listing()
                if create_revision not in {item.create_revision for item in listing.items}:
                    return
                after = listing.revision
            else:
                return  # the store is closed

    async def _listing(self) -> Listing:
        while True:
            try:
                return await self._store.list(keys.LEADER)
            except StoreUnavailableError:
                await self._pause()

    async def _resign(self, leadership: Leadership) -> None:
        """Give the key back, if it is still ours; without an answer it goes with the lease."""
        try:
            async with asyncio.timeout(RESIGN_SECONDS):
                await self._store.commit([leadership.fence], [Delete(keys.LEADER)])
        except (GuardFailedError, StoreUnavailableError, TimeoutError) as error:
            log.info("the election key was not given back: %s", error or "no answer in time")

    async def _pause(self) -> None:
        await asyncio.sleep(self._source.uniform(*RETRY_SECONDS))


async def _until_over(leadership: Leadership) -> None:
    """Wait until the lease is lost, or so near its end that leading is not safe."""
    while (left := leadership.seconds_left()) > 0:
        try:
            async with asyncio.timeout(left):
                await leadership.lease.lost.wait()
        except TimeoutError:
            continue  # renewed meanwhile, or over
