"""Several hosts on one machine: each a set of namespaces, most with a dockerd of their own.

The theory: one process, the *keeper*, is PID 1 of a process namespace and holds the switch's
network namespace; every host is a namespace nested in it. The keeper ends when the pipe
from the test run does. So the kernel itself takes down all processes, mounts and links,
also when the run is killed with SIGKILL; see ``leftovers`` for the little that remains.
"""

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import images
from tests.lab.cgroups import Cgroup
from tests.lab.docker_host import DockerHost
from tests.lab.host import Host, Place, read_pid
from tests.lab.leftovers import Claim, claim
from tests.lab.switch import Switch

FIRST_CONTROL = 2
FIRST_DOCKER_HOST = 11
CONTROLS_MAX = FIRST_DOCKER_HOST - FIRST_CONTROL - 1
DOCKER_HOSTS_MAX = 30
"""Each has a /21 of 198.19.0.0/16 for its Docker networks, which is 32 of them, one unused."""

BOOTS_AT_ONCE = 4
"""Starting dockerd is all computing; more at once than cores only makes each slower."""

KEEPER_SECONDS = 10.0

# PID 1 of the lab. It tells its number as seen from outside, then waits for the pipe to end.
KEEPER = "read -r pid _ </proc/self/stat; echo $pid; exec cat >/dev/null"


class Lab:
    """*hosts* hosts with Docker (``h1`` ...) and *controls* without (``m1`` ...), on a switch.

    A context manager: all are up inside, and nothing of them is left after it. *dockerd_flags*
    are added to every daemon's, for instance ``--live-restore``.
    """

    def __init__(
        self,
        hosts: int = 3,
        controls: int = 0,
        *,
        dockerd_flags: Sequence[str] = (),
        with_images: bool = True,
    ) -> None:
        if not (0 <= hosts <= DOCKER_HOSTS_MAX and 0 <= controls <= CONTROLS_MAX):
            raise ValueError(
                f"up to {DOCKER_HOSTS_MAX} hosts and {CONTROLS_MAX} controls, not"
                f" {hosts} and {controls}"
            )
        self._sizes = (hosts, controls)
        self._flags = tuple(dockerd_flags)
        self._with_images = with_images
        self._claim: Claim | None = None
        self._keeper: subprocess.Popen[str] | None = None
        self._switch: Switch | None = None
        self.docker_hosts: tuple[DockerHost, ...] = ()
        self.controls: tuple[Host, ...] = ()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All of them, controls first."""
        return (*self.controls, *self.docker_hosts)

    @property
    def id(self) -> str:
        """The name that the lab's folder and control groups carry, unique on the machine."""
        return self._opened_claim.id

    @property
    def folder(self) -> Path:
        """Where the hosts' disks are; deleted with the lab."""
        return self._opened_claim.folder

    def __getitem__(self, name: str) -> Host:
        return {host.name: host for host in self.hosts}[name]

    def __enter__(self) -> Self:
        template = images.template(_fill_template) if self._with_images else None
        self._claim = claim()
        try:
            self._open(template)
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

    def _open(self, template: Path | None) -> None:
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", KEEPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        keeper_pid = read_pid(self._keeper, KEEPER_SECONDS)
        self._switch = Switch(keeper_pid)
        docker_hosts, controls = self._sizes

        def place(letter: str, index: int, first: int) -> Place:
            return Place(f"{letter}{index + 1}", first + index, self.id, keeper_pid)

        self.controls = tuple(
            Host(place("m", i, FIRST_CONTROL), self._switch, self.folder) for i in range(controls)
        )
        self.docker_hosts = tuple(
            DockerHost(
                place("h", i, FIRST_DOCKER_HOST),
                self._switch,
                self.folder,
                template=template,
                dockerd_flags=self._flags,
            )
            for i in range(docker_hosts)
        )
        with ThreadPoolExecutor(BOOTS_AT_ONCE) as pool:
            list(pool.map(lambda host: host.boot(), self.hosts))

    def close(self) -> None:
        """End everything and remove every trace. Works from any half-made state."""
        with ExitStack() as last_to_first:  # each, whatever becomes of those before it
            last_to_first.callback(self._release)
            last_to_first.callback(self._forget_hosts)
            last_to_first.callback(self._end_keeper)

    def _end_keeper(self) -> None:
        if self._keeper is None or self._keeper.stdin is None or self._keeper.stdout is None:
            return
        self._keeper.stdin.close()  # ends the keeper, thus all the rest ...
        # ... but for what is frozen, and what waits for what is paused: the keeper waits for both.
        Cgroup(self.id).thaw_all()
        for host in self.hosts:
            host.resume_entering()
        self._keeper.wait(KEEPER_SECONDS)
        self._keeper.stdout.close()
        self._keeper = None

    def _forget_hosts(self) -> None:
        if self._switch is not None:
            self._switch.forget_processes()
        for host in self.hosts:
            host.forget_processes()

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def block(self, source: Host, target: Host) -> None:
        """Lose all that *source* sends to *target*; the way back stays open."""
        self._opened_switch.set_cut(source.name, target.name, cut=True)

    def unblock(self, source: Host, target: Host) -> None:
        """Let it through again."""
        self._opened_switch.set_cut(source.name, target.name, cut=False)

    def unblock_all(self) -> None:
        """Let everything through again; no error if nothing was lost."""
        self._opened_switch.clear_cuts()

    def run(
        self, argv: Sequence[str], *, check: bool = True, seconds: float = 60.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as a client beside the hosts, at the switch's own address."""
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{self._opened_switch.pid}/ns/net", *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
        return done

    @property
    def _opened_switch(self) -> Switch:
        if self._switch is None or self._keeper is None:
            raise RuntimeError("the lab is not open")
        return self._switch

    @property
    def _opened_claim(self) -> Claim:
        if self._claim is None:
            raise RuntimeError("the lab is not open")
        return self._claim


def _fill_template(archive: bytes, target: Path) -> None:
    """Load *archive* into a fresh daemon and leave its data folder at *target*."""
    with Lab(hosts=1, with_images=False) as lab:
        host = lab.docker_hosts[0]
        host.docker.images.load(archive)
        host.stop_dockerd()
        host.crash()
        # Each copy should be an engine of its own, with networks of its own.
        (host.data_root / "engine-id").unlink(missing_ok=True)
        (host.data_root / "network/files/local-kv.db").unlink(missing_ok=True)
        subprocess.run(["cp", "-a", str(host.data_root), str(target)], check=True)
