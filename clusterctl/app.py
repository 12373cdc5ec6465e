"""What a command works with: the process around it, and the cluster that is meant.

Everything is made when it is first asked for, so that a command that needs no manager opens no
connection and imports no gRPC.
"""

import os
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from cluster.clock import Clock, SystemClock

if TYPE_CHECKING:
    from clusterctl.client import Client
    from clusterctl.settings import Target

# Long enough for a new leader to be found, short enough for somebody who watches.
TIMEOUT_SECONDS = 10.0

FLAGS = "clusterctl.flags"  # where ``lazy`` leaves the program's own options


@dataclass
class App:
    """The process, and what was said on its command line.

    Attributes:
        flags: the program's options that were given; read late, for some stand behind a command.
        timeout: of one request, as written; empty if it was not given.
    """

    flags: Mapping[str, Any] = field(default_factory=dict)
    timeout: str = ""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Clock = field(default_factory=SystemClock)
    chance: random.Random = field(default_factory=random.SystemRandom)

    @classmethod
    def of_process(cls, context: click.Context, timeout: str | None) -> "App":
        return cls(flags=context.meta.setdefault(FLAGS, {}), timeout=timeout or "")

    @cached_property
    def target(self) -> "Target":
        from clusterctl.settings import resolve

        return resolve(self.flags, self.environment)

    @cached_property
    def client(self) -> "Client":
        from clusterctl.calls import Caller
        from clusterctl.channel import Connector
        from clusterctl.client import Client

        return Client(
            Caller(
                Connector(self.target, self.clock),
                self.clock,
                timeout_seconds=self.timeout_seconds,
                chance=self.chance,
                pause=self.pause,
            )
        )

    @property
    def timeout_seconds(self) -> float:
        """How long one request may take with all its attempts."""
        from cluster.errors import InvalidError
        from cluster.quantities import parse_duration

        text = self.timeout or self.environment.get("SHOAL_TIMEOUT", "")
        if not text:
            return TIMEOUT_SECONDS
        seconds = parse_duration(text)
        if not seconds:
            raise InvalidError("a time-out of 0 leaves no time for an answer")
        return seconds

    def pause(self, seconds: float) -> None:
        Event().wait(seconds)

    @property
    def colors(self) -> bool:
        """Whether stdout shows colors."""
        plain = self.environment.get("NO_COLOR") or self.environment.get("TERM") == "dumb"
        return sys.stdout.isatty() and not plain

    @property
    def live(self) -> bool:
        """Whether stderr is a terminal on which lines can be drawn over."""
        return sys.stderr.isatty() and self.environment.get("TERM") != "dumb"

    def file(self, path: str) -> Path:
        return Path(path).expanduser()


pass_app = click.make_pass_decorator(App)
