"""Compaction: let the store forget old history, or it fills its disk and refuses writes.

Every so often everything from before the last time goes. A watcher that lags behind by more
lists anew, which the view does by itself.
"""

import asyncio
import logging
from typing import NoReturn

from manager.store.interface import Store, StoreUnavailableError
from manager.view import View

log = logging.getLogger(__name__)

# Between two and one of these periods of history are kept. A manager cut off for that long has
# to read everything again, which takes it a fraction of a second.
PERIOD_SECONDS = 300.0


async def compact_now_and_then(store: Store, view: View) -> NoReturn:
    """Compact the store's history, for as long as this manager leads."""
    kept_from = view.revision
    while True:
        await asyncio.sleep(PERIOD_SECONDS)
        try:
            # After a restore from a backup the store may not have come that far yet.
            await store.compact(min(kept_from, view.revision))
        except StoreUnavailableError as error:
            log.warning("the history was not compacted: %s", error)
        kept_from = view.revision
