"""Clusters under faults keep their promises.

Some seeds are always the same. The others come from the programs' own text: each change of them
meets seeds that nobody has tried, and the same everywhere, so that what fails can be repeated.
"""

import hashlib

import pytest

from scripts.lib.steps import TREE
from tests.simulator.simulation import Scale, simulate

# Each run is about an hour of three managers and twenty agents.
HOURS = Scale(hours=1.0)
FIXED = range(1, 25)
FRESH = 36

PROGRAMS = ("agent", "cluster", "manager", "scheduler", "tests/simulator")


def _fresh() -> range:
    digest = hashlib.sha256()
    for folder in PROGRAMS:
        for path in sorted((TREE / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    first = int.from_bytes(digest.digest()[:4]) + FIXED.stop
    return range(first, first + FRESH)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [*FIXED, *_fresh()])
def test_a_cluster_under_faults_keeps_its_promises(seed: int) -> None:
    outcome = simulate(seed, HOURS, with_trace=False)
    assert outcome.breach is None, (
        f"{outcome.breach}\n`scripts/simulate --seed {seed}` tells the story"
    )
    assert 3600 * outcome.incidents / outcome.seconds >= 60, "so many faults an hour were meant"
    assert outcome.acknowledged >= 15
