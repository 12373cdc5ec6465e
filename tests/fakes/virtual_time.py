"""An event loop on which waiting takes no time.

Its clock stands still while anything can run, and jumps to the next timer when nothing can. So
hours pass in moments, and the same program runs in the same order every time. There is no real
input or output on it: where nothing is due and nothing can come, it raises ``StalledError``.

    @in_virtual_time
    async def test_a_lease_runs_out() -> None:
        await asyncio.sleep(3600)
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")

# A moment in 2026, so that times in records look like times.
EPOCH_SECONDS = 1_780_000_000.0


class StalledError(RuntimeError):
    def __init__(self) -> None:
        super().__init__("every task waits for something that nothing will ever bring about")


class _Jumps(selectors.SelectSelector):
    """Advances the loop's clock instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StalledError
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now

    def run_in_executor(  # type: ignore[override]
        self, _: object, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Do at once what would be done in a thread: in no time, and always in the same order."""
        return done_at_once(self, func, *args)


def done_at_once(
    loop: asyncio.AbstractEventLoop, func: Callable[..., Any], *args: Any
) -> "asyncio.Future[Any]":
    """Return a future of what *func* returns or raises."""
    future: asyncio.Future[Any] = loop.create_future()
    try:
        future.set_result(func(*args))
    except Exception as error:  # noqa: BLE001 - whoever awaits it gets it
        future.set_exception(error)
    return future


class LoopClock:
    """The running loop's time as a ``cluster.clock.Clock``."""

    def now(self) -> float:
        return EPOCH_SECONDS + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test on a ``VirtualLoop``."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run
