"""What is planted is found: each bug in short form, on the first seeds that find it."""

import pytest

from tests.simulator.mutations import MUTATIONS, Mutation, planted
from tests.simulator.simulation import Scale, simulate

RUN = Scale(hours=0.5)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_bug_is_found(mutation: Mutation) -> None:
    hours = 0.0
    seed = 1
    while hours < mutation.hours:
        with planted(mutation):
            outcome = simulate(seed, RUN, with_trace=False)
        if outcome.breach is not None:
            assert outcome.breach.invariant in mutation.invariants, str(outcome.breach)
            return
        hours += outcome.seconds / 3600
        seed += 1
    pytest.fail(f"{mutation.about}: not found in {hours:.1f} simulated hours")
