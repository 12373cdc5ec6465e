"""Being one of the managers: a lease, and our record under it.

A manager holds one lease. Whatever must vanish with it is written under that lease: its own
record, the sessions of its agents, its leadership. Rule: a lease counts as lost as soon as we
cannot be sure of it by our own monotonic clock, counted from when its last renewal was *asked*
for; that is before the store can end it. Then everything under it is as good as gone: a new
lease is taken, and whoever listens writes what is theirs again.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import NoReturn

from cluster.clock import Clock
from cluster.model import Manager
from manager import records
from manager.store.interface import (
    GuardFailedError,
    LeaseGoneError,
    LeaseId,
    Store,
    StoreUnavailableError,
    Unchanged,
)

log = logging.getLogger(__name__)

# How long the others wait for a manager that died. Etcd elects its own leader in one to two
# seconds, in which nothing can be renewed: this mostly outlives that, less would not.
LEASE_SECONDS = 3

# Renewals in the life of a lease, so that two may get lost.
RENEWALS = 3

# Before a renewal or a new lease is tried again: short against the lease, no storm.
RETRY_SECONDS = (0.1, 0.3)

# A stop waits so long for the store to end the lease; without that it ends by itself.
LEAVE_SECONDS = 2.0


class HeldLease:
    """A lease from its grant to its loss.

    Attributes:
        id: the store's.
        ttl_seconds: what one renewal is good for.
        asked_at: when it was asked for, by our monotonic clock.
        lost: set when it can no longer be relied on, for good.
    """

    def __init__(self, lease: LeaseId, ttl_seconds: float, asked_at: float, clock: Clock) -> None:
        self.id = lease
        self.ttl_seconds = ttl_seconds
        self.asked_at = asked_at
        self.lost = asyncio.Event()
        self._sure_until = asked_at + ttl_seconds  # by the monotonic clock
        self._clock = clock

    def seconds_left(self) -> float:
        """Return how long we can rely on it from now without another renewal; 0 if it is lost."""
        if self.lost.is_set():
            return 0.0
        return max(0.0, self._sure_until - self._clock.monotonic())

    def renewed(self, asked_at: float, ttl_seconds: float) -> None:
        """Take a renewal that was asked for at that time of the monotonic clock."""
        self.ttl_seconds = ttl_seconds
        self._sure_until = asked_at + ttl_seconds


class Membership:
    """Keeps this manager among the managers; ``run`` does the work."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        manager: Manager,
        source: random.Random,
        *,
        lease_seconds: int = LEASE_SECONDS,
    ) -> None:
        """Prepare.

        Args:
            store: what the lease is taken in.
            clock: of which only the monotonic half counts here.
            manager: our record; nobody else writes it.
            source: of jitter.
            lease_seconds: what is asked for; the store may grant more.
        """
        self.manager = manager
        self._store = store
        self._clock = clock
        self._source = source
        self._lease_seconds = lease_seconds
        self._lease: HeldLease | None = None
        self._joined = asyncio.Event()
        self._granted: LeaseId | None = None  # perhaps not usable, but to be ended
        self._listeners: list[Callable[[HeldLease | None], None]] = []

    @property
    def lease(self) -> HeldLease | None:
        """Return the lease that is held now."""
        return self._lease

    async def held(self) -> HeldLease:
        """Return the lease that is held, as soon as there is one."""
        while self._lease is None:
            await self._joined.wait()
        return self._lease

    def subscribe(self, listener: Callable[[HeldLease | None], None]) -> None:
        """Call *listener* with the lease now, and whenever there is another, or none (None)."""
        self._listeners.append(listener)
        listener(self._lease)

    async def run(self) -> NoReturn:
        """Hold a lease, one after another, until cancelled; then end it at once."""
        try:
            while True:
                lease = await self._join()
                log.info("manager %s is in, with lease %x", self.manager.id, lease.id)
                self._tell(lease)
                await self._keep(lease)
                log.warning("manager %s has lost lease %x", self.manager.id, lease.id)
                self._lose()
        finally:
            self._lose()
            await self._leave()

    async def _join(self) -> HeldLease:
        while True:
            try:
                return await self._try_to_join()
            except (StoreUnavailableError, GuardFailedError, LeaseGoneError) as error:
                log.info("manager %s is not in yet: %s", self.manager.id, error)
                await self._pause()

    async def _try_to_join(self) -> HeldLease:
        # The old lease ends first, if it has not: what hangs on it must not stand beside the new.
        if self._granted is not None:
            await self._store.revoke_lease(self._granted)
        asked_at = self._clock.monotonic()
        self._granted = await self._store.grant_lease(self._lease_seconds)
        put = records.put(self.manager, self._granted)
        item = await self._store.get(put.key)
        await self._store.commit([Unchanged(put.key, item.mod_revision if item else 0)], [put])
        return HeldLease(self._granted, self._lease_seconds, asked_at, self._clock)

    async def _keep(self, lease: HeldLease) -> None:
        """Renew *lease*; return when it is lost."""
        while True:
            await asyncio.sleep(min(lease.ttl_seconds / RENEWALS, lease.seconds_left()))
            while not await self._renew(lease):
                left = lease.seconds_left()
                if left <= 0:
                    return
                await self._pause(left)

    async def _renew(self, lease: HeldLease) -> bool:
        """Ask for one renewal; a lease that is gone has no seconds left afterwards."""
        asked_at = self._clock.monotonic()
        try:
            async with asyncio.timeout(lease.seconds_left()):
                granted = await self._store.keep_alive(lease.id)
        except (StoreUnavailableError, TimeoutError) as error:
            log.info("lease %x was not renewed: %s", lease.id, error or "no answer in time")
            return False
        if granted <= 0:
            lease.lost.set()
            return False
        lease.renewed(asked_at, granted)
        return True

    def _lose(self) -> None:
        if self._lease is not None:
            self._lease.lost.set()
            self._tell(None)

    def _tell(self, lease: HeldLease | None) -> None:
        self._lease = lease
        if lease is None:
            self._joined.clear()
        else:
            self._joined.set()
        for listener in self._listeners:
            listener(lease)

    async def _leave(self) -> None:
        """End the lease, so that the others need not wait for it to run out."""
        if self._granted is None:
            return
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._store.revoke_lease(self._granted)
        except (StoreUnavailableError, TimeoutError):
            log.warning("lease %x is left to run out", self._granted)

    async def _pause(self, seconds_max: float = RETRY_SECONDS[1]) -> None:
        await asyncio.sleep(min(seconds_max, self._source.uniform(*RETRY_SECONDS)))
