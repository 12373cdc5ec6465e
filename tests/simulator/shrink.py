"""Find a shorter list of incidents that still breaks the same promise.

Delta debugging (Zeller and Hildebrandt, 2002): leave out halves, then quarters, and so on, as
long as what is left still fails; ours keeps to the same invariant, and drops at once whatever
comes after the breach.
"""

from collections.abc import Callable, Sequence

from cluster.invariants import Breach
from tests.simulator.incidents import Incident
from tests.simulator.simulation import Scale, simulate

# Each run takes seconds; a list that needs more than this is short enough for a reader.
RUNS_MAX = 200

Numbered = list[tuple[int, Incident]]


def shrunk(
    seed: int,
    scale: Scale,
    storms: Sequence[Sequence[Incident]],
    breach: Breach,
    *,
    say: Callable[[str], None],
) -> list[list[Incident]]:
    """Return fewer incidents, in their storms, that still break the invariant of *breach*."""
    runs = 0

    def breaks(incidents: Numbered) -> bool:
        nonlocal runs
        runs += 1
        outcome = simulate(seed, scale, _in_storms(incidents, len(storms)), with_trace=False)
        return outcome.breach is not None and outcome.breach.invariant == breach.invariant

    left: Numbered = [(number, each) for number, storm in enumerate(storms) for each in storm]
    parts = 2
    while len(left) > 1 and runs < RUNS_MAX:
        size = max(1, len(left) // parts)
        for begin in range(0, len(left), size):
            fewer = left[:begin] + left[begin + size :]
            if breaks(fewer):
                left = fewer
                parts = max(2, parts - 1)
                say(f"{len(left)} incidents still break it ({runs} runs)")
                break
            if runs >= RUNS_MAX:
                break
        else:
            if size == 1:
                break
            parts = min(len(left), 2 * parts)
    return _in_storms(left, len(storms))


def _in_storms(incidents: Numbered, count: int) -> list[list[Incident]]:
    storms: list[list[Incident]] = [[] for _ in range(count)]
    for number, incident in incidents:
        storms[number].append(incident)
    return storms
