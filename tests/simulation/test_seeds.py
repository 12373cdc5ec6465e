"""Clusters under faults keep their promises."""

import pytest

from tests.simulator.simulation import Scale, simulate

HOURS = Scale(hours=1.0)

# Each run is about an hour of three managers and twenty agents.
FIXED = range(1, 9)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", FIXED)
def test_a_cluster_under_faults_keeps_its_promises(seed: int) -> None:
    outcome = simulate(seed, HOURS, with_trace=False)
    assert outcome.breach is None, (
        f"{outcome.breach}\n`scripts/simulate --seed {seed}` tells the story"
    )
    assert 3600 * outcome.incidents / outcome.seconds >= 60, "so many faults an hour were meant"
    assert outcome.acknowledged >= 20
