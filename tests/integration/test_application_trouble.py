"""The application has trouble: it fails, refuses, asks for time, is down, or says yes and does nothing."""

import asyncio
from datetime import timedelta

import httpx
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.converging import SqlConvergeStore
from orchestrator.adapters.sql.operating import SqlOperatorStore
from orchestrator.demo.servers.plain import Request, Response
from orchestrator.domain.account import AccountStatus
from orchestrator.domain.intent import OPEN_INTENT
from orchestrator.flows import account_queues
from orchestrator.ports import ApplicationHealth
from tests.integration.application import JSON, Application
from tests.integration.connector import NOW, Connector, Office, is_applied, until

pytestmark = pytest.mark.usefixtures("quick_probes")


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
