"""One host of the lab: its own network, processes, mounts, name, and a cable to the switch."""

import os
import select
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

from tests.lab.cgroups import Cgroup
from tests.lab.process import Process, resume_entering
from tests.lab.switch import LongCable, Switch

INIT = Path(__file__).with_name("hostinit.sh")

BOOT_SECONDS = 20.0
"""Making the namespaces takes about 30 ms; this is for a machine that is busy with ten hosts."""

RUN_SECONDS = 60.0
"""For commands that tests run to their end in a host."""

# Write "0" into each file up to "--", which moves the shell into those groups; then become
# the command.
JOIN_AND_RUN = 'while [ "$1" != -- ]; do echo 0 >"$1"; shift; done; shift; exec "$@"'


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the lab a host stands: what differs between one host and the next."""

    name: str
    number: int
    """Last byte of the address: 2 to 9 for controls, 11 and up for hosts with Docker."""

    lab_id: str
    keeper_pid: int

    @property
    def address(self) -> str:
        return f"198.18.0.{self.number}"

    @property
    def mac(self) -> str:
        return f"02:c6:12:00:00:{self.number:02x}"


class Host:
    """A host without Docker: for etcd, managers, or a machine to install things on.

    Its :attr:`folder` outlives crashes, as a disk does, and has the same path inside.
    """

    def __init__(self, place: Place, switch: Switch, lab_folder: Path) -> None:
        self.name = place.name
        self.address = place.address
        self.folder = lab_folder / place.name
        self._place = place
        self._switch = switch
        self._cgroup = Cgroup(f"{place.lab_id}/{place.name}")
        self._own_cgroup = Cgroup(f"{place.lab_id}/{place.name}/sys")
        self._booted: subprocess.Popen[str] | None = None
        self._init_pid = 0
        self._entered: list[subprocess.Popen[bytes]] = []

    def __repr__(self) -> str:
        return f"<{self.name} {self.address} {'up' if self.is_up else 'down'}>"

    @property
    def is_up(self) -> bool:
        return self._booted is not None

    def boot(self) -> None:
        """Make the host's namespaces and plug it in. Its folder is as it was left."""
        if self.is_up:
            raise RuntimeError(f"{self.name} is up already")
        self.folder.mkdir(exist_ok=True)
        machine_id = self.folder / "machine-id"
        if not machine_id.exists():
            machine_id.write_text(f"{uuid.uuid4().hex}\n")
        self._own_cgroup.create()
        log = self.folder / "boot.log"
        with log.open("a") as errors:
            self._booted = subprocess.Popen(
                self._join(
                    *("nsenter", f"--target={self._place.keeper_pid}", "--pid"),
                    *("unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork"),
                    *("--kill-child", "tini", "--", "sh", str(INIT), self.name, str(self.folder)),
                ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_inner_environment({}),
                text=True,
            )
        try:
            self._init_pid = read_pid(self._booted, BOOT_SECONDS)
        except (TimeoutError, RuntimeError) as error:
            raise RuntimeError(f"{self.name} did not boot: {error}\n{log.read_text()}") from None
        self._switch.plug_in(self.name, self.address, self._place.mac, self._init_pid)

    def crash(self) -> None:
        """Cut the power: link, processes and containers are gone at once, with no farewell."""
        if self._booted is None:
            raise RuntimeError(f"{self.name} is down already")
        self._switch.set_link(self.name, up=False)
        os.kill(self._init_pid, SIGKILL)  # the kernel kills all the rest of the namespace
        self._cgroup.thaw_all()
        self.forget_processes()
        self._switch.unplug(self.name)
        self._cgroup.remove()

    def reboot(self) -> None:
        """Crash and boot: only what is on the disk is still there."""
        self.crash()
        self.boot()

    def forget_processes(self) -> None:
        """Take note that all processes of this host have ended, or are just being killed."""
        self.resume_entering()
        for entered in self._entered:
            entered.wait(BOOT_SECONDS)
        self._entered.clear()
        if self._booted is not None:
            self._booted.wait(BOOT_SECONDS)
            if self._booted.stdout is not None:
                self._booted.stdout.close()
        self._booted = None
        self._init_pid = 0

    def resume_entering(self) -> None:
        """Let whatever waits outside for programs in here notice their end, paused ones' too."""
        for entered in self._entered:
            resume_entering(entered)

    def cut(self) -> None:
        """Pull the cable: nothing reaches the host and nothing leaves it; all in it runs on."""
        self._switch.set_link(self.name, up=False)

    def heal(self) -> None:
        """Put the cable back."""
        self._switch.set_link(self.name, up=True)

    def lengthen(self, cable: LongCable) -> None:
        """Give the host a long cable: frames are late, or lost. It has one at a time."""
        self._switch.lengthen(self.name, cable)

    def shorten(self) -> None:
        """Give it the usual cable back; no error if it has it."""
        self._switch.shorten(self.name)

    def freeze(self) -> None:
        """Stop every process and container, as a hung machine does; the network stack lives."""
        self._cgroup.freeze()

    def thaw(self) -> None:
        """Let them run on, unaware of the time that has passed."""
        self._cgroup.thaw()

    def pids(self) -> set[int]:
        """Return all processes of the host and of its containers, as numbered outside."""
        return self._cgroup.pids()

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
        cwd: Path | str = "/",
        seconds: float = RUN_SECONDS,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command inside to its end.

        Raises:
            RuntimeError: it failed (and *check*), or took longer than *seconds*.
        """
        limited = ["timeout", "--signal=KILL", f"{seconds:g}", *argv]
        done = subprocess.run(
            self._enter(limited, cwd),
            input=stdin,
            env=_inner_environment(environment or {}),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                f"in {self.name}, exit code {done.returncode}: {' '.join(argv)}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def call(self, argv: Sequence[str], *, cwd: Path | str = "/") -> int:
        """Run a command inside with our own terminal and streams; return its exit code."""
        return subprocess.run(
            self._enter(argv, cwd), env=_inner_environment({}), check=False
        ).returncode

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | str = "/",
    ) -> Process:
        """Start a program that lives as long as the host; what it prints goes to ``NAME.log``."""
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            entering = subprocess.Popen(
                self._enter(argv, cwd),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=_inner_environment(environment or {}),
                start_new_session=True,  # a Ctrl-C at the terminal is for the tests alone
            )
        self._entered.append(entering)
        return Process(name, entering, log)

    def _enter(self, argv: Sequence[str], cwd: Path | str) -> list[str]:
        if not self.is_up:
            raise RuntimeError(f"{self.name} is down: it can't run {' '.join(argv)}")
        namespaces = ("--net", "--mount", "--uts", "--ipc", "--pid")
        target = f"--target={self._init_pid}"
        return self._join("nsenter", target, *namespaces, "env", "-C", str(cwd), *argv)

    def _join(self, *argv: str) -> list[str]:
        return ["sh", "-ec", JOIN_AND_RUN, "sh", *self._own_cgroup.join_files(), "--", *argv]


def read_pid(started: "subprocess.Popen[str]", seconds: float) -> int:
    """Return the number that a starting process prints as its first line.

    Raises:
        RuntimeError: it ended instead.
        TimeoutError: it printed nothing for *seconds*.
    """
    assert started.stdout is not None
    if not select.select([started.stdout], [], [], seconds)[0]:
        started.kill()
        raise TimeoutError(f"no word for {seconds:g} s")
    line = started.stdout.readline()
    if not line:
        raise RuntimeError(f"it ended with {started.wait(seconds)}")
    return int(line)


def _inner_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return our environment plus *extra*, less what points out of the host."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    return {**outer, **extra}
