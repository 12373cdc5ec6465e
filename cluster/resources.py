"""Amounts of what a host offers and a task reserves."""

import msgspec

NANOS_PER_CPU = 1_000_000_000


class Resources(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An amount in every dimension; also a host's capacity.

    Attributes:
        cpu_nanos: billionths of one CPU; 1.5 CPUs are 1_500_000_000.
        memory_bytes: bytes.
    """

    cpu_nanos: int = 0
    memory_bytes: int = 0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            cpu_nanos=self.cpu_nanos + other.cpu_nanos,
            memory_bytes=self.memory_bytes + other.memory_bytes,
        )

    def __sub__(self, other: "Resources") -> "Resources":
        return Resources(
            cpu_nanos=self.cpu_nanos - other.cpu_nanos,
            memory_bytes=self.memory_bytes - other.memory_bytes,
        )

    def shortfall(self, available: "Resources") -> "Resources":
        """Return how much is missing in each dimension to take this out of *available*."""
        return Resources(
            cpu_nanos=max(0, self.cpu_nanos - available.cpu_nanos),
            memory_bytes=max(0, self.memory_bytes - available.memory_bytes),
        )

    def fits(self, available: "Resources") -> bool:
        return self.cpu_nanos <= available.cpu_nanos and self.memory_bytes <= available.memory_bytes
