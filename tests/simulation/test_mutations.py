"""What is planted is found, on the first seeds that find it.

Of the planted bugs only those that a few short runs find; the others take more than a test may.
"""

import pytest

from tests.simulator.mutations import MUTATIONS, Mutation, planted
from tests.simulator.simulation import Scale, simulate

RUN = Scale(hours=0.5)
SHORT = (
    *("no-gate", "run-again", "lease-too-long", "never-steps-down", "applied-twice"),
    *("versions-lost", "mode-changes", "dead-session", "always-ready", "reservations-kept"),
    *("no-wait", "stop-by-wall-clock", "budget-counts-nobody", "constraints-ignored"),
    *("ports-shared", "drain-forgotten", "last-good-lost", "all-at-once", "relist-keeps"),
    *("fence-at-once", "guard-sleeps", "lease-unasked", "preempts-too-many"),
    *("devices-shared", "set-aside-for-nobody", "scaled-down"),
)

# The first should do. A change elsewhere may give each seed another story; one of so many will do.
SEEDS = 8


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutation",
    [mutation for mutation in MUTATIONS if mutation.name in SHORT],
    ids=lambda mutation: mutation.name,
)
def test_a_planted_bug_is_found(mutation: Mutation) -> None:
    hours = 0.0
    for seed in range(mutation.seed, mutation.seed + SEEDS):
        with planted(mutation):
            outcome = simulate(seed, RUN, with_trace=False)
        if outcome.breach is not None:
            assert outcome.breach.invariant in mutation.invariants, str(outcome.breach)
            return
        hours += outcome.seconds / 3600
    pytest.fail(f"{mutation.about}: not found in {hours:.1f} simulated hours")
