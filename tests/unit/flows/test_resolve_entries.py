"""What the audit log is told of a decision: what an account was before, and what of it changed."""

from typing import Any

from orchestrator.domain.sealing import unseal
from orchestrator.testing.auditing import SUBJECT
from tests.unit.flows.resolving import Office, breaker_policy


def opened(office: Office, kind: str) -> list[dict[str, Any]]:
    """The entries of a kind, with what is sealed in them."""
    keys = {one.id: one.key for one in office.store.tables.table(SUBJECT).values()}
    return [
        {**one, "values": unseal(keys[one["subject"]] or b"", one["id"], one["sealed"]) if one.get("sealed") else {}}
        for one in office.entries(kind)
    ]


async def test_an_issued_command_says_what_the_account_was_before_and_what_changed() -> None:
    """In one batch and in several: a decision starts from the one before it."""
    for at_once in (True, False):
        office = Office(None)
        life = [office.joins("ada"), office.moves("ada", title="boss"), office.leaves("ada")]
        for batch in [life] if at_once else [[one] for one in life]:
            await office.tell(*batch)
        hired, moved, left = opened(office, "command_issued")
        assert [one["details"].get("previous_state") for one in (hired, moved, left)] == [None, "active", "active"]
        assert [one["details"]["state"] for one in (hired, moved, left)] == ["active", "active", "inactive"]
        assert hired["values"] == {"after": {"userName": "ada", "externalId": "ada", "title": "x"}}
        assert moved["values"] == {"before": {"title": "x"}, "after": {"title": "boss"}}
        assert left["values"] == {}


async def test_before_is_what_was_issued_not_what_is_held() -> None:
    office = Office(breaker_policy(0))
    await office.tell(office.joins("ada"))
    await office.tell(office.leaves("ada"))
    await office.tell(office.moves("ada", title="boss"), office.stays("ada"))
    assert office.held == {}
    issued = opened(office, "command_issued")
    assert [(one["details"]["command"], one["details"].get("previous_state")) for one in issued] == [
        ("create", None),
        ("patch", "active"),
    ]
    assert issued[1]["values"] == {"before": {"title": "x"}, "after": {"title": "boss"}}


async def test_a_time_zone_that_nobody_knows_is_told_and_refuses_nothing() -> None:
    office = Office(None)
    for misspelt in ("Australia/Melborn", "../etc/passwd", "x" * 300):
        await office.tell(office.moves("ada", time_zone=misspelt))
        told = opened(office, "person_resolved")[-1]
        assert told["details"]["problems"] == ["attributes.time_zone"]
        (why,) = told["values"]["problems"]
        assert f"no zone {misspelt!r}; days are counted in UTC" in why
        assert misspelt not in str(told["details"]), "it is the sender's text"
    assert office.entries("event_quarantined") == []


async def test_a_time_zone_is_a_problem_of_the_event_that_states_it_alone() -> None:
    office = Office(None)
    await office.tell(office.moves("ada", time_zone="Australia/Melborn"))
    await office.tell(office.moves("ada", time_zone="Australia/Melbourne"))
    await office.tell(office.moves("ada", title="boss"))
    told = [one["details"].get("problems") for one in office.entries("person_resolved")]
    assert told == [["attributes.time_zone"], None, None]
