"""What the host and its tasks really use, measured now and then."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

from agent.host import HostMeter
from agent.runtime.interface import (
    Container,
    ContainerId,
    ContainerUsage,
    Runtime,
    RuntimeFailedError,
    RuntimeUnavailableError,
)
from cluster.clock import Clock
from cluster.model import NodeId, NodeUsage, TaskUsage

log = logging.getLogger(__name__)

PERIOD_SECONDS = 10.0  # people look at use, and services scale themselves by it


class UsageMeter:
    """Measures every few seconds; each measurement is taken once, by the next heartbeat."""

    def __init__(
        self,
        runtime: Runtime,
        node_id: NodeId,
        containers: Callable[[], Collection[Container]],
        clock: Clock,
        host: HostMeter,
    ) -> None:
        self._runtime = runtime
        self._node_id = node_id
        self._containers = containers
        self._clock = clock
        self._host = host
        self._before: tuple[float, Mapping[ContainerId, ContainerUsage]] = (clock.monotonic(), {})
        self._untold: NodeUsage | None = None

    def take(self) -> NodeUsage | None:
        """Return what was measured since the last call, if anything was."""
        untold, self._untold = self._untold, None
        return untold

    async def run(self) -> NoReturn:
        """Measure for ever."""
        self._host.measure()  # the first only sets the mark
        while True:
            try:
                self._untold = await self.measure()
            except (RuntimeUnavailableError, RuntimeFailedError) as error:
                log.debug("cannot measure", extra={"error": str(error)})
            await asyncio.sleep(PERIOD_SECONDS)

    async def measure(self) -> NodeUsage:
        """Measure once; CPU use is the average since the measurement before."""
        task_of = {one.id: one.task_id for one in self._containers() if one.alive}
        usage = await self._runtime.usage(task_of.keys())
        now = self._clock.monotonic()
        then, before = self._before
        self._before = (now, usage)
        cpu_nanos, memory_bytes = self._host.measure()
        return NodeUsage(
            node_id=self._node_id,
            cpu_nanos=cpu_nanos,
            memory_bytes=memory_bytes,
            measured_at=self._clock.now(),
            tasks=tuple(
                TaskUsage(
                    task_id=task_of[key],
                    cpu_nanos=_rate(before.get(key), used, now - then),
                    memory_bytes=used.memory_bytes,
                )
                for key, used in usage.items()
            ),
        )


def _rate(before: ContainerUsage | None, now: ContainerUsage, seconds: float) -> int:
    """Return billionths of a CPU on average; 0 until there are two measurements."""
    if before is None or seconds <= 0:
        return 0
    return max(0, round((now.cpu_total_nanos - before.cpu_total_nanos) / seconds))
