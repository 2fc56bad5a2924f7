"""Days in time zones where clocks do unusual things, and at the ends of the calendar."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.days import end_of, is_zone, start_of, utc, zone
from tests.unit.domain.strategies import ZONES

EVERYWHERE = sorted(name for name in available_timezones() if not name.startswith(("posix", "right")))


@pytest.mark.parametrize(
    ("day", "where", "begins"),
    [
        (date(2026, 3, 1), "UTC", "2026-03-01T00:00Z"),
        (date(2026, 3, 1), "Australia/Melbourne", "2026-02-28T13:00Z"),
        (date(2026, 3, 1), "Asia/Kathmandu", "2026-02-28T18:15Z"),
        # Midnight does not exist: clocks go from 24:00 to 01:00.
        (date(2018, 11, 4), "America/Sao_Paulo", "2018-11-04T03:00Z"),
        (date(2026, 3, 29), "Asia/Beirut", "2026-03-28T22:00Z"),
        # Midnight happens twice: clocks go back from 01:00 to 00:00.
        (date(2026, 11, 1), "America/Havana", "2026-11-01T04:00Z"),
        # Clocks go back at midnight: the evening before happens twice.
        (date(2018, 2, 18), "America/Sao_Paulo", "2018-02-18T03:00Z"),
        # 30 December 2011 never happened in Samoa, which crossed the date line: it ends as it begins.
        (date(2011, 12, 30), "Pacific/Apia", "2011-12-30T10:00Z"),
        (date(2011, 12, 31), "Pacific/Apia", "2011-12-30T10:00Z"),
        # Kwajalein crossed it as well, in 1993.
        (date(1993, 8, 22), "Pacific/Kwajalein", "1993-08-21T12:00Z"),
    ],
)
def test_a_day_begins(day: date, where: str, begins: str) -> None:
    assert start_of(day, ZoneInfo(where)) == datetime.fromisoformat(begins)


@settings(max_examples=500)
@given(st.dates(date(1971, 1, 1), date(2037, 12, 31)), st.sampled_from(EVERYWHERE))
def test_it_is_that_day_from_its_start_and_was_not_before(day: date, name: str) -> None:
    where = ZoneInfo(name)
    begins = start_of(day, where)
    assert begins.astimezone(where).date() >= day  # later, where the day was skipped
    assert (begins - timedelta(seconds=1)).astimezone(where).date() < day
    assert end_of(day - timedelta(days=1), where) == begins
    assert begins.tzinfo is UTC


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("day", [date.min, date(1, 1, 2), date(9999, 12, 30), date.max])
def test_the_ends_of_the_calendar_do_not_overflow(day: date, name: str) -> None:
    """9999-12-31 is how many HR systems say `open-ended`, 0001-01-01 how some say `unknown`."""
    where = ZoneInfo(name)
    for instant in (start_of(day, where), end_of(day, where)):
        for other in ZONES:
            assert instant.astimezone(ZoneInfo(other)).year in (1, 9999)


@given(st.datetimes(timezones=st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))))
def test_every_instant_can_be_shown_in_every_zone(moment: datetime) -> None:
    found = utc(moment)
    assert found.tzinfo is UTC
    for name in ZONES:
        found.astimezone(ZoneInfo(name))
    if 2 <= moment.year <= 9998:
        assert found == moment


def test_an_unknown_zone_falls_back() -> None:
    assert zone("Mars/Base", "Europe/Helsinki").key == "Europe/Helsinki"
    assert zone(None, "Europe/Helsinki").key == zone("", "Europe/Helsinki").key == "Europe/Helsinki"
    assert zone("../etc/passwd", "Mars/Base").key == "UTC"


@pytest.mark.parametrize("name", ["Mars/Base", "", "../etc/passwd", "/etc/localtime", "a\x00b", "x" * 5000, "Europe"])
def test_names_that_are_no_zones(name: str) -> None:
    assert not is_zone(name)
    assert zone(name, "UTC").key == "UTC"
