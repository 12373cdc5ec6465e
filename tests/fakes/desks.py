"""Managers' sessions over one store in memory, with leases that are kept alive."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from cluster.model import ManagerId, NodeDescription, Session
from cluster.resources import Resources
from manager import records
from manager.dispatch.open_session import OpenSession
from manager.dispatch.session_keys import SessionKeys
from manager.dispatch.sessions import Sessions
from manager.store import keys
from manager.store.interface import LeaseId
from tests.fakes.sites import Site, node_id, sites
from tests.fakes.virtual_time import LoopClock

N1 = node_id("n1")
HOST = NodeDescription(hostname="n1", capacity=Resources(cpu_nanos=10**9, memory_bytes=2**30))


class Desk:
    """One manager's sessions; its lease is kept alive until it is lost."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.lease: LeaseId | None = None
        self.sessions = Sessions(
            SessionKeys(site.store, site.view, site.journal, lambda: self.lease),
            site.view,
            manager_id=ManagerId(name),
            ids=site.ids,
            clock=LoopClock(),
            source=site.source,
        )
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.lease = await self.site.store.grant_lease(3)
        self._running = [
            asyncio.create_task(self.sessions.run()),
            asyncio.create_task(self._keep_alive()),
        ]

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def open(self, name: str = "n1", **labels: str) -> OpenSession:
        return await self.sessions.open(node_id(name), HOST, labels, "")

    async def _keep_alive(self) -> None:
        while True:
            if self.lease is not None:
                await self.site.store.keep_alive(self.lease)
            await asyncio.sleep(1)

    def key(self, name: str = "n1") -> Session | None:
        """Return what the store says of the node's session."""
        item = self.site.state.get(keys.session(node_id(name)))
        value = records.decode(item) if item else None
        assert value is None or isinstance(value, Session)
        return value


@asynccontextmanager
async def desks(count: int = 1) -> AsyncIterator[list[Desk]]:
    async with sites(count) as all_sites:
        all_of_them = [Desk(site, f"m{number}") for number, site in enumerate(all_sites)]
        try:
            for desk in all_of_them:
                await desk.start()
            yield all_of_them
        finally:
            for desk in all_of_them:
                await desk.stop()


async def beat(desk: Desk, session: OpenSession, seconds: float) -> None:
    """Send heartbeats for so long, as an agent does."""
    end = LoopClock().monotonic() + seconds
    while LoopClock().monotonic() < end:
        period = desk.sessions.heartbeat(session.id, None)
        await asyncio.sleep(period)
