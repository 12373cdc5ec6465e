from hypothesis import given
from hypothesis import strategies as st

from cluster.quantities import (
    DURATION_SECONDS_MAX,
    INT64_MAX,
    format_bytes,
    format_cpus,
    format_duration,
    parse_bytes,
    parse_cpus,
    parse_duration,
)


@given(st.integers(0, INT64_MAX))
def test_cpus_survive_being_written_and_read(nanos: int) -> None:
    assert parse_cpus(format_cpus(nanos)) == nanos


@given(st.integers(0, INT64_MAX) | st.integers(0, 4096).map(lambda n: n * 1024**3))
def test_bytes_survive_being_written_and_read(amount: int) -> None:
    assert parse_bytes(format_bytes(amount)) == amount


@given(st.integers(0, DURATION_SECONDS_MAX * 1_000_000))
def test_durations_survive_to_the_microsecond(micros: int) -> None:
    assert parse_duration(format_duration(micros / 1_000_000)) == micros / 1_000_000
