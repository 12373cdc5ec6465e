"""Waiting for conditions, the only way in which tests of real machines wait."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.02
"""Fine enough not to show in what is waited for, coarse enough to leave the cores alone."""


def wait_until(
    condition: Callable[[], T],
    what: str,
    *,
    seconds: float = 30.0,
    every_seconds: float = POLL_SECONDS,
    retry_on: tuple[type[Exception], ...] = (),
) -> T:
    """Return the first true value of *condition*; exceptions of *retry_on* count as not yet.

    Raises:
        TimeoutError: it stayed false for *seconds*; tells *what* and what was last seen.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen: object
        try:
            value = condition()
        except retry_on as error:
            seen = error
        else:
            if value:
                return value
            seen = value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}; last seen: {seen!r}")
        time.sleep(every_seconds)
