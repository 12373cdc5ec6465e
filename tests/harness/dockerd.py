"""A Docker daemon of our own for tests, in namespaces of its own.

It shares neither network, mounts nor processes with the machine, so it touches no firewall
and no bridge, several test runs stand side by side, and ending one process ends everything.
Needs root, ``dockerd``, ``containerd``, ``runc``, ``tini``, ``ip`` and util-linux: a missing
one fails the tests with its name.
"""

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import docker

START_SECONDS_MAX = 60.0  # a loaded two-core machine took 11 s for the slowest start seen
CGROUPS = Path("/sys/fs/cgroup")
TOOLS = ("dockerd", "containerd", "runc", "tini", "setpriv", "unshare", "nsenter", "ip")

IMAGE = "shoal-test:1"  # /bin/sh and applets; its command waits for SIGTERM and then exits with 0
WAIT = 'trap "exit 0" TERM INT; while :; do sleep 1000 & wait $!; done'

# What runs as the first process of the namespaces. /run is hidden because dockerd and
# containerd keep sockets and locks there; /etc/docker holds the engine's identity.
_INIT = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/lock "$DIR/etc"
if [ -d /etc/docker ]; then mount --bind "$DIR/etc" /etc/docker; fi
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
touch "$DIR/ready"
exec tail -f /dev/null
"""


class DockerdError(Exception):
    """The test's Docker daemon could not be had."""


