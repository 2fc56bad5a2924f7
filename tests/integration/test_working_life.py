"""What every application has to go through: accounts from hire to deletion, in servers that are not ours.

What an application holds is read back from it.
"""

from collections.abc import AsyncIterator, Iterator

import orjson
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.domain.account import AccountStatus
from orchestrator.evidence.entries import NoKeys, recorded
from orchestrator.evidence.ocsf import OcsfEvents
from tests.integration.application import Held, server_process
from tests.integration.connector import ENTERPRISE, Connector, Office, is_applied
from tests.unit.evidence.test_account_changes import validator

pytestmark = pytest.mark.usefixtures("quick_probes")


@pytest.fixture(scope="module", params=["plain", "scim2", "django"])
def base_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with server_process(request.param) as url:
        yield url


@pytest.fixture
async def elsewhere(office: Office, base_url: str, clock: SimulatedClock) -> AsyncIterator[Connector]:
    """A connector to an application in another process, which earlier tests have used too."""
    async with Connector(office, base_url, clock, timeout=15).running() as connector:
        yield connector


async def test_a_working_life(elsewhere: Connector, office: Office, base_url: str) -> None:
    held = Held(base_url)
    person, other = f"ada-{office.number}", f"bea-{office.number}"
    team, crew = f"team {office.number}", f"crew {office.number}"

    await elsewhere.converge(person, other, groups=[team])
    user = await held.user(person)
    assert user is not None
    assert user["active"] is True
    assert (user["userName"], user["title"]) == (f"{person}@example.com", "Engineer")
    assert (user["name"]["familyName"], user[ENTERPRISE]["department"]) == ("King", "Research")
    assert await held.members(team) == {person, other}

    await elsewhere.converge(person, groups=[crew], title="Senior Engineer", **{ENTERPRISE: {"department": "Sales"}})
    user = await held.user(person)
    assert user is not None
    assert (user["title"], user[ENTERPRISE]["department"]) == ("Senior Engineer", "Sales")
    assert (await held.members(team), await held.members(crew)) == ({other}, {person})

    await elsewhere.converge(person, state="inactive")
    assert await held.active(person) is False
    assert await held.members(crew) == set()
    (applied,) = await elsewhere.recorded("command_applied", person_id=person, revision=3)
    assert applied["details"]["verified_at"]

    await elsewhere.converge(person, groups=[team], title="Senior Engineer")
    assert await held.active(person) is True
    assert await held.members(team) == {person, other}

    await elsewhere.known_everywhere()
    await elsewhere.converge(person, state="inactive")
    await elsewhere.converge(person, state="absent")
    assert await held.user(person) is None
    assert is_applied(await office.progress(person), 6)
    assert await held.active(other) is True
    assert await exported(elsewhere, person) == [
        *(300101, 300603),  # created, into the team
        *(300403, 300603, 300604),  # attributes, into the crew, out of the team
        *(300105, 300604),  # disabled
        *(300102, 300603),  # enabled
        *(300105, 300604),
        300106,  # deleted
    ]


async def exported(connector: Connector, person: str) -> list[int]:
    """What an export says of a person, as OCSF has it (`type_uid`), each event valid by the published schema."""
    subject = (await connector.recorded("command_applied", person_id=person))[0]["subject"]
    entries = recorded((number, orjson.dumps(one)) for number, one in enumerate(connector.audit))
    events = OcsfEvents(NoKeys(), "0.1.0")
    found = [event for one in entries for event in events.take(one, wanted=one.subject == subject)]
    for event in found:
        validator(event["class_uid"]).validate(event)
    return [event["type_uid"] for event in found]


async def test_an_account_that_is_there_already_is_adopted(elsewhere: Connector, office: Office, base_url: str) -> None:
    held, person = Held(base_url), f"ada-{office.number}"
    schemas = ["urn:ietf:params:scim:schemas:core:2.0:User"]
    theirs = await held.put_in(schemas=schemas, userName=f"{person}@example.com", displayName="A. King")
    await elsewhere.converge(person)
    user = await held.user(person)
    assert user is not None
    assert (user["id"], user["title"], user["displayName"]) == (theirs, "Engineer", "Ada King")


