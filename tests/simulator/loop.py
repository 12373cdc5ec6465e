"""One event loop for many processes, on a clock of its own.

Nothing waits: when nothing can run the clock jumps to the next timer. Every callback belongs to
a *process*: a manager or an agent in one of its lives, an engine, the store, the network. Which
one, its context says, which tasks hand on to whatever they start. So a process can be killed
between any two of its callbacks (what it still had to do is dropped, its ``finally`` blocks do
not run), paused as by SIGSTOP (its callbacks are held back, its timers too, until it wakes), and
lives by a monotonic clock of its own.

The same program runs in the same order every time, whatever the addresses of its objects:
tasks hash by their number.
"""

import asyncio
import contextvars
import gc
import heapq
import itertools
import sys
import warnings
import weakref
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

# Cancelled timers are swept out when there are more than so many, and more of them than not.
CANCELLED_MAX = 2_000

# No timer goes off sooner: who finds that it is not quite time yet, and waits for what is left,
# would go round for ever within one instant, as no real clock lets it.
TICK_SECONDS = 1e-6

# Callbacks in one instant: so many are a program that waits for what only time can bring.
TURNS_MAX = 200_000

# What work in a thread takes until it is done, and its caller hears of it.
THREAD_SECONDS = 0.05

# What is finalised makes new things that are to be finalised; a few rounds are enough.
DROPS = 3


class StalledError(RuntimeError):
    def __init__(self) -> None:
        super().__init__("every task waits for something that nothing will ever bring about")


class Process:
    """What is killed, paused and given a clock as one.

    Attributes:
        name: of the place that it runs in; a later life has the same.
        life: which of them this is.
        alive: until it is killed.
        rate: seconds of its monotonic clock in a true one.
        steps_left: it dies before its next callback but so many; negative: it does not.
    """

    def __init__(self, name: str, life: int = 1, *, rate: float = 1.0) -> None:
        self.name = name
        self.life = life
        self.alive = True
        self.paused = False
        self.rate = rate
        self.steps_left = -1
        self.on_last_step: Callable[[], None] | None = None
        self.held: deque[Handle] = deque()
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self.context = contextvars.Context()
        self.context.run(_PROCESS.set, self)
        self.runs = True  # alive and not paused: what the loop asks each time

    def __str__(self) -> str:
        return self.name if self.life == 1 else f"{self.name}#{self.life}"


_PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


class Handle:
    """A callback that is to run; stands in for asyncio's handles.

    Attributes:
        when_due: by the clock of its process; 0 if it is no timer, or was one.
    """

    __slots__ = ("_loop", "args", "callback", "context", "is_cancelled", "process", "when_due")

    def __init__(
        self,
        loop: "SimulatorLoop",
        when_due: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
        process: Process,
    ) -> None:
        self._loop = loop
        self.when_due = when_due
        self.callback = callback
        self.args = args
        self.is_cancelled = False
        self.context = context
        self.process = process

    def cancel(self) -> None:
        if not self.is_cancelled:
            self.is_cancelled = True
            self.callback = _nothing
            self.args = ()
            if self.when_due:
                self._loop.timer_cancelled()

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.when_due


def _work(future: asyncio.Future[T], func: Callable[..., T], args: tuple[Any, ...]) -> None:
    """Do what a thread is there for, unless nobody waits for it any more."""
    if future.done():
        return
    try:
        future.set_result(func(*args))
    except Exception as error:  # noqa: BLE001 - its caller's, whatever it is
        future.set_exception(error)


def _nothing(*_: object) -> None:
    """Stand in for a callback that was cancelled."""


