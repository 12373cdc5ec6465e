"""A task group that leaves the task around it as it was, under every supported Python.

A group that fails while the task around it waits for the group's end asks for that task's
cancellation, and before Python 3.13 nobody takes the request back. Newer timeouts cope with that.
Those before 3.11.4, which Debian 12 has, do not: in a task of which one request is left over, the
next timeout ends in CancelledError in place of TimeoutError, and with it, silently, the task.
"""

import asyncio
import sys
from types import TracebackType

_REQUESTS_ARE_LEFT_OVER = sys.version_info < (3, 11, 4)


class TaskGroup(asyncio.TaskGroup):  # noqa: TID251 - it is what this stands in for
    """See the module; to be used as ``asyncio.TaskGroup`` is."""

    _parent_cancel_requested: bool
    _parent_task: asyncio.Task[object]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for all tasks; then take back what was asked for meanwhile."""
        is_taken_back = self._parent_cancel_requested  # the base class takes back earlier requests
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            asked = self._parent_cancel_requested and not is_taken_back
            if asked and _REQUESTS_ARE_LEFT_OVER:
                self._parent_task.uncancel()
