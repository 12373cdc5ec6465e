"""The guard: ends fenced containers when their lease is over, whatever has become of the agent.

A program of its own, started by the agent and outliving it (``python agent/guard.py FILE``). It
needs nothing but Linux and the standard library: no manager, no Docker, no agent. So an agent
that is dead, stopped or hung, and a Docker daemon that hangs, do not keep a container alive
beyond its lease.

The agent writes FILE (``agent.fence``); the guard reads it several times a second and kills
whatever runs in the control group of a container whose lease is over, again and again for as
long as the file says so: what a frozen agent starts when it wakes does not live long. It holds
a lock beside the file, so that there is one, and ends when there is nothing left to guard.

What it cannot do: act while it is frozen itself, together with the whole host for instance
(docs/promises.md says what that means).
"""

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

# How late a lease's end may be noticed; the leader's slack covers it several times.
TICK_SECONDS = 0.1

# With nothing to guard it waits a little for what may come: starting one takes as long as that.
IDLE_TICKS_MAX = 50

# An agent that asks whether there is a guard holds the lock for a moment.
LOCK_ATTEMPTS = 20
LOCK_PAUSE_SECONDS = 0.01

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROC = Path("/proc")


def since_boot() -> float:
    """Return seconds since the host came up: one clock for all processes, that counts sleep too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def overdue(record: object, boot_id: str, now: float) -> list[str]:
    """Return the containers whose lease is over.

    Args:
        record: what the file says; what cannot be read guards nothing.
        boot_id: of the host as it runs; nothing of an earlier boot runs any more.
        now: seconds since boot.
    """
    if not isinstance(record, dict) or record.get("boot_id") != boot_id:
        return []
    heard_at = record.get("heard_at")
    leases = record.get("leases")
    if not isinstance(heard_at, int | float) or not isinstance(leases, dict):
        return []
    return [container for container, seconds in leases.items() if now >= heard_at + seconds]


def guards_something(record: object, boot_id: str) -> bool:
    """Tell whether the file names any container of this boot."""
    return (
        isinstance(record, dict) and record.get("boot_id") == boot_id and bool(record.get("leases"))
    )


def processes_of(containers: Iterable[str], proc: Path = PROC) -> Iterator[int]:
    """Yield the processes in the control groups of containers, which carry their ids."""
    wanted = list(containers)
    for entry in proc.iterdir():
        if entry.name.isdigit() and _is_in(entry, wanted):
            yield int(entry.name)


def _is_in(process: Path, containers: list[str]) -> bool:
    try:
        groups = (process / "cgroup").read_text(errors="replace")
    except OSError:  # it has ended
        return False
    return any(container in groups for container in containers)


def kill(containers: list[str]) -> None:
    """Kill every process of *containers*; one that has ended meanwhile is no matter."""
    for pid in processes_of(containers):
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)  # from here on nobody else can have its number
            try:
                if _is_in(PROC / str(pid), containers):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)


def read(path: Path) -> object:
    """Return what the file says; None if there is none."""
    try:
        found: object = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found


def main(path: Path) -> None:
    """Guard until there is nothing left to guard."""
    boot_id = BOOT_ID.read_text().strip()
    lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    while _locks(lock):
        idle_ticks = 0
        while idle_ticks < IDLE_TICKS_MAX:
            record = read(path)
            if late := overdue(record, boot_id, since_boot()):
                kill(late)
            idle_ticks = 0 if guards_something(record, boot_id) else idle_ticks + 1
            time.sleep(TICK_SECONDS)
        fcntl.flock(lock, fcntl.LOCK_UN)
        # Whoever wrote the file just before saw the lock held, and relies on us.
        if not guards_something(read(path), boot_id):
            return


def _locks(lock: int) -> bool:
    for _ in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return True
    return False  # there is one already


def _let_go() -> None:
    """Become nobody's child: end with the host or with the work, not with the agent."""
    if os.fork():
        os._exit(0)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)


if __name__ == "__main__":
    _let_go()
    main(Path(sys.argv[1]))