async def test_somebody_elses_account_is_never_taken(elsewhere: Connector, office: Office, base_url: str) -> None:
    held, person = Held(base_url), f"ada-{office.number}"
    schemas = ["urn:ietf:params:scim:schemas:core:2.0:User"]
    await held.put_in(
        schemas=schemas, userName=f"{person}@example.com", externalId=f"not-{person}", displayName="Somebody"
    )
    await elsewhere.converge(person)
    progress = await office.progress(person)
    assert (progress.status, progress.error_code) == (AccountStatus.PARKED, "uniqueness")
    user = await held.user(f"not-{person}")
    assert user is not None
    assert user["displayName"] == "Somebody"
    assert await held.user(person) is None


async def test_an_account_that_was_deleted_there_is_made_again(
    elsewhere: Connector, office: Office, base_url: str
) -> None:
    held, person, team = Held(base_url), f"ada-{office.number}", f"team {office.number}"
    await elsewhere.converge(person, groups=[team])
    await held.take_out(person)
    await elsewhere.converge(person, groups=[team], title="Senior Engineer")
    user = await held.user(person)
    assert user is not None
    assert user["title"] == "Senior Engineer"
    assert person in await held.members(team)


async def test_a_leaver_whose_account_was_deleted_there_is_out(
    elsewhere: Connector, office: Office, base_url: str
) -> None:
    held, person = Held(base_url), f"ada-{office.number}"
    await elsewhere.converge(person)
    await held.take_out(person)
    await elsewhere.converge(person, state="inactive")
    assert await held.user(person) is None
    assert is_applied(await office.progress(person), 2, but_for_a_look=True)


async def test_an_account_is_staged_before_the_first_day_and_opened_on_it(
    elsewhere: Connector, office: Office, base_url: str
) -> None:
    held, person, team = Held(base_url), f"ada-{office.number}", f"team {office.number}"
    await elsewhere.converge(person, state="staged")
    user = await held.user(person)
    assert user is not None
    assert (user["active"], user["title"]) == (False, "Engineer")
    await elsewhere.converge(person, state="staged", title="Senior Engineer")
    user = await held.user(person)
    assert user is not None
    assert (user["active"], user["title"]) == (False, "Senior Engineer")
    await elsewhere.converge(person, groups=[team], title="Senior Engineer")
    assert await held.active(person) is True
    assert await held.members(team) == {person}
    await elsewhere.converge(person, state="staged", title="Senior Engineer")
    assert await held.active(person) is False, "the first day was put off"
    assert await held.members(team) == set()
    (applied,) = await elsewhere.recorded("command_applied", person_id=person, revision=4)
    assert applied["details"]["verified_at"]
    await held.take_out(person)
    await elsewhere.converge(person, state="staged", title="Lead")
    assert await held.active(person) is False, "it has to be there on the first day"
    assert is_applied(await office.progress(person), 5)


async def test_an_open_account_that_is_found_before_the_first_day_is_closed(
    elsewhere: Connector, office: Office, base_url: str
) -> None:
    held, person = Held(base_url), f"ada-{office.number}"
    schemas = ["urn:ietf:params:scim:schemas:core:2.0:User"]
    theirs = await held.put_in(schemas=schemas, userName=f"{person}@example.com", displayName="A. King", active=True)
    await elsewhere.converge(person, state="staged")
    user = await held.user(person)
    assert user is not None
    assert (user["id"], user["active"], user["title"]) == (theirs, False, "Engineer")
    (applied,) = await elsewhere.recorded("command_applied", person_id=person, revision=1)
    assert applied["details"]["verified_at"], "closed as a leaver's is, by a read that shows it"
