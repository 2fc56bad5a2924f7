"""Names that collide, on real servers: the first that is free is taken, kept, and never somebody else's account."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.demo.servers.plain import Response
from orchestrator.domain.account import AccountStatus
from orchestrator.domain.correlation import Correlation, RuleText, by_attributes, compile_rules
from orchestrator.flows import naming as naming_module
from orchestrator.flows.naming import MOST_UNEXPLAINED
from tests.integration.application import Application, Held, server_process
from tests.integration.connector import Connector, Office, is_applied
from tests.integration.test_reconcile import change
from tests.integration.test_reconcile_command import HEADERS

NAMED = by_attributes("externalId", "userName", unique=(("userName",),))
JANE: dict[str, Any] = {"userName": "jane.doe@example.com", "emails": None}


def named(number: int) -> str:
    return f"jane.doe{number if number > 1 else ''}@example.com"


async def names(held: Held) -> dict[str, str]:
    """User names by externalId."""
    return {str(user.get("externalId")): user["userName"] for user in await held.all("Users")}


@asynccontextmanager
async def connecting(
    office: Office, base_url: str, clock: SimulatedClock, correlation: Correlation = NAMED, **more: Any
) -> AsyncIterator[Connector]:
    async with Connector(office, base_url, clock, correlation=correlation, **more).running() as connector:
        yield connector


@pytest.fixture
async def naming(office: Office, application: Application, clock: SimulatedClock) -> AsyncIterator[Connector]:
    async with connecting(office, application.base_url, clock) as connector:
        yield connector


# --- a real server; every kind of them is tried in test_applications --------------------------------------------------


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with server_process("scim2") as url:
        yield url


async def test_namesakes_get_names_of_their_own_and_keep_them(
    office: Office, base_url: str, clock: SimulatedClock
) -> None:
    """Three at once, in two connectors; then a change, a leave and a return."""
    held, tag = Held(base_url), office.number
    people = [f"jane-{number}-{tag}" for number in range(3)]
    jane: dict[str, Any] = {"userName": f"jane{tag}.doe@example.com"}
    async with (
        connecting(office, base_url, clock, timeout=15) as one,
        connecting(office, base_url, clock, timeout=15) as two,
    ):
        commands = await office.wants(*people, **jane)
        await asyncio.gather(one.take(commands[0], commands[2]), two.take(commands[1]))
        await asyncio.gather(one.converged(), two.converged())
        made = {who: name for who, name in (await names(held)).items() if who in people}
        assert set(made) == set(people), "one account each"
        wanted = {f"jane{tag}.doe{number}@example.com" for number in ("", 2, 3)}
        assert set(made.values()) == wanted
        await one.converge(*people, title="Fellow", **jane)
        await two.converge(*people, state="inactive")
        await two.converge(*people, **jane)
        assert {who: name for who, name in (await names(held)).items() if who in people} == made
    for person_id in people:
        progress = await office.progress(person_id)
        assert is_applied(progress, 4)
        assert progress.resource["userName"] == made[person_id]


# --- what may go wrong ------------------------------------------------------------------------------------------------


async def test_the_account_of_a_namesake_is_never_touched(naming: Connector, application: Application) -> None:
    other = await application.put_in(userName=named(1), externalId="somebody", title="Judge")
    await naming.converge("jane", **JANE)
    users = {user["id"]: user for user in await application.all("Users")}
    assert (users[other]["externalId"], users[other]["title"]) == ("somebody", "Judge")
    assert (await names(application))["jane"] == named(2)


async def test_her_own_account_is_found_by_externalid_whatever_its_name(
    naming: Connector, application: Application, office: Office
) -> None:
    await application.put_in(userName=named(1), externalId="somebody")
    ours = await application.put_in(userName=named(2), externalId="jane", title="old")
    await naming.converge("jane", **JANE)
    user = await application.user("jane")
    assert user is not None
    assert (user["id"], user["userName"], user["title"]) == (ours, named(2), "Engineer")
    assert (await office.progress("jane")).number == 2
    assert "POST /Users" not in application.made()


async def test_an_account_without_externalid_is_asked_about(
    naming: Connector, application: Application, office: Office
) -> None:
    """It may be hers, or a namesake's: neither is it taken nor a second one made."""
    await application.put_in(userName=named(1))
    await naming.converge("jane", **JANE)
    assert (await office.progress("jane")).status is AccountStatus.RETRYING, "it may be being made"
    await naming.wait(60)
    progress = await office.progress("jane")
    assert (progress.status, progress.error_code) == (AccountStatus.PARKED, "ambiguous_correlation")
    assert len(progress.candidates) == 1
    assert len(await application.all("Users")) == 1


