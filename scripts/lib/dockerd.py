"""A Docker daemon of our own, for machines whose service manager can't start one.

It has the usual socket, so that everything finds it, but its own folders, control group and
addresses (of 198.18.0.0/15, which no real network uses). What it changes on the machine is
written down when it starts, and undone when it stops.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.lib import firewall
from scripts.lib.machine import SEARCH_PATH
from scripts.lib.steps import ScriptError, run_quietly

SOCKET = Path("/run/docker.sock")
HOME = Path("/var/lib/shoal-dev/docker")
RUN = Path("/run/shoal-dev/docker")
CGROUP = "shoal-dev"
CGROUPS = Path("/sys/fs/cgroup")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
SHARED_FOLDERS = [
    Path("/run", name) for name in ("containerd/s", "containerd", "docker/plugins", "docker")
]
"""Where any daemon puts sockets, whatever its own folders are; the inner ones first."""

ANSWER_SECONDS = 2.0
"""A daemon answers a ping within milliseconds, or is still starting, or hangs."""

REQUEST_SECONDS = 60.0
"""Loading an image of 2 MB takes 0.2 s; a busy disk may take its time."""

START_SECONDS = 60.0
"""It takes a second on a quiet machine, and ten on one that is also installing things."""

STOP_SECONDS = 60.0
"""It gives each container its grace period, ten seconds by default, all at the same time."""

POLL_SECONDS = 0.05

LOG_LINES_SHOWN = 15


def answers(path: Path) -> bool:
    """Tell whether a Docker daemon answers at the socket *path*."""
    try:
        status, _ = _request(path, "GET", "/_ping", seconds=ANSWER_SECONDS)
    except (OSError, http.client.HTTPException):
        return False
    return status == http.client.OK


def load_images(path: Path, archive: bytes) -> None:
    """Load an archive of images into the daemon at *path*. Loading it again changes nothing.

    Raises:
        ScriptError: Docker refused it.
    """
    status, said = _request(path, "POST", "/images/load?quiet=1", archive)
    if status != http.client.OK or b'"error"' in said:
        raise ScriptError(f"Docker did not load the image: {said.decode(errors='replace')}")


def remove_image(path: Path, tag: str) -> bool:
    """Remove an image, and tell whether there was one.

    Raises:
        ScriptError: Docker refused, say because a container uses it.
    """
    status, said = _request(path, "DELETE", f"/images/{tag}")
    if status not in (http.client.OK, http.client.NOT_FOUND):
        raise ScriptError(f"Docker did not remove {tag}: {said.decode(errors='replace')}")
    return status == http.client.OK


def _request(
    path: Path, method: str, target: str, body: bytes = b"", seconds: float = REQUEST_SECONDS
) -> tuple[int, bytes]:
    """Return the status and the body of the daemon's answer.

    Raises:
        OSError: nobody listens at *path*, or there was no answer in time.
    """
    connection = http.client.HTTPConnection("docker", timeout=seconds)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(seconds)
        connection.sock.connect(str(path))
        connection.request(method, target, body, {"Content-Type": "application/x-tar"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class LocalDockerd:
    """One daemon: *home* keeps images and containers, *run* what need not outlive a boot."""

    socket: Path = SOCKET
    home: Path = HOME
    run: Path = RUN

    @property
    def pid(self) -> int | None:
        """The running daemon's process, or None. A reused number is not mistaken for it."""
        try:
            pid = int(self._pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if f"--pidfile={self._pid_file}".encode() in command else None

    def start(self) -> None:
        """Start it and return once it answers; does nothing if it runs.

        Raises:
            ScriptError: it did not start; carries the end of its log.
        """
        if self.pid is not None:
            return
        if answers(self.socket):
            raise ScriptError(f"another Docker daemon answers at {self.socket}; use that one")
        for folder in (self.home, self.run):
            folder.mkdir(parents=True, exist_ok=True)
        if not self._changes_file.exists():
            self._changes_file.write_text(json.dumps(_before()))
        _mount_cgroups()
        self._pid_file.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [
                    "dockerd",
                    f"--host=unix://{self.socket}",
                    f"--data-root={self.home / 'data'}",
                    f"--exec-root={self.run / 'exec'}",
                    f"--pidfile={self._pid_file}",
                    "--bip=198.18.255.1/24",
                    "--default-address-pool=base=198.19.240.0/20,size=24",
                    f"--cgroup-parent=/{CGROUP}",
                    "--exec-opt=native.cgroupdriver=cgroupfs",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PATH": SEARCH_PATH},
            )

        def is_up() -> bool:
            if process.poll() is not None:
                end = self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
                raise ScriptError("dockerd did not start:\n" + "\n".join(end))
            return answers(self.socket)

        _wait(is_up, START_SECONDS, f"dockerd gives no answer; its log is {self._log}")

    def stop(self, *, delete: bool = False) -> bool:
        """Stop it and undo what it changed; with *delete*, remove its images and containers.

        Tells whether there was anything to stop or undo.
        """
        pid = self.pid
        existed = pid is not None or self.run.exists() or (delete and self.home.exists())
        bridges = self._bridges() if pid is not None else set()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            try:
                _wait(lambda: self.pid is None, STOP_SECONDS, "dockerd does not stop")
            except ScriptError:
                os.kill(pid, signal.SIGKILL)
                _wait(lambda: self.pid is None, STOP_SECONDS, "dockerd does not die")
        with suppress(OSError, ValueError):
            _undo(json.loads(self._changes_file.read_text()), bridges)
        _unmount_below(self.home, self.run)
        shutil.rmtree(self.run, ignore_errors=True)
        self.socket.unlink(missing_ok=True)
        if delete:
            shutil.rmtree(self.home, ignore_errors=True)
        for folder in (self.run.parent, self.home.parent):
            with suppress(OSError):
                folder.rmdir()  # ours, if nothing else is in it
        return existed

    @property
    def _pid_file(self) -> Path:
        return self.run / "dockerd.pid"

    @property
    def _log(self) -> Path:
        return self.home / "dockerd.log"

    @property
    def _changes_file(self) -> Path:
        return self.run / "before.json"

    def _bridges(self) -> set[str]:
        """Return the network links that the daemon made, by asking it for its networks."""
        try:
            networks = json.loads(_request(self.socket, "GET", "/networks")[1])
        except (OSError, http.client.HTTPException, ValueError):
            return set()
        name = "com.docker.network.bridge.name"
        return {
            network["Options"].get(name) or f"br-{network['Id'][:12]}"
            for network in networks
            if network["Driver"] == "bridge"
        }


def _wait(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > deadline:
            raise ScriptError(f"{otherwise} (waited {seconds:g} s)")
        time.sleep(POLL_SECONDS)


def _mounted(kind: str) -> bool:
    return (
        re.search(rf"^\S+ {CGROUPS}\S* {kind} ", Path("/proc/mounts").read_text(), re.MULTILINE)
        is not None
    )


def _mount_cgroups() -> None:
    """Mount control groups where no init has: in a plain container or chroot."""
    if not (_mounted("cgroup") or _mounted("cgroup2")):
        run_quietly(["mount", "-t", "cgroup2", "cgroup2", str(CGROUPS)])


def _before() -> dict[str, Any]:
    """Return what a daemon changes on the machine, as it is now."""
    return {
        "links": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "cgroups_mounted": _mounted("cgroup") or _mounted("cgroup2"),
        "ip_forward": FORWARDING.read_text().strip(),
        "firewall": firewall.has_docker_rules(),
        "forward_policy": firewall.forward_policies(),
        "folders": [str(folder) for folder in SHARED_FOLDERS if folder.exists()],
    }


def _undo(before: dict[str, Any], bridges: set[str]) -> None:
    for link in sorted(bridges | {"docker0"}):
        if link not in before["links"] and Path("/sys/class/net", link).exists():
            run_quietly(["ip", "link", "delete", link])
    if not before["firewall"]:
        firewall.remove_docker_rules(before["forward_policy"])
    FORWARDING.write_text(before["ip_forward"])
    for group in [CGROUPS / CGROUP, *CGROUPS.glob(f"*/{CGROUP}")]:
        for path, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                Path(path).rmdir()
    for folder in SHARED_FOLDERS:
        if str(folder) not in before["folders"]:
            with suppress(OSError):
                folder.rmdir()
    if not before["cgroups_mounted"]:
        run_quietly(["umount", str(CGROUPS)])


def _unmount_below(*folders: Path) -> None:
    """Unmount what a killed daemon left mounted, the newest first."""
    targets = [line.split(" ")[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for target in reversed(targets):
        if any(Path(target).is_relative_to(folder) for folder in folders):
            run_quietly(["umount", "--lazy", target])
