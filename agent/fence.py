"""Leases of fenced containers: which may run now, and for how long without a manager's word.

A task whose service says ``fence`` runs on a lease (docs/decisions/0012-fencing.md). It counts
from when the agent *sent* the last heartbeat that a manager answered with its vouch. When two
thirds of it are over without another, the container is stopped in good order; when all of it is,
the guard (``agent.guard``), a process of its own, kills what is left. Only after that, and a
margin, does the leader let a successor start.

What is on record is written before a container starts, and read by the guard and by the agent's
own successor. So neither a restart of the agent nor its sleep gives a container more time.
Times are seconds since the host came up.
"""

import asyncio
import fcntl
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from agent import guard
from agent.runtime.interface import ContainerId, RuntimeUnavailableError
from cluster.errors import InvalidError
from cluster.model import LostNodePolicy, TaskSpec

log = logging.getLogger(__name__)

NEVER = -1e12  # long before any host came up; JSON has no infinity

RECORD = "fence"  # the file's name, in the agent's state directory

# The part of a lease after which containers are stopped in good order.
STOP_AFTER = 2 / 3

# The part of a lease within which a heartbeat asks for an answer: several may get lost.
ASK_AFTER = 1 / 6

# A new guard has its lock within so long, or something is wrong with the host.
GUARD_SECONDS_MAX = 10.0
GUARD_LOOK_SECONDS = 0.02


class Guarding(Protocol):
    """What keeps the record, and sees that somebody guards it."""

    def load(self) -> tuple[float, dict[ContainerId, float]]:
        """Return when a heartbeat was last vouched for, and the leases; of this boot alone."""

    def save(self, heard_at: float, leases: Mapping[ContainerId, float]) -> None:
        """Let the guard know."""

    async def ensure(self) -> None:
        """Return once a guard is up.

        Raises:
            RuntimeUnavailableError: there is none, and none could be started.
        """


class Fence:
    """Keeps the leases of one node.

    Args:
        guarding: keeps them for the guard.
        since_boot: seconds since the host came up; counts sleep.

    Attributes:
        ask: asks a manager for a word at once; each session sets its own.
    """

    def __init__(self, guarding: Guarding, since_boot: Callable[[], float]) -> None:
        self._guarding = guarding
        self._since_boot = since_boot
        self._heard_at, self._leases = guarding.load()
        self._overdue: set[ContainerId] = set()
        self._held = asyncio.Event()
        self.ask: Callable[[], None] = _nobody

    def now(self) -> float:
        return self._since_boot()

    @property
    def ask_seconds(self) -> float:
        """For how long at most a heartbeat may go without asking for an answer."""
        return ASK_AFTER * min(self._leases.values(), default=float("inf"))

    def heard(self, sent_at: float) -> None:
        """Note that a manager has vouched for a heartbeat that was sent at that time."""
        if sent_at > self._heard_at:
            self._heard_at = sent_at
            if self._leases:
                self._guarding.save(self._heard_at, self._leases)

    async def hold(self, container_id: ContainerId, lease_seconds: float) -> None:
        """Put a container on record that is about to start.

        Raises:
            RuntimeUnavailableError: it must not start now: no manager has vouched for us of late,
                or nobody would guard it.
        """
        # The next heartbeat may be a long way off: whether for this start or for the lease.
        self.ask()
        self._require_contact(lease_seconds)
        self._leases[container_id] = lease_seconds
        self._held.set()
        self._guarding.save(self._heard_at, self._leases)
        try:
            await self._guarding.ensure()
            self._require_contact(lease_seconds)
        except RuntimeUnavailableError:
            self.release(container_id)
            raise

    def release(self, container_id: ContainerId) -> None:
        """Take a container off the record that did not start after all."""
        if self._leases.pop(container_id, None) is not None:
            self._guarding.save(self._heard_at, self._leases)

    async def until_needed(self) -> None:
        """Return once something is on record."""
        while not self._leases:
            self._held.clear()
            await self._held.wait()

    async def mind(self) -> None:
        """See that somebody guards what is on record."""
        if self._leases:
            await self._guarding.ensure()

    def ended(self, container_ids: Collection[ContainerId]) -> None:
        """Take containers off the record: they were seen dead."""
        for container_id in self._leases.keys() & set(container_ids):
            self.release(container_id)

    def keep_only(self, container_ids: Collection[ContainerId]) -> None:
        """Forget all others: they are gone."""
        for container_id in self._leases.keys() - set(container_ids):
            self.release(container_id)
        self._overdue &= set(container_ids)

    def seconds_left(self) -> float:
        """Return how long it is until the first container has to stop, if nothing is heard."""
        shortest = min(self._leases.values(), default=float("inf"))
        return self._heard_at + STOP_AFTER * shortest - self._since_boot()

    def overdue(self) -> Collection[ContainerId]:
        """Return the containers that have to stop, now and until they are gone.

        That it stops is final, even if a manager is heard again meanwhile.
        """
        for container_id, seconds in self._leases.items():
            if self._is_over(seconds):
                self._overdue.add(container_id)
        return frozenset(self._overdue)

    def _require_contact(self, lease_seconds: float) -> None:
        if self._is_over(lease_seconds):
            raise RuntimeUnavailableError(
                f"a fenced task starts only within {STOP_AFTER * lease_seconds:.0f} s of a"
                " manager's word, and none has come: it waits"
            )

    def _is_over(self, lease_seconds: float) -> bool:
        return self._since_boot() >= self._heard_at + STOP_AFTER * lease_seconds


