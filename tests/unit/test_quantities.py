import pytest

from cluster.errors import InvalidError
from cluster.quantities import (
    approximate_bytes,
    format_bytes,
    format_cpus,
    format_duration,
    parse_bytes,
    parse_cpus,
    parse_duration,
)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0", 0),
        ("1", 1_000_000_000),
        ("1.5", 1_500_000_000),
        (".25", 250_000_000),
        ("2.", 2_000_000_000),
        ("0.000000001", 1),
    ],
)
def test_cpus_are_read_exactly(text: str, nanos: int) -> None:
    assert parse_cpus(text) == nanos


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("4096", 4096),
        ("100b", 100),
        ("512m", 512 * 1024**2),
        ("180MiB", 180 * 1024**2),
        ("180 MiB", 180 * 1024**2),
        ("1.5g", 1536 * 1024**2),
        ("2Gb", 2 * 1024**3),
        ("1k", 1024),
        ("1t", 1024**4),
        ("3P", 3 * 1024**5),
    ],
)
def test_bytes_are_read_in_powers_of_1024(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("1.5h", 5400.0),
        ("200ms", 0.2),
        ("10us", 0.00001),
        ("10µs", 0.00001),
        ("1h2m3s4ms", 3723.004),
        ("1500000ns", 0.0015),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "many", "-1", "nan", "inf", "1e3", "1,5", "0.0000000001", "9" * 30, "٣"]
)
def test_what_is_no_number_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match=r"CPUs|too large"):
        parse_cpus(text)


@pytest.mark.parametrize(
    "text", ["", "12x", "-1m", "i", "1ib", "1 ", "m", "1 0m", "nan", "1e3", "9000000p", "1" * 5000]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match=r"size|too large"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["", "10", "1d", "-3s", "s", "1m 30s", "nan", "900000h", "1" * 99])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match=r"duration|too long"):
        parse_duration(text)


def test_a_bare_number_is_refused_as_duration_with_what_was_meant() -> None:
    with pytest.raises(InvalidError, match="such as 10s"):
        parse_duration("10")


def test_a_message_does_not_repeat_an_endless_text() -> None:
    with pytest.raises(InvalidError) as caught:
        parse_bytes("x" * 100_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (format_cpus(1_500_000_000), "1.5"),
        (format_cpus(2_000_000_000), "2"),
        (format_cpus(1_000_000), "0.001"),
        (format_cpus(0), "0"),
        (format_cpus(-250_000_000), "-0.25"),
        (format_bytes(0), "0B"),
        (format_bytes(180 * 1024**2), "180MiB"),
        (format_bytes(1500), "1500B"),
        (format_bytes(1024**6), "1EiB"),
        (format_duration(0), "0s"),
        (format_duration(90), "1m30s"),
        (format_duration(3600), "1h"),
        (format_duration(0.2), "200ms"),
        (format_duration(0.0015), "1.5ms"),
        (format_duration(0.00001), "10us"),
        (format_duration(61.25), "1m1.25s"),
        (format_duration(-90), "-1m30s"),
        (approximate_bytes(0), "0B"),
        (approximate_bytes(2_094_006_272), "1.95GiB"),
        (approximate_bytes(512 * 1024**2), "512MiB"),
        (approximate_bytes(1023), "0.999KiB"),
        (approximate_bytes(1000 * 1024**5), "0.977EiB"),
    ],
)
def test_amounts_are_shown_short(shown: str, expected: str) -> None:
    assert shown == expected