@dataclass
class Dockerd:
    """One daemon; ``url`` is what a client connects to."""

    directory: Path
    live_restore: bool = False
    flags: Sequence[str] = ()
    _spaces: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _daemon: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"unix://{self.directory}/docker.sock"

    @property
    def cgroup(self) -> str:
        return f"shoal-test-{self.directory.name}"

    def open(self) -> None:
        """Make the namespaces and start the daemon in them."""
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing or os.geteuid() != 0:
            wants = ", ".join(missing) or "root"
            raise DockerdError(
                f"tests of the Docker runtime need {wants}: "
                "`apt-get install docker.io tini iproute2 util-linux`, and run them as root"
            )
        ready = self.directory / "ready"
        # Should the test run be killed, everything ends with it.
        command = ["setpriv", "--pdeathsig", "KILL"]
        command += ["unshare", "--mount", "--net", "--ipc", "--uts", "--pid", "--fork"]
        command += ["--kill-child", "tini", "-s", "--", "sh", "-c", _INIT]
        self._spaces = subprocess.Popen(
            command,
            env={**os.environ, "DIR": str(self.directory)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._await("its namespaces", ready.exists)
        self.start()

    def start(self) -> None:
        """Start the daemon, as a service manager would after it has died."""
        (self.directory / "pid").unlink(missing_ok=True)
        command = self._inside("dockerd", "--host", self.url)
        for option, name in (("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")):
            command += [f"--{option}", str(self.directory / name)]
        command += ["--bip", "198.18.254.1/24"]
        command += ["--default-address-pool", "base=198.19.240.0/20,size=26"]
        command += ["--cgroup-parent", f"/{self.cgroup}"]
        command += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--userland-proxy=false"]
        command += ["--live-restore"] if self.live_restore else []
        with (self.directory / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [*command, *self.flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._await("the daemon", self.answers)

    def kill(self) -> None:
        """Kill the daemon and containerd; containers live on."""
        self._signal(signal.SIGKILL)

    def shut_down(self) -> None:
        """Ask the daemon to end; without live-restore it stops its containers first."""
        self._signal(signal.SIGTERM)

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Let the daemon give no answer for a while."""
        assert self._daemon is not None
        os.kill(self._pid(), signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._pid(), signal.SIGCONT)
            os.kill(self._daemon.pid, signal.SIGCONT)  # nsenter stops when its child does

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            try:
                link.connect(self.url.removeprefix("unix://"))
                link.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in link.recv(64)
            except OSError:
                return False

    def client(self) -> docker.DockerClient:
        """Return a client; the caller closes it."""
        return docker.DockerClient(base_url=self.url, version="1.41", timeout=60)

    def close(self) -> None:
        """End the daemon with all that ran under it, and take its traces off the machine."""
        for process in (self._spaces, self._daemon):
            if process is not None and process.poll() is None:
                process.kill()
        for process in (self._spaces, self._daemon):
            if process is not None:
                process.wait(timeout=START_SECONDS_MAX)
        self._remove_cgroups()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _pid(self) -> int:
        """Return the daemon's process id as seen from outside: nsenter becomes it."""
        assert self._daemon is not None
        children = Path(f"/proc/{self._daemon.pid}/task/{self._daemon.pid}/children")
        inner = children.read_text().split()
        return int(inner[0]) if inner else self._daemon.pid

    def _signal(self, number: signal.Signals) -> None:
        assert self._daemon is not None
        os.kill(self._pid(), number)
        self._daemon.wait(timeout=START_SECONDS_MAX)

    def _inside(self, *command: str) -> list[str]:
        assert self._spaces is not None
        init = Path(f"/proc/{self._spaces.pid}/task/{self._spaces.pid}/children").read_text()
        return ["nsenter", "-t", init.split()[0], "-m", "-n", "-i", "-u", "-p", "--", *command]

    def _await(self, what: str, condition: Callable[[], bool]) -> None:
        assert self._spaces is not None
        until = time.monotonic() + START_SECONDS_MAX
        while not condition():
            ended = self._daemon is not None and self._daemon.poll() is not None
            if time.monotonic() > until or self._spaces.poll() is not None or ended:
                log = self.directory / "log"
                tail = log.read_text(errors="replace")[-3000:] if log.exists() else ""
                raise DockerdError(f"{what} did not start\n{tail}")
            time.sleep(0.02)

    def _remove_cgroups(self) -> None:
        until = time.monotonic() + START_SECONDS_MAX
        roots = [CGROUPS, *CGROUPS.iterdir()]
        while left := [root for root in roots if (root / self.cgroup).is_dir()]:
            for root in left:
                for path, _, _ in os.walk(root / self.cgroup, topdown=False):
                    with contextlib.suppress(OSError):
                        Path(path).rmdir()
            if time.monotonic() > until:
                raise DockerdError(f"cgroups are left: {left}")
            time.sleep(0.01)


@contextlib.contextmanager
def dockerd(*, live_restore: bool = False, flags: Sequence[str] = ()) -> Iterator[Dockerd]:
    """Run a daemon that has the image ``IMAGE``, and end it."""
    directory = Path(tempfile.mkdtemp(prefix="shoal-dockerd-"))
    daemon = Dockerd(directory, live_restore=live_restore, flags=flags)
    try:
        daemon.open()
        client = daemon.client()
        try:
            import_image(client, IMAGE)
        finally:
            client.close()
        yield daemon
    finally:
        daemon.close()


def import_image(client: docker.DockerClient, name: str, *changes: str) -> None:
    """Make an image from the machine's static busybox; *changes* are Dockerfile lines."""
    repository, _, tag = name.rpartition(":")
    command = f'CMD ["/bin/sh", "-c", {_quoted(WAIT)}]'
    client.api.import_image_from_data(
        root_file_system(), repository=repository, tag=tag, changes=[command, *changes]
    )


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def root_file_system() -> bytes:
    """Return a tar of a small root file system: busybox and links for its applets."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise DockerdError("test images need busybox: `apt-get install busybox-static`")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "etc", "tmp", "var", "root", "www"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        for applet in set(applets.stdout.split()) - {"busybox"}:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for path, text in (
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"),
            ("etc/group", "root:x:0:\nnobody:x:65534:\n"),
        ):
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def unique(prefix: str) -> str:
    """Return a name that nobody else uses."""
    return f"{prefix}{uuid.uuid4().hex[:8]}"
