"""Calls to the managers: to another one when one fails, and only what may be repeated twice.

A call that reads, or that sets something to a value whatever it was (scale, deploy, remove,
label), can be sent again after a failure of unknown outcome. Anything else is sent once; if its
outcome is unknown, that is what the caller is told.
"""

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from cluster import status
from cluster.clock import Clock
from cluster.errors import ClusterError, UnavailableError
from clusterctl.channel import Connection, Connector

# A new leader is found within three seconds; until then managers say UNAVAILABLE now and again.
RETRY_SECONDS_MIN = 0.05
RETRY_SECONDS_MAX = 0.5

# With several endpoints no single one may use up the whole time for an answer that another
# could give.
SHARE_SECONDS_MIN = 2.0

TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class OutcomeUnknownError(UnavailableError):
    """A request may or may not have been carried out."""


def error_of(failure: grpc.RpcError) -> ClusterError:
    """Return what a failed call means."""
    if failure.code() is grpc.StatusCode.UNIMPLEMENTED:
        return status.error_of(
            failure.code(), "this manager does not know that request; is it an older version?"
        )
    return status.error_of(failure.code(), failure.details() or "")


class Caller:
    """Sends requests over a connection that it opens, keeps and replaces as needed."""

    def __init__(
        self,
        connector: Connector,
        clock: Clock,
        *,
        timeout_seconds: float,
        chance: random.Random,
        pause: Callable[[float], None],
    ) -> None:
        """Send nothing yet.

        Args:
            connector: opens connections.
            clock: measures the time-out.
            timeout_seconds: for each request with all its attempts.
            chance: spreads attempts, so that clients do not come in waves.
            pause: sleeps for so many seconds.
        """
        self.connector = connector
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._chance = chance
        self._pause = pause
        self._connection: Connection | None = None
        self._failed = ""
        self._lock = threading.RLock()

    @property
    def connection(self) -> Connection:
        """The connection in use.

        Raises:
            UnavailableError: no endpoint answers.
        """
        with self._lock:
            if self._connection is None:
                self._connection = self.connector.connect(after=self._failed)
            return self._connection

    def discard(self, connection: Connection) -> None:
        """Use *connection* no more; the next one goes elsewhere if there is an elsewhere."""
        with self._lock:
            if self._connection is connection:
                self._connection = None
                self._failed = connection.endpoint
        connection.channel.close()

    def call(
        self, name: str, request: Any, *, repeatable: bool = True, removes: bool = False
    ) -> Any:
        """Send a request and return the answer; None for a removal that an earlier attempt made.

        Args:
            name: of the RPC.
            request: its message.
            repeatable: whether sending it twice does no harm.
            removes: whether "not found" at a later attempt means that an earlier one succeeded.

        Raises:
            UnavailableError: no manager answers, or none in time.
            OutcomeUnknownError: it was sent once, and may have been carried out.
            ClusterError: a manager refused it.
        """
        deadline = self._clock.monotonic() + self._timeout_seconds
        attempt = 0
        while True:
            connection = self.connection
            left = deadline - self._clock.monotonic()
            share = left  # what is sent once leaves nothing for others
            if repeatable:
                share = max(SHARE_SECONDS_MIN, left / max(1, len(self.connector.endpoints)))
            try:
                return getattr(connection.stub, name)(request, timeout=max(0.001, min(left, share)))
            except ValueError:  # a stream has closed the channel meanwhile: nothing was sent
                if self._is_in_use(connection):
                    raise
                continue
            except grpc.RpcError as failure:
                if removes and attempt and failure.code() is grpc.StatusCode.NOT_FOUND:
                    return None
                # A call is cancelled by us alone: a stream has found the connection broken.
                cut = failure.code() is grpc.StatusCode.CANCELLED
                if failure.code() not in TRANSIENT and not cut:
                    raise error_of(failure) from failure
                self.discard(connection)
                if not repeatable:
                    raise OutcomeUnknownError(
                        f"{connection.endpoint} did not say whether it did that "
                        f"({_reason(failure)}); look before you try again"
                    ) from failure
                wait = self._back_off(attempt)
                if self._clock.monotonic() + wait >= deadline:
                    raise UnavailableError(
                        f"no answer within {self._timeout_seconds:g}s, last from "
                        f"{connection.endpoint}: {_reason(failure)}"
                    ) from failure
            self._pause(wait)
            attempt += 1

    @contextlib.contextmanager
    def stream(self, name: str, request: Any) -> Iterator[Iterator[Any]]:
        """Open a stream; closing the context cancels it.

        Iterating raises ``grpc.RpcError`` when it breaks.
        """
        stream = getattr(self.connection.stub, name)(request)
        try:
            yield stream
        finally:
            stream.cancel()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.channel.close()
                self._connection = None

    def _is_in_use(self, connection: Connection) -> bool:
        with self._lock:
            return self._connection is connection

    def _back_off(self, attempt: int) -> float:
        longest = min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2.0**attempt)
        return longest * (0.5 + self._chance.random() / 2)


def _reason(failure: grpc.RpcError) -> str:
    if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    return failure.details() or failure.code().name.lower()
