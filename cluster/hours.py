"""Hours of the day within which something may happen, such as ``22:00-06:00``. Pure.

A span that ends before it begins goes over midnight. Hours are those of clocks on the wall: on
the night when an hour exists twice it counts twice, and one that does not exist counts for
nothing.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from cluster.schedules import time_zone_flaw

_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def flaws(span: str, time_zone: str) -> Iterator[tuple[str, str]]:
    """Yield what cannot be used, as "hours" or "time_zone", and what is wrong with it."""
    if span and (found := _SPAN.fullmatch(span)) is None:
        yield (
            "hours",
            f"must be a span such as 22:00-06:00, or nothing for the whole day; is {span!r}",
        )
    elif span and found and found.group(1, 2) == found.group(3, 4):
        yield "hours", f"{span} is no time at all; leave it empty for the whole day"
    if message := time_zone_flaw(time_zone):
        yield "time_zone", message


def within(span: str, time_zone: str, at: float) -> bool:
    """Tell whether a moment, in seconds since 1970 UTC, is in *span*; an empty one has them all.

    Args:
        span: without flaw; its end is not part of it.
        time_zone: whose hours they are.
        at: the moment.
    """
    if not span:
        return True
    found = _SPAN.fullmatch(span)
    assert found is not None  # it has no flaw
    first, last = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    there = datetime.fromtimestamp(at, ZoneInfo(time_zone))
    minute = there.hour * 60 + there.minute
    return first <= minute < last if first < last else minute >= first or minute < last
