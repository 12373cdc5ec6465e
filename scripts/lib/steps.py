"""What every script shows: its steps, each with the time that it took."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]

OUTPUT_LINES_SHOWN = 40
"""Of a failed command's output: enough for apt's or pip's reason, which stands at the end."""


class ScriptError(Exception):
    """Something that the one who called the script can act on; told without a traceback."""


@dataclass
class Step:
    """One step; whoever runs it may leave a *note* on what it found or did."""

    name: str
    seconds: float = 0.0
    note: str = ""


@contextmanager
def timed(step: Step) -> Iterator[None]:
    """Note in *step* how long the block takes."""
    start = time.perf_counter()
    try:
        yield
    finally:
        step.seconds = time.perf_counter() - start


@dataclass
class Steps:
    """Prints each step as it ends, and keeps them all for a table."""

    taken: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        step = Step(name)
        print(f"   ...    {name}", end="\r" if sys.stdout.isatty() else "\n", flush=True)
        with timed(step):
            yield step
        self.taken.append(step)
        note = f" ({step.note})" if step.note else ""
        print(f"{step.seconds:6.1f} s  {name}{note}", flush=True)

    def table(self) -> str:
        """Return one line for each step, and their sum."""
        rows = [*self.taken, Step("all", sum(step.seconds for step in self.taken))]
        width = max(len(row.name) for row in rows)
        return "\n".join(f"  {row.name:<{width}}  {row.seconds:6.1f} s" for row in rows)


def run_quietly(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed; show that only if it fails.

    Raises:
        ScriptError: the command failed or does not exist.
    """
    try:
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise ScriptError(f"there is no command {argv[0]!r} on this machine") from None
    if done.returncode != 0:
        shown = "\n".join(done.stdout.splitlines()[-OUTPUT_LINES_SHOWN:])
        raise ScriptError(
            f"this failed with exit code {done.returncode}: {' '.join(argv)}\n{shown}"
        )
    return done.stdout
