"""Images: when to pull, and each one once however many tasks wait for it."""

import asyncio
import logging
from collections.abc import Callable

from agent.runtime.interface import CannotRunError, Runtime
from cluster.model import PullPolicy

log = logging.getLogger(__name__)

PULLS_MAX = 3  # at once: Docker itself loads three layers in parallel for each


class Images:
    """Sees to it that a task's image is on the host."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._slots = asyncio.Semaphore(PULLS_MAX)
        self._pulls: dict[str, _Pull] = {}

    async def ensure(
        self, image: str, policy: PullPolicy, on_pull: Callable[[], None] = lambda: None
    ) -> None:
        """Return when *image* is there and as fresh as *policy* asks; call *on_pull* if pulling.

        With ``ALWAYS`` an image on the host is enough if the pull fails.

        Raises:
            CannotRunError: it cannot be had.
        """
        if policy is not PullPolicy.ALWAYS and await self._runtime.has_image(image):
            return
        if policy is PullPolicy.NEVER:
            raise CannotRunError(f"image '{image}' is not on this host, and must not be pulled")
        on_pull()
        try:
            await self._pull(image)
        except CannotRunError as error:
            if policy is not PullPolicy.ALWAYS or not await self._runtime.has_image(image):
                raise
            log.warning("uses the image at hand", extra={"image": image, "error": str(error)})

    async def _pull(self, image: str) -> None:
        """Join the pull that is under way, or begin one; the last to leave cancels it."""
        pull = self._pulls.get(image)
        if pull is None:
            pull = self._pulls[image] = _Pull(asyncio.create_task(self._run(image)))
        pull.waiting += 1
        try:
            await asyncio.shield(pull.task)
        finally:
            pull.waiting -= 1
            if pull.waiting == 0:
                if self._pulls.get(image) is pull:
                    del self._pulls[image]
                pull.task.cancel()  # it is done, or nobody wants it

    async def _run(self, image: str) -> None:
        async with self._slots:
            await self._runtime.pull(image)


class _Pull:
    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.waiting = 0
