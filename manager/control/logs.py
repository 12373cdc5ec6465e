"""Logs of tasks, wherever they run: one stream out of those of many nodes."""

import contextlib
from collections.abc import AsyncGenerator, Sequence

from cluster.errors import InvalidError, UnavailableError
from cluster.model import ManagerId, NodeId, ServiceId, Task
from manager.control.access import Access
from manager.control.log_reading import TASKS_MAX, LogChunk, Reading
from manager.control.peers import Peers
from manager.control.references import find_service, find_task
from manager.dispatch.log_broker import LogBatch, LogBroker
from manager.dispatch.open_session import LogsAsked


class Logs:
    """The part of the Control API that is about logs."""

    def __init__(
        self, access: Access, broker: LogBroker, peers: Peers, manager_id: ManagerId
    ) -> None:
        self._access = access
        self._view = access.view
        self._broker = broker
        self._peers = peers
        self._manager_id = manager_id

    async def stream(
        self, service: str, tasks: Sequence[str], asked: LogsAsked, *, local: bool
    ) -> AsyncGenerator[LogChunk, None]:
        """Yield what tasks have written.

        Args:
            service: reference; or
            tasks: references.
            asked: what part.
            local: only from agents whose sessions this manager holds; then a log that breaks
                off is an error, so that whoever asked can look for the agent elsewhere.

        Raises:
            NotFoundError: there is no such service or task.
            InvalidError: neither or both are named, or they are too many.
        """
        if bool(service) == bool(tasks):
            raise InvalidError("logs are either of a service or of tasks: name one of the two")
        if len(tasks) > TASKS_MAX:
            raise InvalidError(_too_many(len(tasks)))
        found, service_id = await self._access.read(lambda: self._find(service, tasks))
        if len(found) > TASKS_MAX:
            raise InvalidError(_too_many(len(found)))
        source = self._read_here if local else self._read_anywhere
        reading = Reading(self._view, source, asked, mend=not local)
        try:
            reading.begin(found, service_id)
            async for chunk in reading.channel.read():
                yield chunk
        finally:
            await reading.end()

    def _find(self, service: str, tasks: Sequence[str]) -> tuple[list[Task], ServiceId | None]:
        if service:
            service_id = find_service(self._view, service).id
            return list(self._view.tasks_of_service(service_id)), service_id
        return [find_task(self._view, reference) for reference in dict.fromkeys(tasks)], None

    def _read_here(
        self, node_id: NodeId, tasks: Sequence[Task], asked: LogsAsked
    ) -> AsyncGenerator[LogBatch, None]:
        return self._broker.read(node_id, [task.id for task in tasks], asked)

    async def _read_anywhere(
        self, node_id: NodeId, tasks: Sequence[Task], asked: LogsAsked
    ) -> AsyncGenerator[LogBatch, None]:
        """Read from the agent itself, or by way of the manager that holds its session."""
        session = self._view.sessions.get(node_id)
        if session is None:
            raise UnavailableError("its agent has no session")
        if session.manager_id == self._manager_id:
            source = self._read_here(node_id, tasks, asked)
        elif (manager := self._view.managers.get(session.manager_id)) is not None:
            source = self._peers.logs(manager, [task.id for task in tasks], asked)
        else:
            raise UnavailableError("the manager of its agent is not up")
        async with contextlib.aclosing(source) as batches:
            async for batch in batches:
                yield batch


def _too_many(count: int) -> str:
    return f"these are {count} tasks; logs of at most {TASKS_MAX} can be read at once: name some"
