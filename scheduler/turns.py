"""Turns: how many each gets if all are raised level by level, and in which order that comes."""

import numpy as np

from scheduler.arrays import Ints


def quotas_of(levels: Ints, limits: Ints, count: int) -> tuple[Ints, int]:
    """Return what each has got, of *count*, when all are raised level by level; and the level.

    The level returned is the first that is not reached by all: what is left of *count* is too
    little for it, or nothing.
    """
    if not len(levels):
        return limits, 0
    # Were all of them to take part and none to be full, this would be the level.
    low = (count + int(np.add.reduce(levels))) // len(levels)
    quotas = low - levels
    if np.minimum.reduce(quotas) >= 0 and (quotas < limits).all():
        return quotas, low
    quotas = _raised(levels, limits, low)
    if int(quotas.sum()) <= count < int(_raised(levels, limits, low + 1).sum()):
        return quotas, low
    low = int(levels.min())
    high = int((levels + limits).max())
    while low < high:
        middle = (low + high + 1) // 2
        if int(_raised(levels, limits, middle).sum()) <= count:
            low = middle
        else:
            high = middle - 1
    return _raised(levels, limits, low), low


def _raised(levels: Ints, limits: Ints, level: int) -> Ints:
    return np.minimum(np.maximum(level - levels, 0), limits)


def runs(counts: Ints) -> Ints:
    """Return 0, 1, ... up to each count, one after the other."""
    earlier = sums_before(counts).repeat(counts)
    return np.arange(len(earlier)) - earlier


def sums_before(counts: Ints) -> Ints:
    """Return the sum of the counts before each."""
    return counts.cumsum() - counts


def occurrences(values: Ints) -> Ints:
    """Return how often each value occurred before."""
    order = np.argsort(values, kind="stable")
    _, starts, counts = np.unique(values[order], return_index=True, return_counts=True)
    found = np.empty_like(values)
    found[order] = np.arange(len(values)) - np.repeat(starts, counts)
    return found
