"""Not waiting for a manager whose process is gone: its lease is ended at once.

A lease tells after seconds that its holder is dead, whatever became of it. But when a process
dies and its host lives, the host says so at once: it closes the connections and refuses new
ones. So each manager keeps a connection to every other; when one is refused where somebody
listened before, or when a new manager has bound the address itself, the lease of the one that
is gone is revoked. With it go its leadership, its sessions and its record, and another leads.

Being wrong costs little: a manager that lives finds its lease ended, takes another one, and
writes what is its own again; that it led is over, and the fence keeps its writes out (I4).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from cluster.model import Manager, ManagerId
from cluster.task_group import TaskGroup
from manager.store import keys
from manager.store.interface import Store, StoreUnavailableError
from manager.view import Batch, View

log = logging.getLogger(__name__)

# Between attempts to reach a manager. Each is a packet or two, and there are five at most.
RETRY_SECONDS = 0.5

# After a connection has ended, until the next attempt: so long a process that ends may take
# from closing its connections to closing the port.
CLOSING_SECONDS = 0.02

READ_BYTES = 4096  # what a server greets with is of no interest

UntilGone = Callable[[str], Awaitable[None]]


async def until_refused(address: str) -> None:
    """Return when nobody listens any more at *address* ("host:port") where somebody did.

    An address that does not answer at all tells nothing: the way there may be cut.
    """
    host, _, port = address.rpartition(":")
    has_answered = False
    while True:
        try:
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except ConnectionRefusedError:
            if has_answered:
                return
            await asyncio.sleep(RETRY_SECONDS)
        except OSError:
            await asyncio.sleep(RETRY_SECONDS)
        else:
            has_answered = True
            try:
                await _until_closed(reader)
            finally:
                writer.close()
            await asyncio.sleep(CLOSING_SECONDS)


async def _until_closed(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(READ_BYTES):
            continue
    except OSError:
        return


class Obituaries:
    """Minds the other managers; ``run`` does the work."""

    def __init__(self, store: Store, view: View, own: Manager, until_gone: UntilGone) -> None:
        """Do nothing yet.

        Args:
            store: where leases end.
            view: tells who the managers are.
            own: this manager, whose address is bound.
            until_gone: returns when whoever was at an address is gone.
        """
        self._store = store
        self._view = view
        self._own = own
        self._until_gone = until_gone
        self._news = asyncio.Event()

    async def run(self) -> NoReturn:
        """Mind all managers that there are, for ever."""
        unsubscribe = self._view.subscribe(self._heard)
        minding: dict[ManagerId, asyncio.Task[None]] = {}
        try:
            async with TaskGroup() as group:
                while True:
                    others = self._view.managers.keys() - {self._own.id}
                    for manager_id in sorted(minding.keys() - others):
                        minding.pop(manager_id).cancel()
                    for manager_id in sorted(others - minding.keys()):
                        manager = self._view.managers[manager_id]
                        minding[manager_id] = group.create_task(self._mind(manager))
                    self._news.clear()
                    await self._news.wait()
        finally:
            unsubscribe()

    def _heard(self, batch: Batch) -> None:
        if any(isinstance(change.either, Manager) for change in batch.changes):
            self._news.set()

    async def _mind(self, manager: Manager) -> None:
        if _place(manager) != _place(self._own):
            await self._until_gone(manager.address)
        elif manager.started_at > self._own.started_at:
            return  # we are the one that is gone
        try:
            item = await self._store.get(keys.manager(manager.id))
            if item is None:
                return
            log.warning(
                "a manager is gone", extra={"manager": manager.id, "address": manager.address}
            )
            await self._store.revoke_lease(item.lease)
        except StoreUnavailableError as error:
            log.warning("the lease of a manager that is gone runs on: %s", error)


def _place(manager: Manager) -> tuple[str, str]:
    """Return what one process can have at a time; several may share an address that balances."""
    return manager.hostname, manager.address
