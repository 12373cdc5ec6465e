"""A failed group leaves nothing over that would make a later timeout end its task."""

import asyncio
import sys
from collections.abc import Awaitable, Coroutine

import pytest

from cluster import task_group
from cluster.task_group import TaskGroup


@pytest.fixture(autouse=True)
def _as_before_3_11_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what is left over; from 3.13 on nothing is."""
    if sys.version_info < (3, 13):
        monkeypatch.setattr(task_group, "_REQUESTS_ARE_LEFT_OVER", True)


async def fail() -> None:
    await asyncio.sleep(0)
    raise ValueError


async def run(*members: Coroutine[object, object, object], then: Awaitable[object]) -> None:
    async with TaskGroup() as group:
        for member in members:
            group.create_task(member)
        await then


def this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def test_a_group_that_fails_while_it_is_waited_for_leaves_no_request_over() -> None:
    with pytest.raises(ExceptionGroup):
        await run(fail(), then=asyncio.sleep(0))
    assert this_task().cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_a_group_that_fails_in_its_block_takes_its_request_back_once() -> None:
    with pytest.raises(ExceptionGroup):
        await run(fail(), then=asyncio.Event().wait())
    assert this_task().cancelling() == 0


@pytest.mark.parametrize("waits_in_its_block", [False, True])
async def test_a_request_from_outside_stays(*, waits_in_its_block: bool) -> None:
    async def fail_just_after_cancelling(other: asyncio.Task[object]) -> None:
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(other.cancel)
        raise ValueError

    left_over: list[int] = []

    async def outer() -> None:
        then = asyncio.Event().wait() if waits_in_its_block else asyncio.sleep(0)
        with pytest.raises(ExceptionGroup):
            await run(fail_just_after_cancelling(this_task()), then=then)
        left_over.append(this_task().cancelling())

    await asyncio.gather(asyncio.create_task(outer()), return_exceptions=True)
    assert left_over == [1]


async def test_a_group_that_is_cancelled_ends_so() -> None:
    task = asyncio.create_task(run(asyncio.Event().wait(), then=asyncio.sleep(0)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
