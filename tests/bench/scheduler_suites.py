"""What the packing benchmark packs: synthetic suites, and a real trace of tasks."""

import csv
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.lib.steps import TREE

Sizes = NDArray[np.int64]  # (task, dimension), in units of which a node has UNIT

UNIT = 1_000_000
ITEMS, SEEDS = 1_500, 5

# MIT; a sample of what Alibaba's cluster ran in 2018. Of it only the table of tasks is read.
TRACE = "spar==0.0.7"
TRACE_FILE = "spar/data/samples/sample_tasks.csv"
TRACE_NODE = 800, 100 / 12  # hundredths of a core, and memory: a twelfth of their machines
TRACE_TASKS, TRACE_INSTANCES_MAX = 1_000, 20
DOWNLOADS = TREE / "build" / "bench" / "downloads"


def synthetic(dimensions: int, seed: int) -> Iterator[tuple[str, Sizes]]:
    """Yield every suite of so many dimensions.

    ``anti`` is anti-correlated: a task is large in one dimension and small in the others.
    """
    chance = np.random.default_rng([dimensions, seed])
    shape = ITEMS, dimensions
    yield "U[.02,.5]", _whole(chance.uniform(0.02, 0.5, shape))
    yield "U[.1,.4]", _whole(chance.uniform(0.1, 0.4, shape))
    anti = chance.uniform(0.02, 0.1, shape)
    anti[np.arange(ITEMS), chance.integers(0, dimensions, ITEMS)] = chance.uniform(0.1, 0.5, ITEMS)
    yield "anti", _whole(anti)
    yield "U[0,1]", _whole(chance.uniform(0, 1, shape))


def trace() -> tuple[Sizes, list[int]]:
    """Return a real trace, fetched once: sizes of tasks, and how many instances each has."""
    wheel = next(DOWNLOADS.glob("spar-*.whl"), None)
    if wheel is None:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", TRACE]
        subprocess.run([*argv, "--dest", str(DOWNLOADS)], check=True)
        wheel = next(DOWNLOADS.glob("spar-*.whl"))
    return _read(wheel)


def _read(wheel: Path) -> tuple[Sizes, list[int]]:
    sizes, instances = [], []
    with zipfile.ZipFile(wheel) as archive, archive.open(TRACE_FILE) as file:
        for row in csv.reader(line.decode() for line in file):
            # when it arrives, job, task, instances, hundredths of cores, memory, seconds
            size = [float(row[4]) / TRACE_NODE[0], float(row[5]) / TRACE_NODE[1]]
            if max(size) > 1:
                continue
            sizes.append(size)
            instances.append(min(int(row[3]), TRACE_INSTANCES_MAX))
            if len(sizes) == TRACE_TASKS:
                break
    return _whole(np.array(sizes)), instances


def _whole(shares: NDArray[np.float64]) -> Sizes:
    return np.maximum(np.ceil(shares * UNIT), 1).astype(np.int64)
