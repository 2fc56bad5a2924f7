"""Accounts as the applications hold them, after everything that can go wrong between us and them has.

The real lanes over a real store, HTTP on loopback. The witness is the application: its state is read back from it, and
its own list of calls says what it was asked.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.engine import Database
from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.demo.servers.plain import Request, Response
from orchestrator.domain.account import AccountStatus
from orchestrator.flows import account_queues, calling
from orchestrator.flows import converge as converge_module
from orchestrator.flows.account_steps import OPEN_INTENT
from orchestrator.flows.converge import LEASE_SECONDS, RECHECK
from orchestrator.ports import ApplicationHealth
from tests.integration.application import Application, Held, Wire, server_process
from tests.integration.connector import ENTERPRISE, NOW, Connector, Office, is_applied, resource, until
from tests.subjects import told

JSON = ((b"content-type", b"application/scim+json"),)
HTML = ((b"content-type", b"text/html; charset=utf-8"),)
PAGE = b"<html><title>Please log in</title></html>"


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "FIRST_PROBE_SECONDS", 0.02)


def operations(request: Request) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = orjson.loads(request.body)["Operations"]
    return listed


# --- what every application has to go through ------------------------------------------------------------------------


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
    person, other = f"ada-{id(office)}", f"bea-{id(office)}"
    team, crew = f"team {id(office)}", f"crew {id(office)}"

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

    await elsewhere.converge(person, state="inactive")
    await elsewhere.converge(person, state="absent")
    assert await held.user(person) is None
    assert is_applied(await office.progress(person), 6)
    assert await held.active(other) is True


async def test_an_account_that_is_there_already_is_adopted(elsewhere: Connector, office: Office, base_url: str) -> None:
    held, person = Held(base_url), f"ada-{id(office)}"
    schemas = ["urn:ietf:params:scim:schemas:core:2.0:User"]
    theirs = await held.put_in(schemas=schemas, userName=f"{person}@example.com", displayName="A. King")
    await elsewhere.converge(person)
    user = await held.user(person)
    assert user is not None
    assert (user["id"], user["title"], user["displayName"]) == (theirs, "Engineer", "Ada King")


async def test_somebody_elses_account_is_never_taken(elsewhere: Connector, office: Office, base_url: str) -> None:
    held, person = Held(base_url), f"ada-{id(office)}"
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
    held, person, team = Held(base_url), f"ada-{id(office)}", f"team {id(office)}"
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
    held, person = Held(base_url), f"ada-{id(office)}"
    await elsewhere.converge(person)
    await held.take_out(person)
    await elsewhere.converge(person, state="inactive")
    assert await held.user(person) is None
    assert is_applied(await office.progress(person), 2, but_for_a_look=True)


async def test_an_account_is_staged_before_the_first_day_and_opened_on_it(
    elsewhere: Connector, office: Office, base_url: str
) -> None:
    held, person, team = Held(base_url), f"ada-{id(office)}", f"team {id(office)}"
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
    held, person = Held(base_url), f"ada-{id(office)}"
    schemas = ["urn:ietf:params:scim:schemas:core:2.0:User"]
    theirs = await held.put_in(schemas=schemas, userName=f"{person}@example.com", displayName="A. King", active=True)
    await elsewhere.converge(person, state="staged")
    user = await held.user(person)
    assert user is not None
    assert (user["id"], user["active"], user["title"]) == (theirs, False, "Engineer")
    (applied,) = await elsewhere.recorded("command_applied", person_id=person, revision=1)
    assert applied["details"]["verified_at"], "closed as a leaver's is, by a read that shows it"


# --- the least that is needed ----------------------------------------------------------------------------------------


async def test_a_patch_holds_what_changed_and_nothing_else(connector: Connector, application: Application) -> None:
    await connector.converge("ada")
    await connector.converge("ada", title="Senior Engineer")
    assert application.made() == ["POST /Users", "PATCH /Users"]
    assert operations(application.calls[-1]) == [{"op": "replace", "path": "title", "value": "Senior Engineer"}]


async def test_a_command_that_comes_twice_is_done_once(connector: Connector, application: Application) -> None:
    commands = await connector.office.wants("ada")
    await connector.take(*commands)
    await connector.converged()
    await connector.take(*commands, *commands)
    await connector.converged()
    assert application.made() == ["POST /Users"]


async def test_ten_revisions_cost_one_call(
    connector: Connector, application: Application, clock: SimulatedClock
) -> None:
    application.faults("POST", Response(429, b"", ((b"retry-after", b"60"),)))
    await connector.converge("opener")
    commands = [command for number in range(10) for command in await connector.office.wants("ada", title=f"T{number}")]
    await connector.take(*commands)
    application.calls.clear()
    clock.advance_to(NOW + timedelta(seconds=61))
    await connector.converged()
    assert application.made() == ["POST /Users"]
    user = await application.user("ada")
    assert user is not None
    assert user["title"] == "T9"
    superseded = await connector.recorded("command_superseded", person_id="ada")
    assert [one["revision"] for one in superseded] == list(range(1, 10))
    assert [one["revision"] for one in await connector.recorded("command_applied", person_id="ada")] == [10]


async def test_an_older_revision_is_never_applied_over_a_newer_one(
    connector: Connector, application: Application, office: Office
) -> None:
    await connector.converge("ada")
    older = await office.wants("ada", title="Senior Engineer")
    newer = await office.wants("ada", state="inactive")
    await connector.take(*newer)
    await connector.converged()
    application.calls.clear()
    await connector.take(*older)
    await connector.converged()
    assert application.made() == []
    assert await application.active("ada") is False


# --- nobody knows what happened --------------------------------------------------------------------------------------


async def test_a_create_that_took_effect_and_timed_out_is_found_and_not_repeated(
    connector: Connector, application: Application, office: Office
) -> None:
    application.faults("POST", application.silence_after)
    await connector.converge("ada", groups=["staff"])
    assert application.made().count("POST /Users") == 1
    assert await application.active("ada") is True
    assert await application.members("staff") == {"ada"}
    assert is_applied(await office.progress("ada"), 1)


async def test_a_staged_account_whose_create_timed_out_is_found_and_stays_closed(
    connector: Connector, application: Application, office: Office
) -> None:
    application.faults("POST", application.silence_after)
    await connector.converge("ada", state="staged")
    assert application.made().count("POST /Users") == 1
    assert await application.active("ada") is False
    assert is_applied(await office.progress("ada"), 1)


async def test_an_application_that_opens_what_is_to_be_staged_is_told_to_close_it(
    connector: Connector, application: Application
) -> None:
    async def open_it(request: Request) -> Response | None:
        if request.method == "POST" and b'"active":false' in request.body:
            return application.plain.handle(request._replace(body=request.body.replace(b"false", b"true")))
        return None

    application.behave = open_it
    await connector.converge("ada", state="staged")
    assert await application.active("ada") is False


async def test_a_create_that_timed_out_without_effect_is_looked_for_and_tried_again(
    connector: Connector, application: Application, office: Office
) -> None:
    application.faults("POST", application.silence)
    await connector.converge("ada")
    assert application.made() == ["POST /Users", "GET /Users", "GET /Users"]
    progress = await office.progress("ada")
    assert (progress.status, progress.error_code) == (AccountStatus.RETRYING, "ambiguous")
    application.calls.clear()
    await connector.wait(10)
    assert application.made()[:3] == ["GET /Users", "GET /Users", "POST /Users"]
    assert await application.active("ada") is True


async def test_a_change_that_took_effect_and_timed_out_is_not_sent_again(
    connector: Connector, application: Application, office: Office
) -> None:
    await connector.converge("ada")
    application.calls.clear()
    application.faults("PATCH", application.silence_after)
    await connector.converge("ada", title="Senior Engineer")
    assert application.made() == ["PATCH /Users", "GET /Users"]
    assert is_applied(await office.progress("ada"), 2)


async def test_a_change_that_timed_out_without_effect_is_sent_again(
    connector: Connector, application: Application
) -> None:
    await connector.converge("ada")
    application.calls.clear()
    application.faults("PATCH", application.silence)
    await connector.converge("ada", state="inactive")
    assert application.made() == ["PATCH /Users", "GET /Users", "PATCH /Users", "GET /Users"]
    assert await application.active("ada") is False


async def test_a_create_that_took_effect_and_failed_is_not_forgotten_by_the_leaver(
    connector: Connector, application: Application
) -> None:
    """An application may have done what it answers with 500 to: who leaves before the retry must not stay in."""
    application.faults("POST", application.failure_after)
    await connector.converge("ada")
    await connector.converge("ada", state="inactive")
    assert await application.active("ada") is False
    assert application.made().count("POST /Users") == 1


async def test_a_deactivation_that_took_effect_and_failed_does_not_lock_out_who_returns(
    connector: Connector, application: Application
) -> None:
    await connector.converge("ada")
    application.faults("PATCH", application.failure_after)
    await connector.converge("ada", state="inactive")
    await connector.converge("ada", state="active")
    assert await application.active("ada") is True


async def test_a_404_is_no_success_that_was_denied(connector: Connector, application: Application) -> None:
    await connector.converge("ada")
    application.faults("PATCH", Response(200, b"{}"), Response(200, b"{}"), Response(404, b"{}"))
    await connector.converge("ada", state="inactive")
    assert await application.active("ada") is False


async def test_an_open_intent_of_a_dead_process_is_read_back_first(
    connector: Connector, application: Application, office: Office
) -> None:
    """It had created the account and could not say so any more."""
    commands = await office.wants("ada")
    await office.leaves_open("ada")
    theirs = await application.put_in(**resource("ada"))
    await connector.take(*commands)
    await connector.converged()
    assert application.made() == ["GET /Users"]
    user = await application.user("ada")
    assert user is not None
    assert user["id"] == theirs
    progress = await office.progress("ada")
    assert progress.applied_revision == 1
    assert progress.intent is not None
    assert progress.intent.startswith(RECHECK), "its call may still arrive"
    application.calls.clear()
    await connector.wait(OPEN_INTENT.total_seconds() + 1)
    assert application.made() == ["GET /Users"]
    assert is_applied(await office.progress("ada"), 1)
    assert await connector.recorded("account_verified", person_id="ada")


async def test_a_late_create_of_a_dead_process_never_outlives_a_deactivation(
    connector: Connector, application: Application, office: Office
) -> None:
    """Its call stood in some queue: the leaver was out already when the account came into being."""
    await office.wants("ada")
    await office.leaves_open("ada")
    await connector.converge("ada", state="inactive")
    assert await application.user("ada") is None
    assert (await office.progress("ada")).applied_revision == 2
    await application.put_in(**resource("ada"))
    await connector.wait(OPEN_INTENT.total_seconds() + 1)
    assert await application.active("ada") is False
    assert is_applied(await office.progress("ada"), 2)


async def test_a_further_command_does_not_shorten_the_wait_for_a_late_call(
    connector: Connector, application: Application, office: Office
) -> None:
    commands = await office.wants("ada")
    await office.leaves_open("ada")
    application.faults("POST", Response(400, b"{}", JSON))
    await connector.take(*commands)
    await connector.converged()
    await connector.converge("ada", state="inactive")
    await application.put_in(**resource("ada"))
    await connector.wait(OPEN_INTENT.total_seconds() + 1)
    assert await application.active("ada") is False


async def test_an_open_intent_stays_open_until_a_read_succeeds(
    connector: Connector, application: Application, office: Office
) -> None:
    """A leaver whose create was in flight: without the look nobody knows that there is an account to close."""
    await office.wants("ada")
    await office.leaves_open("ada")
    await application.put_in(**resource("ada"))
    application.faults("GET", Response(503))
    await connector.converge("ada", state="inactive")
    assert await application.active("ada") is True
    assert (await office.progress("ada")).status is AccountStatus.RETRYING
    await connector.wait(10)
    assert await application.active("ada") is False


async def test_a_recheck_that_fails_is_made_up_for(
    connector: Connector, application: Application, office: Office
) -> None:
    await office.wants("ada")
    await office.leaves_open("ada")
    await connector.converge("ada", state="inactive")
    await application.put_in(**resource("ada"))
    application.faults("GET", Response(503))
    await connector.wait(OPEN_INTENT.total_seconds() + 1)
    assert await application.active("ada") is True
    await connector.wait(10)
    assert await application.active("ada") is False
    await connector.wait(OPEN_INTENT.total_seconds() + 1)
    assert is_applied(await office.progress("ada"), 2)
    assert await office.attention_at("ada") is None


async def test_a_lost_race_is_read_back_and_converged_at_once(
    connector: Connector, application: Application, office: Office, clock: SimulatedClock
) -> None:
    """A create is under way when another process, which has got the account meanwhile, finds nothing and is done."""
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        arrived.set()
        await answer.wait()
        return application.plain.handle(request)

    application.faults("POST", slow)
    async with Connector(office, application.base_url, clock, timeout=15).running() as slower:
        await slower.take(*await office.wants("ada"))
        await arrived.wait()
        await connector.take(*await office.wants("ada", state="inactive"))
        clock.advance_to(clock.now() + timedelta(seconds=LEASE_SECONDS + 1))  # until then the other one may call
        await connector.converged()
        assert await application.user("ada") is None
        answer.set()
        await slower.converged()
    assert await application.active("ada") is False
    assert (await office.progress("ada")).applied_revision == 2


async def test_groups_of_a_dead_process_are_left(
    connector: Connector, application: Application, office: Office
) -> None:
    """It had put the account into a group and could not say so; the next revision does not know that group."""
    await connector.converge("ada")
    application.faults("PATCH", application.silence_after, application.silence_after, path="/Groups")
    await connector.converge("ada", groups=["secret"])
    assert await application.members("secret") == {"ada"}
    application.behave = None
    await connector.converge("ada", state="inactive")
    assert await application.members("secret") == set()
    assert await application.active("ada") is False


async def test_a_leaver_stays_in_the_groups_that_the_policy_leaves(
    connector: Connector, application: Application, office: Office
) -> None:
    await connector.converge("ada", groups=["alumni", "staff"])
    await connector.converge("ada", state="inactive", groups=["alumni"])
    assert await application.active("ada") is False
    assert (await application.members("alumni"), await application.members("staff")) == ({"ada"}, set())


async def test_a_group_that_failed_beside_one_that_did_not_is_made_up_for(
    connector: Connector, application: Application, office: Office
) -> None:
    await connector.converge("ada", "bea", groups=["a", "b"])

    async def second_fails(request: Request) -> Response | None:
        if request.method != "PATCH" or request.path != f"/Groups/{group_b}":
            return None
        return Response(503)

    group_b = next(one["id"] for one in await application.all("Groups") if one["displayName"] == "b")
    application.behave = second_fails
    await connector.converge("ada", groups=[])
    application.behave = None
    await connector.converge("ada", groups=["a"])
    await connector.wait(10)
    assert await application.members("a") == {"ada", "bea"}
    assert await application.members("b") == {"bea"}


# --- the application has trouble -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503])
async def test_a_server_error_becomes_a_retry_that_the_relay_issues(
    connector: Connector, application: Application, office: Office, status: int
) -> None:
    application.faults("POST", Response(status))
    await connector.converge("ada")
    progress = await office.progress("ada")
    assert (progress.status, progress.error_code, progress.attempts) == (AccountStatus.RETRYING, "unavailable", 1)
    due = await office.attention_at("ada")
    assert due is not None
    assert NOW < due <= NOW + timedelta(seconds=2)
    assert await connector.sweep() == 0, "not before its time"
    await connector.wait(2)
    assert await application.active("ada") is True
    assert is_applied(await office.progress("ada"), 1)
    assert await office.attention_at("ada") is None


@pytest.mark.parametrize("value", [b"30", b"Mon, 02 Mar 2026 08:15:30 GMT"], ids=["seconds", "date"])
async def test_no_call_goes_out_before_the_application_allows_it(
    connector: Connector, application: Application, clock: SimulatedClock, value: bytes
) -> None:
    application.faults("POST", Response(429, b"", ((b"retry-after", value),)))
    await connector.converge("ada")
    assert application.made() == ["POST /Users"]
    await connector.take(*await connector.office.wants("bea", "cyd"))
    clock.advance_to(NOW + timedelta(seconds=29))
    await connector.relay.sweep()
    await asyncio.sleep(0.1)  # nothing may happen, for which one can only wait
    assert application.made() == ["POST /Users"]
    clock.advance_to(NOW + timedelta(seconds=30))
    await connector.converged()
    await connector.wait(5)
    assert {one["externalId"] for one in await application.all("Users")} == {"ada", "bea", "cyd"}


async def test_a_restart_waits_for_the_same_instant(
    office: Office, application: Application, clock: SimulatedClock
) -> None:
    application.faults("POST", Response(429, b"", ((b"retry-after", b"30"),)))
    async with Connector(office, application.base_url, clock).running() as first:
        await first.converge("ada")
    async with Connector(office, application.base_url, clock).running() as second:
        await second.take(*await office.wants("bea"))
        await asyncio.sleep(0.1)  # nothing may happen, for which one can only wait
        assert application.made() == ["POST /Users"]
        clock.advance_to(NOW + timedelta(seconds=30))
        await second.converged()
        assert await application.active("bea") is True


async def test_a_process_ends_in_time_while_the_application_asks_for_an_hour(
    office: Office, application: Application, clock: SimulatedClock
) -> None:
    application.faults("POST", Response(429, b"", ((b"retry-after", b"3600"),)))
    async with asyncio.timeout(account_queues.DRAIN_SECONDS / 3):
        async with Connector(office, application.base_url, clock).running() as connector:
            await connector.converge("ada")
            await connector.take(*await office.wants("bea"))
            while (await office.progress("bea")).intent is None:
                await asyncio.sleep(0.01)


async def test_refused_credentials_pause_the_lane_and_park_nobody(
    connector: Connector, application: Application, office: Office
) -> None:
    refused = True

    async def behave(request: Request) -> Response | None:
        return Response(401) if refused else None

    application.behave = behave
    await connector.take(*await office.wants(*(f"p{number}" for number in range(20))))
    await until(lambda: connector.lanes.health.state == "paused")
    await until(lambda: application.made().count("GET /Users") >= 2)
    assert len(application.made()) < 20
    refused = False
    await connector.converged()
    assert len(await application.all("Users")) == 20
    status = await SqlOperatorStore(office.database).status()
    assert status.accounts == {"crm": {"applied": 20}}
    assert status.health["crm"].state == "open"
    assert len(await connector.recorded("application_paused")) == len(await connector.recorded("application_resumed"))


async def test_an_application_that_is_down_pauses_the_lane_and_comes_back(
    office: Office, clock: SimulatedClock
) -> None:
    application = Application()
    async with application.served():
        base_url = application.base_url
    async with Connector(office, base_url, clock).running() as connector:
        await connector.take(*await office.wants("ada", "bea"))
        await until(lambda: connector.lanes.health.state == "paused")
        async with application.served(port=httpx.URL(base_url).port or 0):
            await connector.converged()
            assert len(await application.all("Users")) == 2
    assert (await SqlOperatorStore(office.database).status()).parked_leavers == {}


async def test_operators_see_it_open_again_when_it_was_paused_before_a_restart(
    office: Office, application: Application, clock: SimulatedClock
) -> None:
    connector = Connector(office, application.base_url, clock)
    paused = ApplicationHealth("paused", "the application refuses our credentials (401)", NOW)
    await SqlConvergeStore(office.database).save_health("crm", paused)
    async with connector.running():
        assert connector.lanes.health.state == "paused"
        await connector.converge("ada")
        assert connector.lanes.health.state == "open"
    assert (await SqlOperatorStore(office.database).status()).health["crm"].state == "open"


async def says_yes(request: Request) -> Response | None:
    """Answers every change with success, and changes nothing."""
    return Response(200, b"{}", JSON) if request.method == "PATCH" else None


async def test_a_yes_without_effect_is_tried_again_before_it_parks_a_leaver_and_alarms(
    connector: Connector, application: Application, office: Office
) -> None:
    await connector.converge("ada")
    application.behave = says_yes
    await connector.converge("ada", state="inactive")
    for attempt in (1, 2):
        progress = await office.progress("ada")
        assert (progress.status, progress.attempts) == (AccountStatus.RETRYING, attempt)
        assert await SqlOperatorStore(office.database).parked() == []
        await connector.wait(10)
    assert await application.active("ada") is True
    progress = await office.progress("ada")
    assert (progress.status, progress.error_code) == (AccountStatus.PARKED, "not_effective")
    (parked,) = await SqlOperatorStore(office.database).parked()
    assert parked.leaver
    (entry,) = await connector.recorded("command_parked", person_id="ada")
    assert entry["details"]["leaver"] is True
    assert (await SqlOperatorStore(office.database).status()).parked_leavers == {"crm": 1}


async def test_a_replica_that_is_seconds_behind_is_no_false_alarm(
    connector: Connector, application: Application, office: Office
) -> None:
    await connector.converge("ada")
    application.behave = says_yes
    await connector.converge("ada", state="inactive")
    application.behave = None
    await connector.wait(10)
    assert (await office.progress("ada")).status is AccountStatus.APPLIED
    await connector.wait(OPEN_INTENT.total_seconds())
    assert is_applied(await office.progress("ada"), 2)
    assert await application.active("ada") is False
    assert await connector.recorded("command_parked") == []


async def test_attempts_that_failed_otherwise_do_not_count_as_denials(
    connector: Connector, application: Application, office: Office
) -> None:
    await connector.converge("ada")
    application.faults("PATCH", *[Response(503, b"{}", JSON)] * 3)
    await connector.converge("ada", state="inactive")
    for _ in range(2):
        await connector.wait(60)
    assert (await office.progress("ada")).attempts == 3
    application.behave = says_yes
    await connector.wait(60)
    assert (await office.progress("ada")).status is AccountStatus.RETRYING


async def test_a_parked_leaver_is_tried_again_for_ever_and_out_in_the_end(
    connector: Connector, application: Application, office: Office
) -> None:
    """Each attempt is evidence, and until one succeeds the alarm stands."""
    await connector.converge("ada")

    async def refuses(request: Request) -> Response | None:
        return Response(400, b'{"scimType":"mutability"}', JSON) if request.method == "PATCH" else None

    application.behave = refuses
    await connector.converge("ada", state="inactive")
    for _ in range(3):
        due = await office.attention_at("ada")
        assert due is not None
        assert timedelta(minutes=30) <= due - connector.clock.now() <= timedelta(hours=1)
        await connector.wait(3600)
        assert (await SqlOperatorStore(office.database).status()).parked_leavers == {"crm": 1}
    entries = await connector.recorded("command_parked", person_id="ada")
    assert [one["details"]["attempts"] for one in entries] == [1, 2, 3, 4]
    application.behave = None
    await connector.wait(3600)
    assert is_applied(await office.progress("ada"), 2)
    assert await application.active("ada") is False
    assert await office.attention_at("ada") is None


async def test_a_refused_account_is_parked_until_a_newer_revision(
    connector: Connector, application: Application, office: Office
) -> None:
    application.faults("POST", Response(400, b'{"scimType":"invalidValue"}', JSON))
    await connector.converge("ada", "bea")
    states = sorted([(await office.progress(person)).status for person in ("ada", "bea")])
    assert states == [AccountStatus.APPLIED, AccountStatus.PARKED], "one account is to blame, and no other"
    await connector.wait(3600)
    assert len(await application.all("Users")) == 1
    await connector.converge("ada", "bea", title="Senior Engineer")
    assert len(await application.all("Users")) == 2


async def test_an_application_that_contradicts_itself_is_not_asked_for_ever(
    connector: Connector, application: Application, office: Office
) -> None:
    """It says the account exists, shows it, and does not know it when it is to be changed."""
    await application.put_in(userName="ada@example.com", externalId="ada")

    async def contradicts(request: Request) -> Response | None:
        return Response(404, b"{}", JSON) if request.method == "PATCH" else None

    application.behave = contradicts
    await connector.converge("ada")
    assert len(application.calls) < 10
    assert (await office.progress("ada")).status is AccountStatus.PARKED


@pytest.mark.parametrize("status", [200, 404])
async def test_a_log_in_page_never_means_that_a_leaver_is_out(
    connector: Connector, application: Application, office: Office, status: int
) -> None:
    await connector.converge("ada")

    async def page(request: Request) -> Response | None:
        return Response(status, PAGE, HTML)

    application.behave = page
    await connector.converge("ada", state="inactive")
    assert (await office.progress("ada")).applied_revision == 1
    application.behave = None
    await connector.wait(10)
    assert await application.active("ada") is False
    assert (await office.progress("ada")).applied_revision == 2


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"detail":"try later"}'], ids=["empty", "list", "{}", "no id"])
async def test_an_answer_without_an_account_never_means_that_a_leaver_is_out(
    connector: Connector, application: Application, office: Office, body: bytes
) -> None:
    await connector.converge("ada")

    async def empty(request: Request) -> Response | None:
        return Response(200, body, JSON)

    application.behave = empty
    await connector.converge("ada", state="inactive")
    assert (await office.progress("ada")).applied_revision == 1
    application.behave = None
    await connector.wait(10)
    assert await application.active("ada") is False


async def test_an_error_page_is_an_error(connector: Connector, application: Application, office: Office) -> None:
    application.faults("POST", Response(502, PAGE, HTML))
    await connector.converge("ada")
    progress = await office.progress("ada")
    assert (progress.status, progress.error_code) == (AccountStatus.RETRYING, "unavailable")
    assert "log in" not in str(progress.error)
    await connector.wait(2)
    assert await application.active("ada") is True


async def test_a_redirect_is_not_followed(connector: Connector, application: Application, office: Office) -> None:
    async with Application().served() as other:
        location = (b"location", f"{other.base_url}/Users".encode())
        application.faults("POST", Response(307, b"", (location,)))
        await connector.converge("ada")
        assert other.calls == []
    assert await application.active("ada") is True, "it was a passing mistake of a proxy: the probe found it gone"
    assert "redirects" in (await connector.recorded("application_paused"))[0]["details"]["reason"]


async def test_an_answer_without_end_is_given_up(
    connector: Connector, application: Application, office: Office
) -> None:
    async def flood(request: Request) -> Response:
        application.plain.handle(request)
        return Response(201, b'{"id":"' + b"x" * (50 << 20) + b'"}', JSON)

    application.faults("POST", flood)
    await connector.converge("ada")
    assert application.made().count("POST /Users") == 1
    assert await application.active("ada") is True
    assert is_applied(await office.progress("ada"), 1)


async def test_a_connection_that_breaks_within_the_answer_is_settled_by_reading(
    application: Application, office: Office, clock: SimulatedClock
) -> None:
    async with (
        Wire(application.base_url).served() as wire,
        Connector(office, wire.base_url, clock).running() as connector,
    ):
        wire.cut("POST", after=400)
        await connector.converge("ada")
        assert application.made() == ["POST /Users", "GET /Users"]
        assert await application.active("ada") is True
        assert is_applied(await office.progress("ada"), 1)


async def test_a_connection_that_breaks_before_the_answer_is_settled_by_reading(
    application: Application, office: Office, clock: SimulatedClock
) -> None:
    async with (
        Wire(application.base_url).served() as wire,
        Connector(office, wire.base_url, clock).running() as connector,
    ):
        wire.cut("POST", after=0)
        await connector.converge("ada")
        assert await application.active("ada") is True
        assert application.made() == ["POST /Users", "GET /Users"]
        assert await connector.recorded("application_paused") == []


async def test_an_answer_that_is_no_http_is_the_applications_fault(office: Office, clock: SimulatedClock) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/scim/v2"
    async with server, Connector(office, base_url, clock).running() as connector:
        await connector.converge("ada")
    assert (await office.progress("ada")).status is AccountStatus.RETRYING


async def test_a_correlation_id_cannot_break_the_call(
    connector: Connector, application: Application, office: Office
) -> None:
    """It is text from outside: the id of an event, or what its source says belongs together."""
    await connector.converge("ada", correlation_id="case-1\r\nx-admin: yes")
    assert await application.active("ada") is True


async def test_an_id_with_a_meaning_in_urls_is_escaped(
    connector: Connector, application: Application, office: Office
) -> None:
    """Ids are the application's own text."""
    odd = "../Groups/a?b#c d"

    async def renamed(request: Request) -> Response:
        answer = application.plain.handle(request)
        return Response(201, orjson.dumps({**orjson.loads(answer.body), "id": odd}), JSON)

    application.faults("POST", renamed)
    await connector.converge("ada")
    assert (await office.progress("ada")).remote_id == odd
    await connector.converge("ada", title="Senior Engineer")
    assert application.calls[-1].path == f"/Users/{odd}" or application.calls[1].path == f"/Users/{odd}"


