"""Findings of a reconciliation, account by account."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.domain.account import Account, AccountStatus, Progress
from orchestrator.domain.correlation import Candidate, candidates, handles
from orchestrator.domain.person import Person
from orchestrator.domain.reconciliation import FindingKind, compare, orphan, unseen
from orchestrator.domain.scim_diff import project
from schemas.commands import DesiredState

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WANTED = {"userName": "ada", "name": {"givenName": "Ada"}, "emails": [{"value": "a@x", "type": "work"}]}


def row(state: DesiredState = "active", **progress: Any) -> tuple[Account, Progress]:
    account = Account("w1", "crm", 3, state, WANTED, (), NOW, "hr#1", "c", "p")
    settled = {"applied_revision": 3, "remote_id": "r1", "status": AccountStatus.APPLIED}
    return account, Progress(**{**settled, **progress})


def shown(**changes: Any) -> dict[str, Any]:
    return {"id": "r1", "active": True, **WANTED, "meta": {"version": "1"}, **changes}


def test_an_account_as_it_should_be_is_linked_whatever_else_it_shows() -> None:
    finding = compare(*row(), shown(nickName="Countess", userName="ada"))
    assert (finding.kind, finding.differences, finding.fixable) == (FindingKind.LINKED, {}, False)


@pytest.mark.parametrize(
    ("state", "changes", "differences"),
    [
        ("active", {"active": False}, {"active": (False, True)}),
        ("active", {"name": {"givenName": "Bea"}}, {"name.givenName": ("Bea", "Ada")}),
        ("active", {"name": {}}, {"name.givenName": (None, "Ada")}),
        ("inactive", {}, {"active": (True, False)}),
        ("inactive", {"active": None}, {"active": (None, False)}),
        ("absent", {"active": False}, {"account": ("present", "absent")}),
    ],
)
def test_drift_is_named_attribute_by_attribute(
    state: DesiredState, changes: dict[str, Any], differences: dict[str, Any]
) -> None:
    finding = compare(*row(state), shown(**changes))
    assert (finding.kind, finding.differences, finding.fixable) == (FindingKind.DRIFTED, differences, True)


def test_of_an_account_that_should_be_inactive_only_that_counts() -> None:
    assert compare(*row("inactive"), shown(active="False", title="x", userName="y")).kind is FindingKind.LINKED


@pytest.mark.parametrize("progress", [{"applied_revision": 2}, {"intent": "x"}, {"status": AccountStatus.PARKED}])
def test_of_unfinished_work_nothing_is_said(progress: dict[str, Any]) -> None:
    assert compare(*row(**progress), shown(active=False)).kind is FindingKind.UNFINISHED
    missed = unseen(*row(**progress))
    assert missed is not None
    assert missed.kind is FindingKind.UNFINISHED


def test_only_who_should_be_there_is_missed() -> None:
    missed = unseen(*row())
    assert missed is not None
    assert (missed.kind, missed.person_id, missed.fixable) == (FindingKind.MISSING, "w1", True)
    assert unseen(*row("inactive")) is None
    assert unseen(*row("absent")) is None


def test_what_was_decided_since_the_reading_began_is_not_missed() -> None:
    account, progress = row()
    later = NOW + timedelta(seconds=1)
    known = replace(account, issued_at=NOW)
    assert [missed.kind for began in (NOW, later) if (missed := unseen(known, progress, began))] == [
        FindingKind.UNFINISHED,
        FindingKind.MISSING,
    ]


@pytest.mark.parametrize(
    ("state", "changes", "takes"),
    [
        ("inactive", {}, True),
        ("absent", {}, True),
        ("active", {"active": False}, False),
        ("active", {"title": 1}, False),
    ],
)
def test_it_is_said_whose_access_is_taken_away(state: DesiredState, changes: dict[str, Any], takes: bool) -> None:
    assert compare(*row(state), shown(**changes)).takes_access is takes


def test_an_application_shows_what_it_can_hold() -> None:
    def shows(resource: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**project(resource, wanted), "emails": wanted["emails"]}

    assert compare(*row(), shown(emails=[]), shows).kind is FindingKind.LINKED
    assert compare(*row(), shown(emails=[])).kind is FindingKind.DRIFTED


@pytest.mark.parametrize(("remote_id", "named"), [("a-1", False), ("ADA", True), ("x@y", True), ("w1", True)])
def test_an_id_that_is_a_name_is_known_as_one(remote_id: str, named: bool) -> None:
    assert orphan(shown(id=remote_id, externalId="w1"), [], {}).named is named


def test_whose_account_it_may_be_the_surest_first() -> None:
    found = handles({"externalId": "w1", "userName": "Bea@X", "emails": [{"value": "A@x"}, {"value": 7}, "x"]})
    assert found.emails == ("a@x", "bea@x")
    persons = {"w1": Person("w1")}
    assert candidates(found, persons, {"a@x": ["w1", "w2"], "bea@x": ["w3"]}) == [
        Candidate("w1", "externalId"),
        Candidate("w2", "email"),
        Candidate("w3", "email"),
    ]
    assert candidates(handles({"externalId": 7, "emails": "x"}), {"7": Person("7")}, {}) == [
        Candidate("7", "externalId")
    ]


def test_a_second_account_of_somebody_is_a_duplicate() -> None:
    sure, by_email = Candidate("w1", "externalId"), Candidate("w1", "email")
    assert orphan(shown(id="r2"), [sure], {"w1": "r1"}).kind is FindingKind.DUPLICATE
    assert orphan(shown(id="r2"), [sure], {}).kind is FindingKind.ORPHAN
    assert orphan(shown(id="r2"), [by_email], {"w1": "r1"}).kind is FindingKind.ORPHAN, "an address is a hint only"
    assert not orphan(shown(id="r2"), [sure], {}).fixable
