"""Real etcd for tests: one member or several, on loopback or inside network namespaces.

    with EtcdCluster() as etcd:            # one member
        store = EtcdStore(etcd.endpoints)

    with EtcdCluster(3) as etcd:           # three
        etcd.members[0].kill()             # as SIGKILL does it
        etcd.members[0].start()            # on the same data and addresses
        etcd.members[1].pause()            # SIGSTOP: it hangs, its connections stay open
        etcd.members[1].resume()

    with EtcdCluster(
        hosts=["198.18.0.10"], commands=[["nsenter", "--net=/run/netns/m1"]], client_port=2379
    ) as etcd: ...

Everything ends with the ``with`` block, whatever fails in it; if the whole interpreter dies, the
kernel ends the members. ``SHOAL_TEST_ETCD`` names another etcd binary than the one on the path.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Three members that start together need about 1.5 s on a quiet machine, and it is rarely quiet.
READY_SECONDS = 30.0
PROBE_SECONDS = 0.02

# A signal takes effect within a scheduler's turn of each thread.
STOPPED_SECONDS = 5.0

# Ports of our own choice lie below the range that outgoing connections take theirs from.
PORTS = range(20_000, 30_000)

# Runs inside the member's network namespace, hence a program of its own.
PROBE = """
import sys, time, urllib.request
url, deadline = sys.argv[1], time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            if b'"true"' in answer.read():
                sys.exit(0)
    except OSError:
        pass
    time.sleep(float(sys.argv[3]))
sys.exit(1)
"""


class EtcdMissingError(RuntimeError):
    def __init__(self) -> None:
        super().__init__("there is no etcd on this machine: apt-get install etcd-server")


class EtcdStartError(RuntimeError):
    pass


def etcd_binary() -> str:
    """Return the path of etcd.

    Raises:
        EtcdMissingError: it is not installed.
    """
    binary = os.environ.get("SHOAL_TEST_ETCD") or shutil.which("etcd")
    if binary is None:
        raise EtcdMissingError
    return binary


class EtcdProcess:
    """One member: a process that can be started, killed, paused and resumed."""

    def __init__(
        self,
        *,
        name: str,
        host: str,
        client_port: int,
        peer_port: int,
        metrics_port: int,
        folder: Path,
        command: Sequence[str] = (),
        arguments: Sequence[str] = (),
        scheme: str = "http",
    ) -> None:
        """Describe a member.

        Args:
            name: unique in its cluster.
            host: the address to listen on.
            client_port: where clients connect.
            peer_port: where other members connect.
            metrics_port: where health is asked for, always in plain HTTP.
            folder: for its data and its log.
            command: what to run etcd under; it must end by executing its arguments, not by
                forking, so that the process id is etcd's.
            arguments: more of etcd's flags.
            scheme: of the client address; ``https`` needs arguments that name certificates.
        """
        self.name = name
        self.endpoint = f"{host}:{client_port}"
        self.client_url = f"{scheme}://{self.endpoint}"
        self.peer_url = f"http://{host}:{peer_port}"
        self.log = folder / f"{name}.log"
        self._metrics_url = f"http://{host}:{metrics_port}"
        self._data = folder / name
        self._command = list(command)
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"etcd {self.name} does not run"
        return self._process.pid

    def spawn(self, initial_cluster: str) -> None:
        """Start the process; ``wait_ready`` tells when it serves."""
        assert self._process is None, f"etcd {self.name} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *_dying_with_us(),
                    *self._command,
                    *(etcd_binary(), "--name", self.name, "--data-dir", str(self._data)),
                    *("--listen-client-urls", self.client_url),
                    *("--advertise-client-urls", self.client_url),
                    *("--listen-peer-urls", self.peer_url),
                    *("--initial-advertise-peer-urls", self.peer_url),
                    *("--initial-cluster", initial_cluster),
                    *("--listen-metrics-urls", self._metrics_url),
                    *("--logger", "zap"),
                    *self._arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._initial_cluster = initial_cluster

    def spawn_again(self) -> None:
        """Start again after ``kill`` or ``stop``; ``wait_ready`` tells when it serves."""
        self.spawn(self._initial_cluster)

    def start(self) -> None:
        """Start again after ``kill`` or ``stop``, and wait until it serves."""
        self.spawn_again()
        self.wait_ready()

    def forget(self) -> None:
        """Remove the data of a member that does not run."""
        shutil.rmtree(self._data)

    def wait_ready(self) -> None:
        """Wait until the member answers a linearizable read.

        Raises:
            EtcdStartError: it does not in time; with the end of its log.
        """
        assert self._process is not None
        probe = subprocess.Popen(
            [
                *(*_dying_with_us(), *self._command, sys.executable, "-c", PROBE),
                *(f"{self._metrics_url}/health", str(READY_SECONDS), str(PROBE_SECONDS)),
            ],
        )
        try:
            while probe.poll() is None:
                if self._process.poll() is not None:
                    raise EtcdStartError(f"etcd {self.name} ended:\n{self._log_end()}")
                time.sleep(PROBE_SECONDS)
        finally:
            probe.kill()
            probe.wait()
        if probe.returncode != 0:
            raise EtcdStartError(f"etcd {self.name} is not ready:\n{self._log_end()}")

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL); its data stays."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as a service manager would (SIGTERM); its data stays."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Let it hang: it holds its connections, and answers nothing from now on."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + STOPPED_SECONDS
        while not self._stands_still():  # a thread that runs may still answer
            assert time.monotonic() < deadline, f"etcd {self.name} does not stop"
            time.sleep(0.001)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def api(self, path: str, **fields: Any) -> dict[str, Any]:
        """Call etcd's JSON gateway, for what the store's client has no need of.

        Only without a command prefix and TLS.
        """
        request = urllib.request.Request(
            f"{self.client_url}/v3/{path}",
            data=json.dumps(fields).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            result: dict[str, Any] = json.loads(answer.read())
        return result

    def _stands_still(self) -> bool:
        """Return whether every thread is stopped (state T, after the name in parentheses)."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        states = [(thread / "stat").read_text().rpartition(")")[2].split()[0] for thread in threads]
        return all(state == "T" for state in states)

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(with_signal)
        if with_signal is not signal.SIGKILL:
            self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


