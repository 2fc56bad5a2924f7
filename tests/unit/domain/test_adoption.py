"""Accounts that become workers: what is taken over, and what is refused without telling whose it is."""

from datetime import date
from typing import Any

import pytest

from orchestrator.domain.adoption import NoWorkerError, event_id, snapshot
from orchestrator.domain.paths import ENTERPRISE
from schemas.changes import WorkerAttributes

TODAY = date(2026, 3, 2)
ADA = {
    "id": "r1",
    "externalId": "w1",
    "userName": "ada",
    "active": True,
    "name": {"givenName": "Ada", "familyName": "King", "formatted": None},
    "emails": [{"value": "home@x", "type": "home"}, {"value": "work@x", "primary": True}, {"type": "other"}],
    "phoneNumbers": [{"value": "+1"}],
    ENTERPRISE: {"department": "Research", "employeeNumber": "007"},
    "meta": {"created": "2024-05-01T09:00:00Z"},
}


def test_an_account_tells_of_a_worker() -> None:
    told = snapshot(ADA, ("externalId",), TODAY)
    assert (told.worker_id, told.start_date, told.last_day) == ("w1", date(2024, 5, 1), None)
    assert told.attributes == WorkerAttributes(
        given_name="Ada", family_name="King", user_name="ada", email="work@x", phone="+1", department="Research"
    )
    assert snapshot(ADA, (ENTERPRISE, "employeeNumber"), TODAY).worker_id == "007"


@pytest.mark.parametrize("created", [None, "soon", "2031-01-01T00:00:00Z"])
def test_where_nobody_says_since_when_it_is_today(created: str | None) -> None:
    assert snapshot({**ADA, "meta": {"created": created}}, ("externalId",), TODAY).start_date == TODAY


@pytest.mark.parametrize("created", ["2024-05-01T09:00:00Z", "2026-03-02T00:00:00Z"])
def test_an_inactive_account_is_somebody_who_left_and_never_comes_back_for_a_day(created: str) -> None:
    told = snapshot({**ADA, "active": "False", "meta": {"created": created}}, ("externalId",), TODAY)
    assert told.last_day == date(2026, 3, 1)
    assert told.start_date <= told.last_day


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"externalId": None}, "has no externalId to be the worker id"),
        ({"externalId": True}, "has no externalId to be the worker id"),
        ({"externalId": "w 1"}, "does not fit a worker: worker_id"),
        ({"userName": "x" * 401}, "does not fit a worker: user_name"),
    ],
)
def test_what_does_not_fit_is_refused_without_its_values(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(NoWorkerError) as refused:
        snapshot({**ADA, **changes}, ("externalId",), TODAY)
    assert str(refused.value) == reason


def test_the_same_content_is_one_event() -> None:
    told = snapshot(ADA, ("externalId",), TODAY)
    again = snapshot({**ADA, "meta": {**ADA["meta"], "version": "2"}}, ("externalId",), TODAY)  # type: ignore[dict-item]
    assert event_id(ADA, told) == event_id(ADA, again)
    assert event_id(ADA, told) != event_id(ADA, snapshot({**ADA, "title": "Dr"}, ("externalId",), TODAY))
