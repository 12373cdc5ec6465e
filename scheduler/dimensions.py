"""The dimensions that nodes offer and tasks reserve, and how amounts are written for people.

Inside the scheduler an amount is a tuple of integers, one per dimension in the order of
``DIMENSIONS``; nothing else here knows how many there are. To add one: give
``cluster.resources.Resources`` the field and list it here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cluster.resources import NANOS_PER_CPU, Resources

Amounts = tuple[int, ...]

# The largest amount that is taken seriously: what a 64-bit integer holds.
AMOUNT_MAX = 2**63 - 1


def cpus(nanos: int) -> str:
    """Write billionths of a CPU as CPUs, rounded up to a thousandth."""
    return f"{_tidy(_ceil(nanos * 1000, NANOS_PER_CPU) / 1000)} CPU"


def memory(size_bytes: int) -> str:
    """Write bytes in the largest fitting unit, rounded up to a hundredth of it."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size_bytes >= unit:
            return f"{_tidy(_ceil(size_bytes * 100, unit) / 100)} {name} memory"
    return f"{size_bytes} bytes memory"


@dataclass(frozen=True, slots=True)
class Dimension:
    """One kind of room.

    Attributes:
        field: its name in ``Resources``; the unit stands at the end of it.
        name: for people, without an amount.
        written: an amount for people. Rounds up, so that freeing what is written suffices.
    """

    field: str
    name: str
    written: Callable[[int], str]


DIMENSIONS = (
    Dimension("cpu_nanos", "CPU", cpus),
    Dimension("memory_bytes", "memory", memory),
)


def amounts_of(resources: Resources) -> Amounts:
    """Return the amounts in the order of ``DIMENSIONS``."""
    return tuple(getattr(resources, dimension.field) for dimension in DIMENSIONS)


def shortfall(need: Amounts, free: Amounts) -> Amounts:
    """Return what is missing in each dimension to take *need* out of *free*.

    Free room may be negative (a host's capacity shrank). That is no obstacle in a dimension
    in which nothing is needed: the task would not make it worse.
    """
    return tuple(
        needed - here if needed > 0 and needed > here else 0
        for needed, here in zip(need, free, strict=True)
    )


def written(amounts: Amounts) -> str:
    """Write what is not zero: "0.5 CPU and 180 MiB memory"."""
    parts = zip(DIMENSIONS, amounts, strict=True)
    return " and ".join(dimension.written(amount) for dimension, amount in parts if amount)


def _ceil(amount: int, unit: int) -> int:
    return -(-amount // unit)


def _tidy(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".")
