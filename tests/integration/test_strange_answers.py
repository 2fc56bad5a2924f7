"""Answers that are none: a log-in page, an empty body, a redirect, one without end, one that breaks off."""

import asyncio

import orjson
import pytest

from orchestrator.adapters.clock import SimulatedClock
from orchestrator.demo.servers.plain import Request, Response
from orchestrator.domain.account import AccountStatus
from tests.integration.application import JSON, Application, Wire
from tests.integration.connector import Connector, Office, is_applied

pytestmark = pytest.mark.usefixtures("quick_probes")

HTML = ((b"content-type", b"text/html; charset=utf-8"),)
PAGE = b"<html><title>Please log in</title></html>"


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


async def test_an_application_that_has_pages_for_its_404_is_asked_another_way(
    connector: Connector, application: Application, office: Office
) -> None:
    """Every account that it does not have is a page; its searches are SCIM, and they say so too."""

    async def pages(request: Request) -> Response | None:
        answer = application.plain.handle(request)
        return Response(404, PAGE, HTML) if answer.status == 404 else answer

    application.behave = pages
    await connector.converge("ada", "bea")
    await application.take_out("ada")
    await application.take_out("bea")
    await connector.converge("ada", title="Manager")
    assert await application.active("ada") is True, "made again"
    assert is_applied(await office.progress("ada"), 2)
    await connector.converge("bea", state="inactive")
    assert is_applied(await office.progress("bea"), 2, but_for_a_look=True)
    await connector.converge("ada", state="absent")
    assert await application.user("ada") is None
    assert is_applied(await office.progress("ada"), 3)


@pytest.mark.parametrize("body", [b"", b'{"ok": true}'])
async def test_an_account_that_was_made_and_is_not_named_is_looked_for(
    connector: Connector, application: Application, office: Office, body: bytes
) -> None:
    async def nameless(request: Request) -> Response:
        application.plain.handle(request)
        return Response(201, body, JSON)

    application.faults("POST", nameless)
    await connector.converge("ada")
    assert application.made() == ["POST /Users", "GET /Users"]
    assert is_applied(await office.progress("ada"), 1)
    await connector.converge("ada", state="inactive")
    assert await application.active("ada") is False


async def test_an_empty_answer_that_calls_itself_a_page_is_none(
    connector: Connector, application: Application, office: Office
) -> None:
    """What many frameworks add by themselves to an answer without content: it is done, and nothing is repeated."""
    await connector.converge("ada")

    async def done(request: Request) -> Response | None:
        answer = application.plain.handle(request)
        return Response(answer.status, b"", HTML) if request.method in ("PATCH", "DELETE") else answer

    application.behave = done
    await connector.converge("ada", title="Manager")
    assert is_applied(await office.progress("ada"), 2)
    await connector.converge("ada", state="inactive")
    await connector.converge("ada", state="absent")
    assert is_applied(await office.progress("ada"), 4)
    assert [one for one in application.made() if one == "PATCH /Users"] == ["PATCH /Users"] * 2


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
    assert is_applied(await office.progress("ada"), 1, but_for_a_look=True)


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
        assert is_applied(await office.progress("ada"), 1, but_for_a_look=True)


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