# --- who waits for whom ----------------------------------------------------------------------------------------------


async def test_a_leaver_overtakes_two_thousand_joiners(
    connector: Connector, application: Application, office: Office
) -> None:
    await connector.converge("leaver")
    joiners = await office.wants(*(f"p{number}" for number in range(2000)))
    leaver = await office.wants("leaver", state="inactive")
    await connector.take(*joiners)
    await until(lambda: len(application.calls) >= 20)
    before = len(application.calls)
    await connector.take(*leaver)
    await until(lambda: any(call.method == "PATCH" for call in application.calls))
    overtaken_by = next(index for index, call in enumerate(application.calls) if call.method == "PATCH") - before
    assert overtaken_by < 50, f"{overtaken_by} joiners went first"
    assert await application.active("leaver") is False
    assert connector.lanes.queues.pending > 1500


async def test_a_slow_application_does_not_delay_another(
    connector: Connector, application: Application, database: Database, clock: SimulatedClock
) -> None:
    async with Application().served() as slow_application:
        slow_application.faults("POST", *[slow_application.silence] * 100)
        elsewhere = Office(database, "slow")
        async with Connector(elsewhere, slow_application.base_url, clock, timeout=20).running() as slow:
            await slow.take(*await elsewhere.wants(*(f"p{number}" for number in range(50))))
            await until(lambda: slow_application.calls)
            async with asyncio.timeout(10):
                await connector.converge(*(f"p{number}" for number in range(50)))
            assert len(await application.all("Users")) == 50
            assert slow.lanes.queues.pending == 50
            for task in asyncio.all_tasks():
                if task.get_name().startswith("account "):
                    task.cancel()


