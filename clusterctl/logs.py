"""Logs of tasks, through whichever manager answers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import grpc

from cluster.api.v1 import control_pb2 as wire
from cluster.api.v1.dispatch_pb2 import LogEntry, LogOptionsWanted, LogStream
from cluster.errors import NotFoundError, UnavailableError
from clusterctl.answers import TaskSummary
from clusterctl.answers import read as value_of
from clusterctl.calls import error_of
from clusterctl.client import Client

# In a row, a second apart: a manager that restarts is back long before.
RETRIES_MAX = 30
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose log, and which part.

    Attributes:
        reference: of a service, or else of a task.
        follow: go on with what comes.
        tail: the last lines of each task only; -1 is all.
        since: seconds since 1970 UTC; 0 is from the start.
    """

    reference: str
    follow: bool = False
    tail: int = -1
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a task's output, without its line feed."""

    task_id: str
    is_error: bool
    at: float
    text: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines that came together; *tasks* is everyone who was introduced so far."""

    lines: tuple[Line, ...]
    warnings: tuple[str, ...]
    tasks: Mapping[str, TaskSummary] = field(default_factory=dict)


def read(client: Client, wanted: Wanted, pause: Callable[[float], None]) -> Iterator[Batch]:
    """Yield what was written, and with ``follow`` what will be.

    A stream that breaks while following is opened again at another manager: each task goes on
    behind the last line that was read of it.

    Raises:
        NotFoundError: neither a service nor a task goes by that reference.
        ClusterError: the manager refused it, or no other could go on.
    """
    request = _request(client, wanted)
    tasks: dict[str, TaskSummary] = {}
    read_to: dict[str, float] = {}
    failures = 0
    while True:
        connection = client.caller.connection
        try:
            with client.caller.stream("StreamLogs", request) as stream:
                for message in stream:
                    failures = 0
                    for each in message.tasks:
                        tasks[each.task.id] = value_of(each, TaskSummary)
                    lines = tuple(
                        _line(entry)
                        for entry in message.entries
                        if not wanted.follow or entry.at > read_to.get(entry.task_id, 0.0)
                    )
                    yield Batch(lines, tuple(message.warnings), tasks)
                    read_to |= {line.task_id: line.at for line in lines}
        except grpc.RpcError as failure:
            error = error_of(failure)
            failures += 1
            if not wanted.follow or not isinstance(error, UnavailableError):
                raise error from failure
            if failures > RETRIES_MAX:
                raise error from failure
        else:
            return
        client.caller.discard(connection)
        yield Batch((), (f"{error}; going on at another manager",), tasks)
        pause(RETRY_SECONDS)
        if read_to:
            request.options.tail = -1
            request.options.since = min(read_to.values())


def _request(client: Client, wanted: Wanted) -> wire.StreamLogsRequest:
    options = LogOptionsWanted(follow=wanted.follow, tail=wanted.tail, since=wanted.since)
    try:
        service = client.service(wanted.reference).service.id
    except NotFoundError as no_service:
        try:
            task = client.task(wanted.reference).task.task.id
        except NotFoundError:
            raise no_service from None
        return wire.StreamLogsRequest(options=options, tasks=[task])
    return wire.StreamLogsRequest(options=options, service=service)


def _line(entry: LogEntry) -> Line:
    return Line(
        task_id=entry.task_id,
        is_error=entry.stream == LogStream.LOG_STREAM_STDERR,
        at=entry.at,
        text=entry.line,
    )
