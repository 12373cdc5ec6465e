"""One agent's session: when it was last heard, and what it is still to be told."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace

import msgspec

from cluster.errors import ClusterError, OverloadedError
from cluster.model import ClusterId, ClusterSpec, NodeId, NodeUsage, Session, SessionId, TaskId
from manager.store.interface import LeaseId
from manager.view import View

# Log wishes that wait for one agent; people who read logs are few.
WISHES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class LogsAsked:
    """Which part of a log is wanted.

    Attributes:
        follow: go on with what comes later.
        tail: the last lines only; -1: all of them.
        since: from that moment on, seconds since 1970 UTC; 0: from the start.
    """

    follow: bool = False
    tail: int = -1
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class LogsWanted:
    """Asks an agent for logs of its tasks, or to stop sending them."""

    subscription_id: str
    task_ids: tuple[TaskId, ...] = ()
    asked: LogsAsked = LogsAsked()
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What an agent is told over its session's stream.

    Attributes:
        managers: "host:port" of each that is up.
        logs: new wishes since the message before.
    """

    session_id: SessionId
    cluster_id: ClusterId
    managers: tuple[str, ...]
    heartbeat_period_seconds: float
    logs: tuple[LogsWanted, ...] = ()


@dataclass(frozen=True, slots=True)
class HeardUsage:
    """What a node uses, and for how long it was silent.

    Attributes:
        usage: ``measured_at`` is 0 if the agent has told nothing yet.
    """

    usage: NodeUsage
    heard_seconds_ago: float


class OpenSession:
    """A session that this manager holds.

    Attributes:
        stored: its record, as last written under ``lease``.
        heard_at: when the agent was last heard, on the monotonic clock.
        period_seconds: that the agent was told to leave between heartbeats.
        usage: as last told.
    """

    def __init__(
        self, view: View, stored: Session, lease: LeaseId, period_seconds: float, now: float
    ) -> None:
        self.id = stored.id
        self.node_id: NodeId = stored.node_id
        self.stored = stored
        self.lease = lease
        self.heard_at = now
        self.period_seconds = period_seconds
        self.usage = NodeUsage(node_id=stored.node_id)
        self._view = view
        self._wishes: dict[str, LogsWanted] = {}
        self._news = asyncio.Event()
        self._ended: ClusterError | None = None
        self._at_end: dict[Callable[[], None], None] = {}  # in order

    @property
    def ended(self) -> ClusterError | None:
        """Why the session has ended; None while it has not."""
        return self._ended

    def heard(self, now: float, period_seconds: float, usage: NodeUsage | None) -> None:
        """Note a heartbeat, and the period that the agent heeds; usage is of this node only."""
        self.heard_at = now
        self.period_seconds = period_seconds
        if usage is not None:
            self.usage = msgspec.structs.replace(usage, node_id=self.node_id)

    def ask(self, wish: LogsWanted) -> None:
        """Tell the agent about logs that are wanted, or no longer.

        Raises:
            OverloadedError: too many wishes wait for it.
        """
        if wish.cancelled and wish.subscription_id in self._wishes:
            del self._wishes[wish.subscription_id]  # the agent was never told of it
            return
        if len(self._wishes) >= WISHES_MAX and not wish.cancelled:
            raise OverloadedError("too many logs are asked of this node at once: try again")
        self._wishes[wish.subscription_id] = wish
        self._news.set()

    def nudge(self) -> None:
        """Look again whether there is something to tell the agent."""
        self._news.set()

    def end(self, why: ClusterError) -> None:
        """End the session; the first reason counts."""
        if self._ended is None:
            self._ended = why
            self._news.set()
            for callback in list(self._at_end):
                callback()

    def at_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call *callback* when the session ends; return what undoes that."""
        self._at_end[callback] = None

        def undo() -> None:
            self._at_end.pop(callback, None)

        return undo

    async def messages(self) -> AsyncGenerator[Told, None]:
        """Yield what the agent is to be told, at once and whenever there is news.

        Raises:
            ClusterError: why the session has ended.
        """
        last: Told | None = None
        while True:
            if self._ended:
                raise self._ended
            self._news.clear()
            said = self._message()
            if last is None or said.logs or said != last:
                last = replace(said, logs=())
                yield said
            else:
                await self._news.wait()

    def _message(self) -> Told:
        cluster = self._view.cluster
        spec = cluster.spec if cluster else ClusterSpec()
        # The agent heeds the longer period from now on, and must not be missed meanwhile.
        self.period_seconds = max(self.period_seconds, spec.heartbeat_period_seconds)
        wishes, self._wishes = tuple(self._wishes.values()), {}
        return Told(
            session_id=self.id,
            cluster_id=cluster.id if cluster else ClusterId(""),
            managers=tuple(sorted(manager.address for manager in self._view.managers.values())),
            heartbeat_period_seconds=self.period_seconds,
            logs=wishes,
        )
