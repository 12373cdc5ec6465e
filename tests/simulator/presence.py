"""Whether somebody still listens at an address: ``manager.obituaries.until_refused``, simulated."""

import asyncio

from manager.obituaries import CLOSING_SECONDS, RETRY_SECONDS
from tests.simulator.loop import Process
from tests.simulator.network import Connection, End, Network


class _Ear:
    """The end of a connection on which nothing is ever said."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def lost(self, _: str) -> None:
        """See ``network.Peer``."""
        self.closed.set()


class Presence:
    """Asks for one process.

    Args:
        network: that connects.
        process: that asks.
        host: where it runs.
    """

    def __init__(self, network: Network, process: Process, host: str) -> None:
        self._network = network
        self._process = process
        self._host = host

    async def until_gone(self, address: str) -> None:
        """Return when connections are refused at *address* where one was accepted before."""
        has_answered = False
        while True:
            ear, end = _Ear(), End(self._process, self._host)
            end.peer = ear
            connection, why = await self._connect(address, end)
            if connection is not None:
                has_answered = True
                try:
                    await ear.closed.wait()
                finally:
                    connection.close(end, "no longer of interest")
                await asyncio.sleep(CLOSING_SECONDS)
            elif has_answered and why == "connection refused":
                return
            else:
                await asyncio.sleep(RETRY_SECONDS)

    async def _connect(self, address: str, end: End) -> tuple[Connection | None, str]:
        done: asyncio.Future[tuple[Connection | None, str]]
        done = asyncio.get_running_loop().create_future()

        def settle(connection: Connection | None, why: str) -> None:
            if not done.done():
                done.set_result((connection, why))

        self._network.connect(
            address, end, lambda made: settle(made, ""), lambda why: settle(None, why)
        )
        try:
            return await done
        except asyncio.CancelledError:
            end.is_open = False
            raise