class _Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory."""

    number: int

    def __hash__(self) -> int:
        return self.number


class SimulatorLoop(asyncio.AbstractEventLoop):
    """See the module. Not for files or sockets: there are none; threads take turns."""

    def __init__(self) -> None:
        self.now = 0.0  # true time, in seconds since the beginning
        self.world = Process("world")
        self.current = self.world
        self.dead: list[Process] = []  # kept whole, so that nothing of theirs is ever finalised
        self._context = self.world.context
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._cancelled_timers = 0
        self._numbers = itertools.count(1)
        self._generators: weakref.WeakKeyDictionary[Any, Process] = weakref.WeakKeyDictionary()
        self._graveyard: list[object] = []
        self.failures: list[tuple[Process, dict[str, Any]]] = []
        self._closed = False
        self._halted = False
        self._collects = False

    # --- processes ----------------------------------------------------------------------------

    @contextmanager
    def acting_for(self, process: Process) -> Iterator[None]:
        """Let what is scheduled in the block belong to *process*, though another runs."""
        before = self.current, self._context
        self.current, self._context = process, process.context
        try:
            yield
        finally:
            self.current, self._context = before

    def start(self, process: Process, main: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin *main* as a task of *process*."""
        with self.acting_for(process):
            return self.create_task(main)

    def kill(self, process: Process) -> None:
        """Let nothing of *process* run any more, from this moment on."""
        if not process.alive:
            return
        process.alive = process.runs = False
        process.steps_left = -1
        self.dead.append(process)
        # Tasks that nobody holds would be finalised, and run their last words, some time later.
        self._graveyard.append(list(process.tasks))
        self._graveyard.append(process.held)
        process.held = deque()

    def pause(self, process: Process) -> None:
        process.paused = True
        process.runs = False

    def resume(self, process: Process) -> None:
        if process.paused:
            process.paused = False
            process.runs = process.alive
            self._ready.extend(process.held)
            process.held.clear()

    # --- what asyncio asks of a loop ----------------------------------------------------------

    def time(self) -> float:
        """Return the current process's monotonic time."""
        return self.now * self.current.rate

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        if context is None or context is self._context:
            handle = Handle(self, 0.0, callback, args, self._context, self.current)
        else:
            handle = Handle(self, 0.0, callback, args, context, context[_PROCESS])
        if not self._closed:
            self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        return self.call_at(self.now * self.current.rate + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        if context is None or context is self._context:
            process = self.current
            handle = Handle(self, when, callback, args, self._context, process)
        else:
            process = context[_PROCESS]
            handle = Handle(self, when, callback, args, context, process)
        if not self._closed:
            due, soonest = when / process.rate, self.now + TICK_SECONDS
            if due < soonest:
                due = soonest
            heapq.heappush(self._timers, (due, next(self._numbers), handle))
        return handle

    def at(self, when: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Call *callback* at that true time, on nobody's behalf: it is the world's doing."""
        world = self.world
        handle = Handle(self, when, callback, args, world.context, world)
        if not self._closed:
            heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def timer_cancelled(self) -> None:
        """Sweep cancelled timers out when there are too many."""
        self._cancelled_timers += 1
        few = CANCELLED_MAX
        if self._cancelled_timers > few and 2 * self._cancelled_timers > len(self._timers):
            self._timers = [entry for entry in self._timers if not entry[2].is_cancelled]
            heapq.heapify(self._timers)
            self._cancelled_timers = 0

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **_: Any,
    ) -> asyncio.Task[T]:
        number = next(self._numbers)
        # The constructor hashes it: the number has to be there before.
        task = _Task.__new__(_Task)
        task.number = number
        task.__init__(  # type: ignore[misc]
            coro,
            loop=self,
            name=name or f"task {number}",
            context=context or self._context,
        )
        self.current.tasks.add(task)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Let *func* do its work at one moment, a little later, as if in a thread."""
        future: asyncio.Future[T] = self.create_future()
        self.call_later(THREAD_SECONDS, _work, future, func, args)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what nobody was there to catch, unless it comes from a process that is dead."""
        if self.current.alive and not self._closed:
            self.failures.append((self.current, context))

    # --- running ------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T]) -> T | None:
        """Run *main* as the world's; return what it returns, None if halted before.

        Raises:
            StalledError: *main* waits, and nothing is left that could wake it.
        """
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(self._first_iterated, self._to_be_finalised)
        collects = gc.isenabled()
        # When it collects depends on what ran before us; what it finalises then acts.
        gc.disable()
        events._set_running_loop(self)
        try:
            task = self.start(self.world, main)
            task.add_done_callback(lambda _: self.halt(), context=self.world.context)
            self._run_until_halted()
            return task.result() if task.done() else None
        finally:
            events._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)
            self._collects = collects

    def halt(self) -> None:
        """Run nothing more after this callback."""
        self._halted = True

    def _run_until_halted(self) -> None:
        ready = self._ready
        turns = 0
        while not self._halted:
            if ready:
                handle = ready.popleft()
                turns += 1
                if turns > TURNS_MAX:
                    self.call_exception_handler({"message": "goes round while no time passes"})
                    return
            else:
                handle = self._jump()
                turns = 0
            if handle.is_cancelled:
                continue
            process = handle.process
            if not process.runs:
                if process.alive:
                    process.held.append(handle)
                continue
            if process.steps_left >= 0:
                if process.steps_left == 0:
                    self._last_step(process)
                    continue
                process.steps_left -= 1
            self.current = process
            self._context = handle.context
            try:
                handle.context.run(handle.callback, *handle.args)
            except Exception as error:  # noqa: BLE001 - as asyncio's own loop does
                self.call_exception_handler({"message": "a callback failed", "exception": error})

    def _jump(self) -> Handle:
        """Let time pass until something is due; return it."""
        timers = self._timers
        while timers:
            when, _, handle = heapq.heappop(timers)
            if handle.is_cancelled:
                self._cancelled_timers -= 1
                continue
            if when > self.now:
                self.now = when
            handle.when_due = 0.0  # it is no timer any more, should it be cancelled now
            return handle
        raise StalledError

    def _last_step(self, process: Process) -> None:
        process.steps_left = -1
        self.current, self._context = self.world, self.world.context
        if process.on_last_step is not None:
            process.on_last_step()

    # --- ends ---------------------------------------------------------------------------------

    def _first_iterated(self, generator: Any) -> None:
        self._generators[generator] = self.current

    def _to_be_finalised(self, generator: Any) -> None:
        owner = self._generators.pop(generator, self.world)
        if self._closed:
            return
        if not owner.alive:
            self._graveyard.append(generator)
            return
        with self.acting_for(owner):
            self.create_task(generator.aclose())

    def drop(self) -> None:
        """Let go of everything; what is finalised by that finds a loop that does nothing.

        Call it when nobody else holds what ran here, or that is finalised later, without a loop.
        """
        self._closed = True
        self._graveyard.clear()
        self._generators.clear()
        self.failures.clear()
        self.dead.clear()
        hooks = sys.get_asyncgen_hooks()
        hook, sys.unraisablehook = sys.unraisablehook, _nothing
        sys.set_asyncgen_hooks(_nothing, _nothing)
        events._set_running_loop(self)
        self.current, self._context = self.world, self.world.context
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of what was never awaited
                self._ready.clear()
                self._timers.clear()
                for _ in range(DROPS):
                    gc.collect()
        finally:
            events._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)
            sys.unraisablehook = hook
            if self._collects:
                gc.enable()
