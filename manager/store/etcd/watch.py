"""Watching, without a gap and without repetition, whatever becomes of members and connections.

``Cursor`` is the pure half: it turns etcd's answers into batches and knows where to resume. Its
rule: the position is the revision of the last event, never that of an answer's header, which
runs ahead of the events while a watch catches up. Only a sign of progress moves it to the
header's: etcd gives one on its own (not on demand, which is broken before 3.4.25 and 3.5.8)
only when nothing is outstanding.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

from cluster.errors import ForbiddenError
from manager.store.etcd import etcd_pb2 as pb
from manager.store.etcd.endpoint import CallFailedError, Method, Stream
from manager.store.etcd.endpoints import Endpoints
from manager.store.etcd.wire import TOKEN_TEXTS, Outcome, event, prefix_end, range_start
from manager.store.interface import (
    CompactedError,
    Event,
    Revision,
    StoreUnavailableError,
    WatchBatch,
)

log = logging.getLogger(__name__)

WATCH: Method[pb.WatchRequest, pb.WatchResponse] = Method(
    "/etcdserverpb.Watch/Watch", pb.WatchResponse
)

WatchStream = Stream[pb.WatchRequest, pb.WatchResponse]

# A member that hangs takes a new watch without a word; one that works confirms it at once.
OPEN_SECONDS = 2.0


class Cursor:
    """How far a watch has come, over all its streams."""

    def __init__(self, after: Revision) -> None:
        self.revision = after  # everything up to here has been delivered
        self._fragments: list[Event] = []

    def restart(self) -> None:
        """Forget half an answer: a new stream sends it again, whole."""
        self._fragments.clear()

    def take(self, answer: pb.WatchResponse) -> WatchBatch | None:
        """Return the batch that *answer* completes, if it brings anything new.

        Events that were delivered already are left out: etcd before 3.4.25 and 3.5.8 may
        repeat them.

        Raises:
            CompactedError: etcd no longer knows what comes next.
            CallFailedError: etcd ended the watch for another reason.
        """
        if answer.compact_revision:
            raise CompactedError(
                f"changes after revision {self.revision} are gone: etcd is compacted"
                f" at {answer.compact_revision}; list again"
            )
        if answer.canceled:
            raise CallFailedError(_outcome(answer.cancel_reason), f"ended: {answer.cancel_reason}")
        if answer.created:
            return None
        self._fragments += [
            event(message) for message in answer.events if message.kv.mod_revision > self.revision
        ]
        if answer.fragment:
            return None
        events, self._fragments = tuple(self._fragments), []
        if events:
            self.revision = events[-1].mod_revision
        elif not answer.events and answer.header.revision > self.revision:
            self.revision = answer.header.revision
        else:
            return None
        return WatchBatch(self.revision, events)


async def follow(
    endpoints: Endpoints,
    prefix: str,
    after: Revision,
    newest: Callable[[], Awaitable[Revision]],
) -> AsyncGenerator[WatchBatch, None]:
    """Yield what happens under *prefix* after that revision; see ``Store.watch``.

    *newest* reads the store's revision (linearizable).
    """
    cursor = Cursor(after)
    backoff = endpoints.backoff()
    refused = False
    while True:
        try:
            endpoint = await endpoints.connected(float("inf"))
        except StoreUnavailableError:  # closed: it waits for ever otherwise
            return
        cursor.restart()
        try:
            metadata = await endpoints.metadata(endpoint)
            with endpoint.stream(WATCH, metadata) as stream:
                newest_there = await _open(stream, prefix, cursor)
                refused = False
                endpoints.answered(endpoint)
                if newest_there < cursor.revision:
                    await _check_not_restored(cursor.revision, newest)
                while True:
                    batch = cursor.take(await stream.read())
                    if batch is not None:
                        backoff.reset()
                        yield batch
        except CallFailedError as failure:
            if endpoints.closed:
                return
            log.info("watch of %s resumes after revision %d: %s", prefix, cursor.revision, failure)
            if failure.outcome is Outcome.TOKEN_EXPIRED and refused:
                raise ForbiddenError(
                    f"etcd refuses the watch of {prefix!r}: {failure}"
                ) from failure
            refused = failure.outcome is Outcome.TOKEN_EXPIRED
            endpoints.failed(endpoint, failure)
        except StoreUnavailableError as error:
            log.info("watch of %s resumes after revision %d: %s", prefix, cursor.revision, error)
        await backoff.pause()


async def _open(stream: WatchStream, prefix: str, cursor: Cursor) -> Revision:
    """Start the watch where *cursor* stands; return how far this member has come."""
    ask = pb.WatchCreateRequest(
        key=range_start(prefix.encode()),
        range_end=prefix_end(prefix.encode()),
        start_revision=cursor.revision + 1,
        progress_notify=True,
    )
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await stream.write(pb.WatchRequest(create_request=ask))
            answer = await stream.read()
    except TimeoutError:
        raise CallFailedError(Outcome.NOT_DONE, "the member does not confirm a watch") from None
    cursor.take(answer)  # a refusal raises
    return answer.header.revision


async def _check_not_restored(seen: Revision, newest: Callable[[], Awaitable[Revision]]) -> None:
    """Tell a member that lags, which is fine, from a store that has gone back.

    Raises:
        CompactedError: etcd was restored from a backup: what we saw is not its history.
    """
    revision = await newest()
    if revision < seen:
        raise CompactedError(
            f"etcd has gone back from revision {seen} to {revision}, as from a backup; list again"
        )


def _outcome(cancel_reason: str) -> Outcome:
    """Tell what the end of a watch means; of a token that is out of date, etcd says "denied"."""
    if "permission denied" in cancel_reason or cancel_reason.endswith(TOKEN_TEXTS):
        return Outcome.TOKEN_EXPIRED
    return Outcome.NOT_DONE
