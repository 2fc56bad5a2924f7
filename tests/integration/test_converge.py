"""Accounts as the applications hold them: the least that is needed, who waits for whom, and what was told in the end.

The real lanes over a real store, HTTP on loopback. The witness is the application: its state is read back from it, and
its own list of calls says what it was asked.
"""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.demo.servers.plain import Request, Response
from orchestrator.domain.account import AccountStatus
from orchestrator.flows import converge as converge_module
from orchestrator.flows import group_commit
from tests.integration.application import JSON, Application
from tests.integration.connector import NOW, Connector, Office, until
from tests.subjects import told

pytestmark = pytest.mark.usefixtures("quick_probes")


def operations(request: Request) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = orjson.loads(request.body)["Operations"]
    return listed


# --- the least that is needed ----------------------------------------------------------------------------------------


async def test_a_patch_holds_what_changed_and_nothing_else(connector: Connector, application: Application) -> None:
    await connector.converge("ada")
    await connector.converge("ada", title="Senior Engineer")
    assert application.made() == ["POST /Users", "PATCH /Users"]
    assert operations(application.calls[-1]) == [{"op": "replace", "path": "title", "value": "Senior Engineer"}]


async def test_a_change_within_what_somebody_took_away_is_made_after_a_look(
    connector: Connector, application: Application, office: Office
) -> None:
    """`emails[type eq "work"].value` leads nowhere any more: 400 noTarget (RFC 7644, section 3.5.2.3)."""
    await connector.converge("ada")
    user = await application.user("ada")
    assert user is not None
    emptied = {name: value for name, value in user.items() if name != "emails"}
    application.plain.directory.users.save(emptied, "")
    await connector.converge("ada", emails=[{"value": "new@example.com", "type": "work"}])
    assert application.made() == ["POST /Users", "PATCH /Users", "GET /Users", "PATCH /Users"]
    user = await application.user("ada")
    assert user is not None
    assert user["emails"] == [{"value": "new@example.com", "type": "work"}]
    assert (await office.progress("ada")).status is AccountStatus.APPLIED


async def test_a_change_that_is_refused_is_not_sent_twice(
    connector: Connector, application: Application, office: Office
) -> None:
    """A look tells that what we knew was right: then it is the value that is refused."""
    await connector.converge("ada")
    application.faults("PATCH", Response(400, b'{"scimType": "invalidValue"}', JSON))
    await connector.converge("ada", title="No such title")
    assert application.made() == ["POST /Users", "PATCH /Users", "GET /Users"]
    progress = await office.progress("ada")
    assert (progress.status, progress.error_code) == (AccountStatus.PARKED, "rejected")
    assert "400 invalidValue" in str(progress.error)


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


async def test_a_leaver_is_saved_without_waiting_for_the_company_of_joiners(
    connector: Connector, application: Application, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connector.converge("leaver")
    monkeypatch.setattr(group_commit, "LINGER_SECONDS", 60.0)
    joiners = await office.wants(*(f"p{number}" for number in range(group_commit.BUSY_ROWS)))
    leaver = await office.wants("leaver", state="inactive")
    async with asyncio.timeout(20):
        await connector.take(*joiners)
        await until(lambda: application.made().count("POST /Users") == len(joiners) + 1)
        await connector.take(*leaver)
        await connector.converged()
    assert await application.active("leaver") is False


async def test_a_slow_application_does_not_delay_another(
    connector: Connector, application: Application, database: Database, clock: SimulatedClock
) -> None:
    answer = asyncio.Event()

    async def slowly(request: Request) -> Response | None:
        await answer.wait()
        return None

    async with Application().served() as slow_application:
        slow_application.behave = slowly
        elsewhere = Office(database, "slow")
        async with Connector(elsewhere, slow_application.base_url, clock, timeout=20).running() as slow:
            await slow.take(*await elsewhere.wants(*(f"p{number}" for number in range(50))))
            await until(lambda: slow_application.calls)
            async with asyncio.timeout(10):
                await connector.converge(*(f"p{number}" for number in range(50)))
            assert len(await application.all("Users")) == 50
            assert slow.lanes.queues.pending == 50
            answer.set()


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
