"""Bulk over HTTP, against the server `plain`, one that speaks SCIM 1.1, and SCIMMY: what is there at the end is read by
separate GETs, and how many requests it took is counted by the server or on the wire."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.adapters.scim_http import HttpScimTransport
from orchestrator.adapters.sql.engine import Database
from orchestrator.demo.servers.bulk import Bulk
from orchestrator.demo.servers.habits import Habits
from orchestrator.demo.servers.plain import Behave, Plain, Request, Response
from orchestrator.demo.servers.vendor import Vendor
from orchestrator.domain.budget import Limit
from orchestrator.ports import ScimRequest, ScimResponse
from tests.integration.application import TOKEN, TOKEN_ENV, Application, Held
from tests.integration.connector import NOW, Connector, Office, is_applied, until
from tests.services.scimmy import node_is_there, scimmy

# One kind is enough here: what the stores do is tried elsewhere, on both.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PEOPLE = [f"p{number:02}" for number in range(24)]
LIMIT = Limit("any", 80, 1.0, 1)


@asynccontextmanager
async def connected(
    database: Database, make: Callable[[Behave], Plain] = lambda behave: Plain(behave=behave), **settings: Any
) -> AsyncIterator[tuple[Application, Connector]]:
    """A connector that uses Bulk, and few calls."""
    async with Application(make).served() as application:
        settings = {"discover": True, "bulk": True, "limits": [LIMIT], "timeout": 2.0, **settings}
        connector = Connector(Office(database), application.base_url, SimulatedClock(NOW), **settings)
        async with connector.running():
            yield application, connector


def with_bulk(bulk: Bulk, behave: Behave) -> Plain:
    return Plain(behave=behave, bulk=bulk)


def operations(application: Application) -> list[int]:
    """Of each Bulk request."""
    return [len(orjson.loads(call.body)["Operations"]) for call in application.calls if call.path == "/Bulk"]


async def everybody_is_in(application: Held, connector: Connector, *, title: str = "Engineer") -> None:
    """One account each, as it should be, by the server and by our record."""
    users = await application.all("Users")
    assert sorted(user["externalId"] for user in users) == PEOPLE
    assert {(user["active"], user["title"]) for user in users} == {(True, title)}
    for person in PEOPLE:
        progress = await connector.office.progress(person)
        assert progress.error is None
        assert progress.remote_id == next(user["id"] for user in users if user["externalId"] == person)


async def test_joiners_and_movers_cost_fewer_requests_than_they_are(database: Database) -> None:
    async with connected(database) as (application, connector):
        await connector.converge(*PEOPLE)
        writes = [call for call in application.calls if call.method != "GET"]
        assert len(writes) < len(PEOPLE) / 3
        await everybody_is_in(application, connector)
        application.calls.clear()
        await connector.converge(*PEOPLE, title="Manager")
        assert len(application.calls) < len(PEOPLE) / 3
        await everybody_is_in(application, connector, title="Manager")
        applied = await connector.recorded("command_applied")
        intended = await connector.recorded("call_intended")
        assert len(applied) == len(intended) == 2 * len(PEOPLE)
        calls = [call for one in applied for call in one["details"]["calls"]]
        assert sorted({tuple(call) for call in calls}, key=str) == [
            ("PATCH", "/Users/{account}", "bulk", 200),
            ("PATCH", "/Users/{account}", 200),
            ("POST", "/Users", "bulk", 201),
            ("POST", "/Users", 201),
        ]


@pytest.mark.parametrize(
    "make",
    [
        partial(with_bulk, Bulk(operations=5, status="object", bodies=False)),
        partial(with_bulk, Bulk(size=2000, status="number")),
        lambda behave: Vendor(Habits("x", "", etags=True, user_patch=False, bulk=Bulk()), behave=behave),
    ],
    ids=["no-bodies", "small-payload", "etags-and-put"],
)
async def test_whatever_it_allows_and_however_it_answers(database: Database, make: Callable[[Behave], Plain]) -> None:
    async with connected(database, make) as (application, connector):
        await connector.converge(*PEOPLE)
        await everybody_is_in(application, connector)
        await connector.converge(*PEOPLE, title="Manager")
        await everybody_is_in(application, connector, title="Manager")
        bulk = application.plain.bulk
        assert bulk is not None
        assert 2 <= max(operations(application)) <= bulk.operations
        assert all(len(call.body) <= bulk.size for call in application.calls)


async def test_bulk_of_scim_1_1(database: Database) -> None:
    def make(behave: Behave) -> Vendor:
        return Vendor(Habits("x", "", version="1.1", bulk=Bulk()), behave=behave)

    async with connected(database, make, dialect="standard-1.1") as (application, connector):
        await connector.converge(*PEOPLE)
        assert sum(operations(application)) > len(PEOPLE) / 2
        users = application.plain.directory.users.rows.values()
        assert sorted(user["externalId"] for user in users) == PEOPLE
        await connector.converge(*PEOPLE, title="Manager")
        assert {user["title"] for user in users} == {"Manager"}
        assert len({one["id"] for one in users}) == len(PEOPLE)


async def test_one_who_is_there_already_one_who_is_gone_and_one_who_is_refused(database: Database) -> None:
    async with connected(database) as (application, connector):
        await connector.converge(*PEOPLE[2:])
        await application.take_out(PEOPLE[5])
        theirs = await application.put_in(userName=f"{PEOPLE[0]}@example.com", externalId=PEOPLE[0])
        application.calls.clear()

        def judged(request: Request) -> Response | None:
            if request.path != "/Users" or b'"p01"' not in request.body:
                return None
            return Response(400, b'{"status": "400", "scimType": "invalidValue"}')

        handle = application.plain.handle
        application.plain.handle = lambda request: judged(request) or handle(request)  # type: ignore[method-assign]
        await connector.converge(*PEOPLE, title="Manager")
        assert operations(application)
        users = await application.all("Users")
        assert sorted(user["externalId"] for user in users) == [one for one in PEOPLE if one != PEOPLE[1]]
        assert {user["title"] for user in users} == {"Manager"}
        assert (await connector.office.progress(PEOPLE[0])).remote_id == theirs
        assert (await connector.office.progress(PEOPLE[1])).error_code == "rejected"


async def failing(application: Application, *answers: Any) -> None:
    application.faults("POST", *answers, path="/Bulk")


@pytest.mark.parametrize("status", [413, 501, 404, 400])
async def test_a_request_that_is_refused_as_a_whole_costs_nobody_anything(database: Database, status: int) -> None:
    async with connected(database) as (application, connector):
        await failing(application, Response(status))
        await connector.converge(*PEOPLE)
        await everybody_is_in(application, connector)
        posts = [call for call in application.calls if call.method == "POST"]
        if status == 413:
            assert max(operations(application)[1:]) <= operations(application)[0] // 2
            assert len(posts) < len(PEOPLE)
        else:
            assert len(posts) == len(PEOPLE) + 1


@pytest.mark.parametrize("fate", ["silence_after", "failure_after", "silence", "failure"])
async def test_a_request_that_nobody_knows_the_end_of_makes_no_second_account(database: Database, fate: str) -> None:
    """It was done, or it was not; each account is looked at."""
    async with connected(database, timeout=0.5) as (application, connector):

        async def failure(_: Request) -> Response:
            return Response(500)

        await failing(application, failure if fate == "failure" else getattr(application, fate))
        await connector.converge(*PEOPLE)
        reads = sum(call.method == "GET" and call.path == "/Users" for call in application.calls)
        if fate.startswith("silence"):
            assert reads >= max(operations(application))
        for _ in range(5):
            await connector.wait(100)
        await everybody_is_in(application, connector)
        assert all([is_applied(await connector.office.progress(person), 1) for person in PEOPLE])


async def test_an_application_that_stops_in_the_middle_is_asked_for_the_rest(database: Database) -> None:
    """It ends at its own count of errors although nobody asked for it: what it does not tell of may have been done."""

    async def halfway(request: Request) -> Response:
        body = orjson.loads(request.body)
        body["Operations"] = body["Operations"][: len(body["Operations"]) // 2]
        return application.plain.handle(request._replace(body=orjson.dumps(body)))

    async with connected(database) as (application, connector):
        await failing(application, halfway)
        await connector.converge(*PEOPLE)
        for _ in range(3):
            await connector.wait(100)
        await everybody_is_in(application, connector)


async def test_a_leaver_is_not_behind_the_bulk_requests_of_joiners(database: Database) -> None:
    """None of them comes back before the leaver is out."""
    joiners = [f"j{number:03}" for number in range(500)]
    async with connected(database, timeout=10.0, limits=[Limit("any", 100, 1.0, 1)]) as (application, connector):
        await connector.converge("leaver")
        held: list[Request] = []

        async def behave(request: Request) -> Response | None:
            if request.path == "/Bulk":
                held.append(request)
                await until(lambda: out)
            return None

        out: list[str] = []
        application.behave = behave
        await connector.take(*await connector.office.wants(*joiners))
        await until(lambda: held)
        await connector.take(*await connector.office.wants("leaver", state="inactive"))
        while await application.active("leaver") is not False:
            assert len(held) <= 3
        assert await connector.office.progress("leaver") is not None
        out.append("leaver")
        assert not [one for one in held if b"leaver" in one.body]
        await connector.converged()
        users = await application.all("Users")
        assert sorted(one["externalId"] for one in users) == [*joiners, "leaver"]


@pytest.mark.skipif(not node_is_there(), reason="needs Node and npm, which `.ci/run` installs")
async def test_a_server_that_we_did_not_write(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """SCIMMY: at most 20 operations and 8,192 bytes, bulkIds in the answers to POSTs alone."""
    sent: list[ScimRequest] = []
    send = HttpScimTransport.send

    async def counted(self: HttpScimTransport, request: ScimRequest, *, correlation_id: str = "") -> ScimResponse:
        sent.append(request)
        return await send(self, request, correlation_id=correlation_id)

    monkeypatch.setattr(HttpScimTransport, "send", counted)
    with scimmy(TOKEN_ENV, TOKEN) as base_url:
        settings: dict[str, Any] = {"discover": True, "bulk": True, "limits": [LIMIT], "timeout": 5.0}
        async with Connector(Office(database), base_url, SimulatedClock(NOW), **settings).running() as connector:
            held = Held(base_url)
            await held.put_in(userName=f"{PEOPLE[3]}@example.com", externalId=PEOPLE[3], title="Somebody")
            await connector.converge(*PEOPLE)
            await everybody_is_in(held, connector)
            await connector.converge(*PEOPLE, title="Manager")
            await everybody_is_in(held, connector, title="Manager")
            bulks = [request.body or {} for request in sent if request.path == "/Bulk"]
            assert sum(len(one["Operations"]) for one in bulks) > len(PEOPLE)
            assert max(len(orjson.dumps(one)) for one in bulks) <= 8192
            assert len([one for one in sent if one.method != "GET"]) < len(PEOPLE)
