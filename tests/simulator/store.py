"""The store as managers reach it: over a network that fails, on members that hang.

``SharedState`` is what etcd's members hold together, and tells who watches the world of every
change. ``StoreClient`` is one manager's client: a call travels there, takes effect, and its answer
travels back; each way may be slow or cut. What was sent takes effect whether or not its sender
still lives or waits: a commit that timed out may be applied half a minute later.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from manager.store.interface import (
    Event,
    Guard,
    LeaseId,
    Revision,
    StoreUnavailableError,
    Write,
    check_transaction,
)
from manager.store.memory import MemoryState, MemoryStore, check_limits
from tests.simulator.loop import Process, SimulatorLoop

T = TypeVar("T")

# As long as the client on etcd waits for an answer (manager/store/etcd/store.py).
READ_SECONDS = 5.0
WRITE_SECONDS = 2.0
LEASE_SECONDS = 5.0

# One way, to a member in the same site, with its disk's share.
DELAY_SECONDS = (0.0005, 0.002)

# A watch on a member that hangs or is cut off is resumed elsewhere by then.
RESUME_SECONDS = 0.2


@dataclass
class Link:
    """A manager's way to the store.

    Attributes:
        cut: nothing gets there.
        deaf: nothing comes back.
        slow_seconds: what each way may take longer.
        ghost_seconds: a commit is held for up to so long, then applied; nothing is answered.
        lag_seconds: what a watch is behind.
    """

    cut: bool = False
    deaf: bool = False
    slow_seconds: float = 0.0
    ghost_seconds: float = 0.0
    lag_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Commit:
    """One that was applied: what changed, by whom it was sent.

    Attributes:
        term: which of its terms as a leader the sender knew of when it sent this; 0: none.
    """

    revision: Revision
    events: Sequence[Event]
    guards: Sequence[Guard]
    sender: Process
    term: Revision


class SharedState(MemoryState):
    """Keys, leases and history, in a process of their own."""

    def __init__(self, loop: SimulatorLoop, observe: Callable[[Commit], None]) -> None:
        super().__init__()
        self.process = Process("store")
        self.is_away = False
        self.on_expiry: Callable[[LeaseId], None] = lambda _: None
        self._loop = loop
        self._observe = observe
        self._sender = self.process
        self._term: Revision = 0
        self._guards: Sequence[Guard] = ()

    def commit_of(
        self, sender: Process, term: Revision, guards: Sequence[Guard], writes: Sequence[Write]
    ) -> Revision:
        self._sender, self._term, self._guards = sender, term, guards
        try:
            return self.commit(guards, writes)
        finally:
            self._sender, self._term, self._guards = self.process, 0, ()

    def go_away(self) -> None:
        """Have no majority: nothing is answered, and no lease ends."""
        self.is_away = True
        for held in self._leases.values():
            held.timer.cancel()

    def come_back(self) -> None:
        """A new leader gives every lease its whole life again, as etcd's does."""
        self.is_away = False
        for lease in list(self._leases):
            self.keep_alive(lease)

    def _end_later(self, lease: LeaseId, seconds: float) -> asyncio.TimerHandle:
        with self._loop.acting_for(self.process):
            return self._loop.call_later(seconds, self._expire, lease)  # type: ignore[return-value]

    def _expire(self, lease: LeaseId) -> None:
        self.on_expiry(lease)
        self.end_lease(lease)

    def _record(self, revision: Revision, events: Sequence[Event]) -> None:
        super()._record(revision, events)
        if events:
            self._observe(Commit(revision, events, self._guards, self._sender, self._term))


