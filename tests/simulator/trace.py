"""What happened in a simulation, in order; and the story of a few objects out of it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

# A story longer than this is not read.
STORY_EVENTS_MAX = 60


class TraceEvent(NamedTuple):
    """Something that happened.

    Attributes:
        at: in true seconds since the beginning.
        who: process or host.
        objects: ids of what it concerns.
    """

    at: float
    who: str
    text: str
    objects: Sequence[str]

    def __str__(self) -> str:
        return f"{self.at:12.6f}  {self.who:9} {self.text}"


class Trace:
    """Collects events.

    Attributes:
        is_kept: False leaves all events out: a run that goes well needs none, and one that does
            not is run again.
    """

    def __init__(self, *, is_kept: bool = True) -> None:
        self.is_kept = is_kept
        self.events: list[TraceEvent] = []

    def tell(self, at: float, who: str, text: str, *objects: str) -> None:
        if self.is_kept:
            self.events.append(TraceEvent(at, who, text, objects))

    def story(self, objects: Iterable[str]) -> list[TraceEvent]:
        """Return the last events that concern any of *objects*, or everybody."""
        wanted = set(objects)
        concerned = [
            event
            for event in self.events
            if not event.objects or wanted.intersection(event.objects)
        ]
        return concerned[-STORY_EVENTS_MAX:]

    def __str__(self) -> str:
        return "".join(f"{event}\n" for event in self.events)
