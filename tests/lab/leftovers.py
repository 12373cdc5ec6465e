"""What a lab leaves on the machine, and how a later one finds and removes it.

All processes, mounts and links of a lab hang on its keeper and vanish with it, even if the
test run is killed. Only folders and control groups can outlive that. Each lab's folder
holds a file that the lab keeps locked while it lives; the kernel drops the lock when the
process ends, however it ends. So a folder whose file can be locked is left over, and a
living lab is never mistaken for one.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.cgroups import Cgroup

BASE = Path("/var/tmp")
"""On a disk, unlike /tmp of many machines; and short, for paths of sockets end at 107 bytes."""

PREFIX = "shl-"


class Claim:
    """A lab's name and folder, ours until :meth:`release`, or until this process ends."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.id = folder.name
        self._lock = lock

    def release(self) -> None:
        _remove(self.folder)
        os.close(self._lock)


def claim() -> Claim:
    """Clean up what dead labs left, then make a folder for a new one."""
    with _alone():
        for folder in sorted(BASE.glob(f"{PREFIX}*")):
            lock = _try_lock(folder)
            if lock is not None:
                _remove(folder)
                os.close(lock)
        folder = BASE / f"{PREFIX}{secrets.token_hex(3)}"
        folder.mkdir(mode=0o755)
        lock = _try_lock(folder)
        if lock is None:
            raise RuntimeError(f"{folder} is new, and yet another process holds its lock")
        return Claim(folder, lock)


def _try_lock(folder: Path) -> int | None:
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(folder: Path) -> None:
    group = Cgroup(folder.name)
    group.kill()
    group.remove()
    shutil.rmtree(folder)


@contextmanager
def _alone() -> Iterator[None]:
    """Hold a lock on the folder of folders, so that no one takes a new lab for a dead one."""
    descriptor = os.open(BASE, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
