"""What vendors want of every call, and what becomes of accounts there: by runs against the simulated applications."""

import re
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.sql.engine import Database
from orchestrator.bootstrap import connect
from orchestrator.config import AppConfig
from orchestrator.demo.servers.habits import VENDORS
from orchestrator.demo.servers.plain import Request
from orchestrator.demo.servers.vendor import Vendor
from orchestrator.ports import ScimRequest
from tests.integration.application import TOKEN, Application
from tests.integration.connector import Connector, is_applied
from tests.integration.test_protocol import connected

pytestmark = pytest.mark.usefixtures("quick_probes")
one_store = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PROFILE = [{"value": "00e000000000001", "display": "Standard User"}]
WANTED: dict[str, dict[str, Any]] = {"salesforce": {"entitlements": PROFILE}}


def header(call: Request, name: bytes) -> str | None:
    return next((value.decode() for known, value in call.headers if known.lower() == name), None)


def body(call: Request) -> Mapping[str, Any]:
    read: Mapping[str, Any] = orjson.loads(call.body) if call.body else {}
    return read


async def a_working_life(connector: Connector, **wanted: Any) -> None:
    """Joiner, mover, leaver, return; two more for whoever has to be found."""
    await connector.converge("ada", groups=["staff"], title="Clerk", **wanted)
    await connector.converge("ada", groups=["staff"], title="Manager", **wanted)
    await connector.converge("ada", state="inactive")
    await connector.converge("ada", groups=["staff"], title="Manager", **wanted)


@pytest.mark.parametrize(
    ("dialect", "name", "wanted"),
    [
        ("zoom", b"accept", r"application/scim\+json"),
        ("github-emu", b"user-agent", r"jml-orchestrator .+"),
        ("github-organisation", b"user-agent", r"jml-orchestrator .+"),
    ],
)
async def test_a_process_tells_a_vendor_what_it_wants_to_be_told(
    monkeypatch: pytest.MonkeyPatch, dialect: str, name: bytes, wanted: str
) -> None:
    """As `jml run connector` wires it; without the header the vendor refuses."""
    monkeypatch.setenv("CRM_TOKEN", TOKEN)
    async with Application(lambda behave: Vendor(VENDORS[dialect], behave=behave)).served() as application:
        settings = AppConfig.model_validate(
            {
                "base_url": application.base_url,
                "dialect": dialect,
                "allow_private": True,
                "auth": {"token_env": "CRM_TOKEN"},
                "attributes": {"userName": "person.user_name"},
            }
        )
        transport, _ = connect("crm", settings, SystemClock())
        answer = await transport.send(ScimRequest("GET", "/Users", query={"count": "1"}))
        await transport.close()
        assert answer.status == 200
        assert re.fullmatch(wanted, header(application.calls[-1], name) or "")
        refused = application.plain.handle(application.calls[-1]._replace(headers=()))
        assert refused.status in (403, 406)


@one_store
@pytest.mark.parametrize("dialect", ["google-cloud-identity", "snowflake", "salesforce", "aws-identity-center"])
async def test_nothing_is_asked_that_a_vendor_does_not_know(database: Database, dialect: str) -> None:
    """No If-Match and no Bulk where there is none; filters of one `eq`, which need no precedence; no membership on the
    user, which is a group's."""
    async with connected(database, VENDORS[dialect], dialect=dialect) as (application, connector):
        wanted = WANTED.get(dialect, {})
        await application.put_in(userName="bea@example.com", externalId="bea", **wanted)
        await connector.converge("bea", **wanted)
        await a_working_life(connector, **wanted)
        calls = application.calls
        filters = [call.query["filter"] for call in calls if "filter" in call.query]
        assert filters
        assert all(re.fullmatch(r'[\w.]+ eq "[^"]+"', one) for one in filters)
        assert not any(header(call, b"if-match") for call in calls)
        assert not any(call.path == "/Bulk" or "sortBy" in call.query for call in calls)
        assert not any("groups" in body(call) for call in calls if call.path.startswith("/Users"))
        assert await application.members("staff") == {"ada"}


@one_store
async def test_an_account_is_there_before_it_is_put_into_a_group(database: Database) -> None:
    """GitHub: a group refuses whom it does not know. A leaver is suspended and never deleted, which is for ever."""
    async with connected(database, VENDORS["github-emu"], dialect="github-emu") as (application, connector):
        await a_working_life(connector)
        made = application.made()
        first_member = next(
            number
            for number, call in enumerate(application.calls)
            if call.path.startswith("/Groups") and b"value" in call.body
        )
        assert made.index("POST /Users") < first_member
        assert not any(call.method == "DELETE" for call in application.calls)
        assert made.count("POST /Users") == 1


@one_store
@pytest.mark.parametrize("dialect", ["dropbox", "slack", "slack-1.1", "salesforce"])
async def test_whoever_returns_has_the_account_again_that_a_delete_only_disabled(
    database: Database, dialect: str
) -> None:
    """Dropbox keeps it for thirty days, Slack and Salesforce for ever."""
    async with connected(database, VENDORS[dialect], dialect=dialect) as (application, connector):
        wanted = WANTED.get(dialect, {})
        await connector.converge("ada", **wanted)
        first = await application.user("ada")
        await connector.converge("ada", state="absent")
        assert any(call.method == "DELETE" for call in application.calls)
        assert await application.active("ada") is False
        await connector.converge("ada", **wanted)
        again = await application.user("ada")
        assert first is not None
        assert again is not None
        assert (again["id"], again["active"]) == (first["id"], True)
        assert is_applied(await connector.office.progress("ada"), 3)


@one_store
@pytest.mark.parametrize("dialect", ["atlassian", "standard"])
async def test_a_deletion_of_what_is_gone_is_done(database: Database, dialect: str) -> None:
    """Atlassian answers the second DELETE with 404."""
    async with connected(database, VENDORS[dialect], dialect=dialect) as (application, connector):
        await connector.converge("ada")
        await application.take_out("ada")
        await connector.converge("ada", state="absent")
        assert is_applied(await connector.office.progress("ada"), 2, but_for_a_look=True)
        assert await application.all("Users") == []


@one_store
async def test_whom_gitlab_knows_changes_by_nothing_but_active(database: Database) -> None:
    """The id is the externalId; PATCH is answered with 204 and changes `active` alone."""
    async with connected(database, VENDORS["gitlab"], dialect="gitlab") as (application, connector):
        await a_working_life(connector)
        assert (await connector.office.progress("ada")).remote_id == "ada"
        paths = [one["path"] for call in application.calls for one in body(call).get("Operations", [])]
        assert paths == ["active", "active"]
        assert not any(call.method == "PUT" for call in application.calls)
