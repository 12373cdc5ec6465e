"""Due times: where the clock changes, and for any question that may be asked of them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.model import Schedule
from cluster.schedules import flaws, latest_due, next_due

VIENNA = ZoneInfo("Europe/Vienna")


def nightly(cron: str = "30 2 * * *") -> Schedule:
    return Schedule(cron=cron, time_zone="Europe/Vienna")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=VIENNA).timestamp()


def test_a_due_time_is_in_its_own_time_zone() -> None:
    due = next_due(nightly(), at("2026-01-10 12:00"))
    assert datetime.fromtimestamp(due, UTC).isoformat() == "2026-01-11T01:30:00+00:00"
    due = next_due(nightly(), at("2026-07-10 12:00"))
    assert datetime.fromtimestamp(due, UTC).isoformat() == "2026-07-11T00:30:00+00:00"


def test_on_the_night_that_leaves_it_out_it_is_due_right_after() -> None:
    due = next_due(nightly(), at("2026-03-28 12:00"))
    assert due == at("2026-03-29 03:00")
    assert next_due(nightly(), due) == at("2026-03-30 02:30")


def test_on_the_night_that_has_it_twice_it_is_due_once() -> None:
    first = next_due(nightly(), at("2026-10-24 12:00"))
    assert datetime.fromtimestamp(first, UTC).isoformat() == "2026-10-25T00:30:00+00:00"
    assert next_due(nightly(), first) == at("2026-10-26 02:30")
    assert next_due(nightly(), first + 3600.0) == at("2026-10-26 02:30")


@pytest.mark.parametrize(
    ("schedule", "field", "message"),
    [
        (nightly("0 0 30 2 *"), "cron", "never fires"),
        (nightly("0 0 31 4,6,9,11 *"), "cron", "never fires"),
        (nightly("60 * * * *"), "cron", "'60' is no minute"),
        (nightly("* * * * * *"), "cron", "has 6"),
        (nightly("@daily"), "cron", "five fields"),
        (nightly(""), "cron", "five fields"),
        (Schedule(cron="* * * * *", time_zone="Mars/Olympus"), "time_zone", "no time zone"),
        (Schedule(cron="* * * * *", time_zone="../../etc/passwd"), "time_zone", "no time zone"),
        (Schedule(cron="* * * * *", time_zone="Europe"), "time_zone", "no time zone"),
        (Schedule(cron="* * * * *", time_zone=""), "time_zone", "no time zone"),
    ],
)
def test_what_can_never_be_due_is_told(schedule: Schedule, field: str, message: str) -> None:
    ((found, told),) = flaws(schedule)
    assert found == field
    assert message in told


@pytest.mark.parametrize(
    "cron", ["0 0 29 2 *", "0 0 L * *", "*/5 8-18 * * MON-FRI", "0 12 * jan 0"]
)
def test_what_comes_at_last_has_no_flaw(cron: str) -> None:
    assert list(flaws(nightly(cron))) == []


CHANGES = [at("2026-03-29 01:00"), at("2026-10-25 01:00")]


@given(
    cron=st.sampled_from(
        ["30 2 * * *", "*/30 2 * * *", "15 2,3 * * *", "*/7 * * * *", "0 */6 * * *"]
    ),
    zone=st.sampled_from(["Europe/Vienna", "Australia/Lord_Howe", "UTC"]),
    start=st.sampled_from(CHANGES).flatmap(lambda at: st.floats(at - 9000, at + 9000)),
    seconds=st.sampled_from([1.0, 100.0, 3600.0, 86400.0]),
)
def test_the_latest_due_time_is_one_of_those_that_come_one_after_the_other(
    cron: str, zone: str, start: float, seconds: float
) -> None:
    schedule = Schedule(cron=cron, time_zone=zone)
    expected, due = None, next_due(schedule, start)
    while due <= start + seconds:
        assert due > start
        expected, due = due, next_due(schedule, due)
    assert latest_due(schedule, start, start + seconds) == expected
