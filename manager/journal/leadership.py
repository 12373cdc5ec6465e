"""Who leads, and which managers come and go: what no transaction of ours would explain.

A manager's record stands under its lease and goes with it. So the leader tells of it; of its own
predecessor it tells by saying that it leads now.
"""

import asyncio
import logging
from typing import NoReturn

from cluster.model import Manager, ManagerId
from manager.committer import Committer
from manager.store.interface import StoreUnavailableError
from manager.view import Batch, View

log = logging.getLogger(__name__)

# Managers are a handful; more news than this waits for a store that is away, and is not needed.
NEWS_MAX = 100


async def tell_of_managers(view: View, committer: Committer, own_id: ManagerId) -> NoReturn:
    """Write into the journal that this manager leads, then which others come and go.

    Raises:
        FenceBrokenError: somebody else leads.
    """
    news: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue(NEWS_MAX)

    def heard(batch: Batch) -> None:
        for change in batch.changes:
            value = change.either
            if not isinstance(value, Manager) or (change.old and change.new) or news.full():
                continue
            news.put_nowait(("up" if change.new else "gone", value.id, _name(value)))

    own = view.managers.get(own_id)
    news.put_nowait(("leads", own_id, _name(own) if own else own_id))
    unsubscribe = view.subscribe(heard)
    try:
        while True:
            event, manager_id, name = await news.get()
            try:
                await committer.note("manager", event, id_=manager_id, name=name)
            except StoreUnavailableError as error:
                log.warning("the journal lacks an event: %s", error)
    finally:
        unsubscribe()


def _name(manager: Manager) -> str:
    return f"{manager.hostname} ({manager.address})" if manager.hostname else manager.address
