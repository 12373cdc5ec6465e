"""A bounded queue with an end: writers wait while it is full, the reader until there is more."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

from cluster.errors import ClusterError

T = TypeVar("T")


class Channel(Generic[T]):
    """Values from any number of writers to one reader.

    Args:
        values_max: that wait for the reader; writers are held up beyond.
    """

    def __init__(self, values_max: int) -> None:
        self._values: deque[T] = deque()
        self._values_max = values_max
        self._changed = asyncio.Event()
        self._ended = False
        self._failure: ClusterError | None = None

    @property
    def ended(self) -> bool:
        return self._ended

    async def put(self, value: T) -> bool:
        """Hand over a value; return False if the channel has ended and nobody will read it."""
        while not self._ended and len(self._values) >= self._values_max:
            await self._change()
        if not self._ended:
            self._values.append(value)
            self._changed.set()
        return not self._ended

    def end(self, failure: ClusterError | None = None) -> None:
        """Let the reader end once it has read what waits, with *failure* if one is given."""
        if not self._ended:
            self._ended = True
            self._failure = failure
            self._changed.set()

    async def read(self) -> AsyncGenerator[T, None]:
        """Yield what is written, until the end; when the reader leaves, that is the end too."""
        try:
            while True:
                if self._values:
                    value = self._values.popleft()
                    self._changed.set()
                    yield value
                elif self._ended:
                    if self._failure:
                        raise self._failure
                    return
                else:
                    await self._change()
        finally:
            self.end()

    async def _change(self) -> None:
        # One event for both sides: whoever wakes looks again whether it was meant.
        changed = self._changed
        await changed.wait()
        if self._changed is changed:
            self._changed = asyncio.Event()
