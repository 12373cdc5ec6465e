"""Control groups of either version: to count, freeze and find all that a host runs.

A host's own processes live in ``<lab>/<host>/sys``, its containers beside them in
``<lab>/<host>/<container id>``; so its group holds the host whole.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.lab.waiting import wait_until

ROOT = Path("/sys/fs/cgroup")

JOINED = ("cpu", "cpuacct", "memory", "pids", "freezer", "blkio")
"""The version 1 controllers that a host's processes join. Not cpuset: an empty one takes none."""

SETTLE_SECONDS = 10.0
"""Killed processes leave their groups, and freezing ends, within milliseconds on a quiet
machine; this long on one that is busy with ten other daemons."""


def is_unified() -> bool:
    """Tell whether this machine has version 2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def _hierarchies(controllers: tuple[str, ...] = ()) -> list[Path]:
    """Return the roots of the named version 1 hierarchies, or of all; or the one of version 2."""
    if is_unified():
        return [ROOT]
    names = controllers or tuple(path.name for path in ROOT.iterdir())
    # cpu and cpuacct are often two links to one folder
    found = {(ROOT / name).resolve() for name in names}
    return sorted(path for path in found if path.is_dir())


class Cgroup:
    """A group of the same path in each hierarchy; the path is relative to their roots."""

    def __init__(self, path: str) -> None:
        self.path = path

    def create(self) -> None:
        for root in _hierarchies(JOINED):
            (root / self.path).mkdir(parents=True, exist_ok=True)

    def join_files(self) -> list[str]:
        """Return the files that a process writes ``0`` into to join."""
        return [str(root / self.path / "cgroup.procs") for root in _hierarchies(JOINED)]

    def pids(self) -> set[int]:
        """Return all processes of the group and of those below it."""
        found: set[int] = set()
        for root in _hierarchies(("pids",)):
            for folder, _, _ in os.walk(root / self.path):
                with suppress(OSError):  # a container's group may vanish meanwhile
                    found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
        return found

    def freeze(self) -> None:
        """Stop every process below, and return once all stand still."""
        self._write_frozen("1", "FROZEN")

    def thaw(self) -> None:
        """Let them run on."""
        self._write_frozen("0", "THAWED")

    def _write_frozen(self, unified: str, v1: str) -> None:
        if is_unified():
            folder = ROOT / self.path
            (folder / "cgroup.freeze").write_text(unified)
            wait_until(
                lambda: f"frozen {unified}" in (folder / "cgroup.events").read_text(),
                f"{self.path} has frozen={unified}",
                seconds=SETTLE_SECONDS,
            )
        else:
            state = ROOT / "freezer" / self.path / "freezer.state"
            state.write_text(v1)
            wait_until(
                lambda: state.read_text().strip() == v1,
                f"{self.path} is {v1}",
                seconds=SETTLE_SECONDS,
            )

    def kill(self) -> None:
        """Kill every process below, frozen ones too."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.thaw_all()

    def thaw_all(self) -> None:
        """Thaw the group and each below it: what is frozen, or paused by Docker, cannot die."""
        name, value = ("cgroup.freeze", "0") if is_unified() else ("freezer.state", "THAWED")
        for root in _hierarchies(("freezer",)):
            for folder, _, _ in os.walk(root / self.path):
                with suppress(OSError):  # it vanished meanwhile
                    Path(folder, name).write_text(value)

    def remove(self) -> None:
        """Remove the group and all below it, once the processes in it have ended.

        Raises:
            TimeoutError: something in it goes on running.
        """
        wait_until(self._removed, f"the control group {self.path} is empty", seconds=SETTLE_SECONDS)

    def remove_if_empty(self) -> None:
        """Remove what no process is in, of this group and of those below it."""
        self._removed()

    def _removed(self) -> bool:
        remaining = False
        # Docker's containers have groups in every hierarchy, in those too that no host joins.
        for root in _hierarchies():
            for folder, _, _ in os.walk(root / self.path, topdown=False):
                try:
                    Path(folder).rmdir()
                except FileNotFoundError:
                    pass
                except OSError:
                    remaining = True
        return not remaining