async def test_an_account_on_a_namesakes_record_is_taken(
    naming: Connector, application: Application, office: Office
) -> None:
    """An application that drops externalId: only our own record knows whose an account is."""
    await naming.converge("joan", **JANE)
    made = await application.user("joan")
    assert made is not None
    body = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "remove", "path": "externalId"}],
    }
    async with httpx.AsyncClient(base_url=application.base_url, headers=HEADERS) as client:
        (await client.patch(f"/Users/{made['id']}", json=body)).raise_for_status()
    await naming.converge("jane", **JANE)
    assert (await office.progress("jane")).resource["userName"] == named(2)
    assert (await office.progress("joan")).resource["userName"] == named(1)


async def test_a_create_that_timed_out_is_found_under_the_name_that_was_tried(
    naming: Connector, application: Application, office: Office
) -> None:
    await application.put_in(userName=named(1), externalId="somebody")
    application.faults("POST", Response(409), application.silence_after)
    await naming.converge("jane", **JANE)
    assert (await names(application))["jane"] == named(2)
    progress = await office.progress("jane")
    assert (progress.number, progress.resource["userName"]) == (2, named(2))
    assert application.made().count("POST /Users") == 2


async def test_a_crash_after_the_name_was_chosen_goes_on_with_it(
    naming: Connector, application: Application, office: Office, clock: SimulatedClock
) -> None:
    """The other process saved its intent with the second name, made the account, and died."""
    await application.put_in(userName=named(1), externalId="somebody")
    commands = await office.wants("jane", **JANE)
    await application.put_in(userName=named(2), externalId="jane")
    await office.leaves_open("jane", number=2)
    await naming.take(*commands)
    await naming.converged()
    await naming.wait(120)
    assert (await names(application)) == {"somebody": named(1), "jane": named(2)}
    assert is_applied(await office.progress("jane"), 1)


async def test_a_refusal_that_nobody_explains_ends_soon(
    naming: Connector, application: Application, office: Office
) -> None:
    """Another attribute is taken, say: counting on would help nobody."""
    application.faults("POST", *[Response(409)] * 60)
    await naming.converge("jane", **JANE)
    progress = await office.progress("jane")
    assert (progress.status, progress.error_code) == (AccountStatus.PARKED, "uniqueness")
    assert application.made().count("POST /Users") == MOST_UNEXPLAINED + 1


async def test_the_tries_are_bounded(
    naming: Connector, application: Application, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naming_module, "MOST_NAMES", 3)
    for number in (1, 2, 3):
        await application.put_in(userName=named(number), externalId=f"other-{number}")
    await naming.converge("jane", **JANE)
    progress = await office.progress("jane")
    assert (progress.status, progress.error_code, progress.number) == (AccountStatus.PARKED, "uniqueness", 1)
    assert progress.error is not None
    assert "3 names were tried" in progress.error


async def test_an_attribute_that_nobody_guards_is_asked_for_first(
    office: Office, application: Application, clock: SimulatedClock
) -> None:
    """The application takes one e-mail address twice; user name and address have one number."""
    both = by_attributes("externalId", "userName", unique=(("userName",), ("emails",)))
    address = [{"value": named(1), "type": "work"}]
    await application.put_in(userName="somebody", externalId="somebody", emails=address)
    async with connecting(office, application.base_url, clock, both) as connector:
        await connector.converge("jane", **{**JANE, "emails": address})
    user = await application.user("jane")
    assert user is not None
    assert (user["userName"], user["emails"][0]["value"]) == (named(2), named(2))


