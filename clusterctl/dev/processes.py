"""Daemons that outlive us: started in sessions of their own, found again by a file.

A process id alone says little, for the kernel uses it again. So the file holds, beside the id,
when the process was started and in which boot of the machine: together they name one process
for ever. Signals go through a handle on that very process (pidfd).
"""

import json
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.errors import ClusterError

# A manager says goodbye to agents and store, an agent to Docker: each within a second or two.
STOP_SECONDS = 15.0
KILL_SECONDS = 5.0

LOG_LINES_SHOWN = 15
LOG_BYTES_READ = 64 * 1024

_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")
_START_FIELD = 19  # of /proc/PID/stat behind the name: when it started, in ticks since the boot


class DaemonError(ClusterError):
    """A process of ours did not start, or ended too early."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for ever: no other has the same three."""

    pid: int
    start_ticks: int
    boot: str


def identity_of(pid: int) -> Identity | None:
    """Return the identity of a running process; None if there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if fields[0] in ("Z", "X"):
        return None
    return Identity(pid, int(fields[_START_FIELD]), _BOOT_FILE.read_text().strip())


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process by name; its file and log are in *folder*."""

    name: str
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    def running(self) -> Identity | None:
        """Return the process that was started, if it still runs."""
        try:
            known = Identity(**json.loads(self.file.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return known if identity_of(known.pid) == known else None

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it, with its output in the log.

        Raises:
            DaemonError: there is no such program.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            try:
                process = subprocess.Popen(  # noqa: S603  our own command line
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise DaemonError(f"cannot start {self.name}: {error}") from error
        identity = identity_of(process.pid)
        # We end before it does, so nobody waits for it: that is no matter to complain of.
        process.returncode = 0
        if identity is None:
            raise DaemonError(self.told("ended at once"))
        draft = self.file.with_suffix(".new")
        draft.write_text(json.dumps(asdict(identity)))
        draft.replace(self.file)

    def stop(self) -> bool:
        """Ask it to end, make it end if it does not, and tell whether it ran.

        Raises:
            DaemonError: it does not even die.
        """
        known = self.running()
        if known is not None:
            with suppress(ProcessLookupError):
                self._end(known)
        self.file.unlink(missing_ok=True)
        return known is not None

    def _end(self, known: Identity) -> None:
        handle = os.pidfd_open(known.pid)
        try:
            if identity_of(known.pid) != known:  # it ended, and the id was used again
                return
            for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
                signal.pidfd_send_signal(handle, number)
                if _ends_within(handle, seconds):
                    return
        finally:
            os.close(handle)
        raise DaemonError(f"{self.name} (process {known.pid}) does not die")

    def told(self, what: str) -> str:
        """Return what became of it, with the end of its log."""
        end = self.tail()
        return f"{self.name} {what}; its log {self.log}" + (
            f" ends:\n{end}" if end else " is empty"
        )

    def tail(self) -> str:
        """Return the last lines of the log."""
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_BYTES_READ))
            text = log.read().decode(errors="replace")
            return "\n".join(text.splitlines()[-LOG_LINES_SHOWN:])
        return ""


def _ends_within(handle: int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    return bool(poller.poll(seconds * 1000))
