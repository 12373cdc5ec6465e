"""Pulls: each image once however many tasks wait for it, and a few at a time."""

import asyncio
import logging

from agent.runtime.interface import Runtime

log = logging.getLogger(__name__)

PULLS_MAX = 3  # at once: Docker itself loads three layers in parallel for each


class Images:
    """Fetches images for tasks."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._slots = asyncio.Semaphore(PULLS_MAX)
        self._pulls: dict[str, _Pull] = {}

    async def pull(self, image: str) -> None:
        """Join the pull of *image* that is under way, or begin one; the last to leave cancels it.

        Raises:
            CannotRunError: it cannot be had.
        """
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
            log.info("pulls an image", extra={"image": image})
            await self._runtime.pull(image)


class _Pull:
    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.waiting = 0
