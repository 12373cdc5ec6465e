"""Benchmarks' results: ratios, goals, and what becomes of them on screen and in the file."""

import json

from tests.bench.report import Goal, Result, Samples, as_json, table

START = Result(
    case="start",
    what="30 replicas",
    samples=Samples((4.0, 3.0, 3.3), (6.0, 6.0, 9.0)),
    compared_with="the same directly",
    baseline=Samples((3.0, 2.0, 3.0), (5.0, 4.0, 5.0)),
    goal=Goal(1.15, is_ratio=True),
    swarm=3.55,
)


def words(line: str) -> str:
    """Return *line* with single spaces."""
    return " ".join(line.split())


def test_medians_are_compared() -> None:
    assert START.ratio == 3.3 / 3.0
    assert START.cpu_ratio == 6.0 / 5.0
    assert START.is_met


def test_a_goal_is_of_the_ratio_or_of_the_samples() -> None:
    slow = Result(case="slow", what="", samples=Samples((2.0,)), goal=Goal(1.5))
    assert slow.ratio is None
    assert slow.cpu_ratio is None
    assert slow.is_met is False
    assert Result(case="shown", what="", samples=Samples((2.0,))).is_met is None


def test_the_file_names_units_in_its_keys() -> None:
    row = as_json(START, {"cores": 2})
    assert row["samples_s"] == [4.0, 3.0, 3.3]
    assert (row["min_s"], row["median_s"], row["ratio"]) == (3.0, 3.3, 1.1)
    assert (row["baseline_samples_s"], row["goal"]) == ([3.0, 2.0, 3.0], "<= 1.15 x")
    assert row["machine"] == {"cores": 2}
    share = Result(case="idle", what="", samples=Samples((2.5,)), unit="percent")
    assert json.loads(json.dumps(as_json(share, {})))["median_percent"] == 2.5


def test_the_table_has_a_line_for_each_case_and_says_which_miss() -> None:
    missed = Result(case="slow", what="", samples=Samples((200.0,)), goal=Goal(1.5))
    head, first, second = table([START, missed]).splitlines()
    assert words(head) == "case median min max baseline ratio CPU goal Swarm"
    assert words(first) == "start 3.30 s 3.00 4.00 3.00 1.10 x 1.20 x <= 1.15 x met 3.55"
    assert words(second) == "slow 200 s 200 200 < 1.5 MISSED"
