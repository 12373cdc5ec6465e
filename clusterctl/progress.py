"""What is shown while somebody waits: lines that change on a terminal, a plain log elsewhere.

Both write to stderr, so that what a command prints for programs stays by itself.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import click

from clusterctl.convergence import Verdict
from clusterctl.replicas import Progress

if TYPE_CHECKING:
    from rich.table import Table

BAR_COLUMNS = 20

# Services shown at once on a terminal, those that are not done first; more would scroll.
PARTS_SHOWN_MAX = 12


class Reporter(Protocol):
    """Tells how far it is."""

    def show(self, verdict: Verdict) -> None:
        """Show where things stand; called whenever something has changed."""

    def note(self, text: str) -> None:
        """Tell something that is not about one service."""

    def close(self) -> None:
        """Leave the terminal as it is to stay."""


def reporter(*, live: bool) -> Reporter:
    """Return what suits stderr."""
    return LiveReporter() if live else LogReporter(lambda line: click.echo(line, err=True))


def told(part: Progress) -> str:
    """Return ``web: 3/6 running (2 starting)``."""
    if part.leaving:
        state = "gone" if part.done else _doing(part) or "being removed"
        return f"{part.name}: {state}"
    if part.instead:
        return f"{part.name}: {part.instead}"
    doing = f" ({_doing(part)})" if part.doing else ""
    return f"{part.name}: {part.reached}/{part.wanted} {part.verb}{doing}"


def reasons(part: Progress) -> list[str]:
    """Return why tasks of it wait, a sentence each."""
    return [f"{who} {reason}" for who, reason in part.waiting]


def _doing(part: Progress) -> str:
    return ", ".join(f"{count} {word}" for word, count in part.doing)


class LogReporter:
    """A line when another task runs or something else goes on, and each reason once."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._told: dict[str, object] = {}
        self._reasons: set[tuple[str, str]] = set()

    def show(self, verdict: Verdict) -> None:
        for part in verdict.parts:
            state = (part.reached, part.wanted, part.done, {word for word, _ in part.doing})
            if self._told.get(part.name) != state:
                self._told[part.name] = state
                self._write(told(part))
            for who, reason in part.waiting:
                if (part.name, reason) not in self._reasons:
                    self._reasons.add((part.name, reason))
                    self._write(f"{who} {reason}")

    def note(self, text: str) -> None:
        self._write(text)

    def close(self) -> None:
        pass


class LiveReporter:
    """Bars that grow, with what goes on beside them."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._verdict = Verdict(())
        self._live = Live(
            console=Console(stderr=True), refresh_per_second=10, get_renderable=self._picture
        )
        self._live.start()

    def show(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def note(self, text: str) -> None:
        from rich.text import Text

        self._live.console.print(Text(text))

    def close(self) -> None:
        self._live.refresh()
        self._live.stop()

    def _picture(self) -> "Table":
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        parts = sorted(self._verdict.parts, key=lambda part: part.done)
        for part in parts[:PARTS_SHOWN_MAX]:
            mark = Text("✓", "green") if part.done else Spinner("dots")
            if part.leaving or part.instead:
                grid.add_row(mark, Text(part.name), "", Text(told(part).partition(": ")[2]))
                continue
            filled = BAR_COLUMNS * min(part.reached, part.wanted) // max(1, part.wanted)
            filled = BAR_COLUMNS if part.done else filled
            bar = Text("━" * filled, "green") + Text("━" * (BAR_COLUMNS - filled), "bright_black")
            verb = "" if part.verb == "running" else f"{part.verb} "
            count = Text(f"{part.reached}/{part.wanted} {verb}{_doing(part)}".rstrip())
            grid.add_row(mark, Text(part.name), bar, count)
        if len(parts) > PARTS_SHOWN_MAX:
            grid.add_row("", Text(f"and {len(parts) - PARTS_SHOWN_MAX} more", "bright_black"))
        why = [reason for part in parts for reason in reasons(part)]
        whole = Table.grid()
        whole.add_row(grid)
        for reason in why[:PARTS_SHOWN_MAX]:
            whole.add_row(Text(f"  {reason}", "yellow"))
        return whole
