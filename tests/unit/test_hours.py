"""Hours of the day: which spans there are, and which moments are in them."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from cluster import hours

VIENNA = "Europe/Vienna"


def at(text: str, zone: str = VIENNA, fold: int = 0) -> float:
    moment = datetime.fromisoformat(f"2026-{text}").replace(tzinfo=ZoneInfo(zone), fold=fold)
    return moment.timestamp()


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        ("22:00-06:00", ("22:00", "23:59", "00:00", "05:59"), ("06:00", "12:00", "21:59")),
        ("12:30-13:00", ("12:30", "12:59"), ("12:29", "13:00", "00:00")),
        ("", ("00:00", "12:00"), ()),
    ],
)
def test_which_moments_are_in_a_span(
    span: str, inside: tuple[str, ...], outside: tuple[str, ...]
) -> None:
    for text in inside:
        assert hours.within(span, VIENNA, at(f"07-01 {text}")), text
    for text in outside:
        assert not hours.within(span, VIENNA, at(f"07-01 {text}")), text


def test_hours_are_those_of_their_time_zone_and_of_the_season() -> None:
    assert hours.within("22:00-06:00", VIENNA, at("07-01 20:00", "UTC"))
    assert not hours.within("22:00-06:00", VIENNA, at("01-01 20:00", "UTC"))
    assert not hours.within("22:00-06:00", "UTC", at("07-01 20:00", "UTC"))


def test_an_hour_that_exists_twice_counts_twice() -> None:
    for fold in (0, 1):
        assert hours.within("02:00-03:00", VIENNA, at("10-25 02:30", fold=fold))


@pytest.mark.parametrize("span", ["22:00-06:00", "00:00-23:59", ""])
def test_a_span_without_flaw(span: str) -> None:
    assert not list(hours.flaws(span, VIENNA))


@pytest.mark.parametrize(
    "span", ["22-06", "22:00", "22:00-24:00", "22:60-06:00", "7:00-9:00", "night", "06:00-06:00"]
)
def test_what_is_no_span(span: str) -> None:
    ((field, message),) = hours.flaws(span, VIENNA)
    assert field == "hours"
    assert "empty for the whole day" in message or "nothing for the whole day" in message


@pytest.mark.parametrize("zone", ["", "Vienna", "../etc", "Europe"])
def test_what_is_no_time_zone(zone: str) -> None:
    ((field, message),) = hours.flaws("", zone)
    assert field == "time_zone"
    assert "there is no time zone" in message
