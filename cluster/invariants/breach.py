"""What a broken promise is told as."""

from dataclasses import dataclass

# What is promised, by its number, as far as a cluster's objects can show whether it is kept.
PROMISES = {
    "I1": "what a node has promised it can deliver, and a port of it has one holder",
    "I2": "a place has one task that serves, and none starts beside a predecessor that may still run",
    "I3": "a task only goes forward, and each transition has one owner",
    "I6": "a task is bound only where it may run",
    "I9": "what a service depends on is as it asks before its first task starts",
    "I19": "what a record names exists, and a name means one object",
}


@dataclass(frozen=True, slots=True)
class Breach:
    """One promise that does not hold.

    Attributes:
        invariant: its number in docs/promises.md ("I2").
        objects: ids of what is concerned, the one to look at first in front.
        text: what is wrong, with names and values.
        certain: False if what was looked at cannot tell a breach from something allowed; the
            text then says what would allow it.
    """

    invariant: str
    objects: tuple[str, ...]
    text: str
    certain: bool = True

    def __str__(self) -> str:
        return f"{self.invariant}{'' if self.certain else ' (perhaps)'}: {self.text}"
