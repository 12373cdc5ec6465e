"""Amounts and times as people read them."""

from datetime import UTC, datetime

from cluster.quantities import approximate_bytes, format_cpus
from cluster.resources import Resources

ID_CHARACTERS_SHOWN = 12  # enough that two never meet; any unique beginning names an object

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_UNITS = (
    (_DAY * 365, "year"),
    (_DAY * 30, "month"),
    (_DAY * 7, "week"),
    (_DAY, "day"),
    (_HOUR, "hour"),
    (_MINUTE, "minute"),
    (1, "second"),
)
_HUNDREDTH_NANOS = 10_000_000


def short(object_id: str) -> str:
    """Return the beginning of an id."""
    return object_id[:ID_CHARACTERS_SHOWN]


def ago(at: float, now: float) -> str:
    """Return ``2 minutes ago``; empty for a time that is not known (0).

    Both are seconds since 1970 UTC, perhaps by different clocks: a little in the future is now.
    """
    return f"{span(max(0.0, now - at))} ago" if at else ""


def span(seconds: float) -> str:
    """Return a length of time in its largest whole unit: ``1 second``, ``3 weeks``."""
    for size, unit in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' * (count != 1)}"
    return "moments"


def moment(at: float) -> str:
    """Return RFC 3339 in UTC with milliseconds; empty for a time that is not known (0)."""
    if not at:
        return ""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cpus(nanos: int) -> str:
    """Return CPUs to the hundredth: ``0.25``, ``4``."""
    return format_cpus(round(nanos / _HUNDREDTH_NANOS) * _HUNDREDTH_NANOS)


def memory(amount: int) -> str:
    return approximate_bytes(amount)


def share(part: int, whole: int) -> str:
    """Return a percentage: ``37%``; empty of nothing."""
    return f"{100 * part / whole:.0f}%" if whole else ""


def resources(amount: Resources) -> str:
    """Return ``0.5 CPUs, 64MiB``, or ``none``."""
    parts = []
    if amount.cpu_nanos:
        parts.append(f"{format_cpus(amount.cpu_nanos)} CPUs")
    if amount.memory_bytes:
        parts.append(approximate_bytes(amount.memory_bytes))
    parts += [f"{number} {kind}" for kind, number in sorted(amount.generic.items())]
    return ", ".join(parts) or "none"


def generic(capacity: Resources, reserved: Resources) -> list[tuple[str, str]]:
    """Return, for each kind of the two, its name and ``2 of 8 reserved``."""
    return [
        (kind, f"{reserved.generic.get(kind, 0)} reserved of {capacity.generic.get(kind, 0)}")
        for kind in sorted({*capacity.generic, *reserved.generic})
    ]


def count(number: int, noun: str) -> str:
    """Return ``1 task``, ``2 tasks``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def pairs(labels: dict[str, str]) -> str:
    """Return ``a=1, b=2``."""
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
