"""A lock among the agents of one host, for what Docker itself does not make unique.

Docker checks a network's name and makes the network in two steps, so two agents that share
one daemon can both make it; from then on every start that names it fails.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

from agent.runtime.interface import RuntimeUnavailableError

POLL_SECONDS = 0.02
WAIT_SECONDS_MAX = 5.0  # making a network takes a tenth of a second; a holder that hangs is barred

_FOLDERS = (Path("/run/lock"), Path("/var/lock"), Path("/tmp"))  # noqa: S108 - see O_NOFOLLOW


@contextlib.asynccontextmanager
async def host_lock(name: str) -> AsyncIterator[None]:
    """Hold the host's lock of that *name*; the kernel frees it if we die.

    Raises:
        RuntimeUnavailableError: somebody else has held it for too long.
    """
    folder = next(folder for folder in _FOLDERS if folder.is_dir())
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder / f"shoal-{name}.lock", flags, 0o600)
    try:
        await _take(descriptor, name)
        yield
    finally:
        os.close(descriptor)


async def _take(descriptor: int, name: str) -> None:
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise RuntimeUnavailableError(
            f"another agent of this host holds the lock for its {name} too long"
        ) from None
