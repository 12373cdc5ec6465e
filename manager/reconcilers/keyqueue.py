"""Which keys are due: each at most once, each handled by one worker at a time.

A key that is put while it is being handled is due again afterwards, so no change is missed. A
key may also be due at a later time, or after a back-off that grows with each failure in a row.
"""

import asyncio
import random
from typing import Generic, TypeVar

K = TypeVar("K")

BACKOFF_SECONDS_FIRST = 0.05
BACKOFF_SECONDS_MAX = 5.0  # a key that keeps failing is tried this often: visible, not busy
LATER_SECONDS_MIN = 0.001  # a remainder smaller than the clock's own steps would never pass
TAKE_MAX = 1000  # keys a round: bounds the work that is thrown away when a commit fails


class KeyQueue(Generic[K]):
    """Keys that are due, in the order in which they became so."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._due: dict[K, None] = {}
        self._taken: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()

    def put(self, key: K) -> None:
        """Make *key* due now."""
        if key in self._taken:
            self._again.add(key)
        else:
            self._due[key] = None
            self._wake.set()

    def put_later(self, key: K, seconds: float) -> None:
        """Make *key* due in so many seconds, unless it is so sooner."""
        loop = asyncio.get_running_loop()
        at = loop.time() + max(LATER_SECONDS_MIN, seconds)
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= at:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(at, self._fire, key)

    async def take(self) -> list[K]:
        """Wait until something is due; return it. Each key is then ``done`` or ``retry``."""
        while not self._due:
            self._wake.clear()
            await self._wake.wait()
        keys = list(self._due)[:TAKE_MAX]
        for key in keys:
            del self._due[key]
        self._taken.update(keys)
        return keys

    def done(self, key: K) -> None:
        """Say that *key* was handled well."""
        self._failures.pop(key, None)
        self._release(key)

    def retry(self, key: K) -> None:
        """Say that *key* could not be handled: it is due again after a back-off with jitter."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._release(key)
        if key not in self._due:
            pause = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_FIRST * 2.0 ** min(failures, 10))
            self.put_later(key, pause * self._source.uniform(0.5, 1.0))

    def close(self) -> None:
        """Cancel everything that would become due later."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _release(self, key: K) -> None:
        self._taken.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.put(key)

    def _fire(self, key: K) -> None:
        self._timers.pop(key, None)
        self.put(key)