class EtcdCluster:
    """Members that form one etcd; a context manager."""

    def __init__(
        self,
        size: int = 1,
        *,
        hosts: Sequence[str] = (),
        commands: Sequence[Sequence[str]] = (),
        client_port: int | None = None,
        arguments: Sequence[str] = (),
        scheme: str = "http",
    ) -> None:
        """Describe a cluster.

        Args:
            size: members; ignored if *hosts* are given.
            hosts: the address of each member; loopback if none are given.
            commands: what to run each member under, such as ``nsenter --net=...``.
            client_port: the port for clients on each host (peers: one more, health: two more);
                free ports are chosen if it is None.
            arguments: more of etcd's flags, for every member.
            scheme: of the client addresses.
        """
        addresses = list(hosts) or ["127.0.0.1"] * size
        # In memory where possible: no test waits for a disk, or wears one out.
        memory = Path("/dev/shm")
        self.folder = Path(
            tempfile.mkdtemp(prefix="shoal-etcd-", dir=memory if memory.is_dir() else None)
        )
        ports = _free_ports(3 * len(addresses))
        self.members = [
            EtcdProcess(
                name=f"etcd{index}",
                host=address,
                client_port=client_port or ports[3 * index],
                peer_port=client_port + 1 if client_port else ports[3 * index + 1],
                metrics_port=client_port + 2 if client_port else ports[3 * index + 2],
                folder=self.folder,
                command=commands[index] if commands else (),
                arguments=arguments,
                scheme=scheme,
            )
            for index, address in enumerate(addresses)
        ]

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    def start(self) -> None:
        """Start all members and wait until each serves."""
        initial = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        for member in self.members:
            member.spawn(initial)
        for member in self.members:
            member.wait_ready()

    def close(self) -> None:
        """Kill all members and remove their data."""
        for member in self.members:
            member.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def leader(self) -> EtcdProcess:
        """Return the member that leads now; only without a command prefix and TLS."""
        for member in self.members:
            try:
                status = member.api("maintenance/status")
            except (urllib.error.URLError, TimeoutError):
                continue
            if status.get("leader") == status["header"]["member_id"]:
                return member
        raise EtcdStartError("no member leads")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _dying_with_us() -> list[str]:
    """Return a command prefix with which the kernel kills the process when we die.

    It goes by the thread that starts the process, so it serves only the one that lives as long
    as we do.
    """
    if threading.current_thread() is threading.main_thread() and shutil.which("setpriv"):
        return ["setpriv", "--pdeathsig", "KILL"]
    return []


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise EtcdStartError(f"no {count} free ports between {PORTS.start} and {PORTS.stop}")