class StoreClient(MemoryStore):
    """One manager's client of the shared state.

    Args:
        term: tells which term as a leader its manager knows itself to be in.
        on_leg: is called before each call goes out and before its answer comes in.
    """

    def __init__(
        self,
        loop: SimulatorLoop,
        state: SharedState,
        process: Process,
        link: Link,
        source: random.Random,
        *,
        term: Callable[[], Revision],
        on_leg: Callable[[], None],
    ) -> None:
        super().__init__(state, trip=self._watched)
        self._loop = loop
        self._shared = state
        self._process = process
        self._link = link
        self._source = source
        self._term = term
        self._on_leg = on_leg
        self._answers: dict[asyncio.Future[Any], None] = {}

    async def commit(self, guards: Sequence[Guard], writes: Sequence[Write]) -> Revision:
        check_transaction(guards, writes)
        check_limits(guards, writes)
        guards, writes, term = tuple(guards), tuple(writes), self._term()
        return await self._ask(
            lambda: self._shared.commit_of(self._process, term, guards, writes),
            WRITE_SECONDS,
            is_write=True,
        )

    async def grant_lease(self, ttl_seconds: int) -> LeaseId:
        return await self._ask(lambda: self._shared.grant_lease(ttl_seconds), LEASE_SECONDS)

    async def keep_alive(self, lease: LeaseId) -> float:
        return await self._ask(lambda: self._shared.keep_alive(lease), LEASE_SECONDS)

    async def revoke_lease(self, lease: LeaseId) -> None:
        await self._ask(lambda: self._shared.end_lease(lease), LEASE_SECONDS)

    async def _call(self, effect: Callable[[], T]) -> T:
        return await self._ask(effect, READ_SECONDS)

    # --- the way there and back ---

    async def _ask(
        self, effect: Callable[[], T], patience_seconds: float, *, is_write: bool = False
    ) -> T:
        if self._closed:
            raise StoreUnavailableError("this client of the store is closed")
        self._on_leg()
        if not self._process.runs:
            await asyncio.sleep(0)  # it goes on when it is let to, if ever
        answer: asyncio.Future[T] = self._loop.create_future()
        give_up = self._loop.call_later(patience_seconds, self._give_up, answer)
        self._answers[answer] = None
        self._depart(effect, answer, is_write=is_write)
        try:
            return await answer
        finally:
            give_up.cancel()
            self._answers.pop(answer, None)

    def _depart(
        self, effect: Callable[[], T], answer: "asyncio.Future[T]", *, is_write: bool
    ) -> None:
        link = self._link
        if self._shared.is_away or link.cut:
            if not is_write:  # what may be repeated is tried again, elsewhere, until the time is up
                self._loop.at(self._loop.now + RESUME_SECONDS, self._again, effect, answer)
            return
        delay = self._delay()
        if link.ghost_seconds and is_write:
            delay = self._source.uniform(0.0, link.ghost_seconds)
            self._loop.at(self._loop.now + delay, self._take_effect, effect, None)
        else:
            self._loop.at(self._loop.now + delay, self._take_effect, effect, answer)

    def _again(self, effect: Callable[[], T], answer: "asyncio.Future[T]") -> None:
        if not answer.done() and self._process.alive:
            self._depart(effect, answer, is_write=False)

    def _take_effect(self, effect: Callable[[], T], answer: "asyncio.Future[T] | None") -> None:
        """Let a call have its effect; *answer* is None if nobody will be told of it."""
        if self._shared.is_away:
            return
        result: T | None = None
        failure: Exception | None = None
        try:
            result = effect()
        except Exception as error:  # noqa: BLE001 - a refusal travels back as an answer does
            failure = error
        if answer is not None and not self._link.deaf and not self._link.cut:
            self._loop.at(self._loop.now + self._delay(), self._arrive, answer, result, failure)

    def _arrive(
        self, answer: "asyncio.Future[Any]", result: Any, failure: Exception | None
    ) -> None:
        if self._process.alive:
            self._on_leg()
        if answer.done() or not self._process.alive:
            return
        if failure is not None:
            answer.set_exception(failure)
        else:
            answer.set_result(result)

    def _give_up(self, answer: "asyncio.Future[Any]") -> None:
        if not answer.done():
            answer.set_exception(StoreUnavailableError("no member of the store answers in time"))

    async def _watched(self) -> None:
        """Let a batch of a watch come, as late as the link has it."""
        if self._shared.is_away or self._link.cut or self._link.deaf:
            raise StoreUnavailableError("no way to the store")
        await asyncio.sleep(self._delay() + self._link.lag_seconds)

    def _delay(self) -> float:
        shortest, longest = DELAY_SECONDS
        delay = shortest + (longest - shortest) * self._source.random()
        if self._link.slow_seconds:
            delay += self._link.slow_seconds * self._source.random()
        return delay

    async def aclose(self) -> None:
        await super().aclose()
        for answer in list(self._answers):
            self._give_up(answer)

    def forget_watches(self) -> None:
        """Wake them no more: their process is dead."""
        for news in self._watches:
            self._shared.listeners.pop(news, None)
