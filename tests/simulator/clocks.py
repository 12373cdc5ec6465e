"""Clocks of hosts and of the processes on them: wrong in the ways in which clocks are."""

from tests.simulator.loop import Process, SimulatorLoop

# A moment in 2026, so that times in records look like times.
EPOCH_SECONDS = 1_780_000_000.0


class WallClock:
    """A host's wall clock.

    Attributes:
        ahead_seconds: of true time; a jump changes it.
    """

    def __init__(self, loop: SimulatorLoop, drift: float = 0.0) -> None:
        """*drift* is what it gains in each second."""
        self._loop = loop
        self._drift = drift
        self.ahead_seconds = 0.0

    def now(self) -> float:
        return EPOCH_SECONDS + self._loop.now * (1.0 + self._drift) + self.ahead_seconds

    def monotonic(self) -> float:
        return self._loop.now


class ProcessClock:
    """What a process on a host reads; see ``cluster.clock.Clock``."""

    def __init__(self, loop: SimulatorLoop, wall: WallClock, process: Process) -> None:
        self._loop = loop
        self._wall = wall
        self._process = process

    def now(self) -> float:
        return self._wall.now()

    def monotonic(self) -> float:
        return self._loop.now * self._process.rate
