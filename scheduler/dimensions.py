"""The dimensions that nodes offer and tasks reserve, and how amounts are written for people.

A dimension goes by the name of its field in ``cluster.resources.Resources`` (the unit stands at
the end of it), by the kind of a generic resource, or it is a node's task slots, of which each
task takes one. Amounts are whole numbers, always: what is promised must be deliverable to the
last byte.
"""

from collections.abc import Iterable, Mapping

from cluster.resources import NANOS_PER_CPU, Resources

# What is needed or missing, by dimension; what is zero is not listed.
Amounts = tuple[tuple[str, int], ...]

CPU = "cpu_nanos"
MEMORY = "memory_bytes"
SIZES = (CPU, MEMORY)  # those that every node has

# No kind of generic resource can be called so: their names have no space.
SLOTS = "task slots"

# The largest amount that is taken seriously: what a 64-bit integer holds.
AMOUNT_MAX = 2**63 - 1


def amounts_of(resources: Resources) -> Amounts:
    """Return what is not zero: CPU, memory, then generic resources by name."""
    sizes = ((name, getattr(resources, name)) for name in SIZES)
    return tuple((name, amount) for name, amount in (*sizes, *_generic(resources)) if amount)


def amount_of(resources: Resources, name: str) -> int:
    """Return how much there is in one dimension."""
    if name in SIZES:
        amount: int = getattr(resources, name)
        return amount
    return resources.generic.get(name, 0)


def is_amount(amount: object) -> bool:
    """Tell whether it is a whole number that can be counted with."""
    return type(amount) is int and 0 <= amount <= AMOUNT_MAX


def cpus(nanos: int) -> str:
    """Write billionths of a CPU as CPUs, rounded up to a thousandth."""
    return f"{_tidy(_ceil(nanos * 1000, NANOS_PER_CPU) / 1000)} CPU"


def memory(size_bytes: int) -> str:
    """Write bytes in the largest fitting unit, rounded up to a hundredth of it."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size_bytes >= unit:
            return f"{_tidy(_ceil(size_bytes * 100, unit) / 100)} {name} memory"
    return f"{size_bytes} bytes memory"


def written(amounts: Amounts) -> str:
    """Write amounts: "0.5 CPU, 180 MiB memory and 1 gpu". Freeing what is written suffices."""
    parts = [_written(name, amount) for name, amount in amounts]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def shares(amounts: Amounts, whole: Mapping[str, int] | Resources) -> float:
    """Return amounts as shares of *whole*, added up over the dimensions that it has."""
    of = whole.__getitem__ if isinstance(whole, Mapping) else lambda n: amount_of(whole, n)
    return sum(amount / of(name) for name, amount in amounts if name != SLOTS and of(name) > 0)


def _written(name: str, amount: int) -> str:
    if name == CPU:
        return cpus(amount)
    if name == MEMORY:
        return memory(amount)
    if name == SLOTS:
        return "1 task slot" if amount == 1 else f"{amount} task slots"
    return f"{amount} {name}"


def _generic(resources: Resources) -> Iterable[tuple[str, int]]:
    return sorted(resources.generic.items()) if resources.generic else ()


def _ceil(amount: int, unit: int) -> int:
    return -(-amount // unit)


def _tidy(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".")
