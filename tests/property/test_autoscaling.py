"""Autoscaling: it finds the number that a load calls for, and never flaps."""

import math
from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cluster.model import Autoscale, ContainerSpec, TaskId, TaskSpec, TaskUsage
from cluster.resources import Resources
from manager.reconcilers.autoscaling import GROWTH_MAX, PERIOD_SECONDS, Called, Facts, plan

CPU = 10**9
TASK = TaskSpec(container=ContainerSpec(image="a:1"), reservations=Resources(cpu_nanos=CPU))
TARGET = 70

SCALES = st.builds(
    lambda least, more, tolerance, up, down: Autoscale(
        min_replicas=least,
        max_replicas=least + more,
        cpu_percent=TARGET,
        tolerance_percent=tolerance,
        up_window_seconds=up,
        down_window_seconds=down,
    ),
    st.integers(1, 3),
    st.integers(0, 20),
    st.integers(0, 20),
    st.sampled_from([0.0, 30.0, 60.0]),
    st.sampled_from([0.0, 60.0, 300.0]),
)
LOADS = st.floats(0.0, 20.0)  # in CPUs, over all replicas


def course(
    scale: Autoscale, replicas: int, load: Callable[[float], float], seconds: float, warm: int = 0
) -> list[int]:
    """Return the replicas after each look, with a load that they share evenly.

    The last *warm* replicas that came are not measured for two looks.
    """
    now, found, called = 0.0, [replicas], list[Called]()
    fresh: list[tuple[float, int]] = []
    while now < seconds:
        fresh = [(at, count) for at, count in fresh if now - at < 2 * PERIOD_SECONDS]
        measured = max(0, replicas - (sum(count for _, count in fresh) if warm else 0))
        each = round(load(now) * CPU / replicas)
        usages = [TaskUsage(task_id=TaskId(f"t{n}"), cpu_nanos=each) for n in range(measured)]
        decision = plan(Facts(scale, TASK, replicas, usages, called, 0.0, now))
        if decision.called:
            called.append(decision.called)
        assert bool(decision.why) == (decision.replicas != replicas)
        if decision.replicas > replicas:
            fresh.append((now, decision.replicas - replicas))
        replicas = decision.replicas
        found.append(replicas)
        now += PERIOD_SECONDS
    return found


def turns(course_of_replicas: list[int]) -> int:
    """Return how often growing became shrinking or the other way round."""
    steps = [after - before for before, after in pairwise(course_of_replicas) if after != before]
    return sum(one * other < 0 for one, other in pairwise(steps))


@given(scale=SCALES, load=LOADS, start=st.integers(1, 25), warm=st.sampled_from([0, 1]))
def test_a_steady_load_leads_to_a_number_that_stays(
    scale: Autoscale, load: float, start: int, warm: int
) -> None:
    start = min(max(start, scale.min_replicas), scale.max_replicas)
    found = course(scale, start, lambda _: load, 3_000.0, warm)
    assert turns(found) == 0
    end = found[-1]
    assert found[-20:] == [end] * 20
    assert scale.min_replicas <= min(found) <= max(found) <= scale.max_replicas
    use = load / end / (TARGET / 100)
    near = scale.tolerance_percent / 100 + 0.001
    if end < scale.max_replicas:
        assert use <= 1 + near, "too few"
    if end > scale.min_replicas:
        fewer = load / (end - 1) / (TARGET / 100)
        assert fewer >= 1 - 0.001 or abs(use - 1) <= near, "too many"


@given(scale=SCALES, load=st.floats(0.1, 20.0), data=st.data())
def test_noise_within_the_tolerance_moves_nothing(
    scale: Autoscale, load: float, data: st.DataObject
) -> None:
    settled = course(scale, scale.min_replicas, lambda _: load, 3_000.0)[-1]
    use = load / settled / (TARGET / 100)
    room = scale.tolerance_percent / 100 - abs(use - 1) - 0.001
    if room <= 0:
        return
    # Each lasts for ten minutes: longer than any window, so that nothing but the tolerance helps.
    noise = data.draw(st.lists(st.sampled_from([-room, 0.0, room]), min_size=3, max_size=3))
    exact = load / use
    found = course(scale, settled, lambda at: exact * (use + noise[int(at // 600)]), 1_800.0)
    assert set(found) == {settled}


@given(
    high=st.floats(2.0, 10.0),
    low=st.floats(0.0, 1.0),
    half_period=st.sampled_from([30.0, 60.0, 120.0]),
)
def test_a_load_that_comes_and_goes_within_the_window_is_ridden_out(
    high: float, low: float, half_period: float
) -> None:
    """Up for each peak, never down between two of them."""
    scale = Autoscale(
        min_replicas=1,
        max_replicas=40,
        cpu_percent=TARGET,
        up_window_seconds=0.0,
        down_window_seconds=300.0,
    )
    found = course(scale, 1, lambda at: high if int(at // half_period) % 2 == 0 else low, 3_000.0)
    assert turns(found) == 0
    assert found == sorted(found)
    assert found[-1] >= math.floor(high / 0.77)


@given(scale=SCALES, load=LOADS, replicas=st.integers(1, 25), measured=st.integers(1, 25))
def test_what_is_not_measured_never_turns_the_answer_around(
    scale: Autoscale, load: float, replicas: int, measured: int
) -> None:
    """With some tasks unknown the step is smaller than with all known alike, or none."""
    replicas = min(max(replicas, scale.min_replicas), scale.max_replicas)
    each = round(load * CPU / replicas)

    def called(count: int) -> int:
        usages = [TaskUsage(task_id=TaskId(f"t{n}"), cpu_nanos=each) for n in range(count)]
        decision = plan(Facts(scale, TASK, replicas, usages, (), 0.0, 0.0))
        assert decision.called is not None
        return decision.called.replicas

    whole, part = called(replicas), called(min(measured, replicas))
    low, high = sorted((replicas, whole))
    assert low <= part <= high


@given(scale=SCALES, load=LOADS, start=st.integers(1, 25))
def test_it_grows_by_no_more_than_twice(scale: Autoscale, load: float, start: int) -> None:
    start = min(max(start, scale.min_replicas), scale.max_replicas)
    for before, after in pairwise(course(scale, start, lambda _: load, 900.0)):
        assert after <= max(GROWTH_MAX * before, scale.min_replicas)
