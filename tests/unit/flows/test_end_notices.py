"""Warnings as those see them who deliver them: notices on their topic, once each, and entries on the timeline."""

from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.notices import Notice
from tests.unit.flows.test_time_oracle import Office, Told, message

STATED = datetime(2026, 2, 20, 8, tzinfo=UTC)
DAY = timedelta(days=1)


async def tell(office: Office, number: int, event: str, at: datetime, /, **data: Any) -> None:
    """HR states something, and it arrives at once."""
    await office.time_passes(at)
    await office.arrives(message(Told(str(number), at, event, data, {})))


async def hired(office: Office) -> None:
    """A contractor of Melbourne with somebody to answer for them."""
    await tell(
        office,
        1,
        "joined",
        STATED,
        engagement_id="e1",
        kind="contractor",
        start_date="2026-02-20",
        contract_end="2026-03-31",
        attributes={"manager_id": "boss", "sponsor_id": "buyer", "time_zone": "Australia/Melbourne"},
    )


async def test_manager_and_sponsor_of_the_moment_are_named() -> None:
    office = Office("UTC")
    await hired(office)
    await tell(office, 2, "moved", STATED + DAY, effective="2026-03-28", attributes={"manager_id": "new-boss"})
    await office.time_passes(datetime(2026, 4, 2, tzinfo=UTC))
    due = datetime.fromisoformat("2026-04-01T00:00+11:00")
    assert office.notices == [
        Notice(
            id=f"w1/contract_ends/2026-03-31T13:00:00.000000Z/{days}",
            kind="contract_ends",
            person_id="w1",
            due=due,
            days_before=days,
            manager_id=manager,
            sponsor_id="buyer",
            event_id="hr#1",
        )
        for days, manager in ((7, "boss"), (1, "new-boss"))
    ]
    issued = [one for one in office.entries if one["kind"] == "notice_issued"]
    assert [one["details"]["days_before"] for one in issued] == [7, 1]
    assert issued[0]["event_id"].startswith(
        f"jml/scheduler#{issued[0]['subject']}/contract_ends_notice/2026-03-24T13:00:00"
    )


async def test_what_was_extended_meanwhile_is_not_warned_of() -> None:
    office = Office("UTC")
    await hired(office)
    await tell(office, 2, "contract_changed", STATED + 3 * DAY, engagement_id="e1", contract_end="2026-06-30")
    await office.time_passes(datetime(2026, 6, 1, tzinfo=UTC))
    assert office.notices == []
    cancelled = [one["details"]["timer"] for one in office.entries if one["kind"] == "timer_cancelled"]
    assert sorted(cancelled) == ["contract_end", "contract_ends_notice", "contract_ends_notice"]
    resolved = [one["details"] for one in office.entries if one["kind"] == "person_resolved"]
    assert resolved[1]["supersedes"] == ["hr#1"]


async def test_the_end_of_an_entitlement_names_application_and_group_and_is_told_once() -> None:
    office = Office("UTC")
    await hired(office)
    grant = {"app": "directory", "group": "night shift", "ends": "2026-02-22"}
    await tell(office, 2, "entitlement_granted", STATED + DAY, **grant)
    await tell(office, 3, "moved", STATED + DAY, attributes={"title": "x"})
    await tell(office, 2, "entitlement_granted", STATED + DAY, **grant)
    assert [(one.kind, one.app, one.group, one.days_before) for one in office.notices] == []
    await office.time_passes(STATED + 4 * DAY)
    assert [(one.kind, one.app, one.group, one.days_before) for one in office.notices] == [
        ("entitlement_ends", "directory", "night shift", 1)
    ]


async def test_an_event_that_came_too_late_says_what_left_nothing_of_it() -> None:
    office = Office("UTC")
    await hired(office)
    await tell(office, 2, "contract_changed", STATED + 3 * DAY, engagement_id="e1", contract_end="2026-06-30")
    await office.arrives(
        message(Told("3", STATED + DAY, "contract_changed", {"engagement_id": "e1", "contract_end": "2026-04-30"}, {}))
    )
    details = [one["details"] for one in office.entries if one["kind"] == "person_resolved"][-1]
    assert (details["outcome"], details["superseded_by"]) == ("superseded", ["hr#2"])
