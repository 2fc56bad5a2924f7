"""A year of contractors, small enough for every run; `python -m orchestrator.simulation year` lives the whole one."""

from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from orchestrator.domain import lifecycle
from orchestrator.domain.days import end_of
from orchestrator.simulation.mutants import MUTANTS
from orchestrator.simulation.year import END, ZONES, Year

PEOPLE = 100


def test_everybody_is_out_within_a_minute_and_nobody_before() -> None:
    year = Year(PEOPLE, seed=7).run()
    assert year.violations == []
    assert year.killed == 52
    assert len(ZONES) == 30
    assert sum(one.over is not None and one.over < END for one in year.contracts) > PEOPLE // 2


def test_days_that_end_elsewhere_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others' users complain of: a leaver in Melbourne who is 17 hours late."""

    def in_los_angeles(day: date, where: ZoneInfo, hour: time | None = None) -> datetime:
        return end_of(day, ZoneInfo("America/Los_Angeles"), hour)

    monkeypatch.setattr(lifecycle, "end_of", in_los_angeles)
    found = Year(40).run().violations
    assert any("in Australia/Melbourne was put out at" in one for one in found)
    assert not any("in America/Los_Angeles" in one for one in found)


def test_timers_that_die_with_their_scheduler_are_noticed() -> None:
    with MUTANTS["no-outbox"].switched_on():
        found = Year(PEOPLE, seed=7).run().violations
    assert any("put out 0 times" in one or "nobody was warned" in one for one in found), found
