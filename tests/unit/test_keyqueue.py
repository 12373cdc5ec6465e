"""Keys that are due later."""

import asyncio
import random

from manager.reconcilers.keyqueue import KeyQueue
from tests.fakes.virtual_time import in_virtual_time


@in_virtual_time
async def test_a_remainder_too_small_for_the_clock_to_show_is_waited_for_all_the_same() -> None:
    await asyncio.sleep(1e6)
    now = asyncio.get_running_loop().time()
    queue: KeyQueue[str] = KeyQueue(random.Random(1))
    queue.put_later("a", 1e-16)
    assert await queue.take() == ["a"]
    assert asyncio.get_running_loop().time() > now
