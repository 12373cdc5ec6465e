"""Amounts as people write them: CPUs, bytes and durations, read and written exactly.

    CPUs        "1.5", "0.25", "2"                 -> billionths of a CPU
    bytes       "180MiB", "512m", "1.5g", "4096"   -> bytes; every prefix is a power of 1024
    durations   "1m30s", "1.5h", "200ms", "0"      -> seconds

The spellings are those of Compose files. What is read is refused if it is negative, not
finite, or too large for 64 bits, so that no later arithmetic needs to ask. ``format_*`` writes
what ``parse_*`` reads back as the same amount; ``approximate_bytes`` is for tables.
"""

import re
from decimal import Decimal

from cluster.errors import InvalidError
from cluster.resources import NANOS_PER_CPU

INT64_MAX = 2**63 - 1

# A century: no container waits longer, and sums of durations stay exact to the microsecond.
DURATION_SECONDS_MAX = 100 * 365 * 24 * 3600

# No amount needs more, and a longer run of digits only costs time to convert.
_CHARACTERS_MAX = 64

_CPUS = re.compile(r"\+?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_BYTES = re.compile(
    r"\+?(\d+(?:\.\d*)?|\.\d+)(?: ?(?:b|([kmgtpe])(?:i?b)?))?", re.ASCII | re.IGNORECASE
)
_DURATION = re.compile(r"\+?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)

_BINARY_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_MICROSECONDS = {
    "ns": Decimal("0.001"),
    "us": Decimal(1),
    "µs": Decimal(1),
    "μs": Decimal(1),
    "ms": Decimal(1_000),
    "s": Decimal(1_000_000),
    "m": Decimal(60_000_000),
    "h": Decimal(3_600_000_000),
}
_DURATION_UNITS = (("h", 3_600_000_000), ("m", 60_000_000))


def parse_cpus(text: str) -> int:
    """Return billionths of a CPU.

    Raises:
        InvalidError: *text* is no amount of CPUs, or is finer than a billionth of one.
    """
    match = _match(_CPUS, text)
    if match is None:
        raise InvalidError(f"{_shown(text)} is no number of CPUs; write one such as 0.5 or 2")
    nanos = Decimal(match[1]) * NANOS_PER_CPU
    if nanos != int(nanos):
        raise InvalidError(f"{_shown(text)} CPUs is finer than a billionth; use fewer decimals")
    return _fitting(int(nanos), text)


def parse_bytes(text: str) -> int:
    """Return bytes; a fraction of a byte is cut off.

    Raises:
        InvalidError: *text* is no amount of bytes.
    """
    match = _match(_BYTES, text)
    if match is None:
        raise InvalidError(f"{_shown(text)} is no size; write one such as 64MiB, 512m or 1.5g")
    prefix = (match[2] or "").lower()
    return _fitting(int(Decimal(match[1]) * 1024 ** _BINARY_POWERS[prefix]), text)


def parse_duration(text: str) -> float:
    """Return seconds, exact to the microsecond.

    Raises:
        InvalidError: *text* is no duration, or is longer than a century.
    """
    if text in ("0", "+0"):
        return 0.0
    if _match(_DURATION, text) is None:
        example = f"{text}s" if _match(_CPUS, text) else "30s, 1m30s or 500ms"
        raise InvalidError(f"{_shown(text)} is no duration; write one such as {example}")
    micros = sum(
        (Decimal(amount) * _MICROSECONDS[unit] for amount, unit in _DURATION_PART.findall(text)),
        Decimal(0),
    )
    seconds = float(round(micros) / 1_000_000)
    if seconds > DURATION_SECONDS_MAX:
        raise InvalidError(f"{_shown(text)} is too long; the longest is 100 years")
    return seconds


def format_cpus(nanos: int) -> str:
    """Return the shortest decimal: ``1.5``, ``2``, ``0.001``."""
    whole, rest = divmod(abs(nanos), NANOS_PER_CPU)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{'-' if nanos < 0 else ''}{whole}{fraction}"


def format_bytes(amount: int) -> str:
    """Return the amount exactly, in the largest unit that divides it: ``180MiB``, ``1500B``."""
    power = 0
    while amount and amount % 1024 == 0 and power < len(_BINARY_UNITS) - 1:
        amount //= 1024
        power += 1
    return f"{amount}{_BINARY_UNITS[power]}"


def approximate_bytes(amount: int) -> str:
    """Return about three digits for people to compare: ``1.95GiB``, ``512MiB``, ``0B``."""
    size = float(amount)
    power = 0
    while abs(size) >= 999.5 and power < len(_BINARY_UNITS) - 1:  # noqa: PLR2004  three digits
        size /= 1024
        power += 1
    return f"{size:.3g}{_BINARY_UNITS[power]}"


def format_duration(seconds: float) -> str:
    """Return hours, minutes and seconds, exact to the microsecond: ``1m30s``, ``200ms``, ``0s``."""
    micros = round(seconds * 1_000_000)
    sign = "-" if micros < 0 else ""
    micros = abs(micros)
    if micros == 0:
        return "0s"
    if micros < 1_000:  # noqa: PLR2004  a millisecond
        return f"{sign}{micros}us"
    if micros < 1_000_000:  # noqa: PLR2004  a second
        return f"{sign}{_decimal(micros, 1_000)}ms"
    parts = []
    for unit, size in _DURATION_UNITS:
        count, micros = divmod(micros, size)
        if count:
            parts.append(f"{count}{unit}")
    if micros:
        parts.append(f"{_decimal(micros, 1_000_000)}s")
    return sign + "".join(parts)


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return pattern.fullmatch(text) if len(text) <= _CHARACTERS_MAX else None


def _fitting(amount: int, text: str) -> int:
    if amount > INT64_MAX:
        raise InvalidError(f"{_shown(text)} is too large")
    return amount


def _shown(text: str) -> str:
    """Return the text as a message quotes it, cut if it is endless."""
    return repr(text if len(text) <= _CHARACTERS_MAX else text[:_CHARACTERS_MAX] + "...")


def _decimal(micros: int, unit: int) -> str:
    whole, rest = divmod(micros, unit)
    width = len(str(unit)) - 1
    return f"{whole}.{rest:0{width}d}".rstrip("0") if rest else str(whole)