def _nobody() -> None:
    """Ask nobody: there has been no session yet."""


def lease_seconds(spec: TaskSpec) -> float:
    """Return a task's lease; 0 if it has none."""
    fenced = spec.lost_node.policy is LostNodePolicy.FENCE
    return spec.lost_node.seconds if fenced else 0.0


class GuardFile:
    """Keeps the record in a file, and a guard process beside it.

    Args:
        directory: the agent's own.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / RECORD
        self._boot_id = guard.BOOT_ID.read_text().strip()

    def load(self) -> tuple[float, dict[ContainerId, float]]:
        record = guard.read(self._path)
        if not guard.guards_something(record, self._boot_id):
            return NEVER, {}
        assert isinstance(record, dict)
        heard_at, leases = record.get("heard_at"), record["leases"]
        if not isinstance(heard_at, int | float) or not isinstance(leases, dict):
            raise InvalidError(f"{self._path} is damaged: stop the fenced containers, remove it")
        return float(heard_at), {ContainerId(key): float(leases[key]) for key in leases}

    def save(self, heard_at: float, leases: Mapping[ContainerId, float]) -> None:
        # No fsync: it is of no use after a crash of the host, for then nothing runs any more.
        record = {"boot_id": self._boot_id, "heard_at": heard_at, "leases": {**leases}}
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(record))
        draft.replace(self._path)

    async def ensure(self) -> None:
        if self._is_guarded():
            return
        log.info("starts a guard for fenced containers")
        # It forks and lets go of us, so that it is nobody's child and outlives the agent.
        command = [sys.executable, "-I", "-S", guard.__file__, str(self._path)]
        await asyncio.to_thread(
            subprocess.run, command, stdin=subprocess.DEVNULL, check=True, cwd="/"
        )
        await _until(self._is_guarded)

    def _is_guarded(self) -> bool:
        """Tell whether a guard holds its lock."""
        lock = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False


async def _until(met: Callable[[], bool]) -> None:
    for _ in range(round(GUARD_SECONDS_MAX / GUARD_LOOK_SECONDS)):
        if met():
            return
        await asyncio.sleep(GUARD_LOOK_SECONDS)
    raise RuntimeUnavailableError(
        f"no guard for fenced containers came up within {GUARD_SECONDS_MAX:g} s"
    )
