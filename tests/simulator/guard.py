"""A host's guard of fenced containers: what ``agent.guard`` does, beside the agent and its engine."""

import asyncio
from collections.abc import Callable, Mapping

from agent import fence, guard
from agent.runtime.interface import ContainerId
from tests.simulator.loop import SimulatorLoop

# What it takes to start one.
START_SECONDS = 0.3


class HostGuard:
    """Keeps an agent's record (``agent.fence.Guarding``) and acts on it, whoever else lives.

    Args:
        rate: seconds of the host's clock since boot in a true one.
        kill: ends what runs in a container, without its engine.
    """

    def __init__(
        self, loop: SimulatorLoop, rate: float, kill: Callable[[ContainerId], None]
    ) -> None:
        self._loop = loop
        self._rate = rate
        self._kill = kill
        self._boots = 1
        self._booted_at = loop.now
        self._record: dict[str, object] = {}
        self._is_up = False
        self._looks_at = 0.0  # by the host's clock

    def since_boot(self) -> float:
        return (self._loop.now - self._booted_at) * self._rate

    def reboot(self) -> None:
        """Come up with a record of another boot."""
        self._boots += 1
        self._booted_at = self._loop.now
        self._is_up = False

    # --- what the agent asks ------------------------------------------------------------------

    def load(self) -> tuple[float, dict[ContainerId, float]]:
        if not guard.guards_something(self._record, self._boot_id):
            return fence.NEVER, {}
        return self._heard_at, dict(self._leases)

    def save(self, heard_at: float, leases: Mapping[ContainerId, float]) -> None:
        self._record = {"boot_id": self._boot_id, "heard_at": heard_at, "leases": {**leases}}
        if self._is_up and self._next_look() < self._looks_at:
            self._plan()

    async def ensure(self) -> None:
        if not self._is_up:
            await asyncio.sleep(START_SECONDS)
            self._is_up = True
            self._look(self._boots)

    # --- what it does -------------------------------------------------------------------------

    @property
    def _boot_id(self) -> str:
        return str(self._boots)

    @property
    def _heard_at(self) -> float:
        heard_at = self._record["heard_at"]
        assert isinstance(heard_at, float)
        return heard_at

    @property
    def _leases(self) -> dict[ContainerId, float]:
        leases = self._record["leases"]
        assert isinstance(leases, dict)
        return leases

    def _look(self, boot: int) -> None:
        """Kill what is overdue, as late as it may be noticed; end if there is nothing to guard."""
        if boot != self._boots:
            return
        if not guard.guards_something(self._record, self._boot_id):
            self._is_up = False
            return
        for container_id in guard.overdue(self._record, self._boot_id, self.since_boot()):
            self._kill(ContainerId(container_id))
        self._plan()

    def _plan(self) -> None:
        self._looks_at = self._next_look()
        seconds = (self._looks_at - self.since_boot()) / self._rate
        self._loop.at(self._loop.now + seconds, self._look, self._boots)

    def _next_look(self) -> float:
        """Return when the next lease is over, by the host's clock, and seen to be."""
        ends = self._heard_at + min(self._leases.values(), default=0.0)
        return max(ends, self.since_boot()) + guard.TICK_SECONDS
