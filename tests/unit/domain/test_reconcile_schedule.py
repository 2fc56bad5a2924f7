"""When a reconciliation by schedule is due."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.reconcile_schedule import RETRY_AFTER, LastRun, is_due

NOW = datetime(2026, 3, 2, 8, 15, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


@pytest.mark.parametrize(
    ("last", "due"),
    [
        (None, True),
        (LastRun(1, NOW - DAY, ended_at=NOW - DAY, outcome="complete"), True),
        (LastRun(1, NOW - DAY + MINUTE, ended_at=NOW - HOUR, outcome="incomplete"), False),
        (LastRun(1, NOW - 3 * DAY, lease_until=NOW + MINUTE), False),
        (LastRun(1, NOW - MINUTE, lease_until=NOW), True),
        (LastRun(1, NOW - HOUR, ended_at=NOW - RETRY_AFTER, outcome="unavailable"), True),
        (LastRun(1, NOW - HOUR, ended_at=NOW - RETRY_AFTER + MINUTE, outcome="unavailable"), False),
    ],
    ids=["the first", "a day later", "not yet", "at work", "died", "failed long ago", "failed just now"],
)
def test_a_run_is_due(last: LastRun | None, due: bool) -> None:
    assert is_due(last, DAY, NOW) is due


def test_who_reconciles_more_often_than_failures_are_retried_is_not_kept_waiting() -> None:
    failed = LastRun(1, NOW - HOUR, ended_at=NOW - 6 * MINUTE, outcome="unavailable")
    assert is_due(failed, 6 * MINUTE, NOW)
