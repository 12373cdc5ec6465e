"""Processes inside a lab host, started and watched from outside."""

import os
import signal
import subprocess
from pathlib import Path

from tests.lab.waiting import wait_until

START_SECONDS = 10.0
"""From the start of nsenter to that of what it starts; two forks, on a busy machine."""

TAIL_LINES = 30


class Process:
    """One program that runs in a host. It ends with the host, whatever happens.

    *entering* is the ``nsenter`` outside; the program is its only child, inside.
    """

    def __init__(self, name: str, entering: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.log = log
        self._entering = entering
        wait_until(
            lambda: self._find_pid() or not self.is_running,
            f"{name} has started",
            seconds=START_SECONDS,
        )
        self.pid = self._find_pid()

    def __repr__(self) -> str:
        state = "running" if self.is_running else f"ended with {self._entering.returncode}"
        return f"<{self.name}, process {self.pid}, {state}>"

    def _find_pid(self) -> int:
        """Return the number of the program outside; 0 before it starts and after it ends."""
        outer = self._entering.pid
        try:
            children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    @property
    def is_running(self) -> bool:
        return self._entering.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.pid and self.is_running:
            os.kill(self.pid, number)
            if number is signal.SIGCONT:
                # nsenter, which waits for it, has stopped itself when its child was stopped.
                os.kill(self._entering.pid, number)

    def pause(self) -> None:
        """Stop it in the middle of whatever it does; the kernel goes on without it.

        Returns once ``nsenter`` has followed it: it would else stop when it was just resumed.
        """
        self.signal(signal.SIGSTOP)
        wait_until(
            lambda: not self.is_running or _state_of(self._entering.pid) == "T",
            f"{self.name} stands still",
        )

    def resume(self) -> None:
        """Let it go on, unaware of the time that has passed; no error if it was not paused."""
        self.signal(signal.SIGCONT)
        resume_entering(self._entering)

    def kill(self) -> None:
        """Kill it as a crash would, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        resume_entering(self._entering)
        self.wait()

    def stop(self, seconds: float = 30.0) -> int:
        """Ask it to end (SIGTERM), wait, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = 30.0) -> int:
        """Return the exit code; that of a program which a signal ended is 128 and more, or less
        than 0.

        Raises:
            TimeoutError: it still runs.
        """
        try:
            return self._entering.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {seconds:g} s") from None

    def output(self) -> str:
        """Return all that it printed on either stream, over all its runs under this name."""
        return self.log.read_text(errors="replace")

    def tail(self) -> str:
        """Return the last lines that it printed, for a message."""
        return "\n".join(self.output().splitlines()[-TAIL_LINES:])


def _state_of(pid: int) -> str:
    """Return the letter by which the kernel tells what a process does (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def resume_entering(entering: "subprocess.Popen[bytes]") -> None:
    """Let an ``nsenter`` go on: it stops itself when its child is stopped, and would never wake."""
    if entering.poll() is None:
        entering.send_signal(signal.SIGCONT)
