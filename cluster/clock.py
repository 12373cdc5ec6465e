"""Time, as a dependency: nothing else in the project reads the machine's clocks.

Waiting is the event loop's work (``asyncio.sleep``, ``asyncio.timeout``); on the simulator's
loop that is virtual time too.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one to write into records, one to measure silence with."""

    def now(self) -> float:
        """Return seconds since 1970-01-01 UTC; may jump."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; never goes back."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()  # noqa: TID251 - the one place

    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251 - the one place
