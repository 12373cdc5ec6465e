"""Keeps the journal within its bounds: by age, by number of entries and by size.

What happened first goes first, by the store's own order: clocks may have jumped. The leader
looks once a minute; between two looks the journal may grow beyond its bounds by what a minute
brings, which in the worst case measured (a cluster of 1,000 tasks a second) is some 20 MB.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import NoReturn

from cluster.clock import Clock
from manager.committer import Committer
from manager.store import keys
from manager.store.interface import KeyValue, Store, StoreUnavailableError

log = logging.getLogger(__name__)

AGE_SECONDS_MAX = 24 * 3600.0  # yesterday evening's trouble is still there in the morning
ENTRIES_MAX = 20_000  # a day of a change every four seconds; listed in a tenth of a second
BYTES_MAX = 16 * 1024**2  # of the 2 GB that an etcd takes unless told otherwise

PERIOD_SECONDS = 60.0

# What keys begin with, behind the prefix: milliseconds since 1970 UTC.
_MILLISECONDS_DIGITS = 14


def surplus(items: Sequence[KeyValue], now: float) -> list[str]:
    """Return the keys of the entries that are too old or too many, the oldest first.

    Args:
        items: the whole journal.
        now: seconds since 1970 UTC.
    """
    by_age = sorted(items, key=lambda item: (item.create_revision, item.key))
    left, size = len(by_age), sum(len(item.value) for item in by_age)
    gone = []
    for item in by_age:
        is_old = _written_at(item.key) < now - AGE_SECONDS_MAX
        if not is_old and left <= ENTRIES_MAX and size <= BYTES_MAX:
            # One written by a clock that ran behind may be old in the midst of others; it goes
            # with those around it.
            break
        gone.append(item.key)
        left, size = left - 1, size - len(item.value)
    return gone


def _written_at(key: str) -> float:
    digits = key.removeprefix(keys.JOURNAL)[:_MILLISECONDS_DIGITS]
    return int(digits) / 1000 if digits.isdecimal() else 0.0


async def prune_now_and_then(store: Store, committer: Committer, clock: Clock) -> NoReturn:
    """Prune the journal, for as long as this manager leads.

    Raises:
        FenceBrokenError: somebody else leads.
    """
    while True:
        try:
            gone = surplus((await store.list(keys.JOURNAL)).items, clock.now())
            await committer.erase(gone)
        except StoreUnavailableError as error:
            log.warning("the journal was not pruned: %s", error)
        await asyncio.sleep(PERIOD_SECONDS)
