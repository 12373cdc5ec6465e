"""Logs on their way from the agents of this manager to those who asked for them.

    somebody reads ──▶ LogsWanted on the session's stream ──▶ the agent
    somebody reads ◀── a bounded channel ◀── PublishLogs ◀── the agent

One subscription is of one node. Its channel is bounded, so a reader that is slow slows the
agent's stream down and nothing else.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from cluster.errors import (
    ClusterError,
    ForbiddenError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from cluster.ids import IdSource
from cluster.model import NodeId, TaskId
from manager.dispatch.channel import Channel
from manager.dispatch.open_session import LogsAsked, LogsWanted, OpenSession
from manager.dispatch.sessions import Sessions

# Batches of an agent (at most some 100 KB each) that wait for one reader.
BATCHES_MAX = 16

# People who read logs are few; each subscription may hold some megabytes.
SUBSCRIPTIONS_MAX = 1_000

# An agent that is alive answers a wish in milliseconds, with an empty batch if need be.
ANSWER_SECONDS = 5.0


class LogStream(Enum):
    """Where a line was written to."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line, without its line feed.

    Attributes:
        at: when, by the host's clock, seconds since 1970 UTC.
    """

    task_id: TaskId
    stream: LogStream
    at: float
    line: bytes


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Lines in order, task by task, and why others cannot be had."""

    entries: tuple[LogEntry, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Subscription:
    session: OpenSession
    task_ids: frozenset[TaskId]
    channel: Channel[LogBatch] = field(default_factory=lambda: Channel(BATCHES_MAX))
    answered: bool = False


class LogBroker:
    """Brings together who reads logs and which agents send them."""

    def __init__(self, sessions: Sessions, ids: IdSource) -> None:
        self._sessions = sessions
        self._ids = ids
        self._open: dict[str, _Subscription] = {}

    async def read(
        self, node_id: NodeId, task_ids: Sequence[TaskId], asked: LogsAsked
    ) -> AsyncGenerator[LogBatch, None]:
        """Yield logs of tasks of one node until the agent has sent what was asked for.

        Raises:
            UnavailableError: this manager has no session of the node, or has it no longer.
            OverloadedError: too many read logs.
        """
        session = self._sessions.of_node(node_id)
        if session is None:
            raise UnavailableError("its agent has no session here")
        if len(self._open) >= SUBSCRIPTIONS_MAX:
            raise OverloadedError(f"{SUBSCRIPTIONS_MAX} logs are read at this manager: try again")
        subscription = _Subscription(session, frozenset(task_ids))
        subscription_id = self._ids.new()
        self._open[subscription_id] = subscription
        channel = subscription.channel
        undo = session.at_end(lambda: channel.end(UnavailableError("its agent went away")))
        late = asyncio.get_running_loop().call_later(ANSWER_SECONDS, _give_up, subscription)
        try:
            session.ask(LogsWanted(subscription_id, tuple(task_ids), asked))
            async for batch in channel.read():
                yield batch
        finally:
            late.cancel()
            undo()
            channel.end()
            del self._open[subscription_id]
            session.ask(LogsWanted(subscription_id, cancelled=True))

    async def publish(
        self, session_id: str, subscription_id: str, entries: Sequence[LogEntry], error: str
    ) -> None:
        """Hand over what an agent sends; waits while the reader lags.

        Raises:
            NotFoundError: nobody wants it (any more).
            ForbiddenError: it was not asked of this agent.
        """
        subscription = self._find(session_id, subscription_id)
        subscription.answered = True
        if any(entry.task_id not in subscription.task_ids for entry in entries):
            raise ForbiddenError("a log was sent that was not asked for")
        batch = LogBatch(tuple(entries), (error,) if error else ())
        if not await subscription.channel.put(batch):
            raise NotFoundError(_UNWANTED)

    def finished(
        self, session_id: str, subscription_id: str, failure: ClusterError | None = None
    ) -> None:
        """Note that the agent sends no more: all is sent, or *failure* came between."""
        subscription = self._open.get(subscription_id)
        if subscription is not None and subscription.session.id == session_id:
            subscription.channel.end(failure)

    def _find(self, session_id: str, subscription_id: str) -> _Subscription:
        session = self._sessions.find(session_id)
        subscription = self._open.get(subscription_id)
        if subscription is None:
            raise NotFoundError(_UNWANTED)
        if subscription.session is not session:
            raise ForbiddenError("this log was asked of another node")
        return subscription


_UNWANTED = "nobody wants this log any more"


def _give_up(subscription: _Subscription) -> None:
    if not subscription.answered:
        subscription.channel.end(
            UnavailableError(f"its agent did not answer within {ANSWER_SECONDS:g} s")
        )
