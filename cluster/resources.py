"""Amounts of what a host offers and a task reserves."""

from collections.abc import Callable, Mapping

import msgspec

NANOS_PER_CPU = 1_000_000_000


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An amount in every dimension; also a host's capacity.

    Attributes:
        cpu_nanos: billionths of one CPU; 1.5 CPUs are 1_500_000_000.
        memory_bytes: bytes.
        generic: whatever else is counted, by its kind ("gpu"); what is not named is none. Of
            named items (``NodeDescription.generic_items``) this is how many there are.
    """

    cpu_nanos: int = 0
    memory_bytes: int = 0
    generic: dict[str, int] = {}

    def __hash__(self) -> int:
        # A dictionary has no hash of its own; most amounts have no generic part to pay for.
        generic = frozenset(self.generic.items()) if self.generic else None
        return hash((self.cpu_nanos, self.memory_bytes, generic))

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            cpu_nanos=self.cpu_nanos + other.cpu_nanos,
            memory_bytes=self.memory_bytes + other.memory_bytes,
            generic=_merged(self.generic, other.generic, lambda mine, theirs: mine + theirs),
        )

    def __sub__(self, other: "Resources") -> "Resources":
        return Resources(
            cpu_nanos=self.cpu_nanos - other.cpu_nanos,
            memory_bytes=self.memory_bytes - other.memory_bytes,
            generic=_merged(self.generic, other.generic, lambda mine, theirs: mine - theirs),
        )

    def shortfall(self, available: "Resources") -> "Resources":
        """Return how much is missing in each dimension to take this out of *available*."""
        return Resources(
            cpu_nanos=max(0, self.cpu_nanos - available.cpu_nanos),
            memory_bytes=max(0, self.memory_bytes - available.memory_bytes),
            generic={
                kind: count - available.generic.get(kind, 0)
                for kind, count in self.generic.items()
                if count > available.generic.get(kind, 0)
            },
        )

    def fits(self, available: "Resources") -> bool:
        return (
            self.cpu_nanos <= available.cpu_nanos
            and self.memory_bytes <= available.memory_bytes
            and all(count <= available.generic.get(kind, 0) for kind, count in self.generic.items())
        )


def _merged(
    mine: Mapping[str, int], theirs: Mapping[str, int], join: Callable[[int, int], int]
) -> dict[str, int]:
    """Return the joined counts of every kind, without those that come to nothing."""
    if not mine and not theirs:
        return {}
    kinds = dict.fromkeys((*mine, *theirs))
    counts = {kind: join(mine.get(kind, 0), theirs.get(kind, 0)) for kind in kinds}
    return {kind: count for kind, count in counts.items() if count}
