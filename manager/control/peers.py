"""What a manager asks of the other managers: what only the holder of a session knows."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from cluster.model import Manager, TaskId
from manager.dispatch.log_broker import LogBatch
from manager.dispatch.open_session import HeardUsage, LogsAsked


class Peers(Protocol):
    """The other managers, by their addresses."""

    async def usage(self, manager: Manager) -> Sequence[HeardUsage]:
        """Return what its own agents have told.

        Raises:
            UnavailableError: no answer within a second.
        """

    def logs(
        self, manager: Manager, task_ids: Sequence[TaskId], asked: LogsAsked
    ) -> AsyncGenerator[LogBatch, None]:
        """Yield logs of tasks of its own agents.

        Raises:
            ClusterError: they cannot be had.
        """
