"""What containers use, read from the kernel's control groups (version 1 and 2).

Docker's own statistics take a second a call, these files microseconds. A container's group
is the one that its process is in, if that names the container; an engine in a process
namespace of its own reports numbers that mean nothing here, so then the groups are searched.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.runtime.interface import ContainerId, ContainerUsage

SEARCH_DEPTH_MAX = 5  # systemd slices nest; containers' own groups lie below theirs
_NANOS_PER_MICRO = 1_000


class Cgroups:
    """Finds and reads the groups of containers; remembers where they are."""

    def __init__(
        self, root: Path = Path("/sys/fs/cgroup"), processes: Path = Path("/proc")
    ) -> None:
        self._root = root
        self._processes = processes
        self._found: dict[ContainerId, tuple[Path, Path]] = {}

    def __contains__(self, container_id: ContainerId) -> bool:
        """Tell whether its process id is not needed any more to find the container's group."""
        return container_id in self._found

    def measure(
        self, container_ids: set[ContainerId], pids: Mapping[ContainerId, int]
    ) -> dict[ContainerId, ContainerUsage]:
        """Return what those containers use whose groups can be found; forget all others."""
        self._found = {key: place for key, place in self._found.items() if key in container_ids}
        for container_id, pid in pids.items():
            if (places := self._find(container_id, pid)) is not None:
                self._found[container_id] = places
        measured = {key: self._read(key) for key in tuple(self._found)}
        return {key: usage for key, usage in measured.items() if usage is not None}

    def _read(self, container_id: ContainerId) -> ContainerUsage | None:
        cpu, memory = self._found[container_id]
        try:
            return ContainerUsage(cpu_total_nanos=_cpu_nanos(cpu), memory_bytes=_memory(memory))
        except (OSError, ValueError, KeyError):
            del self._found[container_id]  # it has ended
            return None

    def _find(self, container_id: ContainerId, pid: int) -> tuple[Path, Path] | None:
        if not (self._root / "cgroup.controllers").exists():
            cpu = self._place("cpuacct", container_id, pid)
            memory = self._place("memory", container_id, pid)
            return (cpu, memory) if cpu and memory else None
        place = self._place("", container_id, pid)
        return (place, place) if place else None

    def _place(self, controller: str, container_id: ContainerId, pid: int) -> Path | None:
        root = self._root / controller
        for path in self._paths_of_process(controller, pid):
            place = root / path.lstrip("/")
            if container_id in path and place.is_dir():
                return place
        return next(_search(root, container_id, SEARCH_DEPTH_MAX), None)

    def _paths_of_process(self, controller: str, pid: int) -> Iterator[str]:
        try:
            lines = (self._processes / str(pid) / "cgroup").read_text().splitlines()
        except OSError:
            return
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                yield path


def _search(root: Path, container_id: ContainerId, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(root) as entries:
            folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for folder in folders:
        if container_id in folder.name:
            yield Path(folder.path)
        elif depth:
            yield from _search(Path(folder.path), container_id, depth - 1)


def _cpu_nanos(place: Path) -> int:
    usage = place / "cpuacct.usage"
    if usage.exists():
        return int(usage.read_text())
    return _table(place / "cpu.stat")["usage_usec"] * _NANOS_PER_MICRO


def _memory(place: Path) -> int:
    """Return memory in use without the page cache that the kernel would give back."""
    stat = _table(place / "memory.stat")
    v1 = place / "memory.usage_in_bytes"
    if v1.exists():
        return max(0, int(v1.read_text()) - stat.get("total_inactive_file", 0))
    return max(0, int((place / "memory.current").read_text()) - stat.get("inactive_file", 0))


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines())
    return {name: int(value) for name, value in pairs}
