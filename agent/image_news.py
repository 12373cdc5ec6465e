"""Tells a manager which images the host has, so that tasks may go where theirs is.

That is a hint, and images come and go with every deployment. So it travels by itself: the rest
of the host's description hardly ever changes, and when it does the agent opens a new session.
"""

import asyncio
import logging
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

import grpc
from grpc import aio

from agent.runtime.interface import (
    HostImage,
    Runtime,
    RuntimeFailedError,
    RuntimeUnavailableError,
)
from cluster import status
from cluster.api.v1 import dispatch_pb2 as pb
from cluster.images import TOLD_MAX, canonical
from cluster.model import SessionId

if TYPE_CHECKING:  # it exists only for type checkers
    from cluster.api.v1.dispatch_pb2_grpc import DispatchAsyncStub

log = logging.getLogger(__name__)

# Between looks, about: each change costs the store a write and the leader a look at the node,
# and a deployment that brings a new image to every host must not cost one for each.
PERIOD_SECONDS = 60.0

TELL_SECONDS_MAX = 15.0  # the manager waits for the store, which may be electing a leader


class ImageNews:
    """Knows what images there are, and says so for as long as a session lasts."""

    def __init__(self, runtime: Runtime, source: random.Random) -> None:
        self._runtime = runtime
        self._source = source
        self._seen: tuple[str, ...] = ()

    async def look(self) -> tuple[str, ...]:
        """Return the names to tell of; as they were last if the engine does not say."""
        try:
            self._seen = largest(await self._runtime.images())
        except (RuntimeUnavailableError, RuntimeFailedError) as error:
            log.debug("cannot list images", extra={"error": str(error)})
        return self._seen

    async def tell(
        self, stub: "DispatchAsyncStub", session_id: SessionId, told: tuple[str, ...]
    ) -> NoReturn:
        """Say what differs from *told*, for ever.

        Raises:
            ClusterError: the manager does not know the session any more.
        """
        while True:
            # At another moment on each host, or a deployment's news would come all at once.
            await asyncio.sleep(self._source.uniform(0.5, 1.5) * PERIOD_SECONDS)
            now = await self.look()
            if now == told:
                continue
            request = pb.UpdateImagesRequest(session_id=session_id, images=now)
            try:
                await stub.UpdateImages(request, timeout=TELL_SECONDS_MAX)
            except aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    raise status.error_of(error.code(), error.details() or "") from error
                # Also a manager of a version that does not ask for it; it is only a hint.
                log.debug("images are not told", extra={"error": error.details()})
            else:
                told = now


def largest(images: Iterable[HostImage]) -> tuple[str, ...]:
    """Return the canonical names of the largest images, which are the ones worth going to."""
    by_size = sorted(images, key=lambda image: (-image.size_bytes, image.names))
    names = [canonical(name) for image in by_size for name in image.names]
    return tuple(sorted(list(dict.fromkeys(names))[:TOLD_MAX]))
