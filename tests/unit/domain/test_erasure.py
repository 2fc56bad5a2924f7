"""What speaks against an erasure, each reason by itself and all of them at once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.erasure import refusals
from orchestrator.domain.lifecycle import Standing, Status

NOW = datetime(2026, 3, 2, 8, 15, tzinfo=UTC)
LEFT = Standing(Status.LEFT, NOW - timedelta(days=100), "employee", {})
CLOSED = Account("w1", "crm", 2, "inactive", {}, (), NOW, "hr#1", "case", "p1")
GONE = replace(CLOSED, state="absent")
DONE = Progress(applied_revision=2, status=AccountStatus.APPLIED)
THERE = replace(DONE, remote_id="r1", active=False)


def against(standing: Standing = LEFT, *accounts: tuple[Account, Progress], **options: Any) -> list[str]:
    return refusals(standing, accounts, NOW, **{"retention": None, "leave_accounts": False, **options})


def test_whoever_left_and_has_no_account_any_more_can_be_erased() -> None:
    assert against() == []
    assert against(LEFT, (GONE, DONE), (CLOSED, DONE)) == []
    assert against(Standing(Status.UNKNOWN, NOW, "employee", {})) == []


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.ON_LEAVE, Status.SUSPENDED, Status.PREHIRE])
def test_whoever_is_with_us_cannot(status: Status) -> None:
    (reason,) = against(Standing(status, NOW, "employee", {}))
    assert reason.startswith(f"the person is {status.value}: ")


@pytest.mark.parametrize(
    ("account", "progress", "reason"),
    [
        (replace(CLOSED, state="active"), DONE, "the account in crm is active"),
        (GONE, replace(DONE, status=AccountStatus.PARKED), "the account in crm is parked and not absent"),
        (GONE, replace(DONE, status=AccountStatus.RETRYING), "not known to be absent yet"),
        (GONE, replace(DONE, status=AccountStatus.PENDING), "not known to be absent yet"),
        (GONE, replace(DONE, applied_revision=1), "not known to be absent yet"),
        (CLOSED, replace(THERE, intent="2@2026-03-02T08:14:00.000000Z"), "not known to be inactive yet"),
        (CLOSED, THERE, "inactive and still there, with the person's data in it"),
    ],
)
def test_an_account_that_is_not_closed_for_sure_forbids_it(account: Account, progress: Progress, reason: str) -> None:
    (told,) = against(LEFT, (account, progress), (replace(GONE, app="wiki"), DONE))
    assert reason in told


def test_accounts_that_are_deactivated_can_be_left_and_no_others() -> None:
    assert against(LEFT, (CLOSED, THERE), leave_accounts=True) == []
    assert len(against(LEFT, (replace(CLOSED, state="active"), THERE), leave_accounts=True)) == 1
    assert len(against(LEFT, (CLOSED, replace(THERE, status=AccountStatus.PARKED)), leave_accounts=True)) == 1


def test_records_are_kept_for_as_long_as_the_configuration_says() -> None:
    (reason,) = against(retention=timedelta(days=101))
    assert "kept until 2026-03-03" in reason
    assert "ended on 2025-11-22" in reason
    assert "retention_days_after_end is 101" in reason
    assert against(retention=timedelta(days=100)) == []
    assert against(retention=timedelta(0)) == []
    nobody = Standing(Status.UNKNOWN, NOW, "employee", {})
    assert against(nobody, retention=timedelta(days=101)) == [], "there was no engagement"


def test_all_reasons_are_told_at_once() -> None:
    active = replace(CLOSED, state="active")
    assert len(against(LEFT, (active, THERE), (CLOSED, THERE), retention=timedelta(days=400))) == 3
