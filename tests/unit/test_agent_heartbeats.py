"""When an agent beats: each once a period, and all together in few moments."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.heartbeats import MOMENT_SECONDS, PERIOD_SECONDS_MAX, seconds_to_next

PERIODS = st.floats(0.1, PERIOD_SECONDS_MAX)
PLACES = st.floats(0.0, 1.0, exclude_max=True)
NOW = st.floats(1e9, 2e9)


@given(now=NOW, period=PERIODS, place=PLACES)
def test_the_wait_is_about_a_period_whatever_the_clock_says(
    now: float, period: float, place: float
) -> None:
    assert period / 2 <= seconds_to_next(now, period, place) <= period * 1.5


@given(period=PERIODS, place=PLACES, late=st.floats(0.0, 0.05))
def test_who_beats_in_time_waits_a_whole_period(period: float, place: float, late: float) -> None:
    now = 1_000.0 + seconds_to_next(1_000.0, period, place)
    wait = seconds_to_next(now + late * period, period, place)
    assert wait == pytest.approx(period * (1.0 - late), abs=1e-6)


@pytest.mark.parametrize(("period", "moments"), [(0.3, 1), (1.0, 2), (3.3, 6)])
def test_agents_share_few_moments_evenly(period: float, moments: int) -> None:
    agents = 300
    starts = [1_000.0 + i * 0.0371 for i in range(agents)]
    beats = Counter(
        round((now + seconds_to_next(now, period, i / agents)) % period, 3) % period
        for i, now in enumerate(starts)
    )
    assert len(beats) == moments
    assert moments == max(1, int(period / MOMENT_SECONDS))
    assert set(beats.values()) == {agents // moments}
