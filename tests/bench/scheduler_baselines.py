"""Simpler ways to choose nodes, written as plainly as they are, to compare packing with."""

import random
from collections.abc import Callable
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

from tests.bench.scheduler_suites import UNIT, Sizes

Free = NDArray[np.int64]  # (node, dimension)
Score = Callable[[Free, NDArray[np.int64]], NDArray[np.float64]]


def used_by(sizes: Sizes, nodes: int, score: Score) -> int:
    """Return how many nodes are used if each task goes to the node that scores least."""
    free = np.full((nodes, sizes.shape[1]), UNIT)
    for size in sizes:
        fits = np.flatnonzero((free >= size).all(axis=1))
        free[fits[score(free[fits], size).argmin()]] -= size
    return int((free < UNIT).any(axis=1).sum())


def first_fit(free: Free, _: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.arange(len(free), dtype=np.float64)


def best_fit(free: Free, size: NDArray[np.int64]) -> NDArray[np.float64]:
    """The least is left in the dimension in which most is left."""
    left: NDArray[np.float64] = (free - size).max(axis=1).astype(np.float64)
    return left


def most_allocated(free: Free, size: NDArray[np.int64]) -> NDArray[np.float64]:
    """Kubernetes' MostAllocated: the mean of what is allocated, over the dimensions."""
    left: NDArray[np.float64] = (free - size).sum(axis=1).astype(np.float64)
    return left


def least_allocated(free: Free, size: NDArray[np.int64]) -> NDArray[np.float64]:
    """Kubernetes' default, LeastAllocated."""
    return -most_allocated(free, size)


def log2_sampling(sizes: Sizes, nodes: int, seed: int) -> int:
    """Return how many nodes are used if Nomad's way is gone.

    It goes through the nodes in an order by chance until log2 of their number (two at least)
    were found to fit, and takes the one with the highest score: 20 less ten to the power of each
    free share, added up.
    """
    chance = random.Random(seed)
    limit = max(2, ceil(log2(nodes)))
    free = np.full((nodes, sizes.shape[1]), UNIT)
    order = list(range(nodes))
    for size in sizes:
        chance.shuffle(order)
        fits = (free[order] >= size).all(axis=1)
        found = np.array(order)[np.flatnonzero(fits)[:limit]]
        left = (free[found] - size) / UNIT
        free[found[(10**left).sum(axis=1).argmin()]] -= size
    return int((free < UNIT).any(axis=1).sum())


ONE_BY_ONE: dict[str, Score] = {
    "first fit": first_fit,
    "best fit": best_fit,
    "most allocated": most_allocated,
    "least allocated": least_allocated,
}
