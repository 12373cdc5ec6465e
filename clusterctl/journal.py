"""Reading events from whichever manager answers, from where the last one broke off."""

from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from cluster import codec
from cluster.api.v1 import control_pb2 as wire
from cluster.errors import UnavailableError
from cluster.model import Event
from clusterctl.app import App
from clusterctl.calls import TRANSIENT, error_of

# A restarting manager is back within seconds; whoever waits longer wants to know.
LOST_SECONDS_MAX = 60.0

RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Lost:
    """The stream broke; it goes on at another manager."""

    reason: str


def events(app: App, request: wire.StreamEventsRequest) -> Iterator[Event | Lost]:
    """Yield events, each once, until the stream ends by itself.

    Raises:
        ClusterError: the request was refused, or no manager was found for a minute.
    """
    caller = app.client.caller
    lost_since: float | None = None
    attempt = 0
    while True:
        try:
            with caller.stream("StreamEvents", request) as stream:
                for message in stream:
                    lost_since, attempt = None, 0
                    for each in message.events:
                        yield codec.from_wire(each, Event)
                    request.after_revision = max(request.after_revision, message.revision)
                    request.tail = -1  # a second stream tells all that the first one did not
        except grpc.RpcError as failure:
            if failure.code() not in (*TRANSIENT, grpc.StatusCode.CANCELLED):
                raise error_of(failure) from failure
            caller.discard(caller.connection)
            reason = failure.details() or failure.code().name.lower()
        except UnavailableError as error:
            reason = str(error)
        else:
            return
        now = app.clock.monotonic()
        if lost_since is None:
            lost_since = now
            yield Lost(reason)
        elif now - lost_since > LOST_SECONDS_MAX:
            raise UnavailableError(f"lost the managers for {LOST_SECONDS_MAX:g}s: {reason}")
        app.pause(min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2.0**attempt))
        attempt += 1
