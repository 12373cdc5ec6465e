"""A lock among the agents of one host, for what Docker itself does not make unique.

Docker checks a network's name and makes the network in two steps, so two agents that share
one daemon can both make it; from then on every start that names it fails.

The lock is an abstract socket address: one process of the host can have it, the kernel frees it
with the process, and no file is left behind.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator

from agent.runtime.interface import RuntimeUnavailableError

POLL_SECONDS = 0.02
WAIT_SECONDS_MAX = 5.0  # making a network takes a tenth of a second; a holder that hangs is barred


@contextlib.asynccontextmanager
async def host_lock(name: str) -> AsyncIterator[None]:
    """Hold the host's lock of that *name*.

    Raises:
        RuntimeUnavailableError: somebody else has held it for too long.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as holder:
        await _take(holder, name)
        yield


async def _take(holder: socket.socket, name: str) -> None:
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not _bound(holder, f"\0shoal-{name}"):  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)  # no event tells of another process
    except TimeoutError:
        raise RuntimeUnavailableError(
            f"another agent of this host holds the lock for its {name} too long"
        ) from None


def _bound(holder: socket.socket, address: str) -> bool:
    try:
        holder.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True
