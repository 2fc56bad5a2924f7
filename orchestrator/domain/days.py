"""Calendar days and instants. A day belongs to a time zone; an instant does not.

`zoneinfo` reads the IANA database (from the system, or the `tzdata` package). Where midnight does not exist because
clocks go forward at it, the day begins at the instant of the change; where midnight happens twice, at the first.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_FIRST_DAY, _LAST_DAY = date(1, 1, 3), date(9999, 12, 28)  # a margin for every zone
_FIRST, _LAST = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)


@lru_cache(maxsize=1024)
def zone(name: str | None, default: str) -> ZoneInfo:
    """The zone called `name`, or the default one where the name is missing or unknown."""
    for candidate in (name, default):
        if candidate:
            try:
                return ZoneInfo(candidate)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                continue
    return ZoneInfo("UTC")


def is_zone(name: str) -> bool:
    """Whether the IANA database knows the name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def utc(moment: datetime) -> datetime:
    """The instant in UTC, moved into the years in which it can be shown in every zone."""
    try:
        return min(max(moment.astimezone(UTC), _FIRST), _LAST)
    except OverflowError:
        return _FIRST if moment.year == 1 else _LAST


@lru_cache(maxsize=65536)
def start_of(day: date, where: ZoneInfo) -> datetime:
    """The first instant of the day, in UTC."""
    day = min(max(day, _FIRST_DAY), _LAST_DAY + timedelta(days=1))
    return datetime(day.year, day.month, day.day, tzinfo=where).astimezone(UTC)


def end_of(day: date, where: ZoneInfo) -> datetime:
    """The instant at which the day is over, in UTC: the last day of access ends here."""
    return start_of(min(day, _LAST_DAY) + timedelta(days=1), where)
