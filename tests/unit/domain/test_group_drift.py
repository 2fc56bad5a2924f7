"""Members of a group, shown against wanted: only accounts that can be judged, and only what is certain."""

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.group_drift import granted, may_end_early, misplaced, shown_groups, shown_members
from schemas.commands import DesiredState

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def row(
    *groups: str, state: DesiredState = "active", left: tuple[str, ...] = (), **progress: Any
) -> tuple[Account, Progress]:
    account = Account("ada", "crm", 3, state, {}, groups, NOW, "hr#1", "c", "p")
    settled = {"applied_revision": 3, "remote_id": "1", "status": AccountStatus.APPLIED, "left_groups": left}
    return account, Progress(**{**settled, **progress})


@pytest.mark.parametrize(
    ("found", "member", "finding"),
    [
        (row("staff"), True, None),
        (row("staff"), False, ("member_missing", "no member", "member")),
        (row(), False, None),
        (row(), True, ("member_foreign", "member", "no member")),
        (row(left=("staff",)), True, ("member_extra", "member", "no member")),
        (row(left=("staff",)), False, None),
        (row("staff", left=("staff",)), True, None),
        (row("staff", state="inactive"), False, ("member_missing", "no member", "member")),
        (row("staff", state="absent"), False, None),
        (row("staff", applied_revision=2), False, None),
        (row("staff", intent="open"), False, None),
        (row("staff", status=AccountStatus.PARKED), False, None),
        (row("staff", remote_id=None), False, None),
    ],
)
def test_who_is_where_they_should_not_be(
    found: tuple[Account, Progress], member: bool, finding: tuple[str, str, str] | None
) -> None:
    told = list(misplaced("staff", {"1"} if member else set(), {"1": found}, ["1"]))
    assert [(one.kind, *one.differences["groups[staff]"]) for one in told] == ([finding] if finding else [])
    assert all((one.person_id, one.remote_id, one.group) == ("ada", "1", "staff") for one in told)
    assert granted(*found) or not told


def test_whoever_nobody_knows_is_left_alone() -> None:
    assert list(misplaced("staff", {"2"}, {"1": row("staff")}, ["2"])) == []


@pytest.mark.parametrize(
    ("members", "shown"),
    [
        ([{"value": "1"}, {"value": 2, "type": "User"}], {"1", "2"}),
        ([{"value": "1", "type": "Group"}, {"value": "2", "$ref": "https://x/Groups/2"}, {"value": "3"}], {"3"}),
        ([{"display": "no id"}, "text", None], set()),
        (None, set()),
        ("1", set()),
    ],
)
def test_members_are_accounts(members: Any, shown: set[str]) -> None:
    assert shown_members({"members": members}) == shown
    assert shown_members({}) == set()


def test_a_list_that_ends_at_a_round_number_may_be_a_part() -> None:
    assert [number for number in range(1, 120) if may_end_early(number)] == [10, 20, 25, 50, 100]
    assert may_end_early(25_000)
    assert not may_end_early(5_001)


def test_an_account_that_shows_no_groups_says_nothing_of_them() -> None:
    assert shown_groups({}) is None
    assert shown_groups({"groups": []}) == set()
    assert shown_groups({"groups": [{"value": 7}, {"display": "x"}, "y"]}) == {"7"}
