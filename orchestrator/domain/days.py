"""Calendar days and instants. A day belongs to a time zone; an instant does not.

`zoneinfo` reads the IANA database (from the system, or the `tzdata` package). Where midnight does not exist because
clocks go forward at it, the day begins at the instant of the change; where midnight happens twice, at the first. The
same holds for any other hour of a day, and for a day that a zone skipped when it crossed the date line: it is over as
it begins.
"""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_FIRST_DAY, _LAST_DAY = date(1, 1, 3), date(9999, 12, 28)  # a margin for every zone
_FIRST, _LAST = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)
_WALL_FIRST = _FIRST.replace(tzinfo=None)


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
    return _instant(datetime.combine(day, time()), where)


@lru_cache(maxsize=65536)
def end_of(day: date, where: ZoneInfo, hour: time | None = None) -> datetime:
    """The instant in UTC at which a last day of access is over: its end, or an hour of it by the clock on the wall."""
    day = min(day, _LAST_DAY)
    if hour is None:
        return start_of(day + timedelta(days=1), where)
    return _instant(datetime.combine(max(day, _FIRST_DAY), hour), where)


def days_before(moment: datetime, days: int, where: ZoneInfo) -> datetime:
    """The instant so many calendar days before, at the same time by the clock on the wall."""
    local = utc(moment).astimezone(where).replace(tzinfo=None)
    if local - _WALL_FIRST < timedelta(days=days):
        return _FIRST
    return _instant(local - timedelta(days=days), where)


@lru_cache(maxsize=65536)
def _instant(wall: datetime, where: ZoneInfo) -> datetime:
    """When clocks first show `wall` or, where they leave it out, when they jump over it."""
    first, second = (wall.replace(tzinfo=where, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first <= second:  # once, or twice
        return first
    # In a gap the two folds lie on either side of the change (PEP 495), both a whole number of seconds from it.
    before, after = second, first
    offset = before.astimezone(where).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone(where).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
