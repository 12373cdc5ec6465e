"""When a schedule's runs are due. Pure: times in, times out, in seconds since 1970 UTC.

A due time is what makes a scheduled run the one that it is, so it must come out the same
whoever asks, and whenever: every answer is one of the times that iterating forward gives.
Changes of the clock are followed as Debian's cron does (``cronsim``): a run at 02:30 is made at
03:00 on the night when 02:30 does not exist, and once on the night when it exists twice.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from cluster.errors import did_you_mean
from cluster.model import Schedule

# A new leader is there within seconds; nothing is missed for that, whatever a schedule says.
LATE_SECONDS_MIN = 60.0

# A change of the clock moves due times by an hour at most, where time zones are sane; looking
# back twice as far finds the last of them by iterating forward.
_CHANGE_SECONDS = 7200.0

_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")


def flaws(schedule: Schedule) -> Iterator[tuple[str, str]]:
    """Yield the fields of *schedule* that cannot be used, and what is wrong with them."""
    if message := time_zone_flaw(schedule.time_zone):
        yield "time_zone", message
    if message := _cron_flaw(schedule.cron):
        yield "cron", message


def time_zone_flaw(name: str) -> str:
    """Return what is wrong with the name of a time zone; empty if there is such a one."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such name; no name at all; a folder of them
        near = did_you_mean(name, available_timezones())
        return f"there is no time zone {name!r};{near or ' write one such as Europe/Vienna or UTC'}"
    return ""


def _cron_flaw(cron: str) -> str:
    parts = cron.split()
    if len(parts) != len(_FIELDS):
        return (
            f"must be five fields, {', '.join(_FIELDS)}, such as '30 2 * * *';"
            f" {cron!r} has {len(parts)}"
        )
    for index, part in enumerate(parts):
        alone = ["*"] * len(_FIELDS)
        alone[index] = part
        if not _fires(" ".join(alone)):
            return f"{part!r} is no {_FIELDS[index]}, in {cron!r}"
    if not _fires(cron):
        return (
            f"never fires: {cron!r} asks for a day {parts[2]} in month {parts[3]}, which has none"
        )
    return ""


def next_due(schedule: Schedule, after: float) -> float:
    """Return the first due time later than *after*; *schedule* has no flaw."""
    return next(_dues(schedule, after))


def latest_due(schedule: Schedule, after: float, until: float) -> float | None:
    """Return the last due time later than *after* and not later than *until*, if there is one."""
    if next_due(schedule, after) > until:
        return None
    zone = ZoneInfo(schedule.time_zone)
    whole_second = datetime.fromtimestamp(int(until) + 1, zone)
    before = next(iter(CronSim(schedule.cron, whole_second, reverse=True))).timestamp()
    start = max(after, min(before, until) - _CHANGE_SECONDS)
    latest = None
    for due in _dues(schedule, start):
        if due > until:
            break
        latest = due
    return latest


def _dues(schedule: Schedule, after: float) -> Iterator[float]:
    """Yield the due times later than *after*, in order."""
    zone = ZoneInfo(schedule.time_zone)
    for moment in CronSim(schedule.cron, datetime.fromtimestamp(int(after), zone)):
        # In the hour that exists twice it may begin with a time of the first one.
        if moment.timestamp() > after:
            yield moment.timestamp()


def _fires(expression: str) -> bool:
    try:
        next(CronSim(expression, datetime.fromtimestamp(0, UTC)))
    except (CronSimError, StopIteration):
        return False
    return True
