"""Which manager to try next, and how long to wait before. No I/O, no clock.

After a break every other manager is tried once, at once (a broken session costs a fraction of
a second); only when all have failed do the waits grow. All waits are random, so that the
agents of a manager that died do not fall upon the next one in one moment.
"""

import random
from collections.abc import Iterable, Sequence

PROMPT_SECONDS_MAX = 0.1  # before another manager: spreads a thousand agents enough
WAIT_SECONDS_MIN = 0.2  # after a whole round has failed; doubles with each further one
WAIT_SECONDS_MAX = 5.0  # so a cluster that comes back has its agents within seconds
LASTING_SECONDS = 5.0  # a session that lived so long was a good one
DOUBLINGS_MAX = 10  # enough to reach the longest wait, and no overflow
MANAGERS_MAX = 100  # far more than any cluster has; a list is from the network


class Managers:
    """The managers that we were configured with and those that managers told us of."""

    def __init__(self, configured: Sequence[str], source: random.Random) -> None:
        self._configured = tuple(configured)
        self._told: tuple[str, ...] = ()
        self._source = source
        self._untried: list[str] = []
        self._rounds = 0  # that have failed in a row
        self._begin_round()

    @property
    def known(self) -> Sequence[str]:
        return tuple(dict.fromkeys((*self._told, *self._configured)))

    def next(self) -> str:
        """Return the manager to try now."""
        if not self._untried:
            self._begin_round()
        return self._untried.pop()

    def told(self, addresses: Iterable[str]) -> None:
        """Take the managers that a manager says are up."""
        told = tuple(dict.fromkeys(address for address in addresses if address))[:MANAGERS_MAX]
        if told and set(told) != set(self._told):
            self._told = told
            self._begin_round()

    def ended(self, address: str, lasted_seconds: float) -> float:
        """Note that the try of *address* is over; return the seconds to wait before the next.

        Args:
            address: which manager.
            lasted_seconds: how long there was a session; 0 if none came about.
        """
        if lasted_seconds >= LASTING_SECONDS:
            self._rounds = 0
            self._begin_round(last=address)
        if self._untried:
            return self._source.uniform(0.0, PROMPT_SECONDS_MAX)
        self._rounds += 1
        self._begin_round(last=address)
        longest = min(WAIT_SECONDS_MAX, WAIT_SECONDS_MIN * 2 ** min(self._rounds, DOUBLINGS_MAX))
        return self._source.uniform(0.0, longest)

    def _begin_round(self, last: str | None = None) -> None:
        order = [address for address in self.known if address != last]
        self._source.shuffle(order)
        if last is not None and last in self.known:
            order.insert(0, last)  # taken from the end
        self._untried = order
