"""What a broken promise is told as."""

from dataclasses import dataclass


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