async def test_a_name_of_an_account_that_was_deleted_begins_anew(
    naming: Connector, application: Application, office: Office
) -> None:
    other = await application.put_in(userName=named(1), externalId="somebody")
    await naming.converge("jane", **JANE)
    await naming.converge("jane", state="absent")
    assert (await office.progress("jane")).number == 1
    await application.take_out("somebody")
    await naming.converge("jane", **JANE)
    assert (await names(application)) == {"jane": named(1)}
    assert other


async def test_a_name_that_somebody_changed_there_is_put_right(
    naming: Connector, application: Application, office: Office
) -> None:
    await naming.converge("jane", **JANE)
    await change(application, "jane", userName=named(7))
    await office.leaves_open("jane")
    await naming.take(*await office.wants("jane", title="Fellow", **JANE))
    await naming.wait(120)
    assert await names(application) == {"jane": named(1)}
    assert (await office.progress("jane")).number == 1


# --- rules ------------------------------------------------------------------------------------------------------------


def rules(*texts: RuleText) -> Correlation:
    found, problems = compile_rules("crm", texts, attributes=("externalId", "userName", "emails"), tables={})
    assert problems == []
    return found


BY_MAIL = RuleText("emails.value", 'lower(person.id + "@old.example")', "resource.title == 'Engineer'")


async def test_a_configured_rule_finds_the_account_before_one_is_made(
    office: Office, application: Application, clock: SimulatedClock
) -> None:
    old = [{"value": "Ada@old.example"}]
    ours = await application.put_in(userName="legacy-7", externalId="other-scheme", title="Engineer", emails=old)
    await application.put_in(userName="legacy-8", title="Judge", emails=old)
    async with connecting(
        office, application.base_url, clock, rules(RuleText("externalId"), RuleText("userName"), BY_MAIL)
    ) as connector:
        await connector.converge("ada")
    user = await application.user("ada")
    assert user is not None
    assert (user["id"], user["userName"]) == (ours, "ada@example.com")
    assert "POST /Users" not in application.made()


async def test_two_that_a_rule_takes_are_parked_with_both(
    office: Office, application: Application, clock: SimulatedClock
) -> None:
    old = [{"value": "ada@old.example"}]
    both = {await application.put_in(userName=f"legacy-{number}", title="Engineer", emails=old) for number in range(2)}
    async with connecting(office, application.base_url, clock, rules(RuleText("externalId"), BY_MAIL)) as connector:
        await connector.converge("ada")
    progress = await office.progress("ada")
    assert (progress.status, progress.error_code) == (AccountStatus.PARKED, "ambiguous_correlation")
    assert {*progress.candidates} == both


async def test_where_no_rule_finds_one_it_is_made(
    office: Office, application: Application, clock: SimulatedClock
) -> None:
    async with connecting(office, application.base_url, clock, rules(RuleText("externalId"), BY_MAIL)) as connector:
        await connector.converge("ada")
    assert (await names(application)) == {"ada": "ada@example.com"}


async def test_a_rule_never_takes_an_account_on_somebody_elses_record(
    office: Office, application: Application, clock: SimulatedClock
) -> None:
    shared = RuleText("title", "'Engineer'")
    async with connecting(office, application.base_url, clock, rules(RuleText("externalId"), shared)) as connector:
        await connector.converge("ada")
        await connector.converge("bea")
    assert set(await names(application)) == {"ada", "bea"}


async def test_a_rule_that_fails_parks_and_says_which(
    office: Office, application: Application, clock: SimulatedClock
) -> None:
    await application.put_in(userName="x", title="Engineer")
    failing = RuleText("title", "'Engineer'", "resource.title")
    async with connecting(office, application.base_url, clock, rules(RuleText("externalId"), failing)) as connector:
        await connector.converge("ada")
    progress = await office.progress("ada")
    assert progress.status is AccountStatus.PARKED
    assert "correlate.2: where is neither true nor false" in str(progress.error)