async def test_standing_in_line_before_a_slow_application_costs_no_call(
    application: Application, office: Office, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits in line for longer than the lease lasts says once more what it intends, and goes on."""
    monkeypatch.setattr(converge_module, "LEASE_SECONDS", 0.05)

    async def slow(request: Request) -> Response | None:
        await asyncio.sleep(0.03)
        return None

    application.behave = slow
    async with (
        asyncio.timeout(20),
        Connector(office, application.base_url, clock, concurrency=1, timeout=5).running() as connector,
    ):
        await connector.converge(*(f"p{number}" for number in range(20)), groups=["staff"])
    assert application.made().count("POST /Users") == 20
    assert application.made().count("GET /Users") == 0
    assert await application.members("staff") == {f"p{number}" for number in range(20)}


async def test_a_store_that_is_down_costs_time_and_nothing_else(
    connector: Connector, application: Application, office: Office
) -> None:
    """SQLite is locked by somebody, PostgreSQL ends every connection: the connector waits."""
    people = [f"p{number}" for number in range(30)]
    commands = await office.wants(*people, groups=["staff"])
    await connector.take(*commands)
    for _ in range(5):
        await until(lambda: len(application.calls) > 0)
        await office.database.close()
        await asyncio.sleep(0.01)
    await connector.converged()
    assert await application.members("staff") == set(people)
    assert application.made().count("POST /Users") == 30


async def test_audit_numbers_have_no_gaps_and_every_revision_ends_once(
    connector: Connector, application: Application, office: Office
) -> None:
    application.faults("POST", Response(503), Response(400, b"{}", JSON), application.silence)
    people = [f"p{number}" for number in range(10)]
    await connector.converge(*people, groups=["staff"])
    await connector.converge(*people[:5], title="Senior Engineer")
    await connector.converge(*people[:3], state="inactive")
    await connector.wait(10)
    await connector.recorded("")
    numbers = [one["sequence"] for one in connector.audit]
    assert numbers == list(range(1, len(numbers) + 1))
    ends = [
        (one["person_id"], one["revision"])
        for one in await told(office.database, connector.audit)
        if one["kind"] in ("command_applied", "command_superseded")
    ]
    assert len(ends) == len(set(ends))
    parked = [person for person in people if (await office.progress(person)).status is AccountStatus.PARKED]
    expected = {
        (person, revision)
        for person in people
        for revision in range(1, office.accounts[person].revision + 1)
        if person not in parked
    }
    assert set(ends) >= expected
