"""What changes in the cluster: a snapshot, then every change, over whichever manager answers.

A thread reads the stream and hands its messages over through a bounded queue, so that the one
who waits can also mind the time, the terminal and Ctrl-C. When the stream breaks, the thread
opens another one, at another manager if there is one; that begins with a snapshot again, which
replaces all that was known. Managers are learnt from the stream itself.
"""

import queue
import random
import threading
from collections.abc import Container, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc

from cluster import codec
from cluster.api.v1 import control_pb2 as wire
from cluster.clock import Clock
from cluster.errors import ClusterError, InvalidError, UnavailableError
from cluster.model import (
    Cluster,
    JobStatus,
    Manager,
    Node,
    Object,
    Rollout,
    Scaling,
    Service,
    ServiceVersion,
    Session,
    Stack,
    Task,
)
from clusterctl.calls import Caller, error_of

KINDS: dict[str, type[Object]] = {
    "cluster": Cluster,
    "manager": Manager,
    "node": Node,
    "session": Session,
    "service": Service,
    "service_version": ServiceVersion,
    "task": Task,
    "stack": Stack,
    "scaling": Scaling,
    "rollout": Rollout,
    "job_status": JobStatus,
}

# Messages read ahead of the one who waits; more would only be memory.
QUEUE_MESSAGES_MAX = 256

# A restarting manager is back within seconds; whoever waits longer wants to know.
LOST_SECONDS_MAX = 60.0

RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 1.0

_STOP_CHECK_SECONDS = 0.2

_REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
)


@dataclass(frozen=True, slots=True)
class Update:
    """A step of what is known.

    Attributes:
        revision: up to which everything is known now; 0: more of it follows.
        snapshot: here begins everything there is: forget what was known.
        changed: objects as they are now.
        removed: objects as they were when they went.
    """

    revision: int
    snapshot: bool
    changed: tuple[Object, ...]
    removed: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """The stream broke; a snapshot will follow."""

    endpoint: str
    reason: str


class Follower:
    """Follows the cluster from ``with`` to the end of its block."""

    def __init__(
        self,
        caller: Caller,
        clock: Clock,
        chance: random.Random,
        *,
        kinds: Sequence[str] = tuple(KINDS),
        stack: str = "",
        services: Container[str] | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            caller: has the connection.
            clock: measures how long no manager was found.
            chance: spreads attempts.
            kinds: of objects, as ``KINDS`` names them.
            stack: see ``WatchRequest.stack``.
            services: of services, versions and tasks only those of these ids; None: of all.
        """
        self._caller = caller
        self._clock = clock
        self._chance = chance
        # Managers are always wanted: they are where to go when the stream breaks.
        self._request = wire.WatchRequest(kinds={*kinds, "manager"}, stack=stack)
        self._services = services
        self._queue: queue.Queue[Update | Lost | ClusterError] = queue.Queue(QUEUE_MESSAGES_MAX)
        self._stop = threading.Event()
        self._stream: Any = None
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def take(self, timeout_seconds: float) -> list[Update | Lost]:
        """Return what has come, after waiting for something at most so long.

        Raises:
            ClusterError: the watch was refused, or no manager was found for a minute.
        """
        found: list[Update | Lost] = []
        try:
            item = self._queue.get(timeout=max(0.0, timeout_seconds))
            while True:
                if isinstance(item, ClusterError):
                    raise item
                found.append(item)
                item = self._queue.get_nowait()
        except queue.Empty:
            return found

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._stream is not None:
            self._stream.cancel()

    def _run(self) -> None:
        lost_since: float | None = None
        attempt = 0
        while not self._stop.is_set():
            endpoint, reason = "", ""
            try:
                connection = self._caller.connection
                endpoint = connection.endpoint
                self._stream = connection.stub.Watch(self._request)
                for message in self._stream:
                    lost_since, attempt = None, 0
                    self._put(self._update(message))
                reason = "the manager ended the stream"
            except UnavailableError as error:
                reason = str(error)
            except ClusterError as error:
                self._put(error)
                return
            except grpc.RpcError as failure:
                if self._stop.is_set():
                    return
                if failure.code() in _REFUSALS:
                    self._put(error_of(failure))
                    return
                reason = failure.details() or failure.code().name.lower()
            if self._stop.is_set():
                return
            if endpoint:
                self._caller.discard(connection)
            now = self._clock.monotonic()
            if lost_since is None:
                lost_since = now
                self._put(Lost(endpoint, reason))
            elif now - lost_since > LOST_SECONDS_MAX:
                self._put(
                    UnavailableError(f"lost the managers for {LOST_SECONDS_MAX:g}s: {reason}")
                )
                return
            longest = min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2.0**attempt)
            self._stop.wait(longest * (0.5 + self._chance.random() / 2))
            attempt += 1

    def _put(self, item: Update | Lost | ClusterError) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_STOP_CHECK_SECONDS)
            except queue.Full:
                continue
            return

    def _update(self, message: wire.WatchMessage) -> Update:
        changed: list[Object] = []
        removed: list[Object] = []
        for event in message.events:
            if (value := self._object(event.object)) is not None:
                (removed if event.removed else changed).append(value)
                if isinstance(value, Manager) and not event.removed:
                    self._caller.connector.learn([value.address])
        return Update(message.revision, message.snapshot, tuple(changed), tuple(removed))

    def _object(self, holder: wire.AnyObject) -> Object | None:
        """Return the object, or None if it is not wanted or of a kind we do not know."""
        kind = holder.WhichOneof("object")
        if kind not in KINDS:
            return None
        message = getattr(holder, kind)
        if self._services is not None:
            if kind == "service" and message.id not in self._services:
                return None
            if (
                kind in ("service_version", "task", "scaling", "rollout", "job_status")
                and message.service_id not in self._services
            ):
                return None
        try:
            return codec.from_wire(message, KINDS[kind])
        except InvalidError:
            return None  # a newer manager's notion: what we know of the object stays as it was
